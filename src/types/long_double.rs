//! The 80-bit extended doubles of the x87, with which Redis on x86-64 computes INCRBYFLOAT and HINCRBYFLOAT:
//! 64 bits of mantissa, so that many decimal sums come out without the noise of an `f64`.

use rustc_apfloat::ieee::{Double, X87DoubleExtended};
use rustc_apfloat::{Float, FloatConvert};

use crate::number::{FloatText, MAX_FLOAT_TEXT};

/// Digits behind the decimal point, before zeros are cut off. Source: Redis 7.2, `%.17Lf`.
const PLACES: usize = 17;
const ONE_IN_PLACES: u128 = 10_u128.pow(PLACES as u32);
const EXPONENT_BIAS: i32 = 16383;

/// An 80-bit floating point number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Reads all of `text` as `strtold` does; see [`crate::number::parse_double`] for what is refused.
    /// Source: Redis 7.2 string2ld.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= MAX_FLOAT_TEXT {
            return None;
        }
        let parts = FloatText::split(text)?;
        let value = parts.evaluate::<X87DoubleExtended>()?;
        Some(Self(if parts.negative { -value } else { value }))
    }

    pub fn from_int(value: i64) -> Self {
        Self(X87DoubleExtended::from_i128(i128::from(value)).value)
    }

    pub fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The nearest `f64`; infinite or 0 when it is out of its range.
    pub fn to_f64(self) -> f64 {
        let nearest: Double = self.0.convert(&mut false).value;
        f64::from_bits(nearest.to_bits() as u64)
    }

    /// Appends the number in plain decimal, never with an exponent, without trailing zeros; `inf`, `-inf`, `nan`.
    /// Source: Redis 7.2 ld2string, human mode.
    pub fn append_to(self, out: &mut Vec<u8>) {
        if !self.0.is_finite() {
            return out.extend_from_slice(if self.0.is_nan() {
                b"nan"
            } else if self.0.is_negative() {
                b"-inf"
            } else {
                b"inf"
            });
        }
        let (mut whole, places) = self.rounded();
        let start = out.len();
        if self.0.is_negative() {
            out.push(b'-');
        }
        whole.append_to(out);
        if places > 0 {
            out.extend_from_slice(format!(".{places:0PLACES$}").trim_end_matches('0').as_bytes());
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }

    /// The absolute value: what is in front of the decimal point, and [`PLACES`] digits behind it, rounded to
    /// the nearest, ties to even.
    fn rounded(self) -> (Decimal, u128) {
        let bits = self.0.to_bits();
        let mantissa = bits as u64;
        let exponent = ((bits >> 64) as i32 & 0x7FFF).max(1) - EXPONENT_BIAS - 63;
        let below_point = exponent.unsigned_abs();
        if exponent >= 0 {
            return (Decimal::new(u128::from(mantissa), below_point), 0);
        }
        let (whole, fraction) = match below_point {
            0..=63 => (mantissa >> below_point, mantissa & ((1 << below_point) - 1)),
            _ => (0, mantissa),
        };
        // Below 2^64 * 10^17 < 2^121: shifted by more, at most a quarter of the last place is left.
        let scaled = u128::from(fraction) * ONE_IN_PLACES;
        let places = if below_point >= 124 { 0 } else { shift_right_rounding(scaled, below_point) };
        match places {
            ONE_IN_PLACES => (Decimal::new(u128::from(whole) + 1, 0), 0),
            places => (Decimal::new(u128::from(whole), 0), places),
        }
    }
}

impl std::ops::Add for LongDouble {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self((self.0 + other.0).value)
    }
}

/// `value / 2^shift`, rounded to the nearest, ties to even; `shift` is 1 to 127.
fn shift_right_rounding(value: u128, shift: u32) -> u128 {
    let (quotient, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
    quotient + u128::from(rest > half || rest == half && quotient & 1 == 1)
}

/// A natural number of any size, nine decimal digits a limb, the least significant limb first.
struct Decimal(Vec<u32>);

const LIMB: u64 = 1_000_000_000;

impl Decimal {
    /// `value * 2^shift`; `shift` is at most 16320.
    fn new(mut value: u128, shift: u32) -> Self {
        let mut limbs = Vec::new();
        while value > 0 || limbs.is_empty() {
            limbs.push((value % u128::from(LIMB)) as u32);
            value /= u128::from(LIMB);
        }
        let mut number = Self(limbs);
        for _ in 0..shift / 29 {
            number.multiply(1 << 29);
        }
        number.multiply(1 << (shift % 29));
        number
    }

    fn multiply(&mut self, factor: u64) {
        let mut carry = 0;
        for limb in &mut self.0 {
            let product = u64::from(*limb) * factor + carry;
            (*limb, carry) = ((product % LIMB) as u32, product / LIMB);
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn append_to(&mut self, out: &mut Vec<u8>) {
        let mut limbs = self.0.iter().rev();
        let mut text = limbs.next().map_or_else(String::new, u32::to_string);
        limbs.for_each(|limb| text.push_str(&format!("{limb:09}")));
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).expect("a number");
        let mut out = Vec::new();
        (parse(a) + parse(b)).append_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3.0", "1.1", "4.1"),
            ("-1", "1", "0"),
            ("0", "-1e-20", "0"),
            ("1e-17", "0", "0.00000000000000001"),
            ("5e-18", "0", "0"),
            ("6e-18", "0", "0.00000000000000001"),
            ("0.99999999999999999999", "0", "1"),
            ("1e19", "1", "10000000000000000001"),
            ("1e30", "0", "1000000000000000000024696061952"),
            ("0x1p4", "-0x.8", "15.5"),
            ("1.23", "-3.0", "-1.77"),
            ("inf", "1", "inf"),
            ("-inf", "1", "-inf"),
            ("inf", "-inf", "nan"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
        assert_eq!(sum("1e4932", "0").len(), 4933);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in ["1e4933", "1e-5000", "nan", " 1", "1 ", "", "0x1p99999", "1e999999999999"] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(LongDouble::parse("1".repeat(5120).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn integers_are_exact(a in -(1_i64 << 62)..1 << 62, b in -(1_i64 << 62)..1 << 62) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), (a + b).to_string());
            let mut out = Vec::new();
            LongDouble::from_int(a).append_to(&mut out);
            prop_assert_eq!(out, a.to_string().into_bytes());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?(0x)?[0-9a-f.]{0,8}([ep][-+]?[0-9]{0,6})?") {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                value.append_to(&mut Vec::new());
            }
        }
    }
}
