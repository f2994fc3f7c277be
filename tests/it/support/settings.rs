//! Addresses and credentials of the servers under test, read from environment variables. `tests/testbed/README.md`
//! lists them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// An S3 server for tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Server {
    pub name: String,
    pub endpoint: String,
    pub region: String,
    pub path_style: bool,
    pub identities: BTreeMap<String, S3Identity>,
    /// File with the server's description.
    #[serde(skip)]
    pub file: PathBuf,
}

/// Identity at an S3 server.
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

    /// Returns the default server.
    pub fn primary() -> Self {
        Self::read("TOEZICHT_TEST_S3")
    }

    /// Returns the second server, of another implementation. Its lifecycle rules really run.
    pub fn secondary() -> Self {
        Self::read("TOEZICHT_TEST_S3_SECOND")
    }

    /// Returns the server of the demonstration.
    pub fn demo() -> Self {
        let variable = "TOEZICHT_DEMO_S3";
        if std::env::var_os(variable).is_some() { Self::read(variable) } else { Self::primary() }
    }

    /// Returns the operator identity that may create buckets with names that begin with `tz-`.
    pub fn bucket_maker(&self) -> &S3Identity {
        self.identities.get("operator-scoped").unwrap_or_else(|| self.identity("operator"))
    }

    pub fn identity(&self, name: &str) -> &S3Identity {
        self.identities.get(name).unwrap_or_else(|| panic!("{}: no identity {name}", self.file.display()))
    }
}

/// Returns a variable, or panics if it is not set.
pub fn setting(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run the tests by `make test-integration`, or see tests/testbed/README.md"
        )
    })
}

/// Returns the root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
