//! A bucket, a configuration as the kubelet mounts it, and the recorder's process.

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
use crate::support::recorded::{Bucket, FrameGap, Segment, account, segments};
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

/// What the operator would show.
pub const TOKEN: &str = "a-token-of-this-test-and-no-other";

static NAMES: AtomicU32 = AtomicU32::new(0);

/// Everything that one test of the recorder needs.
pub struct Bench {
    pub bucket: Bucket,
    pub config: Value,
    pub folder: TempDir,
    certificate: String,
    status: u16,
    pub health: u16,
    version: u32,
    starts: u32,
    process: Option<Child>,
}

impl Bench {
    /// A bucket that the recorder may write to, and a configuration with these cameras; nothing runs yet.
    pub async fn new(cameras: Vec<Value>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = S3Server::first();
        let unique = NAMES.fetch_add(1, Ordering::Relaxed);
        let stamp = jiff::Timestamp::now().as_millisecond();
        let bucket = Bucket { name: format!("recorder-{stamp}-{unique}"), server };
        make(&bucket).await;
        let identity = bucket.server.identity("recorder");
        let made = rcgen::generate_simple_self_signed([STATUS_SERVER_NAME.to_owned()]).unwrap();
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
                "certPem": made.cert.pem(), "keyPem": made.signing_key.serialize_pem(), "token": TOKEN,
            },
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::create_dir(folder.path().join("spool")).unwrap();
        symlink("..data/config.json", folder.path().join("config/config.json")).unwrap();
        let mut bench = Self {
            bucket,
            config,
            folder,
            certificate: made.cert.pem(),
            status: free_port(),
            health: free_port(),
            version: 0,
            starts: 0,
            process: None,
        };
        bench.write(&bench.config.to_string());
        bench
    }

    /// Like [`Bench::new`], and started.
    pub async fn started(cameras: Vec<Value>) -> Self {
        let mut bench = Self::new(cameras).await;
        bench.start();
        bench
    }

    /// Mounts another text, as the kubelet does: a new folder, and the link to it swapped.
    pub fn write(&mut self, text: &str) {
        self.version += 1;
        let (config, version) = (self.folder.path().join("config"), format!("..{}", self.version));
        std::fs::create_dir(config.join(&version)).unwrap();
        std::fs::write(config.join(&version).join("config.json"), text).unwrap();
        symlink(&version, config.join("..data_tmp")).unwrap();
        std::fs::rename(config.join("..data_tmp"), config.join("..data")).unwrap();
    }

    /// Mounts a changed configuration with another revision.
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
            .args(["--status-listen", &format!("127.0.0.1:{}", self.status)])
            .args(["--health-listen", &format!("127.0.0.1:{}", self.health)])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    /// All that the process has logged.
    pub fn log(&self) -> String {
        let of = |n| std::fs::read_to_string(self.folder.path().join(format!("log{n}"))).unwrap_or_default();
        (1..=self.starts).map(of).collect()
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.process.take().expect("a process").kill().await.unwrap();
    }

    /// SIGTERM; how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.process.take().expect("a process");
        run("kill", &["-TERM", &child.id().expect("running").to_string()], None).await;
        let ended = tokio::time::timeout(HANG, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("does not stop: {}", self.log())).unwrap()
    }

    /// Stops it, and asserts that this succeeds with nothing left behind.
    pub async fn stop_cleanly(&mut self) {
        let status = self.stop().await;
        assert!(status.success(), "{status}: {}", self.log());
        assert!(!self.log().contains("not all could be uploaded"), "{}", self.log());
    }

    /// The status API's answer to this token.
    pub async fn ask(&self, token: Option<&str>) -> reqwest::Result<reqwest::Response> {
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
        let answer = self.ask(Some(TOKEN)).await.map_err(|error| format!("{error:?}"))?;
        answer.error_for_status().map_err(|e| e.to_string())?.json().await.map_err(|e| e.to_string())
    }

    /// Waits until a status is as it should be.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&RecorderStatus) -> Option<T>) -> T {
        let look = &look;
        eventually(what, HANG, || async move {
            let status = self.status().await?;
            look(&status).ok_or_else(|| format!("{status:#?}"))
        })
        .await
    }

    /// Waits until every camera has so many segments confirmed.
    pub async fn uploaded(&self, count: u64) {
        self.until(&format!("{count} segments of each camera"), |status| {
            status.cameras.iter().all(|camera| camera.uploaded >= count).then_some(())
        })
        .await;
    }

    /// Waits until a camera has so many segments confirmed.
    pub async fn wait_for_uploads_of(&self, name: &str, count: u64) {
        self.until(&format!("{count} segments of {name}"), |status| {
            camera(status, name).filter(|camera| camera.uploaded >= count).map(|_| ())
        })
        .await;
    }

    pub const fn status_port(&self) -> u16 {
        self.status
    }

    /// Waits until a camera is in a state.
    pub async fn wait_for_camera_state(&self, name: &str, state: CameraState) -> CameraReport {
        self.until(&format!("{name} {state:?}"), |status| {
            camera(status, name).filter(|camera| camera.state == state).cloned()
        })
        .await
    }

    /// What is in the bucket of a camera, and the holes in it.
    pub async fn recorded(&self, camera: &str) -> (Vec<Segment>, Vec<FrameGap>) {
        let segments = segments(&self.bucket, camera).await;
        let holes = account(camera, &segments);
        (segments, holes)
    }
}

/// A camera's report.
pub fn camera<'a>(status: &'a RecorderStatus, name: &str) -> Option<&'a CameraReport> {
    status.cameras.iter().find(|camera| camera.name == name)
}

/// A bucket in which the recorder's identity may do what it must, and no more.
async fn make(bucket: &Bucket) {
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
