//! The operator as a process, its controllers, and its chart.

mod chart;
mod drifted;
mod egress;
mod frozen;
mod going;
mod killed;
mod leader;
mod process;
mod refused;
mod reports;
mod site;
mod tokens;
mod withdrawn;
