//! Bitmaps: a string value read as an array of bits, and as an array of small integers (BITFIELD).
//!
//! ```text
//! byte     0                 1
//!         +-----------------+-----------------+--
//! bit     |0 1 2 3 4 5 6 7  |8 9 ...          |     bit 0 is the most significant bit of byte 0
//!         +-----------------+-----------------+--
//! ```
//!
//! Offsets are in bits and may lie behind the end of the bytes: what is not there reads as 0. Scans take
//! 8 bytes a step. Nothing here knows the limit of a string's length (`proto-max-bulk-len`): the caller
//! checks an offset before it lets a value grow.

/// The bit at `offset`; false behind the end. Source: Redis 7.2 GETBIT.
pub fn getbit(bytes: &[u8], offset: u64) -> bool {
    usize::try_from(offset / 8).ok().and_then(|idx| bytes.get(idx)).is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets the bit at `offset`, growing `bytes` with zeros up to it, and returns the bit's old value.
/// Source: Redis 7.2 SETBIT.
pub fn setbit(bytes: &mut Vec<u8>, offset: u64, on: bool) -> bool {
    grow_to(bytes, offset);
    let byte = &mut bytes[(offset / 8) as usize];
    let old = *byte & mask(offset) != 0;
    if on {
        *byte |= mask(offset);
    } else {
        *byte &= !mask(offset);
    }
    old
}

/// Grows `bytes` with zeros until the bit `last_bit` lies inside; returns whether it grew.
pub fn grow_to(bytes: &mut Vec<u8>, last_bit: u64) -> bool {
    let needed = (last_bit / 8) as usize + 1;
    let grows = bytes.len() < needed;
    if grows {
        bytes.resize(needed, 0);
    }
    grows
}

/// Turns Redis's `start end` (both inclusive, negative from the end) into positions within `len` units.
/// `None` when nothing lies between them.
pub fn resolve_range(start: i64, end: i64, len: u64) -> Option<(u64, u64)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |idx: i64| if idx < 0 { (len + idx).max(0) } else { idx };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end).then_some((start as u64, end as u64))
}

/// The number of bits that are 1. Source: Redis 7.2 BITCOUNT.
pub fn count(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let in_words: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    let in_tail: u64 = tail.iter().map(|byte| u64::from(byte.count_ones())).sum();
    in_words + in_tail
}

/// The number of bits that are 1 from bit `first` to bit `last`, both inclusive and inside `bytes`.
/// Source: Redis 7.2 BITCOUNT with BIT.
pub fn count_bits(bytes: &[u8], first: u64, last: u64) -> u64 {
    let (head, tail) = edge_masks(first, last);
    let bytes = &bytes[(first / 8) as usize..=(last / 8) as usize];
    match bytes {
        [] => 0,
        [only] => u64::from((only & head & tail).count_ones()),
        [front, middle @ .., back] => {
            u64::from((front & head).count_ones()) + count(middle) + u64::from((back & tail).count_ones())
        }
    }
}

/// The position of the first bit equal to `wanted` from bit `first` to bit `last`, both inclusive and inside
/// `bytes`. Source: Redis 7.2 BITPOS.
pub fn find_bit(bytes: &[u8], wanted: bool, first: u64, last: u64) -> Option<u64> {
    // Searching a 0 is searching a 1 in the inverted bytes.
    let flip = if wanted { 0 } else { 0xff };
    let (head, tail) = edge_masks(first, last);
    let start = (first / 8) as usize;
    let bytes = &bytes[start..=(last / 8) as usize];
    let in_byte = |idx: usize, byte: u8| (start + idx) as u64 * 8 + u64::from(byte.leading_zeros());
    let edge = |idx: usize, edge_mask: u8| Some((bytes[idx] ^ flip) & edge_mask).filter(|byte| *byte != 0);
    let back = bytes.len() - 1;
    if back == 0 {
        return edge(0, head & tail).map(|byte| in_byte(0, byte));
    }
    if let Some(byte) = edge(0, head) {
        return Some(in_byte(0, byte));
    }
    if let Some(idx) = first_other(&bytes[1..back], flip) {
        return Some(in_byte(idx + 1, bytes[idx + 1] ^ flip));
    }
    edge(back, tail).map(|byte| in_byte(back, byte))
}

