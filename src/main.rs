//! The `toezicht` binary.

use std::process::ExitCode;

/// Requests to stores are many small allocations, which end on another thread than they began on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two libraries bring a provider of cryptography each; whoever uses TLS first would panic over the choice.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("toezicht: the cryptography provider was chosen twice");
        return ExitCode::FAILURE;
    }
    toezicht::cli::main()
}
