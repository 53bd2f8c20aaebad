//! Redis's glob patterns (KEYS, SCAN MATCH, PSUBSCRIBE, ACL keys, CONFIG GET).
//!
//! `*` any bytes, `?` one byte, `[abc]`, `[^abc]`, `[a-z]`, `\x` the byte `x` itself. Bytes, not characters. A class
//! without its `]` ends with the pattern. Time is at most pattern length times text length: only the last `*` is ever
//! tried again.

/// True if the whole of `text` matches `pattern`. An empty text is matched by an empty pattern only, not by `*`: that is
/// how Redis 7.2 has it, except where a command takes a lone `*` for everything.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    search(pattern, text, |a, b| a == b, |byte| byte)
}

/// As [`matches()`], with ASCII letters equal in both cases.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    search(pattern, text, |a, b| a.eq_ignore_ascii_case(&b), |byte| byte.to_ascii_lowercase())
}

/// True if `pattern` has a byte that means something other than itself, the backslash aside (as CONFIG GET asks).
pub fn is_pattern(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// A pattern with more `*` than this matches nothing that it takes so many for. Source: Redis 7.2, CVE-2022-36021.
const STARS_MAX: usize = 1000;

fn search(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool, fold: impl Fn(u8) -> u8) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut at, mut pos) = (0, 0);
    // Where to go on when the rest fails: the pattern after the last `*`, and the text it has swallowed so far.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while pos < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            if at == pattern.len() {
                return true;
            }
            stars += usize::from(pattern[at] != b'*');
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((at, pos));
            continue;
        }
        if let Some(next) = match_one(pattern, at, text[pos], &same, &fold) {
            (at, pos) = (next, pos + 1);
        } else if let Some((star_at, star_pos)) = retry {
            (at, pos) = (star_at, star_pos + 1);
            retry = Some((star_at, star_pos + 1));
        } else {
            return false;
        }
    }
    pattern[at.min(pattern.len())..].iter().all(|&byte| byte == b'*')
}

/// The index after the pattern element at `at` if it matches `byte`.
fn match_one(
    pattern: &[u8],
    at: usize,
    byte: u8,
    same: &impl Fn(u8, u8) -> bool,
    fold: &impl Fn(u8) -> u8,
) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_class(pattern, at + 1, byte, same, fold),
        b'\\' if at + 1 < pattern.len() => same(pattern[at + 1], byte).then_some(at + 2),
        literal => same(literal, byte).then_some(at + 1),
    }
}

/// `at` is the index after the `[`; the answer is the index after the `]`.
fn match_class(
    pattern: &[u8],
    mut at: usize,
    byte: u8,
    same: &impl Fn(u8, u8) -> bool,
    fold: &impl Fn(u8) -> u8,
) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [] => break,
            // Redis compares an escaped byte exactly, even when case is ignored.
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                let (low, high) = (fold(*first.min(last)), fold(*first.max(last)));
                found |= (low..=high).contains(&fold(byte));
                at += 3;
            }
            [literal, ..] => {
                found |= same(*literal, byte);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_literals() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", false),
            ("**", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*foo*", "a foo b", true),
            ("a*b*c*d", "aXbXcX", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"a\", r"a\", true),
            ("abc*", "abc", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn classes() {
        for (pattern, text, expected) in [
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("[", "a", false),
            ("[a", "a", true),
            ("[a-", "-", true),
            ("[^]", "x", true),
            ("[]a", "a", false),
            (r"[\]]", "]", true),
            ("*[0-9]", "key7", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn case_is_ignored_on_demand() {
        assert!(matches_ignore_case(b"MAX*Y", b"maxmemory-policy"));
        assert!(!matches(b"MAX*Y", b"maxmemory-policy"));
        assert!(matches_ignore_case(b"[A-C]", b"b"));
    }

    #[test]
    fn many_stars_end_in_reasonable_time() {
        let pattern = "*a".repeat(30) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
