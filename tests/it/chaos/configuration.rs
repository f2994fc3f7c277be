//! The configuration of a bucket, against the policy in force and the faults that changed it.

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule};
use jiff::Timestamp;
use serde_json::Value;

use super::chronicle::Reports;
use super::inject::Fault;
use super::plan::Kind;
use super::spans::{Span, is_overlapping, seconds, span, undisturbed, widened};
use super::world::{FIRST_CEILING, SITES};

/// Longest time after which the bucket follows an edit of the policy, while nothing keeps the operator from it.
const EDIT_DELAY: f64 = 60.0;
/// Time after a fault in which the operator may be late: it waits with growing pauses.
const RECOVERY: f64 = 90.0;
/// Longest time after which the operator reverts a change by somebody else: it reads a bucket back every five minutes, by
/// docs/concepts/retention.md.
const DRIFT_DELAY: f64 = 300.0 + EDIT_DELAY;
/// Days between the lifecycle's expiration and the ceiling, by docs/adr/0001-lifecycle-days.md.
const LIFECYCLE_MARGIN: u32 = 4;

/// A lifecycle rule that is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryRule {
    pub prefix: String,
    pub days: Option<i32>,
    pub noncurrent_days: Option<i32>,
}

impl ExpiryRule {
    /// Returns the rule, unless it is disabled. Stores answer with its prefix in one of three places.
    pub fn of(rule: &LifecycleRule) -> Option<Self> {
        let filter = rule.filter();
        #[expect(deprecated, reason = "a store may answer with it")]
        let beside = rule.prefix();
        let within = filter.and_then(|filter| filter.prefix());
        let both = filter.and_then(|filter| filter.and()?.prefix());
        let prefix = [within, both, beside].into_iter().flatten().find(|prefix| !prefix.is_empty());
        let prefix = prefix.unwrap_or_default().to_owned();
        let is_enabled = *rule.status() == ExpirationStatus::Enabled;
        is_enabled.then(|| Self {
            prefix,
            days: rule.expiration().and_then(|expiration| expiration.days()),
            noncurrent_days: rule.noncurrent_version_expiration().and_then(|after| after.noncurrent_days()),
        })
    }
}

/// Configuration of a bucket as the store has it.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub rules: Vec<ExpiryRule>,
    pub policy: Option<Value>,
    pub has_lock: bool,
}

impl Configuration {
    /// Returns why recordings live too long, or end too early, for ceilings of one of these numbers of days.
    pub fn lifecycle_problem(&self, ceilings: &[u32]) -> Option<String> {
        let of_video: Vec<&ExpiryRule> = self.rules.iter().filter(|rule| rule.prefix == "video/").collect();
        let days = |ceiling: &u32| i32::try_from(ceiling - LIFECYCLE_MARGIN).ok();
        let is_right = |rule: &&ExpiryRule| {
            rule.noncurrent_days == Some(1) && ceilings.iter().any(|ceiling| rule.days == days(ceiling))
        };
        let is_kept = !of_video.is_empty() && of_video.iter().all(is_right);
        (!is_kept).then(|| format!("a ceiling of {ceilings:?} days, and lifecycle rules {:?}", self.rules))
    }

    /// Returns why the policy of the bucket protects nothing.
    pub fn policy_problem(&self) -> Option<String> {
        let statements = self.policy.as_ref().and_then(|policy| policy["Statement"].as_array());
        let Some(statements) = statements.filter(|statements| !statements.is_empty()) else {
            return Some(format!("the policy {:?}", self.policy));
        };
        let is_everybody = |principal: &Value| {
            let names = principal.get("AWS").unwrap_or(principal);
            names == "*" || names.as_array().is_some_and(|names| names.iter().any(|name| name == "*"))
        };
        let admits = |statement: &&Value| {
            statement["Effect"] == "Allow"
                && is_everybody(&statement["Principal"])
                && statement["Condition"].is_null()
        };
        statements.iter().find(admits).map(|statement| format!("the policy admits everybody: {statement}"))
    }

    /// Returns whether the operator ended a fault of this kind.
    fn is_restored(&self, kind: Kind) -> bool {
        match kind {
            Kind::LifecycleRemoved => !self.rules.is_empty(),
            _ => self.policy.is_some(),
        }
    }
}

/// Returns what keeps the operator from the bucket of a site, in seconds before `now`.
fn delays(faults: &[Fault], site: u32, now: Timestamp) -> Vec<Span> {
    let is_delay = |fault: &&Fault| {
        let kind = fault.planned.kind;
        let is_of_bucket = kind.stops_uploads() && !kind.is_drift() || kind == Kind::OperatorKeyWrong;
        kind.stops_operator() || is_of_bucket && fault.planned.target == site
    };
    let period = |fault: &Fault| [seconds(fault.began, now), fault.ended.map_or(0.0, |at| seconds(at, now))];
    faults.iter().filter(is_delay).map(|fault| widened(period(fault), 1.0, RECOVERY)).collect()
}

