//! Which keys an object had so far.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Text;

/// The keys seen in an object that no rule names.
#[derive(Default)]
pub(super) struct Keys<'a> {
    few: [&'a [u8]; 8],
    len: usize,
    /// Takes over when there are more than a few, or one is escaped.
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

impl<'a> Keys<'a> {
    /// Whether the key is new.
    #[inline]
    pub(super) fn insert(&mut self, key: Text<'a>) -> bool {
        if self.many.is_none() && !key.escaped && self.len < self.few.len() {
            let new = !self.few[..self.len].contains(&key.inner);
            self.few[self.len] = key.inner;
            self.len += 1;
            return new;
        }
        let few = &self.few[..self.len];
        self.many.get_or_insert_with(|| few.iter().map(|key| Cow::Borrowed(*key)).collect()).insert(key.value())
    }
}
