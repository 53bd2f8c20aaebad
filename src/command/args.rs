//! The one cursor over a command's arguments.

use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::Command;
use crate::keyspace::Key;
use crate::util::text;
use redstart_types::number;
use redstart_types::seed::HashSeed;
use redstart_types::table::hash_key;

/// One command as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The name comes first.
    pub argv: &'a [&'a [u8]],
    /// The same as an array of bulk strings, if it came as one.
    pub encoded: Option<&'a [u8]>,
    /// The hash of the first argument, if it has been asked for already.
    pub first_hash: Option<u64>,
}

/// The arguments of one command, read from left to right. Starts behind the command's name (and subcommand's).
#[derive(Debug, Clone)]
pub struct Args<'a> {
    argv: &'a [&'a [u8]],
    /// As they were sent, if that was otherwise.
    sent: Option<&'a [&'a [u8]]>,
    encoded: Option<&'a [u8]>,
    next: usize,
    seed: &'a HashSeed,
    /// The key that was hashed to find its shard: its position and hash.
    hashed: (usize, u64),
    command: &'static Command,
}

impl<'a> Args<'a> {
    /// A cursor over `argv` (name first); `hashed` is the position and hash of a key hashed already (position 0:
    /// none).
    pub fn new(argv: &'a [&'a [u8]], command: &'static Command, seed: &'a HashSeed, hashed: (usize, u64)) -> Self {
        Args::of_request(Request { argv, encoded: None, first_hash: None }, command, seed, hashed)
    }

    /// The same for a command that has come from a client.
    pub fn of_request(
        request: Request<'a>,
        command: &'static Command,
        seed: &'a HashSeed,
        hashed: (usize, u64),
    ) -> Self {
        let Request { argv, encoded, .. } = request;
        let next = if command.name.contains('|') { 2 } else { 1 };
        Args { argv, sent: None, encoded, next, seed, hashed, command }
    }

    /// All arguments, the name included.
    pub fn argv(&self) -> &'a [&'a [u8]] {
        self.argv
    }

    /// Says that the client has sent these.
    pub fn sent_as(self, sent: &'a [&'a [u8]]) -> Self {
        Args { sent: Some(sent), ..self }
    }

    /// All arguments as the client has sent them.
    pub fn sent(&self) -> &'a [&'a [u8]] {
        self.sent.unwrap_or(self.argv)
    }

    /// All arguments as RESP, if they came so.
    pub fn encoded(&self) -> Option<&'a [u8]> {
        self.encoded
    }

    /// How many arguments are left.
    pub fn remaining(&self) -> usize {
        self.argv.len() - self.next
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The arguments left, without taking them.
    pub fn rest(&self) -> &'a [&'a [u8]] {
        &self.argv[self.next..]
    }

    /// The next argument, without taking it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.argv.get(self.next).copied()
    }

    /// The next argument; a syntax error when there is none.
    #[inline]
    pub fn bytes(&mut self) -> CmdResult<&'a [u8]> {
        let arg = self.argv.get(self.next).copied().ok_or(CmdError::Syntax)?;
        self.next += 1;
        Ok(arg)
    }

    /// The next argument, if any.
    pub fn optional(&mut self) -> Option<&'a [u8]> {
        self.bytes().ok()
    }

    /// The next argument as a key.
    #[inline]
    pub fn key(&mut self) -> CmdResult<Key<'a>> {
        let position = self.next;
        let bytes = self.bytes()?;
        let hash = if position == self.hashed.0 { self.hashed.1 } else { hash_key(self.seed, bytes) };
        Ok(Key { bytes, hash })
    }

    /// Any bytes as a key (those that came from elsewhere than an argument).
    pub fn as_key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key { bytes, hash: hash_key(self.seed, bytes) }
    }

    /// The next argument as a signed integer.
    #[inline]
    pub fn int(&mut self) -> CmdResult<i64> {
        number::parse_int(self.bytes()?).ok_or(CmdError::NotAnInteger)
    }

    /// The next argument as the number of a database, in range or not (C's `int`, which bounds it).
    pub fn db_index(&mut self) -> CmdResult<i64> {
        let index = self.int()?;
        if i32::try_from(index).is_err() {
            return Err(CmdError::Text("ERR value is out of range, value must between -2147483648 and 2147483647"));
        }
        Ok(index)
    }

    /// The next argument as a signed integer that has a negative (random counts, ranks).
    pub fn balanced_int(&mut self) -> CmdResult<i64> {
        let value = self.int()?;
        if value == i64::MIN {
            return Err(CmdError::Text(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ));
        }
        Ok(value)
    }

    /// The next argument as a float; infinities allowed, NaN not.
    pub fn float(&mut self) -> CmdResult<f64> {
        number::parse_double(self.bytes()?).ok_or(CmdError::NotAFloat)
    }

    /// The next argument as a count that must not be negative (`value is out of range, must be positive`).
    pub fn positive(&mut self) -> CmdResult<usize> {
        let value = self.int().map_err(|_| CmdError::MustBePositive)?;
        usize::try_from(value).map_err(|_| CmdError::MustBePositive)
    }

    /// Takes the next argument if it is this word (upper case; the client may write it in any case).
    pub fn flag(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        if found {
            self.next += 1;
        }
        found
    }

    /// Takes the next argument if it is one of these words (upper case); its position among them.
    pub fn one_of(&mut self, words: &[&str]) -> Option<usize> {
        words.iter().position(|word| self.flag(word))
    }

    /// A syntax error unless every argument was taken.
    pub fn finish(&self) -> CmdResult {
        if self.is_empty() { Ok(()) } else { Err(CmdError::Syntax) }
    }

    /// The error of a subcommand that got arguments it does not take.
    pub fn subcommand_error(&self) -> CmdError {
        let (container, _) = self.command.name.split_once('|').unwrap_or((self.command.name, ""));
        let shown = text::first(128, self.argv.get(1).copied().unwrap_or_default());
        CmdError::quoting(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
            &[shown, container.to_ascii_uppercase().as_bytes()],
        )
    }

    /// The command's wrong-number-of-arguments error.
    pub fn arity_error(&self) -> CmdError {
        CmdError::Arity(self.command.name)
    }
}
