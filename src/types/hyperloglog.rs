//! HyperLogLog: the number of distinct elements, estimated from 16384 registers, kept in a string value whose
//! bytes are those Redis 7.2 would hold after the same commands.
//!
//! ```text
//!  0      4     5        8              16
//! +------+-----+--------+--------------+----------------------------------+
//! | HYLL | enc | unused | cardinality  | registers                        |
//! +------+-----+--------+--------------+----------------------------------+
//!   enc          0 dense, 1 sparse
//!   cardinality  cached estimate, little endian; the top bit set means "out of date"
//!
//! dense: 12288 bytes, 6 bits a register, the lowest bits of a byte first
//! +--------+--------+--------+--
//! |11000000|22221111|33333322|..
//! +--------+--------+--------+--
//!
//! sparse: runs of registers, together exactly 16384
//!   00llllll            ZERO   l+1 registers (1 to 64) are 0
//!   01llllll llllllll   XZERO  l+1 registers (1 to 16384) are 0
//!   1vvvvvll            VAL    l+1 registers (1 to 4) are v+1 (1 to 32)
//! ```
//!
//! A sparse value becomes dense, and never sparse again, when a register passes 32 or when the bytes would
//! pass `hll-sparse-max-bytes`. Adding to a sparse value walks its runs; adding to a dense one is O(1).
//! The bytes may come from a client (SET, RESTORE): every walk checks them and gives [`Corrupted`].
//!
//! Sources: Redis 7.2 PFADD, PFCOUNT, PFMERGE, PFDEBUG; the estimator is O. Ertl, arXiv:1702.01284.

use std::fmt::Write;

/// How the registers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Dense,
    Sparse,
}

impl Encoding {
    /// The name PFDEBUG ENCODING answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
        }
    }
}

/// The header is right, but the runs of a sparse value do not describe 16384 registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted;

/// The bytes of a HyperLogLog without elements: sparse, with an up-to-date cached cardinality of 0.
pub fn create() -> Vec<u8> {
    let mut bytes = b"HYLL\x01".to_vec();
    bytes.resize(HEADER, 0);
    bytes.extend_from_slice(Run::zeros(REGISTERS).encode().bytes());
    bytes
}

/// The encoding, when the header is that of a HyperLogLog; `None` for any other string.
pub fn encoding(bytes: &[u8]) -> Option<Encoding> {
    if bytes.len() < HEADER || !bytes.starts_with(b"HYLL") {
        return None;
    }
    match bytes[4] {
        0 if bytes.len() == DENSE_LEN => Some(Encoding::Dense),
        1 => Some(Encoding::Sparse),
        _ => None,
    }
}

/// Counts `element` in. Returns whether a register changed, and so perhaps the estimate. The cached
/// cardinality is left to the caller ([`invalidate_cache`]), who may know of more reasons.
pub fn add(bytes: &mut Vec<u8>, element: &[u8], sparse_max_bytes: usize) -> Result<bool, Corrupted> {
    let (register, rank) = register_and_rank(element);
    raise(bytes, register, rank, sparse_max_bytes)
}

/// Marks the cached cardinality as out of date.
pub fn invalidate_cache(bytes: &mut [u8]) {
    bytes[HEADER - 1] |= 0x80;
}

/// The cached cardinality, when it is up to date.
pub fn cached_cardinality(bytes: &[u8]) -> Option<u64> {
    let cached = u64::from_le_bytes(*bytes[CACHE_AT..].first_chunk().expect("the header was checked"));
    (cached >> 63 == 0).then_some(cached)
}

/// Stores `cardinality` as the cached one.
pub fn store_cardinality(bytes: &mut [u8], cardinality: u64) {
    bytes[CACHE_AT..HEADER].copy_from_slice(&cardinality.to_le_bytes());
}

/// Estimates the number of distinct elements added.
pub fn estimate(bytes: &[u8]) -> Result<u64, Corrupted> {
    let mut histogram = Histogram::default();
    if bytes[4] == 0 {
        for group in bytes[HEADER..].chunks_exact(3) {
            for rank in unpack(group) {
                histogram.0[usize::from(rank)] += 1;
            }
        }
    } else {
        for run in Runs::new(&bytes[HEADER..]) {
            let (_, run) = run?;
            histogram.0[usize::from(run.rank())] += run.len() as u32;
        }
    }
    Ok(histogram.estimate())
}

