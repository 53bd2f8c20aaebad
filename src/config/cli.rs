//! The command line: `redis-server [file] [--directive value ...] [-]`, and the other programs Redis installs under
//! names of their own.

use std::path::PathBuf;

use crate::util::quote;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Run a server.
    Serve {
        /// The configuration file, as named.
        file: Option<PathBuf>,
        /// More of it comes from standard input.
        stdin: bool,
        /// Options, as lines of a configuration file.
        options: Vec<u8>,
    },
    /// Print the version.
    Version,
    /// Print how to call the program.
    Help,
    /// Write and read back this many megabytes of memory; `None`: the number is missing.
    TestMemory(Option<u64>),
    /// Look for settings of the machine that hurt.
    CheckSystem,
    /// `redis-check-rdb` with these arguments.
    CheckRdb(Vec<Vec<u8>>),
    /// `redis-check-aof` with these arguments.
    CheckAof(Vec<Vec<u8>>),
    /// A program of Redis that is not part of this one.
    NotHere(&'static str),
}

/// The programs Redis also is, or installs beside the server, that are not part of this one.
const MISSING_PROGRAMS: [&str; 3] = ["redis-sentinel", "redis-cli", "redis-benchmark"];

/// Reads the arguments; `argv[0]` is the name the program was started as.
pub fn parse(argv: &[Vec<u8>]) -> Invocation {
    let (program, arguments) = argv.split_first().map_or((&[][..], &[][..]), |(name, rest)| (name.as_slice(), rest));
    if let Some(missing) = missing_program(program, arguments) {
        return Invocation::NotHere(missing);
    }
    if is_called(program, "redis-check-rdb") {
        return Invocation::CheckRdb(arguments.to_vec());
    }
    if is_called(program, "redis-check-aof") {
        return Invocation::CheckAof(arguments.to_vec());
    }
    let words: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    match words.as_slice() {
        [b"-v" | b"--version", ..] => Invocation::Version,
        [b"-h" | b"--help", ..] => Invocation::Help,
        [b"--test-memory", megabytes] => {
            Invocation::TestMemory(std::str::from_utf8(megabytes).ok().and_then(|number| number.parse().ok()))
        }
        [b"--test-memory", ..] => Invocation::TestMemory(None),
        [b"--check-system", ..] => Invocation::CheckSystem,
        [b"--check-rdb", ..] => Invocation::CheckRdb(arguments[1..].to_vec()),
        [b"--check-aof", ..] => Invocation::CheckAof(arguments[1..].to_vec()),
        _ => serve(&words),
    }
}

fn missing_program(program: &[u8], arguments: &[Vec<u8>]) -> Option<&'static str> {
    let sentinel = arguments.iter().any(|argument| argument == b"--sentinel");
    let called = MISSING_PROGRAMS.into_iter().find(|known| is_called(program, known));
    called.or_else(|| sentinel.then_some("redis-sentinel"))
}

/// Whether the name a program was started as, without its directories, contains `known`.
fn is_called(program: &[u8], known: &str) -> bool {
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.windows(known.len()).any(|window| window == known.as_bytes())
}

/// The first argument is the file unless it starts with a dash. `-` at either end stands for standard input.
fn serve(arguments: &[&[u8]]) -> Invocation {
    let file = arguments.first().filter(|first| !first.starts_with(b"-"));
    let mut stdin = false;
    let mut options = Options::default();
    for (index, &argument) in arguments.iter().enumerate().skip(usize::from(file.is_some())) {
        let next = arguments.get(index + 1).copied();
        if argument == b"-" && (index == 0 || next.is_none()) {
            stdin = true;
        } else if argument.starts_with(b"--") && !options.needs_value {
            options.start(&argument[2..], next);
        } else {
            options.value(argument);
        }
    }
    let file = file.map(|path| {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(std::ffi::OsStr::from_bytes(path.trim_ascii()))
    });
    Invocation::Serve { file, stdin, options: options.lines }
}

/// The options as configuration lines. Values reach up to the next argument that starts with `--`, but the first value
/// may start so itself.
#[derive(Default)]
struct Options {
    lines: Vec<u8>,
    needs_value: bool,
}

