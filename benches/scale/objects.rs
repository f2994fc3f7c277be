//! Namespaces, Sites and Cameras, and the children that the operator makes of them.

use std::fmt::Debug;
use std::path::PathBuf;

use futures::{StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};
use toezicht::cli::crds;

use crate::support::cluster::TestNamespace;
use crate::support::scene::{POLICY, policy};
use crate::support::settings::{S3Server, root, setting};
use crate::support::wait::{HANG, eventually};

const SITES_PER_NAMESPACE: usize = 25;
const MAX_CONCURRENT_REQUESTS: usize = 16;
/// Labels of the children.
pub const CHILDREN: &str = "app.kubernetes.io/managed-by=toezicht,app.kubernetes.io/component=recorder";

/// Kind of object of this benchmark.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// The API server without controllers and nodes, and the store.
pub struct Cluster {
    pub client: Client,
    server: S3Server,
    /// Distinguishes the buckets of this run.
    run: String,
}

/// Namespace and name.
pub type Key = (String, String);

/// Returns the key of the Site with this number.
pub fn site_key(number: usize) -> Key {
    (namespace(number), format!("site-{number:04}"))
}

fn namespace(number: usize) -> String {
    format!("scale-{:03}", number / SITES_PER_NAMESPACE)
}

/// Returns the name of a Camera of the Site with this number.
pub fn camera_name(site: usize, camera: usize) -> String {
    format!("camera-{site:04}-{camera:02}")
}

/// Returns the URL of a camera. No recorder connects to it.
pub fn stream_url(name: &str, path: &str) -> String {
    format!("rtsp://198.51.100.1/{name}/{path}")
}

impl Cluster {
    pub async fn connect() -> Self {
        let kubeconfig = Kubeconfig::read_from(setting("TOEZICHT_TEST_KUBECONFIG_NEWEST")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        Self { client, server: S3Server::primary(), run: hex::encode(rand::random::<[u8; 3]>()) }
    }

    /// Returns the endpoint of the store.
    pub fn endpoint(&self) -> &str {
        &self.server.endpoint
    }

    /// Installs the definitions.
    pub async fn install(&self) {
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
        for definition in crds::definitions() {
            let params = PatchParams::apply("bench").force();
            definitions.patch(&definition.name_any(), &params, &Patch::Apply(&definition)).await.unwrap();
        }
        let holds = Api::<IncidentHold>::all(self.client.clone());
        eventually("the kinds are served", HANG, || async {
            holds.list(&ListParams::default().limit(1)).await.map(drop).map_err(|e| e.to_string())
        })
        .await;
        let sites =
            Api::<Site>::all(self.client.clone()).list(&ListParams::default().limit(1)).await.unwrap();
        assert!(sites.items.is_empty(), "Sites of another run exist: start with `make testbed-reset`");
    }

    /// Creates the Sites from `first` on, at `endpoint`, each with as many Cameras, and everything that they name.
    pub async fn create_sites(&self, first: usize, sites: usize, cameras_per_site: usize, endpoint: &str) {
        let numbers = first..first + sites;
        let mut namespaces: Vec<String> = numbers.clone().map(namespace).collect();
        namespaces.dedup();
        for_each(namespaces, async |namespace: String| self.create_namespace(&namespace).await).await;
        for_each(numbers.clone(), async |site: usize| {
            self.create::<Site>(&namespace(site), self.site(site, endpoint)).await;
        })
        .await;
        let cameras = numbers.flat_map(|site| (0..cameras_per_site).map(move |camera| (site, camera)));
        for_each(cameras, async |(site, camera): (usize, usize)| {
            self.create::<Camera>(&namespace(site), manifest(site, camera)).await;
        })
        .await;
    }

    async fn create_namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let namespace = TestNamespace { client: self.client.clone(), name: name.to_owned() };
        namespace.s3_secret("s3-operator", self.server.bucket_maker()).await;
        namespace.s3_secret("s3-recorder", self.server.identity("recorder")).await;
        namespace.camera_secret("camera-login").await;
        self.create::<RecordingPolicy>(name, policy()).await;
    }

