//! The schema registry as its clients see it: Confluent's API, its codes and shapes, and that nothing answered is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use playhouse_testkit::http::{self, Response};
use playhouse_testkit::{Playhouse, wait_until};
use serde_json::{Value, json};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

fn start() -> (tempfile::TempDir, Playhouse) {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    (directory, playhouse)
}

fn send(playhouse: &Playhouse, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("Content-Type", CONTENT_TYPE)];
    let response = http::request(playhouse.registry(), method, path, &headers, body.as_bytes()).unwrap();
    assert_eq!(response.header("content-type"), Some(CONTENT_TYPE), "{method} {path}");
    response
}

/// What is answered with 200.
fn ok(playhouse: &Playhouse, method: &str, path: &str, body: Value) -> Value {
    let response = send(playhouse, method, path, &body);
    assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
    response.json()
}

fn get(playhouse: &Playhouse, path: &str) -> Value {
    ok(playhouse, "GET", path, Value::Null)
}

/// The error's code, of which the status is the beginning.
fn refused(playhouse: &Playhouse, method: &str, path: &str, body: Value) -> u64 {
    let response = send(playhouse, method, path, &body);
    let error = response.json();
    let code = error["error_code"].as_u64().unwrap_or_else(|| panic!("{method} {path}: {}", response.text()));
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    assert!(code.to_string().starts_with(&response.status.to_string()), "{} {error}", response.status);
    code
}

/// A record with texts as fields; those that end in `?` have a default.
fn record(name: &str, fields: &[&str]) -> String {
    let field = |field: &&str| match field.strip_suffix('?') {
        Some(name) => json!({"name": name, "type": "string", "default": ""}),
        None => json!({"name": field, "type": "string"}),
    };
    json!({"type": "record", "name": name, "fields": fields.iter().map(field).collect::<Vec<_>>()}).to_string()
}

fn avro(name: &str, fields: &[&str]) -> Value {
    json!({"schema": record(name, fields)})
}

fn register(playhouse: &Playhouse, subject: &str, schema: Value) -> Value {
    ok(playhouse, "POST", &format!("/subjects/{subject}/versions"), schema)
}

#[test]
fn a_schema_is_registered_and_found_in_every_way() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    assert_eq!(get(p, "/"), json!({}));
    assert_eq!(get(p, "/subjects"), json!([]));
    assert_eq!(get(p, "/contexts"), json!(["."]));
    assert!(get(p, "/schemas/types").as_array().unwrap().contains(&json!("AVRO")));
    assert!(get(p, "/v1/metadata/id")["scope"]["clusters"]["kafka-cluster"].is_string());
    assert!(get(p, "/v1/metadata/version")["version"].is_string());

    let first = register(p, "plays-value", avro("Play", &["user"]));
    assert_eq!((&first["id"], &first["version"]), (&json!(1), &json!(1)));
    // Its own order of attributes is kept, its own white space is not.
    let text = r#"{"type":"record","name":"Play","fields":[{"name":"user","type":"string"}]}"#;
    assert_eq!(first["schema"], text);
    let again = register(p, "plays-value", avro("Play", &["user"]));
    assert_eq!(again, first, "the same again is no other");
    let second = register(p, "plays-value", avro("Play", &["user", "track?"]));
    assert_eq!((&second["id"], &second["version"]), (&json!(2), &json!(2)));
    assert_eq!(register(p, "other%2Fvalue", avro("Play", &["user"]))["id"], 1, "one content, one id");

    assert_eq!(get(p, "/subjects"), json!(["other/value", "plays-value"]));
    assert_eq!(get(p, "/subjects?subjectPrefix=pl"), json!(["plays-value"]));
    assert_eq!(get(p, "/subjects?subjectPrefix=:*:&offset=1&limit=-1"), json!(["plays-value"]));
    assert_eq!(get(p, "/subjects/plays-value/versions"), json!([1, 2]));
    let guid = first["guid"].as_str().unwrap();
    let whole = json!({"subject": "plays-value", "version": 1, "id": 1, "guid": guid, "schema": text});
    assert_eq!(get(p, "/subjects/plays-value/versions/1"), whole);
    assert_eq!(get(p, "/subjects/plays-value/versions/latest")["version"], 2);
    assert_eq!(get(p, "/subjects/plays-value/versions/-1")["version"], 2);
    assert_eq!(get(p, "/subjects/plays-value/versions/1/schema").to_string(), sorted(text));
    assert_eq!(ok(p, "POST", "/subjects/plays-value", avro("Play", &["user"])), whole);
    assert_eq!(get(p, "/schemas/ids/1"), json!({"schema": text, "guid": guid}));
    assert_eq!(get(p, "/schemas/ids/1?fetchMaxId=True")["maxId"], 2);
    assert_eq!(get(p, "/schemas/ids/1/schema").to_string(), sorted(text));
    assert_eq!(get(p, "/schemas/ids/1/subjects"), json!(["other/value", "plays-value"]));
    let versions = json!([{"subject": "other/value", "version": 1}, {"subject": "plays-value", "version": 1}]);
    assert_eq!(get(p, "/schemas/ids/1/versions"), versions);
    assert_eq!(get(p, "/schemas/ids/1/versions?subject=plays-value"), json!([versions[1]]));
    assert_eq!(get(p, &format!("/schemas/guids/{guid}")), json!({"schema": text, "guid": guid}));
    assert_eq!(get(p, &format!("/schemas/guids/{guid}/ids")), json!([{"context": ".", "id": 1}]));
    let listed = get(p, "/schemas?subjectPrefix=plays&latestOnly=true");
    assert_eq!(listed, json!([get(p, "/subjects/plays-value/versions/2")]));
    assert_eq!(get(p, "/schemas").as_array().unwrap().len(), 3);

    let status = playhouse.status();
    assert_eq!((&status["registry"]["subjects"], &status["registry"]["schemas"]), (&json!(2), &json!(2)));
    assert!(playhouse.get("/metrics").text().contains("playhouse_registry_subjects 2"));
}

