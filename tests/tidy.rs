//! The layout rules that a compiler does not check: who may use whom, and a test for every command.

use redstart::commands::registry;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up: a module uses modules of lower layers and of its own.
const LAYERS: &[&[&str]] = &[
    &["util"],
    &["resp", "histogram", "memory", "allocator"],
    &["config", "log", "banner", "process", "selftest"],
    &["acl"],
    &["clients", "feed"],
    &["keyspace"],
    &[
        "background",
        "monitors",
        "pubsub",
        "tracking",
        "stats",
        "slowlog",
        "latency",
        "reclaim",
        "sampler",
        "socket",
        "stop",
        "switches",
        "tls",
    ],
    &[
        "snapshot",
        "dataset",
        "check",
        "persistence",
        "aof",
        "client_eviction",
        "replication",
        "migration",
        "server",
        "command",
        "crash",
        "metrics",
        "reconfigure",
        "scripts",
        "watchdog",
    ],
    &["commands"],
    &["net"],
    &["cron", "main_loop", "startup", "shutdown", "restart", "standalone"],
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

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn uses_go_downwards() {
    let mut wrong = Vec::new();
    for path in server_files() {
        let name = relative(&path);
        let module = name.trim_start_matches("src/").split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{name}: its module is in no layer"));
            continue;
        };
        let text = fs::read_to_string(&path).expect("it is text");
        // Tests stand at the end of a file and may use everything.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let Some(used) = line.trim_start().strip_prefix("use crate::") else { continue };
            let used = used.split([':', ';', '{']).next().unwrap_or_default();
            if layer(used).is_none_or(|layer| layer > own) && !is_test(&name) {
                wrong.push(format!("{name}:{}: {module} uses {used}, which is above it", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where threads begin that may wait for shards. The main loop must not: see `src/main_loop.rs`.
const MAY_WAIT: &[&str] = &["src/background.rs", "src/keyspace/lock.rs", "src/net/worker.rs", "src/startup.rs"];

#[test]
fn only_where_threads_begin_they_get_leave_to_wait() {
    let mut wrong = Vec::new();
    for path in server_files() {
        let name = relative(&path);
        let text = fs::read_to_string(&path).expect("it is text");
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let gets_leave = code.contains("MayWait::of_thread(") && !is_test(&name) && !MAY_WAIT.contains(&&*name);
        let names_it = || code.lines().any(|line| line.contains("MayWait") && !line.starts_with("//!"));
        if gets_leave || name == "src/main_loop.rs" && names_it() {
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
