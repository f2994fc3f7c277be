//! The races: who runs, in which order, on what, and what is checked afterwards.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bed::{Bed, CAMERAS};
use crate::declared::declared;
use crate::report::{Line, Report, Section};
use crate::support::settings::{root, setting};
use crate::{Size, Took, ours};

/// Who runs.
#[derive(Clone, Copy)]
enum Who {
    /// This program: Toezicht, a bare loop of the same SDK, or a replay.
    Rust(&'static str),
    /// `benches/boto3_loop.py`.
    Boto3(&'static str),
    /// The client `mc`.
    Mc(&'static [&'static str]),
}

struct Runner {
    who: Who,
    says: &'static str,
    /// What it asks of the store for each version; less than one where it asks for many at once.
    requests: f64,
    took: Vec<Took>,
}

const fn runner(who: Who, says: &'static str, requests: f64) -> Runner {
    Runner { who, says, requests, took: Vec::new() }
}

const MC_RM: Who = Who::Mc(&["rm", "--versions", "--recursive", "--force"]);
const MC_SET: Who = Who::Mc(&["legalhold", "set", "--recursive"]);
const MC_CLEAR: Who = Who::Mc(&["legalhold", "clear", "--recursive"]);

impl Runner {
    /// Runs once, alone, as a process of its own.
    fn run(&mut self, bed: &Bed, bucket: &str, versions: usize) {
        let target = bed.target(bucket);
        let mut command = match self.who {
            Who::Rust(contender) => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["run", contender, bucket]);
                command
            }
            Who::Boto3(work) => {
                let mut command = Command::new("python3");
                let script = root().join("benches/boto3_loop.py");
                command.arg(script).args([work, bucket]);
                command
            }
            Who::Mc(words) => {
                let mut command = Command::new(setting("TOEZICHT_BENCH_MC"));
                let keys = target.credentials.as_keys().unwrap();
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
        assert!(output.status.success(), "{}: {}", self.says, output.status);
        let took = match self.who {
            // It tells nothing that can be read; its start, some hundredths of a second, is in it.
            Who::Mc(_) => Took { seconds, versions, peak_kib: 0 },
            _ => serde_json::from_slice(&output.stdout).unwrap(),
        };
        assert_eq!(took.versions, versions, "{}", self.says);
        println!("{:>10.2} s  {:>8.0}/s  {}", took.seconds, versions as f64 / took.seconds, self.says);
        self.took.push(took);
    }

