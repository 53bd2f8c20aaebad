//! Replies in RESP2 and RESP3, written straight into the connection's output.

use crate::resp::output::Output;
use redstart_types::encoding::listpack::Element;
use redstart_types::number;

/// Replies under way. Every method appends one RESP element; where RESP2 has no such type the nearest one is
/// written, as Redis does.
#[derive(Debug, Default)]
pub struct Reply {
    /// Encoded replies, behind `output`.
    pub buf: Vec<u8>,
    /// Whether the client asked for RESP3 (HELLO 3).
    pub resp3: bool,
    /// While a client's commands run: bytes from which on it is closed anyway (`client-output-buffer-limit`).
    pub limit: Option<usize>,
    /// A connection's: bytes that are complete, and wait to be sent. What is long goes there as it is written.
    pub output: Output,
    /// Whether `output` is in use. A reply that a script reads stays in `buf`.
    streams: bool,
    /// Bytes that ever went from `buf` to `output`, or were left out.
    moved: usize,
    /// Of these, the last ones, which were left out: there were too many for the client to get any of them.
    left_out: usize,
    /// The limit has been passed: everything is gone, and what comes is of no use to anybody.
    is_overrun: bool,
}

/// A place in a reply under way. Good as long as nothing before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(usize);

/// `buf` goes to `output` when it is longer, between two elements of whichever reply: one long reply, or many short ones,
/// need not be in one piece, and are left out beyond the limit.
const PIECE_BYTES: usize = 64 * 1024;

impl Reply {
    /// An empty buffer for a client of this protocol.
    pub fn new(resp3: bool) -> Self {
        Reply { resp3, ..Reply::default() }
    }

    /// An empty one for a connection.
    pub fn of_connection() -> Self {
        Reply { streams: true, ..Reply::default() }
    }

    /// Bytes that wait to be sent.
    pub fn waiting_bytes(&self) -> usize {
        self.output.len() + self.buf.len()
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.waiting_bytes() == 0
    }

    /// What waiting bytes take, with room for more.
    pub fn memory(&self) -> usize {
        self.output.memory() + self.buf.capacity()
    }

    /// Whether there is no point in going on: the client is closed before it gets any of this.
    pub fn is_too_long(&self) -> bool {
        self.is_overrun || self.left_out > 0 || self.limit.is_some_and(|limit| self.waiting_bytes() > limit)
    }

    /// From now on nothing goes to `output`: what is written is to be taken back. The limit so far.
    pub fn leave_all_out(&mut self) -> Option<usize> {
        self.settle();
        self.limit.replace(0)
    }

    /// Where the next element is written to.
    #[inline]
    fn tail(&mut self) -> &mut Vec<u8> {
        if self.buf.len() >= PIECE_BYTES && self.streams {
            self.settle();
        }
        &mut self.buf
    }

    /// Moves what there is behind what waits already: bytes from elsewhere may follow. What is beyond the limit is left out.
    #[cold]
    pub fn settle(&mut self) {
        self.moved += self.buf.len();
        if self.is_too_long() {
            self.left_out += self.buf.len();
            self.buf.clear();
        } else {
            self.output.push_from(&mut self.buf, 0);
        }
    }

    /// Appends what others have sent.
    pub fn append(&mut self, output: Output) {
        if output.is_empty() {
            return;
        }
        self.settle();
        self.moved += output.len();
        if self.left_out > 0 {
            self.left_out += output.len();
        } else {
            self.output.append(output);
        }
    }

    /// The bytes to be sent next; empty when there are none.
    pub fn first(&self) -> &[u8] {
        if self.output.is_empty() { &self.buf } else { self.output.first() }
    }

    /// So many bytes of [`Reply::first`] are sent.
    pub fn advance(&mut self, len: usize) {
        if !self.output.is_empty() {
            self.output.advance(len);
        } else {
            self.moved += self.buf.len();
            self.output.push_from(&mut self.buf, len);
        }
    }

    /// Frees everything: the client is to be closed.
    pub fn overrun(&mut self) -> Output {
        self.is_overrun = true;
        self.moved += self.buf.len();
        self.buf = Vec::new();
        std::mem::take(&mut self.output)
    }

