//! **Toezicht**: a Kubernetes operator that records an organisation's cameras, and proves that what it
//! keeps, and for how long, is what the organisation's protocol says.
//!
//! The modules tell the story of the product. Each uses only those above it; `tests/architecture` checks that, and that no
//! two files use each other.
//!
//! * [`failure`]: what every error has in common.
//! * [`api`]: the custom resources as users write them, and their conditions.
//! * [`rules`]: the rules of the protocol as pure functions. [`rules::hold`] has every decision about holds.
//! * [`wire`]: the documents that operator and recorder exchange.
//! * [`storage`]: object storage: the S3 client, the bucket that a Site must have, the recordings in it.
//! * [`leader`]: which operator may write: lease, election, fence, and the delay after a takeover.
//! * [`telemetry`]: logs, metrics and readiness, and a bounded server for them.
//! * [`recorder`]: RTSP in, MP4 segments out, into the bucket.
//! * [`controllers`]: from resources to Kubernetes objects and buckets, and back into status.
//! * [`operator`]: the process that runs the controllers while it is the leader.
//! * [`cli`]: the command line.

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

/// The rules by which holds are placed, proved and released, each a pure function: the model in `tests/model` goes by
/// these very ones. Nothing else is meant to.
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
