//! Ids for lines that have none.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use foldhash::{HashMap, HashMapExt};
use siphasher::sip128::{Hasher128, SipHasher13};

/// Bounds the counts, at about 150 MB in two generations: a repeat is recognised while fewer than this many other lines
/// lie between, at least. A log's lines carry their second, so repeats are close together.
const GENERATION_LINES: usize = 4_000_000;

/// Numbers the occurrences of each exact line, and hashes line and number into an id.
pub struct Occurrences {
    /// By a 64-bit hash of the line. Two lines that collide share a count, which leaves their ids distinct.
    current: HashMap<u64, u32>,
    previous: HashMap<u64, u32>,
    generation_lines: usize,
}

impl Occurrences {
    pub fn new() -> Self {
        Self { current: HashMap::new(), previous: HashMap::new(), generation_lines: GENERATION_LINES }
    }

    /// The id of this occurrence of `line`: 32 hexadecimal digits. `salt` makes another event of the same line.
    pub fn id(&mut self, line: &[u8], salt: Option<i64>) -> String {
        let occurrence = self.count(line);
        let mut hasher = SipHasher13::new_with_keys(0x706c_6179_686f_7573, 0x652d_7265_706c_6179);
        hasher.write(line);
        hasher.write(&occurrence.to_le_bytes());
        if let Some(salt) = salt {
            hasher.write(&salt.to_le_bytes());
        }
        let hash = hasher.finish128();
        format!("{:016x}{:016x}", hash.h1, hash.h2)
    }

    fn count(&mut self, line: &[u8]) -> u32 {
        let key = FixedState::default().hash_one(line);
        if self.current.len() >= self.generation_lines && !self.current.contains_key(&key) {
            self.previous = std::mem::take(&mut self.current);
        }
        let previous = &mut self.previous;
        let count = self.current.entry(key).or_insert_with(|| previous.remove(&key).unwrap_or(0));
        *count = count.wrapping_add(1);
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn repeats_get_ids_of_their_own_and_the_same_ones_next_time() {
        let ids = || {
            let mut occurrences = Occurrences::new();
            ["a", "b", "a", "a", "b"].map(|line| occurrences.id(line.as_bytes(), None))
        };
        assert_eq!(ids(), ids());
        assert_eq!(HashSet::from(ids()).len(), 5);
        assert_eq!(ids()[0].len(), 32);
        assert_ne!(Occurrences::new().id(b"a", Some(1)), ids()[0]);
    }

    #[test]
    fn counting_goes_on_across_a_generation() {
        let mut occurrences = Occurrences { generation_lines: 2, ..Occurrences::new() };
        let counts: Vec<u32> =
            ["a", "b", "c", "a", "a"].iter().map(|line| occurrences.count(line.as_bytes())).collect();
        assert_eq!(counts, [1, 1, 1, 2, 3]);
        assert!(occurrences.current.len() + occurrences.previous.len() <= 4);
    }
}
