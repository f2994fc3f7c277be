//! The architecture: which room may use which, that no modules use each other in a circle, and how long a file may
//! be. The rules are applied to violations too, to show that they would be seen.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Sources, Target};

/// Lines of a file, without its tests.
const MOST_LINES: usize = 500;

/// A folder of `src/` and what its files may use. The longest prefix counts.
struct Room {
    path: &'static str,
    /// Rooms beside itself.
    may_use: &'static [&'static str],
    /// Crates, by name or beginning of a name (`aws_*`), and paths in them.
    may_not_use: &'static [&'static str],
}

/// From the ground floor up: a room uses only rooms above it in this list. What is pure uses no clock, no files and no
/// network.
const ROOMS: &[Room] = &[
    Room { path: "failure", may_use: &[], may_not_use: &["aws_*", "kube", "tokio", "jiff"] },
    Room { path: "sync", may_use: &[], may_not_use: &["aws_*", "kube", "tokio", "jiff"] },
    Room { path: "api", may_use: &[], may_not_use: &["aws_*", "tokio", "reqwest", "hyper"] },
    Room {
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
    Room {
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
    Room { path: "storage::s3", may_use: &["api", "rules", "wire"], may_not_use: &["kube"] },
    Room {
        path: "storage::bucket",
        may_use: &["api", "rules", "wire", "storage::s3", "storage::bucket"],
        may_not_use: &["kube"],
    },
    // The probe also lists sources as a sweep does.
    Room {
        path: "storage::bucket::probe",
        may_use: &["api", "rules", "wire", "storage"],
        may_not_use: &["kube"],
    },
    Room {
        path: "storage::recordings",
        may_use: &["api", "rules", "wire", "storage::s3", "storage::bucket"],
        may_not_use: &["kube"],
    },
    Room { path: "storage", may_use: &["storage"], may_not_use: &["kube"] },
    Room { path: "leader", may_use: &["api", "rules", "wire", "storage"], may_not_use: &["aws_*", "retina"] },
    Room {
        path: "telemetry",
        may_use: &["api", "rules", "wire", "storage", "leader"],
        may_not_use: &["aws_*", "retina"],
    },
    Room {
        path: "recorder",
        may_use: &["api", "rules", "wire", "storage", "telemetry"],
        may_not_use: &["aws_*", "kube"],
    },
    Room {
        path: "controllers",
        may_use: &["api", "rules", "wire", "storage", "leader", "telemetry"],
        may_not_use: &["aws_*", "retina"],
    },
    Room {
        path: "operator",
        may_use: &["api", "rules", "wire", "storage", "leader", "controllers", "telemetry"],
        may_not_use: &["aws_*", "retina"],
    },
    Room {
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

fn room(path: &str) -> Option<&'static Room> {
    let holds = |room: &&Room| path == room.path || path.starts_with(&format!("{}::", room.path));
    ROOMS.iter().filter(holds).max_by_key(|room| room.path.len())
}

fn is_forbidden(used: &str, forbidden: &str) -> bool {
    match forbidden.strip_suffix('*') {
        Some(beginning) => used.starts_with(beginning),
        None => used == forbidden || used.starts_with(&format!("{forbidden}::")),
    }
}

/// Uses that the rooms do not allow.
fn violations(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, module) in sources.modules().filter(|(name, _)| !name.is_empty()) {
        let path = name.join("::");
        let file = module.file.display();
        let Some(room) = room(&path) else {
            wrong.push(format!("{file}: no room; add it to ROOMS"));
            continue;
        };
        for (target, line) in sources.uses(name) {
            let used = match target {
                Target::Module(used) => {
                    let used = used.join("::");
                    let allowed = self::room(&used).is_none_or(|other| {
                        other.path == room.path
                            || matches!(other.path, "failure" | "sync")
                            || room.may_use.iter().any(|allowed| {
                                other.path == *allowed || other.path.starts_with(&format!("{allowed}::"))
                            })
                    });
                    if allowed {
                        continue;
                    }
                    used
                }
                Target::External(used) => {
                    if !room.may_not_use.iter().any(|forbidden| is_forbidden(&used, forbidden)) {
                        continue;
                    }
                    used
                }
            };
            wrong.push(format!("{file}:{line}: {} may not use {used}", room.path));
        }
    }
    wrong
}

fn crate_sources() -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let sources = crate_sources();
    assert!(sources.modules().count() > 20, "the sources were not found");
    let wrong = violations(&sources);
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let cycles = crate_sources().cycles();
    let listed: Vec<String> = cycles.iter().map(|cycle| cycle.join(" ")).collect();
    assert!(cycles.is_empty(), "{} cycles:\n{}", cycles.len(), listed.join("\n"));
}

#[test]
fn files_without_their_tests_are_short() {
    let sources = crate_sources();
    let long = sources.modules().filter(|(_, module)| module.lines > MOST_LINES);
    let long: Vec<String> =
        long.map(|(_, module)| format!("{}: {}", module.file.display(), module.lines)).collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {}", long.join(", "));
}

#[test]
fn a_type_is_implemented_in_one_file() {
    let sources = crate_sources();
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, module) in sources.modules() {
        for implemented in &module.implements {
            let of = files.entry(implemented).or_default();
            of.push(name.join("::"));
        }
    }
    files.retain(|_, of| of.len() > 1);
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

#[test]
fn violations_are_detected() {
    let is_seen = |path: &str, text: &str| {
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
        ("controllers::site", "use aws_sdk_s3::Client;"),
        ("helpers", ""),
    ] {
        assert!(is_seen(path, text), "{path}: {text}");
    }
    for (path, text) in [
        ("rules::hold", "use crate::api::Site; use jiff::Timestamp;"),
        ("rules::hold", "const A: &str = \"use kube::Api;\"; // use kube::Api;"),
        ("rules::hold", "#[cfg(test)] mod tests { use crate::storage::s3; }"),
        ("storage::bucket", "use crate::storage::s3::Key;"),
    ] {
        assert!(!is_seen(path, text), "{path}: {text}");
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
    // A re-export is no use, and a use goes to the module that defines the item.
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
