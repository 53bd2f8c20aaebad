//! The command families: one file each, with its handlers, their table entries and their tests.

use crate::command::spec::Command;

pub mod connection;
pub mod generic;
pub mod string;
#[cfg(test)]
pub mod testing;
pub mod transaction;

/// Every family's entries.
pub const FAMILIES: &[&[Command]] = &[connection::COMMANDS, generic::COMMANDS, string::COMMANDS, transaction::COMMANDS];
