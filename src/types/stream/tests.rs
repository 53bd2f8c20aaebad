//! Streams against plain collections, by random operations; and Redis's own bytes.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Field = (Vec<u8>, Vec<u8>);

const LIMITS: NodeLimits = NodeLimits { max_bytes: 4096, max_entries: 100 };

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId::new(ms, seq)
}

fn fields(entry: &Entry<'_>) -> Vec<Field> {
    entry.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn add(
    stream: &mut Stream,
    wanted: NewId,
    now_ms: u64,
    fields: &[Field],
    limits: NodeLimits,
) -> Result<StreamId, AddError> {
    stream.entries.add(wanted, now_ms, fields.iter().map(|(name, value)| (&name[..], &value[..])), limits)
}

fn add_ids(stream: &mut Stream, ids: impl IntoIterator<Item = u64>) {
    for ms in ids {
        let fields = [(b"f".to_vec(), ms.to_string().into_bytes())];
        add(stream, NewId::Exact(id(ms, 0)), 0, &fields, LIMITS).unwrap();
    }
}

/// The stream that the bytes and counters of `stream` make.
fn reload(stream: &Stream) -> Stream {
    let mut loader = Loader::new();
    for (master_id, bytes) in stream.entries.nodes() {
        loader.node(master_id, bytes.to_vec()).unwrap();
    }
    let entries = &stream.entries;
    loader.counters(entries.last_id(), entries.max_deleted_id(), Some(entries.added())).unwrap();
    for (name, group) in stream.groups() {
        loader.group(name, group.last_id, Some(group.entries_read.map_or(-1, |read| read as i64))).unwrap();
        for pending in group.pending(..) {
            loader.pending(pending.id, pending.delivery_time_ms, pending.delivery_count).unwrap();
        }
        for consumer in group.consumers() {
            loader.consumer(consumer.name(), consumer.seen_time_ms, consumer.active_time_ms.unwrap_or(-1)).unwrap();
            for id in consumer.pending_ids() {
                loader.owned(id).unwrap();
            }
        }
    }
    loader.finish().unwrap()
}

fn describe(stream: &Stream) -> String {
    let nodes: Vec<_> = stream.entries.nodes().collect();
    let counters = (stream.entries.len(), stream.entries.first_id(), stream.entries.last_id());
    let more = (stream.entries.max_deleted_id(), stream.entries.added());
    let groups: Vec<String> =
        stream.groups().map(|(name, group)| format!("{name:?} {}", describe_group(group))).collect();
    format!("{nodes:?} {counters:?} {more:?} {groups:?}")
}

fn describe_group(group: &Group) -> String {
    let pending: Vec<_> = group.pending(..).collect();
    let consumers: Vec<_> = (group.consumers())
        .map(|consumer| {
            let pending: Vec<StreamId> = consumer.pending_ids().collect();
            (consumer.name(), consumer.seen_time_ms, consumer.active_time_ms, pending)
        })
        .collect();
    format!("{:?} {:?} {pending:?} {consumers:?}", group.last_id, group.entries_read)
}

#[test]
fn node_bytes_are_those_of_redis() {
    let mut stream = Stream::new();
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let entries = [
        (id(1, 1), vec![field("a", "1"), field("b", "hello")]),
        (id(1, 2), vec![field("a", "-70000"), field("b", "x")]),
        (id(5, 0), vec![field("c", "z")]),
        (id(5, 1), vec![field("b", "1"), field("a", "2")]),
    ];
    for (id, fields) in &entries {
        assert_eq!(add(&mut stream, NewId::Exact(*id), 0, fields, LIMITS), Ok(*id));
    }
    assert_eq!(stream.entries.delete([id(1, 2), id(1, 3)]), 1);
    // What DUMP of Redis 7.2.6 holds after the same commands.
    let expected = "5b0000002200030101010201816102816202000102010001000101018568656c6c6f060501030100010101f290eefe048178020501\
                    00010401dfff020101816302817a0206010001040100010201816202010181610202010801ff";
    let nodes: Vec<(StreamId, String)> = (stream.entries.nodes())
        .map(|(master_id, bytes)| (master_id, bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
        .collect();
    assert_eq!(nodes, [(id(1, 1), expected.to_owned())]);
}

#[test]
fn ids_never_go_back() {
    let mut stream = Stream::new();
    let one = [(b"f".to_vec(), b"v".to_vec())];
    let mut add = |wanted, now_ms| add(&mut stream, wanted, now_ms, &one, LIMITS);
    assert_eq!(add(NewId::Auto, 1000), Ok(id(1000, 0)));
    assert_eq!(add(NewId::Auto, 900), Ok(id(1000, 1)));
    assert_eq!(add(NewId::AutoSeq(1000), 0), Ok(id(1000, 2)));
    assert_eq!(add(NewId::AutoSeq(999), 0), Err(AddError::NotGreater));
    assert_eq!(add(NewId::AutoSeq(1001), 0), Ok(id(1001, 0)));
    assert_eq!(add(NewId::Exact(id(1001, 0)), 0), Err(AddError::NotGreater));
    assert_eq!(add(NewId::Exact(id(1001, u64::MAX)), 0), Ok(id(1001, u64::MAX)));
    assert_eq!(add(NewId::AutoSeq(1001), 0), Err(AddError::NotGreater));
    assert_eq!(add(NewId::Auto, 5), Ok(id(1002, 0)));
    assert_eq!(add(NewId::Exact(StreamId::MAX), 0), Ok(StreamId::MAX));
    assert_eq!(add(NewId::Auto, 5), Err(AddError::Exhausted));
}

#[test]
fn a_node_is_full_by_entries_or_bytes() {
    let one = [(b"f".to_vec(), vec![b'v'; 100])];
    let nodes = |limits| {
        let mut stream = Stream::new();
        for ms in 1..=100 {
            add(&mut stream, NewId::Exact(id(ms, 0)), 0, &one, limits).unwrap();
        }
        stream.entries.nodes().len()
    };
    assert_eq!(nodes(NodeLimits { max_bytes: 0, max_entries: 0 }), 1);
    assert_eq!(nodes(NodeLimits { max_bytes: 0, max_entries: 10 }), 10);
    assert_eq!(nodes(NodeLimits { max_bytes: 1, max_entries: 10 }), 100);
    assert_eq!(nodes(NodeLimits { max_bytes: 4096, max_entries: 0 }), 3);
}

#[test]
fn approximate_trimming_takes_whole_nodes_within_the_limit() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=1000);
    assert_eq!(stream.entries.trim(Trim::MaxLen(950), true, 0), 0);
    assert_eq!(stream.entries.trim(Trim::MaxLen(555), true, 300), 300);
    assert_eq!(stream.entries.trim(Trim::MaxLen(555), true, 0), 100);
    assert_eq!(stream.entries.trim(Trim::MinId(id(650, 0)), true, 0), 200);
    assert_eq!(stream.entries.trim(Trim::MinId(id(650, 0)), false, 0), 49);
    assert_eq!(stream.entries.front_id(), id(601, 0));
    assert_eq!((stream.entries.len(), stream.entries.first_id()), (351, id(650, 0)));
    assert_eq!(stream.entries.trim(Trim::MaxLen(0), false, 0), 351);
    assert_eq!((stream.entries.nodes().len(), stream.entries.first_id()), (0, StreamId::MIN));
    assert_eq!(stream.entries.front_id(), StreamId::MAX);
    assert_eq!((stream.entries.last_id(), stream.entries.added()), (id(1000, 0), 1000));
}

#[test]
fn a_deleted_tail_keeps_a_node_from_approximate_trimming_only() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=3);
    stream.entries.delete([id(3, 0)]);
    assert_eq!(stream.entries.trim(Trim::MinId(id(3, 0)), true, 0), 0);
    assert_eq!(stream.entries.trim(Trim::MinId(id(3, 0)), false, 0), 2);
    assert_eq!((stream.entries.len(), stream.entries.nodes().len()), (0, 0));
}

