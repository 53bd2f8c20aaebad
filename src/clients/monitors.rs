//! The clients that have said MONITOR. Their lines are made by the engine.

use crate::clients::{Client, Clients};
use crate::util::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The monitoring clients of one server, by id: entering and leaving is O(log n).
#[derive(Debug, Default)]
pub struct Monitors {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
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
        clients.insert(client.id, client.clone());
        self.len.store(clients.len(), Ordering::Relaxed);
    }

    /// Takes a client away.
    pub fn remove(&self, client: &Client) {
        client.set(Client::MONITOR, false);
        let mut clients = self.clients.lock();
        clients.remove(&client.id);
        self.len.store(clients.len(), Ordering::Relaxed);
    }

    /// Sends all of them a line.
    pub fn send(&self, clients: &Clients, line: &[u8]) {
        for client in self.clients.lock().values() {
            clients.send(client, line);
        }
    }
}
