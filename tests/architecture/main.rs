//! Architecture rules: allowed uses between layers, no cycles between modules, and a line limit for files. The rules
//! are also tested against violations.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Sources, Target};

/// Maximum number of lines of a file without its tests.
const MAX_LINES: usize = 500;

/// A layer: a module of `src/` with its submodules, and its allowed uses. The longest matching path counts.
struct Layer {
    path: &'static str,
    /// Other layers that it may use.
    may_use: &'static [&'static str],
    /// Crates that it may not use, by name or prefix (`aws_*`), and paths in them.
    may_not_use: &'static [&'static str],
}

/// Crates and paths that code without input and output may not use. Its callers pass bytes, times and random text.
const WITHOUT_IO: &[&str] = &[
    "aws_*",
    "kube",
    "rand",
    "retina",
    "tokio",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
];

/// Layers, lowest first: a layer uses only layers listed before it. Pure layers use no clock, no files and no
/// network.
const LAYERS: &[Layer] = &[
    Layer { path: "failure", may_use: &[], may_not_use: &["aws_*", "kube", "tokio", "jiff"] },
    Layer { path: "sync", may_use: &[], may_not_use: &["aws_*", "kube", "tokio", "jiff"] },
    Layer { path: "api", may_use: &[], may_not_use: &["aws_*", "tokio", "reqwest", "hyper"] },
    Layer {
        path: "rules",
        may_use: &["api"],
        may_not_use: &[
            "aws_*",
            "kube",
            "tokio",
            "reqwest",
            "hyper",
            "std::fs",
            "std::net",
            "std::env",
            "std::time::SystemTime",
            "std::time::Instant",
            "jiff::Timestamp::now",
            "jiff::Zoned::now",
        ],
    },
    Layer {
        path: "wire",
        may_use: &["api", "rules"],
        may_not_use: &[
            "aws_*",
            "kube",
            "tokio",
            "reqwest",
            "hyper",
            "std::fs",
            "std::net",
            "jiff::Timestamp::now",
        ],
    },
    Layer { path: "storage::s3", may_use: &["api", "rules", "wire"], may_not_use: &["kube"] },
    Layer {
        path: "storage::bucket",
        may_use: &["api", "rules", "wire", "storage::s3", "storage::bucket"],
        may_not_use: &["kube"],
    },
    // The probe lists sources, as a sweep does.
    Layer {
        path: "storage::bucket::probe",
        may_use: &["api", "rules", "wire", "storage"],
        may_not_use: &["kube"],
    },
    Layer {
        path: "storage::recordings",
        may_use: &["api", "rules", "wire", "storage::s3", "storage::bucket"],
        may_not_use: &["kube"],
    },
    Layer { path: "storage", may_use: &["storage"], may_not_use: &["kube"] },
    Layer {
        path: "leader",
        may_use: &["api", "rules", "wire", "storage"],
        may_not_use: &["aws_*", "retina"],
    },
    Layer {
        path: "telemetry",
        may_use: &["api", "rules", "wire", "storage", "leader"],
        may_not_use: &["aws_*", "retina"],
    },
    // The protocol of cameras gets bytes and times, and makes neither.
    Layer { path: "recorder::frame", may_use: &[], may_not_use: WITHOUT_IO },
    Layer { path: "recorder::rtsp::oddity", may_use: &[], may_not_use: WITHOUT_IO },
    Layer { path: "recorder::rtsp::text", may_use: &[], may_not_use: WITHOUT_IO },
    Layer { path: "recorder::rtsp::hidden_text", may_use: &[], may_not_use: WITHOUT_IO },
    Layer { path: "recorder::rtsp::parameters", may_use: &["recorder::rtsp::text"], may_not_use: WITHOUT_IO },
    Layer {
        path: "recorder::rtsp::message",
        may_use: &["recorder::rtsp::oddity", "recorder::rtsp::text"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::rtsp_url",
        may_use: &["recorder::rtsp::hidden_text", "recorder::rtsp::oddity", "recorder::rtsp::text"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::headers",
        may_use: &[
            "recorder::rtsp::hidden_text",
            "recorder::rtsp::message",
            "recorder::rtsp::oddity",
            "recorder::rtsp::parameters",
            "recorder::rtsp::rtsp_url",
            "recorder::rtsp::text",
        ],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::sdp",
        may_use: &[
            "recorder::frame",
            "recorder::rtsp::hidden_text",
            "recorder::rtsp::oddity",
            "recorder::rtsp::parameters",
            "recorder::rtsp::rtsp_url",
            "recorder::rtsp::text",
        ],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::control",
        may_use: &[
            "recorder::frame",
            "recorder::rtsp::hidden_text",
            "recorder::rtsp::oddity",
            "recorder::rtsp::rtsp_url",
            "recorder::rtsp::sdp",
            "recorder::rtsp::text",
        ],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::codec",
        may_use: &["recorder::frame", "recorder::rtsp::oddity", "recorder::rtsp::rtp", "recorder::rtsp::sdp"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::auth",
        may_use: &[
            "wire",
            "recorder::rtsp::oddity",
            "recorder::rtsp::text",
            "recorder::rtsp::message",
            "recorder::rtsp::rtsp_url",
        ],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::lockout",
        may_use: &["wire", "recorder::rtsp::auth", "recorder::rtsp::rtsp_url"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::rtp",
        may_use: &["recorder::frame", "recorder::rtsp::oddity"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::rtcp",
        may_use: &["recorder::frame", "recorder::rtsp::oddity", "recorder::rtsp::rtp"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::learned",
        may_use: &["recorder::rtsp::auth", "recorder::rtsp::headers", "recorder::rtsp::message"],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder::rtsp::session",
        may_use: &[
            "wire",
            "recorder::frame",
            "recorder::rtsp::auth",
            "recorder::rtsp::control",
            "recorder::rtsp::headers",
            "recorder::rtsp::hidden_text",
            "recorder::rtsp::learned",
            "recorder::rtsp::message",
            "recorder::rtsp::oddity",
            "recorder::rtsp::rtsp_url",
            "recorder::rtsp::sdp",
            "recorder::rtsp::text",
        ],
        may_not_use: WITHOUT_IO,
    },
    Layer {
        path: "recorder",
        may_use: &["api", "rules", "wire", "storage", "telemetry", "recorder::frame", "recorder::rtsp"],
        may_not_use: &["aws_*", "kube"],
    },
    Layer {
        path: "controllers",
        may_use: &["api", "rules", "wire", "storage", "leader", "telemetry"],
        may_not_use: &["aws_*", "retina"],
    },
    Layer {
        path: "operator",
        may_use: &["api", "rules", "wire", "storage", "leader", "controllers", "telemetry"],
        may_not_use: &["aws_*", "retina"],
    },
    Layer {
        path: "cli",
        may_use: &[
            "api",
            "rules",
            "wire",
            "storage",
            "recorder",
            "leader",
            "controllers",
            "telemetry",
            "operator",
        ],
        may_not_use: &["aws_*", "retina"],
    },
];

/// Functions and requests that delete from a bucket.
const DELETIONS: [&str; 4] = ["delete_object", "delete_objects", "delete_version", "abort_multipart_upload"];

/// The only modules that may delete from a bucket, and what they delete.
const MAY_DELETE: &[(&str, &str)] = &[
    ("storage::recordings::sweep::batch", "recordings past their ceiling that no open hold covers"),
    ("storage::recordings::hold::release", "recordings of a resolved hold that are past their ceiling"),
    ("storage::recordings::hold::place", "delete markers that hide held recordings"),
    ("storage::recordings::hold::manifest", "manifests of released holds, and old versions of a manifest"),
    ("storage::recordings::sweep::incomplete_uploads", "multipart uploads that nobody completed"),
    ("storage::recordings::ledger", "the open entry of a hold whose closed entry was read back"),
    ("storage::bucket::owner", "the Site's own claim of another Site's bucket"),
    ("storage::bucket::probe::actor", "canaries, to see whether an identity can"),
    ("storage::bucket::probe::canary", "canaries"),
    ("storage::s3::objects", "the request, for all others"),
];

/// Names of values that are times, in modules that use `jiff::Timestamp`. Also names with these endings.
const TIMES: &[&str] = &["now", "at", "until", "since", "time", "start_time"];
const ENDINGS_OF_TIMES: &[&str] = &["_at", "_time"];
/// Instants of this process, whose sums do not overflow.
const INSTANTS: &[&str] = &["last_frame_at"];

/// Returns sums of times that may panic: `api::later` and `api::earlier` do not.
fn panicking_sums(sources: &Sources) -> Vec<String> {
    let is_time = |name: &str| {
        let ends = ENDINGS_OF_TIMES.iter().any(|ending| name.ends_with(ending));
        (TIMES.contains(&name) || ends) && !INSTANTS.contains(&name)
    };
    let modules = sources.modules().filter(|(_, module)| module.identifiers.contains("Timestamp"));
    let sums = modules.flat_map(|(_, module)| {
        let found = module.sums.iter().filter(|(name, _)| is_time(name));
        found.map(|(name, line)| format!("{}:{line}: {name}", module.file.display()))
    });
    sums.collect()
}

fn layer(path: &str) -> Option<&'static Layer> {
    let contains = |layer: &&Layer| path == layer.path || path.starts_with(&format!("{}::", layer.path));
    LAYERS.iter().filter(contains).max_by_key(|layer| layer.path.len())
}

fn is_forbidden(used: &str, forbidden: &str) -> bool {
    match forbidden.strip_suffix('*') {
        Some(beginning) => used.starts_with(beginning),
        None => used == forbidden || used.starts_with(&format!("{forbidden}::")),
    }
}

/// Returns uses that the layers do not allow.
fn violations(sources: &Sources) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, module) in sources.modules().filter(|(name, _)| !name.is_empty()) {
        let path = name.join("::");
        let file = module.file.display();
        let Some(layer) = layer(&path) else {
            violations.push(format!("{file}: no layer; add it to LAYERS"));
            continue;
        };
        for (target, line) in sources.uses(name) {
            let used = match target {
                Target::Module(used) => {
                    let used = used.join("::");
                    let allowed = self::layer(&used).is_none_or(|other| {
                        other.path == layer.path
                            || matches!(other.path, "failure" | "sync")
                            || layer.may_use.iter().any(|allowed| {
                                other.path == *allowed || other.path.starts_with(&format!("{allowed}::"))
                            })
                    });
                    if allowed {
                        continue;
                    }
                    used
                }
                Target::External(used) => {
                    if !layer.may_not_use.iter().any(|forbidden| is_forbidden(&used, forbidden)) {
                        continue;
                    }
                    used
                }
            };
            violations.push(format!("{file}:{line}: {} may not use {used}", layer.path));
        }
    }
    violations
}

fn crate_sources() -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
}

#[test]
fn layers_use_only_lower_layers() {
    let sources = crate_sources();
    assert!(sources.modules().count() > 20, "the sources were not found");
    let violations = violations(&sources);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn modules_have_no_cycles() {
    let cycles = crate_sources().cycles();
    let listed: Vec<String> = cycles.iter().map(|cycle| cycle.join(" ")).collect();
    assert!(cycles.is_empty(), "{} cycles:\n{}", cycles.len(), listed.join("\n"));
}

#[test]
fn files_stay_below_line_limit() {
    let sources = crate_sources();
    let long = sources.modules().filter(|(_, module)| module.lines > MAX_LINES);
    let long: Vec<String> =
        long.map(|(_, module)| format!("{}: {}", module.file.display(), module.lines)).collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {}", long.join(", "));
}

#[test]
fn types_are_implemented_in_one_file() {
    let sources = crate_sources();
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, module) in sources.modules() {
        for implemented in &module.implements {
            let implementing = files.entry(implemented).or_default();
            implementing.push(name.join("::"));
        }
    }
    files.retain(|_, implementing| implementing.len() > 1);
    assert!(files.is_empty(), "implemented in more than one file: {files:#?}");
}

#[test]
fn only_listed_modules_delete() {
    let sources = crate_sources();
    let deletes = |identifiers: &BTreeSet<String>| DELETIONS.iter().any(|name| identifiers.contains(*name));
    let deleting = sources.modules().filter(|(_, module)| deletes(&module.identifiers));
    let deleting: BTreeSet<String> = deleting.map(|(name, _)| name.join("::")).collect();
    let listed = MAY_DELETE.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(deleting, listed);
    // Requests stand in macros, and methods after a dot.
    let text =
        "fn f() { send!(store, \"DeleteObject\", delete_object().key(key)) } fn g() { s3.delete_objects() }";
    let sources = Sources::of(&[("", ""), ("sweep", text)]);
    let (_, sweep) = sources.modules().last().unwrap();
    assert!(["delete_object", "delete_objects"].iter().all(|name| sweep.identifiers.contains(*name)));
}

/// The store, a status, a spec or a recorder may have any time, and a panic ends the process for all tenants.
#[test]
fn times_are_added_without_a_panic() {
    let sums = panicking_sums(&crate_sources());
    assert!(sums.is_empty(), "use api::later or api::earlier:\n{}", sums.join("\n"));
    let is_detected = |text: &str| {
        let text = format!("fn f(now: Timestamp) {{ {text} }}");
        !panicking_sums(&Sources::of(&[("", ""), ("rules", &text)])).is_empty()
    };
    for text in ["now + HOUR", "self.now - every", "until.map(|at| at + HOUR)", "a.audit_time.0 + HOUR"] {
        assert!(is_detected(text), "{text}");
    }
    for text in ["later(now, HOUR)", "count + 1", "at < now"] {
        assert!(!is_detected(text), "{text}");
    }
}

#[test]
fn violations_are_detected() {
    let is_detected = |path: &str, text: &str| {
        let sources =
            Sources::of(&[("", ""), ("storage", ""), ("storage::s3", ""), ("rules", ""), (path, text)]);
        !violations(&sources).is_empty()
    };
    for (path, text) in [
        ("rules::hold", "use kube::Api;"),
        ("rules::hold", "fn f() { let api = kube::Api::all(c); }"),
        ("rules::hold", "use crate::storage::s3;"),
        ("rules::hold", "use super::super::storage::s3::Key;"),
        ("rules::hold", "fn f() { let now = jiff::Timestamp::now(); }"),
        ("rules::hold", "use jiff::Timestamp; fn f() { let now = Timestamp::now(); }"),
        ("rules::hold", "use std::{fmt, fs};"),
        ("rules::hold", "fn f() { println!(\"{}\", crate::storage::s3::NAME); }"),
        ("api::site", "use crate::rules::Window;"),
        ("recorder::upload", "use aws_sdk_s3 as s3;"),
        ("recorder::rtsp::rtp::order", "use tokio::time::sleep;"),
        ("recorder::rtsp::rtcp", "use std::time::{Duration, Instant};"),
        ("controllers::site", "use aws_sdk_s3::Client;"),
        ("helpers", ""),
    ] {
        assert!(is_detected(path, text), "{path}: {text}");
    }
    for (path, text) in [
        ("rules::hold", "use crate::api::Site; use jiff::Timestamp;"),
        ("rules::hold", "const A: &str = \"use kube::Api;\"; // use kube::Api;"),
        ("rules::hold", "#[cfg(test)] mod tests { use crate::storage::s3; }"),
        ("storage::bucket", "use crate::storage::s3::Key;"),
    ] {
        assert!(!is_detected(path, text), "{path}: {text}");
    }
}

#[test]
fn cycles_are_detected() {
    let cycles = |files: &[(&str, &str)]| Sources::of(files).cycles().len();
    assert_eq!(cycles(&[("", ""), ("a", "use crate::b::B; pub struct A;"), ("b", "pub struct B;")]), 0);
    assert_eq!(
        cycles(&[("", ""), ("a", "use crate::b::B; pub struct A;"), ("b", "use crate::a::A; pub struct B;")]),
        1
    );
    // A re-export does not count as a use. A use counts for the module that defines the item.
    let parent = "pub use self::child::C; pub struct P;";
    assert_eq!(
        cycles(&[("", ""), ("p", parent), ("p::child", "pub struct C;"), ("q", "use crate::p::C;")]),
        0
    );
    assert_eq!(cycles(&[("", ""), ("p", parent), ("p::child", "use super::P; pub struct C;")]), 0);
    assert_eq!(
        cycles(&[
            ("", ""),
            ("p", "use self::child::C; pub struct P;"),
            ("p::child", "use super::P; pub struct C;")
        ]),
        1
    );
}
