//! The command line: one file per command.

mod config;
mod delivery;
mod doctor;
mod generate;
mod replay;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::up;

/// The streaming-media backend in one binary: takes events over HTTP and the Kafka protocol, checks and enriches them,
/// answers live questions in SQL, and lands every event exactly once in lake, tables and cache.
#[derive(Debug, Parser)]
#[command(name = "playhouse", version, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything: the log, the engine with its pipeline, the stores and all doors
    Up(up::Args),
    /// Send recorded traffic (a web log, NDJSON or a JSON array) to a running Playhouse
    Replay(replay::Args),
    /// Make the traffic of a synthetic audience, with its exact expected answers
    Generate(generate::Args),
    /// Print the resolved configuration and where each value came from
    Config(config::Args),
    /// Check ports, disk, limits and stores before `up`
    Doctor(doctor::Args),
}

pub fn run() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Up(args) => runtime()?.block_on(up::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => runtime()?.block_on(replay::run(args)),
        Command::Generate(args) => runtime()?.block_on(generate::run(args)),
        Command::Config(args) => config::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
