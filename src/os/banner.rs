//! How the server introduces itself: versions and the logo.

use crate::config::Config;
use crate::memory::ALLOCATOR;

/// The version of Redis this server behaves as.
pub const REDIS_VERSION: &str = "7.2.6";

/// The version of this server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The answer to `--version`. Begins as Redis's does: scripts cut `v=` out of it.
pub fn version_line() -> String {
    format!("Redis server v={REDIS_VERSION} sha=00000000:0 malloc={ALLOCATOR} bits={} redstart={VERSION}", usize::BITS)
}

/// `cluster` or `standalone`.
pub fn mode(config: &Config) -> &'static str {
    if config.cluster_enabled { "cluster" } else { "standalone" }
}

/// The logo. The Redis test suite waits for its ` PID: <pid>`.
pub fn logo(config: &Config, pid: u32) -> String {
    let port = if config.port != 0 { config.port } else { config.tls_port };
    let lines = [
        String::new(),
        r"         ___".into(),
        r"      .-'   `-.".into(),
        format!(r"   __/  o      \        Redstart {VERSION}, as Redis {REDIS_VERSION}, {} bit", usize::BITS),
        r"  `--.          \".into(),
        format!(r"      \    \ \ \ \      Running in {} mode", mode(config)),
        format!(r"       \    \_\_\ \     Port: {port}"),
        format!(r"        `-.__   __.>    PID: {pid}"),
        r"           | | `--..__".into(),
        r"           ^ ^        `".into(),
        String::new(),
    ];
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scripts_look_for() {
        assert!(version_line().starts_with("Redis server v=7.2.6 "));
        let logo = logo(&Config { port: 0, tls_port: 7001, cluster_enabled: true, ..Config::default() }, 42);
        for text in [" PID: 42\n", " Port: 7001\n", " Running in cluster mode\n"] {
            assert!(logo.contains(text), "{logo}");
        }
    }
}
