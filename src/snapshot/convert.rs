//! Between the keyspace's values and the parts that RDB files and DUMP payloads are made of.

use crate::config::Config;
use crate::keyspace::db::lfu_decayed;
use crate::keyspace::limits;
use crate::keyspace::value::Value;
use crate::keyspace::walk::Facts;
use redstart_persistence::rdb::{Encoder, Family, KeyMeta, Kind, Packed, Part, Str, StreamId, StreamMeta};
use redstart_types::encoding::intset::IntSet;
use redstart_types::encoding::listpack::{Element, Listpack};
use redstart_types::entry::Content;
use redstart_types::hash::{Hash, HashLimits};
use redstart_types::list::{Chunk, End, List, ListLimits};
use redstart_types::seed::HashSeed;
use redstart_types::set::{Set, SetLimits};
use redstart_types::stream::{self, Stream};
use redstart_types::zset::{self, Order, Range, ZSet};
use std::fmt;

/// When the collections of one server change their encoding.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    list: ListLimits,
    hash: HashLimits,
    set: SetLimits,
    zset: zset::Limits,
}

impl Limits {
    /// As the directives say; `hash_seed` is the server's.
    pub fn new(config: &Config, hash_seed: &HashSeed) -> Self {
        Limits {
            list: limits::list(config),
            hash: limits::hash(config, hash_seed),
            set: limits::set(config, hash_seed),
            zset: limits::zset(config, hash_seed),
        }
    }
}

/// Why parts make no value. Redis's words where it has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit(pub &'static str);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A value put together from its parts.
#[derive(Debug)]
pub enum Loaded {
    String(Str),
    Collection(Value),
}

/// Puts one value together. Whatever the parts were, the value keeps its type's invariants.
#[derive(Debug)]
pub struct Builder<'l> {
    limits: &'l Limits,
    kind: Kind,
    /// Elements said to come; not to be trusted.
    hint: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Empty,
    String(Str),
    List(List),
    /// Chunks of a list written as nodes.
    Chunks(Vec<Chunk>),
    Set(Set),
    Hash(Hash),
    ZSet(ZSet),
    Stream(Box<stream::Loader>),
}

impl<'l> Builder<'l> {
    /// For a value written as `kind`, said to have `hint` elements.
    pub fn new(limits: &'l Limits, kind: Kind, hint: u64) -> Self {
        let state = if kind.family() == Family::Stream { State::Stream(Box::default()) } else { State::Empty };
        Builder { limits, kind, hint: usize::try_from(hint).unwrap_or(usize::MAX), state }
    }

    /// Takes the next part.
    pub fn part(&mut self, part: Part) -> Result<(), Unfit> {
        let limits = self.limits;
        match part {
            Part::String(value) => self.state = State::String(value),
            Part::Packed(packed, bytes) => self.state = self.packed(packed, bytes)?,
            Part::ListNode { packed, bytes } => self.list_node(packed, bytes)?,
            Part::Element(bytes) if self.kind.family() == Family::Set => self.set_member(&bytes)?,
            Part::Element(bytes) => self.list().push(End::Tail, &bytes, &limits.list),
            Part::Field { field, value } => {
                if !self.hash().insert(&field, &value, &limits.hash) {
                    return Err(
                        self.duplicate("Duplicate hash fields detected", "Hash ziplist integrity check failed.")
                    );
                }
            }
            Part::Member { member, score } => {
                if self.zset(member.len()).insert(&member, score, &limits.zset).is_some() {
                    return Err(
                        self.duplicate("Duplicate zset fields detected", "Zset ziplist integrity check failed.")
                    );
                }
            }
            Part::Module { .. } => return Err(Unfit("values of modules are not supported")),
            part => return self.stream_part(part),
        }
        Ok(())
    }

    /// Why an element that came twice makes the value unfit, in Redis's words: a packed form is bad as a whole.
    fn duplicate(&self, element: &'static str, packed: &'static str) -> Unfit {
        Unfit(if matches!(self.kind, Kind::HashZiplist | Kind::ZsetZiplist) { packed } else { element })
    }

    /// The value, or `None` if it would be empty, which only streams may be.
    pub fn finish(self) -> Result<Option<Loaded>, Unfit> {
        let value = match self.state {
            State::Empty => return Ok(None),
            State::String(value) => return Ok(Some(Loaded::String(value))),
            State::Chunks(chunks) => Value::List(List::from_chunks(chunks, &self.limits.list)),
            State::List(list) => Value::List(list),
            State::Set(set) => Value::Set(set),
            State::Hash(hash) => Value::Hash(hash),
            State::ZSet(zset) => Value::ZSet(zset),
            State::Stream(loader) => {
                let stream = loader.finish().map_err(|corrupt| Unfit(corrupt.reason()))?;
                return Ok(Some(Loaded::Collection(Value::Stream(Box::new(stream)))));
            }
        };
        let is_empty = match &value {
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::ZSet(zset) => zset.is_empty(),
            Value::String(_) | Value::Stream(_) => false,
        };
        Ok((!is_empty).then_some(Loaded::Collection(value)))
    }

