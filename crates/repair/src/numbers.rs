//! Numbers that a JSON document cannot be parsed and written again without changing.

use serde_json::Number;

/// The first number of a document that is not the same after `serde_json` has parsed and written it: one beyond 64 bits,
/// or with more digits than a double holds. `1.50` for `1.5` is the same number.
pub(crate) fn first_that_changes(json: &str) -> Option<&str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count();
                let number = &json[at..at + length];
                let written = serde_json::from_str::<Number>(number).map(|parsed| parsed.to_string());
                if !written.is_ok_and(|written| Decimal::parse(number) == Decimal::parse(&written)) {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// Behind the closing quote.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A number as its significant digits and a power of ten. An exponent beyond 64 bits makes it equal to nothing.
#[derive(Debug)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: Option<i64>,
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.digits == other.digits
            && (self.digits.is_empty()
                || self.is_negative == other.is_negative && self.exponent.is_some() && self.exponent == other.exponent)
    }
}

impl Decimal {
    fn parse(number: &str) -> Decimal {
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (is_negative, mantissa) = (mantissa.starts_with('-'), mantissa.trim_start_matches('-'));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let cut = (all.len() - digits.len()) as i64 - fraction.len() as i64;
        let exponent = exponent.trim_start_matches('+').parse::<i64>().ok().and_then(|it| it.checked_add(cut));
        Decimal { is_negative, digits: digits.trim_start_matches('0').to_owned(), exponent }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_changes_is_found() {
        for same in
            ["1", "-1.50", "1e2", "1E+2", "0.1", "-0", "0.000", "9007199254740993", "18446744073709551615", "5e-324"]
        {
            assert_eq!(first_that_changes(same), None, "{same}");
        }
        for other in ["18446744073709551616", "0.12345678901234567890123", "1e999", "1e99999999999999999999"] {
            assert_eq!(first_that_changes(other), Some(other));
        }
        assert_eq!(first_that_changes(r#"{"a\"18446744073709551616": [1, "0.12345678901234567890123"]}"#), None);
        assert_eq!(first_that_changes(r#"{"a": [1, 100000000000000000000001]}"#), Some("100000000000000000000001"));
    }

    proptest! {
        #[test]
        fn what_is_not_found_is_kept(double in prop::num::f64::NORMAL, integer in any::<i64>()) {
            let written = integer.to_string();
            prop_assert_eq!(first_that_changes(&written), None);
            let document = serde_json::json!(double).to_string();
            if first_that_changes(&document).is_none() {
                let parsed: f64 = serde_json::from_str(&document).unwrap();
                prop_assert_eq!(parsed, double);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            first_that_changes(&text);
        }
    }
}
