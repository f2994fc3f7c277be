//! RTSP in, MP4 out, into the bucket.
