//! What the servers hold: data sets and registers, as rows of named values.

use crate::pair::Mismatch;
use crate::peer::{Link, encode};
use crate::value::{Leeway, Value};
use std::collections::BTreeMap;
use std::io::Result;

/// Name of what was asked, and the answer.
pub type State = BTreeMap<String, Fact>;

pub struct Fact {
    value: Value,
    leeway: Option<Leeway>,
    /// The key that it is about.
    key: Option<(String, Vec<u8>)>,
}

/// Directives that steps change.
const DIRECTIVES: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("list-max-listpack-size", "-2"),
    ("list-compress-depth", "0"),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("set-max-listpack-value", "64"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("hll-sparse-max-bytes", "3000"),
    ("stream-node-max-entries", "100"),
    ("stream-node-max-bytes", "4096"),
    ("notify-keyspace-events", ""),
    ("lazyfree-lazy-server-del", "no"),
    ("lazyfree-lazy-user-del", "no"),
    ("lazyfree-lazy-expire", "no"),
    ("rdbcompression", "no"),
    ("sanitize-dump-payload", "no"),
    ("slowlog-log-slower-than", "-1"),
    ("slowlog-max-len", "128"),
    ("latency-monitor-threshold", "0"),
    ("latency-tracking", "yes"),
    ("tracking-table-max-keys", "1000000"),
    ("acllog-max-len", "128"),
];

