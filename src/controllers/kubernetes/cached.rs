//! Objects of one kind as a watch has them, so that a reconcile of objects in sync costs the API server nothing.
//!
//! A cache is behind the API server: by the time of an event, and by up to two minutes if a watch freezes. It is enough to find
//! that nothing needs to be done, and to plan. What cannot be taken back, a deletion or a claim about what does not exist,
//! follows a read of the API server.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;
use tracing::warn;

use super::meta::StoredObject;
use crate::sync::lock;

/// Longest pause before a watch that failed begins again.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Object that can be watched and kept.
pub trait Cacheable: StoredObject + Resource<Scope = NamespaceResourceScope> + Send + Sync + 'static {}

impl<K: StoredObject + Resource<Scope = NamespaceResourceScope> + Send + Sync + 'static> Cacheable for K {}

/// Annotation in which `kubectl apply` keeps a copy of the object.
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Namespace and name.
type Key = (String, String);

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Returns a resourceVersion as a number. The API server's versions of one kind ascend (KEP-5504). `None`: it cannot be compared.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

/// Objects of one kind. Clones share them.
#[derive(Clone)]
pub struct Cached<K: Cacheable>(Arc<Shared<K>>);

struct Shared<K: Cacheable> {
    store: Store<K>,
    /// Name of the Site that an object belongs to, if any.
    site_of: fn(&K) -> Option<String>,
    state: Mutex<State<K>>,
    /// Set when the first list is complete in `state`. The store's own sign is earlier than that.
    is_ready: SetOnce<()>,
    /// Time since which the watch fails without a success.
    failing_since: Mutex<Option<Instant>>,
}

struct State<K> {
    /// Objects by namespace, and by namespace and Site.
    groups: HashMap<(String, Option<String>), BTreeMap<String, Arc<K>>>,
    /// Versions that this process wrote, until the watch has them.
    written: HashMap<Key, Option<u64>>,
    subscribers: Vec<Weak<Pending<K>>>,
}

impl<K> Default for State<K> {
    fn default() -> Self {
        Self { groups: HashMap::new(), written: HashMap::new(), subscribers: Vec::new() }
    }
}

/// Object that changed.
struct Change<K> {
    object: Arc<K>,
    is_deleted: bool,
}

/// Changes that a subscriber has not seen. Only the last change of each object counts, so a slow subscriber neither stops the
/// watch for all others nor takes more memory than the objects.
struct Pending<K> {
    changes: Mutex<BTreeMap<Key, Change<K>>>,
    added: Notify,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self { changes: Mutex::default(), added: Notify::new() }
    }
}

/// Fills a [`Cached`] from a watch.
pub struct CacheWriter<K: Cacheable> {
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    cached: Cached<K>,
    trim: fn(&mut K),
}

/// State of the watch of a kind, whatever the kind.
pub trait WatchState: Send + Sync {
    /// Waits until the first list is complete.
    fn wait_until_ready(&self) -> BoxFuture<'_, ()>;

    /// Returns the kind if its watch has failed for longer than `limit`: what changed since is unknown.
    fn failed_kind(&self, limit: Duration) -> Option<String>;
}

impl<K: Cacheable> WatchState for Cached<K> {
    fn wait_until_ready(&self) -> BoxFuture<'_, ()> {
        // Without its writer, it is never ready: the process ends. A controller that began then would take objects for absent.
        Box::pin(async {
            self.0.is_ready.wait().await;
        })
    }

    fn failed_kind(&self, limit: Duration) -> Option<String> {
        let since = (*lock(&self.0.failing_since))?;
        (since.elapsed() > limit).then(|| K::kind(&()).into_owned())
    }
}

impl<K: Cacheable> Cached<K> {
    /// Returns an empty cache and its writer. `site_of` returns the name of the Site that an object belongs to.
    pub fn new(
        api: Api<K>,
        config: watcher::Config,
        site_of: fn(&K) -> Option<String>,
    ) -> (Self, CacheWriter<K>) {
        let writer = Writer::new(());
        let cached = Self(Arc::new(Shared {
            store: writer.as_reader(),
            site_of,
            state: Mutex::default(),
            is_ready: SetOnce::new(),
            failing_since: Mutex::default(),
        }));
        let writer = CacheWriter { api, config, writer, cached: cached.clone(), trim: |_| () };
        (cached, writer)
    }

