//! From the resources to Kubernetes objects and the bucket, and back into status. One folder a kind, each
//! dereference → validate → plan → apply → status; what they share is in [`kit`].

pub mod camera;
pub mod config;
pub mod drive;
pub mod grant;
pub mod hold;
pub mod kit;
pub mod policy;
pub mod recorders;
pub mod site;
