//! `redis.*`: what a script may do besides computing.

use std::ffi::c_int;

use sha1::{Digest, Sha1};

use crate::debugger;
use crate::error::{push_error, push_error_line, raise_error, trim_newlines_end};
use crate::from_resp::push_reply;
use crate::host::{Host, REPL_AOF, REPL_REPLICA, Resp};
use crate::lua::{CFunction, Lua, NUMBER, STRING, lua_fn, until_nul};
use crate::number::{NUMBER_MAX_BYTES, append_argument};
use crate::shared::Phase;

/// In every running script and function.
pub(crate) const FUNCTIONS: &[(&[u8], CFunction)] = &[
    (b"call", call),
    (b"pcall", pcall),
    (b"setresp", setresp),
    (b"sha1hex", sha1hex),
    (b"error_reply", error_reply),
    (b"status_reply", status_reply),
    (b"set_repl", set_repl),
    (b"acl_check_cmd", acl_check_cmd),
];

/// In EVAL only.
pub(crate) const EVAL_FUNCTIONS: &[(&[u8], CFunction)] =
    &[(b"breakpoint", breakpoint), (b"debug", debug), (b"replicate_commands", replicate_commands)];

/// Also while a library is loaded.
pub(crate) const LOG_FUNCTION: (&[u8], CFunction) = (b"log", log);

/// The numbers in `redis`.
pub(crate) const CONSTANTS: &[(&[u8], u8)] = &[
    (b"REPL_NONE", 0),
    (b"REPL_AOF", REPL_AOF),
    (b"REPL_SLAVE", REPL_REPLICA),
    (b"REPL_REPLICA", REPL_REPLICA),
    (b"REPL_ALL", REPL_AOF | REPL_REPLICA),
];

/// The log levels.
pub(crate) const LOG_CONSTANTS: &[(&[u8], u8)] =
    &[(b"LOG_DEBUG", 0), (b"LOG_VERBOSE", 1), (b"LOG_NOTICE", 2), (b"LOG_WARNING", LOG_WARNING)];

const LOG_WARNING: u8 = 3;

lua_fn! {
    /// `redis.call(command, ...)`: the reply; an error reply is raised.
    pub(crate) fn call(lua) {
        if run_command(lua) {
            lua.raise();
        }
        1
    }
}

lua_fn! {
    /// `redis.pcall(command, ...)`: the reply; an error reply is an `{err=...}` table, and so is a misuse.
    fn pcall(lua) {
        run_command(lua);
        1
    }
}

/// Pushes the reply of the command in the arguments, or an error table; true for an error.
#[inline]
fn run_command(lua: Lua) -> bool {
    let args = match collect_arguments(lua) {
        Ok(args) => args,
        Err(misuse) => {
            push_error(lua, misuse);
            return true;
        }
    };
    let shared = lua.shared();
    let Some(host) = shared.host().filter(|_| shared.phase.get() == Phase::Running) else {
        push_error(lua, OUTSIDE);
        return true;
    };
    let reply = shared.reply();
    reply.clear();
    if shared.debugger().is_some_and(|debugger| debugger.tells()) {
        return run_told_command(lua, host, args);
    }
    host.call(args, reply);
    push_reply(lua, reply);
    reply.first() == Some(&b'-')
}

/// The same for a debugging client that is told of the command and its reply. A refusal is told as Redis words it before
/// it becomes a reply: without the code that says nothing.
#[cold]
fn run_told_command(lua: Lua, host: &mut dyn Host, args: &[&[u8]]) -> bool {
    let shared = lua.shared();
    if let Some(debugger) = shared.debugger() {
        debugger.log_command(args);
    }
    let reply = shared.reply();
    host.call(args, reply);
    let is_refused = host.has_refused();
    let mut told = true;
    if let Some(debugger) = shared.debugger().filter(|_| is_refused) {
        debugger.log_error(&[reply.strip_prefix(b"-ERR ").map_or(&reply[..], trim_newlines_end)]);
        told = debugger.set_telling(false);
    }
    push_reply(lua, reply);
    if let Some(debugger) = shared.debugger() {
        match is_refused {
            true => drop(debugger.set_telling(told)),
            false => debugger.log_reply(reply),
        }
    }
    reply.first() == Some(&b'-')
}

