//! The whole validator against the reference over random schemas of every draft, and documents made to fit them or nearly
//! so: written with escapes, odd numbers, white space and duplicate keys.

use playhouse_schema::{Fields, SchemaError, Validator, Verdict};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::Value;

mod random;

use random::{Dice, Writer, rooted};

fn reference(schema: &Value) -> Option<jsonschema::Validator> {
    jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(schema)
        .ok()
}

/// Over random schemas: how many documents were valid, and how many of those the scanner decided.
#[test]
fn decides_as_the_reference() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let counts = std::cell::Cell::new((0u32, 0u32));
    runner
        .run(&(rooted(), any::<u64>()), |(schema, seed)| {
            let Some(reference) = reference(&schema) else { return Ok(()) };
            let validator = match Validator::compile(&schema.to_string(), &Fields::default(), 64) {
                Ok(validator) => validator,
                // The reference goes round in circles as far as its caches let it.
                Err(SchemaError::Circular(_)) => return Ok(()),
                Err(other) => return Err(TestCaseError::fail(format!("the reference compiles it: {other}"))),
            };
            let mut writer = Writer { root: &schema, dice: Dice(seed), duplicates: false };
            for _ in 0..16 {
                writer.duplicates = false;
                let text = writer.document(&schema, 5);
                let value: Value = serde_json::from_str(&text).unwrap();
                let valid = !writer.duplicates && reference.is_valid(&value);
                let verdict = validator.scan(text.as_bytes(), 0).unwrap().verdict;
                prop_assert!(valid || verdict != Verdict::Valid, "the scanner took {}", text);
                prop_assert_eq!(matches!(verdict, Verdict::Flawed(_)), writer.duplicates, "{}", &text);
                let checked = validator.check(text.as_bytes());
                prop_assert_eq!(checked.is_ok(), valid, "{} {:?}", &text, checked);
                let (all, decided) = counts.get();
                counts.set((all + u32::from(valid), decided + u32::from(verdict == Verdict::Valid)));
            }
            Ok(())
        })
        .unwrap();
    let (valid, decided) = counts.get();
    println!("{valid} valid documents, {decided} of them decided by the scanner");
    // Otherwise nothing was tried.
    assert!(valid > 4 * cases && decided > valid / 3, "{valid} valid, {decided} decided");
}
