//! The gate itself: its topics and budgets, and the doors' way to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use playhouse_log::{AppendError, CreateTopicError, Log, TimestampType, Topic, TopicSettings};
use playhouse_registry::SCHEMAS_TOPIC;
use playhouse_schema::formats::{Format, Schema};
use playhouse_schema::{Fields, Validator};

use crate::binding::{Validation, value_subject};
use crate::budget::{Budget, Charge, Refused};
use crate::fields::{FieldError, FieldTypes};
use crate::schemas::{Configured, FoundSchema, Schemas};
use crate::{
    BAD_EVENTS_TOPIC, BadEvents, BadEventsError, Origin, Outcome, ProduceError, Produced, RequestError, SchemaSource,
};

#[derive(Debug, Clone)]
pub struct GateConfig {
    pub default_topic: String,
    /// Bytes of requests between arrival and durable append, and of what their replies hold; beyond it callers get
    /// [`RequestError::Busy`].
    pub in_flight_bytes: usize,
    pub max_event_bytes: usize,
    /// Levels of nesting in an event, at most 127.
    pub max_depth: usize,
    pub max_events_per_request: usize,
    /// Whether a topic unknown to the log is created on first use by the Kafka door (never by REST).
    pub auto_create_topics: bool,
    pub new_topic: TopicSettings,
}

/// How one topic is treated.
#[derive(Debug, Clone)]
pub struct TopicRule {
    pub topic: String,
    /// JSON Schema text; `None` takes any bytes.
    pub schema: Option<String>,
    /// The registry's id of the schema, where it has one: becomes the record header `schema_id`.
    pub schema_id: Option<i32>,
    /// Top-level JSON field whose bytes are the record key (`user`), partitioned by murmur2.
    pub key_field: Option<String>,
    /// Top-level JSON field reported back as the event's id (`id`).
    pub id_field: Option<String>,
    /// Keep rejected events in `bad_events` (the default).
    pub keep_bad: bool,
}

/// A rule, compiled.
pub(crate) struct Subject {
    /// Takes any JSON, and finds key and id in it.
    pub(crate) any: Validator,
    /// Key and id.
    fields: Fields,
    /// Whether a schema is configured for the topic.
    has_schema: bool,
    pub(crate) keep_bad: bool,
    /// For the schema that events were checked against last.
    finder: ArcSwapOption<Finder>,
}

/// A JSON Schema that finds a topic's key and id on the way.
pub(crate) struct Finder {
    schema: Arc<Schema>,
    pub(crate) validator: Validator,
}

impl Subject {
    /// `schema` is the topic's as of now. `None` for other formats than JSON.
    pub(crate) fn finder(&self, schema: &Arc<Schema>, max_depth: usize) -> Option<Arc<Finder>> {
        if let Some(finder) = self.finder.load().as_ref().filter(|finder| Arc::ptr_eq(&finder.schema, schema)) {
            return Some(finder.clone());
        }
        let validator = schema.json_validator()?.finding(&self.fields, max_depth);
        let finder = Arc::new(Finder { schema: schema.clone(), validator });
        // With nothing to find it costs next to nothing, and many topics share this subject.
        if self.fields != Fields::default() {
            self.finder.store(Some(finder.clone()));
        }
        Some(finder)
    }
}

pub struct Gate {
    pub(crate) log: Arc<Log>,
    pub(crate) config: GateConfig,
    subjects: HashMap<String, Arc<Subject>>,
    without_rule: Arc<Subject>,
    pub(crate) schemas: Schemas,
    pub(crate) budget: Arc<Budget>,
    pub(crate) bad: Arc<BadEvents>,
    /// Held from the append of a batch with records taken out until those are stored: a retry waits for its outcome.
    pub(crate) quarantine: tokio::sync::Mutex<()>,
    overloaded: AtomicBool,
    overload: RwLock<Option<String>>,
    pub(crate) requests: AtomicU32,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) accepted_bytes: AtomicU64,
}

impl Counts {
    pub(crate) fn add(&self, accepted: u64, accepted_bytes: u64, rejected: u64) {
        self.accepted.fetch_add(accepted, Ordering::Relaxed);
        self.accepted_bytes.fetch_add(accepted_bytes, Ordering::Relaxed);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
    }
}

