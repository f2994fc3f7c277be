//! Rules of the protocol as pure functions: no I/O, no clock. Each returns reason and message, so the same rule decides and
//! explains.
//!
//! * [`calendar`]: days and instants in the policy's time zone.
//! * [`window`]: sets of instants.
//! * [`deadline`]: the next time at which the protocol requires something.
//! * [`permission`]: prerequisites of recording (articles 7, 8 and 11).
//! * [`suspension`]: periods in which cameras are covered (article 5).
//! * [`retention`]: ceilings and lifecycle rules (article 6).
//! * [`live_view`]: live viewing and the embargo (article 4.2).
//! * [`hold`]: every decision about incident holds (articles 1, 4.2 and 6).
//! * [`recording`]: object keys, tags and versions of recordings.
//! * [`policy`]: acceptance of a policy.
//! * [`succession`]: policies that replace others (article 10).

pub mod calendar;
pub mod deadline;
pub mod hold;
pub mod live_view;
pub mod permission;
pub mod policy;
pub mod recording;
pub mod retention;
pub mod succession;
pub mod suspension;
pub mod window;

pub use self::hold::entry::LedgerEntry;
pub(crate) use self::hold::expiry::StoredRecording;
pub use self::hold::scope::{CameraSelector, HoldScope};
pub use self::live_view::Embargo;
pub(crate) use self::recording::days::{DayFilter, utc_date};
pub use self::recording::key::Key;
pub use self::recording::protection::Protection;
pub use self::recording::tag::{RetentionTag, TAG_KEY};
pub use self::recording::version::ListedVersion;
pub(crate) use self::recording::version::VersionRef;
pub use self::recording::{Class, Recording};
pub use self::retention::{PROTOCOL_CEILINGS, RetentionTerms};
pub use self::window::{Window, Windows};
