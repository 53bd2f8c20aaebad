//! MONITOR: clients that are shown every command.

use crate::clients::Client;
use crate::command::session::Session;
use crate::server::Server;
use crate::util::quote;
use crate::util::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The monitoring clients of one server.
#[derive(Debug, Default)]
pub struct Monitors {
    clients: Mutex<Vec<Arc<Client>>>,
    len: AtomicUsize,
}

impl Monitors {
    /// Whether anybody monitors.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.len.load(Ordering::Relaxed) > 0
    }

    /// Adds a client.
    pub fn add(&self, client: &Arc<Client>) {
        client.set(Client::MONITOR, true);
        let mut clients = self.clients.lock();
        clients.retain(|other| other.id != client.id);
        clients.push(client.clone());
        self.len.store(clients.len(), Ordering::Relaxed);
    }

    /// Takes a client away.
    pub fn remove(&self, client: &Client) {
        client.set(Client::MONITOR, false);
        let mut clients = self.clients.lock();
        clients.retain(|other| other.id != client.id);
        self.len.store(clients.len(), Ordering::Relaxed);
    }

    /// Shows a client's command.
    pub fn show(&self, server: &Server, session: &Session, argv: &[&[u8]]) {
        self.show_line(server, session.db, &session.client.addr, argv);
    }

    /// Shows a command; `source` is an address or `lua`.
    pub fn show_line(&self, server: &Server, db: usize, source: &str, argv: &[&[u8]]) {
        let now_us = server.clock.now_us();
        let head = format!("+{}.{:06} [{db} {source}]", now_us / 1_000_000, now_us % 1_000_000);
        let mut line = head.into_bytes();
        for arg in argv {
            line.push(b' ');
            quote::push_quoted(&mut line, arg);
        }
        line.extend_from_slice(b"\r\n");
        for client in self.clients.lock().iter() {
            client.mailbox.send(&line);
        }
    }
}
