//! `redis-check-rdb` and `redis-check-aof` as names of the binary, on files that are good, cut and damaged.
//!
//! What is expected is what Redis 7.2.6 prints; `CHECK_TOOLS=<folder with Redis's programs>` compares with those.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory of one test's own, with the binary under its other names.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("redstart-check-{name}-{}", std::process::id()));
        let _: Result<_, _> = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("bin")).unwrap();
        for program in ["redis-check-rdb", "redis-check-aof"] {
            symlink(env!("CARGO_BIN_EXE_redstart"), path.join("bin").join(program)).unwrap();
        }
        Scratch(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }

    /// What the program prints and its exit code; compared with what Redis's prints, where it is there.
    fn run(&self, program: &str, arguments: &[&str]) -> (String, i32) {
        let ours = self.run_in(&self.0.join("bin"), program, arguments, "");
        if let Some(theirs) = std::env::var_os("CHECK_TOOLS") {
            assert_eq!(ours, self.run_in(Path::new(&theirs), program, arguments, ""), "{program} {arguments:?}");
        }
        ours
    }

    fn run_here(&self, program: &str, arguments: &[&str], input: &str) -> (String, i32) {
        self.run_in(&self.0.join("bin"), program, arguments, input)
    }

    fn run_in(&self, bin: &Path, program: &str, arguments: &[&str], input: &str) -> (String, i32) {
        let mut command = Command::new(bin.join(program));
        command.args(arguments).current_dir(&self.0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _: Result<_, _> = fs::remove_dir_all(&self.0);
    }
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("persistence/tests/fixtures").join(name)).unwrap()
}

#[test]
fn a_sound_rdb_file() {
    let scratch = Scratch::new("good-rdb");
    scratch.file("dump.rdb", &fixture("redis-7.2.6/dump.rdb"));
    let (text, code) = scratch.run("redis-check-rdb", &["dump.rdb"]);
    let expected = "[offset 0] Checking RDB file dump.rdb\n[offset 26] AUX FIELD redis-ver = '7.2.6'\n";
    assert!(text.starts_with(expected), "{text}");
    let expected = "[offset 195281] Checksum OK\n[offset 195281] \\o/ RDB looks OK! \\o/\n[info] 72 keys read\n\
                    [info] 3 expires\n[info] 0 already expired\n";
    assert!(text.ends_with(expected), "{text}");
    assert_eq!(code, 0);
}

#[test]
fn rdb_files_that_are_not_sound() {
    let scratch = Scratch::new("bad-rdb");
    let good = fixture("redis-7.2.6/dump.rdb");
    let mut flipped = good.clone();
    flipped[20_000] ^= 0xff;
    scratch.file("crc.rdb", &flipped);
    let (text, code) = scratch.run("redis-check-rdb", &["crc.rdb"]);
    let expected = "--- RDB ERROR DETECTED ---\n[offset 195281] RDB CRC error\n[additional info] While doing: check-sum\n\
                    [info] 72 keys read\n";
    assert!(text.contains(expected) && code == 1, "{code} {text}");
    scratch.file("cut.rdb", &good[..3000]);
    let (text, code) = scratch.run("redis-check-rdb", &["cut.rdb"]);
    let expected = "[offset 2732] Unexpected EOF reading RDB file\n[additional info] While doing: read-object-value\n\
                    [additional info] Reading key 'hll:dense'\n[additional info] Reading type 0 (string)\n";
    assert!(text.contains(expected) && code == 1, "{code} {text}");
    scratch.file("other.rdb", b"SREDI0011 and more");
    let (text, code) = scratch.run("redis-check-rdb", &["other.rdb"]);
    assert!(text.contains("[offset 9] Wrong signature trying to load DB from file\n") && code == 1, "{code} {text}");
    scratch.file("ziplist.rdb", &fixture("older/corrupt_ziplist.rdb"));
    let (text, code) = scratch.run_here("redis-check-rdb", &["ziplist.rdb"], "");
    let expected = "Hash ziplist integrity check failed.\n[additional info] While doing: read-object-value\n\
                    [additional info] Reading key 'key:000000000091'\n[additional info] Reading type 13 (hash-ziplist)\n\
                    [info] 16 keys read\n";
    assert!(text.contains(expected) && code == 1, "{code} {text}");
    scratch.file("empty.rdb", &fixture("older/corrupt_empty_keys.rdb"));
    assert_eq!(scratch.run("redis-check-rdb", &["empty.rdb"]).1, 1);
    assert_eq!(scratch.run("redis-check-rdb", &["missing.rdb"]).1, 1);
    assert_eq!(scratch.run("redis-check-rdb", &[]).1, 1);
}

