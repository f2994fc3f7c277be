//! Trait of all errors.

use std::error::Error;

/// Error that is safe to show in a log, a metric, an event or a status.
///
/// Its `Display` contains no secret, no URL of a camera and no text of a store or a camera, only their codes. Errors of
/// libraries give no such guarantee and are wrapped.
pub trait Failure: Error {
    /// Returns the name of the error variant, which is a label of metrics and a field of logs.
    fn category(&self) -> &'static str;
}

impl<E: Error> Failure for E
where
    for<'a> &'static str: From<&'a E>,
{
    fn category(&self) -> &'static str {
        self.into()
    }
}
