//! Third-party tools that check Toezicht's results independently: boto3 for buckets, ffmpeg for segments.

use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::settings::{S3Server, root};

/// Runs a command and returns its standard output. Panics with all its output if it fails.
pub async fn run(program: &str, args: &[&str], input: Option<&[u8]>) -> String {
    let (ok, out, err) = try_run(program, args, input).await;
    assert!(ok, "{program} {}: {out}\n{err}", args.join(" "));
    out
}

/// Runs a command and returns whether it succeeded, its standard output and its standard error.
pub async fn try_run(program: &str, args: &[&str], input: Option<&[u8]>) -> (bool, String, String) {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(root())
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            // A command that exits early closes its input. Its exit status and output report the failure.
            let _ = stdin.write_all(&bytes).await;
        });
    }
    let output = child.wait_with_output().await.unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Returns the path of a script of the test bed.
pub fn script(name: &str) -> String {
    root().join("tests/testbed").join(name).display().to_string()
}

/// Reads a bucket's object lock, versioning, lifecycle, policy and encryption with boto3.
pub async fn read_back(server: &S3Server, bucket: &str, identity: &str) -> Value {
    let file = server.file.display().to_string();
    let out = run("python3", &[&script("s3-readback.py"), &file, bucket, "--as", identity], None).await;
    serde_json::from_str(&out).unwrap()
}

/// Tries an operation with boto3 and returns `{ok, code, …}`.
pub async fn attempt(server: &S3Server, bucket: &str, identity: &str, operation: &[&str]) -> Value {
    let file = server.file.display().to_string();
    let script = script("s3-try.py");
    let mut args = vec![script.as_str(), &file, bucket, "--as", identity];
    args.extend(operation);
    let (_, out, err) = try_run("python3", &args, None).await;
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{operation:?}: {e}: {out}\n{err}"))
}

/// One access unit of a recording, with the data that the test camera embedded in it.
#[derive(Clone, Debug, Deserialize)]
pub struct Frame {
    /// Frame counter, increased by one over the camera's lifetime.
    pub number: u64,
    /// The camera's wall clock at capture, in nanoseconds since the epoch.
    pub wall_ns: i64,
    /// Whether the container marks a keyframe. Our own muxer wrote it.
    pub keyframe: bool,
    /// Whether the bitstream itself has a random access point.
    pub idr: bool,
}

/// Contents of an MP4 file, as ffmpeg reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct Mp4Contents {
    pub frames: Vec<Frame>,
    /// ffprobe's description of each track, of any kind.
    pub streams: Vec<Value>,
    /// ffprobe's description of the file.
    pub format: Value,
}

/// Reads the contents of MP4 files with ffmpeg.
pub async fn read_mp4_files(files: &[&Path]) -> Vec<Mp4Contents> {
    if files.is_empty() {
        return Vec::new();
    }
    let script = script("frames.py");
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let args: Vec<&str> =
        [script.as_str(), "--whole"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let out = run("python3", &args, None).await;
    let contents: Vec<Mp4Contents> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert_eq!(contents.len(), files.len(), "{files:?}");
    contents
}
