//! JSON strings from bytes of any kind.

/// Appends `bytes` as a JSON string. What is not UTF-8, and control characters, are written as the four characters
/// `\xhh`, the way web servers write them into their logs: nothing is lost and the text stays storable everywhere.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let escape = |out: &mut Vec<u8>, byte: u8| {
        out.extend_from_slice(b"\\\\x");
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    };
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..0x20 | 0x7f => escape(out, byte),
                _ => out.push(byte),
            }
        }
        for &byte in chunk.invalid() {
            escape(out, byte);
        }
    }
    out.push(b'"');
}
