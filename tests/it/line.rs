//! End-to-end tests on a real cluster, from `kubectl apply` to frames in the bucket.

mod added_camera;
mod camera_failures;
mod heusden;
mod in_sync;
mod incident;
mod policy_end;
mod preconditions;
mod restart;
mod site_deletion;
mod succession;
mod suspension;
