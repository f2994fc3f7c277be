//! The house: which module may use which, and how long a file may be. `CONTRIBUTING.md` says why.
//!
//! The sources are read as tokens, macros and all, so that a path is found wherever it stands. The test feeds
//! itself violations, to show that it would see them.
// A test may panic: that is how it says that something is wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "architecture/scan.rs"]
mod scan;

use std::path::{Path, PathBuf};

use scan::{Use, uses};

/// No source file is longer.
const MAX_LINES: usize = 500;

/// What one module may use.
struct Rule {
    module: &'static str,
    /// Modules of this crate, beside itself.
    may_use: &'static [&'static str],
    /// Crates, by name or beginning of a name (`aws_*`), and other paths that it may not use.
    may_not_use: &'static [&'static str],
}

/// From the ground floor up. What is pure uses no clock, no files and no network.
const HOUSE: &[Rule] = &[
    Rule { module: "api", may_use: &[], may_not_use: &["aws_*", "tokio", "reqwest", "hyper"] },
    Rule {
        module: "protocol",
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
            "Timestamp::now",
            "Zoned::now",
        ],
    },
    Rule {
        module: "contract",
        may_use: &["api", "protocol"],
        may_not_use: &["aws_*", "kube", "tokio", "reqwest", "hyper", "std::fs", "std::net", "Timestamp::now"],
    },
    Rule { module: "storage", may_use: &["api", "protocol", "contract"], may_not_use: &["kube"] },
    Rule {
        module: "recorder",
        may_use: &["api", "protocol", "contract", "storage"],
        may_not_use: &["aws_*", "kube"],
    },
    Rule {
        module: "controllers",
        may_use: &["api", "protocol", "contract", "storage"],
        may_not_use: &["aws_*", "retina"],
    },
    Rule {
        module: "runtime",
        may_use: &["api", "protocol", "contract", "storage", "recorder", "controllers"],
        may_not_use: &["aws_*", "retina"],
    },
    Rule {
        module: "cli",
        may_use: &["api", "protocol", "contract", "storage", "recorder", "controllers", "runtime"],
        may_not_use: &["aws_*", "retina"],
    },
    Rule { module: "main", may_use: &["cli", "runtime"], may_not_use: &["aws_*", "kube", "retina"] },
];

/// What is wrong with a file of `src/`, by its path there.
fn violations(path: &str, source: &str) -> Vec<String> {
    if path == "lib.rs" {
        return Vec::new();
    }
    let steps: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|step| *step != "mod").collect();
    let Some(rule) = HOUSE.iter().find(|rule| Some(&rule.module) == steps.first()) else {
        return vec![format!("{path}: a module that the house does not have; give it its place in HOUSE")];
    };
    uses(source, &steps)
        .into_iter()
        .filter_map(|Use { line, path: used, is_ours }| {
            let allowed = if is_ours {
                let first = used.split("::").next().unwrap_or_default();
                let is_module = HOUSE.iter().any(|other| other.module == first);
                !is_module || first == rule.module || rule.may_use.contains(&first)
            } else {
                !rule.may_not_use.iter().any(|forbidden| names(&used, forbidden))
            };
            (!allowed).then(|| format!("{path}:{line}: {} may not use {used}", rule.module))
        })
        .collect()
}

/// Whether a path begins with, or for a type's function ends with, what is forbidden.
fn names(used: &str, forbidden: &str) -> bool {
    match forbidden.strip_suffix('*') {
        Some(beginning) => used.starts_with(beginning),
        None => {
            used == forbidden
                || used.strip_prefix(forbidden).is_some_and(|rest| rest.starts_with("::"))
                || (forbidden.starts_with(char::is_uppercase) && used.ends_with(&format!("::{forbidden}")))
        }
    }
}

fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known))
        {
            found.push(path);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn modules_use_only_lower_layers() {
    let src = root().join("src");
    let sources = files(&src, &["rs"]);
    assert!(sources.len() > 20, "the sources were not found");
    let wrong: Vec<String> = sources
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(&src).unwrap().to_str().unwrap();
            violations(path, &std::fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn source_files_stay_below_line_limit() {
    let wrong: Vec<String> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|dir| files(&root().join(dir), &["rs", "py", "sh"]))
        .filter_map(|file| {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            (lines > MAX_LINES)
                .then(|| format!("{}: {lines} lines", file.strip_prefix(root()).unwrap().display()))
        })
        .collect();
    assert!(wrong.is_empty(), "more than {MAX_LINES} lines; split by what it does:\n{}", wrong.join("\n"));
}

#[test]
fn forbidden_uses_are_reported() {
    let seen = |path: &str, source: &str| {
        let found = violations(path, source);
        assert!(!found.is_empty(), "not seen in {path}: {source}");
    };
    seen("protocol/hold.rs", "use kube::Api;");
    seen("protocol/hold.rs", "fn f() { let api = kube::Api::all(c); }");
    seen("protocol/hold.rs", "use crate::storage::Key;");
    seen("protocol/hold.rs", "use super::super::storage::Key;");
    seen("protocol/hold.rs", "mod deep { use super::super::super::contract::Window; }");
    seen("protocol/mod.rs", "use super::storage;");
    seen("protocol/hold.rs", "use crate::{api::Site, controllers};");
    seen("protocol/hold.rs", "use crate::{api::{self, Site}, r#recorder::run};");
    seen("protocol/hold.rs", "fn f() { let now = jiff::Timestamp::now(); }");
    seen("protocol/hold.rs", "fn f() { let now = Timestamp::now(); }");
    seen("protocol/hold.rs", "use std::{fmt, fs};");
    seen("protocol/hold.rs", "println!(\"{}\", crate::runtime::NAME);");
    seen("api/site/mod.rs", "use crate::protocol::Window;");
    seen("contract/config.rs", "use crate::storage::Key;");
    seen("storage/key.rs", "use crate::controllers::Context;");
    seen("storage/key.rs", "pub use super::super::recorder::run;");
    seen("recorder/mod.rs", "use crate::controllers::Context;");
    seen("recorder/upload.rs", "use aws_sdk_s3 as s3;");
    seen("controllers/site/mod.rs", "use crate::recorder;");
    seen("controllers/site/mod.rs", "use aws_sdk_s3::Client;");
    seen("controllers/site/mod.rs", "type Error = ::aws_smithy_types::Error;");
    seen("controllers/site/mod.rs", "use crate::runtime::lease;");
    seen("runtime/mod.rs", "use crate::cli::Args;");
    seen("cli.rs", "use aws_types::region::Region;");
    seen("helpers.rs", "");
}

#[test]
fn allowed_uses_are_accepted() {
    let clean =
        |path: &str, source: &str| assert_eq!(violations(path, source), Vec::<String>::new(), "{source}");
    clean("protocol/hold.rs", "use crate::api::Site; use super::window::Window; use jiff::Timestamp;");
    clean(
        "protocol/hold.rs",
        "// use kube::Api;\n/* crate::storage /* kube::Api */ */ const A: &str = \"kube::Api\";",
    );
    clean("protocol/hold.rs", "const A: &str = r#\"use crate::storage \"quoted\" \"#; const B: char = '\"';");
    clean("protocol/hold.rs", "const A: &[u8] = b\"\\\"kube::Api\"; const B: &[u8] = br#\"\"kube::Api\"#;");
    clean(
        "protocol/hold.rs",
        "fn f<'a>(now: &'a Timestamp) {} mod tests { use super::super::window::Window; }",
    );
    clean(
        "protocol/hold.rs",
        "#[kube(group = \"toezicht.dev\")] struct A; fn g(kube: u8) { a.kube.b(); x::kube::y() }",
    );
    clean("storage/client.rs", "use aws_sdk_s3::Client; use crate::contract::StorageTarget;");
    clean("controllers/site/mod.rs", "use kube::Api; use crate::storage; use super::kit::apply;");
    clean("main.rs", "use toezicht::cli; fn main() {}");
    clean("api/site/mod.rs", "mod storage; pub use storage::*; pub use self::recorder::Spool;");
}
