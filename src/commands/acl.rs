//! ACL: the users, what they may do, and who was refused.

use crate::acl::{self, Account, Change, Selector, User, file};
use crate::clients::Client;
use crate::clients::pubsub::Topic;
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::permission;
use crate::command::spec::{ADMIN, Command, LOADING, NOSCRIPT, STALE, Secrets};
use crate::commands::help;
use crate::config::{self, AclPubsubDefault};
use crate::util::text;
use std::sync::Arc;

pub const COMMANDS: &[Command] = &[Command::new("acl", -2, acl).since("6.0.0").subcommands(&[
    Command::new("acl|cat", -2, acl_cat).flags(LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|deluser", -3, acl_deluser)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .since("6.0.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("acl|dryrun", -4, acl_dryrun).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("7.0.0"),
    Command::new("acl|genpass", -2, acl_genpass).flags(LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|getuser", 3, acl_getuser).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|help", 2, acl_help).flags(LOADING | STALE).since("6.0.0"),
    Command::new("acl|list", 2, acl_list).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|load", 2, acl_load).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|log", -2, acl_log).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|save", 2, acl_save)
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .since("6.0.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("acl|setuser", -3, acl_setuser)
        .secrets(Secrets::From(2))
        .flags(ADMIN | LOADING | NOSCRIPT | STALE)
        .since("6.0.0")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    Command::new("acl|users", 2, acl_users).flags(ADMIN | LOADING | NOSCRIPT | STALE).since("6.0.0"),
    Command::new("acl|whoami", 2, acl_whoami).flags(LOADING | NOSCRIPT | STALE).since("6.0.0"),
])];

/// `ACL` without a subcommand. The engine answers unknown ones.
fn acl(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `ACL WHOAMI`: the user of this connection. Source: Redis 7.2 ACL WHOAMI.
fn acl_whoami(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.bulk(ctx.session.account.name());
    Ok(())
}

/// `ACL USERS`: array of names, in their order. Source: Redis 7.2 ACL USERS.
fn acl_users(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let accounts = ctx.server.acl.all();
    ctx.reply.array(accounts.len());
    accounts.iter().for_each(|account| ctx.reply.bulk(account.name()));
    Ok(())
}

/// `ACL LIST`: array of `user` lines, as in an ACL file. Source: Redis 7.2 ACL LIST.
fn acl_list(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let lines = ctx.server.acl.lines();
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.bulk(line));
    Ok(())
}

/// `ACL GETUSER username`: map of flags (set), passwords (array of SHA-256 digests), commands, keys, channels, and
/// selectors (array of maps of the last three); null if there is no such user. Source: Redis 7.2 ACL GETUSER.
fn acl_getuser(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let Some(account) = ctx.server.acl.find(args.bytes()?) else {
        ctx.reply.null();
        return Ok(());
    };
    let user = account.user();
    let flags: Vec<&str> = user.flags().collect();
    ctx.reply.map(6);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(flags.len());
    flags.iter().for_each(|flag| ctx.reply.bulk(flag.as_bytes()));
    let hashes = user.password_hashes();
    ctx.reply.bulk(b"passwords");
    ctx.reply.array(hashes.len());
    hashes.for_each(|hash| ctx.reply.bulk(hash.as_bytes()));
    describe(ctx, user.root());
    ctx.reply.bulk(b"selectors");
    ctx.reply.array(user.added_selectors().len());
    for selector in user.added_selectors() {
        ctx.reply.map(3);
        describe(ctx, selector);
    }
    Ok(())
}

/// Three pairs of a map: what a selector allows.
fn describe(ctx: &mut Ctx, selector: &Selector) {
    for (name, text) in
        [("commands", selector.commands_text()), ("keys", selector.keys_text()), ("channels", selector.channels_text())]
    {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(&text);
    }
}

/// `ACL SETUSER username [rule ...]`: OK; the user is made or changed, by all rules or by none. Connections that are
/// subscribed to channels the user has lost are closed. Errors: name; a rule; a parenthesis.
/// Source: Redis 7.2 ACL SETUSER.
fn acl_setuser(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = args.bytes()?;
    if acl::selector::has_blanks(name) {
        return Err(CmdError::Text("ERR Usernames can't contain spaces or null characters"));
    }
    let changed = ctx.server.acl.set_user(name, args.rest(), new_users_have_all_channels(ctx));
    let change = changed.map_err(|error| CmdError::quoting("ERR {}", &[&error]))?;
    if change.before.as_ref().is_some_and(|before| !change.after.has_channels_of(before)) {
        close_subscribers(ctx, &change);
    }
    ctx.reply.ok();
    Ok(())
}

fn new_users_have_all_channels(ctx: &Ctx) -> bool {
    ctx.config.acl_pubsub_default == AclPubsubDefault::AllChannels
}

/// Closes the connections of a user that are subscribed to something it has no right to any more.
fn close_subscribers(ctx: &mut Ctx, change: &Change) {
    let is_lost = |topic: Topic, name: &[u8]| !change.after.allows_channel(name, topic == Topic::Pattern);
    for client in ctx.server.pubsub.listeners_where(is_lost) {
        if Arc::ptr_eq(&client.account.lock(), &change.account) {
            close(ctx, &client);
        }
    }
}

/// Closes the connections of users that are gone, if any have gone just now.
fn close_clients_of_deleted(ctx: &mut Ctx, gone: &[Arc<Account>]) {
    if gone.is_empty() {
        return;
    }
    for client in ctx.server.clients.all() {
        let is_gone = client.account.lock().is_deleted();
        if is_gone {
            close(ctx, &client);
        }
    }
}

/// Closes a connection: this one after the reply, another one at once.
fn close(ctx: &mut Ctx, client: &Client) {
    if client.id == ctx.client().id {
        ctx.session.closing = true;
    } else {
        ctx.server.clients.kill(client);
    }
}

/// `ACL DELUSER username [username ...]`: integer, how many there were; their connections are closed. Errors: the
/// default user. Source: Redis 7.2 ACL DELUSER.
fn acl_deluser(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let names = args.rest();
    if names.contains(&acl::DEFAULT_USER) {
        return Err(CmdError::Text("ERR The 'default' user cannot be removed"));
    }
    let gone: Vec<Arc<Account>> = names.iter().filter_map(|name| ctx.server.acl.delete_user(name)).collect();
    close_clients_of_deleted(ctx, &gone);
    ctx.reply.len(gone.len());
    Ok(())
}

/// `ACL CAT [category]`: array of categories, or of the commands and subcommands in one. Errors: unknown category.
/// Source: Redis 7.2 ACL CAT.
fn acl_cat(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let catalog = ctx.server.acl.catalog();
    let category = args.optional();
    if !args.is_empty() {
        return Err(args.subcommand_error());
    }
    let Some(category) = category else {
        let names = catalog.category_names();
        ctx.reply.array(names.len());
        names.for_each(|name| ctx.reply.bulk(name.as_bytes()));
        return Ok(());
    };
    let unknown = || CmdError::quoting("ERR Unknown category '{}'", &[text::first(128, category)]);
    let bit = catalog.category(category).ok_or_else(unknown)?;
    let names: Vec<&str> =
        catalog.entries().iter().filter(|entry| entry.categories & bit != 0).map(|entry| entry.name).collect();
    ctx.reply.array(names.len());
    names.iter().for_each(|name| ctx.reply.bulk(name.as_bytes()));
    Ok(())
}

/// `ACL GENPASS [bits]`: random hexadecimal digits, 256 bits by default. Errors: bits. Source: Redis 7.2 ACL GENPASS.
fn acl_genpass(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    let bits = if args.is_empty() { 256 } else { args.int()? };
    let bits = usize::try_from(bits).ok().filter(|bits| (1..=GENPASS_MAX_BITS).contains(bits));
    let bits = bits.ok_or(CmdError::Text(
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
    ))?;
    let password = ctx.server.random.hex(bits.div_ceil(4));
    ctx.reply.bulk(password.as_bytes());
    Ok(())
}

const GENPASS_MAX_BITS: usize = 4096;

/// `ACL DRYRUN username command [arg ...]`: OK if the user may run it, otherwise a bulk string that says why not.
/// Errors: user; command; number of arguments. Source: Redis 7.2 ACL DRYRUN.
fn acl_dryrun(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let name = args.bytes()?;
    let argv = args.rest();
    let account = ctx.server.acl.find(name);
    let account = account.ok_or_else(|| CmdError::quoting("ERR User '{}' not found", &[name]))?;
    let command = ctx.registry.resolve(argv);
    let command = command.map_err(|_| CmdError::quoting("ERR Command '{}' not found", &[argv[0]]))?;
    if !command.command.takes(argv.len()) {
        return Err(CmdError::Arity(command.command.name));
    }
    let Err(denial) = permission::check_user(&account.user(), command, argv) else {
        ctx.reply.ok();
        return Ok(());
    };
    let kind = match denial.reason {
        acl::Reason::Command => {
            let text = permission::reason(name, command, denial);
            ctx.reply.bulk(&text);
            return Ok(());
        }
        acl::Reason::Key => "key",
        acl::Reason::Channel => "channel",
    };
    let parts = [name, argv[denial.position], kind.as_bytes()];
    ctx.reply.bulk(&text::fill("User {} has no permissions to access the '{}' {}", &parts));
    Ok(())
}

/// `ACL LOG [count | RESET]`: array of maps, newest first, ten if not told otherwise; or OK. Source: Redis 7.2 ACL LOG.
fn acl_log(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    if args.flag("RESET") {
        ctx.server.acl.log.reset();
        ctx.reply.ok();
        return Ok(());
    }
    let count = if args.is_empty() { 10 } else { args.int()?.max(0) };
    let entries = ctx.server.acl.log.newest(usize::try_from(count).unwrap_or(usize::MAX));
    let now_ms = ctx.server.clock.now_ms();
    let reply = &mut *ctx.reply;
    let integer = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    reply.array(entries.len());
    for entry in &entries {
        reply.map(10);
        reply.bulk(b"count");
        reply.integer(integer(entry.count));
        for (name, value) in [
            ("reason", entry.cause.name().as_bytes()),
            ("context", entry.place.name().as_bytes()),
            ("object", &entry.object),
            ("username", &entry.user),
        ] {
            reply.bulk(name.as_bytes());
            reply.bulk(value);
        }
        reply.bulk(b"age-seconds");
        reply.double((now_ms - entry.updated_ms) as f64 / 1000.0);
        reply.bulk(b"client-info");
        reply.bulk(&entry.client);
        for (name, value) in [
            ("entry-id", integer(entry.id)),
            ("timestamp-created", entry.created_ms),
            ("timestamp-last-updated", entry.updated_ms),
        ] {
            reply.bulk(name.as_bytes());
            reply.integer(value);
        }
    }
    Ok(())
}

const NO_FILE: CmdError = CmdError::Text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.",
);

