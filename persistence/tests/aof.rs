//! Logs of real servers replay to what `expected.json` says; ours come back whole, torn tails are cut where the last
//! good batch ends, and damage is named.
#![allow(clippy::unwrap_used)]

mod common;

use common::{fixture, text};
use proptest::prelude::*;
use redstart_persistence::aof::{
    AofError, AofErrorKind, AppendOptions, Appender, Command, FileType, Fsync, Item, LogBuffer, Manifest, Reader,
    begins_with_rdb,
};
use redstart_persistence::file::{CrashDir, Dir, Fault, Survival};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// Reads to the end or the first error.
fn read_log(bytes: &[u8]) -> (Vec<Item>, Option<AofError>) {
    let mut reader = Reader::new(bytes, 0);
    let mut items = Vec::new();
    loop {
        match reader.item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

fn words(command: &Command) -> Vec<String> {
    command.args().map(text).collect()
}

/// Just enough of a server to replay the fixtures' simple types.
#[derive(Default)]
struct Replay {
    db: String,
    strings: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
    sets: BTreeMap<String, BTreeSet<String>>,
    hashes: BTreeMap<String, BTreeMap<String, String>>,
    streams: BTreeMap<String, usize>,
    commands: usize,
}

impl Replay {
    fn run(&mut self, command: &Command) {
        self.commands += 1;
        let args = words(command);
        let name = args[0].to_ascii_uppercase();
        if name == "SELECT" {
            self.db = args[1].clone();
            return;
        }
        let key = format!("{}/{}", self.db, args.get(1).unwrap_or(&String::new()));
        let rest = args[args.len().min(2)..].to_vec();
        match &*name {
            "SET" => drop(self.strings.insert(key, rest[0].clone())),
            "RPUSH" => self.lists.entry(key).or_default().extend(rest),
            "SADD" => self.sets.entry(key).or_default().extend(rest),
            "HSET" | "HMSET" => {
                let pairs = rest.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                self.hashes.entry(key).or_default().extend(pairs);
            }
            "XADD" => *self.streams.entry(key).or_default() += 1,
            _ => {}
        }
    }

    fn value(&self, kind: &str, key: &str) -> Option<Json> {
        Some(match kind {
            "string" => json!(self.strings.get(key)?),
            "list" => json!(self.lists.get(key)?),
            "set" => json!(self.sets.get(key)?),
            "hash" => json!(self.hashes.get(key)?),
            _ => return None,
        })
    }
}

fn replay_dir(name: &str) -> Replay {
    let dir = redstart_persistence::file::DiskDir::new(fixture(name));
    let manifest = Manifest::load(&dir, "appendonly.aof").unwrap().unwrap();
    let mut replay = Replay { db: "0".into(), ..Replay::default() };
    for info in manifest.files_to_load() {
        let bytes = std::fs::read(fixture(name).join(&info.name)).unwrap();
        if begins_with_rdb(&bytes) {
            assert_eq!(info.file_type, FileType::Base);
            assert!(common::read_all(&*bytes).unwrap().keys.is_empty());
            continue;
        }
        let (items, error) = read_log(&bytes);
        assert!(error.is_none(), "{error:?}");
        for item in &items {
            match item {
                Item::Command(command) => replay.run(command),
                Item::Transaction(commands) => commands.iter().for_each(|command| replay.run(command)),
                Item::Timestamp(_) => {}
            }
        }
    }
    replay
}

fn check_against_expected(replay: &Replay) {
    let expected = std::fs::read(fixture("redis-7.2.6/expected.json")).unwrap();
    let expected: Json = serde_json::from_slice(&expected).unwrap();
    let mut compared = 0;
    for (key, entry) in expected.as_object().unwrap() {
        // Written bit by bit or by commands that need a real server.
        if ["bitmap", "hll:"].iter().any(|other| key.contains(other)) {
            continue;
        }
        let kind = entry["type"].as_str().unwrap();
        if let Some(value) = replay.value(kind, key) {
            assert!(value == entry["value"], "{key} differs");
            compared += 1;
        }
    }
    assert_eq!(compared, 3 * (7 + 3 + 3 + 3));
}

#[test]
fn incremental_log_of_redis() {
    let replay = replay_dir("redis-7.2.6/appendonlydir");
    check_against_expected(&replay);
    assert_eq!(replay.streams["3/stream:big"], 250);
}

#[test]
fn rewritten_log_of_redis() {
    let replay = replay_dir("redis-7.2.6/rewritten-no-preamble/appendonlydir");
    check_against_expected(&replay);
    assert_eq!(replay.streams["0/stream:big"], 249, "one entry was deleted and is not rewritten");
}

#[test]
fn a_cut_at_every_byte_of_a_redis_log() {
    let log = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#TS:5\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n\
                *1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*1\r\n$4\r\nEXEC\r\n";
    let (whole, error) = read_log(log);
    assert!(error.is_none());
    assert_eq!(whole.len(), 4);
    let good_ends = [0, 23, 30, 57, log.len()];
    for len in 0..=log.len() {
        let (items, error) = read_log(&log[..len]);
        let good_end = *good_ends.iter().rev().find(|end| **end <= len).unwrap();
        assert_eq!(items[..], whole[..items.len()], "a prefix");
        match error {
            None => assert_eq!(good_end, len),
            Some(AofError { kind: AofErrorKind::Truncated { valid_up_to, in_multi }, .. }) => {
                assert_eq!(valid_up_to, good_end as u64, "cut at {len}");
                assert_eq!(in_multi, len >= 57 + 15);
            }
            Some(other) => panic!("cut at {len}: {other}"),
        }
    }
}

#[test]
fn what_is_no_command_is_a_format_error() {
    let bad = [
        "hello\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*a\r\n",
        "*1\r\n:5\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$1\r\nabc",
        "*1\r\n$4\r\nEXEC\r\n",
    ];
    for log in bad.iter().map(|s| s.to_string()).chain([
        "*1\r\n$5\r\nMULTI\r\n".repeat(2),
        format!("*{}\r\n", "1".repeat(200)),
        format!("#{}\r\n", "x".repeat(2000)),
        "*1\r\n$99999999999999999999\r\n".to_owned(),
    ]) {
        let (_, error) = read_log(log.as_bytes());
        assert!(matches!(error.unwrap().kind, AofErrorKind::Format), "{log}");
    }
    // Claims that the file does not keep are a torn tail and cost no memory.
    for log in ["*1000000000\r\n", "*1\r\n$9000000000000000000\r\nx", "#RC:00000000 9999999999 s\r\nx"] {
        let (_, error) = read_log(log.as_bytes());
        assert!(matches!(error.unwrap().kind, AofErrorKind::Truncated { valid_up_to: 0, .. }), "{log}");
    }
}

/// Writes records `0..count` in batches of `per_batch`, every third as a transaction; gives how many records are known
/// to be on disk after each step. Stops at the first error.
fn write_records(dir: &CrashDir, fsync: Fsync, count: usize, per_batch: usize) -> usize {
    let Ok(file) = dir.create("log") else { return 0 };
    if dir.sync().is_err() {
        return 0;
    }
    let mut appender = Appender::new(file, 0, AppendOptions { fsync, no_fsync_on_rewrite: false }, 0);
    let mut buffer = LogBuffer::new(true, false);
    let mut promised = 0;
    for n in 0..count {
        let value = format!("value-{n}");
        let set = [b"SET" as &[u8], b"key", value.as_bytes()];
        if n % 3 == 2 {
            buffer.command(None, 0, [b"MULTI" as &[u8]].into_iter());
            buffer.command(Some(0), 0, set.into_iter());
            buffer.command(Some(0), 0, set.into_iter());
            buffer.command(None, 0, [b"EXEC" as &[u8]].into_iter());
        } else {
            buffer.command(Some(0), 0, set.into_iter());
        }
        if n % per_batch == per_batch - 1 {
            appender.push(buffer.take(Vec::new()));
            match appender.step(n as u64 * 400, false) {
                Ok(progress) if progress.synced == progress.pushed => promised = n + 1,
                Ok(_) => {}
                Err(_) => return promised,
            }
        }
    }
    promised
}

/// The numbers of the records that a log holds, and what is wrong behind them.
fn records(log: &[u8]) -> (Vec<usize>, Option<AofError>) {
    let (items, error) = read_log(log);
    let number = |command: &Command| words(command)[2].strip_prefix("value-").unwrap().parse().unwrap();
    let mut numbers = Vec::new();
    for item in &items {
        match item {
            Item::Command(command) if command.is("select") => {}
            Item::Command(command) => numbers.push(number(command)),
            Item::Transaction(commands) => {
                let commands: Vec<_> = commands.iter().filter(|c| !c.is("select")).collect();
                assert_eq!(commands.len(), 2);
                numbers.push(number(commands[0]));
            }
            Item::Timestamp(_) => panic!("no timestamps here"),
        }
    }
    (numbers, error)
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_promised() {
    for fsync in [Fsync::Always, Fsync::EverySec] {
        for cut in 0..60 {
            let dir = CrashDir::new();
            dir.fail(cut, Fault::PowerCut);
            let promised = write_records(&dir, fsync, 40, 2);
            let survivals = [Survival::Written, Survival::Synced].into_iter().chain((0..20).map(Survival::TornPages));
            for survival in survivals {
                let after = dir.after_crash(survival);
                let Some(log) = after.contents("log") else {
                    assert_eq!(promised, 0);
                    continue;
                };
                let (numbers, error) = records(&log);
                let prefix: Vec<usize> = (0..numbers.len()).collect();
                assert_eq!(numbers, prefix, "{fsync:?} {cut} {survival:?}");
                assert!(numbers.len() >= promised, "{fsync:?} {cut} {survival:?}: {} of {promised}", numbers.len());
                let Some(error) = error else { continue };
                let AofErrorKind::Truncated { valid_up_to, .. } = error.kind else {
                    panic!("{fsync:?} {cut} {survival:?}: {error}");
                };
                let (again, error) = records(&log[..valid_up_to as usize]);
                assert!(error.is_none(), "cut, the log is good");
                assert_eq!(again, numbers);
            }
        }
    }
}

#[test]
fn damage_before_synced_batches_is_named_and_refused() {
    let dir = CrashDir::new();
    write_records(&dir, Fsync::Always, 40, 2);
    let log = dir.contents("log").unwrap();
    let batches: Vec<usize> = log.windows(4).enumerate().filter(|(_, w)| *w == b"#RC:").map(|(at, _)| at).collect();
    let (whole, error) = records(&log);
    assert!(error.is_none());
    assert_eq!((whole.len(), batches.len()), (40, 20));
    for at in 0..log.len() {
        let mut damaged = log.clone();
        damaged[at] ^= 0x15;
        let batch = batches.iter().rev().find(|start| **start <= at).unwrap();
        let (numbers, error) = records(&damaged);
        assert_eq!(numbers[..], whole[..numbers.len()], "flip at {at}");
        match error.map(|error| (error.offset, error.kind)) {
            // The header has become a comment; the commands behind it are what they were.
            None => assert!(at - batch < 27 && numbers == whole, "flip at {at}"),
            Some((offset, AofErrorKind::Damaged { good_at })) => {
                assert!((*batch..=at.max(batch + 40)).contains(&(offset as usize)), "flip at {at}: {offset}");
                assert!(batches.contains(&(good_at as usize)) && good_at > offset);
            }
            Some((_, AofErrorKind::Truncated { valid_up_to, .. })) => {
                assert_eq!(*batch, batches[19], "only the last batch may pass for torn");
                assert!(valid_up_to as usize >= *batch);
                assert_eq!(records(&damaged[..valid_up_to as usize]).0, numbers);
            }
            Some((_, other)) => panic!("flip at {at}: {other:?}"),
        }
    }
}

#[test]
fn a_cut_at_every_byte_of_our_log() {
    let dir = CrashDir::new();
    write_records(&dir, Fsync::Always, 12, 3);
    let log = dir.contents("log").unwrap();
    for len in 0..log.len() {
        let (numbers, error) = records(&log[..len]);
        assert_eq!(numbers.len() % 3, 0, "whole batches only");
        match error.map(|error| error.kind) {
            None => {}
            Some(AofErrorKind::Truncated { valid_up_to, .. }) => {
                assert!(records(&log[..valid_up_to as usize]).1.is_none());
            }
            Some(other) => panic!("cut at {len}: {other:?}"),
        }
    }
}

#[test]
fn what_redis_appends_to_our_log_is_read_by_its_rules() {
    let dir = CrashDir::new();
    write_records(&dir, Fsync::Always, 4, 2);
    let ours = dir.contents("log").unwrap();
    let theirs = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$7\r\nvalue-4\r\n";
    let log = [&ours[..], theirs, theirs].concat();
    let (numbers, error) = records(&log);
    assert_eq!(numbers, [0, 1, 2, 3, 4, 4]);
    assert!(error.is_none());
    let (numbers, error) = records(&log[..log.len() - 3]);
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    // Cut behind Redis's last good command, not in front of all it wrote.
    let good = ours.len() + theirs.len() + 23;
    assert!(matches!(error.unwrap().kind, AofErrorKind::Truncated { valid_up_to, .. } if valid_up_to == good as u64));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn foreign_bytes_never_panic(log in proptest::collection::vec(prop_oneof![
        Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
        Just(b"#RC:00000000 0000000000 s\r\n".to_vec()),
        Just(b"#RC:1234abcd 0000000014 s\r\n".to_vec()),
        Just(b"#RC:1234abcd 0000000014 -\r\n".to_vec()),
        Just(b"*1\r\n$5\r\nMULTI\r\n".to_vec()),
        Just(b"*1\r\n$4\r\nEXEC\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ], 0..30)) {
        read_log(&log.concat());
    }

    #[test]
    fn any_arguments_round_trip(
        commands in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), 1..20),
        checksums in any::<bool>(),
    ) {
        let mut buffer = LogBuffer::new(checksums, false);
        for command in &commands {
            buffer.command(None, 0, command.iter().map(|arg| &arg[..]));
        }
        let (items, error) = read_log(&buffer.take(Vec::new()));
        prop_assert!(error.is_none());
        prop_assert_eq!(items.len(), commands.len());
        for (item, command) in items.iter().zip(&commands) {
            let Item::Command(read) = item else { panic!("{item:?}") };
            prop_assert_eq!(read.args().map(|arg| arg.to_vec()).collect::<Vec<_>>(), command.clone());
        }
    }
}
