//! Instants and days as text (RFC 3339, UTC), without a detour through a calendar library per value.

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Appends `2025-08-31T12:00:00Z`; the fraction has as many digits as it needs: none, three or six.
pub fn write_timestamp(out: &mut Vec<u8>, micros: i64) {
    match write_seconds(out, micros) {
        0 => {}
        fraction if fraction % 1000 == 0 => write_fraction(out, fraction / 1000, 3),
        fraction => write_fraction(out, fraction, 6),
    }
    out.push(b'Z');
}

/// Appends `2025-08-31T12:00:00.000000Z`: always six digits, so that texts sort as instants do.
pub(crate) fn write_sortable_timestamp(out: &mut Vec<u8>, micros: i64) {
    let fraction = write_seconds(out, micros);
    write_fraction(out, fraction, 6);
    out.push(b'Z');
}

/// Appends everything up to the whole second; returns the microseconds that are left.
fn write_seconds(out: &mut Vec<u8>, micros: i64) -> i64 {
    write_date(out, micros.div_euclid(MICROS_PER_DAY));
    let of_day = micros.rem_euclid(MICROS_PER_DAY);
    let seconds = of_day / 1_000_000;
    for (mark, value) in [(b'T', seconds / 3600), (b':', seconds / 60 % 60), (b':', seconds % 60)] {
        out.push(mark);
        digits(out, value, 2);
    }
    of_day % 1_000_000
}

fn write_fraction(out: &mut Vec<u8>, value: i64, width: u32) {
    out.push(b'.');
    digits(out, value, width);
}

/// Appends `2025-08-31` for days since 1970-01-01. A year outside 0 to 9999 gets a sign, as ISO 8601 has it.
pub fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    match year {
        0..=9999 => digits(out, year, 4),
        _ => {
            out.push(if year < 0 { b'-' } else { b'+' });
            digits(out, year.abs(), if year.abs() > 99_999 { 6 } else { 5 });
        }
    }
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
}

fn digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
    }
}

/// Proleptic Gregorian date. Years are counted from March, so that the leap day ends one.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_chrono() {
        for days in (-800_000..3_000_000).step_by(97).chain(-800..20_000) {
            let date = chrono::DateTime::from_timestamp(days * 86_400, 0).expect("in chrono's range");
            if !(0..=9999).contains(&chrono::Datelike::year(&date)) {
                continue;
            }
            let mut out = Vec::new();
            write_date(&mut out, days);
            assert_eq!(String::from_utf8(out).expect("ASCII"), date.format("%Y-%m-%d").to_string());
        }
    }

    #[test]
    fn fraction_as_needed() {
        let text = |micros| {
            let mut out = Vec::new();
            write_timestamp(&mut out, micros);
            String::from_utf8(out).expect("ASCII")
        };
        assert_eq!(text(1_756_641_600_000_000), "2025-08-31T12:00:00Z");
        assert_eq!(text(1_756_641_600_120_000), "2025-08-31T12:00:00.120Z");
        assert_eq!(text(1_756_641_600_000_001), "2025-08-31T12:00:00.000001Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
        assert!(text(i64::MAX).starts_with("+294247-01-10T"));
        assert!(text(i64::MIN).starts_with("-290308-12-21T"));
    }
}
