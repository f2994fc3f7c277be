//! Locks of state that tasks share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `shared`. No holder of a lock panics in the middle of a change, so the state behind a poisoned lock is valid.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
