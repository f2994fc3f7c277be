//! Bucket and credentials of the commands that use a store without a cluster.

use std::path::{Path, PathBuf};

use super::environment::{self, CredentialsVariables, EnvironmentError};
use crate::storage::{BucketConnection, TargetError};
use crate::wire::StorageTarget;

const MAX_CA_BYTES: u64 = 1024 * 1024;

/// Bucket at a store. Credentials come from the environment or a profile only, since other users can read a command line.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct TargetArgs {
    /// S3 endpoint: http or https, host, and port unless it is the default one [default: AWS].
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region for request signatures.
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// Name of the bucket.
    #[arg(long, value_name = "NAME")]
    pub bucket: String,
    /// Put the bucket name in the URL path instead of the host name.
    #[arg(long)]
    pub path_style: bool,
    /// File with PEM certificates of a private certificate authority, at most 1 MiB. They replace the public ones.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TargetArgsError {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("--ca-file {}: {error}", .path.display())]
    CaFile {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("{}", describe_option(*.0))]
    Target(#[from] TargetError),
}

impl TargetArgs {
    /// Connects to the bucket with credentials from the variables of AWS or a profile.
    pub fn connection(&self) -> Result<BucketConnection, TargetArgsError> {
        self.connection_as(&environment::AWS_VARIABLES, process_variable)
    }

    /// Connects to the bucket with the recorders' keys; `None`: neither key nor secret is set.
    pub fn recorder_connection(&self) -> Result<Option<BucketConnection>, TargetArgsError> {
        let names = &environment::RECORDER_VARIABLES;
        if environment::has_keys(names, process_variable) {
            self.connection_as(names, process_variable).map(Some)
        } else {
            Ok(None)
        }
    }

    fn connection_as(
        &self,
        names: &CredentialsVariables,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<BucketConnection, TargetArgsError> {
        let is_plain_http = self.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let target = StorageTarget {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            path_style: self.path_style,
            ca_pem: self.ca_pem()?,
            credentials: environment::read_credentials(names, &variable, Path::is_file)?,
            proxy: environment::read_proxy(is_plain_http, &variable)?,
        };
        Ok(BucketConnection::new(&target)?)
    }

    fn ca_pem(&self) -> Result<Option<String>, TargetArgsError> {
        use std::io::Read;
        let Some(path) = &self.ca_file else {
            return Ok(None);
        };
        let read = || {
            let mut text = String::new();
            std::fs::File::open(path)?.take(MAX_CA_BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        read().map(Some).map_err(|error| TargetArgsError::CaFile { path: path.clone(), error })
    }
}

fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the problem in terms of the command-line option.
fn describe_option(error: TargetError) -> &'static str {
    match error {
        TargetError::Endpoint => "--endpoint must be http(s)://host[:port], without user, path or query",
        TargetError::Bucket => {
            "--bucket must be 3 to 63 of a-z, 0-9, '.' and '-', and name an ordinary bucket"
        }
        TargetError::Region => "--region must be 1 to 64 of A-Z, a-z, 0-9, '-' and '_'",
        TargetError::Ca => "--ca-file must hold PEM certificates of a certificate authority",
        TargetError::Credentials => {
            "the credentials in the environment must be printable ASCII without spaces"
        }
        TargetError::Proxy => "HTTPS_PROXY or HTTP_PROXY must be http://[user:password@]host[:port]",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct TestCli {
        #[command(flatten)]
        target: TargetArgs,
    }

    fn parse(line: &[&str]) -> TargetArgs {
        let line = ["x", "--bucket", "tz-one"].iter().chain(line);
        TestCli::try_parse_from(line).unwrap().target
    }

    fn target_with_secret(args: &TargetArgs, secret: Option<&str>) -> Result<StorageTarget, TargetArgsError> {
        let connection = args.connection_as(&environment::AWS_VARIABLES, |name| match name {
            "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => secret.map(str::to_owned),
            "HTTP_PROXY" => Some("http://tz:p%40ss@10.0.0.1:3128".to_owned()),
            _ => None,
        });
        Ok(connection?.target().clone())
    }

    #[test]
    fn endpoint_defaults_to_aws() {
        let target = target_with_secret(&parse(&[]), Some("hunter2")).unwrap();
        assert_eq!((target.endpoint, target.region.as_str(), target.path_style), (None, "us-east-1", false));
        assert_eq!(target.credentials.as_access_key().unwrap().secret_access_key.reveal(), "hunter2");
        assert_eq!(target.proxy, None);
    }

    #[test]
    fn plain_http_uses_http_proxy() {
        let target = target_with_secret(&parse(&["--endpoint", "http://s3.example.nl"]), Some("s")).unwrap();
        let proxy = target.proxy.unwrap();
        assert_eq!(proxy.url, "http://10.0.0.1:3128");
        assert_eq!(proxy.login.unwrap().password.reveal(), "p@ss");
    }

    #[test]
    fn error_names_missing_credentials() {
        for secret in [None, Some("")] {
            let error = target_with_secret(&parse(&[]), secret).unwrap_err();
            assert_eq!(
                error.to_string(),
                "AWS_SECRET_ACCESS_KEY is not set; set it, or select a profile with AWS_PROFILE"
            );
        }
    }

    #[test]
    fn errors_name_command_line_options() {
        for (line, option) in [
            (["--endpoint", "ftp://x"], "--endpoint must be"),
            (["--region", "A B"], "--region must be"),
            (["--ca-file", "/nowhere/ca.pem"], "--ca-file /nowhere/ca.pem: "),
            (["--ca-file", "Cargo.toml"], "--ca-file must hold PEM"),
        ] {
            let error = target_with_secret(&parse(&line), Some("s")).unwrap_err().to_string();
            assert!(error.starts_with(option), "{error}");
        }
        let bad = TargetArgs { bucket: "arn:aws:s3:::x".into(), ..parse(&[]) };
        assert!(target_with_secret(&bad, Some("s")).unwrap_err().to_string().starts_with("--bucket must be"));
    }
}
