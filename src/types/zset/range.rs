//! Which members a command means: by rank, by score, or by their bytes.

use crate::encoding::listpack::Element;
use crate::number::parse_double;
use std::cmp::Ordering;

/// The way through a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest score up; members of one score by their bytes.
    Ascending,
    Descending,
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// Never NaN.
    pub score: f64,
    /// Whether the score itself lies outside.
    pub exclusive: bool,
}

impl ScoreBound {
    /// A bound that the score itself lies within.
    pub fn inclusive(score: f64) -> Self {
        Self { score, exclusive: false }
    }

    /// Reads `1.5`, `(1.5`, `-inf`, `+inf`. As in Redis, no digits at all mean 0, and a NUL is the end.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let (digits, exclusive) = match text.strip_prefix(b"(") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if digits.is_empty() {
            return Some(Self { score: 0.0, exclusive });
        }
        let digits = digits.trim_ascii_start();
        // What is too large counts as infinite here and what is too small as 0, unlike in a score.
        let score = parse_double(digits).or_else(|| std::str::from_utf8(digits).ok()?.parse().ok())?;
        (!score.is_nan()).then_some(Self { score, exclusive })
    }
}

/// One end of a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// `-`: before every member.
    Lowest,
    /// `+`: behind every member.
    Highest,
    /// `[bytes`
    Inclusive(&'a [u8]),
    /// `(bytes`
    Exclusive(&'a [u8]),
}

impl<'a> LexBound<'a> {
    /// Reads `-`, `+`, `[bytes` or `(bytes`.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            b"-" => Some(Self::Lowest),
            b"+" => Some(Self::Highest),
            [b'[', bytes @ ..] => Some(Self::Inclusive(bytes)),
            [b'(', bytes @ ..] => Some(Self::Exclusive(bytes)),
            _ => None,
        }
    }
}

/// A part of a sorted set that lies together in its order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range<'a> {
    /// From the first rank up to, without, the second. Rank 0 has the lowest score.
    Ranks(usize, usize),
    Scores(ScoreBound, ScoreBound),
    /// Means something only where all scores are equal.
    Lex(LexBound<'a>, LexBound<'a>),
}

impl Range<'_> {
    /// All of a set.
    pub const ALL: Range<'static> = Range::Ranks(0, usize::MAX);

    /// Whether an element lies before the range. By rank this is never answered with true.
    #[inline]
    pub(super) fn is_behind(&self, score: f64, member: Element<'_>) -> bool {
        match self {
            Self::Ranks(..) => false,
            Self::Scores(min, _) => score < min.score || (min.exclusive && score == min.score),
            Self::Lex(min, _) => match min {
                LexBound::Lowest => false,
                LexBound::Highest => true,
                LexBound::Inclusive(bytes) => member.cmp_text(bytes) == Ordering::Less,
                LexBound::Exclusive(bytes) => member.cmp_text(bytes) != Ordering::Greater,
            },
        }
    }

    /// Whether an element lies behind the range. By rank this is never answered with true.
    #[inline]
    pub(super) fn is_past(&self, score: f64, member: Element<'_>) -> bool {
        match self {
            Self::Ranks(..) => false,
            Self::Scores(_, max) => score > max.score || (max.exclusive && score == max.score),
            Self::Lex(_, max) => match max {
                LexBound::Lowest => true,
                LexBound::Highest => false,
                LexBound::Inclusive(bytes) => member.cmp_text(bytes) == Ordering::Greater,
                LexBound::Exclusive(bytes) => member.cmp_text(bytes) != Ordering::Less,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_bounds() {
        let bound = |score, exclusive| Some(ScoreBound { score, exclusive });
        assert_eq!(ScoreBound::parse(b"1.5"), bound(1.5, false));
        assert_eq!(ScoreBound::parse(b"(-3"), bound(-3.0, true));
        assert_eq!(ScoreBound::parse(b"+inf"), bound(f64::INFINITY, false));
        assert_eq!(ScoreBound::parse(b"(-inf"), bound(f64::NEG_INFINITY, true));
        assert_eq!(ScoreBound::parse(b""), bound(0.0, false));
        assert_eq!(ScoreBound::parse(b" 0x10"), bound(16.0, false));
        assert_eq!(ScoreBound::parse(b"-1e400"), bound(f64::NEG_INFINITY, false));
        for wrong in [&b"nan"[..], b"(nan", b"1x", b"((1", b"[1", b"1 "] {
            assert_eq!(ScoreBound::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn lex_bounds() {
        assert_eq!(LexBound::parse(b"-"), Some(LexBound::Lowest));
        assert_eq!(LexBound::parse(b"+"), Some(LexBound::Highest));
        assert_eq!(LexBound::parse(b"["), Some(LexBound::Inclusive(b"")));
        assert_eq!(LexBound::parse(b"(a+"), Some(LexBound::Exclusive(b"a+")));
        for wrong in [&b""[..], b"a", b"++", b"-a"] {
            assert_eq!(LexBound::parse(wrong), None, "{wrong:?}");
        }
    }
}
