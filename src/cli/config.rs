//! `playhouse config`: the resolved configuration as TOML, and where each value came from.

use std::io::Write;

use anyhow::Result;

use crate::config::{Config, ConfigArgs, Settings};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let config = Config::load(&args.config)?;
    print(&config.settings, &mut std::io::stdout().lock())?;
    Ok(())
}

/// Passwords are masked, so a setting that holds one cannot be read back.
fn print(settings: &Settings, out: &mut impl Write) -> std::io::Result<()> {
    let mut section = "";
    for (key, setting) in settings.iter() {
        let (in_section, name) = key.split_once('.').unwrap_or(("", key));
        if in_section != section {
            section = in_section;
            writeln!(out, "\n[{section}]")?;
        }
        let assignment = format!("{name} = {}", setting.value);
        writeln!(out, "{assignment:<44} # {}", setting.origin)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let mut settings = Settings::defaults().unwrap();
        settings.read_text("[admin]\nport = 0\n", Path::new("my.toml")).unwrap();
        let mut printed = Vec::new();
        print(&settings, &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("\n[admin]\n"), "{printed}");
        let line = printed.lines().find(|line| line.starts_with("port = 0 ")).unwrap();
        assert!(line.ends_with(" # my.toml:2"), "{line}");

        let mut again = Settings::defaults().unwrap();
        again.read_text(&printed, Path::new("printed.toml")).unwrap();
        for ((key, setting), (_, same)) in settings.iter().zip(again.iter()) {
            assert_eq!(setting.value, same.value, "{key}");
        }
    }
}
