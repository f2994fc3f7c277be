//! The tests against real peers: API servers, a kubelet, S3 servers, RTSP cameras.
//!
//! `make it` runs them in the test bed; with `KUBECONFIG` and the settings named in `support::settings` they
//! run against any cluster and S3 endpoint.

mod admission;
mod operator;
mod storage;
mod recorder;
mod support;
