//! From the resources to Kubernetes objects and the bucket, and back into status. One folder a kind, each
//! dereference → validate → plan → apply → status; what they share is in [`kubernetes`].

pub mod audit;
pub mod camera;
pub mod camera_source;
pub mod config;
pub mod context;
pub mod egress;
pub mod grant;
pub mod handoff;
pub mod hold;
pub mod kubernetes;
pub mod policy;
pub mod recorder_client;
pub mod requeue;
pub mod retention;
pub mod runner;
pub mod site;
pub mod stall;
pub mod store_limits;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::context::{Context, ControllerKind};
use crate::api::{Camera, IncidentHold, RecordingPolicy, Site};

/// A controller ended though nobody had asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller of {} ended by itself", <&str>::from(.0))]
pub struct ControllerEnded(pub ControllerKind);

/// Runs all controllers until `leader` is cancelled and what was under way has finished. Where the
/// configuration names namespaces, each has controllers of its own, so that Roles in these are enough.
///
/// There is no other resync than the one that each object has every ten minutes, and the one that a new
/// leader begins with: to have everything looked at anew, restart the operator.
pub async fn run(context: Context, leader: CancellationToken) -> Result<(), ControllerEnded> {
    let scopes: Vec<Option<String>> = if context.config.watch_namespaces.is_empty() {
        vec![None]
    } else {
        context.config.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let running = FuturesUnordered::new();
    let mut list_checks = JoinSet::new();
    for scope in scopes {
        list_checks.spawn(runner::wait_until_readable::<RecordingPolicy>(
            context.clone(),
            ControllerKind::RecordingPolicy,
            scope.clone(),
        ));
        list_checks.spawn(runner::wait_until_readable::<Site>(
            context.clone(),
            ControllerKind::Site,
            scope.clone(),
        ));
        list_checks.spawn(runner::wait_until_readable::<Camera>(
            context.clone(),
            ControllerKind::Camera,
            scope.clone(),
        ));
        list_checks.spawn(runner::wait_until_readable::<IncidentHold>(
            context.clone(),
            ControllerKind::IncidentHold,
            scope.clone(),
        ));
        for (kind, controller) in controllers_in_scope(&context, scope.as_deref(), &leader) {
            running.push(async move {
                controller.await;
                kind
            });
        }
    }
    let ended = running.filter(|_| std::future::ready(!leader.is_cancelled()));
    tokio::pin!(ended);
    // Once leadership ends every controller ends, and none of them by itself.
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
    let (context, leader) = (context.clone(), leader.clone());
    [
        (
            ControllerKind::RecordingPolicy,
            Box::pin(policy::controller(context.clone(), scope, leader.clone())),
        ),
        (ControllerKind::IncidentHold, Box::pin(hold::controller(context.clone(), scope, leader.clone()))),
        (ControllerKind::Camera, Box::pin(camera::controller(context.clone(), scope, leader.clone()))),
        (ControllerKind::Retention, Box::pin(retention::controller(context.clone(), scope, leader.clone()))),
        (ControllerKind::Audit, Box::pin(audit::controller(context.clone(), scope, leader.clone()))),
        (ControllerKind::Site, Box::pin(site::controller(context, scope, leader))),
    ]
}
