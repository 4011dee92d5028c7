//! The command line: one file per command.

mod bad;
mod broker;
mod config;
mod delivery;
mod doctor;
mod filter;
mod generate;
mod group;
mod key;
mod position;
mod produce;
mod replay;
mod tap;
mod topic;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::up;

/// The streaming-media backend in one binary: takes events over HTTP and the Kafka protocol, checks and enriches them,
/// answers live questions in SQL, and lands every event exactly once in lake, tables and cache.
#[derive(Debug, Parser)]
#[command(name = "playhouse", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.")]
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
    /// List, make, describe, delete and alter topics of a Kafka broker
    #[command(subcommand)]
    Topic(topic::Topic),
    /// List and describe consumer groups of a Kafka broker, and move their offsets
    #[command(subcommand)]
    Group(group::Group),
    /// List, show, count, fix, replay and drop bad events
    #[command(subcommand)]
    Bad(bad::Bad),
    /// Make, list and revoke the API keys that the doors ask for (auth = "keys")
    #[command(subcommand)]
    Key(key::Key),
    /// Show the records of a topic as they arrive
    Tap(tap::Args),
    /// Send lines as records to a topic
    Produce(produce::Args),
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
        Command::Topic(command) => runtime()?.block_on(topic::run(command)).map(|()| ExitCode::SUCCESS),
        Command::Group(command) => runtime()?.block_on(group::run(command)).map(|()| ExitCode::SUCCESS),
        Command::Bad(command) => runtime()?.block_on(bad::run(command)),
        Command::Key(command) => key::run(command).map(|()| ExitCode::SUCCESS),
        Command::Tap(args) => runtime()?.block_on(tap::run(args)),
        Command::Produce(args) => runtime()?.block_on(produce::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Config(args) => config::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
