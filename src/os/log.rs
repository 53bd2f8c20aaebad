//! The server's log, in Redis's line format:
//!
//! ```text
//! <pid>:<role> <day> <month> <year> <hour>:<minute>:<second>.<millisecond> <level> <message>
//! ```
//!
//! with the role `M` (master), `S` (replica), `X` (sentinel) or `C` (before there is a server), and the level `.`
//! (debug), `-` (verbose), `*` (notice) or `#` (warning). Times are local.
//!
//! A `Log` is a handle to one server's log; clones write to the same one. Each line is written at once and whole, and a
//! log file is opened for each line, so that it can be moved away at any time. A line that cannot be written is lost:
//! there is nowhere to say so.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use crate::config::{Config, LogLevel, SyslogFacility};
use crate::util::text;

/// What the writer of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A master.
    Master = b'M' as isize,
    /// A replica.
    Replica = b'S' as isize,
    /// A sentinel.
    Sentinel = b'X' as isize,
    /// A process that is not (yet) a server.
    Process = b'C' as isize,
}

/// A handle to the log of one server.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    least: AtomicU8,
    role: AtomicU8,
    sink: Sink,
    syslog: Option<Syslog>,
    time_zone: TimeZone,
}

enum Sink {
    Stdout,
    File(PathBuf),
    Writer(Mutex<Box<dyn Write + Send>>),
    Nowhere,
}

impl Log {
    /// The log that the configuration asks for.
    pub fn open(config: &Config) -> Self {
        let sink = match config.logfile.as_str() {
            "" => Sink::Stdout,
            name => Sink::File(config.dir.join(name)),
        };
        let syslog = config.syslog_enabled.then(|| Syslog::new(config.syslog_ident.clone(), config.syslog_facility));
        Self::new(sink, syslog, config.loglevel)
    }

    /// A log on standard output, for the time before there is a configuration.
    pub fn stdout() -> Self {
        Self::new(Sink::Stdout, None, LogLevel::Notice)
    }

    /// A log that goes to `writer`, for a server inside another program.
    pub fn to_writer(writer: impl Write + Send + 'static, least: LogLevel) -> Self {
        Self::new(Sink::Writer(Mutex::new(Box::new(writer))), None, least)
    }

    /// A log that nobody reads.
    pub fn nowhere() -> Self {
        Self::new(Sink::Nowhere, None, LogLevel::Nothing)
    }

    fn new(sink: Sink, syslog: Option<Syslog>, least: LogLevel) -> Self {
        Self(Arc::new(Inner {
            least: AtomicU8::new(least as u8),
            role: AtomicU8::new(Role::Process as u8),
            sink,
            syslog,
            time_zone: local_time_zone(),
        }))
    }

    /// What is not at least this important is not written from now on.
    pub fn set_level(&self, least: LogLevel) {
        self.0.least.store(least as u8, Ordering::Relaxed);
    }

    /// What lines say the writer is from now on.
    pub fn set_role(&self, role: Role) {
        self.0.role.store(role as u8, Ordering::Relaxed);
    }

    /// True if a line of this level would be written.
    pub fn writes(&self, level: LogLevel) -> bool {
        level as u8 >= self.0.least.load(Ordering::Relaxed)
    }

    /// For who debugs the server.
    pub fn debug(&self, message: impl Display) {
        self.line(LogLevel::Debug, message);
    }

    /// Rarely useful, but not a flood.
    pub fn verbose(&self, message: impl Display) {
        self.line(LogLevel::Verbose, message);
    }

    /// What an operator wants to know.
    pub fn notice(&self, message: impl Display) {
        self.line(LogLevel::Notice, message);
    }

    /// What an operator must know.
    pub fn warning(&self, message: impl Display) {
        self.line(LogLevel::Warning, message);
    }

    /// A line of any level.
    pub fn line(&self, level: LogLevel, message: impl Display) {
        if self.writes(level) {
            self.bytes(level, message.to_string().as_bytes());
        }
    }

    /// A line that quotes foreign bytes. It ends at the first NUL.
    pub fn bytes(&self, level: LogLevel, message: &[u8]) {
        if !self.writes(level) {
            return;
        }
        let now = Timestamp::now().to_zoned(self.0.time_zone.clone());
        let head = format!(
            "{}:{} {} {} ",
            std::process::id(),
            char::from(self.0.role.load(Ordering::Relaxed)),
            now.strftime("%d %b %Y %H:%M:%S%.3f"),
            mark(level),
        );
        let message = text::until_nul(message);
        self.0.sink.write(&[head.as_bytes(), message, b"\n"].concat());
        if let Some(syslog) = &self.0.syslog {
            syslog.send(level, &now.strftime("%b %e %H:%M:%S").to_string(), message);
        }
    }

    /// Text that is not a log line (the logo, a crash report), at the level of a notice.
    pub fn raw(&self, text: &str) {
        if self.writes(LogLevel::Notice) {
            self.0.sink.write(text.as_bytes());
        }
    }
}

