//! Which bucket, and as whom: what the commands have in common that look at a store without a cluster.

use std::path::PathBuf;

use crate::contract::{Secret, StorageTarget};
use crate::storage::TargetError;

/// The longest file of certificates that is read, in bytes.
const MOST_CA: u64 = 1024 * 1024;

/// A bucket at a store. Credentials come from the environment only: a command line is seen by all.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct TargetArgs {
    /// The S3 endpoint, http(s)://host[:port] [default: AWS].
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The region that signatures name.
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// The bucket.
    #[arg(long, value_name = "NAME")]
    pub bucket: String,
    /// Name the bucket in the path instead of the host name.
    #[arg(long)]
    pub path_style: bool,
    /// File with the PEM certificates of a private certificate authority, the only one that is then trusted.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetArgsError {
    /// A variable of the credentials is absent or empty.
    #[error("{0} is not set: credentials are read from the environment")]
    NoCredentials(String),
    /// The file of the certificate authority cannot be read.
    #[error("--ca-file {}: {error}", .path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// An option has a value that no store takes.
    #[error("{}", in_options(*.0))]
    Target(#[from] TargetError),
}

impl TargetArgs {
    /// The bucket as the identity whose keys stand in these two environment variables.
    pub fn target(&self, key_env: &str, secret_env: &str) -> Result<StorageTarget, TargetArgsError> {
        self.with(key_env, secret_env, |name| std::env::var(name).ok())
    }

    /// The same, where that identity is given at all. `None`: both variables are absent or empty.
    pub fn target_if_given(
        &self,
        key_env: &str,
        secret_env: &str,
    ) -> Result<Option<StorageTarget>, TargetArgsError> {
        let is_given = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        if is_given(key_env) || is_given(secret_env) {
            self.target(key_env, secret_env).map(Some)
        } else {
            Ok(None)
        }
    }

    fn with(
        &self,
        key_env: &str,
        secret_env: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<StorageTarget, TargetArgsError> {
        let secret = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(Secret::new)
                .ok_or_else(|| TargetArgsError::NoCredentials(name.to_owned()))
        };
        let target = StorageTarget {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            path_style: self.path_style,
            ca_pem: self.ca_pem()?,
            access_key_id: secret(key_env)?,
            secret_access_key: secret(secret_env)?,
        };
        crate::storage::check(&target)?;
        Ok(target)
    }

    fn ca_pem(&self) -> Result<Option<String>, TargetArgsError> {
        use std::io::Read;
        let Some(path) = &self.ca_file else {
            return Ok(None);
        };
        let read = || {
            let mut text = String::new();
            std::fs::File::open(path)?
                .take(MOST_CA)
                .read_to_string(&mut text)?;
            Ok(text)
        };
        read().map(Some).map_err(|error| TargetArgsError::CaFile {
            path: path.clone(),
            error,
        })
    }
}

/// What is wrong, in the words of the command line.
fn in_options(error: TargetError) -> &'static str {
    match error {
        TargetError::Endpoint => "--endpoint must be http(s)://host[:port], without user, path or query",
        TargetError::Bucket => {
            "--bucket must be 3 to 63 of a-z, 0-9, '.' and '-', and name an ordinary bucket"
        }
        TargetError::Region => "--region must be 1 to 64 of a-z, 0-9 and '-'",
        TargetError::Ca => "--ca-file must hold PEM certificates of a certificate authority",
        TargetError::Credentials => "the credentials in the environment must be printable and without spaces",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        target: TargetArgs,
    }

    fn parsed(line: &[&str]) -> TargetArgs {
        let line = ["x", "--bucket", "tz-one"].iter().chain(line);
        Cli::try_parse_from(line).unwrap().target
    }

    fn with(args: &TargetArgs, secret: Option<&str>) -> Result<StorageTarget, TargetArgsError> {
        args.with("ID", "SECRET", |name| match name {
            "ID" => Some("id".to_owned()),
            "SECRET" => secret.map(str::to_owned),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_bucket_alone_is_one_at_aws() {
        let target = with(&parsed(&[]), Some("hunter2")).unwrap();
        assert_eq!(
            (target.endpoint, target.region.as_str(), target.path_style),
            (None, "us-east-1", false)
        );
        assert_eq!(target.secret_access_key.reveal(), "hunter2");
    }

    #[test]
    fn credentials_that_are_missing_are_named() {
        for secret in [None, Some("")] {
            let error = with(&parsed(&[]), secret).unwrap_err();
            assert_eq!(
                error.to_string(),
                "SECRET is not set: credentials are read from the environment"
            );
        }
        let none = parsed(&[]).target_if_given("TOEZICHT_NOBODY_ID", "TOEZICHT_NOBODY_SECRET");
        assert_eq!(none.unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_said_in_options() {
        for (line, option) in [
            (["--endpoint", "ftp://x"], "--endpoint must be"),
            (["--region", "A B"], "--region must be"),
            (["--ca-file", "/nowhere/ca.pem"], "--ca-file /nowhere/ca.pem: "),
            (["--ca-file", "Cargo.toml"], "--ca-file must hold PEM"),
        ] {
            let error = with(&parsed(&line), Some("s")).unwrap_err().to_string();
            assert!(error.starts_with(option), "{error}");
        }
        let bad = TargetArgs {
            bucket: "arn:aws:s3:::x".into(),
            ..parsed(&[])
        };
        assert!(
            with(&bad, Some("s"))
                .unwrap_err()
                .to_string()
                .starts_with("--bucket must be")
        );
    }
}
