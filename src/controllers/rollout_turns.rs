//! Pace of a new pod template over all Sites: an operator upgrade must not replace the recorders of every Site at once.
//!
//! At most a tenth of the Sites, and at least one, replaces recorder pods at the same time. In-memory only: the leader decides,
//! and its successor begins anew with the Sites that it finds.
//!
//! A Site whose pods wait for their spools replaces nothing, so it has no turn. A Site whose replaced pod does not record loses its
//! turn after [`STOP_GRACE`], so one broken Site does not hold up the others. Two such Sites are evidence against the template.
//! They stop the fleet, unless [`PROVEN_BY`] times as many Sites record with it.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

use crate::sync::lock;

/// Sites per turn.
const SITES_PER_TURN: usize = 10;
/// Time in which a replaced pod should record again.
const STOP_GRACE: SignedDuration = SignedDuration::from_mins(10);
/// Stopped Sites that say nothing about the template.
const MAX_UNRELATED_STOPS: usize = 1;
/// Sites with the new template, for each stopped one, that prove it.
const PROVEN_BY: usize = 4;
/// Age of an observation at which its Site no longer counts: it is deleted, paused or without recorders.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(15);

/// Observed progress of a Site's rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutProgress {
    /// Every pod has the template, and records again if it was replaced.
    Current,
    /// Nothing is being replaced: the next pod waits for its spool, or a pod is missing for another reason.
    Waiting,
    /// A pod is being replaced, or does not record again yet.
    Replacing,
    /// The next pod may be replaced, if the Site has a turn.
    CanProceed,
}

/// Reason that a Site has no turn. Its message has no number, which would change with every other Site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnDenied {
    #[error(
        "the recorder pods have a new template, which waits for its turn: at most a tenth of all Sites, and at least one, \
         replaces recorder pods at the same time"
    )]
    OtherSites,
    #[error(
        "the recorder pods have a new template, which waits: the replaced pods of several other Sites do not record; cluster \
         administrators find these Sites by Ready=False RecorderNotReady, and correct or pause them, or correct the operator's image"
    )]
    TemplateInDoubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Current,
    Waiting,
    /// It has a turn, and replaces the same pod since this time.
    Replacing(Timestamp),
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    phase: Phase,
    at: Timestamp,
}

/// Turns of the Sites, by UID.
#[derive(Debug, Default)]
pub struct RolloutTurns {
    sites: Mutex<HashMap<String, Observation>>,
}

impl RolloutTurns {
    /// Returns whether the Site has a turn, or had one when its last pod was replaced.
    pub fn has_turn(&self, site_uid: &str) -> bool {
        lock(&self.sites).get(site_uid).is_some_and(|site| matches!(site.phase, Phase::Replacing(_)))
    }

    /// Notes the progress of a Site. An error: it may not replace its next pod now.
    pub fn observe(
        &self,
        site_uid: &str,
        progress: RolloutProgress,
        now: Timestamp,
    ) -> Result<(), TurnDenied> {
        let mut sites = lock(&self.sites);
        sites.retain(|_, site| now.duration_since(site.at).abs() < MAX_AGE);
        let before = sites.get(site_uid).map(|site| site.phase);
        let phase = match progress {
            RolloutProgress::Current => Ok(Phase::Current),
            RolloutProgress::Waiting => Ok(Phase::Waiting),
            // Also after a change of the leader, in the middle of a rollout.
            RolloutProgress::Replacing => match before {
                Some(Phase::Replacing(since)) => Ok(Phase::Replacing(since)),
                _ => Ok(Phase::Replacing(now)),
            },
            RolloutProgress::CanProceed if matches!(before, Some(Phase::Replacing(_))) => {
                Ok(Phase::Replacing(now))
            }
            RolloutProgress::CanProceed => {
                // It counts as a Site even before its first turn.
                let new = usize::from(before.is_none());
                decide(sites.values().map(|site| site.phase), new, now).map(|()| Phase::Replacing(now))
            }
        };
        let observed = phase.unwrap_or(Phase::Waiting);
        sites.insert(site_uid.to_owned(), Observation { phase: observed, at: now });
        phase.map(drop)
    }
}