    /// The place where the next element begins.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.moved + self.buf.len())
    }

    /// What was appended since; only the end of it if it is long.
    #[inline]
    pub fn since(&self, mark: Mark) -> &[u8] {
        self.buf.get(mark.0.saturating_sub(self.moved)..).unwrap_or_default()
    }

    /// Whether what was appended since is an error.
    #[inline]
    pub fn is_error_since(&self, mark: Mark) -> bool {
        mark.0 >= self.moved && self.buf.get(mark.0 - self.moved) == Some(&b'-')
    }

    /// Takes back what was appended since.
    #[inline]
    pub fn rewind(&mut self, mark: Mark) {
        match mark.0.checked_sub(self.moved) {
            Some(len) => self.buf.truncate(len),
            None => {
                self.buf.clear();
                let len = self.moved - mark.0;
                let left_out = len.min(self.left_out);
                self.left_out -= left_out;
                self.output.take_back(len - left_out);
                self.moved = mark.0;
            }
        }
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.tail().extend_from_slice(b"+OK\r\n");
    }

    /// A simple string. CR and LF are not allowed in it.
    pub fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error line: `text` begins with its code (`ERR ...`). CR and LF in it become spaces, so that text from a
    /// client can never add a reply of its own.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let len = text.iter().rposition(|byte| !is_line_end(*byte)).map_or(0, |last| last + 1);
        self.tail().push(b'-');
        self.buf.extend(text[..len].iter().map(|byte| if is_line_end(*byte) { b' ' } else { *byte }));
        self.buf.extend_from_slice(b"\r\n");
    }

    /// `:n`
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A count as an integer reply.
    pub fn len(&mut self, len: usize) {
        self.integer(i64::try_from(len).expect("nothing in memory has 2^63 elements"));
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.number(b'$', value.len() as i64);
        self.buf.extend_from_slice(value);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A bulk string, or null.
    pub fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    /// An integer as a bulk string.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// An element of a collection as a bulk string.
    #[inline]
    pub fn element(&mut self, element: Element<'_>) {
        match element {
            Element::Bytes(bytes) => self.bulk(bytes),
            Element::Int(value) => self.bulk_integer(value),
        }
    }

    /// No value: `$-1`, in RESP3 `_`.
    #[inline]
    pub fn null(&mut self) {
        let null: &[u8] = if self.resp3 { b"_\r\n" } else { b"$-1\r\n" };
        self.tail().extend_from_slice(null);
    }

    /// No array: `*-1`, in RESP3 `_`.
    pub fn null_array(&mut self) {
        let null: &[u8] = if self.resp3 { b"_\r\n" } else { b"*-1\r\n" };
        self.tail().extend_from_slice(null);
    }

    /// The head of an array of `len` elements, which follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// The head of a map of `pairs`; in RESP2 an array of twice as many.
    pub fn map(&mut self, pairs: usize) {
        if self.resp3 { self.number(b'%', pairs as i64) } else { self.array(pairs * 2) }
    }

    /// The head of a set; in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        self.number(if self.resp3 { b'~' } else { b'*' }, len as i64);
    }

    /// The head of an out-of-band push; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        self.number(if self.resp3 { b'>' } else { b'*' }, len as i64);
    }

    /// The head of attributes (RESP3 only; nothing may be written for RESP2 clients).
    pub fn attribute(&mut self, pairs: usize) {
        self.number(b'|', pairs as i64);
    }

    /// A double: `,3.14`, in RESP2 a bulk string of the same text.
    pub fn double(&mut self, value: f64) {
        let mut text = Vec::with_capacity(24);
        number::append_double(&mut text, value);
        if self.resp3 { self.line(b',', &text) } else { self.bulk(&text) }
    }

    /// `#t` or `#f`, in RESP2 `:1` or `:0`.
    pub fn boolean(&mut self, value: bool) {
        match (self.resp3, value) {
            (true, true) => self.tail().extend_from_slice(b"#t\r\n"),
            (true, false) => self.tail().extend_from_slice(b"#f\r\n"),
            (false, value) => self.integer(i64::from(value)),
        }
    }

    /// A big number, in RESP2 a bulk string.
    pub fn big_number(&mut self, digits: &str) {
        if self.resp3 { self.line(b'(', digits.as_bytes()) } else { self.bulk(digits.as_bytes()) }
    }

    /// A verbatim string of a 3-letter format (`txt`), in RESP2 a bulk string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.number(b'=', text.len() as i64 + 4);
        self.buf.extend_from_slice(format.as_bytes());
        self.buf.push(b':');
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// Starts what is to be preceded by something that is known only later, such as the length of an array; see
    /// [`Reply::end_array`].
    pub fn begin(&mut self) -> Deferred {
        Deferred { at: self.mark() }
    }

    /// Writes the head of an array of `len` elements before what was appended since `start`.
    pub fn end_array(&mut self, start: Deferred, len: usize) {
        self.insert_head(start, b'*', len);
    }

    /// Like [`Reply::end_array`] for a map of `pairs`.
    pub fn end_map(&mut self, start: Deferred, pairs: usize) {
        if self.resp3 { self.insert_head(start, b'%', pairs) } else { self.insert_head(start, b'*', pairs * 2) }
    }

    /// Like [`Reply::end_array`] for a set.
    pub fn end_set(&mut self, start: Deferred, len: usize) {
        self.insert_head(start, if self.resp3 { b'~' } else { b'*' }, len);
    }

    /// Puts a bulk string before what was appended since `start`.
    pub fn end_with_bulk(&mut self, start: Deferred, value: &[u8]) {
        let mut bulk = Reply::new(self.resp3);
        bulk.bulk(value);
        self.insert(start, bulk.buf);
    }

    /// Appends replies that are encoded already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.tail().extend_from_slice(encoded);
    }

    fn insert_head(&mut self, start: Deferred, kind: u8, len: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(len).as_bytes();
        self.insert(start, std::iter::once(kind).chain(digits.iter().copied()).chain(*b"\r\n").collect());
    }

    fn insert(&mut self, start: Deferred, bytes: Vec<u8>) {
        let Some(at) = start.at.0.checked_sub(self.moved) else {
            let after = self.moved - start.at.0;
            self.moved += bytes.len();
            match after.checked_sub(self.left_out) {
                Some(after) => self.output.insert(after, bytes),
                None => self.left_out += bytes.len(),
            }
            return;
        };
        self.buf.splice(at..at, bytes);
    }

    #[inline]
    fn number(&mut self, kind: u8, value: i64) {
        self.tail().push(kind);
        self.buf.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.buf.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.tail().push(kind);
        self.buf.extend_from_slice(text);
        self.buf.extend_from_slice(b"\r\n");
    }
}

