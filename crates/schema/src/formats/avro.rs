//! Avro schemas, read as the specification (1.12) has them: names and namespaces, aliases, defaults, unions, recursion.
//! Logical types are attributes like any other.

use std::collections::{HashMap, HashSet};

use super::{NamedSchema, Node, SchemaError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

#[derive(Debug, Clone)]
pub(crate) enum Type {
    Primitive(Primitive),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// Index into [`Avro::named`].
    Named(usize),
}

#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Full names.
    pub(crate) aliases: Vec<String>,
    pub(crate) kind: Kind,
}

impl Named {
    pub(crate) fn full(&self) -> String {
        full(&self.namespace, &self.name)
    }
}

#[derive(Debug)]
pub(crate) enum Kind {
    Record(Vec<Field>),
    Enum { symbols: Vec<String>, default: Option<String> },
    Fixed(usize),
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) schema: Type,
    pub(crate) default: Option<Node>,
}

#[derive(Debug)]
pub(crate) struct Avro {
    pub(crate) root: Type,
    pub(crate) named: Vec<Named>,
    text: Node,
}

impl Avro {
    pub(crate) fn parse(text: &str, references: &[NamedSchema]) -> Result<Avro, SchemaError> {
        let mut parser = Parser { named: Vec::new(), index: HashMap::new() };
        for reference in references {
            parser
                .read(&reference.text)
                .map_err(|error| SchemaError::Reference { name: reference.name.clone(), error: Box::new(error) })?;
        }
        let (root, text) = parser.read(text)?;
        let avro = Avro { root, named: parser.named, text };
        if let Some(endless) = avro.endless() {
            return Err(SchemaError::Endless(avro.named[endless].full()));
        }
        avro.check_defaults()?;
        Ok(avro)
    }

    pub(crate) fn text(&self) -> &Node {
        &self.text
    }

    /// Undefined attributes stand behind the defined ones, in order.
    pub(crate) fn normalized(&self) -> Node {
        normalized(&self.text)
    }

    /// A record that has no finite value. Those that have one are found from the leaves up.
    fn endless(&self) -> Option<usize> {
        let mut finite = vec![false; self.named.len()];
        loop {
            let mut moved = false;
            for at in 0..self.named.len() {
                if !finite[at] && self.ends(at, &finite) {
                    finite[at] = true;
                    moved = true;
                }
            }
            if !moved {
                return finite.iter().position(|finite| !finite);
            }
        }
    }

    fn ends(&self, at: usize, finite: &[bool]) -> bool {
        fn of(schema: &Type, finite: &[bool]) -> bool {
            match schema {
                Type::Union(branches) => branches.iter().any(|branch| of(branch, finite)),
                Type::Named(at) => finite[*at],
                _ => true,
            }
        }
        match &self.named[at].kind {
            Kind::Record(fields) => fields.iter().all(|field| of(&field.schema, finite)),
            _ => true,
        }
    }

