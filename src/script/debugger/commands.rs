//! What a debugging client may type, and what it is told.

use std::ffi::c_int;

use super::{Debugger, input, is_script, show};
use crate::lua::{GLOBALS, Lua, NUMBER, STRING, TABLE, until_nul};
use crate::redis_api;
use crate::vm;

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next command.
    Ask,
    /// The script goes on.
    Go,
    /// The script ends with an error.
    Abort,
}

/// Every command, with its short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Help,
    Step,
    Continue,
    List,
    Whole,
    Print,
    Break,
    Trace,
    Eval,
    Redis,
    Maxlen,
    Abort,
}

const WORDS: &[(&str, Word)] = &[
    ("help", Word::Help),
    ("step", Word::Step),
    ("next", Word::Step),
    ("continue", Word::Continue),
    ("list", Word::List),
    ("whole", Word::Whole),
    ("print", Word::Print),
    ("break", Word::Break),
    ("trace", Word::Trace),
    ("eval", Word::Eval),
    ("redis", Word::Redis),
    ("maxlen", Word::Maxlen),
    ("abort", Word::Abort),
];

/// Does what the command last read says, and sends what it told. Raises.
pub(super) fn run(lua: Lua) -> Next {
    let Some(debugger) = lua.shared().debugger() else { return Next::Go };
    match word(&debugger.argv) {
        Some(Word::Step) => {
            debugger.is_stepping = true;
            return Next::Go;
        }
        Some(Word::Continue) => return Next::Go,
        Some(Word::Abort) => return Next::Abort,
        Some(Word::Help) => HELP.iter().for_each(|line| debugger.log(line.as_bytes())),
        Some(Word::List) => list(debugger),
        Some(Word::Whole) => debugger.log_source(1, WHOLE),
        Some(Word::Break) => change_breakpoints(debugger),
        Some(Word::Maxlen) => change_max_len(debugger),
        Some(Word::Print) => print(lua, debugger),
        Some(Word::Trace) => trace(lua, debugger),
        Some(Word::Eval) => eval(lua),
        Some(Word::Redis) => run_redis_command(lua),
        None => debugger.log(b"<error> Unknown Redis Lua debugger command or wrong number of arguments."),
    }
    if let Some(debugger) = lua.shared().debugger() {
        debugger.send_logs();
    }
    Next::Ask
}

/// Lines around the first that `whole` lists.
const WHOLE: i32 = 1_000_000;

/// The command that the first word names, in full or by its first letter.
fn word(argv: &[Vec<u8>]) -> Option<Word> {
    let typed = until_nul(argv.first()?);
    let is_named = |(name, _): &&(&str, Word)| {
        typed.eq_ignore_ascii_case(name.as_bytes()) || typed.eq_ignore_ascii_case(&name.as_bytes()[..1])
    };
    let (_, word) = WORDS.iter().find(is_named)?;
    (*word != Word::Redis || argv.len() > 1).then_some(*word)
}

/// `list [line [context]]`.
fn list(debugger: &mut Debugger<'_>) {
    const CONTEXT: i32 = 5;
    let number = |idx: usize| debugger.argv.get(idx).map(|text| input::atoi(text));
    let around = number(1).filter(|line| *line > 0).unwrap_or(debugger.line);
    let context = number(2).unwrap_or(CONTEXT);
    debugger.log_source(around, context);
}

/// `break [line | -line | 0 ...]`.
fn change_breakpoints(debugger: &mut Debugger<'_>) {
    let argv = std::mem::take(&mut debugger.argv);
    if argv.len() == 1 {
        list_breakpoints(debugger);
    }
    for arg in &argv[1..] {
        match input::integer(arg) {
            None => debugger.log(&[b"Invalid argument:'", until_nul(arg), b"'"].concat()),
            Some(0) => {
                debugger.breakpoints.clear();
                debugger.log(b"All breakpoints removed.");
            }
            // Line numbers have 32 bits.
            Some(line @ 1..) => add_breakpoint(debugger, line as i32),
            Some(line) => remove_breakpoint(debugger, line.wrapping_neg() as i32),
        }
    }
}

fn list_breakpoints(debugger: &mut Debugger<'_>) {
    let lines = debugger.breakpoints.clone();
    if lines.is_empty() {
        return debugger.log(b"No breakpoints set. Use 'b <line>' to add one.");
    }
    debugger.log(format!("{} breakpoints set:", lines.len()).as_bytes());
    lines.into_iter().for_each(|line| debugger.log_source_line(line));
}

