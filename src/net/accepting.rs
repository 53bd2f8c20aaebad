//! Accepting: the sockets that a running server listens on, each with a task that waits for connections, and their change.

use crate::config::Config;
use crate::net::listener::Listeners;
use crate::server::{Doors, Rebind, Server};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task;

/// The listening sockets of a running server.
pub struct Accepting {
    listeners: Listeners,
    /// The tasks that accept: on `port`, and on `tls-port`.
    tasks: [Vec<task::JoinHandle<()>>; 2],
    arrived: mpsc::Sender<Arrival>,
}

/// A connection that was accepted.
pub enum Arrival {
    Tcp { socket: std::net::TcpStream, peer: SocketAddr, is_tls: bool },
    Unix(std::os::unix::net::UnixStream),
}

impl Accepting {
    /// Begins to accept, on the runtime that the caller runs on.
    pub fn begin(mut listeners: Listeners) -> (Accepting, mpsc::Receiver<Arrival>) {
        let (arrived, arrivals) = mpsc::channel(64);
        if let Some(Ok(listener)) = listeners.unix.take().map(UnixListener::from_std) {
            tokio::spawn(accept_unix(listener, arrived.clone()));
        }
        let mut accepting = Accepting { listeners, tasks: Default::default(), arrived };
        accepting.start_tasks(false);
        accepting.start_tasks(true);
        (accepting, arrivals)
    }

    /// Closes the TCP listeners that `wish` names and opens those that its configuration asks for.
    pub async fn rebind(&mut self, server: &Server, wish: &Rebind) -> Result<(), String> {
        if wish.doors != Doors::Tls {
            self.rebind_port(server, false, &wish.config).await?;
        }
        if wish.doors != Doors::Plain {
            self.rebind_port(server, true, &wish.config).await?;
        }
        Ok(())
    }

    /// The same for one port; if the new listeners cannot be had, the old ones are opened again.
    async fn rebind_port(&mut self, server: &Server, is_tls: bool, config: &Config) -> Result<(), String> {
        for task in self.tasks[usize::from(is_tls)].drain(..) {
            task.abort();
            // The listener is closed once the task is gone.
            let _ = task.await;
        }
        let outcome = self.listeners.bind_port(is_tls, config);
        if outcome.is_err() {
            self.listeners.bind_port(is_tls, &server.config.load())?;
        }
        self.start_tasks(is_tls);
        server.port.store(usize::from(self.listeners.port), Ordering::Relaxed);
        outcome
    }

    fn start_tasks(&mut self, is_tls: bool) {
        let bound = std::mem::take(if is_tls { &mut self.listeners.tls } else { &mut self.listeners.tcp });
        let listeners = bound.into_iter().filter_map(|listener| TcpListener::from_std(listener).ok());
        let tasks = listeners.map(|listener| tokio::spawn(accept_tcp(listener, is_tls, self.arrived.clone())));
        self.tasks[usize::from(is_tls)] = tasks.collect();
    }
}

async fn accept_tcp(listener: TcpListener, is_tls: bool, arrived: mpsc::Sender<Arrival>) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Ok(socket) = socket.into_std() else { continue };
                if arrived.send(Arrival::Tcp { socket, peer, is_tls }).await.is_err() {
                    return;
                }
            }
            // Out of descriptors, mostly: try again when some may be free (CVE-2025-48367 kind: never spin).
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, arrived: mpsc::Sender<Arrival>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let Ok(socket) = socket.into_std() else { continue };
                if arrived.send(Arrival::Unix(socket)).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
