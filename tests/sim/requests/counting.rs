//! What a day asks for, counted.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::day::{Operator, Scenario, WAKE, midnight};
use super::desk::{Counts, Part, lock};

/// What a day came to.
pub struct Day {
    pub counts: Counts,
    /// Versions whose marks were read again sooner than the status says.
    pub early: Vec<String>,
    /// The most and the least that the status said, in seconds.
    pub stated: (i64, i64),
    /// How often the marks of a version were read, at most, without the audit.
    pub most_reads: u64,
    /// Rows of the probe's table that do not hold.
    pub not_held: Vec<String>,
}

impl Operator {
    fn verified_at(&self) -> Option<Timestamp> {
        let status = self.api.site.status.as_ref()?.retention.as_ref()?;
        Some(status.last_verification_time.as_ref()?.0)
    }

    /// Until everything is verified the next time; when it was.
    async fn run_until_verified(&mut self) -> Timestamp {
        let before = self.verified_at();
        loop {
            self.until(self.now() + SignedDuration::from_secs(10)).await;
            if let Some(at) = self.verified_at().filter(|at| Some(*at) != before) {
                return at;
            }
        }
    }

    /// What comes once a day: everything is swept and audited, and the store is probed.
    async fn dailies(&mut self) {
        let status = self.api.site.status.get_or_insert_default();
        status.audit = None;
        if let Some(retention) = &mut status.retention {
            retention.last_sweep_time = None;
        }
        if let Some(storage) = &mut self.reported {
            storage.last_probe_time = None;
        }
        self.next.site = self.now() + SignedDuration::from_mins(5);
        self.look().await;
        self.audit().await;
        self.until(self.next.site + WAKE).await;
    }

    /// What is counted begins now.
    fn begin(&mut self) {
        let mut desk = lock(&self.desk);
        desk.counts.clear();
        desk.reads = HashMap::new();
        let _ = desk.early();
        self.stated.clear();
    }

    fn end(&mut self) -> Day {
        let mut desk = lock(&self.desk);
        let rows = self.reported.iter().flat_map(|status| &status.conformance);
        let not_held = rows.filter(|row| row.result != toezicht::api::ConformanceResult::Passed);
        Day {
            counts: std::mem::take(&mut desk.counts),
            early: desk.early(),
            stated: (
                self.stated.iter().copied().max().unwrap_or_default(),
                self.stated.iter().copied().min().unwrap_or_default(),
            ),
            most_reads: desk.reads.values().copied().max().unwrap_or_default(),
            not_held: not_held.map(|row| row.name.clone()).collect(),
        }
    }
}

/// Counts a day of `situation`.
pub fn count(situation: Scenario) -> Day {
    let hours = situation.hours;
    Operator::run(situation, async move |mut operator| {
        operator.until(midnight()).await;
        operator.begin();
        operator.until(midnight() + SignedDuration::from_hours(hours)).await;
        operator.end()
    })
}

/// Counts from one verification to the fourth after it, as a part of a day, and once what comes once a day.
pub fn extrapolate_day(situation: Scenario) -> Day {
    Operator::run(situation, async move |mut operator| {
        operator.until(midnight() + SignedDuration::from_hours(1)).await;
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
        operator.dailies().await;
        let once = operator.end();
        for (key, count) in
            once.counts.into_iter().filter(|((part, ..), _)| *part != Part::Site && *part != Part::Recorders)
        {
            *part.counts.entry(key).or_default() += count;
        }
        part.early.extend(once.early);
        part
    })
}
