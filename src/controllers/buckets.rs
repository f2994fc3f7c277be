//! The buckets that the Site controller has read back and found as they must be: what the other controllers may look
//! into, and as whom. Nothing in here matters beyond this process: it is found anew by the next look at each Site.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::api::{Ceilings, Site};
use crate::contract::{Covering, Gap, StorageTarget};
use crate::storage::hold::memory::Memory;
use crate::storage::hold::room::Budget;
use crate::storage::under_way::UnderWay;

/// Looks that may be waiting to be told; a Site that is not told is looked at by itself soon.
const WAITING: usize = 1024;

/// A bucket that may be looked into.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenBucket {
    /// The bucket as the operator.
    pub operator: StorageTarget,
    /// The ceilings that are in force (article 6).
    pub ceilings: Ceilings,
    /// How old a recording must be to be readable (article 4.2); `None`: the site has live viewing.
    pub embargo: Option<SignedDuration>,
    /// What its recorders follow.
    pub recorders: Follow,
    /// Its cameras, and when each was declared.
    pub cameras: BTreeMap<String, Timestamp>,
    /// Gaps that recorders told of, by camera.
    pub gaps: BTreeMap<String, Vec<Gap>>,
}

/// Which holds the recorders of a site follow.
#[derive(Clone, Debug, PartialEq)]
pub enum Follow {
    /// There are none: nothing more comes.
    NoRecorders,
    /// All of them follow these, with no upload under way that began before.
    Holds(Coverings),
    /// It is not known of all.
    Unknown,
}

impl Follow {
    /// Whether every recorder follows the holds that are `open`, and no other.
    pub fn is_of(&self, open: &Coverings) -> bool {
        match self {
            Self::NoRecorders => true,
            Self::Holds(followed) => followed == open,
            Self::Unknown => false,
        }
    }
}

/// What is held, by the UID of the hold.
pub type Coverings = BTreeMap<String, Covering>;
/// A Site by its namespace and name.
pub type SiteName = (String, String);

/// What is known of one bucket.
#[derive(Clone, Debug, Default)]
struct Known {
    open: Option<OpenBucket>,
    /// The Site controller has looked, and found nothing that may be looked into.
    is_shut: bool,
    held: Option<Coverings>,
    memory: Option<Arc<Memory>>,
}

/// The buckets, by the UID of their Site. Copies are one and the same.
#[derive(Clone, Debug)]
pub struct Buckets {
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// Of all buckets: it outlives a Site that is made anew.
    under_way: UnderWay,
    budget: Budget,
    opened: broadcast::Sender<SiteName>,
    held: broadcast::Sender<SiteName>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self::within(Budget::of_process(u64::MAX))
    }
}

impl Buckets {
    /// Buckets of which no more is remembered than `budget` has room for.
    pub fn within(budget: Budget) -> Self {
        Self {
            known: Arc::default(),
            under_way: UnderWay::default(),
            budget,
            opened: broadcast::Sender::new(WAITING),
            held: broadcast::Sender::new(WAITING),
        }
    }

    /// What may be looked into for `site`; `None`: nothing, or nobody has looked yet.
    pub fn open(&self, site: &Site) -> Option<OpenBucket> {
        self.known(site).open
    }

    /// Whether it was looked at, and may not be looked into. An operator that was just started does not know yet.
    pub fn is_shut(&self, site: &Site) -> bool {
        self.known(site).is_shut
    }

