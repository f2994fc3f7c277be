//! IncidentHold: whether it can be accepted, and what a person must know of it. What it covers is placed and released by
//! the retention controller, which alone writes to the bucket.
//!
//! dereference → validate → status.

mod causes;
mod covers;
mod dereference;
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
pub use self::status::is_resolved;
use self::validate::validate;
use super::drive::{self, Look, Looks, Watched};
use super::kit::context::{Context, Kind};
use super::kit::error::ApiError;
use super::kit::{event, meta, requeue, status as kit_status};
use crate::api::{IncidentHold, IncidentHoldStatus, RecordingPolicy, Site};

/// Finalizer of a hold: its resource stays until nothing is kept for it any more.
pub const FINALIZER: &str = "toezicht.dev/hold";
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
        drive::api::<DeserializeGuard<IncidentHold>>(&client, scope),
        watcher::Config::default(),
    );
    let (by_site, by_policy) = (controller.store(), controller.store());
    let controller = controller
        .watches(
            drive::api::<PartialObjectMeta<Site>>(&client, scope),
            watcher::Config::default(),
            move |site| drive::all_in(&by_site, &site, |hold| hold.spec.site_ref.name == site.name_any()),
        )
        // Which sites are under it is not known here.
        .watches(
            drive::api::<PartialObjectMeta<RecordingPolicy>>(&client, scope),
            watcher::Config::default(),
            move |policy| drive::all_in(&by_policy, &policy, |_| true),
        );
    drive::drive(controller, Holds { context }, leader)
}

struct Holds {
    context: Context,
}

/// Whether nothing is kept for a hold, so that its resource may go.
pub fn may_go(hold: &IncidentHold, now: Timestamp) -> bool {
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    status::may_go(hold, placement, status::is_resolved(hold, now))
}

/// Whether something was kept for it once, as its finalizer says, or its status, which may be older than the finalizer.
pub fn has_counted(hold: &IncidentHold) -> bool {
    let status = hold.status.as_ref();
    hold.finalizers().iter().any(|name| name == FINALIZER)
        || status.is_some_and(|status| status.placement.is_some())
}

/// Whether something may be kept for a hold: it counted once, and was not released.
pub fn is_kept(hold: &IncidentHold, now: Timestamp) -> bool {
    has_counted(hold) && !may_go(hold, now)
}

/// The part of a status that this controller writes.
fn ours(status: IncidentHoldStatus) -> IncidentHoldStatus {
    IncidentHoldStatus { placement: None, never_held_at: None, ..status }
}

impl Looks for Holds {
    type Object = IncidentHold;
    type Failure = ApiError;
    const KIND: Kind = Kind::IncidentHold;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn look(&self, hold: &IncidentHold, now: Timestamp) -> Result<Look, ApiError> {
        let Context { client, events, .. } = &self.context;
        let api = Api::namespaced(client.clone(), &hold.namespace().unwrap_or_default());
        let named = dereference(client, hold).await?;
        let valid = validate(&hold.spec, &named, now);
        let (next, next_change) = status::status(hold, &valid, now);

        let current = hold.status.clone().map(ours);
        let is_changed = kit_status::report(&api, MANAGER, hold, current.as_ref(), &next).await?;
        if is_changed {
            event::publish(events, hold, &event::changes(hold.conditions(), &next.conditions)).await;
        }
        if meta::is_deleting(hold) && may_go(hold, now) {
            meta::remove_finalizer(client, hold, FINALIZER, MANAGER).await?;
        }
        Ok(Look { action: requeue::at(now, next_change), is_changed })
    }
}
