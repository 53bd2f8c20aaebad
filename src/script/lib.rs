//! The Lua 5.1 engine of EVAL and FUNCTION.
//!
//! [`Engine`] keeps and runs the scripts of EVAL, [`Functions`] the libraries of FUNCTION; each owns one Lua state.
//! Both reach the server through [`Host`] only. What a script sees (globals, `redis.*`, error texts, conversions) is
//! Redis 7.2's; the differences are listed below.
//!
//! # Where to change what
//!
//! | file | idea |
//! |---|---|
//! | `host.rs` | the trait a server implements |
//! | `engine.rs`, `shebang.rs` | the scripts of EVAL: cache, SHA1, `#!lua flags=...` |
//! | `debugger/` | the script debugger: where a script stops, what its client may type |
//! | `functions.rs`, `register.rs` | libraries: FUNCTION LOAD, `redis.register_function`, FCALL |
//! | `vm.rs` | one Lua state: start, compile, run, kill, count memory |
//! | `lua.rs`, `shared.rs` | the Lua C API as Rust methods; what belongs to a state |
//! | `sandbox.rs`, `readonly.rs`, `base.rs` | which globals exist, read-only tables, the functions Lua's own are replaced by |
//! | `redis_api.rs` | `redis.*` |
//! | `from_resp.rs`, `to_resp.rs`, `error.rs` | replies to Lua values and back; error tables |
//! | `cjson_encode.rs`, `cjson_decode.rs`, `cmsgpack.rs`, `structs.rs`, `bit.rs`, `random.rs` | libraries |
//!
//! # Errors and `longjmp`
//!
//! Lua reports an error by `longjmp` to the nearest protected call, over the Rust frames between. This is sound as long as
//! none of them has a destructor to run. So, everywhere in this crate: **no local with a destructor is alive while a
//! method of `Lua` is called that may raise** (all that allocate, call or convert). Growing buffers belong to the
//! state (`shared.rs`) and are borrowed; messages are formatted in fixed arrays. Everything that may raise runs inside
//! `lua_pcall`; outside of one, Lua would abort the process.
//!
//! # Differences from Redis 7.2.6
//!
//! - Read-only tables are empty tables in front of hidden ones (the bundled Lua has no read-only bit); `next`, `pairs`
//!   and `rawget` see through them, `#` does not.
//! - The metatable of strings is read-only too (CVE-2025-46818), and `__gc` of a `newproxy` never runs
//!   (CVE-2024-46981). `setfenv(0, ...)` and `collectgarbage` settings last until the end of the script.
//! - `error({})` (a table without `err`) answers `ERR unknown error`; Redis crashes.
//! - Very long patterns with thousands of items fail with `pattern too complex`; Redis overflows its stack.
//! - `load` reads its whole source before it compiles (CVE-2025-49844).
//! - CR and LF in errors raised by a script become spaces (CVE-2025-67733).

mod base;
mod bit;
mod cjson_decode;
mod cjson_encode;
mod cmsgpack;
mod debugger;
mod engine;
mod error;
mod from_resp;
mod functions;
mod host;
mod lua;
mod number;
mod random;
mod readonly;
mod redis_api;
mod register;
mod sandbox;
mod shared;
mod shebang;
mod structs;
mod to_resp;
mod vm;

pub use debugger::{Console, Debugger};
pub use engine::{Engine, FlushedScripts, ScriptId, sha1_hex};
pub use functions::{FlushedFunctions, Function, FunctionId, Functions, Library, RestorePolicy};
pub use host::{Host, REPL_AOF, REPL_REPLICA, Resp, TICK_INSTRUCTIONS, Tick, UnknownCommand};
pub use shebang::ScriptFlags;
pub use vm::{Options, ScriptError};
