//! Messages as JSON and back, in Protobuf's own mapping (ProtoJSON). Fields that are not set are shown with their defaults, as
//! the REST proxy's API has it; a field may be named as in the file or in camel case.

use std::io;

use prost_reflect::prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::MESSAGE_BYTES_MAX;
use crate::Reason;

/// `payload` is known to be such a message. The JSON takes at most `bytes_max`.
pub(super) fn to_json(message: &MessageDescriptor, payload: &[u8], bytes_max: usize) -> Result<String, Reason> {
    let broken = |message: String| Reason::whole("protobuf", shortened(message));
    let decoded = DynamicMessage::decode(message.clone(), payload).map_err(|error| broken(error.to_string()))?;
    let mut out = Bounded { bytes: Vec::new(), bytes_max };
    let options = SerializeOptions::new().skip_default_fields(false);
    decoded.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options).map_err(
        |error| match error {
            error if error.is_io() => Reason::whole("size", "more than can be shown"),
            error => broken(error.to_string()),
        },
    )?;
    String::from_utf8(out.bytes).map_err(|error| broken(error.to_string()))
}

pub(super) fn from_json(message: &MessageDescriptor, json: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let broken = |error: serde_json::Error| Reason::whole("protobuf", shortened(error.to_string()));
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let decoded = DynamicMessage::deserialize_with_options(message.clone(), &mut deserializer, &options);
    let decoded = decoded.map_err(broken)?;
    deserializer.end().map_err(broken)?;
    out.extend_from_slice(&decoded.encode_to_vec());
    Ok(())
}

struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shortened(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}
