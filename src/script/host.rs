//! What a running script may ask of the server around it. The crate knows no server type: everything a script can
//! see or change outside its own Lua state goes through [`Host`].

/// The protocol version a reply is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resp {
    /// RESP2: what every script starts with, whatever its client speaks.
    #[default]
    V2,
    /// RESP3: after `redis.setresp(3)`, or for a client after `HELLO 3`.
    V3,
}

/// The host's verdict on a script that is still running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Let it run.
    Continue,
    /// End it now: SCRIPT KILL, FUNCTION KILL, or FUNCTION LOAD over its time.
    Kill,
}

/// `redis.acl_check_cmd` was given a name that is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCommand;

/// The server, as one run of a script sees it.
///
/// A method must not use the engine that is running the script: the engine is borrowed, and its Lua state is in the
/// middle of a call.
pub trait Host {
    /// Runs one command and appends exactly one RESP value to `reply` (empty on entry), in the version last given to
    /// [`Host::set_resp`], RESP2 before that. An error is a RESP error line in `reply` too, for example
    /// `-ERR Unknown Redis command called from script\r\n`. Checks that belong to scripts (commands flagged NOSCRIPT,
    /// writes in a read-only script, memory, ACL) are the host's. `argv` has at least one element.
    fn call(&mut self, argv: &[&[u8]], reply: &mut Vec<u8>);

    /// Whether the last [`Host::call`] refused the command: it did not run, and the error is the host's own. Only a
    /// debugger asks.
    fn has_refused(&self) -> bool {
        false
    }

    /// `redis.setresp(version)`.
    fn set_resp(&mut self, version: Resp);

    /// `redis.acl_check_cmd(...)`: may the script's user run this command with these arguments?
    fn acl_check(&mut self, argv: &[&[u8]]) -> Result<bool, UnknownCommand>;

    /// `redis.set_repl(flags)`: the union of [`REPL_AOF`] and [`REPL_REPLICA`] for the writes that follow.
    fn set_repl(&mut self, flags: u8);

    /// `redis.log(level, ...)`: level 0 (debug) to 3 (warning), the arguments joined by spaces.
    fn log(&mut self, level: u8, message: &[u8]);

    /// Called every [`TICK_INSTRUCTIONS`] Lua instructions, so about a thousand times a second.
    fn tick(&mut self) -> Tick;

    /// An error reply the script itself made (raised, or returned as `{err=...}`) goes to the client: `error` is its
    /// text, code first (`ERR ...`). Errors of commands are not reported again: the host saw them in
    /// [`Host::call`]. For the error counters of INFO.
    fn script_error(&mut self, error: &[u8]);
}

/// `redis.REPL_AOF`.
pub const REPL_AOF: u8 = 1;
/// `redis.REPL_REPLICA`, and its old name `redis.REPL_SLAVE`.
pub const REPL_REPLICA: u8 = 2;
/// How many Lua instructions pass between two calls of [`Host::tick`].
pub const TICK_INSTRUCTIONS: i32 = 100_000;
