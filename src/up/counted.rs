//! What the doors count, for metrics and status.

use std::sync::Arc;

use playhouse_http::Traffic;
use playhouse_http::ingest::IngestDoor;
use playhouse_kafka::Metrics;
use playhouse_proxy::ProxyMetrics;

/// What the doors on HTTP count.
#[derive(Debug, Clone, Default)]
pub struct DoorTraffic {
    pub ingest: Arc<Traffic>,
    pub grpc: Arc<Traffic>,
    pub registry: Arc<Traffic>,
    pub rest_proxy: Arc<Traffic>,
    pub admin: Arc<Traffic>,
}

impl DoorTraffic {
    pub fn by_door(&self) -> [(&'static str, &Traffic); 5] {
        [
            ("ingest", &self.ingest),
            ("grpc", &self.grpc),
            ("registry", &self.registry),
            ("rest_proxy", &self.rest_proxy),
            ("admin", &self.admin),
        ]
    }
}

/// Whatever the doors count.
#[derive(Clone)]
pub struct Counted {
    pub ingest: Arc<IngestDoor>,
    pub kafka: Arc<Metrics>,
    pub proxy: Arc<ProxyMetrics>,
    pub traffic: DoorTraffic,
}
