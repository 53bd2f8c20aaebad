//! A server that has the process to itself: what is logged, the title, the pid file, signals, the exit code.

pub mod selftest;

use crate::acl::selector::RuleError;
use crate::acl::user::merge_selectors;
use crate::acl::{self, Acl, Catalog, User};
use crate::command::table::Registry;
use crate::commands;
use crate::config::{AclPubsubDefault, Config, ConfigError, Loaded, Located, LogLevel, ShutdownFlags, os_reason};
use crate::core::background;
use crate::keyspace::lock::MayWait;
use crate::memory;
use crate::os::banner;
use crate::os::log::{Log, Role};
use crate::os::process::{self, OpenFiles, OwnProcess, PidFile};
use crate::os::supervisor::{self, Supervisor};
use crate::run::restart;
use crate::run::start::{Options, Running, refuse_what_is_missing};
use crate::server::Server;
use crate::snapshot::save;
use crate::socket::tls::{self, Tls};
use crate::util::sync::Mutex;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a server with this configuration until it is ended; the process's exit code.
///
/// `program` is the name it was started as, `file` the configuration file, `is_bare` tells that no configuration was
/// named at all.
pub fn run(loaded: Loaded, program: String, file: Option<PathBuf>, is_bare: bool) -> ExitCode {
    let log = Log::open(&loaded.config);
    loaded.notes.iter().for_each(|(level, note)| log.line(*level, note));
    match start(loaded, program, file, is_bare, &log) {
        Ok(running) => {
            let server = running.server.clone();
            // Not before: where the program goes to the background, it forks, and threads do not come along.
            if let Err(error) = memory::purge_in_background(server.config.load().jemalloc_bg_thread) {
                log.warning(format_args!("jemalloc has no background threads: {error}"));
            }
            let ended_well = running.wait();
            remove_pid_file(&server);
            begin_anew_if_asked(&server);
            if ended_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(Refusal::Config(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(Refusal::Logged(reason)) => {
            log.warning(reason);
            ExitCode::FAILURE
        }
    }
}

/// Why no server was started.
enum Refusal {
    /// A line of the configuration is wrong; told on standard error, as Redis does.
    Config(ConfigError),
    /// Told in the log.
    Logged(String),
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Refusal::Config(error)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Logged(reason)
    }
}

fn start(loaded: Loaded, program: String, file: Option<PathBuf>, is_bare: bool, log: &Log) -> Result<Running, Refusal> {
    if let Some(module) = loaded.modules.first() {
        return Err(ConfigError::at(&module.place, "Modules cannot be loaded into this server").into());
    }
    refuse_what_is_missing(&loaded.config)?;
    let registry = registry(&loaded)?;
    check_users(&loaded, &registry.catalog())?;
    let (mut config, users) = (loaded.config, loaded.users);
    let supervisor = Supervisor::find(config.supervised, log);
    if let Some(supervisor) = &supervisor {
        config.supervised = supervisor.kind();
    }
    if config.daemonize && supervisor.is_none() {
        process::daemonize().map_err(|error| format!("Can't go to the background: {error}"))?;
    }
    log_versions(log, is_bare, &program);
    make_room_for_clients(&mut config, log)?;
    let pid_file = Mutex::new(create_pid_file(&config, log));
    let executable = std::env::current_exe().unwrap_or_default();
    let process = OwnProcess {
        program,
        executable,
        // The title takes their place.
        arguments: std::env::args_os().collect(),
        environment: std::env::vars_os()
            .filter(|(name, _)| !restart::is_delay(name) && !supervisor::is_for_start(name))
            .collect(),
        config_file: file,
        oom_score: Default::default(),
        supervisor,
        pid_file,
        restart_delay: Default::default(),
    };
    // Only `ps` suffers if this fails.
    let _ = config.set_proc_title.then(|| process.show_title(&config));
    introduce(&config, log);
    warn_of_backlog(&config, log);
    if let Err(error) = process.oom_score.lock().apply(&config, config.replicaof.is_some()) {
        log.warning(format_args!("Unable to write oom_score_adj: {error}"));
    }
    let tls = Tls::default();
    if tls::is_wanted(&config) {
        tls.configure(&config).map_err(|reason| {
            log.warning(reason);
            "Failed to configure TLS. Check logs for more info.".to_owned()
        })?;
    }
    let ports = (config.port, config.tls_port);
    let acl = load_users(&config, &users, registry.catalog(), log)?;
    let options = Options {
        config,
        any_port: false,
        log: log.clone(),
        load: true,
        ready: Box::new(tell_ready),
        process: Some(process),
        registry,
        tls,
        acl: Some(acl),
        ..Options::default()
    };
    log.set_role(Role::Master);
    log.notice("Server initialized");
    let running = Server::start(options).map_err(|reason| {
        if !reason.starts_with("Could not create server TCP") {
            return reason;
        }
        log.warning(format_args!("Warning: {reason}"));
        // The reason names the port it is about.
        let is_tls = ports.0 == 0 || reason.contains(&format!(":{}: ", ports.1));
        let (port, kind) = if is_tls { (ports.1, "tls") } else { (ports.0, "tcp") };
        format!("Failed listening on port {port} ({kind}), aborting.")
    })?;
    warn_of_small_maxmemory(&running.server);
    running.server.report_panics();
    obey_signals(running.server.clone()).map_err(|error| format!("Can't listen to signals: {error}"))?;
    Ok(running)
}

/// The data set is complete: clients are served.
fn tell_ready(server: &Server) {
    let config = server.config.load();
    if config.port != 0 {
        server.log.notice("Ready to accept connections tcp");
    }
    if config.unixsocket.is_some() {
        server.log.notice("Ready to accept connections unix");
    }
    if config.tls_port != 0 {
        server.log.notice("Ready to accept connections tls");
    }
    server.tell_supervisor("STATUS=Ready to accept connections");
    server.tell_supervisor("READY=1");
}

/// Checks the words of the `user` lines; a command or category that is unknown is told later, when the log is open.
fn check_users(loaded: &Loaded, catalog: &Catalog) -> Result<(), ConfigError> {
    for line in &loaded.users {
        let words: Vec<&[u8]> = line.value.iter().skip(1).map(Vec::as_slice).collect();
        let wrong = |word: &[u8], reason: &dyn std::fmt::Display| {
            let word = String::from_utf8_lossy(word);
            ConfigError::at(&line.place, format!("Error in user declaration '{word}': {reason}"))
        };
        let rules = merge_selectors(&words).map_err(|start| wrong(words[start], &"Unmatched parenthesis"))?;
        let mut user = User::new(&line.value[0], false);
        for rule in &rules {
            match user.apply(rule, catalog, false) {
                Ok(()) | Err(RuleError::Unknown) => {}
                Err(error) => return Err(wrong(rule, &error)),
            }
        }
    }
    Ok(())
}

/// The users of the configuration or of the ACL file. Errors are what the log is told.
fn load_users(config: &Config, users: &[Located<Vec<Vec<u8>>>], catalog: Catalog, log: &Log) -> Result<Acl, String> {
    if !config.aclfile.is_empty() && !users.is_empty() {
        return Err(
            "Users are declared both in the configuration and in an ACL file (aclfile). This is likely to be a \
                    mistake, and may let somebody in who was meant to be kept out: use one of the two."
                .to_owned(),
        );
    }
    let all_channels = config.acl_pubsub_default == AclPubsubDefault::AllChannels;
    let acl = Acl::new(catalog, config.requirepass.as_deref());
    let lines: Vec<&[Vec<u8>]> = users.iter().map(|user| user.value.as_slice()).collect();
    acl.load_configured(&lines, all_channels).map_err(|error| {
        log.bytes(LogLevel::Warning, &error);
        "Critical error while loading ACLs. Exiting.".to_owned()
    })?;
    for user in users.iter().filter_map(|user| acl.find(&user.value[0])).map(|account| account.user()) {
        if !user.enabled {
            let name = String::from_utf8_lossy(&user.name);
            log.notice(format_args!(
                "The user '{name}' is disabled (there is no 'on' modifier in the user description). Make sure this is \
                 not a configuration error."
            ));
        }
    }
    if !config.aclfile.is_empty() {
        let users = acl::file::load(&config.dir, &config.aclfile, acl.catalog(), all_channels);
        let users = users.map_err(|errors| {
            format!("Aborting Redis startup because of ACL errors: {}", String::from_utf8_lossy(&errors))
        })?;
        acl.replace_all(users);
    }
    Ok(acl)
}

/// The commands as `rename-command` leaves them.
fn registry(loaded: &Loaded) -> Result<Registry, ConfigError> {
    let mut registry = commands::registry();
    for renamed in &loaded.renamed_commands {
        let [name, new_name] = &renamed.value;
        registry.rename(name, new_name).map_err(|reason| ConfigError::at(&renamed.place, reason))?;
    }
    Ok(registry)
}

fn log_versions(log: &Log, is_bare: bool, program: &str) {
    log.notice(format_args!("Redstart {} is starting", banner::VERSION));
    log.notice(format_args!(
        "Redis version={}, bits={}, commit=00000000, modified=0, pid={}, just started",
        banner::REDIS_VERSION,
        usize::BITS,
        std::process::id()
    ));
    if is_bare {
        log.warning(format_args!(
            "Warning: no config file specified, using the default config. In order to specify a config file use \
             {program} /path/to/redis.conf"
        ));
    } else {
        log.notice("Configuration loaded");
    }
}

/// Raises the limit of open files, or lowers `maxclients` to what there is room for.
fn make_room_for_clients(config: &mut Config, log: &Log) -> Result<(), String> {
    let reserved = u64::from(process::RESERVED_FILES);
    let wanted = u64::from(config.maxclients) + reserved;
    match process::raise_open_files(config.maxclients) {
        Ok(OpenFiles::Enough) => {}
        Ok(OpenFiles::Raised { from, to }) => log
            .notice(format_args!("Increased maximum number of open files to {to} (it was originally set to {from}).")),
        Ok(OpenFiles::Short { limit, .. }) if limit <= reserved => {
            return Err(format!(
                "Your current 'ulimit -n' of {limit} is not enough for the server to start. Please increase your open \
                 file limit to at least {wanted}. Exiting."
            ));
        }
        Ok(OpenFiles::Short { limit, reason }) => {
            let possible = u32::try_from(limit - reserved).unwrap_or(u32::MAX);
            log.warning(format_args!(
                "You requested maxclients of {} requiring at least {wanted} max file descriptors.",
                config.maxclients
            ));
            log.warning(format_args!("Server can't set maximum open files to {wanted} because of OS error: {reason}."));
            log.warning(format_args!(
                "Current maximum open files is {limit}. maxclients has been reduced to {possible} to compensate for low \
                 ulimit. If you need higher maxclients increase 'ulimit -n'."
            ));
            config.maxclients = possible;
        }
        Err(error) => log.warning(format_args!("Unable to obtain the current NOFILE limit ({error})")),
    }
    Ok(())
}

/// `pidfile`, and Redis's default for one when daemonized.
fn create_pid_file(config: &Config, log: &Log) -> Option<PidFile> {
    let default = config.daemonize.then_some("/var/run/redis.pid");
    let path = config.dir.join(config.pidfile.as_deref().or(default)?);
    let created = PidFile::create(&path);
    created.map_err(|error| log.warning(format_args!("Failed to write PID file: {}", os_reason(&error)))).ok()
}

fn introduce(config: &Config, log: &Log) {
    let to_terminal = !config.syslog_enabled && config.logfile.is_empty() && io::stdout().is_terminal();
    if to_terminal || config.always_show_logo {
        log.raw(&banner::logo(config, std::process::id()));
    } else {
        let port = if config.port != 0 { config.port } else { config.tls_port };
        log.notice(format_args!("Running mode={}, port={port}.", banner::mode(config)));
    }
}

/// The kernel keeps fewer connections waiting than asked for, without a word.
fn warn_of_backlog(config: &Config, log: &Log) {
    const LIMIT: &str = "/proc/sys/net/core/somaxconn";
    let limit: Option<u32> = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse().ok());
    if let Some(limit) = limit.filter(|limit| *limit < config.tcp_backlog) {
        log.warning(format_args!(
            "WARNING: The TCP backlog setting of {} cannot be enforced because {LIMIT} is set to the lower value of \
             {limit}.",
            config.tcp_backlog
        ));
    }
}

/// Most likely a unit is missing.
fn warn_of_small_maxmemory(server: &Server) {
    let bytes = server.config.load().maxmemory;
    if (1..1 << 20).contains(&bytes) {
        server.log.warning(format_args!(
            "WARNING: You specified a maxmemory value that is less than 1MB (current value is {bytes} bytes). Are you sure \
             this is what you really want?"
        ));
    }
}

/// The signals that are listened to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    abort: Signal,
}

