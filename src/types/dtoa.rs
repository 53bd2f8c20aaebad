//! The text of an `f64` with as few digits as read back the same: Grisu2, from "Printing Floating-Point Numbers
//! Quickly and Accurately with Integers" (Florian Loitsch, 2010).
//!
//! Redis prints scores and doubles with this algorithm. About one value in a thousand gets a digit more than the
//! shortest text, so a library that always finds the shortest would answer differently.

/// A number `fraction * 2^exponent`.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

/// Decimal digits and the power of ten behind the last one.
struct Decimal {
    digits: [u8; MAX_DIGITS],
    len: usize,
    exponent: i32,
}

const MAX_DIGITS: usize = 20;
const MANTISSA_BITS: u32 = 52;
const HIDDEN_BIT: u64 = 1 << MANTISSA_BITS;

/// Appends the text of a finite, non-zero `value`: plain up to 7 zeros behind the digits or 6 in front of them,
/// in scientific notation (`1.5e-7`, `1e+30`) beyond.
pub(crate) fn append_finite(out: &mut Vec<u8>, value: f64) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let decimal = shortest_digits(value.abs());
    let digits = &decimal.digits[..decimal.len];
    let len = decimal.len as i32;
    let magnitude = (decimal.exponent + len - 1).abs();
    if decimal.exponent >= 0 && magnitude < len + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + decimal.exponent as usize, b'0');
    } else if decimal.exponent < 0 && (decimal.exponent > -7 || magnitude < 4) {
        append_fraction(out, digits, decimal.exponent);
    } else {
        append_scientific(out, digits, decimal.exponent + len - 1, value.is_sign_negative());
    }
}

