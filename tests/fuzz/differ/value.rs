//! Replies as trees, and when two that are not the same bytes are the same answer.

/// One RESP value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+ - : , # ( _` and their line.
    Line(u8, Vec<u8>),
    /// `$ =` and the string; `None` is null.
    Bulk(u8, Option<Vec<u8>>),
    /// `* ~ > % |` and the elements (of maps: keys and values in turn); `None` is null.
    Many(u8, Option<Vec<Value>>),
}

/// How far two answers may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leeway {
    /// The same elements in any order, at every level.
    Unordered,
    /// Numbers that are at most so far from each other.
    Near(i64),
    /// The same kinds and lengths.
    Shape,
}

impl Value {
    /// The first value of `bytes` and what is behind it; `None` when it is not complete, an error when it is no RESP.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Value, &[u8])>, String> {
        let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let (line, rest) = (&bytes[1.min(end)..end], &bytes[end + 2..]);
        let len = || {
            let text = std::str::from_utf8(line).ok().and_then(|line| line.parse::<i64>().ok());
            text.ok_or_else(|| format!("no length: {}", bytes.escape_ascii()))
        };
        match bytes[0] {
            kind @ (b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_') => {
                Ok(Some((Value::Line(kind, line.to_vec()), rest)))
            }
            kind @ (b'$' | b'=') => match usize::try_from(len()?) {
                Ok(len) if rest.len() < len + 2 => Ok(None),
                Ok(len) => Ok(Some((Value::Bulk(kind, Some(rest[..len].to_vec())), &rest[len + 2..]))),
                Err(_) => Ok(Some((Value::Bulk(kind, None), rest))),
            },
            kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => {
                let Ok(count) = usize::try_from(len()?) else { return Ok(Some((Value::Many(kind, None), rest))) };
                let count = if matches!(kind, b'%' | b'|') { 2 * count } else { count };
                let mut all = Vec::new();
                let mut rest = rest;
                for _ in 0..count {
                    let Some((value, behind)) = Value::parse(rest)? else { return Ok(None) };
                    all.push(value);
                    rest = behind;
                }
                Ok(Some((Value::Many(kind, Some(all)), rest)))
            }
            _ => Err(format!("no RESP: {}", bytes.escape_ascii())),
        }
    }

    /// All values of `bytes`, and how many bytes at its end are none yet.
    pub fn all(mut bytes: &[u8]) -> Result<(Vec<Value>, usize), String> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let Some((value, rest)) = Value::parse(bytes)? else { break };
            all.push(value);
            bytes = rest;
        }
        Ok((all, bytes.len()))
    }

    pub fn is_push(&self) -> bool {
        matches!(self, Value::Many(b'>', _))
    }

    /// Its string, or its line.
    pub fn text(&self) -> &[u8] {
        match self {
            Value::Line(_, text) | Value::Bulk(_, Some(text)) => text,
            _ => b"",
        }
    }

    pub fn elements(&self) -> &[Value] {
        match self {
            Value::Many(_, Some(all)) => all,
            _ => &[],
        }
    }

    pub fn sorted(&self) -> Value {
        let Value::Many(kind, Some(all)) = self else { return self.clone() };
        let mut all: Vec<Value> = all.iter().map(Value::sorted).collect();
        if matches!(kind, b'%' | b'|') {
            let mut pairs: Vec<Vec<Value>> = all.chunks(2).map(<[Value]>::to_vec).collect();
            pairs.sort();
            all = pairs.concat();
        } else {
            all.sort();
        }
        Value::Many(*kind, Some(all))
    }

    /// Whether this and `other` are the same answer where `leeway` is allowed.
    pub fn matches(&self, other: &Value, leeway: Leeway) -> bool {
        match leeway {
            Leeway::Unordered => self.sorted() == other.sorted(),
            Leeway::Shape | Leeway::Near(_) => self.elementwise(other, leeway),
        }
    }

    fn elementwise(&self, other: &Value, leeway: Leeway) -> bool {
        match (self, other) {
            (Value::Line(one, ours), Value::Line(two, theirs)) => one == two && leaf(ours, theirs, leeway),
            (Value::Bulk(one, Some(ours)), Value::Bulk(two, Some(theirs))) => one == two && leaf(ours, theirs, leeway),
            (Value::Many(one, Some(ours)), Value::Many(two, Some(theirs))) => {
                let pairs = || ours.iter().zip(theirs);
                one == two
                    && ours.len() == theirs.len()
                    && pairs().all(|(ours, theirs)| ours.elementwise(theirs, leeway))
            }
            _ => self == other,
        }
    }
}

fn leaf(ours: &[u8], theirs: &[u8], leeway: Leeway) -> bool {
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    match leeway {
        Leeway::Near(most) => {
            ours == theirs
                || matches!((number(ours), number(theirs)), (Some(a), Some(b)) if a.abs_diff(b) <= most as u64)
        }
        _ => true,
    }
}
