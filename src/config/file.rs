//! `redis.conf`: reading it, with what is included, piped in or given on the command line.
//!
//! Options of the command line are lines after the file's, so the last one of a directive counts. Directives that need
//! more than a `Config` (`rename-command`, `user`, `loadmodule`) are kept with their place, for their owners to judge.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::directive::{Directive, MULTI};
use super::setting::{Rule, os_reason};
use super::{Config, LogLevel, SavePoint};
use crate::util::{glob, quote};

/// Where the configuration comes from, in the order it is read.
#[derive(Debug, Default)]
pub struct Sources {
    /// The configuration file; wildcards are allowed.
    pub file: Option<PathBuf>,
    /// What was read from standard input.
    pub stdin: Option<Vec<u8>>,
    /// Lines made of the command line.
    pub options: Vec<u8>,
}

/// A configuration as read, with what is not a field of [`Config`].
#[derive(Debug, Default)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// `rename-command <name> <new name>`; an empty new name takes the command away.
    pub renamed_commands: Vec<Located<[Vec<u8>; 2]>>,
    /// `user <name> <rules>...`, without the first word.
    pub users: Vec<Located<Vec<Vec<u8>>>>,
    /// `loadmodule <path> <arguments>...`, and directives of modules, as `<module>.<name>`.
    pub modules: Vec<Located<Vec<Vec<u8>>>>,
    /// What to log once there is a log.
    pub notes: Vec<(LogLevel, String)>,
}

/// A value with the line it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// A line of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1, on through standard input and command line.
    pub line_number: usize,
    /// Its text.
    pub line: String,
}

/// Why a configuration is refused. Displays as Redis reports it.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A line is wrong.
    Line { place: Place, reason: String },
    /// The lines do not fit together.
    Whole { reason: String },
    /// A file cannot be read.
    Unreadable { path: PathBuf, reason: String },
}

