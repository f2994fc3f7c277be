//! When recording is permitted (articles 7, 8 and 11), and why not.
//!
//! Four gates must be open at once: the policy is in force (article 11), the works council has consented
//! (article 8), staff have been informed and signs posted (article 7). A gate whose date lies ahead opens
//! when that day begins, so everything can be entered beforehand. Staff who were informed only after the
//! policy entered into force are recorded from that day on, never before.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::api::condition::{ConditionType, Finding, Reason};
use crate::api::{Notices, RecordingPolicySpec};

use super::calendar::{self, CalendarError};
use super::window::{Window, Windows};

/// The gates of one site, as instants; `None`: not a date in sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// When the policy is in force (article 11).
    pub in_force: Window,
    /// When the works council has consented (article 8).
    pub consent: Option<Timestamp>,
    /// When staff have been informed (article 7.1).
    pub staff_informed: Option<Timestamp>,
    /// When the signs have been posted (article 7.2).
    pub signs_posted: Option<Timestamp>,
}

impl Gates {
    /// The gates that a policy and a site's notices give. Days are those of the policy's zone.
    ///
    /// The error names the field: `spec.timeZone`, `spec.inForce.from`, … of the policy, or
    /// `spec.notices.…` of the Site.
    pub fn of(policy: &RecordingPolicySpec, notices: Option<&Notices>) -> Result<Self, CalendarError> {
        let zone = calendar::zone(&policy.time_zone, "spec.timeZone")?;
        let day = |date, path| calendar::start_of_day(date, &zone, path);
        Ok(Self {
            in_force: in_force(policy, &zone)?,
            consent: policy
                .works_council_consent
                .as_ref()
                .map(|consent| day(&consent.date, "spec.worksCouncilConsent.date"))
                .transpose()?,
            staff_informed: notices
                .map(|notices| day(&notices.staff_informed_on, "spec.notices.staffInformedOn"))
                .transpose()?,
            signs_posted: notices
                .map(|notices| day(&notices.signs_posted_on, "spec.notices.signsPostedOn"))
                .transpose()?,
        })
    }

    /// When recording is permitted: one window, or none. Suspensions are not in it; see
    /// [`super::suspension`].
    pub fn windows(&self) -> Windows {
        let (Some(consent), Some(staff), Some(signs)) =
            (self.consent, self.staff_informed, self.signs_posted)
        else {
            return Windows::never();
        };
        let from = self.in_force.from.max(consent).max(staff).max(signs);
        Windows::of([Window::new(from, self.in_force.until)])
    }

    /// Whether recording is permitted now, given when the cameras are covered: `Permitted`, with every gate
    /// that is shut, its article, and what opens it. The first gate to be seen to gives the reason.
    pub fn verdict(&self, suspended: &Windows, now: Timestamp) -> Finding {
        let shut = self.shut(now);
        if let Some((reason, _)) = shut.first() {
            let all: Vec<&str> = shut.iter().map(|(_, message)| message.as_str()).collect();
            return Finding::new(ConditionType::Permitted, false, *reason, all.join("; "));
        }
        if let Some(window) = suspended.at(now) {
            let end = window.until.map_or_else(|| "further notice".to_owned(), |until| until.to_string());
            let message = format!(
                "article 5: the cameras are covered until {end} (Site spec.suspensions); recording goes on by \
                 itself after that"
            );
            return Finding::new(ConditionType::Permitted, false, Reason::Suspended, message);
        }
        let message = match self.in_force.until {
            Some(until) => format!(
                "in force, consented to, and announced (articles 7, 8 and 11), until {until} (RecordingPolicy \
                 spec.inForce.until)"
            ),
            None => "in force, consented to, and announced (articles 7, 8 and 11)".to_owned(),
        };
        Finding::new(ConditionType::Permitted, true, Reason::Permitted, message)
    }

