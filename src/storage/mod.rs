//! S3, where the promises are kept: keys, the bucket that a site must have, reading it back, segments in.
