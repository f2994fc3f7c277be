//! An API server with the definitions installed, and a namespace for test objects.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use toezicht::api::{GROUP, VERSION};
use toezicht::cli::crds;

use super::case::Case;
use crate::support::cluster::{TestNamespace, client};
use crate::support::settings::setting;
use crate::support::wait::eventually;

/// An API server with the definitions installed under `group`.
pub struct Server {
    pub client: Client,
    pub namespace: String,
    group: String,
    /// Whether the test deletes the definitions at its end.
    is_own_group: bool,
    resources: BTreeMap<String, ApiResource>,
}

/// The API server's decision on an object.
#[derive(Debug)]
pub enum AdmissionResult {
    Admitted,
    Rejected(Vec<Cause>),
}

/// One cause of a rejection.
#[derive(Debug)]
pub struct Cause {
    pub field: String,
    pub message: String,
}

impl Server {
    /// Returns the server of `KUBECONFIG` with the definitions under the test's own group.
    pub async fn default_version(prefix: &str) -> Self {
        let group = format!("{prefix}.test.toezicht.dev");
        Self::with_definitions(client().await, prefix, &group, crds::definitions()).await
    }

    /// Returns the server of the newest version with the definitions under their real group.
    pub async fn newest_version(prefix: &str) -> Self {
        Self::with_definitions(newest_client().await, prefix, GROUP, crds::definitions()).await
    }

    /// Installs `definitions` under `group` and creates a namespace with a name that begins with `prefix`.
    pub async fn with_definitions(
        client: Client,
        prefix: &str,
        group: &str,
        definitions: Vec<CustomResourceDefinition>,
    ) -> Self {
        let mut resources = BTreeMap::new();
        for definition in definitions {
            let resource = install(&client, with_group(definition, group)).await;
            resources.insert(resource.kind.to_lowercase(), resource);
        }
        let namespace = TestNamespace::new(&client, prefix).await.name;
        Self { client, namespace, group: group.to_owned(), is_own_group: group != GROUP, resources }
    }

    /// Deletes the namespace and the definitions under the test's own group. Only tests that passed call this.
    pub async fn clean_up(self) {
        if self.is_own_group {
            for resource in self.resources.values() {
                uninstall(&self.client, &format!("{}.{}", resource.plural, resource.group)).await;
            }
        }
        TestNamespace { client: self.client, name: self.namespace }.delete().await;
    }

    /// Tries the creation or the change of a case, as a dry run.
    pub async fn try_case(&self, case: &Case) -> AdmissionResult {
        let api = self.api(&case.kind);
        let after = self.in_test_namespace(&case.after);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let result = match &case.before {
            None => api.create(&dry, &after).await,
            Some(before) => {
                let created = api.create(&PostParams::default(), &self.in_test_namespace(before)).await;
                let created = created
                    .unwrap_or_else(|error| panic!("{case}: the object to change is rejected: {error}"));
                let created = match before.get("status") {
                    None => created,
                    Some(status) => self.set_status(&case.kind, &created.name_any(), status).await,
                };
                let mut after = after;
                after.metadata.resource_version = created.metadata.resource_version;
                api.replace(after.metadata.name.clone().unwrap().as_str(), &dry, &after).await
            }
        };
        admission_result(result, &case.name)
    }

    /// Patches the status of an object, as the operator would.
    pub async fn set_status(&self, kind: &str, name: &str, status: &Value) -> DynamicObject {
        let patch = Patch::Merge(json!({"status": status}));
        let written = self.api(kind).patch_status(name, &PatchParams::default(), &patch).await;
        written.unwrap_or_else(|error| panic!("the status of {name}: {error}"))
    }

    /// Patches the spec of an object and returns the server's decision.
    pub async fn patch_spec(&self, kind: &str, name: &str, spec: &Value) -> AdmissionResult {
        let patch = Patch::Merge(json!({"spec": spec}));
        let result = self.api(kind).patch(name, &PatchParams::default(), &patch).await;
        admission_result(result, name)
    }

    /// Applies an object of any kind as a dry run with strict field validation.
    pub async fn dry_run_apply(&self, object: &Value) -> Result<Value, kube::Error> {
        let kind = object["kind"].as_str().unwrap();
        let api = match self.resources.get(&kind.to_lowercase()) {
            Some(_) => self.api(&kind.to_lowercase()),
            None => self.core_api(kind),
        };
        let object = self.in_test_namespace(object);
        let name = object.metadata.name.clone().unwrap();
        let strictly =
            PatchParams { dry_run: true, ..PatchParams::apply("admission-test") }.validation_strict();
        let applied = api.patch(&name, &strictly, &Patch::Apply(&object)).await?;
        Ok(serde_json::to_value(applied).unwrap())
    }

    /// Creates an object of one of the four kinds.
    pub async fn create(&self, object: &Value) {
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        self.api(&kind).create(&PostParams::default(), &self.in_test_namespace(object)).await.unwrap();
    }

    /// Reads an object of one of the four kinds.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::to_value(self.api(kind).get(name).await.unwrap()).unwrap()
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &self.resources[kind])
    }

    fn core_api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        match kind {
            "Namespace" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }

    /// Returns the object with this server's group and namespace.
    fn in_test_namespace(&self, object: &Value) -> DynamicObject {
        let mut object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let types = object.types.as_mut().unwrap();
        if types.api_version.contains('/') {
            types.api_version = format!("{}/{VERSION}", self.group);
        }
        if types.kind != "Namespace" {
            object.metadata.namespace = Some(self.namespace.clone());
        }
        object
    }
}

/// Returns a client of the API server of the newest version.
pub async fn newest_client() -> Client {
    // As in `cluster::client`, only the first call takes effect.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let file = Kubeconfig::read_from(setting("TOEZICHT_TEST_KUBECONFIG_NEWEST")).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Returns a definition under another group.
pub fn with_group(mut definition: CustomResourceDefinition, group: &str) -> CustomResourceDefinition {
    definition.metadata.name = Some(format!("{}.{group}", definition.spec.names.plural));
    group.clone_into(&mut definition.spec.group);
    definition
}

/// Installs a definition and waits until the server serves it.
pub async fn install(client: &Client, definition: CustomResourceDefinition) -> ApiResource {
    let name = definition.metadata.name.clone().unwrap();
    let names = &definition.spec.names;
    let gvk = GroupVersionKind::gvk(&definition.spec.group, VERSION, &names.kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &names.plural);
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let params = PatchParams::apply("admission-test").force();
    api.patch(&name, &params, &Patch::Apply(&definition))
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let limit = Duration::from_mins(1);
    eventually(&format!("{name} is established"), limit, async || {
        let conditions =
            api.get(&name).await.map_err(|error| error.to_string())?.status.unwrap_or_default().conditions;
        let is_true =
            |type_: &str| conditions.iter().flatten().any(|c| c.type_ == type_ && c.status == "True");
        if is_true("Established") && is_true("NamesAccepted") {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await;
    let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
    eventually(&format!("{name} is served"), limit, async || {
        objects.list(&kube::api::ListParams::default().limit(1)).await.map_err(|error| error.to_string())
    })
    .await;
    resource
}

/// Deletes a definition without waiting.
async fn uninstall(client: &Client, name: &str) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

fn admission_result(result: Result<DynamicObject, kube::Error>, case: &str) -> AdmissionResult {
    match result {
        Ok(_) => AdmissionResult::Admitted,
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            AdmissionResult::Rejected(
                causes.into_iter().map(|c| Cause { field: c.field, message: c.message }).collect(),
            )
        }
        Err(error) => panic!("{case}: neither admitted nor rejected: {error}"),
    }
}
