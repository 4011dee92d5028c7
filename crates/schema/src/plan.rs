//! A schema compiled to what the scanner can decide by itself.
//!
//! Everything outside the subset becomes [`Node::Unsure`]: a value that meets it goes to the reference validator. Where
//! the subset is decided, it must never accept what the reference refuses.

use serde_json::{Map, Value};

use crate::Fields;
use crate::format::Format;

#[derive(Debug, Default)]
pub(crate) enum Node {
    #[default]
    Any,
    Unsure,
    Rules(Box<Rules>),
}

pub(crate) mod kind {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOLEAN: u8 = 2;
    pub(crate) const INTEGER: u8 = 4;
    pub(crate) const FRACTION: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const ARRAY: u8 = 32;
    pub(crate) const OBJECT: u8 = 64;
    pub(crate) const ALL: u8 = 127;
}

#[derive(Debug)]
pub(crate) struct Rules {
    /// A value whose kind is not among these is not certainly valid.
    pub(crate) kinds: u8,
    pub(crate) text: TextRule,
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    pub(crate) object: ObjectRule,
    pub(crate) items: Node,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            kinds: kind::ALL,
            text: TextRule::default(),
            minimum: None,
            maximum: None,
            object: ObjectRule::default(),
            items: Node::Any,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct TextRule {
    min_chars: usize,
    max_chars: Option<usize>,
    format: Option<Format>,
    one_of: Option<Vec<Box<[u8]>>>,
    /// At least one of them, unless there are none.
    any_of: Vec<TextRule>,
}

impl TextRule {
    pub(crate) fn is_empty(&self) -> bool {
        self.min_chars == 0
            && self.max_chars.is_none()
            && self.format.is_none()
            && self.one_of.is_none()
            && self.any_of.is_empty()
    }

    pub(crate) fn accepts(&self, text: &[u8]) -> bool {
        self.accepts_length(text)
            && self.format.is_none_or(|format| format.accepts(text))
            && self.one_of.as_ref().is_none_or(|values| values.iter().any(|value| **value == *text))
            && (self.any_of.is_empty() || self.any_of.iter().any(|rule| rule.accepts(text)))
    }

    fn accepts_length(&self, text: &[u8]) -> bool {
        let max = self.max_chars.unwrap_or(usize::MAX);
        // A character takes one to four bytes, so most texts need no counting.
        if text.len() <= max && text.len().div_ceil(4) >= self.min_chars {
            return true;
        }
        let chars = text.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        (self.min_chars..=max).contains(&chars)
    }
}

#[derive(Debug, Default)]
pub(crate) struct ObjectRule {
    pub(crate) properties: Vec<Property>,
    /// Bit i: `properties[i]` must be there.
    pub(crate) required: u64,
    /// A key that is not among the properties leaves the object undecided.
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: Box<[u8]>,
    pub(crate) node: Node,
    pub(crate) is_key: bool,
    pub(crate) is_id: bool,
}

impl ObjectRule {
    fn property(&mut self, name: &str) -> usize {
        if let Some(at) = self.properties.iter().position(|property| *property.name == *name.as_bytes()) {
            return at;
        }
        let node = if self.closed { Node::Unsure } else { Node::Any };
        self.properties.push(Property { name: name.as_bytes().into(), node, is_key: false, is_id: false });
        self.properties.len() - 1
    }
}

/// The plan of a whole schema, which also marks the fields to find at the top level.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Rules,
    /// Whether a document that passes the rules is certainly valid.
    pub(crate) decides: bool,
}

/// Properties are numbered in a 64-bit set.
const PROPERTIES_MAX: usize = 62;

impl Plan {
    /// `None` stands for "any JSON".
    pub(crate) fn compile(schema: Option<&Value>, fields: &Fields) -> Plan {
        let node = match schema {
            None => Node::Any,
            Some(schema) if knows_dialect(schema) => compile(schema),
            Some(_) => Node::Unsure,
        };
        let (mut root, decides) = match node {
            Node::Any => (Rules::default(), true),
            Node::Unsure => (Rules::default(), false),
            Node::Rules(rules) => (*rules, true),
        };
        if let Some(key) = &fields.key {
            let at = root.object.property(key);
            root.object.properties[at].is_key = true;
        }
        if let Some(id) = &fields.id {
            let at = root.object.property(id);
            root.object.properties[at].is_id = true;
        }
        Plan { root, decides }
    }
}

