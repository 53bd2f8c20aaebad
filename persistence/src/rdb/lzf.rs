//! LZF, the compression of strings in RDB files.
//!
//! ```text
//! 000LLLLL <L+1 bytes>          a run of L+1 literal bytes (1..=32)
//! LLLooooo oooooooo             copy L+2 bytes (3..=8) from o+1 bytes back
//! 111ooooo LLLLLLLL oooooooo    copy L+9 bytes (9..=264) from o+1 bytes back (o+1 at most 8192)
//! ```
//!
//! Compression is one pass with one table of the last position of each three-byte hash. The table is kept between
//! calls and never cleared: positions are counted on through all calls, and what is older than this input is void.

/// Bytes that a compressed string of three bytes can become at most: no input expands by more than `MAX_COPY / 3`.
const MAX_COPY: usize = 264;
const MAX_LITERALS: usize = 32;
const MAX_DISTANCE: usize = 1 << 13;
const TABLE_BITS: u32 = 14;
/// What decompression reserves before it has seen the data prove its length.
const FIRST_RESERVATION: usize = 1 << 20;

/// The compressor's memory (64 KiB), to be kept between strings.
#[derive(Clone)]
pub(crate) struct Compressor {
    /// Last position of each hash, counted from the first byte ever compressed; 0 is none.
    last_seen: Vec<u32>,
    /// Position of the next input's first byte.
    base: u32,
}

impl Default for Compressor {
    fn default() -> Self {
        Compressor { last_seen: vec![0; 1 << TABLE_BITS], base: 1 }
    }
}

impl Compressor {
    /// Appends the compressed `input` to `out` and answers true, if that takes at most `limit` bytes; otherwise leaves
    /// `out` as it was and answers false.
    pub(crate) fn compress(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        let Ok(input_len) = u32::try_from(input.len()) else { return false };
        if self.base.checked_add(input_len).is_none() {
            self.last_seen.fill(0);
            self.base = 1;
            if self.base.checked_add(input_len).is_none() {
                return false;
            }
        }
        let start = out.len();
        let fits = self.compress_within(input, start + limit, out);
        self.base += input_len;
        if !fits {
            out.truncate(start);
        }
        fits
    }

    fn compress_within(&mut self, input: &[u8], end: usize, out: &mut Vec<u8>) -> bool {
        let mut literals_from = 0;
        let mut at = 0;
        while at + 2 < input.len() {
            let Some((distance, len)) = self.find_match(input, at) else {
                at += 1;
                continue;
            };
            put_literals(&input[literals_from..at], out);
            put_copy(distance, len, out);
            if out.len() > end {
                return false;
            }
            let next = at + len;
            // The positions inside a copy are worth remembering only near its end: that keeps runs cheap.
            for skipped in (next - 2).max(at + 1)..next {
                self.remember(input, skipped);
            }
            at = next;
            literals_from = at;
        }
        put_literals(&input[literals_from..], out);
        out.len() <= end
    }

    /// The earlier place that agrees with `input[at..]` in three bytes or more, and how many; remembers `at`.
    fn find_match(&mut self, input: &[u8], at: usize) -> Option<(usize, usize)> {
        let seen = self.remember(input, at)?;
        let earlier = seen.checked_sub(self.base)? as usize;
        let distance = at - earlier;
        if distance > MAX_DISTANCE || input[earlier..earlier + 3] != input[at..at + 3] {
            return None;
        }
        let rest = &input[at..input.len().min(at + MAX_COPY)];
        let same = rest.iter().zip(&input[earlier..]).skip(3).take_while(|(a, b)| a == b).count();
        Some((distance, 3 + same))
    }

    /// Notes position `at` under its hash and gives back what was there before.
    fn remember(&mut self, input: &[u8], at: usize) -> Option<u32> {
        let [a, b, c] = *input.get(at..at + 3)? else { return None };
        let hash = (u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9e37_79b1)) >> (32 - TABLE_BITS);
        let position = self.base + u32::try_from(at).ok()?;
        Some(std::mem::replace(&mut self.last_seen[hash as usize], position))
    }
}