/// Starts the thread that does what signals ask for.
fn obey_signals(server: Arc<Server>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let signals = {
        let _runtime = runtime.enter();
        Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            abort: signal(SignalKind::from_raw(libc::SIGABRT))?,
        }
    };
    let obey = move || runtime.block_on(listen(server, signals));
    std::thread::Builder::new().name("signals".to_owned()).spawn(obey)?;
    Ok(())
}

/// How long threads may take to end before they are left behind (one may be in a script that never ends).
const GRACE: Duration = Duration::from_secs(3);
/// How often it is looked whether the periodic work goes on.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

async fn listen(server: Arc<Server>, mut signals: Signals) {
    loop {
        let name = tokio::select! {
            () = server.stop.requested() => break,
            _ = signals.terminate.recv() => "SIGTERM",
            _ = signals.interrupt.recv() => "SIGINT",
            _ = signals.abort.recv() => server.crash(libc::SIGABRT),
            // A closed terminal is no reason to end.
            _ = signals.hangup.recv() => continue,
        };
        if name == "SIGINT" && server.stop.is_signalled() {
            server.log.warning("You insist... exiting now.");
            leave(&server, 1);
        }
        server.log.warning(if server.loading.load(Ordering::Acquire) {
            "Received shutdown signal during loading, scheduling shutdown.".to_owned()
        } else {
            format!("Received {name} scheduling shutdown...")
        });
        if server.stop.signal() {
            let ending = server.clone();
            // Saving may take long; a second SIGINT is heard meanwhile.
            let thread = background::spawn("shutdown", move |may_wait| end(&ending, may_wait, name));
            if let Err(error) = thread {
                server.log.warning(format_args!("Can't start a thread for the shutdown: {error}"));
                server.stop.call_off();
            }
        }
    }
    // A script that is being waited for would hold its worker until the grace is over.
    if !server.busy.is_busy() {
        tokio::time::sleep(GRACE).await;
    }
    leave(&server, i32::from(server.stop.has_failed()));
}

