//! Plain English: phrases that make a reader stop, in documents and in source files with texts for users.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// Words and phrases with a plainer equivalent.
const PHRASES: [(&str, &str); 18] = [
    ("all the same", "even so"),
    ("anew", "again, or re-create"),
    ("as it must be", "compliant"),
    ("be it", "even if"),
    ("besides", "also, or in addition"),
    ("by itself", "automatically, or alone"),
    ("for good", "permanently"),
    ("goes by", "uses"),
    ("is told", "is reported"),
    ("looked after", "reconciled"),
    ("looked at", "read, or checked"),
    ("of which", "whose, or two sentences"),
    ("tells", "reports, or shows"),
    ("the one before", "previous"),
    ("until then", "until it is, or yet"),
    ("who administers", "administrators"),
    ("whoever", "a noun"),
    ("whosoever", "a noun"),
];

/// Files and folders with texts that users read. In source files, comments are checked too.
const READ_BY_USERS: [&str; 15] = [
    "README.md",
    "CONTRIBUTING.md",
    "docs",
    "charts/toezicht/values.yaml",
    "charts/toezicht/templates",
    "charts/toezicht/files/rules.yaml",
    "examples",
    "Makefile",
    "src/api.rs",
    "src/api",
    "src/cli.rs",
    "src/cli",
    "src/failure.rs",
    "src/rules.rs",
    "src/rules",
];

/// Written by the benchmarks.
const GENERATED: &str = "docs/development/benchmarks.md";

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// Places of the phrases in a text, each with its line.
fn stumbles(text: &str) -> Vec<String> {
    let is_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let in_line = |(number, line): (usize, &str)| {
        let lower = line.to_lowercase();
        let found = PHRASES.iter().filter(|(phrase, _)| {
            lower.match_indices(phrase).any(|(at, _)| {
                let (before, after) = (lower.get(..at), lower.get(at + phrase.len()..));
                !is_word(before.and_then(|text| text.chars().next_back()))
                    && !is_word(after.and_then(|text| text.chars().next()))
            })
        });
        found
            .map(|(phrase, better)| format!("{}: {phrase:?}: write {better}", number + 1))
            .collect::<Vec<_>>()
    };
    text.lines().enumerate().flat_map(in_line).collect()
}

#[test]
fn texts_for_users_have_no_stumbles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in READ_BY_USERS.iter().flat_map(|path| files(&root.join(path))) {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        if name == GENERATED {
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&file).unwrap();
        wrong.extend(stumbles(&text).into_iter().map(|stumble| format!("{name}:{stumble}")));
    }
    assert!(read > 100, "only {read} files were read");
    assert!(wrong.is_empty(), "{} stumbles:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn stumbles_are_detected() {
    for text in ["made anew", "Whoever asks", "all the same.", "be it dead"] {
        assert_eq!(stumbles(text).len(), 1, "{text}");
    }
    for text in ["a newcomer", "maybe it", "renewed", "the same"] {
        assert!(stumbles(text).is_empty(), "{text}");
    }
}