    fn line(&self) -> Line {
        Line::of(self.says, self.requests, &self.took)
    }
}

fn lines(runners: &[Runner]) -> Vec<Line> {
    runners.iter().map(Runner::line).collect()
}

/// Sweep and audit.
pub async fn storage(size: Size) {
    let bed = Bed::here();
    let mut report = Report::new("bench-storage", &bed, size);
    report.add(sweep(&bed, size).await);
    report.add(audit(&bed, size).await);
    report.write();
}

async fn sweep(bed: &Bed, size: Size) -> Section {
    let mut runners = [
        runner(Who::Rust("sweep"), "Toezicht: sweep", 0.011),
        runner(Who::Boto3("sweep"), "boto3, 32 threads, DeleteObjects of 1000", 0.002),
        runner(MC_RM, "mc rm --versions --recursive --force", 0.002),
        runner(
            Who::Rust("raw-sweep"),
            "raw: the same ListObjectVersions and DeleteObjects requests, replayed",
            0.011,
        ),
        runner(Who::Rust("raw-delete"), "raw: the DeleteObjects requests alone", 0.01),
    ];
    for round in 0..size.rounds {
        for turn in 0..runners.len() {
            let bucket = bed.filled(size.segments).await;
            let runner = (round + turn) % runners.len();
            runners[runner].run(bed, &bucket, size.segments);
            assert_eq!(bed.count(&bucket).await, 0);
            bed.remove(&bucket).await;
        }
    }
    let lines = lines(&runners);
    let mut section = Section::new(&format!("Sweep of {} expired versions", size.segments));
    let peer = lines[1].per_second.max(lines[2].per_second);
    section.goal("times the faster peer", lines[0].per_second / peer, 2.0);
    let of = |raw: usize| lines[0].per_second / lines[raw].per_second;
    section.goal("of the raw ceiling: the same requests", of(3), 0.8);
    section.tell("of the deletions alone, without finding what to delete", of(4));
    section.lines = lines;
    section
}

async fn audit(bed: &Bed, size: Size) -> Section {
    let versions = 2 * size.segments;
    let bucket = bed.filled(versions).await;
    let held = ours::places_some(&bed.target(&bucket)).await.versions;
    assert_eq!(held, versions / CAMERAS);
    let each = 2.0 / CAMERAS as f64 + 0.001;
    let mut runners = [
        runner(Who::Rust("audit"), "Toezicht: audit", each),
        runner(Who::Rust("loop-read"), "bare ListObjectVersions loop, tag and hold of the held read", each),
        runner(Who::Rust("loop-list"), "bare ListObjectVersions loop", 0.001),
    ];
    for round in 0..size.rounds {
        for turn in 0..runners.len() {
            runners[(round + turn) % 3].run(bed, &bucket, versions);
        }
    }
    ours::releases_some(&bed.target(&bucket)).await;
    bed.remove(&bucket).await;
    let lines = lines(&runners);
    let mut section = Section::new(&format!("Audit of {versions} versions, of which {held} are held"));
    section.goal("of the loop with the same reads", lines[0].per_second / lines[1].per_second, 0.9);
    section.tell("of the bare loop", lines[0].per_second / lines[2].per_second);
    section.at_most("MiB at the peak", lines[0].peak_mib, 64.0);
    section.lines = lines;
    section
}

/// Placing and releasing.
pub async fn holds(size: Size) {
    let bed = Bed::here();
    let (whole, part) = (bed.filled(size.segments).await, bed.filled(size.segments / 4).await);
    let mut place = [
        runner(Who::Rust("place"), "Toezicht: both marks read, hold, then tag", 4.0),
        runner(Who::Boto3("place"), "boto3, 32 threads: hold, then tag", 2.0),
        runner(MC_SET, "mc legalhold set --recursive: hold only", 1.0),
        runner(
            Who::Rust("raw-place"),
            "raw: the same requests, ListObjectVersions among them, replayed",
            4.0,
        ),
        runner(Who::Rust("raw-place-marks"), "raw: the four requests a segment alone", 4.0),
    ];
    let mut release = [
        runner(Who::Rust("release"), "Toezicht: both marks read, tag, then hold off", 4.0),
        runner(Who::Boto3("release"), "boto3, 32 threads: hold off, then tag", 2.0),
        runner(MC_CLEAR, "mc legalhold clear --recursive: hold only", 1.0),
        runner(
            Who::Rust("raw-release"),
            "raw: the same requests, ListObjectVersions among them, replayed",
            4.0,
        ),
        runner(Who::Rust("raw-release-marks"), "raw: the four requests a segment alone", 4.0),
    ];
    for round in 0..size.rounds {
        for turn in 0..place.len() {
            let runner = (round + turn) % place.len();
            place[runner].run(&bed, &whole, size.segments);
            bed.expect_held(&whole, true).await;
            release[runner].run(&bed, &whole, size.segments);
            bed.expect_held(&whole, false).await;
        }
    }
    let mut less = [
        runner(Who::Rust("place"), "Toezicht, a quarter of it", 4.0),
        runner(Who::Rust("release"), "Toezicht, a quarter of it", 4.0),
    ];
    for one in &mut less {
        one.run(&bed, &part, size.segments / 4);
    }
    bed.remove(&whole).await;
    bed.remove(&part).await;
    let mut report = Report::new("bench-holds", &bed, size);
    for (what, runners, less) in [("Placing", place, &less[0]), ("Releasing", release, &less[1])] {
        let lines = lines(&runners);
        let mut section = Section::new(&format!("{what} of {} segments", size.segments));
        section.goal("times boto3, per request", lines[0].requests / lines[1].requests, 3.0);
        section.goal("times mc, per request", lines[0].requests / lines[2].requests, 3.0);
        let of = |raw: usize| lines[0].requests / lines[raw].requests;
        section.goal("of the raw ceiling: the same requests", of(3), 0.8);
        section.tell("of the marks alone, without finding what to mark", of(4));
        section.tell("times boto3, per segment", lines[0].per_second / lines[1].per_second);
        section.at_most(
            "times the memory for four times the segments",
            lines[0].peak_mib / less.line().peak_mib,
            1.1,
        );
        section.lines = lines;
        section.lines.push(less.line());
        report.add(section);
    }
    report.add(declared(&bed, size.rounds).await);
    report.write();
}
