//! A file's text, from its descriptor: one way to write it whatever the author's, comments aside.
//!
//! At one level fields come first, then message types, enums, extensions. Names of types are as short as cannot be mistaken.
//! Options of extension ranges are left out: the descriptors keep no values for them.

use std::collections::HashSet;

use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto};
use protox::prost_reflect::{
    DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    ServiceDescriptor, Syntax, Value,
};

use super::literal::{literal, quoted};

/// The highest field number.
const NUMBER_MAX: i32 = 536_870_911;

pub(super) fn text(file: &FileDescriptor, normalized: bool) -> String {
    let mut printer = Printer {
        out: String::new(),
        depth: 0,
        symbols: symbols(file),
        package: file.package_name().to_owned(),
        proto3: file.syntax() == Syntax::Proto3,
        normalized,
    };
    printer.file(file);
    printer.out
}

struct Printer {
    out: String,
    depth: usize,
    /// Everything that has a name.
    symbols: HashSet<String>,
    package: String,
    proto3: bool,
    normalized: bool,
}

impl Printer {
    fn line(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn block(&mut self, head: &str, body: impl FnOnce(&mut Printer)) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
    }

    fn file(&mut self, file: &FileDescriptor) {
        let proto = file.file_descriptor_proto();
        self.line(if self.proto3 { "syntax = \"proto3\";" } else { "syntax = \"proto2\";" });
        if !self.package.is_empty() {
            let package = format!("package {};", self.package);
            self.line(&package);
        }
        let is = |list: &[i32], at: usize| i32::try_from(at).is_ok_and(|at| list.contains(&at));
        let imports = proto.dependency.iter().enumerate().map(|(at, import)| {
            let manner = match (is(&proto.public_dependency, at), is(&proto.weak_dependency, at)) {
                (true, _) => "public ",
                (_, true) => "weak ",
                _ => "",
            };
            format!("import {manner}{};", quoted(import.as_bytes(), false))
        });
        let mut imports: Vec<String> = imports.collect();
        if self.normalized {
            imports.sort();
        }
        if !imports.is_empty() {
            self.out.push('\n');
            imports.iter().for_each(|import| self.line(import));
        }
        let options = self.options(&file.options());
        if !options.is_empty() {
            self.out.push('\n');
            self.option_lines(&options);
        }
        for message in file.messages() {
            self.out.push('\n');
            self.message(&message);
        }
        for of in file.enums() {
            self.out.push('\n');
            self.enumeration(&of);
        }
        let extensions: Vec<ExtensionDescriptor> = file.extensions().collect();
        self.extensions(&extensions);
        for service in file.services() {
            self.out.push('\n');
            self.service(&service);
        }
    }

    fn message(&mut self, message: &MessageDescriptor) {
        self.block(&format!("message {}", message.name()), |printer| printer.body(message));
    }

