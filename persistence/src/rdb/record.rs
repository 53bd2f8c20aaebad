//! What an RDB file holds, free of any server type: records, and the parts a value is made of.
//!
//! A value comes as a run of [`Part`]s. A string or a packed collection is one part, a big collection one part an
//! element, so that nobody has to hold it twice. Which parts can come is told by the family of the key's kind:
//!
//! | family | parts |
//! |---|---|
//! | string | one `String` |
//! | list | `ListNode`s or `Element`s |
//! | set | one `Packed`, or `Element`s |
//! | hash | one `Packed`, or `Field`s |
//! | sorted set | one `Packed`, or `Member`s |
//! | stream | `StreamNode`s, `StreamMeta`, then for each group `Group`, `Pending`s, and for each consumer `Consumer`, `Owned`s |
//! | module | one `Module` |

use super::format::Kind;

/// One record of an RDB file.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A fact about the file, such as `redis-ver`.
    Aux {
        /// Its name.
        name: Vec<u8>,
        /// Its value, as text.
        value: Vec<u8>,
    },
    /// The keys that follow belong to this database.
    SelectDb(u64),
    /// How many keys the current database holds: a hint, never to be trusted.
    ResizeDb {
        /// Keys.
        keys: u64,
        /// Keys with an expiry.
        expires: u64,
    },
    /// The source of a function library, shebang line included.
    Function(Vec<u8>),
    /// Data of a module that belongs to no key; it has been skipped.
    ModuleAux {
        /// The module's type name.
        name: String,
    },
    /// A key; its value's parts come next.
    Key(Key),
    /// The end of the file, checksum included.
    Eof(ChecksumState),
}

/// A key and what stands beside its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The database it belongs to.
    pub db: u64,
    /// The key.
    pub key: Vec<u8>,
    /// Unix time in milliseconds.
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last access when the file was written (LRU policies).
    pub lru_idle_s: Option<u64>,
    /// Logarithmic access counter (LFU policies).
    pub lfu_freq: Option<u8>,
    /// How the value is written.
    pub kind: Kind,
}

/// What became of the checksum at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumState {
    /// It is right.
    Good,
    /// The file was written without one.
    Disabled,
    /// The reader was told not to look, or the version (below 5) has none.
    Unchecked,
}

/// A string value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Str {
    /// Any bytes.
    Bytes(Vec<u8>),
    /// The decimal text of this integer.
    Int(i64),
}

impl Str {
    /// The value as a client sees it.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Str::Bytes(bytes) => bytes,
            Str::Int(value) => value.to_string().into_bytes(),
        }
    }
}

/// The id of a stream entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Unix time in milliseconds, by default.
    pub ms: u64,
    /// Counter within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Both halves big endian, as a stream's tree orders them.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    /// The reverse of [`StreamId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let whole = u128::from_be_bytes(bytes);
        StreamId { ms: (whole >> 64) as u64, seq: whole as u64 }
    }
}

/// Part of a value. Packed bytes are opaque here: whoever keeps them must validate them.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A whole string.
    String(Str),
    /// A whole set, hash (field, value, ..) or sorted set (member, score, ..) as one listpack or intset.
    Packed(Packed, Vec<u8>),
    /// The next nodes of a list as one listpack (`packed`), or one element too big for that.
    ListNode {
        /// Whether `bytes` is a listpack.
        packed: bool,
        /// The listpack, or the element itself.
        bytes: Vec<u8>,
    },
    /// The next element of a list, or a member of a set.
    Element(Vec<u8>),
    /// A field of a hash.
    Field {
        /// Its name.
        field: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// A member of a sorted set.
    Member {
        /// Its name.
        member: Vec<u8>,
        /// Never NaN.
        score: f64,
    },
    /// Entries of a stream as one listpack.
    StreamNode {
        /// The id that the entries' ids are relative to.
        master_id: StreamId,
        /// The entries.
        listpack: Vec<u8>,
    },
    /// What a stream knows beside its entries.
    StreamMeta(StreamMeta),
    /// A consumer group; its pending entries and consumers follow.
    Group {
        /// Its name.
        name: Vec<u8>,
        /// The last id delivered to the group.
        last_id: StreamId,
        /// Entries read by the group since the stream's first; -1 is unknown. Files of Redis before 7.0 give none.
        entries_read: Option<i64>,
    },
    /// An entry delivered to the group and not acknowledged.
    Pending {
        /// Its id.
        id: StreamId,
        /// Unix time in milliseconds of the last delivery.
        delivery_time_ms: i64,
        /// Number of deliveries.
        delivery_count: u64,
    },
    /// A consumer of the group; the pending entries it owns follow.
    Consumer {
        /// Its name.
        name: Vec<u8>,
        /// Unix time in milliseconds of its last attempt.
        seen_time_ms: i64,
        /// Unix time in milliseconds of its last success; -1 is never. Before Redis 7.2 the last attempt.
        active_time_ms: i64,
    },
    /// The consumer owns this pending entry of its group.
    Owned(StreamId),
    /// The value of a module, which has been skipped.
    Module {
        /// The module's type name.
        name: String,
    },
}

/// How a whole small collection is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    /// A listpack.
    Listpack,
    /// An intset.
    Intset,
}

/// What a stream knows beside its entries and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamMeta {
    /// Entries.
    pub len: u64,
    /// The last id ever added.
    pub last_id: StreamId,
    /// The first id present; files of Redis before 7.0 give none.
    pub first_id: Option<StreamId>,
    /// The highest id ever deleted.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}
