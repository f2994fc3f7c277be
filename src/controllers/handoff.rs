//! The verified buckets that the Site controller hands to the other controllers, with their connections.
//!
//! In-memory only: after a restart, the next reconcile of each Site restores it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::api::{CameraGap, Site};
use crate::rules::RetentionTerms;
use crate::rules::hold::entry::union_of_scopes;
use crate::storage::recordings::hold::memory_budget::MemoryBudget;
use crate::storage::recordings::hold::protection_cache::ProtectionCache;
use crate::storage::s3::HttpClients;
use crate::storage::s3::in_doubt_requests::InDoubtRequests;
use crate::storage::{BucketConnection, TargetError};
use crate::sync::lock;
use crate::wire::{HoldScope, StorageTarget};

/// Channel capacity. A receiver that lags misses notifications; its periodic requeue covers them.
const NOTIFICATION_CAPACITY: usize = 1024;

/// Bucket that retention and audits may use.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteBucket {
    pub operator: BucketConnection,
    pub terms: RetentionTerms,
    pub hold_ack: HoldAck,
    /// Creation time of each camera.
    pub cameras: BTreeMap<String, Timestamp>,
    /// Reported gaps of each camera.
    pub gaps: BTreeMap<String, Vec<CameraGap>>,
}

/// Holds that the recorders of a site have acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldAck {
    /// There are no recorders, so no segment arrives.
    NoRecorders,
    /// Every recorder has acknowledged these scopes and has no upload that began before.
    Acknowledged(HoldScopes),
    /// At least one recorder has not acknowledged.
    Unknown,
}

impl HoldAck {
    /// Returns whether every recorder has acknowledged the holds that are `open`, and follows none that is being released. Recorders
    /// may follow a hold that the ledger does not have yet.
    pub fn has_acknowledged(&self, open: &HoldScopes, releasing: &BTreeSet<&str>) -> bool {
        match self {
            Self::NoRecorders => true,
            Self::Acknowledged(followed) => {
                let covers = |(uid, scope): (&String, &HoldScope)| {
                    followed.get(uid).is_some_and(|followed| union_of_scopes(followed, scope) == *followed)
                };
                open.iter().all(covers) && !followed.keys().any(|uid| releasing.contains(uid.as_str()))
            }
            Self::Unknown => false,
        }
    }
}

/// Scope of each open hold, by its UID.
pub type HoldScopes = BTreeMap<String, HoldScope>;
/// Namespace and name of a Site.
pub type SiteKey = (String, String);

/// Identity with which the operator's process connects to a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketIdentity {
    Operator,
    /// Recorders' credentials, which the operator uses to test what they permit.
    Recorder,
}

/// State of one Site.
#[derive(Clone, Debug, Default)]
struct SiteEntry {
    connections: HashMap<BucketIdentity, BucketConnection>,
    bucket: Option<SiteBucket>,
    /// The Site controller found no bucket that may be used.
    is_unavailable: bool,
    holds: Option<HoldScopes>,
    protection_cache: Option<Arc<ProtectionCache>>,
}

/// Buckets by the UID of their Site. Clones share their state.
#[derive(Clone, Debug)]
pub struct SiteHandoff {
    entries: Arc<Mutex<HashMap<String, SiteEntry>>>,
    http_clients: HttpClients,
    /// Requests of all buckets: they outlive a Site that is re-created.
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
    /// Returns an empty handoff whose protection caches share `budget`.
    pub fn with_budget(budget: MemoryBudget) -> Self {
        Self {
            entries: Arc::default(),
            http_clients: HttpClients::default(),
            under_way: InDoubtRequests::default(),
            budget,
            bucket_changes: broadcast::Sender::new(NOTIFICATION_CAPACITY),
            hold_changes: broadcast::Sender::new(NOTIFICATION_CAPACITY),
        }
    }

