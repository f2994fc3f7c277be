//! Prerequisites of recording (articles 7, 8 and 11).
//!
//! Recording requires all of four: the policy is in force (article 11), the works council has consented (article 8), staff are
//! informed and signs are posted (article 7). A date in the future is met when that day begins, so users can enter everything
//! in advance. If staff are informed after the policy enters into force, recording starts on that day.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Notices, RecordingPolicySpec};

use super::calendar;
use super::calendar::CalendarError;
use super::window::{Window, Windows};

/// Prerequisites of one site, as instants. `None`: no date is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prerequisites {
    /// Article 11.
    pub in_force: Window,
    /// Article 8.
    pub consent: Option<Timestamp>,
    /// Article 7.1.
    pub staff_informed: Option<Timestamp>,
    /// Article 7.2.
    pub signs_posted: Option<Timestamp>,
}

impl Prerequisites {
    /// Returns the prerequisites from a policy and a site's notices. Days are days in the policy's zone. An error names the
    /// field of the policy, or `spec.notices.…` of the Site.
    pub fn from_policy(
        policy: &RecordingPolicySpec,
        notices: Option<&Notices>,
    ) -> Result<Self, CalendarError> {
        let zone = calendar::parse_zone(&policy.time_zone, "spec.timeZone")?;
        let day = |date, path| calendar::start_of_day(date, &zone, path);
        let optional_day = |date: Option<_>, path| date.map(|date| day(date, path)).transpose();
        let consent = policy.works_council_consent.as_ref().map(|consent| &consent.date);
        let staff = notices.map(|notices| &notices.staff_informed_date);
        let signs = notices.map(|notices| &notices.signs_posted_date);
        Ok(Self {
            in_force: in_force_window(policy, &zone)?,
            consent: optional_day(consent, "spec.worksCouncilConsent.date")?,
            staff_informed: optional_day(staff, "spec.notices.staffInformedDate")?,
            signs_posted: optional_day(signs, "spec.notices.signsPostedDate")?,
        })
    }

    /// Returns the window in which all prerequisites are met, or none. Ignores suspensions; see [`super::suspension`].
    pub fn permitted_windows(&self) -> Windows {
        let (Some(consent), Some(staff), Some(signs)) =
            (self.consent, self.staff_informed, self.signs_posted)
        else {
            return Windows::empty();
        };
        let from = self.in_force.from.max(consent).max(staff).max(signs);
        Windows::union([Window::new(from, self.in_force.until)])
    }

    /// Returns the condition `Permitted`. The message lists every unmet prerequisite, its article and the remedy. The first
    /// of them gives the reason.
    pub fn evaluate(&self, suspended: &Windows, now: Timestamp) -> ConditionFinding {
        let unmet = self.unmet(now);
        if let Some((reason, _)) = unmet.first() {
            let all: Vec<&str> = unmet.iter().map(|(_, message)| message.as_str()).collect();
            return ConditionFinding::new(ConditionType::Permitted, false, *reason, all.join("; "));
        }
        // Second: "resumes automatically" is true only while all prerequisites are met.
        if let Some(window) = suspended.window_at(now) {
            let end = window.until.map_or_else(|| "further notice".to_owned(), |until| until.to_string());
            let message = format!(
                "article 5: the cameras are covered until {end} (Site spec.suspensions); recording then resumes \
                 automatically"
            );
            return ConditionFinding::new(ConditionType::Permitted, false, Reason::Suspended, message);
        }
        let mut message =
            "the policy is in force, the works council has consented, and staff and visitors are informed \
                           (articles 7, 8 and 11)"
                .to_owned();
        if let Some(until) = self.in_force.until {
            message = format!("{message}; the policy ends at {until} (RecordingPolicy spec.inForce.until)");
        }
        ConditionFinding::new(ConditionType::Permitted, true, Reason::Permitted, message)
    }

