//! CONFIG: reading and changing the directives of a running server.

use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::gate;
use crate::command::spec::*;
use crate::config::{self, Access, Config, SetError};
use crate::server::Server;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[Command::new("config", -2, container).since("2.0.0").subcommands(&[
    Command::new("config|get", -3, get).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("2.0.0"),
    Command::new("config|help", 2, help).flags(LOADING | STALE).since("5.0.0"),
    Command::new("config|resetstat", 2, resetstat)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .since("2.0.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("config|rewrite", 2, rewrite)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .since("2.8.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("config|set", -4, set)
        .secrets(Secrets::Directives(2))
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .since("2.0.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
])];

/// `CONFIG` without a subcommand. The engine answers unknown ones.
fn container(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `CONFIG GET parameter [parameter ...]`: map of names and values. Source: Redis 7.2 CONFIG GET.
fn get(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let config = ctx.server.config.load();
    let found = config::get(&config, args.rest());
    ctx.reply.map(found.len());
    for (name, value) in found {
        ctx.reply.bulk(&name);
        ctx.reply.bulk(&value);
    }
    Ok(())
}

/// `CONFIG SET parameter value [parameter value ...]`: OK, all of them hold; or an error, and none does.
/// Source: Redis 7.2 CONFIG SET.
fn set(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (pairs, rest) = args.rest().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CmdError::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
    let access = Access {
        protected: gate::is_allowed(ctx.config.enable_protected_configs, ctx.client()),
        loading: ctx.server.loading.load(Ordering::Relaxed),
        in_exec: ctx.origin == Origin::Exec,
    };
    ctx.server.reconfigure(&pairs, access).map_err(|error: SetError| CmdError::owned(error.text()))?;
    ctx.reply.ok();
    Ok(())
}

/// `CONFIG RESETSTAT`: OK; what INFO counts, starts at 0 again. Source: Redis 7.2 CONFIG RESETSTAT.
fn resetstat(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let server = ctx.server;
    server.stats.reset();
    server.errors.reset();
    server.reclaimer.reset();
    server.replication.reset_counters();
    ctx.reply.ok();
    Ok(())
}

/// `CONFIG REWRITE`: OK; the configuration file holds the present values. Errors: there is no such file; it cannot be
/// written. Source: Redis 7.2 CONFIG REWRITE.
fn rewrite(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    rewrite_file(ctx.server, false)?;
    ctx.reply.ok();
    Ok(())
}

/// Rewrites the configuration file; with `all`, directives at their default too.
pub(crate) fn rewrite_file(server: &Server, all: bool) -> CmdResult {
    let file = server.process.as_ref().and_then(|process| process.config_file.as_deref());
    let file = file.ok_or(CmdError::Text("ERR The server is running without a config file"))?;
    let config = server.config.load();
    let rewritten = match std::fs::read(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        old => Ok(config::rewrite(&old.unwrap_or_default(), &config, &user_lines(server, &config), all)),
    };
    let written: io::Result<()> = rewritten.and_then(|text| config::replace_file(file, &text));
    match written {
        Ok(()) => {
            server.log.notice("CONFIG REWRITE executed with success.");
            Ok(())
        }
        Err(error) => {
            let reason = config::os_reason(&error);
            server.log.warning(format_args!("CONFIG REWRITE failed: {reason}"));
            Err(CmdError::owned(format!("ERR Rewriting config file: {reason}")))
        }
    }
}

/// The `user` lines of the file; none where an ACL file holds them.
fn user_lines(server: &Server, config: &Config) -> Vec<Vec<u8>> {
    if config.aclfile.is_empty() { server.acl.config_lines() } else { Vec::new() }
}

/// `CONFIG HELP`: array of status lines. Source: Redis 7.2 CONFIG HELP.
fn help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    super::help(
        ctx,
        "CONFIG",
        &[
            ("GET <pattern>", "Return parameters matching the glob-like <pattern> and their values."),
            ("SET <directive> <value>", "Set the configuration <directive> to <value>."),
            ("RESETSTAT", "Reset statistics reported by the INFO command."),
            ("REWRITE", "Rewrite the configuration file."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, Peer};
    use std::net::TcpListener;

    #[test]
    fn get_and_set() {
        let mut c = Checker::new();
        c.check("CONFIG GET maxmemory-samples", "[\"maxmemory-samples\", \"5\"]");
        c.check("CONFIG SET maxmemory-samples 7 timeout 100", "OK");
        c.check("CONFIG GET maxmemory-samples", "[\"maxmemory-samples\", \"7\"]");
        c.check("CONFIG SET maxmemory-samples 5 timeout 0", "OK");
        c.check("CONFIG GET nothing", "[]");
        c.check("CONFIG SET maxmemory", "-ERR wrong number of arguments for 'config|set' command");
        c.check("CONFIG SET maxmemory 1 timeout", "-ERR syntax error");
        c.check(
            r#"CONFIG SET maxmemory "7\x00x" lazyfree-lazy-expire "no\x00" maxmemory-policy "noeviction\x00x""#,
            "OK",
        );
        c.check(
            r#"CONFIG SET timeout "7\x00""#,
            "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer",
        );
        c.check("CONFIG GET maxmemory", "[\"maxmemory\", \"7\"]");
        c.check("CONFIG SET maxmemory 0", "OK");
        c.check("CONFIG SET foo 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'");
        c.check("CONFIG", "-ERR wrong number of arguments for 'config' command");
        c.check("CONFIG NOPE", "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP.");
        c.check("CONFIG RESETSTAT", "OK");
        c.check(
            "CONFIG SET daemonize yes",
            "-ERR CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config",
        );
        c.check(
            "CONFIG SET maxmemory 7 maxmemory-clients 200%",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - \
             percentage argument must be less or equal to 100",
        );
        c.check("CONFIG GET maxmemory", "[\"maxmemory\", \"0\"]");
    }

    #[test]
    fn protected_directives() {
        let mut c = Checker::new();
        c.check(
            "CONFIG SET dir /",
            "-ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
        );
    }

    #[test]
    fn a_change_holds_at_once() {
        let mut c = Checker::new();
        c.check("MULTI", "OK");
        c.check("CONFIG SET slowlog-max-len 33", "QUEUED");
        c.check("CONFIG GET slowlog-max-len", "QUEUED");
        c.check("EXEC", "[OK, [\"slowlog-max-len\", \"33\"]]");
        c.check("CONFIG SET slowlog-max-len 128", "OK");
    }

    #[test]
    fn the_port_can_be_changed() {
        let mut c = Checker::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = taken.local_addr().unwrap().port();
        c.check_here(
            &format!("CONFIG SET maxmemory 100mb port {port} timeout 5"),
            "-ERR CONFIG SET failed (possibly related to argument 'port') - \
             Unable to listen on this port. Check server logs.",
        );
        c.check_here("CONFIG GET maxmemory", "[\"maxmemory\", \"0\"]");
        c.check_here("PING", "PONG");
        let old = c.running.addr().unwrap().to_string();
        assert_eq!(Peer::connect(&old).run("PING"), "PONG");
        c.check_here(&format!("CONFIG SET port {}", free.port()), "OK");
        assert_eq!(Peer::connect(&free.to_string()).run("PING"), "PONG");
        assert!(std::net::TcpStream::connect(&old).is_err());
        c.check_here(
            "CONFIG SET bind 999.999.999.999",
            "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.",
        );
        assert_eq!(Peer::connect(&free.to_string()).run("PING"), "PONG");
        c.check_here("PING", "PONG");
    }

    #[test]
    fn there_is_nothing_to_rewrite_without_a_file() {
        let mut c = Checker::new();
        c.check("CONFIG REWRITE", "-ERR The server is running without a config file");
        let help = c.run("CONFIG HELP");
        assert!(help.starts_with("[CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:, GET"), "{help}");
        assert!(help.ends_with("HELP,     Print this help.]"), "{help}");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#"CONFIG SET "\xff" 1"#, r"-ERR Unknown option or number of arguments for CONFIG SET - '\xff'");
        c.check(r#"CONFIG SET "x\x00y" 1"#, "-ERR Unknown option or number of arguments for CONFIG SET - 'x'");
    }

    #[test]
    fn values_that_are_corrected_or_named_in_order() {
        let mut c = Checker::new();
        c.check("CONFIG SET repl-backlog-size 1k", "OK");
        c.check("CONFIG GET repl-backlog-size", r#"["repl-backlog-size", "16384"]"#);
        c.check("CONFIG SET repl-backlog-size 1mb", "OK");
        let text = "argument(s) must be one of the following: no, yes, relative, absolute";
        let prefix = "-ERR CONFIG SET failed (possibly related to argument 'oom-score-adj') -";
        c.check("CONFIG SET oom-score-adj x", &format!("{prefix} {text}"));
    }
}