    /// Returns the connection to the bucket of the Site with this UID. Reconciles and passes share it until the Site names another
    /// target or other credentials. Sites share the pool of HTTP connections.
    pub fn connect(
        &self,
        site_uid: &str,
        identity: BucketIdentity,
        target: &StorageTarget,
    ) -> Result<BucketConnection, TargetError> {
        let known =
            lock(&self.entries).get(site_uid).and_then(|entry| entry.connections.get(&identity).cloned());
        if let Some(connection) = known.filter(|connection| connection.target() == target) {
            return Ok(connection);
        }
        // Without the lock: this reads the machine's certificates.
        let connection = BucketConnection::sharing(target, &self.http_clients)?;
        lock(&self.entries)
            .entry(site_uid.to_owned())
            .or_default()
            .connections
            .insert(identity, connection.clone());
        Ok(connection)
    }

    /// Returns the bucket of `site`. `None`: unavailable, or not reconciled since the start.
    pub fn bucket(&self, site: &Site) -> Option<SiteBucket> {
        self.entry(site).bucket
    }

    /// Returns whether the Site controller found the bucket unavailable. False until the first reconcile after a start.
    pub fn is_unavailable(&self, site: &Site) -> bool {
        self.entry(site).is_unavailable
    }

    /// Returns whether the Site controller has reconciled `site` since this process leads.
    pub fn is_reconciled(&self, site: &Site) -> bool {
        let entries = lock(&self.entries);
        let entry = site.uid().and_then(|uid| entries.get(&uid));
        entry.is_some_and(|entry| entry.bucket.is_some() || entry.is_unavailable)
    }

    /// Returns the protection cache of `site`.
    pub fn protection_cache(&self, site: &Site) -> Arc<ProtectionCache> {
        let memory = || Arc::new(ProtectionCache::with_budget(self.under_way.clone(), &self.budget));
        match site.uid() {
            Some(uid) => lock(&self.entries)
                .entry(uid)
                .or_default()
                .protection_cache
                .get_or_insert_with(memory)
                .clone(),
            None => memory(),
        }
    }

    /// Returns how long an unanswered change of a protection may still arrive. Zero: there is none.
    pub fn in_doubt_for(&self) -> Duration {
        self.under_way.in_doubt_for()
    }

    /// Returns the open holds of `site` by its ledger. `None`: not read since the start.
    pub fn holds(&self, site: &Site) -> Option<HoldScopes> {
        self.entry(site).holds
    }

    fn entry(&self, site: &Site) -> SiteEntry {
        site.uid().and_then(|uid| lock(&self.entries).get(&uid).cloned()).unwrap_or_default()
    }

    /// Sets or withdraws the bucket of `site`. Called by the Site controller only.
    pub fn set_bucket(&self, site: &Site, bucket: Option<SiteBucket>) {
        let change = |known: &mut SiteEntry| {
            let was_shut = std::mem::replace(&mut known.is_unavailable, bucket.is_none());
            let was_open = std::mem::replace(&mut known.bucket, bucket.clone());
            was_open != bucket || was_shut != bucket.is_none()
        };
        self.update(site, &self.bucket_changes, change);
    }

    /// Sets the open holds of `site`. Called by the retention controller only.
    ///
    /// A change resets the acknowledgement, even if the scopes return to an earlier value: the recorders may by then
    /// follow the value in between.
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
        // Only a change notifies: otherwise the Site and the retention controller would wake each other for ever.
        let is_changed = change(lock(&self.entries).entry(uid).or_default());
        if is_changed {
            // An error means that nobody listens.
            let _ = notify.send((site.namespace().unwrap_or_default(), site.name_any()));
        }
    }

    /// Removes a Site that is gone.
    pub fn forget(&self, site: &Site) {
        if let Some(uid) = site.uid() {
            lock(&self.entries).remove(&uid);
        }
    }

    /// Returns the Sites whose buckets change.
    pub fn bucket_changes(&self) -> impl Stream<Item = SiteKey> + Send + use<> {
        notifications(self.bucket_changes.subscribe())
    }

    /// Returns the Sites whose open holds change.
    pub fn hold_changes(&self) -> impl Stream<Item = SiteKey> + Send + use<> {
        notifications(self.hold_changes.subscribe())
    }
}

