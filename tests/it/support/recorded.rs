//! Recordings, read back from the bucket with third-party tools and checked frame by frame.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use toezicht::rules::recording::key::Key;

use super::settings::S3Server;
use super::tools::{Frame, Mp4Contents, read_mp4_files, run_s3};
use super::wait::{HANG, eventually_every};

/// Longest time of frames that a recorder has received and not written when it ends. Shorter than a segment, so that a lost
/// segment shows.
pub const UNWRITTEN: SignedDuration = SignedDuration::from_secs(3);

/// A segment in the bucket and its contents.
pub struct Segment {
    pub key: Key,
    pub frames: Vec<Frame>,
    /// ffprobe's description of the tracks and of the file.
    pub streams: Vec<serde_json::Value>,
    pub format: serde_json::Value,
}

/// Cache of file contents by a hash of their bytes: a polling test reads the same segments many times.
static CONTENTS_BY_HASH: LazyLock<Mutex<HashMap<u64, Mp4Contents>>> = LazyLock::new(Mutex::default);

/// A bucket, read as the store's administrator.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub server: S3Server,
    pub name: String,
}

/// Returns the keys of a camera's segments in order.
pub async fn keys(bucket: &Bucket, camera: &str) -> Vec<String> {
    keys_under(bucket, &format!("video/{camera}/")).await
}

/// Returns the keys under a prefix in order.
pub async fn keys_under(bucket: &Bucket, prefix: &str) -> Vec<String> {
    fetch(bucket, prefix, &[]).await.lines().map(str::to_owned).collect()
}

async fn fetch(bucket: &Bucket, prefix: &str, to: &[&str]) -> String {
    let file = bucket.server.file.display().to_string();
    let mut args = vec![file.as_str(), &bucket.name, prefix];
    args.extend(to);
    run_s3("s3-fetch.py", &args).await
}

/// Returns all segments of a camera in the order of their keys.
pub async fn segments(bucket: &Bucket, camera: &str) -> Vec<Segment> {
    let dir = tempfile::tempdir().unwrap();
    let out = fetch(bucket, &format!("video/{camera}/"), &["--to", &dir.path().display().to_string()]).await;
    let fetched: Vec<(Key, PathBuf)> = out
        .lines()
        .map(|line| {
            let (key, name) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
            (key.parse().unwrap_or_else(|e| panic!("{key}: {e}")), dir.path().join(name))
        })
        .collect();
    let files: Vec<&Path> = fetched.iter().map(|(_, file)| file.as_path()).collect();
    let contents = contents(&files).await;
    let segments = fetched.iter().zip(contents);
    segments
        .map(|((key, _), contents)| Segment {
            key: key.clone(),
            frames: contents.frames,
            streams: contents.streams,
            format: contents.format,
        })
        .collect()
}

/// Returns the contents of each file.
async fn contents(files: &[&Path]) -> Vec<Mp4Contents> {
    let hash = |file: &&Path| {
        let mut hasher = DefaultHasher::new();
        std::fs::read(file).unwrap().hash(&mut hasher);
        hasher.finish()
    };
    let hashes: Vec<u64> = files.iter().map(hash).collect();
    let new: BTreeMap<u64, &Path> = {
        let cached = CONTENTS_BY_HASH.lock().unwrap();
        let all = hashes.iter().copied().zip(files.iter().copied());
        all.filter(|(hash, _)| !cached.contains_key(hash)).collect()
    };
    let read = read_mp4_files(&new.values().copied().collect::<Vec<_>>()).await;
    let mut cached = CONTENTS_BY_HASH.lock().unwrap();
    cached.extend(new.into_keys().zip(read));
    hashes.iter().map(|hash| cached[hash].clone()).collect()
}

/// Returns all segments of a camera and the gaps between their frames, once at most `expected` gaps are left.
/// Segments arrive out of order: the recorder retries a rejected upload after a minute and uploads later segments
/// meanwhile.
pub async fn segments_with_gaps(
    bucket: &Bucket,
    camera: &str,
    expected: usize,
) -> (Vec<Segment>, Vec<FrameGap>) {
    let began = Instant::now();
    loop {
        let recorded = segments(bucket, camera).await;
        let gaps = check_frames(camera, &recorded);
        if gaps.len() <= expected || began.elapsed() > HANG {
            return (recorded, gaps);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

/// A gap between two frames, by the camera's own clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameGap {
    pub from: Timestamp,
    pub until: Timestamp,
    pub frames: u64,
}

/// Asserts that each segment is valid and that no frame is duplicated or out of order. Returns the gaps between the
/// first and the last frame.
pub fn check_frames(camera: &str, segments: &[Segment]) -> Vec<FrameGap> {
    let mut gaps = Vec::new();
    let mut previous: Option<&Frame> = None;
    for segment in segments {
        validate(camera, segment).unwrap();
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
                    gaps.push(FrameGap {
                        from: time(before),
                        until: time(frame),
                        frames: frame.number - before.number - 1,
                    });
                }
            }
            previous = Some(frame);
        }
    }
    gaps
}