fn knows_dialect(schema: &Value) -> bool {
    let Some(dialect) = schema.get("$schema") else { return true };
    matches!(
        dialect.as_str().map(|dialect| dialect.trim_end_matches('#')),
        Some(
            "https://json-schema.org/draft/2020-12/schema"
                | "https://json-schema.org/draft/2019-09/schema"
                | "http://json-schema.org/draft-07/schema"
                | "http://json-schema.org/draft-06/schema"
        )
    )
}

fn compile(schema: &Value) -> Node {
    match schema {
        Value::Bool(true) => Node::Any,
        Value::Object(keywords) => match rules(keywords) {
            Some(Some(rules)) => Node::Rules(Box::new(rules)),
            Some(None) => Node::Any,
            None => Node::Unsure,
        },
        _ => Node::Unsure,
    }
}

/// `None`: outside the subset. `Some(None)`: no keyword that constrains.
fn rules(keywords: &Map<String, Value>) -> Option<Option<Rules>> {
    let mut rules = Rules::default();
    let mut constrains = false;
    // Before "properties" and "required", which ask for it.
    match keywords.get("additionalProperties") {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => rules.object.closed = true,
        Some(_) => return None,
    }
    // Before "required": a name in both is one property.
    if let Some(properties) = keywords.get("properties") {
        for (name, schema) in properties.as_object()? {
            let at = rules.object.property(name);
            rules.object.properties[at].node = compile(schema);
        }
    }
    for (keyword, value) in keywords {
        constrains |= constrain(&mut rules, keyword, value)?;
    }
    if rules.object.properties.len() > PROPERTIES_MAX {
        return None;
    }
    Some(constrains.then_some(rules))
}

/// Takes one keyword in; whether it constrains anything.
fn constrain(rules: &mut Rules, keyword: &str, value: &Value) -> Option<bool> {
    match keyword {
        "$schema" | "$id" | "$comment" | "$defs" | "definitions" | "title" | "description" | "default" | "examples"
        | "deprecated" | "readOnly" | "writeOnly" => return Some(false),
        "type" => {
            rules.kinds &= match value {
                Value::String(name) => kinds_of(name)?,
                Value::Array(names) => {
                    names.iter().try_fold(0, |kinds, name| Some(kinds | kinds_of(name.as_str()?)?))?
                }
                _ => return None,
            }
        }
        "properties" | "additionalProperties" => {}
        "required" => {
            for name in value.as_array()? {
                let at = rules.object.property(name.as_str()?);
                rules.object.required |= 1u64.checked_shl(at as u32)?;
            }
        }
        "items" => match value {
            Value::Object(_) | Value::Bool(_) => rules.items = compile(value),
            _ => return None,
        },
        "minLength" => rules.text.min_chars = value.as_u64()?.try_into().ok()?,
        "maxLength" => rules.text.max_chars = Some(value.as_u64()?.try_into().ok()?),
        "minimum" => rules.minimum = Some(value.as_i64()?),
        "maximum" => rules.maximum = Some(value.as_i64()?),
        "format" => rules.text.format = Some(Format::named(value.as_str()?)?),
        "enum" => take_values(rules, value.as_array()?)?,
        "const" => take_values(rules, std::slice::from_ref(value))?,
        "anyOf" => take_any_of(rules, value.as_array()?)?,
        _ => return None,
    }
    Some(true)
}

fn kinds_of(name: &str) -> Option<u8> {
    Some(match name {
        "null" => kind::NULL,
        "boolean" => kind::BOOLEAN,
        "integer" => kind::INTEGER,
        "number" => kind::INTEGER | kind::FRACTION,
        "string" => kind::STRING,
        "array" => kind::ARRAY,
        "object" => kind::OBJECT,
        _ => return None,
    })
}

/// `enum` and `const` of strings.
fn take_values(rules: &mut Rules, values: &[Value]) -> Option<()> {
    if rules.text.one_of.is_some() {
        return None; // enum next to const
    }
    let values = values.iter().map(|value| Some(value.as_str()?.as_bytes().into())).collect::<Option<_>>()?;
    rules.text.one_of = Some(values);
    rules.kinds &= kind::STRING;
    Some(())
}

/// `anyOf` is decided for strings only, by the branches that decide strings.
fn take_any_of(rules: &mut Rules, branches: &[Value]) -> Option<()> {
    for branch in branches {
        match compile(branch) {
            Node::Rules(branch) if branch.kinds & kind::STRING != 0 => rules.text.any_of.push(branch.text),
            Node::Any => rules.text.any_of.push(TextRule::default()),
            _ => {}
        }
    }
    rules.kinds &= kind::STRING;
    (!rules.text.any_of.is_empty()).then_some(())
}
