//! Odd behaviour of cameras that the recorder tolerates. It is counted, and never shown with the camera's own text.

use std::collections::BTreeMap;

/// Odd behaviour of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Oddity {
    /// A `WWW-Authenticate` header has text that is no scheme and no parameter, or a challenge without a nonce.
    ChallengeMalformed,
    /// A 401 has more or longer challenges than the recorder reads. It ignores the surplus.
    ChallengeOverLimit,
    /// A challenge names a parameter twice. The last value counts.
    ChallengeRepeatsParameter,
    /// A challenge has no realm. The recorder uses the empty realm.
    ChallengeWithoutRealm,
    /// A realm, nonce or opaque value has no quotes.
    ChallengeUnquoted,
    /// A challenge has bytes outside ASCII. The recorder returns them unchanged.
    ChallengeNotAscii,
    /// A challenge names a scheme, algorithm or quality of protection that the recorder does not support.
    ChallengeUnsupported,
    /// The camera closes the connection with or after a 401, before it could receive the login.
    ClosedAfterChallenge,
}

/// Number of times that each oddity occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OddityCounts(BTreeMap<Oddity, u64>);

impl OddityCounts {
    /// Counts one occurrence.
    pub fn note(&mut self, oddity: Oddity) {
        let count = self.0.entry(oddity).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns the number of occurrences.
    pub fn get(&self, oddity: Oddity) -> u64 {
        self.0.get(&oddity).copied().unwrap_or(0)
    }

    /// Returns the oddities that occurred, each with its number of occurrences.
    pub fn iter(&self) -> impl Iterator<Item = (Oddity, u64)> + '_ {
        self.0.iter().map(|(oddity, count)| (*oddity, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oddities_are_counted_by_kind() {
        let mut odd = OddityCounts::default();
        odd.note(Oddity::ChallengeNotAscii);
        odd.note(Oddity::ChallengeNotAscii);
        odd.note(Oddity::ChallengeMalformed);
        assert_eq!(odd.get(Oddity::ChallengeNotAscii), 2);
        assert_eq!(odd.get(Oddity::ChallengeUnquoted), 0);
        assert_eq!(odd.iter().count(), 2);
        assert_eq!(<&'static str>::from(Oddity::ChallengeNotAscii), "challenge_not_ascii");
    }
}
