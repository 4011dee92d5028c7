//! What the door tells clients it serves, against what docs/kafka-compatibility.md says.

mod support;

use std::collections::BTreeMap;

use kafka_protocol::messages::ApiKey;
use support::{Broker, api_versions};

/// API to lowest and highest version: cells of the tables, two to a row.
fn documented() -> BTreeMap<String, (i16, i16)> {
    let text = include_str!("../../../docs/kafka-compatibility.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.flat_map(|row| row.split(" | | ").map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|cells| {
            let (api, versions) = cells.split_once('|')?;
            let (lowest, highest) = versions.trim().trim_end_matches('|').trim().split_once('–')?;
            Some((api.trim().to_owned(), (lowest.parse().ok()?, highest.parse().ok()?)))
        })
        .collect()
}

#[tokio::test]
async fn the_documented_apis_are_those_that_are_served() {
    let broker = Broker::start().await;
    let told = broker.client().await.call(4, &api_versions()).await.api_keys;
    let served = told.iter().map(|it| {
        let api = ApiKey::try_from(it.api_key).unwrap();
        // Advertised from 0 for the sake of old clients, served from 3.
        let lowest = if api == ApiKey::Produce { 3 } else { it.min_version };
        (format!("{api:?}"), (lowest, it.max_version))
    });
    assert_eq!(documented(), served.collect());
}