    /// What is remembered of the held versions of `site`. A Site whose bucket was never opened has a memory of its own.
    pub fn memory(&self, site: &Site) -> Arc<Memory> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = || Arc::new(Memory::of_process(self.under_way.clone(), &self.budget));
        match site.uid() {
            Some(uid) => known.entry(uid).or_default().memory.get_or_insert_with(memory).clone(),
            None => memory(),
        }
    }

    /// How long a request of this process that changes a mark, and got no answer, may still land; zero: there is none.
    pub fn may_land(&self) -> Duration {
        self.under_way.left()
    }

    /// What is held at `site`, by its ledger; `None`: nobody has looked yet.
    pub fn held(&self, site: &Site) -> Option<Coverings> {
        self.known(site).held
    }

    fn known(&self, site: &Site) -> Known {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        site.uid().and_then(|uid| known.get(&uid).cloned()).unwrap_or_default()
    }

    /// Opens the bucket of `site`, or shuts it. The Site controller's.
    pub fn set_open(&self, site: &Site, bucket: Option<OpenBucket>) {
        let change = |known: &mut Known| {
            let was_shut = std::mem::replace(&mut known.is_shut, bucket.is_none());
            let was_open = std::mem::replace(&mut known.open, bucket.clone());
            was_open != bucket || was_shut != bucket.is_none()
        };
        self.change(site, &self.opened, change);
    }

    /// Says what is held at `site`. The retention controller's. What recorders were found to follow counts no more once
    /// it is something else, be it what was held before: they may follow by now what was held in between.
    pub fn set_held(&self, site: &Site, held: Coverings) {
        let change = |known: &mut Known| {
            let is_changed = known.held.replace(held.clone()) != Some(held);
            if let Some(open) = known.open.as_mut().filter(|_| is_changed) {
                open.recorders = Follow::Unknown;
            }
            is_changed
        };
        self.change(site, &self.held, change);
    }

    fn change(
        &self,
        site: &Site,
        whom: &broadcast::Sender<SiteName>,
        change: impl FnOnce(&mut Known) -> bool,
    ) {
        let Some(uid) = site.uid() else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_changed = change(known.entry(uid).or_default());
        drop(known);
        if is_changed {
            // Nobody may listen: then nobody waits.
            let _ = whom.send((site.namespace().unwrap_or_default(), site.name_any()));
        }
    }

    /// Forgets a Site that is gone.
    pub fn forget(&self, site: &Site) {
        if let Some(uid) = site.uid() {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        }
    }

    /// The Sites whose buckets are opened, or otherwise known, as it happens.
    pub fn opened(&self) -> impl Stream<Item = SiteName> + Send + use<> {
        told(self.opened.subscribe())
    }

    /// The Sites of which something else is held, as it happens.
    pub fn newly_held(&self) -> impl Stream<Item = SiteName> + Send + use<> {
        told(self.held.subscribe())
    }
}

/// Those of `scope`, or of all namespaces, as controllers take them.
pub fn of_scope<S: Stream<Item = SiteName> + Send>(
    sites: S,
    scope: Option<&str>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<Site>>> + Send + use<S> {
    let scope = scope.map(str::to_owned);
    sites.filter_map(move |(namespace, name)| {
        let is_ours = scope.as_ref().is_none_or(|scope| *scope == namespace);
        std::future::ready(is_ours.then(|| ObjectRef::new(&name).within(&namespace)))
    })
}

fn told(changed: broadcast::Receiver<SiteName>) -> impl Stream<Item = SiteName> + Send {
    stream::unfold(changed, |mut changed| async move {
        match changed.recv().await {
            Ok(site) => Some((Some(site), changed)),
            // Those that were missed are looked at by themselves.
            Err(RecvError::Lagged(_)) => Some((None, changed)),
            Err(RecvError::Closed) => None,
        }
    })
    .filter_map(std::future::ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Days;
    use crate::contract::{Credentials, Window};

    fn site() -> Site {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "u"},
            "spec": {
                "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"},
                "managers": [],
                "storage": {
                    "bucket": "bucket", "region": "r",
                    "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                    "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
                },
            },
        }))
        .unwrap()
    }

    fn open(recorders: Follow) -> OpenBucket {
        OpenBucket {
            operator: StorageTarget {
                endpoint: None,
                region: "r".into(),
                bucket: "bucket".into(),
                path_style: false,
                ca_pem: None,
                credentials: Credentials::keys("k", "s"),
                proxy: None,
            },
            ceilings: Ceilings { video: Days(28), calls: Days(7) },
            embargo: None,
            recorders,
            cameras: BTreeMap::new(),
            gaps: BTreeMap::new(),
        }
    }

    fn held(uids: &[&str]) -> Coverings {
        let covering = Covering {
            cameras: std::collections::BTreeSet::new(),
            calls: false,
            window: Window::new(jiff::Timestamp::UNIX_EPOCH, None),
        };
        uids.iter().map(|uid| ((*uid).to_owned(), covering.clone())).collect()
    }

    /// A hold that is resolved within moments leaves the holds as they were: but recorders may follow it by now.
    #[test]
    fn what_recorders_followed_counts_no_more_once_something_else_is_held() {
        let (buckets, site) = (Buckets::default(), site());
        buckets.set_held(&site, held(&["1"]));
        buckets.set_open(&site, Some(open(Follow::Holds(held(&["1"])))));
        let follow = || buckets.open(&site).unwrap().recorders;
        buckets.set_held(&site, held(&["1"]));
        assert!(follow().is_of(&held(&["1"])), "the same again changes nothing");
        buckets.set_held(&site, held(&["1", "2"]));
        assert_eq!(follow(), Follow::Unknown);
        buckets.set_held(&site, held(&["1"]));
        assert!(!follow().is_of(&held(&["1"])));
    }
}
