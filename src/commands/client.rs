//! CLIENT: what the server knows of connections, and what may be done to them.

use crate::acl::Account;
use crate::clients::Client;
use crate::command::args::Args;
use crate::command::client_line::describe;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::ReplyMode;
use crate::command::spec::*;
use crate::commands::client_tracking::{client_caching, client_getredir, client_tracking, client_trackinginfo};
use crate::commands::connection::set_name;
use crate::commands::help;
use crate::util::text;
use redstart_types::number;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[Command::new("client", -2, client).since("2.4.0").subcommands(&[
    Command::new("client|caching", 3, client_caching)
        .flags(KEEPS_CACHING | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("6.0.0"),
    Command::new("client|getname", 2, client_getname)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("2.6.9"),
    Command::new("client|getredir", 2, client_getredir)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("6.0.0"),
    Command::new("client|help", 2, client_help).flags(LOADING | STALE).acl(acl::CONNECTION).since("5.0.0"),
    Command::new("client|id", 2, client_id).flags(LOADING | NOSCRIPT | STALE).acl(acl::CONNECTION).since("5.0.0"),
    Command::new("client|info", 2, client_info)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("6.2.0")
        .tips(&["nondeterministic_output"]),
    Command::new("client|kill", -3, client_kill)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("2.4.0"),
    Command::new("client|list", -2, client_list)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("2.4.0")
        .tips(&["nondeterministic_output"]),
    Command::new("client|no-evict", 3, client_no_evict)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("7.0.0"),
    Command::new("client|no-touch", 3, client_no_touch)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("7.2.0"),
    Command::new("client|pause", -3, client_pause)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("3.0.0"),
    Command::new("client|reply", 3, client_reply).flags(LOADING | NOSCRIPT | STALE).acl(acl::CONNECTION).since("3.2.0"),
    Command::new("client|setinfo", 4, client_setinfo)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("7.2.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("client|setname", 3, client_setname)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("2.6.9")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("client|tracking", -3, client_tracking)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("6.0.0"),
    Command::new("client|trackinginfo", 2, client_trackinginfo)
        .flags(LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("6.2.0"),
    Command::new("client|unblock", -3, client_unblock)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("5.0.0"),
    Command::new("client|unpause", 2, client_unpause)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .acl(acl::CONNECTION)
        .since("6.2.0"),
])];

/// `CLIENT` without a known subcommand never gets here.
fn client(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `CLIENT ID`: integer. Source: Redis 7.2 CLIENT ID.
fn client_id(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.integer(ctx.session.client.id as i64);
    Ok(())
}

/// `CLIENT GETNAME`: bulk string, or null when it has no name. Source: Redis 7.2 CLIENT GETNAME.
fn client_getname(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let name = ctx.client().names().name;
    ctx.reply.bulk_or_null(Some(&*name).filter(|name| !name.is_empty()));
    Ok(())
}

/// `CLIENT SETNAME name`: OK; an empty name takes it away. Errors: spaces or unprintable characters.
/// Source: Redis 7.2 CLIENT SETNAME.
fn client_setname(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = args.bytes()?;
    set_name(ctx, name)?;
    ctx.reply.ok();
    Ok(())
}

/// `CLIENT SETINFO LIB-NAME name | LIB-VER version`: OK. Errors: unknown attribute; characters.
/// Source: Redis 7.2 CLIENT SETINFO.
fn client_setinfo(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let attribute = args.bytes()?;
    let value = args.bytes()?;
    let is = |name: &[u8]| attribute.eq_ignore_ascii_case(name);
    if !is(b"lib-name") && !is(b"lib-ver") {
        return Err(CmdError::quoting("ERR Unrecognized option '{}'", &[attribute]));
    }
    if !text::until_nul(value).iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let text = "ERR {} cannot contain spaces, newlines or special characters.";
        return Err(CmdError::quoting(text, &[attribute]));
    }
    ctx.client().rename(|names| {
        let field = if is(b"lib-name") { &mut names.lib_name } else { &mut names.lib_ver };
        *field = value.to_vec();
    });
    ctx.reply.ok();
    Ok(())
}

/// `CLIENT INFO`: a line of `field=value` about this connection. Source: Redis 7.2 CLIENT INFO.
fn client_info(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let client = ctx.client().clone();
    show_own_arguments(ctx, args);
    let mut text = describe(ctx.server, &client);
    text.push(b'\n');
    ctx.client().argv_bytes.store(0, Ordering::Relaxed);
    ctx.reply.verbatim("txt", &text);
    Ok(())
}

/// `CLIENT LIST [TYPE type] [ID id ...]`: a line for each connection, or for each id that there is. Errors: unknown type;
/// invalid id; syntax. Source: Redis 7.2 CLIENT LIST.
fn client_list(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let mut shown;
    if args.remaining() == 2 && args.flag("TYPE") {
        let class = Class::parse(args.bytes()?)?;
        shown = ctx.server.clients.all();
        shown.retain(|client| Class::of(client) == class);
    } else if args.remaining() > 1 && args.flag("ID") {
        shown = Vec::new();
        while let Some(id) = args.optional() {
            let id = number::parse_int(id).ok_or(CmdError::Text("ERR Invalid client ID"))?;
            shown.extend(u64::try_from(id).ok().and_then(|id| ctx.server.clients.find(id)));
        }
    } else {
        args.finish()?;
        shown = ctx.server.clients.all();
    }
    show_own_arguments(ctx, args);
    let mut text = Vec::new();
    for client in &shown {
        text.extend(describe(ctx.server, client));
        text.push(b'\n');
    }
    ctx.client().argv_bytes.store(0, Ordering::Relaxed);
    ctx.reply.verbatim("txt", &text);
    Ok(())
}

/// A client that asks sees the arguments it asks with; what others run is over by then.
fn show_own_arguments(ctx: &Ctx, args: &Args) {
    let bytes = args.argv().iter().map(|arg| arg.len()).sum();
    ctx.session.client.argv_bytes.store(bytes, Ordering::Relaxed);
}

/// The classes that CLIENT LIST and CLIENT KILL tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    Master,
    Replica,
    PubSub,
}

impl Class {
    fn parse(name: &[u8]) -> CmdResult<Class> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Class::Normal),
            b"master" => Ok(Class::Master),
            b"slave" | b"replica" => Ok(Class::Replica),
            b"pubsub" => Ok(Class::PubSub),
            _ => Err(CmdError::quoting("ERR Unknown client type '{}'", &[name])),
        }
    }

    fn of(client: &Client) -> Class {
        if client.has(Client::REPLICA) {
            Class::Replica
        } else if client.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0) {
            Class::PubSub
        } else {
            Class::Normal
        }
    }
}

