//! CONFIG GET and CONFIG SET as functions on a `Config`: no socket, no side effect.

use super::Config;
use super::directive::{DENY_LOADING, DIRECTIVES, Directive, HIDDEN, IMMUTABLE, PROTECTED, VOLATILE};
use crate::util::{glob, text};
use std::collections::BTreeSet;

/// `CONFIG GET pattern [pattern ...]`: names with their values, each name once. A name without wildcards finds hidden
/// directives too, and is answered as it was spelled; a pattern finds names and aliases.
pub fn get(config: &Config, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut known = BTreeSet::new();
    let mut add = |name: &[u8], directive: &Directive| {
        if known.insert(name.to_ascii_lowercase()) {
            found.push((name.into(), directive.get(config)));
        }
    };
    for pattern in patterns {
        if !glob::is_pattern(pattern) {
            if let Some(directive) = Directive::find(pattern) {
                add(pattern, directive);
            }
            continue;
        }
        for directive in DIRECTIVES.iter().filter(|directive| !directive.has(HIDDEN)) {
            let names = [Some(directive.name), directive.alias];
            for name in names.into_iter().flatten().filter(|name| glob::matches_ignore_case(pattern, name.as_bytes())) {
                add(name.as_bytes(), directive);
            }
        }
    }
    found
}

/// What the client and the server's state allow.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The client may set protected directives.
    pub protected: bool,
    /// The data set is being loaded.
    pub loading: bool,
    /// It is a command of a transaction being executed: nothing begins that would look at the data now.
    pub in_exec: bool,
}

/// A checked change, not in force yet.
#[derive(Debug)]
pub struct Change {
    /// The configuration as it will be.
    pub config: Config,
    /// What changed, in the order given, each with the name the client used. Its owner must apply the side effects
    /// (listen on the new port, ...), and answer [`SetError::refused`] if one fails.
    pub changed: Vec<(&'static Directive, &'static str)>,
}

/// Why CONFIG SET changed nothing. Its text is the error reply.
#[derive(Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no such directive.
    Unknown(Vec<u8>),
    /// The directive cannot be set while loading.
    Loading,
    /// The named argument was refused, for the reason given.
    Refused { argument: Vec<u8>, reason: String },
}

impl SetError {
    /// The value of `argument` cannot be had.
    pub fn refused(argument: impl Into<Vec<u8>>, reason: impl Into<String>) -> Self {
        Self::Refused { argument: argument.into(), reason: reason.into() }
    }
}

impl SetError {
    /// The error reply, without its `-`.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Unknown(name) => {
                text::fill("ERR Unknown option or number of arguments for CONFIG SET - '{}'", &[name])
            }
            Self::Loading => b"LOADING Redis is loading the dataset in memory".to_vec(),
            Self::Refused { argument, reason } => text::fill(
                "ERR CONFIG SET failed (possibly related to argument '{}') - {}",
                &[argument, reason.as_bytes()],
            ),
        }
    }
}

/// `CONFIG SET name value [name value ...]`: all of them or, on the first error, none.
pub fn set(config: &Config, pairs: &[(&[u8], &[u8])], access: Access) -> Result<Change, SetError> {
    let mut named = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (directive, known_name) = allowed(name, access)?;
        if named.iter().any(|(_, known, _)| *known == known_name) {
            return Err(SetError::refused(*name, "duplicate parameter"));
        }
        named.push((directive, known_name, value));
    }
    let mut change = Change { config: config.clone(), changed: Vec::new() };
    for (directive, name, value) in named {
        let before = directive.get(&change.config);
        directive.set(&mut change.config, value).map_err(|reason| SetError::refused(name, reason))?;
        if directive.name == "repl-backlog-size" {
            change.config.repl_backlog_size = change.config.repl_backlog_size.max(LEAST_BACKLOG_BYTES);
        }
        if directive.has(VOLATILE) || directive.get(&change.config) != before {
            change.changed.push((directive, name));
        }
    }
    Ok(change)
}

/// CONFIG SET makes no backlog smaller; a file may ask for one.
const LEAST_BACKLOG_BYTES: u64 = 16 * 1024;

