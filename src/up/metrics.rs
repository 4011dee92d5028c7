//! What `/metrics` shows.

use std::sync::Arc;

use playhouse_engine::sink::SinkState;
use playhouse_http::admin::Metric;
use playhouse_kafka::{LATENCY_BOUNDS, Metrics};

use super::counted::{Counted, DoorTraffic};
use super::doors::House;

pub fn source(house: &House<'_>, counted: Counted) -> Arc<dyn Fn() -> Vec<Metric> + Send + Sync> {
    let (gate, engine, registry) = (house.gate.clone(), house.engine.clone(), house.registry.clone());
    Arc::new(move || {
        let counters = gate.counters();
        let schemas = registry.snapshot();
        let status = engine.status();
        let bad = gate.bad_events().usage();
        let mut lag =
            Metric::gauge("playhouse_lag_records", "Records durable in the log and not yet taken, by reader.")
                .labelled([("reader", "engine")], status.lag as f64);
        let mut rows = Metric::counter("playhouse_sink_rows_total", "Rows committed since the start, by sink.");
        let mut refused =
            Metric::counter("playhouse_sink_refused_total", "Rows that a sink's target refused: they are bad events.");
        let mut up = Metric::gauge("playhouse_sink_up", "1 while a sink is connected.");
        for sink in &status.sinks {
            let name = sink.status.name.as_str();
            lag = lag.labelled([("reader", name)], sink.lag as f64);
            rows = rows.labelled([("sink", name)], sink.status.rows_committed as f64);
            refused = refused.labelled([("sink", name)], sink.status.rows_refused as f64);
            up = up.labelled([("sink", name)], f64::from(u8::from(sink.status.state == SinkState::Running)));
        }
        let mut groups = Metric::gauge("playhouse_view_groups", "Groups in the state of a view.");
        let mut state = Metric::gauge("playhouse_view_state_bytes", "Memory of a view's state.");
        for view in &status.views {
            groups = groups.labelled([("view", view.name.as_str())], view.groups as f64);
            state = state.labelled([("view", view.name.as_str())], view.state_bytes as f64);
        }
        let mut all = kafka_metrics(&counted.kafka);
        all.extend(door_metrics(&counted.traffic));
        all.extend([
            Metric::counter("playhouse_events_accepted_total", "Events appended to the log.")
                .value(counters.accepted as f64),
            Metric::counter("playhouse_events_rejected_total", "Events rejected.").value(counters.rejected as f64),
            Metric::counter("playhouse_events_accepted_bytes_total", "Payload of accepted events.")
                .value(counters.accepted_bytes as f64),
            Metric::gauge("playhouse_in_flight_bytes", "Requests between arrival and durable append.")
                .value(counters.in_flight_bytes as f64),
            Metric::counter(
                "playhouse_ingest_replayed_total",
                "Requests answered with the first answer of their idempotency key.",
            )
            .value(counted.ingest.replays() as f64),
            Metric::gauge("playhouse_rest_proxy_consumers", "Consumer instances of the REST proxy.")
                .value(counted.proxy.consumers() as f64),
            Metric::gauge("playhouse_bad_events_bytes", "Bad events on disk.").value(bad.bytes as f64),
            Metric::gauge("playhouse_bad_events_quota_bytes", "What bad events may take on disk.")
                .value(bad.bytes_max as f64),
            Metric::counter(
                "playhouse_bad_events_displaced_total",
                "Bad events deleted before their time, because their quota was used up.",
            )
            .value(bad.displaced.events as f64),
            Metric::gauge("playhouse_log_bytes", "The log on disk.").value(gate.log().size_bytes() as f64),
            Metric::gauge("playhouse_registry_subjects", "Subjects of the schema registry, deleted ones included.")
                .value(schemas.subject_count() as f64),
            Metric::gauge("playhouse_registry_schemas", "Schemas of the schema registry.")
                .value(schemas.schema_count() as f64),
            Metric::gauge("playhouse_registry_bytes", "Texts of the schema registry's schemas.")
                .value(schemas.text_bytes() as f64),
            Metric::counter("playhouse_epochs_total", "Epochs since the state was made.").value(status.epoch as f64),
            Metric::gauge("playhouse_epoch_log_bytes", "The epoch log on disk.").value(status.epoch_log_bytes as f64),
            Metric::counter("playhouse_duplicates_total", "Events dropped because their id was seen before.")
                .value(status.duplicates as f64),
            Metric::counter("playhouse_late_total", "Rows too late for a view.").value(status.late as f64),
            Metric::counter("playhouse_undecodable_total", "Records that passed the gate and cannot be decoded.")
                .value(status.undecodable as f64),
            Metric::counter("playhouse_enrich_failed_total", "Rows that the pipeline failed on: they are bad events.")
                .value(status.failed as f64),
            Metric::gauge("playhouse_dedup_ids", "Ids remembered.").value(status.dedup_ids as f64),
            Metric::gauge("playhouse_dedup_window_seconds", "The dedup window in force.")
                .value(status.dedup_window_ms as f64 / 1_000.0),
            Metric::gauge("playhouse_freshness_seconds", "From append to visible, over the last epochs.")
                .labelled([("quantile", "0.5")], status.freshness.p50_ms as f64 / 1_000.0)
                .labelled([("quantile", "0.99")], status.freshness.p99_ms as f64 / 1_000.0),
            lag,
            rows,
            refused,
            up,
            groups,
            state,
            Metric::gauge("playhouse_memory_bytes", "Resident memory of the process.")
                .value(super::status::resident_bytes() as f64),
        ]);
        all
    })
}

