//! Kubernetes quantities: `20Gi`, `1500m`, `1e3`.

/// Returns the value of `text` in thousandths, rounded up; `None` if it is no quantity or too large.
pub fn parse_millis(text: &str) -> Option<i128> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (numerator, denominator) = suffix_factor(suffix)?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let places = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let above = value.checked_mul(numerator)?.checked_mul(1000)?;
    let below = denominator.checked_mul(places)?;
    // Rounds up in magnitude, as Kubernetes does: two notations of one amount must compare as equal.
    let rounded = above.checked_add(below - 1)? / below;
    Some(if negative { -rounded } else { rounded })
}

/// Returns the bytes that `text` stands for; `None` if it is no quantity, negative or too large.
pub fn parse_bytes(text: &str) -> Option<u64> {
    u64::try_from(parse_millis(text)?).ok().map(|millis| millis.div_ceil(1000))
}

/// Returns the factor of a suffix, as numerator and denominator.
fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

/// Formats a size in binary units with one decimal.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_are_equal_in_any_notation() {
        for (one, other) in
            [("20Gi", "20480Mi"), ("1", "1000m"), ("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi")]
        {
            assert_eq!(parse_millis(one), parse_millis(other), "{one} {other}");
            assert!(parse_millis(one).is_some());
        }
        assert_eq!(parse_bytes("20Gi"), Some(21_474_836_480));
        assert_eq!(parse_bytes("1500m"), Some(2));
    }

    #[test]
    fn invalid_quantities_are_rejected() {
        let too_large = "99999999999999999999999999999999999999999Ei";
        for text in ["", "Gi", "1.2.3", "--1", "1x", "20gi", ".", "1e99", too_large] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
        assert_eq!(parse_bytes("-1"), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[-+0-9.eEkKMGTPinum]{0,12}") {
            let _ = parse_bytes(&text);
        }
    }

    #[test]
    fn sizes_are_formatted_in_binary_units() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (300 << 30, "300.0 GiB"),
            (u64::MAX, "1677721.5 TiB"),
        ] {
            assert_eq!(format_size(bytes), expected);
        }
    }
}
