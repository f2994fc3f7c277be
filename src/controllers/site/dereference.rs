//! Step one: fetches the references of a Site and its children.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Api, Client, ResourceExt};

use super::recorders::names::ChildNames;
use super::recorders::workload::{fetch_recorder_config, replicas};
use crate::api::{Camera, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site};
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::controllers::kubernetes::{ApiError, meta, secret_ref};
use crate::controllers::runner::{fetch, list};
use crate::wire::RecorderConfig;

/// References of a Site and its children. `None`: the object does not exist or cannot be deserialized.
#[derive(Clone, Debug, Default)]
pub struct ObservedSite {
    pub policy: Option<RecordingPolicy>,
    /// Cameras of this site by name, without those that are being deleted.
    pub cameras: Vec<Camera>,
    /// Secrets that cameras may name. The certificate authority of the store is one of them.
    pub camera_secrets: CameraSecrets,
    /// Secrets of type `toezicht.dev/s3`, by name.
    pub store_secrets: BTreeMap<String, ReferencedSecret>,
    /// Current configuration of the recorders.
    pub recorder_config: Option<RecorderConfig>,
    /// Replicas of the recorders' StatefulSet; `None`: this Site has none.
    pub replicas: Option<u32>,
}

/// Fetches from the API server only: the next step decides about connections to a store.
pub async fn dereference(client: &Client, site: &Site) -> Result<ObservedSite, ApiError> {
    let names = ChildNames::of(site);
    let namespace = names.namespace.as_str();
    let secrets = |type_| secret_ref::fetch_all(client, namespace, type_);
    let (policy, cameras, logins, ca_certificates, store_secrets, recorder_config, replicas) = tokio::try_join!(
        fetch::<RecordingPolicy>(client, namespace, &site.spec.policy_ref.name),
        list_cameras(client, &names),
        secrets(SECRET_TYPE_CAMERA),
        secrets(SECRET_TYPE_CA),
        secrets(SECRET_TYPE_S3),
        fetch_recorder_config(Api::namespaced(client.clone(), namespace), &names),
        fetch_replicas(Api::namespaced(client.clone(), namespace), &names),
    )?;
    let camera_secrets = CameraSecrets { logins, ca_certificates };
    Ok(ObservedSite { policy, cameras, camera_secrets, store_secrets, recorder_config, replicas })
}

async fn list_cameras(client: &Client, names: &ChildNames) -> Result<Vec<Camera>, ApiError> {
    let mut cameras = list::<Camera>(client, &names.namespace).await?;
    cameras.retain(|camera| camera.spec.site_ref.name == names.site && !meta::is_deleting(camera));
    // The configuration, and with it its revision, must not depend on the order of the answer.
    cameras.sort_by_key(ResourceExt::name_any);
    Ok(cameras)
}

async fn fetch_replicas(api: Api<StatefulSet>, names: &ChildNames) -> Result<Option<u32>, ApiError> {
    let live = api.get_opt(&names.recorder).await?;
    let own = live.filter(|live| meta::is_controlled_by(live, &names.uid));
    Ok(own.as_ref().map(replicas))
}
