//! From the resources to Kubernetes objects and the bucket, and back into status.
