//! A recorder process with its bucket and a configuration mounted as by the kubelet.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use toezicht::wire::{CameraReport, CameraState, RecorderStatus, STATUS_SERVER_NAME};
use tokio::process::{Child, Command};

use crate::support::port::free_port;
use crate::support::recorded::{Bucket, FrameGap, Segment, check_frames, segments};
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

/// Bearer token of the status API.
pub const TOKEN: &str = "a-token-of-this-test-and-no-other";

static BUCKET_COUNT: AtomicU32 = AtomicU32::new(0);

/// Everything that a test of the recorder needs.
pub struct RecorderFixture {
    pub bucket: Bucket,
    pub config: Value,
    pub folder: TempDir,
    certificate: String,
    status: u16,
    pub health: u16,
    version: u32,
    starts: u32,
    /// Its spool outlasts it.
    pub has_volume: bool,
    process: Option<Child>,
}

impl RecorderFixture {
    /// Creates a bucket that the recorder may write to, and a configuration with these cameras. Starts no process.
    pub async fn new(cameras: Vec<Value>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = S3Server::primary();
        let unique = BUCKET_COUNT.fetch_add(1, Ordering::Relaxed);
        let stamp = jiff::Timestamp::now().as_millisecond();
        let bucket = Bucket { name: format!("recorder-{stamp}-{unique}"), server };
        create_bucket(&bucket).await;
        let identity = bucket.server.identity("recorder");
        let certified = rcgen::generate_simple_self_signed([STATUS_SERVER_NAME.to_owned()]).unwrap();
        let config = json!({
            "format": 1, "revision": "r1", "namespace": "test", "site": "test",
            "storage": {
                "endpoint": bucket.server.endpoint, "region": bucket.server.region, "bucket": bucket.name,
                "pathStyle": bucket.server.path_style,
                "accessKeyId": identity.access_key, "secretAccessKey": identity.secret_key,
            },
            "segmentDurationMs": 5000, "videoCeilingMs": 2_419_200_000_u64, "spoolBytes": 1_000_000_000_u64,
            "cameras": cameras,
            "statusApi": {
                "certPem": certified.cert.pem(), "keyPem": certified.signing_key.serialize_pem(), "token": TOKEN,
            },
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::create_dir(folder.path().join("spool")).unwrap();
        symlink("..data/config.json", folder.path().join("config/config.json")).unwrap();
        let mut fixture = Self {
            bucket,
            config,
            folder,
            certificate: certified.cert.pem(),
            status: free_port(),
            health: free_port(),
            version: 0,
            starts: 0,
            has_volume: false,
            process: None,
        };
        fixture.write(&fixture.config.to_string());
        fixture
    }

    /// Creates a fixture and starts its recorder.
    pub async fn started(cameras: Vec<Value>) -> Self {
        let mut fixture = Self::new(cameras).await;
        fixture.start();
        fixture
    }

    /// Mounts a new configuration text as the kubelet does: writes a new folder and swaps the link to it.
    pub fn write(&mut self, text: &str) {
        self.version += 1;
        let (config, version) = (self.folder.path().join("config"), format!("..{}", self.version));
        std::fs::create_dir(config.join(&version)).unwrap();
        std::fs::write(config.join(&version).join("config.json"), text).unwrap();
        symlink(&version, config.join("..data_tmp")).unwrap();
        std::fs::rename(config.join("..data_tmp"), config.join("..data")).unwrap();
    }

    /// Mounts a changed configuration with a new revision.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.config["revision"] = json!(format!("r{}", self.version + 1));
        self.write(&self.config.to_string());
    }

    /// Starts the recorder's process.
    pub fn start(&mut self) {
        self.starts += 1;
        let log = File::create(self.folder.path().join(format!("log{}", self.starts))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_toezicht"))
            .args(["recorder", "--shard", "0", "--grace-period-seconds", "300"])
            .arg("--config-dir")
            .arg(self.folder.path().join("config"))
            .arg("--spool-dir")
            .arg(self.spool())
            .args(self.has_volume.then_some("--persistent-spool"))
            .args(["--status-listen", &format!("127.0.0.1:{}", self.status)])
            .args(["--health-listen", &format!("127.0.0.1:{}", self.health)])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    /// Returns the log of all runs of the recorder.
    pub fn log(&self) -> String {
        let read =
            |n| std::fs::read_to_string(self.folder.path().join(format!("log{n}"))).unwrap_or_default();
        (1..=self.starts).map(read).collect()
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Sends SIGKILL.
    pub async fn kill(&mut self) {
        self.process.take().expect("a process").kill().await.unwrap();
    }

    /// Sends SIGTERM and returns the exit status.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.process.take().expect("a process");
        run("kill", &["-TERM", &child.id().expect("running").to_string()], None).await;
        let ended = tokio::time::timeout(HANG, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("the recorder does not stop: {}", self.log())).unwrap()
    }

    /// Stops the recorder and asserts that it exits successfully after uploading everything.
    pub async fn stop_cleanly(&mut self) {
        let status = self.stop().await;
        assert!(status.success(), "{status}: {}", self.log());
        assert!(!self.log().contains("stopping before all uploads"), "{}", self.log());
    }

    /// Requests the status API with this token.
    pub async fn request_status(&self, token: Option<&str>) -> reqwest::Result<reqwest::Response> {
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.certificate.as_bytes()).unwrap()])
            .resolve(STATUS_SERVER_NAME, ([127, 0, 0, 1], self.status).into())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let request = client.get(format!("https://{STATUS_SERVER_NAME}:{}/v1/status", self.status));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
        .send()
        .await
    }

