//! The guard against cross-protocol requests: a web page can make a browser, or a server that fetches what it is told to,
//! send HTTP to this port, and the lines of its body would run as commands.
//!
//! `POST` and `Host:` are in every such request, and before its body. Neither is a command, so whoever sends one as a
//! first word, in a line or an array, in any state, is disconnected at once: replies that wait are not sent. Source:
//! Redis 7.2.

use crate::command::call::Engine;
use crate::command::session::Session;
use std::sync::atomic::Ordering;

/// Whether the first word is one of a request by HTTP.
pub(crate) fn is_http(argv: &[&[u8]]) -> bool {
    argv.first().is_some_and(|word| match word.len() {
        4 => word.eq_ignore_ascii_case(b"post"),
        5 => word.eq_ignore_ascii_case(b"host:"),
        _ => false,
    })
}

/// Ends the connection, and says so in the log, at most once a minute: a page may try often.
pub(crate) fn close(engine: &Engine, session: &mut Session) {
    let (server, client) = (&engine.server, &session.client);
    session.closing = true;
    server.clients.kill(client);
    let logged_ms = server.cross_protocol_logged_ms.load(Ordering::Relaxed);
    if engine.now_ms.saturating_sub(logged_ms) <= LOG_PAUSE_MS {
        return;
    }
    server.cross_protocol_logged_ms.store(engine.now_ms, Ordering::Relaxed);
    server.log.warning(format_args!(
        "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is \
         likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. \
         Connection from {} aborted.",
        client.addr
    ));
}

const LOG_PAUSE_MS: i64 = 60_000;