impl Options {
    /// A line for `--<option>`. It may hold its value: `"--maxmemory 700mb"`.
    fn start(&mut self, option: &[u8], next: Option<&[u8]>) {
        if !self.lines.is_empty() {
            self.lines.push(b'\n');
        }
        self.lines.extend(option);
        self.lines.push(b' ');
        // What the quotes make of it is the file reader's to judge.
        let alone = quote::split(option).is_ok_and(|words| words.len() <= 1);
        self.needs_value = alone;
        // `--save` without a value turns saving off: scripts make it from an empty list.
        let followed_by_option = next.is_some_and(|next| next.starts_with(b"--"));
        if option.eq_ignore_ascii_case(b"save") && (next.is_none() || followed_by_option) {
            self.lines.extend(b"\"\"");
            self.needs_value = false;
        }
    }

    fn value(&mut self, value: &[u8]) {
        quote::push_quoted(&mut self.lines, value);
        self.lines.push(b' ');
        self.needs_value = false;
    }
}

/// The text of `--help`.
pub const USAGE: &str = "\
Usage: redis-server [/path/to/redis.conf] [options] [-]
       redis-server -                        read the configuration from standard input
       redis-server -v | --version
       redis-server -h | --help
       redis-server --test-memory <megabytes>
       redis-server --check-system
       redis-server --check-rdb <file>       as redis-check-rdb, a name it also goes by
       redis-server --check-aof [--fix | --truncate-to-timestamp <Unix time>] <manifest or file>

