//! JSON numbers compared as what they are, not as floats: integers beyond 2^53 stay apart.

use std::cmp::Ordering;

use serde_json::{Number, Value};

pub(super) fn is_integer(number: &Number) -> bool {
    integer(number).is_some() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

pub(super) fn compare(one: &Number, other: &Number) -> Ordering {
    let float = |number: &Number| number.as_f64().unwrap_or(0.0);
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(one), None) => against(float(other), one).reverse(),
        (None, Some(other)) => against(float(one), other),
        (None, None) => float(one).total_cmp(&float(other)),
    }
}

/// Integers of a number have at most 64 bits, so a cast that saturates compares right.
fn against(float: f64, integer: i128) -> Ordering {
    let floor = float.floor();
    (floor as i128).cmp(&integer).then(if float > floor { Ordering::Greater } else { Ordering::Equal })
}

/// `None` where they have too many digits to say.
pub(super) fn is_multiple(number: &Number, of: &Number) -> Option<bool> {
    let ((number, exponent), (unit, unit_exponent)) = (decimal(number)?, decimal(of)?);
    let least = exponent.min(unit_exponent);
    let scaled = |mantissa: i128, exponent: i32| {
        mantissa.checked_mul(10i128.checked_pow(u32::try_from(exponent - least).ok()?)?)
    };
    let (number, unit) = (scaled(number, exponent)?, scaled(unit, unit_exponent)?);
    (unit != 0).then(|| number % unit == 0)
}

/// Mantissa and exponent of the shortest text of a number.
fn decimal(number: &Number) -> Option<(i128, i32)> {
    let text = number.to_string();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent: i32 = exponent.trim_start_matches('+').parse().ok()?;
    Some((digits, exponent - i32::try_from(fraction.len()).ok()?))
}

/// Equal as JSON Schema has it: 1 is 1.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Ordering::Equal,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        (one, other) => one == other,
    }
}

pub(super) fn holds(values: &[&Value], value: &Value) -> bool {
    values.iter().any(|other| same(other, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_they_are() {
        let number = |text: &str| serde_json::from_str::<Number>(text).unwrap();
        for (one, other, expected) in [
            ("1", "1.0", Ordering::Equal),
            ("-1.5", "-1", Ordering::Less),
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("1e300", "18446744073709551615", Ordering::Greater),
            ("-1e300", "-9223372036854775808", Ordering::Less),
            ("0.1", "0", Ordering::Greater),
        ] {
            assert_eq!(compare(&number(one), &number(other)), expected, "{one} {other}");
            assert_eq!(compare(&number(other), &number(one)), expected.reverse(), "{other} {one}");
        }
        for (one, unit, expected) in [
            ("0.3", "0.1", Some(true)),
            ("4.35", "0.01", Some(true)),
            ("10", "2.5", Some(true)),
            ("10", "3", Some(false)),
            ("1e300", "1e-300", None),
        ] {
            assert_eq!(is_multiple(&number(one), &number(unit)), expected, "{one} {unit}");
        }
    }
}
