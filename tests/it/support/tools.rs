//! Third-party tools that check Toezicht's results independently: boto3 for buckets, ffmpeg for segments.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
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
    let out = run_s3("s3-readback.py", &[&server.file.display().to_string(), bucket, "--as", identity]).await;
    serde_json::from_str(&out).unwrap()
}

/// Tries an operation with boto3 and returns `{ok, code, …}`.
pub async fn attempt(server: &S3Server, bucket: &str, identity: &str, operation: &[&str]) -> Value {
    let file = server.file.display().to_string();
    let mut args = vec![file.as_str(), bucket, "--as", identity];
    args.extend(operation);
    let S3Output { out, err, .. } = try_run_s3("s3-try.py", &args).await;
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{operation:?}: {e}: {out}\n{err}"))
}

/// Runs a script of the test bed that uses boto3, and returns its standard output. Panics with all its output if it fails.
pub async fn run_s3(script: &str, args: &[&str]) -> String {
    let S3Output { code, out, err } = try_run_s3(script, args).await;
    assert!(code == 0, "{script} {}: {out}\n{err}", args.join(" "));
    out
}

/// Output of a script that uses boto3.
#[derive(Deserialize)]
struct S3Output {
    code: i32,
    out: String,
    err: String,
}

async fn try_run_s3(script: &str, args: &[&str]) -> S3Output {
    /// Answers the calls of this process. It ends with its standard input.
    static CALLS: LazyLock<(PathBuf, std::process::Child)> = LazyLock::new(start_s3_calls);
    let mut stream = UnixStream::connect(&CALLS.0).await.unwrap_or_else(|e| panic!("s3-calls.py: {e}"));
    let call: Vec<&str> = [script].into_iter().chain(args.iter().copied()).collect();
    let mut answer = Vec::new();
    stream.write_all(format!("{}\n", serde_json::to_string(&call).unwrap()).as_bytes()).await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    serde_json::from_slice(&answer).unwrap_or_else(|e| panic!("{call:?}: {e}: {answer:?}"))
}

fn start_s3_calls() -> (PathBuf, std::process::Child) {
    let socket = std::env::temp_dir().join(format!("toezicht-s3-calls-{}", std::process::id()));
    let mut child = std::process::Command::new("python3")
        .args([script("s3-calls.py").as_ref(), socket.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("python3: {e}"));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "listening\n", "s3-calls.py did not start");
    (socket, child)
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
