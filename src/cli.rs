//! Command line.
//!
//! | exit status | meaning |
//! |---|---|
//! | 0 | success, or stopped by a signal |
//! | 1 | failure; the last line has the error |
//! | 2 | invalid command line |
//! | 3 | leadership was lost; restart |
//! | 4 | success, but not compliant: the probe has a failed fatal check, or the audit a violation |

mod audit;
pub mod crds;
mod environment;
mod holds;
mod iam;
mod output;
mod probe;
pub mod target;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::crds::CrdsError;
use crate::operator::run::{OperatorError, OperatorOptions};
use crate::operator::{run, shutdown};
use crate::recorder;
use crate::recorder::{RecorderError, RecorderOptions};
use crate::telemetry::logs;
use crate::telemetry::logs::{LogFormat, LogSetupError};

/// Lost leadership is not a failure of the process. The kubelet restarts it as a standby.
const EXIT_LEADERSHIP_LOST: u8 = 3;
const EXIT_NOT_COMPLIANT: u8 = 4;

#[derive(Debug, Parser)]
#[command(name = "toezicht", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the controllers, which reconcile policies, sites, cameras and holds. One replica leads; others stand by.
    Operator {
        #[command(flatten)]
        options: OperatorOptions,
        /// Format of log lines.
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    /// Records the cameras of one site. The operator starts it in the site's namespace.
    Recorder {
        #[command(flatten)]
        options: RecorderOptions,
        /// Format of log lines.
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    Probe(probe::ProbeArgs),
    /// Audits a bucket for violations of retention, holds and access, based only on its contents.
    ///
    /// The audit only reads. It requires permission to list versions, to read their tags and legal holds, and to read
    /// `ledger/`. Credentials come from the environment or a profile, as with other S3 tools.
    ///
    /// Exit status: 0, no violations; 4, confirmed or possible violations; 1, the audit could not be completed.
    Audit(audit::AuditArgs),
    /// Reads holds from the ledger in a bucket.
    #[command(subcommand)]
    Holds(holds::HoldsCommand),
    /// Prints the custom resource definitions, or writes each to a file.
    Crds {
        /// Folder for the files [default: print to standard output].
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Prints the policies that each identity of a Site needs at the store, as JSON.
    Iam(iam::IamArgs),
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Telemetry(#[from] LogSetupError),
    #[error("cannot start the asynchronous runtime: {0}")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("cannot receive signals: {0}")]
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

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    // clap prints help, version and errors, and exits with 0 or 2.
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // A command in a pod logs its error in the log format. A command in a terminal prints it.
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
        Command::Operator { options, log_format } => {
            logs::init(log_format)?;
            block_on(async { Ok(run::run(options).await?) })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Recorder { options, log_format } => {
            logs::init(log_format)?;
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
    // Dropping the runtime would wait for blocking tasks of abandoned requests.
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
        let Command::Operator { options, .. } = cli.command else { panic!("{cli:?}") };
        assert_eq!(options.config.to_str(), Some("/etc/toezicht/operator.yaml"));
        assert_eq!(options.lease_name, "toezicht");
    }
}