/// The arguments as bytes, in place: strings are not copied, numbers are written to a buffer of the state.
#[inline]
fn collect_arguments<'a>(lua: Lua) -> Result<&'a [&'a [u8]], &'static [u8]> {
    let count = lua.top();
    if count == 0 {
        return Err(b"Please specify at least one argument for this redis lib call");
    }
    let shared = lua.shared();
    let args = shared.args();
    args.clear();
    let mut numbers_reserved = false;
    for idx in 1..=count {
        let arg = match lua.kind(idx) {
            STRING => lua.text(idx).unwrap_or_default(),
            NUMBER => {
                let numbers = shared.numbers();
                if !numbers_reserved {
                    // Once, for all that may follow: slices into the buffer are taken below.
                    numbers.clear();
                    numbers.reserve((count - idx + 1) as usize * NUMBER_MAX_BYTES);
                    numbers_reserved = true;
                }
                number_bytes(numbers, lua.number(idx))
            }
            _ => return Err(b"Lua redis lib command arguments must be strings or integers"),
        };
        args.push(arg);
    }
    Ok(args)
}

/// Appends a number to a buffer that has room for it, and gives its bytes.
#[allow(unsafe_code)]
fn number_bytes<'a>(numbers: &mut Vec<u8>, value: f64) -> &'a [u8] {
    let start = numbers.len();
    append_argument(numbers, value);
    // SAFETY: the buffer belongs to the state, is reserved for all arguments before the first, and is cleared only by
    // the next command, so its bytes stay where they are for as long as the arguments are used.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().add(start), numbers.len() - start) }
}

/// The host of the running script. Raises when there is none.
fn host<'a>(lua: Lua) -> &'a mut dyn Host {
    let shared = lua.shared();
    match shared.host().filter(|_| shared.phase.get() == Phase::Running) {
        Some(host) => host,
        None => raise_error(lua, OUTSIDE),
    }
}

lua_fn! {
    /// `redis.sha1hex(text)`.
    fn sha1hex(lua) {
        if lua.top() != 1 {
            raise_error(lua, b"wrong number of arguments");
        }
        let digest = hex_digest(lua.text(1).unwrap_or_default());
        lua.push_bytes(&digest);
        1
    }
}

/// SHA1 in lower-case hexadecimal.
pub(crate) fn hex_digest(bytes: &[u8]) -> [u8; 40] {
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    hex
}

lua_fn! {
    /// `redis.error_reply(text)`: `{err=text}`, with a code before a text that has none.
    fn error_reply(lua) {
        if lua.top() != 1 || lua.kind(1) != STRING {
            push_error(lua, b"wrong number or type of arguments");
            return 1;
        }
        let text = until_nul(lua.text(1).unwrap_or_default());
        push_error_line(lua, text.strip_prefix(b"-").unwrap_or(text));
        1
    }
}

lua_fn! {
    /// `redis.status_reply(text)`: `{ok=text}`.
    fn status_reply(lua) {
        if lua.top() != 1 || lua.kind(1) != STRING {
            push_error(lua, b"wrong number or type of arguments");
            return 1;
        }
        lua.push_table(0, 1);
        lua.push_bytes(b"ok");
        lua.push_value(1);
        lua.raw_set(-3);
        1
    }
}

lua_fn! {
    /// `redis.setresp(2 | 3)`: the protocol of the replies that `redis.call` converts.
    fn setresp(lua) {
        if lua.top() != 1 {
            raise_error(lua, b"redis.setresp() requires one argument.");
        }
        let version = match lua.number(1) as i64 {
            2 => Resp::V2,
            3 => Resp::V3,
            _ => raise_error(lua, b"RESP version must be 2 or 3."),
        };
        host(lua).set_resp(version);
        lua.shared().script_resp.set(version);
        0
    }
}

lua_fn! {
    /// `redis.set_repl(flags)`.
    fn set_repl(lua) {
        if lua.top() != 1 {
            raise_error(lua, b"redis.set_repl() requires one argument.");
        }
        match u8::try_from(lua.number(1) as i64) {
            Ok(flags) if flags & !(REPL_AOF | REPL_REPLICA) == 0 => host(lua).set_repl(flags),
            _ => raise_error(
                lua,
                b"Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            ),
        }
        0
    }
}

lua_fn! {
    /// `redis.acl_check_cmd(command, ...)`.
    fn acl_check_cmd(lua) {
        let args = match collect_arguments(lua) {
            Ok(args) => args,
            Err(misuse) => raise_error(lua, misuse),
        };
        match host(lua).acl_check(args) {
            Ok(allowed) => lua.push_boolean(allowed),
            Err(_) => raise_error(lua, b"Invalid command passed to redis.acl_check_cmd()"),
        }
        1
    }
}

lua_fn! {
    /// `redis.log(level, ...)`: strings and numbers, joined by spaces; the rest is left out.
    fn log(lua) {
        let count = lua.top();
        if count < 2 {
            raise_error(lua, b"redis.log() requires two arguments or more.");
        }
        if !lua.is_number(1) {
            raise_error(lua, b"First argument must be a number (log level).");
        }
        let level = match u8::try_from(lua.number(1) as i64) {
            Ok(level) if level <= LOG_WARNING => level,
            _ => raise_error(lua, b"Invalid debug level."),
        };
        write_log(lua, level, count);
        0
    }
}

fn write_log(lua: Lua, level: u8, count: c_int) {
    let message = lua.shared().text();
    message.clear();
    for idx in 2..=count {
        if let Some(part) = lua.text(idx) {
            if idx > 2 {
                message.push(b' ');
            }
            message.extend_from_slice(part);
        }
    }
    // A library being loaded logs too, so the phase does not matter.
    if let Some(host) = lua.shared().host() {
        host.log(level, message);
    }
}

lua_fn! {
    /// `redis.breakpoint()`: whether there is a debugger, which stops at the next line.
    fn breakpoint(lua) {
        let debugger = lua.shared().debugger();
        lua.push_boolean(debugger.map(|debugger| debugger.break_at_next_line()).is_some());
        1
    }
}

lua_fn! {
    /// `redis.debug(...)`: the debugging client is told these values, if there is one.
    fn debug(lua) {
        lua.has_room(debugger::STACK_ROOM);
        if let Some(debugger) = lua.shared().debugger() {
            debugger.log_values(lua);
        }
        0
    }
}

lua_fn! {
    /// `redis.replicate_commands()`: effects are all that is ever replicated.
    fn replicate_commands(lua) {
        lua.push_boolean(true);
        1
    }
}

const OUTSIDE: &[u8] = b"redis.call/pcall can only be called inside a script invocation";
const HEX: &[u8; 16] = b"0123456789abcdef";
