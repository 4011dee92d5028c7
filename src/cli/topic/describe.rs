//! `playhouse topic describe`

use anyhow::Result;
use playhouse_client::offsets::At;
use playhouse_client::topics::{Setting, Topic};
use serde_json::json;

use crate::cli::broker::{BrokerArgs, print, print_json, table};

#[derive(Debug, clap::Args)]
pub struct Args {
    topic: String,
    /// All settings, not only those set on the topic
    #[arg(long)]
    all: bool,
    /// A JSON object instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let topic = client.topic(&args.topic).await?;
    let earliest = client.offsets(&args.topic, At::Earliest).await?;
    let latest = client.offsets(&args.topic, At::Latest).await?;
    let settings = client.settings(&args.topic).await?;
    let settings: Vec<&Setting> = settings.iter().filter(|it| args.all || it.set).collect();
    let range = |index: i32| (earliest.get(&index).copied().unwrap_or(0), latest.get(&index).copied().unwrap_or(0));
    if args.json {
        print_json(&document(&topic, range, &settings));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .map(|it| {
            let (first, next) = range(it.index);
            let leader = if it.leader < 0 { "none".to_owned() } else { it.leader.to_string() };
            vec![
                it.index.to_string(),
                first.to_string(),
                next.to_string(),
                (next - first).to_string(),
                leader,
                list(&it.in_sync),
            ]
        })
        .collect();
    print(&table(&["partition", "first", "next", "records", "leader", "in sync"], &rows));
    if !settings.is_empty() {
        let secret = || "(not shown)".to_owned();
        let rows: Vec<Vec<String>> =
            settings.iter().map(|it| vec![it.name.clone(), it.value.clone().unwrap_or_else(secret)]).collect();
        print(&format!("\n{}", table(&["setting", "value"], &rows)));
    }
    Ok(())
}

fn document(topic: &Topic, range: impl Fn(i32) -> (i64, i64), settings: &[&Setting]) -> serde_json::Value {
    let partitions = topic.partitions.iter().map(|it| {
        let (first, next) = range(it.index);
        json!({"partition": it.index, "first": first, "next": next, "leader": it.leader, "replicas": it.replicas,
               "in_sync": it.in_sync})
    });
    let settings = settings.iter().map(|it| (it.name.clone(), json!(it.value)));
    json!({
        "name": topic.name,
        "internal": topic.internal,
        "partitions": partitions.collect::<Vec<_>>(),
        "settings": settings.collect::<serde_json::Map<_, _>>(),
    })
}

fn list(numbers: &[i32]) -> String {
    numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
