//! IncidentHold: whether it can be accepted. This version places no holds, and says so.
//!
//! dereference → validate → status.

mod dereference;
mod status;
mod validate;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use self::dereference::dereference;
use self::validate::validate;
use super::drive::{self, Look, Looks, Watched};
use super::kit::context::{Context, Kind};
use super::kit::error::ApiError;
use super::kit::{event, meta, requeue, status as kit_status};
use crate::api::{IncidentHold, IncidentHoldStatus, RecordingPolicy, Site};

/// Field manager of a hold's status.
const MANAGER: &str = "toezicht/hold";

impl Watched for IncidentHold {
    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default()
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

impl Looks for Holds {
    type Object = IncidentHold;
    type Failure = ApiError;
    const KIND: Kind = Kind::IncidentHold;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn look(&self, hold: &IncidentHold, now: Timestamp) -> Result<Look, ApiError> {
        let Context { client, events, .. } = &self.context;
        if meta::is_deleting(hold) {
            return Ok(Look {
                action: Action::await_change(),
                is_changed: false,
            });
        }
        let api = Api::namespaced(client.clone(), &hold.namespace().unwrap_or_default());
        if meta::is_paused(hold) {
            let before = hold.status.clone().unwrap_or_default();
            let conditions = kit_status::paused(&before.conditions, before.observed_generation, now);
            let next = IncidentHoldStatus { conditions, ..before };
            let is_changed = kit_status::report(&api, MANAGER, hold, hold.status.as_ref(), &next).await?;
            return Ok(Look {
                action: Action::await_change(),
                is_changed,
            });
        }
        let named = dereference(client, hold).await?;
        let valid = validate(&hold.spec, &named, now);
        let next = status::status(hold, &valid, now);

        let is_changed = kit_status::report(&api, MANAGER, hold, hold.status.as_ref(), &next).await?;
        if is_changed {
            event::publish(events, hold, &event::changes(hold.conditions(), &next.conditions)).await;
        }
        Ok(Look {
            action: requeue::at(now, valid.next_change),
            is_changed,
        })
    }
}
