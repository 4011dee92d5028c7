//! A broker over a log in a directory (a temporary one unless named), for trying clients by hand:
//! `cargo run -p playhouse-kafka --example broker -- [port] [directory]`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use playhouse_gate::{Gate, GateConfig, TopicRule};
use playhouse_kafka::{KafkaConfig, KafkaServer};
use playhouse_log::disk::RealDisk;
use playhouse_log::{Log, LogConfig, TopicSettings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(9092), |port| port.parse())?;
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let log = Log::open(Arc::new(RealDisk), &directory, LogConfig::default())?;
    let config = GateConfig {
        default_topic: "events".to_owned(),
        in_flight_bytes: 64 << 20,
        max_event_bytes: 1 << 20,
        max_depth: 32,
        max_events_per_request: 10_000,
        auto_create_topics: true,
        new_topic: TopicSettings::default(),
    };
    let open = TopicRule {
        topic: "events".to_owned(),
        schema: None,
        key_field: None,
        id_field: None,
        keep_bad: true,
        schema_id: None,
    };
    let gate = Gate::new(log.clone(), config, vec![open])?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("serving {} from {}", listener.local_addr()?, directory.display());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    KafkaServer::new(gate, KafkaConfig::default())?.serve(listener, shutdown).await?;
    log.close()?;
    Ok(())
}