    fn packed(&self, packed: Packed, bytes: Vec<u8>) -> Result<State, Unfit> {
        if packed == Packed::Intset {
            let members = IntSet::from_bytes(&bytes).map_err(|_| Unfit("Intset integrity check failed."))?;
            return Ok(State::Set(Set::from_intset(members, &self.limits.set)));
        }
        let unfit = Unfit(match self.kind.family() {
            Family::Set => "Set listpack integrity check failed.",
            Family::Hash => "Hash listpack integrity check failed.",
            _ => "Zset listpack integrity check failed.",
        });
        let listpack = Listpack::from_bytes(&bytes).map_err(|_| unfit)?;
        Ok(match self.kind.family() {
            Family::Set => State::Set(Set::from_listpack(listpack, &self.limits.set).ok_or(unfit)?),
            Family::Hash => State::Hash(Hash::from_listpack(listpack, &self.limits.hash).ok_or(unfit)?),
            _ => State::ZSet(ZSet::from_listpack(listpack, &self.limits.zset).map_err(|_| unfit)?),
        })
    }

    fn list_node(&mut self, packed: bool, bytes: Vec<u8>) -> Result<(), Unfit> {
        if !matches!(self.state, State::Chunks(_)) {
            self.state = State::Chunks(Vec::new());
        }
        let State::Chunks(chunks) = &mut self.state else { return Ok(()) };
        if packed {
            let listpack = Listpack::from_bytes(&bytes).map_err(|_| Unfit("Listpack integrity check failed."))?;
            // Redis once wrote empty nodes.
            if !listpack.is_empty() {
                chunks.push(Chunk::Packed(listpack));
            }
        } else {
            chunks.push(Chunk::Plain(bytes));
        }
        Ok(())
    }

    fn set_member(&mut self, member: &[u8]) -> Result<(), Unfit> {
        let limits = &self.limits.set;
        if !matches!(self.state, State::Set(_)) {
            self.state = State::Set(Set::for_members(member, self.hint.saturating_add(1), limits));
        }
        let State::Set(set) = &mut self.state else { unreachable!("set just above") };
        if set.insert(member, limits) { Ok(()) } else { Err(Unfit("Duplicate set members detected")) }
    }

    fn list(&mut self) -> &mut List {
        if !matches!(self.state, State::List(_)) {
            self.state = State::List(List::new());
        }
        let State::List(list) = &mut self.state else { unreachable!("set just above") };
        list
    }

    fn hash(&mut self) -> &mut Hash {
        if !matches!(self.state, State::Hash(_)) {
            let mut hash = Hash::new();
            hash.expect(self.hint.saturating_add(1), std::iter::empty(), &self.limits.hash);
            self.state = State::Hash(hash);
        }
        let State::Hash(hash) = &mut self.state else { unreachable!("set just above") };
        hash
    }

    fn zset(&mut self, first_len: usize) -> &mut ZSet {
        if !matches!(self.state, State::ZSet(_)) {
            self.state = State::ZSet(ZSet::for_members(self.hint.saturating_add(1), first_len, &self.limits.zset));
        }
        let State::ZSet(zset) = &mut self.state else { unreachable!("set just above") };
        zset
    }

    fn stream_part(&mut self, part: Part) -> Result<(), Unfit> {
        const UNFIT: Unfit = Unfit("Stream integrity check failed.");
        let kind = self.kind;
        let State::Stream(loader) = &mut self.state else { return Err(UNFIT) };
        match part {
            Part::StreamNode { master_id, listpack } => {
                const UNFIT: Unfit = Unfit("Stream listpack integrity check failed.");
                return loader.node(own_id(master_id), listpack).map_err(|_| UNFIT);
            }
            Part::StreamMeta(meta) if meta.len > 0 && loader.is_empty() => {
                return Err(Unfit("Stream length inconsistent with its entries"));
            }
            Part::StreamMeta(meta) => {
                let added = (kind != Kind::Stream).then_some(meta.entries_added);
                loader.counters(own_id(meta.last_id), own_id(meta.max_deleted_id), added)
            }
            Part::Group { name, last_id, entries_read } => loader.group(&name, own_id(last_id), entries_read),
            Part::Pending { id, delivery_time_ms, delivery_count } => {
                loader.pending(own_id(id), delivery_time_ms, delivery_count)
            }
            Part::Consumer { name, seen_time_ms, active_time_ms } => {
                loader.consumer(&name, seen_time_ms, active_time_ms)
            }
            Part::Owned(id) => loader.owned(own_id(id)),
            _ => return Err(UNFIT),
        }
        .map_err(|corrupt| Unfit(corrupt.reason()))
    }
}