/// JSON with its members in the order in which `Value` prints them.
fn sorted(text: &str) -> String {
    text.parse::<Value>().unwrap().to_string()
}

#[test]
fn what_is_not_there_or_not_right_has_its_code() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    register(p, "s", avro("R", &["x"]));
    let none = || Value::Null;
    let cases = [
        ("GET", "/subjects/none/versions", none(), 40401),
        ("POST", "/subjects/none", avro("R", &["x"]), 40401),
        ("DELETE", "/subjects/none", none(), 40401),
        ("GET", "/subjects/s/versions/2", none(), 40402),
        ("DELETE", "/subjects/s/versions/2", none(), 40402),
        ("POST", "/compatibility/subjects/s/versions/2", avro("R", &["x"]), 40402),
        ("GET", "/schemas/ids/7", none(), 40403),
        ("GET", "/schemas/ids/7/subjects", none(), 40403),
        ("GET", "/schemas/guids/no-guid", none(), 40403),
        ("POST", "/subjects/s", avro("R", &["y"]), 40403),
        ("DELETE", "/subjects/s?permanent=true", none(), 40405),
        ("DELETE", "/subjects/s/versions/1?permanent=true", none(), 40407),
        ("GET", "/config/s", none(), 40408),
        ("GET", "/mode/s", none(), 40409),
        ("POST", "/subjects/s/versions", avro("Q", &["x"]), 409),
        ("POST", "/subjects/s/versions", json!({"schema": "{\"type\":\"nothing\"}"}), 42201),
        ("POST", "/subjects/s/versions", json!({"schema": ""}), 42201),
        ("POST", "/subjects/s/versions", none(), 42201),
        ("POST", "/subjects/s/versions", json!({"schema": "{}", "schemaType": "XML"}), 42201),
        ("GET", "/subjects/s/versions/0", none(), 42202),
        ("GET", "/subjects/s/versions/newest", none(), 42202),
        ("PUT", "/config", json!({"compatibility": "SOMEWHAT"}), 42203),
        ("PUT", "/config/s", json!({}), 42203),
        ("PUT", "/mode", json!({"mode": "SLOW"}), 42204),
        ("PUT", "/mode", json!({"mode": "IMPORT"}), 42205),
        ("POST", "/subjects/s/versions", json!({"schema": record("R", &["x", "y?"]), "id": 9}), 42205),
        ("POST", "/subjects/:.other:s/versions", avro("R", &["x"]), 42208),
        // Without a code of their own.
        ("GET", "/nowhere", none(), 404),
        ("GET", "/schemas/ids/one", none(), 404),
        ("PATCH", "/subjects/s", none(), 405),
        ("GET", "/subjects?deleted=perhaps", none(), 400),
        ("GET", "/subjects?limit=many", none(), 400),
        ("POST", "/subjects/s/versions", json!({"schema": record("R", &["x"]), "shcemaType": "AVRO"}), 422),
        ("POST", "/subjects/s/versions", json!({"schema": 7}), 422),
        ("PUT", "/config", json!({"compatibility": "FULL", "compatibilityGroup": "group"}), 422),
    ];
    for (method, path, body, code) in cases {
        assert_eq!(refused(p, method, path, body), code, "{method} {path}");
    }
    let message = send(p, "POST", "/subjects/s/versions", &avro("R", &["x", "y"])).json()["message"].clone();
    let told = message.as_str().unwrap();
    assert!(told.contains("READER_FIELD_MISSING_DEFAULT_VALUE") && told.contains("oldSchemaVersion: 1"), "{told}");
    assert_eq!(get(p, "/subjects"), json!(["s"]), "nothing of it was taken");
    for kind in ["JSON", "PROTOBUF"] {
        let schema = json!({"schema": "message {", "schemaType": kind});
        assert_eq!(refused(p, "POST", "/subjects/t/versions", schema), 42201);
    }
}

