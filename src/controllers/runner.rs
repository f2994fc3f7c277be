//! Runs a controller. Times and counts each reconcile, skips objects that cannot be deserialized, and backs off the
//! failures of each object on their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus;
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use super::context::{Context, ControllerKind, ReconcileOutcome};
use super::kubernetes::cached::{Cacheable, Cached};
use super::kubernetes::error::ReconcileBackoff;
use super::kubernetes::status::ReportedStatus;
use super::kubernetes::{ApiError, event, meta, status};
use super::peer_limits::{Peer, PeerLimits};
use super::unreadable;
use super::watch_cache::{WatchCache, scoped_api};
use crate::api::{Camera, IncidentHold, RecordingPolicy, Site};
use crate::failure::Failure;

/// Pause between two attempts to list a kind.
const LIST_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Kind of object whose status has conditions.
pub trait Watched: Cacheable + HasStatus<Status: ReportedStatus> {
    /// Controller that reports the conditions of this kind.
    const KIND: ControllerKind;

    /// Returns the objects of this kind in `cache`.
    fn cached(cache: &WatchCache) -> &Cached<DeserializeGuard<Self>>;

    fn conditions(&self) -> &[Condition] {
        self.status().map(ReportedStatus::conditions).unwrap_or_default()
    }

    /// Returns the other side that a reconcile of this object waits for, if it waits for one.
    fn peer(&self) -> Peer {
        Peer::ApiServer
    }
}

impl Watched for RecordingPolicy {
    const KIND: ControllerKind = ControllerKind::RecordingPolicy;

    fn cached(cache: &WatchCache) -> &Cached<DeserializeGuard<Self>> {
        &cache.policies
    }
}

impl Watched for Camera {
    const KIND: ControllerKind = ControllerKind::Camera;

    fn cached(cache: &WatchCache) -> &Cached<DeserializeGuard<Self>> {
        &cache.cameras
    }

    fn peer(&self) -> Peer {
        // All cameras of a Site are due at the same moment, and each query of a silent recorder waits two seconds.
        let (namespace, site) = (self.namespace().unwrap_or_default(), self.spec.site_ref.name.clone());
        Peer::Recorders { namespace, site }
    }
}

impl Watched for IncidentHold {
    const KIND: ControllerKind = ControllerKind::IncidentHold;

    fn cached(cache: &WatchCache) -> &Cached<DeserializeGuard<Self>> {
        &cache.holds
    }
}

impl Watched for Site {
    const KIND: ControllerKind = ControllerKind::Site;

    fn cached(cache: &WatchCache) -> &Cached<DeserializeGuard<Self>> {
        &cache.sites
    }

    fn peer(&self) -> Peer {
        // Without an endpoint it is AWS, which counts as one store in all regions.
        Peer::Store(self.spec.storage.endpoint.clone().unwrap_or_default())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    pub action: Action,
    pub is_changed: bool,
}

impl Reconciled {
    pub const AWAIT_CHANGE: Self = Self { action: Action::await_change(), is_changed: false };
}

/// Reconciles objects of one kind.
pub trait Reconciler: Send + Sync + 'static {
    type Object: Watched;
    type Failure: Failure + From<ApiError> + Send + Sync + 'static;
    /// Name of the controller in metrics and logs. Differs from its object's for a second controller of a kind.
    const KIND: ControllerKind = <Self::Object as Watched>::KIND;
    /// Whether the runner fetches an object that the watch cache has in an older form than this process wrote. A reconcile that
    /// continues from its own status needs it.
    const REFETCH: bool = false;
    fn reconcile(
        &self,
        object: &Self::Object,
        now: Timestamp,
    ) -> impl Future<Output = Result<Reconciled, Self::Failure>> + Send;
}

/// Returns the object `name`; `None` if it does not exist or cannot be deserialized.
pub async fn fetch<K: Watched>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
    let found = Api::<DeserializeGuard<K>>::namespaced(client.clone(), namespace).get_opt(name).await?;
    Ok(found.and_then(|object| object.0.ok()))
}

/// Returns the cached object `name`; `None` if it does not exist or cannot be deserialized.
pub fn get<K: Watched>(cached: &Cached<DeserializeGuard<K>>, namespace: &str, name: &str) -> Option<K> {
    cached.get(namespace, name)?.0.as_ref().ok().cloned()
}

/// Returns the readable objects among `objects`.
pub fn readable<K: Watched>(objects: &[Arc<DeserializeGuard<K>>]) -> impl Iterator<Item = &K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok())
}

/// Returns the references to those of `objects` that meet `condition`.
pub fn select<K: Watched>(
    objects: Vec<Arc<DeserializeGuard<K>>>,
    condition: impl Fn(&K) -> bool,
) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let selected = objects.into_iter().filter(|object| object.0.as_ref().is_ok_and(&condition));
    selected.map(|object| ObjectRef::from_obj(&*object)).collect()
}

