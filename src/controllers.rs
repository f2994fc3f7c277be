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
pub mod peer_limits;
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
#[cfg(test)]
pub(crate) mod testing;
pub mod unreadable;
pub mod watch_cache;

use std::panic::AssertUnwindSafe;

use futures::future::{BoxFuture, pending};
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
use self::runner::{Reconciler, Watched, run_controller, wait_until_readable};
use self::site::SiteReconciler;
use self::site::bucket::BucketCache;
use self::site::recorders::orphans;
use self::watch_cache::WatchCache;
use crate::api::{Camera, IncidentHold, RecordingPolicy, Site};

/// A part of the work ended or panicked while this replica still led. The process must end: what is left would work with caches
/// that nothing updates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkEnded {
    #[error("the {} controller ended unexpectedly", <&str>::from(.0))]
    Controller(ControllerKind),
    #[error("the watch of {0} ended unexpectedly")]
    Watch(String),
}

/// Runs all controllers until `leader` is cancelled and every reconcile in progress has finished. If the configuration
/// names namespaces, each namespace has its own controllers, so that Roles in these namespaces are enough.
///
/// Objects resync every ten minutes and when a new leader begins. To reconcile everything at once, restart the operator.
pub async fn run(context: Context, leader: CancellationToken) -> Result<(), WorkEnded> {
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
        for (kind, watch) in writers {
            watches.spawn(name_of_ended(kind, watch));
        }
        // Shared: a store wakes only one of those that wait for it.
        let cache = context.cache.clone();
        let ready = async move { cache.wait_until_ready().await }.boxed().shared();
        for (kind, reader) in readers(&context, scope.as_deref(), &ready) {
            watches.spawn(name_of_panicked(kind.to_owned(), reader));
        }
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
    tokio::select! {
        // First: without its watch, a controller must not run even once more.
        biased;
        kind = next_ended(&mut watches) => Err(WorkEnded::Watch(kind)),
        ended = first_ended(running, &leader) => ended.map_or(Ok(()), |kind| Err(WorkEnded::Controller(kind))),
    }
}

/// Runs `work`, which must not end, and returns its name when it ends or panics. The panic hook has the message.
async fn name_of_ended(name: String, work: impl Future<Output = ()>) -> Option<String> {
    drop(AssertUnwindSafe(work).catch_unwind().await);
    Some(name)
}

/// Runs `work`, and returns its name if it panics.
async fn name_of_panicked(name: String, work: impl Future<Output = ()>) -> Option<String> {
    AssertUnwindSafe(work).catch_unwind().await.is_err().then_some(name)
}

/// Returns the first name that a task returns.
async fn next_ended(tasks: &mut JoinSet<Option<String>>) -> String {
    loop {
        match tasks.join_next().await {
            Some(Ok(Some(name))) => return name,
            Some(_) => {}
            None => pending().await,
        }
    }
}

/// Returns the first controller that ends before `leader` is cancelled; `None` when all have ended after it. When leadership ends,
/// every controller ends: only an end before that is an error.
async fn first_ended(
    running: FuturesUnordered<impl Future<Output = ControllerKind>>,
    leader: &CancellationToken,
) -> Option<ControllerKind> {
    let ended = running.filter(|_| std::future::ready(!leader.is_cancelled()));
    tokio::pin!(ended);
    ended.next().await
}

/// Returns the tasks that report when the operator can read each kind.
fn readers(
    context: &Context,
    scope: Option<&str>,
    ready: &(impl Future<Output = ()> + Clone + Send + 'static),
) -> [(&'static str, BoxFuture<'static, ()>); 4] {
    [
        reader::<RecordingPolicy>(context, scope, ready),
        reader::<Site>(context, scope, ready),
        reader::<Camera>(context, scope, ready),
        reader::<IncidentHold>(context, scope, ready),
    ]
}

fn reader<K: Watched>(
    context: &Context,
    scope: Option<&str>,
    ready: &(impl Future<Output = ()> + Clone + Send + 'static),
) -> (&'static str, BoxFuture<'static, ()>) {
    let scope = scope.map(str::to_owned);
    (K::KIND.into(), wait_until_readable::<K>(context.clone(), scope, ready.clone()).boxed())
}

fn controllers_in_scope(
    context: &Context,
    scope: Option<&str>,
    leader: &CancellationToken,
) -> [(ControllerKind, BoxFuture<'static, ()>); 7] {
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
        (ControllerKind::OrphanedRecorders, orphans::controller(context, leader.clone()).boxed()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn end_or_panic_of_a_watch_is_noticed() {
        let panics: BoxFuture<()> = async { panic!("a bug") }.boxed();
        let ends: BoxFuture<()> = std::future::ready(()).boxed();
        for (work, name) in [(panics, "Secret"), (ends, "Camera")] {
            let mut tasks = JoinSet::new();
            tasks.spawn(name_of_ended("Site".into(), pending()));
            tasks.spawn(name_of_panicked("Pod".into(), std::future::ready(())));
            tasks.spawn(name_of_ended(name.into(), work));
            assert_eq!(next_ended(&mut tasks).await, name);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(name_of_panicked("Pod".into(), async { panic!("a bug") }));
        assert_eq!(next_ended(&mut tasks).await, "Pod");
    }

    #[tokio::test]
    async fn controllers_may_end_only_after_leadership() {
        let leader = CancellationToken::new();
        let ended = || FuturesUnordered::from_iter([std::future::ready(ControllerKind::Camera)]);
        assert_eq!(first_ended(ended(), &leader).await, Some(ControllerKind::Camera));
        leader.cancel();
        assert_eq!(first_ended(ended(), &leader).await, None);
    }
}
