//! Pub/sub: channels, patterns and shard channels.

use crate::clients::pubsub::Topic;
use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::serve;
use crate::command::session::ReplyMode;
use crate::command::spec::*;
use crate::commands::help;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[
    Command::new("psubscribe", -2, psubscribe)
        .flags(LOADING | NOSCRIPT | PUBSUB | STALE | WHILE_SUBSCRIBED)
        .channels(Channels::Patterns)
        .since("2.0.0"),
    Command::new("publish", 3, publish)
        .flags(FAST | LOADING | MAY_REPLICATE | PUBSUB | STALE)
        .channels(Channels::First)
        .since("2.0.0"),
    Command::new("pubsub", -2, pubsub).since("2.8.0").subcommands(&[
        Command::new("pubsub|channels", -2, pubsub_channels).flags(LOADING | PUBSUB | STALE).since("2.8.0"),
        Command::new("pubsub|help", 2, pubsub_help).flags(LOADING | STALE).since("6.2.0"),
        Command::new("pubsub|numpat", 2, pubsub_numpat).flags(LOADING | PUBSUB | STALE).since("2.8.0"),
        Command::new("pubsub|numsub", -2, pubsub_numsub).flags(LOADING | PUBSUB | STALE).since("2.8.0"),
        Command::new("pubsub|shardchannels", -2, pubsub_shardchannels).flags(LOADING | PUBSUB | STALE).since("7.0.0"),
        Command::new("pubsub|shardnumsub", -2, pubsub_shardnumsub).flags(LOADING | PUBSUB | STALE).since("7.0.0"),
    ]),
    Command::new("punsubscribe", -1, punsubscribe)
        .flags(LOADING | NOSCRIPT | PUBSUB | STALE | WHILE_SUBSCRIBED)
        .since("2.0.0"),
    Command::new("spublish", 3, spublish)
        .flags(FAST | LOADING | MAY_REPLICATE | PUBSUB | STALE)
        .channels(Channels::First)
        .keys(&[KeySpec::at(1).flags(KEY_NOT_KEY)])
        .since("7.0.0"),
    Command::new("ssubscribe", -2, ssubscribe)
        .flags(LOADING | NOSCRIPT | PUBSUB | STALE | WHILE_SUBSCRIBED)
        .channels(Channels::All)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_NOT_KEY)])
        .since("7.0.0"),
    Command::new("subscribe", -2, subscribe)
        .flags(LOADING | NOSCRIPT | PUBSUB | STALE | WHILE_SUBSCRIBED)
        .channels(Channels::All)
        .since("2.0.0"),
    Command::new("sunsubscribe", -1, sunsubscribe)
        .flags(LOADING | NOSCRIPT | PUBSUB | STALE | WHILE_SUBSCRIBED)
        .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KEY_NOT_KEY)])
        .since("7.0.0"),
    Command::new("unsubscribe", -1, unsubscribe)
        .flags(LOADING | NOSCRIPT | PUBSUB | STALE | WHILE_SUBSCRIBED)
        .since("2.0.0"),
];

/// `SUBSCRIBE channel [channel ...]`: a push for each: `subscribe`, channel, number of subscriptions.
/// Source: Redis 7.2 SUBSCRIBE.
fn subscribe(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    enter(ctx, args, Topic::Channel, "SUBSCRIBE")
}

/// `PSUBSCRIBE pattern [pattern ...]`: as SUBSCRIBE. Source: Redis 7.2 PSUBSCRIBE.
fn psubscribe(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    enter(ctx, args, Topic::Pattern, "PSUBSCRIBE")
}

/// `SSUBSCRIBE shardchannel [shardchannel ...]`: as SUBSCRIBE, counting shard channels. Errors: in a transaction.
/// Source: Redis 7.2 SSUBSCRIBE.
fn ssubscribe(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    if ctx.origin == Origin::Exec {
        return Err(denied("SSUBSCRIBE"));
    }
    enter(ctx, args, Topic::Shard, "SSUBSCRIBE")
}

/// `UNSUBSCRIBE [channel ...]`: a push for each channel left (all without arguments): `unsubscribe`, channel or null,
/// number of subscriptions left. Source: Redis 7.2 UNSUBSCRIBE.
fn unsubscribe(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    leave(ctx, args, Topic::Channel)
}

/// `PUNSUBSCRIBE [pattern ...]`: as UNSUBSCRIBE. Source: Redis 7.2 PUNSUBSCRIBE.
fn punsubscribe(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    leave(ctx, args, Topic::Pattern)
}

