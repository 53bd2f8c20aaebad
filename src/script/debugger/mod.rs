//! The script debugger (LDB): a script of EVAL runs line by line while a client looks at it.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | a session: where it stops, and what it tells |
//! | `commands.rs` | what its client may type |
//! | `input.rs` | bytes of the client to commands |
//! | `show.rs` | values and replies as text |
//!
//! The client's own bytes go through [`Console`], past the server's buffers. What is told between two stops is collected
//! and sent as one array of status lines. The state of a session is the [`Debugger`], lent to the running state
//! (`shared.rs`): Lua code that runs on behalf of a command finds it there, so nobody keeps a reference to it across a call
//! of Lua.
//!
//! Commands run Lua code in a coroutine of its own, for hooks are off in the one that has stopped: so such code can be ended
//! too.
//!
//! Differences from Redis 7.2.6: of a table that is nested without end only some megabytes are shown, also after `maxlen 0`;
//! `eval` shows what an error table says (Redis crashes); removing a breakpoint leaves the others as they are (Redis may
//! lose some).
#![allow(unsafe_code)]

mod commands;
mod input;
mod show;

pub(crate) use show::STACK_ROOM;

use std::ffi::CStr;
use std::time::{Duration, Instant};

use mlua_sys as ffi;

use crate::error::{push_error, trim_newlines_end};
use crate::host::TICK_INSTRUCTIONS;
use crate::lua::{Lua, RawState, until_nul};
use crate::number::append_integer;
use crate::vm;
use commands::Next;

/// The debugging client's end of the line.
pub trait Console {
    /// Sends all of this, or as much as the client takes in time: what becomes of it shows in the next
    /// [`Console::receive`].
    fn send(&mut self, bytes: &[u8]);

    /// Waits for bytes of the client; how many have come. 0: the client is gone, and the script runs on alone.
    fn receive(&mut self, buffer: &mut [u8]) -> usize;

    /// Whether the script is to end, as after [`crate::Tick::Kill`].
    fn is_over(&mut self) -> bool;
}

/// One session.
pub struct Debugger<'c> {
    console: &'c mut dyn Console,
    /// The script's lines; the first is line 1.
    lines: Vec<Vec<u8>>,
    /// Line numbers in the order in which they were set.
    breakpoints: Vec<i32>,
    /// Stop at the next line. While it is set, commands and errors are told.
    is_stepping: bool,
    /// `redis.breakpoint()` was called: stop at the next line.
    is_at_breakpoint: bool,
    line: i32,
    /// Bytes of the client that are no whole command yet.
    input: Vec<u8>,
    /// The client's last command.
    argv: Vec<Vec<u8>>,
    /// Lua code of the client, to be compiled.
    code: Vec<u8>,
    /// What has been told since the last stop, as RESP without its head.
    logs: Vec<u8>,
    logged: usize,
    /// The line under construction.
    entry: Vec<u8>,
    /// Longer values and replies are cut; 0: none is.
    max_len: usize,
    hint_given: bool,
    /// Since when the script has run without stopping, and for how long it may.
    since: Instant,
    patience: Duration,
}

/// Values and replies are cut here until the client says something else. Source: Redis 7.2.
const MAX_LEN: usize = 256;
/// The most of a value that is shown at all.
const MOST_SHOWN: usize = 16 << 20;
/// A client that sends more than this, and no command, ends the script. Source: Redis 7.2.
const INPUT_MAX_BYTES: usize = 1 << 20;
/// Bytes read at once. Whatever comes along with a command is dropped with it, so this can be seen.
const READ_BYTES: usize = 1024;
/// Arguments of a command that are told.
const SHOWN_ARGS: usize = 10;

impl<'c> Debugger<'c> {
    /// A session for a script of this source, which is to stop at its first line. It stops also when the script has run
    /// for `patience` without stopping.
    pub fn new(source: &[u8], patience: Duration, console: &'c mut dyn Console) -> Self {
        let source = trim_newlines_end(source);
        let lines = if source.is_empty() { Vec::new() } else { split_lines(source) };
        Debugger {
            console,
            lines,
            breakpoints: Vec::new(),
            is_stepping: true,
            is_at_breakpoint: false,
            line: 0,
            input: Vec::new(),
            argv: Vec::new(),
            code: Vec::new(),
            logs: Vec::new(),
            logged: 0,
            entry: Vec::new(),
            max_len: MAX_LEN,
            hint_given: false,
            since: Instant::now(),
            patience,
        }
    }

    /// Tells the client what it has not been told yet, and that the session ends: the script's reply comes next.
    pub fn end(mut self) {
        self.log(b"<endsession>");
        self.send_logs();
    }

