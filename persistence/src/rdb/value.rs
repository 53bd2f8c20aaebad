//! Reads one value, part by part: a small state machine for each way of writing a value.

use super::error::RdbError;
use super::format::{Kind, module_name, module_opcode};
use super::legacy::{Ziplist, Zipmap};
use super::record::{Packed, Part, StreamId, StreamMeta};
use super::source::Source;
use std::io::Read;

/// The state between two parts of a value.
pub(crate) struct ValueReader {
    kind: Kind,
    state: State,
}

enum State {
    /// Nothing of the value has been read.
    Start,
    /// So many elements, fields, members or nodes are to come.
    Many(u64),
    /// A packed collection of an older Redis, taken apart.
    Ziplist(Ziplist),
    Zipmap(Zipmap),
    /// A ziplist that is one of several nodes; so many nodes are to come after it.
    ZiplistNode(Ziplist, u64),
    Stream(StreamState),
    Done,
}

/// How much of each nested run of a stream is to come; the innermost goes first.
struct StreamState {
    stage: StreamStage,
    groups: u64,
    pending: u64,
    consumers: u64,
    owned: u64,
}

#[derive(Clone, Copy)]
enum StreamStage {
    Nodes(u64),
    Meta,
    Groups,
    Pending,
    Consumers,
    Owned,
}

impl ValueReader {
    pub(crate) fn new(kind: Kind) -> ValueReader {
        ValueReader { kind, state: State::Start }
    }

    /// Elements the value says are to come; not to be trusted.
    pub(crate) fn hint(&self) -> u64 {
        match &self.state {
            State::Many(left) => *left,
            _ => 0,
        }
    }

    /// The next part, or `None` at the end. After an error, the value is over.
    pub(crate) fn next<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Part>, RdbError> {
        let state = std::mem::replace(&mut self.state, State::Done);
        let (part, next) = match state {
            State::Start => return self.start(source),
            State::Many(left) => self.one_of_many(source, left)?,
            State::Ziplist(list) => (self.next_of_ziplist(source, list)?, None),
            State::Zipmap(mut map) => {
                let part = map.next().map(|(field, value)| Part::Field { field, value });
                (part, Some(State::Zipmap(map)))
            }
            State::ZiplistNode(mut list, left) => match list.next() {
                Some(element) => (Some(Part::Element(element)), Some(State::ZiplistNode(list, left))),
                None => {
                    self.state = State::Many(left);
                    return self.next_node(source);
                }
            },
            State::Stream(mut stream) => {
                let part = stream.next(self.kind, source)?;
                (part, Some(State::Stream(stream)))
            }
            State::Done => return Ok(None),
        };
        if let (Some(_), Some(next)) = (&part, next) {
            self.state = next;
        }
        Ok(part)
    }

    /// Reads what stands before the first part, and the first part.
    fn start<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Part>, RdbError> {
        let packed = match self.kind {
            Kind::String => return Ok(Some(Part::String(source.str()?))),
            Kind::SetIntset => Packed::Intset,
            Kind::SetListpack | Kind::HashListpack | Kind::ZsetListpack => Packed::Listpack,
            Kind::List | Kind::Set | Kind::Hash | Kind::Zset | Kind::Zset2 => {
                self.state = State::Many(source.len()?);
                return self.next(source);
            }
            Kind::Quicklist | Kind::Quicklist2 => {
                self.state = State::Many(source.len()?);
                return self.next_node(source);
            }
            Kind::HashMetadata => {
                let _next_expiry_ms: [u8; 8] = source.array()?;
                self.state = State::Many(source.len()?);
                return self.next(source);
            }
            Kind::ListZiplist | Kind::HashZiplist | Kind::ZsetZiplist => {
                let list =
                    Ziplist::new(source.string()?).filter(|list| self.kind == Kind::ListZiplist || list.is_paired());
                self.state = State::Ziplist(list.ok_or_else(|| source.corrupt(self.ziplist_complaint()))?);
                return self.next(source);
            }
            Kind::HashZipmap => {
                let map = Zipmap::new(source.string()?);
                self.state = State::Zipmap(map.ok_or_else(|| source.corrupt("Zipmap integrity check failed."))?);
                return self.next(source);
            }
            Kind::Stream | Kind::Stream2 | Kind::Stream3 => {
                let nodes = source.len().map_err(|e| e.within("Stream listpacks len loading failed."))?;
                self.state = State::Stream(StreamState::new(nodes));
                return self.next(source);
            }
            Kind::Module2 => {
                let name = module_name(source.len().map_err(|e| e.within("Short read module id"))?);
                skip_module(source, &name)?;
                return Ok(Some(Part::Module { name }));
            }
            Kind::ModulePreGa => return Err(source.corrupt("Pre-release module format not supported")),
            Kind::HashMetadataPreGa | Kind::HashListpackExPreGa | Kind::HashListpackEx => {
                return Err(field_expiry(source));
            }
        };
        Ok(Some(Part::Packed(packed, source.string()?)))
    }

