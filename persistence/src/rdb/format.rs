//! The alphabet of an RDB file: opcodes, value types, lengths and small integers.
//!
//! ```text
//! file     "REDIS" version(4 digits) record* 0xFF crc64(8, little endian; from version 5)
//! length   00xxxxxx                     6 bits
//!          01xxxxxx xxxxxxxx            14 bits, big endian
//!          10000000 <4>  10000001 <8>   32 and 64 bits, big endian
//! string   length bytes
//!          11000000 <1>  11000001 <2>  11000010 <4>    signed integer, little endian, read as its decimal text
//!          11000011 length(packed) length(unpacked) LZF bytes
//! ```

/// The version this crate writes unless told otherwise: Redis 7.2's.
pub const WRITTEN_VERSION: u32 = 11;
/// The highest version this crate reads: Redis 7.4's.
pub const HIGHEST_VERSION: u32 = 12;

pub(crate) const MAGIC: &[u8] = b"REDIS";

/// First bytes of records that are not keys.
pub(crate) mod opcode {
    pub(crate) const SLOT_INFO: u8 = 244;
    pub(crate) const FUNCTION2: u8 = 245;
    pub(crate) const FUNCTION_PRE_GA: u8 = 246;
    pub(crate) const MODULE_AUX: u8 = 247;
    pub(crate) const IDLE: u8 = 248;
    pub(crate) const FREQ: u8 = 249;
    pub(crate) const AUX: u8 = 250;
    pub(crate) const RESIZE_DB: u8 = 251;
    pub(crate) const EXPIRE_AT_MS: u8 = 252;
    pub(crate) const EXPIRE_AT_S: u8 = 253;
    pub(crate) const SELECT_DB: u8 = 254;
    pub(crate) const EOF: u8 = 255;
}

/// Second halves of a string's first byte when its upper two bits are set.
pub(crate) mod string_encoding {
    pub(crate) const INT8: u8 = 0;
    pub(crate) const INT16: u8 = 1;
    pub(crate) const INT32: u8 = 2;
    pub(crate) const LZF: u8 = 3;
}

/// Marks inside a module's value.
pub(crate) mod module_opcode {
    pub(crate) const EOF: u64 = 0;
    pub(crate) const SINT: u64 = 1;
    pub(crate) const UINT: u64 = 2;
    pub(crate) const FLOAT: u64 = 3;
    pub(crate) const DOUBLE: u64 = 4;
    pub(crate) const STRING: u64 = 5;
}

/// What a Redis user calls the type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `TYPE` says string.
    String,
    /// `TYPE` says list.
    List,
    /// `TYPE` says set.
    Set,
    /// `TYPE` says zset.
    Zset,
    /// `TYPE` says hash.
    Hash,
    /// `TYPE` says stream.
    Stream,
    /// A module's own type.
    Module,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $family:ident, $text:literal;)*) => {
        /// How a value is written in the file: the byte before its key.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $byte,)*
        }

        impl Kind {
            /// Every kind, in the order of their bytes.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),*];

            /// The kind of this byte, if there is one.
            pub fn from_byte(byte: u8) -> Option<Kind> {
                match byte {
                    $($byte => Some(Kind::$name),)*
                    _ => None,
                }
            }

            /// The Redis type of such values.
            pub fn family(self) -> Family {
                match self {
                    $(Kind::$name => Family::$family,)*
                }
            }

            /// The name `redis-check-rdb` prints.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// One string.
    String = 0, String, "string";
    /// Elements one by one.
    List = 1, List, "list-linked";
    /// Members one by one.
    Set = 2, Set, "set-hashtable";
    /// Members with scores as decimal text.
    Zset = 3, Zset, "zset-v1";
    /// Fields and values one by one.
    Hash = 4, Hash, "hash-hashtable";
    /// Members with binary scores.
    Zset2 = 5, Zset, "zset-v2";
    /// Modules before Redis 4.0 was released; nobody can read it.
    ModulePreGa = 6, Module, "module-pre-release";
    /// A module's value, with marks that let others skip it.
    Module2 = 7, Module, "module-value";
    /// Redis 2.4's small hashes.
    HashZipmap = 9, Hash, "hash-zipmap";
    /// Small lists before Redis 3.2.
    ListZiplist = 10, List, "list-ziplist";
    /// A set of integers as an intset.
    SetIntset = 11, Set, "set-intset";
    /// Small sorted sets before Redis 7.0.
    ZsetZiplist = 12, Zset, "zset-ziplist";
    /// Small hashes before Redis 7.0.
    HashZiplist = 13, Hash, "hash-ziplist";
    /// A list as ziplists (Redis 3.2 to 6.2).
    Quicklist = 14, List, "quicklist";
    /// A stream of Redis 5 to 6.2.
    Stream = 15, Stream, "stream";
    /// A small hash as a listpack.
    HashListpack = 16, Hash, "hash-listpack";
    /// A small sorted set as a listpack.
    ZsetListpack = 17, Zset, "zset-listpack";
    /// A list as listpacks and plain nodes (from Redis 7.0).
    Quicklist2 = 18, List, "quicklist-v2";
    /// A stream of Redis 7.0.
    Stream2 = 19, Stream, "stream-v2";
    /// A small set as a listpack (from Redis 7.2).
    SetListpack = 20, Set, "set-listpack";
    /// A stream of Redis 7.2.
    Stream3 = 21, Stream, "stream-v3";
    /// Hash with field expiry, as in a pre-release of Redis 7.4.
    HashMetadataPreGa = 22, Hash, "hash-hashtable-md-pre-release";
    /// Listpack hash with field expiry, as in a pre-release of Redis 7.4.
    HashListpackExPreGa = 23, Hash, "hash-listpack-md-pre-release";
    /// Hash with field expiry (Redis 7.4).
    HashMetadata = 24, Hash, "hash-hashtable-md";
    /// Listpack hash with field expiry (Redis 7.4).
    HashListpackEx = 25, Hash, "hash-listpack-md";
}

