//! `playhouse topic create`

use anyhow::Result;
use playhouse_client::topics::NewTopic;

use crate::cli::broker::{BrokerArgs, assignment, print};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: playhouse topic create clicks --partitions 8 --set retention.ms=86400000")]
pub struct Args {
    /// Its name: letters, digits, dot, underscore, hyphen
    topic: String,
    /// Partitions; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting, such as cleanup.policy=compact; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Nothing to do if the topic is there already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let new = NewTopic {
        name: args.topic.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        settings: args.set.clone(),
        only_checked: false,
    };
    let made = client.create_topic(&new).await;
    match made {
        Ok(()) => print(&format!("made topic {}", args.topic)),
        Err(error)
            if args.if_not_exists && error.code() == Some(playhouse_client::ResponseError::TopicAlreadyExists) =>
        {
            print(&format!("topic {} is there already", args.topic));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