    fn check_defaults(&self) -> Result<(), SchemaError> {
        // A default can leave fields to their defaults, and those can double.
        let mut budget = DEFAULT_STEPS_MAX;
        for named in &self.named {
            let Kind::Record(fields) = &named.kind else { continue };
            for field in fields {
                let Some(default) = &field.default else { continue };
                if !self.takes(&field.schema, default, &mut budget) {
                    let (field, record) = (&field.name, named.full());
                    return Err(invalid(format!(
                        "the default {default} of field {field:?} of {record:?} is not of its type"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whether a default's JSON is of a type. The default of a union is of any of its branches.
    fn takes(&self, schema: &Type, value: &Node, budget: &mut u32) -> bool {
        let Some(left) = budget.checked_sub(1) else { return false };
        *budget = left;
        match (schema, value) {
            (Type::Primitive(primitive), value) => takes_primitive(*primitive, value),
            (Type::Array(items), Node::List(values)) => values.iter().all(|value| self.takes(items, value, budget)),
            (Type::Map(values), Node::Map(entries)) => {
                entries.iter().all(|(_, value)| self.takes(values, value, budget))
            }
            (Type::Union(branches), value) => branches.iter().any(|branch| self.takes(branch, value, budget)),
            (Type::Named(at), value) => match (&self.named[*at].kind, value) {
                (Kind::Enum { symbols, .. }, Node::Text(symbol)) => symbols.contains(symbol),
                (Kind::Fixed(size), Node::Text(text)) => is_bytes(text) && text.chars().count() == *size,
                // Fields that the default leaves out need a default of their own, which is checked where it stands.
                (Kind::Record(fields), Node::Map(_)) => fields.iter().all(|field| match value.get(&field.name) {
                    Some(value) => self.takes(&field.schema, value, budget),
                    None => field.default.is_some(),
                }),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Steps to check all defaults of a schema.
const DEFAULT_STEPS_MAX: u32 = 1_000_000;

fn takes_primitive(primitive: Primitive, value: &Node) -> bool {
    match (primitive, value) {
        (Primitive::Null, Node::Null)
        | (Primitive::Boolean, Node::Bool(_))
        | (Primitive::String, Node::Text(_))
        | (Primitive::Float | Primitive::Double, Node::Number(_)) => true,
        (Primitive::Int, Node::Number(number)) => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        (Primitive::Long, Node::Number(number)) => number.as_i64().is_some(),
        (Primitive::Bytes, Node::Text(text)) => is_bytes(text),
        _ => false,
    }
}

/// Bytes are written as the characters U+0000 to U+00FF.
fn is_bytes(text: &str) -> bool {
    text.chars().all(|character| u32::from(character) <= 0xff)
}

struct Parser {
    named: Vec<Named>,
    /// By full name.
    index: HashMap<String, usize>,
}

const SCHEMA_WORDS: [&str; 11] =
    ["type", "name", "namespace", "doc", "fields", "symbols", "size", "items", "values", "aliases", "default"];
const FIELD_WORDS: [&str; 6] = ["name", "type", "doc", "default", "order", "aliases"];

type Entries = Vec<(String, Node)>;

impl Parser {
    fn read(&mut self, text: &str) -> Result<(Type, Node), SchemaError> {
        // A registry's clients also send a primitive's bare name.
        let node = match primitive(text.trim()) {
            Some(_) => Node::text(text.trim()),
            None => serde_json::from_str(text).map_err(|error| SchemaError::Json(error.to_string()))?,
        };
        self.schema(&node, "")
    }

    /// The type that `node` describes within `space`, and its text.
    fn schema(&mut self, node: &Node, space: &str) -> Result<(Type, Node), SchemaError> {
        match node {
            Node::Text(name) => self.name(name, space),
            Node::List(branches) => self.union(branches, space),
            Node::Map(entries) => self.object(node, entries, space),
            other => Err(invalid(format!("{other} is no type; use a name, an object or an array"))),
        }
    }

    fn name(&self, name: &str, space: &str) -> Result<(Type, Node), SchemaError> {
        if let Some(primitive) = primitive(name) {
            return Ok((Type::Primitive(primitive), Node::text(name)));
        }
        let near = if name.contains('.') { name.to_owned() } else { full(space, name) };
        let at = self.index.get(&near).or_else(|| self.index.get(name));
        let at = *at.ok_or(SchemaError::UnknownName(near))?;
        let named = &self.named[at];
        let written = if named.namespace == space { named.name.clone() } else { named.full() };
        Ok((Type::Named(at), Node::text(written)))
    }

    fn union(&mut self, branches: &[Node], space: &str) -> Result<(Type, Node), SchemaError> {
        let (mut types, mut texts, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for branch in branches {
            let (schema, text) = self.schema(branch, space)?;
            let name = match &schema {
                Type::Union(_) => return Err(invalid("a union directly contains a union".to_owned())),
                Type::Primitive(primitive) => format!("{primitive:?}").to_lowercase(),
                Type::Array(_) => "array".to_owned(),
                Type::Map(_) => "map".to_owned(),
                Type::Named(at) => self.named[*at].full(),
            };
            if seen.contains(&name) {
                return Err(invalid(format!("a union contains {name:?} twice")));
            }
            seen.insert(name);
            types.push(schema);
            texts.push(text);
        }
        Ok((Type::Union(types), Node::List(texts)))
    }

    fn object(&mut self, node: &Node, entries: &Entries, space: &str) -> Result<(Type, Node), SchemaError> {
        let kind = match node.get("type") {
            Some(Node::Text(kind)) => kind.as_str(),
            // {"type": {…}} is what it contains.
            Some(inner) => return self.schema(inner, space),
            None => return Err(invalid("a type has no attribute \"type\"".to_owned())),
        };
        let mut text = vec![("type".to_owned(), Node::text(kind))];
        let schema = match kind {
            "array" | "map" => {
                let attribute = if kind == "array" { "items" } else { "values" };
                let inner =
                    node.get(attribute).ok_or_else(|| invalid(format!("a type {kind:?} has no {attribute:?}")))?;
                let (inner, inner_text) = self.schema(inner, space)?;
                text.push((attribute.to_owned(), inner_text));
                if kind == "array" { Type::Array(Box::new(inner)) } else { Type::Map(Box::new(inner)) }
            }
            "record" | "error" | "enum" | "fixed" => self.definition(node, kind, space, &mut text)?,
            name => {
                let (schema, written) = self.name(name, space)?;
                let others = entries.iter().any(|(key, _)| !SCHEMA_WORDS.contains(&key.as_str()));
                if matches!(schema, Type::Named(_)) || !others {
                    return Ok((schema, written));
                }
                schema
            }
        };
        // "default" is Avro's own only in an enum.
        let own = |key: &str| SCHEMA_WORDS.contains(&key) && (key != "default" || kind == "enum");
        text.extend(entries.iter().filter(|(key, _)| !own(key)).cloned());
        if let Type::Named(at) = schema {
            push_aliases(&mut text, &self.named[at]);
        }
        Ok((schema, Node::Map(text)))
    }

    fn definition(&mut self, node: &Node, kind: &str, space: &str, text: &mut Entries) -> Result<Type, SchemaError> {
        let written = node.get("name").and_then(Node::as_text);
        let written = written.ok_or_else(|| invalid(format!("a type {kind:?} has no \"name\"")))?;
        let (namespace, name) = match written.rsplit_once('.') {
            Some((namespace, name)) => (namespace, name),
            None => (node.get("namespace").and_then(Node::as_text).unwrap_or(space), written),
        };
        check_name(name)?;
        if !namespace.is_empty() {
            namespace.split('.').try_for_each(check_name)?;
        }
        if primitive(name).is_some() && namespace.is_empty() {
            return Err(invalid(format!("{name:?} is the name of a primitive type")));
        }
        let aliases = texts(node, "aliases")?;
        let aliases = aliases
            .into_iter()
            .map(|alias| if alias.contains('.') { alias } else { full(namespace, &alias) })
            .collect();
        let at = self.named.len();
        if self.index.insert(full(namespace, name), at).is_some() {
            return Err(invalid(format!("{:?} is defined twice", full(namespace, name))));
        }
        text.push(("name".to_owned(), Node::text(name)));
        if namespace != space {
            text.push(("namespace".to_owned(), Node::text(namespace)));
        }
        push_doc(text, node);
        // A record's fields may name it.
        let empty = Kind::Record(Vec::new());
        self.named.push(Named { name: name.to_owned(), namespace: namespace.to_owned(), aliases, kind: empty });
        self.named[at].kind = match kind {
            "enum" => enumeration(node, text)?,
            "fixed" => {
                let Some(Node::Number(size)) = node.get("size") else {
                    return Err(invalid(format!("the fixed {written:?} has no \"size\"")));
                };
                let bytes = size.as_u64().and_then(|size| i32::try_from(size).ok());
                let bytes = bytes.ok_or_else(|| invalid(format!("the size {size} of {written:?} is no size")))?;
                text.push(("size".to_owned(), Node::Number(size.clone())));
                Kind::Fixed(bytes as usize)
            }
            _ => Kind::Record(self.fields(node, written, namespace, text)?),
        };
        Ok(Type::Named(at))
    }

    fn fields(&mut self, node: &Node, of: &str, space: &str, text: &mut Entries) -> Result<Vec<Field>, SchemaError> {
        let Some(Node::List(nodes)) = node.get("fields") else {
            return Err(invalid(format!("the record {of:?} has no \"fields\"")));
        };
        let (mut fields, mut written, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for node in nodes {
            let name = node.get("name").and_then(Node::as_text);
            let name = name.ok_or_else(|| invalid(format!("a field of {of:?} has no \"name\"")))?;
            check_name(name)?;
            if !seen.insert(name) {
                return Err(invalid(format!("the record {of:?} has two fields {name:?}")));
            }
            let schema =
                node.get("type").ok_or_else(|| invalid(format!("the field {name:?} of {of:?} has no \"type\"")))?;
            let (schema, schema_text) = self.schema(schema, space)?;
            let mut entry = vec![("name".to_owned(), Node::text(name)), ("type".to_owned(), schema_text)];
            push_doc(&mut entry, node);
            let default = node.get("default").cloned();
            entry.extend(default.clone().map(|default| ("default".to_owned(), default)));
            match node.get("order").map(|order| (order, order.as_text())) {
                None | Some((_, Some("ascending"))) => {}
                Some((order, Some("descending" | "ignore"))) => entry.push(("order".to_owned(), order.clone())),
                Some((order, _)) => return Err(invalid(format!("{order} is no order"))),
            }
            let aliases = texts(node, "aliases")?;
            if !aliases.is_empty() {
                let aliases = aliases.iter().map(Node::text).collect();
                entry.push(("aliases".to_owned(), Node::List(aliases)));
            }
            if let Node::Map(entries) = node {
                entry.extend(entries.iter().filter(|(key, _)| !FIELD_WORDS.contains(&key.as_str())).cloned());
            }
            written.push(Node::Map(entry));
            fields.push(Field { name: name.to_owned(), aliases, schema, default });
        }
        text.push(("fields".to_owned(), Node::List(written)));
        Ok(fields)
    }
}

fn enumeration(node: &Node, text: &mut Entries) -> Result<Kind, SchemaError> {
    let symbols = texts(node, "symbols")?;
    let mut seen = HashSet::new();
    for symbol in &symbols {
        check_name(symbol)?;
        if !seen.insert(symbol) {
            return Err(invalid(format!("an enum has the symbol {symbol:?} twice")));
        }
    }
    text.push(("symbols".to_owned(), Node::List(symbols.iter().map(Node::text).collect())));
    let default = match node.get("default") {
        None => None,
        Some(default) => {
            let known = default.as_text().filter(|default| symbols.iter().any(|symbol| symbol == default));
            text.push(("default".to_owned(), default.clone()));
            Some(
                known
                    .ok_or_else(|| invalid(format!("the default {default} of an enum is none of its symbols")))?
                    .to_owned(),
            )
        }
    };
    Ok(Kind::Enum { symbols, default })
}

/// An attribute that is a list of strings, or absent.
fn texts(node: &Node, attribute: &str) -> Result<Vec<String>, SchemaError> {
    let wrong = || invalid(format!("{attribute:?} is not an array of strings"));
    match node.get(attribute) {
        None if attribute != "symbols" => Ok(Vec::new()),
        Some(Node::List(items)) => {
            items.iter().map(|item| item.as_text().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn push_doc(text: &mut Entries, node: &Node) {
    if let Some(doc @ Node::Text(_)) = node.get("doc") {
        text.push(("doc".to_owned(), doc.clone()));
    }
}

fn push_aliases(text: &mut Entries, named: &Named) {
    if named.aliases.is_empty() {
        return;
    }
    let near = |alias: &String| match alias.rsplit_once('.') {
        Some((namespace, name)) if namespace == named.namespace => Node::text(name),
        _ => Node::text(alias.clone()),
    };
    text.push(("aliases".to_owned(), Node::List(named.aliases.iter().map(near).collect())));
}

fn normalized(node: &Node) -> Node {
    let Node::Map(entries) = node else {
        return match node {
            Node::List(items) => Node::List(items.iter().map(normalized).collect()),
            leaf => leaf.clone(),
        };
    };
    let mut entries: Entries = entries
        .iter()
        .map(|(key, value)| match key.as_str() {
            "type" | "fields" | "items" | "values" => (key.clone(), normalized(value)),
            _ => (key.clone(), value.sorted()),
        })
        .collect();
    let own = |key: &str| SCHEMA_WORDS.contains(&key) || FIELD_WORDS.contains(&key);
    entries.sort_by(|(one, _), (other, _)| match (own(one), own(other)) {
        (false, false) => one.cmp(other),
        (one, other) => other.cmp(&one),
    });
    Node::Map(entries)
}

fn primitive(name: &str) -> Option<Primitive> {
    Some(match name {
        "null" => Primitive::Null,
        "boolean" => Primitive::Boolean,
        "int" => Primitive::Int,
        "long" => Primitive::Long,
        "float" => Primitive::Float,
        "double" => Primitive::Double,
        "bytes" => Primitive::Bytes,
        "string" => Primitive::String,
        _ => return None,
    })
}

fn full(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn check_name(name: &str) -> Result<(), SchemaError> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic());
    if first && characters.all(|character| character == '_' || character.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(invalid(format!("{name:?} is no name; use letters, digits and _, beginning with no digit")))
}

fn invalid(what: String) -> SchemaError {
    SchemaError::Invalid(what)
}
