//! The operator process: configuration, election, controllers, shutdown.

pub mod run;
pub mod shutdown;
