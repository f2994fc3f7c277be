//! Kubernetes clients, and a namespace for each test.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};

use super::settings::{S3Identity, setting};

/// Returns a client of the cluster in `KUBECONFIG`, as its administrator.
pub async fn client() -> Client {
    // Only the first call takes effect. The Kubernetes client and the AWS SDK then share one provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::infer().await.expect("KUBECONFIG");
    Client::try_from(config).unwrap()
}

/// Returns a kubeconfig for a proxy at `endpoint`, which needs no credentials.
pub fn kubeconfig_for(endpoint: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": endpoint}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
}

/// A namespace of one test.
pub struct TestNamespace {
    pub client: Client,
    pub name: String,
}

impl TestNamespace {
    /// Creates a namespace with a generated name that begins with `prefix`. It enforces the restricted pod security
    /// standard.
    pub async fn new(client: &Client, prefix: &str) -> Self {
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                labels: Some(BTreeMap::from([(
                    "pod-security.kubernetes.io/enforce".to_owned(),
                    "restricted".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let created = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        Self { client: client.clone(), name: created.unwrap().name_any() }
    }

    /// Deletes the namespace without waiting. Only tests that passed call this, so that a failed one can be
    /// inspected.
    pub async fn delete(self) {
        Api::<Namespace>::all(self.client.clone())
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates a Secret with S3 credentials.
    pub async fn s3_secret(&self, name: &str, identity: &S3Identity) {
        let data = [("accessKeyId", &identity.access_key), ("secretAccessKey", &identity.secret_key)];
        self.secret(name, "toezicht.dev/s3", data.map(|(k, v)| (k, v.clone()))).await;
    }

    /// Creates a Secret with the test cameras' login.
    pub async fn camera_secret(&self, name: &str) {
        let data = [
            ("username", setting("TOEZICHT_TEST_CAMERA_USER")),
            ("password", setting("TOEZICHT_TEST_CAMERA_PASSWORD")),
        ];
        self.secret(name, "toezicht.dev/camera", data).await;
    }

    pub async fn secret<const N: usize>(&self, name: &str, type_: &str, data: [(&str, String); N]) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            type_: Some(type_.to_owned()),
            string_data: Some(data.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            ..Secret::default()
        };
        self.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }
}