#[test]
fn set_id_keeps_ids_rising() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=5);
    stream.entries.delete([id(5, 0)]);
    let mut set = |last, added, max_deleted| stream.entries.set_id(last, added, max_deleted);
    assert_eq!(set(id(4, 0), None, None), Err(SetIdError::BelowMaxDeleted));
    assert_eq!(set(id(5, 0), Some(3), None), Err(SetIdError::AddedBelowLen));
    assert_eq!(set(id(9, 0), Some(40), Some(id(8, 0))), Ok(()));
    assert_eq!(set(id(9, 0), None, Some(StreamId::MIN)), Ok(()));
    assert_eq!(set(id(7, 0), None, None), Err(SetIdError::BelowMaxDeleted));
    assert_eq!((stream.entries.added(), stream.entries.max_deleted_id()), (40, id(8, 0)));
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=5);
    assert_eq!(stream.entries.set_id(id(4, 9), None, None), Err(SetIdError::BelowLastEntry));
}

#[test]
fn lag_is_unknown_behind_a_tombstone() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=5);
    stream.create_group(b"g", Group::new(StreamId::MIN, None));
    let lag = |stream: &Stream| stream.group(b"g").unwrap().lag(&stream.entries);
    assert_eq!(lag(&stream), Some(5));
    let read = |stream: &mut Stream| {
        let (entries, group) = stream.group_mut(b"g").unwrap();
        let consumer = group.find_consumer(b"c").or_else(|| group.create_consumer(b"c", 1)).unwrap();
        group.read_new(entries, consumer, 1, false, 1, |_, _| ())
    };
    read(&mut stream);
    assert_eq!((lag(&stream), stream.group(b"g").unwrap().entries_read), (Some(4), Some(1)));
    stream.entries.delete([id(3, 0)]);
    assert_eq!(lag(&stream), None);
    for expected in [None, None, Some(0)] {
        read(&mut stream);
        assert_eq!(lag(&stream), expected);
    }
    stream.group_mut(b"g").unwrap().1.last_id = id(2, 1);
    stream.group_mut(b"g").unwrap().1.entries_read = None;
    assert_eq!(lag(&stream), None);
    stream.entries.trim(Trim::MaxLen(0), false, 0);
    assert_eq!(lag(&stream), Some(0));
}