    fn body(&mut self, message: &MessageDescriptor) {
        let proto = message.descriptor_proto();
        let options = self.options(&message.options());
        self.option_lines(&options);
        self.reserved(proto);
        let scope = message.full_name();
        // As they were written: the descriptor sorts them by number.
        let mut fields: Vec<FieldDescriptor> =
            proto.field.iter().filter_map(|field| message.get_field(number(field))).collect();
        if self.normalized {
            fields.sort_by_key(FieldDescriptor::number);
        }
        let mut told = HashSet::new();
        for field in &fields {
            match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                None => self.field(&Field::of(field), scope),
                Some(oneof) if told.insert(oneof.name().to_owned()) => {
                    self.block(&format!("oneof {}", oneof.name()), |printer| {
                        let options = printer.options(&oneof.options());
                        printer.option_lines(&options);
                        let members = fields.iter().filter(|field| field.containing_oneof().as_ref() == Some(&oneof));
                        members.for_each(|field| printer.field(&Field::of(field), scope));
                    });
                }
                Some(_) => {}
            }
        }
        let is_group = |inner: &MessageDescriptor| {
            let own = message.fields().any(|field| field.is_group() && field.kind().as_message() == Some(inner));
            own || message.child_extensions().any(|field| field.is_group() && field.kind().as_message() == Some(inner))
        };
        for inner in message.child_messages().filter(|inner| !inner.is_map_entry() && !is_group(inner)) {
            self.message(&inner);
        }
        for of in message.child_enums() {
            self.enumeration(&of);
        }
        for range in &proto.extension_range {
            let line = format!("extensions {};", span(range.start(), range.end() - 1, NUMBER_MAX));
            self.line(&line);
        }
        let extensions: Vec<ExtensionDescriptor> = message.child_extensions().collect();
        self.extensions(&extensions);
    }

    fn reserved(&mut self, proto: &DescriptorProto) {
        let mut ranges: Vec<(i32, i32)> =
            proto.reserved_range.iter().map(|range| (range.start(), range.end() - 1)).collect();
        let mut names = proto.reserved_name.clone();
        self.reserved_lines(&mut ranges, &mut names, NUMBER_MAX);
    }

    fn reserved_lines(&mut self, ranges: &mut [(i32, i32)], names: &mut [String], most: i32) {
        if self.normalized {
            ranges.sort_unstable();
            names.sort_unstable();
        }
        let ranges: Vec<String> = ranges.iter().map(|(start, end)| span(*start, *end, most)).collect();
        let names: Vec<String> = names.iter().map(|name| quoted(name.as_bytes(), false)).collect();
        for list in [ranges, names].iter().filter(|list| !list.is_empty()) {
            self.line(&format!("reserved {};", list.join(", ")));
        }
    }

    fn field(&mut self, field: &Field<'_>, scope: &str) {
        let mut options = Vec::new();
        if let Some(default) = &field.proto.default_value {
            let value = match field.proto.r#type() {
                Type::String => quoted(default.as_bytes(), false),
                // It is escaped as it is.
                Type::Bytes => format!("\"{default}\""),
                _ => default.clone(),
            };
            options.push(("default".to_owned(), value));
        }
        if let Some(json) = field.proto.json_name.as_ref().filter(|json| **json != camel(field.proto.name())) {
            options.push(("json_name".to_owned(), quoted(json.as_bytes(), false)));
        }
        options.extend(self.options(&field.options));
        let options = match options.is_empty() {
            true => String::new(),
            false => {
                let options: Vec<String> = options.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                format!(" [{}]", options.join(", "))
            }
        };
        let label = match field.proto.label() {
            Label::Repeated if field.is_map => "",
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if field.proto.proto3_optional() => "optional ",
            Label::Optional if self.proto3 || field.is_member => "",
            Label::Optional => "optional ",
        };
        let number = field.proto.number();
        if let (Type::Group, Kind::Message(group)) = (field.proto.r#type(), &field.kind) {
            let head = format!("{label}group {} = {number}{options}", group.name());
            return self.block(&head, |printer| printer.body(group));
        }
        let kind = match &field.kind {
            Kind::Message(entry) if field.is_map => {
                let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
                format!("map<{}, {}>", self.kind(&key, scope), self.kind(&value, scope))
            }
            kind => self.kind(kind, scope),
        };
        let line = format!("{label}{kind} {} = {number}{options};", field.proto.name());
        self.line(&line);
    }

    fn kind(&self, kind: &Kind, scope: &str) -> String {
        let name = match kind {
            Kind::Message(message) => return self.refer(message.full_name(), scope),
            Kind::Enum(of) => return self.refer(of.full_name(), scope),
            Kind::Double => "double",
            Kind::Float => "float",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Uint32 => "uint32",
            Kind::Uint64 => "uint64",
            Kind::Sint32 => "sint32",
            Kind::Sint64 => "sint64",
            Kind::Fixed32 => "fixed32",
            Kind::Fixed64 => "fixed64",
            Kind::Sfixed32 => "sfixed32",
            Kind::Sfixed64 => "sfixed64",
            Kind::Bool => "bool",
            Kind::String => "string",
            Kind::Bytes => "bytes",
        };
        name.to_owned()
    }

    /// A type's name where it is used: without the package or without the leading dot, unless something between here and there
    /// has a name that a reader would take for its beginning.
    fn refer(&self, target: &str, scope: &str) -> String {
        let clear = |name: &str, root: &str| {
            let first = name.split('.').next().unwrap_or(name);
            let mut scope = scope;
            while scope.len() > root.len() {
                if self.symbols.contains(&format!("{scope}.{first}")) {
                    return false;
                }
                scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
            }
            true
        };
        let local = target.strip_prefix(&self.package).and_then(|name| name.strip_prefix('.'));
        match local.filter(|_| !self.package.is_empty()) {
            Some(local) if clear(local, &self.package) => local.to_owned(),
            _ if clear(target, "") => target.to_owned(),
            _ => format!(".{target}"),
        }
    }

    fn enumeration(&mut self, of: &EnumDescriptor) {
        self.block(&format!("enum {}", of.name()), |printer| {
            let proto = of.enum_descriptor_proto();
            let options = printer.options(&of.options());
            printer.option_lines(&options);
            let mut ranges: Vec<(i32, i32)> =
                proto.reserved_range.iter().map(|range| (range.start(), range.end())).collect();
            printer.reserved_lines(&mut ranges, &mut proto.reserved_name.clone(), i32::MAX);
            let options = |name: &str| of.get_value_by_name(name).map(|value| value.options());
            let mut values: Vec<(&str, i32)> = proto.value.iter().map(|value| (value.name(), value.number())).collect();
            // The first is the default.
            if printer.normalized
                && let Some((_, rest)) = values.split_first_mut()
            {
                rest.sort_by_key(|(name, number)| (*number, *name));
            }
            for (name, number) in values {
                let options = options(name).map(|options| printer.options(&options)).unwrap_or_default();
                let options: Vec<String> = options.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                match options.is_empty() {
                    true => printer.line(&format!("{name} = {number};")),
                    false => printer.line(&format!("{name} = {number} [{}];", options.join(", "))),
                }
            }
        });
    }

    /// Fields of other messages, those of one message together where they follow each other.
    fn extensions(&mut self, extensions: &[ExtensionDescriptor]) {
        for chunk in extensions.chunk_by(|one, other| one.containing_message() == other.containing_message()) {
            let [first, ..] = chunk else { continue };
            let scope = first.parent_message().map_or_else(|| self.package.clone(), |of| of.full_name().to_owned());
            if self.depth == 0 {
                self.out.push('\n');
            }
            let extended = self.refer(first.containing_message().full_name(), &scope);
            self.block(&format!("extend {extended}"), |printer| {
                chunk.iter().for_each(|field| printer.field(&Field::of_extension(field), &scope));
            });
        }
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.block(&format!("service {}", service.name()), |printer| {
            let options = printer.options(&service.options());
            printer.option_lines(&options);
            for method in service.methods() {
                let side = |stream: bool, message: MessageDescriptor| {
                    let name = printer.refer(message.full_name(), service.full_name());
                    if stream { format!("stream {name}") } else { name }
                };
                let head = format!(
                    "rpc {} ({}) returns ({})",
                    method.name(),
                    side(method.is_client_streaming(), method.input()),
                    side(method.is_server_streaming(), method.output())
                );
                let options = printer.options(&method.options());
                match options.is_empty() {
                    true => printer.line(&format!("{head};")),
                    false => printer.block(&head, |printer| printer.option_lines(&options)),
                }
            }
        });
    }

    /// Names and values of what is set; one that repeats, as often.
    fn options(&self, options: &DynamicMessage) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: String, value: &Value, kind: &Kind| match value {
            Value::List(values) => all.extend(values.iter().map(|value| (name.clone(), literal(value, kind)))),
            value => all.push((name, literal(value, kind))),
        };
        for (field, value) in options.fields().filter(|(field, _)| field.name() != "map_entry") {
            add(field.name().to_owned(), value, &field.kind());
        }
        for (field, value) in options.extensions() {
            add(format!("(.{})", field.full_name()), value, &field.kind());
        }
        if self.normalized {
            // Values of one name keep their order.
            all.sort_by(|one, other| one.0.cmp(&other.0));
        }
        all
    }

    fn option_lines(&mut self, options: &[(String, String)]) {
        for (name, value) in options {
            self.line(&format!("option {name} = {value};"));
        }
    }
}