    /// Returns the store for a [`Controller`].
    pub fn store(&self) -> Store<K> {
        self.0.store.clone()
    }

    /// Returns a controller of these objects, which reconciles the ones in `changes`.
    pub fn controller(&self, changes: impl Stream<Item = Arc<K>> + Send + 'static) -> Controller<K> {
        Controller::for_shared_stream(changes, self.store())
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Returns the object if the cache has every change that this process made to it.
    pub fn get_current(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(namespace, name).filter(|object| self.is_current(&**object))
    }

    /// Whether the cache has every change that this process made to the object `name`. It may not exist.
    pub fn has_own_changes(&self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let state = lock(&self.0.state);
        let found = state.find(&key).and_then(|object| version(&*object));
        state.written.get(&key).is_none_or(|written| is_at_least(found, *written))
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.group(namespace, None)
    }

    /// Returns the objects that belong to a Site, by name.
    pub fn of_site(&self, namespace: &str, site: &str) -> Vec<Arc<K>> {
        self.group(namespace, Some(site))
    }

    fn group(&self, namespace: &str, site: Option<&str>) -> Vec<Arc<K>> {
        let state = lock(&self.0.state);
        let group = state.groups.get(&(namespace.to_owned(), site.map(str::to_owned)));
        group.into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Notes the answer to a write of this process: until the watch has it, the cached object is not current.
    pub fn note_written(&self, written: &impl Resource) {
        let (key, version_written) = (key(written), version(written));
        let mut state = lock(&self.0.state);
        // The watch may be faster than the answer.
        if !state.find(&key).is_some_and(|cached| is_at_least(version(&*cached), version_written)) {
            state.written.insert(key, version_written);
        }
    }

    /// Whether `object`, which this cache has now, is at least as new as what this process wrote.
    fn is_current(&self, object: &impl Resource) -> bool {
        let state = lock(&self.0.state);
        state.written.get(&key(object)).is_none_or(|written| is_at_least(version(object), *written))
    }

    /// Returns every object now, and each again when it changes or is deleted. Call it before the writer runs.
    pub fn changes(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        self.subscribe().map(|change| change.object)
    }

    /// Returns every object now, and each again when `aspect` of it changes or it is deleted. Call it before the writer runs.
    pub fn changes_of<T: PartialEq + Send + 'static, A: Fn(&K) -> T + Send + 'static>(
        &self,
        aspect: A,
    ) -> impl Stream<Item = Arc<K>> + Send + use<K, T, A> {
        let mut seen: HashMap<Key, T> = HashMap::new();
        let select = move |change: Change<K>| {
            let key = key(&*change.object);
            let is_changed = if change.is_deleted {
                seen.remove(&key);
                true
            } else {
                let now = aspect(&change.object);
                let is_changed = seen.get(&key) != Some(&now);
                seen.insert(key, now);
                is_changed
            };
            std::future::ready(is_changed.then_some(change.object))
        };
        self.subscribe().filter_map(select)
    }

    /// Like [`Self::changes_of`], for everything but the status.
    pub fn changes_of_spec(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        self.changes_of(|object| {
            let meta = object.meta();
            let deleted = meta.deletion_timestamp.clone();
            let (labels, annotations) = (meta.labels.clone(), meta.annotations.clone());
            // A write of the status leaves the generation as it is.
            (meta.uid.clone(), meta.generation, deleted, labels, annotations, meta.finalizers.clone())
        })
    }

    fn subscribe(&self) -> impl Stream<Item = Change<K>> + Send + use<K> {
        let pending = Arc::new(Pending::default());
        lock(&self.0.state).subscribers.push(Arc::downgrade(&pending));
        stream::unfold(pending, async |pending| {
            let change = pending.next().await;
            Some((change, pending))
        })
    }
}

impl<K: Cacheable> Pending<K> {
    fn add(&self, change: Change<K>) {
        lock(&self.changes).insert(key(&*change.object), change);
        self.added.notify_one();
    }

    async fn next(&self) -> Change<K> {
        loop {
            let first = lock(&self.changes).pop_first();
            match first {
                Some((_, change)) => return change,
                None => self.added.notified().await,
            }
        }
    }
}

/// Removes metadata that is as large as the object, and that nobody reads.
fn strip_metadata<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED_ANNOTATION);
    }
}

