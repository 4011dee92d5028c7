//! What the admin door answers.

mod common;

use std::sync::Arc;

use base64::Engine as _;
use common::*;
use playhouse_gate::{Auth, Grant, KeyFile, KeyRing};
use playhouse_http::ByteBudget;
use playhouse_http::ServeOptions;
use playhouse_http::admin::{self, AdminDoor, Metric, Readiness};
use playhouse_http::ingest::{self, IngestConfig, IngestDoor};
use playhouse_log::disk::SimulatedDisk;
use serde_json::{Value, json};

struct Admin {
    served: Served,
    ingest: Served,
    readiness: Readiness,
}

async fn admin() -> Admin {
    admin_asking(Auth::None).await
}

async fn admin_asking(auth: Auth) -> Admin {
    let (gate, _disk) = gate(&Limits::default());
    let readiness = Readiness::new(["ingest", "kafka"]);
    let door = AdminDoor {
        readiness: readiness.clone(),
        metrics: Arc::new(|| vec![Metric::gauge("playhouse_up", "One.").value(1.0)]),
        status: Arc::new(|| json!({"events": 7})),
        gate: gate.clone(),
        auth,
    };
    let ingest = IngestDoor::new(gate, IngestConfig::default(), ByteBudget::new(1 << 20)).unwrap();
    let ingest = listen(ServeOptions::default(), |_| ingest::router(ingest)).await;
    let served = listen(ServeOptions::default(), |bound| admin::router(door, bound)).await;
    Admin { served, ingest, readiness }
}

#[tokio::test]
async fn ready_once_every_door_is_open() {
    let admin = admin().await;
    let address = admin.served.address;
    assert_eq!(get(address, "/health/live").await.status, 200);
    admin.readiness.open("ingest");
    let detail = get(address, "/health/ready").await.problem(503, "not-ready");
    assert_eq!(detail, "not open yet: kafka");
    admin.readiness.open("kafka");
    assert_eq!(get(address, "/health/ready").await.status, 200);
    admin.readiness.close();
    get(address, "/health/ready").await.problem(503, "not-ready");
}

#[tokio::test]
async fn with_keys_health_is_anybodys_and_the_rest_for_who_may_read_all() {
    let disk = SimulatedDisk::new();
    let keys = || KeyFile::new(Arc::new(disk.clone()), std::path::Path::new("/data"));
    let made = |name: &str, grant: Grant| keys().create(name, grant, 0).unwrap().token;
    let [sends, some, all, admins] = [
        made("sends", Grant::send(["*"])),
        made("some", Grant::read(["web.*"])),
        made("all", Grant::read(["*"])),
        made("admins", Grant::admin()),
    ];
    let admin = admin_asking(Auth::Keys(Arc::new(KeyRing::open(keys()).unwrap()))).await;
    let address = admin.served.address;
    assert_eq!(get(address, "/health/live").await.status, 200);
    let unknown = get(address, "/metrics").await;
    unknown.problem(401, "unauthorized");
    assert!(unknown.head.contains("www-authenticate: basic"), "{unknown:?}");
    for (token, status) in [(sends, 403), (some, 403), (all.clone(), 200), (admins, 200)] {
        for path in ["/", "/metrics", "/api/status", "/api/bad-events"] {
            let ask = request(&format!("GET {path}"), &format!("authorization: Bearer {token}\r\n"), b"");
            assert_eq!(send(address, &ask).await.status, status, "{path}");
        }
    }
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("prometheus:{all}"));
    let ask = request("GET /metrics", &format!("authorization: Basic {basic}\r\n"), b"");
    assert_eq!(send(address, &ask).await.status, 200);
    let change = request("POST /api/status", &format!("authorization: Bearer {all}\r\n"), b"");
    send(address, &change).await.problem(403, "not-allowed");
}

#[tokio::test]
async fn metrics_status_page_and_document() {
    let admin = admin().await;
    let address = admin.served.address;
    let metrics = get(address, "/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{metrics:?}");
    assert!(metrics.body.ends_with("playhouse_up 1\n"), "{metrics:?}");
    assert_eq!(get(address, "/api/status").await.json(), json!({"events": 7}));
    assert_eq!(get(address, "/api/openapi.json").await.json()["openapi"], "3.1.0");
    assert!(get(address, "/").await.body.contains("/api/status"));
    get(address, "/api/nothing").await.problem(404, "not-found");
}