#[test]
fn claims_move_pending_entries() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=4);
    stream.create_group(b"g", Group::new(StreamId::MIN, Some(0)));
    let (entries, group) = stream.group_mut(b"g").unwrap();
    let alice = group.create_consumer(b"alice", 10).unwrap();
    let bob = group.create_consumer(b"bob", 10).unwrap();
    assert_eq!(group.read_new(entries, alice, 3, false, 100, |_, _| ()), 3);
    let claim =
        Claim { now_ms: 140, min_idle_ms: 50, delivery_time_ms: 140, retry_count: None, force: false, just_id: false };
    assert!(group.claim(entries, bob, id(1, 0), &claim).is_none());
    let claim = Claim { now_ms: 150, ..claim };
    assert!(group.claim(entries, bob, id(4, 0), &claim).is_none());
    assert!(matches!(group.claim(entries, bob, id(1, 0), &claim), Some(Claimed::Entry(..))));
    let forced = Claim { force: true, ..claim };
    assert!(group.claim(entries, bob, id(4, 0), &forced).is_some());
    let pending: Vec<_> =
        group.pending(..).map(|p| (p.id.ms, p.consumer, p.delivery_time_ms, p.delivery_count)).collect();
    let expected: [(u64, &[u8], i64, u64); 4] =
        [(1, b"bob", 140, 2), (2, b"alice", 100, 1), (3, b"alice", 100, 1), (4, b"bob", 140, 2)];
    assert_eq!(pending, expected);
    assert_eq!(group.consumer(bob).active_time_ms, Some(150));
    assert_eq!(group.delete_consumer(b"alice"), Some(2));
    assert_eq!(group.pending_bounds(), Some((id(1, 0), id(4, 0))));
    assert_eq!(group.create_consumer(b"carol", 0), Some(alice));
    assert!(group.ack(id(1, 0)) && !group.ack(id(1, 0)));
    assert_eq!(group.consumer(bob).pending_len(), 1);
}

