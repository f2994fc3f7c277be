//! Everything that the controllers of one scope watch. Each kind has one watch, which all controllers share.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, Secret, Service, ServiceAccount};
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};

use super::kubernetes::cached::{Cacheable, Cached, WatchState};
use super::site::recorders::names::{CONFIG_SECRET_TYPE, RECORDER_SELECTOR, SITE_LABEL};
use crate::api::{
    Camera, IncidentHold, RecordingPolicy, SECRET_TYPE_CA, SECRET_TYPE_CAMERA, SECRET_TYPE_S3, Site,
};

/// Object of a kind of this operator. One in an unknown form does not stop the watch.
pub type Guarded<K> = DeserializeGuard<K>;

/// Time for which a watch may fail before Sites report it. A restart of the API server takes less.
const MAX_WATCH_FAILURE: Duration = Duration::from_mins(2);

/// Caches of one scope: a namespace, or all namespaces. Clones share them.
#[derive(Clone)]
pub struct WatchCache {
    pub policies: Cached<Guarded<RecordingPolicy>>,
    pub sites: Cached<Guarded<Site>>,
    pub cameras: Cached<Guarded<Camera>>,
    pub holds: Cached<Guarded<IncidentHold>>,
    pub workloads: Cached<StatefulSet>,
    pub services: Cached<Service>,
    pub service_accounts: Cached<ServiceAccount>,
    /// Of their specs, only the node and whether they use its network.
    pub pods: Cached<Pod>,
    /// Volume claims of spools.
    pub claims: Cached<PersistentVolumeClaim>,
    /// Configurations of the recorders. Of the Secrets, only those of the operator's own types pass through the operator.
    pub recorder_configs: Cached<Secret>,
    pub store_secrets: Cached<Secret>,
    pub camera_secrets: Cached<Secret>,
    pub ca_secrets: Cached<Secret>,
    /// Those of all the caches above.
    states: Arc<[Box<dyn WatchState>]>,
}

/// Watches of a [`WatchCache`], which run until they are dropped, with the names of their kinds.
pub type Watches = Vec<(String, BoxFuture<'static, ()>)>;

impl WatchCache {
    /// Returns the empty caches of `scope`, or of all namespaces, and their watches.
    pub fn new(client: &Client, scope: Option<&str>) -> (Self, Watches) {
        let mut builder = Builder { client, scope, watches: Vec::new(), states: Vec::new() };
        let all = watcher::Config::default;
        let recorders = || all().labels(RECORDER_SELECTOR);
        let of_type = |type_: &str| all().fields(&format!("type={type_}"));
        let cache = Self {
            policies: builder.cached(all(), |_| None),
            sites: builder.cached(all(), |_| None),
            cameras: builder.cached(all(), |camera: &Guarded<Camera>| {
                Some(camera.0.as_ref().ok()?.spec.site_ref.name.clone())
            }),
            holds: builder.cached(all(), |hold: &Guarded<IncidentHold>| {
                Some(hold.0.as_ref().ok()?.spec.site_ref.name.clone())
            }),
            workloads: builder.cached(recorders(), site_label),
            services: builder.cached(recorders(), site_label),
            service_accounts: builder.cached(recorders(), site_label),
            // As they are listed: one that lost another label must not seem to be gone.
            pods: builder.trimmed(all().labels(SITE_LABEL), site_label, trim_pod),
            claims: builder.cached(all().labels(SITE_LABEL), site_label),
            recorder_configs: builder.cached(of_type(CONFIG_SECRET_TYPE), site_label),
            store_secrets: builder.cached(of_type(SECRET_TYPE_S3), |_| None),
            camera_secrets: builder.cached(of_type(SECRET_TYPE_CAMERA), |_| None),
            ca_secrets: builder.cached(of_type(SECRET_TYPE_CA), |_| None),
            // Last, when all are built.
            states: builder.states.into(),
        };
        (cache, builder.watches)
    }

    /// Returns a kind whose watch has failed for longer than [`MAX_WATCH_FAILURE`]: the cache may have old objects.
    pub fn failed_kind(&self) -> Option<String> {
        self.states.iter().find_map(|state| state.failed_kind(MAX_WATCH_FAILURE))
    }

    /// Waits until every kind was listed. A controller that began before would take objects for absent.
    pub async fn wait_until_ready(&self) {
        join_all(self.states.iter().map(|state| state.wait_until_ready())).await;
    }
}

struct Builder<'a> {
    client: &'a Client,
    scope: Option<&'a str>,
    watches: Watches,
    states: Vec<Box<dyn WatchState>>,
}

impl Builder<'_> {
    fn cached<K: Cacheable>(
        &mut self,
        config: watcher::Config,
        site_of: fn(&K) -> Option<String>,
    ) -> Cached<K> {
        self.trimmed(config, site_of, |_| ())
    }

    fn trimmed<K: Cacheable>(
        &mut self,
        config: watcher::Config,
        site_of: fn(&K) -> Option<String>,
        trim: fn(&mut K),
    ) -> Cached<K> {
        let (cached, writer) = Cached::new(scoped_api(self.client, self.scope), config, site_of);
        self.watches.push((K::kind(&()).into_owned(), Box::pin(writer.trimming(trim).run())));
        self.states.push(Box::new(cached.clone()));
        cached
    }
}

/// Returns the API of a kind in `scope`, or in all namespaces.
pub fn scoped_api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Removes the containers and the volumes that are no claims. They take more memory than the rest of a recorder's pod.
fn trim_pod(pod: &mut Pod) {
    if let Some(PodSpec { node_name, host_network, mut volumes, .. }) = pod.spec.take() {
        if let Some(volumes) = &mut volumes {
            volumes.retain(|volume| volume.persistent_volume_claim.is_some());
        }
        pod.spec = Some(PodSpec { node_name, host_network, volumes, ..PodSpec::default() });
    }
}

fn site_label<K: Resource>(object: &K) -> Option<String> {
    object.labels().get(SITE_LABEL).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::recorder_client::pod_address;

    #[test]
    fn trimmed_pod_keeps_what_its_recorder_is_found_by() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "zwembad-recorder-0"},
            "spec": {
                "nodeName": "node-3", "hostNetwork": false, "containers": [{"name": "recorder", "image": "i"}],
                "volumes": [
                    {"name": "config", "secret": {"secretName": "c"}},
                    {"name": "spool", "persistentVolumeClaim": {"claimName": "spool-zwembad-recorder-0"}},
                ],
            },
            "status": {"podIP": "10.1.2.3"},
        }))
        .unwrap();
        trim_pod(&mut pod);
        assert_eq!(pod_address(Some(&pod)), Ok([10, 1, 2, 3].into()));
        let spec = pod.spec.as_mut().unwrap();
        assert!(spec.containers.is_empty());
        // A lost recorder with a claim does not lose its spool with its pod.
        let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
        assert_eq!(volumes, ["spool"]);
        assert_eq!(spec.node_name.as_deref(), Some("node-3"));
        spec.host_network = Some(true);
        trim_pod(&mut pod);
        assert!(pod_address(Some(&pod)).is_err(), "it uses the address of its node");
    }
}
