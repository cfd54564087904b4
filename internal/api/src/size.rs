//! Sizes as people type them: `512M`, `4G`, `1.5G`.

/// A size that could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {given:?}; expected a number with K, M, G or T, for example 4G")]
pub struct SizeError {
    given: String,
}

/// Parses a size in bytes. Units are powers of 1024; a bare number is bytes; `4G`, `4g`, `4GB` and `4GiB` are the same.
pub fn parse_size(given: &str) -> Result<u64, SizeError> {
    let error = || SizeError { given: given.to_owned() };
    let text = given.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(error()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(error);
    }
    let fraction = number.parse::<f64>().map_err(|_| error())?;
    let bytes =
        fraction * f64::from(1_u32 << (shift.min(30))) * if shift == 40 { 1024.0 } else { 1.0 };
    if !bytes.is_finite() || bytes > 1e18 || shift == 0 {
        return Err(error());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, not negative (no sign passes the digit test) and below 1e18"
    )]
    Ok(bytes as u64)
}

/// Formats bytes in the form that `parse_size` reads: `4G`, `1.5G`, `640M`, `17K`, `9B`.
pub fn show_size(n_bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if n_bytes >= 1 << shift {
            let tenths = n_bytes / ((1 << shift) / 10).max(1);
            return if tenths.is_multiple_of(10) || tenths >= 1000 {
                format!("{}{unit}", n_bytes >> shift)
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{n_bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, n_bytes) in [
            ("0", 0),
            ("17", 17),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("4G", 4 << 30),
            ("4GiB", 4 << 30),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(n_bytes), "{text}");
        }
    }

    #[test]
    fn an_invalid_size_is_refused_with_the_rule() {
        for bad in ["", "G", "-1G", "4X", "1.2.3M", "1.5", "99999999999T", "4 G G"] {
            let text = parse_size(bad).unwrap_err().to_string();
            let rule = "expected a number with K, M, G or T, for example 4G";
            assert_eq!(text, format!("invalid size {bad:?}; {rule}"));
        }
    }

    #[test]
    fn sizes_are_formatted_with_the_largest_unit() {
        for (n_bytes, text) in
            [(9, "9B"), (1024, "1K"), (640 << 20, "640M"), (3 << 29, "1.5G"), (4 << 30, "4G")]
        {
            assert_eq!(show_size(n_bytes), text);
        }
    }
}