#[test]
fn protobuf_is_given_as_text_or_serialized_wherever_a_schema_is() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    let text = "syntax = \"proto3\";\n\nmessage Play {\n  string user = 1;\n}\n";
    let schema = json!({"schema": text, "schemaType": "PROTOBUF", "metadata": {"properties": {"owner": "us"}}});
    let registered = register(p, "plays", schema.clone());
    let (id, guid) = (&registered["id"], registered["guid"].as_str().unwrap());
    let places = [
        format!("/schemas/ids/{id}"),
        format!("/schemas/guids/{guid}"),
        "/subjects/plays/versions/latest".to_owned(),
        "/subjects/plays/metadata?key=owner&value=us".to_owned(),
    ];
    let with =
        |path: &str, format: &str| format!("{path}{}format={format}", if path.contains('?') { '&' } else { '?' });
    for path in &places {
        let (plain, serialized) = (get(p, path), get(p, &with(path, "serialized")));
        assert_eq!((&plain["schema"], &plain["schemaType"]), (&json!(text), &json!("PROTOBUF")), "{path}");
        // `FileDescriptorProto`: a message type (field 4) that is called so.
        assert_eq!(serialized["schema"].as_str().unwrap(), get(p, &with(&places[0], "serialized"))["schema"], "{path}");
        assert_eq!(serialized["guid"], plain["guid"], "{path}");
        assert_eq!(refused(p, "GET", &with(path, "ignore_extensions"), Value::Null), 422, "{path}");
    }
    let found = ok(p, "POST", "/subjects/plays?format=serialized", schema);
    let serialized = found["schema"].as_str().unwrap().to_owned();
    for path in [format!("/schemas/ids/{id}/schema"), "/subjects/plays/versions/1/schema".to_owned()] {
        let alone = send(p, "GET", &with(&path, "serialized"), &Value::Null).text();
        assert_eq!(alone, serialized, "{path}");
    }
    // What is given so can be registered so: it is the same schema.
    let again = register(p, "again", json!({"schema": serialized, "schemaType": "PROTOBUF"}));
    assert_eq!(get(p, "/subjects/again/versions/1")["schema"], text, "{again}");
    // Other formats have one text only.
    register(p, "avro", avro("R", &["x"]));
    let plain = get(p, "/subjects/avro/versions/1");
    assert_eq!(get(p, "/subjects/avro/versions/1?format=serialized"), plain);
}

