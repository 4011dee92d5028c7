//! Longer developer commands.
//!
//! `cargo xtask test --real` runs the tests that need other people's software: it installs what is missing, starts real
//! servers on free ports in a temporary directory, points the tests at them, and stops them again.

mod apicurio;
mod go;
mod install;
mod kafka;
mod servers;
mod tests;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Longer developer commands of Playhouse")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start PostgreSQL, Redis, Apache Kafka and Apicurio Registry on free ports of 127.0.0.1, print how to reach them, and stop them on Ctrl-C
    Servers,
    /// Fetch Apache Kafka and measure Playhouse beside it (`cargo bench --bench kafka`)
    Bench {
        /// Passed on to `cargo bench`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the tests that need real servers and other people's clients
    Test {
        /// Against real servers (required: `cargo test` runs everything else)
        #[arg(long, required = true)]
        real: bool,
        /// Passed on to `cargo test`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Servers => servers::Servers::start()?.wait(),
        Command::Bench { arguments } => tests::run_bench(&arguments),
        Command::Test { arguments, .. } => tests::run_real(&arguments),
    }
}