/// Where something was begun whose head is not known yet.
#[derive(Debug)]
#[must_use = "what is begun must be ended"]
pub struct Deferred {
    at: Mark,
}

/// What cannot stand in a line of the protocol.
fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Reply)) -> (String, String) {
        let [two, three] = [false, true].map(|resp3| {
            let mut reply = Reply::new(resp3);
            write(&mut reply);
            String::from_utf8(reply.buf).unwrap()
        });
        (two, three)
    }

    #[test]
    fn each_type_in_both_protocols() {
        assert_eq!(both(Reply::null), ("$-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(Reply::null_array), ("*-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(|reply| reply.map(2)), ("*4\r\n".into(), "%2\r\n".into()));
        assert_eq!(both(|reply| reply.set(2)), ("*2\r\n".into(), "~2\r\n".into()));
        assert_eq!(both(|reply| reply.push(2)), ("*2\r\n".into(), ">2\r\n".into()));
        assert_eq!(both(|reply| reply.boolean(true)), (":1\r\n".into(), "#t\r\n".into()));
        assert_eq!(both(|reply| reply.double(1.5)), ("$3\r\n1.5\r\n".into(), ",1.5\r\n".into()));
        assert_eq!(both(|reply| reply.verbatim("txt", b"hi")), ("$2\r\nhi\r\n".into(), "=6\r\ntxt:hi\r\n".into()));
        assert_eq!(both(|reply| reply.big_number("12")), ("$2\r\n12\r\n".into(), "(12\r\n".into()));
    }

    #[test]
    fn a_deferred_head_goes_before_its_elements() {
        let mut reply = Reply::new(true);
        reply.integer(1);
        let start = reply.begin();
        reply.bulk(b"a");
        reply.end_array(start, 1);
        assert_eq!(reply.buf, b":1\r\n*1\r\n$1\r\na\r\n");
    }

    /// Elements, arrays that learn their length late, and what is taken back: a connection's reply, which goes on in pieces, has
    /// the bytes of one that stays in one piece, or is too long.
    #[test]
    fn pieces_make_the_same_reply() {
        use rand::rngs::SmallRng;
        use rand::{Rng, SeedableRng};
        for seed in 0..60 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut whole, mut pieces) = (Reply::new(false), Reply::of_connection());
            pieces.limit = (seed % 3 == 0).then_some(300_000);
            for _ in 0..rng.random_range(1..30) {
                let (starts, marks) = ([whole.begin(), whole.begin()], [whole.mark(), pieces.mark()]);
                let [outer, inner] = [pieces.begin(), pieces.begin()];
                for _ in 0..rng.random_range(0..20) {
                    let value = vec![7; rng.random_range(0..9000)];
                    [&mut whole, &mut pieces].into_iter().for_each(|reply| reply.bulk(&value));
                }
                if rng.random_range(0..4) == 0 {
                    whole.rewind(marks[0]);
                    pieces.rewind(marks[1]);
                    (_, _, _) = (starts, outer, inner);
                    continue;
                }
                let [first, second] = starts;
                whole.end_array(second, 20);
                pieces.end_array(inner, 20);
                whole.end_with_bulk(first, b"0");
                pieces.end_with_bulk(outer, b"0");
            }
            let limit = pieces.limit.unwrap_or(usize::MAX);
            assert_eq!(pieces.is_too_long(), whole.buf.len() > limit, "seed {seed}");
            assert!(pieces.waiting_bytes() <= limit.saturating_add(PIECE_BYTES + 9020), "seed {seed}");
            if !pieces.is_too_long() {
                pieces.settle();
                assert!(pieces.output.into_bytes() == whole.buf, "seed {seed}");
            }
        }
    }

    #[test]
    fn an_error_cannot_smuggle_a_line() {
        let mut reply = Reply::new(false);
        reply.error("ERR unknown command 'a\r\n+OK'");
        assert_eq!(reply.buf, b"-ERR unknown command 'a  +OK'\r\n");
    }
}
