//! The main loop: accepts connections, does the periodic work, and answers for workers that a script keeps busy.

use crate::aof::appender;
use crate::clients::Client;
use crate::command::call::{self, Engine};
use crate::command::serve;
use crate::command::session::Session;
use crate::config::Config;
use crate::keyspace::Key;
use crate::keyspace::db::Db;
use crate::keyspace::lock::ShardSet;
use crate::net::listener::{Acceptor, Listeners};
use crate::reconfigure::{Doors, Rebind};
use crate::server::Server;
use redstart_types::table::{Keyed, hash_key};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The periodic work of one server.
#[derive(Debug)]
pub struct Cron {
    server: Arc<Server>,
    engine: Engine,
    scratch: Vec<u8>,
    /// Since when clients' largest replies have been noted, Unix ms.
    peaks_since_ms: i64,
}

/// Runs until the server is to stop.
pub fn run(mut acceptor: Acceptor, mut cron: Cron, listeners: Listeners, mut wishes: mpsc::UnboundedReceiver<Rebind>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives one more epoll descriptor");
    runtime.block_on(main_loop(&mut acceptor, &mut cron, listeners, &mut wishes));
    // Closes the listeners: workers may take a while to end, and nobody is served any more.
    runtime.shutdown_background();
    for worker in acceptor.workers {
        worker.join();
    }
    // Their connections are gone: nobody is to wait until they take their data set.
    acceptor.server.replication.replicas().iter().for_each(|replica| replica.leave());
    appender::end(&acceptor.server);
}

/// A data set that loads within this time is never seen loading: connections wait to be accepted, as Redis's wait for
/// the loading to look at its sockets.
const LOADING_GRACE: Duration = Duration::from_millis(200);
const LOADING_LOOK: Duration = Duration::from_micros(500);

