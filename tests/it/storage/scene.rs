//! A bucket of its own for each test, and how to look at it as somebody else.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use toezicht::api::Days;
use toezicht::contract::{Secret, StorageTarget};
use toezicht::storage::{BucketSpec, Claim, EnforceError, Enforced, Trials, enforce};

use crate::support::settings::{S3Identity, S3Server};

/// A bucket that does not exist yet, and who wants it.
#[derive(Clone, Debug)]
pub struct Scene {
    pub server: S3Server,
    pub operator: StorageTarget,
    pub recorder: StorageTarget,
    pub spec: BucketSpec,
    pub claim: Claim,
}

impl Scene {
    /// With an operator that may make its bucket.
    pub fn new(server: S3Server, prefix: &str) -> Self {
        let maker = server.bucket_maker().clone();
        Self::with_operator(server, prefix, &maker)
    }

    /// With this identity as the operator.
    pub fn with_operator(server: S3Server, prefix: &str, operator: &S3Identity) -> Self {
        let bucket = format!("tz-{prefix}-{}", hex::encode(rand::random::<[u8; 5]>()));
        let recorder = server.identity("recorder").clone();
        Self {
            operator: target(&server, operator, &bucket),
            recorder: target(&server, &recorder, &bucket),
            spec: BucketSpec {
                video_ceiling: Days(28),
                calls_ceiling: Days(7),
                operator_principal: operator.principal.clone(),
                recorder_principal: recorder.principal.clone(),
                readers: vec![server.identity("manager").principal.clone()],
                take_over: false,
                operator_only: false,
                allow_unprotected: false,
            },
            claim: Claim {
                cluster_id: "test".into(),
                namespace: "heusden".into(),
                site: prefix.into(),
                uid: "11111111-1111-1111-1111-111111111111".into(),
            },
            server,
        }
    }

    pub fn bucket(&self) -> &str {
        &self.operator.bucket
    }

    pub async fn enforce(&self, trials: Trials) -> Result<Enforced, EnforceError> {
        enforce(&self.operator, &self.recorder, &self.spec, &self.claim, trials).await
    }

    /// A plain client as one of the server's identities.
    pub fn client(&self, identity: &str) -> Client {
        client(&self.server, self.server.identity(identity))
    }

    /// A plain client with the operator's own credentials.
    pub fn operator_client(&self) -> Client {
        let identity = S3Identity {
            access_key: self.operator.access_key_id.reveal().into(),
            secret_key: self.operator.secret_access_key.reveal().into(),
            principal: self.spec.operator_principal.clone(),
        };
        client(&self.server, &identity)
    }

    /// The operator's name in the server's file.
    pub fn operator_identity(&self) -> String {
        let is_ours = |identity: &S3Identity| identity.access_key == self.operator.access_key_id.reveal();
        self.server
            .identities
            .iter()
            .find(|(_, identity)| is_ours(identity))
            .unwrap()
            .0
            .clone()
    }

    /// The policy as the store has it.
    pub async fn policy(&self) -> Option<String> {
        let answer = self
            .operator_client()
            .get_bucket_policy()
            .bucket(self.bucket())
            .send()
            .await
            .ok()?;
        answer.policy().map(str::to_owned)
    }

    /// All versions and delete markers under a prefix, as the operator sees them: key and version.
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
        let versions = page
            .versions()
            .iter()
            .map(|v| (text(v.key()), text(v.version_id())));
        versions
            .chain(
                page.delete_markers()
                    .iter()
                    .map(|m| (text(m.key()), text(m.version_id()))),
            )
            .collect()
    }
}

pub fn target(server: &S3Server, identity: &S3Identity, bucket: &str) -> StorageTarget {
    StorageTarget {
        endpoint: Some(server.endpoint.clone()),
        region: server.region.clone(),
        bucket: bucket.into(),
        path_style: server.path_style,
        ca_pem: None,
        access_key_id: Secret::new(&identity.access_key),
        secret_access_key: Secret::new(&identity.secret_key),
    }
}

fn client(server: &S3Server, identity: &S3Identity) -> Client {
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
