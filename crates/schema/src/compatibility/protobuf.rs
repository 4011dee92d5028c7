//! Protobuf by Confluent's documented rules, which are those of the wire: fields are known by their numbers, message types by
//! their names without the package, and enums are numbers.

use std::collections::{HashSet, VecDeque};

use protox::prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use super::Incompatibility;
use crate::formats::protobuf::{Protobuf, by_relative_name, relative_name};

/// Obstacles that are told.
const TOLD_MAX: usize = 64;

pub(super) fn incompatibilities(reader: &Protobuf, writer: &Protobuf) -> Vec<Incompatibility> {
    let mut found = Vec::new();
    let (mine, theirs) = (by_relative_name(&reader.file), by_relative_name(&writer.file));
    let mut pending = VecDeque::new();
    for (name, message) in &theirs {
        // It may have moved to a file that is imported.
        let elsewhere = || reader.file.parent_pool().get_message_by_name(message.full_name());
        match mine.get(name).cloned().or_else(elsewhere) {
            Some(own) => pending.push_back((own, message.clone())),
            None => found.push(obstacle("MESSAGE_REMOVED", format!("#/{}", name.replace('.', "/")), String::new())),
        }
    }
    let mut met = HashSet::new();
    while let Some((mine, theirs)) = pending.pop_front() {
        if met.insert((mine.full_name().to_owned(), theirs.full_name().to_owned())) && found.len() < TOLD_MAX {
            messages(&mine, &theirs, &mut found, &mut pending);
        }
    }
    found.truncate(TOLD_MAX);
    found
}

type Pending = VecDeque<(MessageDescriptor, MessageDescriptor)>;

fn messages(
    mine: &MessageDescriptor,
    theirs: &MessageDescriptor,
    found: &mut Vec<Incompatibility>,
    pending: &mut Pending,
) {
    let place = format!("#/{}", relative_name(mine).replace('.', "/"));
    let path = |what: &dyn std::fmt::Display| format!("{place}/{what}");
    let is_required = |field: &FieldDescriptor| field.cardinality() == Cardinality::Required;
    for field in theirs.fields() {
        match mine.get_field(field.number()) {
            Some(own) => {
                if is_required(&own) && !is_required(&field) {
                    found.push(obstacle("REQUIRED_FIELD_ADDED", path(&field.number()), own.name().to_owned()));
                }
                if let Some((kind, detail)) = fields(&own, &field, pending) {
                    found.push(obstacle(kind, path(&field.number()), detail));
                }
            }
            None if is_required(&field) => {
                found.push(obstacle("REQUIRED_FIELD_REMOVED", path(&field.number()), field.name().to_owned()));
            }
            None => {}
        }
    }
    for field in mine.fields().filter(|field| is_required(field) && theirs.get_field(field.number()).is_none()) {
        found.push(obstacle("REQUIRED_FIELD_ADDED", path(&field.number()), field.name().to_owned()));
    }
    for oneof in theirs.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        if !mine.oneofs().any(|own| !own.is_synthetic() && own.name() == oneof.name()) {
            continue;
        }
        for field in oneof.fields() {
            let left = mine.get_field(field.number()).is_none_or(|own| of_oneof(&own).is_none());
            if left {
                let kind = "ONEOF_FIELD_REMOVED";
                found.push(obstacle(
                    kind,
                    path(&format!("{}/{}", oneof.name(), field.number())),
                    field.name().to_owned(),
                ));
            }
        }
    }
    for oneof in mine.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        found.extend(gathered(&oneof, theirs, path(&oneof.name())));
    }
}

