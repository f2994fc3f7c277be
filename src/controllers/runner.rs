//! Drives a controller: each look is timed and counted, an object that cannot be read stalls no other, and a
//! failure backs off by itself.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use super::context::{Context, ControllerKind, OperatorTelemetry, ReconcileOutcome};
use super::kubernetes::error::{ApiError, ReconcileBackoff};
use super::kubernetes::meta;
use super::store_limits::StoreLimits;
use crate::api::Site;
use crate::failure::Failure;

/// A kind that cannot be read is asked for again after this long.
const LIST_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// A kind with conditions, that a controller can look after.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    fn conditions(&self) -> &[Condition];

    /// The store that a look at it waits for, if any.
    fn store_endpoint(&self) -> Option<String> {
        None
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    pub action: Action,
    pub is_changed: bool,
}

impl Reconciled {
    /// There is nothing to do until something changes.
    pub const AWAIT_CHANGE: Self = Self { action: Action::await_change(), is_changed: false };
}

/// Looks after objects of one kind.
pub trait Reconciler: Send + Sync + 'static {
    type Object: Watched;
    type Failure: Failure + From<ApiError> + Send + Sync + 'static;
    /// Its name in metrics and logs.
    const KIND: ControllerKind;
    /// Whether the conditions of its objects are counted as its own: of a kind with several controllers, one counts.
    const REPORTS_CONDITIONS: bool = true;
    /// Whether an object is read anew before each look: what the look before wrote to its status is carried on from there,
    /// and the watch may not have told of it yet.
    const REFETCH: bool = false;
    fn context(&self) -> &Context;
    /// Looks at `object`: compares what is with what should be, and does what it takes.
    fn reconcile(
        &self,
        object: &Self::Object,
        now: Timestamp,
    ) -> impl Future<Output = Result<Reconciled, Self::Failure>> + Send;
}

/// All objects of a kind in `scope`, or in all namespaces.
pub fn scoped_api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The object `name`, as far as it exists and can be read.
pub async fn fetch<K: Watched>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
    let found = Api::<DeserializeGuard<K>>::namespaced(client.clone(), namespace).get_opt(name).await?;
    Ok(found.and_then(|object| object.0.ok()))
}

/// The objects in `store` that are in the namespace of `object` and for which `concerns` holds.
pub fn select_in_namespace<K, Other>(
    store: &Store<DeserializeGuard<K>>,
    object: &Other,
    concerns: impl Fn(&K) -> bool,
) -> Vec<ObjectRef<DeserializeGuard<K>>>
where
    K: Watched,
    Other: Resource,
{
    let namespace = &object.meta().namespace;
    let all = store.state().into_iter().filter(|found| found.meta().namespace == *namespace);
    all.filter(|found| found.0.as_ref().is_ok_and(&concerns))
        .map(|found| ObjectRef::from_obj(&*found))
        .collect()
}

/// Tells `hooks` how to count the conditions of the objects in `store`.
fn register_conditions<K: Watched>(
    hooks: &OperatorTelemetry,
    kind: ControllerKind,
    store: Store<DeserializeGuard<K>>,
) {
    hooks.register_condition_lister(
        kind,
        Box::new(move || {
            let objects = store.state();
            let readable = objects.iter().filter_map(|object| object.0.as_ref().ok());
            readable.flat_map(|object| object.conditions().to_vec()).collect()
        }),
    );
}

/// Waits until the API server lets us read a kind, and tells the context's hooks.
///
/// The controller's own store would know, but it wakes only one of those who wait for it: waiting there too
/// could keep the controller from ever starting.
pub async fn wait_until_readable<K: Watched>(context: Context, kind: ControllerKind, scope: Option<String>) {
    let api = scoped_api::<PartialObjectMeta<K>>(&context.client, scope.as_deref());
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        let (kind, error): (&str, _) = (kind.into(), ApiError(error).to_string());
        warn!(kind, scope, error, "cannot be read yet");
        tokio::time::sleep(LIST_RETRY_INTERVAL).await;
    }
    context.telemetry.mark_readable(kind);
}

impl Watched for Site {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }

    fn store_endpoint(&self) -> Option<String> {
        let storage = &self.spec.storage;
        // AWS is one, whatever regions somebody names.
        Some(storage.endpoint.clone().unwrap_or_default())
    }
}