/// The zone of local times, from `TZ` or `/etc/localtime`; UTC where neither says. Only the one file is read: asking for
/// `TimeZone::system()` lists every zone of the machine first, which costs more than the rest of the server's start.
fn local_time_zone() -> TimeZone {
    let name = std::env::var("TZ").ok();
    let file = match name.as_deref().map(|name| name.trim_start_matches(':')) {
        None => PathBuf::from("/etc/localtime"),
        Some(name) => Path::new("/usr/share/zoneinfo").join(name),
    };
    let from_file = std::fs::read(file).ok().and_then(|bytes| TimeZone::tzif("Local", &bytes).ok());
    from_file.or_else(|| TimeZone::posix(&name?).ok()).unwrap_or(TimeZone::UTC)
}

impl Sink {
    fn write(&self, text: &[u8]) {
        // A log has no place to report that it cannot be written.
        let _ = match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text).and_then(|()| stdout.flush())
            }
            Self::File(path) => {
                OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| file.write_all(text))
            }
            Self::Writer(writer) => {
                let mut writer = writer.lock();
                writer.write_all(text).and_then(|()| writer.flush())
            }
            Self::Nowhere => Ok(()),
        };
    }
}

fn mark(level: LogLevel) -> char {
    match level {
        LogLevel::Debug => '.',
        LogLevel::Verbose => '-',
        LogLevel::Notice => '*',
        LogLevel::Warning | LogLevel::Nothing => '#',
    }
}

/// The system's log daemon (RFC 3164, over `/dev/log`).
struct Syslog {
    ident: String,
    facility: u8,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    fn new(ident: String, facility: SyslogFacility) -> Self {
        let facility = match facility {
            SyslogFacility::User => 1,
            SyslogFacility::Local0 => 16,
            SyslogFacility::Local1 => 17,
            SyslogFacility::Local2 => 18,
            SyslogFacility::Local3 => 19,
            SyslogFacility::Local4 => 20,
            SyslogFacility::Local5 => 21,
            SyslogFacility::Local6 => 22,
            SyslogFacility::Local7 => 23,
        };
        let socket = UnixDatagram::unbound().ok().filter(|socket| socket.set_nonblocking(true).is_ok());
        Self { ident, facility, socket }
    }

    /// Sends one line; without a daemon, or if it is too slow, the line is lost.
    fn send(&self, level: LogLevel, time: &str, message: &[u8]) {
        let severity = match level {
            LogLevel::Debug => 7,
            LogLevel::Verbose => 6,
            LogLevel::Notice => 5,
            LogLevel::Warning | LogLevel::Nothing => 4,
        };
        let priority = self.facility * 8 + severity;
        let head = format!("<{priority}>{time} {}[{}]: ", self.ident, std::process::id());
        if let Some(socket) = &self.socket {
            let _ = socket.send_to(&[head.as_bytes(), message].concat(), "/dev/log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    #[test]
    fn lines_look_like_those_of_redis() {
        let lines = Lines::default();
        let log = Log::to_writer(lines.clone(), LogLevel::Debug);
        log.clone().set_role(Role::Replica);
        log.notice(format_args!("hello {}", 1));
        let line = lines.take();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [pid_and_role, day, month, year, time, mark, hello, one] = words.as_slice() else { panic!("{line}") };
        assert_eq!(*pid_and_role, format!("{}:S", std::process::id()));
        assert_eq!((day.len(), month.len(), year.len(), time.len()), (2, 3, 4, 12), "{line}");
        assert_eq!((*mark, *hello, *one), ("*", "hello", "1"));
        log.debug("x");
        log.verbose("x");
        log.warning("x");
        let lines = lines.take();
        let ends: Vec<_> = lines.lines().map(|line| &line[line.len() - 4..]).collect();
        assert_eq!(ends, [" . x", " - x", " # x"]);
    }

    #[test]
    fn unimportant_lines_are_left_out() {
        let lines = Lines::default();
        let log = Log::to_writer(lines.clone(), LogLevel::Warning);
        log.notice("no");
        log.raw("no");
        assert_eq!(lines.take(), "");
        log.set_level(LogLevel::Notice);
        log.raw("logo");
        assert_eq!(lines.take(), "logo");
        log.set_level(LogLevel::Nothing);
        log.warning("no");
        assert_eq!(lines.take(), "");
    }

    #[test]
    fn a_file_may_be_moved_away() {
        let dir = std::env::temp_dir().join(format!("redstart-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = Log::open(&Config { dir: dir.clone(), logfile: "log.txt".into(), ..Config::default() });
        log.notice("one");
        std::fs::rename(dir.join("log.txt"), dir.join("old.txt")).unwrap();
        log.notice("two");
        assert!(std::fs::read_to_string(dir.join("old.txt")).unwrap().ends_with("* one\n"));
        assert!(std::fs::read_to_string(dir.join("log.txt")).unwrap().ends_with("* two\n"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
