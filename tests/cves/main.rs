//! What was a vulnerability in Redis or a server like it, each as a test named after it.
//!
//! Elsewhere, beside the code they are about:
//! - Scripts, in `src/script/tests/sandbox.rs`: CVE-2020-14147, 2021-32626, 2022-0543, 2022-24735, 2022-24736,
//!   2022-24834, 2024-31449, 2024-46981, 2025-46817, 2025-46818, 2025-46819, 2025-49844, 2025-67733.
//! - Malformed ACL rules, in `src/commands/acl.rs`: CVE-2024-31227, 2024-51741.
//! - HyperLogLog, in `src/types/hyperloglog.rs` and `src/commands/hyperloglog.rs`: CVE-2019-10192, 2025-32023.
//!
//! Without a test, because there is nothing here that they could be about:
//! - CVE-2021-32762 (redis-cli and redis-sentinel reading huge replies): Redstart has no client of that kind.
//! - CVE-2025-62507 (XACKDEL), HEXPIRE's numfields (redis #15021): commands of Redis 8.
//! - CVE-2026-21863 (cluster bus packets): there is no cluster bus.
//! - CVE-2026-56684 (CLIENT KILL while TLS shakes hands): a connection has one owner, and being killed is a letter to
//!   it; the plain case is in `network.rs`.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod commands;
mod formats;
mod network;

use common::Client;
use redstart::run::start::Running;

/// Fails unless a new client is served.
fn is_alive(running: &Running) {
    let mut client = Client::connect(running);
    assert_eq!(client.run("PING"), "+PONG");
    assert_eq!(client.run("SET alive 1"), "+OK");
    assert_eq!(client.run("GET alive"), "1");
}
