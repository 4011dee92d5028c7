//! The elements of one JSON array, one at a time.
//!
//! Only the structure is followed, to find where an element ends; whether it is valid JSON is the ingest door's to say.

use std::io::{self, BufRead};

use super::lines::LENGTH_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Whole,
    TooLong,
    /// A line break inside a string, which no JSON allows.
    Broken,
}

#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("the array ends in the middle")]
    Unfinished,
    #[error("a comma or the array's end is expected")]
    Separator,
    #[error("something follows the end of the array")]
    Trailing,
}

#[derive(Debug, Default)]
pub struct ArrayReader {
    opened: bool,
    closed: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ArrayReader {
    /// Reads the next element into `element`, on one line; `None` after the last.
    pub fn next(&mut self, reader: &mut dyn BufRead, element: &mut Vec<u8>) -> Result<Option<Element>, ArrayError> {
        element.clear();
        let mut outcome = Element::Whole;
        loop {
            let available = match reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if available.is_empty() {
                return if self.closed { Ok(None) } else { Err(ArrayError::Unfinished) };
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in available {
                used += 1;
                if self.in_string {
                    if byte == b'\n' {
                        outcome = Element::Broken;
                    } else {
                        push(element, &mut outcome, byte);
                    }
                    match byte {
                        _ if self.escaped => self.escaped = false,
                        b'\\' => self.escaped = true,
                        b'"' => self.in_string = false,
                        _ => {}
                    }
                    continue;
                }
                let nested = self.depth > 0;
                match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => {
                        if !element.is_empty() {
                            push(element, &mut outcome, b' ');
                        }
                    }
                    _ if self.closed => return Err(ArrayError::Trailing),
                    b'[' if !self.opened => self.opened = true,
                    _ if !self.opened => return Err(ArrayError::Separator),
                    b',' if !nested => {
                        ended = true;
                        break;
                    }
                    b']' if !nested => {
                        self.closed = true;
                        ended = !element.is_empty();
                        if ended {
                            break;
                        }
                    }
                    _ => {
                        match byte {
                            b'"' => self.in_string = true,
                            b'[' | b'{' => self.depth += 1,
                            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                            _ => {}
                        }
                        push(element, &mut outcome, byte);
                    }
                }
            }
            reader.consume(used);
            if ended {
                element.truncate(element.trim_ascii_end().len());
                if element.is_empty() && outcome == Element::Whole {
                    return Err(ArrayError::Separator);
                }
                return Ok(Some(outcome));
            }
        }
    }
}

fn push(element: &mut Vec<u8>, outcome: &mut Element, byte: u8) {
    if element.len() < LENGTH_MAX {
        element.push(byte);
    } else {
        *outcome = Element::TooLong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn elements(text: &[u8], capacity: usize) -> Result<Vec<(Element, Vec<u8>)>, ArrayError> {
        let mut reader = io::BufReader::with_capacity(capacity, text);
        let mut array = ArrayReader::default();
        let mut element = Vec::new();
        let mut found = Vec::new();
        while let Some(outcome) = array.next(&mut reader, &mut element)? {
            found.push((outcome, element.clone()));
        }
        Ok(found)
    }

    #[test]
    fn errors_are_told_apart() {
        assert!(matches!(elements(b"[{}, {", 3), Err(ArrayError::Unfinished)));
        assert!(matches!(elements(b"[{}] x", 3), Err(ArrayError::Trailing)));
        assert!(matches!(elements(b"[,]", 3), Err(ArrayError::Separator)));
        assert_eq!(elements(b" [ ] ", 3).unwrap(), []);
        assert_eq!(elements(b"[\"a\nb\",1]", 3).unwrap()[0].0, Element::Broken);
        let long = format!("[\"{}\",1]", "x".repeat(LENGTH_MAX));
        assert_eq!(
            elements(long.as_bytes(), 9).unwrap().iter().map(|e| e.0).collect::<Vec<_>>(),
            [Element::TooLong, Element::Whole]
        );
    }

    proptest! {
        #[test]
        fn elements_are_what_a_parser_sees(
            values in proptest::collection::vec((r#"[a\[\]{},"\\é ]{0,8}"#, any::<i32>()), 0..6),
            pretty in any::<bool>(), capacity in 1usize..40,
        ) {
            let values: Vec<Value> =
                values.into_iter().map(|(text, number)| serde_json::json!({"t": text, "n": [number]})).collect();
            let whole = Value::Array(values.clone());
            let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) }.unwrap();
            let found = elements(text.as_bytes(), capacity).unwrap();
            prop_assert_eq!(found.len(), values.len());
            for ((outcome, element), value) in found.iter().zip(&values) {
                if *outcome == Element::Whole {
                    prop_assert_eq!(&serde_json::from_slice::<Value>(element).unwrap(), value);
                    prop_assert!(!element.contains(&b'\n'));
                }
            }
        }

        #[test]
        fn any_bytes_end(text in proptest::collection::vec(any::<u8>(), 0..200), capacity in 1usize..40) {
            let _ = elements(&text, capacity);
        }
    }
}
