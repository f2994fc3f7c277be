//! Recorders of a Site: creation, queries and removal of their pods.
//!
//! `plan` decides. `objects` and `pod` build the Kubernetes objects. `apply` writes them, `query` asks the recorders, `drain`
//! and `delete` remove them, and `claims` keeps their volume claims until nothing is in them. `missing_workload` creates a
//! StatefulSet again that a deleted Site still needs. `orphans` stops recorders whose Site is gone. `site_pods` finds pods without
//! labels.

pub(crate) mod apply;
pub(crate) mod camera_limit;
pub(crate) mod claims;
pub(crate) mod delete;
pub(crate) mod drain;
pub(crate) mod hold_widening;
pub(crate) mod identity;
pub(crate) mod lagging;
pub(crate) mod lost;
pub(crate) mod missing_workload;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod observe;
pub(crate) mod orphans;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod queried;
pub(crate) mod query;
pub(crate) mod recording;
pub(crate) mod rollout;
pub mod shard;
pub(crate) mod site_holds;
pub(crate) mod site_pods;
pub(crate) mod spool_claim;
pub(crate) mod spool_report;
pub(crate) mod stranded;
pub(crate) mod template_change;
pub(crate) mod unanswered;
pub(crate) mod workload;
