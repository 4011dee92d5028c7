//! `ua_device`, `ua_os` and `ua_browser`: the family names by uap-core's patterns; `Other` where none fits.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;
use ua_parser::Extractor;

pub const DEVICE: usize = 0;
pub const OS: usize = 1;
pub const BROWSER: usize = 2;

/// User agents per generation of the cache, and the bytes of those that are worth keeping: at most about 20 MB.
const GENERATION: usize = 16_384;
const KEPT_BYTES: usize = 512;

type Patterns =
    LazyLock<Result<Extractor<'static>, String>, Box<dyn FnOnce() -> Result<Extractor<'static>, String> + Send>>;

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
    /// Reads the patterns now; they are compiled in the background, and the first caller waits for that.
    pub fn start(patterns: Bytes) -> Result<UserAgents, String> {
        let fault = |what: String| format!("the user agent patterns are unreadable: {what}");
        let text = std::str::from_utf8(&patterns).map_err(|error| fault(error.to_string()))?;
        let regexes = super::patterns::read(text).map_err(fault)?;
        let compile = move || Extractor::try_from(regexes).map_err(|error| fault(error.to_string()));
        let patterns: Arc<Patterns> = Arc::new(LazyLock::new(Box::new(compile)));
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
    fn families(&mut self, input: &StringArray, patterns: &Extractor<'static>) -> [ArrayRef; 3] {
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

fn extract(patterns: &Extractor<'static>, user_agent: &str) -> [Box<str>; 3] {
    let other = || Box::from("Other");
    [
        patterns.dev.extract(user_agent).map_or_else(other, |found| found.device.into()),
        patterns.os.extract(user_agent).map_or_else(other, |found| found.os.into()),
        patterns.ua.extract(user_agent).map_or_else(other, |found| found.family.into()),
    ]
}
