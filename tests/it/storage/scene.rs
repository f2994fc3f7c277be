//! A bucket for each test, and clients to inspect it as other identities.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::types::{ObjectLockLegalHold, ObjectLockLegalHoldStatus, Tag, Tagging};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::time::Duration;
use toezicht::api::Days;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::storage::BucketConnection;
use toezicht::storage::enforce;
use toezicht::storage::s3::segments::Uploader;
use toezicht::storage::{BucketSpec, Claim, EnforceError, EnforceReport, Probe};
use toezicht::wire::{AccessKey, StorageTarget};

use crate::support::settings::{S3Identity, S3Server};
use crate::support::wait::eventually;

/// A bucket with its desired configuration and the identities that use it. `new` does not create the bucket.
#[derive(Clone, Debug)]
pub struct Scene {
    pub server: S3Server,
    pub operator: StorageTarget,
    pub recorder: StorageTarget,
    pub spec: BucketSpec,
    pub claim: Claim,
}

impl Scene {
    /// Returns a scene with an operator that may create its bucket.
    pub fn new(server: S3Server, prefix: &str) -> Self {
        let creator = server.bucket_maker().clone();
        Self::with_operator(server, prefix, &creator)
    }

    /// Returns a scene with this identity as the operator.
    pub fn with_operator(server: S3Server, prefix: &str, operator: &S3Identity) -> Self {
        let bucket = format!("tz-{prefix}-{}", hex::encode(rand::random::<[u8; 5]>()));
        Self::for_bucket(server, &bucket, prefix, operator)
    }

    /// Returns a scene for a bucket that an operator on the cluster created.
    pub fn of_bucket(server: S3Server, bucket: &str) -> Self {
        let creator = server.bucket_maker().clone();
        Self::for_bucket(server, bucket, bucket, &creator)
    }

    fn for_bucket(server: S3Server, bucket: &str, site: &str, operator: &S3Identity) -> Self {
        let recorder = server.identity("recorder").clone();
        Self {
            operator: target(&server, operator, bucket),
            recorder: target(&server, &recorder, bucket),
            spec: BucketSpec {
                video_ceiling: Days(28),
                calls_ceiling: Days(7),
                operator_principal: operator.principal.clone(),
                recorder_principal: recorder.principal.clone(),
                auditor: None,
                readers: vec![server.identity("manager").principal.clone()],
                take_over: false,
                operator_only: false,
                allow_unprotected: false,
            },
            claim: Claim {
                cluster_id: "test".into(),
                namespace: "heusden".into(),
                site: site.into(),
                uid: "11111111-1111-1111-1111-111111111111".into(),
            },
            server,
        }
    }

    pub fn bucket(&self) -> &str {
        &self.operator.bucket
    }

    /// Returns the operator's keys.
    pub fn keys(&self) -> &AccessKey {
        self.operator.credentials.as_access_key().unwrap()
    }

    pub async fn enforce(&self, trials: Probe) -> Result<EnforceReport, EnforceError> {
        let enforced = enforce(
            &connect(&self.operator),
            Some(&connect(&self.recorder)),
            &self.spec,
            &self.claim,
            trials,
        )
        .await;
        enforced.map_err(|failed| failed.error)
    }

    /// Returns an SDK client as one of the server's identities.
    pub fn client(&self, identity: &str) -> Client {
        client(&self.server, self.server.identity(identity))
    }

    /// Returns an SDK client with the operator's own credentials.
    pub fn operator_client(&self) -> Client {
        // With temporary keys the bucket's creator stands in for the operator.
        let keys = self.operator.credentials.as_access_key().filter(|keys| keys.session_token.is_none());
        let Some(keys) = keys else {
            return client(&self.server, self.server.bucket_maker());
        };
        let identity = S3Identity {
            access_key: keys.access_key_id.reveal().into(),
            secret_key: keys.secret_access_key.reveal().into(),
            principal: self.spec.operator_principal.clone(),
        };
        client(&self.server, &identity)
    }

    /// Returns the operator's name in the server's file.
    pub fn operator_identity(&self) -> String {
        let is_operator = |identity: &S3Identity| identity.access_key == self.keys().access_key_id.reveal();
        self.server.identities.iter().find(|(_, identity)| is_operator(identity)).unwrap().0.clone()
    }

    /// Returns the bucket policy as the store has it.
    pub async fn policy(&self) -> Option<String> {
        let response = self.operator_client().get_bucket_policy().bucket(self.bucket()).send().await.ok()?;
        response.policy().map(str::to_owned)
    }

