//! Whether replies are what the protocol allows.

/// Skips one RESP value; panics if there is none.
fn skip(bytes: &[u8]) -> &[u8] {
    let fail = |what: &str| -> ! { panic!("{what}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])) };
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { fail("a line without end") };
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    if line[1..].iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        fail("a line break within a line");
    }
    let text = std::str::from_utf8(&line[1..]).unwrap_or("");
    let len = || text.parse::<i64>().unwrap_or_else(|_| fail("no length"));
    match line[0] {
        b'+' | b'-' | b'(' | b',' | b'#' | b'_' => rest,
        b':' => {
            len();
            rest
        }
        b'$' | b'=' => match usize::try_from(len()) {
            Ok(len) if rest.get(len..len + 2) == Some(b"\r\n") => &rest[len + 2..],
            Ok(_) => fail("a string of another length"),
            Err(_) => rest,
        },
        b'*' | b'~' | b'>' => (0..len()).fold(rest, |rest, _| skip(rest)),
        b'%' => (0..2 * len()).fold(rest, |rest, _| skip(rest)),
        b'|' => skip((0..2 * len()).fold(rest, |rest, _| skip(rest))),
        _ => fail("no RESP type"),
    }
}

/// How many RESP values `bytes` are; panics if they are anything else.
pub fn count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        bytes = skip(bytes);
        count += 1;
    }
    count
}
