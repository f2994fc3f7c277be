//! The `toezicht` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Dependencies enable two cryptography providers. Without an explicit choice, the first use of TLS would panic.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("toezicht: a cryptography provider is already installed");
        return ExitCode::FAILURE;
    }
    toezicht::cli::main()
}
