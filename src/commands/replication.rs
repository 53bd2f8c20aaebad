//! Masters and replicas: what turns a connection into a replica's, and what is told of replicas.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::replication;
use crate::replication::replica::{Phase, Replica, Wishes};
use crate::util::quote;
use redstart_types::number;
use std::sync::Arc;

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
    Command::new("sync", 1, sync).flags(ADMIN | NO_ASYNC_LOADING | NO_MULTI | NOSCRIPT),
];

const NOT_A_REPLICA: CmdError = CmdError::Text("ERR REPLICAOF is refused: this server cannot be a replica yet");

/// `ROLE`: array of `master`, the stream's offset, and an array of address, port and acknowledged offset for each
/// replica that has the data set. Source: Redis 7.2 ROLE.
fn role(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let replicas = ctx.server.replication.replicas();
    let online: Vec<_> = replicas.iter().filter(|replica| replica.phase() == Phase::Online).collect();
    ctx.reply.array(3);
    ctx.reply.bulk(b"master");
    ctx.reply.integer(ctx.server.replication.stream.end() as i64);
    ctx.reply.array(online.len());
    for replica in online {
        ctx.reply.array(3);
        ctx.reply.bulk(replica.ip().as_bytes());
        ctx.reply.bulk(replica.wishes.port.to_string().as_bytes());
        ctx.reply.bulk(replica.acknowledged().to_string().as_bytes());
    }
    Ok(())
}