#[test]
fn requests_stay_within_limits_and_on_this_machine() {
    let (_directory, playhouse) = start();
    let address = playhouse.registry();
    let path = "/subjects/s/versions";
    let body = avro("R", &["x"]).to_string();
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        let response = http::post(address, path, headers, body).unwrap();
        (response.status, response.json()["error_code"].as_u64())
    };
    assert_eq!(post(&[("Content-Type", "text/plain")], body.as_bytes()), (415, Some(415)), "what any page can send");
    assert_eq!(post(&[("Accept", "text/html")], body.as_bytes()), (406, Some(406)));
    assert_eq!(post(&[("Origin", "https://elsewhere.example")], body.as_bytes()), (421, Some(421)));
    assert_eq!(post(&[], b"{broken"), (400, Some(400)));
    assert_eq!(post(&[], &vec![b' '; 5 << 20]), (413, Some(413)));
    let long = json!({"schema": format!("\"string\"{}", " ".repeat(2 << 20))}).to_string();
    assert_eq!(post(&[], long.as_bytes()), (422, Some(42209)));
    assert_eq!(post(&[("Content-Encoding", "gzip")], body.as_bytes()), (400, Some(400)));
    assert_eq!(get(&playhouse, "/subjects"), json!([]));

    // Members that a newer client may send are passed over where it says so.
    let newer = json!({"schema": record("R", &["x"]), "schemaTagsToAdd": [{"tag": "PII"}]}).to_string();
    assert_eq!(post(&[], newer.as_bytes()).0, 422);
    assert_eq!(post(&[("Confluent-Accept-Unknown-Properties", "true")], newer.as_bytes()).0, 200);
    let plain = http::request(address, "GET", "/subjects", &[("Accept", "application/json")], &[]).unwrap();
    assert_eq!(plain.header("content-type"), Some("application/json"));

    // The topic behind it is nobody else's to write.
    let (status, told) = playhouse.post("/events/_schemas", "{}", &[]);
    assert!(status == 404 && told.contains("written by Playhouse itself"), "{status} {told}");
}

#[test]
fn levels_are_set_and_asked() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    register(p, "s", avro("R", &["x"]));
    register(p, "s", avro("R", &["x", "y?"]));
    assert_eq!(get(p, "/config"), json!({"compatibilityLevel": "BACKWARD"}));
    assert_eq!(get(p, "/config/s?defaultToGlobal=true"), json!({"compatibilityLevel": "BACKWARD"}));

    let path = "/compatibility/subjects/s/versions";
    let ask = |schema: Value| ok(p, "POST", &format!("{path}/latest"), schema);
    assert_eq!(ask(avro("R", &["x"])), json!({"is_compatible": true}));
    assert_eq!(ask(avro("R", &["x", "z"])), json!({"is_compatible": false}));
    let told = ok(p, "POST", &format!("{path}/1?verbose=true"), avro("R", &["x", "z"]));
    assert_eq!(told["is_compatible"], false);
    let [message] = told["messages"].as_array().unwrap().as_slice() else { panic!("one message: {told}") };
    assert!(message.as_str().unwrap().contains("READER_FIELD_MISSING_DEFAULT_VALUE"), "{message}");
    let told = ok(p, "POST", &format!("{path}?verbose=true"), avro("R", &["x"]));
    assert_eq!(told, json!({"is_compatible": true, "messages": []}));
    // Against every version, where the level is transitive.
    assert_eq!(
        ok(p, "PUT", "/config/s", json!({"compatibility": "backward_transitive"})),
        json!({"compatibility": "BACKWARD_TRANSITIVE"})
    );
    assert_eq!(get(p, "/config/s"), json!({"compatibilityLevel": "BACKWARD_TRANSITIVE"}));
    let without_default = avro("R", &["x", "y"]);
    assert_eq!(ok(p, "POST", path, without_default.clone())["is_compatible"], false);
    assert_eq!(ok(p, "PUT", "/config/s", json!({"compatibility": "BACKWARD"}))["compatibility"], "BACKWARD");
    assert_eq!(ok(p, "POST", path, without_default)["is_compatible"], true);

    assert_eq!(
        ok(p, "PUT", "/config", json!({"compatibility": "NONE", "normalize": true})),
        json!({"compatibility": "NONE", "normalize": true})
    );
    assert_eq!(get(p, "/config"), json!({"compatibilityLevel": "NONE", "normalize": true}));
    assert_eq!(ok(p, "DELETE", "/config/s", Value::Null)["compatibilityLevel"], "BACKWARD");
    assert_eq!(register(p, "s", avro("Other", &[]))["version"], 3, "the global level holds again");
    assert_eq!(ok(p, "DELETE", "/config", Value::Null)["compatibilityLevel"], "NONE");
    assert_eq!(get(p, "/config"), json!({"compatibilityLevel": "BACKWARD"}));
    assert_eq!(refused(p, "DELETE", "/config/s", Value::Null), 40401);
}