    fn one_of_many<R: Read>(
        &mut self,
        source: &mut Source<R>,
        left: u64,
    ) -> Result<(Option<Part>, Option<State>), RdbError> {
        let Some(left) = left.checked_sub(1) else { return Ok((None, None)) };
        let part = match self.kind {
            Kind::Hash => Part::Field { field: source.string()?, value: source.string()? },
            Kind::HashMetadata => {
                if source.len()? != 0 {
                    return Err(field_expiry(source));
                }
                Part::Field { field: source.string()?, value: source.string()? }
            }
            Kind::Zset2 => {
                let member = source.string()?;
                Part::Member { member, score: checked_score(source, |s| Ok(f64::from_le_bytes(s.array()?)))? }
            }
            Kind::Zset => Part::Member { member: source.string()?, score: checked_score(source, decimal_score)? },
            Kind::Quicklist | Kind::Quicklist2 => {
                self.state = State::Many(left + 1);
                return Ok((self.next_node(source)?, None));
            }
            _ => Part::Element(source.string()?),
        };
        Ok((Some(part), Some(State::Many(left))))
    }

    /// The next list node that is not an empty ziplist.
    fn next_node<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Part>, RdbError> {
        loop {
            let State::Many(left) = self.state else { return Ok(None) };
            self.state = State::Done;
            let Some(left) = left.checked_sub(1) else { return Ok(None) };
            if self.kind == Kind::Quicklist2 {
                let packed = match source.len()? {
                    1 => false,
                    2 => true,
                    _ => return Err(source.corrupt("Quicklist integrity check failed.")),
                };
                let bytes = source.string()?;
                if bytes.is_empty() {
                    return Err(source.corrupt("Quicklist integrity check failed."));
                }
                self.state = State::Many(left);
                return Ok(Some(Part::ListNode { packed, bytes }));
            }
            let list = Ziplist::new(source.string()?);
            let mut list = list.ok_or_else(|| source.corrupt(self.ziplist_complaint()))?;
            if let Some(element) = list.next() {
                self.state = State::ZiplistNode(list, left);
                return Ok(Some(Part::Element(element)));
            }
            self.state = State::Many(left);
        }
    }

    fn next_of_ziplist<R: Read>(&mut self, source: &Source<R>, mut list: Ziplist) -> Result<Option<Part>, RdbError> {
        let Some(first) = list.next() else { return Ok(None) };
        let part = match self.kind {
            Kind::ListZiplist => Part::Element(first),
            _ => {
                let second = list.next().ok_or_else(|| source.corrupt(self.ziplist_complaint()))?;
                if self.kind == Kind::HashZiplist {
                    Part::Field { field: first, value: second }
                } else {
                    let score = parse_score(&second).ok_or_else(|| source.corrupt(self.ziplist_complaint()))?;
                    Part::Member { member: first, score }
                }
            }
        };
        self.state = State::Ziplist(list);
        Ok(Some(part))
    }