#[tokio::test]
async fn bad_events_are_listed_page_by_page() {
    let admin = admin().await;
    let bad = "{\"id\":\"a\"}\n{\"id\":\"b\"}\nnot json \u{fffd}\n";
    assert_eq!(send(admin.ingest.address, &request("POST /events", "", bad.as_bytes())).await.status, 422);
    let mut raws = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/bad-events?limit=2&cursor={cursor}");
        let page = get(admin.served.address, &path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let rows = page["bad_events"].as_array().unwrap();
        if rows.is_empty() {
            break;
        }
        assert!(rows.len() <= 2);
        for row in rows {
            assert_eq!(row["topic"], "multimedia_events");
            assert_eq!(row["source"], json!({"protocol": "rest", "address": "127.0.0.1"}));
            assert!(!row["reasons"].as_array().unwrap().is_empty());
            raws.push(row["raw"].as_str().unwrap().to_string());
        }
        cursor = page["cursor"].as_str().unwrap().to_string();
    }
    raws.sort();
    assert_eq!(raws, ["not json \u{fffd}", "{\"id\":\"a\"}", "{\"id\":\"b\"}"]);
    for wrong in
        ["limit=0", "limit=1001", "limit=x", "cursor=zz", "limt=1", "stage=sinks", "since_ms=noon", "state=shut"]
    {
        get(admin.served.address, &format!("/api/bad-events?{wrong}")).await.problem(400, "bad-request");
    }
}

#[tokio::test]
async fn bad_events_are_filtered_shown_and_counted() {
    let admin = admin().await;
    let address = admin.served.address;
    let bad = "{\"id\":\"a\"}\n{\"id\":\"b\"}\nnot json\n";
    assert_eq!(send(admin.ingest.address, &request("POST /events", "", bad.as_bytes())).await.status, 422);
    let listed = |filter: &'static str| async move {
        let page = get(address, &format!("/api/bad-events?{filter}")).await.json();
        assert_eq!(page["end"], true);
        page["bad_events"].as_array().unwrap().clone()
    };
    let decode = listed("stage=decode&topic=multimedia_events").await;
    assert_eq!(decode.len(), 1);
    assert_eq!(decode[0]["raw"], "not json");
    assert_eq!(listed("keyword=required&text=%22user%22&since_ms=0").await.len(), 2);
    assert_eq!(listed("topic=other").await.len(), 0);
    assert_eq!(listed("until_ms=1").await.len(), 0);

    let id = decode[0]["bad_id"].as_str().unwrap();
    assert_eq!(get(address, &format!("/api/bad-events/{id}")).await.json(), decode[0]);
    get(address, "/api/bad-events/0-99").await.problem(404, "not-found");

    let stats = get(address, "/api/bad-events/stats").await.json();
    assert_eq!((&stats["count"], &stats["raw_bytes"]), (&json!(3), &json!(28)));
    assert_eq!(stats["stages"], json!([{"stage": "decode", "count": 1}, {"stage": "validate", "count": 2}]));
    assert_eq!(get(address, "/api/bad-events/stats?stage=decode").await.json()["count"], 1);
    assert_eq!((&stats["fixed"], &stats["dropped"]), (&json!(0), &json!(0)));
    get(address, "/api/bad-events/stats?limit=1").await.problem(400, "bad-request");
}

async fn post(address: std::net::SocketAddr, path: &str, body: Value) -> Answer {
    let head = format!("POST /api/bad-events/{path}");
    send(address, &request(&head, "content-type: application/json\r\n", body.to_string().as_bytes())).await
}

