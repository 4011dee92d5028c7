//! The live status: in place on a terminal, a line every few seconds elsewhere, JSON at `/api/status`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use playhouse_engine::sink::SinkState;
use playhouse_engine::{Engine, EngineStatus};
use playhouse_gate::{BadEventsUsage, Counters, Gate};
use playhouse_kafka::Metrics;
use tokio_util::sync::CancellationToken;

use super::counted::{Counted, DoorTraffic};
use super::doors::House;

const TERMINAL_INTERVAL: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub fn source(house: &House<'_>, counted: Counted) -> Arc<dyn Fn() -> serde_json::Value + Send + Sync> {
    let (gate, engine, registry) = (house.gate.clone(), house.engine.clone(), house.registry.clone());
    Arc::new(move || {
        let counters = gate.counters();
        let schemas = registry.snapshot();
        serde_json::json!({
            "gate": {
                "accepted": counters.accepted,
                "rejected": counters.rejected,
                "accepted_bytes": counters.accepted_bytes,
                "in_flight_bytes": counters.in_flight_bytes,
            },
            "bad_events": bad_events(gate.bad_events().usage()),
            "log": { "id": gate.log().id(), "bytes": gate.log().size_bytes() },
            "kafka": kafka_status(&counted.kafka),
            "doors": doors_status(&counted.traffic),
            "rest_proxy": { "consumers": counted.proxy.consumers() },
            "registry": {
                "subjects": schemas.subject_count(),
                "schemas": schemas.schema_count(),
                "bytes": schemas.text_bytes(),
            },
            "engine": engine.status(),
            "memory_bytes": resident_bytes(),
        })
    })
}

fn bad_events(usage: BadEventsUsage) -> serde_json::Value {
    serde_json::json!({
        "bytes": usage.bytes,
        "bytes_max": usage.bytes_max,
        "displaced": usage.displaced.events,
        "displaced_bytes": usage.displaced.bytes,
    })
}

/// The doors that stand on HTTP.
fn doors_status(traffic: &DoorTraffic) -> serde_json::Value {
    let doors = traffic.by_door().map(|(door, traffic)| {
        let snapshot = traffic.snapshot();
        let count = |of: &dyn Fn(u16) -> bool| -> u64 {
            snapshot.requests.iter().filter(|(_, status, _)| of(*status)).map(|(_, _, count)| count).sum()
        };
        let counts = serde_json::json!({
            "connections": snapshot.connections_open,
            "requests": count(&|_| true),
            "errors": count(&|status| is_error(door, status)),
            "requests_open": snapshot.requests_open,
            "bytes_in": snapshot.bytes_in,
            "bytes_out": snapshot.bytes_out,
        });
        (door.to_owned(), counts)
    });
    doors.into_iter().collect::<serde_json::Map<_, _>>().into()
}

fn kafka_status(metrics: &Metrics) -> serde_json::Value {
    let door = metrics.door();
    let apis = metrics.apis().into_iter().map(|it| {
        let mean_us = it.latency.as_micros() as u64 / it.within.last().copied().unwrap_or(0).max(1);
        let counts = serde_json::json!({
            "requests": it.requests,
            "errors": it.errors,
            "request_bytes": it.request_bytes,
            "response_bytes": it.response_bytes,
            "mean_us": mean_us,
        });
        (it.api, counts)
    });
    serde_json::json!({
        "connections": door.connections_open,
        "connections_refused": door.connections_refused,
        "malformed": door.malformed,
        "throttled_ms": door.throttled.as_millis() as u64,
        "authentications_failed": door.authentications_failed,
        "apis": apis.collect::<serde_json::Map<_, _>>(),
    })
}

/// All doors together: open connections, requests and errors told.
#[derive(Debug, Clone, Copy, Default)]
struct Doors {
    connections: u64,
    requests: u64,
    errors: u64,
}

impl Doors {
    fn of(counted: &Counted) -> Doors {
        let kafka = counted.kafka.apis();
        let mut doors = Doors {
            connections: counted.kafka.door().connections_open,
            requests: kafka.iter().map(|api| api.requests).sum(),
            errors: kafka.iter().map(|api| api.errors).sum(),
        };
        for (door, traffic) in counted.traffic.by_door() {
            let snapshot = traffic.snapshot();
            doors.connections += snapshot.connections_open;
            for (_, status, count) in snapshot.requests {
                doors.requests += count;
                doors.errors += if is_error(door, status) { count } else { 0 };
            }
        }
        doors
    }
}

