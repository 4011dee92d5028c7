//! Accepted events framed into one record batch per partition.

use playhouse_log::batch::{BatchBuilder, Compression, EncodedHeaders};

use playhouse_log::partition_of;

/// A batch is closed once its records take this much, uncompressed.
const BATCH_BYTES: usize = 1 << 20;
/// User agents are of any length; what is stamped on every record is not.
const USER_AGENT_BYTES_MAX: usize = 512;

/// The headers that the gate stamps on records.
pub(crate) const SOURCE_ADDRESS_HEADER: &str = "source_address";
pub(crate) const USER_AGENT_HEADER: &str = "user_agent";
pub(crate) const SCHEMA_ID_HEADER: &str = "schema_id";

/// The batches of one partition that one request makes.
pub(crate) struct Frames {
    builder: BatchBuilder,
    closed: Vec<u8>,
    records: i64,
}

impl Frames {
    pub(crate) fn new() -> Frames {
        Frames::with_room(0)
    }

    /// Expects about that many bytes of records.
    pub(crate) fn with_room(bytes: usize) -> Frames {
        let builder = BatchBuilder::new(Compression::Lz4).reserve(bytes.min(BATCH_BYTES));
        Frames { builder, closed: Vec::new(), records: 0 }
    }

    /// Returns the record's number among those of this request in this partition.
    pub(crate) fn push(&mut self, time_ms: i64, key: Option<&[u8]>, value: &[u8], headers: &EncodedHeaders) -> i64 {
        if self.builder.size_bytes() + value.len() > BATCH_BYTES && !self.builder.is_empty() {
            let full = std::mem::replace(&mut self.builder, BatchBuilder::new(Compression::Lz4));
            self.close(full);
        }
        self.builder.push_with(time_ms, key, Some(value), headers);
        self.records += 1;
        self.records - 1
    }

    fn close(&mut self, builder: BatchBuilder) {
        let batch = builder.build();
        if self.closed.is_empty() {
            self.closed = batch;
        } else {
            self.closed.extend_from_slice(&batch);
        }
    }

    /// Whole batches, ready to append; empty where nothing was pushed.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let last = std::mem::replace(&mut self.builder, BatchBuilder::new(Compression::None));
        self.close(last);
        self.closed
    }
}

/// One request's events by partition.
pub(crate) struct Partitioned {
    frames: Vec<Option<Frames>>,
    /// Where events without a key go: one partition per request.
    keyless: i32,
    time_ms: i64,
    /// What a partition may expect of the request, records' headers included.
    share_bytes: usize,
}

impl Partitioned {
    pub(crate) fn new(partitions: usize, request: u32, time_ms: i64, body_bytes: usize) -> Partitioned {
        let share_bytes = body_bytes / partitions.max(1) * 3 / 2;
        let keyless = (request as usize % partitions.max(1)) as i32;
        Partitioned { frames: (0..partitions).map(|_| None).collect(), keyless, time_ms, share_bytes }
    }

    /// Returns the partition and the record's number there.
    pub(crate) fn push(&mut self, key: Option<&[u8]>, value: &[u8], headers: &EncodedHeaders) -> (i32, i64) {
        let partition = key.map_or(self.keyless, |key| partition_of(key, self.frames.len() as i32));
        let frames = self.frames[partition as usize].get_or_insert_with(|| Frames::with_room(self.share_bytes));
        (partition, frames.push(self.time_ms, key, value, headers))
    }

    /// The batches of every partition that has any.
    pub(crate) fn finish(self) -> impl Iterator<Item = (i32, Vec<u8>)> {
        self.frames.into_iter().enumerate().filter_map(|(partition, frames)| Some((partition as i32, frames?.finish())))
    }
}

pub(crate) fn cut_user_agent(user_agent: &str) -> &str {
    &user_agent[..user_agent.floor_char_boundary(USER_AGENT_BYTES_MAX)]
}

/// What a request says about all of its events.
pub(crate) struct Stamp {
    address: Option<String>,
    user_agent: Option<String>,
    schema_id: Option<String>,
}

impl Stamp {
    pub(crate) fn new(origin: &crate::Origin, schema_id: Option<i32>) -> Stamp {
        Stamp {
            address: origin.address.map(|address| address.to_canonical().to_string()),
            user_agent: origin.user_agent.as_deref().map(|it| cut_user_agent(it).to_owned()),
            schema_id: schema_id.map(|id| id.to_string()),
        }
    }

    pub(crate) fn list(&self) -> Vec<(&str, &[u8])> {
        [
            (SOURCE_ADDRESS_HEADER, &self.address),
            (USER_AGENT_HEADER, &self.user_agent),
            (SCHEMA_ID_HEADER, &self.schema_id),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?.as_bytes())))
        .collect()
    }

    /// Encoded once for all of them.
    pub(crate) fn headers(&self) -> EncodedHeaders {
        EncodedHeaders::new(&self.list())
    }
}