async fn main_loop(
    acceptor: &mut Acceptor,
    cron: &mut Cron,
    mut listeners: Listeners,
    wishes: &mut mpsc::UnboundedReceiver<Rebind>,
) {
    let server = acceptor.server.clone();
    let (arrived, mut tcp) = mpsc::channel(64);
    let (arrived_unix, mut unix) = mpsc::channel(64);
    let patience = Instant::now() + LOADING_GRACE;
    while server.loading.load(Ordering::Acquire) && Instant::now() < patience && !server.stop.is_requested() {
        tokio::time::sleep(LOADING_LOOK).await;
    }
    let mut plain = accept_all(std::mem::take(&mut listeners.tcp), false, &arrived);
    let mut under_tls = accept_all(std::mem::take(&mut listeners.tls), true, &arrived);
    if let Some(Ok(listener)) = listeners.unix.take().map(UnixListener::from_std) {
        tokio::spawn(accept_unix(listener, arrived_unix.clone()));
    }
    let mut tick = ticks(cron.period());
    loop {
        tokio::select! {
            () = server.stop.requested() => return,
            Some((socket, peer, is_tls)) = tcp.recv() => {
                if let Err(error) = acceptor.admit_tcp(socket, peer, is_tls) {
                    server.log.verbose(format_args!("Error accepting a client connection: {error}"));
                }
            }
            Some(socket) = unix.recv() => {
                if let Err(error) = acceptor.admit_unix(socket) {
                    server.log.verbose(format_args!("Error accepting a client connection: {error}"));
                }
            }
            Some(wish) = wishes.recv() => {
                let mut outcome = Ok(());
                if wish.doors != Doors::Tls {
                    outcome = rebind(&server, &mut listeners, &mut plain, &wish.config, &arrived).await;
                }
                if wish.doors != Doors::Plain && outcome.is_ok() {
                    outcome = rebind_tls(&server, &mut listeners, &mut under_tls, &wish.config, &arrived).await;
                }
                // Whoever asked may have lost patience.
                let _ = wish.answer.send(outcome);
            }
            _ = tick.tick() => {
                cron.tick(acceptor);
                if tick.period() != cron.period() {
                    tick = ticks(cron.period());
                }
            }
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// A TCP connection, from where, and whether it speaks TLS.
type Arrived = mpsc::Sender<(std::net::TcpStream, std::net::SocketAddr, bool)>;

fn accept_all(listeners: Vec<std::net::TcpListener>, is_tls: bool, arrived: &Arrived) -> Vec<JoinHandle<()>> {
    let listeners = listeners.into_iter().filter_map(|listener| TcpListener::from_std(listener).ok());
    listeners.map(|listener| tokio::spawn(accept_tcp(listener, is_tls, arrived.clone()))).collect()
}

/// Closes the listeners behind these doors.
async fn close(doors: &mut Vec<JoinHandle<()>>) {
    for door in doors.drain(..) {
        door.abort();
        // The listener is closed once the task is gone.
        let _ = door.await;
    }
}

/// Closes the TCP listeners and opens those that `config` asks for; if these cannot be had, the old ones.
async fn rebind(
    server: &Server,
    listeners: &mut Listeners,
    doors: &mut Vec<JoinHandle<()>>,
    config: &Config,
    arrived: &Arrived,
) -> Result<(), String> {
    close(doors).await;
    let outcome = listeners.bind_tcp(config);
    if outcome.is_err() {
        listeners.bind_tcp(&server.config.load())?;
    }
    *doors = accept_all(std::mem::take(&mut listeners.tcp), false, arrived);
    server.port.store(usize::from(listeners.port), Ordering::Relaxed);
    outcome
}

/// The same for those on `tls-port`.
async fn rebind_tls(
    server: &Server,
    listeners: &mut Listeners,
    doors: &mut Vec<JoinHandle<()>>,
    config: &Config,
    arrived: &Arrived,
) -> Result<(), String> {
    close(doors).await;
    let outcome = listeners.bind_tls(config);
    if outcome.is_err() {
        listeners.bind_tls(&server.config.load())?;
    }
    *doors = accept_all(std::mem::take(&mut listeners.tls), true, arrived);
    outcome
}

async fn accept_tcp(listener: TcpListener, is_tls: bool, arrived: Arrived) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Ok(socket) = socket.into_std() else { continue };
                if arrived.send((socket, peer, is_tls)).await.is_err() {
                    return;
                }
            }
            // Out of descriptors, mostly: try again when some may be free (CVE-2025-48367 kind: never spin).
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, arrived: mpsc::Sender<std::os::unix::net::UnixStream>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let Ok(socket) = socket.into_std() else { continue };
                if arrived.send(socket).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// More unused room than this in a buffer of requests is given back.
const LARGE_ROOM: usize = 32 * 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Cron {
    /// The work of the server that `engine` belongs to.
    pub fn new(engine: Engine) -> Self {
        let (server, peaks_since_ms) = (engine.server.clone(), engine.now_ms);
        Cron { server, engine, scratch: vec![0; 16 * 1024], peaks_since_ms }
    }

    /// Time between two ticks: `hz` a second, and at least 10.
    fn period(&self) -> Duration {
        Duration::from_millis(1000 / u64::from(self.engine.config.hz.clamp(10, 500)))
    }

    /// One round.
    fn tick(&mut self, acceptor: &Acceptor) {
        let began = Instant::now();
        self.engine.begin_batch();
        if !self.server.switches.cron_paused() {
            self.work(acceptor);
        }
        self.server.note_cron(began.elapsed(), self.engine.now_ms);
    }

    fn work(&mut self, acceptor: &Acceptor) {
        self.server.read_memory();
        if self.server.busy.is_debugged() {
            return;
        }
        self.watch_script(acceptor);
        if self.server.busy.is_busy() {
            return;
        }
        let may_expire =
            self.server.switches.active_expire() && self.server.pause.until_ms(self.engine.now_ms).is_none();
        if may_expire && !self.server.loading.load(Ordering::Acquire) {
            let began = Instant::now();
            self.expire();
            self.server.stats.expire_nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.server.note_latency("expire-cycle", began.elapsed(), &self.engine.config, self.engine.now_ms);
        }
        self.engine.make_room();
        // In steps, so that others get at the table meanwhile.
        while self.server.tracking.shrink(self.engine.config.tracking_table_max_keys, &self.server.clients) {}
        self.close_idle_clients();
        self.look_at_buffers();
        self.server.evict_clients();
        self.save();
        self.server.migrations.close_unused();
        crate::replication::tick(&self.server, &self.engine.config, self.engine.now_ms);
        let now_s = self.engine.now_ms / 1000;
        if self.server.loading.load(Ordering::Acquire) {
            if let Some(report) = self.server.persistence.loading.report(now_s.unsigned_abs()) {
                self.server.log.notice(report);
            }
        } else {
            self.server.aof.tick(&self.server, &self.engine.config, now_s);
        }
    }

    /// Deletes keys whose time is over, shard by shard, for at most a quarter of the time between two ticks.
    fn expire(&mut self) {
        let server = self.server.clone();
        let until = Instant::now() + self.period() / 4;
        for idx in 0..server.shards.count() {
            while self.expire_some(&server, idx) {
                if Instant::now() > until {
                    server.stats.expire_cut_short.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// Deletes a few keys of one shard; whether more are due.
    fn expire_some(&mut self, server: &Arc<Server>, idx: usize) -> bool {
        const AT_ONCE: usize = 64;
        let mut set = ShardSet::NONE;
        set.add(idx);
        // Serving clients blocked across shards would take all locks; an expired key serves nobody but those who
        // wait for a deletion, and these are few: they are in the set as well.
        let Some(mut locked) = server.shards.lock_unless(set, || true) else { return false };
        if locked.iter().any(|shard| shard.cross_shard_waiters > 0) {
            drop(locked);
            let Some(all) = server.shards.lock_unless(server.shards.all(), || true) else { return false };
            locked = all;
        }
        let now_ms = self.engine.now_ms;
        let mut left = AT_ONCE;
        let databases = server.config.load().databases as usize;
        for index in 0..databases {
            while left > 0 {
                let shard = locked.numbered(idx);
                let due = shard.and_then(|shard| shard.dbs[index].first_to_expire());
                let Some(name) = due.filter(|(at, _)| *at <= now_ms).map(|(_, entry)| entry.key().to_vec()) else {
                    break;
                };
                let key = Key { bytes: &name, hash: hash_key(server.shards.seed(), &name) };
                self.engine.with_db(&mut locked, index, |ctx| ctx.db.expire(key));
                left -= 1;
            }
        }
        self.engine.count();
        left == 0
    }

    /// Starts a save in the background if one is scheduled or a save point is reached.
    fn save(&mut self) {
        let server = &self.server;
        let now_s = self.engine.now_ms / 1000;
        let dirty = server.stats.dirty.load(Ordering::Relaxed);
        if server.loading.load(Ordering::Acquire) || server.aof.is_rewriting() || server.has_snapshot_under_way() {
            return;
        }
        if let Some((changes, seconds)) = server.persistence.save_point(&self.engine.config, dirty, now_s) {
            server.log.notice(format_args!("{changes} changes in {seconds} seconds. Saving..."));
        } else if !server.persistence.is_scheduled() {
            return;
        }
        let mut locked = server.shards.lock(server.shards.all());
        crate::snapshot::save::start(server, &mut locked);
    }

    /// Closes clients that have said nothing for `timeout` seconds.
    fn close_idle_clients(&mut self) {
        let timeout_ms = i64::from(self.engine.config.timeout) * 1000;
        if timeout_ms == 0 {
            return;
        }
        for client in self.server.clients.all() {
            let idle_ms = self.engine.now_ms - client.last_interaction_ms.load(Ordering::Relaxed);
            let is_exempt = client.has(Client::BLOCKED | Client::MONITOR | Client::REPLICA)
                || client.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0);
            if idle_ms > timeout_ms && !is_exempt {
                client.mailbox.put(|letters| letters.kill = true);
            }
        }
    }

    /// Notes how large clients' buffers are, has those given back that are too large, and wakes connections whose
    /// clients do not read: a soft limit may be over by now, though nothing is sent any more.
    fn look_at_buffers(&mut self) {
        let now_ms = self.engine.now_ms;
        let switches = &self.server.switches;
        let forgets_peaks = switches.reply_peak_ms().is_some_and(|ms| now_ms - self.peaks_since_ms >= ms);
        if forgets_peaks {
            self.peaks_since_ms = now_ms;
        }
        let mut most = [0; 2];
        for client in self.server.clients.iter() {
            let [query, room] = [0, 1].map(|part| client.query_buffer[part].load(Ordering::Relaxed));
            let output = client.output_buffer.load(Ordering::Relaxed);
            most = [most[0].max(query + room), most[1].max(output)];
            if room > LARGE_ROOM && !switches.buffers_kept() {
                client.mailbox.put(|letters| letters.give_back = true);
            } else if output > 0 {
                client.mailbox.wake();
            }
            if forgets_peaks {
                client.output_peak.store(output, Ordering::Relaxed);
            }
        }
        self.server.clients.recent.note(now_ms / 1000, most);
    }

    /// Notices a script that runs for too long, and answers clients in the place of the workers it holds up.
    fn watch_script(&mut self, acceptor: &Acceptor) {
        let busy = &self.server.busy;
        let threshold_ms = self.engine.config.busy_reply_threshold as i64;
        let Some(since_ms) = busy.since_ms() else { return };
        if threshold_ms == 0 || self.engine.now_ms - since_ms < threshold_ms {
            return;
        }
        if busy.declare(since_ms) {
            self.server.log.warning(format_args!(
                "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the SCRIPT KILL command.",
                self.engine.now_ms - since_ms
            ));
        }
        for entry in acceptor.connections.iter() {
            // The connection that runs the script is locked by its worker.
            let Some(mut connection) = entry.value().try_lock() else { continue };
            let len = connection.stream.read_now(&mut self.scratch).unwrap_or(0);
            if len == 0 || connection.received(&mut self.engine, &self.scratch[..len]).is_ok() {
                // What could not be sent at the last tick may be sent now.
                connection.flush_now(&mut self.engine);
            }
        }
    }
}

impl Engine {
    /// Runs `work` on a locked database in the server's own name, and delivers what it did.
    pub fn with_db<'g>(
        &mut self,
        locked: &mut crate::keyspace::lock::Locked<'g>,
        index: usize,
        work: impl FnOnce(&mut crate::command::ctx::Ctx<'_, 'g>),
    ) {
        let server = self.server.clone();
        let mut session = Session::new(self.own_client.clone(), true);
        session.worker = self.worker;
        session.select(index);
        let mut reply = crate::resp::reply::Reply::default();
        let config = self.config.clone();
        let now_ms = self.now_ms;
        let access = call::access(&server, &config, &session.client, now_ms);
        let db = Db { locked, index, effects: self.effects(), now_ms, access };
        let mut ctx = crate::command::ctx::Ctx {
            db,
            reply: &mut reply,
            session: &mut session,
            server: &server,
            config: &config,
            now_ms,
            command: server.registry.first(),
            origin: crate::command::ctx::Origin::Log,
        };
        work(&mut ctx);
        serve::deliver(&mut ctx);
    }
}
