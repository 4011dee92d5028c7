//! `playhouse group reset-offsets`

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use playhouse_client::ResponseError;
use serde_json::json;

use crate::cli::broker::{BrokerArgs, print, print_json, table};
use crate::cli::position::Position;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  playhouse group reset-offsets readers --topic clicks --to start
  playhouse group reset-offsets readers --topic clicks --to 15m --dry-run
  playhouse group reset-offsets readers --topic clicks --partition 0 --to 1200")]
pub struct Args {
    group: String,
    /// The topic whose offsets move; repeatable
    #[arg(long, required = true)]
    topic: Vec<String>,
    /// Only these partitions; repeatable
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// Where to: start, end, an offset, -N (N before the end), a span such as 15m (ago), or a time (RFC 3339)
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: Position,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// A JSON array instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    match client.group(&args.group).await {
        Ok(group) if !group.members.is_empty() => {
            bail!("group {:?} has {} members: stop them first", args.group, group.members.len());
        }
        Ok(_) => {}
        // A group that is not there yet may be given offsets to begin with.
        Err(error) if error.code() == Some(ResponseError::GroupIdNotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let before = client.committed(&args.group).await?;
    let mut offsets = BTreeMap::new();
    for topic in &args.topic {
        let found = args.to.offsets(&mut client, topic).await?;
        for partition in &args.partition {
            if !found.contains_key(partition) {
                bail!("topic {topic:?} has no partition {partition}");
            }
        }
        let chosen = found.into_iter().filter(|(index, _)| args.partition.is_empty() || args.partition.contains(index));
        offsets.extend(chosen.map(|(index, offset)| ((topic.clone(), index), offset)));
    }
    if !args.dry_run {
        client.commit(&args.group, &offsets).await?;
    }
    if args.json {
        let rows = offsets.iter().map(|((topic, partition), offset)| {
            let before = before.get(&(topic.clone(), *partition)).map(|it| it.offset);
            json!({"topic": topic, "partition": partition, "before": before, "after": offset})
        });
        print_json(&rows.collect());
        return Ok(());
    }
    let rows: Vec<Vec<String>> = offsets
        .iter()
        .map(|(place, offset)| {
            let before = before.get(place).map_or("-".to_owned(), |it| it.offset.to_string());
            vec![place.0.clone(), place.1.to_string(), before, offset.to_string()]
        })
        .collect();
    print(&table(&["topic", "partition", "before", "after"], &rows));
    if args.dry_run {
        print("nothing was changed (--dry-run)");
    }
    Ok(())
}