fn is_error(door: &str, status: u16) -> bool {
    if door == "grpc" { status != 0 } else { status >= 400 }
}

pub async fn show(gate: Arc<Gate>, engine: Arc<Engine>, counted: Counted, stop: CancellationToken) {
    let terminal = std::io::stdout().is_terminal();
    let mut shown = 0;
    let now = || (Instant::now(), gate.counters(), Doors::of(&counted));
    let mut last = now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(if terminal { TERMINAL_INTERVAL } else { LINE_INTERVAL }) => {}
            () = stop.cancelled() => return,
        }
        let now = now();
        let status = engine.status();
        let rate = rates(&last, &now);
        last = now;
        let text = if terminal { block(&rate, &last, &status) } else { line(&rate, &last, &status) };
        let mut out = std::io::stdout().lock();
        // A closed terminal is no reason to stop serving.
        let _ = if terminal && shown > 0 { write!(out, "\x1b[{shown}A\x1b[J{text}") } else { write!(out, "{text}") };
        let _ = out.flush();
        shown = text.lines().count();
    }
}

struct Rate {
    accepted: f64,
    rejected: f64,
    requests: f64,
}

type Seen = (Instant, Counters, Doors);

fn rates(last: &Seen, now: &Seen) -> Rate {
    let seconds = now.0.duration_since(last.0).as_secs_f64().max(0.001);
    let per_second = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
    Rate {
        accepted: per_second(now.1.accepted, last.1.accepted),
        rejected: per_second(now.1.rejected, last.1.rejected),
        requests: per_second(now.2.requests, last.2.requests),
    }
}

fn block(rate: &Rate, (_, counters, doors): &Seen, status: &EngineStatus) -> String {
    let mut text = format!(
        "\n  events     {:>10.0}/s   {} accepted   {} rejected ({:.0}/s)   {} duplicates   {} late\n",
        rate.accepted, counters.accepted, counters.rejected, rate.rejected, status.duplicates, status.late
    );
    let _ = writeln!(
        text,
        "  doors      {:>10.0} requests/s   {} connections   {} errors",
        rate.requests, doors.connections, doors.errors
    );
    let _ = writeln!(text, "  freshness  p50 {} ms   p99 {} ms", status.freshness.p50_ms, status.freshness.p99_ms);
    let _ = writeln!(text, "  engine     lag {}   epoch {}", status.lag, status.epoch);
    for sink in &status.sinks {
        let _ = writeln!(text, "  {:<10} lag {}   {}", sink.status.name, sink.lag, state(&sink.status.state));
    }
    let _ = writeln!(text, "  memory     {} MB", resident_bytes() / 1_000_000);
    if let Some(reason) = &status.stalled {
        let _ = writeln!(text, "  stalled    {reason}");
    }
    text
}

fn line(rate: &Rate, (_, counters, doors): &Seen, status: &EngineStatus) -> String {
    let mut text = format!(
        "{:.0} events/s, {} accepted, {} rejected, {:.0} requests/s, {} connections, {} errors, freshness p50 {} ms p99 {} ms, \
         lag: engine {}",
        rate.accepted,
        counters.accepted,
        counters.rejected,
        rate.requests,
        doors.connections,
        doors.errors,
        status.freshness.p50_ms,
        status.freshness.p99_ms,
        status.lag
    );
    for sink in &status.sinks {
        let _ = write!(text, ", {} {}", sink.status.name, sink.lag);
        if sink.status.state != SinkState::Running {
            let _ = write!(text, " ({})", state(&sink.status.state));
        }
    }
    let _ = write!(text, ", memory {} MB", resident_bytes() / 1_000_000);
    if let Some(reason) = &status.stalled {
        let _ = write!(text, ", stalled: {reason}");
    }
    text.push('\n');
    text
}

fn state(state: &SinkState) -> String {
    match state {
        SinkState::Opening => "opening".to_owned(),
        SinkState::Running => "running".to_owned(),
        SinkState::Unavailable(reason) => format!("unavailable: {reason}"),
        SinkState::Failed(reason) => format!("failed: {reason}"),
        SinkState::Stopped => "stopped".to_owned(),
    }
}

/// Resident memory of this process; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE_BYTES)
}
