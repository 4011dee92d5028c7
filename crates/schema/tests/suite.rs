//! The JSON Schema Test Suite (`data/json-schema-test-suite`), through the whole validator.
//!
//! A case that is excluded is named here, and it is an error if an excluded case would pass: the list stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use playhouse_schema::{Fields, Validator};
use serde_json::Value;

const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// `<draft>/<file>: <case>`, one a line, and why above them.
const EXCLUDED: &str = include_str!("data/suite-excluded.txt");

#[test]
fn agrees_with_the_suite() {
    let excluded: BTreeSet<&str> =
        EXCLUDED.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    let mut met = BTreeSet::new();
    let (mut passed, mut wrong) = (0, Vec::new());
    for (draft, dialect) in DRAFTS {
        for (file, groups) in files(draft) {
            for group in groups.as_array().unwrap() {
                let name = format!("{file}: {}", group["description"].as_str().unwrap());
                let outcome = run(group, dialect);
                if excluded.contains(name.as_str()) {
                    met.insert(name.clone());
                    if outcome.is_ok() {
                        wrong.push(format!("{name}\n    is excluded and would pass"));
                    }
                    continue;
                }
                match outcome {
                    Ok(tests) => passed += tests,
                    Err(reason) => wrong.push(format!("{name}\n    {reason}")),
                }
            }
        }
    }
    let unmet: Vec<_> = excluded.iter().filter(|name| !met.contains(**name)).collect();
    assert!(wrong.is_empty() && unmet.is_empty(), "{}\nnot met: {unmet:#?}", wrong.join("\n"));
    assert!(passed > 7_000, "only {passed} tests ran");
}

/// How many tests of the group passed, or the first that did not.
fn run(group: &Value, dialect: &str) -> Result<usize, String> {
    let mut schema = group["schema"].clone();
    if let Some(keywords) = schema.as_object_mut() {
        keywords.entry("$schema").or_insert_with(|| dialect.into());
    }
    let validator =
        Validator::compile(&schema.to_string(), &Fields::default(), 127).map_err(|error| error.to_string())?;
    let tests = group["tests"].as_array().unwrap();
    for test in tests {
        let valid = validator.check(test["data"].to_string().as_bytes()).is_ok();
        if valid != test["valid"].as_bool().unwrap() {
            return Err(format!("{}: {valid}", test["description"].as_str().unwrap()));
        }
    }
    Ok(tests.len())
}

fn files(draft: &str) -> BTreeMap<String, Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-schema-test-suite/tests");
    let mut found = BTreeMap::new();
    let mut directories: Vec<PathBuf> = vec![root.join(draft)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().with_extension("");
                let groups = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                found.insert(name.to_str().unwrap().replace('\\', "/"), groups);
            }
        }
    }
    found
}
