//! Protobuf schemas as a registry stores and compares them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use playhouse_schema::compatibility::incompatibilities;
use playhouse_schema::formats::{Format, NamedSchema, Schema, SchemaError};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(text: &str) -> Schema {
    Schema::parse(Format::Protobuf, text, &[]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn refused(text: &str) -> SchemaError {
    Schema::parse(Format::Protobuf, text, &[]).unwrap_err()
}

fn named(name: &str, text: &str) -> NamedSchema {
    NamedSchema { name: name.to_owned(), text: text.to_owned() }
}

#[test]
fn the_battery_of_compatibility_cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/protobuf-compatibility.json")).unwrap();
    let schema = |text: &Value| {
        let text = text.as_str().unwrap();
        match text.strip_prefix("proto2 ") {
            Some(text) => parse(&format!("syntax = \"proto2\"; {text}")),
            None => parse(&format!("syntax = \"proto3\"; {text}")),
        }
    };
    for case in cases {
        let (reader, writer) = (schema(&case["reader"]), schema(&case["writer"]));
        let found = incompatibilities(&reader, &writer);
        let told: Vec<_> = found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect();
        assert_eq!(json!(told), case["expect"], "{}: {found:?}", case["case"]);
        for schema in [&reader, &writer] {
            assert_eq!(incompatibilities(&parse(schema.canonical()), schema), [], "{}, with itself", case["case"]);
        }
    }
}

const ALL: &str = r#"// A comment.
syntax = 'proto2';
package n.m;
import "google/protobuf/timestamp.proto";
import public "google/protobuf/descriptor.proto";
option java_package = "a\"b\\c";
option (n.m.marks) = { name: "x" sub { name: "y" } nums: [1, 2] };
message A {
  reserved 9, 20 to 29, 1000 to max; reserved "old", 'older';
  option deprecated = true;
  required string name = 1 [default = "a\"\n", json_name = "NAME"];
  optional bytes raw = 2 [default = "\000\xff'"];
  repeated int32 packed = 3 [packed = true, deprecated = false];
  map<string, A> others = 4;
  oneof choice { double d = 5 [default = inf]; float f = 6 [default = -2.5]; Kind k = 7 [default = SECOND]; }
  optional group Inner = 8 { optional .google.protobuf.Timestamp at = 1; }
  extensions 100 to 199;
  message n { optional n.m2 x = 1; message m2 {} }
  optional .n.m.A self = 10 [(.n.m.weight) = 1.5];
  enum Kind { option allow_alias = true; SECOND = 2; FIRST = 0; ALIAS = 2 [deprecated = true]; reserved 5 to 7; }
  extend Marks { optional string more = 100; }
}
message Marks { optional string name = 1; optional Marks sub = 2; repeated int32 nums = 3; extensions 100; }
extend google.protobuf.FileOptions { optional Marks marks = 50000; }
extend google.protobuf.FieldOptions { optional double weight = 50001; }
service S { rpc Get(A) returns (stream Marks) { option deprecated = true; } rpc Put(stream A) returns (Marks); }
"#;

#[test]
fn one_text_whatever_the_authors() {
    let schema = parse(ALL);
    assert_eq!(schema.canonical(), include_str!("data/protobuf-canonical.proto"));
    let again = parse(schema.canonical());
    assert_eq!(again.canonical(), schema.canonical());
    assert_eq!(parse(&schema.normalized()).normalized(), schema.normalized());
    // As Python's client registers it.
    let serialized = schema.serialized().unwrap();
    let same = parse(&serialized);
    assert_eq!((same.canonical(), same.serialized()), (schema.canonical(), Some(serialized)));
    assert_eq!(incompatibilities(&same, &schema), []);
    assert_eq!(schema.format(), Format::Protobuf);
}

#[test]
fn order_that_means_nothing_is_normalized() {
    let one = "syntax = \"proto3\"; import \"google/protobuf/any.proto\"; import \"google/protobuf/empty.proto\";
        option java_package = \"a\"; option go_package = \"b\"; message A { string b = 2; string a = 1; reserved 5, 3; }
        enum E { Z = 0; Y = 2; X = 1; }";
    let other = "syntax = \"proto3\"; import \"google/protobuf/empty.proto\"; import \"google/protobuf/any.proto\";
        option go_package = \"b\"; option java_package = \"a\"; message A { reserved 3, 5; string a = 1; string b = 2; }
        enum E { Z = 0; X = 1; Y = 2; }";
    assert_ne!(parse(one).canonical(), parse(other).canonical());
    assert_eq!(parse(one).normalized(), parse(other).normalized());
    let turned = parse("syntax = \"proto3\"; message B {} message A {}");
    assert_ne!(turned.normalized(), parse("syntax = \"proto3\"; message A {} message B {}").normalized());
}

#[test]
fn imports_are_references() {
    let base = named("base/id.proto", "syntax = \"proto3\"; package base; message Id { string value = 1; }");
    let user =
        named("user.proto", "syntax = \"proto3\"; import public \"base/id.proto\"; message User { base.Id id = 1; }");
    let text = "syntax = \"proto3\"; import \"user.proto\"; message Seen { User user = 1; base.Id by = 2; }";
    let schema = Schema::parse(Format::Protobuf, text, &[base.clone(), user.clone()]).unwrap();
    assert_eq!(schema.validate_message(&[0], b"\x0a\x05\x0a\x03\x0a\x01x"), Ok(()));
    assert_eq!(schema.validate_message(&[0], b"\x0a\x05\x0a\x03\x0a\x01\xff").unwrap_err()[0].path, "/user/id/value");
    let changed = named("base/id.proto", "syntax = \"proto3\"; package base; message Id { float value = 1; }");
    let other = Schema::parse(Format::Protobuf, text, &[changed, user.clone()]).unwrap();
    assert_eq!(incompatibilities(&other, &schema)[0].path, "#/Id/1");
    assert!(matches!(refused(text), SchemaError::Remote(import) if import == "user.proto"));
    let error = Schema::parse(Format::Protobuf, text, std::slice::from_ref(&user)).unwrap_err();
    assert!(error.to_string().contains("user.proto") && error.to_string().contains("base/id.proto"), "{error}");
    // Without being registered.
    let known = parse(
        "syntax = \"proto3\"; import \"confluent/meta.proto\"; import \"confluent/type/decimal.proto\"; \
         message A { .confluent.type.Decimal d = 1 [(confluent.field_meta) = { params: [{ key: \"scale\", value: \"2\" }] }]; }",
    );
    assert!(known.canonical().contains(
        "confluent.type.Decimal d = 1 [(.confluent.field_meta) = { params: [{ key: \"scale\", value: \"2\" }] }];"
    ));
    assert_eq!(parse(known.canonical()).canonical(), known.canonical());
    assert_eq!(parse(&known.serialized().unwrap()).canonical(), known.canonical());
    // In a circle.
    let itself = named("a.proto", "syntax = \"proto3\"; import \"a.proto\";");
    assert!(Schema::parse(Format::Protobuf, "syntax = \"proto3\"; import \"a.proto\";", &[itself]).is_err());
    // By whatever name it was serialized.
    let serialized = Schema::parse(Format::Protobuf, &base.text, &[]).unwrap().serialized().unwrap();
    let bases = [named("base/id.proto", &serialized), user];
    assert_eq!(Schema::parse(Format::Protobuf, text, &bases).unwrap().canonical(), schema.canonical());
}

#[test]
fn message_types_are_counted() {
    let schema = parse(
        "syntax = \"proto3\"; package p; message A { map<string, int32> m = 1; message B { message C { int32 x = 1; } } \
         message D {} } message E { string s = 1; }",
    );
    for (name, path) in
        [("p.A", vec![0]), ("p.A.B", vec![0, 0]), ("p.A.B.C", vec![0, 0, 0]), ("p.A.D", vec![0, 1]), ("p.E", vec![1])]
    {
        assert_eq!(schema.message_path(name), Some(path.clone()), "{name}");
        assert_eq!(schema.message_name(&path).as_deref(), Some(name));
    }
    assert_eq!((schema.message_path("p.A.MEntry"), schema.message_name(&[2])), (None, None));
    // A payload as clients write it behind the schema's id: the path to the message first.
    assert_eq!(schema.validate(b"\x02\x02\x0a\x01x"), Ok(()));
    assert_eq!(schema.validate(b"\x02\x02\x08\x01").unwrap_err()[0].keyword, "type");
    assert_eq!(schema.validate(b"\x02\x0a").unwrap_err()[0].keyword, "type");
    assert_eq!(schema.validate(b"\x04\x02").unwrap_err()[0].keyword, "schema_id");
}

#[test]
fn a_payload_is_one_message_whole() {
    let schema = parse(
        "syntax = \"proto2\"; message A { required int32 n = 1; repeated sint32 l = 2; optional A a = 3; \
         optional fixed64 f = 4; optional group G = 5 { optional string s = 1; } }",
    );
    let check = |payload: &[u8]| schema.validate_message(&[0], payload).map_err(|mut reasons| reasons.remove(0));
    assert_eq!(check(b"\x08\x01\x10\x02\x12\x02\x02\x04\x21\0\0\0\0\0\0\0\0\x2b\x0a\x01x\x2c"), Ok(()));
    // Fields that it does not know, a group among them.
    assert_eq!(check(b"\x08\x01\x30\x01\x3b\x43\x44\x3c"), Ok(()));
    for (payload, keyword, path) in [
        (&b""[..], "required", "/n"),
        (b"\x08\x01\x1a\x00", "required", "/a/n"),
        (b"\x08", "encoding", "/n"),
        (b"\x0a\x00", "type", "/n"),
        (b"\x08\x01\x21\0", "encoding", "/f"),
        (b"\x08\x01\x2b\x0a\x01\xff\x2c", "encoding", "/g/s"),
        (b"\x08\x01\x2b", "encoding", "/g"),
        (b"\x08\x01\x2c", "encoding", ""),
        (b"\x08\x01\x00", "encoding", ""),
        (b"\x08\x01\x12\x01\x80", "encoding", "/l"),
    ] {
        let reason = check(payload).unwrap_err();
        assert_eq!((reason.keyword.as_str(), reason.path.as_str()), (keyword, path), "{payload:?} {reason:?}");
    }
    let mut deep = vec![0x08, 1];
    for _ in 0..200 {
        let mut outer = vec![0x1a];
        let mut length = deep.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(deep);
        deep = outer;
    }
    assert_eq!(check(&deep).unwrap_err().keyword, "depth");
    assert_eq!(check(&[0x2b; 10_000]).unwrap_err().keyword, "encoding");
}

#[test]
fn bad_schemas_are_refused_by_name() {
    for (text, part) in [
        ("syntax = \"proto3\"; message A {", "expected"),
        ("syntax = \"proto3\"; message A { B b = 1; }", "B"),
        ("syntax = \"proto3\"; message A { string a = 1; string b = 1; }", "1"),
        ("syntax = \"proto3\"; message A { required string a = 1; }", "required"),
        ("syntax = \"proto3\"; message A {} message A {}", "A"),
        ("syntax = \"proto3\"; message A { string a = 19000; }", "19000"),
        ("syntax = \"proto3\"; enum E { X = 1; }", "must be 0"),
        ("syntax = \"proto4\";", "proto4"),
        ("syntax = \"proto3\"; option (none) = 1;", "none"),
        ("{\"type\":\"string\"}", ""),
    ] {
        let error = refused(text);
        assert!(matches!(error, SchemaError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let option =
        |levels: usize| format!("syntax = \"proto3\"; option (x) = {}{};", "{ a ".repeat(levels), "}".repeat(levels));
    assert!(refused(&option(100_000)).to_string().contains("nested deeper"));
    let nested = format!("syntax = \"proto3\"; {}{}", "message A { ".repeat(50), "}".repeat(50));
    assert!(matches!(refused(&nested), SchemaError::Invalid(_)));
    assert!(matches!(refused(&STANDARD.encode([0xff; 16])), SchemaError::Invalid(_)));
}

/// Declarations in the order in which they are printed.
fn texts() -> impl Strategy<Value = String> {
    let scalar =
        prop::sample::select(vec!["int32", "sint64", "fixed32", "double", "bool", "string", "bytes", "E", "M0"]);
    let key = prop::sample::select(vec!["string", "int32", "bool"]);
    let field = prop_oneof![
        4 => (prop::sample::select(vec!["", "repeated ", "optional "]), scalar.clone()).prop_map(|(label, kind)| format!("{label}{kind}")),
        1 => (key, scalar.clone()).prop_map(|(key, value)| format!("map<{key}, {value}>")),
    ];
    let member = (field, any::<bool>(), prop::option::of(scalar));
    let body = prop::collection::vec(member, 0..5).prop_map(|members| {
        let mut lines = Vec::new();
        for (at, (field, deprecated, choice)) in members.into_iter().enumerate() {
            let options = if deprecated { " [deprecated = true]" } else { "" };
            lines.push(format!("{field} f_{at} = {}{options};", at * 3 + 1));
            if let Some(kind) = choice {
                lines.push(format!("oneof o{at} {{ {kind} c{at} = {}; string d{at} = {}; }}", at * 3 + 2, at * 3 + 3));
            }
        }
        lines.join(" ")
    });
    let package = prop::sample::select(vec!["", "package p;", "package p.q;", "package E;"]);
    (package, prop::collection::vec((body.clone(), prop::option::of(body)), 1..4)).prop_map(|(package, messages)| {
        let messages = messages.into_iter().enumerate().map(|(at, (body, inner))| {
            let inner = inner.map(|inner| format!("message N {{ {inner} }}")).unwrap_or_default();
            format!("message M{at} {{ {body} {inner} }}")
        });
        let messages: Vec<String> = messages.collect();
        format!("syntax = \"proto3\"; {package} {} enum E {{ ZERO = 0; ONE = 1; }}", messages.join(" "))
    })
}

proptest! {
    #[test]
    fn a_schema_survives_its_text(text in texts()) {
        let schema = parse(&text);
        let again = parse(schema.canonical());
        prop_assert_eq!(again.canonical(), schema.canonical());
        prop_assert_eq!(again.serialized(), schema.serialized(), "{}", schema.canonical());
        let normalized = parse(&schema.normalized());
        prop_assert_eq!(normalized.normalized(), schema.normalized());
        prop_assert_eq!(incompatibilities(&normalized, &schema), []);
        prop_assert_eq!(incompatibilities(&schema, &normalized), []);
        let same = parse(&schema.serialized().unwrap());
        prop_assert_eq!(same.canonical(), schema.canonical());
    }

    #[test]
    fn any_text_and_any_payload_have_an_outcome(
        text in r#"(syntax = "proto3";)?([{}=;\[\]<>,.]| message | enum | A | string | oneof |1|"|'|/\*|\PC){0,30}"#,
        schema in texts(), payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = Schema::parse(Format::Protobuf, &text, &[]);
        let schema = parse(&schema);
        let _ = schema.validate(&payload);
        let _ = schema.validate_message(&[0], &payload);
    }
}
