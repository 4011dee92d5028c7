//! `playhouse group list`

use anyhow::Result;
use serde_json::json;

use crate::cli::broker::{BrokerArgs, print, print_json, table};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only groups in this state, such as Stable or Empty
    #[arg(long)]
    state: Option<String>,
    /// A JSON array instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let groups = client.groups().await?;
    let wanted = |state: &str| args.state.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(state));
    let shown = groups.iter().filter(|group| wanted(&group.state));
    if args.json {
        let rows = shown.map(|it| json!({"group": it.id, "state": it.state, "protocol": it.kind}));
        print_json(&rows.collect());
        return Ok(());
    }
    let told = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let rows: Vec<Vec<String>> = shown.map(|it| vec![it.id.clone(), told(&it.state), told(&it.kind)]).collect();
    print(&table(&["group", "state", "protocol"], &rows));
    Ok(())
}
