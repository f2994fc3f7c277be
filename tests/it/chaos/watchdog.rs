//! Checks during the run: holds and configurations of the buckets, against what the objects claim.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;

use super::bucket_watch::{BucketWatch, DeclaredHold};
use super::chronicle::Chronicle;
use super::configuration;
use super::inject::Fault;
use super::plan::Kind;
use super::world::SITES;
use crate::support::tools::try_run;

/// Pause between two readings of the buckets.
const PAUSE: Duration = Duration::from_secs(15);
/// Longest time from the upload of a segment under an open hold to its legal hold: a minute by docs/reference/conditions.md, and
/// two readings.
const HOLD_DELAY: SignedDuration = SignedDuration::from_secs(60 + 2 * 15);
/// Time after a fault in which holds may be late: the operator waits with growing pauses.
const RECOVERY: SignedDuration = SignedDuration::from_secs(90);
/// Longest time from a change to its note among the faults.
const NOTED: Duration = Duration::from_secs(5);
/// Copies of the evidence: the first problems say most.
const MAX_COPIES: usize = 5;

/// What the parts of a run share.
pub struct Shared {
    pub chronicle: Chronicle,
    pub namespace: String,
    pub folder: PathBuf,
    pub holds: Mutex<Vec<DeclaredHold>>,
    pub faults: Mutex<Vec<Fault>>,
    problems: Mutex<Vec<String>>,
}

impl Shared {
    pub fn new(chronicle: Chronicle, namespace: &str, folder: &Path) -> Arc<Self> {
        Arc::new(Self {
            chronicle,
            namespace: namespace.to_owned(),
            folder: folder.to_owned(),
            holds: Mutex::default(),
            faults: Mutex::default(),
            problems: Mutex::default(),
        })
    }

    /// Notes a problem once, and copies the evidence.
    pub async fn report(&self, problem: String) {
        let number = {
            let mut problems = self.problems.lock().unwrap();
            if problems.contains(&problem) {
                return;
            }
            problems.push(problem.clone());
            problems.len()
        };
        println!("{} PROBLEM {number}: {problem}", Timestamp::now());
        if number <= MAX_COPIES {
            self.copy_objects(&format!("problem-{number}")).await;
        }
    }

    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap().clone()
    }

    pub fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap()
    }

    /// Writes the namespace's objects and events to the folder. Secrets are left out.
    pub async fn copy_objects(&self, name: &str) {
        let kinds =
            "sites,cameras,incidentholds,recordingpolicies,statefulsets,pods,persistentvolumeclaims,events";
        let arguments = ["-n", &self.namespace, "get", kinds, "-o", "yaml", "--request-timeout=20s"];
        let (_, objects, error) = try_run("kubectl", &arguments, None).await;
        let _ = std::fs::write(self.folder.join(format!("{name}.yaml")), format!("{objects}\n{error}"));
    }

    /// Returns whether a fault that `is_of` selects was there in the last `period`, or is.
    fn had_fault(
        &self,
        site: u32,
        now: Timestamp,
        period: SignedDuration,
        is_of: impl Fn(Kind) -> bool,
    ) -> bool {
        self.faults().iter().any(|fault| {
            let kind = fault.planned.kind;
            let is_here = kind.stops_operator() || kind == Kind::PolicyEdited || fault.planned.target == site;
            is_here && is_of(kind) && fault.ended.is_none_or(|ended| now.duration_since(ended) < period)
        })
    }
}

/// Reads the buckets until it is stopped.
pub struct Watchdog {
    task: JoinHandle<()>,
    pub buckets: Arc<tokio::sync::Mutex<Vec<BucketWatch>>>,
}

