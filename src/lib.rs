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
    pub use crate::controllers::audit::{boundary_every, due as audit_due, status as audited};
    pub use crate::controllers::buckets::{Follow, OpenBucket};
    pub use crate::controllers::hold::status::{placed, released};
    pub use crate::controllers::kit::aftermath::{Aftermath, aftermath, may_let_go};
    pub use crate::controllers::kit::fence::Fence;
    pub use crate::controllers::retention::plan::{Plan as HoldPlan, is_asked, plan};
    pub use crate::controllers::retention::rules::{Wait, is_placed, may_release, open_covers};
    pub use crate::controllers::retention::{Outcome, Pass, RetentionError, deadlines, of_site, placement};
    pub use crate::recorder::unsure::{Unsure, all_follow};
    pub use crate::recorder::upload::tag as put_tag;
    pub use crate::storage::aging::{Fate, KeptBy, Open, Stored, fate};
    pub use crate::storage::hold::order::{Write, placing, releasing};
    pub use crate::storage::listing::Listed;
    pub use crate::storage::marks::Marks;
    pub use crate::storage::under_way::SIGNATURE;
}
