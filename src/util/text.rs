//! Texts that quote foreign bytes. What a client sent is shown to it as it is, whether it is UTF-8 or not.

/// `template` with the next of `parts` in place of each `{}`. A part ends at its first NUL, as it does in Redis.
pub fn fill(template: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(template.len() + parts.iter().map(|part| part.len()).sum::<usize>());
    let mut pieces = template.split("{}");
    text.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    let mut parts = parts.iter();
    for piece in pieces {
        text.extend_from_slice(until_nul(parts.next().copied().unwrap_or_default()));
        text.extend_from_slice(piece.as_bytes());
    }
    debug_assert!(parts.next().is_none(), "a part without a place in {template:?}");
    text
}

/// No more than the first `len` bytes.
pub fn first(len: usize, bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(len)]
}

/// What comes before the first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_where_the_template_says() {
        assert_eq!(fill("none", &[]), b"none");
        assert_eq!(fill("'{}' and {}.", &[b"\xff", b"b\r\n"]), b"'\xff' and b\r\n.");
        assert_eq!(fill("{}{}", &[b"ab\0c", b""]), b"ab");
        assert_eq!(first(2, b"abc"), b"ab");
        assert_eq!(first(4, b"abc"), b"abc");
    }
}
