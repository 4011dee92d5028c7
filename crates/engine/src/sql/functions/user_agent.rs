//! `ua_device`, `ua_os` and `ua_browser`: the family names by uap-core's patterns; `Other` where none fits.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;

use super::families::Families;

pub const DEVICE: usize = 0;
pub const OS: usize = 1;
pub const BROWSER: usize = 2;

/// User agents per generation of the cache, and the bytes of those that are worth keeping: at most about 20 MB.
const GENERATION: usize = 16_384;
const KEPT_BYTES: usize = 512;

/// In the order of the constants.
type Patterns = LazyLock<Result<[Families; 3], String>, Box<dyn FnOnce() -> Result<[Families; 3], String> + Send>>;

pub struct UserAgents {
    patterns: Arc<Patterns>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hasher: RandomState,
    /// Two generations: when the young one is full it becomes the old one, and what is used again moves back.
    young: HashTable<Entry>,
    old: HashTable<Entry>,
    /// The last column asked for and its answers: the three functions mostly ask for the same column in turn.
    last: Option<(StringArray, [ArrayRef; 3])>,
}

struct Entry {
    hash: u64,
    user_agent: Box<str>,
    families: [Box<str>; 3],
}

impl UserAgents {
    /// Reads the file now; what its patterns need is found out in the background, and the first caller waits for that.
    pub fn start(patterns: Bytes) -> Result<UserAgents, String> {
        let fault = |what: String| format!("the user agent patterns are unreadable: {what}");
        let text = std::str::from_utf8(&patterns).map_err(|error| fault(error.to_string()))?;
        let lists = super::patterns::read(text).map_err(fault)?;
        let prepare = move || {
            let new = |rules| Families::new(rules).map_err(fault);
            Ok([new(lists.devices)?, new(lists.systems)?, new(lists.browsers)?])
        };
        let patterns: Arc<Patterns> = Arc::new(LazyLock::new(Box::new(prepare)));
        let ahead = patterns.clone();
        std::thread::Builder::new()
            .name("user-agents".to_string())
            .spawn(move || {
                LazyLock::force(&ahead);
            })
            .map_err(|error| format!("no thread for the user agent patterns: {error}"))?;
        Ok(UserAgents { patterns, state: Mutex::default() })
    }

    pub fn part(&self, input: &StringArray, part: usize) -> Result<ArrayRef> {
        let patterns =
            LazyLock::force(&*self.patterns).as_ref().map_err(|message| DataFusionError::Execution(message.clone()))?;
        let mut state = self.state.lock();
        if let Some((last, families)) = &state.last
            && last.to_data().ptr_eq(&input.to_data())
        {
            return Ok(families[part].clone());
        }
        let families = state.families(input, patterns);
        let asked = families[part].clone();
        state.last = Some((input.clone(), families));
        Ok(asked)
    }
}

impl State {
    fn families(&mut self, input: &StringArray, patterns: &[Families; 3]) -> [ArrayRef; 3] {
        let mut builders = [(); 3].map(|()| StringBuilder::with_capacity(input.len(), input.len() * 8));
        for user_agent in input {
            let Some(user_agent) = user_agent else {
                builders.iter_mut().for_each(StringBuilder::append_null);
                continue;
            };
            let mut append = |families: &[Box<str>; 3]| {
                for (builder, family) in builders.iter_mut().zip(families) {
                    builder.append_value(family);
                }
            };
            if user_agent.len() > KEPT_BYTES {
                append(&extract(patterns, user_agent));
                continue;
            }
            let hash = self.hasher.hash_one(user_agent);
            let same = |entry: &Entry| *entry.user_agent == *user_agent;
            if let Some(entry) = self.young.find(hash, same) {
                append(&entry.families);
                continue;
            }
            let entry = match self.old.find_entry(hash, same) {
                Ok(found) => found.remove().0,
                Err(_) => Entry { hash, user_agent: user_agent.into(), families: extract(patterns, user_agent) },
            };
            append(&entry.families);
            if self.young.len() == GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert_unique(hash, entry, |entry| entry.hash);
        }
        builders.map(|mut builder| Arc::new(builder.finish()) as ArrayRef)
    }
}

fn extract(patterns: &[Families; 3], user_agent: &str) -> [Box<str>; 3] {
    patterns.each_ref().map(|families| families.family(user_agent).unwrap_or_else(|| "Other".into()))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeSet;
    use std::io::Read;

    use super::super::families::Rule;
    use super::super::patterns;
    use super::*;

    fn carried(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// ua-parser's own extractor over the same rules.
    fn reference(lists: patterns::Patterns) -> ua_parser::Extractor<'static> {
        let text = |rule: &Rule| Cow::Owned(rule.regex.clone());
        let family = |rule: &Rule| rule.family.clone().map(Cow::Owned);
        let flag = |rule: &Rule| rule.ignore_case.then_some(ua_parser::device::Flag::IgnoreCase);
        let device = |rule: &Rule| ua_parser::device::Parser {
            regex: text(rule),
            regex_flag: flag(rule),
            device_replacement: family(rule),
            ..Default::default()
        };
        let system = |rule: &Rule| ua_parser::os::Parser {
            regex: text(rule),
            os_replacement: family(rule),
            ..Default::default()
        };
        let browser = |rule: &Rule| ua_parser::user_agent::Parser {
            regex: text(rule),
            family_replacement: family(rule),
            ..Default::default()
        };
        let regexes = ua_parser::Regexes {
            device_parsers: lists.devices.iter().map(device).collect(),
            os_parsers: lists.systems.iter().map(system).collect(),
            user_agent_parsers: lists.browsers.iter().map(browser).collect(),
        };
        ua_parser::Extractor::try_from(regexes).unwrap()
    }

    #[test]
    fn real_user_agents_have_the_families_that_ua_parser_gives_them() {
        let file = String::from_utf8(carried("regexes.yaml")).unwrap();
        let reference = reference(patterns::read(&file).unwrap());
        let agents = UserAgents::start(file.into_bytes().into()).unwrap();
        let patterns = LazyLock::force(&*agents.patterns).as_ref().unwrap();

        let mut log = String::new();
        flate2::read::GzDecoder::new(carried("access.log.gz").as_slice()).read_to_string(&mut log).unwrap();
        let user_agents: BTreeSet<&str> = log.lines().filter_map(|line| line.rsplit('"').nth(1)).collect();
        assert!(user_agents.len() > 500);
        for user_agent in user_agents {
            let expected = [
                reference.dev.extract(user_agent).map(|found| found.device),
                reference.os.extract(user_agent).map(|found| found.os),
                reference.ua.extract(user_agent).map(|found| found.family),
            ];
            let expected = expected.map(|family| Box::from(family.as_deref().unwrap_or("Other")));
            assert_eq!(extract(patterns, user_agent), expected, "{user_agent}");
        }
    }
}