/// Reports `next` as the status of `object`, and publishes an event for each condition that changed. Returns whether the
/// status was written.
pub async fn report<K: Watched>(
    context: &Context,
    manager: &str,
    object: &K,
    next: K::Status,
) -> Result<bool, ApiError> {
    let changes = event::condition_changes(object.conditions(), next.conditions());
    let is_written = write_status(context, manager, object, next).await?;
    // Only then: a write that fails is repeated, and so would be its events.
    if is_written {
        event::publish(&context.events, object, &changes).await;
    }
    Ok(is_written)
}

/// Writes the fields of `next` that belong to the kind's own controller, unless the status already has them.
async fn write_status<K: Watched>(
    context: &Context,
    manager: &str,
    object: &K,
    next: K::Status,
) -> Result<bool, ApiError> {
    let current = object.status().cloned().map(ReportedStatus::own_fields);
    write_status_part(context, manager, object, current.as_ref(), &next.own_fields()).await
}

/// Writes `next`, the part of a status that belongs to `manager`, unless it is `current`. Returns whether it was written.
pub async fn write_status_part<K: Watched, S: Serialize>(
    context: &Context,
    manager: &str,
    object: &K,
    current: Option<&S>,
    next: &S,
) -> Result<bool, ApiError> {
    let api = Api::<K>::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let written = status::report(&api, manager, object, current, next).await?;
    if let Some(written) = &written {
        K::cached(&context.cache).note_written(written);
    }
    Ok(written.is_some())
}

/// Adds a finalizer to `object`, unless it has it.
pub async fn add_finalizer<K: Watched>(
    context: &Context,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<(), ApiError> {
    let written = meta::add_finalizer(&context.client, object, finalizer, manager).await?;
    note_written(context, written.as_ref());
    Ok(())
}

/// Removes a finalizer from `object`, if it has it.
pub async fn remove_finalizer<K: Watched>(
    context: &Context,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<(), ApiError> {
    let written = meta::remove_finalizer(&context.client, object, finalizer, manager).await?;
    note_written(context, written.as_ref());
    Ok(())
}

fn note_written<K: Watched>(context: &Context, written: Option<&PartialObjectMeta<K>>) {
    if let Some(written) = written {
        K::cached(&context.cache).note_written(written);
    }
}

/// Reports that `object` is paused, without an event: its recording goes on.
pub async fn report_paused<K: Watched>(
    context: &Context,
    manager: &str,
    object: &K,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    let next = object.status().cloned().unwrap_or_default().paused(now);
    let is_changed = write_status(context, manager, object, next).await?;
    Ok(Reconciled { is_changed, ..Reconciled::AWAIT_CHANGE })
}

/// Registers the conditions of the objects in `store` with the telemetry.
fn register_conditions<K: Watched>(context: &Context, store: Store<DeserializeGuard<K>>) {
    let lister = move |pass: &mut dyn FnMut(&Condition)| {
        readable(&store.state()).flat_map(Watched::conditions).for_each(pass);
    };
    context.telemetry.register_condition_lister(K::KIND, Box::new(lister));
}

/// Waits until the API server lets the operator list a kind, and until the first lists of all kinds are complete. Reports it to the
/// telemetry.
pub async fn wait_until_readable<K: Watched>(
    context: Context,
    scope: Option<String>,
    all_listed: impl Future<Output = ()>,
) {
    // The controller's store also knows, but it wakes only one waiter: waiting for it here too could keep the
    // controller from ever starting.
    let api = scoped_api::<PartialObjectMeta<K>>(&context.client, scope.as_deref());
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        let (kind, error): (&str, _) = (K::KIND.into(), ApiError(error).to_string());
        warn!(kind, scope, error, "waiting for permission to list");
        tokio::time::sleep(LIST_RETRY_INTERVAL).await;
    }
    // The controllers start only then.
    all_listed.await;
    context.telemetry.mark_readable(K::KIND);
}

struct ControllerRunner<R> {
    context: Context,
    reconciler: R,
    backoff: ReconcileBackoff,
    limits: PeerLimits,
    leader: CancellationToken,
}

/// Runs `controller` until `leader` is cancelled and every reconcile in progress has finished.
pub async fn run_controller<R: Reconciler>(
    controller: Controller<DeserializeGuard<R::Object>>,
    reconciler: R,
    context: Context,
    leader: CancellationToken,
) {
    // A kind can have several controllers; its conditions count once.
    if R::KIND == R::Object::KIND {
        register_conditions(&context, controller.store());
    }
    let runner = Arc::new(ControllerRunner {
        context,
        reconciler,
        backoff: ReconcileBackoff::default(),
        limits: PeerLimits::default(),
        leader: leader.clone(),
    });
    controller
        // No limit on concurrency here: PeerLimits has one for each peer.
        .with_config(Config::default())
        .graceful_shutdown_on(leader.cancelled_owned())
        .run(reconcile_object, |_, impossible, _| match *impossible {}, runner)
        .for_each(|result| {
            if let Err(error) = result {
                log_controller_error::<R>(&error);
            }
            std::future::ready(())
        })
        .await;
}

async fn reconcile_object<R: Reconciler>(
    object: Arc<DeserializeGuard<R::Object>>,
    runner: Arc<ControllerRunner<R>>,
) -> Result<Action, Infallible> {
    let Ok(object) = &object.0 else {
        runner.context.telemetry.record_unreadable(R::KIND);
        // Once, if the kind has several controllers.
        if R::KIND == R::Object::KIND {
            unreadable::report(&runner.context, &object).await;
        }
        // A retry reads the same. Only a write makes the object readable, and wakes the controller.
        return Ok(Action::await_change());
    };
    let reconcile = || reconcile_with_backoff(&runner, object);
    let shutdown = runner.leader.cancelled();
    let action = runner.limits.run(object.peer(), reconcile, shutdown).await;
    Ok(action.unwrap_or_else(Action::await_change))
}

async fn reconcile_with_backoff<R: Reconciler>(runner: &ControllerRunner<R>, object: &R::Object) -> Action {
    let key = meta::namespaced_name(object);
    let span = info_span!("reconcile", kind = <&str>::from(R::KIND), object = %key);
    let began = Instant::now();
    let (action, outcome) = match reconcile_latest(runner, object).instrument(span.clone()).await {
        Ok(Reconciled { action, is_changed }) => {
            runner.backoff.reset(&key);
            (action, if is_changed { ReconcileOutcome::Changed } else { ReconcileOutcome::Unchanged })
        }
        Err(failure) => {
            let delay = runner.backoff.record_failure(&key);
            let objects = R::Object::cached(&runner.context.cache).store();
            runner.backoff.prune(&objects, meta::namespaced_name);
            let again_in_seconds = delay.as_secs();
            let (category, message) = (failure.category(), failure.to_string());
            span.in_scope(|| warn!(category, message, again_in_seconds, "reconcile failed"));
            (Action::requeue(delay), ReconcileOutcome::Failed(category))
        }
    };
    runner.context.telemetry.record_reconcile(R::KIND, outcome, began.elapsed());
    action
}

async fn reconcile_latest<R: Reconciler>(
    runner: &ControllerRunner<R>,
    object: &R::Object,
) -> Result<Reconciled, R::Failure> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let cached = R::Object::cached(&runner.context.cache);
    // Not `object`: it may have changed while this reconcile waited for its turn.
    if let Some(Ok(current)) = cached.get_current(&namespace, &name).as_deref().map(|object| &object.0) {
        return runner.reconciler.reconcile(current, Timestamp::now()).await;
    }
    if !R::REFETCH {
        return runner.reconciler.reconcile(object, Timestamp::now()).await;
    }
    match fetch(&runner.context.client, &namespace, &name).await? {
        Some(object) => runner.reconciler.reconcile(&object, Timestamp::now()).await,
        // It was deleted, or cannot be deserialized any more.
        None => Ok(Reconciled::AWAIT_CHANGE),
    }
}

