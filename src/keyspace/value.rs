//! Values: everything a key can hold that is not a short string.

use redstart_types::entry;
use redstart_types::hash::Hash;
use redstart_types::list::List;
use redstart_types::long_string::LongString;
use redstart_types::number;
use redstart_types::set::Set;
use redstart_types::stream::Stream;
use redstart_types::zset::ZSet;

/// A key with its value.
pub type Entry = entry::Entry<Value>;

/// What an [`Entry`] holds when it is neither a short string nor an integer.
#[derive(Debug, Clone)]
pub enum Value {
    /// Longer than [`entry::INLINE_MAX`].
    String(Box<LongString>),
    List(List),
    Set(Set),
    ZSet(ZSet),
    Hash(Hash),
    Stream(Box<Stream>),
}

/// The types that TYPE names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    String,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl Kind {
    /// TYPE's reply.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

impl Value {
    /// A string longer than [`entry::INLINE_MAX`].
    pub fn long_string(bytes: Vec<u8>) -> Self {
        Value::String(Box::new(LongString::new(bytes)))
    }

    /// Which type it is.
    pub fn kind(&self) -> Kind {
        match self {
            Value::String(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::ZSet(_) => Kind::ZSet,
            Value::Hash(_) => Kind::Hash,
            Value::Stream(_) => Kind::Stream,
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self {
            Value::String(_) => "raw",
            Value::List(list) => list.encoding_name(),
            Value::Set(set) => set.encoding_name(),
            Value::ZSet(zset) => zset.encoding_name(),
            Value::Hash(hash) => hash.encoding_name(),
            Value::Stream(_) => "stream",
        }
    }

    /// How many allocations a drop frees, about.
    pub fn allocations(&self) -> usize {
        let of_table = |encoding: &str, len: usize| if matches!(encoding, "hashtable" | "skiplist") { len } else { 1 };
        match self {
            Value::String(_) => 1,
            Value::List(list) => list.allocations(),
            Value::Set(set) => of_table(set.encoding_name(), set.len()),
            Value::ZSet(zset) => of_table(zset.encoding_name(), zset.len()),
            Value::Hash(hash) => of_table(hash.encoding_name(), hash.len()),
            Value::Stream(stream) => {
                let pending: usize = stream.groups().map(|(_, group)| 1 + group.pending_len()).sum();
                stream.entries.nodes().len() + pending
            }
        }
    }
}

/// What OBJECT ENCODING answers for an entry. Source: Redis 7.2 OBJECT ENCODING.
pub fn encoding_name(entry: &Entry) -> &'static str {
    /// Longer strings are not embedded in Redis's object.
    const EMBEDDED_MAX: usize = 44;
    match entry.content() {
        entry::Content::Int(_) => "int",
        entry::Content::Str(bytes) if bytes.len() > EMBEDDED_MAX || entry.is_raw() => "raw",
        entry::Content::Str(_) => "embstr",
        entry::Content::Object(value) => value.encoding_name(),
    }
}

impl Value {
    /// Bytes that the value points at: what is not counted as it grows is judged by `samples` of its parts.
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self {
            Value::String(bytes) => bytes.memory_bytes(),
            Value::List(list) => list.memory_bytes(samples),
            Value::Set(set) => set.memory_bytes(),
            Value::ZSet(zset) => zset.memory_bytes(samples),
            Value::Hash(hash) => hash.memory_bytes(),
            Value::Stream(stream) => stream.memory_bytes(samples),
        }
    }
}

/// Which type an entry holds.
pub fn kind_of(entry: &Entry) -> Kind {
    match entry.content() {
        entry::Content::Object(value) => value.kind(),
        _ => Kind::String,
    }
}

/// Parts of a value that its size is judged by when nobody asks for more. Source: Redis 7.2 MEMORY USAGE.
pub const MEMORY_SAMPLES: usize = 5;

/// Bytes of a key with its value, judged by `samples` of its parts.
pub fn memory_bytes(entry: &Entry, samples: usize) -> usize {
    let object = match entry.content() {
        entry::Content::Object(value) => value.memory_bytes(samples),
        _ => 0,
    };
    entry.memory_bytes() + object
}

/// A string value, as bytes or as the integer it is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringRef<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl<'a> StringRef<'a> {
    /// The string of an entry, or None when it holds something else.
    #[inline]
    pub fn of(entry: &'a Entry) -> Option<Self> {
        match entry.content() {
            entry::Content::Str(bytes) => Some(StringRef::Bytes(bytes)),
            entry::Content::Int(value) => Some(StringRef::Int(value)),
            entry::Content::Object(Value::String(bytes)) => Some(StringRef::Bytes(bytes)),
            entry::Content::Object(_) => None,
        }
    }

    /// The bytes; `digits` lends room for an integer's.
    #[inline]
    pub fn bytes<'b>(self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            StringRef::Bytes(bytes) => bytes,
            StringRef::Int(value) => digits.format(value).as_bytes(),
        }
    }

    /// The bytes, copied.
    pub fn to_vec(self) -> Vec<u8> {
        self.bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// The value as an integer, if its text is one.
    #[inline]
    pub fn as_int(self) -> Option<i64> {
        match self {
            StringRef::Bytes(bytes) => number::parse_int(bytes),
            StringRef::Int(value) => Some(value),
        }
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether it has no byte.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One of the collection types: how it is found in a [`Value`] and put into one.
pub trait Typed: Sized {
    /// The value as this type, or None when it is another.
    fn of(value: &Value) -> Option<&Self>;
    /// The same, to change it.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// Wraps it.
    fn wrap(self) -> Value;
    /// Whether a key must not be left holding it. Streams may be empty.
    fn is_vacant(&self) -> bool;
}

macro_rules! typed {
    ($type:ty, $variant:ident, $wrap:expr, $vacant:expr) => {
        impl Typed for $type {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(inner) = value { Some(inner) } else { None }
            }
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(inner) = value { Some(inner) } else { None }
            }
            fn wrap(self) -> Value {
                Value::$variant($wrap(self))
            }
            fn is_vacant(&self) -> bool {
                $vacant(self)
            }
        }
    };
}

typed!(List, List, std::convert::identity, |list: &List| list.is_empty());
typed!(Set, Set, std::convert::identity, |set: &Set| set.is_empty());
typed!(ZSet, ZSet, std::convert::identity, |zset: &ZSet| zset.is_empty());
typed!(Hash, Hash, std::convert::identity, |hash: &Hash| hash.is_empty());
typed!(Stream, Stream, Box::new, |_: &Stream| false);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key with a value of its own carries one inside its entry.
    #[test]
    fn a_value_takes_16_bytes() {
        assert_eq!(size_of::<Value>(), 16);
    }
}
