//! Volumes for claims: folders of this machine, on which all nodes of the test bed run.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tempfile::TempDir;

use super::cluster::TestNamespace;

/// A storage class with volumes that nobody used yet.
pub struct Volumes {
    pub class: String,
    client: Client,
    names: Vec<String>,
    _folder: TempDir,
}

impl Volumes {
    /// Creates a storage class with `count` volumes of 1 GiB on the first node. Its name begins with that of the namespace.
    pub async fn new(namespace: &TestNamespace, name: &str, count: u32) -> Self {
        Self::on_node(namespace, name, count, "node").await
    }

    /// Creates a storage class like [`Self::new`], with volumes on another node.
    pub async fn on_node(namespace: &TestNamespace, name: &str, count: u32, node: &str) -> Self {
        let (client, class) = (namespace.client.clone(), format!("{}-{name}", namespace.name));
        let folder = tempfile::tempdir().unwrap();
        // A temporary folder is its owner's alone.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let object = json!({
            "metadata": {"name": class}, "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        let object: StorageClass = serde_json::from_value(object).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let mut names = Vec::new();
        for number in 0..count {
            let path = folder.path().join(number.to_string());
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
            let on_node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
            let volume: PersistentVolume = serde_json::from_value(json!({
                "metadata": {"name": format!("{class}-{number}")},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                    "persistentVolumeReclaimPolicy": "Retain", "local": {"path": path},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
                },
            }))
            .unwrap();
            let created = Api::all(client.clone()).create(&PostParams::default(), &volume).await.unwrap();
            names.push(created.name_any());
        }
        Self { class, client, names, _folder: folder }
    }

    /// Deletes the class and the volumes. Only tests that passed call this, so that a failed one can be inspected.
    pub async fn delete(self) {
        let params = DeleteParams::default();
        Api::<StorageClass>::all(self.client.clone()).delete(&self.class, &params).await.unwrap();
        for volume in &self.names {
            Api::<PersistentVolume>::all(self.client.clone()).delete(volume, &params).await.unwrap();
        }
    }
}