/// The operation of BITOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOp {
    And,
    Or,
    Xor,
    Not,
}

impl BitOp {
    /// Reads the operation's name, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let names: [(&[u8], Self); 4] =
            [(b"and", Self::And), (b"or", Self::Or), (b"xor", Self::Xor), (b"not", Self::Not)];
        names.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, op)| op)
    }
}

/// Combines `sources` bit by bit; the result is as long as the longest, shorter ones count as padded with
/// zeros. `Not` reads the first source only. Source: Redis 7.2 BITOP.
pub fn bitop(op: BitOp, sources: &[&[u8]]) -> Vec<u8> {
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    if op == BitOp::Not {
        return first.iter().map(|byte| !byte).collect();
    }
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(len);
    result.extend_from_slice(first);
    result.resize(len, 0);
    for source in others {
        let pairs = result.iter_mut().zip(*source);
        match op {
            BitOp::And => {
                pairs.for_each(|(to, from)| *to &= from);
                result[source.len()..].fill(0);
            }
            BitOp::Or => pairs.for_each(|(to, from)| *to |= from),
            BitOp::Xor | BitOp::Not => pairs.for_each(|(to, from)| *to ^= from),
        }
    }
    result
}

/// The integer type of a BITFIELD operation: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    signed: bool,
    /// 1 to 64, or to 63 when unsigned.
    bits: u32,
}

/// What a BITFIELD write does with a value that does not fit its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Keep the low bits.
    Wrap,
    /// Take the nearest value of the type.
    Sat,
    /// Write nothing.
    Fail,
}

impl FieldType {
    /// Reads a type as `i16` or `u8`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (sign, digits) = text.split_first()?;
        let signed = match sign {
            b'i' => true,
            b'u' => false,
            _ => return None,
        };
        let bits = match digits {
            [units @ b'1'..=b'9'] => u32::from(units - b'0'),
            [tens @ b'1'..=b'9', units @ b'0'..=b'9'] => u32::from(tens - b'0') * 10 + u32::from(units - b'0'),
            _ => return None,
        };
        (bits <= if signed { 64 } else { 63 }).then_some(Self { signed, bits })
    }

    /// The width in bits, 1 to 64.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Reads the integer whose first bit is at `offset`.
    pub fn read(self, bytes: &[u8], offset: u64) -> i64 {
        let mut window = [0; 16];
        let start = usize::try_from(offset / 8).unwrap_or(usize::MAX).min(bytes.len());
        let there = (bytes.len() - start).min(WINDOW);
        window[..there].copy_from_slice(&bytes[start..start + there]);
        let shifted = u128::from_be_bytes(window) << (offset % 8);
        let top = (shifted >> 64) as u64;
        if self.signed { (top as i64) >> (64 - self.bits) } else { (top >> (64 - self.bits)) as i64 }
    }

    /// Writes the low bits of `value` at `offset`. The whole field must lie inside `bytes`.
    pub fn write(self, bytes: &mut [u8], offset: u64, value: i64) {
        let start = (offset / 8) as usize;
        let mut window = [0; 16];
        let there = (bytes.len() - start).min(WINDOW);
        let field = &mut bytes[start..start + there];
        window[..there].copy_from_slice(field);
        let shift = 128 - self.bits - (offset % 8) as u32;
        let ones = u128::from(u64::MAX >> (64 - self.bits));
        let kept = u128::from_be_bytes(window) & !(ones << shift);
        let merged = (kept | (u128::from(value as u64) & ones) << shift).to_be_bytes();
        field.copy_from_slice(&merged[..there]);
    }

    /// The value SET stores for the argument `value`; `None` when `overflow` says to write nothing. An unsigned
    /// type takes a negative argument as the large number with the same bits, as Redis does.
    pub fn fit_set(self, value: i64, overflow: Overflow) -> Option<i64> {
        self.fit(if self.signed { i128::from(value) } else { i128::from(value as u64) }, overflow)
    }

    /// The value INCRBY stores; `None` when `overflow` says to write nothing.
    pub fn fit_incr(self, old: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(old) + i128::from(increment), overflow)
    }

    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = if self.signed {
            (-(1_i128 << (self.bits - 1)), (1_i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1_i128 << self.bits) - 1)
        };
        if (min..=max).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Sat => Some(value.clamp(min, max) as i64),
            Overflow::Wrap => {
                let top = (value as u64) << (64 - self.bits);
                Some(if self.signed { (top as i64) >> (64 - self.bits) } else { (top >> (64 - self.bits)) as i64 })
            }
        }
    }
}

