//! `docs/development/benchmarks.md`, in which each benchmark replaces its own part.

use std::process::Command;

use crate::support::settings::root;

const REPORT_PATH: &str = "docs/development/benchmarks.md";

/// Replaces the part of the page between the comments that have `name`. A new part comes last.
pub fn replace_part(name: &str, text: &str) {
    let file = root().join(REPORT_PATH);
    let page = std::fs::read_to_string(&file).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, after) = match page.split_once(&begin) {
        Some((before, rest)) => (before.to_owned(), rest.split_once(&end).unwrap().1),
        None => (format!("{page}\n"), "\n"),
    };
    std::fs::write(&file, format!("{before}{begin}{text}{end}{after}")).unwrap();
    println!("written to {REPORT_PATH}");
}

/// Returns the first line of a program's output.
pub fn first_output_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Returns processor, memory and kernel of this machine. `sharers` are the programs that run on it.
pub fn describe_machine(sharers: &str) -> String {
    let info = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').unwrap_or_default().1.trim().to_owned()
    };
    let cores = std::thread::available_parallelism().unwrap();
    let kib: f64 = info("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap();
    let (processor, memory) = (info("/proc/cpuinfo", "model name"), kib / 1024.0 / 1024.0);
    format!(
        "{cores} cores ({processor}) shared by {sharers}, {memory:.0} GiB, Linux {}",
        first_output_line("uname", &["-r"])
    )
}
