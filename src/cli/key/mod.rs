//! `playhouse key`: one file per subcommand. They change the file of keys in the data directory, whether or not a server
//! runs on it; a running one follows within a second.

mod create;
mod list;
mod revoke;

use std::fs::{File, OpenOptions};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Subcommand;
use playhouse_gate::KeyFile;
use playhouse_log::disk::{RealDisk, create_dir_durably};

use crate::config::{Config, ConfigArgs};

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key, and show it this once
    Create(create::Args),
    /// List keys: what they may do, not what they are
    List(list::Args),
    /// Revoke keys by their ids
    Revoke(revoke::Args),
}

pub fn run(command: Key) -> Result<()> {
    match command {
        Key::Create(args) => create::run(args),
        Key::List(args) => list::run(args),
        Key::Revoke(args) => revoke::run(args),
    }
}

fn keys(config: &ConfigArgs) -> Result<KeyFile> {
    let data = std::path::absolute(Config::load(config)?.data)?;
    Ok(KeyFile::new(Arc::new(RealDisk), &data))
}

/// Until the file is closed, no other process changes them.
fn lock(keys: &KeyFile) -> Result<File> {
    let path = keys.directory().join("lock");
    let locked = create_dir_durably(&RealDisk, keys.directory())
        .and_then(|()| OpenOptions::new().create(true).truncate(false).write(true).open(&path))
        .and_then(|file| file.lock().map(|()| file));
    locked.with_context(|| format!("cannot lock {} (setting data, flag --data)", path.display()))
}
