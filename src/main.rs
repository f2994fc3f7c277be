//! The `toezicht` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two libraries bring a provider of cryptography each; whoever uses TLS first would panic over the choice.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("toezicht: the cryptography provider was chosen twice");
        return ExitCode::FAILURE;
    }
    toezicht::cli::main()
}