fn is_at_least(cached: Option<u64>, written: Option<u64>) -> bool {
    cached.zip(written).is_some_and(|(cached, written)| cached >= written)
}

impl<K: Cacheable> State<K> {
    fn insert(&mut self, object: &Arc<K>, site: Option<String>) {
        let (namespace, name) = key(&**object);
        if site.is_some() {
            self.groups.entry((namespace.clone(), site)).or_default().insert(name.clone(), object.clone());
        }
        self.groups.entry((namespace, None)).or_default().insert(name, object.clone());
    }

    fn remove(&mut self, (namespace, name): &Key, site: Option<String>) {
        for group in [(namespace.clone(), site), (namespace.clone(), None)] {
            if let Some(objects) = self.groups.get_mut(&group) {
                objects.remove(name);
                if objects.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }

    fn find(&self, (namespace, name): &Key) -> Option<Arc<K>> {
        self.groups.get(&(namespace.clone(), None))?.get(name).cloned()
    }

    fn replace(&mut self, object: &Arc<K>, site_of: fn(&K) -> Option<String>) {
        let key = key(&**object);
        let before = self.find(&key);
        self.remove(&key, before.as_deref().and_then(site_of));
        self.insert(object, site_of(object));
        if self.written.get(&key).is_some_and(|written| is_at_least(version(&**object), *written)) {
            self.written.remove(&key);
        }
    }

    fn all(&self) -> Vec<Arc<K>> {
        let namespaces = self.groups.iter().filter(|((_, site), _)| site.is_none());
        namespaces.flat_map(|(_, objects)| objects.values().cloned()).collect()
    }

    fn notify(&mut self, object: &Arc<K>, is_deleted: bool) {
        self.subscribers.retain(|subscriber| {
            let Some(pending) = subscriber.upgrade() else { return false };
            pending.add(Change { object: object.clone(), is_deleted });
            true
        });
    }
}

impl<K: Cacheable> CacheWriter<K> {
    /// Removes with `trim` what no controller reads, before the cache has it.
    #[must_use]
    pub fn trimming(self, trim: fn(&mut K)) -> Self {
        Self { trim, ..self }
    }

    /// Watches until it is dropped.
    ///
    /// After each failure it lists again. A watch that continued would report nothing if the API server has lost the version
    /// to continue from (410 Gone, a restored backup), and an event that cannot be read would be missing for ever.
    pub async fn run(mut self) {
        let trim = self.trim;
        let strip = move |object: &mut K| {
            strip_metadata(object);
            trim(object);
        };
        // Kept from one watch to the next: a list may succeed where each watch fails.
        let mut backoff = DefaultBackoff::default();
        loop {
            let events = watcher(self.api.clone(), self.config.clone()).modify(strip);
            let mut events = pin!(events);
            // An end without an error, by the server or after silence, is no failure: the watcher continues where it was.
            while let Ok(Some(event)) = events.try_next().await {
                // `Init` precedes the first request, so it proves nothing.
                if !matches!(event, Event::Init) {
                    *lock(&self.cached.0.failing_since) = None;
                }
                self.apply(&event);
            }
            lock(&self.cached.0.failing_since).get_or_insert_with(Instant::now);
            // Not the error's own text, which can contain a part of an object.
            warn!(kind = %K::kind(&()), "a watch failed and begins again with a list");
            tokio::time::sleep(backoff.next().unwrap_or(MAX_PAUSE)).await;
        }
    }

    fn apply(&mut self, event: &Event<K>) {
        let Shared { store, site_of, state, is_ready, failing_since: _ } = &*self.cached.0;
        self.writer.apply_watcher_event(event);
        match event {
            Event::Init | Event::InitApply(_) => {}
            Event::Apply(object) => {
                let Some(object) = store.get(&ObjectRef::from_obj(object)) else { return };
                let mut state = lock(state);
                state.replace(&object, *site_of);
                state.notify(&object, false);
            }
            Event::Delete(object) => {
                let mut state = lock(state);
                let key = key(object);
                let before = state.find(&key);
                state.remove(&key, before.as_deref().and_then(site_of));
                // Not a later write: the object may have been created again.
                if state.written.get(&key).is_some_and(|written| is_at_least(version(object), *written)) {
                    state.written.remove(&key);
                }
                state.notify(&Arc::new(object.clone()), true);
            }
            Event::InitDone => {
                let mut state = lock(state);
                let before: Vec<Arc<K>> = state.all();
                state.groups.clear();
                let now = store.state();
                for object in &now {
                    state.replace(object, *site_of);
                }
                let mut versions = HashMap::new();
                // A list reports no deletion that the watch missed.
                for object in before {
                    let key = key(&*object);
                    if state.find(&key).is_none() {
                        state.written.remove(&key);
                        state.notify(&object, true);
                    } else {
                        versions.insert(key, (object.uid(), object.resource_version()));
                    }
                }
                // After a restart of the API server, most objects are as they were.
                let is_news = |object: &&Arc<K>| {
                    versions.get(&key(&***object)) != Some(&(object.uid(), object.resource_version()))
                };
                for object in now.iter().filter(is_news) {
                    state.notify(object, false);
                }
                // Later lists find it set.
                is_ready.set(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bytes::Bytes;
    use futures::FutureExt;
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::Frame;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use serde_json::json;

    use super::*;

    type Configs = (Cached<ConfigMap>, CacheWriter<ConfigMap>);

    fn configs() -> Configs {
        configs_with(|config| config.labels().get("site").cloned())
    }

    fn configs_with(site_of: fn(&ConfigMap) -> Option<String>) -> Configs {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("a cache asks nothing"))
        });
        let api = Api::all(Client::new(service, "default"));
        Cached::new(api, watcher::Config::default(), site_of)
    }

    fn config(name: &str, site: &str, version: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {
            "namespace": "sport", "name": name, "labels": {"site": site}, "resourceVersion": version,
        }}))
        .unwrap()
    }

