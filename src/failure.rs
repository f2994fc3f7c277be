//! What every error has in common.

use std::error::Error;

/// An error that may be shown in a log, a metric, an event or a status.
///
/// Its `Display` contains no secret, no URL of a camera and no text of a store or a camera, only their codes. Errors of
/// libraries, which promise no such thing, are wrapped.
pub trait Failure: Error {
    /// Returns the kind of error, from a bounded set: a label of metrics and a field of logs.
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
