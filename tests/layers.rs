//! Dependencies point down: what each crate may know of, held against the workspace's manifests (ARCHITECTURE.md).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each crate, and the crates of the project that it may depend on.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("playhouse-log", &[]),
    ("playhouse-schema", &[]),
    // What a registry decides (schema) meets where it is kept (log) below the gate, which asks it for the schemas of
    // topics; neither of the two has to know the other for that.
    ("playhouse-registry", &["playhouse-log", "playhouse-schema"]),
    ("playhouse-gate", &["playhouse-log", "playhouse-registry", "playhouse-schema"]),
    ("playhouse-client", &["playhouse-log"]),
    ("playhouse-kafka", &["playhouse-gate", "playhouse-log"]),
    ("playhouse-engine", &["playhouse-log"]),
    ("playhouse-connectors", &["playhouse-engine"]),
    ("playhouse-query", &["playhouse-engine", "playhouse-gate", "playhouse-log"]),
    (
        "playhouse-http",
        &["playhouse-gate", "playhouse-log", "playhouse-registry", "playhouse-repair", "playhouse-schema"],
    ),
    // Connections within limits, and what doors count, are `http`'s.
    ("playhouse-grpc", &["playhouse-gate", "playhouse-http"]),
    // A client of whatever brokers, so it knows neither gate nor log; bodies and connections within limits are `http`'s, and
    // data with schemas goes by the registry, which a broker has not.
    ("playhouse-proxy", &["playhouse-client", "playhouse-http", "playhouse-registry", "playhouse-schema"]),
    ("playhouse-generate", &[]),
    // Bytes in, bytes out: neither the log nor the gate is its business, and SQLite is not the gate's.
    ("playhouse-repair", &[]),
    // The black box: it knows sockets and processes only.
    ("playhouse-testkit", &[]),
    ("xtask", &[]),
];

/// What a crate must not know of, whoever else does.
const REFUSED: [(&str, &[&str]); 14] = [
    ("playhouse-log", &["kafka-protocol", "axum", "hyper", "datafusion", "arrow"]),
    ("playhouse-schema", &["kafka-protocol", "axum", "hyper", "datafusion", "arrow", "tokio"]),
    ("playhouse-registry", &["kafka-protocol", "axum", "hyper", "datafusion", "arrow"]),
    ("playhouse-gate", &["kafka-protocol", "axum", "hyper", "datafusion", "arrow", "rusqlite"]),
    ("playhouse-client", &["axum", "hyper", "datafusion", "arrow"]),
    ("playhouse-kafka", &["axum", "datafusion", "arrow"]),
    ("playhouse-engine", &["deltalake", "redis", "tokio-postgres", "rusqlite", "kafka-protocol", "axum"]),
    ("playhouse-connectors", &["kafka-protocol", "axum", "pgwire"]),
    ("playhouse-query", &["deltalake", "redis", "rusqlite", "axum"]),
    ("playhouse-http", &["kafka-protocol", "datafusion", "arrow"]),
    ("playhouse-grpc", &["kafka-protocol", "datafusion", "arrow"]),
    ("playhouse-proxy", &["kafka-protocol", "datafusion", "arrow"]),
    ("playhouse-generate", &["axum", "datafusion", "arrow"]),
    ("playhouse-repair", &["tokio", "axum", "datafusion", "arrow"]),
];

#[test]
fn each_crate_depends_on_those_below_it_only() {
    let crates = crates();
    for (name, allowed) in ALLOWED {
        let Some(dependencies) = crates.get(name) else { panic!("{name} is not in the workspace") };
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("playhouse")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} depends on {dependency}, but may only depend on {allowed:?}"
            );
        }
    }
}

#[test]
fn no_crate_knows_the_products_above_it() {
    let crates = crates();
    for (name, refused) in REFUSED {
        let known: Vec<&str> = refused.iter().copied().filter(|product| crates[name].contains(*product)).collect();
        assert!(known.is_empty(), "{name} depends on {known:?}");
    }
}

#[test]
fn every_crate_has_its_place() {
    let placed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    // The binary itself may know everything.
    for name in crates().keys().filter(|name| name.starts_with("playhouse-")) {
        assert!(placed.contains(name.as_str()), "{name} is new: say in this test what it may depend on");
    }
}

/// The dependencies of each package of the workspace, those for tests left out.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let manifests = folders.chain([root.to_owned(), root.join("xtask")]).map(|folder| folder.join("Cargo.toml"));
    manifests
        .filter(|manifest| manifest.exists())
        .map(|manifest| {
            let text = std::fs::read_to_string(&manifest).unwrap();
            let manifest: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
            let name = manifest["package"]["name"].as_str().unwrap().to_owned();
            (name, dependencies(&manifest))
        })
        .collect()
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let tables = platforms.filter_map(toml::Value::as_table).chain([manifest]);
    let sections = tables.flat_map(|table| ["dependencies", "build-dependencies"].map(|section| table.get(section)));
    let entries = sections.flatten().filter_map(toml::Value::as_table).flatten();
    entries.map(|(name, entry)| entry.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()).collect()
}
