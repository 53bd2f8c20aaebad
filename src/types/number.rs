//! Numbers as Redis reads and writes them.

/// The longest text of an `i64`: `-9223372036854775808`.
pub const MAX_INT_TEXT: usize = 20;

/// Reads an integer exactly as Redis would have written it: an optional `-`, no leading zeros, no `+`, no
/// space, no `-0`; `None` for anything else and for what does not fit. A text for which this answers `Some`
/// is the one text of that number, so the number can be stored instead.
/// Source: Redis 7.2 string2ll.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() >= MAX_INT_TEXT || !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    // At most 19 digits: below 10^19, which a u64 holds.
    let mut magnitude = 0_u64;
    for &digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(value);
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Appends the decimal text of `value`.
pub fn append_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_of_an_integer_parses() {
        for good in [0, 1, -1, 9, 10, 127, -4096, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            assert_eq!(parse_int(good.to_string().as_bytes()), Some(good));
        }
        for bad in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "-01",
            "00",
            "0x1",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "18446744073709551616",
            "1\0",
        ] {
            assert_eq!(parse_int(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
