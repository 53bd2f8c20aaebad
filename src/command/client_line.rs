//! A connection in one line: CLIENT LIST, CLIENT INFO, ACL LOG.

use crate::clients::{Client, Names};
use crate::server::Server;
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// A client's line in CLIENT LIST, without its end.
pub fn describe(server: &Server, client: &Client) -> String {
    let now_ms = server.clock.now_ms();
    let names: Names = client.names.lock().clone();
    let load = |value: &std::sync::atomic::AtomicUsize| value.load(Ordering::Relaxed);
    let seconds_since = |at_ms: i64| (now_ms - at_ms).max(0) / 1000;
    let command = server.registry.all().get(usize::from(client.last_command.load(Ordering::Relaxed)));
    let output = load(&client.output_buffer);
    let query = [load(&client.query_buffer[0]), load(&client.query_buffer[1])];
    let mut line = String::with_capacity(400);
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} \
         qbuf={} qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl={} oll=0 omem={} tot-mem={} events={} cmd={} \
         user={} redir=-1 resp={} lib-name={} lib-ver={}",
        client.id,
        client.addr,
        client.laddr,
        client.fd,
        String::from_utf8_lossy(&names.name),
        seconds_since(client.created_ms),
        seconds_since(client.last_interaction_ms.load(Ordering::Relaxed)),
        flags(client),
        load(&client.db),
        load(&client.subscriptions[0]),
        load(&client.subscriptions[1]),
        load(&client.subscriptions[2]),
        client.multi_len.load(Ordering::Relaxed),
        load(&client.watched_keys),
        query[0],
        query[1],
        output,
        output,
        output,
        output,
        query[0] + query[1] + output + size_of::<Client>(),
        if output > 0 { "rw" } else { "r" },
        command.map_or("NULL", |command| command.name),
        String::from_utf8_lossy(client.account.lock().name()),
        if client.resp3.load(Ordering::Relaxed) { 3 } else { 2 },
        String::from_utf8_lossy(&names.lib_name),
        String::from_utf8_lossy(&names.lib_ver),
    );
    line
}

/// The letters of CLIENT LIST's `flags`.
fn flags(client: &Client) -> String {
    let is_subscriber = client.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0);
    let letters = [
        (client.has(Client::MONITOR), 'O'),
        (client.has(Client::REPLICA), 'S'),
        (is_subscriber, 'P'),
        (client.multi_len.load(Ordering::Relaxed) >= 0, 'x'),
        (client.has(Client::BLOCKED), 'b'),
        (client.has(Client::TRACKING), 't'),
        (client.has(Client::DIRTY_CAS), 'd'),
        (client.has(Client::CLOSING), 'c'),
        (client.has(Client::UNIX_SOCKET), 'U'),
        (client.has(Client::NO_EVICT), 'e'),
        (client.has(Client::NO_TOUCH), 'T'),
    ];
    let text: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| *letter).collect();
    if text.is_empty() { "N".to_owned() } else { text }
}
