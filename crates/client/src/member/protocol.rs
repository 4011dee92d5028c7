//! What members tell each other through the coordinator: `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`, version 0. Later versions add to the end, so what is read is their beginning.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::fetch::Place;

const VERSION: i16 = 0;
/// User data, of which there is none.
const NULL: i32 = -1;

pub(super) fn subscription(topics: &BTreeSet<String>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        put_text(&mut bytes, topic);
    }
    bytes.put_i32(NULL);
    bytes.freeze()
}

/// As far as it can be read.
pub(super) fn read_subscription(mut bytes: Bytes) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    let mut read = || -> Option<()> {
        bytes.try_get_i16().ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            topics.insert(text(&mut bytes)?);
        }
        Some(())
    };
    let _ = read();
    topics
}

pub(super) fn assignment(places: &[Place]) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in places {
        topics.entry(topic).or_default().push(*index);
    }
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    bytes.put_i32(topics.len() as i32);
    for (topic, indices) in topics {
        put_text(&mut bytes, topic);
        bytes.put_i32(indices.len() as i32);
        indices.into_iter().for_each(|index| bytes.put_i32(index));
    }
    bytes.put_i32(NULL);
    bytes.freeze()
}

/// As far as it can be read.
pub(crate) fn read_assignment(mut bytes: Bytes) -> Vec<Place> {
    let mut places = Vec::new();
    let mut read = || -> Option<()> {
        bytes.try_get_i16().ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            let topic = text(&mut bytes)?;
            for _ in 0..bytes.try_get_i32().ok()? {
                places.push((topic.clone(), bytes.try_get_i32().ok()?));
            }
        }
        Some(())
    };
    let _ = read();
    places
}

/// Topic names have at most 249 bytes.
fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_assignment_is_read_as_far_as_it_goes() {
        let bytes = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x05\xff\xff\xff\xff");
        assert_eq!(read_assignment(bytes.clone()), [("t".to_owned(), 0), ("t".to_owned(), 5)]);
        for cut in 0..bytes.len() {
            assert!(read_assignment(bytes.slice(..cut)).len() <= 2);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topics in proptest::collection::btree_set("[a-z]{1,20}", 0..5),
            places in proptest::collection::btree_set(("[a-z]{1,3}", 0..9i32), 0..9),
        ) {
            prop_assert_eq!(read_subscription(subscription(&topics)), topics);
            let places: Vec<Place> = places.into_iter().collect();
            prop_assert_eq!(read_assignment(assignment(&places)), places);
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            let _ = (read_subscription(bytes.clone()), read_assignment(bytes));
        }
    }
}
