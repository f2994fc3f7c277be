//! The command line.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done, or stopped by a signal |
//! | 1 | failed; the last line says why |
//! | 2 | the command line is not understood |
//! | 3 | leadership was lost; start again |
//! | 4 | done, and what was looked at is not as it must be: a fatal row of the probe, a violation in the audit |

mod audit;
pub mod crds;
mod environment;
mod holds;
mod iam;
mod output;
mod probe;
pub mod target;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::crds::CrdsError;
use crate::operator::run::OperatorError;
use crate::operator::{run, shutdown};
use crate::recorder;
use crate::recorder::RecorderError;
use crate::telemetry::logs;
use crate::telemetry::logs::{LogFormat, LogSetupError};
use crate::wire::{HEALTH_PORT, STATUS_PORT};

/// Leadership was lost: not an error of this process, and the pod is started again at once.
const EXIT_LEADERSHIP_LOST: u8 = 3;
/// What was looked at is not as it must be.
const EXIT_NOT_COMPLIANT: u8 = 4;

/// Records an organisation's cameras, and proves that what it keeps, and for how long, is what the protocol says.
#[derive(Debug, Parser)]
#[command(name = "toezicht", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the controllers: looks after policies, sites, cameras and holds. One leads, others stand by.
    Operator {
        /// Configuration file: grants, ceilings, recorder image.
        #[arg(long, value_name = "FILE", default_value = "/etc/toezicht/operator.yaml")]
        config: PathBuf,
        /// Where /livez, /readyz and /metrics are served.
        #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
        /// Namespace of the Lease [default: that of the service account, or of the kubeconfig's context].
        #[arg(long, env = "POD_NAMESPACE")]
        lease_namespace: Option<String>,
        /// Name of the Lease by which operators agree which of them leads.
        #[arg(long, value_name = "NAME", default_value = "toezicht")]
        lease_name: String,
        /// What this process calls itself in the Lease and in events.
        #[arg(long, env = "POD_NAME", default_value = "operator")]
        instance: String,
        /// How much memory this process may have, in bytes: half of it is for what is known of held versions.
        #[arg(long, value_name = "BYTES", env = "MEMORY_LIMIT", default_value_t = 512 << 20)]
        memory_limit: u64,
        /// How log lines are written.
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    /// Records the cameras of one site; the operator runs it in the site's namespace.
    Recorder {
        /// Folder where the configuration Secret is mounted.
        #[arg(long, value_name = "DIR", default_value = "/etc/toezicht")]
        config_dir: PathBuf,
        /// Folder where recordings are made and wait for their upload.
        #[arg(long, value_name = "DIR", default_value = "/var/spool/toezicht")]
        spool_dir: PathBuf,
        /// Which pod of the site this is: it records the cameras of this shard.
        #[arg(long, env = "TOEZICHT_SHARD")]
        shard: u32,
        /// Where /v1/status is served, with TLS and token.
        #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], STATUS_PORT)))]
        status_listen: SocketAddr,
        /// Where /livez, /readyz and /metrics are served.
        #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], HEALTH_PORT)))]
        health_listen: SocketAddr,
        /// How long completing and uploading may take when told to stop, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 25)]
        grace_period_seconds: u64,
        /// How log lines are written.
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    Probe(probe::ProbeArgs),
    /// Says whether a bucket keeps the promises, by what is in it alone. Reads only; needs the right to list versions, to
    /// read their tags and legal holds, and to read `ledger/`. Credentials are read from the environment or a
    /// profile, as other S3 tools do.
    Audit(audit::AuditArgs),
    /// What the ledger in a bucket knows of holds.
    #[command(subcommand)]
    Holds(holds::HoldsCommand),
    /// Prints the custom resource definitions, or writes a file for each.
    Crds {
        /// Folder to write the files into.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Prints the documents that each identity of a Site needs at the store, as JSON.
    Iam(iam::IamArgs),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Telemetry(#[from] LogSetupError),
    #[error("the asynchronous runtime cannot be started: {0}")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("signals cannot be received: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    #[error(transparent)]
    Crds(#[from] CrdsError),
    #[error(transparent)]
    Probe(#[from] probe::ProbeCommandError),
    #[error(transparent)]
    Audit(#[from] audit::AuditCommandError),
    #[error(transparent)]
    Holds(#[from] holds::HoldsCommandError),
    #[error(transparent)]
    Iam(#[from] iam::IamCommandError),
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    // clap prints help, version and mistakes itself, and ends with 0 or 2.
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // What runs in a pod logs its end as all else; what a person typed says it.
            if tracing::dispatcher::has_been_set() {
                tracing::error!("{error}");
            } else {
                eprintln!("toezicht: {error}");
            }
            exit_code(&error)
        }
    }
}

fn exit_code(error: &CommandError) -> ExitCode {
    match error {
        CommandError::Operator(OperatorError::LeadershipLost(_)) => ExitCode::from(EXIT_LEADERSHIP_LOST),
        _ => ExitCode::FAILURE,
    }
}

fn run(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Operator {
            config,
            listen,
            lease_namespace: namespace,
            lease_name,
            instance,
            memory_limit,
            log_format,
        } => {
            logs::init(log_format)?;
            let options =
                run::OperatorOptions { config, listen, namespace, lease_name, instance, memory_limit };
            block_on(async { Ok(run::run(options).await?) })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Recorder {
            config_dir,
            spool_dir: spool,
            shard,
            status_listen,
            health_listen,
            grace_period_seconds: grace,
            log_format,
        } => {
            logs::init(log_format)?;
            let grace = Duration::from_secs(grace);
            let options = recorder::RecorderOptions {
                config_dir,
                spool_dir: spool,
                shard,
                status_listen,
                health_listen,
                grace,
            };
            block_on(async {
                let stop = shutdown::on_signal().map_err(CommandError::Signals)?;
                Ok(recorder::run(options, stop).await?)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Probe(args) => {
            let is_fit = block_on(async {
                let stop = shutdown::on_signal().map_err(CommandError::Signals)?;
                Ok(probe::run(args, stop).await?)
            })?;
            Ok(compliance_exit_code(is_fit))
        }
        Command::Audit(args) => Ok(compliance_exit_code(block_on(async { Ok(audit::run(args).await?) })?)),
        Command::Holds(command) => {
            block_on(async { Ok(holds::run(command).await?) })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Crds { dir } => {
            crds::write(dir)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Iam(args) => {
            iam::run(&args)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn compliance_exit_code(is_compliant: bool) -> ExitCode {
    if is_compliant { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_COMPLIANT) }
}

fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(work);
    // What is still under way, such as a request that was given up, is not waited for.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn operator_runs_with_defaults() {
        let cli = Cli::try_parse_from(["toezicht", "operator"]).unwrap();
        let Command::Operator { config, lease_name, .. } = cli.command else { panic!("{cli:?}") };
        assert_eq!((config.to_str(), lease_name.as_str()), (Some("/etc/toezicht/operator.yaml"), "toezicht"));
    }
}
