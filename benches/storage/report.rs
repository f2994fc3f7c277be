//! The figures as a page: `docs/development/benchmarks.md`, of which each benchmark writes its own part anew.

use std::fmt::Write as _;

use crate::bed::TestBed;
use crate::page::{describe_machine, first_output_line, replace_part};
use crate::support::settings::setting;
use crate::{BenchSize, Measurement};

/// One contender's medians.
pub struct Line {
    label: &'static str,
    /// The least, the median and the most.
    pub seconds: (f64, f64, f64),
    /// Versions.
    pub versions_per_second: f64,
    /// Requests a second.
    pub requests_per_second: f64,
    /// The most memory of any run; 0: not measured.
    pub peak_mib: f64,
}

impl Line {
    /// Of all its turns.
    pub fn from_runs(says: &'static str, requests: f64, took: &[Measurement]) -> Self {
        let mut seconds: Vec<f64> = took.iter().map(|took| took.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let per_second = took[0].versions as f64 / median;
        Self {
            label: says,
            seconds: (seconds[0], median, seconds[seconds.len() - 1]),
            versions_per_second: per_second,
            requests_per_second: per_second * requests,
            peak_mib: took.iter().map(|took| took.peak_kib).max().unwrap() as f64 / 1024.0,
        }
    }
}

/// One comparison.
pub struct Section {
    title: String,
    ratios: Vec<String>,
    /// Who took part.
    pub lines: Vec<Line>,
}

impl Section {
    /// Nobody yet.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), ratios: Vec::new(), lines: Vec::new() }
    }

    /// A ratio that must be as high as `goal`.
    pub fn add_goal(&mut self, what: &str, is: f64, goal: f64) {
        let met = if is >= goal { "met" } else { "**missed**" };
        self.ratios.push(format!("{is:.2} {what} (goal: {goal:.1}, {met})"));
    }

    /// A figure that must not be higher than `most`.
    pub fn add_limit(&mut self, what: &str, is: f64, most: f64) {
        let met = if is <= most { "met" } else { "**missed**" };
        self.ratios.push(format!("{is:.2} {what} (at most: {most:.1}, {met})"));
    }

    /// A ratio without a goal.
    pub fn add_ratio(&mut self, what: &str, is: f64) {
        self.ratios.push(format!("{is:.2} {what}"));
    }

    fn to_markdown(&self) -> String {
        let mut text = format!(
            "### {}\n\n| | seconds: median (least, most) | versions/s | requests/s | peak MiB |\n|---|---|---|---|---|\n",
            self.title
        );
        for line in &self.lines {
            let (least, median, most) = line.seconds;
            let (versions, requests) = (line.versions_per_second, line.requests_per_second);
            let places = usize::from(requests < 100.0);
            let peak = if line.peak_mib > 0.0 { format!("{:.0}", line.peak_mib) } else { String::new() };
            writeln!(
                text,
                "| {} | {median:.2} ({least:.2}, {most:.2}) | {versions:.0} | {requests:.places$} | {peak} |",
                line.label
            )
            .unwrap();
        }
        text.push('\n');
        for ratio in &self.ratios {
            writeln!(text, "- {ratio}").unwrap();
        }
        text
    }
}

/// What one command found.
pub struct Report {
    /// The command, and how many segments: those of each number stay in the page.
    name: String,
    text: String,
}

impl Report {
    /// Says where and how it was measured.
    pub fn new(name: &str, bed: &TestBed, size: BenchSize) -> Self {
        let (segments, rounds) = (size.segments, size.rounds);
        let text = format!(
            "## `make {name} SEGMENTS={segments} ROUNDS={rounds}`\n\n{}, {}; {}; {}; boto3 {}. {}.\n",
            bed.name(),
            first_output_line("weed", &["version"]),
            first_output_line(&setting("TOEZICHT_BENCH_MC"), &["--version"]),
            first_output_line("python3", &["--version"]),
            first_output_line("python3", &["-c", "import boto3; print(boto3.__version__)"]),
            describe_machine("store and clients"),
        );
        let name = format!("{name} {segments}");
        Self { name, text }
    }

    /// Prints a section, and keeps it.
    pub fn add(&mut self, section: Section) {
        let text = section.to_markdown();
        println!("\n{text}");
        write!(self.text, "\n{text}").unwrap();
    }

    /// Replaces this benchmark's part of the page.
    pub fn write(&self) {
        replace_part(&self.name, &self.text);
    }
}
