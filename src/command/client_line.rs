//! A connection in one line: CLIENT LIST, CLIENT INFO, ACL LOG.

use crate::clients::Client;
use crate::clients::tracking::Options;
use crate::server::Server;
use crate::util::text;
use std::io::Write;
use std::sync::atomic::Ordering;

/// A client that has just said something is read through a buffer of its worker; after a while without a word it has
/// none, as in Redis, which gives such a client's own buffer back then. What is shown is part of no client's memory.
const READ_ROOM: usize = 20 * 1024;
const READS_FOR_MS: i64 = 2000;

/// Replies are in one piece here, in a buffer that the connections of a worker share. They are shown as Redis has them:
/// a block as large as the replies of late asked for, and a list of others behind it.
const REPLY_BLOCK: usize = 16 * 1024;
const LEAST_REPLY_BLOCK: usize = 1024;

/// A client's line in CLIENT LIST, without its end.
pub fn describe(server: &Server, client: &Client) -> Vec<u8> {
    let now_ms = server.clock.now_ms();
    let names = client.names();
    let load = |value: &std::sync::atomic::AtomicUsize| value.load(Ordering::Relaxed);
    let seconds_since = |at_ms: i64| (now_ms - at_ms).max(0) / 1000;
    let command = server.acl.catalog().entries().get(usize::from(client.last_command.load(Ordering::Relaxed)));
    let output = client.output_bytes();
    let peak = load(&client.output_peak).min(REPLY_BLOCK);
    let query = [load(&client.query_buffer[0]), load(&client.query_buffer[1])];
    let idle_ms = now_ms - client.last_interaction_ms.load(Ordering::Relaxed);
    let room_to_read = if idle_ms < READS_FOR_MS { READ_ROOM } else { 0 };
    let tracking = server.tracking.options(client.id);
    let redirection = tracking.as_ref().map_or(-1, |(options, _)| options.redirect.map_or(0, |id| id as i64));
    let mut line = Vec::with_capacity(400);
    // Writing to a vector cannot fail.
    let _ = write!(line, "id={} addr={} laddr={} fd={} name=", client.id, client.addr, client.laddr, client.fd);
    line.extend_from_slice(text::until_nul(&names.name));
    let _ = write!(
        line,
        " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} \
         rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} cmd={} user=",
        seconds_since(client.created_ms),
        seconds_since(client.last_interaction_ms.load(Ordering::Relaxed)),
        flags(client, tracking.as_ref()),
        load(&client.db),
        load(&client.subscriptions[0]),
        load(&client.subscriptions[1]),
        load(&client.subscriptions[2]),
        client.multi_len.load(Ordering::Relaxed),
        query[0],
        query[1].max(room_to_read),
        load(&client.argv_bytes),
        load(&client.multi_bytes),
        (peak + 1).next_power_of_two().clamp(LEAST_REPLY_BLOCK, REPLY_BLOCK),
        peak,
        output.min(REPLY_BLOCK),
        output.saturating_sub(REPLY_BLOCK).div_ceil(REPLY_BLOCK),
        output.saturating_sub(REPLY_BLOCK),
        client.memory(),
        if output > 0 { "rw" } else { "r" },
        command.map_or("NULL", |command| command.name),
    );
    line.extend_from_slice(client.account.lock().name());
    let resp = if client.resp3.load(Ordering::Relaxed) { 3 } else { 2 };
    let _ = write!(line, " redir={redirection} resp={resp} lib-name=");
    line.extend_from_slice(text::until_nul(&names.lib_name));
    line.extend_from_slice(b" lib-ver=");
    line.extend_from_slice(text::until_nul(&names.lib_ver));
    line
}

/// The letters of CLIENT LIST's `flags`.
fn flags(client: &Client, tracking: Option<&(Options, bool)>) -> String {
    let is_subscriber = client.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0);
    let letters = [
        (client.has(Client::MONITOR), 'O'),
        (client.has(Client::REPLICA), 'S'),
        (is_subscriber, 'P'),
        (client.multi_len.load(Ordering::Relaxed) >= 0, 'x'),
        (client.has(Client::BLOCKED), 'b'),
        (client.has(Client::TRACKING), 't'),
        (tracking.is_some_and(|(_, is_broken)| *is_broken), 'R'),
        (tracking.is_some_and(|(options, _)| options.bcast), 'B'),
        (client.has_changed_watch(), 'd'),
        (client.has(Client::CLOSING), 'c'),
        (client.has(Client::EVICTED), 'A'),
        (client.has(Client::UNIX_SOCKET), 'U'),
        (client.has(Client::NO_EVICT), 'e'),
        (client.has(Client::NO_TOUCH), 'T'),
    ];
    let text: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| *letter).collect();
    if text.is_empty() { "N".to_owned() } else { text }
}
