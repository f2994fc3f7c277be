//! The figures as a part of `docs/development/benchmarks.md`.

use std::fmt::Write as _;

use crate::Args;
use crate::api_server::RequestCounts;
use crate::operator::Memory;
use crate::page;

/// Goals: ratio of the time of the operator to that of kubectl, MiB, seconds.
const MAX_RATIO: f64 = 1.2;
const MAX_MIB: f64 = 200.0;
const MAX_EDIT_SECONDS: f64 = 2.0;
const MAX_HOLD_SECONDS: f64 = 5.0;

/// Time from the start of the operator.
pub struct Convergence {
    /// Until all children exist.
    pub children_seconds: f64,
    /// Processor time of the operator until then.
    pub processor_seconds: f64,
    /// Until all recorders were queried and all Sites and Cameras report `Recording=True`.
    pub recording_seconds: f64,
    pub requests: RequestCounts,
}

/// Start with new Sites, which have no bucket.
pub struct FirstStart {
    /// Number of all Sites.
    pub sites: usize,
    pub converged: Convergence,
    /// Memory once all of them record.
    pub memory: Memory,
}

/// Cost while nothing changes.
pub struct Rest {
    /// Time from the convergence until only refreshes of statuses are written.
    pub settled_seconds: f64,
    pub minutes: f64,
    pub requests: RequestCounts,
    /// Processor time by wall-clock time.
    pub cores: f64,
    pub memory: Memory,
}

/// Seconds from the declaration of a hold.
#[derive(Clone, Copy, Debug)]
pub struct HoldPath {
    /// Until the recorders' configuration has it.
    pub configured: f64,
    /// Until the operator has the recorder's acknowledgement.
    pub acknowledged: f64,
    /// Until `Placed=True`.
    pub placed: f64,
}

pub struct Figures {
    pub args: Args,
    /// With half of the Sites, and with the other half.
    pub first: [FirstStart; 2],
    /// Number of the recorders' objects.
    pub children: usize,
    pub kubectl_seconds: f64,
    pub again: Convergence,
    pub rest: Rest,
    pub edits: Vec<f64>,
    pub holds: Vec<HoldPath>,
    pub memory: Memory,
}

impl Figures {
    /// Prints the figures and writes them to the page.
    pub fn write(&self) {
        let Args { sites, cameras, .. } = self.args;
        let text = self.to_markdown();
        println!("\n{text}");
        page::replace_part(&format!("bench-scale {sites} {cameras}"), &text);
    }

    fn to_markdown(&self) -> String {
        let Args { sites, cameras, .. } = self.args;
        let Self { first, children, kubectl_seconds, again, rest, memory, .. } = self;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let mut text = format!(
            "## `make bench-scale SITES={sites} CAMERAS={cameras}`\n\n{}. {profile} build. {}.\n\n",
            page::first_output_line("kube-apiserver-newest", &["--version"]),
            page::describe_machine("API server, store, operator and simulated recorders"),
        );
        let mut line = |text_: String| writeln!(text, "{text_}").unwrap();
        line(
            "| | seconds to all children | the operator's processor time until then | seconds to `Recording=True` | requests to the API server |".into(),
        );
        line("|---|---|---|---|---|".into());
        line(format!("| kubectl apply --server-side of {children} children | {kubectl_seconds:.1} | | | |"));
        let row = |what: &str, all: &Convergence| {
            let Convergence { children_seconds, processor_seconds, recording_seconds, requests } = all;
            let requests = requests.total();
            format!(
                "| {what} | {children_seconds:.1} | {processor_seconds:.1} | {recording_seconds:.1} | {requests} |"
            )
        };
        line(row("Toezicht: restart without children", again));
        let [half, whole] = first;
        let new = whole.sites - half.sites;
        line(row(
            &format!("Toezicht: first start with {} Sites, buckets created and probed", half.sites),
            &half.converged,
        ));
        line(row(&format!("Toezicht: first start with {new} more Sites"), &whole.converged));
        line(String::new());
        line(limit("times kubectl", again.children_seconds / kubectl_seconds, MAX_RATIO));
        line(limit("MiB at rest (`VmRSS`)", rest.memory.now, MAX_MIB));
        line(limit("MiB at the peak (`VmHWM`)", memory.peak, MAX_MIB));
        let growth = (whole.memory.now - half.memory.now) / new as f64;
        line(format!(
            "- {:.2} MiB at the end of the first start with {} Sites, {:.2} with {}: {:.0} KiB for each further Site with its Cameras",
            half.memory.now,
            half.sites,
            whole.memory.now,
            whole.sites,
            growth * 1024.0
        ));
        line(format!("- {:.2} MiB at the peak of these starts", half.memory.peak.max(whole.memory.peak)));
        let a_minute = rest.requests.total() as f64 / rest.minutes;
        line(format!(
            "- {a_minute:.2} requests to the API server a minute at rest, {:.2} for each Site, in {:.0} minutes",
            a_minute / sites as f64,
            rest.minutes
        ));
        line(format!("- {:.2} cores at rest", rest.cores));
        line(format!(
            "- {:.0} seconds from convergence to rest, with sweeps and audits",
            rest.settled_seconds
        ));
        let edits = sorted(self.edits.iter().copied());
        line(limit(
            "seconds from an edit to its effect, the longest",
            edits[edits.len() - 1],
            MAX_EDIT_SECONDS,
        ));
        line(format!("- {:.2} seconds at the median of {} edits", edits[edits.len() / 2], edits.len()));
        let longest = |of: fn(&HoldPath) -> f64| sorted(self.holds.iter().map(of))[self.holds.len() - 1];
        line(limit(
            "seconds from a hold to `Placed=True`, the longest",
            longest(|hold| hold.placed),
            MAX_HOLD_SECONDS,
        ));
        line(format!(
            "- {:.2} seconds until the configuration has it, {:.2} until the recorder's acknowledgement, the longest of {}",
            longest(|hold| hold.configured),
            longest(|hold| hold.acknowledged),
            self.holds.len()
        ));
        line(format!("\nRequests at rest: {}.\n", rest.requests.describe()));
        line(format!("Requests of the restart: {}.", again.requests.describe()));
        text
    }
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// Returns a figure that must not be higher than `most`.
fn limit(what: &str, is: f64, most: f64) -> String {
    let met = if is <= most { "met" } else { "**missed**" };
    format!("- {is:.2} {what} (at most: {most:.1}, {met})")
}