/// What CLIENT KILL looks for; all that is set must fit.
#[derive(Debug, Default)]
struct Victims {
    id: Option<i64>,
    addr: Option<String>,
    laddr: Option<String>,
    class: Option<Class>,
    user: Option<Arc<Account>>,
    skip_me: Option<bool>,
}

/// `CLIENT KILL ip:port`: OK, or an error when there is no such client.
/// `CLIENT KILL [ID id] [ADDR addr] [LADDR addr] [TYPE type] [USER name] [SKIPME yes|no]`: integer, how many.
/// Source: Redis 7.2 CLIENT KILL.
fn client_kill(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() == 1 {
        let addr = String::from_utf8_lossy(args.bytes()?).into_owned();
        let victims = Victims { addr: Some(addr), skip_me: Some(false), ..Victims::default() };
        return match kill(ctx, &victims) {
            0 => Err(CmdError::Text("ERR No such client")),
            _ => {
                ctx.reply.ok();
                Ok(())
            }
        };
    }
    let victims = parse_victims(ctx, args)?;
    let killed = kill(ctx, &victims);
    ctx.reply.integer(killed);
    Ok(())
}

fn parse_victims(ctx: &Ctx, args: &mut Args) -> CmdResult<Victims> {
    let mut victims = Victims::default();
    while !args.is_empty() {
        let option = args.one_of(&["ID", "ADDR", "LADDR", "TYPE", "USER", "SKIPME"]).ok_or(CmdError::Syntax)?;
        let value = args.bytes()?;
        let text = || String::from_utf8_lossy(value).into_owned();
        match option {
            0 => {
                let id = number::parse_int(value).filter(|id| *id > 0);
                victims.id = Some(id.ok_or(CmdError::Text("ERR client-id should be greater than 0"))?);
            }
            1 => victims.addr = Some(text()),
            2 => victims.laddr = Some(text()),
            3 => victims.class = Some(Class::parse(value)?),
            4 => {
                let account = ctx.server.acl.find(value);
                let missing = || CmdError::quoting("ERR No such user '{}'", &[value]);
                victims.user = Some(account.ok_or_else(missing)?);
            }
            _ => {
                victims.skip_me = Some(match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(CmdError::Syntax),
                });
            }
        }
    }
    Ok(victims)
}

