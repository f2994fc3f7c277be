//! A test scene: a policy, a site with its bucket, and cameras of the test bed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};

use super::cluster::TestNamespace;
use super::recorded::Bucket;
use super::settings::{S3Identity, S3Server, setting};
use super::wait::eventually;

/// Name of the Site in every scene.
pub const SITE: &str = "die-heijgrave";
/// Name of the policy in every scene.
pub const POLICY: &str = "heusden-2020";

/// A namespace with everything that recording needs.
pub struct Scene {
    pub namespace: TestNamespace,
    pub bucket: Bucket,
}

impl Scene {
    /// Creates a policy, a site and its Secrets, without cameras, in a new namespace. `edit` changes policy and site
    /// before they are created.
    pub async fn new(
        client: &Client,
        prefix: &str,
        server: S3Server,
        edit: impl Fn(&mut Value, &mut Value),
    ) -> Self {
        let namespace = TestNamespace::new(client, prefix).await;
        Self::within(namespace, server, edit).await
    }

    /// Creates a policy, a site and its Secrets in an existing namespace.
    pub async fn within(
        namespace: TestNamespace,
        server: S3Server,
        edit: impl Fn(&mut Value, &mut Value),
    ) -> Self {
        let bucket = Bucket { server, name: format!("tz-{}", namespace.name) };
        let server = &bucket.server;
        namespace.s3_secret("s3-operator", server.bucket_maker()).await;
        namespace.s3_secret("s3-recorder", server.identity("recorder")).await;
        namespace.camera_secret("camera-login").await;
        let scene = Self { namespace, bucket };
        let (mut policy, mut site) = (policy(), scene.site());
        edit(&mut policy, &mut site);
        scene.create::<RecordingPolicy>(policy).await;
        scene.create::<Site>(site).await;
        scene
    }

