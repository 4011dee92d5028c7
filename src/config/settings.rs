//! Settings before they have a meaning: dotted keys with a value and where it came from, layer over layer.
//!
//! The keys and their types are those of the defaults (`config/playhouse.toml`); any other key is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::de::{DeTable, DeValue};

use super::stores::mask;

const DEFAULTS: &str = include_str!("../../config/playhouse.toml");
/// Named in the design, not there yet.
const LATER: [&str; 2] = ["documents", "search"];
/// In the environment, beside the settings: the file to read.
pub const CONFIG_VARIABLE: &str = "PLAYHOUSE_CONFIG";
/// What commands show to the doors; no setting.
const API_KEY_VARIABLE: &str = "PLAYHOUSE_API_KEY";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text in quotes",
            Value::Integer(_) => "a whole number",
            Value::Flag(_) => "true or false",
        }
    }

    /// Text from the environment or a flag, as what the setting's default is.
    fn parsed_like(&self, text: &str) -> Option<Value> {
        match self {
            Value::Text(_) => Some(Value::Text(text.to_string())),
            Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
            Value::Flag(_) => text.trim().parse().ok().map(Value::Flag),
        }
    }
}

/// As TOML, passwords masked.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(formatter, "{}", toml::Value::String(mask(text))),
            Value::Integer(number) => write!(formatter, "{number}"),
            Value::Flag(flag) => write!(formatter, "{flag}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Origin::Environment(variable) => write!(formatter, "environment {variable}"),
            Origin::Flag(flag) => formatter.write_str(flag),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Setting {
    pub value: Value,
    pub origin: Origin,
}

/// All settings, in the order of the defaults file.
#[derive(Debug, Clone)]
pub struct Settings {
    keys: Vec<String>,
    by_key: BTreeMap<String, Setting>,
}

impl Settings {
    pub fn defaults() -> Result<Settings> {
        let mut settings = Settings { keys: Vec::new(), by_key: BTreeMap::new() };
        for entry in entries(DEFAULTS, Path::new("config/playhouse.toml"))? {
            let Some(value) = entry.value else { continue };
            settings.keys.push(entry.key.clone());
            settings.by_key.insert(entry.key, Setting { value, origin: Origin::Default });
        }
        Ok(settings)
    }

    pub fn read_file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        self.read_text(&text, path)
    }

    pub fn read_text(&mut self, text: &str, path: &Path) -> Result<()> {
        for entry in entries(text, path)? {
            let origin = Origin::File { path: path.to_path_buf(), line: entry.line };
            let Some(value) = entry.value else {
                self.check_section(&entry.key, &origin)?;
                continue;
            };
            self.set(&entry.key, origin, |expected| {
                let same_kind = std::mem::discriminant(expected) == std::mem::discriminant(&value);
                if same_kind { Ok(value) } else { Err(value.to_string()) }
            })?;
        }
        Ok(())
    }

    /// `KAFKA_TOPIC` and everything that begins with `PLAYHOUSE_`; the latter wins.
    pub fn read_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let mut ours = Vec::new();
        for (variable, text) in variables {
            if variable == "KAFKA_TOPIC" {
                ours.insert(0, ("topic".to_string(), variable, text));
            } else if let Some(name) = variable
                .strip_prefix("PLAYHOUSE_")
                .filter(|_| ![CONFIG_VARIABLE, API_KEY_VARIABLE].contains(&variable.as_str()))
            {
                ours.push((name.to_ascii_lowercase().replace("__", "."), variable, text));
            }
        }
        for (key, variable, text) in ours {
            self.set_text(&key, Origin::Environment(variable), &text)?;
        }
        Ok(())
    }

    /// `key=value` from the command line.
    pub fn read_assignment(&mut self, assignment: &str) -> Result<()> {
        let Some((key, text)) = assignment.split_once('=') else {
            bail!("--set {assignment:?} is not KEY=VALUE, such as --set ingest.port=6000");
        };
        self.set_text(key.trim(), Origin::Flag("--set"), text.trim())
    }

    pub fn set_text(&mut self, key: &str, origin: Origin, text: &str) -> Result<()> {
        self.set(key, origin, |expected| expected.parsed_like(text).ok_or_else(|| format!("{:?}", mask(text))))
    }

    fn set(&mut self, key: &str, origin: Origin, value: impl FnOnce(&Value) -> Result<Value, String>) -> Result<()> {
        let Some(setting) = self.by_key.get_mut(key) else {
            bail!("{}", self.unknown(key, &origin));
        };
        match value(&setting.value) {
            Ok(value) => *setting = Setting { value, origin },
            Err(found) => bail!("{origin}: setting {key} is {found}, but has to be {}", setting.value.kind()),
        }
        Ok(())
    }

    fn check_section(&self, section: &str, origin: &Origin) -> Result<()> {
        let known = |key: &String| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        if self.keys.iter().any(known) {
            return Ok(());
        }
        if LATER.contains(&section) || self.by_key.contains_key(section) {
            bail!("{}", self.unknown(&format!("{section}."), origin));
        }
        let sections = self.keys.iter().filter_map(|key| key.split_once('.')).map(|(section, _)| section);
        let nearest = sections.min_by_key(|known| strsim::osa_distance(known, section)).unwrap_or_default();
        bail!("{origin}: unknown section [{section}]: did you mean [{nearest}]? `playhouse config` lists all settings")
    }

    fn unknown(&self, key: &str, origin: &Origin) -> String {
        let root = key.split('.').next().unwrap_or(key);
        if LATER.contains(&root) {
            return format!("{origin}: the store {root:?} is not supported yet: remove the setting");
        }
        if let Some(section) =
            self.keys.iter().find(|known| key.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('.')))
        {
            return format!(
                "{origin}: {section:?} is one value, not a section: write {section} = {}",
                self.by_key[section].value
            );
        }
        let nearest = self.nearest(key);
        let meant = match origin {
            Origin::Environment(_) => format!("PLAYHOUSE_{}", nearest.replace('.', "__").to_ascii_uppercase()),
            _ => nearest.to_string(),
        };
        format!("{origin}: unknown setting {key:?}: did you mean {meant}? `playhouse config` lists all settings")
    }

    /// The same name in another section counts as near: most mistakes are a wrong section.
    fn nearest(&self, key: &str) -> &str {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
        let distance = |known: &String| {
            let whole = strsim::osa_distance(known, key);
            let names = strsim::osa_distance(&last(known), &last(key));
            whole.min(names * 2 + 1)
        };
        self.keys.iter().min_by_key(|known| distance(known)).map_or("", String::as_str)
    }

    /// In the order of the defaults file, which is also a valid order for TOML.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.keys.iter().map(|key| (key.as_str(), &self.by_key[key]))
    }

    /// A setting with its meaning. Panics on a key that the defaults file does not have: the code names those.
    pub fn get<T>(&self, key: &str, meaning: impl FnOnce(&Value) -> Result<T, String>) -> Result<T> {
        let setting = &self.by_key[key];
        meaning(&setting.value)
            .map_err(|reason| anyhow::anyhow!("{}: setting {key} = {} {reason}", setting.origin, setting.value))
    }
}

struct Entry {
    key: String,
    /// None for a section's header.
    value: Option<Value>,
    line: usize,
}

/// The values of a TOML text in the order of their lines.
fn entries(text: &str, path: &Path) -> Result<Vec<Entry>> {
    let line = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line(span.start));
        anyhow::anyhow!("{}:{line}: not valid TOML: {}", path.display(), error.message().replace('\n', ", "))
    })?;
    let mut entries = Vec::new();
    let mut tables = vec![(String::new(), document.get_ref())];
    while let Some((prefix, table)) = tables.pop() {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let line = line(name.span().start);
            let value = match value.get_ref() {
                DeValue::Table(table) => {
                    tables.push((format!("{key}."), table));
                    entries.push(Entry { key, value: None, line });
                    continue;
                }
                DeValue::String(text) => Value::Text(text.to_string()),
                DeValue::Boolean(flag) => Value::Flag(*flag),
                DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => bail!("{}:{line}: {key} is too large a number", path.display()),
                },
                other => bail!("{}:{line}: {key} cannot be of type {}", path.display(), other.type_str()),
            };
            entries.push(Entry { key, value: Some(value), line });
        }
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}