#[test]
fn auto_claim_reports_deleted_entries_and_goes_on() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=6);
    stream.create_group(b"g", Group::new(StreamId::MIN, None));
    let (entries, group) = stream.group_mut(b"g").unwrap();
    let alice = group.create_consumer(b"alice", 0).unwrap();
    let bob = group.create_consumer(b"bob", 0).unwrap();
    group.read_new(entries, alice, 0, false, 100, |_, _| ());
    stream.entries.delete([id(2, 0)]);
    let (entries, group) = stream.group_mut(b"g").unwrap();
    let claim =
        Claim { now_ms: 200, min_idle_ms: 0, delivery_time_ms: 200, retry_count: None, force: false, just_id: true };
    let mut seen = Vec::new();
    let mut visit = |claimed: Claimed<'_>| match claimed {
        Claimed::Entry(entry, pending) => seen.push((entry.id.ms, pending.delivery_count)),
        Claimed::Deleted(pending) => seen.push((pending.id.ms, 0)),
    };
    assert_eq!(group.auto_claim(entries, bob, StreamId::MIN, 3, &claim, &mut visit), id(4, 0));
    assert_eq!(group.auto_claim(entries, bob, id(4, 0), 3, &claim, &mut visit), StreamId::MIN);
    assert_eq!(seen, [(1, 1), (2, 0), (3, 1), (4, 1), (5, 1), (6, 1)]);
    let idle = Claim { min_idle_ms: 1000, ..claim };
    assert_eq!(group.auto_claim(entries, bob, StreamId::MIN, 1, &idle, |_| panic!("none is idle")), StreamId::MIN);
}

#[test]
fn foreign_streams_are_refused_when_they_break_an_invariant() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=3);
    let (master_id, bytes) = stream.entries.nodes().next().map(|(id, bytes)| (id, bytes.to_vec())).unwrap();
    let with_group = || {
        let mut loader = Loader::new();
        loader.node(master_id, bytes.clone()).unwrap();
        loader.counters(id(3, 0), StreamId::MIN, None).unwrap();
        loader.group(b"g", id(3, 0), None).unwrap();
        loader
    };
    let mut twice = Loader::new();
    twice.node(master_id, bytes.clone()).unwrap();
    assert!(twice.node(master_id, bytes.clone()).is_err());
    assert!(twice.counters(id(2, 0), StreamId::MIN, None).is_err());
    let mut shared = with_group();
    shared.pending(id(1, 0), 0, 1).unwrap();
    assert!(shared.pending(id(1, 0), 0, 1).is_err());
    assert!(shared.owned(id(1, 0)).is_err());
    shared.consumer(b"a", 0, -1).unwrap();
    assert!(shared.consumer(b"a", 0, -1).is_err());
    assert!(shared.owned(id(2, 0)).is_err());
    shared.owned(id(1, 0)).unwrap();
    assert!(shared.owned(id(1, 0)).is_err());
    shared.consumer(b"b", 0, -1).unwrap();
    assert!(shared.owned(id(1, 0)).is_err());
    assert_eq!(shared.finish().unwrap().group(b"g").unwrap().entries_read, Some(3));
    let mut ownerless = with_group();
    ownerless.pending(id(1, 0), 0, 1).unwrap();
    assert!(ownerless.finish().is_err());
    let mut same_name = with_group();
    assert!(same_name.group(b"h", id(3, 0), None).is_ok());
    assert!(same_name.group(b"g", id(3, 0), None).is_err());
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut stream = Stream::new();
    add_ids(&mut stream, 1..=250);
    stream.create_group(b"g", Group::new(StreamId::MIN, None));
    let (snapshot, before) = (stream.clone(), describe(&stream));
    add_ids(&mut stream, 251..=260);
    stream.entries.delete([id(7, 0), id(120, 0)]);
    stream.entries.trim(Trim::MaxLen(200), false, 0);
    stream.group_mut(b"g").unwrap().1.create_consumer(b"c", 5);
    assert_eq!(describe(&snapshot), before);
}