/// The mask of bit `offset` within its byte.
fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// The bits that count in the first and in the last byte of the bit range `first..=last`.
fn edge_masks(first: u64, last: u64) -> (u8, u8) {
    (0xff >> (first % 8), 0xff << (7 - last % 8))
}

/// The index of the first byte that differs from `byte`.
fn first_other(bytes: &[u8], byte: u8) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let same = [byte; 8];
    let start = words.iter().position(|word| *word != same).unwrap_or(words.len()) * 8;
    bytes[start..].iter().position(|other| *other != byte).map(|idx| start + idx)
}

/// The bytes a field of 64 bits can touch.
const WINDOW: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits_of(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|offset| getbit(bytes, offset)).collect()
    }

    #[test]
    fn setbit_grows_and_tells_the_old_bit() {
        let mut bytes = Vec::new();
        assert!(!setbit(&mut bytes, 9, true));
        assert_eq!(bytes, [0, 0x40]);
        assert!(setbit(&mut bytes, 9, false));
        assert!(!getbit(&bytes, u64::MAX));
    }

    #[test]
    fn ranges_clamp_as_redis_does() {
        assert_eq!(resolve_range(0, -1, 3), Some((0, 2)));
        assert_eq!(resolve_range(-100, 100, 3), Some((0, 2)));
        assert_eq!(resolve_range(i64::MIN, i64::MAX, 3), Some((0, 2)));
        assert_eq!(resolve_range(2, 1, 3), None);
        assert_eq!(resolve_range(0, -1, 0), None);
        assert_eq!(resolve_range(-1, -2, 1), Some((0, 0)), "BITCOUNT itself refuses this one");
    }

    #[test]
    fn field_types_parse_strictly() {
        assert_eq!(FieldType::parse(b"i64").map(FieldType::bits), Some(64));
        assert_eq!(FieldType::parse(b"u63").map(FieldType::bits), Some(63));
        for wrong in [&b"u64"[..], b"i65", b"i0", b"u08", b"u", b"", b"x8", b"U8", b"i+5", b"i100", b"i8 "] {
            assert_eq!(FieldType::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn overflow_modes() {
        let u8_type = FieldType::parse(b"u8").unwrap();
        let i8_type = FieldType::parse(b"i8").unwrap();
        let i64_type = FieldType::parse(b"i64").unwrap();
        assert_eq!(u8_type.fit_incr(250, 10, Overflow::Wrap), Some(4));
        assert_eq!(u8_type.fit_incr(250, 10, Overflow::Sat), Some(255));
        assert_eq!(u8_type.fit_incr(5, -10, Overflow::Sat), Some(0));
        assert_eq!(u8_type.fit_incr(250, 10, Overflow::Fail), None);
        assert_eq!(u8_type.fit_set(-1, Overflow::Sat), Some(255));
        assert_eq!(i8_type.fit_incr(127, 1, Overflow::Wrap), Some(-128));
        assert_eq!(i8_type.fit_incr(-128, -1, Overflow::Sat), Some(-128));
        assert_eq!(i8_type.fit_set(300, Overflow::Wrap), Some(44));
        assert_eq!(i64_type.fit_incr(i64::MAX, 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(i64_type.fit_incr(i64::MIN, i64::MIN, Overflow::Sat), Some(i64::MIN));
    }

    proptest! {
        #[test]
        fn counts_and_finds_as_a_bit_array(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 1..60),
                proptest::collection::vec(prop_oneof![8 => Just(0_u8), 1 => Just(255), 1 => any::<u8>()], 1..60),
            ],
            a in 0_u64..480, b in 0_u64..480, wanted: bool,
        ) {
            let end = bytes.len() as u64 * 8;
            let (first, last) = ((a % end).min(b % end), (a % end).max(b % end));
            let bits = bits_of(&bytes);
            let range = &bits[first as usize..=last as usize];
            prop_assert_eq!(count_bits(&bytes, first, last), range.iter().filter(|bit| **bit).count() as u64);
            prop_assert_eq!(count(&bytes), bits.iter().filter(|bit| **bit).count() as u64);
            let position = range.iter().position(|bit| *bit == wanted).map(|idx| first + idx as u64);
            prop_assert_eq!(find_bit(&bytes, wanted, first, last), position);
        }

        #[test]
        fn bitop_works_bit_by_bit(
            sources in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..5),
        ) {
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = sources.iter().map(Vec::len).max().unwrap();
            let byte = |source: &Vec<u8>, idx: usize| source.get(idx).copied().unwrap_or(0);
            let fold = |f: fn(u8, u8) -> u8| -> Vec<u8> {
                (0..len).map(|idx| sources.iter().map(|source| byte(source, idx)).reduce(f).unwrap()).collect()
            };
            prop_assert_eq!(bitop(BitOp::And, &slices), fold(|a, b| a & b));
            prop_assert_eq!(bitop(BitOp::Or, &slices), fold(|a, b| a | b));
            prop_assert_eq!(bitop(BitOp::Xor, &slices), fold(|a, b| a ^ b));
            prop_assert_eq!(bitop(BitOp::Not, &slices[..1]), sources[0].iter().map(|b| !b).collect::<Vec<_>>());
        }

        #[test]
        fn fields_read_back_and_leave_their_neighbours(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..30),
            signed: bool, width in 1_u32..=64, offset in 0_u64..240, value: i64,
        ) {
            let field = FieldType { signed, bits: if signed { width } else { width.min(63) } };
            grow_to(&mut bytes, offset + u64::from(field.bits) - 1);
            let before = bits_of(&bytes);
            let stored = field.fit_set(value, Overflow::Wrap).unwrap();
            field.write(&mut bytes, offset, stored);
            prop_assert_eq!(field.read(&bytes, offset), stored);
            let after = bits_of(&bytes);
            let (from, to) = (offset as usize, offset as usize + field.bits as usize);
            prop_assert_eq!(&before[..from], &after[..from]);
            prop_assert_eq!(&before[to..], &after[to..]);
            let unsigned = after[from..to].iter().fold(0_u64, |sum, bit| sum << 1 | u64::from(*bit));
            prop_assert_eq!(unsigned, stored as u64 & (u64::MAX >> (64 - field.bits)));
        }

        #[test]
        fn reading_behind_the_end_gives_zeros(bytes in proptest::collection::vec(any::<u8>(), 0..12), offset: u64) {
            let field = FieldType { signed: false, bits: 63 };
            let value = field.read(&bytes, offset % 128) as u64;
            let expected = (0..63).fold(0_u64, |sum, idx| sum << 1 | u64::from(getbit(&bytes, offset % 128 + idx)));
            prop_assert_eq!(value, expected);
        }
    }
}