/// Wherever a file is cut, the tool says so and ends; where Redis's is at hand, in the same words.
#[test]
fn an_rdb_file_cut_at_many_places() {
    let scratch = Scratch::new("cut-rdb");
    let good = fixture("redis-7.2.6/dump.rdb");
    for len in (0..200).step_by(9).chain((200..good.len()).step_by(9973)) {
        scratch.file("cut.rdb", &good[..len]);
        assert_eq!(scratch.run_here("redis-check-rdb", &["cut.rdb"], "").1, 1, "{len}");
    }
}

fn log_dir(scratch: &Scratch) {
    for name in ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof", "appendonly.aof.manifest"] {
        scratch.file(name, &fixture(&format!("redis-7.2.6/appendonlydir/{name}")));
    }
}

#[test]
fn a_sound_log() {
    let scratch = Scratch::new("good-aof");
    log_dir(&scratch);
    let (text, code) = scratch.run("redis-check-aof", &["appendonly.aof.manifest"]);
    assert!(text.starts_with("Start checking Multi Part AOF\nStart to check BASE AOF (RDB format).\n"), "{text}");
    let expected = "INCR AOF appendonly.aof.1.incr.aof is valid\nAll AOF files and manifest are valid\n";
    assert!(text.ends_with(expected) && code == 0, "{code} {text}");
    let (text, code) = scratch.run("redis-check-aof", &["appendonly.aof.1.incr.aof"]);
    let expected = "Start checking Old-Style AOF\nAOF analyzed: filename=appendonly.aof.1.incr.aof, size=2106215, \
                    ok_up_to=2106215, ok_up_to_line=173644, diff=0\nAOF appendonly.aof.1.incr.aof is valid\n";
    assert_eq!((text.as_str(), code), (expected, 0));
    scratch.file("old.aof", &fixture("older/rdb-preamble.aof"));
    assert_eq!(scratch.run("redis-check-aof", &["old.aof"]).1, 0);
    scratch.file("empty.aof", b"");
    let (text, code) = scratch.run("redis-check-aof", &["empty.aof"]);
    assert_eq!((text.as_str(), code), ("Start checking Old-Style AOF\nAOF empty.aof is empty\n", 0));
    assert_eq!(scratch.run("redis-check-aof", &["missing.aof"]).1, 1);
    assert_eq!(scratch.run("redis-check-aof", &["--fix"]).1, 1);
}

#[test]
fn a_cut_log_is_mended_after_asking() {
    let scratch = Scratch::new("cut-aof");
    log_dir(&scratch);
    let name = "appendonly.aof.1.incr.aof";
    scratch.file(name, &scratch.read(name)[..100_000]);
    let (text, code) = scratch.run("redis-check-aof", &["appendonly.aof.manifest"]);
    let expected = "0x             524: Expected to read 100002 bytes, got 98684 bytes\nAOF analyzed: \
                    filename=appendonly.aof.1.incr.aof, size=100000, ok_up_to=1271, ok_up_to_line=50, diff=98729\nAOF \
                    appendonly.aof.1.incr.aof is not valid. Use the --fix option to try fixing it.\n";
    assert!(text.ends_with(expected) && code == 1, "{code} {text}");
    let (text, code) = scratch.run_here("redis-check-aof", &["--fix", "appendonly.aof.manifest"], "n\n");
    assert!(text.ends_with("Continue? [y/N]: Aborting...\n") && code == 1, "{code} {text}");
    assert_eq!(scratch.read(name).len(), 100_000);
    let (text, code) = scratch.run_here("redis-check-aof", &["--fix", "appendonly.aof.manifest"], "y\n");
    let expected = "Successfully truncated AOF appendonly.aof.1.incr.aof\nAll AOF files and manifest are valid\n";
    assert!(text.ends_with(expected) && code == 0, "{code} {text}");
    assert_eq!(scratch.read(name).len(), 1271);
    assert_eq!(scratch.run("redis-check-aof", &["appendonly.aof.manifest"]).1, 0);
}

