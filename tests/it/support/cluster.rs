//! The cluster: clients, namespaces of a test's own, the operator installed by its chart.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::{Client, Config, ResourceExt};

use super::settings::{S3Identity, setting};

/// A client of the cluster in `KUBECONFIG`, as its administrator.
pub async fn client() -> Client {
    // The first caller wins; both SDKs then use the one provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::infer().await.expect("KUBECONFIG");
    Client::try_from(config).unwrap()
}

/// A namespace that a test has for itself.
pub struct TestNamespace {
    pub client: Client,
    pub name: String,
}

impl TestNamespace {
    /// Makes one whose name begins with `prefix`. Pods in it must be restricted.
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
        let made = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        Self { client: client.clone(), name: made.unwrap().name_any() }
    }

    /// Deletes it without waiting; called by a test that passed, so that a failed one can be looked at.
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

    /// A Secret of S3 credentials.
    pub async fn s3_secret(&self, name: &str, identity: &S3Identity) {
        let data = [("accessKeyId", &identity.access_key), ("secretAccessKey", &identity.secret_key)];
        self.secret(name, "toezicht.dev/s3", data.map(|(k, v)| (k, v.clone()))).await;
    }

    /// A Secret with the test cameras' login.
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