/// Turns sparse registers into dense ones; dense ones stay. The cached cardinality is kept.
pub fn to_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    if bytes[4] == 0 {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_LEN];
    dense[..HEADER].copy_from_slice(&bytes[..HEADER]);
    dense[4] = 0;
    for run in Runs::new(&bytes[HEADER..]) {
        let (first, run) = run?;
        if run.rank() > 0 {
            (first..first + run.len()).for_each(|register| set_dense(&mut dense, register, run.rank()));
        }
    }
    *bytes = dense;
    Ok(())
}

/// The runs of a sparse value as text, as PFDEBUG DECODE prints them: `Z:100 v:3,1 z:5`, where `z` is ZERO, `Z`
/// is XZERO and `v` is VAL with its value and length.
pub fn decode(bytes: &[u8]) -> Result<String, Corrupted> {
    let mut text = String::new();
    for run in Runs::new(&bytes[HEADER..]) {
        let written = match run?.1 {
            Run::Zero(len) => write!(text, "z:{len} "),
            Run::XZero(len) => write!(text, "Z:{len} "),
            Run::Value { rank, len } => write!(text, "v:{rank},{len} "),
        };
        written.expect("a String takes any text");
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// All 16384 registers, one a byte: the union of any number of HyperLogLogs.
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Takes the registers of `bytes` in: each register becomes the larger of both.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Corrupted> {
        if bytes[4] == 0 {
            for (registers, group) in self.0.chunks_exact_mut(4).zip(bytes[HEADER..].chunks_exact(3)) {
                registers.iter_mut().zip(unpack(group)).for_each(|(register, rank)| *register = rank.max(*register));
            }
            return Ok(());
        }
        for run in Runs::new(&bytes[HEADER..]) {
            let (first, run) = run?;
            self.0[first..first + run.len()].iter_mut().for_each(|register| *register = run.rank().max(*register));
        }
        Ok(())
    }

    /// The value of every register, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        self.0.iter().copied()
    }

    /// Estimates the number of distinct elements in the union.
    pub fn estimate(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.iter().for_each(|rank| histogram.0[usize::from(rank)] += 1);
        histogram.estimate()
    }

    /// Raises the registers of `bytes` to these, as PFMERGE writes its destination, and marks the cached
    /// cardinality as out of date.
    pub fn store_into(&self, bytes: &mut Vec<u8>, sparse_max_bytes: usize) -> Result<(), Corrupted> {
        for (register, rank) in self.iter().enumerate().filter(|(_, rank)| *rank > 0) {
            raise(bytes, register, rank, sparse_max_bytes)?;
        }
        invalidate_cache(bytes);
        Ok(())
    }
}

/// How many registers have each value.
struct Histogram([u32; 64]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Histogram {
    /// Ertl's improved estimator, rounded to the nearest whole number.
    fn estimate(&self) -> u64 {
        let m = REGISTERS as f64;
        let mut z = m * tau((m - f64::from(self.0[MAX_RANK])) / m);
        for registers in self.0[1..MAX_RANK].iter().rev() {
            z = 0.5 * (z + f64::from(*registers));
        }
        z += m * sigma(f64::from(self.0[0]) / m);
        let estimate = (ALPHA * m * m / z).round();
        // Only made-up registers have no finite estimate; Redis 7.2 on x86-64 then answers this number.
        if estimate.is_finite() { estimate as u64 } else { 1 << 63 }
    }
}

/// The weight of the registers that are still 0.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * power;
        power += power;
        if before == sum {
            return sum;
        }
    }
}

/// The weight of the registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut power, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        power *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * power;
        if before == sum {
            return sum / 3.0;
        }
    }
}

/// One run of equal registers in the sparse encoding.
#[derive(Clone, Copy)]
enum Run {
    Zero(usize),
    XZero(usize),
    Value { rank: u8, len: usize },
}

impl Run {
    /// The shortest run of `len` zeros.
    fn zeros(len: usize) -> Self {
        if len <= ZERO_MAX_LEN { Self::Zero(len) } else { Self::XZero(len) }
    }