/// When to try again: once others are done, once the one who pushes back is, once retention has deleted something.
const RETRY_IN_FLIGHT: Duration = Duration::from_secs(1);
const RETRY_OVERLOAD: Duration = Duration::from_secs(5);
const RETRY_DISK: Duration = Duration::from_secs(30);

impl Gate {
    /// Opens the topics that the rules name (creating them with `LogAppendTime` where they have a schema) and `bad_events`.
    /// There are no schemas but those of the rules.
    pub fn new(log: Arc<Log>, config: GateConfig, rules: Vec<TopicRule>) -> Result<Arc<Gate>, GateError> {
        Gate::open(log, config, rules, None)
    }

    /// The same with a registry, such as `playhouse_registry::Registry`. What it has for a subject goes before the schema of a
    /// rule, whose subject is `<topic>-value`.
    pub fn with_registry(
        log: Arc<Log>,
        config: GateConfig,
        rules: Vec<TopicRule>,
        registry: Arc<dyn SchemaSource>,
    ) -> Result<Arc<Gate>, GateError> {
        Gate::open(log, config, rules, Some(registry))
    }

    fn open(
        log: Arc<Log>,
        config: GateConfig,
        rules: Vec<TopicRule>,
        registry: Option<Arc<dyn SchemaSource>>,
    ) -> Result<Arc<Gate>, GateError> {
        let create = |topic: &str, settings: TopicSettings| {
            let created = log.ensure_topic(topic, settings);
            created.map_err(|source| GateError::Topic { topic: topic.to_owned(), source })
        };
        let mut subjects = HashMap::new();
        let mut configured = Configured::default();
        for rule in rules {
            let fields = Fields { key: rule.key_field, id: rule.id_field };
            let mut settings = config.new_topic.clone();
            if let Some(schema) = &rule.schema {
                let schema = Schema::parse(Format::Json, schema, &[])
                    .map_err(|error| GateError::Schema { topic: rule.topic.clone(), reason: error.to_string() })?;
                let schema = FoundSchema::new(rule.schema_id, Arc::new(schema));
                configured.0.insert(value_subject(&rule.topic), schema);
                settings.timestamp_type = TimestampType::LogAppendTime;
            }
            create(&rule.topic, settings)?;
            let subject = Subject {
                any: Validator::any(&fields, config.max_depth),
                fields,
                has_schema: rule.schema.is_some(),
                keep_bad: rule.keep_bad,
                finder: ArcSwapOption::empty(),
            };
            subjects.insert(rule.topic, Arc::new(subject));
        }
        let bad = BadEvents::open(log.clone(), &config.new_topic)?;
        Ok(Arc::new(Gate {
            bad: Arc::new(bad),
            log,
            budget: Budget::new(config.in_flight_bytes),
            without_rule: Arc::new(Subject {
                any: Validator::any(&Fields::default(), config.max_depth),
                fields: Fields::default(),
                has_schema: false,
                keep_bad: true,
                finder: ArcSwapOption::empty(),
            }),
            schemas: Schemas { registry, configured },
            config,
            subjects,
            quarantine: tokio::sync::Mutex::new(()),
            overloaded: AtomicBool::new(false),
            overload: RwLock::new(None),
            requests: AtomicU32::new(0),
            counts: Counts::default(),
        }))
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub fn bad_events(&self) -> &Arc<BadEvents> {
        &self.bad
    }

    pub fn max_event_bytes(&self) -> usize {
        self.config.max_event_bytes
    }

    pub fn default_topic(&self) -> &str {
        &self.config.default_topic
    }

    /// Validates and appends every event of a decoded body (one JSON object, a JSON array, or NDJSON: told apart by
    /// looking), and returns once all are durable. In a topic without a schema, a body that is none of these is one
    /// record. The reply holds its share of the in-flight budget until it is dropped.
    pub async fn ingest(&self, topic: &str, body: Bytes, origin: &Origin) -> Result<Outcome, RequestError> {
        crate::ingest::ingest(self, topic, body, origin).await
    }

    /// The same for events that come apart already: each of `events` is one record or one bad event.
    pub async fn ingest_events(&self, topic: &str, events: &[Bytes], origin: &Origin) -> Result<Outcome, RequestError> {
        crate::ingest::ingest_events(self, topic, events, origin).await
    }

    /// One event of named texts, such as a query string has, as JSON: typed as the topic's schema says, with a new id and
    /// the time where those are left out. It is not validated yet: [`Gate::ingest`] does that.
    pub fn event_of(&self, topic: &str, fields: &[(String, String)]) -> Result<Bytes, FieldError> {
        let latest = self.open_topic(topic).and_then(|topic| self.latest(&topic));
        let types = latest.as_ref().and_then(FoundSchema::json).and_then(|schema| schema.json_text());
        crate::fields::event(FieldTypes::of(types), fields, now_ms()).map(Bytes::from)
    }

    /// Kafka batches for one partition: appended verbatim where the topic's values are not checked or all are valid.
    /// Otherwise the topic says whether all is refused ([`ProduceError::Rejected`]), or the invalid records are
    /// quarantined: their offsets stay unused, and they are durable in `bad_events` when this returns. Does not wait for
    /// the durability of the batches themselves.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batches: Bytes,
        origin: &Origin,
    ) -> Result<Produced, ProduceError> {
        crate::produce::produce(self, topic, partition, batches, origin).await
    }