struct ControllerRunner<L> {
    reconciler: L,
    backoff: ReconcileBackoff,
    store_limits: StoreLimits,
    leader: CancellationToken,
}

/// Runs `controller` until `leader` is cancelled and what was under way has finished.
pub async fn run_controller<L: Reconciler>(
    controller: Controller<DeserializeGuard<L::Object>>,
    reconciler: L,
    leader: CancellationToken,
) {
    if L::REPORTS_CONDITIONS {
        register_conditions(&reconciler.context().telemetry, L::KIND, controller.store());
    }
    let controller_runner = Arc::new(ControllerRunner {
        reconciler,
        backoff: ReconcileBackoff::default(),
        store_limits: StoreLimits::default(),
        leader: leader.clone(),
    });
    controller
        // Without end: lanes have one.
        .with_config(Config::default())
        .graceful_shutdown_on(leader.cancelled_owned())
        .run(reconcile_object, |_, impossible, _| match *impossible {}, controller_runner)
        .for_each(|result| {
            if let Err(error) = result {
                log_controller_error::<L>(&error);
            }
            std::future::ready(())
        })
        .await;
}

async fn reconcile_object<L: Reconciler>(
    object: Arc<DeserializeGuard<L::Object>>,
    controller_runner: Arc<ControllerRunner<L>>,
) -> Result<Action, Infallible> {
    let hooks = &controller_runner.reconciler.context().telemetry;
    let kind: &str = L::KIND.into();
    let object = match &object.0 {
        Ok(object) => object,
        Err(unreadable) => {
            hooks.record_unreadable(L::KIND);
            let metadata = &unreadable.metadata;
            warn!(
                kind,
                namespace = metadata.namespace,
                name = metadata.name,
                "cannot be read: is it of a newer version?"
            );
            return Ok(Action::await_change());
        }
    };
    let reconciling = reconcile_with_backoff(&controller_runner, object);
    let shutdown = controller_runner.leader.cancelled();
    let action = controller_runner.store_limits.run(object.store_endpoint(), reconciling, shutdown).await;
    Ok(action.unwrap_or_else(Action::await_change))
}

async fn reconcile_with_backoff<L: Reconciler>(
    controller_runner: &ControllerRunner<L>,
    object: &L::Object,
) -> Action {
    let (hooks, kind): (_, &str) = (&controller_runner.reconciler.context().telemetry, L::KIND.into());
    let key = meta::namespaced_name(object);
    let span = info_span!("look", kind, object = %key);
    let began = Instant::now();
    let reconciling = reconcile_latest(&controller_runner.reconciler, object).instrument(span.clone());
    let (action, outcome) = match reconciling.await {
        Ok(Reconciled { action, is_changed }) => {
            controller_runner.backoff.reset(&key);
            (action, if is_changed { ReconcileOutcome::Changed } else { ReconcileOutcome::Unchanged })
        }
        Err(failure) => {
            let pause = controller_runner.backoff.record_failure(&key);
            let (category, message) = (failure.category(), failure.to_string());
            span.in_scope(|| warn!(category, message, again_in_seconds = pause.as_secs(), "failed"));
            (Action::requeue(pause), ReconcileOutcome::Failed(category))
        }
    };
    hooks.record_reconcile(L::KIND, outcome, began.elapsed());
    action
}

async fn reconcile_latest<L: Reconciler>(
    reconciler: &L,
    object: &L::Object,
) -> Result<Reconciled, L::Failure> {
    if !L::REFETCH {
        return reconciler.reconcile(object, Timestamp::now()).await;
    }
    let namespace = object.namespace().unwrap_or_default();
    match fetch(&reconciler.context().client, &namespace, &object.name_any()).await? {
        Some(object) => reconciler.reconcile(&object, Timestamp::now()).await,
        // It is gone, or cannot be read any more.
        None => Ok(Reconciled::AWAIT_CHANGE),
    }
}

/// What went wrong around the looks. Not shown whole: a watch's error can hold a part of an object.
fn log_controller_error<L: Reconciler>(error: &Error<Infallible, watcher::Error>) {
    let kind: &str = L::KIND.into();
    match error {
        Error::ObjectNotFound(_) => debug!(kind, "gone before it was looked at"),
        Error::QueueError(_) => warn!(kind, "a watch failed and is set up anew"),
        Error::RunnerError(_) => warn!(kind, "the queue failed"),
        Error::ReconcilerFailed(impossible, _) => match *impossible {},
    }
}
