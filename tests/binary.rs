//! The binary as a process: how it starts, what it logs, how signals and crashes end it.

mod common;

use common::{Client, Folder, until};
use std::fs;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const SIGINT: i32 = 2;
const SIGABRT: i32 = 6;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;

/// A server process with a folder of its own, reached over a Unix socket; killed with the value.
struct Process {
    folder: Folder,
    child: Child,
}

impl Process {
    /// Starts one with these arguments after those that every test needs; `stdin` is what it may read.
    fn start(name: &str, args: &[&str], stdin: &str) -> Process {
        let process = Process::start_in(Folder::new(name), args, stdin);
        until("the server is ready", || process.log().contains("Ready to accept connections unix"));
        process
    }

    /// Starts one in a folder where files may be.
    fn start_in(folder: Folder, args: &[&str], stdin: &str) -> Process {
        let mut child = command(&folder)
            .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--enable-debug-command", "yes"])
            .args(args)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("a pipe holds that much");
        Process { folder, child }
    }

    /// Ends it with this command and starts another one in its folder.
    fn restart(mut self, command: &str, args: &[&str]) -> Process {
        self.client().start(command);
        assert_eq!(self.end().code(), Some(0), "{}", self.log());
        let folder = std::mem::replace(&mut self.folder, Folder::new("none"));
        Process::start_in(folder, args, "")
    }

    /// Waits for a line in the log.
    fn logs(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "{text} in {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn client(&self) -> Client {
        Client::connect_unix(&self.path("socket"))
    }

    /// A client as soon as there can be one.
    fn reach(&self) -> Client {
        until("it can be reached", || UnixStream::connect(self.path("socket")).is_ok());
        self.client()
    }

