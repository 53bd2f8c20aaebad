//! Numbers as text, in the two forms scripts meet: Redis's for commands, which the types print, and C's `%.14g` for cjson.

use redstart_types::number::append_shortest;
use std::io::Write;

/// Room enough for what [`append_argument`] writes.
pub(crate) const NUMBER_MAX_BYTES: usize = 40;

/// A Lua number as an argument of a command: whole numbers within 2^62 in full, others as all doubles are printed. A NaN
/// keeps its sign. Source: Redis 7.2 redis.call.
pub(crate) fn append_argument(out: &mut Vec<u8>, value: f64) {
    match as_integer(value) {
        Some(integer) => append_integer(out, integer),
        None => {
            if value.is_nan() && value.is_sign_negative() {
                out.push(b'-');
            }
            append_shortest(out, value);
        }
    }
}

pub(crate) fn append_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Whole numbers within ±2^62.
fn as_integer(value: f64) -> Option<i64> {
    const LIMIT: f64 = 4_611_686_018_427_387_904.0;
    let integer = value as i64;
    ((-LIMIT..=LIMIT).contains(&value) && integer as f64 == value).then_some(integer)
}

/// C's `printf("%.<precision>g")`; `precision` is 1 to 17.
pub(crate) fn append_general(out: &mut Vec<u8>, value: f64, precision: usize) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if value.is_infinite() {
        return out.extend_from_slice(b"inf");
    }
    let digits = Digits::rounded(value.abs(), precision);
    let text = digits.text();
    let text = &text[..text.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1)];
    if digits.exponent < -4 || digits.exponent >= precision as i32 {
        return append_scientific(out, text, digits.exponent);
    }
    if digits.exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', digits.exponent.unsigned_abs() as usize - 1));
        return out.extend_from_slice(text);
    }
    let whole = digits.exponent as usize + 1;
    if text.len() <= whole {
        out.extend_from_slice(text);
        out.extend(std::iter::repeat_n(b'0', whole - text.len()));
    } else {
        out.extend_from_slice(&text[..whole]);
        out.push(b'.');
        out.extend_from_slice(&text[whole..]);
    }
}

fn append_scientific(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let mut buffer = itoa::Buffer::new();
    let exponent = buffer.format(exponent.unsigned_abs());
    out.extend(std::iter::repeat_n(b'0', 2_usize.saturating_sub(exponent.len())));
    out.extend_from_slice(exponent.as_bytes());
}

/// Decimal digits without a point, the first standing before it, and the power of ten.
struct Digits {
    bytes: [u8; 20],
    len: usize,
    exponent: i32,
}

impl Digits {
    fn rounded(value: f64, precision: usize) -> Digits {
        let mut text = [0; 32];
        let mut rest = &mut text[..];
        // 17 digits, a point and an exponent fit.
        let _ = write!(rest, "{value:.*e}", precision - 1);
        Digits::parse(&text)
    }

    /// Reads `d.ddde-x`, NUL at the end.
    fn parse(text: &[u8; 32]) -> Digits {
        let mut digits = Digits { bytes: [0; 20], len: 0, exponent: 0 };
        let mut bytes = text.iter().copied().take_while(|&byte| byte != 0);
        for byte in bytes.by_ref().take_while(|&byte| byte != b'e').filter(u8::is_ascii_digit).take(20) {
            digits.bytes[digits.len] = byte;
            digits.len += 1;
        }
        let mut negative = false;
        for byte in bytes {
            match byte {
                b'-' => negative = true,
                _ => digits.exponent = digits.exponent * 10 + i32::from(byte - b'0'),
            }
        }
        if negative {
            digits.exponent = -digits.exponent;
        }
        digits
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(append: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        append(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arguments_are_integers_or_shortest() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1e15, "1000000000000000"),
            (0.1, "0.1"),
            (1e19, "1e+19"),
            (1e300, "1e+300"),
            (1.5e-9, "1.5e-9"),
            (123456.789, "123456.789"),
            (4611686018427387904.0, "4611686018427387904"),
            (9223372036854775807.0, "9223372036854776000"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (5e-324, "5e-324"),
            (1e21, "1e+21"),
            (f64::MAX, "1.7976931348623157e+308"),
            (0.00001, "0.00001"),
            (0.000001234, "1.234e-6"),
            (12345678901234567890.0, "12345678901234567000"),
            (1.1e20, "1.1e+20"),
            (-1.5, "-1.5"),
            (1711111111111.25, "1711111111111.25"),
            // It is ...211.75: both digits read back the same, and many printers choose 8. Source: Redis 7.2.6.
            (-1039514241563211.8, "-1039514241563211.7"),
        ] {
            assert_eq!(text(|out| append_argument(out, value)), expected);
        }
    }

    #[test]
    fn general_is_printf_g() {
        for (value, precision, expected) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 14, "1"),
            (100.0, 14, "100"),
            (0.1, 14, "0.1"),
            (1e14, 14, "1e+14"),
            (1e13, 14, "10000000000000"),
            (123456789012345.0, 14, "1.2345678901234e+14"),
            (1.23456, 3, "1.23"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1e-5, 14, "1e-05"),
            (0.0001, 14, "0.0001"),
            (9.99, 1, "1e+01"),
            (5e-324, 14, "4.9406564584125e-324"),
        ] {
            assert_eq!(text(|out| append_general(out, value, precision)), expected, "{value} {precision}");
        }
    }
}