/// `ACL LOAD`: OK; the users are those of `aclfile`, and connections of all others but the default user are closed; or
/// an error that names what is wrong in the file, and nothing has changed. Source: Redis 7.2 ACL LOAD.
fn acl_load(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    let catalog = ctx.server.acl.catalog();
    let loaded: Result<Vec<User>, Vec<u8>> =
        file::load(&ctx.config.dir, &ctx.config.aclfile, catalog, new_users_have_all_channels(ctx));
    let users = loaded.map_err(|errors| CmdError::quoting("ERR {}", &[&errors]))?;
    let gone = ctx.server.acl.replace_all(users);
    close_clients_of_deleted(ctx, &gone);
    ctx.reply.ok();
    Ok(())
}

/// `ACL SAVE`: OK; `aclfile` holds the users as they are. Errors: it cannot be written; there is none configured.
/// Source: Redis 7.2 ACL SAVE.
fn acl_save(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    if ctx.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    let text = file::lines(&ctx.server.acl.file_lines());
    config::replace_file(&ctx.config.dir.join(&ctx.config.aclfile), &text).map_err(|error| {
        ctx.server.log.warning(format_args!("Writing the ACL file for ACL SAVE: {}", config::os_reason(&error)));
        CmdError::Text(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        )
    })?;
    ctx.reply.ok();
    Ok(())
}