#[tokio::test]
async fn bad_events_are_fixed_replayed_and_dropped() {
    let admin = admin().await;
    let address = admin.served.address;
    let bad = "{\"id\":\"a\"}\n{\"id\":\"b\",\"user\":1}\nnot json\n{\"id\":\"c\"}\n";
    assert_eq!(send(admin.ingest.address, &request("POST /events", "", bad.as_bytes())).await.status, 422);

    let patch = json!([{"op": "add", "path": "/user", "value": "u"}]);
    let asked = json!({"filter": {"keyword": "required"}, "patch": patch, "dry_run": true});
    let tried = post(address, "fix", asked).await.json();
    assert_eq!((&tried["counts"], &tried["end"]), (&json!({"would_pass": 2}), &json!(true)));
    let first = &tried["events"][0];
    assert_eq!(
        (&first["before"], &first["after"]),
        (&json!("{\"id\":\"a\"}"), &json!("{\"id\":\"a\",\"user\":\"u\"}"))
    );

    let fixed = post(address, "fix", json!({"bad_ids": ["0-0", "0-0", "0-2", "0-9"], "patch": patch})).await.json();
    assert_eq!((&fixed["counts"], &fixed["missing"]), (&json!({"fixed": 1, "still_bad": 1}), &json!(["0-9"])));
    let one = &fixed["events"][0];
    assert_eq!((&one["outcome"], &one["attempts"], one.get("before")), (&json!("fixed"), &json!(1), None));
    let row = get(address, "/api/bad-events/0-0").await.json();
    assert_eq!((&row["fixed_as"], &row["attempts"], &row["dropped"]), (&one["fixed_as"], &json!(1), &json!(false)));
    assert_eq!(fixed["events"][1]["reasons"][0]["keyword"], "fix");

    // By pages, and those that are fixed already are not among them.
    let sql = "json_set(raw, '$.user', coalesce(raw ->> 'user', 'u') || '')";
    let mut asked = json!({"filter": {"stage": "validate"}, "sql": sql, "limit": 1});
    let mut seen = Vec::new();
    loop {
        let page = post(address, "fix", asked.clone()).await.json();
        seen.extend(page["events"].as_array().unwrap().iter().map(|it| (it["bad_id"].clone(), it["outcome"].clone())));
        if page["end"] == true {
            break;
        }
        asked["cursor"] = page["cursor"].clone();
    }
    assert_eq!(seen, [(json!("0-1"), json!("fixed")), (json!("0-3"), json!("fixed"))]);

    let replayed = post(address, "replay", json!({"bad_ids": ["0-2", "0-3"]})).await.json();
    assert_eq!(replayed["counts"], json!({"still_bad": 1, "already_fixed": 1}));
    assert_eq!(post(address, "drop", json!({"filter": {}})).await.json()["counts"], json!({"dropped": 1}));
    assert_eq!(get(address, "/api/bad-events/0-2").await.json()["dropped"], true);
    let stats = get(address, "/api/bad-events/stats").await.json();
    assert_eq!((&stats["count"], &stats["fixed"], &stats["dropped"]), (&json!(4), &json!(3), &json!(1)));
    assert_eq!(get(address, "/api/bad-events/stats?state=open").await.json()["count"], 0);
    let restored = post(address, "drop", json!({"filter": {}, "restore": true})).await.json();
    assert_eq!(restored["counts"], json!({"restored": 1}));
}

#[tokio::test]
async fn repairs_that_make_no_sense_are_refused() {
    let admin = admin().await;
    let address = admin.served.address;
    for (path, body, told) in [
        ("replay", json!({}), "bad_ids"),
        ("replay", json!({"bad_ids": ["0-0"], "filter": {}}), "either"),
        ("replay", json!({"bad_ids": []}), "no event"),
        ("replay", json!({"filter": {"stag": "decode"}}), "stag"),
        ("replay", json!({"filter": {}, "limit": 0}), "limit"),
        ("replay", json!({"filter": {}, "cursor": "x"}), "cursor"),
        ("fix", json!({"filter": {}}), "patch or sql"),
        ("fix", json!({"filter": {}, "patch": [{"op": "bend", "path": ""}]}), "RFC 6902"),
        ("fix", json!({"filter": {}, "sql": "nonsense"}), "no such column"),
        ("fix", json!({"filter": {}, "sql": "1", "patch": []}), "patch or sql"),
        ("drop", json!({"filter": {}, "dry_run": true}), "dry_run"),
    ] {
        let detail = post(address, path, body.clone()).await.problem(400, "bad-request");
        assert!(detail.contains(told), "{body}: {detail}");
    }
    let form = request("POST /api/bad-events/drop", "content-type: text/plain\r\n", b"{\"filter\": {}}");
    send(address, &form).await.problem(400, "bad-request");
    get(address, "/api/bad-events/drop").await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn foreign_hosts_and_pages_are_refused() {
    let admin = admin().await;
    let rebound = b"GET /api/status HTTP/1.1\r\nhost: evil.example:8080\r\n\r\n";
    send(admin.served.address, rebound).await.problem(421, "foreign-host");
    let page = b"GET /api/status HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n\r\n";
    send(admin.served.address, page).await.problem(421, "foreign-host");
}
