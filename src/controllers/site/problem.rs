//! Problems of a Site's spec and references that only a person can solve.

use crate::api::condition::Reason;
use crate::controllers::kubernetes::secret_ref::MissingSecret;

/// Effect of a problem on recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    StopsRecording,
    /// Stops recording after a grace.
    StopsLater,
    /// Segments wait in the spools.
    DelaysUploads,
    /// Cameras and uploads go on. The operator may not reach the bucket.
    StopsNothing,
}

/// Problem of a spec that only a person can solve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    pub message: String,
    pub effect: Effect,
}

impl Problem {
    pub fn new(reason: Reason, message: impl ToString) -> Self {
        Self { reason, message: message.to_string(), effect: Effect::StopsRecording }
    }

    #[must_use]
    pub fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

impl From<MissingSecret> for Problem {
    fn from(missing: MissingSecret) -> Self {
        let reason = match missing {
            MissingSecret::NotFound { .. } => Reason::ReferenceNotFound,
            MissingSecret::NoKey { .. } | MissingSecret::TooLong { .. } => Reason::ReferenceInvalid,
        };
        Self::new(reason, missing).with_effect(Effect::StopsLater)
    }
}

impl From<(Reason, String)> for Problem {
    fn from((reason, message): (Reason, String)) -> Self {
        Self::new(reason, message)
    }
}