    /// The run at the start of `bytes`; `None` when there is none or it is cut off.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let byte = *bytes.first()?;
        let low = usize::from(byte & 0x3f);
        Some(match byte >> 6 {
            0 => Self::Zero(low + 1),
            1 => Self::XZero((low << 8 | usize::from(*bytes.get(1)?)) + 1),
            _ => Self::Value { rank: (byte >> 2 & 0x1f) + 1, len: usize::from(byte & 3) + 1 },
        })
    }

    fn encode(self) -> Encoded {
        let mut encoded = Encoded::default();
        match self {
            Self::Zero(len) => encoded.push((len - 1) as u8),
            Self::XZero(len) => {
                encoded.push(0x40 | ((len - 1) >> 8) as u8);
                encoded.push((len - 1) as u8);
            }
            Self::Value { rank, len } => encoded.push(0x80 | (rank - 1) << 2 | (len - 1) as u8),
        }
        encoded
    }

    /// How many registers it covers.
    fn len(self) -> usize {
        match self {
            Self::Zero(len) | Self::XZero(len) | Self::Value { len, .. } => len,
        }
    }

    /// The value of its registers.
    fn rank(self) -> u8 {
        match self {
            Self::Zero(_) | Self::XZero(_) => 0,
            Self::Value { rank, .. } => rank,
        }
    }

    /// How many bytes it takes.
    fn width(self) -> usize {
        1 + usize::from(matches!(self, Self::XZero(_)))
    }

    /// The same kind of run over `len` registers.
    fn resized(self, len: usize) -> Self {
        match self {
            Self::Zero(_) | Self::XZero(_) => Self::zeros(len),
            Self::Value { rank, .. } => Self::Value { rank, len },
        }
    }

    /// The runs that replace this one when its register number `offset` becomes `rank`.
    fn split(self, offset: usize, rank: u8) -> Encoded {
        let mut encoded = Encoded::default();
        if offset > 0 {
            encoded.append(self.resized(offset).encode());
        }
        encoded.append(Self::Value { rank, len: 1 }.encode());
        if offset + 1 < self.len() {
            encoded.append(self.resized(self.len() - offset - 1).encode());
        }
        encoded
    }
}

/// The bytes of up to three runs.
#[derive(Default)]
struct Encoded {
    bytes: [u8; 5],
    len: usize,
}

