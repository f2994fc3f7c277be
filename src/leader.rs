//! Leader election by a Lease.
//!
//! Of all operators of a cluster one writes. The Lease says which; `replace` with the resource version that
//! was read makes sure that of two candidates one fails. Nobody's wall clock is believed: a candidate takes
//! over when the record has not *changed* for as long as it says, by the candidate's own clock; the leader
//! counts from the moment before it *sent* its last renewal that was answered, and gives up (renew deadline)
//! well before others may take over (lease).
//!
//! A Lease that is not there is no Lease that was let go of: somebody may have deleted it under a leader that lives, or that
//! was lost. A candidate waits for as long as a Lease lasts before it creates one, and counts as having taken over.
//!
//! A leader that loses its leadership ends its process, and starts anew as a candidate: there is no state to
//! clean up then, and no second epoch to reason about.

pub mod client;
pub mod clock;
pub(crate) mod election;
pub mod fence;
pub(crate) mod lease;
mod record;
pub mod takeover;

pub use self::election::{ElectionState, Elector, LeadershipLost};
pub use self::lease::{LeaseLock, LockError, ResourceLock, Versioned};
pub use self::record::{ElectionRecord, ElectionTiming, ElectionTimingError};