/// A stream as plain collections, without counters.
#[derive(Debug, Default)]
struct Model {
    entries: BTreeMap<StreamId, Vec<Field>>,
    last_id: StreamId,
    group_last_id: StreamId,
    pending: BTreeMap<StreamId, (usize, i64, u64)>,
}

#[derive(Clone, Debug)]
enum Op {
    Add { ahead_ms: u64, fields: Vec<Field> },
    Delete(Vec<u64>),
    TrimLen(u64),
    TrimId(u64),
    Read { consumer: usize, count: u64, no_ack: bool },
    History { consumer: usize, after: u64 },
    Ack(u64),
    Claim { consumer: usize, id: u64, min_idle_ms: i64, force: bool, just_id: bool },
    Reload,
}

const CONSUMERS: usize = 3;
/// IDs of the random streams stay below this many milliseconds, so that operations hit entries.
const SPAN_MS: u64 = 400;

fn op() -> impl Strategy<Value = Op> {
    let text = prop_oneof![
        proptest::string::string_regex("[a-c]").unwrap(),
        Just(String::new()),
        any::<i64>().prop_map(|number| number.to_string()),
        proptest::string::string_regex("0[0-9]{1,3}|x{60,70}|y{4090,4100}").unwrap(),
    ];
    let text = text.prop_map(String::into_bytes);
    let one = vec((proptest::string::string_regex("[ab]").unwrap().prop_map(String::into_bytes), text), 1..4);
    let consumer = 0..CONSUMERS;
    let some_id = 0..SPAN_MS;
    prop_oneof![
        20 => (0..3u64, one).prop_map(|(ahead_ms, fields)| Op::Add { ahead_ms, fields }),
        4 => vec(some_id.clone(), 1..4).prop_map(Op::Delete),
        1 => (0..60u64).prop_map(Op::TrimLen),
        1 => some_id.clone().prop_map(Op::TrimId),
        6 => (consumer.clone(), 0..5u64, any::<bool>()).prop_map(|(consumer, count, no_ack)| Op::Read { consumer, count, no_ack }),
        2 => (consumer.clone(), some_id.clone()).prop_map(|(consumer, after)| Op::History { consumer, after }),
        4 => some_id.clone().prop_map(Op::Ack),
        4 => (consumer, some_id, 0..20i64, any::<bool>(), any::<bool>()).prop_map(|(consumer, id, min_idle_ms, force, just_id)| {
            Op::Claim { consumer, id, min_idle_ms, force, just_id }
        }),
        1 => Just(Op::Reload),
    ]
}

fn name(consumer: usize) -> Vec<u8> {
    format!("consumer-{consumer}").into_bytes()
}

