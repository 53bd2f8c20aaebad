//! `redis-check-rdb` and `redis-check-aof`: what is wrong with a file, in Redis's words and exit codes.
//!
//! Files are read as a stream. Of an RDB file one value at a time is in memory, put together as loading would do it: what
//! passes here loads. Of a log nothing is, whatever lengths it claims.

mod aof;
mod console;
mod rdb;

use console::Console;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// `redis-check-rdb <file>`: prints what the file holds, and whether it is sound. `program` is the name to call it by.
pub fn rdb_program(program: &[u8], arguments: &[Vec<u8>]) -> ExitCode {
    let [path] = arguments else {
        eprintln!("Usage: {} <rdb-file-name>", String::from_utf8_lossy(program));
        return ExitCode::FAILURE;
    };
    with_standard_streams(|console| {
        if path == b"-v" || path == b"--version" {
            console.line(format_args!("redis-check-rdb {}", crate::os::banner::REDIS_VERSION))?;
            return Ok(true);
        }
        rdb::check_path(console, path)
    })
}

/// Prints on standard output what `redis-check-rdb` finds in a file that could not be loaded. A pipe is left alone: it
/// cannot be read twice.
pub fn show_rdb(path: &Path) {
    if !path.is_file() {
        return;
    }
    let (mut out, mut nobody) = (io::stdout().lock(), io::empty());
    let mut console = Console::new(&mut out, &mut nobody, false);
    // Nobody can be told that standard output is closed.
    let _ = rdb::check_path(&mut console, path.as_os_str().as_bytes());
}

/// `redis-check-aof [--fix | --truncate-to-timestamp <Unix time>] <manifest or file>`: prints whether the log is sound,
/// and cuts its last file if asked to. `program` is the name to call it by.
pub fn aof_program(program: &[u8], arguments: &[Vec<u8>]) -> ExitCode {
    with_standard_streams(|console| {
        let words: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let (path, wish) = match words.as_slice() {
            [path] => (*path, aof::Wish::Look),
            [b"--fix", path] => (*path, aof::Wish::Fix),
            [b"--truncate-to-timestamp", number, path] => {
                let Some(timestamp) = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()) else {
                    console.line("Invalid timestamp, aborting...")?;
                    return Ok(false);
                };
                (*path, aof::Wish::CutAfter(timestamp))
            }
            _ => {
                let program = String::from_utf8_lossy(program);
                console.line(format_args!(
                    "Usage: {program} [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>"
                ))?;
                return Ok(false);
            }
        };
        aof::check(console, path_of(path), wish)
    })
}

fn with_standard_streams(check: impl FnOnce(&mut Console) -> io::Result<bool>) -> ExitCode {
    let mut out: Box<dyn Write> = Box::new(io::stdout().lock());
    let mut input: Box<dyn BufRead> = Box::new(io::stdin().lock());
    let mut console = Console::new(&mut *out, &mut *input, io::IsTerminal::is_terminal(&io::stderr()));
    match check(&mut console) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// What a C program prints of a string: the bytes before the first zero.
fn c_text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn len(file: &File) -> io::Result<u64> {
    file.metadata().map(|metadata| metadata.len())
}