impl ConfigError {
    /// The line at `place` is wrong.
    pub fn at(place: &Place, reason: impl Into<String>) -> Self {
        Self::Line { place: place.clone(), reason: reason.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TITLE: &str = "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.6) ***\n";
        match self {
            Self::Line { place: Place { line_number, line }, reason } => {
                write!(f, "{TITLE}Reading the configuration file, at line {line_number}\n>>> '{line}'\n{reason}")
            }
            Self::Whole { reason } => write!(f, "{TITLE}{reason}"),
            Self::Unreadable { path, reason } => {
                write!(f, "Fatal error, can't open config file '{}': {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads everything and checks it as a whole.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loader = Loader { loaded: Loaded::default(), user_names: BTreeSet::new(), save_seen: false, depth: 0 };
    let mut text = match &sources.file {
        Some(path) => loader.read_matching(path)?,
        None => Vec::new(),
    };
    if let Some(piped) = &sources.stdin {
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        text.extend(piped);
    }
    text.push(b'\n');
    text.extend(&sources.options);
    loader.read_text(&text)?;
    loader.check_whole()?;
    Ok(loader.loaded)
}

/// Included files may include others, this deep.
const MAX_INCLUDE_DEPTH: usize = 16;

/// Directives of old versions that mean nothing any more; each takes one value.
const IGNORED: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

struct Loader {
    loaded: Loaded,
    /// Of `user` lines so far.
    user_names: BTreeSet<Vec<u8>>,
    /// The first `save` line replaces the default, others add to it.
    save_seen: bool,
    depth: usize,
}

impl Loader {
    fn read_text(&mut self, text: &[u8]) -> Result<(), ConfigError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = Place { line_number: index + 1, line: String::from_utf8_lossy(line).into() };
            let words =
                quote::split(line).map_err(|_| ConfigError::at(&place, "Unbalanced quotes in configuration line"))?;
            if !words.is_empty() {
                self.read_words(words, place)?;
            }
        }
        Ok(())
    }

    fn read_words(&mut self, mut words: Vec<Vec<u8>>, place: Place) -> Result<(), ConfigError> {
        words[0].make_ascii_lowercase();
        if let Some(directive) = Directive::find(&words[0]) {
            return self.set(directive, &words[1..]).map_err(|reason| ConfigError::at(&place, reason));
        }
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        match (name.as_str(), words.len()) {
            (name, 2) if IGNORED.contains(&name) => {}
            ("include", 2) => self.include(&words[1], &place)?,
            ("rename-command", 3) => {
                let value = [words.swap_remove(1), words.swap_remove(1)];
                self.loaded.renamed_commands.push(Located { value, place });
            }
            ("user", 2..) => self.add_user(words.split_off(1), place)?,
            ("loadmodule", 2..) => self.loaded.modules.push(Located { value: words, place }),
            (name, count) if name.contains('.') => {
                if count < 2 {
                    return Err(ConfigError::at(&place, "Module config specified without value"));
                }
                self.loaded.modules.push(Located { value: words, place });
            }
            ("sentinel", 1) => {}
            ("sentinel", _) => return Err(ConfigError::at(&place, "sentinel directive while not in sentinel mode")),
            _ => return Err(ConfigError::at(&place, "Bad directive or wrong number of arguments")),
        }
        Ok(())
    }

    fn set(&mut self, directive: &Directive, words: &[Vec<u8>]) -> Result<(), String> {
        // One argument may hold the words of a directive that has several: `save "900 1 300 10"`.
        let inner = match words {
            [one] if directive.has(MULTI) && !one.is_empty() => quote::split(one).unwrap_or_default(),
            _ => words.to_vec(),
        };
        let words: Vec<&[u8]> = inner.iter().map(Vec::as_slice).collect();
        let config = &mut self.loaded.config;
        if directive.name == "save" {
            let before: Vec<SavePoint> = std::mem::take(&mut config.save);
            let outcome = directive.set_words(config, &words);
            if self.save_seen && words != [b""] {
                config.save.splice(0..0, before);
            }
            self.save_seen = true;
            return outcome;
        }
        match (directive.set_words(config, &words), directive.rule) {
            // The Redis that is replaced may have had it; starting without it is what its owner wants.
            (Err(reason), Rule::OnlyNo(known)) if reason == known => {
                self.loaded.notes.push((LogLevel::Warning, format!("{} yes is ignored: {reason}", directive.name)));
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }

    fn add_user(&mut self, words: Vec<Vec<u8>>, place: Place) -> Result<(), ConfigError> {
        if !self.user_names.insert(words[0].clone()) {
            let name = String::from_utf8_lossy(&words[0]);
            let reason = "Duplicate user found. A user can only be defined once in config files";
            return Err(ConfigError::at(&place, format!("Error in user declaration '{name}': {reason}")));
        }
        self.loaded.users.push(Located { value: words, place });
        Ok(())
    }

    fn include(&mut self, path: &[u8], place: &Place) -> Result<(), ConfigError> {
        if self.depth == MAX_INCLUDE_DEPTH {
            return Err(ConfigError::at(place, "Too many files include each other"));
        }
        let path = self.loaded.config.dir.join(OsStr::from_bytes(path));
        let text = self.read_matching(&path)?;
        self.depth += 1;
        let outcome = self.read_text(&text);
        self.depth -= 1;
        outcome
    }

    /// The text of a file, or of all files a pattern finds (which may be none).
    fn read_matching(&self, path: &Path) -> Result<Vec<u8>, ConfigError> {
        let is_pattern = glob::is_pattern(path.as_os_str().as_bytes());
        let paths = if is_pattern { expand(path) } else { vec![path.into()] };
        let mut text = Vec::new();
        for path in paths {
            let read = fs::read(&path);
            text.extend(read.map_err(|error| ConfigError::Unreadable { path, reason: os_reason(&error) })?);
        }
        Ok(text)
    }

    fn check_whole(&mut self) -> Result<(), ConfigError> {
        let config = &mut self.loaded.config;
        config.raise_watchdog_period();
        if !config.logfile.is_empty() {
            let opened = OpenOptions::new().append(true).create(true).open(config.dir.join(&config.logfile));
            opened.map_err(|error| ConfigError::Whole {
                reason: format!("Can't open the log file: {}", os_reason(&error)),
            })?;
        }
        if config.cluster_enabled && config.replicaof.is_some() {
            return Err(ConfigError::Whole { reason: "replicaof directive not allowed in cluster mode".into() });
        }
        if config.cluster_enabled && config.databases > 1 {
            let note = format!(
                "WARNING: Changing databases number from {} to 1 since we are in cluster mode",
                config.databases
            );
            self.loaded.notes.push((LogLevel::Warning, note));
            config.databases = 1;
        }
        Ok(())
    }
}

/// The files that match a pattern, sorted by name, directory by directory. A leading dot must be written.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        if !glob::is_pattern(part.as_bytes()) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        found = found.iter().flat_map(|directory| entries_matching(directory, part.as_bytes())).collect();
    }
    found.retain(|path| path.exists());
    found
}

fn entries_matching(directory: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let matches = |name: &[u8]| glob::matches(pattern, name) && (name[0] != b'.' || pattern[0] == b'.');
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| matches(entry.file_name().as_bytes()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Loaded, ConfigError> {
        load(&Sources { stdin: Some(text.into()), ..Sources::default() })
    }

    fn get(loaded: &Loaded, name: &str) -> String {
        String::from_utf8(Directive::find(name.as_bytes()).unwrap().get(&loaded.config)).unwrap()
    }

    /// A directory with these files, gone when dropped.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let dir = std::env::temp_dir().join(format!("redstart-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            files.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
            Self(dir)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_file_of_the_redis_suite() {
        let loaded = load_text(
            "# comment\n\nalways-show-logo yes\nnotify-keyspace-events KEA\nport 21111\nbind 127.0.0.1\n\
             loglevel verbose\nlogfile ''\nsave ''\nslave-serve-stale-data no\nhash-max-ziplist-entries 7\n\
             lua-time-limit 10\nMAXMEMORY 700mb\nclient-output-buffer-limit slave 1mb 2mb 3\n\
             client-output-buffer-limit normal 1 2 3\nenable-debug-command yes\nshutdown-on-sigterm force\n\
             requirepass \"a\\x00b\"\nunixsocket /tmp/x\r\n",
        )
        .unwrap();
        for (name, value) in [
            ("notify-keyspace-events", "AKE"),
            ("port", "21111"),
            ("logfile", ""),
            ("save", ""),
            ("replica-serve-stale-data", "no"),
            ("hash-max-listpack-entries", "7"),
            ("busy-reply-threshold", "10"),
            ("maxmemory", "734003200"),
            ("client-output-buffer-limit", "normal 1 2 3 slave 1048576 2097152 3 pubsub 33554432 8388608 60"),
            ("shutdown-on-sigterm", "force"),
            ("requirepass", "a\0b"),
            ("unixsocket", "/tmp/x"),
        ] {
            assert_eq!(get(&loaded, name), value, "{name}");
        }
    }

    #[test]
    fn save_lines_add_up() {
        for (text, expected) in [
            ("", "3600 1 300 100 60 10000"),
            ("save 900 1", "900 1"),
            ("save 900 1\nsave 100 100", "900 1 100 100"),
            ("save 900 1\nsave ''", ""),
            ("save ''\nsave 5 5", "5 5"),
            ("save \"900 1 300 10\"", "900 1 300 10"),
        ] {
            assert_eq!(get(&load_text(text).unwrap(), "save"), expected, "{text}");
        }
    }

    #[test]
    fn errors_name_line_and_reason() {
        for (text, line_number, line, reason) in [
            ("port 1\n  frob 2 ", 2, "frob 2", "Bad directive or wrong number of arguments"),
            ("port", 1, "port", "wrong number of arguments"),
            ("port \"6379\" \"6380\"", 1, "port \"6379\" \"6380\"", "wrong number of arguments"),
            ("port --bla", 1, "port --bla", "argument couldn't be parsed into an integer"),
            ("replicaof 127.0.0.1 abc", 1, "replicaof 127.0.0.1 abc", "Invalid master port"),
            ("replicaof x", 1, "replicaof x", "wrong number of arguments"),
            ("logfile 'x", 1, "logfile 'x", "Unbalanced quotes in configuration line"),
            ("include", 1, "include", "Bad directive or wrong number of arguments"),
            ("mod.x", 1, "mod.x", "Module config specified without value"),
            ("sentinel monitor a", 1, "sentinel monitor a", "sentinel directive while not in sentinel mode"),
            (
                "user a on\nuser b on\nuser a off",
                3,
                "user a off",
                "Error in user declaration 'a': Duplicate user found. A user can only be defined once in config files",
            ),
            (
                "shutdown-on-sigint",
                1,
                "shutdown-on-sigint",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
        ] {
            let place = Place { line_number, line: line.into() };
            assert_eq!(load_text(text).unwrap_err(), ConfigError::at(&place, reason), "{text}");
        }
        let shown = ConfigError::at(&Place { line_number: 3, line: "port".into() }, "bad").to_string();
        let expected = "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.6) ***\n\
                        Reading the configuration file, at line 3\n>>> 'port'\nbad";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_whole_is_checked() {
        let whole = |reason: &str| ConfigError::Whole { reason: reason.into() };
        let no_log = "Can't open the log file: No such file or directory";
        assert_eq!(load_text("logfile /no/such/place").unwrap_err(), whole(no_log));
        let replica = "replicaof directive not allowed in cluster mode";
        assert_eq!(load_text("cluster-enabled yes\nreplicaof a 1").unwrap_err(), whole(replica));
        for (text, period_ms) in [("", 0), ("watchdog-period 100", 200), ("watchdog-period 100\nhz 100", 100)] {
            assert_eq!(load_text(text).unwrap().config.watchdog_period, period_ms, "{text}");
        }
        assert!(load_text("dir ''").is_err());
        let cluster = load_text("cluster-enabled yes").unwrap();
        assert_eq!((cluster.config.databases, cluster.notes.len()), (1, 1));
    }

    #[test]
    fn what_is_not_a_value_is_kept_with_its_place() {
        let loaded = load_text(
            "rename-command FLUSHALL \"\"\nuser alice on >pass ~*\nloadmodule /x.so a b\nx.y 1\n\
             list-max-ziplist-value 64\nactivedefrag yes",
        )
        .unwrap();
        assert_eq!(loaded.renamed_commands[0].value, [b"FLUSHALL".to_vec(), Vec::new()]);
        assert_eq!(loaded.users[0].value[..2], [b"alice".to_vec(), b"on".to_vec()]);
        assert_eq!(loaded.users[0].place.line, "user alice on >pass ~*");
        assert_eq!(loaded.modules.len(), 2);
        assert!(!loaded.config.activedefrag);
        assert_eq!(loaded.notes.len(), 1);
    }

    #[test]
    fn files_include_others() {
        let files = Files::new(
            "include",
            &[
                ("main.conf", "port 1\ndir DIR\ninclude sub.conf\ninclude *.part\ninclude none-*.conf\ntimeout 9"),
                ("sub.conf", "port 2\n# last line"),
                ("b.part", "maxmemory 2\n"),
                ("a.part", "maxmemory 1\nport 3\n"),
                (".c.part", "maxmemory 3\n"),
                ("loop.conf", "dir DIR\ninclude loop.conf"),
                ("missing.conf", "include /no/such/file"),
            ],
        );
        let load_file = |name: &str| {
            let path = files.0.join(name);
            let text = fs::read_to_string(&path).unwrap().replace("DIR", files.0.to_str().unwrap());
            fs::write(&path, text).unwrap();
            load(&Sources { file: Some(path), options: b"timeout 10".into(), ..Sources::default() })
        };
        let loaded = load_file("main.conf").unwrap();
        assert_eq!((loaded.config.port, loaded.config.maxmemory, loaded.config.timeout), (3, 2, 10));
        let ConfigError::Line { reason, .. } = load_file("loop.conf").unwrap_err() else { panic!() };
        assert_eq!(reason, "Too many files include each other");
        let missing = "Fatal error, can't open config file '/no/such/file': No such file or directory";
        assert_eq!(load_file("missing.conf").unwrap_err().to_string(), missing);
    }
}