    fn ziplist_complaint(&self) -> &'static str {
        match self.kind {
            Kind::ListZiplist => "List ziplist integrity check failed.",
            Kind::HashZiplist => "Hash ziplist integrity check failed.",
            Kind::ZsetZiplist => "Zset ziplist integrity check failed.",
            _ => "Ziplist integrity check failed.",
        }
    }
}

impl StreamState {
    fn new(nodes: u64) -> StreamState {
        StreamState { stage: StreamStage::Nodes(nodes), groups: 0, pending: 0, consumers: 0, owned: 0 }
    }

    fn next<R: Read>(&mut self, kind: Kind, source: &mut Source<R>) -> Result<Option<Part>, RdbError> {
        loop {
            match self.stage {
                StreamStage::Nodes(0) => self.stage = StreamStage::Meta,
                StreamStage::Nodes(left) => {
                    self.stage = StreamStage::Nodes(left - 1);
                    return stream_node(source).map(Some);
                }
                StreamStage::Meta => {
                    let meta =
                        stream_meta(kind, source).map_err(|e| e.within("Stream object metadata loading failed."))?;
                    self.groups = source.len().map_err(|e| e.within("Stream cgroup count loading failed."))?;
                    self.stage = StreamStage::Groups;
                    return Ok(Some(Part::StreamMeta(meta)));
                }
                StreamStage::Groups => {
                    let Some(left) = self.groups.checked_sub(1) else { return Ok(None) };
                    self.groups = left;
                    let group = stream_group(kind, source)?;
                    self.pending = source.len().map_err(|e| e.within("Stream PEL size loading failed."))?;
                    self.stage = StreamStage::Pending;
                    return Ok(Some(group));
                }
                StreamStage::Pending => match self.pending.checked_sub(1) {
                    Some(left) => {
                        self.pending = left;
                        return stream_pending(source).map(Some);
                    }
                    None => {
                        self.consumers = source.len().map_err(|e| e.within("Stream consumers num loading failed."))?;
                        self.stage = StreamStage::Consumers;
                    }
                },
                StreamStage::Consumers => match self.consumers.checked_sub(1) {
                    Some(left) => {
                        self.consumers = left;
                        let consumer = stream_consumer(kind, source)?;
                        self.owned = source.len().map_err(|e| e.within("Stream consumer PEL num loading failed."))?;
                        self.stage = StreamStage::Owned;
                        return Ok(Some(consumer));
                    }
                    None => self.stage = StreamStage::Groups,
                },
                StreamStage::Owned => match self.owned.checked_sub(1) {
                    Some(left) => {
                        self.owned = left;
                        let id = source.array().map_err(|e| e.within("Stream short read reading PEL streamID."))?;
                        return Ok(Some(Part::Owned(StreamId::from_bytes(id))));
                    }
                    None => self.stage = StreamStage::Consumers,
                },
            }
        }
    }
}

fn stream_node<R: Read>(source: &mut Source<R>) -> Result<Part, RdbError> {
    let id =
        source.string().map_err(|e| e.within("Stream master ID loading failed: invalid encoding or I/O error."))?;
    let Ok(id) = <[u8; 16]>::try_from(id) else {
        return Err(source.corrupt("Stream node key entry is not the size of a stream ID"));
    };
    let listpack = source.string().map_err(|e| e.within("Stream listpacks loading failed."))?;
    Ok(Part::StreamNode { master_id: StreamId::from_bytes(id), listpack })
}

fn stream_meta<R: Read>(kind: Kind, source: &mut Source<R>) -> Result<StreamMeta, RdbError> {
    let len = source.len()?;
    let last_id = stream_id(source)?;
    let mut meta = StreamMeta { len, last_id, entries_added: len, ..StreamMeta::default() };
    if kind != Kind::Stream {
        meta.first_id = Some(stream_id(source)?);
        meta.max_deleted_id = stream_id(source)?;
        meta.entries_added = source.len()?;
    }
    Ok(meta)
}

