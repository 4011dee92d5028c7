//! Which offset holds the newest record of each key, in bounded memory.
//!
//! A key is known by 128 bits of a keyed hash: that two of one partition's keys share them is less likely than that the
//! disk lies.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// At about 28 bytes a key.
const KEYS_MAX: usize = if cfg!(test) { 100 } else { 2 << 20 };

#[derive(Debug)]
pub struct NewestOffsets {
    by_key: HashMap<(u64, u64), i64, BuildHasherDefault<AsItIs>>,
    hashes: (RandomState, RandomState),
    /// Every record below this offset has been looked at.
    pub end: i64,
}

impl NewestOffsets {
    pub fn new(start: i64) -> NewestOffsets {
        NewestOffsets { by_key: HashMap::default(), hashes: (RandomState::new(), RandomState::new()), end: start }
    }

    pub fn is_full(&self) -> bool {
        self.by_key.len() >= KEYS_MAX
    }

    pub fn put(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.by_key.insert(hash, offset);
    }

    pub fn get(&self, key: &[u8]) -> Option<i64> {
        self.by_key.get(&self.hash(key)).copied()
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashes.0.hash_one(key), self.hashes.1.hash_one(key))
    }
}

/// What is hashed is a hash already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 ^= value;
    }
}
