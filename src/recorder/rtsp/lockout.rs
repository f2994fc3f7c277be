//! Schedule of attempts after a refused login. Many cameras lock an address out for half an hour after about five wrong
//! passwords, and each further attempt extends the lock. The lock covers other clients behind the same address too.
//!
//! Only a refused login counts. Other failures have their own backoff.

use std::time::Duration;

use super::auth::{LoginProof, LoginRefusal};
use crate::wire::Login;

/// Waits after the first refusal, the second, and so on. The last one repeats.
const WAITS: [Duration; 5] = [
    Duration::from_secs(90),
    Duration::from_mins(5),
    Duration::from_mins(15),
    Duration::from_mins(30),
    Duration::from_hours(1),
];

/// The refusals of one login, and the earliest next attempt with it. Times are the age of any fixed origin of a monotonic
/// clock.
#[derive(Clone, Debug, Default)]
pub struct Lockout {
    refused: Option<RefusedLogin>,
}

#[derive(Clone, Debug)]
struct RefusedLogin {
    login: Login,
    refusals: usize,
    next_attempt: Duration,
}

impl Lockout {
    /// Returns the wait until an attempt with this login is allowed. Another login than the refused one may be tried at
    /// once.
    pub fn wait(&self, login: &Login, now: Duration) -> Duration {
        let refused = self.refused.as_ref().filter(|refused| refused.login == *login);
        refused.map_or(Duration::ZERO, |refused| refused.next_attempt.saturating_sub(now))
    }

    /// Counts a refusal of this login, if it is wrong: other reasons say nothing of it. The schedule begins again with
    /// another login.
    pub fn on_refused(&mut self, login: &Login, refusal: LoginRefusal, now: Duration) {
        if refusal != LoginRefusal::WrongLogin {
            return;
        }
        let before = self.refused.take().filter(|refused| refused.login == *login);
        let refusals = before.map_or(0, |refused| refused.refusals);
        let wait = WAITS.get(refusals).or(WAITS.last()).copied().unwrap_or_default();
        self.refused = Some(RefusedLogin {
            login: login.clone(),
            refusals: refusals.saturating_add(1),
            next_attempt: now.saturating_add(wait),
        });
    }

    /// Ends the schedule: the camera accepted a login.
    pub fn on_accepted(&mut self, _: LoginProof) {
        self.refused = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::auth::{AfterUnauthorized, Authenticator, BasicPolicy};
    use super::super::message::Method;
    use super::super::oddity::OddityCounts;
    use super::super::rtsp_url::RtspUrl;
    use super::*;
    use crate::wire::Secret;

    fn login(password: &str) -> Login {
        Login { username: "camera".into(), password: Secret::new(password) }
    }

    /// Returns the waits after each of the refusals, in seconds. Each attempt begins when it is allowed.
    fn waits(lockout: &mut Lockout, login: &Login, now: &mut Duration, refusals: usize) -> Vec<u64> {
        let mut waits = Vec::new();
        for _ in 0..refusals {
            lockout.on_refused(login, LoginRefusal::WrongLogin, *now);
            let wait = lockout.wait(login, *now);
            waits.push(wait.as_secs());
            *now += wait;
            assert_eq!(lockout.wait(login, *now), Duration::ZERO);
        }
        waits
    }

    #[test]
    fn refused_login_waits_longer_up_to_an_hour() {
        let (mut lockout, mut now) = (Lockout::default(), Duration::from_secs(1_000));
        let wrong = login("wrong");
        assert_eq!(lockout.wait(&wrong, now), Duration::ZERO);
        assert_eq!(waits(&mut lockout, &wrong, &mut now, 7), [90, 300, 900, 1_800, 3_600, 3_600, 3_600]);
    }

    #[test]
    fn changed_login_is_tried_at_once() {
        let (mut lockout, mut now) = (Lockout::default(), Duration::ZERO);
        let (wrong, other) = (login("wrong"), login("other"));
        waits(&mut lockout, &wrong, &mut now, 3);
        lockout.on_refused(&wrong, LoginRefusal::WrongLogin, now);
        assert_eq!(lockout.wait(&other, now), Duration::ZERO);
        // One attempt: refused too, it waits as the first one did.
        assert_eq!(waits(&mut lockout, &other, &mut now, 2), [90, 300]);
    }

    #[test]
    fn changed_user_is_a_changed_login() {
        let mut lockout = Lockout::default();
        lockout.on_refused(&login("right"), LoginRefusal::WrongLogin, Duration::ZERO);
        let other = Login { username: "admin".into(), ..login("right") };
        assert_eq!(lockout.wait(&other, Duration::ZERO), Duration::ZERO);
        assert_eq!(lockout.wait(&login("right"), Duration::from_secs(30)), Duration::from_mins(1));
    }

    /// Returns the proof of an answer to a request with a login. The camera challenged DESCRIBE before.
    fn proof(method: Method, status: u16) -> Option<LoginProof> {
        let origin = RtspUrl::parse("rtsp://camera/").unwrap().origin().clone();
        let mut authenticator = Authenticator::new(Some(login("right")), BasicPolicy::OverTls, origin, None);
        let kept = AfterUnauthorized::KeepsConnection;
        authenticator
            .on_unauthorized(Method::Describe, ["Digest nonce=\"n1\""], kept, &mut OddityCounts::default())
            .unwrap();
        authenticator.authorization(method, "rtsp://camera/", "c0ffee").unwrap();
        authenticator.on_answered(method, status)
    }

    #[test]
    fn accepted_login_ends_schedule() {
        let (mut lockout, mut now) = (Lockout::default(), Duration::ZERO);
        let right = login("right");
        waits(&mut lockout, &right, &mut now, 4);
        // These answers prove nothing: without a check of the login, locked out, or busy.
        let unproven = [(Method::Options, 200), (Method::Describe, 403), (Method::Describe, 503)];
        for (method, status) in unproven {
            assert!(proof(method, status).is_none(), "{method:?} {status}");
        }
        lockout.on_accepted(proof(Method::Describe, 200).unwrap());
        assert_eq!(lockout.wait(&right, now), Duration::ZERO);
        assert_eq!(waits(&mut lockout, &right, &mut now, 1), [90]);
    }

    #[test]
    fn other_refusals_do_not_count() {
        let mut lockout = Lockout::default();
        for refusal in [LoginRefusal::ClosesConnections, LoginRefusal::NoSupportedScheme] {
            lockout.on_refused(&login("right"), refusal, Duration::ZERO);
        }
        assert_eq!(lockout.wait(&login("right"), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn password_is_not_shown() {
        let mut lockout = Lockout::default();
        lockout.on_refused(&login("Cam-Pass:1"), LoginRefusal::WrongLogin, Duration::ZERO);
        assert!(!format!("{lockout:?}").contains("Cam-Pass:1"));
    }
}
