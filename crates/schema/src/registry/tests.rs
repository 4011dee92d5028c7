//! What requests come to, and that records carry all of it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::types::cut;
use super::*;
use crate::formats::Format;

/// A registry whose records are kept, as a log keeps them.
struct Registry {
    state: State,
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    cache: ParsedCache,
    limits: Limits,
}

impl Registry {
    fn new() -> Registry {
        let cache = ParsedCache::new(1 << 20);
        Registry { state: State::default(), records: Vec::new(), cache, limits: Limits::default() }
    }

    fn take<T>(&mut self, decided: Result<Decision<T>, RegistryError>) -> Result<T, RegistryError> {
        let Decision { changes, answer } = decided?;
        for change in changes {
            self.records.push((change.key(), change.value()));
            self.state.apply(change);
        }
        Ok(answer)
    }

    fn propose(&mut self, subject: &str, proposal: &Proposal) -> Result<Outcome, RegistryError> {
        let rules = Rules { cache: &self.cache, limits: &self.limits };
        let decided = self.state.register(&rules, subject, proposal);
        self.take(decided)
    }

    fn register(&mut self, subject: &str, text: &str) -> Result<Outcome, RegistryError> {
        self.propose(subject, &Proposal::new(Format::Avro, text))
    }

    fn fits(&self, subject: &str, text: &str) -> Vec<String> {
        let rules = Rules { cache: &self.cache, limits: &self.limits };
        self.state.compare(&rules, subject, &Proposal::new(Format::Avro, text), Against::Level).unwrap()
    }

    fn level(&mut self, subject: Option<&str>, level: Level) {
        let update = ConfigUpdate { level: Some(level), normalize: None };
        let decided = self.state.set_config(subject, update);
        self.take(decided).unwrap();
    }

    fn mode(&mut self, subject: Option<&str>, mode: Mode, force: bool) -> Result<Mode, RegistryError> {
        let decided = self.state.set_mode(subject, mode, force);
        self.take(decided)
    }

    fn delete(&mut self, subject: &str, permanent: bool) -> Result<Vec<i32>, RegistryError> {
        let decided = self.state.delete_subject(subject, permanent);
        self.take(decided)
    }

    fn delete_version(&mut self, subject: &str, version: &str, permanent: bool) -> Result<i32, RegistryError> {
        let decided = self.state.delete_version(subject, version.parse().unwrap(), permanent);
        self.take(decided)
    }
}

