//! Adoption of buckets created by others, empty or partly configured.

use toezicht::storage::{AdoptionConflict, EnforceError, ForbiddenSubresource, Probe, Subresource};

use super::scene::Scene;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;
use crate::support::tools::run;

/// Returns the policies that `toezicht iam` prints for the scene's site, for the bucket's creator.
async fn print_policies(scene: &Scene) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("site.yaml");
    let (operator, recorder) = (&scene.spec.operator_principal, &scene.spec.recorder_principal);
    let site = format!(
        "apiVersion: toezicht.dev/v1alpha1
kind: Site
metadata: {{name: adopt}}
spec:
  displayName: Adopt
  address: {{street: Zwaansweg 4, city: Vlijmen}}
  policyRef: {{name: protocol-2020}}
  managers: [{{subject: {{kind: Group, name: m}}, principal: {:?}}}]
  storage:
    bucket: {}
    endpoint: {}
    region: {}
    operator: {{principal: {operator:?}, credentialsRef: {{name: a}}}}
    recorder: {{principal: {recorder:?}, credentialsRef: {{name: b}}}}
",
        scene.spec.readers[0],
        scene.bucket(),
        scene.server.endpoint,
        scene.server.region,
    );
    std::fs::write(&file, site).unwrap();
    let file = file.display().to_string();
    let output =
        run(env!("CARGO_BIN_EXE_toezicht"), &["iam", &file, "--store", &scene.server.name], None).await;
    serde_json::from_str(&output).unwrap()
}

/// Returns a scene whose operator may not create buckets and has only the permissions from the bucket's policy. An
/// administrator creates the bucket as described in `docs/reference/stores.md`.
fn scene_limited_to_bucket_policy(server: S3Server) -> Scene {
    let operator = server.identity("other").clone();
    Scene::with_operator(server, "adopt", &operator)
}

async fn terraform_bucket_is_adopted(server: S3Server) {
    let mut scene = scene_limited_to_bucket_policy(server);
    let admin = scene.client("admin");
    admin.create_bucket().bucket(scene.bucket()).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let policy = print_policies(&scene).await["bucket"].to_string();
    admin.put_bucket_policy().bucket(scene.bucket()).policy(policy).send().await.unwrap();

    // Ceph shows notifications only to a bucket's owner. Adopting without seeing them needs a decision.
    if scene.server.name == "ceph" {
        match scene.enforce(Probe::Run).await.unwrap_err() {
            EnforceError::Unadoptable { conflicts } => {
                assert_eq!(conflicts, [AdoptionConflict::Unreadable(ForbiddenSubresource::Notifications)]);
            }
            other => panic!("{other:?}"),
        }
        scene.spec.take_over = true;
    }
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let mut changed: Vec<_> = enforced.changes.iter().map(|change| change.subresource).collect();
    changed.retain(|what| *what != Subresource::DefaultEncryption);
    assert_eq!(changed, [Subresource::Claim, Subresource::Lifecycle, Subresource::Policy]);
    assert_eq!(enforced.observed.video_expiration_days(), Some(24));
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
}

#[tokio::test]
async fn seaweedfs_terraform_bucket_is_adopted() {
    terraform_bucket_is_adopted(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_terraform_bucket_is_adopted() {
    terraform_bucket_is_adopted(S3Server::secondary()).await;
}

/// Checks that if the bucket is already compliant, only the claim is written.
async fn compliant_bucket_is_only_claimed(server: S3Server, port: u16) {
    let model = Scene::new(server.clone(), "model");
    model.enforce(Probe::Skip).await.unwrap();
    let compliant_policy = model.policy().await.unwrap();
    let client = model.operator_client();
    let lifecycle = client.get_bucket_lifecycle_configuration().bucket(model.bucket()).send().await.unwrap();

    let mut scene = Scene::new(server, "finished");
    client.create_bucket().bucket(scene.bucket()).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let rules = aws_sdk_s3::types::BucketLifecycleConfiguration::builder()
        .set_rules(lifecycle.rules)
        .build()
        .unwrap();
    let request =
        client.put_bucket_lifecycle_configuration().bucket(scene.bucket()).lifecycle_configuration(rules);
    request.send().await.unwrap();
    let policy = compliant_policy.replace(model.bucket(), scene.bucket());
    client.put_bucket_policy().bucket(scene.bucket()).policy(policy).send().await.unwrap();

    // Only if the store supports default encryption.
    let encryption = client.get_bucket_encryption().bucket(model.bucket()).send().await;
    if let Ok(encryption) = encryption {
        let request = client.put_bucket_encryption().bucket(scene.bucket());
        let rules = encryption.server_side_encryption_configuration;
        request.set_server_side_encryption_configuration(rules).send().await.unwrap();
    }

    let proxy = Proxy::start(&scene.server.endpoint, port).await;
    scene.operator.endpoint = Some(proxy.endpoint.clone());
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    let changed: Vec<_> = enforced.changes.iter().map(|change| change.subresource).collect();
    assert_eq!(changed, [Subresource::Claim]);
    let requests = proxy.take();
    let lifecycle = requests
        .iter()
        .filter(|request| request.is_write() && request.path_and_query.contains("lifecycle"))
        .count();
    assert_eq!(lifecycle, 0);
}

#[tokio::test]
async fn seaweedfs_compliant_bucket_is_only_claimed() {
    compliant_bucket_is_only_claimed(S3Server::primary(), 18433).await;
}

#[tokio::test]
async fn ceph_compliant_bucket_is_only_claimed() {
    compliant_bucket_is_only_claimed(S3Server::secondary(), 18434).await;
}

async fn missing_create_bucket_right_is_reported(server: S3Server) {
    let scene = scene_limited_to_bucket_policy(server);
    let error = scene.enforce(Probe::Skip).await.unwrap_err();
    let message = error.to_string();
    for part in ["AccessDenied", "spec.storage.operator.principal"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn seaweedfs_missing_create_bucket_right_is_reported() {
    missing_create_bucket_right_is_reported(S3Server::primary()).await;
}
