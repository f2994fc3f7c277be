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

use super::kit::context::{Context, Hooks, Kind, Outcome};
use super::kit::error::{ApiError, Backoff, Failure};
use super::kit::lanes::Lanes;
use super::kit::meta;
use crate::api::Site;

/// A kind that cannot be read is asked for again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

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
    /// The conditions in its status.
    fn conditions(&self) -> &[Condition];

    /// The store that a look at it waits for, if any.
    fn store(&self) -> Option<String> {
        None
    }
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// When to look again.
    pub action: Action,
    /// Whether anything was written.
    pub is_changed: bool,
}

impl Look {
    /// There is nothing to do until something changes.
    pub const NOTHING: Self = Self { action: Action::await_change(), is_changed: false };
}

/// Looks after objects of one kind.
pub trait Looks: Send + Sync + 'static {
    /// The kind.
    type Object: Watched;
    /// Why a look fails.
    type Failure: Failure + From<ApiError> + Send + Sync + 'static;
    /// Its name in metrics and logs.
    const KIND: Kind;
    /// Whether the conditions of its objects are counted as its own: of a kind with several controllers, one counts.
    const COUNTS: bool = true;
    /// Whether an object is read anew before each look: what the look before wrote to its status is carried on from there,
    /// and the watch may not have told of it yet.
    const ANEW: bool = false;
    /// What it has at hand.
    fn context(&self) -> &Context;
    /// Looks at `object`: compares what is with what should be, and does what it takes.
    fn look(
        &self,
        object: &Self::Object,
        now: Timestamp,
    ) -> impl Future<Output = Result<Look, Self::Failure>> + Send;
}

/// All objects of a kind in `scope`, or in all namespaces.
pub fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
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
pub fn all_in<K, Other>(
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
fn announce<K: Watched>(hooks: &Arc<dyn Hooks>, kind: Kind, store: Store<DeserializeGuard<K>>) {
    hooks.watching(
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
pub async fn until_readable<K: Watched>(context: Context, kind: Kind, scope: Option<String>) {
    let api = api::<PartialObjectMeta<K>>(&context.client, scope.as_deref());
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        let (kind, error): (&str, _) = (kind.into(), ApiError(error).safe_message());
        warn!(kind, scope, error, "cannot be read yet");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    context.hooks.read(kind);
}

impl Watched for Site {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }

    fn store(&self) -> Option<String> {
        let storage = &self.spec.storage;
        // AWS is one, whatever regions somebody names.
        Some(storage.endpoint.clone().unwrap_or_default())
    }
}

struct Driver<L> {
    looks: L,
    backoff: Backoff,
    lanes: Lanes,
    leader: CancellationToken,
}

/// Runs `controller` until `leader` is cancelled and what was under way has finished.
pub async fn drive<L: Looks>(
    controller: Controller<DeserializeGuard<L::Object>>,
    looks: L,
    leader: CancellationToken,
) {
    if L::COUNTS {
        announce(&looks.context().hooks, L::KIND, controller.store());
    }
    let driver = Arc::new(Driver {
        looks,
        backoff: Backoff::default(),
        lanes: Lanes::default(),
        leader: leader.clone(),
    });
    controller
        // Without end: lanes have one.
        .with_config(Config::default())
        .graceful_shutdown_on(leader.cancelled_owned())
        .run(look, |_, impossible, _| match *impossible {}, driver)
        .for_each(|result| {
            if let Err(error) = result {
                note::<L>(&error);
            }
            std::future::ready(())
        })
        .await;
}

async fn look<L: Looks>(
    object: Arc<DeserializeGuard<L::Object>>,
    driver: Arc<Driver<L>>,
) -> Result<Action, Infallible> {
    let hooks = &driver.looks.context().hooks;
    let kind: &str = L::KIND.into();
    let object = match &object.0 {
        Ok(object) => object,
        Err(unreadable) => {
            hooks.unreadable(L::KIND);
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
    let looked = look_at_its_turn(&driver, object);
    let waits = driver.leader.cancelled();
    let looked = driver.lanes.run(object.store(), looked, waits).await;
    Ok(looked.unwrap_or_else(Action::await_change))
}

async fn look_at_its_turn<L: Looks>(driver: &Driver<L>, object: &L::Object) -> Action {
    let (hooks, kind): (_, &str) = (&driver.looks.context().hooks, L::KIND.into());
    let key = meta::key(object);
    let span = info_span!("look", kind, object = %key);
    let began = Instant::now();
    let looked = look_at(&driver.looks, object).instrument(span.clone());
    let (action, outcome) = match looked.await {
        Ok(Look { action, is_changed }) => {
            driver.backoff.reset(&key);
            (action, if is_changed { Outcome::Changed } else { Outcome::Unchanged })
        }
        Err(failure) => {
            let pause = driver.backoff.failed(&key);
            let (category, message) = (failure.category(), failure.safe_message());
            span.in_scope(|| warn!(category, message, again_in_seconds = pause.as_secs(), "failed"));
            (Action::requeue(pause), Outcome::Failed(category))
        }
    };
    hooks.reconciled(L::KIND, outcome, began.elapsed());
    action
}

async fn look_at<L: Looks>(looks: &L, object: &L::Object) -> Result<Look, L::Failure> {
    if !L::ANEW {
        return looks.look(object, Timestamp::now()).await;
    }
    let namespace = object.namespace().unwrap_or_default();
    match fetch(&looks.context().client, &namespace, &object.name_any()).await? {
        Some(object) => looks.look(&object, Timestamp::now()).await,
        // It is gone, or cannot be read any more.
        None => Ok(Look::NOTHING),
    }
}

/// What went wrong around the looks. Not shown whole: a watch's error can hold a part of an object.
fn note<L: Looks>(error: &Error<Infallible, watcher::Error>) {
    let kind: &str = L::KIND.into();
    match error {
        Error::ObjectNotFound(_) => debug!(kind, "gone before it was looked at"),
        Error::QueueError(_) => warn!(kind, "a watch failed and is set up anew"),
        Error::RunnerError(_) => warn!(kind, "the queue failed"),
        Error::ReconcilerFailed(impossible, _) => match *impossible {},
    }
}