    /// Returns the first instant after `now` at which [`Self::evaluate`] can change, or `None`.
    pub fn next_change(&self, suspended: &Windows, now: Timestamp) -> Option<Timestamp> {
        let changes = [
            Some(self.in_force.from),
            self.in_force.until,
            self.consent,
            self.staff_informed,
            self.signs_posted,
            suspended.next_change(now),
        ];
        changes.into_iter().flatten().filter(|change| *change > now).min()
    }

    /// Returns the unmet prerequisites: missing dates first, since only those need an action, then dates in the future.
    fn unmet(&self, now: Timestamp) -> Vec<(Reason, String)> {
        if let Some(until) = self.in_force.until.filter(|until| *until <= now) {
            // Alone: no date that a user adds to a withdrawn policy makes recording permitted again.
            return vec![(Reason::Withdrawn, withdrawn_message(until))];
        }
        let mut unmet = Vec::new();
        if self.consent.is_none() {
            let message = "article 8: the works council has not consented; once it has, set RecordingPolicy \
                           spec.worksCouncilConsent.date";
            unmet.push((Reason::NoConsent, message.to_owned()));
        }
        if self.staff_informed.is_none() || self.signs_posted.is_none() {
            let message = "article 7: staff and visitors are not informed; inform staff, post the signs at the entrance, \
                           then set Site spec.notices.staffInformedDate and spec.notices.signsPostedDate";
            unmet.push((Reason::NotInformed, message.to_owned()));
        }
        let consent = "article 8: the works council's consent takes effect from";
        let staff = "article 7.1: staff are informed from";
        let signs = "article 7.2: signs are posted from";
        for (date, reason, text, field) in [
            (self.consent, Reason::NoConsent, consent, "RecordingPolicy spec.worksCouncilConsent.date"),
            (self.staff_informed, Reason::NotInformed, staff, "Site spec.notices.staffInformedDate"),
            (self.signs_posted, Reason::NotInformed, signs, "Site spec.notices.signsPostedDate"),
        ] {
            if let Some(date) = date.filter(|date| *date > now) {
                unmet.push((reason, format!("{text} {date} on ({field})")));
            }
        }
        if self.in_force.from > now {
            unmet.push((Reason::NotYetInForce, not_yet_in_force_message(self.in_force.from)));
        }
        unmet
    }
}

/// Returns the window in which a policy is in force (article 11). It is empty if `until` is not after `from`.
pub fn in_force_window(policy: &RecordingPolicySpec, zone: &TimeZone) -> Result<Window, CalendarError> {
    let from = calendar::resolve_instant(&policy.in_force.from, zone, "spec.inForce.from")?;
    let until = policy
        .in_force
        .until
        .as_ref()
        .map(|until| calendar::resolve_instant(until, zone, "spec.inForce.until"))
        .transpose()?;
    Ok(Window::new(from, until))
}

/// Returns the condition `InForce`.
pub fn evaluate_in_force(window: &Window, now: Timestamp) -> ConditionFinding {
    let (status, reason, message) = if now < window.from {
        (false, Reason::NotYetInForce, not_yet_in_force_message(window.from))
    } else {
        match window.until {
            Some(until) if until <= now => (false, Reason::Withdrawn, withdrawn_message(until)),
            Some(until) => (true, Reason::InForce, format!("article 11: in force until {until}")),
            None => (true, Reason::InForce, format!("article 11: in force since {}", window.from)),
        }
    };
    ConditionFinding::new(ConditionType::InForce, status, reason, message)
}

fn not_yet_in_force_message(from: Timestamp) -> String {
    format!("article 11: the policy enters into force at {from} (RecordingPolicy spec.inForce.from)")
}