    /// Whether the script is to end.
    pub(crate) fn is_over(&mut self) -> bool {
        self.console.is_over()
    }

    /// `redis.breakpoint()`.
    pub(crate) fn break_at_next_line(&mut self) {
        self.is_at_breakpoint = true;
    }

    /// Whether commands and errors are told now.
    pub(crate) fn tells(&self) -> bool {
        self.is_stepping
    }

    /// Tells nothing while a reply that is an error already told is read; gives what it was before.
    pub(crate) fn set_telling(&mut self, tells: bool) -> bool {
        std::mem::replace(&mut self.is_stepping, tells)
    }

    /// A command is about to run.
    pub(crate) fn log_command(&mut self, argv: &[&[u8]]) {
        self.begin(b"<redis>");
        for arg in &argv[..argv.len().min(SHOWN_ARGS)] {
            self.entry.push(b' ');
            self.entry.extend_from_slice(arg);
        }
        if let Some(more) = argv.len().checked_sub(SHOWN_ARGS + 1) {
            self.entry.extend_from_slice(format!(" ... ({more} more)").as_bytes());
        }
        self.finish();
    }

    /// A command's reply, in RESP.
    pub(crate) fn log_reply(&mut self, reply: &[u8]) {
        self.begin(b"<reply> ");
        let most = self.most_shown();
        show::reply(reply, &mut self.entry, most);
        self.finish_cut();
    }

    /// An error that a script is about to see.
    pub(crate) fn log_error(&mut self, parts: &[&[u8]]) {
        self.begin(b"<error> ");
        parts.iter().for_each(|part| self.entry.extend_from_slice(part));
        self.finish();
    }

    /// `redis.debug(...)`: the values on the stack, the first at its bottom.
    pub(crate) fn log_values(&mut self, lua: Lua) {
        let text = format!("<debug> line {}: ", self.line);
        self.begin(text.as_bytes());
        for idx in 1..=lua.top() {
            if idx > 1 {
                self.entry.extend_from_slice(b", ");
            }
            show::value(lua, idx, &mut self.entry, MOST_SHOWN);
        }
        self.finish();
    }

    /// The value on top of the stack.
    fn log_top(&mut self, lua: Lua, prefix: &[&[u8]]) {
        self.begin(b"");
        prefix.iter().for_each(|part| self.entry.extend_from_slice(part));
        let most = self.most_shown();
        show::value(lua, -1, &mut self.entry, most);
        self.finish_cut();
    }

    fn log(&mut self, text: &[u8]) {
        self.begin(text);
        self.finish();
    }

    /// A line of the source with its marks, and the lines within `context` of it.
    fn log_source(&mut self, around: i32, context: i32) {
        let count = self.lines.len() as i64;
        let (around, context) = (i64::from(around), i64::from(context));
        // The bounds of what there is, so that no wish is too large.
        for line in (around - context).max(1)..=(around + context).min(count) {
            self.log_source_line(line as i32);
        }
    }

    fn log_source_line(&mut self, line: i32) {
        let mark = match (line == self.line, self.breakpoints.contains(&line)) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        self.begin(format!("{mark}{line:<3} ").as_bytes());
        let idx = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
        let text = idx.and_then(|idx| self.lines.get(idx));
        let text = text.map_or(&b"<out of range source code line>"[..], |text| until_nul(text));
        self.entry.extend_from_slice(text);
        self.finish();
    }

    fn begin(&mut self, text: &[u8]) {
        self.entry.clear();
        self.entry.extend_from_slice(text);
    }