/// How a value is written by nature; see [`Encoder::kind`].
pub fn natural_kind(content: &Content<'_, Value>) -> Kind {
    match content {
        Content::Str(_) | Content::Int(_) | Content::Object(Value::String(_)) => Kind::String,
        Content::Object(Value::List(_)) => Kind::Quicklist2,
        Content::Object(Value::Set(set)) if set.as_intset().is_some() => Kind::SetIntset,
        Content::Object(Value::Set(set)) if set.as_listpack().is_some() => Kind::SetListpack,
        Content::Object(Value::Set(_)) => Kind::Set,
        Content::Object(Value::Hash(hash)) if hash.as_listpack().is_some() => Kind::HashListpack,
        Content::Object(Value::Hash(_)) => Kind::Hash,
        Content::Object(Value::ZSet(zset)) if zset.as_listpack().is_some() => Kind::ZsetListpack,
        Content::Object(Value::ZSet(_)) => Kind::Zset2,
        Content::Object(Value::Stream(_)) => Kind::Stream3,
    }
}

/// What stands beside a value in a file written under this configuration.
pub fn meta(facts: Facts, config: &Config, now_ms: i64) -> KeyMeta {
    use crate::config::MaxmemoryPolicy::{AllkeysLfu, AllkeysLru, VolatileLfu, VolatileLru};
    let mut meta = KeyMeta { expire_at_ms: facts.expire_at_ms, ..KeyMeta::default() };
    match config.maxmemory_policy {
        AllkeysLru | VolatileLru => {
            let idle_s = ((now_ms / 1000) as u32).wrapping_sub(facts.lru) & 0xff_ffff;
            meta.lru_idle_s = Some(idle_s.into());
        }
        AllkeysLfu | VolatileLfu => {
            meta.lfu_freq = Some(lfu_decayed(facts.lru, (now_ms / 60_000) as u16, config.lfu_decay_time));
        }
        _ => {}
    }
    meta
}

/// What an entry's LRU field becomes by what stood beside its value, if anything did that fits the policy.
pub fn lru_field(config: &Config, now_ms: i64, idle_s: Option<u64>, freq: Option<u8>) -> Option<u32> {
    if config.maxmemory_policy.is_lfu() {
        let minutes = (now_ms / 60_000) as u16;
        return freq.map(|freq| u32::from(minutes) << 8 | u32::from(freq));
    }
    let clock = (now_ms / 1000) as u32 & 0xff_ffff;
    // Longer than the clock goes is as long as it goes.
    idle_s.map(|idle_s| clock.wrapping_sub(idle_s.min(0xff_ffff) as u32) & 0xff_ffff)
}

/// Encodes a value as `kind`, which [`Encoder::kind`] gave for its natural one.
pub fn encode(encoder: &mut Encoder, kind: Kind, content: &Content<'_, Value>) {
    encode_by(encoder, kind, content, &mut |_| {});
}

/// [`encode`]; after each piece `drain` may take away what has been encoded.
pub fn encode_by(encoder: &mut Encoder, kind: Kind, content: &Content<'_, Value>, drain: &mut dyn FnMut(&mut Encoder)) {
    match content {
        Content::Str(bytes) => encoder.string(bytes),
        Content::Int(value) => encoder.int(*value),
        Content::Object(Value::String(bytes)) => encode_string(encoder, bytes, drain),
        Content::Object(Value::List(list)) => encode_list(encoder, kind, list, drain),
        Content::Object(Value::Set(set)) => encode_set(encoder, kind, set, drain),
        Content::Object(Value::Hash(hash)) => encode_hash(encoder, kind, hash, drain),
        Content::Object(Value::ZSet(zset)) => encode_zset(encoder, kind, zset, drain),
        Content::Object(Value::Stream(stream)) => encode_stream(encoder, kind, stream, drain),
    }
}

fn encode_string(encoder: &mut Encoder, bytes: &[u8], drain: &mut dyn FnMut(&mut Encoder)) {
    const PIECE_BYTES: usize = 64 << 10;
    if bytes.len() <= PIECE_BYTES || encoder.compresses(bytes.len()) {
        return encoder.string(bytes);
    }
    encoder.begin_string(bytes.len());
    for piece in bytes.chunks(PIECE_BYTES) {
        encoder.string_bytes(piece);
        drain(encoder);
    }
}