/// `REPLICAOF host port`, `REPLICAOF NO ONE`, also as SLAVEOF. `NO ONE` is what the server is: OK. Errors: invalid
/// port; this server follows nobody. Source: Redis 7.2 REPLICAOF.
fn replicaof(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.flag("NO") && args.flag("ONE") {
        ctx.reply.ok();
        return Ok(());
    }
    let port = args.rest().last().and_then(|port| number::parse_int(port));
    if !port.is_some_and(|port| (0..=65535).contains(&port)) {
        return Err(CmdError::Text("ERR Invalid master port"));
    }
    Err(NOT_A_REPLICA)
}

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms]`: refused, because this server could not follow the new master.
/// Errors: those of Redis come first. Source: Redis 7.2 FAILOVER.
fn failover(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() == 1 && args.flag("ABORT") {
        return Err(CmdError::Text("ERR No failover in progress."));
    }
    let (mut target, mut timeout, mut force) = (None, false, false);
    while !args.is_empty() {
        match args.one_of(&["TIMEOUT", "TO", "FORCE"]) {
            Some(0) if !timeout && !args.is_empty() => {
                if args.int()? <= 0 {
                    return Err(CmdError::Text("ERR FAILOVER timeout must be greater than 0"));
                }
                timeout = true;
            }
            Some(1) if target.is_none() && args.remaining() > 1 => target = Some((args.bytes()?, args.int()?)),
            Some(2) if !force => force = true,
            _ => return Err(CmdError::Syntax),
        }
    }
    let replicas = ctx.server.replication.replicas();
    if replicas.is_empty() {
        return Err(CmdError::Text("ERR FAILOVER requires connected replicas."));
    }
    if force && (!timeout || target.is_none()) {
        let text = "ERR FAILOVER with force option requires both a timeout and target HOST and IP.";
        return Err(CmdError::Text(text));
    }
    if let Some((host, port)) = target {
        let is_target =
            |replica: &&Arc<Replica>| replica.ip().as_bytes() == host && i64::from(replica.wishes.port) == port;
        let replica = replicas.iter().find(is_target);
        let replica = replica.ok_or(CmdError::Text("ERR FAILOVER target HOST and PORT is not a replica."))?;
        if replica.phase() != Phase::Online {
            return Err(CmdError::Text("ERR FAILOVER target replica is not online."));
        }
    }
    Err(CmdError::Text("ERR FAILOVER is refused: this server cannot become a replica of the new master yet"))
}

/// `SYNC`: no reply, but the data set and then the stream. Source: Redis 7.2 SYNC.
fn sync(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    become_replica(ctx, None)
}

/// `PSYNC replicationid offset [FAILOVER]`: `+CONTINUE` and the stream from that byte on, or `+FULLRESYNC id offset`, the
/// data set and the stream. Errors: pending output; a filter without the capability `eof`. Source: Redis 7.2 PSYNC.
fn psync(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let id = String::from_utf8_lossy(args.bytes()?).into_owned();
    let offset = args.bytes()?;
    if args.optional().is_some_and(|word| word.eq_ignore_ascii_case(b"failover")) {
        return Err(CmdError::Text("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    let offset = number::parse_int(offset).ok_or(CmdError::NotAnInteger)?;
    become_replica(ctx, Some((&id, offset)))
}

fn become_replica(ctx: &mut Ctx, known: Option<(&str, i64)>) -> CmdResult {
    if ctx.session.replica.is_some() {
        return Ok(());
    }
    if !ctx.reply.is_empty() {
        return Err(CmdError::Text("ERR SYNC and PSYNC are invalid with pending output"));
    }
    let wishes = ctx.session.wishes.as_deref().cloned().unwrap_or_default();
    if (wishes.without_data || wishes.without_functions) && !wishes.eof {
        return Err(CmdError::Text("ERR Filtered replica requires EOF capability"));
    }
    let replica = Arc::new(Replica::new(ctx.client().clone(), wishes, known.is_none(), ctx.now_ms));
    ctx.session.replica = Some(replica.clone());
    replication::follow(&ctx.server.replication, ctx.config, &replica, known);
    Ok(())
}

/// `REPLCONF option value [option value ...]`: OK for what a replica tells before PSYNC (`listening-port`, `ip-address`,
/// `capa`, `rdb-only`, `rdb-filter-only`); no reply to `ACK offset [FACK offset]` and `GETACK`. Errors: syntax; unknown
/// option; what a value must be. Source: Redis 7.2 REPLCONF.
fn replconf(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() % 2 == 1 {
        return Err(CmdError::Syntax);
    }
    while !args.is_empty() {
        let name = args.bytes()?;
        let value = args.bytes()?;
        match name.to_ascii_lowercase().as_slice() {
            b"ack" => {
                acknowledge(ctx, args, value);
                return Ok(());
            }
            // Only a replica can be asked.
            b"getack" => return Ok(()),
            name_lower => tell(ctx.session.wishes.get_or_insert_default(), name_lower, name, value)?,
        }
    }
    ctx.reply.ok();
    Ok(())
}

/// Notes one option of REPLCONF.
fn tell(wishes: &mut Wishes, lower: &[u8], name: &[u8], value: &[u8]) -> CmdResult {
    match lower {
        b"listening-port" => {
            wishes.port = number::parse_int(value).ok_or(CmdError::NotAnInteger)? as u16;
        }
        b"ip-address" if value.len() < HOST_BYTES => {
            wishes.ip = Some(String::from_utf8_lossy(value).into_owned()).filter(|ip| !ip.is_empty());
        }
        b"ip-address" => {
            let len = value.len();
            return Err(CmdError::owned(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {len} bytes"
            )));
        }
        b"capa" => {
            wishes.eof |= value.eq_ignore_ascii_case(b"eof");
            wishes.psync2 |= value.eq_ignore_ascii_case(b"psync2");
        }
        b"rdb-only" => match number::parse_int(value).ok_or(CmdError::NotAnInteger)? {
            only @ 0..=1 => wishes.rdb_only = only == 1,
            _ => return Err(CmdError::Text("ERR value is out of range, value must between 0 and 1")),
        },
        b"rdb-filter-only" => {
            let words = quote::split(value).map_err(|_| CmdError::Text("ERR Missing rdb-filter-only values"))?;
            (wishes.without_data, wishes.without_functions) = (true, true);
            for word in words {
                if !word.eq_ignore_ascii_case(b"functions") {
                    return Err(CmdError::quoting("ERR Unsupported rdb-filter-only option: {}", &[&word]));
                }
                wishes.without_functions = false;
            }
        }
        _ => return Err(CmdError::quoting("ERR Unrecognized REPLCONF option: {}", &[name])),
    }
    Ok(())
}

/// The longest host name that Redis keeps.
const HOST_BYTES: usize = 256;

fn acknowledge(ctx: &mut Ctx, args: &mut Args, offset: &[u8]) {
    let Some(replica) = &ctx.session.replica else { return };
    let number = |bytes: &[u8]| number::parse_int(bytes).and_then(|number| u64::try_from(number).ok());
    let Some(offset) = number(offset) else { return };
    let on_disk = if args.flag("FACK") { args.optional().and_then(number) } else { None };
    replica.acknowledge(offset, on_disk, ctx.now_ms / 1000);
    if !replica.is_good() {
        ctx.server.replication.count_good(ctx.config, ctx.now_ms / 1000);
    }
    replication::waits::serve(&ctx.server.replication);
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
        c.check("FAILOVER TO localhost", "-ERR syntax error");
        c.check("FAILOVER TIMEOUT 0", "-ERR FAILOVER timeout must be greater than 0");
        c.check("FAILOVER TIMEOUT x", "-ERR value is not an integer or out of range");
        c.check_here("REPLICAOF localhost 1", "-ERR REPLICAOF is refused: this server cannot be a replica yet");
    }

    // What a replica is sent is tested in tests/replication.rs.
    #[test]
    fn what_a_replica_tells_of_itself() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("REPLCONF listening-port 7000 ip-address example.org capa eof capa psync2 capa unknown", "OK");
        c.check("REPLCONF listening-port x", "-ERR value is not an integer or out of range");
        c.check("REPLCONF nope 1", "-ERR Unrecognized REPLCONF option: nope");
        c.check("REPLCONF rdb-only 2", "-ERR value is out of range, value must between 0 and 1");
        c.check("REPLCONF rdb-filter-only nope", "-ERR Unsupported rdb-filter-only option: nope");
        let long = "x".repeat(256);
        let refused = "-ERR REPLCONF ip-address provided by replica instance is too long: 256 bytes";
        c.check(&format!("REPLCONF ip-address {long}"), refused);
        c.check("PSYNC ? x", "-ERR value is not an integer or out of range");
        c.check("PSYNC ? -1 FAILOVER", "-ERR PSYNC FAILOVER can't be sent to a master.");
        c.other("REPLCONF rdb-filter-only functions", "OK");
        c.other("SYNC", "-ERR Filtered replica requires EOF capability");
        c.other("MULTI", "OK");
        c.other("SYNC", "-ERR Command not allowed inside a transaction");
    }
}
