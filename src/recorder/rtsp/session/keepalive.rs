//! Choice of the requests that keep a session alive. None of them decides whether the session lives.

use super::super::headers::lists_method;
use super::super::message::Method;

/// Methods in the order of preference. Cameras know `SET_PARAMETER`, but some answer 400 to it and count it against
/// the session.
const METHODS: [Method; 3] = [Method::Options, Method::GetParameter, Method::SetParameter];
/// Shortest interval between two keepalives, in microseconds.
const MIN_INTERVAL: i64 = 2_000_000;
/// Longest timeout of a session that counts, in microseconds.
const MAX_TIMEOUT: i64 = 60_000_000;
/// Number of refusals in a row after which a method is replaced.
const MAX_REFUSALS: u8 = 2;
/// A session that ends within this time of a keepalive may have ended because of it, in microseconds.
const FATAL_TIME: i64 = 2_000_000;

/// Keepalives of one session.
///
/// Some cameras count only `GET_PARAMETER` as life, although `Public` does not name it, and some only `OPTIONS`. So
/// both alternate, twice as often, unless `Public` names `GET_PARAMETER`.
#[derive(Clone, Debug)]
pub struct Keepalive {
    timeout_us: i64,
    /// Time of the next one in microseconds.
    due: i64,
    is_get_parameter_listed: bool,
    avoided: Vec<Method>,
    /// Refusals in a row, in the order of [`METHODS`].
    refusals: [u8; METHODS.len()],
    turn: usize,
    last: Option<(Method, i64)>,
    survived: Vec<Method>,
}

impl Keepalive {
    /// Begins at this time in microseconds. The timeout of the session is in microseconds too.
    pub fn new(timeout_us: i64, is_avoided: impl Fn(Method) -> bool, now_us: i64) -> Self {
        let avoided = METHODS.into_iter().filter(|method| is_avoided(*method)).collect();
        let mut begun = Self {
            timeout_us,
            due: 0,
            is_get_parameter_listed: false,
            avoided,
            refusals: [0; METHODS.len()],
            turn: 0,
            last: None,
            survived: Vec::new(),
        };
        begun.due = now_us.saturating_add(begun.interval());
        begun
    }

    /// Returns the time of the next keepalive in microseconds.
    pub fn due(&self) -> i64 {
        self.due
    }

    /// Returns the method of the keepalive that is sent now.
    pub fn next(&mut self, now_us: i64) -> Method {
        let candidates = self.candidates();
        let method = candidates.get(self.turn.checked_rem(candidates.len()).unwrap_or_default());
        let method = method.copied().unwrap_or(Method::Options);
        self.turn = self.turn.wrapping_add(1);
        self.note_survivor(now_us);
        self.last = Some((method, now_us));
        self.due = now_us.saturating_add(self.interval());
        method
    }

    /// Notes the answer. `public` is the value of its `Public` header.
    pub fn on_answer(&mut self, method: Method, is_accepted: bool, public: Option<&str>) {
        self.on_public(public);
        if let Some(refusals) =
            METHODS.iter().position(|known| *known == method).and_then(|at| self.refusals.get_mut(at))
        {
            *refusals = if is_accepted { 0 } else { refusals.saturating_add(1) };
        }
    }

    /// Notes the methods that the camera names.
    pub fn on_public(&mut self, public: Option<&str>) {
        if let Some(public) = public.filter(|public| !public.is_empty()) {
            self.is_get_parameter_listed = lists_method(public, Method::GetParameter);
        }
    }

    /// Returns the methods that are used in turn, at least one.
    fn candidates(&self) -> Vec<Method> {
        let is_usable = |method: &Method| {
            let refusals =
                METHODS.iter().position(|known| known == method).and_then(|at| self.refusals.get(at));
            !self.avoided.contains(method) && refusals.is_none_or(|refusals| *refusals < MAX_REFUSALS)
        };
        if self.is_get_parameter_listed && is_usable(&Method::GetParameter) {
            return vec![Method::GetParameter];
        }
        let both = [Method::Options, Method::GetParameter];
        let usable: Vec<Method> = both.into_iter().filter(is_usable).collect();
        if !usable.is_empty() {
            return usable;
        }
        if is_usable(&Method::SetParameter) {
            return vec![Method::SetParameter];
        }
        // A camera may count even a request that it refuses.
        both.into_iter().filter(|method| !self.avoided.contains(method)).collect()
    }

