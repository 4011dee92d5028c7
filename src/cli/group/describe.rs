//! `playhouse group describe`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use playhouse_client::offsets::At;
use serde_json::json;

use crate::cli::broker::{BrokerArgs, print, print_json, table};

#[derive(Debug, clap::Args)]
pub struct Args {
    group: String,
    /// A JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

struct Row {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
    host: Option<String>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let group = client.group(&args.group).await?;
    let committed = client.committed(&args.group).await?;
    let mut holders = BTreeMap::new();
    for member in &group.members {
        for place in &member.assignment {
            holders.insert(place.clone(), (member.client_id.clone(), member.host.clone()));
        }
    }
    let places: BTreeSet<(String, i32)> = committed.keys().chain(holders.keys()).cloned().collect();
    let mut ends = BTreeMap::new();
    for topic in places.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
        // A topic deleted since is shown without an end.
        ends.insert(topic.clone(), client.offsets(topic, At::Latest).await.unwrap_or_default());
    }
    let rows: Vec<Row> = places
        .into_iter()
        .map(|place| {
            let (member, host) = holders.get(&place).cloned().unzip();
            Row {
                committed: committed.get(&place).map(|it| it.offset),
                end: ends.get(&place.0).and_then(|ends| ends.get(&place.1)).copied(),
                topic: place.0,
                partition: place.1,
                member,
                host,
            }
        })
        .collect();
    if args.json {
        let partitions = rows.iter().map(|row| {
            json!({"topic": row.topic, "partition": row.partition, "committed": row.committed, "end": row.end,
                   "lag": row.lag(), "member": row.member, "host": row.host})
        });
        print_json(&json!({
            "group": group.id,
            "state": group.state,
            "assignor": group.assignor,
            "members": group.members.len(),
            "partitions": partitions.collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    let total: i64 = rows.iter().filter_map(Row::lag).sum();
    print(&format!("group {}: {}, {} members, lag {total}\n", group.id, group.state, group.members.len()));
    let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                number(row.committed),
                number(row.end),
                number(row.lag()),
                told(&row.member),
                told(&row.host),
            ]
        })
        .collect();
    print(&table(&["topic", "partition", "committed", "end", "lag", "member", "host"], &cells));
    Ok(())
}
