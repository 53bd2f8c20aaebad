//! Test-only readers of what the crate leaves opaque (listpack, intset, stream entries), written for clarity, and the
//! model of a keyspace that golden files are compared with.
#![allow(dead_code, clippy::unwrap_used)]

use redstart_persistence::rdb::{Family, Key, Packed, Part, ReadOptions, Reader, Record, Str, StreamId, StreamMeta};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// The elements of a listpack.
pub(crate) fn listpack(bytes: &[u8]) -> Vec<Vec<u8>> {
    let total = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert_eq!(total, bytes.len(), "listpack size");
    let mut at = 6;
    let mut elements = Vec::new();
    while bytes[at] != 0xff {
        let first = bytes[at];
        let le = |n: usize| {
            let mut wide = [if bytes[at + n] & 0x80 == 0 { 0 } else { 0xff }; 8];
            wide[..n].copy_from_slice(&bytes[at + 1..at + 1 + n]);
            i64::from_le_bytes(wide).to_string().into_bytes()
        };
        let (element, len) = match first {
            0x00..0x80 => (first.to_string().into_bytes(), 1),
            0x80..0xc0 => {
                let n = usize::from(first & 0x3f);
                (bytes[at + 1..at + 1 + n].to_vec(), 1 + n)
            }
            0xc0..0xe0 => {
                let raw = i64::from(first & 0x1f) << 8 | i64::from(bytes[at + 1]);
                ((if raw >= 4096 { raw - 8192 } else { raw }).to_string().into_bytes(), 2)
            }
            0xe0..0xf0 => {
                let n = usize::from(first & 0xf) << 8 | usize::from(bytes[at + 1]);
                (bytes[at + 2..at + 2 + n].to_vec(), 2 + n)
            }
            0xf0 => {
                let n = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
                (bytes[at + 5..at + 5 + n].to_vec(), 5 + n)
            }
            0xf1 => (le(2), 3),
            0xf2 => (le(3), 4),
            0xf3 => (le(4), 5),
            0xf4 => (le(8), 9),
            _ => panic!("listpack entry {first:#x}"),
        };
        elements.push(element);
        let back = match len {
            0..128 => 1,
            128..16384 => 2,
            16384..2097152 => 3,
            _ => 4,
        };
        at += len + back;
    }
    assert_eq!(at + 1, bytes.len(), "listpack end");
    elements
}

pub(crate) fn intset(bytes: &[u8]) -> Vec<i64> {
    let width = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let members = bytes[8..].chunks(width).map(|chunk| {
        let mut wide = [if chunk[width - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
        wide[..width].copy_from_slice(chunk);
        i64::from_le_bytes(wide)
    });
    members.collect()
}

/// The entries of a stream node that are not deleted.
fn stream_entries(master: StreamId, bytes: &[u8]) -> Vec<(StreamId, Vec<Vec<u8>>)> {
    let items = listpack(bytes);
    let int = |at: usize| std::str::from_utf8(&items[at]).unwrap().parse::<i64>().unwrap();
    let (mut count, fields) = (int(0) + int(1), int(2) as usize);
    let master_fields = items[3..3 + fields].to_vec();
    let mut at = 3 + fields + 1;
    let mut entries = Vec::new();
    while count > 0 {
        let flags = int(at);
        let id = StreamId {
            ms: master.ms.wrapping_add_signed(int(at + 1)),
            seq: master.seq.wrapping_add_signed(int(at + 2)),
        };
        at += 3;
        let mut pairs = Vec::new();
        if flags & 2 != 0 {
            for field in &master_fields {
                pairs.extend([field.clone(), items[at].clone()]);
                at += 1;
            }
        } else {
            let n = int(at) as usize;
            pairs.extend_from_slice(&items[at + 1..at + 1 + 2 * n]);
            at += 1 + 2 * n;
        }
        at += 1;
        if flags & 1 == 0 {
            entries.push((id, pairs));
        }
        count -= 1;
    }
    entries
}

/// One key with all its parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) parts: Vec<Part>,
}

/// Everything in a file, in its order: records that are not keys, and keys.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Contents {
    pub(crate) records: Vec<Record>,
    pub(crate) keys: Vec<Entry>,
}

pub(crate) fn read_all<R: std::io::Read>(inner: R) -> Result<Contents, redstart_persistence::rdb::RdbError> {
    let mut reader = Reader::new(inner, ReadOptions::default())?;
    let mut contents = Contents::default();
    loop {
        match reader.record()? {
            Record::Key(key) => {
                let mut parts = Vec::new();
                while let Some(part) = reader.part()? {
                    parts.push(part);
                }
                contents.keys.push(Entry { key, parts });
            }
            end @ Record::Eof(_) => {
                contents.records.push(end);
                return Ok(contents);
            }
            other => contents.records.push(other),
        }
    }
}

pub(crate) fn score_text(score: f64) -> String {
    if score.is_infinite() {
        if score > 0.0 { "inf".into() } else { "-inf".into() }
    } else if score == score.trunc() && score.abs() < 1e19 {
        format!("{}", score as i64)
    } else {
        format!("{score}")
    }
}

/// What `expected.json` says of a key, as far as parts tell it; encodings are a server's business.
pub(crate) fn describe(entry: &Entry) -> Json {
    let family = entry.key.kind.family();
    let (kind, value) = match family {
        Family::String => ("string", json!(text(&string(&entry.parts)))),
        Family::List => ("list", json!(elements(&entry.parts).iter().map(|e| text(e)).collect::<Vec<_>>())),
        Family::Set => {
            let mut members: Vec<String> = elements(&entry.parts).iter().map(|e| text(e)).collect();
            members.sort();
            ("set", json!(members))
        }
        Family::Hash => ("hash", hash(&entry.parts)),
        Family::Zset => ("zset", zset(&entry.parts)),
        Family::Stream => ("stream", stream(&entry.parts)),
        Family::Module => panic!("module"),
    };
    json!({"type": kind, "ttl_at_ms": entry.key.expire_at_ms, "value": value})
}