fn stream_group<R: Read>(kind: Kind, source: &mut Source<R>) -> Result<Part, RdbError> {
    let name = source.string().map_err(|e| e.within("Error reading the consumer group name from Stream"))?;
    let last_id = stream_id(source).map_err(|e| e.within("Stream cgroup ID loading failed."))?;
    let entries_read = match kind {
        Kind::Stream => None,
        // -1, for unknown, is written as its 64 bits.
        _ => Some(source.len().map_err(|e| e.within("Stream cgroup offset loading failed."))?.cast_signed()),
    };
    Ok(Part::Group { name, last_id, entries_read })
}

fn stream_pending<R: Read>(source: &mut Source<R>) -> Result<Part, RdbError> {
    let id = StreamId::from_bytes(source.array().map_err(|e| e.within("Stream PEL ID loading failed."))?);
    let delivery_time_ms = source.array().map_err(|e| e.within("Stream PEL NACK loading failed."))?;
    let delivery_count = source.len().map_err(|e| e.within("Stream PEL NACK loading failed."))?;
    Ok(Part::Pending { id, delivery_time_ms: i64::from_le_bytes(delivery_time_ms), delivery_count })
}

fn stream_consumer<R: Read>(kind: Kind, source: &mut Source<R>) -> Result<Part, RdbError> {
    let name = source.string().map_err(|e| e.within("Error reading the consumer name from Stream group."))?;
    let seen = source.array().map_err(|e| e.within("Stream short read reading seen time."))?;
    let active = match kind {
        Kind::Stream3 => source.array().map_err(|e| e.within("Stream short read reading active time."))?,
        _ => seen,
    };
    Ok(Part::Consumer { name, seen_time_ms: i64::from_le_bytes(seen), active_time_ms: i64::from_le_bytes(active) })
}

fn stream_id<R: Read>(source: &mut Source<R>) -> Result<StreamId, RdbError> {
    Ok(StreamId { ms: source.len()?, seq: source.len()? })
}

/// Reads over a module's value, mark by mark.
pub(crate) fn skip_module<R: Read>(source: &mut Source<R>, name: &str) -> Result<(), RdbError> {
    loop {
        match source.len()? {
            module_opcode::EOF => return Ok(()),
            module_opcode::SINT | module_opcode::UINT => drop(source.len()?),
            module_opcode::FLOAT => drop(source.array::<4>()?),
            module_opcode::DOUBLE => drop(source.array::<8>()?),
            module_opcode::STRING => drop(source.string()?),
            other => return Err(source.corrupt(format!("Unknown opcode {other} in the value of module {name}"))),
        }
    }
}

fn field_expiry<R: Read>(source: &Source<R>) -> RdbError {
    let text = "the hash has fields with an expiry of their own (HEXPIRE of Redis 7.4), which Redis 7.2 does not know; \
                remove them with HPERSIST before saving";
    RdbError { offset: source.offset(), kind: super::error::RdbErrorKind::Unsupported(text.to_owned()) }
}

fn checked_score<R: Read>(
    source: &mut Source<R>,
    read: impl Fn(&mut Source<R>) -> Result<f64, RdbError>,
) -> Result<f64, RdbError> {
    let score = read(source)?;
    if score.is_nan() {
        return Err(source.corrupt("Zset with NAN score detected"));
    }
    Ok(score)
}

/// A score as text behind its length in one byte; 253 to 255 are NaN and the infinities.
fn decimal_score<R: Read>(source: &mut Source<R>) -> Result<f64, RdbError> {
    match source.byte()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => {
            let text = source.bytes(len.into())?;
            parse_score(&text).ok_or_else(|| source.corrupt("Zset score is not a number"))
        }
    }
}

fn parse_score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|score: &f64| !score.is_nan())
}