/// `SUNSUBSCRIBE [shardchannel ...]`: as UNSUBSCRIBE. Source: Redis 7.2 SUNSUBSCRIBE.
fn sunsubscribe(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    leave(ctx, args, Topic::Shard)
}

fn enter(ctx: &mut Ctx, args: &mut Args, topic: Topic, name: &str) -> CmdResult {
    if ctx.denies_blocking() && ctx.origin != Origin::Exec {
        return Err(denied(name));
    }
    while let Some(channel) = args.optional() {
        let client = ctx.client().clone();
        let subscriptions = ctx.session.subscriptions.get_or_insert_with(Default::default);
        if subscriptions.of_mut(topic).insert(channel.into()) {
            client.keep(channel);
            ctx.server.pubsub.subscribe(topic, channel, &client);
        }
        confirm(ctx, topic, VERBS[topic as usize].0, Some(channel));
        // A change of rights on another thread may have looked at the subscriptions before this one was there.
        let account = &ctx.session.account;
        if !account.is_free() && !account.user().allows_channel(channel, topic == Topic::Pattern) {
            ctx.session.closing = true;
        }
    }
    Ok(())
}

fn denied(name: &str) -> CmdError {
    CmdError::owned(format!("ERR {name} isn't allowed for a DENY BLOCKING client"))
}

fn leave(ctx: &mut Ctx, args: &mut Args, topic: Topic) -> CmdResult {
    let verb = VERBS[topic as usize].1;
    if !args.is_empty() {
        for channel in args.rest() {
            forget(ctx, topic, channel);
            confirm(ctx, topic, verb, Some(channel));
        }
        return Ok(());
    }
    let all: Vec<Box<[u8]>> =
        ctx.session.subscriptions.iter().flat_map(|subscriptions| subscriptions.of(topic).iter().cloned()).collect();
    if all.is_empty() {
        confirm(ctx, topic, verb, None);
    }
    for channel in all {
        forget(ctx, topic, &channel);
        confirm(ctx, topic, verb, Some(&channel));
    }
    Ok(())
}

fn forget(ctx: &mut Ctx, topic: Topic, channel: &[u8]) {
    let Some(subscriptions) = &mut ctx.session.subscriptions else { return };
    if subscriptions.of_mut(topic).remove(channel) {
        ctx.session.client.forget(channel);
        ctx.server.pubsub.unsubscribe(topic, channel, &ctx.session.client);
        ctx.take_mail();
    }
}

/// One confirmation; also notes the number of subscriptions for CLIENT LIST.
fn confirm(ctx: &mut Ctx, topic: Topic, verb: &str, channel: Option<&[u8]>) {
    let subscriptions = ctx.session.subscriptions.as_ref();
    let of = |topic| subscriptions.map_or(0, |all| all.of(topic).len());
    let counts = [of(Topic::Channel), of(Topic::Pattern), of(Topic::Shard)];
    for (slot, count) in ctx.session.client.subscriptions.iter().zip(counts) {
        slot.store(count, Ordering::Relaxed);
    }
    let count = if topic == Topic::Shard { counts[2] } else { counts[0] + counts[1] };
    let start = ctx.reply.mark();
    ctx.reply.push(3);
    ctx.reply.bulk(verb.as_bytes());
    ctx.reply.bulk_or_null(channel);
    ctx.reply.len(count);
    if matches!(ctx.session.reply_mode, ReplyMode::Off | ReplyMode::Skip) {
        // CLIENT REPLY silences replies, not pushes.
        ctx.session.pushes.extend_from_slice(ctx.reply.since(start));
    }
    if counts == [0; 3] {
        ctx.session.subscriptions = None;
    }
}

/// What confirms entering and leaving, by topic.
const VERBS: [(&str, &str); 3] =
    [("subscribe", "unsubscribe"), ("psubscribe", "punsubscribe"), ("ssubscribe", "sunsubscribe")];

/// `PUBLISH channel message`: integer, how many clients received it. Source: Redis 7.2 PUBLISH.
fn publish(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let channel = args.bytes()?;
    let message = args.bytes()?;
    // What a transaction or script has done before is told before.
    serve::publish_events(ctx.server, &mut ctx.db.effects.events);
    let receivers = ctx.server.pubsub.publish(&ctx.server.clients, channel, message);
    ctx.server.stats.pubsub_messages.fetch_add(1, Ordering::Relaxed);
    ctx.propagate_to_replicas(args.argv());
    ctx.reply.len(receivers);
    Ok(())
}

