//! From a schema's keywords to rules.

use std::sync::Arc;

use jsonschema::Draft;
use regex::Regex;
use serde_json::{Map, Value};

use super::rules::{Bound, EXACT_MAX, Node, NumberRule, Rules, is_match, kind};
use crate::format::Format;

/// Properties are numbered in a 64-bit set.
const PROPERTIES_MAX: usize = 62;
/// A plan larger than that is left to the reference: references may double at every step.
const RULES_MAX: usize = 4096;
/// Of references within references.
const NESTING_MAX: usize = 64;
/// A pattern that compiles to more is left to the reference, which has a limit of its own.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) struct Compiler<'a> {
    schema: &'a Value,
    draft: Draft,
    /// Whether `#/…` means what it says: no part of the schema has an address of its own.
    follows: bool,
    rules: usize,
    nesting: usize,
}

impl<'a> Compiler<'a> {
    /// `None` where the dialect is not one of the known ones.
    pub(super) fn new(schema: &'a Value) -> Option<Compiler<'a>> {
        let draft = match schema.get("$schema") {
            None => Draft::Draft202012,
            Some(dialect) => match dialect.as_str()?.trim_end_matches('#') {
                "https://json-schema.org/draft/2020-12/schema" => Draft::Draft202012,
                "https://json-schema.org/draft/2019-09/schema" => Draft::Draft201909,
                "http://json-schema.org/draft-07/schema" => Draft::Draft7,
                "http://json-schema.org/draft-06/schema" => Draft::Draft6,
                "http://json-schema.org/draft-04/schema" => Draft::Draft4,
                _ => return None,
            },
        };
        // A part in another dialect.
        if within(schema, &|keywords| keywords.contains_key("$schema")) {
            return None;
        }
        let has_address = |keywords: &Map<String, Value>| {
            ["$id", "id"].iter().any(|keyword| keywords.get(*keyword).is_some_and(Value::is_string))
        };
        let follows = !within(schema, &has_address);
        Some(Compiler { schema, draft, follows, rules: 0, nesting: 0 })
    }

    pub(super) fn root(&mut self) -> Node {
        self.node(self.schema)
    }

    fn node(&mut self, schema: &Value) -> Node {
        match schema {
            Value::Bool(true) => Node::Any,
            Value::Object(keywords) if self.nesting < NESTING_MAX && self.rules < RULES_MAX => {
                self.nesting += 1;
                self.rules += 1;
                let node = match self.rules(keywords) {
                    Some(Some(rules)) => Node::Rules(Arc::new(rules)),
                    Some(None) => Node::Any,
                    None => Node::Unsure,
                };
                self.nesting -= 1;
                node
            }
            _ => Node::Unsure,
        }
    }

    /// `None`: outside the subset. `Some(None)`: no keyword that constrains.
    fn rules(&mut self, keywords: &Map<String, Value>) -> Option<Option<Rules>> {
        if let Some(reference) = keywords.get("$ref") {
            return self.reference(keywords, reference.as_str()?);
        }
        let mut rules = Rules::default();
        let mut constrains = false;
        self.object_keywords(&mut rules, keywords)?;
        for (keyword, value) in keywords {
            constrains |= self.constrain(&mut rules, keywords, keyword, value)?;
        }
        // Last, because its branches stand in for rules that are not there.
        if let Some(branches) = keywords.get("anyOf") {
            self.any_of(&mut rules, branches.as_array()?)?;
        }
        if rules.object.properties.len() > PROPERTIES_MAX {
            return None;
        }
        rules.text.seal();
        rules.number.seal();
        Some(constrains.then_some(rules))
    }

    /// A reference into the same schema with nothing beside it that constrains.
    fn reference(&mut self, keywords: &Map<String, Value>, reference: &str) -> Option<Option<Rules>> {
        let alone = keywords.keys().all(|keyword| keyword == "$ref" || is_annotation(keyword));
        if !alone || !self.follows {
            return None;
        }
        let pointer = reference.strip_prefix('#')?;
        if !(pointer.is_empty() || pointer.starts_with('/')) || pointer.contains('%') {
            return None;
        }
        let target = self.schema.pointer(pointer)?;
        match self.node(target) {
            Node::Any => Some(None),
            Node::Unsure => None,
            Node::Rules(rules) => Some(Some(Arc::unwrap_or_clone(rules))),
        }
    }

    /// Patterns and what is additional come before the properties, which fall back to them, and all before `required`.
    fn object_keywords(&mut self, rules: &mut Rules, keywords: &Map<String, Value>) -> Option<()> {
        match keywords.get("additionalProperties") {
            None | Some(Value::Bool(true)) => {}
            Some(schema) => rules.object.additional = self.node(schema),
        }
        if let Some(patterns) = keywords.get("patternProperties") {
            for (pattern, schema) in patterns.as_object()? {
                let node = self.node(schema);
                rules.object.patterns.push((compile_pattern(pattern)?, node));
            }
        }
        let Some(properties) = keywords.get("properties") else { return Some(()) };
        for (name, schema) in properties.as_object()? {
            let node = self.node(schema);
            let at = rules.object.property(name);
            let covered = rules.object.patterns.iter().any(|(pattern, _)| is_match(pattern, name) != Some(false));
            rules.object.properties[at].node = match (covered, node) {
                (false, node) => node,
                // The pattern's rule is there already.
                (true, Node::Any) => continue,
                (true, node) if matches!(rules.object.properties[at].node, Node::Any) => node,
                (true, _) => Node::Unsure,
            };
        }
        Some(())
    }

    /// Takes one keyword in; whether it constrains anything.
    fn constrain(
        &mut self,
        rules: &mut Rules,
        keywords: &Map<String, Value>,
        keyword: &str,
        value: &Value,
    ) -> Option<bool> {
        match keyword {
            keyword if is_annotation(keyword) => return Some(false),
            "type" => {
                rules.kinds &= match value {
                    Value::String(name) => kinds_of(name)?,
                    Value::Array(names) => {
                        names.iter().try_fold(0, |kinds, name| Some(kinds | kinds_of(name.as_str()?)?))?
                    }
                    _ => return None,
                }
            }
            "properties" | "patternProperties" | "additionalProperties" | "anyOf" => {}
            "required" => {
                for name in value.as_array()? {
                    let at = rules.object.property(name.as_str()?);
                    rules.object.required |= 1u64.checked_shl(at as u32)?;
                }
            }
            "propertyNames" => match self.node(value) {
                Node::Any => return Some(false),
                Node::Rules(names) if names.kinds & kind::STRING != 0 => {
                    rules.object.names = Some(Box::new(names.text.clone()));
                }
                _ => return None,
            },
            "minProperties" => rules.object.min_count = count(value)?,
            "maxProperties" => rules.object.max_count = Some(count(value)?),
            "items" => match value {
                Value::Array(first) if self.draft < Draft::Draft202012 => {
                    rules.array.first = first.iter().map(|schema| self.node(schema)).collect();
                    if let Some(rest) = keywords.get("additionalItems") {
                        rules.array.items = self.node(rest);
                    }
                }
                Value::Object(_) | Value::Bool(_) => rules.array.items = self.node(value),
                _ => return None,
            },
            // Means something next to an array of items only, which has taken it in.
            "additionalItems" => return Some(false),
            "prefixItems" if self.draft == Draft::Draft202012 => {
                rules.array.first = value.as_array()?.iter().map(|schema| self.node(schema)).collect();
            }
            "minItems" => rules.array.min_count = count(value)?,
            "maxItems" => rules.array.max_count = Some(count(value)?),
            "uniqueItems" => rules.array.unique = value.as_bool()?,
            "minLength" => rules.text.min_chars = count(value)?,
            "maxLength" => rules.text.max_chars = Some(count(value)?),
            "pattern" => rules.text.pattern = Some(compile_pattern(value.as_str()?)?),
            "format" => {
                let name = value.as_str()?;
                match Format::named(name) {
                    Some(format) => rules.text.format = Some(format),
                    // A name that nobody knows constrains nothing.
                    None if !jsonschema::options().is_known_format(self.draft, name) => return Some(false),
                    None => return None,
                }
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                return bound(rules, keyword, value);
            }
            "multipleOf" => {
                let multiple = value.as_i64()?;
                if !(1..EXACT_MAX).contains(&multiple) {
                    return None;
                }
                rules.number.multiple_of = Some(multiple);
            }
            "enum" => take_values(rules, value.as_array()?)?,
            "const" => take_values(rules, std::slice::from_ref(value))?,
            _ => return None,
        }
        Some(true)
    }

    /// For each kind of value, one branch that decides it is enough; strings may pass by any of them.
    fn any_of(&mut self, rules: &mut Rules, branches: &[Value]) -> Option<()> {
        let (mut kinds, mut texts) = (0, Vec::new());
        for branch in branches {
            let branch = match self.node(branch) {
                Node::Any => Rules::default(),
                Node::Rules(branch) => Arc::unwrap_or_clone(branch),
                Node::Unsure => continue,
            };
            let new = branch.kinds & !kinds;
            kinds |= new & (kind::NULL | kind::TRUE | kind::FALSE | kind::STRING);
            if branch.kinds & kind::STRING != 0 {
                texts.push(branch.text);
            }
            // Both kinds of numbers share a rule, and so come from one branch.
            let numbers = new & (kind::INTEGER | kind::FRACTION);
            if numbers != 0 && kinds & (kind::INTEGER | kind::FRACTION) == 0 && is_unruled(&rules.number) {
                rules.number = branch.number;
                kinds |= numbers;
            }
            if new & kind::OBJECT != 0 && rules.object.is_empty() {
                rules.object = branch.object;
                kinds |= kind::OBJECT;
            }
            if new & kind::ARRAY != 0 && rules.array.is_empty() {
                rules.array = branch.array;
                kinds |= kind::ARRAY;
            }
        }
        rules.text.any_of = texts;
        rules.kinds &= kinds;
        (rules.kinds != 0).then_some(())
    }
}

fn is_unruled(number: &NumberRule) -> bool {
    number.lower.is_empty() && number.upper.is_empty() && number.multiple_of.is_none() && number.one_of.is_none()
}

/// Keywords that constrain nothing, those of other tools among them.
fn is_annotation(keyword: &str) -> bool {
    matches!(
        keyword,
        "$schema"
            | "$id"
            | "id"
            | "$comment"
            | "$defs"
            | "definitions"
            | "title"
            | "description"
            | "default"
            | "example"
            | "examples"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "javaType"
    ) || keyword.starts_with("x-")
        || keyword.starts_with("connect.")
        || keyword.starts_with("confluent:")
}

/// Whether something holds of an object anywhere below the root.
fn within(schema: &Value, holds: &dyn Fn(&Map<String, Value>) -> bool) -> bool {
    let check = |value: &Value| value.as_object().is_some_and(holds) || within(value, holds);
    match schema {
        Value::Object(keywords) => keywords.values().any(check),
        Value::Array(schemas) => schemas.iter().any(check),
        _ => false,
    }
}

fn compile_pattern(pattern: &str) -> Option<Regex> {
    let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
    regex::RegexBuilder::new(&translated).size_limit(PATTERN_BYTES_MAX).build().ok()
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64()?.try_into().ok()
}

fn kinds_of(name: &str) -> Option<u8> {
    Some(match name {
        "null" => kind::NULL,
        "boolean" => kind::TRUE | kind::FALSE,
        "integer" => kind::INTEGER,
        "number" => kind::INTEGER | kind::FRACTION,
        "string" => kind::STRING,
        "array" => kind::ARRAY,
        "object" => kind::OBJECT,
        _ => return None,
    })
}

fn bound(rules: &mut Rules, keyword: &str, value: &Value) -> Option<bool> {
    let exclusive = keyword.starts_with("exclusive");
    let bound = match value {
        Value::Number(number) => Bound { value: number.as_f64()?, integer: number.as_i64(), exclusive },
        // Draft 4: a switch of the bound beside it.
        Value::Bool(false) => return Some(false),
        _ => return None,
    };
    if keyword.ends_with("inimum") {
        rules.number.lower.push(bound)
    } else {
        rules.number.upper.push(bound)
    }
    Some(true)
}

/// `enum` and `const`. Values that are not told apart here are left to the reference.
fn take_values(rules: &mut Rules, values: &[Value]) -> Option<()> {
    if rules.text.one_of.is_some() {
        return None; // enum next to const
    }
    let (mut kinds, mut texts, mut integers) = (0, Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Null => kinds |= kind::NULL,
            Value::Bool(true) => kinds |= kind::TRUE,
            Value::Bool(false) => kinds |= kind::FALSE,
            Value::String(text) => {
                kinds |= kind::STRING;
                texts.push(text.as_bytes().into());
            }
            Value::Number(number) => {
                if let Some(integer) = number.as_i64() {
                    kinds |= kind::INTEGER;
                    integers.push(integer);
                }
            }
            Value::Array(_) | Value::Object(_) => {}
        }
    }
    rules.text.one_of = Some(texts);
    rules.number.one_of = Some(integers);
    rules.kinds &= kinds;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decides(schema: &str) -> bool {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let node = Compiler::new(&schema).unwrap().root();
        !matches!(node, Node::Unsure)
    }

    #[test]
    fn references_that_loop_or_double_are_left_to_the_reference() {
        assert!(decides(r##"{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}"##));
        assert!(!decides(r##"{"$ref":"#"}"##));
        assert!(!decides(r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##));
        let doubling: String = (0..40)
            .map(|level| {
                let next = level + 1;
                format!(r##""a{level}":{{"properties":{{"x":{{"$ref":"#/$defs/a{next}"}},"y":{{"$ref":"#/$defs/a{next}"}}}}}},"##)
            })
            .collect();
        assert!(decides(&format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{doubling}"a40":{{}}}}}}"##)));
    }
}
