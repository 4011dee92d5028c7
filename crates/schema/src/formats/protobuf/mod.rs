//! Protobuf schemas: a `.proto` file, proto2 or proto3, and the files that it imports; or a serialized `FileDescriptorProto` in
//! base64, as Python's client registers it.
//!
//! `print` writes the text a registry keeps, `known` has what may be imported without being registered, `wire` checks payloads,
//! `json` shows and reads them as JSON.

mod json;
mod known;
mod literal;
mod print;
mod wire;

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protox::file::{File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::{FileDescriptor, MessageDescriptor};

use super::{NamedSchema, SchemaError};
use crate::Reason;

/// The field of a `FileDescriptorProto` that says what stood where in the text.
const SOURCE_INFO: u64 = 9;
/// Braces within one another, in options; messages have a bound of their own.
const DEPTH_MAX: usize = 64;
/// Of what a parser says.
const MESSAGE_BYTES_MAX: usize = 512;

#[derive(Debug)]
pub(crate) struct Protobuf {
    pub(crate) file: FileDescriptor,
}

impl Protobuf {
    pub(crate) fn parse(text: &str, references: &[NamedSchema]) -> Result<Protobuf, SchemaError> {
        // Imports come before those that import them.
        let mut files = Files { sources: HashMap::new(), known: GoogleFileResolver::new() };
        for reference in references {
            let source = Source::read(&reference.name, &reference.text, &files)
                .map_err(|error| SchemaError::Reference { name: reference.name.clone(), error: Box::new(error) })?;
            files.sources.insert(reference.name.clone(), source);
        }
        let mut name = "schema.proto".to_owned();
        while files.sources.contains_key(&name) {
            name.insert(0, '_');
        }
        let root = Source::read(&name, text, &files)?;
        files.sources.insert(name.clone(), root);
        let mut compiler = protox::Compiler::with_file_resolver(files);
        for reference in references {
            compiler.open_file(&reference.name).map_err(|error| SchemaError::Reference {
                name: reference.name.clone(),
                error: Box::new(invalid(&error)),
            })?;
        }
        compiler.open_file(&name).map_err(|error| invalid(&error))?;
        let file = compiler.descriptor_pool().get_file_by_name(&name);
        Ok(Protobuf { file: file.ok_or_else(|| SchemaError::Invalid("it holds no file".to_owned()))? })
    }

    pub(crate) fn text(&self) -> String {
        print::text(&self.file, false)
    }

    /// With fields, imports and options in order. Messages stay where they are: clients count them.
    pub(crate) fn normalized(&self) -> String {
        print::text(&self.file, true)
    }

    pub(crate) fn serialized(&self) -> String {
        STANDARD.encode(wire::without(&self.file.encode_to_vec(), SOURCE_INFO))
    }

    /// The message types that a client may mean: where a message holds maps, some count the types of their entries among its
    /// types and some do not.
    fn messages_at(&self, path: &[usize]) -> Vec<MessageDescriptor> {
        let find = |entries: bool| {
            let (first, rest) = path.split_first()?;
            let mut found = self.file.messages().nth(*first)?;
            for index in rest {
                let inner = found.child_messages().filter(|message| entries || !message.is_map_entry()).nth(*index);
                found = inner?;
            }
            (!found.is_map_entry()).then_some(found)
        };
        let mut found: Vec<MessageDescriptor> = find(false).into_iter().collect();
        found.extend(find(true).filter(|other| !found.contains(other)));
        found
    }

    pub(crate) fn message_name(&self, path: &[usize]) -> Option<String> {
        self.messages_at(path).first().map(|message| message.full_name().to_owned())
    }

    pub(crate) fn message_path(&self, name: &str) -> Option<Vec<usize>> {
        let mut message = self.file.parent_pool().get_message_by_name(name)?;
        if message.parent_file() != self.file || message.is_map_entry() {
            return None;
        }
        let mut path = Vec::new();
        while let Some(parent) = message.parent_message() {
            let index =
                parent.child_messages().filter(|inner| !inner.is_map_entry()).position(|other| other == message);
            path.push(index?);
            message = parent;
        }
        path.push(self.file.messages().position(|other| other == message)?);
        path.reverse();
        Some(path)
    }

    /// The message type that a file is taken for where nobody says which: its first.
    pub(crate) fn first(&self) -> Option<MessageDescriptor> {
        self.file.messages().next()
    }

    pub(crate) fn to_json(&self, path: &[usize], payload: &[u8], bytes_max: usize) -> Result<String, Reason> {
        let mut found = Err(Reason::whole("type", format!("the schema has no message type at {path:?}")));
        for message in self.messages_at(path) {
            found = wire::check(&message, payload).and_then(|()| json::to_json(&message, payload, bytes_max));
            if found.is_ok() {
                break;
            }
        }
        found
    }

    /// Appends a message of the first type.
    pub(crate) fn encode_json(&self, json: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
        let first = self.first().ok_or_else(|| Reason::whole("type", "the schema has no message type"))?;
        let start = out.len();
        json::from_json(&first, json, out)?;
        // JSON may leave out what is required.
        wire::check(&first, &out[start..])
    }

    pub(crate) fn check(&self, path: &[usize], payload: &[u8]) -> Result<(), Reason> {
        let mut found = Err(Reason::whole("type", format!("the schema has no message type at {path:?}")));
        for message in self.messages_at(path) {
            found = wire::check(&message, payload);
            if found.is_ok() {
                break;
            }
        }
        found
    }
}

/// A file as it was registered.
enum Source {
    Text(String),
    Descriptor(Vec<u8>),
}

impl Source {
    fn read(name: &str, text: &str, files: &Files) -> Result<Source, SchemaError> {
        let source = match STANDARD.decode(text.trim()) {
            Ok(mut bytes) => {
                // The last of two names counts.
                let mut length = name.len();
                bytes.push(0x0a);
                while length >= 0x80 {
                    bytes.push(length as u8 | 0x80);
                    length >>= 7;
                }
                bytes.push(length as u8);
                bytes.extend_from_slice(name.as_bytes());
                Source::Descriptor(bytes)
            }
            Err(_) => {
                check_depth(text)?;
                Source::Text(text.to_owned())
            }
        };
        let file = source.open(name).map_err(|error| invalid(&error))?;
        let missing = |import: &&String| files.open_file(import).is_err_and(|error| error.is_file_not_found());
        match file.file_descriptor_proto().dependency.iter().find(missing) {
            Some(import) => Err(SchemaError::Remote(import.clone())),
            None => Ok(source),
        }
    }

    fn open(&self, name: &str) -> Result<File, protox::Error> {
        match self {
            Source::Text(text) => File::from_source(name, text),
            Source::Descriptor(bytes) => {
                File::decode_file_descriptor_proto(bytes.as_slice()).map_err(protox::Error::new)
            }
        }
    }
}

/// The schema and its references. Nothing is read from a disk.
struct Files {
    sources: HashMap<String, Source>,
    known: GoogleFileResolver,
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.sources.get(name) {
            Some(source) => source.open(name),
            None => match known::text(name) {
                Some(text) => File::from_source(name, &text),
                None => self.known.open_file(name),
            },
        }
    }
}

