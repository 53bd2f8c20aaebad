//! The process around the server: title, out-of-memory score, open files, CPU time, pid file, background.
//!
//! This is the one module whose effects reach beyond a `Server` value: a program that embeds one does not call it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

use crate::config::{Config, OomScoreAdj, proc_title};
use crate::os::supervisor::Supervisor;
use crate::util::sync::Mutex;

/// Descriptors beside those of clients: listeners, files, the runtime's own.
pub const RESERVED_FILES: u32 = 32;

/// A process that a server has to itself: the binary, not a program with a server inside.
#[derive(Debug)]
pub struct OwnProcess {
    /// The name it was started as, `argv[0]`.
    pub program: String,
    /// The file that runs.
    pub executable: PathBuf,
    /// What it was started with, its name first, and its environment.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// The program is to begin anew once the server has ended, after this time.
    pub restart_delay: Mutex<Option<Duration>>,
    /// The configuration file, absolute.
    pub config_file: Option<PathBuf>,
    pub oom_score: Mutex<OomScore>,
    /// The init system that is told how far it has come, if there is one.
    pub supervisor: Option<Supervisor>,
    /// Removed with the server.
    pub pid_file: Mutex<Option<PidFile>>,
}

impl OwnProcess {
    /// Makes the title what `proc-title-template` says.
    pub fn show_title(&self, config: &Config) -> io::Result<()> {
        set_title(&proc_title::title(config, &self.program, self.config_file.as_deref()))
    }
}

/// Changes what `ps` shows, as `/proc/<pid>/cmdline`.
///
/// The kernel shows the memory the arguments were passed in, and what follows them (the environment) as long as the
/// arguments do not end in a zero byte. So the title is written there, through `/proc/self/mem`. A title longer than the
/// arguments takes the place of the first variables of the environment: read arguments and environment before.
pub fn set_title(title: &str) -> io::Result<()> {
    let area = ArgumentArea::of_this_process()?;
    let arguments_len = area.arguments_end - area.start;
    // The last byte stays zero: it ends the title.
    let room = usize::try_from(area.environment_end - area.start).unwrap_or(0).saturating_sub(1);
    let mut text: Vec<u8> = title.bytes().filter(|byte| *byte != 0).take(room).collect();
    text.push(0);
    text.resize(text.len().max(usize::try_from(arguments_len).unwrap_or(0)), 0);
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&text, area.start)
}

/// Where the kernel put arguments and environment, one after the other; addresses.
struct ArgumentArea {
    start: u64,
    arguments_end: u64,
    environment_end: u64,
}

impl ArgumentArea {
    fn of_this_process() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        Self::parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat"))
    }

    /// proc(5): fields 48 to 51; the second one, the program's name, may hold blanks and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<u64> =
            after_name.split_ascii_whitespace().skip(45).take(4).filter_map(|field| field.parse().ok()).collect();
        let [start, arguments_end, environment_start, environment_end] = fields[..] else { return None };
        let ordered = 0 < start && start < arguments_end && arguments_end <= environment_start;
        (ordered && environment_start <= environment_end).then_some(Self { start, arguments_end, environment_end })
    }
}

/// The kernel's out-of-memory score of this process, and what it was before it was changed.
#[derive(Debug, Default)]
pub struct OomScore {
    original: Option<i32>,
}

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

impl OomScore {
    /// Sets the score the configuration asks for, for a master or a replica; puts the original one back if it asks for
    /// none.
    pub fn apply(&mut self, config: &Config, is_replica: bool) -> io::Result<()> {
        let wanted = config.oom_score_adj_values[usize::from(is_replica)];
        let score = match (config.oom_score_adj, self.original) {
            (OomScoreAdj::No, None) => return Ok(()),
            (OomScoreAdj::No, Some(original)) => original,
            (OomScoreAdj::Absolute, _) => wanted,
            (OomScoreAdj::Relative, Some(original)) => wanted + original,
            (OomScoreAdj::Relative, None) => wanted + current_oom_score()?,
        };
        let original = match self.original {
            Some(original) => original,
            None => current_oom_score()?,
        };
        self.original = (config.oom_score_adj != OomScoreAdj::No).then_some(original);
        fs::write(OOM_SCORE_FILE, format!("{}\n", score.clamp(-1000, 1000)))
    }
}

fn current_oom_score() -> io::Result<i32> {
    fs::read_to_string(OOM_SCORE_FILE)?.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "score"))
}

/// What became of the wish for open files.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenFiles {
    /// The limit was high enough.
    Enough,
    /// It was raised.
    Raised { from: u64, to: u64 },
    /// It cannot be raised so far, for this reason of the system's.
    Short { limit: u64, reason: String },
}

