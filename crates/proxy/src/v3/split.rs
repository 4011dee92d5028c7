//! Takes a stream of concatenated JSON objects apart, wherever its chunks are cut.

use bytes::{Bytes, BytesMut};

#[derive(Debug)]
pub(super) struct Splitter {
    buffer: BytesMut,
    /// How far it was looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    bytes_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    #[error("a record has to be a JSON object, and begins with {0:?}")]
    NoObject(char),
    #[error("a record is larger than the limit of {0} bytes")]
    TooLarge(usize),
    #[error("the stream ends in the middle of a record")]
    Truncated,
}

impl Splitter {
    pub(super) fn new(bytes_max: usize) -> Splitter {
        Splitter { buffer: BytesMut::new(), scanned: 0, depth: 0, in_string: false, escaped: false, bytes_max }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Bytes that are held.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The next object that is there as a whole. Whether it is valid JSON is not looked at.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, SplitError> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.scanned += 1;
                        continue;
                    }
                    b'{' => {
                        let _ = self.buffer.split_to(self.scanned);
                        (self.scanned, self.depth) = (1, 1);
                        continue;
                    }
                    _ => return Err(SplitError::NoObject(byte.into())),
                }
            }
            self.scanned += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth -= 1,
                _ => {}
            }
            if self.scanned > self.bytes_max {
                return Err(SplitError::TooLarge(self.bytes_max));
            }
            if self.depth == 0 {
                let object = self.buffer.split_to(self.scanned).freeze();
                self.scanned = 0;
                return Ok(Some(object));
            }
        }
        if self.depth == 0 {
            // White space.
            self.buffer.clear();
            self.scanned = 0;
        }
        Ok(None)
    }

    /// At the end of the stream.
    pub(super) fn finish(&self) -> Result<(), SplitError> {
        if self.depth == 0 { Ok(()) } else { Err(SplitError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn split(text: &[u8], chunk: usize) -> Result<Vec<String>, SplitError> {
        let mut splitter = Splitter::new(1_000);
        let mut objects = Vec::new();
        for chunk in text.chunks(chunk.max(1)) {
            splitter.push(chunk);
            while let Some(object) = splitter.next()? {
                objects.push(String::from_utf8(object.to_vec()).unwrap());
            }
        }
        splitter.finish().map(|()| objects)
    }

    #[test]
    fn objects_come_one_by_one() {
        let text = br#" {"a":"}{\"[","b":[{},{}]}{}
            {"c":"\\"}  "#;
        for chunk in 1..text.len() {
            assert_eq!(split(text, chunk).unwrap(), [r#"{"a":"}{\"[","b":[{},{}]}"#, "{}", r#"{"c":"\\"}"#]);
        }
        assert!(split(b"  ", 1).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_object_is_told() {
        assert_eq!(split(b"{}[1]", 1), Err(SplitError::NoObject('[')));
        assert_eq!(split(b"null", 1), Err(SplitError::NoObject('n')));
        assert_eq!(split(br#"{"a":"}"#, 1), Err(SplitError::Truncated));
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000));
        assert_eq!(split(large.as_bytes(), 10), Err(SplitError::TooLarge(1_000)));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i64>().prop_map(Value::from), ".{0,8}".prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_the_objects_and_the_chunks(
            values in proptest::collection::vec(value(), 0..4),
            chunk in 1..40usize,
        ) {
            let objects: Vec<String> = values.iter().map(|value| format!(r#"{{"v":{value}}}"#)).collect();
            prop_assume!(objects.iter().all(|object| object.len() < 1_000));
            let split = split(objects.join("\n").as_bytes(), chunk).unwrap();
            prop_assert_eq!(split, objects);
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60), chunk in 1..9usize) {
            let mut splitter = Splitter::new(20);
            for chunk in bytes.chunks(chunk) {
                splitter.push(chunk);
                while let Ok(Some(_)) = splitter.next() {}
            }
        }
    }
}
