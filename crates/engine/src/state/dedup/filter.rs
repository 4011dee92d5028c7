//! A split block Bloom filter (the layout of Parquet's): one cache line half decides.

use std::path::Path;

use playhouse_log::disk::Disk;

use super::DedupError;

const MAGIC: &[u8; 8] = b"PLAYFILT";
const FORMAT_VERSION: u32 = 1;
/// Magic, version, CRC-32C of the blocks.
const HEAD_BYTES: usize = 16;
const BLOCK_BYTES: usize = 32;

/// Bits per id at full capacity; eight of them are set, which gives about 0.5 % false positives.
const BITS_PER_ID: usize = 12;
const SALTS: u32 = 8;

#[derive(Debug)]
pub(super) struct Filter {
    /// Blocks of eight 32-bit words.
    blocks: Vec<[u32; SALTS as usize]>,
}

impl Filter {
    pub(super) fn with_capacity(ids: usize) -> Filter {
        let blocks = (ids * BITS_PER_ID).div_ceil(256).max(1);
        Filter { blocks: vec![[0; 8]; blocks] }
    }

    pub(super) fn insert(&mut self, hash: u128) {
        let block = self.block(hash);
        for (word, bit) in self.blocks[block].iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }

    pub(super) fn may_contain(&self, hash: u128) -> bool {
        self.blocks[self.block(hash)].iter().zip(bits(hash)).all(|(word, bit)| word & bit != 0)
    }

    pub(super) fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), DedupError> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.blocks.len() * BLOCK_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for word in self.blocks.as_flattened() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[HEAD_BYTES..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let write = || {
            let file = disk.open(path, true)?;
            file.set_len(0)?;
            file.write_all_at(&bytes, 0)
        };
        // Not synced: a torn filter fails its checksum and is made again from the runs.
        write().map_err(|source| DedupError::Io { path: path.to_owned(), source })
    }

    /// Fills this (empty) filter from a file; `false` if there is none that fits and is whole.
    pub(super) fn read(&mut self, disk: &dyn Disk, path: &Path) -> bool {
        let mut bytes = vec![0; HEAD_BYTES + self.blocks.len() * BLOCK_BYTES];
        let whole = disk.exists(path)
            && disk
                .open(path, false)
                .and_then(|file| file.read_at(&mut bytes, 0))
                .is_ok_and(|read| read == bytes.len());
        let (head, body) = bytes.split_at(HEAD_BYTES);
        if !whole
            || &head[..8] != MAGIC
            || head[8..12] != FORMAT_VERSION.to_le_bytes()
            || head[12..16] != crc32c::crc32c(body).to_le_bytes()
        {
            return false;
        }
        for (word, bytes) in self.blocks.as_flattened_mut().iter_mut().zip(body.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        true
    }

    fn block(&self, hash: u128) -> usize {
        // The upper half scaled to the number of blocks: a multiplication instead of a division.
        ((u128::from((hash >> 64) as u64) * self.blocks.len() as u128) >> 64) as usize
    }
}

/// One bit of each word: the hash's lower bits, five at a time.
fn bits(hash: u128) -> impl Iterator<Item = u32> {
    let low = hash as u64;
    (0..SALTS).map(move |word| 1 << ((low >> (word * 5)) & 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u128 {
        use siphasher::sip128::{Hasher128, SipHasher13};
        use std::hash::Hasher;
        let mut hasher = SipHasher13::new();
        hasher.write_u64(number);
        hasher.finish128().as_u128()
    }

    #[test]
    fn no_false_negatives_and_few_false_positives() {
        let mut filter = Filter::with_capacity(10_000);
        (0..10_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..10_000).all(|number| filter.may_contain(hash(number))));
        let wrong = (10_000..110_000).filter(|number| filter.may_contain(hash(*number))).count();
        assert!(wrong < 1_500, "{wrong} of 100000 false positives");
    }
}
