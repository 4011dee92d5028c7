//! An event made of named texts, as a query string has them: each typed as the topic's schema says.
//!
//! A dot in a name nests (`metadata.quality`). A text becomes a number, a flag, an object or an array where the schema
//! asks for one and for no string, and the text is one; whatever it is otherwise, validation explains.

use serde_json::{Map, Value};

/// How deep names may nest.
const DEPTH_MAX: usize = 8;
/// How many references in a row are followed.
const REFERENCES_MAX: usize = 8;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    #[error("{0:?} is given twice: name each field once")]
    Twice(String),
    #[error("{0:?} is not a field's name: use one such as user or metadata.quality, with at most {DEPTH_MAX} parts")]
    Name(String),
    #[error("{0:?} is within {1:?}, which is a value already: give the one or the other")]
    Within(String, String),
}

/// What a schema says about the types of fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldTypes<'a> {
    schema: Option<&'a Value>,
}

impl<'a> FieldTypes<'a> {
    /// What is no JSON Schema knows no types.
    pub(crate) fn of(schema: Option<&'a Value>) -> FieldTypes<'a> {
        FieldTypes { schema }
    }

    /// Whether an event may say it: without a schema, anything.
    fn knows(self, name: &str) -> bool {
        self.schema.is_none() || self.at(&[name]).is_some()
    }

    fn at(self, path: &[&str]) -> Option<&'a Value> {
        let root = self.schema?;
        let mut found = resolved(root, root)?;
        for part in path {
            found = resolved(root, found.get("properties")?.get(part)?)?;
        }
        Some(found)
    }

    fn typed(self, path: &[&str], text: &str) -> Value {
        let wanted = match self.at(path).and_then(|schema| schema.get("type")) {
            Some(Value::String(only)) => std::slice::from_ref(only).to_vec(),
            Some(Value::Array(several)) => several.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let is_wanted = |value: &Value| {
            wanted.iter().any(|name| match name.as_str() {
                "integer" | "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                "array" => value.is_array(),
                "null" => value.is_null(),
                _ => false,
            })
        };
        if wanted.iter().any(|name| name == "string") {
            return text.into();
        }
        serde_json::from_str(text).ok().filter(is_wanted).unwrap_or_else(|| text.into())
    }
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let mut schema = schema;
    for _ in 0..REFERENCES_MAX {
        match schema.get("$ref").and_then(Value::as_str) {
            None => return Some(schema),
            Some(reference) => schema = root.pointer(reference.strip_prefix('#')?)?,
        }
    }
    None
}

/// The event as JSON. `id` and `timestamp` are filled in with a new id and with `now_ms`, where they are left out and the
/// schema, if there is one, knows them: who writes a link cannot know them.
pub(crate) fn event(types: FieldTypes<'_>, fields: &[(String, String)], now_ms: i64) -> Result<Vec<u8>, FieldError> {
    let mut event = Map::new();
    for (name, text) in fields {
        let path: Vec<&str> = name.split('.').collect();
        if path.len() > DEPTH_MAX || path.contains(&"") {
            return Err(FieldError::Name(name.clone()));
        }
        put(&mut event, name, &path, types.typed(&path, text))?;
    }
    let moment = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let left_out = [
        ("id", uuid::Uuid::new_v4().to_string()),
        ("timestamp", moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
    ];
    for (name, value) in left_out {
        if types.knows(name) {
            event.entry(name).or_insert_with(|| value.into());
        }
    }
    // Text and what was read from text only: serialising it cannot fail.
    Ok(serde_json::to_vec(&event).unwrap_or_default())
}

fn put(event: &mut Map<String, Value>, name: &str, path: &[&str], value: Value) -> Result<(), FieldError> {
    let Some((last, parents)) = path.split_last() else { return Err(FieldError::Name(name.to_owned())) };
    let mut object = event;
    for part in parents {
        match object.entry(*part).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => object = inner,
            _ => return Err(FieldError::Within(name.to_owned(), (*part).to_owned())),
        }
    }
    match object.insert((*last).to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(FieldError::Twice(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r##"{
        "type": "object",
        "$defs": {"count": {"type": ["integer", "null"]}, "loop": {"$ref": "#/$defs/loop"}},
        "properties": {
            "id": {"type": "string"}, "user": {"type": "string"}, "position_ms": {"type": "integer"},
            "plays": {"$ref": "#/$defs/count"}, "endless": {"$ref": "#/$defs/loop"}, "live": {"type": "boolean"},
            "either": {"type": ["string", "number"]}, "free": {},
            "metadata": {"type": "object", "properties": {"bitrate": {"type": "number"}}}
        }
    }"##;

    fn made(schema: Option<&str>, fields: &[(&str, &str)]) -> Result<Value, FieldError> {
        let fields: Vec<_> = fields.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let schema: Option<Value> = schema.map(|text| serde_json::from_str(text).unwrap());
        event(FieldTypes::of(schema.as_ref()), &fields, 1_756_641_600_000)
            .map(|json| serde_json::from_slice(&json).unwrap())
    }

    #[test]
    fn texts_become_what_the_schema_asks_for() {
        let fields = [
            ("id", "7"),
            ("user", "123"),
            ("position_ms", "61000"),
            ("plays", "null"),
            ("endless", "1"),
            ("live", "true"),
            ("either", "5"),
            ("free", "5"),
            ("metadata.bitrate", "1.5"),
            ("metadata.quality", "1080"),
        ];
        let expected = serde_json::json!({
            "id": "7", "user": "123", "position_ms": 61000, "plays": null, "endless": "1", "live": true, "either": "5",
            "free": "5", "metadata": {"bitrate": 1.5, "quality": "1080"}
        });
        assert_eq!(made(Some(SCHEMA), &fields).unwrap(), expected, "and no timestamp: the schema does not know it");
        let whole = made(Some(SCHEMA), &[("id", "1"), ("metadata", r#"{"a":1}"#)]).unwrap();
        assert_eq!(whole["metadata"]["a"], 1);
        // What is not what the schema asks for is left to validation.
        assert_eq!(made(Some(SCHEMA), &[("position_ms", "soon"), ("live", "1")]).unwrap()["position_ms"], "soon");
        assert_eq!(made(Some(SCHEMA), &[("live", "1")]).unwrap()["live"], "1");
    }

    #[test]
    fn id_and_time_are_filled_in_where_they_are_left_out() {
        let first = made(None, &[("type", "open")]).unwrap();
        assert_eq!(first["timestamp"], "2025-08-31T12:00:00.000Z");
        assert_ne!(first["id"], made(None, &[("type", "open")]).unwrap()["id"]);
        let told = made(None, &[("id", "mine"), ("timestamp", "then")]).unwrap();
        assert_eq!((&told["id"], &told["timestamp"]), (&"mine".into(), &"then".into()));
    }

    #[test]
    fn names_that_contradict_each_other_are_refused() {
        assert_eq!(made(None, &[("a", "1"), ("a", "2")]), Err(FieldError::Twice("a".into())));
        assert_eq!(made(None, &[("a", "1"), ("a.b", "2")]), Err(FieldError::Within("a.b".into(), "a".into())));
        assert_eq!(made(None, &[("a.b", "1"), ("a", "2")]), Err(FieldError::Twice("a".into())));
        for name in ["", ".", "a.", "a..b", "a.b.c.d.e.f.g.h.i"] {
            assert_eq!(made(None, &[(name, "1")]), Err(FieldError::Name(name.into())));
        }
    }
}
