//! `playhouse key create`

use anyhow::Result;
use playhouse_gate::{Grant, Right};
use serde_json::json;

use crate::cli::broker::{print, print_json};
use crate::config::ConfigArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    playhouse key create web-player --topic multimedia_events --topic 'clicks.*'\n  \
    playhouse key create dashboard --topic '*' --may read\n  \
    playhouse key create ops --admin")]
pub struct Args {
    /// Whom it is for
    name: String,
    /// A topic that it is for, the beginning of some with a star (clicks.*), or a star for all; repeatable
    #[arg(long, value_name = "TOPIC", required_unless_present_any = ["admin"])]
    topic: Vec<String>,
    /// What it may do there: send events, read records, or both with a comma
    #[arg(long, value_name = "RIGHTS", value_delimiter = ',', default_value = "send")]
    may: Vec<May>,
    /// May do everything, on all topics
    #[arg(long, conflicts_with_all = ["topic", "may"])]
    admin: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum May {
    Send,
    Read,
}

impl Args {
    fn grant(&self) -> Grant {
        if self.admin {
            return Grant::admin();
        }
        let right = |may: &May| match may {
            May::Send => Right::Send,
            May::Read => Right::Read,
        };
        Grant { topics: self.topic.clone(), rights: self.may.iter().map(right).collect() }
    }
}

pub fn run(args: Args) -> Result<()> {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let keys = super::keys(&args.config)?;
    let _in_turn = super::lock(&keys)?;
    let made = keys.create(&args.name, args.grant(), now_ms)?;
    if args.json {
        print_json(&json!({
            "id": made.key.id,
            "name": made.key.name,
            "topics": made.key.grant.topics,
            "rights": made.key.grant.rights,
            "key": made.token,
        }));
        return Ok(());
    }
    print(&made.token);
    // Apart, so that a script can keep the key by itself.
    eprintln!("made key {} for {}: keep it, it is not shown again", made.key.id, made.key.name);
    Ok(())
}
