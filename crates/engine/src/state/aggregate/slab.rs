//! Groups by slot, in chunks: a state of any size grows without being copied, and no more than a chunk is spare.

const CHUNK: usize = 512;

#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    /// Slots below the end that are empty.
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The slot is the value's own until it is removed.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = Some(value);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let place = self.chunks.len() - 1;
        let chunk = &mut self.chunks[place];
        chunk.push(Some(value));
        (place * CHUNK + chunk.len() - 1) as u32
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    /// In the order of the slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let places = self.chunks.iter().flatten().zip(0..);
        places.filter_map(|(value, slot)| Some((slot, value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slab_is_a_map_whose_keys_it_chooses(steps in prop::collection::vec(prop::option::weighted(0.3, 0u32..1_500), 0..4_000)) {
            let mut slab = Slab::default();
            let mut model = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(slot) => prop_assert_eq!(slab.remove(slot), model.remove(&slot)),
                    None => prop_assert_eq!(model.insert(slab.insert(number), number), None),
                }
            }
            prop_assert!(slab.iter().eq(model.iter().map(|(slot, value)| (*slot, value))));
            for slot in 0..4_100 {
                prop_assert_eq!(slab.get(slot), model.get(&slot));
                prop_assert_eq!(slab.get_mut(slot), model.get_mut(&slot));
            }
        }
    }
}
