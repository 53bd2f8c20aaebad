//! Numbers as Redis reads and writes them: strict integers, and doubles.

use rustc_apfloat::Float;
use rustc_apfloat::ieee::Double;

use crate::dtoa;

/// The longest text of an `i64`: `-9223372036854775808`.
pub const MAX_INT_TEXT: usize = 20;

/// Longer texts are no floating point numbers, except decimal ones for an `f64`.
/// Source: Redis 7.2 MAX_LONG_DOUBLE_CHARS.
pub(crate) const MAX_FLOAT_TEXT: usize = 5 * 1024;

/// A decimal or binary exponent beyond this overflows or underflows, whatever digits (at most
/// [`MAX_FLOAT_TEXT`]) stand in front of it.
const MAX_EXPONENT: i64 = 100_000;

/// Reads an integer exactly as Redis would have written it: an optional `-`, no leading zeros, no `+`, no
/// space, no `-0`; `None` for anything else and for what does not fit. A text for which this answers `Some`
/// is the one text of that number, so the number can be stored instead.
/// Source: Redis 7.2 string2ll.
#[inline]
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

/// Reads a double as `strtod` does when all of `text` must be the number: decimal or hexadecimal, `inf` and
/// `infinity` in any case, a `+`; no space, no NaN, nothing that overflows to infinity or underflows to zero.
/// Source: Redis 7.2 string2d.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let parts = FloatText::split(text)?;
    let value = match parts.kind {
        FloatKind::Infinity => f64::INFINITY,
        FloatKind::Decimal => {
            let value = parts.digits.parse::<f64>().ok()?;
            if value.is_infinite() || value == 0.0 && !parts.is_zero {
                return None;
            }
            value
        }
        FloatKind::Hexadecimal => f64::from_bits(parts.evaluate::<Double>()?.to_bits() as u64),
    };
    Some(if parts.negative { -value } else { value })
}

/// Appends a double as replies and scores show it: an integer up to 2^62 in full, else the shortest text that
/// reads back the same (see [`append_shortest`]), `inf`, `-inf`, `nan`, `-0`.
/// Source: Redis 7.2 d2string.
pub fn append_double(out: &mut Vec<u8>, value: f64) {
    const LIMIT: f64 = (1_u64 << 62) as f64;
    let integer = value as i64;
    if value.abs() <= LIMIT && integer as f64 == value && (integer != 0 || value.is_sign_positive()) {
        append_int(out, integer);
    } else {
        append_shortest(out, value);
    }
}

/// Appends a double without the short cut for integers of [`append_double`]: 2^62 is
/// `4611686018427388000` here. For scripts and AOF files.
/// Source: Redis 7.2 fpconv_dtoa.
pub fn append_shortest(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() && value != 0.0 {
        return dtoa::append_finite(out, value);
    }
    out.extend_from_slice(if value.is_nan() {
        b"nan"
    } else if value == 0.0 {
        if value.is_sign_negative() { b"-0" } else { b"0" }
    } else if value > 0.0 {
        b"inf"
    } else {
        b"-inf"
    });
}

/// A text that has the form of a floating point number.
pub(crate) struct FloatText<'a> {
    pub(crate) negative: bool,
    pub(crate) kind: FloatKind,
    /// The text without its sign.
    pub(crate) digits: &'a str,
    /// Whether all digits in front of the exponent are 0.
    pub(crate) is_zero: bool,
    exponent: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloatKind {
    Infinity,
    Decimal,
    Hexadecimal,
}

