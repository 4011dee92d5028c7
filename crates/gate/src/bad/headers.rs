//! The headers of a record of `bad_events`, under the names that Kafka Connect gives those of a dead letter queue
//! (KIP-298), so that tools made for such queues read this topic too. They repeat what the value says in full.

use super::Stage;
use crate::Reason;

pub(super) const TOPIC: &str = "__connect.errors.topic";
pub(super) const PARTITION: &str = "__connect.errors.partition";
pub(super) const OFFSET: &str = "__connect.errors.offset";
pub(super) const STAGE: &str = "__connect.errors.stage";

/// A header is for a glance; the value has every reason.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The headers of one bad event, as text like Connect's.
pub(super) struct ErrorHeaders<'a> {
    topic: &'a str,
    place: Option<(String, String)>,
    stage: String,
    class: &'static str,
    exception: String,
    message: String,
}

impl<'a> ErrorHeaders<'a> {
    pub(super) fn new(topic: &'a str, place: Option<(i32, i64)>, stage: &Stage, reasons: &[Reason]) -> Self {
        ErrorHeaders {
            topic,
            place: place.map(|(partition, offset)| (partition.to_string(), offset.to_string())),
            stage: stage.to_string(),
            class: match stage {
                Stage::Decode | Stage::Validate => "playhouse.gate",
                Stage::Enrich => "playhouse.engine",
                Stage::Sink(_) => "playhouse.sink",
            },
            exception: format!("playhouse.{}", reasons.first().map_or("unknown", |reason| &reason.keyword)),
            message: message(reasons),
        }
    }

    /// Partition and offset are there only where the event had a place in its topic.
    pub(super) fn list(&self) -> Vec<(&str, &[u8])> {
        let mut headers: Vec<(&str, &[u8])> = vec![(TOPIC, self.topic.as_bytes())];
        if let Some((partition, offset)) = &self.place {
            headers.push((PARTITION, partition.as_bytes()));
            headers.push((OFFSET, offset.as_bytes()));
        }
        headers.push((STAGE, self.stage.as_bytes()));
        headers.push(("__connect.errors.class.name", self.class.as_bytes()));
        headers.push(("__connect.errors.exception.class.name", self.exception.as_bytes()));
        headers.push(("__connect.errors.exception.message", self.message.as_bytes()));
        headers
    }
}

fn message(reasons: &[Reason]) -> String {
    let mut text = String::new();
    for reason in reasons {
        if !text.is_empty() {
            text.push_str("; ");
        }
        if !reason.path.is_empty() {
            text.push_str(&reason.path);
            text.push_str(": ");
        }
        text.push_str(&reason.message);
        if text.len() > MESSAGE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let reasons = vec![Reason::whole("type", "é".repeat(700)), Reason::whole("type", "x")];
        let cut = message(&reasons);
        assert_eq!(cut, "é".repeat(512));
    }

    #[test]
    fn a_reason_is_told_with_its_path() {
        let at = Reason { path: "/ip".into(), message: "is no address".into(), keyword: "anyOf".into() };
        assert_eq!(message(&[at, Reason::whole("size", "cut")]), "/ip: is no address; cut");
    }
}
