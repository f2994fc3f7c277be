//! The bucket's configuration, read back with boto3, equals the documents committed under `tests/expected/`. After an
//! intended change, `TOEZICHT_WRITE_EXPECTED=1` rewrites them.

use std::path::PathBuf;

use serde_json::Value;
use toezicht::storage::Probe;

use super::scene::Scene;
use crate::support::settings::{S3Server, root};
use crate::support::tools::read_back;

const BUCKET: &str = "BUCKET";
const DOCUMENTS: [&str; 4] = ["objectLock", "versioning", "lifecycle", "policy"];

fn document_file(server: &S3Server, document: &str) -> PathBuf {
    root().join("tests/expected").join(&server.name).join(format!("{document}.json"))
}

/// Returns a document with a placeholder for the bucket's name, independent of the server's formatting.
fn without_bucket_name(answer: &Value, bucket: &str) -> Value {
    serde_json::from_str(&answer.to_string().replace(bucket, BUCKET)).unwrap()
}

async fn configuration_matches_committed(server: S3Server) {
    let scene = Scene::new(server, "expected");
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert!(enforced.observed.object_lock && enforced.observed.versioning);
    assert_eq!(enforced.observed.default_retention, None);
    assert_eq!(enforced.observed.video_expiration_days(), Some(24));
    assert_eq!(enforced.observed.calls_expiration_days(), Some(3));

    let identity = scene.operator_identity();
    let read = read_back(&scene.server, scene.bucket(), &identity).await;
    for document in DOCUMENTS {
        let document_found = without_bucket_name(&read[document], scene.bucket());
        let file = document_file(&scene.server, document);
        if std::env::var_os("TOEZICHT_WRITE_EXPECTED").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, serde_json::to_string_pretty(&document_found).unwrap() + "\n").unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let committed: Value = serde_json::from_str(&committed).unwrap();
        assert_eq!(committed, document_found, "{}", file.display());
    }
}

#[tokio::test]
async fn seaweedfs_configuration_matches_committed() {
    configuration_matches_committed(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_configuration_matches_committed() {
    configuration_matches_committed(S3Server::secondary()).await;
}