impl<'a> FloatText<'a> {
    pub(crate) fn split(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let digits = std::str::from_utf8(rest).ok()?;
        if digits.eq_ignore_ascii_case("inf") || digits.eq_ignore_ascii_case("infinity") {
            return Some(Self { negative, kind: FloatKind::Infinity, digits, is_zero: false, exponent: None });
        }
        let (kind, mantissa, radix, mark) = match rest {
            [b'0', b'x' | b'X', mantissa @ ..] => (FloatKind::Hexadecimal, mantissa, 16, b'p'),
            mantissa => (FloatKind::Decimal, mantissa, 10, b'e'),
        };
        let (mantissa, exponent) = match mantissa.iter().position(|byte| byte.to_ascii_lowercase() == mark) {
            Some(at) => (&mantissa[..at], Some(parse_exponent(&mantissa[at + 1..])?)),
            None => (mantissa, None),
        };
        let (mut any_digit, mut is_zero, mut dots) = (false, true, 0);
        for &byte in mantissa {
            if byte == b'.' {
                dots += 1;
            } else {
                (any_digit, is_zero) = (true, is_zero && byte == b'0');
                char::from(byte).to_digit(radix)?;
            }
        }
        (any_digit && dots <= 1).then_some(Self { negative, kind, digits, is_zero, exponent })
    }

    /// The absolute value, rounded to the nearest `F`; `None` if that overflows or underflows to zero.
    pub(crate) fn evaluate<F: Float>(&self) -> Option<F> {
        if self.is_zero {
            return Some(F::ZERO);
        }
        let exponent_fits = self.exponent.is_none_or(|exponent| exponent.abs() <= MAX_EXPONENT);
        if !exponent_fits || self.digits.len() >= MAX_FLOAT_TEXT {
            return None;
        }
        let value = match (self.kind, self.exponent) {
            (FloatKind::Infinity, _) => return Some(F::INFINITY),
            // The library asks for an exponent, strtod does not.
            (FloatKind::Hexadecimal, None) => F::from_str(&format!("{}p0", self.digits)),
            _ => F::from_str(self.digits),
        };
        value.ok().filter(|value| !value.is_zero() && !value.is_infinite())
    }
}

/// The digits behind an exponent mark; what does not fit is far beyond [`MAX_EXPONENT`] anyway.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits {
        value = value.saturating_mul(10).saturating_add(i64::from(char::from(*digit).to_digit(10)?));
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: f64) -> String {
        let mut out = Vec::new();
        append_double(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_canonical_text_of_an_integer_parses() {
        for good in [0, 1, -1, 9, 10, 127, -4096, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            assert_eq!(parse_int(good.to_string().as_bytes()), Some(good));
        }
        for bad in "|-|+1| 1|1 |01|-0|-01|00|0x1|1.0|1\0|9223372036854775808|-9223372036854775809|99999999999999999999"
            .split('|')
        {
            assert_eq!(parse_int(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_does() {
        for (text, value) in [
            ("0", 0.0),
            ("-1.5", -1.5),
            ("+3", 3.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("0e-999", 0.0),
            ("inf", f64::INFINITY),
            ("-InFinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("-0X1.8p+1", -3.0),
            ("0x.8", 0.5),
            ("0x1p-1074", 5e-324),
            ("5e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
        ] {
            assert_eq!(parse_double(text.as_bytes()), Some(value), "{text}");
        }
        for bad in
            "| 1|1 |nan|-nan|nan(1)|1e|1e+|e1|.|-|+|0x|0x.|0x1p|0xg|1e400|-1e400|1e-400|0x1p2000|0x1p-2000|1.2.3|infi|\
                    --1|+-1|1_0|1e99999999999999999999|0x1p-99999999999999999999|\u{661}"
                .split('|')
        {
            assert_eq!(parse_double(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn doubles_are_shown_as_redis_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.5, "-17.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (123456.789e-10, "1.23456789e-5"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (9_223_372_036_854_775_808.0, "9223372036854776000"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (-1e100, "-1e+100"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (1_690_000_000_123.0 * 4096.0 + 7.0, "6922240000503815"),
        ] {
            assert_eq!(shown(value), text);
        }
    }

    proptest! {
        #[test]
        fn every_double_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            if !value.is_nan() {
                prop_assert_eq!(parse_double(shown(value).as_bytes()), Some(value));
                let mut out = Vec::new();
                append_shortest(&mut out, value);
                prop_assert_eq!(parse_double(&out), Some(value));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?(0x)?[0-9a-f.]{0,8}([ep][-+]?[0-9]{0,6})?") {
            parse_double(text.as_bytes());
        }
    }
}
