//! The buckets that the Site controller has read back and found as they must be: what the other controllers may look
//! into, and as whom. Nothing in here matters beyond this process: it is found anew by the next look at each Site.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::api::Site;
use crate::rules::retention::RetentionTerms;
use crate::storage::recordings::hold::memory_budget::MemoryBudget;
use crate::storage::recordings::hold::protection_cache::ProtectionCache;
use crate::storage::s3::in_doubt_requests::InDoubtRequests;
use crate::storage::{BucketConnection, TargetError};
use crate::wire::{Gap, HoldScopeConfig, StorageTarget};

/// Looks that may be waiting to be told; a Site that is not told is looked at by itself soon.
const NOTIFICATION_CAPACITY: usize = 1024;

/// A bucket that may be looked into.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteBucket {
    pub operator: BucketConnection,
    pub terms: RetentionTerms,
    pub hold_ack: HoldAck,
    /// Its cameras, and when each was declared.
    pub cameras: BTreeMap<String, Timestamp>,
    /// Gaps that recorders told of, by camera.
    pub gaps: BTreeMap<String, Vec<Gap>>,
}

/// Which holds the recorders of a site follow.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldAck {
    /// There are none: nothing more comes.
    NoRecorders,
    /// All of them follow these, with no upload under way that began before.
    Acknowledged(HoldScopes),
    /// It is not known of all.
    Unknown,
}

impl HoldAck {
    /// Whether every recorder follows the holds that are `open`, and no other.
    pub fn has_acknowledged(&self, open: &HoldScopes) -> bool {
        match self {
            Self::NoRecorders => true,
            Self::Acknowledged(followed) => followed == open,
            Self::Unknown => false,
        }
    }
}

/// What is held, by the UID of the hold.
pub type HoldScopes = BTreeMap<String, HoldScopeConfig>;
/// A Site by its namespace and name.
pub type SiteKey = (String, String);

/// Identity with which the operator's process connects to a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketIdentity {
    Operator,
    /// Recorders' credentials, which the operator uses to test what they permit.
    Recorder,
}

/// What is known of one bucket.
#[derive(Clone, Debug, Default)]
struct SiteEntry {
    connections: HashMap<BucketIdentity, BucketConnection>,
    bucket: Option<SiteBucket>,
    /// The Site controller has looked, and found nothing that may be looked into.
    is_unavailable: bool,
    holds: Option<HoldScopes>,
    protection_cache: Option<Arc<ProtectionCache>>,
}

/// The buckets, by the UID of their Site. Copies are one and the same.
#[derive(Clone, Debug)]
pub struct SiteHandoff {
    entries: Arc<Mutex<HashMap<String, SiteEntry>>>,
    /// Of all buckets: it outlives a Site that is made anew.
    under_way: InDoubtRequests,
    budget: MemoryBudget,
    bucket_changes: broadcast::Sender<SiteKey>,
    hold_changes: broadcast::Sender<SiteKey>,
}

impl Default for SiteHandoff {
    fn default() -> Self {
        Self::with_budget(MemoryBudget::of_process(u64::MAX))
    }
}

impl SiteHandoff {
    /// Buckets of which no more is remembered than `budget` has room for.
    pub fn with_budget(budget: MemoryBudget) -> Self {
        Self {
            entries: Arc::default(),
            under_way: InDoubtRequests::default(),
            budget,
            bucket_changes: broadcast::Sender::new(NOTIFICATION_CAPACITY),
            hold_changes: broadcast::Sender::new(NOTIFICATION_CAPACITY),
        }
    }

    /// Returns the connection to the bucket of the Site with this UID. Reconciles and passes share it, and its pool of HTTP
    /// connections, until the Site names another target or other credentials.
    pub fn connect(
        &self,
        site_uid: &str,
        identity: BucketIdentity,
        target: &StorageTarget,
    ) -> Result<BucketConnection, TargetError> {
        let lock = || self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(site_uid).and_then(|entry| entry.connections.get(&identity).cloned());
        if let Some(connection) = known.filter(|connection| connection.target() == target) {
            return Ok(connection);
        }
        // Outside the lock: it reads the machine's certificates.
        let connection = BucketConnection::new(target)?;
        lock().entry(site_uid.to_owned()).or_default().connections.insert(identity, connection.clone());
        Ok(connection)
    }

