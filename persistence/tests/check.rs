//! The check tools say what those of Redis 7.2.6 said of the same files.
#![allow(clippy::unwrap_used)]

mod common;

use common::fixture;
use redstart_persistence::aof::{AppendOptions, Appender, Fsync, LogBuffer};
use redstart_persistence::check::{AofCheck, RdbCheck, aof_main, rdb_main};
use redstart_persistence::file::{Dir, DiskDir};
use std::path::PathBuf;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn rdb(words: &[&str]) -> (i32, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut check = RdbCheck { now_ms: 2_000_000_000_000, validate: &mut |_, _| Ok(()), progress: &mut |_| {} };
    let code = rdb_main(&strings(words), "7.2.6", &mut check, &mut out, &mut err).unwrap();
    out.extend_from_slice(&err);
    (code, String::from_utf8(out).unwrap())
}

fn aof(words: &[&str], answer: &str) -> (i32, String) {
    let mut out = Vec::new();
    let mut rdb = RdbCheck { now_ms: 0, validate: &mut |_, _| Ok(()), progress: &mut |_| {} };
    let mut answers = answer.as_bytes();
    let mut check = AofCheck { fix: false, truncate_to_s: None, answers: &mut answers, rdb: &mut rdb };
    let code = aof_main(&strings(words), &mut check, &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

/// A directory of this test's own.
fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _: Result<_, _> = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_good_rdb_file() {
    let path = fixture("redis-7.2.6/dump.rdb");
    let name = path.to_str().unwrap();
    let wanted = format!(
        "[offset 0] Checking RDB file {name}\n\
         [offset 26] AUX FIELD redis-ver = '7.2.6'\n\
         [offset 40] AUX FIELD redis-bits = '64'\n\
         [offset 52] AUX FIELD ctime = '1795385470'\n\
         [offset 67] AUX FIELD used-mem = '3446864'\n\
         [offset 79] AUX FIELD aof-base = '0'\n\
         [offset 166] Selecting DB ID 0\n\
         [offset 65202] Selecting DB ID 3\n\
         [offset 130238] Selecting DB ID 15\n\
         [offset 195281] Checksum OK\n\
         [offset 195281] \\o/ RDB looks OK! \\o/\n\
         [info] 72 keys read\n\
         [info] 3 expires\n\
         [info] 0 already expired\n"
    );
    assert_eq!(rdb(&["redis-check-rdb", name]), (0, wanted));
}

#[test]
fn damaged_rdb_files() {
    let dir = scratch("damaged_rdb");
    let cut = dir.join("cut.rdb");
    let whole = std::fs::read(fixture("redis-7.2.6/dump.rdb")).unwrap();
    std::fs::write(&cut, &whole[..90000]).unwrap();
    let (code, text) = rdb(&["redis-check-rdb", cut.to_str().unwrap()]);
    let wanted = "--- RDB ERROR DETECTED ---\n\
                  [offset 89273] Unexpected EOF reading RDB file\n\
                  [additional info] While doing: read-object-value\n\
                  [additional info] Reading key 'list:quicklist'\n\
                  [additional info] Reading type 18 (quicklist-v2)\n\
                  [info] 40 keys read\n\
                  [info] 2 expires\n\
                  [info] 0 already expired\n";
    assert!(code == 1 && text.ends_with(wanted), "{text}");

    let path = fixture("older/corrupt_ziplist.rdb");
    let (code, text) = rdb(&["redis-check-rdb", path.to_str().unwrap()]);
    let wanted = "[offset 494] Internal error in RDB reading offset 494 -> Hash ziplist integrity check failed.\n\
                  [additional info] While doing: read-object-value\n\
                  [additional info] Reading key 'key:000000000091'\n\
                  [additional info] Reading type 13 (hash-ziplist)\n\
                  [info] 16 keys read\n";
    assert!(code == 1 && text.contains(wanted), "{text}");

    let path = fixture("older/corrupt_empty_keys.rdb");
    let (code, text) = rdb(&["redis-check-rdb", path.to_str().unwrap()]);
    let wanted = "[offset 100] Unexpected EOF reading RDB file\n\
                  [additional info] While doing: read-object-value\n\
                  [additional info] Reading key 'set'\n\
                  [additional info] Reading type 2 (set-hashtable)\n";
    assert!(code == 1 && text.contains(wanted), "{text}");

    std::fs::write(&cut, "REDIS0099").unwrap();
    let (code, text) = rdb(&["redis-check-rdb", cut.to_str().unwrap()]);
    let wanted = "[offset 9] Can't handle RDB format version 99\n\
                  [additional info] While doing: start\n\
                  [additional info] Reading type 0 (string)\n";
    assert!(code == 1 && text.contains(wanted), "{text}");
}

#[test]
fn rdb_program() {
    assert_eq!(rdb(&["redis-check-rdb"]), (1, "Usage: redis-check-rdb <rdb-file-name>\n".to_owned()));
    assert_eq!(rdb(&["redis-check-rdb", "--version"]), (0, "redis-check-rdb 7.2.6\n".to_owned()));
    assert_eq!(
        rdb(&["redis-check-rdb", "no-such-file"]),
        (1, "[offset 0] Checking RDB file no-such-file\n".to_owned())
    );
}

#[test]
fn good_logs() {
    let preamble = fixture("older/rdb-preamble.aof");
    let name = preamble.to_str().unwrap();
    let (code, text) = aof(&["redis-check-aof", name], "");
    assert!(
        text.starts_with(&format!("Start checking Old-Style AOF\n[offset 0] Checking RDB file {name}\n")),
        "{text}"
    );
    let wanted = format!(
        "[offset 117] Checksum OK\n\
         [offset 117] \\o/ RDB looks OK! \\o/\n\
         [info] 2 keys read\n\
         [info] 0 expires\n\
         [info] 0 already expired\n\
         RDB preamble is OK, proceeding with AOF tail...\n\
         AOF analyzed: filename={name}, size=169, ok_up_to=169, ok_up_to_line=13, diff=0\n\
         AOF {name} is valid\n"
    );
    assert!(code == 0 && text.ends_with(&wanted), "{text}");

    let manifest = fixture("redis-7.2.6/appendonlydir/appendonly.aof.manifest");
    let (code, text) = aof(&["redis-check-aof", manifest.to_str().unwrap()], "");
    let wanted = "RDB preamble is OK, proceeding with AOF tail...\n\
                  AOF analyzed: filename=appendonly.aof.1.base.rdb, size=88, ok_up_to=88, ok_up_to_line=1, diff=0\n\
                  BASE AOF appendonly.aof.1.base.rdb is valid\n\
                  Start to check INCR files.\n\
                  AOF analyzed: filename=appendonly.aof.1.incr.aof, size=2106215, ok_up_to=2106215, ok_up_to_line=173644, diff=0\n\
                  INCR AOF appendonly.aof.1.incr.aof is valid\n\
                  All AOF files and manifest are valid\n";
    assert!(code == 0 && text.ends_with(wanted), "{text}");
    assert!(text.starts_with("Start checking Multi Part AOF\nStart to check BASE AOF (RDB format).\n"), "{text}");
}

#[test]
fn a_torn_log_is_cut_if_the_user_says_so() {
    let dir = scratch("torn_log");
    let path = dir.join("y.aof");
    let name = path.to_str().unwrap();
    let whole = std::fs::read(fixture("redis-7.2.6/appendonlydir/appendonly.aof.1.incr.aof")).unwrap();
    std::fs::write(&path, &whole[..2000]).unwrap();
    let analyzed = format!(
        "Start checking Old-Style AOF\n\
         0x             524: Expected to read 100002 bytes, got 684 bytes\n\
         AOF analyzed: filename={name}, size=2000, ok_up_to=1271, ok_up_to_line=50, diff=729\n"
    );
    let wanted = format!("{analyzed}AOF {name} is not valid. Use the --fix option to try fixing it.\n");
    assert_eq!(aof(&["redis-check-aof", name], ""), (1, wanted));
    let offer = format!(
        "{analyzed}This will shrink the AOF {name} from 2000 bytes, with 729 bytes, to 1271 bytes\nContinue? [y/N]: "
    );
    assert_eq!(aof(&["redis-check-aof", "--fix", name], "n\n"), (1, format!("{offer}Aborting...\n")));
    let wanted = format!("{offer}Successfully truncated AOF {name}\n");
    assert_eq!(aof(&["redis-check-aof", "--fix", name], "Yes\n"), (0, wanted));
    assert_eq!(std::fs::read(&path).unwrap(), whole[..1271]);
    let wanted = format!(
        "Start checking Old-Style AOF\n\
         AOF analyzed: filename={name}, size=1271, ok_up_to=1271, ok_up_to_line=44, diff=0\n\
         AOF {name} is valid\n"
    );
    assert_eq!(aof(&["redis-check-aof", name], ""), (0, wanted));
}

#[test]
fn complaints_about_logs() {
    let dir = scratch("complaints");
    let path = dir.join("x.aof");
    let name = path.to_str().unwrap();
    let head = "Start checking Old-Style AOF\n";
    let analyzed = |size, line| {
        format!("AOF analyzed: filename={name}, size={size}, ok_up_to=0, ok_up_to_line={line}, diff={size}\n")
    };
    let end = format!("AOF {name} is not valid. Use the --fix option to try fixing it.\n");
    for (log, complaint, line) in [
        ("hello", format!("AOF {name} format error"), 1),
        ("*1\r\n+4\r\nPING\r\n", "0x               4: Expected prefix '$', got: '+'".into(), 2),
        ("*1\r\n$4\r\nPINGxx", "0x               8: Expected \\r\\n, got: 7878".into(), 3),
        ("*1x\r\n", "0x               0: Expected \\r\\n, got: 780d".into(), 1),
        ("*1\r\n$5\r\nMULTI\r\n", "0x               8: Reached EOF before reading EXEC for MULTI".into(), 4),
        ("*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nPI", "0x              17: Expected to read 6 bytes, got 2 bytes".into(), 6),
        (
            "*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nMULTI\r\n",
            format!("0x              17: Unexpected MULTI in AOF {name}"),
            7,
        ),
        ("*1\r\n$4\r\nEXEC\r\n", format!("0x               8: Unexpected EXEC in AOF {name}"), 4),
        (
            "*1\r\n$-4\r\n",
            "0x               4: Expected to read string of -4 bytes, which is not in the suitable range".into(),
            3,
        ),
    ] {
        std::fs::write(&path, log).unwrap();
        let wanted = format!("{head}{complaint}\n{}{end}", analyzed(log.len(), line));
        assert_eq!(aof(&["redis-check-aof", name], ""), (1, wanted), "{log:?}");
    }
    std::fs::write(&path, "").unwrap();
    assert_eq!(aof(&["redis-check-aof", name], ""), (0, format!("{head}AOF {name} is empty\n")));
    let usage = "Usage: redis-check-aof [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>\n";
    assert_eq!(aof(&["redis-check-aof"], ""), (1, usage.to_owned()));
    let wanted = "Cannot open file /no/such/file: No such file or directory\n";
    assert_eq!(aof(&["redis-check-aof", "/no/such/file"], ""), (1, wanted.to_owned()));
}

/// A log of ours with a timestamp every second.
fn our_log(dir: &DiskDir) {
    let options = AppendOptions { fsync: Fsync::Always, no_fsync_on_rewrite: false };
    let mut appender = Appender::new(dir.create("log").unwrap(), 0, options, 0);
    let mut buffer = LogBuffer::new(true, true);
    for second in 100..110 {
        buffer.command(Some(0), second, [b"INCR" as &[u8], b"n"].into_iter());
        appender.push(buffer.take(Vec::new()));
        appender.step(0, false).unwrap();
    }
}

#[test]
fn cutting_to_a_timestamp_leaves_whole_batches() {
    let dir = DiskDir::new(scratch("timestamp"));
    our_log(&dir);
    let path = dir.path().join("log");
    let name = path.to_str().unwrap();
    let (code, text) = aof(&["redis-check-aof", "--truncate-to-timestamp", "104", name], "");
    let wanted = format!("Start checking Old-Style AOF\nSuccessfully truncated AOF {name} to timestamp 104\n");
    assert_eq!((code, text), (0, wanted));
    let (code, text) = aof(&["redis-check-aof", "--truncate-to-timestamp", "104", name], "");
    let wanted =
        format!("Start checking Old-Style AOF\nTruncate nothing in AOF {name} to timestamp 104\nAOF {name} is valid\n");
    assert_eq!((code, text), (0, wanted));
    let (code, text) = aof(&["redis-check-aof", "--truncate-to-timestamp", "99", name], "");
    assert_eq!(code, 1);
    assert!(text.ends_with("has nothing before timestamp 99, aborting...\n"), "{text}");
    let (code, text) = aof(&["redis-check-aof", "--truncate-to-timestamp", "x", name], "");
    assert_eq!((code, &*text), (1, "Invalid timestamp, aborting...\n"));
}

#[test]
fn damaged_batches_are_found() {
    let dir = DiskDir::new(scratch("damaged_batch"));
    our_log(&dir);
    let path = dir.path().join("log");
    let name = path.to_str().unwrap();
    let mut log = std::fs::read(&path).unwrap();
    let at = log.windows(4).rposition(|w| w == b"INCR").unwrap() - 100;
    let at = at + log[at..].windows(4).position(|w| w == b"INCR").unwrap();
    log[at] = b'D';
    log[at + 1] = b'E';
    std::fs::write(&path, &log).unwrap();
    let (code, text) = aof(&["redis-check-aof", name], "");
    assert_eq!(code, 1);
    assert!(text.contains("does not match its checksum"), "{text}");
    assert!(text.contains("is not valid. Use the --fix option"), "{text}");
}
