//! Acceptance of a policy.

use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Ceilings, RecordingPolicySpec};

use super::{calendar, permission, retention};

/// Returns the condition `Accepted`, with the path of each invalid field. Admission has already rejected errors that are
/// visible in one object. The other checks need the time zone database or the cluster's ceilings.
pub fn evaluate_acceptance(policy: &RecordingPolicySpec, cluster: &Ceilings) -> ConditionFinding {
    let mut problems: Vec<String> = Vec::new();
    match calendar::parse_zone(&policy.time_zone, "spec.timeZone") {
        Ok(zone) => problems.extend(date_problems(policy, &zone)),
        Err(error) => problems.push(error.to_string()),
    }
    problems.extend(
        retention::validate_ceilings(&policy.retention, cluster).err().map(|error| error.to_string()),
    );
    if problems.is_empty() {
        let message = "the policy is valid and within the cluster's ceilings (article 6)";
        ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, message)
    } else {
        ConditionFinding::new(ConditionType::Accepted, false, Reason::InvalidField, problems.join("; "))
    }
}

fn date_problems(policy: &RecordingPolicySpec, zone: &jiff::tz::TimeZone) -> Vec<String> {
    let adopted = calendar::start_of_day(&policy.adoption.date, zone, "spec.adoption.date");
    let consent = policy
        .works_council_consent
        .as_ref()
        .map(|consent| calendar::start_of_day(&consent.date, zone, "spec.worksCouncilConsent.date"));
    let in_force = permission::in_force_window(policy, zone);
    let mut problems = Vec::new();
    if let Ok(window) = &in_force {
        if window.is_empty() {
            problems.push(
                "spec.inForce.until: article 11: it is not later than spec.inForce.from (in the zone spec.timeZone); set a later time"
                    .to_owned(),
            );
        }
        if adopted.as_ref().is_ok_and(|adopted| window.from < *adopted) {
            problems.push(
                "spec.inForce.from: article 11: the policy would enter into force before its adoption; set \
                 spec.inForce.from to spec.adoption.date or later"
                    .to_owned(),
            );
        }
    }
    let failed = [adopted.err(), consent.and_then(Result::err), in_force.err()];
    problems.extend(failed.into_iter().flatten().map(|error| error.to_string()));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Date, DateOrInstant, Days, testing};
    use crate::rules::live_view;
    use crate::rules::retention::PROTOCOL_CEILINGS as CLUSTER;

    fn policy() -> RecordingPolicySpec {
        testing::policy().spec
    }

    fn assert_rejected(edit: impl FnOnce(&mut RecordingPolicySpec), path: &str) {
        let mut policy = policy();
        edit(&mut policy);
        let verdict = evaluate_acceptance(&policy, &CLUSTER);
        assert_eq!(verdict.reason, Reason::InvalidField);
        assert!(verdict.message.starts_with(path), "{path} does not start {}", verdict.message);
    }

    #[test]
    fn valid_policy_is_accepted() {
        assert!(evaluate_acceptance(&policy(), &CLUSTER).is_true());
    }

    #[test]
    fn rejection_message_starts_with_the_field() {
        let instant = |text: &str| DateOrInstant(text.into());
        assert_rejected(|policy| policy.time_zone = "Europe/Vlijmen".into(), "spec.timeZone: ");
        assert_rejected(|policy| policy.retention.video = Days(29), "spec.retention.video: ");
        assert_rejected(|policy| policy.retention.calls = Days(4), "spec.retention.calls: ");
        assert_rejected(|policy| policy.adoption.date = Date("2020-02-30".into()), "spec.adoption.date: ");
        assert_rejected(|policy| policy.in_force.from = instant("2020-13-01"), "spec.inForce.from: ");
        assert_rejected(|policy| policy.in_force.from = instant("2020-05-03"), "spec.inForce.from: ");
        // `from` is the same instant in this zone.
        assert_rejected(
            |policy| policy.in_force.until = Some(instant("2020-05-05T22:00:00Z")),
            "spec.inForce.until: ",
        );
    }

    #[test]
    fn rejection_message_lists_every_problem() {
        let mut policy = policy();
        policy.time_zone = "Nowhere".into();
        policy.retention.video = Days(400);
        let message = evaluate_acceptance(&policy, &CLUSTER).message;
        assert!(message.contains("spec.timeZone") && message.contains("spec.retention.video"), "{message}");
    }

    #[test]
    fn live_view_requires_the_site_in_the_policy() {
        let policy = policy();
        assert!(live_view::check("zwembad", true, &policy).is_ok());
        assert!(live_view::check("milieustraat", false, &policy).is_ok());
        let error = live_view::check("milieustraat", true, &policy).unwrap_err();
        assert!(error.to_string().starts_with("spec.liveView: article 4.2"));
        assert!(
            live_view::check("zwembad", true, &RecordingPolicySpec { live_view: None, ..policy }).is_err()
        );
    }
}