/// Brings a server to where each row begins. Keys expire only when they are looked at.
pub fn reset(admin: &mut Link) -> Result<()> {
    let mut set = vec!["CONFIG", "SET"];
    DIRECTIVES.iter().for_each(|(name, value)| set.extend([name, value]));
    let lines: &[&[&str]] = &[
        &["DEBUG", "SET-ACTIVE-EXPIRE", "0"],
        &["DEBUG", "SET-DISABLE-DENY-SCRIPTS", "0"],
        &["CLIENT", "NO-TOUCH", "ON"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["CLIENT", "KILL", "TYPE", "pubsub"],
        &["ACL", "DELUSER", "alice", "bob"],
        &["FLUSHALL"],
        &["FUNCTION", "FLUSH"],
        &["SCRIPT", "FLUSH"],
        &set,
        &["ACL", "LOG", "RESET"],
        &["SLOWLOG", "RESET"],
        &["CONFIG", "RESETSTAT"],
    ];
    for line in lines {
        admin.ask(&line.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())?;
    }
    // Users that ACL SETUSER has made of other words.
    for user in admin.ask(&[b"ACL", b"USERS"])?.elements() {
        admin.ask(&[b"ACL", b"DELUSER", user.text()])?;
    }
    Ok(())
}

/// All keys with types, encodings, times to live and values.
pub fn data(admin: &mut Link) -> Result<State> {
    let mut state = State::new();
    let keyspace = admin.ask(&[b"INFO", b"keyspace"])?;
    let keyspace = String::from_utf8_lossy(keyspace.text()).into_owned();
    for line in keyspace.lines() {
        let Some((db, _)) = line.strip_prefix("db").and_then(|line| line.split_once(':')) else { continue };
        admin.ask(&[b"SELECT", db.as_bytes()])?;
        let keys = admin.ask(&[b"KEYS", b"*"])?;
        for key in keys.elements() {
            one_key(admin, db, key.text(), &mut state)?;
        }
    }
    admin.ask(&[b"SELECT", b"0"])?;
    Ok(state)
}

fn one_key(admin: &mut Link, db: &str, key: &[u8], state: &mut State) -> Result<()> {
    let questions: &[(&str, &[&[u8]], Option<Leeway>)] = &[
        ("TYPE", &[b"TYPE", key], None),
        ("OBJECT ENCODING", &[b"OBJECT", b"ENCODING", key], None),
        ("PTTL", &[b"PTTL", key], Some(Leeway::Near(1500))),
        ("DEBUG DIGEST-VALUE", &[b"DEBUG", b"DIGEST-VALUE", key], None),
        ("DUMP", &[b"DUMP", key], None),
    ];
    let all: Vec<u8> = questions.iter().flat_map(|(_, argv, _)| encode(argv)).collect();
    admin.send(&all);
    let answers = questions.iter().map(|_| admin.next()).collect::<Result<Vec<Value>>>()?;
    let is_stream = answers[0].text() == b"stream";
    // A hash table is saved in its own order, and what was made of it stays in that; the nodes of a long list are as long as
    // the configuration said when it was made; a consumer's times are in a stream's payload.
    let has_payload =
        answers[0].text() != b"set" && ![&b"hashtable"[..], b"quicklist"].contains(&answers[1].text()) && !is_stream;
    let mut add = |what: &str, value: Value, leeway| {
        let key = (db.to_owned(), key.to_vec());
        let name = format!("{what} of {} in db {db}", key.1.escape_ascii());
        state.insert(name, Fact { value, leeway, key: Some(key) });
    };
    for ((what, _, leeway), value) in questions.iter().zip(answers) {
        if *what != "DUMP" || has_payload {
            add(what, value, *leeway);
        }
    }
    if is_stream {
        let full = admin.ask(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"])?;
        add("XINFO STREAM FULL", full, Some(Leeway::Near(60_000)));
    }
    Ok(())
}

/// Users, clients, libraries, channels, directives, statistics.
pub fn registers(admin: &mut Link, clients: &[i64]) -> Result<State> {
    let mut state = State::new();
    let questions: &[(&[&[u8]], Option<Leeway>)] = &[
        (&[b"ACL", b"LIST"], None),
        (&[b"FUNCTION", b"LIST", b"WITHCODE"], Some(Leeway::Unordered)),
        (&[b"PUBSUB", b"CHANNELS"], Some(Leeway::Unordered)),
        (&[b"PUBSUB", b"SHARDCHANNELS"], Some(Leeway::Unordered)),
        (&[b"PUBSUB", b"NUMPAT"], None),
    ];
    for (argv, leeway) in questions {
        let value = admin.ask(argv)?;
        let name = String::from_utf8_lossy(&argv.join(&b' ')).into_owned();
        state.insert(name, Fact { value, leeway: *leeway, key: None });
    }
    for (name, _) in DIRECTIVES {
        let value = admin.ask(&[b"CONFIG", b"GET", name.as_bytes()])?;
        state.insert(format!("CONFIG GET {name}"), Fact { value, leeway: None, key: None });
    }
    figures(admin, &mut state)?;
    client_list(admin, clients, &mut state)?;
    Ok(state)
}

/// Figures of INFO that do not depend on time or memory.
fn figures(admin: &mut Link, state: &mut State) -> Result<()> {
    const STATS: &[&str] = &[
        "keyspace_hits",
        "keyspace_misses",
        "expired_keys",
        "evicted_keys",
        "pubsub_channels",
        "pubsub_patterns",
        "pubsubshard_channels",
        "tracking_total_keys",
        "tracking_total_items",
        "tracking_total_prefixes",
        "unexpected_error_replies",
        "total_error_replies",
        "acl_access_denied_auth",
        "acl_access_denied_cmd",
        "acl_access_denied_key",
        "acl_access_denied_channel",
        "blocked_clients",
        "tracking_clients",
        "clients_in_timeout_table",
        "total_blocking_keys",
        "total_blocking_keys_on_nokey",
        "connected_clients",
        "number_of_cached_scripts",
        "number_of_functions",
        "number_of_libraries",
        "expired_subkeys",
        "rejected_connections",
    ];
    let info = admin.ask(&[b"INFO", b"everything"])?;
    for line in String::from_utf8_lossy(info.text()).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let is_count = name.starts_with("errorstat_") || STATS.contains(&name);
        let value = if let Some(command) = name.strip_prefix("cmdstat_") {
            // Redis counts a command as failed when an error went to anybody meanwhile, or stands within its reply.
            let is_loose = ["eval", "fcall", "client|unblock"].iter().any(|name| command.starts_with(name));
            let is_compared = |field: &&str| !field.starts_with("usec") && !(is_loose && field.starts_with("failed"));
            let counts = value.split(',').filter(is_compared);
            if command.starts_with("wait") || ["ping", "client|id"].contains(&command) {
                // Redis counts WAIT when its client is killed, too; with PING both are asked whether they are done, and
                // with CLIENT ID as often as it takes until they count alike.
                continue;
            }
            format!("{command}:{}", counts.collect::<Vec<_>>().join(","))
        } else if name.starts_with("db") && value.starts_with("keys=") {
            value.split(",avg_ttl").next().unwrap_or_default().to_owned()
        } else if is_count {
            value.to_owned()
        } else {
            continue;
        };
        let value = Value::Bulk(b'$', Some(value.into_bytes()));
        state.insert(format!("INFO {name}"), Fact { value, leeway: None, key: None });
    }
    Ok(())
}

/// What CLIENT LIST says of the clients but addresses, times and memory.
fn client_list(admin: &mut Link, clients: &[i64], state: &mut State) -> Result<()> {
    const FIELDS: &[&str] = &[
        "name", "flags", "db", "sub", "psub", "ssub", "multi", "events", "cmd", "user", "redir", "resp", "lib-name",
        "lib-ver",
    ];
    for (index, id) in clients.iter().enumerate() {
        let line = admin.ask(&[b"CLIENT", b"LIST", b"ID", id.to_string().as_bytes()])?;
        let text = String::from_utf8_lossy(line.text()).into_owned();
        for (name, value) in text.trim().split(' ').filter_map(|field| field.split_once('=')) {
            if FIELDS.contains(&name) {
                let value = Value::Bulk(b'$', Some(value.as_bytes().to_vec()));
                state.insert(format!("CLIENT LIST {name} of client {index}"), Fact { value, leeway: None, key: None });
            }
        }
    }
    Ok(())
}

fn is_same(ours: &Fact, theirs: &Fact) -> bool {
    ours.value == theirs.value || ours.leeway.is_some_and(|leeway| ours.value.matches(&theirs.value, leeway))
}

/// The first fact that is not the same.
pub fn differing(ours: &State, theirs: &State) -> std::result::Result<(), Mismatch> {
    let names = ours.keys().chain(theirs.keys());
    for name in names {
        let (ours, theirs) = (ours.get(name), theirs.get(name));
        if !matches!((ours, theirs), (Some(ours), Some(theirs)) if is_same(ours, theirs)) {
            let show = |fact: Option<&Fact>| {
                fact.map_or_else(|| "(none)".to_owned(), |fact| format!("{}", Shown(&fact.value)))
            };
            return Err(Mismatch { about: name.clone(), ours: show(ours), theirs: show(theirs), is_silence: false });
        }
    }
    Ok(())
}

/// The keys that are not the same.
pub fn differing_keys(ours: &State, theirs: &State) -> Vec<(String, Vec<u8>)> {
    let differs = |name: &&String| !matches!((ours.get(*name), theirs.get(*name)), (Some(ours), Some(theirs)) if is_same(ours, theirs));
    let names = ours.keys().chain(theirs.keys()).filter(differs);
    let mut keys: Vec<_> = names.filter_map(|name| ours.get(name).or(theirs.get(name))?.key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys
}

pub fn delete(admin: &mut Link, (db, key): &(String, Vec<u8>)) -> Result<()> {
    admin.ask(&[b"SELECT", db.as_bytes()])?;
    admin.ask(&[b"DEL", key])?;
    admin.ask(&[b"SELECT", b"0"])?;
    Ok(())
}

struct Shown<'v>(&'v Value);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Value::Line(kind, line) => write!(f, "{}{}", *kind as char, line.escape_ascii()),
            Value::Bulk(_, Some(text)) => write!(f, "\"{}\"", text.escape_ascii()),
            Value::Bulk(_, None) | Value::Many(_, None) => write!(f, "null"),
            Value::Many(kind, Some(all)) => {
                write!(f, "{}[", *kind as char)?;
                for (index, value) in all.iter().enumerate() {
                    write!(f, "{}{}", if index > 0 { ", " } else { "" }, Shown(value))?;
                }
                write!(f, "]")
            }
        }
    }
}
