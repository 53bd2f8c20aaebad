//! What a debugging client types: commands as arrays of bulk strings, read as forgivingly as Redis reads them, and the
//! numbers in them.

use crate::lua::until_nul;

/// Most arguments of a command, and most bytes of one of them. Source: Redis 7.2.
const MAX: i32 = 1024;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole command, of at least one argument. What follows it is not looked at.
    Command,
    /// The beginning of one.
    Incomplete,
    /// No command, whatever follows.
    Invalid,
}

/// Reads the command in `input` into `argv`. Bytes before its `*` are skipped; lengths are read like C's `atoi`; a NUL ends
/// the text in which a line's end is looked for.
pub(super) fn parse(input: &[u8], argv: &mut Vec<Vec<u8>>) -> Parsed {
    argv.clear();
    let mut args = [(0, 0); MAX as usize];
    match scan(input, &mut args) {
        Ok(count) => {
            argv.extend(args[..count].iter().map(|(start, end)| input[*start..*end].to_vec()));
            Parsed::Command
        }
        Err(parsed) => parsed,
    }
}

/// How many arguments the command has, and where each begins and ends. Nothing is copied before all of it has come: it may
/// come in a thousand parts.
fn scan(input: &[u8], args: &mut [(usize, usize)]) -> Result<usize, Parsed> {
    if input.is_empty() {
        return Err(Parsed::Incomplete);
    }
    let mut at = memchr::memchr(b'*', until_nul(input)).ok_or(Parsed::Invalid)?;
    let (count, after) = length(input, at).ok_or(Parsed::Incomplete)?;
    if !(1..=MAX).contains(&count) {
        return Err(Parsed::Invalid);
    }
    at = after;
    for arg in &mut args[..count as usize] {
        match input.get(at) {
            None | Some(0) => return Err(Parsed::Incomplete),
            Some(b'$') => {}
            Some(_) => return Err(Parsed::Invalid),
        }
        let (len, start) = length(input, at).ok_or(Parsed::Incomplete)?;
        if !(1..=MAX).contains(&len) {
            return Err(Parsed::Invalid);
        }
        let end = start + len as usize;
        if input.get(end..end + 2).ok_or(Parsed::Incomplete)? != b"\r\n" {
            return Err(Parsed::Invalid);
        }
        *arg = (start, end);
        at = end + 2;
    }
    Ok(count as usize)
}

/// The number behind the mark at `at`, and where the line after it begins.
fn length(input: &[u8], at: usize) -> Option<(i32, usize)> {
    let text = &input[at..];
    let end = memchr::memmem::find(text, b"\r\n")?;
    let text = &text[..end];
    (!text.contains(&0)).then(|| (atoi(&text[1..]), at + end + 2))
}

/// C's `atoi` of 64-bit Linux: blanks, a sign, digits; what follows is not looked at. What does not fit is cut.
pub(super) fn atoi(text: &[u8]) -> i32 {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let text = &text[text.iter().take_while(|byte| blank(byte)).count()..];
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| i64::from(byte - b'0'));
    let signed = |digit: i64| if is_negative { -digit } else { digit };
    digits.fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(signed(digit))) as i32
}

/// A whole number in its one plain form, as Redis reads arguments: no blanks, no `+`, no leading zero.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(value).as_bytes() == text).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> (Parsed, Vec<Vec<u8>>) {
        let mut argv = Vec::new();
        let parsed = parse(input, &mut argv);
        (parsed, argv)
    }

    #[test]
    fn commands() {
        assert_eq!(read(b"*1\r\n$1\r\ns\r\n"), (Parsed::Command, vec![b"s".to_vec()]));
        assert_eq!(read(b"x*2 y\r\n$+1\r\np\r\n$ 3z\r\na\0b\r\n*").1, [b"p".to_vec(), b"a\0b".to_vec()]);
    }

    #[test]
    fn every_beginning_is_incomplete() {
        let whole = b"*2\r\n$5\r\nprint\r\n$3\r\nx\0y\r\n";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]).0, Parsed::Incomplete, "{end}");
        }
        assert_eq!(read(whole).0, Parsed::Command);
        assert_eq!(read(b"*1\r\n\0").0, Parsed::Incomplete);
    }

    #[test]
    fn what_is_no_command() {
        for wrong in [
            &b"PING\r\n"[..],
            b"\0*1\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*1025\r\n",
            b"*x\r\n",
            b"*1\r\nx",
            b"*1\r\n$0\r\n",
            b"*1\r\n$1025\r\n",
            b"*1\r\n$1\r\nxyz",
        ] {
            assert_eq!(read(wrong).0, Parsed::Invalid, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn numbers() {
        assert_eq!((atoi(b" -12x"), atoi(b"+7"), atoi(b""), atoi(b"4294967297")), (-12, 7, 0, 1));
        assert_eq!((atoi(b"99999999999999999999"), atoi(b"-99999999999999999999")), (-1, 0));
        assert_eq!((integer(b"-5"), integer(b"05"), integer(b"+5"), integer(b" 5")), (Some(-5), None, None, None));
    }
}