impl Encoded {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn append(&mut self, other: Self) {
        other.bytes().iter().for_each(|byte| self.push(*byte));
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Walks the runs of a sparse value, each with the number of its first register. Ends with [`Corrupted`] unless
/// they cover the 16384 registers exactly.
struct Runs<'a> {
    rest: &'a [u8],
    next_register: usize,
    failed: bool,
}

impl<'a> Runs<'a> {
    fn new(sparse: &'a [u8]) -> Self {
        Self { rest: sparse, next_register: 0, failed: false }
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<(usize, Run), Corrupted>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || (self.rest.is_empty() && self.next_register == REGISTERS) {
            return None;
        }
        let first = self.next_register;
        match Run::decode(self.rest).filter(|run| first + run.len() <= REGISTERS) {
            Some(run) => {
                self.rest = &self.rest[run.width()..];
                self.next_register += run.len();
                Some(Ok((first, run)))
            }
            None => {
                self.failed = true;
                Some(Err(Corrupted))
            }
        }
    }
}

/// Raises `register` to `rank`; returns whether it was lower.
fn raise(bytes: &mut Vec<u8>, register: usize, rank: u8, sparse_max_bytes: usize) -> Result<bool, Corrupted> {
    if bytes[4] == 0 {
        Ok(raise_dense(bytes, register, rank))
    } else {
        raise_sparse(bytes, register, rank, sparse_max_bytes)
    }
}

fn raise_dense(bytes: &mut [u8], register: usize, rank: u8) -> bool {
    let (byte, shift) = (HEADER + register * 6 / 8, register * 6 % 8);
    let next = bytes.get(byte + 1).copied().unwrap_or(0);
    let old = (u16::from_le_bytes([bytes[byte], next]) >> shift & 0x3f) as u8;
    if old < rank {
        set_dense(bytes, register, rank);
    }
    old < rank
}

fn set_dense(bytes: &mut [u8], register: usize, rank: u8) {
    let (byte, shift) = (HEADER + register * 6 / 8, register * 6 % 8);
    let [keep_low, keep_high] = (!(0x3f_u16 << shift)).to_le_bytes();
    let [low, high] = (u16::from(rank) << shift).to_le_bytes();
    bytes[byte] = bytes[byte] & keep_low | low;
    // The last register of all ends within the last byte.
    if let Some(next) = bytes.get_mut(byte + 1) {
        *next = *next & keep_high | high;
    }
}

fn raise_sparse(bytes: &mut Vec<u8>, register: usize, rank: u8, sparse_max_bytes: usize) -> Result<bool, Corrupted> {
    if rank > VALUE_MAX {
        return promote_and_raise(bytes, register, rank);
    }
    let found = find_run(bytes, register).ok_or(Corrupted)?;
    if found.run.rank() >= rank {
        return Ok(false);
    }
    let split = found.run.split(register - found.first_register, rank);
    let width = found.run.width();
    if split.len > width && bytes.len() + split.len - width > sparse_max_bytes {
        return promote_and_raise(bytes, register, rank);
    }
    bytes.splice(found.at..found.at + width, split.bytes().iter().copied());
    join_values(bytes, found.previous_at);
    invalidate_cache(bytes);
    Ok(true)
}

fn promote_and_raise(bytes: &mut Vec<u8>, register: usize, rank: u8) -> Result<bool, Corrupted> {
    to_dense(bytes)?;
    Ok(raise_dense(bytes, register, rank))
}

/// The run that covers a register.
struct Found {
    run: Run,
    /// Index of its first byte in the value.
    at: usize,
    /// Index of the run before it, or its own when it is the first.
    previous_at: usize,
    first_register: usize,
}

fn find_run(bytes: &[u8], register: usize) -> Option<Found> {
    let (mut at, mut previous_at, mut first_register) = (HEADER, HEADER, 0);
    loop {
        let run = Run::decode(&bytes[at..])?;
        if register < first_register + run.len() {
            return Some(Found { run, at, previous_at, first_register });
        }
        previous_at = at;
        at += run.width();
        first_register += run.len();
    }
}

/// Joins neighbouring VAL runs of one value, looking at five runs from the index `at` on: a change touches no
/// more. Joining counts as a look, as in Redis, so that the bytes stay the same.
fn join_values(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = bytes.get(at..).and_then(Run::decode) else { return };
        let next = bytes.get(at + run.width()..).and_then(Run::decode);
        match (run, next) {
            (Run::Value { rank, len }, Some(Run::Value { rank: next_rank, len: next_len }))
                if rank == next_rank && len + next_len <= VALUE_MAX_LEN =>
            {
                bytes[at] = Run::Value { rank, len: len + next_len }.encode().bytes[0];
                bytes.remove(at + 1);
            }
            _ => at += run.width(),
        }
    }
}

/// The four registers in three dense bytes.
fn unpack(group: &[u8]) -> [u8; 4] {
    let word = u32::from_le_bytes([group[0], group[1], group[2], 0]);
    [word, word >> 6, word >> 12, word >> 18].map(|register| (register & 0x3f) as u8)
}