/// Logs an error between reconciles. Never logs a watch's own text, which can contain a part of an object.
fn log_controller_error<R: Reconciler>(error: &Error<Infallible, watcher::Error>) {
    let kind: &str = R::KIND.into();
    match error {
        Error::ObjectNotFound(_) => debug!(kind, "deleted before its reconcile began"),
        Error::QueueError(_) => warn!(kind, "a watch failed and is re-established"),
        Error::RunnerError(_) => warn!(kind, "the queue failed"),
        Error::ReconcilerFailed(impossible, _) => match *impossible {},
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;

    use super::*;
    use crate::controllers::testing;

    /// Each query waits two seconds, and all cameras of a Site are due at the same moment.
    #[test]
    fn silent_recorders_of_one_site_do_not_delay_cameras_of_others() {
        let limits = PeerLimits::default();
        let camera = |namespace: &str, site: &str| {
            let mut camera = testing::camera("receptie");
            camera.metadata.namespace = Some(namespace.to_owned());
            camera.spec.site_ref.name = site.to_owned();
            camera
        };
        let silent = camera("a", "zwembad").peer();
        let mut stuck: Vec<_> =
            (0..500).map(|_| Box::pin(limits.run(silent.clone(), pending::<()>, pending()))).collect();
        for one in &mut stuck {
            assert_eq!(one.now_or_never(), None);
        }
        for (namespace, site) in [("b", "zwembad"), ("a", "sporthal")] {
            let done = limits.run(camera(namespace, site).peer(), || ready(7), pending()).now_or_never();
            assert_eq!(done, Some(Some(7)), "{namespace}/{site}");
        }
    }
}
