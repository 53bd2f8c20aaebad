//! The `redstart` binary (also started as `redis-server`): arguments to configuration to server to exit code.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use redstart::config::cli::{self, Invocation};
use redstart::config::{ConfigError, Sources};
use redstart::os::banner;
use redstart::os::log::Log;
use redstart::program::{self, selftest};
use redstart::run::restart;
use redstart::{check, config};

#[global_allocator]
static ALLOCATOR: redstart::memory::allocator::Allocator = redstart::memory::allocator::Allocator;

fn main() -> ExitCode {
    restart::wait_as_told();
    let argv: Vec<Vec<u8>> = std::env::args_os().map(OsString::into_vec).collect();
    match cli::parse(&argv) {
        Invocation::Serve { file, stdin, options } => {
            let program = argv.first().map_or_else(String::new, |name| String::from_utf8_lossy(name).into_owned());
            serve(file, stdin, options, program, argv.len() == 1)
        }
        Invocation::Version => {
            println!("{}", banner::version_line());
            ExitCode::SUCCESS
        }
        Invocation::Help => {
            eprint!("{}", cli::USAGE);
            ExitCode::FAILURE
        }
        Invocation::TestMemory(megabytes) => test_memory(megabytes),
        Invocation::CheckSystem => {
            let (report, fine) = selftest::report(&selftest::check_system());
            print!("{report}");
            if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Invocation::CheckRdb(arguments) => check::rdb_program(program(&argv), &arguments),
        Invocation::CheckAof(arguments) => check::aof_program(program(&argv), &arguments),
        Invocation::NotHere(program) => {
            eprintln!("{program} is not part of Redstart {} yet; the one of Redis works with it.", banner::VERSION);
            ExitCode::FAILURE
        }
    }
}

fn program(argv: &[Vec<u8>]) -> &[u8] {
    argv.first().map_or(b"redis-server", Vec::as_slice)
}

fn serve(file: Option<PathBuf>, stdin: bool, options: Vec<u8>, program: String, is_bare: bool) -> ExitCode {
    let log = Log::stdout();
    let sources = match sources(file, stdin, options, &log) {
        Ok(sources) => sources,
        Err(error) => {
            log.warning(format_args!("Fatal error, can't read the configuration from stdin: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match config::load(&sources) {
        Ok(loaded) => program::run(loaded, program, sources.file, is_bare),
        Err(error @ ConfigError::Unreadable { .. }) => {
            log.warning(error);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn sources(file: Option<PathBuf>, stdin: bool, options: Vec<u8>, log: &Log) -> io::Result<Sources> {
    let file = file.map(std::path::absolute).transpose()?;
    let stdin = stdin.then(|| {
        log.notice("Reading config from stdin");
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    });
    Ok(Sources { file, stdin: stdin.transpose()?, options })
}

fn test_memory(megabytes: Option<u64>) -> ExitCode {
    const PASSES: u32 = 50;
    let Some(megabytes) = megabytes else {
        eprintln!("Please specify the amount of memory to test in megabytes.");
        eprintln!("Example: redis-server --test-memory 4096");
        return ExitCode::FAILURE;
    };
    print!("Testing {megabytes} megabytes, {PASSES} passes... ");
    // The terminal shows the line late if this fails, no more.
    let _ = io::stdout().flush();
    match selftest::test_memory(megabytes, PASSES) {
        Ok(()) => {
            println!("no error found.");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("FAILED: {problem}");
            ExitCode::FAILURE
        }
    }
}