    /// Returns the time between two keepalives in microseconds. Each method in use comes twice in a timeout.
    fn interval(&self) -> i64 {
        let methods = i64::try_from(self.candidates().len()).unwrap_or(1).max(1);
        (self.timeout_us.min(MAX_TIMEOUT) / 2).checked_div(methods).unwrap_or(MIN_INTERVAL).max(MIN_INTERVAL)
    }

    fn note_survivor(&mut self, now_us: i64) {
        let Some((method, at)) = self.last else { return };
        if now_us.saturating_sub(at) > FATAL_TIME && !self.survived.contains(&method) {
            self.survived.push(method);
        }
    }

    /// Ends the session. Returns the methods after which it went on, and the one at which the camera closed.
    pub fn finish(mut self, is_closed: bool, now_us: i64) -> (Vec<Method>, Option<Method>) {
        self.note_survivor(now_us);
        let is_fatal = |at: i64| is_closed && now_us.saturating_sub(at) <= FATAL_TIME;
        let fatal = self.last.filter(|(_, at)| is_fatal(*at)).map(|(method, _)| method);
        (self.survived, fatal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Method::{GetParameter, Options, SetParameter};

    const SECOND: i64 = 1_000_000;

    fn begin(timeout: i64) -> Keepalive {
        Keepalive::new(timeout * SECOND, |_| false, 0)
    }

    /// Returns times in seconds and methods of the keepalives, each answered as the camera does.
    fn run(
        keepalive: &mut Keepalive,
        count: usize,
        accepts: &[Method],
        public: Option<&str>,
    ) -> Vec<(i64, Method)> {
        let mut sent = Vec::new();
        for _ in 0..count {
            let now = keepalive.due();
            let method = keepalive.next(now);
            let public = public.filter(|_| method == Options);
            keepalive.on_answer(method, accepts.contains(&method), public);
            sent.push((now / SECOND, method));
        }
        sent
    }

    #[test]
    fn options_and_get_parameter_alternate() {
        let mut keepalive = begin(20);
        let sent = run(&mut keepalive, 4, &METHODS, Some("OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"));
        assert_eq!(sent, [(5, Options), (10, GetParameter), (15, Options), (20, GetParameter)]);
    }

    #[test]
    fn listed_get_parameter_is_used_alone() {
        let mut keepalive = begin(60);
        let sent = run(&mut keepalive, 4, &METHODS, Some("OPTIONS, GET_PARAMETER, SET_PARAMETER"));
        assert_eq!(sent, [(15, Options), (30, GetParameter), (60, GetParameter), (90, GetParameter)]);
    }

    #[test]
    fn method_that_was_refused_twice_is_replaced() {
        let methods = |accepts: &[Method]| -> Vec<Method> {
            run(&mut begin(60), 8, accepts, None).into_iter().map(|(_, method)| method).collect()
        };
        assert_eq!(methods(&[Options])[4..], [Options; 4]);
        assert_eq!(methods(&[GetParameter])[4..], [GetParameter; 4]);
        assert_eq!(methods(&[SetParameter])[4..], [SetParameter; 4]);
        let none = methods(&[]);
        assert_eq!(none[..6], [Options, GetParameter, Options, GetParameter, SetParameter, SetParameter]);
        assert!(none[6..].iter().all(|method| *method != SetParameter));
    }

    #[test]
    fn interval_is_half_the_timeout_within_bounds() {
        for (timeout, first) in [(60, 15), (3600, 15), (15, 3), (1, 2), (0, 2)] {
            assert_eq!(begin(timeout).due() / SECOND, first, "{timeout}");
        }
    }

    #[test]
    fn avoided_method_is_never_used() {
        for avoided in METHODS {
            let mut keepalive = Keepalive::new(60 * SECOND, |method| method == avoided, 0);
            let sent = run(&mut keepalive, 12, &[], Some("GET_PARAMETER"));
            assert!(sent.iter().all(|(_, method)| *method != avoided), "{avoided:?}");
        }
        let mut keepalive = Keepalive::new(60 * SECOND, |_| true, 0);
        assert_eq!(run(&mut keepalive, 1, &[], None), [(30, Options)]);
    }

    #[test]
    fn method_at_which_the_camera_closes_is_named() {
        let mut keepalive = begin(60);
        run(&mut keepalive, 2, &METHODS, None);
        let finish = |is_closed, now| keepalive.clone().finish(is_closed, now * SECOND);
        assert_eq!(finish(true, 31), (vec![Options], Some(GetParameter)));
        assert_eq!(finish(true, 33), (vec![Options, GetParameter], None));
        assert_eq!(finish(false, 31), (vec![Options], None));
        assert_eq!(begin(60).finish(true, 0), (vec![], None));
    }
}