    /// The first instant after `now` at which the verdict may change by itself; `None`: it never does.
    pub fn next_change(&self, suspended: &Windows, now: Timestamp) -> Option<Timestamp> {
        let gates = [
            Some(self.in_force.from),
            self.in_force.until,
            self.consent,
            self.staff_informed,
            self.signs_posted,
            suspended.next_change(now),
        ];
        gates.into_iter().flatten().filter(|change| *change > now).min()
    }

    /// The gates that are shut now. What only a person can open comes before what time will open.
    fn shut(&self, now: Timestamp) -> Vec<(Reason, String)> {
        if let Some(until) = self.in_force.until.filter(|until| *until <= now) {
            return vec![(Reason::Withdrawn, withdrawn(until))];
        }
        let absent = [
            self.consent.is_none().then(|| {
                (
                    Reason::NoConsent,
                    "article 8: the works council has not consented; once it has, set RecordingPolicy \
                     spec.worksCouncilConsent.date"
                        .to_owned(),
                )
            }),
            (self.staff_informed.is_none() || self.signs_posted.is_none()).then(|| {
                (
                    Reason::NotInformed,
                    "article 7: staff and visitors have not been told; inform staff, post the signs at the \
                     entrance, then set Site spec.notices.staffInformedOn and spec.notices.signsPostedOn"
                        .to_owned(),
                )
            }),
        ];
        let ahead = |at: Option<Timestamp>| at.filter(|at| *at > now);
        let awaited = [
            ahead(self.consent).map(|at| {
                let message = format!(
                    "article 8: the works council's consent counts from {at} (RecordingPolicy \
                     spec.worksCouncilConsent.date)"
                );
                (Reason::NoConsent, message)
            }),
            ahead(self.staff_informed).map(|at| {
                let message = format!(
                    "article 7.1: staff will have been informed on {at} (Site spec.notices.staffInformedOn)"
                );
                (Reason::NotInformed, message)
            }),
            ahead(self.signs_posted).map(|at| {
                let message = format!(
                    "article 7.2: signs will have been posted on {at} (Site spec.notices.signsPostedOn)"
                );
                (Reason::NotInformed, message)
            }),
            ahead(Some(self.in_force.from)).map(|at| (Reason::NotYetInForce, not_yet(at))),
        ];
        absent.into_iter().chain(awaited).flatten().collect()
    }
}

/// When a policy is in force (article 11); empty where `until` is not after `from`.
pub fn in_force(policy: &RecordingPolicySpec, zone: &TimeZone) -> Result<Window, CalendarError> {
    let from = calendar::instant(&policy.in_force.from, zone, "spec.inForce.from")?;
    let until = policy
        .in_force
        .until
        .as_ref()
        .map(|until| calendar::instant(until, zone, "spec.inForce.until"))
        .transpose()?;
    Ok(Window::new(from, until))
}

/// Whether a policy is in force now: `InForce`.
pub fn in_force_verdict(window: &Window, now: Timestamp) -> Finding {
    let (truth, reason, message) = if now < window.from {
        (false, Reason::NotYetInForce, not_yet(window.from))
    } else {
        match window.until {
            Some(until) if until <= now => (false, Reason::Withdrawn, withdrawn(until)),
            Some(until) => (true, Reason::InForce, format!("article 11: in force until {until}")),
            None => (true, Reason::InForce, format!("article 11: in force since {}", window.from)),
        }
    };
    Finding::new(ConditionType::InForce, truth, reason, message)
}

fn not_yet(from: Timestamp) -> String {
    format!("article 11: the policy enters into force on {from} (RecordingPolicy spec.inForce.from)")
}

