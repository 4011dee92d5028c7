//! JSON Pointer (RFC 6901): a place in a document.

use serde::Deserialize;
use serde_json::Value;

/// Parsed: its reference tokens, unescaped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pointer(Vec<String>);

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Pointer, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return if text.is_empty() {
                Ok(Pointer(Vec::new()))
            } else {
                Err(format!("path {text:?} does not begin with /"))
            };
        };
        let unescaped = |token: &str| {
            let is_valid = token.split('~').skip(1).all(|part| part.starts_with(['0', '1']));
            is_valid.then(|| token.replace("~1", "/").replace("~0", "~"))
        };
        let tokens: Option<Vec<String>> = rest.split('/').map(unescaped).collect();
        tokens.map(Pointer).ok_or_else(|| format!("path {text:?} has a ~ that is neither ~0 nor ~1"))
    }
}

/// As it is written.
impl std::fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|token| write!(formatter, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

impl Pointer {
    pub(crate) fn is_above(&self, other: &Pointer) -> bool {
        self.0.len() < other.0.len() && other.0.starts_with(&self.0)
    }

    pub(crate) fn get<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, token| match value {
            Value::Object(fields) => fields.get(token),
            Value::Array(items) => items.get(index(token)?),
            _ => None,
        })
    }

    pub(crate) fn get_mut<'a>(&self, document: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(document, step)
    }

    /// Puts a value there: a field, new or not, or an item before the one that is there or (`-`) behind the last.
    pub(crate) fn add(&self, document: &mut Value, value: Value) -> Option<()> {
        let Some((last, parents)) = self.0.split_last() else {
            *document = value;
            return Some(());
        };
        match parents.iter().try_fold(document, step)? {
            Value::Object(fields) => drop(fields.insert(last.clone(), value)),
            Value::Array(items) => {
                let at = if last == "-" { items.len() } else { index(last).filter(|at| *at <= items.len())? };
                items.insert(at, value);
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes out what is there. The whole document leaves null.
    pub(crate) fn remove(&self, document: &mut Value) -> Option<Value> {
        let Some((last, parents)) = self.0.split_last() else { return Some(document.take()) };
        match parents.iter().try_fold(document, step)? {
            Value::Object(fields) => fields.remove(last),
            Value::Array(items) => index(last).filter(|at| *at < items.len()).map(|at| items.remove(at)),
            _ => None,
        }
    }
}

fn step<'a>(value: &'a mut Value, token: &String) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(token),
        Value::Array(items) => items.get_mut(index(token)?),
        _ => None,
    }
}

/// Of an array: digits, without a zero before them.
fn index(token: &str) -> Option<usize> {
    let is_number = token.bytes().all(|byte| byte.is_ascii_digit()) && (token.len() == 1 || !token.starts_with('0'));
    if is_number { token.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_6901() {
        let document = json!({"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8});
        assert_eq!(pointer("").get(&document), Some(&document));
        assert_eq!(pointer("/foo").get(&document), Some(&json!(["bar", "baz"])));
        assert_eq!(pointer("/foo/0").get(&document), Some(&json!("bar")));
        for (text, value) in [
            ("/", 0),
            ("/a~1b", 1),
            ("/c%d", 2),
            ("/e^f", 3),
            ("/g|h", 4),
            ("/i\\j", 5),
            ("/k\"l", 6),
            ("/ ", 7),
            ("/m~0n", 8),
        ] {
            assert_eq!(pointer(text).get(&document), Some(&json!(value)), "{text}");
        }
        for nothing in
            ["/foo/2", "/foo/-", "/foo/00", "/foo/+1", "/foo/", "/foo/0/x", "/bar", "/foo/18446744073709551616"]
        {
            assert_eq!(pointer(nothing).get(&document), None, "{nothing}");
        }
        for wrong in ["a", "a/b", "/~", "/~2", "/a~/b"] {
            assert!(Pointer::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_name_has_a_pointer(names in prop::collection::vec("[~/a0-]{0,4}", 0..4)) {
            let written = Pointer(names.clone()).to_string();
            prop_assert_eq!(pointer(&written), Pointer(names));
        }
    }
}
