//! The operator process: configuration, election, controllers, shutdown.

pub mod hooks;
pub mod run;
pub mod shutdown;