/// Ends the process without waiting for anybody.
fn leave(server: &Server, code: i32) -> ! {
    remove_pid_file(server);
    save::remove_unfinished(server, &server.persistence);
    begin_anew_if_asked(server);
    std::process::exit(code)
}

fn begin_anew_if_asked(server: &Server) {
    if let Some(process) = &server.process {
        process.begin_anew_if_asked();
    }
}

fn remove_pid_file(server: &Server) {
    if let Some(file) = server.process.as_ref().and_then(|process| process.pid_file.lock().take()) {
        server.log.notice("Removing the pid file.");
        drop(file);
    }
}

/// Ends the server as a signal asks, unless SHUTDOWN ABORT is faster. Signals are obeyed by the periodic work, in Redis;
/// while that rests, by DEBUG PAUSE-CRON, they wait.
fn end(server: &Server, may_wait: MayWait, signal: &str) {
    while server.switches.cron_paused() && server.stop.is_signalled() {
        std::thread::sleep(LOOK_AGAIN);
    }
    if !server.stop.is_signalled() {
        return;
    }
    let config = server.config.load();
    let flags: ShutdownFlags = if signal == "SIGTERM" { config.shutdown_on_sigterm } else { config.shutdown_on_sigint };
    // Why it goes on has been logged; an attempt that is under way goes on for this signal too.
    let _ = server.shut_down(may_wait, flags);
}
