//! `playhouse topic delete`

use anyhow::Result;

use crate::cli::broker::{BrokerArgs, print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topics to delete
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    for topic in &args.topics {
        client.delete_topic(topic).await?;
        print(&format!("deleted topic {topic}"));
    }
    Ok(())
}