/// Fields that the reader holds one of only, but the writer may write together.
fn gathered(oneof: &OneofDescriptor, theirs: &MessageDescriptor, path: String) -> Option<Incompatibility> {
    let known: Vec<FieldDescriptor> = oneof.fields().filter_map(|field| theirs.get_field(field.number())).collect();
    let sources: HashSet<String> = known.iter().filter_map(of_oneof).collect();
    let moved: Vec<&str> = known.iter().filter(|field| of_oneof(field).is_none()).map(FieldDescriptor::name).collect();
    let existed = theirs.oneofs().any(|other| !other.is_synthetic() && other.name() == oneof.name());
    let kind = match (moved.len(), sources.len()) {
        (0, 0 | 1) => return None,
        (1, 0) if !existed => return None,
        (1, _) => "FIELD_MOVED_TO_EXISTING_ONEOF",
        _ => "MULTIPLE_FIELDS_MOVED_TO_ONEOF",
    };
    let names: Vec<&str> = known.iter().map(FieldDescriptor::name).collect();
    let names = if moved.is_empty() { names } else { moved };
    Some(obstacle(kind, path, names.join(", ")))
}

fn of_oneof(field: &FieldDescriptor) -> Option<String> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic()).map(|oneof| oneof.name().to_owned())
}

fn fields(mine: &FieldDescriptor, theirs: &FieldDescriptor, pending: &mut Pending) -> Option<(&'static str, String)> {
    let (own, other) = (mine.kind(), theirs.kind());
    let changed = || format!("reader: {}, writer: {}", kind_name(&own), kind_name(&other));
    match (&own, &other) {
        (Kind::Message(own), Kind::Message(other)) => {
            if mine.is_group() != theirs.is_group() {
                return Some(("FIELD_KIND_CHANGED", "a group and a message".to_owned()));
            }
            // A map is a list of its entries.
            if !own.is_map_entry() && !other.is_map_entry() && relative_name(own) != relative_name(other) {
                return Some(("FIELD_NAMED_TYPE_CHANGED", changed()));
            }
            pending.push_back((own.clone(), other.clone()));
            None
        }
        (Kind::Message(_), _) | (_, Kind::Message(_)) => Some(("FIELD_KIND_CHANGED", changed())),
        _ if encoding(&own) != encoding(&other) => Some(("FIELD_SCALAR_KIND_CHANGED", changed())),
        // Of texts, the last of many counts; numbers are packed.
        _ if mine.is_list() != theirs.is_list() && encoding(&own) != Encoding::Text => {
            let (own, other) = (mine.is_list(), theirs.is_list());
            Some(("FIELD_NUMERIC_LABEL_CHANGED", format!("repeated: reader: {own}, writer: {other}")))
        }
        _ => None,
    }
}

/// What can be read as one another.
#[derive(PartialEq)]
enum Encoding {
    Number,
    Signed,
    Fixed32,
    Fixed64,
    Float,
    Double,
    Text,
    Message,
}

fn encoding(kind: &Kind) -> Encoding {
    match kind {
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool | Kind::Enum(_) => Encoding::Number,
        Kind::Sint32 | Kind::Sint64 => Encoding::Signed,
        Kind::Fixed32 | Kind::Sfixed32 => Encoding::Fixed32,
        Kind::Fixed64 | Kind::Sfixed64 => Encoding::Fixed64,
        Kind::Float => Encoding::Float,
        Kind::Double => Encoding::Double,
        Kind::String | Kind::Bytes => Encoding::Text,
        Kind::Message(_) => Encoding::Message,
    }
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn obstacle(kind: &str, path: String, detail: String) -> Incompatibility {
    let what = match kind {
        "MESSAGE_REMOVED" => "The reader has no message type of that name",
        "REQUIRED_FIELD_ADDED" => "The reader requires a field that the writer may leave out",
        "REQUIRED_FIELD_REMOVED" => "The reader does not have a field that the writer requires",
        "FIELD_KIND_CHANGED" => "A message is read as something else, or something else as a message",
        "FIELD_SCALAR_KIND_CHANGED" => "The field's type is encoded in another way",
        "FIELD_NAMED_TYPE_CHANGED" => "The field is of another message type",
        "FIELD_NUMERIC_LABEL_CHANGED" => "A number is repeated for one of the two only",
        "ONEOF_FIELD_REMOVED" => "The reader's oneof lacks a field of the writer's",
        "FIELD_MOVED_TO_EXISTING_ONEOF" => "A field that stood by itself is of a oneof that had others",
        _ => "Several fields that could be written together are of one oneof",
    };
    Incompatibility { kind: kind.to_owned(), message: format!("{what}, at path '{path}'"), path, detail }
}