fn withdrawn_message(until: Timestamp) -> String {
    format!(
        "article 11: the policy was withdrawn at {until} (RecordingPolicy spec.inForce.until); adopt a new policy and name \
         this one in its spec.replaces, or name it in Site spec.policyRef.name"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::window::tests::{any_windows, instant};

    fn any_prerequisites() -> impl Strategy<Value = Prerequisites> {
        let maybe = || proptest::option::weighted(0.9, instant());
        (instant(), proptest::option::of(instant()), maybe(), maybe(), maybe()).prop_map(
            |(from, until, consent, staff_informed, signs_posted)| Prerequisites {
                in_force: Window::new(from, until),
                consent,
                staff_informed,
                signs_posted,
            },
        )
    }

    fn is_met(gate: Option<Timestamp>, at: Timestamp) -> bool {
        gate.is_some_and(|gate| gate <= at)
    }

    proptest! {
        #[test]
        fn permitted_windows_require_every_prerequisite(gates in any_prerequisites(), at in instant()) {
            let all = gates.in_force.contains(at)
                && is_met(gates.consent, at)
                && is_met(gates.staff_informed, at)
                && is_met(gates.signs_posted, at);
            prop_assert_eq!(gates.permitted_windows().contains(at), all);
        }

        #[test]
        fn evaluation_agrees_with_permitted_windows(
            gates in any_prerequisites(), suspended in any_windows(), at in instant(),
        ) {
            let suspended = Windows::union(suspended);
            let verdict = gates.evaluate(&suspended, at);
            prop_assert_eq!(verdict.is_true(), gates.permitted_windows().subtract(&suspended).contains(at));
            prop_assert!(verdict.message.contains("article"), "{}", verdict.message);
            prop_assert_eq!(verdict.is_true(), verdict.reason == Reason::Permitted);
            if !verdict.is_true() {
                prop_assert!(verdict.message.contains("spec."), "names no field: {}", verdict.message);
            }
        }

        #[test]
        fn evaluation_is_constant_until_next_change(
            gates in any_prerequisites(), suspended in any_windows(), now in instant(), later in instant(),
        ) {
            let suspended = Windows::union(suspended);
            let next = gates.next_change(&suspended, now);
            prop_assert!(next.is_none_or(|next| next > now));
            if later > now && next.is_none_or(|next| later < next) {
                prop_assert_eq!(gates.evaluate(&suspended, later), gates.evaluate(&suspended, now));
            }
        }

        #[test]
        fn later_prerequisite_never_permits_more(gates in any_prerequisites(), at in instant(), delay in 0_i64..100) {
            let later = |at: Timestamp| at + jiff::SignedDuration::from_hours(delay);
            let strict = Prerequisites {
                consent: gates.consent.map(later),
                staff_informed: gates.staff_informed.map(later),
                ..gates.clone()
            };
            prop_assert!(!strict.permitted_windows().contains(at) || gates.permitted_windows().contains(at));
        }

        #[test]
        fn in_force_condition_agrees_with_window(from in instant(), until in proptest::option::of(instant()), at in instant()) {
            let window = Window::new(from, until);
            prop_assert_eq!(evaluate_in_force(&window, at).is_true(), window.contains(at));
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn missing_dates_precede_future_dates_in_message() {
        let gates = Prerequisites {
            in_force: Window::new(at("2026-01-01T00:00:00Z"), None),
            consent: None,
            staff_informed: Some(at("2026-02-01T00:00:00Z")),
            signs_posted: None,
        };
        let verdict = gates.evaluate(&Windows::empty(), at("2025-12-01T00:00:00Z"));
        assert_eq!(verdict.reason, Reason::NoConsent);
        for part in ["article 8", "article 7:", "article 7.1", "article 11", "spec.worksCouncilConsent.date"]
        {
            assert!(verdict.message.contains(part), "{part} is not in {}", verdict.message);
        }
    }

    #[test]
    fn recording_starts_on_the_day_staff_are_informed() {
        let gates = Prerequisites {
            in_force: Window::new(at("2020-05-06T00:00:00Z"), None),
            consent: Some(at("2020-04-21T00:00:00Z")),
            staff_informed: Some(at("2020-05-10T00:00:00Z")),
            signs_posted: Some(at("2020-05-01T00:00:00Z")),
        };
        assert_eq!(gates.permitted_windows().as_slice(), [Window::new(at("2020-05-10T00:00:00Z"), None)]);
        assert_eq!(gates.evaluate(&Windows::empty(), at("2020-05-07T00:00:00Z")).reason, Reason::NotInformed);
    }
}
