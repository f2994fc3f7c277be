//! Step one: the references of a Site and its children.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, ResourceExt};

use super::recorders::lost::Losses;
use super::recorders::names::{ChildNames, secret_finalizer};
use super::recorders::workload::{fetch_recorder_config, own_recorder_config, own_replicas, replicas};
use crate::api::{Camera, Site};
use crate::controllers::camera_source::CameraSecrets;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::controllers::kubernetes::{ApiError, meta, secret_ref};
use crate::controllers::runner::readable;
use crate::controllers::site_policies::{SitePolicies, site_policies};
use crate::controllers::watch_cache::WatchCache;
use crate::wire::{CameraConfig, RecorderConfig};

/// References of a Site and its children. `None`: the object does not exist or cannot be deserialized.
#[derive(Clone, Debug, Default)]
pub struct ObservedSite {
    pub policies: SitePolicies,
    /// Cameras of this site by name, without those that are being deleted.
    pub cameras: Vec<Camera>,
    /// Metadata of cameras of any Site that cannot be deserialized, without those that are being deleted.
    pub unreadable_cameras: Vec<ObjectMeta>,
    /// Secrets that the cameras name. The certificate authority of the store is one of them.
    pub camera_secrets: CameraSecrets,
    /// Secrets of type `toezicht.dev/s3` that the Site names or has its finalizer on, by name.
    pub store_secrets: BTreeMap<String, ReferencedSecret>,
    /// Current configuration of the recorders.
    pub recorder_config: Option<RecorderConfig>,
    /// Replicas of the recorders' StatefulSet; `None`: this Site has none.
    pub replicas: Option<u32>,
    /// Recorders that are lost with their nodes.
    pub losses: Losses,
}

impl ObservedSite {
    /// Returns the camera `name` as the recorders have it.
    pub fn recorded_camera(&self, name: &str) -> Option<&CameraConfig> {
        self.recorder_config.iter().flat_map(|config| &config.cameras).find(|camera| camera.name == name)
    }

    /// Returns the unreadable cameras that the recorders have. They go on.
    pub fn unreadable_recorded_cameras(&self) -> impl Iterator<Item = (&ObjectMeta, &CameraConfig)> {
        let unreadable = self.unreadable_cameras.iter();
        unreadable.filter_map(|meta| Some((meta, self.recorded_camera(meta.name.as_deref()?)?)))
    }
}

/// Reads the watch cache and the API server only: the next step decides about connections to a store. Without `losses`.
pub async fn dereference(context: &Context, site: &Site, now: Timestamp) -> Result<ObservedSite, ApiError> {
    let Context { client, cache, config, .. } = context;
    let names = ChildNames::of(site);
    let (namespace, finalizer) = (names.namespace.as_str(), secret_finalizer(site));
    let cameras = own_cameras(cache, &names);
    let storage = &site.spec.storage;
    let streams = cameras.iter().map(|camera| &camera.spec.stream);
    let (logins, authorities) = (
        streams.clone().filter_map(|stream| stream.credentials_ref.as_ref()),
        streams.filter_map(|stream| stream.ca_ref.as_ref()).chain(&storage.ca_ref),
    );
    let identities = [&storage.operator.credentials_ref, &storage.recorder.credentials_ref];
    let has_finalizer = |secret: &Secret| secret.finalizers().contains(&finalizer);
    let is_known = cache.recorder_configs.has_own_changes(namespace, &names.config)
        && cache.workloads.has_own_changes(namespace, &names.recorder);
    let cached = own_recorder_config(cache, &names).zip(own_replicas(cache, &names)).filter(|_| is_known);
    let (recorder_config, replicas) = match cached {
        Some((config, replicas)) => (Some(config), Some(replicas)),
        // Without the configuration of before, the recorders would get another token, and without the replicas the cameras
        // would move. The watch does not have an object that lost its labels.
        None => tokio::try_join!(
            fetch_recorder_config(Api::namespaced(client.clone(), namespace), &names),
            fetch_replicas(Api::namespaced(client.clone(), namespace), &names),
        )?,
    };
    Ok(ObservedSite {
        policies: site_policies(cache, site, &config.ceilings, now),
        camera_secrets: CameraSecrets {
            logins: secret_ref::select(&cache.camera_secrets, namespace, logins, |_| false),
            ca_certificates: secret_ref::select(&cache.ca_secrets, namespace, authorities, has_finalizer),
        },
        store_secrets: secret_ref::select(
            &cache.store_secrets,
            namespace,
            identities.into_iter().flatten(),
            has_finalizer,
        ),
        recorder_config,
        replicas,
        cameras,
        unreadable_cameras: unreadable_cameras(cache, namespace),
        losses: Losses::default(),
    })
}

fn own_cameras(cache: &WatchCache, names: &ChildNames) -> Vec<Camera> {
    // In the order of their names: the configuration, and with it its revision, must not depend on the order of events.
    let cameras = cache.cameras.of_site(&names.namespace, &names.site);
    readable(&cameras).filter(|camera| !meta::is_deleting(*camera)).cloned().collect()
}

fn unreadable_cameras(cache: &WatchCache, namespace: &str) -> Vec<ObjectMeta> {
    let cameras = cache.cameras.in_namespace(namespace);
    let unreadable = cameras.iter().filter_map(|camera| camera.0.as_ref().err());
    unreadable
        .map(|camera| camera.metadata.clone())
        .filter(|meta| meta.deletion_timestamp.is_none())
        .collect()
}

async fn fetch_replicas(api: Api<StatefulSet>, names: &ChildNames) -> Result<Option<u32>, ApiError> {
    let live = api.get_opt(&names.recorder).await?;
    let own = live.filter(|live| names.owns(&live.metadata));
    Ok(own.as_ref().map(replicas))
}
