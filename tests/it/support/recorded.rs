//! What was recorded, read back from the bucket with tools of another make, and accounted for frame by frame.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use toezicht::rules::recording::key::Key;

use super::settings::S3Server;
use super::tools::{Frame, Whole, run, script, whole};
use super::wait::HANG;

/// A segment in the bucket, and what is in it.
pub struct Segment {
    pub key: Key,
    pub frames: Vec<Frame>,
    /// What ffprobe says of its tracks, and of the file.
    pub streams: Vec<serde_json::Value>,
    pub format: serde_json::Value,
}

/// What was found in files, by a hash of their bytes: a test that waits for something reads the same segments again and again.
static SEEN: LazyLock<Mutex<HashMap<u64, Whole>>> = LazyLock::new(Mutex::default);

/// A bucket, seen by the store's administrator.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub server: S3Server,
    pub name: String,
}

/// The keys of a camera's segments, in their order.
pub async fn keys(bucket: &Bucket, camera: &str) -> Vec<String> {
    fetch(bucket, camera, &[]).await.lines().map(str::to_owned).collect()
}

async fn fetch(bucket: &Bucket, camera: &str, to: &[&str]) -> String {
    let (script, file) = (script("s3-fetch.py"), bucket.server.file.display().to_string());
    let prefix = format!("video/{camera}/");
    let mut args = vec![script.as_str(), &file, &bucket.name, &prefix];
    args.extend(to);
    run("python3", &args, None).await
}

/// All segments of a camera, in the order of their keys.
pub async fn segments(bucket: &Bucket, camera: &str) -> Vec<Segment> {
    let dir = tempfile::tempdir().unwrap();
    let out = fetch(bucket, camera, &["--to", &dir.path().display().to_string()]).await;
    let fetched: Vec<(Key, PathBuf)> = out
        .lines()
        .map(|line| {
            let (key, name) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
            (key.parse().unwrap_or_else(|e| panic!("{key}: {e}")), dir.path().join(name))
        })
        .collect();
    let files: Vec<&Path> = fetched.iter().map(|(_, file)| file.as_path()).collect();
    let found = contents(&files).await;
    let segments = fetched.iter().zip(found);
    segments
        .map(|((key, _), whole)| Segment {
            key: key.clone(),
            frames: whole.frames,
            streams: whole.streams,
            format: whole.format,
        })
        .collect()
}

/// What is in each of these files.
async fn contents(files: &[&Path]) -> Vec<Whole> {
    let hash = |file: &&Path| {
        let mut hasher = DefaultHasher::new();
        std::fs::read(file).unwrap().hash(&mut hasher);
        hasher.finish()
    };
    let hashes: Vec<u64> = files.iter().map(hash).collect();
    let new: BTreeMap<u64, &Path> = {
        let seen = SEEN.lock().unwrap();
        let all = hashes.iter().copied().zip(files.iter().copied());
        all.filter(|(hash, _)| !seen.contains_key(hash)).collect()
    };
    let read = whole(&new.values().copied().collect::<Vec<_>>()).await;
    let mut seen = SEEN.lock().unwrap();
    seen.extend(new.into_keys().zip(read));
    hashes.iter().map(|hash| seen[hash].clone()).collect()
}

/// All segments of a camera, and where frames are missing: once no more than `expected` of those places are left. What
/// a store has refused once is put again a minute later, and what came after it does not wait for it.
pub async fn complete(bucket: &Bucket, camera: &str, expected: usize) -> (Vec<Segment>, Vec<FrameGap>) {
    let began = Instant::now();
    loop {
        let recorded = segments(bucket, camera).await;
        let holes = account(camera, &recorded);
        if holes.len() <= expected || began.elapsed() > HANG {
            return (recorded, holes);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

/// A place where frames are missing, by the camera's own clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameGap {
    pub from: Timestamp,
    pub until: Timestamp,
    pub frames: u64,
}

/// Asserts that each segment is sound by itself, and that no frame is there twice or out of order; returns
/// where frames are missing between the first and the last.
pub fn account(camera: &str, segments: &[Segment]) -> Vec<FrameGap> {
    let mut holes = Vec::new();
    let mut previous: Option<&Frame> = None;
    for segment in segments {
        assert_valid_segment(camera, segment);
        for frame in &segment.frames {
            if let Some(before) = previous {
                assert!(
                    frame.number > before.number,
                    "{camera}: frame {} after {}, in {}",
                    frame.number,
                    before.number,
                    segment.key
                );
                if frame.number != before.number + 1 {
                    holes.push(FrameGap {
                        from: time(before),
                        until: time(frame),
                        frames: frame.number - before.number - 1,
                    });
                }
            }
            previous = Some(frame);
        }
    }
    holes
}

/// Video only, from a keyframe on, as long as its key says, and when its key says.
fn assert_valid_segment(camera: &str, segment: &Segment) {
    let key = &segment.key;
    let streams = &segment.streams;
    assert_eq!(streams.len(), 1, "{camera} {key}: {streams:?}");
    assert_eq!(streams[0]["codec_type"], "video", "{camera} {key}");
    let (first, last) = (segment.frames.first().expect("a frame"), segment.frames.last().expect("a frame"));
    assert!(first.idr, "{camera} {key}: begins without a keyframe");
    for frame in &segment.frames {
        assert_eq!(
            frame.keyframe, frame.idr,
            "{camera} {key}: of frame {} the container says keyframe={}, the bitstream {}",
            frame.number, frame.keyframe, frame.idr
        );
    }
    let stated = key.end().duration_since(key.start()).as_secs_f64();
    let probed: f64 = segment.format["duration"].as_str().unwrap().parse().unwrap();
    assert!((stated - probed).abs() < 0.5, "{camera} {key}: {probed} s by ffprobe");
    let seen = time(last).duration_since(time(first)).as_secs_f64();
    assert!((stated - seen).abs() < 0.5, "{camera} {key}: {seen} s by the camera's clock");
    let late = time(first).duration_since(key.start()).as_secs_f64();
    assert!(late.abs() < 0.5, "{camera} {key}: its first frame was taken {late} s later");
}

/// When the camera took a frame.
pub fn time(frame: &Frame) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(frame.wall_ns)).unwrap()
}
