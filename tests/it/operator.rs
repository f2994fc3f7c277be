//! The operator as a process, its controllers, and its chart.

mod api_outage;
mod chart;
mod claims;
mod corrections;
mod drift;
mod egress;
mod frozen_leader;
mod killed;
mod killed_changes;
mod leader;
mod namespace_deletion;
mod orphans;
pub mod process;
mod refused;
mod reports;
mod secrets;
mod silence;
mod site;
pub mod spools;
mod stale_reads;
mod tokens;
mod watches;