impl Watchdog {
    pub fn start(shared: Arc<Shared>, buckets: Vec<BucketWatch>) -> Self {
        let buckets = Arc::new(tokio::sync::Mutex::new(buckets));
        let all = Arc::clone(&buckets);
        let task = tokio::spawn(async move {
            loop {
                for bucket in all.lock().await.iter_mut() {
                    read(&shared, bucket).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { task, buckets }
    }

    /// Stops after the reading that is under way.
    pub async fn stop(self) -> Vec<BucketWatch> {
        let mut buckets = self.buckets.lock().await;
        self.task.abort();
        std::mem::take(&mut *buckets)
    }
}

/// Reads a bucket, and compares it with the claims about it.
pub async fn read(shared: &Shared, bucket: &mut BucketWatch) {
    let before = Timestamp::now();
    let claims = claims(shared, bucket.site);
    let holds = shared.holds.lock().unwrap().clone();
    bucket.poll(&holds).await;
    for problem in hold_problems(shared, bucket, &holds, &claims, before) {
        shared.report(problem).await;
    }
    let name = SITES[bucket.site as usize];
    check_configuration(shared, bucket, claims.storage_enforced).await;
    let alarms = {
        let reports = shared.chronicle.reports();
        let is_drift = |fault: &Fault| fault.planned.kind.is_drift() && fault.planned.target == bucket.site;
        let is_changed = shared.faults().iter().any(is_drift);
        let bad = [("Compliant", "False"), ("Intact", "False")].into_iter();
        let bad = bad.filter(|(type_, _)| !(is_changed && *type_ == "Intact"));
        let of_site = bad.filter_map(|(type_, status)| {
            let latest = reports.latest("Site", name, type_)?;
            (latest.status == status).then(|| format!("{name}: {type_}={status}: {}", latest.message))
        });
        of_site.collect::<Vec<_>>()
    };
    for alarm in alarms {
        shared.report(alarm).await;
    }
    // A probe may run while the policy is gone.
    let may_stall = |kind: Kind| {
        matches!(kind, Kind::RecorderKeyWrong | Kind::OperatorKeyWrong | Kind::BucketPolicyRemoved)
    };
    if claims.is_stalled && !shared.had_fault(bucket.site, before, RECOVERY, may_stall) {
        shared.report(format!("{name}: Stalled=True, and no fault requires a person")).await;
    }
}

/// Compares the configuration of a bucket with the policy, while the Site claims that it is enforced.
async fn check_configuration(shared: &Shared, bucket: &BucketWatch, is_enforced: bool) {
    let site = bucket.site;
    let read = async || {
        let began = Timestamp::now();
        let found = bucket.configuration().await;
        let mut faults = shared.faults();
        configuration::end_drift(&found, &mut faults, site, began);
        configuration::problems(&found, &faults, site, began)
    };
    let mut problems = read().await;
    if is_enforced && !problems.is_empty() {
        // The schedule notes a change once it is made.
        tokio::time::sleep(NOTED).await;
        problems = read().await;
    }
    for problem in problems.iter().filter(|_| is_enforced) {
        shared.report(format!("{}: StorageEnforced=True, and {problem}", SITES[site as usize])).await;
    }
}

/// What the objects claim about a bucket before it is read.
struct Claims {
    storage_enforced: bool,
    is_stalled: bool,
    /// Names of the holds that are `Placed`, with the time since when.
    placed: Vec<(String, Timestamp)>,
}

fn claims(shared: &Shared, site: u32) -> Claims {
    let reports = shared.chronicle.reports();
    let is_true = |type_: &str| {
        reports.latest("Site", SITES[site as usize], type_).is_some_and(|change| change.status == "True")
    };
    let holds = shared.holds.lock().unwrap();
    let of_site = holds.iter().filter(|hold| hold.site == site);
    let placed = of_site.filter_map(|hold| {
        let now = Timestamp::now();
        let periods = reports.periods("IncidentHold", &hold.name, "Placed", now, |c| c.status == "True");
        let [since, until] = *periods.last()?;
        (until == now).then(|| (hold.name.clone(), since))
    });
    Claims {
        storage_enforced: is_true("StorageEnforced"),
        is_stalled: is_true("Stalled"),
        placed: placed.collect(),
    }
}

fn hold_problems(
    shared: &Shared,
    bucket: &BucketWatch,
    holds: &[DeclaredHold],
    claims: &Claims,
    now: Timestamp,
) -> Vec<String> {
    let mut problems = Vec::new();
    let first_placed = |name: &str| {
        let reports = shared.chronicle.reports();
        let periods = reports.periods("IncidentHold", name, "Placed", now, |c| c.status == "True");
        periods.first().map(|period| period[0])
    };
    let is_late = |kind: Kind| kind.stops_operator() || kind.is_of_store() || kind == Kind::OperatorKeyWrong;
    let may_be_late = shared.had_fault(bucket.site, now, RECOVERY, is_late);
    for hold in holds.iter().filter(|hold| hold.site == bucket.site) {
        let placed_since = claims.placed.iter().find(|(name, _)| *name == hold.name).map(|(_, since)| *since);
        let first = first_placed(&hold.name);
        for ((key, id), version) in bucket.versions.iter().filter(|(_, version)| hold.covers(&version.key)) {
            if version.is_gone {
                problems.push(format!("{}: {key} {id} is gone", hold.name));
                continue;
            }
            // `Placed` requires that each recorder knows the hold.
            let is_after = first.is_some_and(|first| version.seen > first + SignedDuration::from_secs(20));
            if is_after && version.first_tag.as_deref() == Some("video") {
                problems.push(format!("{}: {key} {id} was put with the tag `video`", hold.name));
            }
            let is_old = now.duration_since(version.seen) > HOLD_DELAY;
            let is_claimed = placed_since.is_some_and(|since| now.duration_since(since) > HOLD_DELAY);
            if version.held.is_none() && is_old && is_claimed && !may_be_late {
                problems.push(format!("{}: Placed=True, and {key} {id} has no legal hold", hold.name));
            }
        }
    }
    problems
}
