//! The quoting shared by `redis.conf`, inline commands, ACL files, MONITOR and `redis-cli`.
//!
//! Words are parted by blanks. `"..."` knows `\n \r \t \b \a \xHH` and `\c` for any other byte; `'...'` knows only
//! `\'`. A closing quote must end its word.

/// The quotes of a line do not balance, or text follows a closing quote.
#[derive(Debug, PartialEq, Eq)]
pub struct Unbalanced;

/// The words of `line`, unquoted. An empty line has none; `""` is one empty word.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| is_blank(**byte)).count()..];
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Appends `bytes` to `out` as `"..."`, so that [`split`] gives them back.
pub fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend([b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out.push(b'"');
}

/// `bytes` as one word of a line: as they are, or quoted where [`split`] would make something else of them.
pub fn word(bytes: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\'');
    if !bytes.is_empty() && bytes.iter().all(is_plain) { bytes.to_vec() } else { quoted(bytes) }
}

/// [`push_quoted`] into a new vector.
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    push_quoted(&mut out, bytes);
    out
}

/// Moves one word from the front of `rest` into `word`; answers what follows it.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', tail @ ..] => return take_double_quoted(tail, word),
            [b'\'', tail @ ..] => return take_single_quoted(tail, word),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
            [b'"', tail @ ..] => return end_of_word(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_value(*high) * 16 + hex_value(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
            [b'\'', tail @ ..] => return end_of_word(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

fn end_of_word(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn plain_and_quoted_words() {
        assert_eq!(words(""), Vec::<String>::new());
        assert_eq!(words("  set  key\tvalue \r\n"), ["set", "key", "value"]);
        assert_eq!(words(r#"save """#), ["save", ""]);
        assert_eq!(words("logfile ''"), ["logfile", ""]);
        assert_eq!(words(r#"a "b c" 'd e'"#), ["a", "b c", "d e"]);
        assert_eq!(words(r#"ab"cd""#), ["abcd"]);
        assert_eq!(words(r#""\x41\n\t\"\q""#), ["A\n\t\"q"]);
        assert_eq!(words(r"'it\'s \n'"), ["it's \\n"]);
        assert_eq!(split(br#""\xff\a\b""#).unwrap(), [vec![0xff, 7, 8]]);
    }

    #[test]
    fn unbalanced_quotes() {
        for line in ["\"abc", "'abc", "\"a\"b", "'a'b", "\"abc\\"] {
            assert_eq!(split(line.as_bytes()), Err(Unbalanced), "{line}");
        }
    }

    #[test]
    fn a_word_is_quoted_only_where_it_must_be() {
        for (bytes, expected) in [
            (&b"a\\b(c)#"[..], &b"a\\b(c)#"[..]),
            (b"it's", b"\"it's\""),
            (b"", b"\"\""),
            (b"a b", b"\"a b\""),
            (b"\xff\n", b"\"\\xff\\n\""),
        ] {
            assert_eq!(word(bytes), expected);
            assert_eq!(split(&word(bytes)).unwrap(), [bytes]);
        }
    }

    #[test]
    fn every_byte_survives_quoting() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(split(&quoted(&bytes)).unwrap(), [bytes]);
        assert_eq!(quoted(b"a\x00\"\\\n"), br#""a\x00\"\\\n""#);
    }
}
