//! Whether a policy as a whole can be followed.

use crate::api::condition::{ConditionType, Finding, Reason};
use crate::api::{Ceilings, RecordingPolicySpec};

use super::{calendar, permission, retention};

/// Whether a policy can be followed under the cluster's ceilings: `Accepted`, with the path of each field
/// that must be put right.
///
/// The API server has refused most of what can be wrong already. What is left needs the time zone database
/// or the operator's configuration.
pub fn accept(policy: &RecordingPolicySpec, cluster: &Ceilings) -> Finding {
    let mut wrong: Vec<String> = Vec::new();
    match calendar::zone(&policy.time_zone, "spec.timeZone") {
        Ok(zone) => wrong.extend(wrong_days(policy, &zone)),
        Err(error) => wrong.push(error.safe_message()),
    }
    wrong.extend(retention::ceilings(&policy.retention, cluster).err().map(|error| error.safe_message()));
    if wrong.is_empty() {
        let message = "the policy can be followed, under the cluster's ceilings (article 6)";
        Finding::new(ConditionType::Accepted, true, Reason::Valid, message)
    } else {
        Finding::new(ConditionType::Accepted, false, Reason::InvalidField, wrong.join("; "))
    }
}

fn wrong_days(policy: &RecordingPolicySpec, zone: &jiff::tz::TimeZone) -> Vec<String> {
    let adopted = calendar::start_of_day(&policy.adopted.date, zone, "spec.adopted.date");
    let consent = policy
        .works_council_consent
        .as_ref()
        .map(|consent| calendar::start_of_day(&consent.date, zone, "spec.worksCouncilConsent.date"));
    let in_force = permission::in_force(policy, zone);
    let mut wrong = Vec::new();
    if let Ok(window) = &in_force {
        if window.is_empty() {
            wrong.push(
                "spec.inForce.until: article 11: it must be later than spec.inForce.from, in spec.timeZone"
                    .to_owned(),
            );
        }
        if adopted.as_ref().is_ok_and(|adopted| window.from < *adopted) {
            wrong.push(
                "spec.inForce.from: article 11: a policy enters into force after it is adopted; set a day \
                 after spec.adopted.date"
                    .to_owned(),
            );
        }
    }
    let failed = [adopted.err(), consent.and_then(Result::err), in_force.err()];
    wrong.extend(failed.into_iter().flatten().map(|error| error.safe_message()));
    wrong
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::{
        Adopted, Consent, Date, DateOrInstant, Days, Duration, HoldRules, InForce, LiveView, Retention,
    };
    use crate::protocol::live_view;

    pub(crate) fn policy() -> RecordingPolicySpec {
        RecordingPolicySpec {
            title: "Protocol cameratoezicht".into(),
            time_zone: "Europe/Amsterdam".into(),
            adopted: Adopted { by: "College".into(), date: Date("2020-05-04".into()) },
            replaces: None,
            in_force: InForce { from: DateOrInstant("2020-05-06".into()), until: None },
            works_council_consent: Some(Consent { date: Date("2020-04-21".into()) }),
            purposes: vec!["Theft".into(), "Aggression".into()],
            retention: Retention { video: Days(28), calls: Days(7) },
            live_view: Some(LiveView {
                sites: vec!["dillenburcht".into()],
                embargo: Duration(std::time::Duration::from_hours(1)),
            }),
            holds: HoldRules { review_every: Days(28) },
            incident_officers: Vec::new(),
        }
    }

    const CLUSTER: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

    /// One edit, and the path that the verdict must name.
    fn refused(edit: impl FnOnce(&mut RecordingPolicySpec), path: &str) {
        let mut policy = policy();
        edit(&mut policy);
        let verdict = accept(&policy, &CLUSTER);
        assert_eq!(verdict.reason, Reason::InvalidField);
        assert!(verdict.message.starts_with(path), "{path} does not start {}", verdict.message);
    }

    #[test]
    fn the_protocol_itself_is_accepted() {
        assert!(accept(&policy(), &CLUSTER).is_true());
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_path() {
        let instant = |text: &str| DateOrInstant(text.into());
        refused(|policy| policy.time_zone = "Europe/Vlijmen".into(), "spec.timeZone: ");
        refused(|policy| policy.retention.video = Days(29), "spec.retention.video: ");
        refused(|policy| policy.retention.calls = Days(4), "spec.retention.calls: ");
        refused(|policy| policy.adopted.date = Date("2020-02-30".into()), "spec.adopted.date: ");
        refused(|policy| policy.in_force.from = instant("2020-13-01"), "spec.inForce.from: ");
        refused(|policy| policy.in_force.from = instant("2020-05-03"), "spec.inForce.from: ");
        // Both mean the same instant: only the zone tells.
        refused(
            |policy| policy.in_force.until = Some(instant("2020-05-05T22:00:00Z")),
            "spec.inForce.until: ",
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut policy = policy();
        policy.time_zone = "Nowhere".into();
        policy.retention.video = Days(400);
        let message = accept(&policy, &CLUSTER).message;
        assert!(message.contains("spec.timeZone") && message.contains("spec.retention.video"), "{message}");
    }

    #[test]
    fn live_view_is_refused_where_the_policy_does_not_list_the_site() {
        let policy = policy();
        assert!(live_view::check("dillenburcht", true, &policy).is_ok());
        assert!(live_view::check("milieustraat", false, &policy).is_ok());
        let error = live_view::check("milieustraat", true, &policy).unwrap_err();
        assert!(error.safe_message().starts_with("spec.liveView: article 4.2"));
        assert!(
            live_view::check("dillenburcht", true, &RecordingPolicySpec { live_view: None, ..policy })
                .is_err()
        );
    }
}
