//! Settings of the Kafka door.

use std::time::Duration;

use playhouse_gate::Auth;
use playhouse_log::TopicSettings;

#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// The host that clients are told to connect to; `None` tells each client the address it reached us at.
    pub advertised_host: Option<String>,
    /// The port that clients are told to connect to; `None` tells the bound port.
    pub advertised_port: Option<u16>,
    pub node_id: i32,
    /// The largest request accepted; a larger one closes the connection.
    pub frame_bytes_max: usize,
    /// Connections beyond this are closed at once.
    pub connections_max: usize,
    /// Connections of one address beyond this are closed at once.
    pub connections_per_address_max: usize,
    /// What a client (by its client id) may send and fetch; past it it is told to wait. `None` sets no limit.
    pub produce_bytes_per_second: Option<u64>,
    pub fetch_bytes_per_second: Option<u64>,
    /// Large requests of all connections together, from the first byte read to the append; beyond it reading waits.
    pub request_bytes_max: usize,
    /// The most that one fetch returns (apart from a first batch that is larger).
    pub fetch_bytes_max: usize,
    /// Fetched bytes of all connections together that wait to be written; beyond it fetches return less.
    pub response_bytes_max: usize,
    /// Requests of one connection that are being answered; beyond it reading waits.
    pub pipeline_max: usize,
    /// A connection without a request or an answer under way is closed after this.
    pub idle_timeout: Duration,
    /// A request must have arrived whole this long after its first byte, and a response must make progress.
    pub transfer_timeout: Duration,
    /// What callers have to show; with keys, over SASL/PLAIN.
    pub auth: Auth,
    /// Who has not shown it after this is closed.
    pub authentication_timeout: Duration,
    /// Whether a metadata request that allows it creates topics the log does not have.
    pub auto_create_topics: bool,
    /// Settings of topics made here, where the request names none.
    pub new_topic: TopicSettings,
    /// Topics that pipelines read, beside the default one: clients can neither delete nor reshape them.
    pub pipeline_topics: Vec<String>,
    pub groups: GroupConfig,
    pub transactions: TransactionConfig,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            advertised_host: None,
            advertised_port: None,
            node_id: 1,
            frame_bytes_max: 100 << 20,
            connections_max: 1000,
            connections_per_address_max: 1000,
            produce_bytes_per_second: None,
            fetch_bytes_per_second: None,
            request_bytes_max: 256 << 20,
            fetch_bytes_max: 50 << 20,
            response_bytes_max: 128 << 20,
            pipeline_max: 64,
            idle_timeout: Duration::from_secs(600),
            transfer_timeout: Duration::from_secs(60),
            auth: Auth::None,
            authentication_timeout: Duration::from_secs(10),
            auto_create_topics: true,
            new_topic: TopicSettings::default(),
            pipeline_topics: Vec::new(),
            groups: GroupConfig::default(),
            transactions: TransactionConfig::default(),
        }
    }
}

/// Limits of consumer groups.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    pub session_timeout_min: Duration,
    pub session_timeout_max: Duration,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    pub members_max: usize,
    pub groups_max: usize,
    /// Of members of the newer protocol (KIP-848): when one not heard of is dropped, and how often it is to be heard of.
    pub consumer_session_timeout: Duration,
    pub consumer_heartbeat_interval: Duration,
    /// What members of all groups together may hold in subscriptions and assignments; joins beyond it are refused.
    pub members_bytes_max: usize,
    /// Committed offsets of a group without members are forgotten after this.
    pub offsets_retention: Duration,
    /// Committed offsets of all groups together, in bytes; commits beyond it are refused.
    pub offsets_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(1800),
            initial_rebalance_delay: Duration::from_millis(100),
            members_max: 1000,
            groups_max: 10_000,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            members_bytes_max: 64 << 20,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            offsets_bytes_max: 16 << 20,
        }
    }
}

/// Limits of transactions.
#[derive(Debug, Clone)]
pub struct TransactionConfig {
    /// The longest timeout that a producer may ask for.
    pub timeout_max: Duration,
    /// A transactional id that has been idle for so long is forgotten.
    pub id_retention: Duration,
    /// Past it, those that have been idle longest are forgotten; where none is idle, a new one is refused.
    pub ids_max: usize,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        TransactionConfig {
            timeout_max: Duration::from_secs(15 * 60),
            id_retention: Duration::from_secs(7 * 24 * 3600),
            ids_max: 10_000,
        }
    }
}