    /// Pushes back from outside, with the reason to tell callers: every request is [`RequestError::Busy`] until it is
    /// `None` again.
    pub fn set_overload(&self, reason: Option<String>) {
        let is_some = reason.is_some();
        *self.overload.write().unwrap_or_else(PoisonError::into_inner) = reason;
        self.overloaded.store(is_some, Ordering::Release);
    }

    /// Counters since start: accepted, rejected events and bytes.
    pub fn counters(&self) -> Counters {
        Counters {
            accepted: self.counts.accepted.load(Ordering::Relaxed),
            rejected: self.counts.rejected.load(Ordering::Relaxed),
            accepted_bytes: self.counts.accepted_bytes.load(Ordering::Relaxed),
            in_flight_bytes: self.budget.used() as u64,
        }
    }

    /// Whether the values of a topic are checked where its settings do not say.
    pub fn default_validation(&self, topic: &str) -> Validation {
        if self.subject(topic).has_schema { Validation::Full } else { Validation::None }
    }

    pub(crate) fn subject(&self, topic: &str) -> Arc<Subject> {
        self.subjects.get(topic).unwrap_or(&self.without_rule).clone()
    }

    /// A topic that events may be sent to.
    pub(crate) fn open_topic(&self, name: &str) -> Option<Arc<Topic>> {
        if is_internal(name) { None } else { self.log.topic(name) }
    }

    pub(crate) fn admit(&self, bytes: usize) -> Result<Charge, RequestError> {
        if self.overloaded.load(Ordering::Acquire) {
            let reason = self.overload.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(reason) = reason {
                return Err(RequestError::Busy { reason, retry_after: RETRY_OVERLOAD });
            }
        }
        Ok(self.budget.charge(bytes)?)
    }
}

/// Written by Playhouse itself, and by no client.
pub fn is_internal(topic: &str) -> bool {
    topic == BAD_EVENTS_TOPIC || topic == SCHEMAS_TOPIC || topic.starts_with("__")
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl From<Refused> for RequestError {
    fn from(refused: Refused) -> RequestError {
        match refused {
            Refused::Never { size, limit } => RequestError::TooLarge { size, limit },
            Refused::Busy => RequestError::Busy {
                reason: "too many bytes of requests are in flight".into(),
                retry_after: RETRY_IN_FLIGHT,
            },
        }
    }
}

impl From<AppendError> for RequestError {
    fn from(error: AppendError) -> RequestError {
        match error {
            AppendError::DiskBudget(_) => RequestError::Busy { reason: error.to_string(), retry_after: RETRY_DISK },
            other => RequestError::Log(other.to_string()),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub accepted: u64,
    pub rejected: u64,
    pub accepted_bytes: u64,
    pub in_flight_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("schema of topic {topic:?}: {reason}")]
    Schema { topic: String, reason: String },
    #[error("topic {topic:?}: {source}")]
    Topic { topic: String, source: CreateTopicError },
    #[error(transparent)]
    BadEvents(#[from] BadEventsError),
}
