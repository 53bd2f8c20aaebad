//! Wiring: from a configuration to a running server, and its orderly end.

use crate::acl::Acl;
use crate::command::call::Engine;
use crate::command::table::Registry;
use crate::commands;
use crate::config::Config;
use crate::core::{Core, Parts};
use crate::keyspace::lock::MayWait;
use crate::net::listener::{Acceptor, Listeners};
use crate::net::worker::{Connections, Handle};
use crate::os::log::Log;
use crate::os::process::OwnProcess;
use crate::run::cron;
use crate::run::main_loop;
use crate::server::Server;
use crate::socket::tls::{self, Tls};
use crate::util::clock::Clock;
use crate::util::rng::Random;
use redstart_persistence::file::Faults;
use redstart_types::seed::HashSeed;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// How to start a server. `Options::default()` is a server for a test: a free port on 127.0.0.1, silent, not saving.
pub struct Options {
    pub config: Config,
    /// Take any free TCP port when `config.port` is 0 (Redis would open none).
    pub any_port: bool,
    pub clock: Clock,
    /// Makes everything random repeat.
    pub seed: Option<u64>,
    /// The secret key of all hashes, in tests and fuzzers that want equal ones; None draws it at random.
    pub hash_seed: Option<HashSeed>,
    pub log: Log,
    /// Load what is on disk.
    pub load: bool,
    /// Called when the data set is complete.
    pub ready: Box<dyn FnOnce(&Server) + Send>,
    /// What goes wrong with the files of the data set: for tests.
    pub faults: Option<Faults>,
    /// The process that the server has to itself.
    pub process: Option<OwnProcess>,
    /// The commands it has.
    pub registry: Registry,
    /// TLS, where somebody has configured it already.
    pub tls: Tls,
    /// Its users; the default user alone if none are given.
    pub acl: Option<Acl>,
}

impl Default for Options {
    fn default() -> Self {
        let config = Config { port: 0, bind: vec!["127.0.0.1".to_owned()], save: Vec::new(), ..Config::default() };
        Options {
            config,
            any_port: true,
            clock: Clock::System,
            seed: None,
            hash_seed: None,
            log: Log::nowhere(),
            load: false,
            ready: Box::new(|_| {}),
            faults: None,
            process: None,
            registry: commands::registry(),
            tls: Tls::default(),
            acl: None,
        }
    }
}

/// A server that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    pub server: Arc<Server>,
    address: Option<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server and returns once it accepts connections.
    pub fn start(mut options: Options) -> Result<Running, String> {
        refuse_what_is_missing(&options.config)?;
        let ready = std::mem::replace(&mut options.ready, Box::new(|_| {}));
        let loads = options.load;
        let listeners = Listeners::bind(&options.config, options.any_port, &options.log)?;
        let address = listeners.tcp.first().and_then(|listener| listener.local_addr().ok());
        let (server, registry) = options.build();
        let server = Arc::new(server);
        let config = server.config.load();
        server.clients.set_output_limits(&config);
        server.limit_client_memory(&config);
        if tls::is_wanted(&config) && server.tls.accepting().is_none() {
            server.tls.configure(&config)?;
        }
        // Nobody may see the data set before it is complete.
        server.loading.store(loads, Ordering::Release);
        server.port.store(usize::from(listeners.port), Ordering::Relaxed);
        let connections = Arc::new(Connections::default());
        let count = server.config.load().io_threads;
        let workers: io::Result<Vec<Handle>> = (0..count)
            .map(|index| Handle::start(server.clone(), registry.clone(), index, connections.clone()))
            .collect();
        let workers = workers.map_err(|error| format!("Fatal: can't start a worker thread: {error}"))?;
        let acceptor = Acceptor::new(server.clone(), connections, workers);
        let cron = cron::start(server.clone(), registry.clone(), count + 1);
        let cron = cron.map_err(|error| format!("Fatal: can't start the thread of the periodic work: {error}"))?;
        let engine = Engine::new(server.clone(), registry.clone(), count, None);
        let (rebinds, wishes) = tokio::sync::mpsc::unbounded_channel();
        // A new server's cell is empty.
        let _ = server.main_loop.set(rebinds);
        let thread = std::thread::Builder::new()
            .name("main_loop".to_owned())
            .spawn(move || main_loop::run(acceptor, engine, cron, listeners, wishes))
            .map_err(|error| format!("Fatal: can't start the main loop: {error}"))?;
        server.start_watchdog(server.config.load().watchdog_period);
        server.startup_memory.store(server.read_memory().allocated, Ordering::Relaxed);
        let running = Running { server, address, thread: Some(thread) };
        if loads {
            crate::run::load::begin(&running.server, registry, MayWait::of_thread(), ready)?;
        } else {
            ready(&running.server);
        }
        Ok(running)
    }
}

impl Options {
    /// A server without threads or sockets, and its commands.
    pub fn build(self) -> (Server, Arc<Registry>) {
        let Options { config, clock, seed, hash_seed, log, faults, process, registry, tls, acl, .. } = self;
        let random = Random::new(seed);
        let hash_seed = hash_seed.unwrap_or_else(|| random.hash_seed());
        let acl = acl.unwrap_or_else(|| Acl::new(registry.catalog(), config.requirepass.as_deref()));
        let commands = registry.all().len();
        let core = Core::new(Parts { config, log, clock, random, hash_seed, commands, faults, process });
        (Server::new(core, acl, tls), Arc::new(registry))
    }
}

/// What Redis has and this server has not yet is refused: left out in silence, it would give a server that takes the
/// writes meant for another one.
pub(crate) fn refuse_what_is_missing(config: &Config) -> Result<(), String> {
    if config.cluster_enabled {
        return Err("cluster-enabled: this server cannot be a cluster node yet".to_owned());
    }
    if config.replicaof.is_some() {
        return Err("replicaof: this server cannot be a replica yet".to_owned());
    }
    Ok(())
}

impl Running {
    /// The TCP address it listens on, if it does.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Ends the server and waits for its threads.
    pub fn shutdown(mut self) {
        self.end();
    }

    /// Waits until the server ends by itself (SHUTDOWN, a signal); whether it ended well.
    pub fn wait(mut self) -> bool {
        if let Some(thread) = self.thread.take() {
            // A panic has been printed where it happened.
            drop(thread.join());
        }
        !self.server.stop.has_failed()
    }

    fn end(&mut self) {
        self.server.stop.request();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.server.background.end();
        self.server.aof.release();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
