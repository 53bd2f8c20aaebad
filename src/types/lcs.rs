//! The longest common subsequence of two strings, by dynamic programming.
//!
//! Time and memory are `(a + 1) * (b + 1)` steps and 4-byte cells: the caller decides what it can afford.

/// Two strings and the table of how long the common subsequences of their beginnings are.
#[derive(Debug)]
pub struct Lcs<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// Row `i`, column `j`: the length for the first `i` bytes of `a` and the first `j` of `b`.
    table: Vec<u32>,
}

/// A run of bytes that both strings have, at these positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    pub a: usize,
    pub b: usize,
    pub len: usize,
}

impl<'a> Lcs<'a> {
    /// Fills the table.
    pub fn new(a: &'a [u8], b: &'a [u8]) -> Self {
        let width = b.len() + 1;
        let mut table = vec![0; (a.len() + 1) * width];
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = table[i * width..].split_at_mut(width);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Lcs { a, b, table }
    }

    /// Length of the longest common subsequence.
    pub fn len(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// Whether the strings have no byte in common.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The subsequence itself.
    pub fn text(&self) -> Vec<u8> {
        let mut text: Vec<u8> = self.pairs().map(|(i, _)| self.a[i]).collect();
        text.reverse();
        text
    }

    /// The runs it is made of, from the last to the first.
    pub fn matches(&self) -> impl Iterator<Item = Match> {
        let mut pairs = self.pairs().peekable();
        std::iter::from_fn(move || {
            let (a, b) = pairs.next()?;
            let mut found = Match { a, b, len: 1 };
            while let Some((a, b)) = pairs.next_if(|(a, b)| *a + 1 == found.a && *b + 1 == found.b) {
                found = Match { a, b, len: found.len + 1 };
            }
            Some(found)
        })
    }

    /// The positions of its bytes in both strings, from the last to the first. Of two ways of equal length, the one
    /// that gives up a byte of `b` is taken, as Redis does.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            while i > 0 && j > 0 {
                if self.a[i - 1] == self.b[j - 1] {
                    (i, j) = (i - 1, j - 1);
                    return Some((i, j));
                }
                if self.at(i - 1, j) > self.at(i, j - 1) { i -= 1 } else { j -= 1 }
            }
            None
        })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.table[i * (self.b.len() + 1) + j]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_matches() {
        let lcs = Lcs::new(b"ohmytext", b"mynewtext");
        assert_eq!(lcs.text(), b"mytext");
        assert_eq!(lcs.len(), 6);
        let found: Vec<Match> = lcs.matches().collect();
        assert_eq!(found, [Match { a: 4, b: 5, len: 4 }, Match { a: 2, b: 0, len: 2 }]);
        assert!(Lcs::new(b"", b"x").is_empty());
        assert_eq!(Lcs::new(b"abc", b"xyz").matches().count(), 0);
    }

    #[test]
    fn any_answer_is_a_subsequence_of_both() {
        let is_within =
            |part: &[u8], mut whole: std::slice::Iter<'_, u8>| part.iter().all(|byte| whole.any(|b| b == byte));
        let mut state = 1_u32;
        let mut text = |len: usize| -> Vec<u8> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b'a' + (state >> 24) as u8 % 3
            };
            (0..len).map(|_| next()).collect()
        };
        for len in 0..40 {
            let (a, b) = (text(len), text(40 - len));
            let lcs = Lcs::new(&a, &b);
            let common = lcs.text();
            assert!(is_within(&common, a.iter()) && is_within(&common, b.iter()));
            assert_eq!(lcs.matches().map(|found| found.len).sum::<usize>(), lcs.len());
        }
    }
}
