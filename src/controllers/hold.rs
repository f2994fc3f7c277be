//! IncidentHold: whether it can be accepted, and what a person must know of it. What it covers is placed and released by
//! the retention controller, which alone writes to the bucket.
//!
//! dereference → validate → status.

mod dereference;
pub(crate) mod recordings_found;
pub(crate) mod stall_causes;
pub(crate) mod status;
mod validate;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Controller;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use self::dereference::dereference;
pub use self::status::FINALIZER;
use self::validate::validate;
use super::context::{Context, ControllerKind};
use super::kubernetes::error::ApiError;
use super::kubernetes::{event, meta, status as kit_status};
use super::requeue;
use super::runner;
use super::runner::{Reconciled, Reconciler, Watched};
use crate::api::{IncidentHold, IncidentHoldStatus, RecordingPolicy, Site};
use crate::controllers::hold::status::has_taken_effect;

/// Field manager of a hold's status.
pub const MANAGER: &str = "toezicht/hold";

impl Watched for IncidentHold {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

/// Looks after the holds of `scope`, or of all namespaces, until `leader` is cancelled.
pub fn controller(
    context: Context,
    scope: Option<&str>,
    leader: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = context.client.clone();
    let controller = Controller::new(
        runner::scoped_api::<DeserializeGuard<IncidentHold>>(&client, scope),
        watcher::Config::default(),
    );
    let (by_site, by_policy) = (controller.store(), controller.store());
    let controller = controller
        .watches(
            runner::scoped_api::<PartialObjectMeta<Site>>(&client, scope),
            watcher::Config::default(),
            move |site| {
                runner::select_in_namespace(&by_site, &site, |hold| {
                    hold.spec.site_ref.name == site.name_any()
                })
            },
        )
        // Which sites are under it is not known here.
        .watches(
            runner::scoped_api::<PartialObjectMeta<RecordingPolicy>>(&client, scope),
            watcher::Config::default(),
            move |policy| runner::select_in_namespace(&by_policy, &policy, |_| true),
        );
    runner::run_controller(controller, HoldReconciler { context }, leader)
}

struct HoldReconciler {
    context: Context,
}

/// Whether nothing is kept for a hold, so that its resource may go.
pub fn may_remove_finalizer(hold: &IncidentHold, now: Timestamp) -> bool {
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    status::is_fully_released(hold, placement, crate::rules::hold::resolution::is_resolved(hold, now))
}

/// Whether something may be kept for a hold: it counted once, and was not released.
pub fn may_protect_recordings(hold: &IncidentHold, now: Timestamp) -> bool {
    has_taken_effect(hold) && !may_remove_finalizer(hold, now)
}

/// The part of a status that this controller writes.
fn own_status_fields(status: IncidentHoldStatus) -> IncidentHoldStatus {
    IncidentHoldStatus { placement: None, never_held_time: None, ..status }
}

impl Reconciler for HoldReconciler {
    type Object = IncidentHold;
    type Failure = ApiError;
    const KIND: ControllerKind = ControllerKind::IncidentHold;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn reconcile(&self, hold: &IncidentHold, now: Timestamp) -> Result<Reconciled, ApiError> {
        let Context { client, events, .. } = &self.context;
        let api = Api::namespaced(client.clone(), &hold.namespace().unwrap_or_default());
        let named = dereference(client, hold).await?;
        let valid = validate(&hold.spec, &named, now);
        let (next, next_change) = status::hold_status(hold, &valid, now);

        let current = hold.status.clone().map(own_status_fields);
        let is_changed = kit_status::report(&api, MANAGER, hold, current.as_ref(), &next).await?;
        if is_changed {
            event::publish(events, hold, &event::condition_changes(hold.conditions(), &next.conditions))
                .await;
        }
        if meta::is_deleting(hold) && may_remove_finalizer(hold, now) {
            meta::remove_finalizer(client, hold, FINALIZER, MANAGER).await?;
        }
        Ok(Reconciled { action: requeue::at(now, next_change), is_changed })
    }
}