/// `SPUBLISH shardchannel message`: integer, how many clients received it. Source: Redis 7.2 SPUBLISH.
fn spublish(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let channel = args.bytes()?;
    let message = args.bytes()?;
    serve::publish_events(ctx.server, &mut ctx.db.effects.events);
    let receivers = ctx.server.pubsub.publish_shard(&ctx.server.clients, channel, message);
    ctx.server.stats.pubsub_messages.fetch_add(1, Ordering::Relaxed);
    ctx.propagate_to_replicas(args.argv());
    ctx.reply.len(receivers);
    Ok(())
}

/// `PUBSUB` without a known subcommand never gets here.
fn pubsub(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// `PUBSUB CHANNELS [pattern]`: array of channels with subscribers. Source: Redis 7.2 PUBSUB CHANNELS.
fn pubsub_channels(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    channels(ctx, args, Topic::Channel)
}

/// `PUBSUB SHARDCHANNELS [pattern]`: array of shard channels with subscribers. Source: Redis 7.2.
fn pubsub_shardchannels(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    channels(ctx, args, Topic::Shard)
}

fn channels(ctx: &mut Ctx, args: &mut Args, topic: Topic) -> CmdResult {
    if args.remaining() > 1 {
        return Err(args.subcommand_error());
    }
    let channels = ctx.server.pubsub.channels(topic, args.optional());
    ctx.reply.array(channels.len());
    channels.iter().for_each(|channel| ctx.reply.bulk(channel));
    Ok(())
}

/// `PUBSUB NUMSUB [channel ...]`: array of channel and number of subscribers. Source: Redis 7.2 PUBSUB NUMSUB.
fn pubsub_numsub(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    numsub(ctx, args, Topic::Channel)
}

/// `PUBSUB SHARDNUMSUB [shardchannel ...]`: as NUMSUB, for shard channels. Source: Redis 7.2.
fn pubsub_shardnumsub(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    numsub(ctx, args, Topic::Shard)
}

fn numsub(ctx: &mut Ctx, args: &mut Args, topic: Topic) -> CmdResult {
    ctx.reply.array(args.remaining() * 2);
    // A channel named again and again is counted once.
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    while let Some(channel) = args.optional() {
        let count = *counts.entry(channel).or_insert_with(|| ctx.server.pubsub.listeners(topic, channel));
        ctx.reply.bulk(channel);
        ctx.reply.len(count);
    }
    Ok(())
}

/// `PUBSUB NUMPAT`: integer, the number of patterns subscribed to. Source: Redis 7.2 PUBSUB NUMPAT.
fn pubsub_numpat(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    ctx.reply.len(ctx.server.pubsub.counts()[1]);
    Ok(())
}

/// `PUBSUB HELP`: array of lines. Source: Redis 7.2 PUBSUB HELP.
fn pubsub_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "PUBSUB",
        &[
            ("CHANNELS [<pattern>]", "The channels that have subscribers, those matching a pattern if given."),
            ("NUMPAT", "How many patterns are subscribed to."),
            ("NUMSUB [<channel> ...]", "How many subscribers each channel has."),
            ("SHARDCHANNELS [<pattern>]", "The shard channels that have subscribers."),
            ("SHARDNUMSUB [<shardchannel> ...]", "How many subscribers each shard channel has."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;
    use crate::run::start::Options;

    #[test]
    fn no_message_follows_the_end_of_a_subscription() {
        for io_threads in [1, 4] {
            let mut options = Options::default();
            options.config.io_threads = io_threads;
            let mut c = Checker::with(options);
            let left = "[\"unsubscribe\", \"news\", :0]";
            c.check_silence_after("PUBLISH news hi", "SUBSCRIBE news", "UNSUBSCRIBE news", left);
            c.check_silence_after("PUBLISH news hi", "SUBSCRIBE news", "RESET", "RESET");
        }
    }

    #[test]
    fn messages_reach_channels_and_patterns() {
        let mut c = Checker::new();
        c.check("SUBSCRIBE news", "[\"subscribe\", \"news\", :1]");
        c.check("PSUBSCRIBE n*", "[\"psubscribe\", \"n*\", :2]");
        let only = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
        c.check("GET x", &format!("-ERR Can't execute 'get': {only}"));
        c.check("OBJECT ENCODING x", &format!("-ERR Can't execute 'object|encoding': {only}"));
        c.check("PING", "[\"pong\", \"\"]");
        c.other("PUBLISH news hi", ":2");
        c.receive("[\"message\", \"news\", \"hi\"]");
        c.receive("[\"pmessage\", \"n*\", \"news\", \"hi\"]");
        c.other("PUBSUB CHANNELS", "[\"news\"]");
        c.other("PUBSUB NUMSUB news x", "[\"news\", :1, \"x\", :0]");
        c.other("PUBSUB NUMPAT", ":1");
        assert!(c.run_other("PUBSUB HELP").contains("PUBSUB <subcommand>"));
        c.check("UNSUBSCRIBE", "[\"unsubscribe\", \"news\", :1]");
        c.check("PUNSUBSCRIBE n*", "[\"punsubscribe\", \"n*\", :0]");
        c.check("UNSUBSCRIBE", "[\"unsubscribe\", nil, :0]");
        c.other("PUBLISH news hi", ":0");
        c.check("GET x", "nil");
    }

    /// A name that is empty matches nothing but an empty pattern.
    #[test]
    fn the_empty_channel_matches_no_star() {
        let mut c = Checker::new();
        c.check("PSUBSCRIBE *", "[\"psubscribe\", \"*\", :1]");
        c.other("PUBLISH '' x", ":0");
        c.check("PSUBSCRIBE ''", "[\"psubscribe\", \"\", :2]");
        c.other("PUBLISH '' x", ":1");
        c.receive("[\"pmessage\", \"\", \"\", \"x\"]");
    }

    #[test]
    fn who_is_killed_listens_no_more() {
        let mut c = Checker::new();
        c.other("SUBSCRIBE a", "[\"subscribe\", \"a\", :1]");
        c.check_pipeline(
            &["CLIENT KILL TYPE pubsub", "PUBLISH a x", "PUBSUB NUMSUB a", "PUBSUB CHANNELS"],
            &[":1", ":0", "[\"a\", :0]", "[]"],
        );
    }

    #[test]
    fn messages_of_a_transaction_keep_their_order() {
        let mut c = Checker::new();
        c.run("CONFIG SET notify-keyspace-events E$");
        c.other("PSUBSCRIBE *", "[\"psubscribe\", \"*\", :1]");
        c.check("MULTI", "OK");
        c.check("SET k 1", "QUEUED");
        c.check("PUBLISH a x", "QUEUED");
        c.check("EXEC", "[OK, :1]");
        c.run("CONFIG SET notify-keyspace-events ''");
        c.until_other("PING", "[\"pmessage\", \"*\", \"__keyevent@0__:set\"");
        c.until_other("PING", "[\"pmessage\", \"*\", \"a\"");
    }

    #[test]
    fn shard_channels_are_apart() {
        let mut c = Checker::new();
        c.check("SSUBSCRIBE s", "[\"ssubscribe\", \"s\", :1]");
        c.other("PUBLISH s x", ":0");
        c.other("SPUBLISH s x", ":1");
        c.receive("[\"smessage\", \"s\", \"x\"]");
        c.other("PUBSUB SHARDCHANNELS", "[\"s\"]");
        c.other("PUBSUB SHARDNUMSUB s", "[\"s\", :1]");
        c.check("SUNSUBSCRIBE", "[\"sunsubscribe\", \"s\", :0]");
        c.check("MULTI", "OK");
        c.check("SUBSCRIBE a", "QUEUED");
        c.check("SSUBSCRIBE s", "QUEUED");
        c.check("EXEC", "[[\"subscribe\", \"a\", :1], -ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client]");
    }

    #[test]
    fn resp3_gets_pushes_and_may_go_on() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.check("SUBSCRIBE a", ">[\"subscribe\", \"a\", :1]");
        c.check("GET x", "nil");
        c.other("PUBLISH a hi", ":1");
        c.receive(">[\"message\", \"a\", \"hi\"]");
    }

    #[test]
    fn silenced_clients_still_get_pushes() {
        let mut c = Checker::new();
        c.run("HELLO 3");
        c.send("CLIENT REPLY OFF");
        c.send("SUBSCRIBE a");
        c.receive(">[\"subscribe\", \"a\", :1]");
        c.other("PUBLISH a x", ":1");
        c.receive(">[\"message\", \"a\", \"x\"]");
        c.send("GET a");
        c.check("CLIENT REPLY ON", "OK");
    }

    #[test]
    fn keyspace_events_are_published() {
        let mut c = Checker::new();
        c.run("CONFIG SET notify-keyspace-events KEA");
        c.check("PSUBSCRIBE __key*", "[\"psubscribe\", \"__key*\", :1]");
        c.other("SET k v", "OK");
        c.receive("[\"pmessage\", \"__key*\", \"__keyspace@0__:k\", \"set\"]");
        c.receive("[\"pmessage\", \"__key*\", \"__keyevent@0__:set\", \"k\"]");
        c.check("PUNSUBSCRIBE", "[\"punsubscribe\", \"__key*\", :0]");
        c.run("CONFIG SET notify-keyspace-events ''");
    }
}
