//! Recorders on unreachable nodes that do not answer the operator. In memory only: a successor begins again, and moves cameras a
//! minute later than this process would have.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

use crate::sync::lock;

/// Longest pause between two queries of the same silence. A Site that was paused has nothing to say about the time in between.
const MAX_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Silence of one recorder pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unanswered {
    first: Timestamp,
    last: Timestamp,
}

/// Queries without an answer, by the UIDs of the Site and of the pod.
#[derive(Default)]
pub struct UnansweredQueries(Mutex<HashMap<String, BTreeMap<String, Unanswered>>>);

impl UnansweredQueries {
    /// Notes the pods of a Site that do not answer at `now`. All others of it answer, or are not queried. Returns the time of the
    /// first query that each did not answer.
    pub fn note(&self, site_uid: &str, silent: &[String], now: Timestamp) -> BTreeMap<String, Timestamp> {
        let mut sites = lock(&self.0);
        let before = sites.remove(site_uid).unwrap_or_default();
        // A time after `now` is from a clock that was ahead, and would delay the loss.
        let is_same = |known: &&Unanswered| known.last <= now && now.duration_since(known.last) <= MAX_PAUSE;
        let observe = |uid: &String| {
            let first = before.get(uid).filter(is_same).map_or(now, |known| known.first);
            (uid.clone(), Unanswered { first, last: now })
        };
        let after: BTreeMap<String, Unanswered> = silent.iter().map(observe).collect();
        let firsts = after.iter().map(|(uid, unanswered)| (uid.clone(), unanswered.first)).collect();
        if !after.is_empty() {
            sites.insert(site_uid.to_owned(), after);
        }
        firsts
    }

    /// Forgets a Site that is deleted.
    pub fn forget(&self, site_uid: &str) {
        lock(&self.0).remove(site_uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn silence_begins_with_the_first_of_successive_queries_without_an_answer() {
        let queries = UnansweredQueries::default();
        let [one, other] = ["one", "other"].map(str::to_owned);
        let first = |silent: &[String], second| queries.note("site", silent, at(second)).get("one").copied();
        assert_eq!(first(std::slice::from_ref(&one), 0), Some(at(0)));
        assert_eq!(first(&[one.clone(), other.clone()], 60), Some(at(0)));
        assert_eq!(queries.note("another site", std::slice::from_ref(&one), at(61))["one"], at(61));
        assert_eq!(first(std::slice::from_ref(&other), 70), None, "it answered");
        assert_eq!(first(std::slice::from_ref(&one), 80), Some(at(80)));
        assert_eq!(first(std::slice::from_ref(&one), 381), Some(at(381)), "the Site was paused");
        assert_eq!(first(std::slice::from_ref(&one), 200), Some(at(200)), "the clock was set back");
        queries.forget("site");
        assert_eq!(first(std::slice::from_ref(&one), 210), Some(at(210)));
    }
}
