//! Zigzag variable-length integers, as Protocol Buffers and Kafka records write them.

/// Takes a signed varint off the front of `bytes`.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<i64> {
    if let Some((&first, rest)) = bytes.split_first()
        && first < 0x80
    {
        *bytes = rest;
        return Some(unzigzag(first.into()));
    }
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(unzigzag(value));
        }
    }
    None
}

#[inline]
pub fn put(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buffer.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.push(rest as u8);
}

/// Bytes that [`put`] writes for `value`.
#[inline]
pub fn size(value: i64) -> usize {
    let significant_bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    significant_bits.div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