    fn site(&self, number: usize, endpoint: &str) -> Value {
        let server = &self.server;
        let identity = |principal: &str, secret: &str| json!({"principal": principal, "credentialsRef": {"name": secret}});
        let (_, name) = site_key(number);
        json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "Site", "metadata": {"name": name},
            "spec": {
                "displayName": format!("Site {number}"),
                "address": {"street": "Burgemeester Zwaansweg 4", "city": "Vlijmen"},
                "policyRef": {"name": POLICY},
                "managers": [{
                    "subject": {"kind": "Group", "name": "managers"},
                    "principal": server.identity("manager").principal,
                }],
                "notices": {"staffInformedDate": "2020-05-05", "signsPostedDate": "2020-05-05"},
                "storage": {
                    "bucket": format!("tz-scale-{}-{number:04}", self.run), "endpoint": endpoint,
                    "region": server.region, "pathStyle": server.path_style,
                    "operator": identity(&server.bucket_maker().principal, "s3-operator"),
                    "recorder": identity(&server.identity("recorder").principal, "s3-recorder"),
                },
                "recorder": {"spool": {"size": "512Mi"}},
            },
        })
    }

    /// Creates an object.
    pub async fn create<K: Kind>(&self, namespace: &str, object: Value) {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>(namespace).create(&PostParams::default(), &object).await.unwrap();
    }

    pub fn api<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes the children of all Sites to a file, as a person would apply them. Returns its path and their number.
    pub async fn export_children(&self) -> (PathBuf, usize) {
        let mut items = self.list_manifests::<ServiceAccount>().await;
        items.extend(self.list_manifests::<Service>().await);
        items.extend(self.list_manifests::<Secret>().await);
        items.extend(self.list_manifests::<StatefulSet>().await);
        let file = root().join("target/benches/scale-children.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        std::fs::write(&file, list.to_string()).unwrap();
        (file, items.len())
    }

    async fn list_manifests<K: Kind>(&self) -> Vec<Value> {
        let children = self.list_children::<K>().await.into_iter().map(|mut child| {
            let meta = child.meta_mut();
            (meta.managed_fields, meta.resource_version, meta.uid) = (None, None, None);
            (meta.creation_timestamp, meta.generation) = (None, None);
            let mut manifest = serde_json::to_value(&child).unwrap();
            manifest["apiVersion"] = K::api_version(&()).into();
            manifest["kind"] = K::kind(&()).into();
            manifest.as_object_mut().unwrap().remove("status");
            manifest
        });
        children.collect()
    }

    async fn list_children<K: Kind>(&self) -> Vec<K> {
        let params = ListParams::default().labels(CHILDREN);
        Api::<K>::all(self.client.clone()).list(&params).await.unwrap().items
    }

    /// Deletes the children of all Sites, and their pods.
    pub async fn delete_children(&self) {
        self.delete_all::<StatefulSet>().await;
        self.delete_all::<Pod>().await;
        self.delete_all::<Secret>().await;
        self.delete_all::<Service>().await;
        self.delete_all::<ServiceAccount>().await;
    }

    async fn delete_all<K: Kind>(&self) {
        let children = self.list_children::<K>().await;
        for_each(children, async |child: K| {
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
            let namespace = child.namespace().unwrap();
            drop(self.api::<K>(&namespace).delete(&child.name_any(), &params).await.unwrap());
        })
        .await;
    }
}

async fn for_each<T>(all: impl IntoIterator<Item = T>, act: impl AsyncFn(T)) {
    let act = &act;
    stream::iter(all).for_each_concurrent(MAX_CONCURRENT_REQUESTS, move |item| act(item)).await;
}

fn manifest(site: usize, camera: usize) -> Value {
    let name = camera_name(site, camera);
    json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": name},
        "spec": {
            "siteRef": {"name": site_key(site).1}, "area": "Receptie", "visible": true,
            "stream": {"url": stream_url(&name, "h264"), "credentialsRef": {"name": "camera-login"}},
        },
    })
}
