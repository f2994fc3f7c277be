//! One camera: a task that keeps a session with it while recording is permitted.

pub(crate) mod backoff;
pub(crate) mod clock;
pub(crate) mod last_failure;
pub(crate) mod permission;
pub(crate) mod session;
pub(crate) mod task;