fn withdrawn(until: Timestamp) -> String {
    format!(
        "article 11: the policy is no longer in force since {until} (RecordingPolicy spec.inForce.until); \
         adopt a new one and name it in Site spec.policyRef.name"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::window::tests::{any_windows, instant};
    use super::*;

    fn any_gates() -> impl Strategy<Value = Gates> {
        let maybe = || proptest::option::weighted(0.9, instant());
        (instant(), proptest::option::of(instant()), maybe(), maybe(), maybe()).prop_map(
            |(from, until, consent, staff_informed, signs_posted)| Gates {
                in_force: Window::new(from, until),
                consent,
                staff_informed,
                signs_posted,
            },
        )
    }

    fn open(gate: Option<Timestamp>, at: Timestamp) -> bool {
        gate.is_some_and(|gate| gate <= at)
    }

    proptest! {
        #[test]
        fn windows_never_permit_outside_any_single_gate(gates in any_gates(), at in instant()) {
            let all = gates.in_force.contains(at)
                && open(gates.consent, at)
                && open(gates.staff_informed, at)
                && open(gates.signs_posted, at);
            prop_assert_eq!(gates.windows().contains(at), all);
        }

        #[test]
        fn the_verdict_agrees_with_the_windows(
            gates in any_gates(), suspended in any_windows(), at in instant(),
        ) {
            let suspended = Windows::of(suspended);
            let verdict = gates.verdict(&suspended, at);
            prop_assert_eq!(verdict.is_true(), gates.windows().subtract(&suspended).contains(at));
            prop_assert!(verdict.message.contains("article"), "{}", verdict.message);
            prop_assert_eq!(verdict.is_true(), verdict.reason == Reason::Permitted);
            if !verdict.is_true() {
                prop_assert!(verdict.message.contains("spec."), "names no field: {}", verdict.message);
            }
        }

        #[test]
        fn nothing_changes_before_the_next_change(
            gates in any_gates(), suspended in any_windows(), now in instant(), later in instant(),
        ) {
            let suspended = Windows::of(suspended);
            let next = gates.next_change(&suspended, now);
            prop_assert!(next.is_none_or(|next| next > now));
            if later > now && next.is_none_or(|next| later < next) {
                prop_assert_eq!(gates.verdict(&suspended, later), gates.verdict(&suspended, now));
            }
        }

        #[test]
        fn a_later_date_never_permits_more(gates in any_gates(), at in instant(), delay in 0_i64..100) {
            let later = |at: Timestamp| at + jiff::SignedDuration::from_hours(delay);
            let strict = Gates {
                consent: gates.consent.map(later),
                staff_informed: gates.staff_informed.map(later),
                ..gates.clone()
            };
            prop_assert!(!strict.windows().contains(at) || gates.windows().contains(at));
        }

        #[test]
        fn in_force_agrees_with_its_window(from in instant(), until in proptest::option::of(instant()), at in instant()) {
            let window = Window::new(from, until);
            prop_assert_eq!(in_force_verdict(&window, at).is_true(), window.contains(at));
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_person_must_do_comes_first_and_all_is_said() {
        let gates = Gates {
            in_force: Window::new(at("2026-01-01T00:00:00Z"), None),
            consent: None,
            staff_informed: Some(at("2026-02-01T00:00:00Z")),
            signs_posted: None,
        };
        let verdict = gates.verdict(&Windows::never(), at("2025-12-01T00:00:00Z"));
        assert_eq!(verdict.reason, Reason::NoConsent);
        for part in ["article 8", "article 7:", "article 7.1", "article 11", "spec.worksCouncilConsent.date"]
        {
            assert!(verdict.message.contains(part), "{part} is not in {}", verdict.message);
        }
    }

    #[test]
    fn staff_informed_late_are_recorded_from_that_day_only() {
        let gates = Gates {
            in_force: Window::new(at("2020-05-06T00:00:00Z"), None),
            consent: Some(at("2020-04-21T00:00:00Z")),
            staff_informed: Some(at("2020-05-10T00:00:00Z")),
            signs_posted: Some(at("2020-05-01T00:00:00Z")),
        };
        assert_eq!(gates.windows().as_slice(), [Window::new(at("2020-05-10T00:00:00Z"), None)]);
        assert_eq!(gates.verdict(&Windows::never(), at("2020-05-07T00:00:00Z")).reason, Reason::NotInformed);
    }
}
