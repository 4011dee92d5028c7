//! Reads uap-core's `regexes.yaml`: lists of flat mappings with plain or quoted scalars, which is all the YAML that
//! file is made of. Anything else is an error, not a guess.

use super::families::Rule;

/// The rules of each of the file's lists.
#[derive(Default)]
pub struct Patterns {
    pub devices: Vec<Rule>,
    pub systems: Vec<Rule>,
    pub browsers: Vec<Rule>,
}

#[derive(Default)]
struct Entry {
    line: usize,
    pairs: Vec<(String, String)>,
}

impl Entry {
    fn take(&mut self, key: &str) -> Option<String> {
        let index = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.swap_remove(index).1)
    }

    /// Versions, brands and models are not asked for.
    fn rule(mut self, family: &str) -> Result<Rule, String> {
        Ok(Rule {
            line: self.line,
            regex: self.take("regex").ok_or_else(|| format!("line {}: no regex", self.line))?,
            ignore_case: self.take("regex_flag").is_some(),
            family: self.take(family).filter(|family| !family.trim().is_empty()),
        })
    }
}

pub fn read(text: &str) -> Result<Patterns, String> {
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
        entry.pairs.push((key.to_string(), value));
    }
    let mut patterns = Patterns::default();
    for (section, entries) in sections {
        let (list, family) = match section.as_str() {
            "user_agent_parsers" => (&mut patterns.browsers, "family_replacement"),
            "os_parsers" => (&mut patterns.systems, "os_replacement"),
            "device_parsers" => (&mut patterns.devices, "device_replacement"),
            other => return Err(format!("unknown section '{other}'")),
        };
        for entry in entries {
            list.push(entry.rule(family)?);
        }
    }
    Ok(patterns)
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
        let patterns = read(&text).unwrap();
        let all = patterns.browsers.len() + patterns.systems.len() + patterns.devices.len();
        assert_eq!(all, text.lines().filter(|line| line.trim_start().starts_with("- regex:")).count());
        assert!(patterns.devices.iter().any(|rule| rule.ignore_case));
    }
}
