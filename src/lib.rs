//! **Toezicht**: a Kubernetes operator that records an organisation's cameras, and proves that what it
//! keeps, and for how long, is what the organisation's protocol says.
//!
//! The modules are the story, each resting only on those before it:
//!
//! * [`api`]: the custom resources as users write them, and their conditions.
//! * [`protocol`]: the protocol's rules as pure functions: no I/O, no clock.
//! * [`contract`]: what operator and recorder say to each other.
//! * [`storage`]: S3: keys, the bucket a site must have, reading it back, writing segments.
//! * [`recorder`]: RTSP in, MP4 out, into the bucket.
//! * [`controllers`]: from the resources to Kubernetes objects and the bucket, and back into status.
//! * [`runtime`]: leader election, readiness, metrics, logs, shutdown.
//! * [`cli`]: the command line that wires these.

pub mod api;
pub mod cli;
pub mod contract;
pub mod controllers;
pub mod protocol;
pub mod recorder;
pub mod runtime;
pub mod storage;

/// The rules by which holds are placed, proved and released, each a pure function: the model in `tests/model` goes by
/// these very ones. Nothing else is meant to.
#[doc(hidden)]
pub mod rules {
    pub use crate::controllers::audit::{audit_interval, audit_status as audited, due_reach as audit_due};
    pub use crate::controllers::buckets::{HoldAck, SiteBucket};
    pub use crate::controllers::hold::status::{placed, released};
    pub use crate::controllers::kit::aftermath::{TakeoverDelay, may_release_lease, takeover_delay};
    pub use crate::controllers::kit::fence::Fence;
    pub use crate::controllers::retention::plan::{HoldPlan, needs_ledger_lookup, plan_holds};
    pub use crate::controllers::retention::rules::{ReleaseWait, is_placed, may_release, open_scopes};
    pub use crate::controllers::retention::{
        PassOutcome, RetentionPass, RetentionPassError, deadlines, placement_status, retention_status,
    };
    pub use crate::recorder::unsure::{InDoubtUploads, all_use_revision};
    pub use crate::recorder::upload::retention_tag as put_tag;
    pub use crate::storage::aging::{Disposition, HeldBy, OpenScopes, StoredRecording, disposition};
    pub use crate::storage::hold::order::{ProtectionStep, steps_to_place, steps_to_release};
    pub use crate::storage::listing::ListedVersion;
    pub use crate::storage::marks::Protection;
    pub use crate::storage::under_way::SIGNATURE_VALIDITY;
}