/// `ACL HELP`: array of lines. Source: Redis 7.2 ACL HELP.
fn acl_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "ACL",
        &[
            ("CAT [<category>]", "The categories, or the commands in one of them."),
            ("DELUSER <username> [<username> ...]", "Delete users and close their connections."),
            ("DRYRUN <username> <command> [<arg> ...]", "Whether a user may run a command, without running it."),
            ("GENPASS [<bits>]", "A random password, of 256 bits if not told otherwise."),
            ("GETUSER <username>", "Everything about one user."),
            ("LIST", "The users, as lines of an ACL file."),
            ("LOAD", "Take the users from the ACL file."),
            ("LOG [<count> | RESET]", "The latest refusals, or forget them."),
            ("SAVE", "Write the users to the ACL file."),
            ("SETUSER <username> <rule> [<rule> ...]", "Make or change a user."),
            ("USERS", "The names of the users."),
            ("WHOAMI", "The user of this connection."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, until};
    use crate::run::start::Options;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    const HASH_OF_PASS: &str = "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1";

    /// Both clients' default user; the second becomes `user` with these rules.
    fn with_user(user: &str, rules: &str) -> Checker {
        let mut c = Checker::new();
        c.since("7.2");
        c.check(&format!("ACL SETUSER {user} reset on nopass {rules}"), "OK");
        c.other(&format!("AUTH {user} x"), "OK");
        c
    }

    #[test]
    fn users_are_made_shown_and_deleted() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ACL WHOAMI", "\"default\"");
        c.check("ACL SETUSER bob", "OK");
        c.check("ACL USERS", "[\"bob\", \"default\"]");
        c.check("ACL SETUSER bob on >pass ~k:* %R~r &ch +get +config|get (%W~w +set)", "OK");
        let rules = "~k:* %R~r resetchannels &ch -@all +get +config|get (%W~w resetchannels -@all +set)";
        c.check(
            "ACL LIST",
            &format!(
                "[\"user bob on sanitize-payload #{HASH_OF_PASS} {rules}\", \
                 \"user default on nopass sanitize-payload ~* &* +@all\"]"
            ),
        );
        let described = |map: &str, set: &str, end: &str, colon: &str| {
            format!(
                "{map}\"flags\"{colon} {set}[\"on\", \"sanitize-payload\"], \"passwords\"{colon} [\"{HASH_OF_PASS}\"], \
                 \"commands\"{colon} \"-@all +get +config|get\", \"keys\"{colon} \"~k:* %R~r\", \"channels\"{colon} \
                 \"&ch\", \"selectors\"{colon} [{map}\"commands\"{colon} \"-@all +set\", \"keys\"{colon} \"%W~w\", \
                 \"channels\"{colon} \"\"{end}]{end}"
            )
        };
        c.check("ACL GETUSER bob", &described("[", "", "]", ","));
        c.run("HELLO 3");
        c.check("ACL GETUSER bob", &described("{", "~", "}", ":"));
        c.check("ACL GETUSER nobody", "nil");
        c.check("ACL DELUSER bob nobody", ":1");
        c.check("ACL DELUSER bob default", "-ERR The 'default' user cannot be removed");
        c.check("ACL SETUSER 'a b'", "-ERR Usernames can't contain spaces or null characters");
        c.check("ACL", "-ERR wrong number of arguments for 'acl' command");
        c.check("ACL NOPE", "-ERR unknown subcommand 'NOPE'. Try ACL HELP.");
        assert!(c.run("ACL HELP").contains("ACL <subcommand>"));
    }

    #[test]
    fn a_wrong_rule_changes_nothing() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ACL SETUSER bad reset ~a", "OK");
        for (rule, reason) in [
            ("+nosuch", "Unknown command or category name in ACL"),
            ("+@nosuch", "Unknown command or category name in ACL"),
            ("-config|nosuch", "Unknown command or category name in ACL"),
            ("+config|get|x", "Allowing first-arg of a subcommand is not supported"),
            ("+select|", "Syntax error"),
            ("nosuch", "Syntax error"),
            ("%X~a", "Syntax error"),
            ("'~a b'", "Syntax error"),
            ("(on)", "Syntax error"),
            (")", "Syntax error"),
            ("<none", "The password you are trying to remove from the user does not exist"),
            (
                "#00",
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
            ),
        ] {
            let shown = rule.trim_matches('\'');
            c.check(
                &format!("ACL SETUSER bad +get {rule}"),
                &format!("-ERR Error in ACL SETUSER modifier '{shown}': {reason}"),
            );
        }
        c.check(
            "ACL SETUSER bad ~* ~b",
            "-ERR Error in ACL SETUSER modifier '~b': Adding a pattern after the * pattern (or the 'allkeys' flag) is \
             not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns",
        );
        c.check(
            "ACL SETUSER bad &* &b",
            "-ERR Error in ACL SETUSER modifier '&b': Adding a pattern after the * pattern (or the 'allchannels' flag) \
             is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels",
        );
        c.check("ACL SETUSER bad on (+get ~b", "-ERR Unmatched parenthesis in acl selector starting at '(+get'.");
        c.check(
            "ACL SETUSER other +nosuch",
            "-ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL",
        );
        c.check("ACL GETUSER other", "nil");
        let list = c.run("ACL LIST");
        assert!(list.contains("\"user bad off sanitize-payload ~a resetchannels -@all\""), "{list}");
        c.check("ACL DELUSER bad", ":1");
    }

    /// CVE-2024-51741 (a selector that could not be shown), CVE-2024-31227: Redis 7.2.6 falls over.
    #[test]
    fn malformed_selectors_are_refused() {
        let mut c = Checker::new();
        c.check_here("ACL SETUSER m %", "-ERR Error in ACL SETUSER modifier '%': Syntax error");
        c.check_here("ACL SETUSER m %~a", "-ERR Error in ACL SETUSER modifier '%~a': Syntax error");
        c.check_here("ACL SETUSER m (%)", "-ERR Error in ACL SETUSER modifier '(%)': Syntax error");
        c.check_here("ACL SETUSER m '+select|0 1'", "-ERR Error in ACL SETUSER modifier '+select|0 1': Syntax error");
        c.check_here("ACL SETUSER m ''  ( '' )", "OK");
        assert!(
            c.running_only("ACL LIST")
                .contains("user m off sanitize-payload resetchannels -@all (resetchannels -@all)")
        );
    }

    #[test]
    fn login() {
        let mut c = Checker::new();
        c.since("7.2");
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
        c.check("ACL SETUSER eve reset >one >two +acl|whoami", "OK");
        c.check("AUTH eve one", wrong);
        c.check("ACL SETUSER eve on", "OK");
        c.check("AUTH nobody one", wrong);
        c.check("AUTH eve three", wrong);
        c.check("AUTH eve one", "OK");
        c.check("ACL WHOAMI", "\"eve\"");
        c.other("ACL SETUSER eve <one", "OK");
        c.check("ACL WHOAMI", "\"eve\"");
        c.check("AUTH eve one", wrong);
        c.check(
            "HELLO 2 AUTH eve two SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        );
        c.check("HELLO 2 AUTH eve one SETNAME x", wrong);
        c.check("PING", "-NOPERM User eve has no permissions to run the 'ping' command");
        c.check("AUTH eve two x", "-ERR syntax error");
        c.check("RESET", "RESET");
        c.check("ACL WHOAMI", "\"default\"");
        c.check("CLIENT KILL USER nobody", "-ERR No such user 'nobody'");
        c.check("CLIENT KILL USER eve", ":0");
        c.check("ACL DELUSER eve", ":1");
    }

    #[test]
    fn requirepass_is_the_default_user_s_password() {
        let mut c = Checker::new();
        c.since("7.2");
        // The second client is there before a password is needed.
        c.other("PING", "PONG");
        c.check("CONFIG SET requirepass pass", "OK");
        c.check("AUTH no", "-WRONGPASS invalid username-password pair or user is disabled.");
        c.check("AUTH pass", "OK");
        c.check("AUTH default pass", "OK");
        c.check("RESET", "RESET");
        c.check("PING", "-NOAUTH Authentication required.");
        let list = c.run_other("ACL LIST");
        assert!(list.contains(&format!("user default on sanitize-payload #{HASH_OF_PASS} ~* &* +@all")), "{list}");
        // A second password is as good, and CONFIG SET takes both away.
        c.other("ACL SETUSER default >more", "OK");
        c.check("AUTH more", "OK");
        c.check("RESET", "RESET");
        c.other("CONFIG SET requirepass ''", "OK");
        c.check("PING", "PONG");
        c.check("AUTH default anything", "OK");
    }

    #[test]
    fn commands_are_refused() {
        let mut c = with_user("cmds", "allkeys +@all -@string +get -config +config|get -@pubsub +select|0");
        c.other("GET a", "nil");
        c.other("SET a 1", "-NOPERM User cmds has no permissions to run the 'set' command");
        c.other("CONFIG GET nothing", "[]");
        c.other("CONFIG SET nothing 1", "-NOPERM User cmds has no permissions to run the 'config|set' command");
        c.other("PUBLISH a 1", "-NOPERM User cmds has no permissions to run the 'publish' command");
        c.other("SELECT 1", "OK");
        c.check("ACL SETUSER cmds -select +select|0", "OK");
        c.other("SELECT 1", "-NOPERM User cmds has no permissions to run the 'select' command");
        c.other("SELECT 0", "OK");
        c.other("SET", "-ERR wrong number of arguments for 'set' command");
        c.other("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: ");
        // Whoever is shut out can still log in as somebody else.
        c.check("ACL SETUSER cmds -@all", "OK");
        c.other("PING", "-NOPERM User cmds has no permissions to run the 'ping' command");
        c.other("AUTH default x", "OK");
        c.other("PING", "PONG");
        c.check("ACL DELUSER cmds", ":1");
    }

    #[test]
    fn keys_are_refused() {
        let mut c = with_user("keys", "+@all %R~r* %W~w* ~rw*");
        let denied = "-NOPERM No permissions to access a key";
        for (command, reply) in [
            ("SET w1 a", "OK"),
            ("SET r1 a", denied),
            ("SET w1 a GET", denied),
            ("SET rw1 a GET", "nil"),
            ("GET w1", denied),
            ("GET x", denied),
            ("MGET r1 rw1", "[nil, \"a\"]"),
            ("MGET r1 w1", denied),
            ("EXISTS w1 r1", ":1"),
            ("EXISTS x", denied),
            ("COPY r1 w2", ":0"),
            ("COPY w1 r2", denied),
            ("BITFIELD r1 GET u4 0", "[:0]"),
            ("BITFIELD r1 SET u4 0 1", denied),
            ("SORT r1 STORE w3", ":0"),
            ("SORT r1 STORE r3", denied),
            ("XREAD COUNT 1 STREAMS r1 0", "nil"),
            ("XREAD COUNT 1 STREAMS r1 w1 0 0", denied),
            ("ZUNIONSTORE w4 2 r1 rw4", ":0"),
            ("ZUNIONSTORE w4 2 r1 w1", denied),
            ("EVAL '' 1 w1", denied),
            ("EVAL '' 0", "nil"),
        ] {
            c.other(command, reply);
        }
        c.check("ACL SETUSER keys reset on nopass (+get ~a) (+set ~b)", "OK");
        c.other("GET a", "nil");
        c.other("SET b 1", "OK");
        c.other("GET b", denied);
        c.other("DEL b", "-NOPERM User keys has no permissions to run the 'del' command");
        c.check("ACL DELUSER keys", ":1");
    }

    /// Every key that a command names is asked about, wherever it stands (CVE-2023-36824, and the STORE of GEORADIUS).
    #[test]
    fn no_key_escapes() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("ACL SETUSER dry reset +@all %R~read* %W~write* %RW~rw*", "OK");
        for (command, refused) in [
            ("GET read", ""),
            ("GET write", "write"),
            ("SORT read STORE write", ""),
            ("SORT read STORE read", "read"),
            ("SORT_RO write", "write"),
            ("EVAL '' 1 rw1", ""),
            ("EVAL '' 1 read", "read"),
            ("EVAL_RO '' 1 read", ""),
            ("EVAL '' -1 read", ""),
            ("EVAL '' 3 rw rw", ""),
            ("FCALL f 2 rw x", "x"),
            ("GEORADIUS read 1 1 1 M STORE write", ""),
            ("GEORADIUS read 1 1 1 M STOREDIST read2", "read2"),
            ("GEORADIUS write1 1 1 1 M STORE write2", "write1"),
            ("GEORADIUSBYMEMBER read m 1 M STORE read2", "read2"),
            ("GEOSEARCHSTORE read read FROMMEMBER a BYRADIUS 1 m", "read"),
            ("BITOP AND write read write2", "write2"),
            ("LMPOP 2 rw x LEFT", "x"),
            ("BZMPOP 0 1 read MIN", "read"),
            ("XREADGROUP GROUP g c STREAMS write >", "write"),
            ("XGROUP CREATE read g $", "read"),
            ("MSET write 1 read 2", "read"),
            ("RENAME read write", "read"),
            ("PFCOUNT read write", "write"),
            ("SINTERCARD 2 read nothing", "nothing"),
            ("OBJECT ENCODING nothing", "nothing"),
            ("MEMORY USAGE nothing", "nothing"),
            ("WATCH nothing", "nothing"),
            ("LCS read write", "write"),
            ("MIGRATE h 1 rw 0 500", ""),
            ("MIGRATE h 1 read 0 500", "read"),
            ("MIGRATE h 1 '' 0 500 AUTH2 KEYS p KEYS rw write", "write"),
            ("MIGRATE h 1 '' 0 500 AUTH KEYS KEYS rw", ""),
            ("RESTORE read 0 x", "read"),
        ] {
            let expected = match refused {
                "" => "OK".to_owned(),
                key => format!("\"User dry has no permissions to access the '{key}' key\""),
            };
            c.check(&format!("ACL DRYRUN dry {command}"), &expected);
        }
        // Redis looks at the first STORE, and writes to the last.
        c.check_here(
            "ACL DRYRUN dry GEORADIUS read 1 1 1 M STORE write STORE other",
            "\"User dry has no permissions to access the 'other' key\"",
        );
        c.run("ACL SETUSER dry ~geo*");
        c.run("GEOADD geo 1 1 m");
        c.check("GEORADIUS geo 1 1 1 m STORE geo2 STORE geo3", ":1");
        c.check("EXISTS geo2 geo3", ":1");
        c.check("ACL DRYRUN nobody GET x", "-ERR User 'nobody' not found");
        c.check("ACL DRYRUN dry nosuch x", "-ERR Command 'nosuch' not found");
        c.check("ACL DRYRUN dry SET x", "-ERR wrong number of arguments for 'set' command");
        c.check("ACL SETUSER dry -@all", "OK");
        c.check("ACL DRYRUN dry SET x y", "\"User dry has no permissions to run the 'set' command\"");
        c.check("ACL DRYRUN dry PUBLISH x y", "\"User dry has no permissions to run the 'publish' command\"");
        c.check("ACL DELUSER dry", ":1");
    }

    #[test]
    fn channels_are_refused() {
        let mut c = with_user("chan", "+@all &news:* &pat*");
        let denied = "-NOPERM No permissions to access a channel";
        c.other("PUBLISH news:1 x", ":0");
        c.other("PUBLISH old x", denied);
        c.other("SPUBLISH old x", denied);
        c.other("SUBSCRIBE news:1 old", denied);
        c.other("PSUBSCRIBE news:1", denied);
        c.other("SSUBSCRIBE old", denied);
        c.other("UNSUBSCRIBE old", "[\"unsubscribe\", \"old\", :0]");
        c.other("PSUBSCRIBE pat*", "[\"psubscribe\", \"pat*\", :1]");
        c.other("SUBSCRIBE news:1", "[\"subscribe\", \"news:1\", :2]");
        // What stays allowed is no reason to close.
        c.check("ACL SETUSER chan resetchannels &news:* &pat* &more", "OK");
        c.other("PING", "[\"pong\", \"\"]");
        c.check("ACL SETUSER chan allchannels", "OK");
        c.other("PING", "[\"pong\", \"\"]");
        assert!(c.run("CLIENT LIST TYPE pubsub").contains(" user=chan "));
        c.check("ACL SETUSER chan resetchannels &news:*", "OK");
        c.check("CLIENT LIST TYPE pubsub", "\"\"");
        c.check("ACL DELUSER chan", ":1");
    }

    #[test]
    fn transactions_are_checked_twice() {
        let mut c = with_user("multi", "allkeys +@all");
        c.other("MULTI", "OK");
        c.other("INCR n", "QUEUED");
        c.other("GET n", "QUEUED");
        c.check("ACL SETUSER multi -incr", "OK");
        let denied = "-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. \
                      This command is no longer allowed for the following reason: no permission to execute the command \
                      or subcommand";
        c.other("EXEC", &format!("[{denied}, nil]"));
        c.other("MULTI", "OK");
        c.other("INCR n", "-NOPERM User multi has no permissions to run the 'incr' command");
        c.other("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
        c.other("MULTI", "OK");
        c.check("ACL SETUSER multi -exec", "OK");
        c.other(
            "EXEC",
            "-EXECABORT Transaction discarded because of: NOPERM User multi has no permissions to run the 'exec' command",
        );
        c.check("ACL DELUSER multi", ":1");
    }

    #[test]
    fn scripts_have_the_rights_of_their_caller() {
        let mut c = with_user("lua", "~x* +@scripting +set +publish &ok");
        c.other("EVAL 'return redis.call(\"set\",\"x\",1)' 0", "OK");
        c.check("FUNCTION LOAD REPLACE \"#!lua name=acl\\nredis.register_function('f', function() return redis.call('get','x') end)\"", "\"acl\"");
        for (call, error) in [
            ("\"set\",\"y\",1", "No permissions to access a key"),
            ("\"get\",\"x\"", "User lua has no permissions to run the 'get' command"),
            ("\"publish\",\"no\",1", "No permissions to access a channel"),
        ] {
            let reply = c.run_other(&format!("EVAL 'return redis.call({call})' 0"));
            assert!(reply.starts_with(&format!("-ERR ACL failure in script: {error} script: ")), "{reply}");
            c.other(&format!("EVAL 'return redis.pcall({call})' 0"), &format!("-ERR ACL failure in script: {error}"));
        }
        let reply = c.run_other("FCALL f 0");
        assert!(
            reply.starts_with("-ERR ACL failure in script: User lua has no permissions to run the 'get' command"),
            "{reply}"
        );
        for (call, allowed) in [("'set','xx',1", ":1"), ("'set','yy',1", "nil"), ("'get','xx'", "nil"), ("'set'", ":1")]
        {
            c.other(&format!("EVAL \"return redis.acl_check_cmd({call})\" 0"), allowed);
        }
        c.check("FUNCTION DELETE acl", "OK");
        c.check("ACL DELUSER lua", ":1");
    }

    #[test]
    fn a_blocked_command_is_checked_again() {
        let mut c = Checker::new();
        c.since("7.2");
        c.other("ACL SETUSER block reset on nopass allkeys +@all", "OK");
        c.check("AUTH block x", "OK");
        c.run_other("CONFIG RESETSTAT");
        c.send("BLPOP list 0");
        c.other("ACL SETUSER block resetkeys", "OK");
        c.other("RPUSH list a", ":1");
        c.receive("-NOPERM No permissions to access a key");
        c.other("LLEN list", ":1");
        let stats = c.run_other("INFO commandstats");
        assert!(
            stats.contains("cmdstat_blpop:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"),
            "{stats}"
        );
        c.other("ACL DELUSER block", ":1");
    }

    #[test]
    fn sort_reads_other_keys_only_with_a_right_to_all() {
        let mut c = with_user("sort", "(+sort +sort_ro ~list ~v*)");
        c.run("RPUSH list 1");
        c.run("SET v1 1");
        let by = "-ERR BY option of SORT denied due to insufficient ACL permissions.";
        let get = "-ERR GET option of SORT denied due to insufficient ACL permissions.";
        c.other("SORT list BY v*", by);
        c.other("SORT list GET v*", get);
        c.other("SORT_RO list BY v*", by);
        c.other("SORT_RO list GET #", get);
        c.other("SORT list BY nosort", "[\"1\"]");
        c.check("ACL SETUSER sort (+sort ~list %W~*)", "OK");
        c.other("SORT list BY v*", by);
        c.check("ACL SETUSER sort (+sort ~list %R~*)", "OK");
        c.other("SORT list BY v* GET v*", "[\"1\"]");
        c.check("ACL DELUSER sort", ":1");
    }

    #[test]
    fn clients_of_deleted_users_are_closed() {
        let mut c = with_user("gone", "+@all allkeys");
        c.other("CLIENT SETNAME deathrow", "OK");
        assert!(c.run("CLIENT LIST").contains(" user=gone "));
        c.check("ACL DELUSER gone", ":1");
        assert!(!c.run("CLIENT LIST").contains("deathrow"));
        // Whoever deletes itself is told before the end.
        c.check("ACL SETUSER self reset on nopass +@all", "OK");
        c.check("AUTH self x", "OK");
        c.check("ACL DELUSER self", ":1");
        assert!(c.is_closed());
    }

    /// With several workers, a command under way when its user goes is the last one.
    #[test]
    fn a_deleted_user_does_nothing_more() {
        let mut options = Options::default();
        options.config.io_threads = 4;
        let mut c = Checker::with(options);
        c.check_here("ACL SETUSER busy on nopass ~* +@all", "OK");
        let address = c.running.addr().unwrap().to_string();
        let connect = |_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"AUTH busy x\r\n").unwrap();
            let mut reply = [0; 5];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"+OK\r\n");
            std::thread::spawn(move || {
                let mut replies = [0; 64];
                // Until the connection is closed.
                while stream.write_all(b"INCR n\r\n").is_ok() && stream.read(&mut replies).is_ok_and(|len| len > 0) {}
            })
        };
        let busy: Vec<_> = (0..4).map(connect).collect();
        until("they are at work", || c.running_only("GET n") != "nil");
        c.check_here("ACL DELUSER busy", ":1");
        let count = |c: &mut Checker| c.running_only("GET n").trim_matches('"').parse::<usize>().unwrap();
        let before = count(&mut c);
        assert!(before > 0);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(count(&mut c) - before <= 4);
        c.check_here("ACL USERS", "[\"default\"]");
    }

    #[test]
    fn refusals_are_logged() {
        let mut c = with_user("log", "+@all -get ~a &a");
        c.check("ACL LOG RESET", "OK");
        c.run("CONFIG RESETSTAT");
        for command in ["GET a", "GET b", "SET b 1", "PUBLISH b 1", "MULTI", "GET c", "DISCARD", "AUTH log2 x"] {
            c.run_other(command);
        }
        c.run_other("EVAL 'return redis.pcall(\"get\",\"a\")' 0");
        for (index, parts) in [
            (
                0,
                "\"count\", :1, \"reason\", \"command\", \"context\", \"lua\", \"object\", \"get\", \"username\", \"log\"",
            ),
            (
                1,
                "\"count\", :1, \"reason\", \"auth\", \"context\", \"toplevel\", \"object\", \"AUTH\", \"username\", \"log2\"",
            ),
            (
                2,
                "\"count\", :1, \"reason\", \"command\", \"context\", \"multi\", \"object\", \"get\", \"username\", \"log\"",
            ),
            (
                3,
                "\"count\", :1, \"reason\", \"channel\", \"context\", \"toplevel\", \"object\", \"b\", \"username\", \"log\"",
            ),
            (
                4,
                "\"count\", :1, \"reason\", \"key\", \"context\", \"toplevel\", \"object\", \"b\", \"username\", \"log\"",
            ),
            (
                5,
                "\"count\", :2, \"reason\", \"command\", \"context\", \"toplevel\", \"object\", \"get\", \"username\", \"log\"",
            ),
        ] {
            let log = c.run(&format!("ACL LOG {}", index + 1));
            let last = log.rsplit("[\"count\"").next().map(|last| format!("\"count\"{last}")).unwrap_or_default();
            assert!(last.starts_with(parts), "{index}: {last}");
            assert!(last.contains("\"client-info\", \"id=") && last.contains("\"entry-id\", :"), "{last}");
        }
        let info = c.run("INFO stats");
        for field in ["auth:1", "cmd:4", "key:1", "channel:1"] {
            assert!(info.contains(&format!("acl_access_denied_{field}\\r\\n")), "{field}");
        }
        assert!(c.run("INFO errorstats").contains("errorstat_NOPERM:count=5"));
        c.check("CONFIG SET acllog-max-len 2", "OK");
        c.run_other("GET d");
        c.run_other("SET e 1");
        assert_eq!(c.run("ACL LOG").matches("\"count\"").count(), 2);
        c.check("ACL LOG 0", "[]");
        c.check("ACL LOG -3", "[]");
        c.check("ACL LOG x", "-ERR value is not an integer or out of range");
        c.check("ACL LOG 1 2", "-ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.");
        c.check("ACL LOG RESET", "OK");
        c.check("ACL LOG", "[]");
        c.check("CONFIG SET acllog-max-len 128", "OK");
        c.check("ACL DELUSER log", ":1");
    }

    #[test]
    fn categories_and_passwords() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check(
            "ACL CAT",
            "[\"keyspace\", \"read\", \"write\", \"set\", \"sortedset\", \"list\", \"hash\", \"string\", \"bitmap\", \
             \"hyperloglog\", \"geo\", \"stream\", \"pubsub\", \"admin\", \"fast\", \"slow\", \"blocking\", \
             \"dangerous\", \"connection\", \"transaction\", \"scripting\"]",
        );
        let scripting = c.run("ACL CAT scripting");
        assert!(scripting.contains("\"eval\"") && scripting.contains("\"function|list\""), "{scripting}");
        c.check("ACL CAT nosuch", "-ERR Unknown category 'nosuch'");
        c.check("ACL CAT a b", "-ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.");
        for (bits, digits) in [("", 64), ("5", 2), ("4096", 1024), ("1", 1)] {
            assert_eq!(c.run(&format!("ACL GENPASS {bits}")).len(), digits + 2);
        }
        let wrong = "-ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up \
                     to 4096";
        c.check("ACL GENPASS 0", wrong);
        c.check("ACL GENPASS 4097", wrong);
        c.check("ACL GENPASS x", "-ERR value is not an integer or out of range");
    }

    #[test]
    fn users_are_kept_in_a_file() {
        let mut options = Options::default();
        options.config.dir = std::env::temp_dir();
        options.config.aclfile = format!("redstart-acl-{}.acl", std::process::id());
        let path = options.config.dir.join(&options.config.aclfile);
        let mut c = Checker::with(options);
        let missing = c.running_only("ACL LOAD");
        assert!(missing.ends_with("No such file or directory"), "{missing}");
        c.check_here("ACL SETUSER ann on nopass ~* &* +@all (~a)", "OK");
        c.check_here("ACL SETUSER default >pw", "OK");
        c.check_here("ACL SAVE", "OK");
        assert!(
            std::fs::read_to_string(&path).unwrap().starts_with("user ann on nopass sanitize-payload ~* &* +@all (~a")
        );
        c.check_here("AUTH ann x", "OK");
        c.check_here("ACL SETUSER ben", "OK");
        assert_eq!(c.run_here(1, "ACL LOAD"), "OK");
        assert_eq!(c.run_here(1, "ACL USERS"), "[\"ann\", \"default\"]");
        assert!(c.is_closed(), "ann is another user now");
        std::fs::write(&path, "user default on nopass ~* &* +@all\nuser x +nosuch\nuser x\n").unwrap();
        let errors = c.run_here(1, "ACL LOAD");
        assert!(errors.contains(":2: Error in applying operation '+nosuch'"), "{errors}");
        assert_eq!(c.run_here(1, "ACL USERS"), "[\"ann\", \"default\"]");
        std::fs::write(&path, "user zoe\n").unwrap();
        assert_eq!(c.run_here(1, "ACL LOAD"), "OK");
        assert!(c.run_here(1, "ACL LIST").contains("user default on nopass sanitize-payload ~* &* +@all"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn without_a_file_there_is_nothing_to_load() {
        let mut c = Checker::new();
        assert!(c.run("ACL LOAD").starts_with("-ERR This Redis instance is not configured to use an ACL file."));
        assert!(c.run("ACL SAVE").starts_with("-ERR This Redis instance is not configured to use an ACL file."));
    }

    #[test]
    fn new_users_channels() {
        let mut c = Checker::new();
        c.check("CONFIG SET acl-pubsub-default allchannels", "OK");
        c.check("ACL SETUSER open (+get)", "OK");
        assert!(c.run("ACL LIST").contains("user open off sanitize-payload &* -@all (&* -@all +get)"));
        c.check("CONFIG SET acl-pubsub-default resetchannels", "OK");
        c.check("ACL SETUSER open reset", "OK");
        assert!(c.run("ACL LIST").contains("user open off sanitize-payload resetchannels -@all"));
        c.check("ACL DELUSER open", ":1");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        c.check(
            r#"ACL SETUSER u "+\xff""#,
            r"-ERR Error in ACL SETUSER modifier '+\xff': Unknown command or category name in ACL",
        );
        c.check(r#"ACL SETUSER u "(\xff""#, r"-ERR Unmatched parenthesis in acl selector starting at '(\xff'.");
        c.check(r#"ACL SETUSER u "x\x00y""#, "-ERR Error in ACL SETUSER modifier 'x': Syntax error");
        c.check(r#"ACL CAT "\xff""#, r"-ERR Unknown category '\xff'");
        c.check(r#"ACL DRYRUN "\xff" get k"#, r"-ERR User '\xff' not found");
        c.check(r#"ACL DRYRUN default "\xff""#, r"-ERR Command '\xff' not found");
        c.check(r#"ACL SETUSER "u\xff" on nopass +get ~a*"#, "OK");
        c.since("7.2");
        let text = r"User u\xff has no permissions to run the 'set' command";
        c.check(r#"ACL DRYRUN "u\xff" set a b"#, &format!("{text:?}").replace("\\\\", "\\"));
        c.check(r#"ACL DRYRUN "u\xff" get "b\xfe""#, r#""User u\xff has no permissions to access the 'b\xfe' key""#);
        c.other(r#"AUTH "u\xff" x"#, "OK");
        c.other("SET a b", &format!("-NOPERM {text}"));
        c.check(r#"ACL DELUSER "u\xff" u"#, ":1");
        c.check("ACL GENPASS x 5", "-ERR unknown subcommand or wrong number of arguments for 'GENPASS'. Try ACL HELP.");
    }
}
