//! DEBUG DIGEST and DIGEST-VALUE: 20 bytes that are equal for equal data, whatever its encoding and order in memory.
//!
//! Sets, hashes and databases have no order, so their elements' digests are combined by exclusive or; lists and streams
//! are fed element by element. The figures are those of Redis 7.2 for the same data.

use crate::keyspace::shard::Shard;
use crate::keyspace::value::{Entry, Kind, Value, kind_of};
use redstart_types::encoding::listpack::Element;
use redstart_types::entry::Content;
use redstart_types::number;
use redstart_types::stream::{Stream, StreamId};
use redstart_types::table::Keyed;
use sha1::{Digest as _, Sha1};

/// A digest under way; all zeros at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest([u8; 20]);

/// The digest of all databases. `shards` are all shards, locked.
pub fn dataset<'s>(shards: impl Iterator<Item = &'s Shard> + Clone, databases: usize) -> Digest {
    let mut all = Digest::default();
    for db in 0..databases {
        let tables = shards.clone().map(|shard| &shard.dbs[db].keys);
        if tables.clone().all(|table| table.is_empty()) {
            continue;
        }
        all.mix(&(db as u32).to_be_bytes());
        for entry in tables.flat_map(|table| table.iter()) {
            let mut one = Digest::default();
            one.mix(entry.key());
            one.value(entry);
            all.add(&one.0);
        }
    }
    all
}

/// The digest of one key's value.
pub fn value(entry: &Entry) -> Digest {
    let mut digest = Digest::default();
    digest.value(entry);
    digest
}

impl Digest {
    /// Forty hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Adds bytes whose place among others does not matter.
    fn add(&mut self, bytes: &[u8]) {
        let sum: [u8; 20] = Sha1::digest(bytes).into();
        self.0.iter_mut().zip(sum).for_each(|(own, other)| *own ^= other);
    }

    /// Adds bytes whose place matters.
    fn mix(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    fn value(&mut self, entry: &Entry) {
        self.mix(&type_number(kind_of(entry)).to_be_bytes());
        match entry.content() {
            Content::Str(bytes) => self.mix(bytes),
            Content::Int(value) => self.mix(itoa::Buffer::new().format(value).as_bytes()),
            Content::Object(Value::String(bytes)) => self.mix(bytes),
            Content::Object(Value::List(list)) => {
                list.iter().for_each(|element| self.mix(text(element, &mut buffer())))
            }
            Content::Object(Value::Set(set)) => set.iter().for_each(|member| self.add(text(member, &mut buffer()))),
            Content::Object(Value::Hash(hash)) => {
                for (field, value) in hash.iter() {
                    self.pair(text(field, &mut buffer()), text(value, &mut buffer()));
                }
            }
            Content::Object(Value::ZSet(zset)) => {
                let mut score = Vec::new();
                for entry in zset.iter() {
                    score.clear();
                    number::append_shortest(&mut score, entry.score);
                    self.pair(text(entry.member, &mut buffer()), &score);
                }
            }
            Content::Object(Value::Stream(stream)) => self.stream(stream),
        }
        if entry.expire_at_ms().is_some() {
            self.add(b"!!expire!!");
        }
    }

    fn pair(&mut self, first: &[u8], second: &[u8]) {
        let mut one = Digest::default();
        one.mix(first);
        one.mix(second);
        self.add(&one.0);
    }

    fn stream(&mut self, stream: &Stream) {
        for entry in stream.entries.range(StreamId::MIN, StreamId::MAX) {
            self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
            for (field, value) in entry.fields() {
                self.mix(text(field, &mut buffer()));
                self.mix(text(value, &mut buffer()));
            }
        }
    }
}

/// Redis's own numbers for its types.
fn type_number(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::ZSet => 3,
        Kind::Hash => 4,
        Kind::Stream => 6,
    }
}

fn buffer() -> itoa::Buffer {
    itoa::Buffer::new()
}

fn text<'b>(element: Element<'b>, buffer: &'b mut itoa::Buffer) -> &'b [u8] {
    element.text(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::snapshot::convert::{Builder, Limits};
    use crate::snapshot::load;
    use redstart_persistence::rdb::{Kind, Part, Str};
    use redstart_types::seed::HashSeed;

    fn digest_of(kind: Kind, parts: Vec<Part>) -> String {
        let limits = Limits::new(&Config::default(), &HashSeed::new([7, 8]));
        let mut builder = Builder::new(&limits, kind, parts.len() as u64 - 1);
        parts.into_iter().for_each(|part| builder.part(part).unwrap());
        let loaded = builder.finish().unwrap().unwrap();
        value(&load::entry(b"k", loaded, None)).hex()
    }

    /// As DEBUG DIGEST-VALUE of Redis 7.2.6 answers.
    #[test]
    fn digests_are_those_of_redis() {
        let b = |text: &str| text.as_bytes().to_vec();
        let element = |text: &str| Part::Element(b(text));
        let member = |text: &str, score| Part::Member { member: b(text), score };
        let cases = [
            (Kind::String, vec![Part::String(Str::Bytes(b("hello")))], "36b23a1456b2dce2c3ed252c456761301dba8060"),
            (Kind::String, vec![Part::String(Str::Int(12345))], "e1cf90774e995ae03de66e8109dc5cb9d9c2dc83"),
            (Kind::List, vec![element("a"), element("1"), element("b")], "d5f44352f6226abea9252dad248ef5de0d964396"),
            (Kind::Set, vec![element("1"), element("2"), element("3")], "2a462a3f51a1db89738ebbeef0c47ce1bbc85246"),
            (Kind::Set, vec![element("a"), element("b")], "dd99329063ca0f1f28df2ac68d94b82fd95501c6"),
            (
                Kind::Hash,
                vec![Part::Field { field: b("f"), value: b("v") }],
                "90c76e9e9f4c62d642a34fc97c7dad503b51f906",
            ),
            (Kind::Zset2, vec![member("a", 1.0), member("b", 2.5)], "c45c5b051acd64070e5ed1a949939d5145f806c5"),
        ];
        for (kind, parts, digest) in cases {
            assert_eq!(digest_of(kind, parts), digest, "{kind:?}");
        }
    }
}