    fn signal(&self, signal: i32) {
        let words = [format!("-{signal}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(words).status().expect("there is a kill command").success());
    }

    /// Waits for its end.
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        status.expect("it has just ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with its folder as directory and standard output and error going to the file `log` there.
fn command(folder: &Folder) -> Command {
    let log = || fs::OpenOptions::new().create(true).append(true).open(folder.0.join("log")).expect("a folder of ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_redstart"));
    command.current_dir(&folder.0).stdout(log()).stderr(log());
    command
}

/// What a start with these arguments ends with, and what it printed.
fn refused(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let folder = Folder::new(name);
    let child = command(&folder).args(args).stdin(Stdio::null()).spawn().expect("the binary starts");
    let mut process = Process { folder, child };
    (process.end().code(), process.log())
}

#[test]
fn the_log_says_what_scripts_wait_for() {
    let mut process = Process::start("contract", &["--always-show-logo", "yes"], "");
    let pid = process.child.id();
    let log = process.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text} in {log}"));
    assert!(at(&format!(" PID: {pid}")) < at("Server initialized"));
    assert!(at("Server initialized") < at("Ready to accept connections unix"));
    assert_eq!(process.client().run("PING"), "+PONG");
    process.signal(SIGTERM);
    assert_eq!(process.end().code(), Some(0));
    for line in ["Received SIGTERM scheduling shutdown...", "User requested shutdown...", "bye bye..."] {
        assert!(process.log().contains(line), "{line} in {}", process.log());
    }
    assert!(!process.path("socket").exists(), "the socket goes with the server");
}

#[test]
fn directives_come_from_the_file_and_from_standard_input_and_from_arguments() {
    let folder = Folder::new("sources");
    let file = folder.0.join("redis.conf");
    fs::write(&file, "hz 50\nmaxclients 70\nproc-title-template \"file\"\n").unwrap();
    let file = file.to_str().unwrap();
    // The last one wins: file, standard input, arguments. The file's name must come first, so this starts by hand.
    let own = Folder::new("sources-own");
    let mut child = command(&own)
        .args([file, "--unixsocket", "socket", "--port", "0", "--maxclients", "90", "--loglevel", "verbose", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"maxclients 80\ntimeout 7\n").unwrap();
    let mut process = Process { folder: own, child };
    until("the server is ready", || process.log().contains("Ready to accept connections unix"));
    let mut client = process.client();
    assert_eq!(client.run("CONFIG GET hz"), "[hz 50]");
    assert_eq!(client.run("CONFIG GET timeout"), "[timeout 7]");
    assert_eq!(client.run("CONFIG GET maxclients"), "[maxclients 90]");
    assert_eq!(client.run("CONFIG GET loglevel"), "[loglevel verbose]");
    client.start("SHUTDOWN NOSAVE");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_wrong_directive_is_named() {
    for (args, text) in [
        (&["--port", "6379", "6380"][..], "'port \"6379\" \"6380\"'\nwrong number of arguments"),
        (&["--port", "--bla"], "'port \"--bla\"'\nargument couldn't be parsed into an integer"),
        (&["--loglevel", "--bla"], "'loglevel \"--bla\"'\nargument(s) must be one of the following"),
        (&["--shutdown-on-sigint", "nonsense"], "argument(s) must be one of the following"),
        (&["--replicaof", "127.0.0.1", "abc"], "'replicaof \"127.0.0.1\" \"abc\"'\nInvalid master port"),
        (&["--no-such-thing", "1"], "Bad directive or wrong number of arguments"),
    ] {
        let (code, output) = refused("wrong-directive", args);
        assert_eq!(code, Some(1), "{args:?}");
        assert!(output.contains(text), "{args:?}: {output}");
    }
}

/// The log has the key and how far the file is sound, as `redis-check-rdb` would say.
#[test]
fn a_damaged_data_set_is_looked_into() {
    let folder = Folder::new("damaged");
    let file = [b"REDIS0003\x00\x01a\x01b".as_slice(), b"\x0a\x01k\x02??\xff"].concat();
    fs::write(folder.0.join("dump.rdb"), file).expect("a folder of ours");
    let status = command(&folder)
        .args(["--port", "0", "--unixsocket", "socket"])
        .stdin(Stdio::null())
        .status()
        .expect("the binary starts");
    assert_eq!(status.code(), Some(1));
    let log = fs::read_to_string(folder.0.join("log")).expect("it was opened");
    let error = "List ziplist integrity check failed.";
    assert_eq!(log.matches(error).count(), 2, "{log}");
    for text in ["--- RDB ERROR DETECTED ---", "Reading key 'k'", "[info] 2 keys read", "Terminating server after"] {
        assert!(log.contains(text), "{text} in {log}");
    }
}

#[test]
fn users_come_from_the_configuration() {
    let users = "user default on >pass ~* &* +@all\nuser bob on nopass ~b* +get ( ~c +set )\nuser eve >x\n";
    let process = Process::start("users", &["-"], users);
    assert!(process.log().contains("The user 'eve' is disabled"), "{}", process.log());
    let mut client = process.client();
    assert_eq!(client.run("PING"), "-NOAUTH Authentication required.");
    assert_eq!(client.run("AUTH bob any"), "+OK");
    assert_eq!(client.run("GET b1"), "nil");
    assert_eq!(client.run("GET c"), "-NOPERM No permissions to access a key");
    assert_eq!(client.run("SET c 1"), "+OK");
    assert_eq!(client.run("AUTH pass"), "+OK");
    assert_eq!(client.run("ACL USERS"), "[bob default eve]");
}

#[test]
fn users_come_from_a_file() {
    let folder = Folder::new("acl-file");
    let file = folder.0.join("users.acl");
    fs::write(&file, "user ann on >pw ~* &* +@all\nuser default off\n").unwrap();
    let process = Process::start("acl", &["--aclfile", file.to_str().unwrap(), "--requirepass", "unused"], "");
    let mut client = process.client();
    assert_eq!(client.run("AUTH unused"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.run("AUTH ann pw"), "+OK");
    assert_eq!(client.run("ACL SETUSER new on nopass +@all"), "+OK");
    assert_eq!(client.run("ACL SAVE"), "+OK");
    assert!(fs::read_to_string(&file).unwrap().contains("\nuser new on nopass sanitize-payload resetchannels +@all\n"));
}

#[test]
fn wrong_users_are_named() {
    for (args, text) in [
        (&["--user", "bob", "on", "%"][..], "Error in user declaration '%': Syntax error"),
        (&["--user", "bob", "(+get"], "Error in user declaration '(+get': Unmatched parenthesis"),
        (&["--user", "bob", "+nosuch"], "Error loading ACL rule '+nosuch' for the user named 'bob': Unknown command"),
        (&["--user", "a b", "on"], "Spaces not allowed in ACL usernames"),
        (&["--aclfile", "nosuch"], "because of ACL errors: Error loading ACLs, opening file 'nosuch': No such file"),
        (&["--aclfile", "log"], "log:1 should start with user keyword followed by the username."),
        (&["--user", "bob", "on", "--aclfile", "x"], "both in the configuration and in an ACL file"),
    ] {
        let (code, output) = refused("wrong-user", args);
        assert_eq!(code, Some(1), "{args:?}");
        assert!(output.contains(text), "{args:?}: {output}");
    }
}

#[test]
fn the_pid_file_and_the_title_are_this_process() {
    let mut process = Process::start("pid-file", &["--pidfile", "pid", "--proc-title-template", "TEST {title}"], "");
    let pid = process.child.id();
    assert_eq!(fs::read_to_string(process.path("pid")).unwrap(), format!("{pid}\n"));
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(title.starts_with("TEST "), "{title}");
    process.signal(SIGINT);
    assert_eq!(process.end().code(), Some(0));
    assert!(!process.path("pid").exists(), "the pid file goes with the server");
}

#[test]
fn a_panic_is_reported_in_the_log() {
    let mut process = Process::start("panic", &[], "");
    process.client().start("DEBUG PANIC");
    assert_eq!(process.end().signal(), Some(SIGABRT));
    let log = process.log();
    for text in ["=== REDIS BUG REPORT START", "=== ASSERTION FAILED ===", "DEBUG PANIC was called", "STACK TRACE"] {
        assert!(log.contains(text), "{text} in {log}");
    }
}

#[test]
fn without_memory_the_end_is_reported() {
    let mut process = Process::start("oom", &[], "");
    process.client().start("DEBUG OOM");
    assert_eq!(process.end().signal(), Some(SIGABRT));
    let log = process.log();
    for text in
        ["Out Of Memory allocating 9223372036854775807 bytes!", "BUG REPORT START", "aborting for OUT OF MEMORY"]
    {
        assert!(log.contains(text), "{text} in {log}");
    }
}

#[test]
fn the_program_begins_anew() {
    let folder = Folder::new("anew");
    fs::write(folder.0.join("redis.conf"), "maxclients 77\n").unwrap();
    let arguments = ["--save", "3600 1", "--pidfile", "pid", "--appendonly", "no"];
    let child = command(&folder)
        .args(["redis.conf", "--port", "0", "--unixsocket", "socket", "--enable-debug-command", "yes"])
        .args(arguments)
        .env("HERE", "before")
        .stdin(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut process = Process { folder, child };
    let starts = |process: &Process| process.log().matches("Ready to accept connections unix").count();
    let pid = |process: &Process| fs::read_to_string(process.path("pid")).unwrap();
    until("it has started", || starts(&process) == 1);
    let mut client = process.client();
    assert_eq!(client.run("SET saved 1"), "+OK");
    assert_eq!(client.run("CONFIG SET maxclients 78"), "+OK");
    client.start("DEBUG RESTART");
    assert!(client.is_closed());
    until("it has started again", || starts(&process) == 2);
    assert_eq!(pid(&process), format!("{}\n", process.child.id()));
    let mut client = process.client();
    assert_eq!(client.run("GET saved"), "1");
    assert_eq!(client.run("CONFIG GET maxclients"), "[maxclients 78]", "it has written its file");

    assert_eq!(client.run("SET lost 1"), "+OK");
    let began = Instant::now();
    client.start("DEBUG CRASH-AND-RECOVER 300");
    assert!(client.is_closed());
    // Descriptors are closed one after the other.
    until("nobody is served meanwhile", || UnixStream::connect(process.path("socket")).is_err());
    assert_eq!(starts(&process), 2);
    until("it has started once more", || starts(&process) == 3);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let mut client = process.client();
    assert_eq!(client.run("MGET saved lost"), "[1 nil]");
    let environment = fs::read(format!("/proc/{}/environ", process.child.id())).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("HERE=before"));
    client.start("DEBUG RESTART");
    until("the time is not waited for again", || starts(&process) == 4);
    process.client().start("SHUTDOWN NOSAVE");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn values_are_printed_byte_by_byte() {
    let process = Process::start("print", &["--list-max-listpack-size", "2"], "");
    let mut client = process.client();
    client.run("HSET h field 12345");
    client.run("RPUSH q a b c");
    assert_eq!(client.run("DEBUG LISTPACK h"), "+Listpack structure printed on stdout");
    assert_eq!(client.run("DEBUG QUICKLIST q 1"), "+Quicklist structure printed on stdout");
    for text in [
        "{total bytes 18} {num entries 2}\n{\n\taddr: 0x",
        ",\n\tindex:  0,\n\toffset: 6,\n\thdr+entrylen+backlen:  7,\n\thdrlen:   1,\n\tbacklen:  1,\n\tpayload: 5\n\tbytes: 85|66|69|65|6c|64|06|\n\t[str]field\n}\n",
        "\tbytes: f1|39|30|03|\n\t[str]12345\n}\n{end}\n\n",
        "{count : 3}\n{len : 2}\n{fill : 2}\n{compress : 0}\n{bookmark_count : 0}\n{quicklist node(0)\n{container : PACKED, encoding: RAW, size: 13, count: 2,",
    ] {
        assert!(process.log().contains(text), "{text} in {}", process.log());
    }
}

#[test]
fn after_a_panic_the_process_may_exit_instead() {
    let mut process = Process::start("panic-exit", &["--use-exit-on-panic", "yes", "--crash-log-enabled", "no"], "");
    process.client().start("DEBUG PANIC");
    assert_eq!(process.end().code(), Some(1));
    assert!(!process.log().contains("BUG REPORT"), "{}", process.log());
}

#[test]
fn sigabrt_and_debug_segfault_are_reported() {
    let mut process = Process::start("abort", &[], "");
    process.signal(SIGABRT);
    assert_eq!(process.end().signal(), Some(SIGABRT));
    assert!(process.log().contains("crashed by signal: 6"), "{}", process.log());
    let mut process = Process::start("segfault", &[], "");
    process.client().start("DEBUG SEGFAULT");
    assert_eq!(process.end().signal(), Some(SIGABRT));
    assert!(process.log().contains("crashed by signal: 11"), "{}", process.log());
}

#[test]
fn shutdown_nosave_does_not_wait_for_a_script() {
    let end_takes = || {
        let mut process = Process::start("busy", &["--busy-reply-threshold", "10"], "");
        process.client().send(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n");
        let mut client = process.client();
        until("the script is found to take long", || client.run("PING").starts_with("-BUSY"));
        let began = Instant::now();
        client.start("SHUTDOWN NOSAVE");
        assert!(client.is_closed());
        assert_eq!(process.end().code(), Some(0));
        assert!(UnixStream::connect(process.path("socket")).is_err());
        began.elapsed()
    };
    // Waiting for threads takes 3 s each time; a machine that has much else to do may take long once.
    let took: Vec<Duration> = (0..5).map(|_| end_takes()).take_while(|took| *took > Duration::from_secs(2)).collect();
    assert!(took.len() < 5, "it took {took:?}");
}

/// A signal does not wait for a script where nothing is to be saved. Otherwise it does, and the script can still be killed.
#[test]
fn sigterm_while_a_script_runs() {
    for io_threads in ["1", "4"] {
        for save in ["", "3600 1"] {
            let arguments = ["--busy-reply-threshold", "10", "--io-threads", io_threads, "--save", save];
            let mut process = Process::start("sigterm-busy", &arguments, "");
            let mut client = process.client();
            assert_eq!(client.run("SET k v"), "+OK");
            process.client().send(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n");
            until("the script is found to take long", || client.run("PING").starts_with("-BUSY"));
            process.signal(SIGTERM);
            until("the signal is heard", || process.log().contains("Received SIGTERM scheduling shutdown..."));
            if !save.is_empty() {
                assert!(client.run("PING").starts_with("-BUSY"));
                assert_eq!(client.run("SCRIPT KILL"), "+OK");
            }
            assert_eq!(process.end().code(), Some(0));
            let has_saved = process.log().contains("Saving the final RDB snapshot before exiting.");
            assert_eq!(has_saved, !save.is_empty());
        }
    }
}

/// Everybody waits for DEBUG POPULATE, but not for ever.
#[test]
fn a_signal_ends_debug_populate() {
    let mut process = Process::start("populate", &[], "");
    process.client().start("DEBUG POPULATE 20000000 key");
    let mut client = process.client();
    client.start("PING");
    std::thread::sleep(Duration::from_millis(300));
    process.signal(SIGTERM);
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_signal_is_called_off_by_shutdown_abort() {
    let mut process = Process::start("called-off", &[], "");
    let mut client = process.client();
    // Signals are obeyed by the periodic work; a SIGINT after one that was called off is a first one again.
    for (signal, name) in [(SIGTERM, "SIGTERM"), (SIGINT, "SIGINT"), (SIGINT, "SIGINT")] {
        let seen = process.log().len();
        assert_eq!(client.run("DEBUG PAUSE-CRON 1"), "+OK");
        process.signal(signal);
        until("it is heard", || process.log()[seen..].contains(&format!("Received {name} scheduling shutdown...")));
        until("it is called off", || client.run("SHUTDOWN ABORT") == "+OK");
        assert!(process.log()[seen..].contains("Shutdown manually aborted."));
        assert_eq!(client.run("SHUTDOWN ABORT"), "-ERR No shutdown in progress.");
        assert_eq!(client.run("DEBUG PAUSE-CRON 0"), "+OK");
        assert_eq!(client.run("PING"), "+PONG");
    }
    assert!(!process.log().contains("User requested shutdown..."), "{}", process.log());
    process.signal(SIGINT);
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_signal_that_waits_for_replicas_is_called_off() {
    let mut process = Process::start("replica", &["--shutdown-timeout", "100"], "");
    let mut client = process.client();
    let mut follower = process.client();
    follower.send(b"PSYNC ? -1\r\n");
    until("the replica is served", || client.call(&["INFO", "replication"]).text().contains("state=online"));
    assert_eq!(client.run("SET k v"), "+OK");
    let in_ms = |client: &mut Client| {
        let info = client.call(&["INFO", "server"]).text();
        info.lines()
            .find_map(|line| line.strip_prefix("shutdown_in_milliseconds:").map(|ms| ms.parse::<i64>().unwrap()))
    };
    assert_eq!(in_ms(&mut client), None);
    process.signal(SIGTERM);
    until("it waits", || in_ms(&mut client).is_some());
    assert!((1..=100_000).contains(&in_ms(&mut client).unwrap()));
    // Whoever asks now waits for the same end, however much in a hurry.
    let (mut second, mut third) = (process.client(), process.client());
    second.start("SHUTDOWN NOW");
    third.start("SHUTDOWN SAVE");
    until("they wait", || client.call(&["INFO", "clients"]).text().contains("blocked_clients:2"));
    assert_eq!(client.run("SHUTDOWN ABORT"), "+OK");
    assert_eq!(client.run("SET k w"), "+OK");
    for client in [&mut second, &mut third] {
        assert_eq!(client.reply().to_string(), "-ERR Errors trying to SHUTDOWN. Check logs.");
        assert_eq!(client.run("PING"), "+PONG");
    }
    assert_eq!(in_ms(&mut client), None);
    assert_eq!(process.log().matches("User requested shutdown...").count(), 1);
    client.start("SHUTDOWN NOW");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn an_end_that_cannot_save_does_not_come() {
    let mut process = Process::start("cannot-save", &["--save", "900 1"], "");
    let mut client = process.client();
    client.run("SET k v");
    fs::create_dir(process.path("dump.rdb")).unwrap();
    // The second is no insistence: the first is over.
    for _ in 0..2 {
        let seen = process.log().len();
        process.signal(SIGINT);
        until("it fails", || process.log()[seen..].contains("Errors trying to shut down the server."));
        assert!(process.log()[seen..].contains("Error trying to save the DB, can't exit."));
        until("it is over", || client.run("SHUTDOWN ABORT") == "-ERR No shutdown in progress.");
    }
    for command in ["SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN NOW"] {
        assert_eq!(client.run(command), "-ERR Errors trying to SHUTDOWN. Check logs.", "{command}");
    }
    client.start("SHUTDOWN SAVE FORCE");
    assert_eq!(process.end().code(), Some(0));
    assert!(process.log().contains("Error trying to save the DB. Exit anyway."));
}

#[test]
fn a_second_sigint_does_not_wait_for_the_save() {
    let mut process = Process::start("insist", &["--save", "900 1", "--rdb-key-save-delay", "1000000"], "");
    process.client().run("DEBUG POPULATE 100");
    let temporary = process.path(&format!("temp-{}.rdb", process.child.id()));
    process.signal(SIGTERM);
    until("it saves", || temporary.exists());
    // A reply comes only if the server goes on.
    let mut client = process.client();
    client.start("SHUTDOWN ABORT");
    process.signal(SIGINT);
    assert_eq!(process.end().code(), Some(1));
    assert!(client.is_closed());
    assert!(process.log().contains("You insist... exiting now."));
    assert!(!temporary.exists() && !process.path("dump.rdb").exists());
}

/// Half a data set never takes the place of a whole one.
#[test]
fn a_server_that_loads_can_be_ended() {
    for (name, args) in [("loading-rdb", &[][..]), ("loading-aof", &["--appendonly", "yes"])] {
        let mut process = Process::start(name, args, "");
        process.client().run("DEBUG POPULATE 3000");
        if args.is_empty() {
            assert_eq!(process.client().run("SAVE"), "+OK");
        } else {
            process.client().run("BGREWRITEAOF");
            process.logs("Background AOF rewrite finished successfully");
        }
        let slow = [args, &["--key-load-delay", "1000", "--save", "1 1"]].concat();
        let ends: [fn(&Process, &mut Client); 3] = [
            |process, _| process.signal(SIGTERM),
            |_, client| client.start("SHUTDOWN"),
            |_, client| client.start("SHUTDOWN SAVE"),
        ];
        for end in ends {
            process = process.restart("SHUTDOWN NOSAVE", &slow);
            let mut client = process.reach();
            for command in ["PING", "DEBUG RELOAD", "DEBUG LOADAOF", "SAVE", "PSYNC ? -1"] {
                assert_eq!(client.run(command), "-LOADING Redis is loading the dataset in memory", "{command}");
            }
            assert!(client.call(&["INFO"]).text().contains("\r\nloading:1\r\n"));
            end(&process, &mut client);
            assert_eq!(process.end().code(), Some(0), "{}", process.log());
            assert!(!process.log().contains("Saving the final RDB"), "{}", process.log());
            process = Process::start_in(std::mem::replace(&mut process.folder, Folder::new("none")), args, "");
            let mut client = process.reach();
            until("it is loaded", || client.run("DBSIZE") == ":3000");
        }
        assert!(process.log().contains("Received shutdown signal during loading, scheduling shutdown."));
    }
}

/// What is not there yet is refused: without a word, this server would take the writes that are meant for another one.
#[test]
fn what_is_not_there_yet_is_refused() {
    for (args, reason) in [
        (&["--replicaof", "127.0.0.1", "1"][..], "replicaof: this server cannot be a replica yet"),
        (&["--slaveof", "127.0.0.1 1"], "replicaof: this server cannot be a replica yet"),
        (&["--cluster-enabled", "yes"], "cluster-enabled: this server cannot be a cluster node yet"),
        (&["--loadmodule", "/module.so"], "Modules cannot be loaded into this server"),
    ] {
        let (code, output) = refused("not-there", args);
        assert_eq!(code, Some(1), "{args:?}: {output}");
        assert!(output.contains(reason), "{args:?}: {output}");
    }
    let folder = Folder::new("not-there-file");
    fs::write(folder.0.join("redis.conf"), "port 0\nreplicaof 127.0.0.1 1\n").expect("a folder of ours");
    let child = command(&folder).arg("redis.conf").stdin(Stdio::null()).spawn().expect("the binary starts");
    let mut process = Process { folder, child };
    assert_eq!(process.end().code(), Some(1));
    let mut process = Process::start("no-master", &["--replicaof", "no", "one"], "");
    assert_eq!(process.client().run("SET k v"), "+OK");
    process.signal(SIGTERM);
    assert_eq!(process.end().code(), Some(0));
    assert!(process.log().contains("Removing the unix socket file."));
}

#[test]
fn a_server_listens_somewhere() {
    for args in [&["--port", "0"][..], &["--bind", ""], &["--bind"], &["--bind", "-192.0.2.1"]] {
        let (code, output) = refused("nowhere", args);
        assert_eq!(code, Some(1), "{args:?}: {output}");
        assert!(output.contains("Configured to not listen anywhere, exiting."), "{args:?}: {output}");
        assert_eq!(output.contains("Warning: Could not create server TCP"), args.contains(&"-192.0.2.1"), "{output}");
    }
    let (code, output) = refused("socket-nowhere", &["--port", "0", "--unixsocket", "missing/socket"]);
    assert_eq!(code, Some(1));
    assert!(output.contains("# Failed opening Unix socket: bind: No such file or directory"), "{output}");
}

#[test]
fn settings_that_cannot_be_meant_are_told() {
    let process = Process::start("odd-settings", &["--tcp-backlog", "2000000000", "--maxmemory", "100kb"], "");
    process
        .logs("WARNING: The TCP backlog setting of 2000000000 cannot be enforced because /proc/sys/net/core/somaxconn");
    process.logs("WARNING: You specified a maxmemory value that is less than 1MB (current value is 102400 bytes).");
}

/// Data of modules are named, and not lost by being left out.
#[test]
fn data_of_modules_are_refused_by_name() {
    let id = |name: &str| {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digit = |letter: u8| letters.iter().position(|known| *known == letter).expect("a letter of a name") as u64;
        let name = name.bytes().fold(0, |id, letter| id << 6 | digit(letter));
        [&[0x81][..], &(name << 10 | 1).to_be_bytes()].concat()
    };
    let of_key = [&b"\x07\x03doc"[..], &id("ReJSON-RL"), b"\x05\x02{}\x00"].concat();
    let beside = [&b"\xf7"[..], &id("scdtype00"), b"\x02\x02\x05\x01x\x00"].concat();
    for (body, reason) in [
        (of_key, "The RDB file contains module data I can't load: no matching module type 'ReJSON-RL'"),
        (beside, "The RDB file contains AUX module data I can't load: no matching module 'scdtype00'"),
    ] {
        let folder = Folder::new("module-data");
        let file = [&b"REDIS0011\xfe\x00"[..], &body, b"\xff", &[0; 8]].concat();
        fs::write(folder.0.join("dump.rdb"), file).expect("a folder of ours");
        let mut process = Process::start_in(folder, &[], "");
        assert_eq!(process.end().code(), Some(1));
        assert!(process.log().contains(reason), "{}", process.log());
    }
}

/// A client that asks again at once, while the data set is loaded, does not get errors as fast as it can ask.
#[test]
fn who_is_told_loading_waits_a_little() {
    for io_threads in ["1", "4"] {
        let process = Process::start("told-loading", &["--io-threads", io_threads, "--save", "3600 1"], "");
        assert_eq!(process.client().run("DEBUG POPULATE 3000"), "+OK");
        let process = process.restart("SHUTDOWN SAVE", &["--key-load-delay", "1000", "--io-threads", io_threads]);
        let mut client = process.reach();
        let (began, mut refusals) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(500) {
            refusals += u32::from(client.run("GET k").starts_with("-LOADING"));
        }
        assert!((2..=101).contains(&refusals), "{refusals} in half a second, one in 5 ms at most");
        // Others are answered at once, and a pipeline in its order.
        assert!(client.run("INFO server").contains("redis_version"));
        client.send(&[common::request(&["GET", "k"]), common::request(&["PING"])].concat());
        assert!(client.reply().to_string().starts_with("-LOADING"));
        assert!(client.reply().to_string().starts_with("-LOADING"));
    }
}

#[test]
fn tls_without_its_files_is_refused() {
    for (args, reason) in [
        (&["--port", "0", "--tls-port", "1"][..], "No tls-cert-file configured!"),
        (
            &["--tls-port", "1", "--tls-auth-clients", "no", "--tls-cert-file", "a.crt", "--tls-key-file", "a.key"],
            "Failed to load certificate: a.crt: No such file or directory",
        ),
        (
            &["--port", "0", "--tls-replication", "yes", "--tls-cert-file", "a.crt", "--tls-key-file", "a.key"],
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified",
        ),
    ] {
        let (code, log) = refused("no-tls", args);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(reason), "{reason} in {log}");
        assert!(log.contains("Failed to configure TLS. Check logs for more info."), "{log}");
    }
}

/// `used_memory` is what the allocator has handed out, less what its threads keep to hand out again.
#[test]
fn used_memory_is_what_the_allocator_hands_out() {
    let process = Process::start("memory", &[], "");
    let mut client = process.client();
    let mut figures = || {
        let info = client.call(&["INFO", "memory"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it is there");
        let used: i64 = line.parse().expect("a number");
        (used, client.call(&["DEBUG", "MALLCTL", "stats.allocated"]).integer())
    };
    let (before, _) = figures();
    process.client().run("DEBUG POPULATE 100000 key 200");
    let (used, allocated) = figures();
    assert!(used - before > 20_000_000, "{before} -> {used}");
    assert!((used - allocated).abs() * 20 < allocated, "{used} is not within 5 % of {allocated}");
    // One client with most of the memory is told of.
    let mut large = process.client();
    large.send(format!("*1\r\n$9000000\r\n{}", "v".repeat(5_000_000)).as_bytes());
    let mut client = process.client();
    until("the doctor sees it", || {
        client.call(&["MEMORY", "DOCTOR"]).text().contains("- Clients take more than 200 KB")
    });
}

/// systemd is told when the server is ready, and how it ends, at a path or at an abstract name.
#[test]
fn systemd_hears_of_the_start_and_the_end() {
    for (supervised, is_abstract) in [("systemd", false), ("auto", true)] {
        let folder = Folder::new(&format!("systemd-{supervised}"));
        let name = if is_abstract { format!("redstart-{}", std::process::id()) } else { "notify".to_owned() };
        let address = if is_abstract {
            SocketAddr::from_abstract_name(&name)
        } else {
            SocketAddr::from_pathname(folder.0.join(&name))
        };
        let systemd = UnixDatagram::bind_addr(&address.expect("a short name")).expect("nobody has it");
        systemd.set_read_timeout(Some(common::PATIENCE)).expect("not zero");
        let hear = || {
            let mut bytes = [0; 200];
            let len = systemd.recv(&mut bytes).expect("it is told");
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let shown = if is_abstract { format!("@{name}") } else { folder.0.join(name).display().to_string() };
        let args = [
            "--port",
            "0",
            "--unixsocket",
            "socket",
            "--supervised",
            supervised,
            "--daemonize",
            "yes",
            "--save",
            "60 1",
            "--enable-protected-configs",
            "yes",
        ];
        let child = command(&folder).args(args).env("NOTIFY_SOCKET", shown).stdin(Stdio::null()).spawn();
        let mut process = Process { folder, child: child.expect("the binary starts") };
        assert_eq!(
            [(); 3].map(|()| hear()),
            ["STATUS=Redis is loading...\n", "STATUS=Ready to accept connections\n", "READY=1\n"]
        );
        let mut client = process.reach();
        let info = client.call(&["INFO", "server"]).text();
        assert!(info.contains("process_supervised:systemd\r\n"), "{info}");
        assert_eq!(client.run("CONFIG GET supervised"), "[supervised systemd]");
        // The directory of the snapshot is gone.
        let folder = process.folder.0.join("gone");
        fs::create_dir(&folder).expect("a folder of ours");
        assert_eq!(client.run(&format!("CONFIG SET dir {}", folder.display())), "+OK");
        fs::remove_dir(&folder).expect("it is empty");
        assert!(client.run("SHUTDOWN").starts_with("-ERR Errors trying to SHUTDOWN"));
        let told = [(); 3].map(|()| hear());
        assert_eq!(
            told,
            [
                "STOPPING=1\n",
                "STATUS=Saving the final RDB snapshot\n",
                "STATUS=Error trying to save the DB, can't exit.\n"
            ]
        );
        client.start("SHUTDOWN NOSAVE");
        assert_eq!(hear(), "STOPPING=1\n");
        // It has not gone to the background: its supervisor knows it by its number.
        assert_eq!(process.end().code(), Some(0), "{}", process.log());
    }
}

/// Upstart waits until the process has stopped itself. Without a supervisor there is none, and the server goes to the
/// background if it is told to.
#[test]
fn upstart_waits_for_a_stop() {
    let folder = Folder::new("upstart");
    let args = ["--port", "0", "--unixsocket", "socket", "--supervised", "auto", "--save", ""];
    let child = command(&folder).args(args).env("UPSTART_JOB", "redis").stdin(Stdio::null()).spawn();
    let mut process = Process { folder, child: child.expect("the binary starts") };
    process.logs("supervised by upstart, will stop to signal readiness.");
    let stat = format!("/proc/{}/stat", process.child.id());
    until("it has stopped", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    process.signal(SIGCONT);
    process.logs("Ready to accept connections unix");
    assert!(process.client().call(&["INFO", "server"]).text().contains("process_supervised:upstart\r\n"));
    process.signal(SIGTERM);
    assert_eq!(process.end().code(), Some(0));
    for (supervised, complaint) in [
        ("systemd", "systemd supervision error: NOTIFY_SOCKET not found!"),
        ("upstart", "upstart supervision requested, but UPSTART_JOB not found!"),
    ] {
        let args = ["--supervised", supervised, "--daemonize", "yes", "--logfile", "own.log", "--pidfile", "own.pid"];
        let mut process = Process::start_in(Folder::new(supervised), &args, "");
        assert_eq!(process.end().code(), Some(0), "the parent ends");
        let mut client = process.reach();
        let info = client.call(&["INFO", "server"]).text();
        let line = format!("process_id:{}", fs::read_to_string(process.path("own.pid")).expect("it is written").trim());
        assert!(info.contains(&line) && info.contains("process_supervised:no\r\n"), "{info}");
        assert!(fs::read_to_string(process.path("own.log")).expect("it logs").contains(complaint));
        client.start("SHUTDOWN");
        until("it has ended", || !process.path("own.pid").exists());
    }
}

/// Whatever the umask, files permit no more than those of Redis, whose log of changes only its owner may write.
#[test]
fn files_permit_what_redis_permits() {
    for (umask, most) in [("000", 0o777), ("027", 0o750)] {
        let folder = Folder::new(&format!("umask-{umask}"));
        fs::write(folder.0.join("users.acl"), "user default on nopass ~* &* +@all\n").expect("a folder of ours");
        let text = "port 0\nunixsocket socket\nappendonly yes\nlogfile own.log\npidfile own.pid\naclfile users.acl\n";
        fs::write(folder.0.join("redis.conf"), text).expect("a folder of ours");
        let child = Command::new("sh")
            .args(["-c", &format!("umask {umask} && exec \"$0\" redis.conf"), env!("CARGO_BIN_EXE_redstart")])
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .spawn();
        let process = Process { folder, child: child.expect("there is a shell") };
        let mut client = process.reach();
        for command in ["SET k v", "SAVE", "CONFIG REWRITE", "ACL SAVE"] {
            assert_eq!(client.run(command), "+OK", "{command}");
        }
        client.run("BGREWRITEAOF");
        let log = process.path("appendonlydir");
        until("it is rewritten", || log.join("appendonly.aof.2.base.rdb").exists());
        let mode = |name: &str| fs::metadata(process.path(name)).expect(name).permissions().mode() & 0o777;
        for (name, permits) in [
            ("dump.rdb", 0o666),
            ("own.log", 0o666),
            ("own.pid", 0o666),
            ("redis.conf", 0o644),
            ("users.acl", 0o644),
            ("socket", 0o777),
            ("appendonlydir", 0o755),
            ("appendonlydir/appendonly.aof.manifest", 0o644),
            ("appendonlydir/appendonly.aof.2.incr.aof", 0o644),
            ("appendonlydir/appendonly.aof.2.base.rdb", 0o644),
        ] {
            assert_eq!(format!("{:o}", mode(name)), format!("{:o}", permits & most), "{name}, umask {umask}");
        }
    }
}

/// Without descriptors nobody is accepted: that costs next to nothing, also while a script runs, and ends when there are some.
#[test]
fn a_listener_without_descriptors_waits() {
    for is_busy in [false, true] {
        let args = ["--busy-reply-threshold", "50", "--io-threads", "2"];
        let process = Process::start(&format!("descriptors-{is_busy}"), &args, "");
        let mut admin = process.client();
        let mut script = process.client();
        let limit = format!("--nofile={}", 40);
        let pid = process.child.id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().expect("there is prlimit").success());
        if is_busy {
            script.call(&["PING"]);
            script.send(&common::request(&["EVAL", "while true do end", "0"]));
            until("it is busy", || admin.run("PING").starts_with("-BUSY"));
        }
        let more: Vec<UnixStream> =
            (0..60).map(|_| UnixStream::connect(process.path("socket")).expect("the kernel lets it wait")).collect();
        let failures = || fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count();
        until("there are none left", || failures() >= 40);
        // The main loop's own time, in 1/100 s: a script takes that of its worker.
        let spent = || -> u64 {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
            let own = tasks.filter(|task| {
                fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "main_loop")
            });
            own.map(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).expect("it lives");
                let times = stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(11).take(2);
                times.map(|time| time.parse::<u64>().expect("a number")).sum::<u64>()
            })
            .sum()
        };
        let before = spent();
        std::thread::sleep(Duration::from_secs(1));
        assert!(spent() - before < 50, "{} of 100 with a script: {is_busy}", spent() - before);
        if is_busy {
            assert_eq!(admin.run("SCRIPT KILL"), "+OK");
            assert!(script.reply().to_string().starts_with("-ERR Script killed"));
        }
        assert_eq!(admin.run("PING"), "+PONG");
        drop(more);
        let mut late = process.client();
        assert_eq!(late.run("PING"), "+PONG");
    }
}

/// A log file that cannot be written, or not even be opened any more, stops nobody; lines come again when it can be.
#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let process = Process::start_in(Folder::new("full-log"), &["--logfile", "own.log", "--loglevel", "debug"], "");
    let mut client = process.reach();
    for obstacle in ["full", "directory", "gone"] {
        fs::remove_file(process.path("own.log")).expect("it is there");
        match obstacle {
            // A device that is always full.
            "full" => std::os::unix::fs::symlink("/dev/full", process.path("own.log")).expect("a folder of ours"),
            "directory" => fs::create_dir(process.path("own.log")).expect("a folder of ours"),
            _ => {}
        }
        assert_eq!(client.run("SAVE"), "+OK", "{obstacle}");
        assert_eq!(process.client().run("PING"), "+PONG", "{obstacle}");
        let _ = fs::remove_file(process.path("own.log")).or_else(|_| fs::remove_dir(process.path("own.log")));
        assert_eq!(client.run("SAVE"), "+OK");
        assert!(
            fs::read_to_string(process.path("own.log")).expect("it is made again").contains("DB saved"),
            "{obstacle}"
        );
    }
}
