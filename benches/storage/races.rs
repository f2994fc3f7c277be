//! The races: who runs, in which order, on what, and what is checked afterwards.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bed::{CAMERAS, TestBed};
use crate::declared::bench_placement_latency;
use crate::report::{Line, Report, Section};
use crate::support::settings::{root, setting};
use crate::{BenchSize, Measurement, ours};

/// Who runs.
#[derive(Clone, Copy)]
enum Contender {
    /// This program: Toezicht, a bare loop of the same SDK, or a replay.
    Rust(&'static str),
    /// `benches/boto3_loop.py`.
    Boto3(&'static str),
    /// The client `mc`.
    Mc(&'static [&'static str]),
}

struct Runner {
    contender: Contender,
    label: &'static str,
    /// What it asks of the store for each version; less than one where it asks for many at once.
    requests_per_version: f64,
    measurements: Vec<Measurement>,
}

const fn new_runner(who: Contender, says: &'static str, requests: f64) -> Runner {
    Runner { contender: who, label: says, requests_per_version: requests, measurements: Vec::new() }
}

const MC_RM: Contender = Contender::Mc(&["rm", "--versions", "--recursive", "--force"]);
const MC_SET: Contender = Contender::Mc(&["legalhold", "set", "--recursive"]);
const MC_CLEAR: Contender = Contender::Mc(&["legalhold", "clear", "--recursive"]);

impl Runner {
    /// Runs once, alone, as a process of its own.
    fn run(&mut self, bed: &TestBed, bucket: &str, versions: usize) {
        let target = bed.target(bucket);
        let mut command = match self.contender {
            Contender::Rust(contender) => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["run", contender, bucket]);
                command
            }
            Contender::Boto3(work) => {
                let mut command = Command::new("python3");
                let script = root().join("benches/boto3_loop.py");
                command.arg(script).args([work, bucket]);
                command
            }
            Contender::Mc(words) => {
                let mut command = Command::new(setting("TOEZICHT_BENCH_MC"));
                let keys = target.credentials.as_access_key().unwrap();
                let (id, secret) = (keys.access_key_id.reveal(), keys.secret_access_key.reveal());
                let endpoint = target.endpoint.as_deref().unwrap();
                let (scheme, host) = endpoint.split_once("://").unwrap();
                command.env("MC_HOST_bench", format!("{scheme}://{id}:{secret}@{host}"));
                command.arg("--quiet").args(words).arg(format!("bench/{bucket}/video/"));
                command
            }
        };
        let begun = Instant::now();
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        assert!(output.status.success(), "{}: {}", self.label, output.status);
        let took = match self.contender {
            // It tells nothing that can be read; its start, some hundredths of a second, is in it.
            Contender::Mc(_) => Measurement { seconds, versions, peak_kib: 0 },
            _ => serde_json::from_slice(&output.stdout).unwrap(),
        };
        assert_eq!(took.versions, versions, "{}", self.label);
        println!("{:>10.2} s  {:>8.0}/s  {}", took.seconds, versions as f64 / took.seconds, self.label);
        self.measurements.push(took);
    }

    fn line(&self) -> Line {
        Line::from_runs(self.label, self.requests_per_version, &self.measurements)
    }
}

fn lines(runners: &[Runner]) -> Vec<Line> {
    runners.iter().map(Runner::line).collect()
}

/// Sweep and audit.
pub async fn bench_storage(size: BenchSize) {
    let bed = TestBed::from_settings();
    let mut report = Report::new("bench-storage", &bed, size);
    report.add(bench_sweep(&bed, size).await);
    report.add(bench_audit(&bed, size).await);
    report.write();
}

async fn bench_sweep(bed: &TestBed, size: BenchSize) -> Section {
    let mut runners = [
        new_runner(Contender::Rust("sweep"), "Toezicht: sweep", 0.011),
        new_runner(Contender::Boto3("sweep"), "boto3, 32 threads, DeleteObjects of 1000", 0.002),
        new_runner(MC_RM, "mc rm --versions --recursive --force", 0.002),
        new_runner(
            Contender::Rust("raw-sweep"),
            "raw: the same ListObjectVersions and DeleteObjects requests, replayed",
            0.011,
        ),
        new_runner(Contender::Rust("raw-delete"), "raw: the DeleteObjects requests alone", 0.01),
    ];
    for round in 0..size.rounds {
        for turn in 0..runners.len() {
            let bucket = bed.create_filled_bucket(size.segments).await;
            let runner = (round + turn) % runners.len();
            runners[runner].run(bed, &bucket, size.segments);
            assert_eq!(bed.count_segments(&bucket).await, 0);
            bed.remove_bucket(&bucket).await;
        }
    }
    let lines = lines(&runners);
    let mut section = Section::new(&format!("Sweep of {} expired versions", size.segments));
    let peer = lines[1].versions_per_second.max(lines[2].versions_per_second);
    section.add_goal("times the faster peer", lines[0].versions_per_second / peer, 2.0);
    let of = |raw: usize| lines[0].versions_per_second / lines[raw].versions_per_second;
    section.add_goal("of the raw ceiling: the same requests", of(3), 0.8);
    section.add_ratio("of the deletions alone, without finding what to delete", of(4));
    section.lines = lines;
    section
}

