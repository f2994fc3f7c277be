//! Counts of a day's requests.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::counting_store::{Counts, Part, lock};
use super::day::{Operator, Scenario, WAKE, midnight};

/// Counts of a day.
pub struct Day {
    pub counts: Counts,
    /// Versions whose legal hold was read again before the next verification was due.
    pub early_reads: Vec<String>,
    /// Longest and shortest verification interval in the status, in seconds.
    pub stated: (i64, i64),
    /// Maximum number of reads of a version's legal hold, without the audit.
    pub most_reads: u64,
    /// Failed checks of the probe.
    pub failed_checks: Vec<String>,
}

impl Operator {
    fn verified_at(&self) -> Option<Timestamp> {
        let status = self.api.site.status.as_ref()?.retention.as_ref()?;
        Some(status.last_verification_time.as_ref()?.0)
    }

    /// Runs until the next verification of everything, and returns its time.
    async fn run_until_verified(&mut self) -> Timestamp {
        let before = self.verified_at();
        loop {
            self.run_until(self.now() + SignedDuration::from_secs(10)).await;
            if let Some(at) = self.verified_at().filter(|at| Some(*at) != before) {
                return at;
            }
        }
    }

    /// Runs the daily work: a full sweep, a full audit and the probe.
    async fn run_daily_work(&mut self) {
        let status = self.api.site.status.get_or_insert_default();
        status.audit = None;
        if let Some(retention) = &mut status.retention {
            retention.last_sweep_time = None;
        }
        if let Some(storage) = &mut self.reported {
            storage.last_probe_time = None;
        }
        self.next.site = self.now() + SignedDuration::from_mins(5);
        self.reconcile().await;
        self.audit().await;
        self.run_until(self.next.site + WAKE).await;
    }

    /// Starts counting.
    fn begin(&mut self) {
        let mut counting_store = lock(&self.counting_store);
        counting_store.counts.clear();
        counting_store.reads = HashMap::new();
        let _ = counting_store.early_reads();
        self.stated.clear();
    }

    fn end(&mut self) -> Day {
        let mut counting_store = lock(&self.counting_store);
        let rows = self.reported.iter().flat_map(|status| &status.conformance);
        let failed_checks = rows.filter(|row| row.result != toezicht::api::ConformanceResult::Passed);
        Day {
            counts: std::mem::take(&mut counting_store.counts),
            early_reads: counting_store.early_reads(),
            stated: (
                self.stated.iter().copied().max().unwrap_or_default(),
                self.stated.iter().copied().min().unwrap_or_default(),
            ),
            most_reads: counting_store.reads.values().copied().max().unwrap_or_default(),
            failed_checks: failed_checks.map(|row| row.name.clone()).collect(),
        }
    }
}

/// Counts the requests of a scenario.
pub fn count(scenario: Scenario) -> Day {
    let hours = scenario.hours;
    Operator::run(scenario, async move |mut operator| {
        operator.run_until(midnight()).await;
        operator.begin();
        operator.run_until(midnight() + SignedDuration::from_hours(hours)).await;
        operator.end()
    })
}

/// Extrapolates a day from the requests between one verification and the fourth after it, and adds the daily work
/// once.
pub fn extrapolate_day(scenario: Scenario) -> Day {
    Operator::run(scenario, async move |mut operator| {
        operator.run_until(midnight() + SignedDuration::from_hours(1)).await;
        let from = operator.run_until_verified().await;
        operator.begin();
        let mut to = from;
        for _ in 0..4 {
            to = operator.run_until_verified().await;
        }
        let mut part = operator.end();
        let (day, counted) = (86_400, u64::try_from(to.duration_since(from).as_secs()).unwrap());
        for count in part.counts.values_mut() {
            *count = (*count * day).div_ceil(counted);
        }
        operator.begin();
        operator.run_daily_work().await;
        let once = operator.end();
        for (key, count) in
            once.counts.into_iter().filter(|((part, ..), _)| *part != Part::Site && *part != Part::Recorders)
        {
            *part.counts.entry(key).or_default() += count;
        }
        part.early_reads.extend(once.early_reads);
        part
    })
}
