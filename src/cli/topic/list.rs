//! `playhouse topic list`

use anyhow::Result;
use serde_json::json;

use crate::cli::broker::{BrokerArgs, print, print_json, table};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also the cluster's own topics, such as __consumer_offsets
    #[arg(long)]
    all: bool,
    /// A JSON array instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let topics = client.topics().await?;
    let shown = topics.iter().filter(|topic| args.all || !topic.internal);
    if args.json {
        let rows = shown.map(|topic| {
            let replicas = topic.partitions.first().map_or(0, |it| it.replicas.len());
            json!({"name": topic.name, "partitions": topic.partitions.len(), "replicas": replicas, "internal": topic.internal})
        });
        print_json(&rows.collect());
        return Ok(());
    }
    let rows: Vec<Vec<String>> = shown
        .map(|topic| {
            let replicas = topic.partitions.first().map_or(0, |it| it.replicas.len());
            vec![topic.name.clone(), topic.partitions.len().to_string(), replicas.to_string()]
        })
        .collect();
    print(&table(&["topic", "partitions", "replicas"], &rows));
    Ok(())
}