/// Returns the ceilings that lifecycle rules may follow at `now`: the newest, and each that was replaced so recently that the operator
/// may not know.
pub fn possible_ceilings(faults: &[Fault], site: u32, now: Timestamp) -> Vec<u32> {
    let edits = faults.iter().filter_map(|fault| Some((fault.began, fault.ceiling?)));
    let edits: Vec<(Timestamp, u32)> = edits.filter(|(at, _)| *at <= now).collect();
    let values = std::iter::once(FIRST_CEILING).chain(edits.iter().map(|(_, ceiling)| *ceiling));
    let replaced = edits.iter().map(|(at, _)| Some(*at)).chain([None]);
    let delays = delays(faults, site, now);
    let is_recent = |at: Timestamp| undisturbed([seconds(at, now), 0.0], &delays) <= EDIT_DELAY;
    values.zip(replaced).filter(|(_, at)| at.is_none_or(is_recent)).map(|(ceiling, _)| ceiling).collect()
}

/// Returns everything that is wrong with a bucket at `now`, except a change by somebody else that the operator may not know yet.
pub fn problems(found: &Configuration, faults: &[Fault], site: u32, now: Timestamp) -> Vec<String> {
    let delays = delays(faults, site, now);
    let is_changed = |kind: Kind| {
        let of_kind = |fault: &&Fault| fault.planned.kind == kind && fault.planned.target == site;
        let is_recent = |fault: &Fault| undisturbed([seconds(fault.began, now), 0.0], &delays) <= DRIFT_DELAY;
        faults.iter().filter(of_kind).any(|fault| fault.ended.is_none() && is_recent(fault))
    };
    let lifecycle = found.lifecycle_problem(&possible_ceilings(faults, site, now));
    let lifecycle = lifecycle.filter(|_| !is_changed(Kind::LifecycleRemoved));
    let policy = found.policy_problem().filter(|_| !is_changed(Kind::BucketPolicyRemoved));
    let lock = (!found.has_lock).then(|| "no Object Lock".to_owned());
    [lifecycle, policy, lock].into_iter().flatten().collect()
}

/// Ends each change of a bucket that is reverted in `found`, which was read from `began` on.
pub fn end_drift(found: &Configuration, faults: &mut [Fault], site: u32, began: Timestamp) {
    for fault in faults.iter_mut().filter(|fault| fault.planned.kind.is_drift()) {
        let is_read_since = fault.planned.target == site && fault.began < began && fault.ended.is_none();
        if is_read_since && found.is_restored(fault.planned.kind) {
            fault.ended = Some(Timestamp::now());
        }
    }
}

/// Returns the changes of a site's bucket that the operator reverted, and that `Intact` does not report.
pub fn unreported_drift(reports: &Reports, faults: &[Fault], site: u32, end: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    let of_site = |fault: &&Fault| fault.planned.kind.is_drift() && fault.planned.target == site;
    for fault in faults.iter().filter(of_site) {
        let Some(ended) = fault.ended else { continue };
        // A change of the desired configuration hides one of the observed configuration. A killed operator reports nothing.
        let since = widened(span([fault.began, ended], fault.began), 30.0, 60.0);
        let is_hidden = faults.iter().any(|other| {
            let kind = other.planned.kind;
            let period = span([other.began, other.ended.unwrap_or(end)], fault.began);
            (kind.stops_operator() || kind == Kind::PolicyEdited)
                && is_overlapping(widened(period, 1.0, 60.0), since)
        });
        let word = if fault.planned.kind == Kind::LifecycleRemoved { "lifecycle" } else { "policy" };
        let reported = reports.periods("Site", SITES[site as usize], "Intact", end, |change| {
            change.status == "False" && change.message.contains(word)
        });
        let is_reported = reported.iter().any(|times| is_overlapping(span(*times, fault.began), since));
        if !is_hidden && !is_reported {
            problems.push(format!("{}: Intact does not report {}", SITES[site as usize], fault.planned));
        }
    }
    problems
}