impl Kind {
    /// The first RDB version whose readers know this kind.
    pub fn since_version(self) -> u32 {
        match self {
            Kind::String | Kind::List | Kind::Set | Kind::Zset | Kind::Hash => 1,
            Kind::HashZipmap | Kind::ListZiplist | Kind::SetIntset | Kind::ZsetZiplist => 2,
            Kind::HashZiplist => 4,
            Kind::Quicklist => 7,
            Kind::Zset2 | Kind::ModulePreGa | Kind::Module2 => 8,
            Kind::Stream => 9,
            Kind::HashListpack | Kind::ZsetListpack | Kind::Quicklist2 | Kind::Stream2 => 10,
            Kind::SetListpack | Kind::Stream3 => 11,
            Kind::HashMetadataPreGa | Kind::HashListpackExPreGa | Kind::HashMetadata | Kind::HashListpackEx => 12,
        }
    }

    /// The kind to write instead where readers of `version` do not know this one: the same value element by element,
    /// or a stream without the newer fields.
    pub fn for_version(self, version: u32) -> Kind {
        if self.since_version() <= version {
            return self;
        }
        match self.family() {
            Family::String | Family::Module => self,
            Family::List => Kind::List,
            Family::Set => Kind::Set,
            Family::Hash => Kind::Hash,
            Family::Zset if version < 8 => Kind::Zset,
            Family::Zset => Kind::Zset2,
            Family::Stream if version < 10 => Kind::Stream,
            Family::Stream => Kind::Stream2,
        }
    }
}

/// Appends a length in its shortest form.
pub(crate) fn put_len(out: &mut Vec<u8>, len: u64) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends `value` in its integer encoding, if it fits in 32 bits.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) -> bool {
    if let Ok(small) = i8::try_from(value) {
        out.push(0xc0 | string_encoding::INT8);
        out.extend_from_slice(&small.to_le_bytes());
    } else if let Ok(small) = i16::try_from(value) {
        out.push(0xc0 | string_encoding::INT16);
        out.extend_from_slice(&small.to_le_bytes());
    } else if let Ok(small) = i32::try_from(value) {
        out.push(0xc0 | string_encoding::INT32);
        out.extend_from_slice(&small.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// The integer whose only decimal text is `text`: no sign but `-`, no leading zeros, no `-0`.
pub(crate) fn canonical_int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] if digits.len() == text.len() => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The name inside a module's 64-bit type id: nine characters of six bits above a ten-bit version.
pub(crate) fn module_name(id: u64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|i| char::from(ALPHABET[(id >> (58 - 6 * i) & 63) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_kinds_agree() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(*kind as u8), Some(*kind));
        }
        assert_eq!(Kind::from_byte(8), None);
        assert_eq!(Kind::from_byte(26), None);
    }

    #[test]
    fn older_versions_get_older_kinds() {
        assert_eq!(Kind::SetListpack.for_version(11), Kind::SetListpack);
        assert_eq!(Kind::SetListpack.for_version(10), Kind::Set);
        assert_eq!(Kind::Stream3.for_version(10), Kind::Stream2);
        assert_eq!(Kind::Stream3.for_version(9), Kind::Stream);
        assert_eq!(Kind::Quicklist2.for_version(9), Kind::List);
        assert_eq!(Kind::ZsetListpack.for_version(9), Kind::Zset2);
    }

    #[test]
    fn only_canonical_integers_count() {
        let yes = ["0", "-1", "12345", "-9223372036854775808", "9223372036854775807"];
        for text in yes {
            assert_eq!(canonical_int(text.as_bytes()).map(|n| n.to_string()).as_deref(), Some(text));
        }
        for text in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "9223372036854775808", "1a", "1.0", "\u{663}"] {
            assert_eq!(canonical_int(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn module_ids_hide_names() {
        // "AAAAAAAAB" has only its last character set, six bits above the version.
        assert_eq!(module_name(1 << 10), "AAAAAAAAB");
    }
}
