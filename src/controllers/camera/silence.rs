//! Silence of recorders. A camera that recorded keeps its `Recording` for a short time while its recorder does not answer: pods
//! restart within seconds, and a new leader finds recorders that it has not configured yet. Its Site reports the recorder at once.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;

use crate::api::Camera;
use crate::controllers::kubernetes::prune::prune;
use crate::sync::lock;

/// Silence that is no news. Kubernetes waits longer before it calls a node unreachable.
const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Longest silence that is no news, also if the Site is not reconciled.
const MAX_GRACE: SignedDuration = SignedDuration::from_mins(2);

/// Silence of one camera's recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Silence {
    began: Timestamp,
    /// First observation of it after this process reconciled the Site.
    counts_from: Option<Timestamp>,
}

impl Silence {
    /// Returns this silence, or that which begins now, as observed at `now`. `is_site_reconciled`: since this process leads.
    fn observe(before: Option<Self>, is_site_reconciled: bool, now: Timestamp) -> Self {
        // A clock that was ahead would extend the silence by its lead.
        let before = before.filter(|before| before.began <= now);
        let began = before.map_or(now, |before| before.began);
        let counts_from = before.and_then(|before| before.counts_from).filter(|from| *from <= now);
        Self { began, counts_from: counts_from.or(is_site_reconciled.then_some(now)) }
    }

    /// Returns the time from which it is news.
    fn is_news_from(self) -> Timestamp {
        let last = self.began.checked_add(MAX_GRACE).unwrap_or(self.began);
        self.counts_from.map_or(last, |from| from.checked_add(GRACE).unwrap_or(from).min(last))
    }
}

/// Cameras whose recorders are silent, by UID.
#[derive(Default)]
pub struct Silences(Mutex<HashMap<String, Silence>>);

impl Silences {
    /// Notes that the recorder of `camera` does not answer. Returns the time from which that is news.
    pub fn note(&self, camera: &Camera, is_site_reconciled: bool, now: Timestamp) -> Timestamp {
        let mut silences = lock(&self.0);
        let uid = camera.uid().unwrap_or_default();
        let silence = Silence::observe(silences.get(&uid).copied(), is_site_reconciled, now);
        silences.insert(uid, silence);
        silence.is_news_from()
    }

    /// Notes that the recorder of `camera` answers.
    pub fn end(&self, camera: &Camera) {
        if let Some(uid) = camera.uid() {
            lock(&self.0).remove(&uid);
        }
    }

    /// Drops cameras that are gone.
    pub fn prune(&self, cameras: &Store<DeserializeGuard<Camera>>) {
        prune(&mut lock(&self.0), cameras, |camera| camera.uid().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn silence_counts_from_the_first_reconcile_of_the_site() {
        let (silences, mut camera) = (Silences::default(), testing::camera("receptie"));
        camera.metadata.uid = Some("u".into());
        assert_eq!(silences.note(&camera, false, at(0)), at(120), "the operator has just started");
        assert_eq!(silences.note(&camera, true, at(40)), at(70));
        assert_eq!(silences.note(&camera, true, at(65)), at(70));
        silences.end(&camera);
        assert_eq!(silences.note(&camera, true, at(100)), at(130), "another silence");
    }

    proptest::proptest! {
        /// However often it is observed, and whatever the clock does.
        #[test]
        fn silence_is_news_within_its_bound(
            observations in proptest::collection::vec((0_i64..300, proptest::bool::ANY), 1..20)
        ) {
            let mut silence = None;
            for (second, is_reconciled) in observations {
                let next = Silence::observe(silence, is_reconciled, at(second));
                proptest::prop_assert!(next.began <= at(second));
                proptest::prop_assert!(next.is_news_from() <= next.began + MAX_GRACE);
                proptest::prop_assert!(!is_reconciled || next.is_news_from() <= at(second) + GRACE);
                silence = Some(next);
            }
        }
    }
}