    /// Adds the line under construction to what will be sent: one line, whatever is in it.
    fn finish(&mut self) {
        self.logs.push(b'+');
        let one_line = self.entry.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte });
        self.logs.extend(one_line);
        self.logs.extend_from_slice(b"\r\n");
        self.logged += 1;
    }

    /// The same for a value or a reply, of which only so much is shown.
    fn finish_cut(&mut self) {
        let is_cut = self.max_len > 0 && self.entry.len() > self.max_len;
        if is_cut {
            self.entry.truncate(self.max_len);
            self.entry.extend_from_slice(b" ...");
        }
        self.finish();
        if is_cut && !std::mem::replace(&mut self.hint_given, true) {
            self.log(b"<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.");
        }
    }

    fn most_shown(&self) -> usize {
        if self.max_len == 0 { MOST_SHOWN } else { self.max_len.min(MOST_SHOWN) }
    }

    fn send_logs(&mut self) {
        let mut bytes = vec![b'*'];
        append_integer(&mut bytes, self.logged as i64);
        bytes.extend_from_slice(b"\r\n");
        bytes.append(&mut self.logs);
        self.logged = 0;
        self.console.send(&bytes);
    }

    /// Whether the script has run for too long without stopping.
    fn has_lost_patience(&self) -> bool {
        self.since.elapsed() >= self.patience
    }

    /// The script has stopped: tells where and why.
    fn log_stop(&mut self, reason: &str) {
        self.is_stepping = false;
        self.is_at_breakpoint = false;
        self.begin(format!("* Stopped at {}, stop reason = {reason}", self.line).as_bytes());
        self.finish();
        self.log_source_line(self.line);
        self.send_logs();
    }

    /// Waits for the client's next command.
    fn read_command(&mut self) -> Result<(), Unreadable> {
        loop {
            match input::parse(&self.input, &mut self.argv) {
                input::Parsed::Command => {
                    self.input.clear();
                    return Ok(());
                }
                input::Parsed::Invalid => return Err(Unreadable::Error(b"protocol error")),
                input::Parsed::Incomplete => {}
            }
            let mut buffer = [0; READ_BYTES];
            let len = self.console.receive(&mut buffer);
            if len == 0 {
                self.breakpoints.clear();
                return Err(Unreadable::Gone);
            }
            self.input.extend_from_slice(&buffer[..len]);
            if self.input.len() > INPUT_MAX_BYTES {
                self.input = Vec::new();
                return Err(Unreadable::Error(b"max client buffer reached"));
            }
        }
    }
}

/// Why there is no command.
enum Unreadable {
    /// Nobody will send one any more.
    Gone,
    /// The client has sent something else, which ends the script with this error.
    Error(&'static [u8]),
}

fn split_lines(source: &[u8]) -> Vec<Vec<u8>> {
    source.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// From now on the state's main coroutine, and those made from it, stop where their debugger says.
pub(crate) fn set_hook(lua: Lua) {
    // SAFETY: the state is live, the hook is a hook.
    unsafe {
        let mask = ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT;
        ffi::lua_sethook(lua.raw(), Some(hook), mask, TICK_INSTRUCTIONS);
    }
}

unsafe extern "C-unwind" fn hook(raw: *mut RawState, frame: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls hooks with the running state, and passes the running function's record, in which it fills in
    // what is asked for.
    let (lua, is_count, line, is_script) = unsafe {
        let is_count = (*frame).event == ffi::LUA_HOOKCOUNT;
        if is_count {
            vm::hook(raw, frame);
        }
        ffi::lua_getinfo(raw, c"Sl".as_ptr(), frame);
        (Lua::from_raw(raw), is_count, (*frame).currentline, is_script(&*frame))
    };
    let Some(debugger) = lua.shared().debugger() else { return };
    debugger.line = line;
    let is_breakpoint = debugger.breakpoints.contains(&line) || debugger.is_at_breakpoint;
    if !is_script {
        return;
    }
    let is_asked_for = debugger.is_stepping || is_breakpoint;
    let stops = is_asked_for || is_count && debugger.has_lost_patience();
    if !stops {
        return;
    }
    let reason = match (is_asked_for, debugger.is_at_breakpoint, is_breakpoint) {
        (false, ..) => "timeout reached, infinite loop?",
        (_, true, _) => "redis.breakpoint() called",
        (_, _, true) => "break point",
        _ => "step over",
    };
    debugger.log_stop(reason);
    if !converse(lua) && !is_asked_for {
        // Nobody could end it otherwise.
        fail(lua, b"timeout during Lua debugging with client closing connection");
    }
    if let Some(debugger) = lua.shared().debugger() {
        debugger.since = Instant::now();
    }
}

/// Does what the client says until the script is to go on. False when the client is gone.
fn converse(lua: Lua) -> bool {
    loop {
        let Some(debugger) = lua.shared().debugger() else { return false };
        match debugger.read_command() {
            Ok(()) => {}
            Err(Unreadable::Gone) => return false,
            Err(Unreadable::Error(text)) => fail(lua, text),
        }
        match commands::run(lua) {
            Next::Ask => {}
            Next::Go => return true,
            Next::Abort => fail(lua, b"script aborted for user request"),
        }
        if lua.shared().killed.get() {
            return true;
        }
    }
}

/// Ends the script with an error, which it may catch.
fn fail(lua: Lua, text: &[u8]) -> ! {
    push_error(lua, text);
    lua.raise()
}

/// Whether a function belongs to the script, rather than to a command of the client.
fn is_script(frame: &ffi::lua_Debug) -> bool {
    // SAFETY: Lua has filled the name in, and ended it.
    let name = unsafe { CStr::from_ptr(frame.short_src.as_ptr()) };
    memchr::memmem::find(name.to_bytes(), b"user_script").is_some()
}