/// Decides whether another Site may begin. `new`: Sites beside `phases`.
fn decide(phases: impl Iterator<Item = Phase>, new: usize, now: Timestamp) -> Result<(), TurnDenied> {
    let (mut sites, mut replacing, mut stopped, mut current) = (new, 0_usize, 0_usize, 0_usize);
    for phase in phases {
        sites += 1;
        match phase {
            Phase::Current => current += 1,
            Phase::Waiting => {}
            Phase::Replacing(since) if now.duration_since(since) >= STOP_GRACE => stopped += 1,
            Phase::Replacing(_) => replacing += 1,
        }
    }
    if stopped > MAX_UNRELATED_STOPS && current < stopped.saturating_mul(PROVEN_BY) {
        return Err(TurnDenied::TemplateInDoubt);
    }
    if replacing >= (sites / SITES_PER_TURN).max(1) {
        return Err(TurnDenied::OtherSites);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RolloutProgress::{CanProceed, Current, Replacing, Waiting};
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + minute * 60).unwrap()
    }

    /// Returns turns that know this many Sites, all of which have a new template.
    fn outdated(sites: usize) -> RolloutTurns {
        let turns = RolloutTurns::default();
        for site in 0..sites {
            turns.observe(&site.to_string(), Waiting, at(0)).unwrap();
        }
        turns
    }

    /// Lets every Site ask once, and returns those with a turn.
    fn ask(turns: &RolloutTurns, sites: usize, now: Timestamp) -> Vec<usize> {
        (0..sites).filter(|site| turns.observe(&site.to_string(), CanProceed, now).is_ok()).collect()
    }

    #[test]
    fn a_tenth_of_the_sites_replaces_pods_at_the_same_time() {
        for (sites, expected) in [(1, 1), (9, 1), (19, 1), (20, 2), (100, 10)] {
            assert_eq!(ask(&outdated(sites), sites, at(1)).len(), expected, "of {sites}");
        }
    }

    #[test]
    fn turn_passes_on_when_a_site_is_done() {
        let turns = outdated(3);
        assert_eq!(ask(&turns, 3, at(1)), [0]);
        turns.observe("0", Replacing, at(2)).unwrap();
        assert_eq!(turns.observe("1", CanProceed, at(2)), Err(TurnDenied::OtherSites));
        // Its other pods do not wait for a turn.
        turns.observe("0", CanProceed, at(2)).unwrap();
        turns.observe("0", Current, at(3)).unwrap();
        assert!(!turns.has_turn("0"));
        turns.observe("1", CanProceed, at(3)).unwrap();
        assert!(turns.has_turn("1"));
    }

    #[test]
    fn site_that_waits_for_its_spool_has_no_turn() {
        let turns = outdated(3);
        turns.observe("0", CanProceed, at(1)).unwrap();
        turns.observe("0", Waiting, at(2)).unwrap();
        turns.observe("1", CanProceed, at(2)).unwrap();
        assert_eq!(turns.observe("0", CanProceed, at(3)), Err(TurnDenied::OtherSites));
    }

    #[test]
    fn one_site_that_does_not_record_delays_the_others_by_ten_minutes() {
        let turns = outdated(5);
        turns.observe("0", CanProceed, at(1)).unwrap();
        for minute in 1..11 {
            turns.observe("0", Replacing, at(minute)).unwrap();
            assert_eq!(turns.observe("1", CanProceed, at(minute)), Err(TurnDenied::OtherSites));
        }
        turns.observe("0", Replacing, at(11)).unwrap();
        turns.observe("1", CanProceed, at(11)).unwrap();
        turns.observe("1", Current, at(12)).unwrap();
        turns.observe("2", CanProceed, at(12)).unwrap();
    }

    /// Brings a template that records nowhere, and returns how many Sites got it within a day.
    fn spread_of_a_broken_template(sites: usize) -> usize {
        let turns = outdated(sites);
        let mut reached = std::collections::BTreeSet::new();
        for minute in 1..24 * 60 {
            for site in 0..sites {
                let progress = if reached.contains(&site) { Replacing } else { CanProceed };
                if turns.observe(&site.to_string(), progress, at(minute)).is_ok() {
                    reached.insert(site);
                }
            }
        }
        reached.len()
    }

    #[test]
    fn template_that_does_not_record_stops_at_the_first_sites() {
        for (sites, expected) in [(5, 2), (19, 2), (40, 4), (100, 10)] {
            assert_eq!(spread_of_a_broken_template(sites), expected, "of {sites}");
        }
    }

    #[test]
    fn few_stopped_sites_do_not_stop_a_template_that_records_elsewhere() {
        let turns = outdated(20);
        for site in 0..10 {
            turns.observe(&site.to_string(), CanProceed, at(1)).ok();
            let progress = if site < 2 { Replacing } else { Current };
            turns.observe(&site.to_string(), progress, at(1)).unwrap();
        }
        for minute in [8, 15] {
            for site in 0..10 {
                let progress = if site < 2 { Replacing } else { Current };
                turns.observe(&site.to_string(), progress, at(minute)).unwrap();
            }
        }
        turns.observe("10", CanProceed, at(15)).unwrap();
        // A third one is too many for seven.
        turns.observe("2", Replacing, at(15)).unwrap();
        turns.observe("10", Current, at(16)).unwrap();
        turns.observe("2", Replacing, at(25)).unwrap();
        for site in [0, 1] {
            turns.observe(&site.to_string(), Replacing, at(25)).unwrap();
        }
        assert_eq!(turns.observe("11", CanProceed, at(25)), Err(TurnDenied::TemplateInDoubt));
    }

    #[test]
    fn site_that_is_paused_or_deleted_holds_no_turn() {
        let turns = outdated(2);
        turns.observe("0", CanProceed, at(1)).unwrap();
        turns.observe("1", Waiting, at(15)).unwrap();
        turns.observe("1", CanProceed, at(16)).unwrap();
    }

    proptest! {
        #[test]
        fn turns_never_exceed_a_tenth(
            steps in proptest::collection::vec((0_usize..60, 0_usize..4), 0..600),
        ) {
            let turns = outdated(60);
            for (number, (site, progress)) in steps.into_iter().enumerate() {
                let uid = site.to_string();
                let progress = [Current, Waiting, Replacing, CanProceed][progress];
                // A pod is replaced only in a turn.
                if progress == Replacing && !turns.has_turn(&uid) {
                    continue;
                }
                let now = at(0) + SignedDuration::from_millis(i64::try_from(number).unwrap());
                let _ = turns.observe(&uid, progress, now);
                let held = (0..60).filter(|site: &usize| turns.has_turn(&site.to_string())).count();
                prop_assert!(held <= 6, "{held}");
            }
        }
    }
}