/// Raises the limit of open files so that `maxclients` clients fit, as far as it goes.
pub fn raise_open_files(maxclients: u32) -> io::Result<OpenFiles> {
    let wanted = u64::from(maxclients) + u64::from(RESERVED_FILES);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(OpenFiles::Enough);
    }
    let Err(refused) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)) else {
        return Ok(OpenFiles::Raised { from: soft, to: wanted });
    };
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard)?;
    if hard >= wanted {
        return Ok(OpenFiles::Raised { from: soft, to: wanted });
    }
    Ok(OpenFiles::Short { limit: hard, reason: refused.desc().to_owned() })
}

/// CPU time used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the kernel.
    pub system: Duration,
    /// In this program.
    pub user: Duration,
}

/// CPU time of all threads of this process.
pub fn cpu_time() -> io::Result<CpuTime> {
    usage(UsageWho::RUSAGE_SELF)
}

/// CPU time of children that have ended.
pub fn cpu_time_of_children() -> io::Result<CpuTime> {
    usage(UsageWho::RUSAGE_CHILDREN)
}

/// CPU time of the thread that the process began with.
pub fn cpu_time_of_main_thread() -> io::Result<CpuTime> {
    // Linux counts in 1/100 seconds here, on every architecture.
    const TICK: Duration = Duration::from_millis(10);
    let pid = std::process::id();
    let stat = fs::read_to_string(format!("/proc/self/task/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut ticks = after_name.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u32>().ok());
    let (user, system) = (ticks.next().unwrap_or(0), ticks.next().unwrap_or(0));
    Ok(CpuTime { system: TICK * system, user: TICK * user })
}

/// Name, release and architecture of the system, such as `Linux 6.1.0 x86_64`.
pub fn operating_system() -> String {
    let kernel = |file: &str| fs::read_to_string(format!("/proc/sys/kernel/{file}")).unwrap_or_default();
    format!("{} {} {}", kernel("ostype").trim(), kernel("osrelease").trim(), std::env::consts::ARCH)
}

fn usage(who: UsageWho) -> io::Result<CpuTime> {
    let usage = getrusage(who)?;
    let duration = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Ok(CpuTime { system: duration(usage.system_time()), user: duration(usage.user_time()) })
}

/// Bytes of this process in physical memory.
pub fn resident_bytes() -> io::Result<u64> {
    kilobytes("/proc/self/status", "VmRSS:")
}

/// Bytes of physical memory of the machine.
pub fn machine_bytes() -> io::Result<u64> {
    kilobytes("/proc/meminfo", "MemTotal:")
}

/// Bytes of memory that the kernel could give without swapping.
pub fn available_bytes() -> io::Result<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// The bytes that a line `<label> <number> kB` of a file of the kernel tells.
fn kilobytes(path: &str, label: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.map(|number| number << 10).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, label.to_owned()))
}

/// Whether there is a process of this number, as far as the system tells.
pub fn is_alive(pid: u32) -> bool {
    let processes = Path::new("/proc");
    processes.join(pid.to_string()).exists() || !processes.join("self").exists()
}

/// Goes to the background: a child goes on in a session of its own, with its standard streams closed; the parent ends.
/// To be called before any thread is started.
pub fn daemonize() -> io::Result<()> {
    Ok(nix::unistd::daemon(true, false)?)
}

/// The file that holds the process id, removed when dropped if it still holds this one's.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes this process's id.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.into()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let mut text = String::new();
        let read = File::open(&self.0).and_then(|file| file.take(32).read_to_string(&mut text));
        if read.is_ok() && text.trim() == std::process::id().to_string() {
            // It is in nobody's way if it stays.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_areas() {
        let stat = |areas: &str| format!("7 (a ) b) S {} {areas} 0\n", vec!["1"; 44].join(" "));
        let area = ArgumentArea::parse(&stat("1000 1010 1010 1100")).unwrap();
        assert_eq!((area.start, area.arguments_end, area.environment_end), (1000, 1010, 1100));
        for wrong in ["0 0 0 0", "1000 900 900 1000", "1000 1010 1005 1100", "x y"] {
            assert!(ArgumentArea::parse(&stat(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_kernel_tells() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(machine_bytes().unwrap() > resident_bytes().unwrap());
        assert!(cpu_time().is_ok() && cpu_time_of_children().is_ok() && cpu_time_of_main_thread().is_ok());
        assert!(operating_system().starts_with("Linux "));
        assert_eq!(raise_open_files(1).unwrap(), OpenFiles::Enough);
    }

    #[test]
    fn a_pid_file_is_removed_by_its_owner_only() {
        let path = std::env::temp_dir().join(format!("redstart-pid-{}", std::process::id()));
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
}