/// The doors that stand on HTTP; the Kafka door counts by its own APIs.
fn door_metrics(traffic: &DoorTraffic) -> Vec<Metric> {
    let mut requests =
        Metric::counter("playhouse_requests_total", "Requests to a door (gRPC: calls), by method and status.");
    let mut open =
        Metric::gauge("playhouse_requests_open", "Requests not yet answered, and open gRPC streams, by door.");
    let mut connections = Metric::gauge("playhouse_connections", "Open connections, by door.");
    let mut accepted = Metric::counter("playhouse_connections_total", "Connections since the start, by door.");
    let mut bytes = Metric::counter("playhouse_bytes_total", "Bytes of connections, by door.");
    let mut latency = Metric::histogram(
        "playhouse_request_seconds",
        "From the head of a request to its outcome, waits for body and disk included, by door.",
    );
    for (door, traffic) in traffic.by_door() {
        let snapshot = traffic.snapshot();
        for (method, status, count) in snapshot.requests {
            let status = status_name(door, status);
            requests = requests.labelled([("door", door), ("method", method), ("status", &status)], count as f64);
        }
        open = open.labelled([("door", door)], snapshot.requests_open as f64);
        connections = connections.labelled([("door", door)], snapshot.connections_open as f64);
        accepted = accepted.labelled([("door", door)], snapshot.connections as f64);
        bytes = bytes
            .labelled([("door", door), ("direction", "in")], snapshot.bytes_in as f64)
            .labelled([("door", door), ("direction", "out")], snapshot.bytes_out as f64);
        let bounds = playhouse_http::LATENCY_BOUNDS.map(|bound| bound.as_secs_f64());
        latency = latency.observed([("door", door)], &bounds, &snapshot.within, snapshot.latency.as_secs_f64());
    }
    vec![requests, open, connections, accepted, bytes, latency]
}

/// gRPC's codes have names (`google/rpc/code.proto`).
fn status_name(door: &str, status: u16) -> String {
    const CODES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let code = CODES.get(usize::from(status)).filter(|_| door == "grpc");
    code.map_or_else(|| status.to_string(), |code| code.to_string())
}

fn kafka_metrics(metrics: &Metrics) -> Vec<Metric> {
    let mut requests = Metric::counter("playhouse_kafka_requests_total", "Requests to the Kafka door, by API.");
    let mut errors =
        Metric::counter("playhouse_kafka_errors_total", "Errors told, of topics and partitions each, by API.");
    let mut bytes = Metric::counter("playhouse_kafka_bytes_total", "Bytes of requests and answers, by API.");
    let mut latency = Metric::histogram(
        "playhouse_kafka_request_seconds",
        "From a request read whole to its answer ready, waits for disk and records included, by API.",
    );
    for api in metrics.apis() {
        let name = api.api.as_str();
        requests = requests.labelled([("api", name)], api.requests as f64);
        errors = errors.labelled([("api", name)], api.errors as f64);
        bytes = bytes
            .labelled([("api", name), ("direction", "in")], api.request_bytes as f64)
            .labelled([("api", name), ("direction", "out")], api.response_bytes as f64);
        let bounds = LATENCY_BOUNDS.map(|bound| bound.as_secs_f64());
        latency = latency.observed([("api", name)], &bounds, &api.within, api.latency.as_secs_f64());
    }
    let door = metrics.door();
    vec![
        requests,
        errors,
        bytes,
        latency,
        Metric::gauge("playhouse_kafka_connections", "Open connections to the Kafka door.")
            .value(door.connections_open as f64),
        Metric::counter("playhouse_kafka_connections_total", "Connections to the Kafka door, by outcome.")
            .labelled([("outcome", "accepted")], door.connections_accepted as f64)
            .labelled([("outcome", "refused")], door.connections_refused as f64),
        Metric::counter("playhouse_kafka_malformed_total", "Requests outside the Kafka protocol.")
            .value(door.malformed as f64),
        Metric::counter("playhouse_kafka_authentications_failed_total", "Kafka clients that showed no good API key.")
            .value(door.authentications_failed as f64),
        Metric::counter("playhouse_kafka_throttled_seconds_total", "Time Kafka clients were told to wait.")
            .value(door.throttled.as_secs_f64()),
    ]
}