/// The register an element belongs to, and the position of the lowest 1 in the rest of its hash (1 to 51).
fn register_and_rank(element: &[u8]) -> (usize, u8) {
    let hash = murmur_hash_64a(element, HASH_SEED);
    let rest = hash >> REGISTER_BITS | 1 << (64 - REGISTER_BITS);
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

/// Austin Appleby's MurmurHash2, the 64-bit variant for 64-bit machines, read as little endian.
fn murmur_hash_64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    for word in words {
        let mixed = u64::from_le_bytes(*word).wrapping_mul(M);
        hash = (hash ^ (mixed ^ mixed >> 47).wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// How many bits of the hash choose the register.
const REGISTER_BITS: u32 = 14;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// The largest value a hash can give a register.
const MAX_RANK: usize = 64 - REGISTER_BITS as usize + 1;
const HEADER: usize = 16;
const CACHE_AT: usize = 8;
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;
const ZERO_MAX_LEN: usize = 64;
const VALUE_MAX: u8 = 32;
const VALUE_MAX_LEN: usize = 4;
const HASH_SEED: u64 = 0xadc8_3b19;
/// 0.5 / ln 2
const ALPHA: f64 = 0.721_347_520_444_481_7;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Large enough never to be reached.
    const NO_LIMIT: usize = 1 << 20;

    /// FNV-1a, to name a long value in one number.
    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }

    fn pfadd(bytes: &mut Vec<u8>, element: &str, sparse_max_bytes: usize) {
        if add(bytes, element.as_bytes(), sparse_max_bytes).unwrap() {
            invalidate_cache(bytes);
        }
    }

    fn pfcount(bytes: &mut [u8]) -> u64 {
        let cardinality = cached_cardinality(bytes).unwrap_or_else(|| estimate(bytes).unwrap());
        store_cardinality(bytes, cardinality);
        cardinality
    }

    fn filled(prefix: &str, count: usize) -> Vec<u8> {
        let mut bytes = create();
        (0..count).for_each(|idx| pfadd(&mut bytes, &format!("{prefix}{idx}"), 3000));
        bytes
    }

    /// The bytes of Redis 7.2.6 after `PFADD k`, then `PFADD k a b c`, then `PFCOUNT k`.
    #[test]
    fn small_values_are_redis_bytes() {
        let mut bytes = create();
        assert_eq!(bytes, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        ["a", "b", "c"].iter().for_each(|element| pfadd(&mut bytes, element, 3000));
        assert_eq!(bytes[HEADER..], *b"\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a");
        assert_eq!(bytes[CACHE_AT..HEADER], *b"\0\0\0\0\0\0\0\x80");
        assert_eq!(pfcount(&mut bytes), 3);
        assert_eq!(bytes[CACHE_AT..HEADER], *b"\x03\0\0\0\0\0\0\0");
        assert_eq!(decode(&bytes).unwrap(), "Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603");
    }

    /// Length, checksum and estimate of Redis 7.2.6, adding "1", "2", ... and after each checkpoint `n` also "xn".
    #[test]
    fn growing_values_are_redis_bytes() {
        type Checkpoint = (u32, usize, u64, u64);
        let cases: [(usize, &[Checkpoint]); 4] = [
            (
                3000,
                &[
                    (1, 21, 0x323d_a3c3_b4f2_8a1f, 1),
                    (10, 56, 0x2402_ae72_eaf2_b2c7, 13),
                    (100, 298, 0xc78f_32c3_52d1_c658, 105),
                    (1500, 2782, 0x91c2_d92e_7636_d566, 1522),
                    (2000, 12304, 0xf52f_24d5_4093_478f, 2016),
                    (20000, 12304, 0x0240_01dd_61a5_b96c, 19910),
                ],
            ),
            (100, &[(10, 56, 0x2402_ae72_eaf2_b2c7, 13), (50, 12304, 0xc94e_960d_3898_5da6, 54)]),
            (0, &[(1, 12304, 0x4d63_e6b6_4186_f46e, 1), (5, 12304, 0xa9c7_7a62_d2ba_a48a, 7)]),
            (
                20000,
                &[
                    (2000, 3549, 0xa75e_ce89_6a43_ded6, 2016),
                    (5000, 7239, 0x9cb1_0fa4_ecf5_3f9b, 4996),
                    (20000, 13085, 0x1fed_a4d1_0a2a_1f1f, 19910),
                ],
            ),
        ];
        let stops = [1, 2, 5, 10, 50, 100, 200, 500, 1000, 1500, 2000, 5000, 10000, 20000];
        for (sparse_max_bytes, checkpoints) in cases {
            let mut bytes = create();
            for number in 1..=checkpoints.last().unwrap().0 {
                pfadd(&mut bytes, &number.to_string(), sparse_max_bytes);
                if !stops.contains(&number) {
                    continue;
                }
                let (len, checksum) = (bytes.len(), fnv(&bytes));
                let cardinality = pfcount(&mut bytes);
                if let Some(expected) = checkpoints.iter().find(|checkpoint| checkpoint.0 == number) {
                    assert_eq!((number, len, checksum, cardinality), *expected, "limit {sparse_max_bytes}");
                }
                pfadd(&mut bytes, &format!("x{number}"), sparse_max_bytes);
            }
        }
    }

    /// Checked against PFMERGE of Redis 7.2.6.
    #[test]
    fn merges_are_redis_bytes() {
        for (count, len, checksum, cardinality) in
            [(600, 2208, 0xb614_049b_9151_9118, 1205), (3000, 12304, 0xa26b_4e56_4a13_193a, 3636)]
        {
            let (a, b) = (filled("a", 600), filled("b", count));
            let mut union = Registers::default();
            union.merge(&a).unwrap();
            union.merge(&b).unwrap();
            assert_eq!(union.estimate(), cardinality);
            let mut destination = create();
            if len > 3000 {
                to_dense(&mut destination).unwrap();
                // Redis writes into the destination of the first merge, whose estimate was cached.
                store_cardinality(&mut destination, 1205);
            }
            union.store_into(&mut destination, 3000).unwrap();
            assert_eq!((destination.len(), fnv(&destination)), (len, checksum));
            assert_eq!(estimate(&destination), Ok(cardinality));
        }
    }

    #[test]
    fn headers_of_other_strings_are_refused() {
        let dense = {
            let mut bytes = create();
            to_dense(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(encoding(&dense), Some(Encoding::Dense));
        assert_eq!(encoding(&dense[..DENSE_LEN - 1]), None);
        assert_eq!(encoding(&create()), Some(Encoding::Sparse));
        assert_eq!(encoding(b"HYLL\x01"), None);
        assert_eq!(encoding(b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"), None);
        assert_eq!(encoding(b"HYLX\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"), None);
    }

    /// CVE-2025-32023 (runs that pass the last register) and CVE-2019-10192 (runs cut off).
    #[test]
    fn damaged_runs_are_refused() {
        for runs in [&b"\x7f\xff\x7f\xff\x83"[..], b"\x7f", b"", b"\x7f\xfe\x81", b"\x00", b"\x7f\xfe\x7f"] {
            let mut bytes = create();
            bytes.truncate(HEADER);
            bytes.extend_from_slice(runs);
            assert_eq!(estimate(&bytes), Err(Corrupted), "{runs:?}");
            assert_eq!(decode(&bytes), Err(Corrupted));
            assert_eq!(Registers::default().merge(&bytes), Err(Corrupted));
            assert_eq!(to_dense(&mut bytes.clone()), Err(Corrupted));
        }
    }

    proptest! {
        #[test]
        fn foreign_sparse_bytes_never_panic(
            runs in proptest::collection::vec(any::<u8>(), 0..300),
            elements in proptest::collection::vec("[a-z]{0,20}", 1..20),
            limit in 0_usize..400,
        ) {
            let mut bytes = create();
            bytes.truncate(HEADER);
            bytes.extend_from_slice(&runs);
            let _ = (estimate(&bytes), decode(&bytes), Registers::default().merge(&bytes));
            for element in elements {
                let _ = add(&mut bytes, element.as_bytes(), limit);
                prop_assert!(encoding(&bytes).is_some());
            }
            let mut registers = Registers::default();
            (0..REGISTERS).for_each(|register| registers.0[register] = (register % 40) as u8);
            let _ = registers.store_into(&mut bytes, limit);
        }

        #[test]
        fn sparse_and_dense_agree(elements in proptest::collection::vec(any::<u32>(), 0..2000)) {
            let (mut sparse, mut dense) = (create(), create());
            to_dense(&mut dense).unwrap();
            for element in &elements {
                let (a, b) = (element.to_le_bytes(), element.to_le_bytes());
                prop_assert_eq!(add(&mut sparse, &a, NO_LIMIT), add(&mut dense, &b, NO_LIMIT));
            }
            prop_assert_eq!(estimate(&sparse), estimate(&dense));
            to_dense(&mut sparse).unwrap();
            prop_assert_eq!(&sparse[HEADER..], &dense[HEADER..]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn every_dense_register_holds_its_own_value(ranks in proptest::collection::vec(0_u8..64, REGISTERS)) {
            let mut bytes = create();
            to_dense(&mut bytes).unwrap();
            ranks.iter().enumerate().for_each(|(register, rank)| set_dense(&mut bytes, register, *rank));
            let mut registers = Registers::default();
            registers.merge(&bytes).unwrap();
            prop_assert_eq!(registers.iter().collect::<Vec<_>>(), ranks);
        }
    }
}
