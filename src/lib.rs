//! **Toezicht**: a Kubernetes operator that records an organisation's cameras and enforces the retention, holds and access
//! of its protocol.
//!
//! Each module uses only the modules above it, and no two files use each other. `tests/architecture` checks both.
//!
//! * [`failure`]: trait of all errors.
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
pub mod telemetry;
pub mod wire;

/// Pure functions that place, verify and release holds. Exported for the model in `tests/model` only.
#[doc(hidden)]
pub mod hold_decisions {
    pub use crate::controllers::audit::{audit_interval, audit_status as audited, due_reach as audit_due};
    pub use crate::controllers::handoff::{HoldAck, SiteBucket};
    pub use crate::controllers::hold::status::{placed, released};
    pub use crate::controllers::retention::error::RetentionPassError;
    pub use crate::controllers::retention::plan::{HoldPlan, needs_ledger_lookup, plan_holds};
    pub use crate::controllers::retention::{
        PassOutcome, RetentionPass, deadlines, placement_status, retention_status,
    };
    pub use crate::leader::fence::Fence;
    pub use crate::leader::takeover::{TakeoverDelay, may_release_lease, takeover_delay};
    pub use crate::recorder::in_doubt::{InDoubtUploads, all_use_revision};
    pub use crate::recorder::upload::retention_tag as put_tag;
    pub use crate::rules::hold::claim::{ReleaseWait, is_placed, may_release, open_scopes};
    pub use crate::rules::hold::expiry::{Disposition, HeldBy, OpenScopes, StoredRecording, disposition};
    pub use crate::rules::hold::steps::{ProtectionStep, steps_to_place, steps_to_release};
    pub use crate::rules::recording::protection::Protection;
    pub use crate::rules::recording::version::ListedVersion;
    pub use crate::storage::s3::in_doubt_requests::SIGNATURE_VALIDITY;
}