async fn bench_audit(bed: &TestBed, size: BenchSize) -> Section {
    let versions = 2 * size.segments;
    let bucket = bed.create_filled_bucket(versions).await;
    let held = ours::place_held_camera(&bed.target(&bucket)).await.versions;
    assert_eq!(held, versions / CAMERAS);
    let each = 2.0 / CAMERAS as f64 + 0.001;
    let mut runners = [
        new_runner(Contender::Rust("audit"), "Toezicht: audit", each),
        new_runner(
            Contender::Rust("loop-read"),
            "bare ListObjectVersions loop, tag and hold of the held read",
            each,
        ),
        new_runner(Contender::Rust("loop-list"), "bare ListObjectVersions loop", 0.001),
    ];
    for round in 0..size.rounds {
        for turn in 0..runners.len() {
            runners[(round + turn) % 3].run(bed, &bucket, versions);
        }
    }
    ours::release_held_camera(&bed.target(&bucket)).await;
    bed.remove_bucket(&bucket).await;
    let lines = lines(&runners);
    let mut section = Section::new(&format!("Audit of {versions} versions, of which {held} are held"));
    section.add_goal(
        "of the loop with the same reads",
        lines[0].versions_per_second / lines[1].versions_per_second,
        0.9,
    );
    section.add_ratio("of the bare loop", lines[0].versions_per_second / lines[2].versions_per_second);
    section.add_limit("MiB at the peak", lines[0].peak_mib, 64.0);
    section.lines = lines;
    section
}

/// Placing and releasing.
pub async fn bench_holds(size: BenchSize) {
    let bed = TestBed::from_settings();
    let (whole, part) =
        (bed.create_filled_bucket(size.segments).await, bed.create_filled_bucket(size.segments / 4).await);
    let mut place = [
        new_runner(Contender::Rust("place"), "Toezicht: both marks read, hold, then tag", 4.0),
        new_runner(Contender::Boto3("place"), "boto3, 32 threads: hold, then tag", 2.0),
        new_runner(MC_SET, "mc legalhold set --recursive: hold only", 1.0),
        new_runner(
            Contender::Rust("raw-place"),
            "raw: the same requests, ListObjectVersions among them, replayed",
            4.0,
        ),
        new_runner(Contender::Rust("raw-place-marks"), "raw: the four requests a segment alone", 4.0),
    ];
    let mut release = [
        new_runner(Contender::Rust("release"), "Toezicht: both marks read, tag, then hold off", 4.0),
        new_runner(Contender::Boto3("release"), "boto3, 32 threads: hold off, then tag", 2.0),
        new_runner(MC_CLEAR, "mc legalhold clear --recursive: hold only", 1.0),
        new_runner(
            Contender::Rust("raw-release"),
            "raw: the same requests, ListObjectVersions among them, replayed",
            4.0,
        ),
        new_runner(Contender::Rust("raw-release-marks"), "raw: the four requests a segment alone", 4.0),
    ];
    for round in 0..size.rounds {
        for turn in 0..place.len() {
            let runner = (round + turn) % place.len();
            place[runner].run(&bed, &whole, size.segments);
            bed.assert_held(&whole, true).await;
            release[runner].run(&bed, &whole, size.segments);
            bed.assert_held(&whole, false).await;
        }
    }
    let mut smaller = [
        new_runner(Contender::Rust("place"), "Toezicht, a quarter of it", 4.0),
        new_runner(Contender::Rust("release"), "Toezicht, a quarter of it", 4.0),
    ];
    for one in &mut smaller {
        one.run(&bed, &part, size.segments / 4);
    }
    bed.remove_bucket(&whole).await;
    bed.remove_bucket(&part).await;
    let mut report = Report::new("bench-holds", &bed, size);
    for (what, runners, less) in [("Placing", place, &smaller[0]), ("Releasing", release, &smaller[1])] {
        let lines = lines(&runners);
        let mut section = Section::new(&format!("{what} of {} segments", size.segments));
        section.add_goal(
            "times boto3, per request",
            lines[0].requests_per_second / lines[1].requests_per_second,
            3.0,
        );
        section.add_goal(
            "times mc, per request",
            lines[0].requests_per_second / lines[2].requests_per_second,
            3.0,
        );
        let of = |raw: usize| lines[0].requests_per_second / lines[raw].requests_per_second;
        section.add_goal("of the raw ceiling: the same requests", of(3), 0.8);
        section.add_ratio("of the marks alone, without finding what to mark", of(4));
        section.add_ratio(
            "times boto3, per segment",
            lines[0].versions_per_second / lines[1].versions_per_second,
        );
        section.add_limit(
            "times the memory for four times the segments",
            lines[0].peak_mib / less.line().peak_mib,
            1.1,
        );
        section.lines = lines;
        section.lines.push(less.line());
        report.add(section);
    }
    report.add(bench_placement_latency(&bed, size.rounds).await);
    report.write();
}
