//! RecordingPolicy: whether it can be followed, whether it is in force, and what is under it.
//!
//! dereference → validate → status: a policy has no objects of its own to plan or apply.

mod dereference;
mod status;
mod validate;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use self::dereference::dereference;
use self::validate::validate;
use super::context::{Context, ControllerKind};
use super::kubernetes::error::ApiError;
use super::kubernetes::{event, meta, status as kit_status};
use super::runner::{Reconciled, Reconciler, Watched};
use super::{requeue, runner};
use crate::api::{RecordingPolicy, RecordingPolicyStatus, Site};

/// Field manager of a policy's status.
const MANAGER: &str = "toezicht/policy";

impl Watched for RecordingPolicy {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

/// Looks after the policies of `scope`, or of all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let controller = Controller::new(
        runner::scoped_api::<DeserializeGuard<RecordingPolicy>>(&client, scope),
        watcher::Config::default(),
    );
    let policies = controller.store();
    // All policies of the namespace: what a site was under before it changed is not to be seen here. A
    // namespace has one or two.
    let controller = controller.watches(
        runner::scoped_api::<DeserializeGuard<Site>>(&client, scope),
        watcher::Config::default(),
        move |site| runner::select_in_namespace(&policies, &site, |_| true),
    );
    runner::run_controller(controller, PolicyReconciler { context }, leader)
}

struct PolicyReconciler {
    context: Context,
}

impl Reconciler for PolicyReconciler {
    type Object = RecordingPolicy;
    type Failure = ApiError;
    const KIND: ControllerKind = ControllerKind::RecordingPolicy;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn reconcile(&self, policy: &RecordingPolicy, now: Timestamp) -> Result<Reconciled, ApiError> {
        let Context { client, config, events, .. } = &self.context;
        if meta::is_deleting(policy) {
            return Ok(Reconciled { action: Action::await_change(), is_changed: false });
        }
        let api = Api::namespaced(client.clone(), &policy.namespace().unwrap_or_default());
        if meta::is_paused(policy) {
            let before = policy.status.clone().unwrap_or_default();
            let conditions =
                kit_status::paused_conditions(&before.conditions, before.observed_generation, now);
            let next = RecordingPolicyStatus { conditions, ..before };
            let is_changed = kit_status::report(&api, MANAGER, policy, policy.status.as_ref(), &next).await?;
            return Ok(Reconciled { action: Action::await_change(), is_changed });
        }
        let under = dereference(client, policy).await?;
        let valid = validate(&policy.spec, &config.ceilings, now);
        let next = status::policy_status(policy, &valid, under, now);

        let is_changed = kit_status::report(&api, MANAGER, policy, policy.status.as_ref(), &next).await?;
        if is_changed {
            event::publish(events, policy, &event::condition_changes(policy.conditions(), &next.conditions))
                .await;
        }
        Ok(Reconciled { action: requeue::at(now, valid.next_change), is_changed })
    }
}