/// `fields` are names of texts; those that end in `?` have a default.
fn record(name: &str, fields: &[&str]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|field| match field.strip_suffix('?') {
            Some(name) => format!(r#"{{"name":"{name}","type":"string","default":""}}"#),
            None => format!(r#"{{"name":"{field}","type":"string"}}"#),
        })
        .collect();
    format!(r#"{{"type":"record","name":"{name}","fields":[{}]}}"#, fields.join(","))
}

fn code<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> u32 {
    outcome.expect_err("refused").code()
}

#[test]
fn the_same_schema_has_one_id_everywhere_and_one_version_in_a_subject() {
    let mut registry = Registry::new();
    let first = registry.register("a", &record("R", &["x"])).unwrap();
    assert_eq!(first, Outcome { version: 1, id: 1 });
    let spaced = record("R", &["x"]).replace(',', " , ");
    assert_eq!(registry.register("a", &spaced).unwrap(), first);
    assert_eq!(registry.records.len(), 1);
    registry.register("b", &record("S", &[])).unwrap();
    assert_eq!(registry.register("b", &record("S", &["y?"])).unwrap(), Outcome { version: 2, id: 3 });
    registry.level(Some("b"), Level::None);
    assert_eq!(registry.register("b", &record("R", &["x"])).unwrap(), Outcome { version: 3, id: 1 });
    let uses = registry.state.uses(1, Shown::Live).unwrap();
    assert_eq!(uses, [("a".into(), 1), ("b".into(), 3)]);
    let under = |subject: &str| [1, 2, 3, 4].map(|id| registry.state.is_under(subject, id));
    assert_eq!(under("a"), [true, false, false, false]);
    assert_eq!(under("b"), [true, true, true, false]);
    assert_eq!(under("c"), [false; 4]);
    let schema = registry.state.by_id(1).unwrap();
    assert_eq!(registry.state.by_guid(schema.guid).unwrap().id, 1);
}

#[test]
fn each_level_asks_what_it_says() {
    // The versions so far, and what fits them under which levels.
    let (one, two) = (record("R", &["x"]), record("R", &["x", "y?"]));
    let cases = [
        // A field with a default more or less reads and is read both ways.
        (
            record("R", &["x", "z?"]),
            "NONE BACKWARD BACKWARD_TRANSITIVE FORWARD FORWARD_TRANSITIVE FULL FULL_TRANSITIVE",
        ),
        // Without a default it is read by the old, and does not read them.
        (record("R", &["x", "z"]), "NONE FORWARD FORWARD_TRANSITIVE"),
        // Readers of both old versions want x.
        (record("R", &[]), "NONE BACKWARD BACKWARD_TRANSITIVE"),
        // The latest has y, the first has not.
        (record("R", &["x", "y"]), "NONE BACKWARD FORWARD FORWARD_TRANSITIVE FULL"),
        (record("Q", &["x"]), "NONE"),
    ];
    for (proposed, wanted) in &cases {
        let levels = "NONE BACKWARD BACKWARD_TRANSITIVE FORWARD FORWARD_TRANSITIVE FULL FULL_TRANSITIVE";
        for level in levels.split(' ') {
            let mut registry = Registry::new();
            registry.register("s", &one).unwrap();
            registry.register("s", &two).unwrap();
            registry.level(None, level.parse().unwrap());
            let messages = registry.fits("s", proposed);
            let fits = wanted.split(' ').any(|name| name == level);
            assert_eq!(messages.is_empty(), fits, "{proposed} under {level}: {messages:?}");
            let registered = registry.register("s", proposed);
            assert_eq!(registered.is_ok(), fits);
            if !fits {
                assert_eq!(code(registered), 409);
            }
        }
    }
}

#[test]
fn a_subjects_own_level_goes_before_that_of_all() {
    let mut registry = Registry::new();
    registry.register("s", &record("R", &["x"])).unwrap();
    registry.level(Some("s"), Level::Full);
    registry.level(None, Level::None);
    // Two names both ways, and a field that the old schema needs.
    assert_eq!(registry.fits("s", &record("Q", &[])).len(), 3);
    assert_eq!(registry.state.config(Some("s")).level, Some(Level::Full));
    let deleted = registry.state.delete_config(Some("s"));
    assert_eq!(registry.take(deleted).unwrap().level, Some(Level::Full));
    assert!(registry.fits("s", &record("Q", &[])).is_empty());
    assert_eq!(code(registry.state.delete_config(Some("s"))), 40401);
}

#[test]
fn deletion_is_soft_first_and_then_permanent() {
    let mut registry = Registry::new();
    for fields in [&["x"][..], &["x", "y?"], &["x", "z?"]] {
        registry.register("s", &record("R", fields)).unwrap();
    }
    assert_eq!(code(registry.delete("none", false)), 40401);
    assert_eq!(code(registry.delete("s", true)), 40405);
    assert_eq!(code(registry.delete_version("s", "1", true)), 40407);
    assert_eq!(registry.delete_version("s", "latest", false), Ok(3));
    assert_eq!(code(registry.delete_version("s", "3", false)), 40406);
    assert_eq!(code(registry.delete_version("s", "4", false)), 40402);
    assert_eq!(registry.state.versions("s", Shown::Live), Ok(vec![1, 2]));
    assert_eq!(registry.state.versions("s", Shown::All), Ok(vec![1, 2, 3]));
    assert_eq!(registry.state.versions("s", Shown::Deleted), Ok(vec![3]));
    assert!(registry.state.by_id(3).is_some(), "found by id still");
    assert_eq!(registry.delete_version("s", "3", true), Ok(3));
    assert!(registry.state.by_id(3).is_none());
    registry.level(Some("s"), Level::Full);
    assert_eq!(registry.delete("s", false), Ok(vec![1, 2]));
    assert_eq!(registry.state.own_config("s"), None, "settings go with the last version");
    assert_eq!(code(registry.delete("s", false)), 40404);
    assert_eq!(code(registry.state.versions("s", Shown::Live)), 40401);
    // Registered again, it is the next version, with the id it had.
    assert_eq!(registry.register("s", &record("R", &["x"])).unwrap(), Outcome { version: 3, id: 1 });
    assert_eq!(registry.delete("s", false), Ok(vec![3]));
    assert_eq!(registry.delete("s", true), Ok(vec![1, 2, 3]));
    assert_eq!(registry.state.subject_count() + registry.state.schema_count(), 0);
    assert_eq!(registry.state.text_bytes(), 0);
    // Ids are never given twice, though nothing has them any more.
    assert_eq!(registry.register("s", &record("R", &["x"])).unwrap(), Outcome { version: 1, id: 4 });
}

#[test]
fn what_is_referred_to_stays() {
    let mut registry = Registry::new();
    registry.register("address", &record("Address", &["street"])).unwrap();
    let user = r#"{"type":"record","name":"User","fields":[{"name":"home","type":"Address"}]}"#;
    assert_eq!(code(registry.register("user", user)), 42201);
    let mut proposal = Proposal::new(Format::Avro, user);
    let reference = |version| Reference { name: "Address".into(), subject: "address".into(), version };
    proposal.references = vec![reference(7)];
    assert_eq!(code(registry.propose("user", &proposal)), 42201);
    proposal.references = vec![reference(-1)];
    let outcome = registry.propose("user", &proposal).unwrap();
    let schema = registry.state.by_id(outcome.id).unwrap().clone();
    assert_eq!(schema.references, [reference(1)], "the latest is a version");
    assert!(registry.cache.get(&registry.state, &schema).is_ok());
    assert_eq!(registry.state.referenced_by("address", 1, Shown::Live), [outcome.id]);
    assert_eq!(code(registry.delete("address", false)), 42206);
    registry.delete("user", false).unwrap();
    registry.delete("address", false).unwrap();
    assert_eq!(code(registry.delete("address", true)), 42206, "the deleted one is still found by its id");
    registry.delete("user", true).unwrap();
    registry.delete("address", true).unwrap();
}

#[test]
fn modes_say_who_may_write() {
    let mut registry = Registry::new();
    registry.register("s", &record("R", &["x"])).unwrap();
    for mode in [Mode::Readonly, Mode::ReadonlyOverride, Mode::Forward] {
        registry.mode(Some("s"), mode, false).unwrap();
        assert_eq!(code(registry.register("s", &record("R", &["x", "y?"]))), 42205);
        assert!(registry.register("s", &record("R", &["x"])).is_ok(), "what is there is no write");
        assert_eq!(code(registry.delete("s", false)), 42205);
        assert_eq!(code(registry.state.set_config(Some("s"), ConfigUpdate::default())), 42205);
        assert!(registry.register("other", &record("R", &["x"])).is_ok());
    }
    registry.mode(Some("s"), Mode::Readwrite, false).unwrap();
    registry.mode(None, Mode::Readonly, false).unwrap();
    assert!(registry.register("s", &record("R", &["x", "y?"])).is_ok(), "its own mode goes first");
    registry.mode(None, Mode::ReadonlyOverride, false).unwrap();
    assert_eq!(code(registry.register("s", &record("R", &["x", "z?"]))), 42205);
}

#[test]
fn an_import_brings_its_ids() {
    let mut registry = Registry::new();
    registry.register("s", &record("R", &["x"])).unwrap();
    let with = |text: String, id, version| Proposal { id, version, ..Proposal::new(Format::Avro, text) };
    assert_eq!(code(registry.propose("t", &with(record("R", &["y"]), Some(50), None))), 42205);
    assert_eq!(code(registry.mode(Some("s"), Mode::Import, false)), 42205);
    registry.mode(Some("s"), Mode::Import, true).unwrap();
    registry.mode(Some("t"), Mode::Import, false).unwrap();
    assert_eq!(code(registry.register("t", &record("R", &["y"]))), 42205);
    assert_eq!(code(registry.propose("t", &with(record("R", &["y"]), Some(1), None))), 42205);
    let outcome = registry.propose("t", &with(record("R", &["y"]), Some(50), Some(7))).unwrap();
    assert_eq!(outcome, Outcome { version: 7, id: 50 });
    assert_eq!(code(registry.propose("t", &with(record("R", &["y"]), Some(51), Some(7)))), 42207);
    // Nothing is compared.
    registry.propose("t", &with(record("Q", &[]), Some(60), None)).unwrap();
    registry.mode(Some("t"), Mode::Readwrite, false).unwrap();
    assert_eq!(registry.register("u", &record("N", &[])).unwrap().id, 61);
}

#[test]
fn what_is_empty_in_metadata_makes_no_other_schema() {
    let mut registry = Registry::new();
    let with = |metadata| Proposal { metadata: Some(metadata), ..Proposal::new(Format::Avro, record("R", &["x"])) };
    let plain = registry.register("s", &record("R", &["x"])).unwrap();
    let empty = serde_json::json!({"properties": {}, "tags": null, "sensitive": []});
    assert_eq!(registry.propose("s", &with(empty)), Ok(plain));
    let owned = serde_json::json!({"properties": {"owner": "a"}, "sensitive": []});
    let marked = registry.propose("s", &with(owned)).unwrap();
    assert_ne!(marked, plain, "metadata is part of a schema");
    let metadata = registry.state.by_id(marked.id).unwrap().metadata.clone();
    assert_eq!(metadata, Some(serde_json::json!({"properties": {"owner": "a"}})));
    let found = registry.state.latest_with_metadata("s", &[("owner", "a")], Shown::Live).unwrap();
    assert_eq!(found.version, marked.version);
    assert_eq!(code(registry.state.latest_with_metadata("s", &[("owner", "b")], Shown::Live)), 40402);
    assert_eq!(code(registry.propose("s", &with(serde_json::json!("text")))), 42201);
}

#[test]
fn limits_hold() {
    let mut registry = Registry::new();
    registry.limits = Limits { text_bytes: 300, versions_per_subject: 2, subjects: 2 };
    registry.level(None, Level::None);
    for text in [record("A", &[]), record("B", &[])] {
        registry.register("s", &text).unwrap();
    }
    assert_eq!(code(registry.register("s", &record("C", &[]))), 42209);
    registry.register("t", &record("C", &[])).unwrap();
    assert_eq!(code(registry.register("u", &record("A", &[]))), 42209);
    assert_eq!(code(registry.register("t", &record("D", &["x", "y", "z", "u", "v", "w"]))), 42209);
}

#[test]
fn names_of_subjects_are_checked() {
    assert_eq!(subject_name(":.:s"), Ok("s"));
    assert_eq!(subject_name("a/b c:d"), Ok("a/b c:d"));
    for wrong in ["", ":.other:s", ":*:s", "a\nb", "__GLOBAL", &"x".repeat(1025)] {
        assert_eq!(code(subject_name(wrong)), 42208, "{wrong:?}");
    }
    assert_eq!(cut(&"é".repeat(500)).chars().count(), 100);
}

#[test]
fn parsed_schemas_are_bounded_and_come_back() {
    let mut registry = Registry::new();
    registry.cache = ParsedCache::new(40 << 10);
    for name in 0..100 {
        registry.register(&format!("s{name}"), &record(&format!("R{name}"), &["x"])).unwrap();
    }
    for _ in 0..3 {
        for id in 1..=100 {
            let schema = registry.state.by_id(id).unwrap();
            assert_eq!(registry.cache.get(&registry.state, schema).unwrap().canonical(), schema.text);
            assert!(registry.cache.bytes() <= 40 << 10);
        }
    }
}

#[test]
fn records_are_those_of_confluents_registry() {
    let mut registry = Registry::new();
    registry.register("s", r#""string""#).unwrap();
    registry.level(None, Level::Full);
    registry.mode(Some("s"), Mode::Readwrite, false).unwrap();
    registry.delete("s", false).unwrap();
    registry.delete("s", true).unwrap();
    let shown: Vec<(String, String)> = registry
        .records
        .iter()
        .map(|(key, value)| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(key), value.as_deref().map_or("-".to_owned(), text))
        })
        .collect();
    let wanted = [
        (
            r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#,
            r#"{"subject":"s","version":1,"id":1,"schema":"\"string\"","deleted":false}"#,
        ),
        (r#"{"keytype":"CONFIG","subject":null,"magic":0}"#, r#"{"compatibilityLevel":"FULL"}"#),
        (r#"{"keytype":"MODE","subject":"s","magic":0}"#, r#"{"mode":"READWRITE"}"#),
        (r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#, r#"{"subject":"s","version":1}"#),
        (r#"{"keytype":"MODE","subject":"s","magic":0}"#, "-"),
        (r#"{"keytype":"NOOP","magic":0}"#, r#"{"maxId":1}"#),
        (r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#, "-"),
    ];
    let wanted: Vec<(String, String)> =
        wanted.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    assert_eq!(shown, wanted);
}

#[test]
fn foreign_records_are_passed_over_or_refused() {
    let read = |key: &str, value: &str| Change::read(key.as_bytes(), Some(value.as_bytes()));
    assert!(matches!(read(r#"{"keytype":"NOOP","magic":0}"#, "null"), Ok(None)));
    assert!(matches!(read(r#"{"keytype":"CONTEXT","tenant":"x","magic":0}"#, "{}"), Ok(None)));
    assert!(matches!(read("no key", "{}"), Err(RecordError::Key(_))));
    let key = r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#;
    for wrong in ["{}", "no value", r#"{"subject":"s","version":0,"id":1,"schema":"","deleted":false}"#] {
        assert!(matches!(read(key, wrong), Err(RecordError::Value { .. })), "{wrong}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Register(usize, usize),
    Delete(usize, bool),
    DeleteVersion(usize, i32, bool),
    Level(usize, bool),
    Mode(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..3_usize, any::<bool>());
    prop_oneof![
        4 => (0..3_usize, 0..6_usize).prop_map(|(subject, schema)| Step::Register(subject, schema)),
        1 => place().prop_map(|(subject, permanent)| Step::Delete(subject, permanent)),
        2 => (place(), 1..4).prop_map(|((subject, permanent), version)| Step::DeleteVersion(subject, version, permanent)),
        1 => place().prop_map(|(subject, set)| Step::Level(subject, set)),
        1 => place().prop_map(|(subject, set)| Step::Mode(subject, set)),
    ]
}

/// All that can be asked of a state, as text.
fn everything(state: &State) -> String {
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&(line + "\n"));
    for subject in state.subjects("", Shown::All) {
        let config = (state.own_config(subject), state.own_mode(subject));
        say(format!(
            "{subject}: {:?} {:?} {config:?}",
            state.versions(subject, Shown::All),
            state.versions(subject, Shown::Live)
        ));
        for version in state.versions(subject, Shown::All).unwrap() {
            say(format!("{:?}", state.referenced_by(subject, version, Shown::All)));
        }
    }
    for id in 1..=state.id_max() {
        let schema = state.by_id(id).map(|schema| (schema.guid, schema.text.clone(), schema.references.clone()));
        say(format!("{id}: {schema:?} {:?}", state.uses(id, Shown::All)));
        say(format!("{:?}", schema.map(|(guid, ..)| state.ids_of_guid(guid).to_vec())));
    }
    say(format!("{:?} {:?} {} {}", state.config(None), state.mode(None), state.id_max(), state.text_bytes()));
    text
}

proptest! {
    /// Whoever reads the records has the same state, also if compaction has left the newest of each key only.
    #[test]
    fn records_carry_the_state(steps in proptest::collection::vec(step(), 1..40)) {
        let mut registry = Registry::new();
        registry.level(None, Level::None);
        let subjects = ["a", "b", "a-value"];
        for step in steps {
            let _ = match step {
                Step::Register(subject, schema) => {
                    let mut proposal = Proposal::new(Format::Avro, record(&format!("R{schema}"), &["x"]));
                    if schema == 5 {
                        let references = vec![Reference { name: "R0".into(), subject: "a".into(), version: -1 }];
                        proposal = Proposal { references, ..proposal };
                    }
                    registry.propose(subjects[subject], &proposal).err()
                }
                Step::Delete(subject, permanent) => registry.delete(subjects[subject], permanent).err(),
                Step::DeleteVersion(subject, version, permanent) => {
                    registry.delete_version(subjects[subject], &version.to_string(), permanent).err()
                }
                Step::Level(subject, true) => {
                    registry.level(Some(subjects[subject]), Level::None);
                    None
                }
                Step::Level(subject, false) => {
                    let decided = registry.state.delete_config(Some(subjects[subject]));
                    registry.take(decided).err()
                }
                Step::Mode(subject, true) => registry.mode(Some(subjects[subject]), Mode::Readwrite, false).err(),
                Step::Mode(subject, false) => {
                    let decided = registry.state.delete_mode(Some(subjects[subject]));
                    registry.take(decided).err()
                }
            };
        }
        let newest: BTreeMap<&[u8], usize> =
            registry.records.iter().enumerate().map(|(at, (key, _))| (key.as_slice(), at)).collect();
        let compacted = registry.records.iter().enumerate().filter(|(at, (key, _))| newest[key.as_slice()] == *at);
        let without_tombstones = compacted.clone().filter(|(_, (_, value))| value.is_some());
        let replays: [Vec<_>; 3] = [
            registry.records.iter().collect(),
            compacted.map(|(_, record)| record).collect(),
            without_tombstones.map(|(_, record)| record).collect(),
        ];
        for records in replays {
            let mut replayed = State::default();
            for (key, value) in records {
                replayed.apply(Change::read(key, value.as_deref()).unwrap().unwrap());
            }
            prop_assert_eq!(everything(&replayed), everything(&registry.state));
        }
    }
}
