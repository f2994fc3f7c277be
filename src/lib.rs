//! **Toezicht**: a Kubernetes operator that records an organisation's cameras and enforces the retention, holds and access
//! of its protocol.
//!
//! Each module uses only the modules above it, and no two files use each other. `tests/architecture` checks both.
//!
//! * [`failure`]: trait of all errors.
//! * `sync`: locks of state that tasks share.
//! * [`api`]: custom resources and their conditions.
//! * [`rules`]: rules of the protocol as pure functions. [`rules::hold`] has every decision about holds.
//! * [`wire`]: documents that operator and recorder exchange.
//! * [`storage`]: the S3 client, the configuration of a Site's bucket, and the recordings in it.
//! * [`leader`]: lease, election and fence, which let one operator write at a time.
//! * [`telemetry`]: logs, metrics, readiness, and their HTTP server.
//! * [`recorder`]: reads RTSP streams, writes MP4 segments and uploads them.
//! * [`controllers`]: reconcile custom resources with Kubernetes objects and buckets, and report status.
//! * [`operator`]: process that runs the controllers while it is the leader.
//! * [`cli`]: command line.

pub mod api;
pub mod cli;
pub mod controllers;
pub mod failure;
pub mod leader;
pub mod operator;
pub mod recorder;
pub mod rules;
pub mod storage;
mod sync;
pub mod telemetry;
pub mod wire;
