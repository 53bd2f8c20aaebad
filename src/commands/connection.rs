//! The connection itself: AUTH, HELLO, PING, ECHO, SELECT, QUIT, RESET.

use crate::acl::log::{Cause, Place};
use crate::clients::Client;
use crate::clients::pubsub::Topic;
use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::permission;
use crate::command::session::{self, ReplyMode};
use crate::command::spec::*;
use crate::command::watch;
use crate::util::text;
use redstart_types::number;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[
    Command::new("auth", -2, auth)
        .flags(ALLOW_BUSY | FAST | LOADING | NO_AUTH | NOSCRIPT | STALE)
        .secrets(Secrets::From(1))
        .acl(acl::CONNECTION),
    Command::new("echo", 2, echo).flags(FAST | LOADING | STALE).acl(acl::CONNECTION),
    Command::new("hello", -1, hello)
        .flags(ALLOW_BUSY | FAST | LOADING | NO_AUTH | NOSCRIPT | STALE)
        .secrets(Secrets::Options(1, &[("setname", 1, 0), ("auth", 2, 2)]))
        .acl(acl::CONNECTION)
        .since("6.0.0"),
    Command::new("ping", -1, ping)
        .flags(FAST | TELLS_HEALTH | WHILE_SUBSCRIBED)
        .acl(acl::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    Command::new("quit", -1, quit)
        .flags(ALLOW_BUSY | ENDS_MULTI | FAST | LOADING | NOSCRIPT | NOT_QUEUED | NO_AUTH | STALE | WHILE_SUBSCRIBED)
        .acl(acl::CONNECTION),
    Command::new("reset", 1, reset)
        .flags(ALLOW_BUSY | ENDS_MULTI | FAST | LOADING | NOSCRIPT | NOT_QUEUED | NO_AUTH | STALE | WHILE_SUBSCRIBED)
        .acl(acl::CONNECTION)
        .since("6.2.0"),
    Command::new("select", 2, select).flags(FAST | LOADING | STALE).acl(acl::CONNECTION),
];

/// `PING [message]`: PONG or the message; a RESP2 subscriber gets an array of `pong` and the message.
/// Source: Redis 7.2 PING.
fn ping(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 1 {
        return Err(args.arity_error());
    }
    let message = args.optional();
    if ctx.session.in_pubsub_mode() {
        ctx.reply.array(2);
        ctx.reply.bulk(b"pong");
        ctx.reply.bulk(message.unwrap_or_default());
        return Ok(());
    }
    match message {
        Some(message) => ctx.reply.bulk(message),
        None => ctx.reply.status("PONG"),
    }
    Ok(())
}

/// `ECHO message`: the message. Source: Redis 7.2 ECHO.
fn echo(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let message = args.bytes()?;
    ctx.reply.bulk(message);
    Ok(())
}

/// `SELECT index`: OK. Errors: no integer; out of range. Source: Redis 7.2 SELECT.
fn select(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let index = args.db_index()?;
    let db = usize::try_from(index).ok().filter(|db| *db < ctx.config.databases as usize);
    ctx.session.select(db.ok_or(CmdError::DbIndexOutOfRange)?);
    ctx.reply.ok();
    Ok(())
}

/// `QUIT`: OK, then the connection closes. Source: Redis 7.2 QUIT.
fn quit(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    // Nothing comes behind the reply, not even a monitor's own line.
    ctx.server.monitors.remove(ctx.client());
    ctx.reply.ok();
    ctx.session.closing = true;
    Ok(())
}

/// `AUTH [username] password`: OK. Errors: WRONGPASS; no password is set. Source: Redis 7.2 AUTH.
fn auth(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 2 {
        return Err(CmdError::Syntax);
    }
    let has_user = args.remaining() == 2;
    let user = if has_user { args.bytes()? } else { b"default" };
    let password = args.bytes()?;
    if !has_user && ctx.server.acl.default_account().user().nopass {
        return Err(CmdError::Text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    authenticate(ctx, args, user, password)?;
    ctx.reply.ok();
    Ok(())
}

/// `HELLO [protover [AUTH username password] [SETNAME name]]`: map of facts about server and connection. Errors:
/// NOPROTO; NOAUTH; WRONGPASS; syntax. Source: Redis 7.2 HELLO.
fn hello(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut version = None;
    if let Some(arg) = args.optional() {
        let number = number::parse_int(arg);
        let number = number.ok_or(CmdError::Text("ERR Protocol version is not an integer or out of range"))?;
        if !(2..=3).contains(&number) {
            return Err(CmdError::Text("NOPROTO unsupported protocol version"));
        }
        version = Some(number);
    }
    let mut credentials = None;
    let mut name = None;
    while let Some(option) = args.peek() {
        if args.remaining() >= 3 && args.flag("AUTH") {
            credentials = Some((args.bytes()?, args.bytes()?));
        } else if args.remaining() >= 2 && args.flag("SETNAME") {
            name = Some(check_name(args.bytes()?)?);
        } else {
            return Err(CmdError::quoting("ERR Syntax error in HELLO option '{}'", &[option]));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(ctx, args, user, password)?;
    }
    if !ctx.session.authenticated {
        return Err(CmdError::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        ctx.client().rename(|names| names.name = name.to_vec());
    }
    if let Some(version) = version {
        ctx.session.set_resp3(version == 3);
        ctx.reply.resp3 = version == 3;
    }
    describe(ctx);
    Ok(())
}

fn describe(ctx: &mut Ctx) {
    let mode = crate::os::banner::mode(ctx.config);
    let id = i64::try_from(ctx.client().id).unwrap_or(i64::MAX);
    let protocol = if ctx.session.resp3 { 3 } else { 2 };
    let reply = &mut *ctx.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::os::banner::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(protocol);
    reply.bulk(b"id");
    reply.integer(id);
    reply.bulk(b"mode");
    reply.bulk(mode.as_bytes());
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
}

/// Gives the connection a name. Errors: characters other than printable ASCII. Source: Redis 7.2 CLIENT SETNAME.
pub(crate) fn set_name(ctx: &mut Ctx, name: &[u8]) -> CmdResult {
    let name = check_name(name)?.to_vec();
    ctx.client().rename(|names| names.name = name);
    Ok(())
}

fn check_name(name: &[u8]) -> CmdResult<&[u8]> {
    // What Redis looks at ends at a NUL.
    if text::until_nul(name).iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(name);
    }
    Err(CmdError::Text("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// Makes the session `user`'s if that is its password; otherwise that is entered into the ACL log.
fn authenticate(ctx: &mut Ctx, args: &Args, user: &[u8], password: &[u8]) -> CmdResult {
    if let Some(account) = ctx.server.acl.authenticate(user, password) {
        ctx.session.become_user(account, true);
        // A user deleted meanwhile has not kicked this client.
        if !ctx.session.account.is_deleted() {
            return Ok(());
        }
        ctx.session.become_user(ctx.server.acl.default_account().clone(), false);
    }
    let place = if ctx.origin == Origin::Exec { Place::Multi } else { Place::TopLevel };
    permission::note(ctx.server, ctx.session, Cause::Auth, place, args.argv()[0], user);
    Err(CmdError::Text("WRONGPASS invalid username-password pair or user is disabled."))
}

/// `RESET`: the status RESET; the connection is as new. Source: Redis 7.2 RESET.
fn reset(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let client = ctx.client().clone();
    if client.has(Client::MONITOR) {
        ctx.server.monitors.remove(&client);
    }
    ctx.server.tracking.disable(&client);
    session::discard(ctx.session);
    watch::end(ctx.server, ctx.session);
    if let Some(subscriptions) = ctx.session.subscriptions.take() {
        for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
            for name in subscriptions.of(topic) {
                client.forget(name);
                ctx.server.pubsub.unsubscribe(topic, name, &client);
            }
        }
        client.subscriptions.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
    ctx.take_mail();
    ctx.session.select(0);
    ctx.session.set_resp3(false);
    ctx.reply.resp3 = false;
    ctx.session.reply_mode = ReplyMode::On;
    let account = ctx.server.acl.default_account().clone();
    ctx.session.become_user(account, !ctx.server.acl.requires_auth());
    client.set(Client::NO_EVICT | Client::NO_TOUCH, false);
    client.rename(|names| names.name = Vec::new());
    ctx.reply.status("RESET");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn greetings() {
        let mut c = Checker::new();
        c.check("PING", "PONG");
        c.check("PING hi", "\"hi\"");
        c.check("PING a b", "-ERR wrong number of arguments for 'ping' command");
        c.check("ECHO x", "\"x\"");
        c.check("SELECT 16", "-ERR DB index is out of range");
        c.check("SELECT 2147483648", "-ERR value is out of range, value must between -2147483648 and 2147483647");
        c.check("SELECT x", "-ERR value is not an integer or out of range");
        c.check("SELECT 1", "OK");
        c.check("HELLO 4", "-NOPROTO unsupported protocol version");
        c.check("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'");
        c.check("AUTH x", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?");
        c.check("NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' ");
        c.check("RESET", "RESET");
        c.check("QUIT", "OK");
    }

    #[test]
    fn reset_ends_subscriptions() {
        let mut c = Checker::new();
        c.check("PSUBSCRIBE a*", "[\"psubscribe\", \"a*\", :1]");
        c.check("RESET", "RESET");
        let line = c.run("CLIENT INFO");
        assert!(line.contains(" flags=N db=0 sub=0 psub=0 ssub=0 "), "{line}");
        c.check("CLUSTER -1", "-ERR unknown subcommand '-1'. Try CLUSTER HELP.");
        assert!(c.run_other("CLIENT LIST").contains(" cmd=NULL "));
    }

    /// The end of a wait is told although the next command waits, too.
    #[test]
    fn a_wait_behind_a_wait() {
        let mut c = Checker::new();
        c.check_pipeline(&["BLPOP a 0.01", "BLPOP b 0"], &["nil"]);
        c.other("RPUSH b x", ":1");
        c.receive("[\"b\", \"x\"]");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#""\xff\xfe" "\xc3""#, r"-ERR unknown command '\xff\xfe', with args beginning with: '\xc3' ");
        c.check(r#""a\x00b" "c\x00d" e"#, "-ERR unknown command 'a', with args beginning with: 'c' 'e' ");
        c.check(r#""x\r\ny" "\r\n""#, "-ERR unknown command 'x  y', with args beginning with: '  ' ");
        let long = "L".repeat(300);
        let args = format!("'{}' '{}' ", "L".repeat(120), "L".repeat(5));
        let text = format!("-ERR unknown command '{}', with args beginning with: {args}", &long[..128]);
        c.check(&format!("{long} {} {long}", "L".repeat(120)), &text);
        c.check(&format!("CONFIG {long}"), &format!("-ERR unknown subcommand '{}'. Try CONFIG HELP.", &long[..128]));
        c.check(r#"CONFIG "\xff""#, r"-ERR unknown subcommand '\xff'. Try CONFIG HELP.");
        c.check(r#"HELLO 2 "\xff""#, r"-ERR Syntax error in HELLO option '\xff'");
        c.check(&format!("HELLO 2 {long}"), &format!("-ERR Syntax error in HELLO option '{long}'"));
        c.since("7.2");
        // What a name is checked for ends at a NUL.
        c.check(r#"CLIENT SETNAME "a\x00 b""#, "OK");
        c.check("CLIENT GETNAME", r#""a\x00 b""#);
        assert!(c.run("CLIENT INFO").contains(" name=a age="));
    }

    #[test]
    fn a_login_may_have_any_name() {
        let mut c = Checker::new();
        c.check(r#"ACL SETUSER "u\xff" on nopass +@all"#, "OK");
        c.check(r#"AUTH "u\xff" x"#, "OK");
        assert!(c.run("CLIENT INFO").contains(r" user=u\xff redir="));
        c.check("AUTH default x", "OK");
        c.check(r#"ACL DELUSER "u\xff""#, ":1");
    }
}