/// Returns the gaps between the frames, or an error unless everything is there that recorders wrote, up to `until`. Each of them ended
/// in one of the periods `ends`.
///
/// A lost backlog adjoins the end of its recorder, so it is no gap more: the gap begins too early, or the last frame is too old.
pub fn ensure_complete(
    camera: &str,
    segments: &[Segment],
    ends: &[[Timestamp; 2]],
    until: Timestamp,
) -> Result<Vec<FrameGap>, String> {
    let gaps = check_frames(camera, segments);
    let last = segments.last().and_then(|segment| segment.frames.last()).map(time);
    let is_complete = last >= Some(until) && gaps.iter().all(|gap| begins_at_an_end(gap, ends));
    let problem =
        || format!("{camera}: {gaps:?}, ends {ends:?}, last frame {last:?}, recorded until {until}");
    if is_complete { Ok(gaps) } else { Err(problem()) }
}

fn begins_at_an_end(gap: &FrameGap, ends: &[[Timestamp; 2]]) -> bool {
    ends.iter().any(|[from, to]| *from - UNWRITTEN <= gap.from && gap.from <= *to)
}

/// Pause between two readings of a bucket, which put another policy in its place and read all its segments.
pub const READING_PAUSE: Duration = Duration::from_secs(10);

/// Waits until everything is in the bucket that recorders wrote, as [`ensure_complete`] has it, and returns the gaps.
pub async fn wait_until_complete(
    bucket: &Bucket,
    camera: &str,
    ends: &[[Timestamp; 2]],
    until: Timestamp,
) -> Vec<FrameGap> {
    eventually_every(READING_PAUSE, "all frames are in the bucket", HANG, || async {
        ensure_complete(camera, &segments(bucket, camera).await, ends, until)
    })
    .await
}

/// Returns an error unless a segment is video only, starts with a keyframe, and matches the start and duration in its key
/// within half a second.
pub fn validate(camera: &str, segment: &Segment) -> Result<(), String> {
    let Segment { key, frames, streams, format } = segment;
    let ensure = |is_valid: bool, problem: String| {
        if is_valid { Ok(()) } else { Err(format!("{camera} {key}: {problem}")) }
    };
    ensure(streams.len() == 1, format!("{streams:?}"))?;
    ensure(streams[0]["codec_type"] == "video", "no video".into())?;
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return ensure(false, "no frame".into());
    };
    ensure(first.idr, "does not start with a keyframe".into())?;
    for frame in frames {
        ensure(
            frame.keyframe == frame.idr,
            format!(
                "frame {}: keyframe={} in the container, {} in the bitstream",
                frame.number, frame.keyframe, frame.idr
            ),
        )?;
    }
    let stated = key.end().duration_since(key.start()).as_secs_f64();
    let probed: f64 = format["duration"].as_str().unwrap().parse().unwrap();
    ensure((stated - probed).abs() < 0.5, format!("{probed} s by ffprobe"))?;
    let spanned = time(last).duration_since(time(first)).as_secs_f64();
    ensure((stated - spanned).abs() < 0.5, format!("{spanned} s by the camera's clock"))?;
    let late = time(first).duration_since(key.start()).as_secs_f64();
    ensure(late.abs() < 0.5, format!("the first frame was captured {late} s after the start in the key"))
}

/// Returns the time at which the camera captured a frame.
pub fn time(frame: &Frame) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(frame.wall_ns)).unwrap()
}

#[test]
fn gap_of_a_lost_backlog_begins_before_its_recorder_ended() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let is_at_an_end = |from| {
        let gap = FrameGap { from: at(from), until: at(200), frames: 1 };
        begins_at_an_end(&gap, &[[at(50), at(52)], [at(100), at(110)]])
    };
    for from in [48, 52, 98, 100, 110] {
        assert!(is_at_an_end(from), "{from}");
    }
    // A segment of six seconds is lost, or all since the earlier end.
    for from in [94, 60, 40, 120] {
        assert!(!is_at_an_end(from), "{from}");
    }
    assert!(ensure_complete("hal", &[], &[], at(100)).is_err(), "a backlog of everything");
}
