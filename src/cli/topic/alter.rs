//! `playhouse topic alter`

use std::collections::BTreeMap;

use anyhow::Result;

use crate::cli::broker::{BrokerArgs, assignment, print};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: playhouse topic alter clicks --set cleanup.policy=compact --unset retention.ms")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Args {
    topic: String,
    /// Raise the number of partitions to N; records with a key go to other partitions from then on
    #[arg(long, value_name = "N", group = "change", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Change a setting, such as retention.ms=86400000; repeatable
    #[arg(long, value_name = "NAME=VALUE", group = "change", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Put a setting back to its default; repeatable
    #[arg(long, value_name = "NAME", group = "change")]
    unset: Vec<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let set = args.set.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    let changes: BTreeMap<String, Option<String>> =
        set.chain(args.unset.iter().map(|name| (name.clone(), None))).collect();
    if !changes.is_empty() {
        client.alter_settings(&args.topic, &changes).await?;
        for (name, value) in &changes {
            match value {
                Some(value) => print(&format!("set {name} = {value}")),
                None => print(&format!("set {name} back to its default")),
            }
        }
    }
    if let Some(total) = args.partitions {
        client.add_partitions(&args.topic, total).await?;
        print(&format!("topic {} has {total} partitions", args.topic));
    }
    Ok(())
}
