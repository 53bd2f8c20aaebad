//! What commands say in the feed: records, encoded one behind the other in memory that is used again and again.

/// Whom a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    #[default]
    Everybody,
    /// The append-only file.
    Log,
    /// Replicas: messages, which no log needs.
    Replicas,
    /// What a script has taken out of both (`redis.set_repl`).
    Nobody,
}

/// One effect: a command in RESP, and the database it applies to (MULTI and EXEC: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub db: Option<usize>,
    /// The command as a RESP array of bulk strings.
    pub command: &'a [u8],
    pub target: Target,
}

/// Records in order.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    db: usize,
    target: Target,
    /// Where its bytes end and the next one's begin.
    end: usize,
}

/// Memory that is kept from one command to the next.
const KEPT_BYTES: usize = 64 << 10;

impl Record<'static> {
    /// What stands in front of the records of a transaction.
    pub const MULTI: Self = Record { db: None, command: b"*1\r\n$5\r\nMULTI\r\n", target: Target::Everybody };
    /// What stands behind them.
    pub const EXEC: Self = Record { db: None, command: b"*1\r\n$4\r\nEXEC\r\n", target: Target::Everybody };
}

impl Record<'_> {
    /// Whether it is for this reader of the feed.
    pub fn is_for(&self, reader: Target) -> bool {
        self.target == Target::Everybody || self.target == reader
    }
}

impl Records {
    /// Adds the command `argv`, which applies to a database.
    pub fn push(&mut self, db: usize, target: Target, argv: &[&[u8]]) {
        encode(&mut self.bytes, argv);
        self.heads.push(Head { db, target, end: self.bytes.len() });
    }

    /// The same for a command that is at hand as RESP.
    pub fn push_encoded(&mut self, db: usize, target: Target, command: &[u8]) {
        self.bytes.extend_from_slice(command);
        self.heads.push(Head { db, target, end: self.bytes.len() });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut start = 0;
        self.heads.iter().map(move |head| {
            let command = &self.bytes[start..head.end];
            start = head.end;
            Record { db: Some(head.db), command, target: head.target }
        })
    }

    /// From the record number `from` on they are for `target` only, as far as they were for it before.
    pub fn restrict(&mut self, from: usize, target: Target) {
        for head in &mut self.heads[from..] {
            let is_for = head.target == Target::Everybody || head.target == target;
            head.target = if is_for { target } else { Target::Nobody };
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.heads.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Records::default();
        }
    }
}

/// Appends a command in RESP: an array of bulk strings.
pub fn encode(out: &mut Vec<u8>, argv: &[&[u8]]) {
    out.reserve(argv.iter().map(|arg| arg.len() + 16).sum::<usize>() + 16);
    head(out, b'*', argv.len());
    for arg in argv {
        head(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// A count and its mark. Nearly all have one or two digits: those are put down in one piece.
#[inline]
fn head(out: &mut Vec<u8>, mark: u8, count: usize) {
    let digit = |number: usize| b'0' + (number % 10) as u8;
    match count {
        0..10 => out.extend_from_slice(&[mark, digit(count), b'\r', b'\n']),
        10..100 => out.extend_from_slice(&[mark, digit(count / 10), digit(count), b'\r', b'\n']),
        _ => {
            out.push(mark);
            out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_encoded_whatever_their_lengths() {
        let long = [b'x'; 100];
        let mut out = b"before".to_vec();
        encode(&mut out, &[b"SET", b"", &long[..12], &long]);
        let text = format!("before*4\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\n{0:x>12}\r\n$100\r\n{0:x>100}\r\n", "");
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn records_come_back_in_order_for_whom_they_are() {
        let mut records = Records::default();
        records.push(0, Target::Everybody, &[b"A"]);
        records.push(9, Target::Everybody, &[b"BC"]);
        records.push(9, Target::Replicas, &[b"D"]);
        records.restrict(1, Target::Log);
        let seen: Vec<_> = records.iter().collect();
        let expected = [
            Record { db: Some(0), command: b"*1\r\n$1\r\nA\r\n", target: Target::Everybody },
            Record { db: Some(9), command: b"*1\r\n$2\r\nBC\r\n", target: Target::Log },
            Record { db: Some(9), command: b"*1\r\n$1\r\nD\r\n", target: Target::Nobody },
        ];
        assert_eq!(seen, expected);
        assert_eq!(records.len(), 3);
        records.push(0, Target::Everybody, &[&vec![b'x'; KEPT_BYTES]]);
        records.clear();
        assert!(records.is_empty() && records.bytes.capacity() == 0);
    }
}
