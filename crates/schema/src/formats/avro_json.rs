//! Avro data as JSON and back, in the encoding of the specification (1.12, "JSON Encoding"): the value of a union stands in an
//! object under the name of its branch, unless it is null; bytes are a text with a character up to U+00FF for each.
//!
//! As Java's library does, numbers that JSON has not are the texts `NaN`, `Infinity` and `-Infinity`.

use super::Node;
use super::avro::{Avro, Kind, Primitive, Type};
use super::datum::{Sink, read};
use crate::Reason;

/// The JSON of a datum, which takes at most about `bytes_max`.
pub(super) fn to_json(avro: &Avro, payload: &[u8], bytes_max: usize) -> Result<String, Reason> {
    let mut writer = Writer { out: String::new(), bytes_max, between: false };
    read(avro, payload, &mut writer)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    bytes_max: usize,
    /// Whether something stands before the next item or key, in the same list or map.
    between: bool,
}

impl Writer {
    fn separate(&mut self) {
        if self.between {
            self.out.push(',');
        }
        self.between = false;
    }

    fn number(&mut self, finite: bool, value: impl std::fmt::Display, json: serde_json::Result<String>) {
        match json {
            Ok(json) if finite => self.put(&json),
            _ => self.quoted(match value.to_string().as_str() {
                "inf" => "Infinity",
                "-inf" => "-Infinity",
                _ => "NaN",
            }),
        }
    }

    fn quoted(&mut self, text: &str) {
        // A text can always be written.
        self.out.push_str(&serde_json::to_string(text).unwrap_or_default());
        self.between = true;
    }

    fn put(&mut self, json: &str) {
        self.out.push_str(json);
        self.between = true;
    }

    fn begin(&mut self, bracket: char) {
        self.out.push(bracket);
        self.between = false;
    }
}

impl Sink for Writer {
    fn null(&mut self) {
        self.put("null");
    }

    fn boolean(&mut self, value: bool) {
        self.put(if value { "true" } else { "false" });
    }

    fn long(&mut self, value: i64) {
        self.put(&value.to_string());
    }

    fn float(&mut self, value: f32) {
        self.number(value.is_finite(), value, serde_json::to_string(&value));
    }

    fn double(&mut self, value: f64) {
        self.number(value.is_finite(), value, serde_json::to_string(&value));
    }

    fn bytes(&mut self, value: &[u8]) {
        self.quoted(&value.iter().map(|byte| char::from(*byte)).collect::<String>());
    }

    fn text(&mut self, value: &str) {
        self.quoted(value);
    }

    fn begin_list(&mut self) {
        self.begin('[');
    }

    fn item(&mut self) {
        self.separate();
    }

    fn end_list(&mut self) {
        self.put("]");
    }

    fn begin_map(&mut self) {
        self.begin('{');
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.quoted(key);
        self.out.push(':');
    }

    fn end_map(&mut self) {
        self.put("}");
    }

    fn begin_branch(&mut self, avro: &Avro, branch: &Type) {
        if !is_null(branch) {
            self.begin('{');
            self.quoted(&branch_name(avro, branch));
            self.out.push(':');
        }
    }

    fn end_branch(&mut self, branch: &Type) {
        if !is_null(branch) {
            self.put("}");
        }
    }

    fn is_full(&self) -> bool {
        self.out.len() > self.bytes_max
    }
}

fn is_null(branch: &Type) -> bool {
    matches!(branch, Type::Primitive(Primitive::Null))
}

fn branch_name(avro: &Avro, branch: &Type) -> String {
    match branch {
        Type::Primitive(primitive) => primitive_name(*primitive).to_owned(),
        Type::Array(_) => "array".to_owned(),
        Type::Map(_) => "map".to_owned(),
        Type::Union(_) => "union".to_owned(),
        Type::Named(at) => avro.named[*at].full(),
    }
}

fn primitive_name(primitive: Primitive) -> &'static str {
    match primitive {
        Primitive::Null => "null",
        Primitive::Boolean => "boolean",
        Primitive::Int => "int",
        Primitive::Long => "long",
        Primitive::Float => "float",
        Primitive::Double => "double",
        Primitive::Bytes => "bytes",
        Primitive::String => "string",
    }
}

/// Appends the datum that a JSON value stands for.
pub(super) fn from_json(avro: &Avro, value: &Node, out: &mut Vec<u8>) -> Result<(), Reason> {
    Encoder { avro, out, path: Vec::new() }.value(&avro.root, value)
}

/// As deep as the value, which its parser has bounded.
struct Encoder<'a> {
    avro: &'a Avro,
    out: &'a mut Vec<u8>,
    path: Vec<String>,
}

