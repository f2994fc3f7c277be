//! The whole line, on a real cluster: from `kubectl apply` to frames in the bucket.

mod added;
mod closed;
mod drained;
mod gates;
mod held;
mod heusden;
mod in_sync;
mod restart;