/// The values of options are read by recursion.
fn check_depth(text: &str) -> Result<(), SchemaError> {
    let mut depth = 0usize;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | b'\'' => {
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => {
                            bytes.next();
                        }
                        b'\n' => break,
                        inner if inner == byte => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek() == Some(&b'/') => while bytes.next().is_some_and(|byte| byte != b'\n') {},
            b'/' if bytes.peek() == Some(&b'*') => {
                let mut last = b' ';
                bytes.next();
                for byte in bytes.by_ref() {
                    if last == b'*' && byte == b'/' {
                        break;
                    }
                    last = byte;
                }
            }
            b'{' | b'[' | b'<' | b'(' => depth += 1,
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(SchemaError::Invalid(format!("braces are nested deeper than {DEPTH_MAX} levels")));
        }
    }
    Ok(())
}

fn invalid(error: &protox::Error) -> SchemaError {
    // The chain says where; its end says why.
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !message.contains(&told) {
            message = format!("{message}: {told}");
        }
        cause = inner.source();
    }
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    SchemaError::Invalid(message)
}

/// Message types by their names without the package.
pub(crate) fn by_relative_name(file: &FileDescriptor) -> BTreeMap<String, MessageDescriptor> {
    let mut found = BTreeMap::new();
    let mut pending: Vec<MessageDescriptor> = file.messages().collect();
    while let Some(message) = pending.pop() {
        if !message.is_map_entry() {
            pending.extend(message.child_messages());
            found.insert(relative_name(&message), message);
        }
    }
    found
}

pub(crate) fn relative_name(message: &MessageDescriptor) -> String {
    let package = message.package_name();
    let name = message.full_name();
    match package.is_empty() {
        true => name.to_owned(),
        false => name.strip_prefix(package).map_or(name, |name| name.trim_start_matches('.')).to_owned(),
    }
}