fn kill(ctx: &mut Ctx, victims: &Victims) -> i64 {
    let mut killed = 0;
    let candidates = match victims.id {
        Some(id) => u64::try_from(id).ok().and_then(|id| ctx.server.clients.find(id)).into_iter().collect(),
        None => ctx.server.clients.all(),
    };
    for client in candidates {
        let is_me = client.id == ctx.client().id;
        let fits = victims.addr.as_ref().is_none_or(|addr| *addr == client.addr)
            && victims.laddr.as_ref().is_none_or(|laddr| *laddr == client.laddr)
            && victims.class.is_none_or(|class| class == Class::of(&client))
            && victims.user.as_ref().is_none_or(|user| Arc::ptr_eq(user, &client.account.lock()))
            && !(is_me && victims.skip_me.unwrap_or(true));
        if !fits {
            continue;
        }
        killed += 1;
        if is_me {
            ctx.session.closing = true;
        } else {
            ctx.server.clients.kill(&client);
        }
    }
    killed
}

/// `CLIENT UNBLOCK id [TIMEOUT | ERROR]`: 1 if the client was blocked, else 0. Errors: invalid id; syntax.
/// Source: Redis 7.2 CLIENT UNBLOCK.
fn client_unblock(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 2 {
        return Err(args.subcommand_error());
    }
    let id = args.bytes()?;
    let with_error = match args.one_of(&["TIMEOUT", "ERROR"]) {
        Some(choice) => choice == 1,
        None if args.is_empty() => false,
        None => {
            return Err(CmdError::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    };
    let id = number::parse_int(id).ok_or(CmdError::NotAnInteger)?;
    let client: Option<Arc<Client>> = u64::try_from(id).ok().and_then(|id| ctx.server.clients.find(id));
    let blocked = client.filter(|client| client.has(Client::BLOCKED) && !client.has(Client::UNBLOCKED));
    if let Some(client) = &blocked {
        client.set(Client::UNBLOCKED, true);
        client.mailbox.put(|letters| letters.unblock = Some(with_error));
    }
    ctx.reply.integer(i64::from(blocked.is_some()));
    Ok(())
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`: OK; commands of clients wait for `timeout` ms (WRITE: only those that change
/// data). A pause under way is extended and never weakened. Errors: timeout; mode. Source: Redis 7.2 CLIENT PAUSE.
fn client_pause(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let timeout = args.bytes()?;
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    let writes_only = match args.one_of(&["WRITE", "ALL"]) {
        Some(mode) => mode == 0,
        None if args.is_empty() => false,
        None => return Err(CmdError::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let timeout_ms =
        number::parse_int(timeout).ok_or(CmdError::Text("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| CmdError::TimeoutNegative)?;
    let until_ms = ctx.now_ms.checked_add(timeout_ms as i64).ok_or(CmdError::TimeoutOutOfRange)?;
    ctx.server.pause.begin(until_ms, writes_only, ctx.now_ms);
    ctx.reply.ok();
    Ok(())
}

/// `CLIENT UNPAUSE`: OK; waiting commands go on. Source: Redis 7.2 CLIENT UNPAUSE.
fn client_unpause(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.server.pause.end();
    for client in ctx.server.clients.all() {
        client.mailbox.wake();
    }
    ctx.reply.ok();
    Ok(())
}

/// `CLIENT REPLY ON | OFF | SKIP`: OK for ON, nothing otherwise. Source: Redis 7.2 CLIENT REPLY.
fn client_reply(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    match args.one_of(&["ON", "OFF", "SKIP"]) {
        Some(0) => {
            ctx.session.reply_mode = ReplyMode::On;
            ctx.reply.ok();
        }
        Some(1) => ctx.session.reply_mode = ReplyMode::Off,
        Some(_) if ctx.session.reply_mode == ReplyMode::On => ctx.session.reply_mode = ReplyMode::SkipNext,
        Some(_) => {}
        None => return Err(CmdError::Syntax),
    }
    Ok(())
}

/// `CLIENT NO-EVICT ON | OFF`: OK. Source: Redis 7.2 CLIENT NO-EVICT.
fn client_no_evict(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    switch(ctx, args, Client::NO_EVICT)
}

/// `CLIENT NO-TOUCH ON | OFF`: OK; commands leave LRU and LFU alone. Source: Redis 7.2 CLIENT NO-TOUCH.
fn client_no_touch(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    switch(ctx, args, Client::NO_TOUCH)
}

fn switch(ctx: &mut Ctx, args: &mut Args, flag: u32) -> CmdResult {
    let on = args.one_of(&["ON", "OFF"]).ok_or(CmdError::Syntax)? == 0;
    ctx.client().set(flag, on);
    ctx.server.clients.note_size(ctx.client());
    ctx.reply.ok();
    Ok(())
}

/// `CLIENT HELP`: array of lines. Source: Redis 7.2 CLIENT HELP.
fn client_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "CLIENT",
        &[
            ("CACHING (YES|NO)", "Whether the keys of the next command are tracked."),
            ("GETNAME", "The name of this connection."),
            ("GETREDIR", "The client that invalidations are redirected to."),
            ("ID", "The id of this connection."),
            ("INFO", "What is known of this connection."),
            ("KILL <ip:port> | <option> <value> ...", "Close connections: ID, ADDR, LADDR, TYPE, USER, SKIPME."),
            ("LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> ...]", "What is known of all connections."),
            ("NO-EVICT (ON|OFF)", "Exempt this connection from client eviction."),
            ("NO-TOUCH (ON|OFF)", "Leave LRU and LFU of the keys used alone."),
            ("PAUSE <timeout> [WRITE|ALL]", "Hold back the commands of all clients for some milliseconds."),
            ("REPLY (ON|OFF|SKIP)", "Whether commands of this connection are answered."),
            ("SETINFO <option> <value>", "Name the client library (LIB-NAME) and its version (LIB-VER)."),
            ("SETNAME <name>", "Name this connection."),
            ("TRACKING (ON|OFF) [<option> ...]", "Hear of changes: REDIRECT, BCAST, PREFIX, OPTIN, OPTOUT, NOLOOP."),
            ("TRACKINGINFO", "How this connection tracks keys."),
            ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "End another connection's wait."),
            ("UNPAUSE", "End a pause."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, until};
    use crate::run::start::Options;
    use crate::util::clock::Clock;

    #[test]
    fn names() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("CLIENT GETNAME", "nil");
        c.check("CLIENT SETNAME worker:1", "OK");
        c.check("CLIENT GETNAME", "\"worker:1\"");
        c.check("CLIENT SETNAME 'a b'", "-ERR Client names cannot contain spaces, newlines or special characters.");
        c.check("CLIENT SETINFO LIB-NAME ioredis", "OK");
        c.check("CLIENT SETINFO lib-ver 5.0", "OK");
        c.check("CLIENT SETINFO foo bar", "-ERR Unrecognized option 'foo'");
        c.check("CLIENT NOPE", "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.");
        assert!(c.run("CLIENT ID").starts_with(':'));
        assert!(c.run("CLIENT LIST").contains("id="));
        assert!(c.run("CLIENT HELP").contains("CLIENT <subcommand>"));
        let info = c.run("CLIENT INFO");
        for part in ["name=worker:1 ", "lib-name=ioredis ", "lib-ver=5.0", "cmd=client|info ", "flags=N "] {
            assert!(info.contains(part), "{part} in {info}");
        }
    }

    #[test]
    fn ids_are_listed_as_they_are_named() {
        let mut c = Checker::new();
        let id = c.run("CLIENT ID").replace(':', "");
        let listed = c.run(&format!("CLIENT LIST ID {id} 999999999 -1 {id}"));
        assert_eq!(listed.matches(&format!("id={id} addr=")).count(), 2, "{listed}");
        assert_eq!(listed.matches(" addr=").count(), 2, "{listed}");
    }

    #[test]
    fn kill_and_unblock() {
        let mut c = Checker::new();
        c.check("CLIENT KILL 1.2.3.4:5", "-ERR No such client");
        c.check("CLIENT KILL ID 0", "-ERR client-id should be greater than 0");
        c.check("CLIENT KILL ID 999999 SKIPME no", ":0");
        c.check("CLIENT UNBLOCK 999999", ":0");
        c.check("CLIENT UNBLOCK x NOPE", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        c.check("CLIENT UNBLOCK x ERROR", "-ERR value is not an integer or out of range");
        c.check("CLIENT LIST TYPE nope", "-ERR Unknown client type 'nope'");
        c.check("CLIENT LIST ID x", "-ERR Invalid client ID");
    }

    #[test]
    fn an_end_of_a_wait_takes_effect_at_once() {
        let mut c = Checker::new();
        let ids = c.ids();
        c.send("BLPOP l 0");
        c.other("MULTI", "OK");
        c.other_about(&ids, "CLIENT UNBLOCK @", "QUEUED");
        c.other_about(&ids, "CLIENT UNBLOCK @", "QUEUED");
        c.other("RPUSH l a", "QUEUED");
        c.other("EXEC", "[:1, :0, :1]");
        c.receive("nil");
        c.check("LLEN l", ":1");
        c.send("WAIT 9 0");
        c.other_about(&ids, "CLIENT UNBLOCK @ ERROR", ":1");
        c.receive("-UNBLOCKED client unblocked via CLIENT UNBLOCK");
        c.send("WAIT 9 0");
        c.other_about(&ids, "CLIENT UNBLOCK @", ":1");
        c.receive(":0");
    }

    #[test]
    fn paused_clients_wait() {
        let mut c = Checker::new();
        c.check("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range");
        c.check("CLIENT PAUSE -1", "-ERR timeout is negative");
        c.check("CLIENT PAUSE 10 FOO", "-ERR CLIENT PAUSE mode must be WRITE or ALL");
        c.other("CLIENT PAUSE 60000 WRITE", "OK");
        c.check("GET k", "nil");
        c.send("SET k v");
        c.other("GET k", "nil");
        c.other("CLIENT UNPAUSE", "OK");
        c.receive("OK");
        c.check("FUNCTION FLUSH", "OK");
        let callback = "function_name='p1', callback=function() return 1 end, flags={'no-writes'}";
        let library = format!(r##""#!lua name=p\nredis.register_function{{{callback}}}""##);
        c.check(&format!("FUNCTION LOAD {library}"), "\"p\"");
        c.check("SCRIPT LOAD \"#!lua flags=no-writes\nreturn 2\"", "\"ae33f9227913b24d053a555637f98260b23bd3a3\"");
        c.other("CLIENT PAUSE 60000 WRITE", "OK");
        c.check("FCALL p1 0", ":1");
        c.check("EVAL \"#!lua flags=no-writes\nreturn 3\" 0", ":3");
        c.check("EVALSHA ae33f9227913b24d053a555637f98260b23bd3a3 0", ":2");
        c.check("EVAL_RO \"return 4\" 0", ":4");
        c.check("SET k", "-ERR wrong number of arguments for 'set' command");
        c.send("EVAL \"return 5\" 0");
        c.other("CLIENT UNPAUSE", "OK");
        c.receive(":5");
        c.other("CLIENT PAUSE 50", "OK");
        c.check("GET k", "\"v\"");
    }

    #[test]
    fn nothing_expires_during_a_pause() {
        let clock = Clock::stopped_at(1_700_000_000_000);
        let mut c = Checker::with(Options { clock, ..Options::default() });
        let expired = |c: &mut Checker| {
            let stats = c.run("INFO stats");
            stats.split("expired_keys:").nth(1).and_then(|rest| rest.split('\\').next().map(str::to_owned))
        };
        let before = expired(&mut c);
        c.check("SET soon v PX 500", "OK");
        c.check("CLIENT PAUSE 60000 WRITE", "OK");
        c.pass_ms(510);
        c.check("GET soon", "nil");
        assert_eq!(expired(&mut c), before, "nothing changes during a pause");
        c.check("CLIENT UNPAUSE", "OK");
        c.check("GET soon", "nil");
        until("it is counted", || expired(&mut c) != before);
    }

    #[test]
    fn no_reply() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("CLIENT REPLY ON", "OK");
        c.check("CLIENT NO-TOUCH ON", "OK");
        c.check("CLIENT NO-EVICT ON", "OK");
        c.check("CLIENT NO-TOUCH maybe", "-ERR syntax error");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(r#"CLIENT LIST TYPE "\xff""#, r"-ERR Unknown client type '\xff'");
        c.check(r#"CLIENT KILL USER "\xff""#, r"-ERR No such user '\xff'");
        c.since("7.2");
        c.check(r#"CLIENT SETINFO "\xff" y"#, r"-ERR Unrecognized option '\xff'");
        c.check(r#"CLIENT SETINFO lib-ver "1\x00 b""#, "OK");
        assert!(c.run("CLIENT INFO").contains(" lib-ver=1\\n"));
    }

    #[test]
    fn arguments_too_many() {
        let mut c = Checker::new();
        let text = "-ERR unknown subcommand or wrong number of arguments for 'unblock'. Try CLIENT HELP.";
        c.check("CLIENT unblock 999 ERROR x", text);
        c.check("CLIENT KILL ID SKIPME yes", "-ERR client-id should be greater than 0");
        c.check("CLIENT KILL ID 999 SKIPME", "-ERR syntax error");
    }

    #[test]
    fn a_silenced_wait_ends_in_silence() {
        let mut c = Checker::new();
        c.send("CLIENT REPLY SKIP");
        c.send("BLPOP l 0.05");
        c.check("PING", "PONG");
        c.send("CLIENT REPLY SKIP");
        c.send("BLPOP l 0");
        c.other("RPUSH l a", ":1");
        c.check("PING", "PONG");
        c.check("EXISTS l", ":0");
    }

    #[test]
    fn a_silenced_subscriber_hears_of_it_in_order() {
        let c = Checker::new();
        let mut stream = std::net::TcpStream::connect(c.running.addr().unwrap()).unwrap();
        std::io::Write::write_all(&mut stream, b"CLIENT REPLY SKIP\r\nUNSUBSCRIBE x\r\nPING\r\n").unwrap();
        let expected = b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nx\r\n:0\r\n+PONG\r\n";
        let mut reply = vec![0; expected.len()];
        std::io::Read::read_exact(&mut stream, &mut reply).unwrap();
        assert_eq!(reply, expected);
    }
}
