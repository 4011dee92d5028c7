//! The `playhouse` binary: command line, configuration, and the wiring of every crate into one process.

mod cli;
mod config;
mod up;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            // One line: what failed, and each cause after a colon.
            eprintln!("playhouse: {error:#}");
            ExitCode::FAILURE
        }
    }
}
