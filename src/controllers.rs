//! Controllers: from the resources to Kubernetes objects and the bucket, and back into status. Each kind has a folder with
//! the steps dereference → validate → plan → apply → status. [`kubernetes`] has the helpers that they share.

pub mod audit;
pub mod camera;
pub mod camera_source;
pub mod config;
pub mod context;
pub mod discard_log;
pub mod egress;
pub mod grant;
pub mod handoff;
pub mod hold;
pub mod kubernetes;
pub mod policy;
pub mod recorder_client;
pub mod requeue;
pub mod retention;
pub mod rollout_turns;
pub mod runner;
pub mod site;
pub mod site_policies;
pub mod slots;
pub mod stall;
pub mod store_limits;
#[cfg(test)]
pub(crate) mod testing;
pub mod unreadable;
pub mod watch_cache;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::audit::AuditReconciler;
use self::camera::CameraReconciler;
use self::context::{Context, ControllerKind};
use self::hold::HoldReconciler;
use self::policy::PolicyReconciler;
use self::retention::RetentionReconciler;
use self::runner::{Reconciler, run_controller, wait_until_readable};
use self::site::SiteReconciler;
use self::site::bucket::BucketCache;
use self::watch_cache::WatchCache;
use crate::api::{Camera, IncidentHold, RecordingPolicy, Site};

/// A controller ended while this replica still led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {} controller ended unexpectedly", <&str>::from(.0))]
pub struct ControllerEnded(pub ControllerKind);

/// Runs all controllers until `leader` is cancelled and every reconcile in progress has finished. If the configuration
/// names namespaces, each namespace has its own controllers, so that Roles in these namespaces are enough.
///
/// Objects resync every ten minutes and when a new leader begins. To reconcile everything at once, restart the operator.
pub async fn run(context: Context, leader: CancellationToken) -> Result<(), ControllerEnded> {
    let scopes: Vec<Option<String>> = if context.config.watch_namespaces.is_empty() {
        vec![None]
    } else {
        context.config.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let running = FuturesUnordered::new();
    // The set aborts its tasks when this function returns. Detached ones would list for ever after a lost lease.
    let mut watches = JoinSet::new();
    for scope in scopes {
        let (cache, writers) = WatchCache::new(&context.client, scope.as_deref());
        let context = Context { cache, ..context.clone() };
        // Before the watches, so that the controllers get their first list.
        let controllers = controllers_in_scope(&context, scope.as_deref(), &leader);
        for writer in writers {
            watches.spawn(writer);
        }
        // Shared: a store wakes only one of those that wait for it.
        let cache = context.cache.clone();
        let ready = async move { cache.wait_until_ready().await }.boxed().shared();
        watches.spawn(wait_until_readable::<RecordingPolicy>(context.clone(), scope.clone(), ready.clone()));
        watches.spawn(wait_until_readable::<Site>(context.clone(), scope.clone(), ready.clone()));
        watches.spawn(wait_until_readable::<Camera>(context.clone(), scope.clone(), ready.clone()));
        watches.spawn(wait_until_readable::<IncidentHold>(context.clone(), scope.clone(), ready.clone()));
        for (kind, controller) in controllers {
            let (ready, leader) = (ready.clone(), leader.clone());
            running.push(async move {
                if leader.run_until_cancelled(ready).await.is_some() {
                    controller.await;
                }
                kind
            });
        }
    }
    // When leadership ends, every controller ends: only an end before that is an error.
    let ended = running.filter(|_| std::future::ready(!leader.is_cancelled()));
    tokio::pin!(ended);
    match ended.next().await {
        Some(kind) => Err(ControllerEnded(kind)),
        None => Ok(()),
    }
}

fn controllers_in_scope(
    context: &Context,
    scope: Option<&str>,
    leader: &CancellationToken,
) -> [(ControllerKind, BoxFuture<'static, ()>); 6] {
    let new_site = |context| SiteReconciler { context, bucket_cache: BucketCache::default() };
    [
        start(context, leader, policy::controller(context), |context| PolicyReconciler { context }),
        start(context, leader, hold::controller(context), |context| HoldReconciler { context }),
        start(context, leader, camera::controller(context), CameraReconciler::new),
        start(context, leader, retention::controller(context, scope), |context| RetentionReconciler {
            context,
        }),
        start(context, leader, audit::controller(context, scope), |context| AuditReconciler { context }),
        start(context, leader, site::controller(context, scope), new_site),
    ]
}

fn start<R: Reconciler>(
    context: &Context,
    leader: &CancellationToken,
    controller: Controller<DeserializeGuard<R::Object>>,
    new: impl FnOnce(Context) -> R,
) -> (ControllerKind, BoxFuture<'static, ()>) {
    let running = run_controller(controller, new(context.clone()), context.clone(), leader.clone());
    (R::KIND, Box::pin(running))
}
