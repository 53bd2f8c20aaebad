//! The configuration of one server: `redis.conf`, the command line, CONFIG GET, SET and REWRITE.
//!
//! [`Config`] is plain data with one field a directive; [`DIRECTIVES`] is the table that reads and prints it by name.
//! Nothing here applies a value: the owner of a `Config` does, from the list of changed directives.

pub mod cli;
mod directive;
mod file;
mod get_set;
pub mod proc_title;
mod rewrite;
mod setting;
mod values;

pub use directive::{Config, DIRECTIVES, Directive};
pub use file::{ConfigError, Loaded, Located, Place, Sources, load};
pub use get_set::{Access, Change, SetError, get, set};
pub use rewrite::{replace_file, rewrite};
pub(crate) use setting::{memory, os_reason};
pub use values::*;

impl Config {
    /// The watchdog looks at most once in two rounds of the periodic work: a shorter period becomes that. Source: Redis 7.2.
    pub(crate) fn raise_watchdog_period(&mut self) {
        if self.watchdog_period != 0 {
            self.watchdog_period = self.watchdog_period.max(2 * (1000 / self.hz.max(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CONFIG GET *` of a fresh Redis 7.2, one `name<TAB>value` a line.
    const REDIS_DEFAULTS: &str = include_str!("redis-7.2-defaults.tsv");

    #[test]
    fn defaults_are_those_of_redis() {
        let config = Config { dir: "/".into(), ..Config::default() };
        let mut ours = get(&config, &[b"*"]);
        ours.sort();
        let line = |(name, value): (Vec<u8>, Vec<u8>)| {
            format!("{}\t{}", String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap())
        };
        let ours: Vec<_> = ours.into_iter().map(line).collect();
        let mut theirs: Vec<_> = REDIS_DEFAULTS.lines().map(|line| line.replace("<cwd>", "/")).collect();
        theirs.sort();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn every_value_is_accepted_back() {
        let mut config = Config::default();
        for directive in DIRECTIVES.iter().filter(|directive| directive.name != "replicaof") {
            let value = directive.get(&config);
            directive.set(&mut config, &value).unwrap_or_else(|error| panic!("{}: {error}", directive.name));
            assert_eq!(directive.get(&config), value, "{}", directive.name);
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let requirepass = Some(b"hunter2".to_vec());
        let tls_key_file_pass = Some("hunter2".to_owned());
        let config = Config { requirepass, tls_key_file_pass, port: 1, ..Config::default() };
        let shown = format!("{config:?}");
        assert!(shown.contains("port") && shown.contains("(secret)") && !shown.contains("hunter2"), "{shown}");
    }
}