/// Does `op` to both at `now_ms`.
fn apply(op: &Op, stream: &mut Stream, model: &mut Model, now_ms: i64) {
    let limits = NodeLimits { max_bytes: 300, max_entries: 7 };
    match op {
        Op::Add { ahead_ms, fields } => {
            let wanted = NewId::AutoSeq(model.last_id.ms + ahead_ms);
            let id = add(stream, wanted, 0, fields, limits).unwrap();
            assert!(id > model.last_id);
            model.last_id = id;
            model.entries.insert(id, fields.clone());
        }
        Op::Delete(ids) => {
            let ids = ids.iter().map(|&ms| id(ms, 0));
            let expected = ids.clone().filter(|id| model.entries.remove(id).is_some()).count();
            assert_eq!(stream.entries.delete(ids), expected as u64);
        }
        Op::TrimLen(max_len) => {
            let excess = (model.entries.len() as u64).saturating_sub(*max_len);
            (0..excess).for_each(|_| drop(model.entries.pop_first()));
            assert_eq!(stream.entries.trim(Trim::MaxLen(*max_len), false, 0), excess);
        }
        Op::TrimId(ms) => {
            let kept = model.entries.split_off(&id(*ms, 0));
            let gone = std::mem::replace(&mut model.entries, kept).len() as u64;
            let approximate = stream.entries.trim(Trim::MinId(id(*ms, 0)), true, 0);
            assert_eq!(approximate + stream.entries.trim(Trim::MinId(id(*ms, 0)), false, 0), gone);
        }
        Op::Reload => {
            let again = reload(stream);
            assert_eq!(describe(&again), describe(stream));
            *stream = again;
        }
        _ => apply_to_group(op, stream, model, now_ms),
    }
}

fn apply_to_group(op: &Op, stream: &mut Stream, model: &mut Model, now_ms: i64) {
    let (entries, group) = stream.group_mut(b"g").unwrap();
    let find = |group: &Group, consumer| group.find_consumer(&name(consumer)).unwrap();
    match *op {
        Op::Read { consumer, count, no_ack } => {
            let limit = if count == 0 { usize::MAX } else { count as usize };
            let behind = (std::ops::Bound::Excluded(model.group_last_id), std::ops::Bound::Unbounded);
            let expected: Vec<_> = model.entries.range(behind).take(limit).map(|(id, f)| (*id, f.clone())).collect();
            let mut got = Vec::new();
            let idx = find(group, consumer);
            group.read_new(entries, idx, count, no_ack, now_ms, |entry, _| got.push((entry.id, fields(entry))));
            for (id, _) in &expected {
                model.group_last_id = *id;
                if !no_ack {
                    model.pending.insert(*id, (consumer, now_ms, 1));
                }
            }
            assert_eq!(got, expected);
        }
        Op::History { consumer, after } => {
            let mut got = Vec::new();
            let idx = find(group, consumer);
            group.read_history(entries, idx, id(after, 0), 0, now_ms, |id, entry| got.push((id, entry.map(fields))));
            let mut expected = Vec::new();
            for (&pending_id, nack) in model.pending.iter_mut().filter(|(id, _)| **id > StreamId::new(after, 0)) {
                if nack.0 == consumer {
                    let entry = model.entries.get(&pending_id).cloned();
                    if entry.is_some() {
                        (nack.1, nack.2) = (now_ms, nack.2 + 1);
                    }
                    expected.push((pending_id, entry));
                }
            }
            assert_eq!(got, expected);
        }
        Op::Ack(ms) => assert_eq!(group.ack(id(ms, 0)), model.pending.remove(&id(ms, 0)).is_some()),
        Op::Claim { consumer, id: ms, min_idle_ms, force, just_id } => {
            let claim = Claim { now_ms, min_idle_ms, delivery_time_ms: now_ms, retry_count: None, force, just_id };
            let idx = find(group, consumer);
            let changed = group.claim(entries, idx, id(ms, 0), &claim).is_some();
            let pending = model.pending.get(&id(ms, 0)).copied();
            let fresh = pending.is_some_and(|(_, time, _)| now_ms - time < min_idle_ms);
            if !model.entries.contains_key(&id(ms, 0)) {
                assert_eq!(model.pending.remove(&id(ms, 0)).is_some(), changed);
            } else if (pending.is_some() || force) && !fresh {
                let count = pending.map_or(1, |(_, _, count)| count) + u64::from(!just_id);
                model.pending.insert(id(ms, 0), (consumer, now_ms, count));
                assert!(changed);
            } else {
                assert!(!changed);
            }
        }
        _ => unreachable!("not about the group"),
    }
}