    fn names(found: Vec<Arc<ConfigMap>>) -> Vec<String> {
        found.iter().map(|config| config.name_any()).collect()
    }

    fn waiting(changes: &mut (impl Stream<Item = Arc<ConfigMap>> + Unpin)) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(Some(change)) = changes.next().now_or_never() {
            found.push(change.name_any());
        }
        found.sort();
        found
    }

    #[tokio::test]
    async fn groups_follow_their_objects() {
        let (cached, mut writer) = configs();
        for (name, site) in [("b", "hal"), ("a", "hal"), ("c", "zwembad")] {
            writer.apply(&Event::Apply(config(name, site, "1")));
        }
        assert_eq!(names(cached.of_site("sport", "hal")), ["a", "b"]);
        writer.apply(&Event::Apply(config("a", "zwembad", "2")));
        assert_eq!(names(cached.of_site("sport", "hal")), ["b"]);
        assert_eq!(names(cached.of_site("sport", "zwembad")), ["a", "c"]);
        writer.apply(&Event::Delete(config("c", "zwembad", "3")));
        assert_eq!(names(cached.of_site("sport", "zwembad")), ["a"]);
        assert_eq!(names(cached.in_namespace("sport")), ["a", "b"]);
        assert!(cached.in_namespace("elders").is_empty() && cached.get("sport", "c").is_none());
    }

    #[test]
    fn copies_of_an_object_in_its_metadata_are_dropped() {
        let mut object: ConfigMap = serde_json::from_value(json!({"metadata": {
            "name": "a", "managedFields": [{"manager": "kubectl", "operation": "Apply"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "x"},
        }}))
        .unwrap();
        strip_metadata(&mut object);
        assert_eq!(object.metadata.managed_fields, None);
        assert_eq!(object.annotations().keys().collect::<Vec<_>>(), ["kept"]);
        let mut without = ConfigMap::default();
        strip_metadata(&mut without);
        assert_eq!(without, ConfigMap::default());
    }

    /// A watch that is re-established lists what exists, and says nothing of what is gone.
    #[tokio::test]
    async fn deletions_that_a_watch_missed_are_changes() {
        let (cached, mut writer) = configs();
        let mut changes = Box::pin(cached.changes());
        writer.apply(&Event::Apply(config("gone", "hal", "1")));
        writer.apply(&Event::Apply(config("kept", "hal", "1")));
        assert_eq!(waiting(&mut changes), ["gone", "kept"]);
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(config("kept", "hal", "1")));
        assert_eq!(names(cached.in_namespace("sport")), ["gone", "kept"], "the list is not complete yet");
        writer.apply(&Event::InitDone);
        assert_eq!(waiting(&mut changes), ["gone"], "nothing changed of the other");
        assert_eq!(names(cached.of_site("sport", "hal")), ["kept"]);
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(config("kept", "hal", "3")));
        writer.apply(&Event::InitDone);
        assert_eq!(waiting(&mut changes), ["kept"]);
    }

    /// Answer of the API server to one request.
    enum Answer {
        Unreachable,
        List(Vec<ConfigMap>),
        /// Lines of a watch, which then stays open.
        Watch(Vec<String>),
        Status(u16),
    }

    type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;

    fn whole(status: u16, document: &serde_json::Value) -> http::Response<AnswerBody> {
        let body = Full::from(document.to_string()).map_err(|never| match never {}).boxed_unsync();
        http::Response::builder().status(status).body(body).unwrap()
    }

    fn gone() -> serde_json::Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": ""})
    }

    /// Returns a cache of an API server that answers lists and watches by their number, the first with 0.
    fn configs_of(
        answer: impl Fn(bool, usize) -> Answer + Send + Sync + 'static,
    ) -> (Configs, Arc<Mutex<Vec<&'static str>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), requests.clone());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
            let verb = if is_watch { "watch" } else { "list" };
            let number = lock(&seen).iter().filter(|other| **other == verb).count();
            lock(&seen).push(verb);
            let answer = answer(is_watch, number);
            async move {
                Ok(match answer {
                    Answer::Unreachable => return Err(std::io::Error::other("connection refused")),
                    Answer::Status(code) => {
                        let mut status = gone();
                        status["code"] = code.into();
                        whole(code, &status)
                    }
                    Answer::List(items) => whole(
                        200,
                        &json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": items}),
                    ),
                    Answer::Watch(lines) => {
                        let lines = lines.into_iter().map(|line| Ok(Frame::data(Bytes::from(line + "\n"))));
                        let body = StreamBody::new(stream::iter(lines).chain(stream::pending()));
                        http::Response::new(body.boxed_unsync())
                    }
                })
            }
        });
        let api = Api::all(Client::new(service, "default"));
        (Cached::new(api, watcher::Config::default(), |_| Some("hal".into())), requests)
    }

    #[tokio::test(start_paused = true)]
    async fn watch_whose_version_is_gone_lists_again() {
        let in_stream = || Answer::Watch(vec![json!({"type": "ERROR", "object": gone()}).to_string()]);
        for (form, is_status) in [("status", true), ("event", false)] {
            let ((cached, writer), requests) = configs_of(move |is_watch, number| match (is_watch, number) {
                (false, 0) => Answer::List(vec![config("gone", "hal", "1"), config("kept", "hal", "2")]),
                (true, 0) if is_status => Answer::Status(410),
                (true, 0) => in_stream(),
                (false, _) => Answer::List(vec![config("kept", "hal", "4")]),
                (true, _) => Answer::Watch(Vec::new()),
            });
            let mut changes = Box::pin(cached.changes());
            let watch = tokio::spawn(writer.run());
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(names(cached.of_site("sport", "hal")), ["kept"], "410 as {form}");
            assert_eq!(waiting(&mut changes), ["gone", "kept"], "410 as {form}");
            assert_eq!(*lock(&requests), ["list", "watch", "list", "watch"], "410 as {form}");
            assert_eq!(cached.failed_kind(Duration::ZERO), None, "410 as {form}");
            watch.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn event_that_cannot_be_read_is_found_by_the_next_list() {
        let unreadable = json!({"type": "MODIFIED", "object": {"metadata": {"name": 7}}}).to_string();
        let ((cached, writer), _) = configs_of(move |is_watch, number| match (is_watch, number) {
            (true, 0) => Answer::Watch(vec![unreadable.clone()]),
            (true, _) => Answer::Watch(Vec::new()),
            (false, number) => Answer::List(vec![config("a", "hal", &number.to_string())]),
        });
        let watch = tokio::spawn(writer.run());
        tokio::time::sleep(Duration::from_mins(1)).await;
        let found = cached.get("sport", "a").and_then(|config| config.resource_version());
        assert_eq!(found.as_deref(), Some("1"));
        watch.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn failing_watch_is_known_until_it_succeeds() {
        let (cached, writer) = configs();
        let watch = tokio::spawn(writer.run());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cached.failed_kind(Duration::ZERO).as_deref(), Some("ConfigMap"));
        assert_eq!(cached.failed_kind(Duration::from_hours(1)), None, "it may pass");
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(
            cached.failed_kind(Duration::from_mins(2)).as_deref(),
            Some("ConfigMap"),
            "each list failed"
        );
        watch.abort();

        // A kind of which no object changes: no event says that the second watch works.
        let ((cached, writer), requests) = configs_of(|is_watch, number| match (is_watch, number) {
            (false, _) => Answer::List(Vec::new()),
            (true, 0..4) => Answer::Unreachable,
            (true, _) => Answer::Watch(Vec::new()),
        });
        let watch = tokio::spawn(writer.run());
        tokio::time::sleep(Duration::from_mins(4)).await;
        assert_eq!(cached.failed_kind(Duration::ZERO), None);
        assert!(lock(&requests).len() <= 12, "{:?}", lock(&requests));
        watch.abort();
    }

    #[tokio::test]
    async fn cache_without_its_writer_is_never_ready() {
        let (cached, writer) = configs();
        drop(writer);
        assert!(cached.wait_until_ready().now_or_never().is_none());
    }

    thread_local! {
        static FILLING: RefCell<Option<Cached<ConfigMap>>> = const { RefCell::new(None) };
    }

    /// Controllers that began before would find Sites without cameras, and write it.
    #[tokio::test]
    async fn cache_is_ready_when_its_groups_are() {
        let unready_site = |_: &ConfigMap| {
            FILLING.with_borrow(|cached| {
                let wait = cached.as_ref().map(|cached| cached.wait_until_ready().now_or_never());
                assert_eq!(wait, Some(None), "ready while its first list is read in");
            });
            Some("hal".to_owned())
        };
        let (cached, mut writer) = configs_with(unready_site);
        FILLING.set(Some(cached.clone()));
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(config("a", "hal", "1")));
        assert!(cached.wait_until_ready().now_or_never().is_none(), "the list is not complete yet");
        writer.apply(&Event::InitDone);
        assert!(cached.wait_until_ready().now_or_never().is_some());
        assert_eq!(names(cached.of_site("sport", "hal")), ["a"]);
    }

    #[tokio::test]
    async fn only_changes_of_the_aspect_are_reported() {
        let (cached, mut writer) = configs();
        let mut changes = Box::pin(cached.changes_of(|config| config.labels().clone()));
        writer.apply(&Event::Apply(config("a", "hal", "1")));
        assert_eq!(waiting(&mut changes), ["a"]);
        writer.apply(&Event::Apply(config("a", "hal", "2")));
        assert_eq!(waiting(&mut changes), [""; 0]);
        writer.apply(&Event::Apply(config("a", "zwembad", "3")));
        assert_eq!(waiting(&mut changes), ["a"]);
        writer.apply(&Event::Delete(config("a", "zwembad", "4")));
        assert_eq!(waiting(&mut changes), ["a"]);
        writer.apply(&Event::Apply(config("a", "zwembad", "5")));
        assert_eq!(waiting(&mut changes), ["a"], "re-created");
    }

    #[tokio::test]
    async fn object_is_current_once_the_watch_has_the_last_write() {
        let (cached, mut writer) = configs();
        assert!(cached.has_own_changes("sport", "a"), "nothing was written");
        cached.note_written(&config("a", "hal", "9"));
        assert!(!cached.has_own_changes("sport", "a"), "created, and not in the cache yet");
        writer.apply(&Event::Apply(config("a", "hal", "9")));
        assert!(cached.has_own_changes("sport", "a"));
        cached.note_written(&config("a", "hal", "10"));
        assert_eq!(cached.get_current("sport", "a"), None, "10 is after 9");
        // A write that changed nothing has the version of before.
        writer.apply(&Event::Apply(config("a", "hal", "11")));
        cached.note_written(&config("a", "hal", "11"));
        let current = cached.get_current("sport", "a").unwrap();
        assert_eq!(current.resource_version().as_deref(), Some("11"), "whatever a reconcile that waited has");
        // Another write before the watch reports the deletion.
        cached.note_written(&config("a", "hal", "12"));
        writer.apply(&Event::Delete(config("a", "hal", "13")));
        assert!(cached.has_own_changes("sport", "a"), "it does not exist, as the watch says");
        // Versions that cannot be compared are never current.
        cached.note_written(&config("b", "hal", "x"));
        writer.apply(&Event::Apply(config("b", "hal", "y")));
        assert_eq!(cached.get_current("sport", "b"), None);
    }
}
