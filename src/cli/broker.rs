//! What the commands that talk to a Kafka broker share: which one, and how answers are shown.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use playhouse_client::{Client, Credentials, Options};

#[derive(Debug, Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerArgs {
    /// Kafka broker to begin with, this Playhouse or any other; several with commas
    #[arg(long, short = 'b', value_name = "HOST:PORT", default_value = "localhost:9092")]
    bootstrap: String,
    /// How long to wait for an answer, and to try again where that may help
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = playhouse_generate::parse_span)]
    timeout: Duration,
    /// API key (SASL/PLAIN password), where the broker asks for one; better by the environment, which others do not see
    #[arg(long, value_name = "KEY", env = "PLAYHOUSE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// User that the key belongs to; Playhouse takes any
    #[arg(long, value_name = "NAME", default_value = "playhouse", requires = "api_key")]
    user: String,
}

impl BrokerArgs {
    pub async fn connect(&self) -> Result<Client> {
        let credentials = self.api_key.clone().map(|password| Credentials { user: self.user.clone(), password });
        let (request_timeout, patience) = (self.timeout, self.timeout);
        let options = Options { request_timeout, patience, credentials, ..Options::default() };
        let client = Client::connect(&self.bootstrap, options).await;
        client.with_context(|| {
            let hint = if self.api_key.is_none() { "; --api-key, if it asks for one" } else { "" };
            format!("no broker at {} (--bootstrap HOST:PORT names another{hint})", self.bootstrap)
        })
    }
}

/// `name=value`, with an `=` in the value.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("is not NAME=VALUE".to_owned()),
    }
}

/// Columns as wide as their widest cell; numbers to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| *cell != "-");
        !rows.is_empty() && cells.all(|cell| cell.parse::<i64>().is_ok())
    };
    let numbers: Vec<bool> = (0..header.len()).map(is_number).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            let width = widths[column];
            let padded = if numbers[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(if column == 0 { "" } else { "  " });
            line.push_str(&padded);
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    };
    let head = header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>();
    let mut out = line(&mut head.iter().map(String::as_str));
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

/// One JSON document.
pub fn print_json(value: &serde_json::Value) {
    // A closed pipe is no failure of ours.
    let _ = writeln_out(&format!("{value:#}"));
}

pub fn print(text: &str) {
    let _ = writeln_out(text.trim_end_matches('\n'));
}

/// Fails when nobody reads any more.
pub fn writeln_out(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let rows = vec![vec!["a".to_owned(), "10".to_owned()], vec!["longer".to_owned(), "-".to_owned()]];
        assert_eq!(table(&["name", "lag"], &rows), "NAME    LAG\na        10\nlonger    -\n");
    }

    #[test]
    fn an_assignment_has_a_name() {
        assert_eq!(assignment("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(assignment("=b").is_err() && assignment("a").is_err());
    }
}