    /// What may be looked into for `site`; `None`: nothing, or nobody has looked yet.
    pub fn bucket(&self, site: &Site) -> Option<SiteBucket> {
        self.entry(site).bucket
    }

    /// Whether it was looked at, and may not be looked into. An operator that was just started does not know yet.
    pub fn is_unavailable(&self, site: &Site) -> bool {
        self.entry(site).is_unavailable
    }

    /// What is remembered of the held versions of `site`. A Site whose bucket was never opened has a memory of its own.
    pub fn protection_cache(&self, site: &Site) -> Arc<ProtectionCache> {
        let mut known = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = || Arc::new(ProtectionCache::with_budget(self.under_way.clone(), &self.budget));
        match site.uid() {
            Some(uid) => known.entry(uid).or_default().protection_cache.get_or_insert_with(memory).clone(),
            None => memory(),
        }
    }

    /// How long a request of this process that changes a mark, and got no answer, may still land; zero: there is none.
    pub fn in_doubt_for(&self) -> Duration {
        self.under_way.in_doubt_for()
    }

    /// What is held at `site`, by its ledger; `None`: nobody has looked yet.
    pub fn holds(&self, site: &Site) -> Option<HoldScopes> {
        self.entry(site).holds
    }

    fn entry(&self, site: &Site) -> SiteEntry {
        let known = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        site.uid().and_then(|uid| known.get(&uid).cloned()).unwrap_or_default()
    }

    /// Opens the bucket of `site`, or shuts it. The Site controller's.
    pub fn set_bucket(&self, site: &Site, bucket: Option<SiteBucket>) {
        let change = |known: &mut SiteEntry| {
            let was_shut = std::mem::replace(&mut known.is_unavailable, bucket.is_none());
            let was_open = std::mem::replace(&mut known.bucket, bucket.clone());
            was_open != bucket || was_shut != bucket.is_none()
        };
        self.update(site, &self.bucket_changes, change);
    }

    /// Says what is held at `site`. The retention controller's. What recorders were found to follow counts no more once
    /// it is something else, be it what was held before: they may follow by now what was held in between.
    pub fn set_hold_scopes(&self, site: &Site, held: HoldScopes) {
        let change = |known: &mut SiteEntry| {
            let is_changed = known.holds.replace(held.clone()) != Some(held);
            if let Some(open) = known.bucket.as_mut().filter(|_| is_changed) {
                open.hold_ack = HoldAck::Unknown;
            }
            is_changed
        };
        self.update(site, &self.hold_changes, change);
    }

    fn update(
        &self,
        site: &Site,
        notify: &broadcast::Sender<SiteKey>,
        change: impl FnOnce(&mut SiteEntry) -> bool,
    ) {
        let Some(uid) = site.uid() else { return };
        let mut known = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_changed = change(known.entry(uid).or_default());
        drop(known);
        if is_changed {
            // Nobody may listen: then nobody waits.
            let _ = notify.send((site.namespace().unwrap_or_default(), site.name_any()));
        }
    }

    /// Forgets a Site that is gone.
    pub fn forget(&self, site: &Site) {
        if let Some(uid) = site.uid() {
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        }
    }

    /// The Sites whose buckets are opened, or otherwise known, as it happens.
    pub fn bucket_changes(&self) -> impl Stream<Item = SiteKey> + Send + use<> {
        notifications(self.bucket_changes.subscribe())
    }

    /// The Sites of which something else is held, as it happens.
    pub fn hold_changes(&self) -> impl Stream<Item = SiteKey> + Send + use<> {
        notifications(self.hold_changes.subscribe())
    }
}