fn compare(stream: &Stream, model: &Model, (start, end): (u64, u64)) {
    let entries = &stream.entries;
    assert_eq!(entries.len(), model.entries.len() as u64);
    assert_eq!(entries.last_id(), model.last_id);
    assert_eq!(entries.first_id(), model.entries.keys().next().copied().unwrap_or_default());
    assert_eq!(entries.last_entry_id(), model.entries.keys().next_back().copied());
    assert!(entries.nodes().len() as u64 <= entries.len());
    let (start, end) = (id(start, 0), id(end, 1));
    let expected: Vec<_> =
        model.entries.iter().filter(|(id, _)| (start..=end).contains(id)).map(|(id, f)| (*id, f.clone())).collect();
    let forward: Vec<_> = entries.range(start, end).map(|entry| (entry.id, fields(&entry))).collect();
    let mut backward: Vec<_> = entries.range_rev(start, end).map(|entry| (entry.id, fields(&entry))).collect();
    backward.reverse();
    assert_eq!(forward, expected);
    assert_eq!(backward, expected);
    let group = stream.group(b"g").unwrap();
    let pending: Vec<_> =
        (group.pending(..)).map(|p| (p.id, p.consumer.to_vec(), p.delivery_time_ms, p.delivery_count)).collect();
    let expected: Vec<_> =
        model.pending.iter().map(|(id, &(consumer, time, count))| (*id, name(consumer), time, count)).collect();
    assert_eq!(pending, expected);
    let owned: usize = group.consumers().map(Consumer::pending_len).sum();
    assert_eq!((owned, group.last_id), (model.pending.len(), model.group_last_id));
}

proptest! {
    #[test]
    fn behaves_as_plain_collections(ops in vec((op(), (0..SPAN_MS, 0..SPAN_MS)), 1..200)) {
        let (mut stream, mut model) = (Stream::new(), Model::default());
        stream.create_group(b"g", Group::new(StreamId::MIN, None));
        for consumer in 0..CONSUMERS {
            stream.group_mut(b"g").unwrap().1.create_consumer(&name(consumer), 0);
        }
        for (now_ms, (op, bounds)) in ops.iter().enumerate() {
            apply(op, &mut stream, &mut model, now_ms as i64);
            compare(&stream, &model, *bounds);
        }
    }

    #[test]
    fn damaged_nodes_load_or_are_refused(
        entries in vec(vec((vec(any::<u8>(), 0..4), vec(any::<u8>(), 0..70)), 1..3), 1..12),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut stream = Stream::new();
        for fields in &entries {
            add(&mut stream, NewId::Auto, 7, fields, LIMITS).unwrap();
        }
        stream.entries.delete([id(7, 1), id(7, 2)]);
        let (master_id, mut bytes) = stream.entries.nodes().next().map(|(id, bytes)| (id, bytes.to_vec())).unwrap();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let mut loader = Loader::new();
        if loader.node(master_id, bytes).is_ok() && loader.counters(StreamId::MAX, id(7, 2), None).is_ok() {
            let mut stream = loader.finish().unwrap();
            prop_assert_eq!(stream.entries.range(StreamId::MIN, StreamId::MAX).count() as u64, stream.entries.len());
            prop_assert_eq!(stream.entries.range_rev(StreamId::MIN, StreamId::MAX).count() as u64, stream.entries.len());
            let half = stream.entries.len() / 2;
            stream.entries.trim(Trim::MaxLen(half), false, 0);
            prop_assert_eq!(stream.entries.len(), half);
            let first = stream.entries.first_id();
            prop_assert_eq!(stream.entries.delete([first]), u64::from(half > 0));
        }
    }
}
