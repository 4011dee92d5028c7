//! The `playhouse` binary: command line, configuration, and the wiring of every crate into one process.

mod cli;
mod config;
mod up;

use std::process::ExitCode;

// Rows are allocated on the engine's thread and freed on the sinks': this allocator gives such memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