    /// Returns the site's manifest before any edits.
    pub fn site(&self) -> Value {
        let server = &self.bucket.server;
        let identity = |identity: &S3Identity, secret: &str| json!({"principal": identity.principal, "credentialsRef": {"name": secret}});
        json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "Site", "metadata": {"name": SITE},
            "spec": {
                "displayName": "Zwembad/sporthal Die Heijgrave",
                "address": {"street": "Burgemeester Zwaansweg 4", "city": "Vlijmen"},
                "policyRef": {"name": POLICY},
                "managers": [{
                    "subject": {"kind": "Group", "name": "managers-die-heijgrave"},
                    "principal": server.identity("manager").principal,
                }],
                "notices": {"staffInformedDate": "2020-05-05", "signsPostedDate": "2020-05-05"},
                "storage": {
                    "bucket": self.bucket.name, "endpoint": server.endpoint, "region": server.region,
                    "pathStyle": server.path_style,
                    "operator": identity(server.bucket_maker(), "s3-operator"),
                    "recorder": identity(server.identity("recorder"), "s3-recorder"),
                },
                "recorder": {
                    "segmentDuration": "6s", "spool": {"size": "512Mi"},
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                },
            },
        })
    }

    /// Creates an object in the scene's namespace.
    pub async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.namespace.api::<K>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Creates a camera that streams the test bed's `path`, such as `h264/3`.
    pub async fn camera(&self, name: &str, path: &str) {
        let url = format!("{}/{path}", setting("TOEZICHT_TEST_CAMERAS"));
        self.create::<Camera>(json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": name},
            "spec": {
                "siteRef": {"name": SITE}, "area": "Receptie", "visible": true,
                "stream": {"url": url, "credentialsRef": {"name": "camera-login"}},
            },
        }))
        .await;
    }

    /// Waits until a condition of a camera has the status.
    pub async fn wait_for_camera(&self, name: &str, condition: &str, status: &str, limit: Duration) {
        let api: Api<Camera> = self.namespace.api();
        eventually(&format!("Camera {name} {condition}={status}"), limit, || async {
            let camera = api.get(name).await.map_err(|e| e.to_string())?;
            let conditions = camera.status.map(|s| s.conditions).unwrap_or_default();
            has(&conditions, condition, status)
        })
        .await;
    }

    /// Waits until a condition of the site has the status.
    pub async fn wait_for_site(&self, condition: &str, status: &str, limit: Duration) {
        let api: Api<Site> = self.namespace.api();
        eventually(&format!("Site {} {condition}={status}", self.namespace.name), limit, || async {
            let site = api.get(SITE).await.map_err(|e| e.to_string())?;
            let generation = site.metadata.generation;
            let status_ = site.status.unwrap_or_default();
            if status_.observed_generation != generation {
                return Err(format!("generation {generation:?} not observed: {status_:?}"));
            }
            has(&status_.conditions, condition, status)
        })
        .await;
    }

    /// Waits until a condition of the site has the reason, and returns its message.
    pub async fn wait_for_site_reason(&self, condition: &str, reason: &str, limit: Duration) -> String {
        let api: Api<Site> = self.namespace.api();
        eventually(&format!("Site {condition} {reason}"), limit, || async {
            let site = api.get(SITE).await.map_err(|e| e.to_string())?;
            let conditions = site.status.unwrap_or_default().conditions;
            let found = conditions.iter().find(|found| found.type_ == condition && found.reason == reason);
            found.map(|found| found.message.clone()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await
    }

    /// Declares a hold over the recordings of these cameras.
    pub async fn declare(&self, name: &str, cameras: &[&str], from: Timestamp, until: Option<Timestamp>) {
        let mut window = json!({"from": from});
        if let Some(until) = until {
            window["until"] = json!(until);
        }
        self.create::<IncidentHold>(json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": name},
            "spec": {
                "siteRef": {"name": SITE}, "cameras": cameras, "window": window, "purpose": "Theft",
                "reference": "2026-0412",
            },
        }))
        .await;
    }

    /// Pauses or resumes the operator's reconciles of the site and its bucket.
    pub async fn pause(&self, paused: bool) {
        let value = paused.then_some("true");
        let patch = json!({"metadata": {"annotations": {"toezicht.dev/paused": value}}});
        self.patch_site(patch).await;
    }

    /// Merges `patch` into the site.
    pub async fn patch_site(&self, patch: Value) {
        let sites = self.namespace.api::<Site>();
        sites.patch(SITE, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Resolves a hold one second in the past.
    pub async fn resolve(&self, name: &str) {
        let at = Timestamp::now() - SignedDuration::from_secs(1);
        let patch = json!({"spec": {"state": "Resolved", "resolution": {"time": at, "by": "Gemeentesecretaris", "outcome": "Closed"}}});
        let api = self.namespace.api::<IncidentHold>();
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until a condition of a hold has type, status and reason, and returns its message.
    pub async fn wait_for_hold_reason(&self, name: &str, condition: [&str; 3], limit: Duration) -> String {
        let api = self.namespace.api::<IncidentHold>();
        let [type_, status, reason] = condition;
        eventually(&format!("IncidentHold {name} {condition:?}"), limit, || async {
            let hold = api.get(name).await.map_err(|e| e.to_string())?;
            let conditions = hold.status.unwrap_or_default().conditions;
            let found = conditions
                .iter()
                .find(|found| found.type_ == type_ && found.status == status && found.reason == reason);
            found.map(|found| found.message.clone()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await
    }

    /// Waits until a condition of a hold has the status.
    pub async fn wait_for_hold(&self, name: &str, condition: &str, status: &str, limit: Duration) {
        let api = self.namespace.api::<IncidentHold>();
        eventually(&format!("IncidentHold {name} {condition}={status}"), limit, || async {
            let hold = api.get(name).await.map_err(|e| e.to_string())?;
            let hold_status = hold.status.unwrap_or_default();
            has(&hold_status.conditions, condition, status)
                .map_err(|conditions| format!("{conditions}; {:?}", hold_status.placement))
        })
        .await;
    }

    /// Waits until the site's status reports the first sweep and a successful audit of the bucket.
    pub async fn wait_until_settled(&self, limit: Duration) {
        let api: Api<Site> = self.namespace.api();
        eventually("the bucket is swept and audited", limit, || async {
            let status = api.get(SITE).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
            let swept = status.retention.is_some_and(|retention| retention.last_sweep_time.is_some());
            if !swept {
                return Err("not swept".into());
            }
            has(&status.conditions, "Compliant", "True")
        })
        .await;
    }

    /// Returns the recorders' configuration from its Secret.
    pub async fn recorder_config(&self) -> String {
        let name = format!("{SITE}-recorder-config");
        let secret: Secret = self.namespace.api().get(&name).await.unwrap();
        let bytes = secret.data.unwrap_or_default().remove("config.json").expect("config.json");
        String::from_utf8(bytes.0).unwrap()
    }

    /// Deletes the namespace. Only tests that passed call this, so that a failed one can be inspected.
    pub async fn delete(self) {
        self.namespace.delete().await;
    }
}

/// Returns an error with all conditions if the condition lacks the status.
pub fn has(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    type_: &str,
    status: &str,
) -> Result<(), String> {
    if conditions.iter().any(|c| c.type_ == type_ && c.status == status) {
        return Ok(());
    }
    let all = conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
    Err(all.collect::<Vec<_>>().join("; "))
}

/// Returns the policy of the Heusden example.
pub fn policy() -> Value {
    json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "RecordingPolicy", "metadata": {"name": POLICY},
        "spec": {
            "title": "Protocol cameratoezicht en opname gesprekken",
            "timeZone": "Europe/Amsterdam",
            "adoption": {"by": "College van burgemeester en wethouders", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"},
            "worksCouncilConsent": {"date": "2020-04-21"},
            "purposes": ["Theft", "Aggression"],
            "retention": {"video": "28d", "calls": "7d"},
            "holds": {"reviewInterval": "28d"},
        },
    })
}
