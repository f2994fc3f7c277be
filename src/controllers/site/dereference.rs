//! Step one: fetch what a Site names, and what is there already.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::recorders::names::ChildNames;
use super::recorders::workload::replicas;
use crate::api::{Camera, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site};
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::kubernetes::error::ApiError;
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::controllers::kubernetes::{meta, secret_ref};
use crate::controllers::site::recorders::workload::fetch_recorder_config;
use crate::wire::RecorderConfig;

/// What a Site names, and what is there already.
#[derive(Clone, Debug, Default)]
pub struct ObservedSite {
    /// Its policy; `None`: there is none of that name that can be read.
    pub policy: Option<RecordingPolicy>,
    /// The cameras that name this site, by name, those being deleted left out.
    pub cameras: Vec<Camera>,
    /// Secrets that cameras may name; the storage's own authority is among them.
    pub camera_secrets: CameraSecrets,
    /// Secrets of type `toezicht.dev/s3`, by name.
    pub store_secrets: BTreeMap<String, ReferencedSecret>,
    /// The configuration that the recorders have now.
    pub recorder_config: Option<RecorderConfig>,
    /// How many pods the recorders' StatefulSet has; `None`: there is none of ours.
    pub replicas: Option<u32>,
}

/// Fetches it. Needs the API server only: where the site stores is decided in the next step, before
/// anything else is connected to.
pub async fn dereference(client: &Client, site: &Site) -> Result<ObservedSite, ApiError> {
    let names = ChildNames::of(site);
    let (client, namespace) = (client.clone(), names.namespace.as_str());
    let secrets = |type_| secret_ref::fetch_all(&client, namespace, type_);
    let (policy, cameras, logins, authorities, store_secrets, config, pods) = tokio::try_join!(
        get_readable(
            Api::<DeserializeGuard<RecordingPolicy>>::namespaced(client.clone(), namespace),
            &site.spec.policy_ref.name
        ),
        list_cameras(Api::namespaced(client.clone(), namespace), &names.site),
        secrets(SECRET_TYPE_CAMERA),
        secrets(SECRET_TYPE_CA),
        secrets(SECRET_TYPE_S3),
        fetch_recorder_config(Api::namespaced(client.clone(), namespace), &names),
        fetch_replicas(Api::namespaced(client.clone(), namespace), &names),
    )?;
    let camera_secrets = CameraSecrets { logins, ca_certificates: authorities };
    Ok(ObservedSite {
        policy,
        cameras,
        camera_secrets,
        store_secrets,
        recorder_config: config,
        replicas: pods,
    })
}

/// The object `name`, where there is one and it can be read.
async fn get_readable<K>(api: Api<DeserializeGuard<K>>, name: &str) -> Result<Option<K>, ApiError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    Ok(api.get_opt(name).await?.and_then(|object| object.0.ok()))
}

/// The cameras of `site`. One that cannot be read cannot be recorded; the others go on.
async fn list_cameras(api: Api<DeserializeGuard<Camera>>, site: &str) -> Result<Vec<Camera>, ApiError> {
    let all = api.list(&ListParams::default()).await?.items.into_iter();
    let mut ours: Vec<Camera> = all
        .filter_map(|camera| camera.0.ok())
        .filter(|camera| camera.spec.site_ref.name == site && !meta::is_deleting(camera))
        .collect();
    ours.sort_by_key(ResourceExt::name_any);
    Ok(ours)
}

async fn fetch_replicas(api: Api<StatefulSet>, names: &ChildNames) -> Result<Option<u32>, ApiError> {
    let live = api.get_opt(&names.recorder).await?;
    let ours = live.filter(|live| meta::is_controlled_by(live, &names.uid));
    Ok(ours.as_ref().map(replicas))
}
