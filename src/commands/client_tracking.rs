//! CLIENT TRACKING and its relatives: client-side caching. Their table entries stand with CLIENT's.

use crate::clients::tracking::{Options, Overlap};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};

/// `CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`: OK.
/// Errors: options that do not go together; overlapping prefixes; no such client. Source: Redis 7.2 CLIENT TRACKING.
pub(super) fn client_tracking(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let on = args.one_of(&["ON", "OFF"]);
    if on.is_none() {
        args.bytes()?;
    }
    let (options, prefixes) = parse(ctx, args)?;
    let on = on.ok_or(CmdError::Syntax)? == 0;
    let client = ctx.client().clone();
    if !on {
        ctx.server.tracking.disable(&client);
        ctx.reply.ok();
        return Ok(());
    }
    if !prefixes.is_empty() && !options.bcast {
        return Err(CmdError::Text("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    let known = ctx.server.tracking.options(client.id).map(|(options, _)| options);
    if known.is_some_and(|known| known.bcast != options.bcast) {
        return Err(CmdError::Text(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
        ));
    }
    if options.bcast && (options.optin || options.optout) {
        return Err(CmdError::Text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if options.optin && options.optout {
        return Err(CmdError::Text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    if known.is_some_and(|known| (known.optin && options.optout) || (known.optout && options.optin)) {
        return Err(CmdError::Text(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
        ));
    }
    if let Some(overlap) = ctx.server.tracking.overlap(client.id, &prefixes) {
        return Err(overlapping(&overlap));
    }
    ctx.server.tracking.enable(&client, options, prefixes);
    // Changes behind it in its transaction count already.
    ctx.db.effects.tracking = true;
    ctx.reply.ok();
    Ok(())
}

fn parse(ctx: &Ctx, args: &mut Args) -> CmdResult<(Options, Vec<Box<[u8]>>)> {
    let (mut options, mut prefixes) = (Options::default(), Vec::new());
    while !args.is_empty() {
        if args.remaining() > 1 && args.flag("REDIRECT") {
            if options.redirect.is_some() {
                return Err(CmdError::Text("ERR A client can only redirect to a single other client"));
            }
            let id = args.int()?;
            let id = u64::try_from(id).ok().filter(|id| ctx.server.clients.find(*id).is_some());
            options.redirect = Some(id.ok_or(CmdError::Text("ERR The client ID you want redirect to does not exist"))?);
        } else if args.flag("BCAST") {
            options.bcast = true;
        } else if args.flag("OPTIN") {
            options.optin = true;
        } else if args.flag("OPTOUT") {
            options.optout = true;
        } else if args.flag("NOLOOP") {
            options.noloop = true;
        } else if args.remaining() > 1 && args.flag("PREFIX") {
            prefixes.push(args.bytes()?.into());
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok((options, prefixes))
}

fn overlapping(overlap: &Overlap) -> CmdError {
    let (one, which, other) = match overlap {
        Overlap::Known(one, other) => (one, "an existing", other),
        Overlap::New(one, other) => (one, "another provided", other),
    };
    CmdError::quoting(
        "ERR Prefix '{}' overlaps with {} prefix '{}'. Prefixes for a single client must not overlap.",
        &[one, which.as_bytes(), other],
    )
}

/// `CLIENT CACHING YES|NO`: OK; whether the keys of the next command are tracked. Errors: not tracking; another mode than
/// OPTIN (YES) or OPTOUT (NO).
/// Source: Redis 7.2 CLIENT CACHING.
pub(super) fn client_caching(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let Some((options, _)) = ctx.server.tracking.options(ctx.client().id) else {
        return Err(CmdError::Text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let yes = args.one_of(&["YES", "NO"]).ok_or(CmdError::Syntax)? == 0;
    if yes && !options.optin {
        return Err(CmdError::Text("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."));
    }
    if !yes && !options.optout {
        return Err(CmdError::Text("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."));
    }
    ctx.session.caching = Some(yes);
    ctx.reply.ok();
    Ok(())
}

/// `CLIENT GETREDIR`: integer, the client redirected to; 0 when tracking without redirection, -1 when not tracking.
/// Source: Redis 7.2 CLIENT GETREDIR.
pub(super) fn client_getredir(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let redirect = redirection(ctx);
    ctx.reply.integer(redirect);
    Ok(())
}

fn redirection(ctx: &Ctx) -> i64 {
    let options = ctx.server.tracking.options(ctx.session.client.id);
    options.map_or(-1, |(options, _)| options.redirect.map_or(0, |id| id as i64))
}

/// `CLIENT TRACKINGINFO`: map of flags, redirect and prefixes. Source: Redis 7.2 CLIENT TRACKINGINFO.
pub(super) fn client_trackinginfo(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    let known = ctx.server.tracking.options(ctx.client().id);
    let is_on = known.is_some();
    let redirect = redirection(ctx);
    let caching = ctx.session.caching;
    let (options, is_broken) = known.unwrap_or_default();
    let flags = [
        (!is_on, "off"),
        (is_on, "on"),
        (options.bcast, "bcast"),
        (options.optin, "optin"),
        (options.optin && caching == Some(true), "caching-yes"),
        (options.optout, "optout"),
        (options.optout && caching == Some(false), "caching-no"),
        (options.noloop, "noloop"),
        (is_broken, "broken_redirect"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    ctx.reply.map(3);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(flags.len());
    flags.iter().for_each(|flag| ctx.reply.bulk(flag.as_bytes()));
    ctx.reply.bulk(b"redirect");
    ctx.reply.integer(redirect);
    ctx.reply.bulk(b"prefixes");
    let prefixes = ctx.server.tracking.prefixes(ctx.client().id);
    ctx.reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| ctx.reply.bulk(prefix));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Checker, until};

    #[test]
    fn readers_hear_of_changes_once() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON", "OK");
        c.check("GET k", "nil");
        c.other("SET k 1", "OK");
        c.receive(">[\"invalidate\", [\"k\"]]");
        c.other("SET k 2", "OK");
        c.check("GET k", "\"2\"");
        c.check("SET k 3", "OK");
        c.receive(">[\"invalidate\", [\"k\"]]");
        c.check("GET k", "\"3\"");
        c.other("FLUSHALL", "OK");
        c.receive(">[\"invalidate\", nil]");
        c.check("CLIENT TRACKING OFF", "OK");
    }

    #[test]
    fn broadcasts_by_prefix() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON BCAST PREFIX a: PREFIX b: NOLOOP", "OK");
        c.other("MSET {t}x 1", "OK");
        c.other("SET a:1 1", "OK");
        c.receive(">[\"invalidate\", [\"a:1\"]]");
        c.check("SET b:1 1", "OK");
        // One message for each prefix.
        c.other("EVAL \"for _, key in ipairs(KEYS) do redis.call('incr', key) end\" 4 a:3 b:2 a:2 a:3", "nil");
        c.receive(">[\"invalidate\", [\"a:2\", \"a:3\"]]");
        c.receive(">[\"invalidate\", [\"b:2\"]]");
        c.check(
            "CLIENT TRACKINGINFO",
            "{\"flags\": ~[\"on\", \"bcast\", \"noloop\"], \"redirect\": :0, \"prefixes\": [\"a:\", \"b:\"]}",
        );
    }

    #[test]
    fn a_row_of_commands_makes_one_message_behind_its_replies() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON BCAST", "OK");
        let both = ">[\"invalidate\", [\"a\", \"b\"]]";
        c.check_pipeline(
            &["SET b 1", "GET", "SET a 1", "SET b 2"],
            &["OK", "-ERR wrong number of arguments for 'get' command", "OK", "OK", both],
        );
        c.check("CLIENT TRACKING OFF", "OK");
        // What has changed in the transaction before is not under the prefix.
        c.check("MULTI", "OK");
        c.check("SET a 2", "QUEUED");
        c.check("CLIENT TRACKING ON BCAST", "QUEUED");
        c.check("SET b 3", "QUEUED");
        c.check("EXEC", "[OK, OK, OK]");
        c.receive(">[\"invalidate\", [\"b\"]]");
    }

    #[test]
    fn who_is_served_hears_of_the_change_first() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON", "OK");
        c.check("ZCARD z", ":0");
        c.send("BZPOPMAX z 0");
        c.other("ZADD z 1 a", ":1");
        c.receive(">[\"invalidate\", [\"z\"]]");
        c.receive("[\"z\", \"a\", ,1]");
    }

    #[test]
    fn a_lost_redirection_is_told_each_time() {
        let mut c = Checker::new();
        let ids = c.ids();
        c.run_other("HELLO 3");
        c.other_about(&ids, "CLIENT TRACKING ON REDIRECT @", "OK");
        c.other_about(&ids, "CLIENT KILL ID @", ":1");
        for key in ["a", "b"] {
            c.other(&format!("GET {key}"), "nil");
            c.other(&format!("SET {key} 1"), "OK");
            c.other_receives(">[\"tracking-redir-broken\", :");
        }
    }

    #[test]
    fn what_was_read_is_remembered_without_anybody_to_tell() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON", "OK");
        c.check("GET k", "nil");
        c.check("CLIENT TRACKING OFF", "OK");
        c.check("CLIENT TRACKING ON", "OK");
        c.other("SET k 1", "OK");
        c.receive(">[\"invalidate\", [\"k\"]]");
    }

    #[test]
    fn any_subscriber_of_resp2_is_redirected_to() {
        let mut c = Checker::new();
        let ids = c.ids();
        c.check("PSUBSCRIBE x", "[\"psubscribe\", \"x\", :1]");
        c.other_about(&ids, "CLIENT TRACKING ON REDIRECT @ BCAST", "OK");
        c.other("SET k 1", "OK");
        c.receive("[\"message\", \"__redis__:invalidate\", [\"k\"]]");
        c.other("FLUSHALL", "OK");
        c.receive("[\"message\", \"__redis__:invalidate\", nil]");
    }

    #[test]
    fn changes_are_told_before_all_keys_go() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON", "OK");
        c.check("GET k", "nil");
        c.other("MULTI", "OK");
        c.other("SET k 1", "QUEUED");
        c.other("FLUSHALL", "QUEUED");
        c.other("EXEC", "[OK, OK]");
        c.receive(">[\"invalidate\", [\"k\"]]");
        c.receive(">[\"invalidate\", nil]");
        c.check("GET k", "nil");
        c.check("MULTI", "OK");
        c.check("SET k 1", "QUEUED");
        c.check("FLUSHALL", "QUEUED");
        c.check("EXEC", "[OK, OK]");
        c.receive(">[\"invalidate\", [\"k\"]]");
        c.receive(">[\"invalidate\", nil]");
    }

    #[test]
    fn what_a_transaction_reads_after_its_own_change_stays_valid() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON", "OK");
        c.check("MULTI", "OK");
        c.check("SET own 1", "QUEUED");
        c.check("GET own", "QUEUED");
        c.check("EXEC", "[OK, \"1\"]");
        c.check("MULTI", "OK");
        c.check("INCR own", "QUEUED");
        c.check("GET other", "QUEUED");
        c.check("EXEC", "[:2, nil]");
        c.receive(">[\"invalidate\", [\"own\"]]");
        c.other("SET other 1", "OK");
        c.receive(">[\"invalidate\", [\"other\"]]");
    }

    #[test]
    fn what_was_read_before_broadcasting_is_told_once() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON", "OK");
        c.check("GET read", "nil");
        c.check("CLIENT TRACKING OFF", "OK");
        c.check("CLIENT TRACKING ON BCAST", "OK");
        c.other("SET read 1", "OK");
        c.receive(">[\"invalidate\", [\"read\"]]");
        c.check("PING", "PONG");
    }

    #[test]
    fn a_smaller_table_forgets() {
        let mut c = Checker::new();
        // In RESP2 nobody is told.
        c.check("CLIENT TRACKING ON", "OK");
        c.run("MGET one two");
        assert!(c.run("INFO stats").contains("tracking_total_keys:2"));
        c.check("CONFIG SET tracking-table-max-keys 1", "OK");
        until("the table is small", || c.run("INFO stats").contains("tracking_total_keys:1"));
        c.check("CONFIG SET tracking-table-max-keys 1000000", "OK");
    }

    #[test]
    fn options_that_do_not_go_together() {
        let mut c = Checker::new();
        c.check("CLIENT GETREDIR", ":-1");
        c.check("CLIENT TRACKING on PREFIX a", "-ERR PREFIX option requires BCAST mode to be enabled");
        c.check("CLIENT TRACKING on BCAST OPTIN", "-ERR OPTIN and OPTOUT are not compatible with BCAST");
        c.check("CLIENT TRACKING on OPTIN OPTOUT", "-ERR You can't specify both OPTIN mode and OPTOUT mode");
        c.check("CLIENT TRACKING on REDIRECT 99999999", "-ERR The client ID you want redirect to does not exist");
        c.check("CLIENT TRACKING on FOO", "-ERR syntax error");
        c.check("CLIENT TRACKING on BCAST PREFIX a PREFIX ab", "-ERR Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client must not overlap.");
        c.check("CLIENT TRACKING off BCAST OPTIN PREFIX a", "OK");
        c.check("CLIENT TRACKING nope FOO", "-ERR syntax error");
        c.check("CLIENT TRACKING nope REDIRECT 99999999", "-ERR The client ID you want redirect to does not exist");
        c.check("CLIENT TRACKING on BCAST PREFIX a", "OK");
        c.check(
            "CLIENT TRACKING on BCAST PREFIX a",
            "-ERR Prefix 'a' overlaps with an existing prefix 'a'. Prefixes for a single client must not overlap.",
        );
        c.check("CLIENT TRACKING on OPTIN OPTOUT", "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.");
        c.check("CLIENT CACHING yes", "-ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
        c.check("CLIENT TRACKING off", "OK");
        c.check("CLIENT CACHING yes", "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled");
        c.check("CLIENT TRACKING on OPTIN", "OK");
        c.check("CLIENT CACHING no", "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
        c.check("CLIENT CACHING yes", "OK");
        c.check("CLIENT GETREDIR", ":0");
    }

    #[test]
    fn opted_in_reads_only() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("CLIENT TRACKING ON OPTIN", "OK");
        c.check("GET a", "nil");
        c.check("CLIENT CACHING YES", "OK");
        c.check("GET b", "nil");
        c.check("GET c", "nil");
        c.other("MSET a 1 b 1 c 1", "OK");
        c.receive(">[\"invalidate\", [\"b\"]]");
        c.check("PING", "PONG");
    }

    #[test]
    fn errors_quote_bytes_as_they_came() {
        let mut c = Checker::new();
        let text = r"-ERR Prefix '\xff' overlaps with another provided prefix '\xff\xfe'. Prefixes for a single client must not overlap.";
        c.check(r#"CLIENT TRACKING on BCAST PREFIX "\xff" PREFIX "\xff\xfe""#, text);
    }
}
