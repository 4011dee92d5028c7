//! `playhouse key create`

use anyhow::Result;
use serde_json::json;

use crate::cli::broker::{print, print_json};
use crate::config::ConfigArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: playhouse key create web-player --topic multimedia_events --topic 'clicks.*'")]
pub struct Args {
    /// Whom it is for
    name: String,
    /// A topic that it may send to, the beginning of some with a star (clicks.*), or a star for all; repeatable
    #[arg(long, value_name = "TOPIC", required = true)]
    topic: Vec<String>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: Args) -> Result<()> {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let keys = super::keys(&args.config)?;
    let _in_turn = super::lock(&keys)?;
    let made = keys.create(&args.name, args.topic, now_ms)?;
    if args.json {
        print_json(&json!({
            "id": made.key.id, "name": made.key.name, "topics": made.key.topics, "key": made.token,
        }));
        return Ok(());
    }
    print(&made.token);
    // Apart, so that a script can keep the key by itself.
    eprintln!("made key {} for {}: keep it, it is not shown again", made.key.id, made.key.name);
    Ok(())
}
