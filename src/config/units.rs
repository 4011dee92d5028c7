//! Sizes and times with their units, as people write them.

use std::time::Duration;

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Milliseconds by unit; every unit has a short and a long name, the long one also in the singular.
const TIMES: [(&str, &str, u64); 5] = [
    ("ms", "milliseconds", 1),
    ("s", "seconds", 1_000),
    ("min", "minutes", 60_000),
    ("h", "hours", 3_600_000),
    ("d", "days", 86_400_000),
];

/// `"64 MiB"`, `"1.5GB"`: bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let wanted = "a size with its unit, such as \"64 MiB\" or \"10 GB\"";
    let (number, unit) = split(text).ok_or_else(|| format!("is not {wanted}"))?;
    let (_, bytes) = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .ok_or_else(|| format!("has the unit {unit:?}: use {wanted}"))?;
    scale(number, *bytes).ok_or_else(|| format!("is not {wanted}"))
}

/// `"250 ms"`, `"24 hours"`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "a time with its unit, such as \"250 ms\", \"10 s\" or \"24 hours\"";
    let (number, unit) = split(text).ok_or_else(|| format!("is not {wanted}"))?;
    let (_, _, millis) = TIMES
        .iter()
        .find(|(short, long, _)| unit == *short || unit == *long || long.strip_suffix('s') == Some(unit))
        .ok_or_else(|| format!("has the unit {unit:?}: use {wanted}"))?;
    scale(number, *millis).map(Duration::from_millis).ok_or_else(|| format!("is not {wanted}"))
}

/// `"100"`: how many, at least one.
pub fn count(text: &str) -> Result<u32, String> {
    let count = text.trim().parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "is not a number, such as \"100\"".to_string())
}

/// `67108864` as `"64 MiB"`.
pub fn show_size(bytes: u64) -> String {
    let unit =
        SIZES.iter().filter(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale)).max_by_key(|(_, scale)| *scale);
    let (name, scale) = unit.unwrap_or(&SIZES[0]);
    format!("{} {name}", bytes / scale)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then_some((number, unit.trim_start()))
}

/// Exact for integers; with a decimal point to the nearest whole.
fn scale(number: &str, by: u64) -> Option<u64> {
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(by);
    }
    let scaled = (number.parse::<f64>().ok()? * by as f64).round();
    (scaled < u64::MAX as f64).then_some(scaled as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("64 MiB"), Ok(64 << 20));
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert_eq!(size("1.5 kb"), Ok(1500));
        assert_eq!(size("0 B"), Ok(0));
        for wrong in ["64", "", "MB", "1 parsec", "-1 MB", "1.2.3 MB", "99999999999999999999 TB", "99999999 TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(duration("10 s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1 hour"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1.5 days"), Ok(Duration::from_secs(36 * 3600)));
        for wrong in ["10", "soon", "10 fortnights", "10 M"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_in_their_largest_whole_unit() {
        for text in ["64 MiB", "64 MB", "10 GB", "1 B", "0 B", "1500 B"] {
            assert_eq!(size(&show_size(size(text).unwrap())), size(text));
        }
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(10_000_000_000), "10 GB");
    }
}