/// Selects the Sites of `scope`, or all of them, in the form that controllers take.
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
            // The periodic requeue covers missed Sites.
            Err(RecvError::Lagged(_)) => Some((None, changed)),
            Err(RecvError::Closed) => None,
        }
    })
    .filter_map(std::future::ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::site;
    use crate::rules::PROTOCOL_CEILINGS;
    use crate::rules::hold::scope::tests::video_scope;
    use crate::storage::s3::stub;
    use crate::wire::{Credentials, Window};

    fn target(secret: &str) -> StorageTarget {
        StorageTarget { credentials: Credentials::access_key("k", secret), ..stub::target() }
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
        let scope = video_scope(&[], Window::new(Timestamp::UNIX_EPOCH, None));
        uids.iter().map(|uid| ((*uid).to_owned(), scope.clone())).collect()
    }

    #[test]
    fn connection_is_reused_until_the_target_changes() {
        let handoff = SiteHandoff::default();
        let connect = |identity, secret| {
            handoff.connect("uid-of-site", identity, &target(secret)).unwrap();
            handoff.entries.lock().unwrap()["uid-of-site"].connections.len()
        };
        assert_eq!(connect(BucketIdentity::Operator, "s"), 1);
        assert_eq!(connect(BucketIdentity::Recorder, "other"), 2);
        let secret = |identity| {
            let entries = handoff.entries.lock().unwrap();
            let keys = entries["uid-of-site"].connections[&identity]
                .target()
                .credentials
                .as_access_key()
                .unwrap()
                .clone();
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

    /// A hold that is resolved at once restores the earlier scopes, but the recorders may by then follow it.
    #[test]
    fn hold_change_invalidates_previous_acknowledgement() {
        let (buckets, site) = (SiteHandoff::default(), site());
        buckets.set_hold_scopes(&site, scopes(&["1"]));
        buckets.set_bucket(&site, Some(bucket_with_ack(HoldAck::Acknowledged(scopes(&["1"])))));
        let follow = || buckets.bucket(&site).unwrap().hold_ack;
        buckets.set_hold_scopes(&site, scopes(&["1"]));
        let has_acknowledged = || follow().has_acknowledged(&scopes(&["1"]), &BTreeSet::new());
        assert!(has_acknowledged(), "the same again changes nothing");
        buckets.set_hold_scopes(&site, scopes(&["1", "2"]));
        assert_eq!(follow(), HoldAck::Unknown);
        buckets.set_hold_scopes(&site, scopes(&["1"]));
        assert!(!has_acknowledged());
    }

    /// A hold that is accepted but not in the ledger yet must neither stop another one nor seem to be released.
    #[test]
    fn acknowledgement_covers_open_holds_and_none_that_is_released() {
        let window = |until| Window::new(Timestamp::UNIX_EPOCH, Timestamp::from_second(until).ok());
        let scope = |uid: &str, until| (uid.to_owned(), video_scope(&["hal"], window(until)));
        let followed = HoldAck::Acknowledged([scope("1", 20), scope("2", 20)].into());
        for (open, releasing, expected) in [
            (vec![scope("1", 20), scope("2", 20)], vec![], true),
            (vec![scope("1", 20)], vec![], true),
            (vec![scope("1", 10)], vec![], true),
            (vec![scope("1", 21)], vec![], false),
            (vec![scope("3", 20)], vec![], false),
            (vec![scope("1", 20)], vec!["2"], false),
            (vec![], vec!["3"], true),
        ] {
            let (open, releasing) = (open.into_iter().collect(), releasing.into_iter().collect());
            assert_eq!(followed.has_acknowledged(&open, &releasing), expected, "{open:?} {releasing:?}");
            assert!(HoldAck::NoRecorders.has_acknowledged(&open, &releasing));
            assert!(!HoldAck::Unknown.has_acknowledged(&open, &releasing));
        }
    }
}