    /// Uploads a one-minute recording of a camera from `start`, as a recorder does, and returns its key.
    pub async fn record(&self, camera: &str, start: Timestamp) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("segment.mp4");
        let bytes: [u8; 64] = rand::random();
        std::fs::write(&file, bytes).unwrap();
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let key = Key::new(Class::Video, camera, start, 60_000, &sha256).unwrap();
        let uploader = Uploader::new(&self.recorder).unwrap();
        eventually("a segment is uploaded", Duration::from_secs(30), async || {
            let put = uploader.put(&key, &file, sha256, RetentionTag::Video).await;
            put.map_err(|error| error.to_string())
        })
        .await;
        key.to_string()
    }

    /// Returns the legal hold and the retention tag of a key's newest version, or `None` if there is no version.
    pub async fn protection(&self, key: &str) -> Option<(bool, String)> {
        protection(&self.operator_client(), self.bucket(), key).await
    }

    async fn newest(&self, key: &str) -> String {
        newest(&self.operator_client(), self.bucket(), key).await.unwrap()
    }

    /// Turns the legal hold of a key's newest version on or off.
    pub async fn set_hold(&self, key: &str, on: bool) {
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let request = self.operator_client().put_object_legal_hold().bucket(self.bucket()).key(key);
        request.version_id(self.newest(key).await).legal_hold(hold).send().await.unwrap();
    }

    /// Sets the retention tag of a key's newest version.
    pub async fn tag(&self, key: &str, value: &str) {
        let tag = Tag::builder().key("toezicht-retention").value(value).build().unwrap();
        let tags = Tagging::builder().tag_set(tag).build().unwrap();
        let request = self.operator_client().put_object_tagging().bucket(self.bucket()).key(key);
        request.version_id(self.newest(key).await).tagging(tags).send().await.unwrap();
    }

    /// Deletes all tags of a key's newest version.
    pub async fn untag(&self, key: &str) {
        let request = self.operator_client().delete_object_tagging().bucket(self.bucket()).key(key);
        request.version_id(self.newest(key).await).send().await.unwrap();
    }

    /// Deletes all versions and delete markers of a key.
    pub async fn remove(&self, key: &str) {
        for (key, version) in self.versions(key).await {
            let request = self.operator_client().delete_object().bucket(self.bucket()).key(key);
            request.version_id(version).send().await.unwrap();
        }
    }

    /// Puts an object that is no recording.
    pub async fn put_foreign_object(&self, key: &str) {
        self.put_bytes(key, b"x").await;
    }

    /// Puts an object with these bytes.
    pub async fn put_bytes(&self, key: &str, bytes: &[u8]) {
        let body = aws_sdk_s3::primitives::ByteStream::from(bytes.to_vec());
        let request = self.operator_client().put_object().bucket(self.bucket()).key(key).body(body);
        request.send().await.unwrap();
    }

    /// Hides a key behind a delete marker.
    pub async fn add_delete_marker(&self, key: &str) {
        let request = self.operator_client().delete_object().bucket(self.bucket()).key(key);
        assert_eq!(request.send().await.unwrap().delete_marker(), Some(true));
    }

    /// Lists key and version of all versions and delete markers under a prefix, as the operator sees them.
    pub async fn versions(&self, prefix: &str) -> Vec<(String, String)> {
        let page = self
            .operator_client()
            .list_object_versions()
            .bucket(self.bucket())
            .prefix(prefix)
            .send()
            .await
            .unwrap();
        let text = |text: Option<&str>| text.unwrap().to_owned();
        let versions = page.versions().iter().map(|v| (text(v.key()), text(v.version_id())));
        versions.chain(page.delete_markers().iter().map(|m| (text(m.key()), text(m.version_id())))).collect()
    }
}

/// Connects as the identity of `target`.
pub fn connect(target: &StorageTarget) -> BucketConnection {
    BucketConnection::new(target).unwrap()
}

pub fn target(server: &S3Server, identity: &S3Identity, bucket: &str) -> StorageTarget {
    StorageTarget {
        endpoint: Some(server.endpoint.clone()),
        region: server.region.clone(),
        bucket: bucket.into(),
        path_style: server.path_style,
        ca_pem: None,
        credentials: toezicht::wire::Credentials::access_key(&identity.access_key, &identity.secret_key),
        proxy: None,
    }
}

/// Returns the legal hold and the retention tag of a key's newest version, or `None` if there is no version.
pub async fn protection(client: &Client, bucket: &str, key: &str) -> Option<(bool, String)> {
    let version = newest(client, bucket, key).await?;
    let hold = client.get_object_legal_hold().bucket(bucket).key(key).version_id(&version).send().await;
    let on = hold.is_ok_and(|hold| {
        hold.legal_hold().and_then(|hold| hold.status()) == Some(&ObjectLockLegalHoldStatus::On)
    });
    let tags = client.get_object_tagging().bucket(bucket).key(key).version_id(&version).send().await.unwrap();
    let tags: Vec<&str> = tags.tag_set().iter().map(Tag::value).collect();
    Some((on, tags.join(",")))
}

async fn newest(client: &Client, bucket: &str, key: &str) -> Option<String> {
    let page = client.list_object_versions().bucket(bucket).prefix(key).send().await.unwrap();
    Some(page.versions().first()?.version_id()?.to_owned())
}

/// Returns an SDK client as this identity.
pub fn client(server: &S3Server, identity: &S3Identity) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new(
            &identity.access_key,
            &identity.secret_key,
            None,
            None,
            "test",
        ))
        .region(Region::new(server.region.clone()))
        .endpoint_url(&server.endpoint)
        .force_path_style(server.path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}