fn string(parts: &[Part]) -> Vec<u8> {
    let [Part::String(value)] = parts else { panic!("{parts:?}") };
    value.clone().into_bytes()
}

/// The elements of a list, set, hash (field, value, ..) or sorted set, whatever they are packed in.
pub(crate) fn elements(parts: &[Part]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            Part::Packed(Packed::Listpack, bytes) | Part::ListNode { packed: true, bytes } => {
                all.extend(listpack(bytes))
            }
            Part::Packed(Packed::Intset, bytes) => all.extend(intset(bytes).iter().map(|n| n.to_string().into_bytes())),
            Part::ListNode { packed: false, bytes } | Part::Element(bytes) => all.push(bytes.clone()),
            Part::Field { field, value } => all.extend([field.clone(), value.clone()]),
            Part::Member { member, score } => all.extend([member.clone(), score_text(*score).into_bytes()]),
            other => panic!("{other:?}"),
        }
    }
    all
}

fn hash(parts: &[Part]) -> Json {
    let flat = elements(parts);
    let pairs = flat.chunks(2).map(|pair| (text(&pair[0]), json!(text(&pair[1]))));
    Json::Object(pairs.collect::<Map<_, _>>())
}

fn zset(parts: &[Part]) -> Json {
    let flat = elements(parts);
    let mut members: Vec<(f64, Vec<u8>)> =
        flat.chunks(2).map(|pair| (std::str::from_utf8(&pair[1]).unwrap().parse().unwrap(), pair[0].clone())).collect();
    members.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    json!(members.iter().flat_map(|(score, member)| [text(member), score_text(*score)]).collect::<Vec<_>>())
}

fn id_text(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

fn stream(parts: &[Part]) -> Json {
    let mut entries = Vec::new();
    let mut meta = StreamMeta::default();
    let mut groups: Vec<(String, StreamId, Option<i64>)> = Vec::new();
    let mut consumers: Vec<Vec<String>> = Vec::new();
    let mut pending: Vec<BTreeMap<StreamId, (String, u64)>> = Vec::new();
    for part in parts {
        match part {
            Part::StreamNode { master_id, listpack } => entries.extend(stream_entries(*master_id, listpack)),
            Part::StreamMeta(found) => meta = *found,
            Part::Group { name, last_id, entries_read } => {
                groups.push((text(name), *last_id, *entries_read));
                consumers.push(Vec::new());
                pending.push(BTreeMap::new());
            }
            Part::Pending { id, delivery_count, .. } => {
                pending.last_mut().unwrap().insert(*id, (String::new(), *delivery_count));
            }
            Part::Consumer { name, .. } => consumers.last_mut().unwrap().push(text(name)),
            Part::Owned(id) => {
                let name = consumers.last().unwrap().last().unwrap().clone();
                pending.last_mut().unwrap().get_mut(id).unwrap().0 = name;
            }
            other => panic!("{other:?}"),
        }
    }
    let entry = |(id, pairs): &(StreamId, Vec<Vec<u8>>)| {
        json!([id_text(*id), pairs.iter().map(|p| text(p)).collect::<Vec<_>>()])
    };
    json!({
        "entries": entries.iter().map(entry).collect::<Vec<_>>(),
        "len": meta.len,
        "last-generated-id": id_text(meta.last_id),
        "max-deleted-entry-id": id_text(meta.max_deleted_id),
        "recorded-first-entry-id": meta.first_id.map(id_text),
        "entries-added": meta.entries_added,
        "groups": (0..groups.len()).map(|i| json!({
            "name": groups[i].0,
            "consumers": consumers[i].len(),
            "pending": pending[i].iter().map(|(id, (name, count))| json!([id_text(*id), name, count])).collect::<Vec<_>>(),
            "last-delivered-id": id_text(groups[i].1),
            "entries-read": groups[i].2.filter(|read| *read >= 0),
        })).collect::<Vec<_>>(),
    })
}

/// The same shape from an entry of `expected.json`.
pub(crate) fn expected(entry: &Json) -> Json {
    let mut value = entry["value"].clone();
    if entry["type"] == "stream" {
        let info = &value["info"];
        let groups = value["groups"].as_array().unwrap().iter().map(|group| {
            let group: Map<String, Json> = match group {
                Json::Object(map) => map.clone(),
                flat => flat
                    .as_array()
                    .unwrap()
                    .chunks(2)
                    .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
                    .collect(),
            };
            let name = group["name"].as_str().unwrap();
            json!({
                "name": name,
                "consumers": group["consumers"],
                "pending": value["pending"][name],
                "last-delivered-id": group["last-delivered-id"],
                "entries-read": group["entries-read"],
            })
        });
        value = json!({
            "entries": value["entries"],
            "len": info["length"],
            "last-generated-id": info["last-generated-id"],
            "max-deleted-entry-id": info["max-deleted-entry-id"],
            "recorded-first-entry-id": info["recorded-first-entry-id"],
            "entries-added": info["entries-added"],
            "groups": groups.collect::<Vec<_>>(),
        });
    }
    json!({"type": entry["type"], "ttl_at_ms": entry["ttl_at_ms"], "value": value})
}

pub(crate) fn str_part(bytes: &[u8]) -> Part {
    Part::String(Str::Bytes(bytes.to_vec()))
}
