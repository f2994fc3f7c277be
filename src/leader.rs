//! Leader election through a Lease.
//!
//! Of all operators in a cluster, only the leader writes. The Lease names it. Each write of the Lease replaces exactly
//! the resource version that was read, so of two candidates one fails.
//!
//! No process trusts another's wall clock. A candidate takes over when the Lease has not *changed* for its duration, by
//! the candidate's own clock. The leader counts from the moment before it *sent* its last answered renewal. It gives up
//! at the renew deadline, well before a candidate may take over.
//!
//! A missing Lease does not count as released. Somebody may have deleted it under a live leader, or after a leader was
//! lost. A candidate waits one lease duration before it creates the Lease, and then counts as having taken over.
//!
//! A leader that loses its leadership ends its process and restarts as a candidate. So no state needs cleaning up, and
//! no process leads twice.

pub mod client;
pub mod clock;
pub(crate) mod election;
pub mod fence;
pub(crate) mod lease;
pub(crate) mod silent_body;
pub mod takeover;

pub use self::election::{ElectionState, Elector, LeadershipLost};
pub use self::lease::LeaseLock;