Every directive of redis.conf is an option: its name after two dashes, then its values.

       redis-server --port 7777 --replicaof 127.0.0.1 8888
       redis-server /etc/redis.conf --loglevel verbose
       echo 'maxmemory 128mb' | redis-server -
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Directive, Loaded, Sources, load};

    fn invocation(line: &[&str]) -> Invocation {
        parse(&line.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    fn read(arguments: &[&str]) -> Result<Loaded, String> {
        let Invocation::Serve { options, .. } = invocation(&[&["redis-server"], arguments].concat()) else {
            panic!("not a server: {arguments:?}");
        };
        load(&Sources { options, ..Sources::default() }).map_err(|error| error.to_string())
    }

    fn value(arguments: &[&str], name: &str) -> String {
        let loaded = read(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        String::from_utf8(Directive::find(name.as_bytes()).unwrap().get(&loaded.config)).unwrap()
    }

    #[test]
    fn wrong_options_are_reported_as_redis_does() {
        for (arguments, line, reason) in [
            (&["--invalid"][..], "'invalid'", "Bad directive or wrong number of arguments"),
            (&["--port"], "'port'", "wrong number of arguments"),
            (&["--", "--port", "1"], "'\"--port\" \"1\"'", "Bad directive or wrong number of arguments"),
            (&["--port", "6380", "--loglevel"], "'loglevel'", "wrong number of arguments"),
            (&["--port", "6379", "6380"], "'port \"6379\" \"6380\"'", "wrong number of arguments"),
            (&["--port", "--loglevel", "verbose"], "'port \"--loglevel\" \"verbose\"'", "wrong number of arguments"),
            (
                &["--port", "--bla", "--loglevel", "verbose"],
                "'port \"--bla\"'",
                "argument couldn't be parsed into an integer",
            ),
            (
                &["--proc-title-template", "--my--title", "--loglevel", "--bla"],
                "'loglevel \"--bla\"'",
                "argument(s) must be one of the following",
            ),
            (&["--shutdown-on-sigint"], "'shutdown-on-sigint'", "argument(s) must be one of the following"),
            (
                &["--shutdown-on-sigint", "now force", "--shutdown-on-sigterm"],
                "'shutdown-on-sigterm'",
                "argument(s) must be one of the following",
            ),
            (&["--replicaof", "127.0.0.1", "abc"], "'replicaof \"127.0.0.1\" \"abc\"'", "Invalid master port"),
            (&["--replicaof", "--127.0.0.1", "abc"], "'replicaof \"--127.0.0.1\" \"abc\"'", "Invalid master port"),
            (&["--replicaof", "--127.0.0.1", "--abc"], "'replicaof \"--127.0.0.1\"'", "wrong number of arguments"),
            (&["--user", "a", "on", "--user", "a", "off"], "'user \"a\" \"off\"'", "Duplicate user"),
        ] {
            let error = read(arguments).unwrap_err();
            let line_at = error.find(line).unwrap_or_else(|| panic!("{arguments:?}: {error}"));
            assert!(error[line_at..].contains(reason), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn option_and_value_in_one_argument() {
        for arguments in [
            &["--maxmemory 700mb", "--maxmemory-policy volatile-lru"][..],
            &["x.conf", "loglevel", "verbose", "--maxmemory '700mb'", "--maxmemory-policy 'volatile-lru'"],
        ] {
            assert_eq!(value(arguments, "maxmemory"), "734003200");
            assert_eq!(value(arguments, "maxmemory-policy"), "volatile-lru");
        }
        assert_eq!(value(&["x.conf", "loglevel", "verbose"], "loglevel"), "verbose");
        let title = ["--proc-title-template --my--title--template", "--loglevel verbose"];
        assert_eq!(value(&title, "proc-title-template"), "--my--title--template");
        assert_eq!(value(&title, "loglevel"), "verbose");
    }

    #[test]
    fn the_first_value_may_start_with_dashes() {
        let arguments = ["--proc-title-template", "--my--title", "--loglevel", "verbose"];
        assert_eq!(value(&arguments, "proc-title-template"), "--my--title");
        assert_eq!(value(&arguments, "loglevel"), "verbose");
    }

    #[test]
    fn save_without_a_value_is_no_save() {
        for arguments in [
            &["--save", "--loglevel", "verbose"][..],
            &["--loglevel", "verbose", "--save"],
            &["--save", "", "--loglevel", "verbose"],
            &["--loglevel", "verbose", "--save", ""],
            &["--proc-title-template", "--save", "--save", "", "--loglevel", "verbose"],
        ] {
            assert_eq!(value(arguments, "save"), "", "{arguments:?}");
            assert_eq!(value(arguments, "loglevel"), "verbose", "{arguments:?}");
        }
        assert_eq!(value(&["--save", "60", "1", "--save", "900", "1"], "save"), "60 1 900 1");
    }

    #[test]
    fn several_values() {
        let arguments = ["--shutdown-on-sigint", "nosave", "force", "now", "--shutdown-on-sigterm", "nosave force"];
        assert_eq!(value(&arguments, "shutdown-on-sigint"), "nosave now force");
        assert_eq!(value(&arguments, "shutdown-on-sigterm"), "nosave force");
    }

    #[test]
    fn file_and_standard_input() {
        for (arguments, expected_file, expected_stdin) in [
            (&["redis-server"][..], None, false),
            (&["redis-server", "-"], None, true),
            (&["redis-server", "a.conf", "--port", "1", "-"], Some("a.conf"), true),
            (&["redis-server", "-", "--port", "1"], None, true),
            (&["redis-server", "a.conf", "-", "--port", "1"], Some("a.conf"), false),
        ] {
            let Invocation::Serve { file, stdin, .. } = invocation(arguments) else { panic!() };
            assert_eq!((file, stdin), (expected_file.map(PathBuf::from), expected_stdin), "{arguments:?}");
        }
    }

    #[test]
    fn other_purposes() {
        for (arguments, expected) in [
            (&["redis-server", "-v"][..], Invocation::Version),
            (&["/usr/bin/redstart", "--version"], Invocation::Version),
            (&["redis-server", "--help"], Invocation::Help),
            (&["redis-server", "-h"], Invocation::Help),
            (&["redis-server", "--test-memory", "64"], Invocation::TestMemory(Some(64))),
            (&["redis-server", "--test-memory"], Invocation::TestMemory(None)),
            (&["redis-server", "--check-system"], Invocation::CheckSystem),
            (&["redis-server", "s.conf", "--sentinel"], Invocation::NotHere("redis-sentinel")),
            (&["/x/redis-sentinel", "s.conf"], Invocation::NotHere("redis-sentinel")),
            (&["redis-check-rdb", "x"], Invocation::CheckRdb(vec![b"x".to_vec()])),
            (&["./redis-check-aof"], Invocation::CheckAof(Vec::new())),
            (&["redis-server", "--check-aof", "--fix"], Invocation::CheckAof(vec![b"--fix".to_vec()])),
            (&["redis-cli"], Invocation::NotHere("redis-cli")),
        ] {
            assert_eq!(invocation(arguments), expected, "{arguments:?}");
        }
    }
}
