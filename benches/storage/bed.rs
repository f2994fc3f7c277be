//! A bucket as a Site has it, with segments in it: always the same cameras, minutes and bytes.

use std::time::Instant;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ObjectLockLegalHoldStatus;
use futures::{StreamExt, stream};
use jiff::{Timestamp, ToSpan};
use toezicht::api::Days;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::storage::BucketConnection;
use toezicht::storage::enforce;
use toezicht::storage::{BucketSpec, Claim, Probe};
use toezicht::wire::StorageTarget;

use crate::Measurement;
use crate::support::settings::{S3Identity, S3Server};

/// Cameras, each with as many segments as the others.
pub const CAMERAS: usize = 20;
/// The one that an incident is about where only some is held: one in twenty.
pub const HELD_CAMERA: &str = "camera-00";
/// A segment's bytes: what is measured are requests.
const BODY: &[u8] = &[7; 64];
const MAX_CONCURRENT_REQUESTS: usize = 64;

/// The store.
pub struct TestBed {
    server: S3Server,
}

/// A key and the id of its version.
pub type VersionId = (String, String);

impl TestBed {
    /// The store of the test bed, or of whoever says so.
    pub fn from_settings() -> Self {
        Self { server: S3Server::primary() }
    }

    /// What the benchmarks' report calls it.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    /// A bucket as the operator.
    pub fn target(&self, bucket: &str) -> StorageTarget {
        self.target_as(self.server.bucket_maker(), bucket)
    }

    fn target_as(&self, identity: &S3Identity, bucket: &str) -> StorageTarget {
        StorageTarget {
            endpoint: Some(self.server.endpoint.clone()),
            region: self.server.region.clone(),
            bucket: bucket.into(),
            path_style: self.server.path_style,
            ca_pem: None,
            credentials: toezicht::wire::Credentials::access_key(&identity.access_key, &identity.secret_key),
            proxy: None,
        }
    }

    /// A new bucket with all that a Site's bucket has, and so many segments, the last of five minutes ago.
    pub async fn create_filled_bucket(&self, segments: usize) -> String {
        let bucket = format!("tz-bench-{}", hex::encode(rand::random::<[u8; 5]>()));
        let recorder = self.server.identity("recorder");
        let spec = BucketSpec {
            video_ceiling: Days(28),
            calls_ceiling: Days(7),
            operator_principal: self.server.bucket_maker().principal.clone(),
            recorder_principal: recorder.principal.clone(),
            auditor: None,
            readers: Vec::new(),
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        };
        let claim = Claim {
            cluster_id: "bench".into(),
            namespace: "bench".into(),
            site: "bench".into(),
            uid: "11111111-1111-1111-1111-111111111111".into(),
        };
        let connect = |target| BucketConnection::new(&target).unwrap();
        let (operator, recorder) =
            (connect(self.target(&bucket)), connect(self.target_as(recorder, &bucket)));
        enforce(&operator, Some(&recorder), &spec, &claim, Probe::Skip).await.unwrap();
        self.fill(&bucket, segments, CAMERAS).await;
        bucket
    }

    /// Puts so many segments of these cameras into a bucket, as its recorder; when the last one ends.
    pub async fn fill(&self, bucket: &str, segments: usize, cameras: usize) -> Timestamp {
        let client = sdk_client(&self.target_as(self.server.identity("recorder"), bucket), None);
        let minutes = i64::try_from(segments.div_ceil(cameras)).unwrap();
        let minute = Timestamp::now().as_second() / 60 * 60;
        let end = Timestamp::from_second(minute).unwrap() - 5.minutes();
        let puts = (0..segments).map(|n| {
            let start = end - minutes.minutes() + i64::try_from(n / cameras).unwrap().minutes();
            let camera = format!("camera-{:02}", n % cameras);
            let key = Key::new(Class::Video, &camera, start, 60_000, &[7; 32]).unwrap();
            let put = client.put_object().bucket(bucket).key(key.to_string());
            put.tagging("toezicht-retention=video").body(ByteStream::from_static(BODY)).send()
        });
        let puts = stream::iter(puts).buffer_unordered(MAX_CONCURRENT_REQUESTS);
        puts.for_each(async |put| drop(put.unwrap())).await;
        end
    }

    /// Removes a bucket and all that is in it.
    pub async fn remove_bucket(&self, bucket: &str) {
        let client = sdk_client(&self.target(bucket), None);
        let all = list_versions(&client, bucket, "").await;
        let gone = stream::iter(&all).map(|(key, id)| {
            let delete = client.delete_object().bucket(bucket).key(key);
            delete.version_id(id).send()
        });
        let gone = gone.buffer_unordered(MAX_CONCURRENT_REQUESTS);
        gone.for_each(async |answer| drop(answer.unwrap())).await;
        client.delete_bucket().bucket(bucket).send().await.unwrap();
    }

    /// How many versions of segments there are.
    pub async fn count_segments(&self, bucket: &str) -> usize {
        let client = sdk_client(&self.target(bucket), None);
        list_versions(&client, bucket, "video/").await.len()
    }

    /// Fails unless a hundred versions, spread over the bucket, are under a legal hold, or none of them is.
    pub async fn assert_held(&self, bucket: &str, expected: bool) {
        let client = sdk_client(&self.target(bucket), None);
        let all = list_versions(&client, bucket, "video/").await;
        for (key, id) in all.iter().step_by(all.len().div_ceil(100)) {
            let hold = client.get_object_legal_hold().bucket(bucket).key(key);
            let hold = hold.version_id(id).send().await.ok();
            let status = hold.and_then(|hold| hold.legal_hold?.status);
            let is_held = status == Some(ObjectLockLegalHoldStatus::On);
            assert_eq!(is_held, expected, "{key}");
        }
    }
}

/// A plain client of the SDK.
pub fn sdk_client(target: &StorageTarget, http: Option<SharedHttpClient>) -> Client {
    let keys = target.credentials.as_access_key().unwrap();
    let (id, secret) = (keys.access_key_id.reveal(), keys.secret_access_key.reveal());
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new(id, secret, None, None, "bench"))
        .region(Region::new(target.region.clone()))
        .endpoint_url(target.endpoint.clone().unwrap())
        .force_path_style(target.path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(http) = http {
        config = config.http_client(http);
    }
    Client::from_conf(config.build())
}

/// All versions under a prefix.
pub async fn list_versions(client: &Client, bucket: &str, prefix: &str) -> Vec<VersionId> {
    let (mut all, mut key, mut id) = (Vec::new(), None, None);
    loop {
        let list = client.list_object_versions().bucket(bucket).prefix(prefix);
        let list = list.set_key_marker(key).set_version_id_marker(id);
        let page = list.send().await.unwrap();
        let text = |text: Option<&str>| text.unwrap().to_owned();
        let found = page.versions().iter();
        all.extend(found.map(|version| (text(version.key()), text(version.version_id()))));
        let markers = page.delete_markers().iter();
        all.extend(markers.map(|marker| (text(marker.key()), text(marker.version_id()))));
        if page.is_truncated() != Some(true) {
            return all;
        }
        key = page.next_key_marker().map(str::to_owned);
        id = page.next_version_id_marker().map(str::to_owned);
    }
}

/// What something took, by the versions that it says it dealt with.
pub async fn measure(what: impl Future<Output = usize>) -> Measurement {
    let begun = Instant::now();
    let versions = what.await;
    Measurement { seconds: begun.elapsed().as_secs_f64(), versions, peak_kib: 0 }
}