/// Most breakpoints. Source: Redis 7.2.
const BREAKPOINTS: usize = 64;

fn add_breakpoint(debugger: &mut Debugger<'_>, line: i32) {
    if debugger.breakpoints.len() == BREAKPOINTS {
        return debugger.log(b"Too many breakpoints set.");
    }
    if line <= 0 || line as usize > debugger.lines.len() || debugger.breakpoints.contains(&line) {
        return debugger.log(b"Wrong line number.");
    }
    debugger.breakpoints.push(line);
    debugger.log_source(line, 1);
}

fn remove_breakpoint(debugger: &mut Debugger<'_>, line: i32) {
    match debugger.breakpoints.iter().position(|set| *set == line) {
        Some(idx) => {
            debugger.breakpoints.remove(idx);
            debugger.log(b"Breakpoint removed.");
        }
        None => debugger.log(b"No breakpoint in the specified line."),
    }
}

/// `maxlen [len]`.
fn change_max_len(debugger: &mut Debugger<'_>) {
    const LEAST: i32 = 60;
    if let [_, len] = &debugger.argv[..] {
        let len = input::atoi(len);
        debugger.max_len = if len == 0 { 0 } else { len.max(LEAST) as usize };
        debugger.hint_given = true;
    }
    match debugger.max_len {
        0 => debugger.log(b"<value> replies are unlimited."),
        len => debugger.log(format!("<value> replies are truncated at {len} bytes.").as_bytes()),
    }
}

/// `print` and `print variable`. Raises.
fn print(lua: Lua, debugger: &mut Debugger<'_>) {
    lua.has_room(show::STACK_ROOM);
    match debugger.argv.len() {
        2 => print_variable(lua, debugger),
        _ => print_locals(lua, debugger),
    }
}

/// The local variable of this name in the innermost function that has one; or KEYS or ARGV.
fn print_variable(lua: Lua, debugger: &mut Debugger<'_>) {
    const VALUE: &[&[u8]] = &[b"<value> "];
    for level in 0.. {
        let Some(frame) = lua.frame(level) else { break };
        for idx in 1.. {
            let Some(name) = lua.push_local(&frame, idx) else { break };
            let is_it = name.to_bytes() == until_nul(&debugger.argv[1]);
            if is_it {
                debugger.log_top(lua, VALUE);
            }
            lua.pop(1);
            if is_it {
                return;
            }
        }
    }
    let name: &[u8] = match until_nul(&debugger.argv[1]) {
        b"KEYS" => b"KEYS",
        b"ARGV" => b"ARGV",
        _ => return debugger.log(b"No such variable."),
    };
    lua.push_bytes(name);
    lua.get_table(GLOBALS);
    if let Some(debugger) = lua.shared().debugger() {
        debugger.log_top(lua, VALUE);
    }
    lua.pop(1);
}

/// All named variables of the function that has stopped.
fn print_locals(lua: Lua, debugger: &mut Debugger<'_>) {
    let mut is_any = false;
    if let Some(frame) = lua.frame(0) {
        for idx in 1.. {
            let Some(name) = lua.push_local(&frame, idx) else { break };
            let name = name.to_bytes();
            if memchr::memmem::find(name, b"(*temporary)").is_none() {
                debugger.log_top(lua, &[b"<value> ", name, b" = "]);
                is_any = true;
            }
            lua.pop(1);
        }
    }
    if !is_any {
        debugger.log(b"No local variables in the current context.");
    }
}

/// `trace`: the script's functions under way, the innermost first.
fn trace(lua: Lua, debugger: &mut Debugger<'_>) {
    for level in 0.. {
        let Some(frame) = lua.frame(level) else { break };
        if !is_script(&frame) {
            continue;
        }
        let direction: &[u8] = if level == 0 { b"In " } else { b"From " };
        let name = lua.frame_name(&frame).map_or(&b"top level"[..], |name| name.to_bytes());
        debugger.log(&[direction, name, b":"].concat());
        debugger.log_source_line(frame.currentline);
    }
}

