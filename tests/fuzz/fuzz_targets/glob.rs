//! Patterns: they end, whatever they are, and without special characters they are the text itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::util::glob;

fuzz_target!(|input: &[u8]| {
    let Some((cut, rest)) = input.split_first() else { return };
    let (pattern, text) = rest.split_at(usize::from(*cut).min(rest.len()));
    let matches = glob::matches(pattern, text);
    if !pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
        assert_eq!(matches, pattern == text);
    }
    // As in Redis, only the empty pattern matches the empty text.
    let starred = [pattern, b"*"].concat();
    if matches && !text.is_empty() && !pattern.ends_with(b"\\") && !pattern.contains(&b'[') {
        assert!(glob::matches(&starred, text), "what matches matches with a star behind");
    }
    if matches {
        assert!(glob::matches_ignore_case(pattern, text) || pattern.contains(&b'['));
    }
});