#[test]
fn logs_that_are_not_sound() {
    let scratch = Scratch::new("bad-aof");
    let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let multi = "*1\r\n$5\r\nMULTI\r\n";
    let exec = "*1\r\n$4\r\nEXEC\r\n";
    for (bytes, complaint) in [
        (format!("{set}x{set}"), "AOF bad.aof format error\n"),
        (format!("{set}{multi}{set}"), "Reached EOF before reading EXEC for MULTI\n"),
        (format!("{multi}{set}{multi}"), "Unexpected MULTI in AOF bad.aof\n"),
        (format!("{set}{exec}"), "Unexpected EXEC in AOF bad.aof\n"),
        (format!("{set}*1\r\n$2\r\nABC\r\n"), "Expected \\r\\n, got: 430d\n"),
        (format!("{set}*1\r\n:2\r\nAB\r\n"), "Expected prefix '$', got: ':'\n"),
        (
            format!("{set}*1\r\n$-2\r\nAB\r\n"),
            "Expected to read string of -2 bytes, which is not in the suitable range\n",
        ),
        (format!("{set}*1\r\n$99999999\r\nAB\r\n"), "Expected to read 100000001 bytes, got 4 bytes\n"),
    ] {
        scratch.file("bad.aof", bytes.as_bytes());
        let (text, code) = scratch.run("redis-check-aof", &["bad.aof"]);
        assert!(text.contains(complaint) && code == 1, "{bytes:?}: {code} {text}");
    }
    for manifest in ["file x seq 1 type b\nnonsense\n", "file x seq 1 type b", "file x seq 1 type b\n"] {
        scratch.file("m", manifest.as_bytes());
        assert_eq!(scratch.run_here("redis-check-aof", &["m"], "").1, 1, "{manifest}");
    }
}

#[test]
fn a_log_is_cut_to_a_time() {
    let scratch = Scratch::new("time-aof");
    let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    scratch.file("log.aof", format!("#TS:100\r\n{set}#TS:200\r\n{set}#TS:300\r\n{set}").as_bytes());
    let cut =
        |timestamp: &str| scratch.run_here("redis-check-aof", &["--truncate-to-timestamp", timestamp, "log.aof"], "");
    assert_eq!(cut("300").1, 0);
    let (text, code) = cut("250");
    assert!(text.ends_with("Successfully truncated AOF log.aof to timestamp 250\n") && code == 0, "{code} {text}");
    assert_eq!(scratch.read("log.aof"), format!("#TS:100\r\n{set}#TS:200\r\n{set}").as_bytes());
    let (text, code) = cut("99");
    assert!(text.ends_with("has nothing before timestamp 99, aborting...\n") && code == 1, "{code} {text}");
    assert_eq!(cut("x"), ("Invalid timestamp, aborting...\n".to_owned(), 1));
}

/// Checksum lines are this server's own: damage that Redis's tool cannot see is seen.
#[test]
fn checksums_of_batches() {
    let scratch = Scratch::new("sum-aof");
    let mut buffer = redstart_persistence::aof::LogBuffer::new(true, false);
    for n in 0..3 {
        let value = format!("value-{n}");
        buffer.command(Some(0), 0, [b"SET".as_slice(), b"k", value.as_bytes()].into_iter());
    }
    let first = buffer.take(Vec::new());
    buffer.command(Some(0), 0, [b"DEL".as_slice(), b"k"].into_iter());
    let whole = [first.clone(), buffer.take(Vec::new())].concat();
    scratch.file("log.aof", &whole);
    assert_eq!(scratch.run("redis-check-aof", &["log.aof"]).1, 0);
    let flip = whole.windows(7).position(|bytes| bytes == b"value-1").unwrap() + 6;
    let mut flipped = whole.clone();
    flipped[flip] = b'7';
    scratch.file("log.aof", &flipped);
    let (text, code) = scratch.run_here("redis-check-aof", &["log.aof"], "");
    assert!(text.contains("The checksum of a batch of") && text.contains("ok_up_to=0,") && code == 1, "{code} {text}");
    scratch.file("log.aof", &whole[..whole.len() - 3]);
    let (text, code) = scratch.run_here("redis-check-aof", &["log.aof"], "");
    assert!(text.contains(&format!("ok_up_to={},", first.len())) && code == 1, "{code} {text}");
}