/// A field or an extension.
struct Field<'a> {
    proto: &'a FieldDescriptorProto,
    kind: Kind,
    is_map: bool,
    /// Of a oneof.
    is_member: bool,
    options: DynamicMessage,
}

impl<'a> Field<'a> {
    fn of(field: &'a FieldDescriptor) -> Field<'a> {
        Field {
            proto: field.field_descriptor_proto(),
            kind: field.kind(),
            is_map: field.is_map(),
            is_member: field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()),
            options: field.options(),
        }
    }

    fn of_extension(field: &'a ExtensionDescriptor) -> Field<'a> {
        Field {
            proto: field.field_descriptor_proto(),
            kind: field.kind(),
            is_map: false,
            is_member: false,
            options: field.options(),
        }
    }
}

fn number(field: &FieldDescriptorProto) -> u32 {
    u32::try_from(field.number()).unwrap_or(0)
}

fn span(start: i32, end: i32, most: i32) -> String {
    match end {
        end if end == start => start.to_string(),
        end if end == most => format!("{start} to max"),
        end => format!("{start} to {end}"),
    }
}

/// The JSON name a field has if it is given none.
fn camel(name: &str) -> String {
    let mut upper = false;
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        if character == '_' {
            upper = true;
            continue;
        }
        out.push(if upper { character.to_ascii_uppercase() } else { character });
        upper = false;
    }
    out
}

/// The names that a reader finds when it looks for the beginning of another.
fn symbols(file: &FileDescriptor) -> HashSet<String> {
    let mut symbols = HashSet::new();
    let pool = file.parent_pool();
    for file in pool.files() {
        let mut package = file.package_name();
        while !package.is_empty() {
            symbols.insert(package.to_owned());
            package = package.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }
    for message in pool.all_messages() {
        symbols.insert(message.full_name().to_owned());
        symbols.extend(message.fields().map(|field| field.full_name().to_owned()));
        symbols.extend(message.oneofs().map(|oneof| oneof.full_name().to_owned()));
    }
    for of in pool.all_enums() {
        symbols.insert(of.full_name().to_owned());
        symbols.extend(of.values().map(|value| value.full_name().to_owned()));
    }
    symbols.extend(pool.all_extensions().map(|field| field.full_name().to_owned()));
    for service in pool.services() {
        symbols.insert(service.full_name().to_owned());
        symbols.extend(service.methods().map(|method| method.full_name().to_owned()));
    }
    symbols
}