    pub async fn status(&self) -> Result<RecorderStatus, String> {
        let response = self.request_status(Some(TOKEN)).await.map_err(|error| format!("{error:?}"))?;
        response.error_for_status().map_err(|e| e.to_string())?.json().await.map_err(|e| e.to_string())
    }

    /// Waits until `check` returns a value for the recorder's status.
    pub async fn wait_for_status<T>(
        &self,
        description: &str,
        check: impl Fn(&RecorderStatus) -> Option<T>,
    ) -> T {
        let check = &check;
        eventually(description, HANG, || async move {
            let status = self.status().await?;
            check(&status).ok_or_else(|| format!("{status:#?}"))
        })
        .await
    }

    /// Waits until the store has confirmed `count` segments of every camera.
    pub async fn wait_for_uploads(&self, count: u64) {
        self.wait_for_status(&format!("{count} segments of each camera"), |status| {
            status.cameras.iter().all(|camera| camera.uploaded >= count).then_some(())
        })
        .await;
    }

    /// Waits until the store has confirmed `count` segments of a camera.
    pub async fn wait_for_uploads_of(&self, name: &str, count: u64) {
        self.wait_for_status(&format!("{count} segments of {name}"), |status| {
            camera(status, name).filter(|camera| camera.uploaded >= count).map(|_| ())
        })
        .await;
    }

    pub const fn status_port(&self) -> u16 {
        self.status
    }

    /// Waits until a camera is in a state, and returns its report.
    pub async fn wait_for_camera_state(&self, name: &str, state: CameraState) -> CameraReport {
        self.wait_for_status(&format!("{name} {state:?}"), |status| {
            camera(status, name).filter(|camera| camera.state == state).cloned()
        })
        .await
    }

    /// Returns the segments of a camera in the bucket, and the gaps between their frames.
    pub async fn segments_with_gaps(&self, camera: &str) -> (Vec<Segment>, Vec<FrameGap>) {
        let segments = segments(&self.bucket, camera).await;
        let gaps = check_frames(camera, &segments);
        (segments, gaps)
    }
}

/// Returns a camera's report.
pub fn camera<'a>(status: &'a RecorderStatus, name: &str) -> Option<&'a CameraReport> {
    status.cameras.iter().find(|camera| camera.name == name)
}

/// Creates a bucket in which the recorder's identity has only the permissions it needs.
async fn create_bucket(bucket: &Bucket) {
    let principal = &bucket.server.identity("recorder").principal;
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": [principal]},
        "Action": ["s3:PutObject", "s3:PutObjectTagging"],
        "Resource": [format!("arn:aws:s3:::{}/video/*", bucket.name)],
    }]});
    let code = "import sys; sys.path.insert(0, 'tests/testbed'); from s3client import connect; \
                c = connect(sys.argv[1], 'admin'); c.create_bucket(Bucket=sys.argv[2]); \
                c.put_bucket_policy(Bucket=sys.argv[2], Policy=sys.argv[3])";
    let file = bucket.server.file.display().to_string();
    run("python3", &["-c", code, &file, &bucket.name, &policy.to_string()], None).await;
}
