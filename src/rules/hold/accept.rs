//! Acceptance of incident holds (articles 1 and 6).

use jiff::Timestamp;

use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{HoldState, IncidentHoldSpec, RecordingPolicySpec};

/// Returns the condition `Accepted`, with the path of each invalid field. `cameras` are the names of the site's Cameras.
///
/// A named camera that does not exist is accepted, since it may have been deleted and its recordings are the evidence. The
/// message mentions it, since the name may be a typo.
pub fn evaluate_acceptance(
    hold: &IncidentHoldSpec,
    policy: &RecordingPolicySpec,
    cameras: &[String],
    now: Timestamp,
) -> ConditionFinding {
    let finding = |is_accepted: bool, reason, message| {
        ConditionFinding::new(ConditionType::Accepted, is_accepted, reason, message)
    };
    let not_started = future_window_problem(hold, now);
    // A review in the future is no reason to keep nothing: `ReviewDue` reports it.
    let problems = [purpose_problem(hold, policy), future_resolution_problem(hold, now)];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    match (not_started, problems.is_empty()) {
        (None, true) => {
            let message = unknown_cameras_warning(hold, cameras)
                .unwrap_or_else(|| "the hold is valid: its policy has this purpose (article 1)".to_owned());
            finding(true, Reason::Valid, message)
        }
        (Some(not_started), true) => finding(false, Reason::NotStarted, not_started),
        // Waiting corrects no invalid field, so the reason is not `NotStarted` even if the window is in the future.
        (not_started, false) => {
            let problems: Vec<String> = problems.into_iter().chain(not_started).collect();
            finding(false, Reason::InvalidField, problems.join("; "))
        }
    }
}

/// Returns the first time in the spec after `now`: a condition can change at it.
pub fn next_change(hold: &IncidentHoldSpec, now: Timestamp) -> Option<Timestamp> {
    [
        Some(hold.window.from.0),
        hold.resolution.as_ref().map(|resolution| resolution.time.0),
        hold.review.as_ref().map(|review| review.time.0),
    ]
    .into_iter()
    .flatten()
    .filter(|change| *change > now)
    .min()
}

fn purpose_problem(hold: &IncidentHoldSpec, policy: &RecordingPolicySpec) -> Option<String> {
    let known = policy.purposes.contains(&hold.purpose);
    (!known).then(|| {
        format!(
            "spec.purpose: article 1: {:?} is not a purpose of the policy, so the operator keeps nothing for this hold; write \
             one of {}, or delete the hold",
            hold.purpose,
            policy.purposes.join(", ")
        )
    })
}

fn future_window_problem(hold: &IncidentHoldSpec, now: Timestamp) -> Option<String> {
    let from = hold.window.from.0;
    (from > now).then(|| {
        format!(
            "spec.window.from: article 6: {from} is in the future, and the operator keeps nothing for this hold yet; \
             correct spec.window.from, or delete the hold"
        )
    })
}

fn future_resolution_problem(hold: &IncidentHoldSpec, now: Timestamp) -> Option<String> {
    let at = hold.resolution.as_ref().filter(|_| hold.state == HoldState::Resolved)?.time.0;
    (at > now).then(|| {
        format!(
            "spec.resolution.time: {at} is in the future, so the operator keeps nothing for this hold; write the time at which the incident \
             was resolved, or set spec.state: Open and remove spec.resolution"
        )
    })
}

fn unknown_cameras_warning(hold: &IncidentHoldSpec, cameras: &[String]) -> Option<String> {
    let unknown: Vec<&str> =
        hold.cameras.iter().filter(|name| !cameras.contains(name)).map(String::as_str).collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "spec.cameras: the site has no Camera named {}; the operator keeps recordings of these names if there are any, and \
             RecordingsFound reports them; if it is a typing error, correct the name",
            unknown.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::api::{Resolution, ResolutionOutcome, Review, TimeWindow, testing};
    use crate::rules::window::tests::instant;

    fn hold(purpose: &str, from: Timestamp) -> IncidentHoldSpec {
        IncidentHoldSpec {
            cameras: vec!["receptie".into()],
            window: TimeWindow { from: Time(from), until: None },
            purpose: purpose.into(),
            ..testing::hold("h").spec
        }
    }

    fn policy() -> RecordingPolicySpec {
        testing::policy().spec
    }

    proptest! {
        #[test]
        fn hold_is_accepted_with_known_purpose_and_past_times(
            purpose in proptest::sample::select(vec!["Aggression", "Theft", "Curiosity"]),
            from in instant(), resolved in proptest::option::of(instant()),
            reviewed in proptest::option::of(instant()), now in instant(),
        ) {
            let mut hold = hold(purpose, from);
            hold.review = reviewed.map(|at| Review { time: Time(at), by: "Team Veiligheid".into() });
            if let Some(on) = resolved {
                hold.state = HoldState::Resolved;
                hold.resolution =
                    Some(Resolution { time: Time(on), by: "Gemeentesecretaris".into(), outcome: ResolutionOutcome::Closed });
            }
            let verdict = evaluate_acceptance(&hold, &policy(), &["receptie".into()], now);
            let past = |times: &[Option<Timestamp>]| times.iter().flatten().all(|at| *at <= now);
            let is_acceptable = purpose != "Curiosity" && past(&[Some(from), resolved]);
            prop_assert_eq!(verdict.is_true(), is_acceptable, "{}", verdict.message);
            prop_assert!(verdict.is_true() || verdict.message.starts_with("spec."), "{}", verdict.message);
            let settled = next_change(&hold, now).is_none();
            prop_assert_eq!(settled, past(&[Some(from), resolved, reviewed]));
        }
    }

    #[test]
    fn future_hold_message_has_consequence_and_remedy() {
        let now: Timestamp = "2026-03-29T01:30:00Z".parse().unwrap();
        let from = "2027-03-29T01:30:00Z".parse().unwrap();
        let verdict = evaluate_acceptance(&hold("Theft", from), &policy(), &["receptie".into()], now);
        assert_eq!((verdict.is_true(), verdict.reason), (false, Reason::NotStarted));
        for part in ["spec.window.from: article 6: 2027-", "keeps nothing", "or delete the hold"] {
            assert!(verdict.message.contains(part), "{}", verdict.message);
        }
        let both = evaluate_acceptance(&hold("Curiosity", from), &policy(), &["receptie".into()], now);
        assert_eq!(both.reason, Reason::InvalidField);
        assert!(both.message.contains("spec.window.from"), "{}", both.message);
    }

    #[test]
    fn hold_on_deleted_camera_is_accepted() {
        let now: Timestamp = "2026-04-12T12:00:00Z".parse().unwrap();
        let verdict = evaluate_acceptance(&hold("Theft", now), &policy(), &[], now);
        assert!(verdict.is_true());
        assert!(verdict.message.contains("receptie"), "{}", verdict.message);
    }
}
