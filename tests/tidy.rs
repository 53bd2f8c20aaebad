//! The layout rules that a compiler does not check: who may use whom, and a test for every command.

use redstart::commands::registry;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the server crate from the bottom up: a module uses those above it in this list, and no other.
const ORDER: &[&str] = &[
    "util",
    "resp",
    "config",
    "memory",
    "os",
    "metrics",
    "acl",
    "clients",
    "socket",
    "feed",
    "keyspace",
    "scripts",
    "core",
    "snapshot",
    "aof",
    "check",
    "replication",
    "cluster",
    "server",
    "command",
    "commands",
    "net",
    "run",
    "program",
];

/// Where a server, its core and its engine have methods besides their own files.
const METHODS: &[(&str, &[&str])] = &[
    ("Core", &["src/core/mod.rs"]),
    (
        "Server",
        &[
            "src/run/client_eviction.rs",
            "src/command/observe.rs",
            "src/run/crash.rs",
            "src/server/metrics.rs",
            "src/run/config_set.rs",
            "src/run/restart.rs",
            "src/server/mod.rs",
            "src/run/shutdown.rs",
            "src/run/start.rs",
            "src/run/watchdog.rs",
        ],
    ),
    ("Engine", &["src/command/call.rs", "src/command/gate.rs", "src/command/room.rs", "src/run/cron.rs"]),
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The server crate's files: `types` and `script` are crates of their own, whose layers the compiler checks.
fn server_files() -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let own = |path: &PathBuf| !path.starts_with(src.join("types")) && !path.starts_with(src.join("script"));
    rust_files(&src).into_iter().filter(own).collect()
}

fn relative(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned()
}

/// Files of tests alone may use everything.
fn is_test(name: &str) -> bool {
    name.ends_with("testing.rs") || name.ends_with("/tests.rs")
}

/// What is compiled into the server: the text without comments, and without the tests at its end, which may use everything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("it is text");
    let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    own.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// The module of the crate that a file belongs to.
fn module(name: &str) -> &str {
    name.trim_start_matches("src/").split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The modules that every `crate::` path in `code` begins with, with the numbers of their lines. `super::` in a module's own
/// file is the crate as well.
fn uses<'c>(name: &str, code: &'c str) -> Vec<(usize, &'c str)> {
    let is_at_the_top = name.matches('/').count() == 1 || name.matches('/').count() == 2 && name.ends_with("/mod.rs");
    let roots: &[&str] = if is_at_the_top { &["crate::", "super::"] } else { &["crate::"] };
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        for root in roots {
            for (at, _) in line.match_indices(root) {
                let path = &line[at + root.len()..];
                let end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(path.len());
                found.push((number, &path[..end]));
            }
        }
    }
    found
}

#[test]
fn uses_go_one_way() {
    let place = |module: &str| ORDER.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for path in server_files() {
        let name = relative(&path);
        if is_test(&name) || name == "src/lib.rs" || name == "src/main.rs" {
            continue;
        }
        let module = module(&name);
        let Some(own) = place(module) else {
            wrong.push(format!("{name}: its module has no place in the order"));
            continue;
        };
        for (number, used) in uses(&name, &code(&path)) {
            if place(used).is_none_or(|used| used > own) {
                wrong.push(format!("{name}:{number}: {module} uses {used:?}, which is above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A path is found wherever it stands in a line; one that the test above does not understand would be no module of the
/// order, so it fails.
#[test]
fn every_path_counts() {
    let code = "use crate::aof::Mode;\nlet x = crate::server::Y; crate::net();\nuse crate::{acl, log};\n";
    assert_eq!(uses("src/keyspace/db.rs", code), [(1, "aof"), (2, "server"), (2, "net"), (3, "")]);
    assert_eq!(uses("src/lib.rs", "use super::server::Server;"), [(1, "server")]);
    assert_eq!(uses("src/keyspace/db.rs", "use super::shard::Shard;"), []);
}

/// The methods of the types that belong to everybody are where a reader looks for them.
#[test]
fn methods_are_at_home() {
    let mut wrong = Vec::new();
    for path in server_files() {
        let name = relative(&path);
        for (number, line) in (1..).zip(code(&path).lines()) {
            let Some(head) = line.trim_start().strip_prefix("impl ") else { continue };
            let head = head.split('{').next().unwrap_or_default().trim_end();
            let owner = head.rsplit([' ', ':']).next().unwrap_or_default();
            let homes = METHODS.iter().find(|(known, _)| *known == owner && !head.contains(" for "));
            if homes.is_some_and(|(_, homes)| !homes.contains(&&*name)) {
                wrong.push(format!("{name}:{number}: methods of {owner}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where threads begin that may wait for shards. The main loop must not: see `src/run/main_loop.rs`.
const MAY_WAIT: &[&str] = &["src/core/background.rs", "src/keyspace/lock.rs", "src/net/worker.rs", "src/run/start.rs"];

#[test]
fn only_where_threads_begin_they_get_leave_to_wait() {
    let mut wrong = Vec::new();
    for path in server_files() {
        let name = relative(&path);
        let text = fs::read_to_string(&path).expect("it is text");
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let gets_leave = code.contains("MayWait::of_thread(") && !is_test(&name) && !MAY_WAIT.contains(&&*name);
        let names_it = || code.lines().any(|line| line.contains("MayWait") && !line.starts_with("//!"));
        if gets_leave || name == "src/run/main_loop.rs" && names_it() {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "these let their thread wait for shards: {}", wrong.join(", "));
}

#[test]
fn every_command_has_a_test() {
    let families: Vec<PathBuf> =
        server_files().into_iter().filter(|p| relative(p).starts_with("src/commands/")).collect();
    let mut tests = String::new();
    for path in families {
        let text = fs::read_to_string(&path).expect("it is text");
        // Table entries name the command too; everything else in quotes is a test's.
        let lines = text.lines().filter(|line| !line.contains("Command::new("));
        tests.extend(lines.map(|line| line.to_ascii_lowercase() + "\n"));
    }
    let mut missing = Vec::new();
    for command in registry().all() {
        let call = command.name.replace('|', " ");
        let is_tested = [" ", "\"", "\\"].iter().any(|end| tests.contains(&format!("\"{call}{end}")));
        if !is_tested && command.subcommands.is_empty() {
            missing.push(command.name);
        }
    }
    assert!(missing.is_empty(), "commands without a test in src/commands: {}", missing.join(", "));
}
