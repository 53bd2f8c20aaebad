//! What a client did wrong: each variant is one Redis reply text, written once.

use crate::core::Busy;
use crate::util::text;
use std::borrow::Cow;
use std::fmt;

/// What a handler returns: the reply is in `ctx.reply`, or this error replaces it.
pub type CmdResult<T = ()> = Result<T, CmdError>;

/// An error reply. Its text is bytes, for it may quote what the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CmdError {
    WrongType,
    Syntax,
    NotAnInteger,
    NotAFloat,
    IncrOverflow,
    OutOfRange,
    IndexOutOfRange,
    NoSuchKey,
    NotAnIntegerOrFloat,
    InvalidDbIndex,
    DbIndexOutOfRange,
    TimeoutNotAFloat,
    TimeoutNegative,
    TimeoutOutOfRange,
    StringTooLong,
    Busy,
    /// The same while a function runs.
    BusyFunction,
    NoScript,
    OutOfMemory,
    NoReplicas,
    ExecAbort,
    NoAuth,
    /// Wrong number of arguments for this command (`config|get` for a subcommand).
    Arity(&'static str),
    /// `invalid expire time in '...' command`.
    InvalidExpire(&'static str),
    /// `value is out of range, must be positive`.
    MustBePositive,
    /// A text that only one command has, with its code (`ERR ...`).
    Text(&'static str),
    /// The same, made at run time.
    Owned(Vec<u8>),
}

impl CmdError {
    /// An error reply with a text made at run time; it begins with its code (`ERR ...`).
    pub fn owned(text: impl Into<Vec<u8>>) -> Self {
        CmdError::Owned(text.into())
    }

    /// An error reply that quotes: `template` with the next of `parts` in place of each `{}`.
    pub fn quoting(template: &str, parts: &[&[u8]]) -> Self {
        CmdError::Owned(text::fill(template, parts))
    }

    /// What other clients are told while a script, or a function, runs for long.
    pub fn of_busy(busy: &Busy) -> Self {
        if busy.is_function() { CmdError::BusyFunction } else { CmdError::Busy }
    }

    /// The reply line without its `-`.
    pub fn text(&self) -> Cow<'static, [u8]> {
        let text = match self {
            CmdError::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            CmdError::Syntax => "ERR syntax error",
            CmdError::NotAnInteger => "ERR value is not an integer or out of range",
            CmdError::NotAFloat => "ERR value is not a valid float",
            CmdError::IncrOverflow => "ERR increment or decrement would overflow",
            CmdError::OutOfRange => "ERR value is out of range",
            CmdError::IndexOutOfRange => "ERR index out of range",
            CmdError::NoSuchKey => "ERR no such key",
            CmdError::NotAnIntegerOrFloat => "ERR value is not an integer or a float",
            CmdError::InvalidDbIndex => "ERR invalid DB index",
            CmdError::DbIndexOutOfRange => "ERR DB index is out of range",
            CmdError::TimeoutNotAFloat => "ERR timeout is not a float or out of range",
            CmdError::TimeoutNegative => "ERR timeout is negative",
            CmdError::TimeoutOutOfRange => "ERR timeout is out of range",
            CmdError::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            CmdError::Busy => "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            CmdError::BusyFunction => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
            }
            CmdError::NoScript => "NOSCRIPT No matching script. Please use EVAL.",
            CmdError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            CmdError::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            CmdError::ExecAbort => "EXECABORT Transaction discarded because of previous errors.",
            CmdError::NoAuth => "NOAUTH Authentication required.",
            CmdError::MustBePositive => "ERR value is out of range, must be positive",
            CmdError::Text(text) => text,
            CmdError::Arity(name) => {
                return Cow::Owned(format!("ERR wrong number of arguments for '{name}' command").into());
            }
            CmdError::InvalidExpire(name) => {
                return Cow::Owned(format!("ERR invalid expire time in '{name}' command").into());
            }
            CmdError::Owned(text) => return Cow::Owned(text.clone()),
        };
        Cow::Borrowed(text.as_bytes())
    }
}

/// For the log.
impl fmt::Display for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}