#[test]
fn modes_close_subjects_and_let_imports_in() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    register(p, "s", avro("R", &["x"]));
    assert_eq!(get(p, "/mode"), json!({"mode": "READWRITE"}));
    assert_eq!(ok(p, "PUT", "/mode/s", json!({"mode": "READONLY"})), json!({"mode": "READONLY"}));
    assert_eq!(get(p, "/mode/s"), json!({"mode": "READONLY"}));
    assert_eq!(refused(p, "POST", "/subjects/s/versions", avro("R", &["x", "y?"])), 42205);
    assert_eq!(refused(p, "DELETE", "/subjects/s", Value::Null), 42205);
    assert_eq!(ok(p, "DELETE", "/mode/s", Value::Null), json!({"mode": "READONLY"}));
    assert_eq!(get(p, "/mode/s?defaultToGlobal=true"), json!({"mode": "READWRITE"}));

    assert_eq!(refused(p, "PUT", "/mode/s", json!({"mode": "IMPORT"})), 42205);
    ok(p, "PUT", "/mode/moved", json!({"mode": "IMPORT"}));
    let imported = json!({"schema": record("M", &["x"]), "id": 50, "version": 3});
    let imported = register(p, "moved", imported);
    assert_eq!((&imported["id"], &imported["version"]), (&json!(50), &json!(3)));
    let contradicts = json!({"schema": record("M", &["x"]), "id": 51, "version": 3});
    assert_eq!(refused(p, "POST", "/subjects/moved/versions", contradicts), 42207);
    ok(p, "PUT", "/mode/s?force=true", json!({"mode": "IMPORT"}));
    ok(p, "PUT", "/mode/s", json!({"mode": "READWRITE"}));
    assert_eq!(register(p, "s", avro("R", &["x", "y?"]))["id"], 51, "ids go on after those imported");
}

#[test]
fn what_is_referred_to_cannot_go_and_deletion_has_two_steps() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    register(p, "address", avro("Address", &["street"]));
    let user = json!({"type": "record", "name": "User", "fields": [{"name": "home", "type": "Address"}]}).to_string();
    assert_eq!(refused(p, "POST", "/subjects/user/versions", json!({"schema": user})), 42201);
    let with = |version: i32| json!({"schema": user, "references": [{"name": "Address", "subject": "address", "version": version}]});
    assert_eq!(refused(p, "POST", "/subjects/user/versions", with(5)), 42201);
    let registered = register(p, "user", with(-1));
    assert_eq!(registered["references"], json!([{"name": "Address", "subject": "address", "version": 1}]));
    assert_eq!(ok(p, "POST", "/subjects/user", with(1))["id"], registered["id"]);
    assert_eq!(get(p, "/subjects/address/versions/latest/referencedby"), json!([registered["id"]]));
    assert_eq!(refused(p, "DELETE", "/subjects/address", Value::Null), 42206);
    assert_eq!(refused(p, "DELETE", "/subjects/address/versions/1", Value::Null), 42206);

    assert_eq!(ok(p, "DELETE", "/subjects/user", Value::Null), json!([1]));
    assert_eq!(refused(p, "DELETE", "/subjects/user", Value::Null), 40404);
    assert_eq!(get(p, "/subjects"), json!(["address"]));
    assert_eq!(get(p, "/subjects?deleted=true"), json!(["address", "user"]));
    assert_eq!(get(p, "/subjects?deletedOnly=true"), json!(["user"]));
    assert_eq!(refused(p, "GET", "/subjects/user/versions/1", Value::Null), 40401);
    assert_eq!(get(p, "/subjects/user/versions/1?deleted=true")["id"], registered["id"]);
    assert_eq!(get(p, &format!("/schemas/ids/{}", registered["id"]))["schema"], registered["schema"], "data needs it");
    assert_eq!(get(p, &format!("/schemas/ids/{}/subjects", registered["id"])), json!([]));
    assert_eq!(ok(p, "DELETE", "/subjects/user?permanent=true", Value::Null), json!([1]));
    assert_eq!(refused(p, "GET", &format!("/schemas/ids/{}", registered["id"]), Value::Null), 40403);
    assert_eq!(ok(p, "DELETE", "/subjects/address/versions/latest", Value::Null), json!(1));
    assert_eq!(refused(p, "DELETE", "/subjects/address/versions/1", Value::Null), 40406);
    assert_eq!(ok(p, "DELETE", "/subjects/address/versions/1?permanent=true", Value::Null), json!(1));
    assert_eq!(get(p, "/subjects?deleted=true"), json!([]));
}

