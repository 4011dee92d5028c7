//! The seven levels of compatibility by the registry's own door, for changes of Avro, Protobuf and JSON Schemas whose outcomes are
//! documented.
//!
//! `data/compatibility.json` has a change per line: the versions `before` it, and whether what comes `after` reads what each of
//! them wrote (`reads`) and is read by each (`read_by`). Each names its source: the Avro specification, or Confluent's
//! documentation of how schemas evolve. What follows for each level is in that documentation's table of levels.

use std::collections::BTreeSet;

use playhouse_testkit::{Playhouse, http};
use serde::Deserialize;
use serde_json::{Value, json};

const CASES: &str = include_str!("data/compatibility.json");
const LEVELS: [&str; 7] =
    ["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    format: String,
    #[serde(rename = "source")]
    _source: String,
    before: Vec<Value>,
    after: Value,
    reads: Vec<bool>,
    read_by: Vec<bool>,
}

impl Case {
    /// Whether the level lets it pass: the latest version counts, or all do.
    fn passes(&self, level: &str) -> bool {
        let all = level.ends_with("_TRANSITIVE");
        let holds = |each: &[bool]| if all { each.iter().all(|it| *it) } else { each[each.len() - 1] };
        let backward = level.starts_with("BACKWARD") || level.starts_with("FULL");
        let forward = level.starts_with("FORWARD") || level.starts_with("FULL");
        (!backward || holds(&self.reads)) && (!forward || holds(&self.read_by))
    }

    fn body(&self, schema: &Value) -> Value {
        let text = match (self.format.as_str(), schema) {
            ("PROTOBUF", Value::String(text)) => text.clone(),
            (_, schema) => schema.to_string(),
        };
        json!({"schemaType": self.format, "schema": text})
    }
}

/// A registry with Confluent's API.
struct Registry {
    address: std::net::SocketAddr,
    /// Before its paths.
    root: &'static str,
}

impl Registry {
    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("Content-Type", "application/json")];
        let path = format!("{}{path}", self.root);
        let answer = http::request(self.address, method, &path, &headers, body.to_string().as_bytes()).unwrap();
        (answer.status, answer.json())
    }

    #[track_caller]
    fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(method, path, body);
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer
    }

    fn set(&self, subject: &str, level: &str) {
        self.ok("PUT", &format!("/config/{subject}"), &json!({"compatibility": level}));
    }

    /// What it says of a change at a level, and why.
    fn asked(&self, subject: &str, body: &Value, level: &str) -> (bool, Value) {
        self.set(subject, level);
        let answer = self.ok("POST", &format!("/compatibility/subjects/{subject}/versions?verbose=true"), body);
        (answer["is_compatible"].as_bool().unwrap(), answer["messages"].clone())
    }

    fn prepare(&self, subject: &str, case: &Case) {
        for schema in &case.before {
            self.ok("POST", &format!("/subjects/{subject}/versions"), &case.body(schema));
            // Not every registry sets a level before there is a version.
            self.set(subject, "NONE");
        }
    }
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    let names: BTreeSet<&str> = cases.iter().map(|it| it.case.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name of its own for each");
    assert!(cases.iter().all(|it| it.before.len() == it.reads.len() && it.before.len() == it.read_by.len()));
    cases
}

#[test]
fn documented_changes_pass_at_the_levels_that_let_them() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.set("durability", "os").start();
    let registry = Registry { address: playhouse.registry(), root: "" };
    let mut wrong = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let (subject, body) = (format!("case-{number}"), case.body(&case.after));
        registry.prepare(&subject, case);
        let register = || registry.send("POST", &format!("/subjects/{subject}/versions"), &body);
        for level in LEVELS {
            let passes = case.passes(level);
            let (said, messages) = registry.asked(&subject, &body, level);
            if said != passes {
                wrong.push(format!("{} {:?} at {level}: {said}, {messages}", case.format, case.case));
                continue;
            }
            assert_eq!(messages.as_array().unwrap().is_empty(), passes, "{} at {level}: {messages}", case.case);
            if !passes {
                assert_eq!(register().0, 409, "{} at {level}", case.case);
            }
        }
        // It is in force what was said last.
        let strictest = LEVELS.iter().rev().find(|level| case.passes(level)).unwrap();
        registry.set(&subject, strictest);
        assert_eq!(register().0, 200, "{} at {strictest}", case.case);
        assert_eq!(
            registry.ok("GET", &format!("/subjects/{subject}/versions/latest"), &json!({}))["version"],
            case.before.len() + 1
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What differs is listed in docs/schema-registry.md, by the name of the change: there Apicurio has rules of its own.
#[test]
#[ignore = "needs Apicurio Registry"]
fn apicurio_says_the_same_where_it_goes_by_the_same_rules() {
    let address = std::env::var("PLAYHOUSE_TEST_APICURIO").expect("`cargo xtask test --real` sets it");
    let registry = Registry { address: address.parse().unwrap(), root: "/apis/ccompat/v7" };
    let explained = include_str!("../docs/schema-registry.md");
    // It may be asked more than once.
    let run = std::process::id();
    let mut wrong = Vec::new();
    for (number, mut case) in cases().into_iter().enumerate() {
        // It tells JSON Schemas from other JSON by this.
        if case.format == "JSON" {
            for schema in case.before.iter_mut().chain([&mut case.after]) {
                schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
            }
        }
        let (subject, body) = (format!("case-{run}-{number}"), case.body(&case.after));
        registry.prepare(&subject, &case);
        let said = |level: &str| {
            registry.set(&subject, level);
            // Asked for no version, it compares with all of them at any level.
            let of = if level.ends_with("_TRANSITIVE") { "" } else { "/latest" };
            let path = format!("/compatibility/subjects/{subject}/versions{of}");
            registry.ok("POST", &path, &body)["is_compatible"].as_bool().unwrap()
        };
        let differs: Vec<&str> = LEVELS.into_iter().filter(|level| said(level) != case.passes(level)).collect();
        let is_explained = explained.contains(&format!("`{}`", case.case));
        if differs.is_empty() == is_explained {
            wrong.push(format!("{} {:?} differs at {differs:?}", case.format, case.case));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
