//! Where the peers are: read from the environment, which the test bed sets. All variables stand in
//! `tests/testbed/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// An S3 server that may be used.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Server {
    pub name: String,
    pub endpoint: String,
    pub region: String,
    pub path_style: bool,
    pub identities: BTreeMap<String, S3Identity>,
    /// The file it was read from.
    #[serde(skip)]
    pub file: PathBuf,
}

/// Somebody at an S3 server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Identity {
    pub access_key: String,
    pub secret_key: String,
    pub principal: String,
}

impl S3Server {
    fn read(variable: &str) -> Self {
        let file = PathBuf::from(setting(variable));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut server: Self =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        server.file = file;
        server
    }

    /// The default server.
    pub fn first() -> Self {
        Self::read("TOEZICHT_TEST_S3")
    }

    /// The server of another make, whose lifecycle really runs.
    pub fn second() -> Self {
        Self::read("TOEZICHT_TEST_S3_SECOND")
    }

    /// The server of the demonstration.
    pub fn of_demo() -> Self {
        let variable = "TOEZICHT_DEMO_S3";
        if std::env::var_os(variable).is_some() { Self::read(variable) } else { Self::first() }
    }

    /// The operator of tests in which it makes its buckets, whose names begin with `tz-`.
    pub fn bucket_maker(&self) -> &S3Identity {
        self.identities.get("operator-scoped").unwrap_or_else(|| self.identity("operator"))
    }

    pub fn identity(&self, name: &str) -> &S3Identity {
        self.identities.get(name).unwrap_or_else(|| panic!("{}: no identity {name}", self.file.display()))
    }
}

/// A setting that must be there.
pub fn setting(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run the tests by `make test-integration`, or see tests/testbed/README.md"
        )
    })
}

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