/// Those of `scope`, or of all namespaces, as controllers take them.
pub fn sites_in_scope<S: Stream<Item = SiteKey> + Send>(
    sites: S,
    scope: Option<&str>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<Site>>> + Send + use<S> {
    let scope = scope.map(str::to_owned);
    sites.filter_map(move |(namespace, name)| {
        let is_ours = scope.as_ref().is_none_or(|scope| *scope == namespace);
        std::future::ready(is_ours.then(|| ObjectRef::new(&name).within(&namespace)))
    })
}

fn notifications(changed: broadcast::Receiver<SiteKey>) -> impl Stream<Item = SiteKey> + Send {
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
    use crate::rules::retention::PROTOCOL_CEILINGS;

    use crate::wire::{Credentials, Window};

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

    fn target(secret: &str) -> StorageTarget {
        StorageTarget {
            endpoint: Some("http://s3.example.nl".into()),
            region: "r".into(),
            bucket: "bucket".into(),
            path_style: false,
            ca_pem: None,
            credentials: Credentials::access_key("k", secret),
            proxy: None,
        }
    }

    fn bucket_with_ack(recorders: HoldAck) -> SiteBucket {
        SiteBucket {
            operator: BucketConnection::new(&target("s")).unwrap(),
            terms: RetentionTerms::with_live_view(PROTOCOL_CEILINGS),
            hold_ack: recorders,
            cameras: BTreeMap::new(),
            gaps: BTreeMap::new(),
        }
    }

    fn scopes(uids: &[&str]) -> HoldScopes {
        let covering = HoldScopeConfig {
            cameras: std::collections::BTreeSet::new(),
            calls: false,
            window: Window::new(jiff::Timestamp::UNIX_EPOCH, None),
        };
        uids.iter().map(|uid| ((*uid).to_owned(), covering.clone())).collect()
    }

    #[test]
    fn connection_is_reused_until_the_target_changes() {
        let handoff = SiteHandoff::default();
        let connect = |identity, secret| {
            handoff.connect("u", identity, &target(secret)).unwrap();
            handoff.entries.lock().unwrap()["u"].connections.len()
        };
        assert_eq!(connect(BucketIdentity::Operator, "s"), 1);
        assert_eq!(connect(BucketIdentity::Recorder, "other"), 2);
        let secret = |identity| {
            let entries = handoff.entries.lock().unwrap();
            let keys =
                entries["u"].connections[&identity].target().credentials.as_access_key().unwrap().clone();
            keys.secret_access_key.reveal().to_owned()
        };
        assert_eq!(
            (secret(BucketIdentity::Operator), secret(BucketIdentity::Recorder)),
            ("s".into(), "other".into())
        );
        assert_eq!(connect(BucketIdentity::Operator, "renewed"), 2);
        assert_eq!(secret(BucketIdentity::Operator), "renewed");
        handoff.forget(&site());
        assert!(handoff.entries.lock().unwrap().is_empty());
    }

    /// A hold that is resolved within moments leaves the holds as they were: but recorders may follow it by now.
    #[test]
    fn hold_change_invalidates_previous_acknowledgement() {
        let (buckets, site) = (SiteHandoff::default(), site());
        buckets.set_hold_scopes(&site, scopes(&["1"]));
        buckets.set_bucket(&site, Some(bucket_with_ack(HoldAck::Acknowledged(scopes(&["1"])))));
        let follow = || buckets.bucket(&site).unwrap().hold_ack;
        buckets.set_hold_scopes(&site, scopes(&["1"]));
        assert!(follow().has_acknowledged(&scopes(&["1"])), "the same again changes nothing");
        buckets.set_hold_scopes(&site, scopes(&["1", "2"]));
        assert_eq!(follow(), HoldAck::Unknown);
        buckets.set_hold_scopes(&site, scopes(&["1"]));
        assert!(!follow().has_acknowledged(&scopes(&["1"])));
    }
}
