//! Reads uap-core's `regexes.yaml`: lists of flat mappings with plain or quoted scalars, which is all the YAML that
//! file is made of. Anything else is an error, not a guess.

use std::borrow::Cow;

use ua_parser::device::{self, Flag};
use ua_parser::{Regexes, os, user_agent};

type Text = Cow<'static, str>;

#[derive(Default)]
struct Entry {
    line: usize,
    pairs: Vec<(String, Text)>,
}

impl Entry {
    fn take(&mut self, key: &str) -> Option<Text> {
        let index = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.swap_remove(index).1)
    }
    fn regex(&mut self) -> Result<Text, String> {
        self.take("regex").ok_or_else(|| format!("line {}: no regex", self.line))
    }
}

pub fn read(text: &str) -> Result<Regexes<'static>, String> {
    let mut sections: Vec<(String, Vec<Entry>)> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let fault = |what: &str| format!("line {number}: {what}");
        let Some(last) = sections.last_mut().map(|(_, entries)| entries).filter(|_| line.starts_with(' ')) else {
            let name = trimmed.strip_suffix(':').ok_or_else(|| fault("expected a section"))?;
            sections.push((name.to_string(), Vec::new()));
            continue;
        };
        let pair = match trimmed.strip_prefix("- ") {
            Some(pair) => {
                last.push(Entry { line: number, pairs: Vec::new() });
                pair.trim_start()
            }
            None => trimmed,
        };
        let (key, value) = pair.split_once(':').ok_or_else(|| fault("expected key: value"))?;
        let value = scalar(value.trim()).ok_or_else(|| fault("unreadable value"))?;
        let entry = last.last_mut().ok_or_else(|| fault("expected '- '"))?;
        entry.pairs.push((key.to_string(), value.into()));
    }
    let mut regexes = Regexes { user_agent_parsers: Vec::new(), os_parsers: Vec::new(), device_parsers: Vec::new() };
    for (section, entries) in sections {
        for mut entry in entries {
            match section.as_str() {
                "user_agent_parsers" => regexes.user_agent_parsers.push(user_agent::Parser {
                    regex: entry.regex()?,
                    family_replacement: entry.take("family_replacement"),
                    // Versions are not asked for.
                    v1_replacement: None,
                    v2_replacement: None,
                    v3_replacement: None,
                    v4_replacement: None,
                }),
                "os_parsers" => regexes.os_parsers.push(os::Parser {
                    regex: entry.regex()?,
                    os_replacement: entry.take("os_replacement"),
                    os_v1_replacement: None,
                    os_v2_replacement: None,
                    os_v3_replacement: None,
                    os_v4_replacement: None,
                }),
                "device_parsers" => regexes.device_parsers.push(device::Parser {
                    regex: entry.regex()?,
                    regex_flag: entry.take("regex_flag").map(|_| Flag::IgnoreCase),
                    device_replacement: entry.take("device_replacement"),
                    brand_replacement: None,
                    model_replacement: None,
                }),
                other => return Err(format!("unknown section '{other}'")),
            }
        }
    }
    Ok(regexes)
}

fn scalar(text: &str) -> Option<String> {
    match text.as_bytes().first()? {
        b'\'' => {
            let mut rest = &text[1..];
            let mut value = String::new();
            loop {
                let (part, after) = rest.split_once('\'')?;
                value.push_str(part);
                match after.strip_prefix('\'') {
                    Some(after) => {
                        value.push('\'');
                        rest = after;
                    }
                    None => return only_comment(after).then_some(value),
                }
            }
        }
        b'"' => {
            let end = text.rfind('"').filter(|end| *end > 0)?;
            // YAML's double quotes escape as JSON's do in all that this file uses.
            only_comment(&text[end + 1..]).then(|| serde_json::from_str(&text[..=end]).ok())?
        }
        b'[' | b'{' | b'&' | b'*' | b'|' | b'>' | b'!' => None,
        _ => Some(text.split(" #").next()?.trim_end().to_string()),
    }
}

fn only_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars() {
        assert_eq!(scalar("'it''s' # so").as_deref(), Some("it's"));
        assert_eq!(scalar(r#""a\\d""#).as_deref(), Some(r"a\d"));
        assert_eq!(scalar("plain text # comment").as_deref(), Some("plain text"));
        assert_eq!(scalar("'open"), None);
        assert_eq!(scalar("[1, 2]"), None);
        assert_eq!(scalar("'a' b"), None);
    }

    #[test]
    fn the_file_we_carry_is_read_whole() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/regexes.yaml")).unwrap();
        let regexes = read(&text).unwrap();
        let all = regexes.user_agent_parsers.len() + regexes.os_parsers.len() + regexes.device_parsers.len();
        assert_eq!(all, text.lines().filter(|line| line.trim_start().starts_with("- regex:")).count());
        assert!(regexes.device_parsers.iter().any(|parser| parser.regex_flag.is_some()));
    }
}