impl Encoder<'_> {
    fn refused(&self, keyword: &str, message: String) -> Reason {
        let path = self.path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect();
        Reason { path, message, keyword: keyword.to_owned() }
    }

    fn wrong(&self, wanted: &str, value: &Node) -> Reason {
        let mut shown = value.to_string();
        shown.truncate(shown.floor_char_boundary(100));
        self.refused("type", format!("{shown} is no {wanted}"))
    }

    fn within(&mut self, step: String, schema: &Type, value: &Node) -> Result<(), Reason> {
        self.path.push(step);
        self.value(schema, value)?;
        self.path.pop();
        Ok(())
    }

    /// A zigzag varint.
    fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    fn value(&mut self, schema: &Type, value: &Node) -> Result<(), Reason> {
        match schema {
            Type::Primitive(primitive) => self.primitive(*primitive, value),
            Type::Array(items) => {
                let Node::List(values) = value else { return Err(self.wrong("array", value)) };
                if !values.is_empty() {
                    self.long(values.len() as i64);
                }
                for (at, value) in values.iter().enumerate() {
                    self.within(at.to_string(), items, value)?;
                }
                self.long(0);
                Ok(())
            }
            Type::Map(values) => {
                let Node::Map(entries) = value else { return Err(self.wrong("map (an object)", value)) };
                if !entries.is_empty() {
                    self.long(entries.len() as i64);
                }
                for (key, value) in entries {
                    self.sized(key.as_bytes());
                    self.within(key.clone(), values, value)?;
                }
                self.long(0);
                Ok(())
            }
            Type::Union(branches) => self.union(branches, value),
            Type::Named(at) => {
                let named = &self.avro.named[*at];
                match &named.kind {
                    Kind::Fixed(size) => match byte_string(value).filter(|bytes| bytes.len() == *size) {
                        Some(bytes) => {
                            self.out.extend_from_slice(&bytes);
                            Ok(())
                        }
                        None => Err(self.wrong(&format!("text of {size} bytes, each a character up to U+00FF"), value)),
                    },
                    Kind::Enum { symbols, .. } => {
                        let symbol = value.as_text();
                        let Some(at) = symbols.iter().position(|known| Some(known.as_str()) == symbol) else {
                            return Err(self.wrong(&format!("symbol of the enum {:?}", named.full()), value));
                        };
                        self.long(at as i64);
                        Ok(())
                    }
                    Kind::Record(fields) => {
                        let Node::Map(entries) = value else {
                            return Err(self.wrong(&format!("record {:?} (an object)", named.full()), value));
                        };
                        let is_field = |name: &String| fields.iter().any(|field| field.name == *name);
                        if let Some((name, _)) = entries.iter().find(|(name, _)| !is_field(name)) {
                            let message = format!("the record {:?} has no field {name:?}", named.full());
                            return Err(self.refused("additionalProperties", message));
                        }
                        for field in fields {
                            let Some(value) = value.get(&field.name) else {
                                let message = format!("the field {:?} of {:?} is missing", field.name, named.full());
                                return Err(self.refused("required", message));
                            };
                            self.within(field.name.clone(), &field.schema, value)?;
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    fn union(&mut self, branches: &[Type], value: &Node) -> Result<(), Reason> {
        let names = || branches.iter().map(|branch| branch_name(self.avro, branch)).collect::<Vec<_>>();
        let (name, inner) = match value {
            Node::Null => ("null", value),
            Node::Map(entries) if entries.len() == 1 => (entries[0].0.as_str(), &entries[0].1),
            _ => {
                let wanted = format!("value of a union: write it as {{\"branch\": value}}, with one of {:?}", names());
                return Err(self.wrong(&wanted, value));
            }
        };
        let Some(at) = branches.iter().position(|branch| branch_name(self.avro, branch) == name) else {
            return Err(self.refused("type", format!("the union has no branch {name:?}, but {:?}", names())));
        };
        self.long(at as i64);
        match is_null(&branches[at]) {
            true => self.value(&branches[at], inner),
            false => self.within(name.to_owned(), &branches[at], inner),
        }
    }

    fn primitive(&mut self, primitive: Primitive, value: &Node) -> Result<(), Reason> {
        let wrong = || self.wrong(primitive_name(primitive), value);
        match (primitive, value) {
            (Primitive::Null, Node::Null) => {}
            (Primitive::Boolean, Node::Bool(bit)) => self.out.push(u8::from(*bit)),
            (Primitive::Int, Node::Number(number)) => {
                let int = number.as_i64().filter(|value| i32::try_from(*value).is_ok()).ok_or_else(wrong)?;
                self.long(int);
            }
            (Primitive::Long, Node::Number(number)) => {
                let long = number.as_i64().ok_or_else(wrong)?;
                self.long(long);
            }
            (Primitive::Float, value) => {
                let float = double(value).ok_or_else(wrong)? as f32;
                if float.is_infinite() && !matches!(value, Node::Text(_)) {
                    return Err(wrong());
                }
                self.out.extend_from_slice(&float.to_le_bytes());
            }
            (Primitive::Double, value) => {
                let double = double(value).ok_or_else(wrong)?;
                self.out.extend_from_slice(&double.to_le_bytes());
            }
            (Primitive::Bytes, value) => {
                let bytes = byte_string(value);
                let bytes =
                    bytes.ok_or_else(|| self.wrong("text with a character up to U+00FF for each byte", value))?;
                self.sized(&bytes);
            }
            (Primitive::String, Node::Text(text)) => self.sized(text.as_bytes()),
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

fn double(value: &Node) -> Option<f64> {
    match value {
        Node::Number(number) => number.as_f64(),
        Node::Text(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn byte_string(value: &Node) -> Option<Vec<u8>> {
    value.as_text()?.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}
