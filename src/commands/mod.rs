//! The command families: one file each, with its handlers, their table entries and their tests.

use crate::command::ctx::Ctx;
use crate::command::error::CmdResult;
use crate::command::spec::Command;
use crate::command::table::Registry;

mod client_tracking;
mod debug_insides;
mod script_debug;
pub(crate) mod script_host;

pub mod acl;
pub mod bitmap;
pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
pub mod expire;
pub mod function;
pub mod generic;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod info;
pub mod list;
pub mod migrate;
pub mod monitoring;
pub mod object;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod scripting;
pub mod server;
pub mod set;
pub mod sort;
pub mod stream;
pub mod string;
#[cfg(test)]
pub mod testing;
pub mod transaction;
pub mod zset;

/// Every command there is, under its own name.
pub fn registry() -> Registry {
    Registry::new(FAMILIES)
}

/// Every family's entries.
const FAMILIES: &[&[Command]] = &[
    acl::COMMANDS,
    bitmap::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    debug::COMMANDS,
    expire::COMMANDS,
    function::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    info::COMMANDS,
    list::COMMANDS,
    migrate::COMMANDS,
    monitoring::COMMANDS,
    object::COMMANDS,
    persistence::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    scripting::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transaction::COMMANDS,
    zset::COMMANDS,
];

/// The reply of a container's HELP: an array of status lines in Redis's layout. A meaning may have several lines.
pub(crate) fn help(ctx: &mut Ctx, container: &str, subcommands: &[(&str, &str)]) -> CmdResult {
    let lines: usize = subcommands.iter().map(|(_, meaning)| 1 + meaning.lines().count()).sum();
    ctx.reply.array(lines + 3);
    ctx.reply.status(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (synopsis, meaning) in subcommands {
        ctx.reply.status(synopsis);
        meaning.lines().for_each(|line| ctx.reply.status(&format!("    {line}")));
    }
    ctx.reply.status("HELP");
    ctx.reply.status("    Print this help.");
    Ok(())
}