/// `eval code`: the value of an expression, or the statement is run. Raises.
fn eval(lua: Lua) {
    let is_done = apart(lua, |lua| {
        let Some(debugger) = lua.shared().debugger() else { return };
        debugger.code.clear();
        debugger.code.extend_from_slice(RETURN);
        for (idx, arg) in debugger.argv[1..].iter().enumerate() {
            if idx > 0 {
                debugger.code.push(b' ');
            }
            debugger.code.extend_from_slice(arg);
        }
        lua.push_bytes(b"@ldb_eval");
        lua.has_room(show::STACK_ROOM);
        let compiled = vm::compile(lua, &debugger.code, 1) || vm::compile(lua, &debugger.code[RETURN.len()..], 1);
        if !compiled || lua.protected_call(0, 1, 0) != 0 {
            return log_raised(lua);
        }
        if let Some(debugger) = lua.shared().debugger() {
            debugger.log_top(lua, &[b"<retval> "]);
        }
    });
    if let Some(debugger) = lua.shared().debugger().filter(|_| !is_done) {
        debugger.log(b"<error> not enough memory");
    }
}

const RETURN: &[u8] = b"return ";

/// The error value on top: a text, or a table that has one.
fn log_raised(lua: Lua) {
    if lua.kind(-1) == TABLE {
        let kind = lua.raw_get_name(-1, b"err");
        if kind != STRING {
            lua.pop(1);
        }
    }
    let Some(debugger) = lua.shared().debugger() else { return };
    match lua.kind(-1) {
        STRING | NUMBER => debugger.log_error(&[until_nul(lua.text(-1).unwrap_or_default())]),
        _ => debugger.log_top(lua, &[b"<error> "]),
    }
}

/// `redis command ...`: as the script's `redis.call`; the command and its reply are told. Raises.
fn run_redis_command(lua: Lua) {
    apart(lua, |lua| {
        let Some(debugger) = lua.shared().debugger() else { return };
        debugger.is_stepping = true;
        let args = &debugger.argv[1..];
        lua.need_room(args.len() as c_int + 1, c"too many arguments");
        lua.push_function(redis_api::call);
        for arg in args {
            lua.push_bytes(arg);
        }
        lua.call(args.len() as c_int, 1);
    });
    if let Some(debugger) = lua.shared().debugger() {
        debugger.is_stepping = false;
    }
}

/// Runs `body` in a coroutine of its own, where hooks are on; false when it raised. `body` owns nothing with a destructor.
/// Raises only for want of memory.
fn apart(lua: Lua, body: impl FnOnce(Lua)) -> bool {
    let coroutine = lua.push_coroutine();
    vm::set_count_hook(coroutine);
    let is_done = vm::protected(coroutine, body).is_some();
    lua.pop(1);
    is_done
}

/// Redis's own help: clients that show it expect these words.
const HELP: &[&str] = &[
    "Redis Lua debugger help:",
    "[h]elp               Show this help.",
    "[s]tep               Run current line and stop again.",
    "[n]ext               Alias for step.",
    "[c]ontinue           Run till next breakpoint.",
    "[l]ist               List source code around current line.",
    "[l]ist [line]        List source code around [line].",
    "                     line = 0 means: current position.",
    "[l]ist [line] [ctx]  In this form [ctx] specifies how many lines",
    "                     to show before/after [line].",
    "[w]hole              List all source code. Alias for 'list 1 1000000'.",
    "[p]rint              Show all the local variables.",
    "[p]rint <var>        Show the value of the specified variable.",
    "                     Can also show global vars KEYS and ARGV.",
    "[b]reak              Show all breakpoints.",
    "[b]reak <line>       Add a breakpoint to the specified line.",
    "[b]reak -<line>      Remove breakpoint from the specified line.",
    "[b]reak 0            Remove all breakpoints.",
    "[t]race              Show a backtrace.",
    "[e]val <code>        Execute some Lua code (in a different callframe).",
    "[r]edis <cmd>        Execute a Redis command.",
    "[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.",
    "                     Specifying zero as <len> means unlimited.",
    "[a]bort              Stop the execution of the script. In sync",
    "                     mode dataset changes will be retained.",
    "",
    "Debugger functions you can call from Lua scripts:",
    "redis.debug()        Produce logs in the debugger console.",
    "redis.breakpoint()   Stop execution like if there was a breakpoint in the",
    "                     next line of code.",
];