/// The directive behind `name` and that name in lower case, if it may be set now.
fn allowed(name: &[u8], access: Access) -> Result<(&'static Directive, &'static str), SetError> {
    let directive = Directive::find(name).ok_or_else(|| SetError::Unknown(name.into()))?;
    if directive.has(IMMUTABLE) {
        return Err(SetError::refused(name, "can't set immutable config"));
    }
    if directive.has(PROTECTED) && !access.protected {
        return Err(SetError::refused(name, "can't set protected config"));
    }
    if directive.has(DENY_LOADING) && access.loading {
        return Err(SetError::Loading);
    }
    let is_alias = directive.alias.filter(|alias| alias.as_bytes().eq_ignore_ascii_case(name));
    Ok((directive, is_alias.unwrap_or(directive.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Access = Access { protected: true, loading: false, in_exec: false };

    fn get_one(config: &Config, name: &str) -> String {
        String::from_utf8(get(config, &[name.as_bytes()]).pop().unwrap().1).unwrap()
    }

    fn shown(error: &SetError) -> String {
        String::from_utf8(error.text()).unwrap()
    }

    fn set_one(config: &Config, name: &str, value: &str) -> Result<Change, String> {
        set(config, &[(name.as_bytes(), value.as_bytes())], OPEN).map_err(|error| shown(&error))
    }

    #[test]
    fn get_takes_several_patterns_and_answers_each_name_once() {
        let config = Config::default();
        let patterns: [&[u8]; 4] = [b"maxmemory", b"maxmemory*", b"bind", b"*of"];
        let names: Vec<_> = get(&config, &patterns).into_iter().map(|(name, _)| name).collect();
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len());
        for name in ["slaveof", "replicaof", "maxmemory-samples", "maxmemory-clients", "bind"] {
            assert!(names.contains(&name.as_bytes().to_vec()), "{name}");
        }
        assert_eq!(get(&config, &[b"MaxMemory"]), [(b"MaxMemory".to_vec(), b"0".to_vec())]);
        assert_eq!(get(&config, &[b"nothing", b"x*x"]), []);
    }

    #[test]
    fn hidden_directives_need_their_name() {
        let config = Config::default();
        assert!(!get(&config, &[b"*"]).iter().any(|(name, _)| name == b"key-load-delay"));
        assert_eq!(get_one(&config, "key-load-delay"), "0");
    }

    #[test]
    fn set_is_all_or_nothing() {
        let config = Config::default();
        let pairs: [(&[u8], &[u8]); 3] =
            [(b"maxmemory", b"10000001"), (b"maxmemory-clients", b"200%"), (b"client-query-buffer-limit", b"invalid")];
        let error = set(&config, &pairs, OPEN).unwrap_err();
        assert_eq!(
            shown(&error),
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - \
             percentage argument must be less or equal to 100"
        );
        let pairs: [(&[u8], &[u8]); 2] = [(b"Maxmemory", b"1mb"), (b"timeout", b"0")];
        let change = set(&config, &pairs, OPEN).unwrap();
        assert_eq!(change.config.maxmemory, 1 << 20);
        assert_eq!(change.changed.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["maxmemory"]);
    }

    #[test]
    fn set_refuses_what_it_must() {
        let config = Config::default();
        let failed = |name: &str, reason: &str| {
            Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
        };
        for (name, value, reason) in [
            ("Daemonize", "yes", "can't set immutable config"),
            ("timeout", " 1", "argument couldn't be parsed into an integer"),
            ("port", "70000", "argument must be between 0 and 65535 inclusive"),
            ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
            ("list-max-listpack-size", "99999999999", "argument must be between -2147483648 and 2147483647 inclusive"),
            ("hash-max-ziplist-value", "-1", "argument must be a memory value"),
            ("hash-max-listpack-entries", "-1", "argument must be between 0 and 9223372036854775807 inclusive"),
            ("loglevel", "x", "argument(s) must be one of the following: debug, verbose, notice, warning, nothing"),
            ("appendonly", "maybe", "argument must be 'yes' or 'no'"),
            (
                "shutdown-on-sigterm",
                "save  now",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
            ("shutdown-on-sigterm", "", "argument(s) must be one of the following: default, save, nosave, now, force"),
            ("shutdown-on-sigint", "save nosave", "shutdown options SAVE and NOSAVE can't be used simultaneously"),
            ("save", "5", "Invalid save parameters"),
            ("save", "0 1", "Invalid save parameters"),
            ("client-output-buffer-limit", "normal 1 2", "Wrong number of arguments in buffer limit configuration."),
            (
                "client-output-buffer-limit",
                "master 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "normal 10mbs 10mb 60",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
            ("oom-score-adj-values", "1 1", "wrong number of arguments"),
            (
                "oom-score-adj-values",
                "2001 1 1",
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
            ),
            ("notify-keyspace-events", "q", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            ("latency-tracking-info-percentiles", "50.0 a", "Invalid latency-tracking-info-percentiles parameters"),
            (
                "latency-tracking-info-percentiles",
                "101",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
            ("dbfilename", "a/b", "dbfilename can't be a path, just a filename"),
            ("dir", "/no/such/place", "No such file or directory"),
            ("dir", "", "No such file or directory"),
            ("dir", "/dev/null", "Not a directory"),
            ("proc-title-template", "{invalid-var}", "template format is invalid or contains unknown variables"),
            ("cluster-announce-hostname", "a_b", "Hostnames may only contain alphanumeric characters, hyphens or dots"),
            ("bind", &["1.1.1.1"; 17].join(" "), "Too many bind addresses specified."),
        ] {
            assert_eq!(set_one(&config, name, value).map(|_| ()), failed(name, reason), "{name} {value}");
        }
        let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'foo'";
        assert_eq!(set_one(&config, "foo", "1").map(|_| ()), Err(unknown.into()));
        let twice: [(&[u8], &[u8]); 2] = [(b"maxmemory", b"1"), (b"MAXMEMORY", b"2")];
        let error = set(&config, &twice, OPEN).unwrap_err();
        assert_eq!(error, SetError::refused("MAXMEMORY", "duplicate parameter"));
    }

    #[test]
    fn protection_and_loading() {
        let config = Config::default();
        let pair: [(&[u8], &[u8]); 1] = [(b"dir", b"/")];
        let closed = set(&config, &pair, Access { protected: false, loading: true, in_exec: false }).unwrap_err();
        assert_eq!(closed, SetError::refused("dir", "can't set protected config"));
        let loading = set(&config, &pair, Access { protected: true, loading: true, in_exec: false }).unwrap_err();
        assert_eq!(shown(&loading), "LOADING Redis is loading the dataset in memory");
        assert!(set(&config, &pair, OPEN).is_ok());
    }

    #[test]
    fn values_read_back_as_redis_prints_them() {
        for (name, value, printed) in [
            ("save", "", ""),
            ("save", "900 1 300 10", "900 1 300 10"),
            ("client-output-buffer-limit", "", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
            (
                "client-output-buffer-limit",
                "replica 1mb 0 0 PUBSUB 1 2k 3",
                "normal 0 0 0 slave 1048576 0 0 pubsub 1 2000 3",
            ),
            ("shutdown-on-sigint", "nosave force now", "nosave now force"),
            ("shutdown-on-sigint", "default", "default"),
            ("bind", "", ""),
            ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
            ("oom-score-adj", "relative", "yes"),
            ("maxmemory-clients", "5%", "5%"),
            ("notify-keyspace-events", "KEA", "AKE"),
            ("latency-tracking-info-percentiles", "50.0 99.90 0", "50 99.9 0"),
            ("latency-tracking-info-percentiles", "", ""),
            ("hz", "1000", "500"),
            ("maxmemory", "700mb", "734003200"),
            ("slave-priority", "7", "7"),
        ] {
            let change = set_one(&Config::default(), name, value).unwrap();
            assert_eq!(get_one(&change.config, name), printed, "{name} {value}");
        }
    }

    #[test]
    fn files_that_may_have_changed_count_as_changed() {
        let config = Config { tls_cert_file: Some("a".into()), ..Config::default() };
        assert_eq!(set_one(&config, "tls-cert-file", "a").unwrap().changed.len(), 1);
        assert_eq!(set_one(&config, "tls-ciphers", "").unwrap().changed.len(), 0);
    }

    #[test]
    fn a_relative_dir_starts_at_the_present_one() {
        let config = Config { dir: "/proc".into(), ..Config::default() };
        assert_eq!(get_one(&set_one(&config, "dir", "../dev").unwrap().config, "dir"), "/dev");
    }
}