/// Why compressed bytes cannot be expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Expands `input`, which must give exactly `len` bytes. Memory grows with what the input really yields, never with
/// `len` alone.
pub(crate) fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, Corrupt> {
    if len / (MAX_COPY / 3) > input.len() {
        return Err(Corrupt);
    }
    let mut out = Vec::with_capacity(len.min(FIRST_RESERVATION));
    let mut rest = input;
    while let [control, tail @ ..] = rest {
        rest = tail;
        if *control < 32 {
            let (literals, tail) = rest.split_at_checked(usize::from(*control) + 1).ok_or(Corrupt)?;
            rest = tail;
            make_room(&mut out, literals.len(), len)?;
            out.extend_from_slice(literals);
        } else {
            let mut copy = usize::from(control >> 5) + 2;
            if copy == 9 {
                let [more, tail @ ..] = rest else { return Err(Corrupt) };
                copy += usize::from(*more);
                rest = tail;
            }
            let [low, tail @ ..] = rest else { return Err(Corrupt) };
            rest = tail;
            let distance = (usize::from(control & 31) << 8 | usize::from(*low)) + 1;
            make_room(&mut out, copy, len)?;
            repeat(&mut out, distance, copy)?;
        }
    }
    if out.len() == len { Ok(out) } else { Err(Corrupt) }
}

/// Makes room for `more` bytes, doubling but never past `limit`; an output longer than that is corrupt.
fn make_room(out: &mut Vec<u8>, more: usize, limit: usize) -> Result<(), Corrupt> {
    if more > limit - out.len() {
        return Err(Corrupt);
    }
    if more > out.capacity() - out.len() {
        let target = (out.capacity() * 2).clamp(out.len() + more, limit);
        out.reserve_exact(target - out.len());
    }
    Ok(())
}

/// Appends `len` bytes that begin `distance` bytes back; where that reaches the end, what was appended repeats.
fn repeat(out: &mut Vec<u8>, distance: usize, len: usize) -> Result<(), Corrupt> {
    let from = out.len().checked_sub(distance).ok_or(Corrupt)?;
    let mut left = len;
    while left > 0 {
        let step = left.min(out.len() - from);
        out.extend_from_within(from..from + step);
        left -= step;
    }
    Ok(())
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(MAX_LITERALS) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

fn put_copy(distance: usize, len: usize, out: &mut Vec<u8>) {
    let [low, high, ..] = (distance - 1).to_le_bytes();
    if len < 9 {
        out.push(((len - 2) << 5) as u8 | high);
    } else {
        out.push(7 << 5 | high);
        out.push((len - 9) as u8);
    }
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        Compressor::default().compress(input, input.len().saturating_sub(4), &mut out).then_some(out)
    }

    #[test]
    fn runs_shrink_and_noise_does_not() {
        let run = vec![b'a'; 100_000];
        let small = packed(&run).expect("a run shrinks");
        assert!(small.len() < 1200, "{}", small.len());
        assert_eq!(decompress(&small, run.len()), Ok(run));
        let noise: Vec<u8> = (0..64u8).collect();
        assert_eq!(packed(&noise), None);
    }

    #[test]
    fn copies_longer_than_their_distance_repeat() {
        // "ab" literally, then 8 bytes from 2 back.
        assert_eq!(decompress(&[1, b'a', b'b', 6 << 5, 1], 10), Ok(b"ababababab".to_vec()));
    }

    #[test]
    fn impossible_lengths_and_places_are_refused() {
        assert_eq!(decompress(&[1, b'a', b'b'], usize::MAX), Err(Corrupt));
        assert_eq!(decompress(&[1, b'a'], 2), Err(Corrupt));
        assert_eq!(decompress(&[1, b'a', b'b'], 1), Err(Corrupt));
        assert_eq!(decompress(&[0, b'a', 1 << 5, 1], 4), Err(Corrupt), "copy from before the start");
        assert_eq!(decompress(&[0, b'a', 7 << 5], 10), Err(Corrupt));
        assert_eq!(decompress(&[0, b'a', 7 << 5, 0], 10), Err(Corrupt));
    }

    #[test]
    fn the_table_outlives_its_inputs() {
        let mut compressor = Compressor::default();
        for round in 0..50u8 {
            let input: Vec<u8> = (0..2000u32).map(|i| (i % 40) as u8 ^ round).collect();
            let mut out = Vec::new();
            assert!(compressor.compress(&input, input.len(), &mut out));
            assert_eq!(decompress(&out, input.len()), Ok(input));
        }
    }

    proptest! {
        #[test]
        fn round_trip(words in proptest::collection::vec(0u8..6, 0..3000)) {
            let mut out = Vec::new();
            let limit = words.len() * 2 + 2;
            prop_assert!(Compressor::default().compress(&words, limit, &mut out));
            prop_assert_eq!(decompress(&out, words.len()), Ok(words));
        }

        #[test]
        fn foreign_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300), len in 0usize..100_000) {
            if let Ok(out) = decompress(&input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