/// Each check can fail.
#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::super::chronicle::Change;
    use super::super::plan::Planned;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn fault(kind: Kind, began: i64, ended: i64) -> Fault {
        let planned = Planned { at: 0, lasts: 1, kind, target: 0, choice: 0 };
        Fault::at(planned, [at(began), at(ended)])
    }

    fn edit(second: i64, ceiling: u32) -> Fault {
        let mut edit = fault(Kind::PolicyEdited, second, second);
        edit.ceiling = Some(ceiling);
        edit
    }

    fn drift(kind: Kind, began: i64) -> Fault {
        let mut drift = fault(kind, began, began);
        drift.ended = None;
        drift
    }

    fn configuration(days: i32) -> Configuration {
        let rule = |prefix: &str, days: i32| ExpiryRule {
            prefix: prefix.into(),
            days: Some(days),
            noncurrent_days: Some(1),
        };
        let statement = json!({"Effect": "Allow", "Principal": {"AWS": ["arn:x:user/recorder"]}, "Action": "s3:PutObject"});
        Configuration {
            rules: vec![rule("calls/", 3), rule("video/", days)],
            policy: Some(json!({"Statement": [statement]})),
            has_lock: true,
        }
    }

    fn count(found: &Configuration, faults: &[Fault], now: i64) -> usize {
        problems(found, faults, 0, at(now)).len()
    }

    #[test]
    fn configuration_lacks_nothing() {
        let right = || configuration(24);
        assert_eq!(count(&right(), &[], 0), 0);
        assert_eq!(count(&Configuration { rules: vec![], ..right() }, &[], 0), 1);
        assert_eq!(count(&Configuration { policy: None, ..right() }, &[], 0), 1);
        assert_eq!(count(&Configuration { policy: Some(json!({"Statement": []})), ..right() }, &[], 0), 1);
        assert_eq!(count(&Configuration { has_lock: false, ..right() }, &[], 0), 1);
        for principal in [json!("*"), json!({"AWS": "*"}), json!({"AWS": ["*"]})] {
            let mut open = right();
            open.policy.as_mut().unwrap()["Statement"][0]["Principal"] = principal;
            assert_eq!(count(&open, &[], 0), 1);
        }
        let mut late = right();
        late.rules[1].noncurrent_days = Some(2);
        assert_eq!(count(&late, &[], 0), 1, "noncurrent versions live a day longer");
        late.rules.remove(1);
        assert_eq!(count(&late, &[], 0), 1, "no rule for recordings");
    }

    #[test]
    fn lifecycle_follows_the_policy_within_a_minute() {
        let faults = [edit(100, 27), edit(500, 28)];
        for (now, days, problems) in
            [(99, 24, 0), (99, 23, 1), (150, 24, 0), (150, 23, 0), (170, 24, 1), (170, 23, 0), (570, 23, 1)]
        {
            assert_eq!(count(&configuration(days), &faults, now), problems, "{days} days at {now}");
        }
        let killed = [edit(100, 27), fault(Kind::OperatorKilled, 110, 130)];
        assert_eq!([200, 290].map(|now| count(&configuration(24), &killed, now)), [0, 1]);
    }

    #[test]
    fn operator_reverts_a_change_after_its_next_read_at_the_latest() {
        let without_rules = || Configuration { rules: vec![], ..configuration(24) };
        let mut removed = [drift(Kind::LifecycleRemoved, 100)];
        assert_eq!([400, 470].map(|now| count(&without_rules(), &removed, now)), [0, 1]);
        assert_eq!(count(&Configuration { policy: None, ..configuration(24) }, &removed, 200), 1);
        end_drift(&without_rules(), &mut removed, 0, at(200));
        end_drift(&configuration(24), &mut removed, 0, at(50));
        end_drift(&configuration(24), &mut removed, 1, at(200));
        assert_eq!(removed[0].ended, None, "read before, of another bucket, or still removed");
        end_drift(&configuration(24), &mut removed, 0, at(200));
        assert_eq!(count(&without_rules(), &removed, 200), 1, "removed again");
    }

    #[test]
    fn reverted_change_is_reported() {
        let reverted = [fault(Kind::LifecycleRemoved, 100, 300)];
        let intact = |message: &str| {
            let change = |second: i64, status: &str, message: &str| {
                let [status, reason, message] = [status, "", message].map(str::to_owned);
                Change { at: at(second), status, reason, message }
            };
            let mut reports = Reports::default();
            let changes = vec![change(0, "True", ""), change(290, "False", message)];
            reports.conditions.insert(("Site", SITES[0].to_owned(), "Intact".to_owned()), changes);
            reports
        };
        let end = at(600) + SignedDuration::from_secs(1);
        let count =
            |message: &str, faults: &[Fault]| unreported_drift(&intact(message), faults, 0, end).len();
        assert_eq!(count("lifecycle: none → calls/ expire 3d", &reverted), 0);
        assert_eq!(count("policy: none → 5 statements", &reverted), 1, "another one");
        assert_eq!(unreported_drift(&Reports::default(), &reverted, 0, end).len(), 1);
        let [lifecycle] = reverted;
        assert_eq!(count("", &[lifecycle, edit(200, 27)]), 0, "the edit restored it");
    }
}
