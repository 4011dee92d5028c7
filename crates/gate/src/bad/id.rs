//! What a bad event is asked for by: the place of its row in `bad_events`, `<partition>-<offset>`; or, where it was taken out
//! of a Kafka batch, the place it lost there, `<topic>-<partition>-<offset>`, which is the same whichever attempt of its
//! producer brought it here.

use playhouse_log::batch::Headers;

use super::headers::{OFFSET, PARTITION, STAGE, TOPIC};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadId<'a> {
    Lost { topic: &'a str, partition: i32, offset: i64 },
    Row { partition: i32, offset: i64 },
}

impl<'a> BadId<'a> {
    pub(super) fn parse(text: &'a str) -> Option<BadId<'a>> {
        let mut parts = text.rsplitn(3, '-');
        let offset = parts.next()?.parse().ok()?;
        let partition = parts.next()?.parse().ok()?;
        Some(match parts.next() {
            Some(topic) => BadId::Lost { topic, partition, offset },
            None => BadId::Row { partition, offset },
        })
    }

    /// Whether a row with these headers is the one of the lost place. What fails behind the gate has a place too, and keeps
    /// it.
    pub(super) fn is_lost_row(&self, headers: Headers<'_>) -> bool {
        let BadId::Lost { topic, partition, offset } = self else { return false };
        let wanted = [(TOPIC, topic.to_string()), (PARTITION, partition.to_string()), (OFFSET, offset.to_string())];
        let mut found = 0;
        for (name, value) in headers {
            if name == STAGE && !matches!(value, Some(b"decode" | b"validate")) {
                return false;
            }
            found += usize::from(wanted.iter().any(|it| it.0 == name && Some(it.1.as_bytes()) == value));
        }
        found == wanted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_read_as_they_are_written(topic in "[a-z0-9._-]{1,12}", partition in 0..i32::MAX, offset in 0..i64::MAX) {
            let row = format!("{partition}-{offset}");
            prop_assert_eq!(BadId::parse(&row), Some(BadId::Row { partition, offset }));
            let lost = format!("{topic}-{row}");
            prop_assert_eq!(BadId::parse(&lost), Some(BadId::Lost { topic: &topic, partition, offset }));
        }

        #[test]
        fn any_text_has_an_answer(text: String) {
            let _ = BadId::parse(&text);
        }
    }

    #[test]
    fn what_is_no_id_is_none() {
        for text in ["", "7", "a-7", "a-b-7", "0-", "-", "0-x"] {
            assert_eq!(BadId::parse(text), None, "{text:?}");
        }
    }
}
