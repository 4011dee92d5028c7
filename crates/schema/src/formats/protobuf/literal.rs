//! Values of options, as they are written in a file.

use protox::prost_reflect::{DynamicMessage, Kind, MapKey, Value};

pub(super) fn literal(value: &Value, kind: &Kind) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => float(f64::from(*value), format!("{value:?}")),
        Value::F64(value) => float(*value, format!("{value:?}")),
        Value::String(text) => quoted(text.as_bytes(), false),
        Value::Bytes(bytes) => quoted(bytes, true),
        Value::EnumNumber(number) => {
            let named = kind.as_enum().and_then(|of| of.get_value(*number));
            named.map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        Value::Message(message) => aggregate(message),
        Value::List(values) => {
            let values: Vec<String> = values.iter().map(|value| literal(value, kind)).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Map(entries) => {
            let mut entries: Vec<(&MapKey, &Value)> = entries.iter().collect();
            entries.sort_by(|one, other| one.0.cmp(other.0));
            let kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let entries = entries.into_iter().map(|(key, value)| {
                let value = kind.as_ref().map(|kind| literal(value, kind)).unwrap_or_default();
                format!("{{ key: {}, value: {value} }}", key_literal(key))
            });
            format!("[{}]", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn key_literal(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => quoted(key.as_bytes(), false),
    }
}

fn aggregate(message: &DynamicMessage) -> String {
    let own = message.fields().map(|(field, value)| format!("{}: {}", field.name(), literal(value, &field.kind())));
    let others = message
        .extensions()
        .map(|(field, value)| format!("[{}]: {}", field.full_name(), literal(value, &field.kind())));
    let all: Vec<String> = own.chain(others).collect();
    if all.is_empty() { "{ }".to_owned() } else { format!("{{ {} }}", all.join(", ")) }
}

fn float(value: f64, text: String) -> String {
    match value {
        value if value.is_nan() => "nan".to_owned(),
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        _ => text,
    }
}

/// As a string literal. Bytes need not be text.
pub(super) fn quoted(bytes: &[u8], is_bytes: bool) -> String {
    let mut out = String::from("\"");
    let escape = |out: &mut String, byte: u8| match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        b' '..=b'~' => out.push(char::from(byte)),
        other => out.push_str(&format!("\\{other:03o}")),
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if !is_bytes => {
            for character in text.chars() {
                match u8::try_from(character) {
                    Ok(byte) if byte.is_ascii() => escape(&mut out, byte),
                    _ => out.push(character),
                }
            }
        }
        _ => bytes.iter().for_each(|byte| escape(&mut out, *byte)),
    }
    out.push('"');
    out
}
