//! Masters and replicas: what a server answers that is neither.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use redstart_types::number;

pub const COMMANDS: &[Command] = &[
    Command::new("failover", -1, failover).flags(ADMIN | NOSCRIPT | STALE).since("6.2.0"),
    Command::new("psync", -3, psync).flags(ADMIN | NO_ASYNC_LOADING | NO_MULTI | NOSCRIPT).since("2.8.0"),
    Command::new("replconf", -1, replconf).flags(ADMIN | ALLOW_BUSY | LOADING | NOSCRIPT | STALE).since("3.0.0"),
    Command::new("replicaof", 3, replicaof).flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT | STALE).since("5.0.0"),
    Command::new("role", 1, role)
        .flags(FAST | LOADING | NOSCRIPT | STALE)
        .acl(acl::ADMIN | acl::DANGEROUS)
        .since("2.8.12"),
    Command::new("slaveof", 3, replicaof).flags(ADMIN | NO_ASYNC_LOADING | NOSCRIPT | STALE),
    Command::new("sync", 1, psync).flags(ADMIN | NO_ASYNC_LOADING | NO_MULTI | NOSCRIPT),
];

const NO_REPLICATION: CmdError = CmdError::Text("ERR replication is not part of this server yet");

/// `ROLE`: array of `master`, the offset and the replicas. Source: Redis 7.2 ROLE.
fn role(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.array(3);
    ctx.reply.bulk(b"master");
    ctx.reply.integer(0);
    ctx.reply.array(0);
    Ok(())
}

/// `REPLICAOF host port`, `REPLICAOF NO ONE`, also as SLAVEOF. `NO ONE` is what the server is: OK. Errors: invalid
/// port; there is no replication yet. Source: Redis 7.2 REPLICAOF.
fn replicaof(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.flag("NO") && args.flag("ONE") {
        ctx.reply.ok();
        return Ok(());
    }
    let port = args.rest().last().and_then(|port| number::parse_int(port));
    if !port.is_some_and(|port| (0..=65535).contains(&port)) {
        return Err(CmdError::Text("ERR Invalid master port"));
    }
    Err(NO_REPLICATION)
}

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms]`: without replicas there is only what to refuse.
/// Source: Redis 7.2 FAILOVER.
fn failover(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.flag("ABORT") {
        args.finish()?;
        return Err(CmdError::Text("ERR No failover in progress."));
    }
    Err(CmdError::Text("ERR FAILOVER requires connected replicas."))
}

/// `PSYNC replicationid offset`, `SYNC`: nobody can become a replica of this server yet.
fn psync(_ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    Err(NO_REPLICATION)
}

/// `REPLCONF option value [option value ...]`: the same.
fn replconf(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() % 2 == 1 {
        return Err(CmdError::Syntax);
    }
    Err(NO_REPLICATION)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn a_server_by_itself() {
        let mut c = Checker::new();
        assert!(c.run("ROLE").starts_with("[\"master\", :"));
        c.check("REPLICAOF no one", "OK");
        c.check("SLAVEOF NO ONE", "OK");
        c.check("REPLICAOF localhost x", "-ERR Invalid master port");
        c.check("FAILOVER", "-ERR FAILOVER requires connected replicas.");
        c.check("FAILOVER ABORT", "-ERR No failover in progress.");
        c.check("REPLCONF a", "-ERR syntax error");
        for command in ["REPLICAOF localhost 1", "PSYNC ? -1", "SYNC", "REPLCONF listening-port 1"] {
            c.check_here(command, "-ERR replication is not part of this server yet");
        }
    }
}