fn append_fraction(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let places = exponent.unsigned_abs() as usize;
    if let Some(whole) = digits.len().checked_sub(places).filter(|&whole| whole > 0) {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + places - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

fn append_scientific(out: &mut Vec<u8>, digits: &[u8], exponent: i32, negative: bool) {
    // Redis's buffer has room for this many.
    let digits = &digits[..digits.len().min(18 - usize::from(negative))];
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
}

impl Scaled {
    fn new(value: f64) -> Self {
        let bits = value.to_bits();
        let (mantissa, biased) = (bits & (HIDDEN_BIT - 1), (bits >> MANTISSA_BITS & 0x7FF) as i32);
        let least = 1 - 1023 - MANTISSA_BITS as i32;
        match biased {
            0 => Self { fraction: mantissa, exponent: least },
            _ => Self { fraction: mantissa | HIDDEN_BIT, exponent: least + biased - 1 },
        }
    }

    /// The same number with the top bit of the fraction set.
    fn normalized(self) -> Self {
        let shift = self.fraction.leading_zeros();
        Self { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// Half way to the neighbours below and above, both with the exponent of the normalized upper one.
    fn boundaries(self) -> (Self, Self) {
        let upper = Self { fraction: (self.fraction << 1) + 1, exponent: self.exponent - 1 }.normalized();
        // Below a power of two the neighbours are twice as close.
        let closer = if self.fraction == HIDDEN_BIT { 2 } else { 1 };
        let lower = (self.fraction << closer) - 1;
        let shift = self.exponent - closer - upper.exponent;
        (Self { fraction: lower << shift, exponent: upper.exponent }, upper)
    }

    fn times(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Self { fraction: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

fn shortest_digits(value: f64) -> Decimal {
    let exact = Scaled::new(value);
    let (lower, upper) = exact.boundaries();
    let (power, exponent) = power_of_ten_for(upper.exponent);
    let (mut lower, mut upper) = (lower.times(power), upper.times(power));
    // The products are off by less than one: stay inside the boundaries whatever the error.
    lower.fraction += 1;
    upper.fraction -= 1;
    let mut decimal = Decimal { digits: [0; MAX_DIGITS], len: 0, exponent };
    decimal.generate(exact.normalized().times(power), upper, upper.fraction - lower.fraction);
    decimal
}

/// The smallest power of ten in the table whose product with a fraction of this exponent has at most 60
/// fractional bits, and the negated exponent of that power.
fn power_of_ten_for(exponent: i32) -> (Scaled, i32) {
    let idx = POWERS_OF_TEN.partition_point(|&(_, power)| exponent + power + 64 < -60);
    let (fraction, power) = POWERS_OF_TEN[idx];
    (Scaled { fraction, exponent: power }, -(FIRST_POWER + POWER_STEP * idx as i32))
}

impl Decimal {
    /// Digits of `upper` until what is left is within `width`, the distance of the boundaries; then the last
    /// digit is moved towards `exact`.
    fn generate(&mut self, exact: Scaled, upper: Scaled, mut width: u64) {
        let point = -upper.exponent;
        let one = 1_u64 << point;
        let mut to_exact = upper.fraction - exact.fraction;
        let (mut whole, mut rest) = (upper.fraction >> point, upper.fraction & (one - 1));

        let mut unit = 1_000_000_000;
        for places in (0..10).rev() {
            self.push((whole / unit) as u8);
            whole %= unit;
            let left = (whole << point) + rest;
            if left <= width {
                self.exponent += places;
                return self.round(width, left, unit << point, to_exact);
            }
            unit /= 10;
        }
        loop {
            rest *= 10;
            width *= 10;
            to_exact = to_exact.wrapping_mul(10);
            self.exponent -= 1;
            self.push((rest >> point) as u8);
            rest &= one - 1;
            if rest < width {
                return self.round(width, rest, one, to_exact);
            }
        }
    }

    fn push(&mut self, digit: u8) {
        if digit > 0 || self.len > 0 {
            self.digits[self.len] = b'0' + digit;
            self.len += 1;
        }
    }

    /// Lowers the last digit while that brings the text nearer to the exact value and keeps it inside `width`.
    fn round(&mut self, width: u64, mut left: u64, unit: u64, to_exact: u64) {
        while left < to_exact
            && width - left >= unit
            && (left + unit < to_exact || to_exact - left > left + unit - to_exact)
        {
            self.digits[self.len - 1] -= 1;
            left += unit;
        }
    }
}

const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;

/// 10^-348, 10^-340 .. 10^340, rounded to 64 bits.
#[rustfmt::skip]
static POWERS_OF_TEN: [(u64, i32); 87] = [
    (0xfa8fd5a0081c0288, -1220), (0xbaaee17fa23ebf76, -1193), (0x8b16fb203055ac76, -1166), (0xcf42894a5dce35ea, -1140),
    (0x9a6bb0aa55653b2d, -1113), (0xe61acf033d1a45df, -1087), (0xab70fe17c79ac6ca, -1060), (0xff77b1fcbebcdc4f, -1034),
    (0xbe5691ef416bd60c, -1007), (0x8dd01fad907ffc3c, -980), (0xd3515c2831559a83, -954), (0x9d71ac8fada6c9b5, -927),
    (0xea9c227723ee8bcb, -901), (0xaecc49914078536d, -874), (0x823c12795db6ce57, -847), (0xc21094364dfb5637, -821),
    (0x9096ea6f3848984f, -794), (0xd77485cb25823ac7, -768), (0xa086cfcd97bf97f4, -741), (0xef340a98172aace5, -715),
    (0xb23867fb2a35b28e, -688), (0x84c8d4dfd2c63f3b, -661), (0xc5dd44271ad3cdba, -635), (0x936b9fcebb25c996, -608),
    (0xdbac6c247d62a584, -582), (0xa3ab66580d5fdaf6, -555), (0xf3e2f893dec3f126, -529), (0xb5b5ada8aaff80b8, -502),
    (0x87625f056c7c4a8b, -475), (0xc9bcff6034c13053, -449), (0x964e858c91ba2655, -422), (0xdff9772470297ebd, -396),
    (0xa6dfbd9fb8e5b88f, -369), (0xf8a95fcf88747d94, -343), (0xb94470938fa89bcf, -316), (0x8a08f0f8bf0f156b, -289),
    (0xcdb02555653131b6, -263), (0x993fe2c6d07b7fac, -236), (0xe45c10c42a2b3b06, -210), (0xaa242499697392d3, -183),
    (0xfd87b5f28300ca0e, -157), (0xbce5086492111aeb, -130), (0x8cbccc096f5088cc, -103), (0xd1b71758e219652c, -77),
    (0x9c40000000000000, -50), (0xe8d4a51000000000, -24), (0xad78ebc5ac620000, 3), (0x813f3978f8940984, 30),
    (0xc097ce7bc90715b3, 56), (0x8f7e32ce7bea5c70, 83), (0xd5d238a4abe98068, 109), (0x9f4f2726179a2245, 136),
    (0xed63a231d4c4fb27, 162), (0xb0de65388cc8ada8, 189), (0x83c7088e1aab65db, 216), (0xc45d1df942711d9a, 242),
    (0x924d692ca61be758, 269), (0xda01ee641a708dea, 295), (0xa26da3999aef774a, 322), (0xf209787bb47d6b85, 348),
    (0xb454e4a179dd1877, 375), (0x865b86925b9bc5c2, 402), (0xc83553c5c8965d3d, 428), (0x952ab45cfa97a0b3, 455),
    (0xde469fbd99a05fe3, 481), (0xa59bc234db398c25, 508), (0xf6c69a72a3989f5c, 534), (0xb7dcbf5354e9bece, 561),
    (0x88fcf317f22241e2, 588), (0xcc20ce9bd35c78a5, 614), (0x98165af37b2153df, 641), (0xe2a0b5dc971f303a, 667),
    (0xa8d9d1535ce3b396, 694), (0xfb9b7cd9a4a7443c, 720), (0xbb764c4ca7a44410, 747), (0x8bab8eefb6409c1a, 774),
    (0xd01fef10a657842c, 800), (0x9b10a4e5e9913129, 827), (0xe7109bfba19c0c9d, 853), (0xac2820d9623bf429, 880),
    (0x80444b5e7aa7cf85, 907), (0xbf21e44003acdd2d, 933), (0x8e679c2f5e44ff8f, 960), (0xd433179d9c8cb841, 986),
    (0x9e19db92b4e31ba9, 1013), (0xeb96bf6ebadf77d9, 1039), (0xaf87023b9bf0ee6b, 1066),
];