fn encode_list(encoder: &mut Encoder, kind: Kind, list: &List, drain: &mut dyn FnMut(&mut Encoder)) {
    if kind != Kind::Quicklist2 {
        encoder.count(list.len() as u64);
        for element in list.iter() {
            put(encoder, element);
            drain(encoder);
        }
        return;
    }
    if let Some(listpack) = list.as_listpack() {
        encoder.count(1);
        encoder.list_container(true);
        encoder.string(listpack.as_bytes());
        return;
    }
    let Some(quicklist) = list.as_quicklist() else { return };
    encoder.count(quicklist.chunks().len() as u64);
    for chunk in quicklist.chunks() {
        encoder.list_container(matches!(chunk, Chunk::Packed(_)));
        match chunk {
            Chunk::Packed(listpack) => encoder.string(listpack.as_bytes()),
            Chunk::Plain(bytes) => encode_string(encoder, bytes, drain),
        }
        drain(encoder);
    }
}

fn encode_set(encoder: &mut Encoder, kind: Kind, set: &Set, drain: &mut dyn FnMut(&mut Encoder)) {
    match (kind, set.as_intset(), set.as_listpack()) {
        (Kind::SetIntset, Some(members), _) => encoder.string(&members.to_bytes()),
        (Kind::SetListpack, _, Some(members)) => encoder.string(members.as_bytes()),
        _ => {
            encoder.count(set.len() as u64);
            for member in set.iter() {
                put(encoder, member);
                drain(encoder);
            }
        }
    }
}

fn encode_hash(encoder: &mut Encoder, kind: Kind, hash: &Hash, drain: &mut dyn FnMut(&mut Encoder)) {
    if let (Kind::HashListpack, Some(fields)) = (kind, hash.as_listpack()) {
        return encoder.string(fields.as_bytes());
    }
    encoder.count(hash.len() as u64);
    for (field, value) in hash.iter() {
        put(encoder, field);
        put(encoder, value);
        drain(encoder);
    }
}

fn encode_zset(encoder: &mut Encoder, kind: Kind, zset: &ZSet, drain: &mut dyn FnMut(&mut Encoder)) {
    if let (Kind::ZsetListpack, Some(members)) = (kind, zset.as_listpack()) {
        return encoder.string(members.as_bytes());
    }
    encoder.count(zset.len() as u64);
    // From the highest down, as Redis writes them: it inserts at the head as it loads.
    for entry in zset.entries(&Range::ALL, Order::Descending, 0, usize::MAX) {
        put(encoder, entry.member);
        encoder.score(entry.score);
        drain(encoder);
    }
}

fn encode_stream(encoder: &mut Encoder, kind: Kind, stream: &Stream, drain: &mut dyn FnMut(&mut Encoder)) {
    let entries = &stream.entries;
    encoder.count(entries.nodes().len() as u64);
    for (master_id, listpack) in entries.nodes() {
        encoder.stream_node(file_id(master_id), listpack);
        drain(encoder);
    }
    let meta = StreamMeta {
        len: entries.len(),
        last_id: file_id(entries.last_id()),
        first_id: Some(file_id(entries.first_id())),
        max_deleted_id: file_id(entries.max_deleted_id()),
        entries_added: entries.added(),
    };
    encoder.stream_meta(kind, &meta);
    encoder.count(stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        encode_group(encoder, kind, name, group, drain);
    }
}

fn encode_group(
    encoder: &mut Encoder,
    kind: Kind,
    name: &[u8],
    group: &stream::Group,
    drain: &mut dyn FnMut(&mut Encoder),
) {
    let entries_read = group.entries_read.map_or(-1, |read| read as i64);
    encoder.stream_group(kind, name, file_id(group.last_id), Some(entries_read));
    encoder.count(group.pending_len() as u64);
    for pending in group.pending(..) {
        encoder.stream_pending(file_id(pending.id), pending.delivery_time_ms, pending.delivery_count);
        drain(encoder);
    }
    encoder.count(group.consumers().len() as u64);
    for consumer in group.consumers() {
        let active_time_ms = consumer.active_time_ms.unwrap_or(-1);
        encoder.stream_consumer(kind, consumer.name(), consumer.seen_time_ms, active_time_ms);
        encoder.count(consumer.pending_len() as u64);
        for id in consumer.pending_ids() {
            encoder.stream_owned(file_id(id));
            drain(encoder);
        }
    }
}

fn put(encoder: &mut Encoder, element: Element<'_>) {
    match element {
        Element::Int(value) => encoder.int(value),
        element => encoder.string(element.text(&mut itoa::Buffer::new())),
    }
}

fn file_id(id: stream::StreamId) -> StreamId {
    StreamId { ms: id.ms, seq: id.seq }
}

fn own_id(id: StreamId) -> stream::StreamId {
    stream::StreamId::new(id.ms, id.seq)
}