#[test]
fn metadata_belongs_to_a_schema() {
    let (_directory, playhouse) = start();
    let p = &playhouse;
    let owned = |owner: &str| json!({"schema": record("R", &["x"]), "metadata": {"properties": {"owner": owner}}});
    register(p, "s", owned("a"));
    assert_eq!(register(p, "s", owned("b"))["version"], 2);
    let found = get(p, "/subjects/s/metadata?key=owner&value=a");
    assert_eq!((&found["version"], &found["metadata"]["properties"]["owner"]), (&json!(1), &json!("a")));
    assert_eq!(refused(p, "GET", "/subjects/s/metadata?key=owner&value=c", Value::Null), 40402);
}

#[test]
fn everything_is_there_after_a_restart_and_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.start();
    for number in 0..20 {
        register(&playhouse, &format!("s{number}"), avro(&format!("R{number}"), &["x"]));
    }
    ok(&playhouse, "DELETE", "/subjects/s3", Value::Null);
    ok(&playhouse, "DELETE", "/subjects/s4", Value::Null);
    ok(&playhouse, "DELETE", "/subjects/s4?permanent=true", Value::Null);
    ok(&playhouse, "PUT", "/config/s5", json!({"compatibility": "FULL"}));
    ok(&playhouse, "PUT", "/mode/s6", json!({"mode": "READONLY"}));
    let everything = |p: &Playhouse| {
        let paths = ["/schemas?deleted=true", "/subjects", "/subjects?deletedOnly=true", "/config/s5", "/mode/s6"];
        paths.map(|path| get(p, path))
    };
    let before = everything(&playhouse);
    playhouse.stop();
    let playhouse = builder.start();
    assert_eq!(everything(&playhouse), before);
    playhouse.kill();
    let playhouse = builder.start();
    assert_eq!(everything(&playhouse), before);
    assert_eq!(register(&playhouse, "new", avro("New", &[]))["id"], 21, "ids go on");
    playhouse.kill();

    // Killed while others register: what they were answered is there, with the id they were told.
    let playhouse = builder.start();
    let (address, stop) = (playhouse.registry(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut answered = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let subject = format!("c{client}-{}", answered.len());
                    let body = avro(&format!("C{client}_{}", answered.len()), &["x"]).to_string();
                    let path = format!("/subjects/{subject}/versions");
                    match http::post(address, &path, &[], body.as_bytes()) {
                        Ok(response) if response.status == 200 => answered.push((subject, response.json())),
                        _ => break,
                    }
                }
                answered
            })
        })
        .collect();
    wait_until("some registered", Duration::from_secs(60), || {
        let count = get(&playhouse, "/subjects").as_array().unwrap().len();
        if count > 60 { Ok(()) } else { Err(format!("{count} subjects")) }
    });
    playhouse.kill();
    stop.store(true, Ordering::Relaxed);
    let answered: Vec<(String, Value)> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(answered.len() > 20);
    let playhouse = builder.start();
    for (subject, told) in &answered {
        let found = get(&playhouse, &format!("/subjects/{subject}/versions/1"));
        assert_eq!((&found["id"], &found["schema"]), (&told["id"], &told["schema"]), "{subject}");
    }
}
