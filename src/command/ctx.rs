//! What a handler works with: the only door to the keyspace, the reply, the client and the server.

use crate::clients::Client;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::{Block, ReplyMode, Session};
use crate::command::table::{CommandRef, Registry};
use crate::config::{Config, KeyspaceEvents};
use crate::feed::records::Target;
use crate::keyspace::Key;
use crate::keyspace::db::{Db, WrongType};
use crate::resp::reply::Reply;
use crate::server::Server;
use redstart_types::long_double::LongDouble;
use redstart_types::number;
use std::sync::Arc;

/// One command being run.
#[derive(Debug)]
pub struct Ctx<'a, 'g> {
    /// The selected database, as far as it is locked.
    pub db: Db<'a, 'g>,
    pub reply: &'a mut Reply,
    pub session: &'a mut Session,
    pub server: &'a Arc<Server>,
    pub registry: &'a Arc<Registry>,
    /// The configuration as it was when the batch of commands began.
    pub config: &'a Config,
    /// Unix time, one reading a batch of commands.
    pub now_ms: i64,
    pub command: CommandRef,
    pub origin: Origin,
}

/// What all commands of a batch work with.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    pub server: &'a Arc<Server>,
    pub registry: &'a Arc<Registry>,
    pub config: &'a Config,
    pub now_ms: i64,
}

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client, directly.
    Client,
    /// A client's EXEC.
    Exec,
    /// A script or function.
    Script,
    /// Another thread, finishing the command of a blocked client.
    Waiter,
    /// The log or a master: effects are applied as they are.
    Log,
}

impl<'a, 'g> Ctx<'a, 'g> {
    /// What `command` works with, on a database and for a session.
    #[inline]
    pub fn new(
        setting: Setting<'a>,
        db: Db<'a, 'g>,
        session: &'a mut Session,
        reply: &'a mut Reply,
        command: CommandRef,
        origin: Origin,
    ) -> Self {
        let Setting { server, registry, config, now_ms } = setting;
        Ctx { db, reply, session, server, registry, config, now_ms, command, origin }
    }

    /// For a command that is run inside this one.
    #[inline]
    pub fn setting(&self) -> Setting<'a> {
        Setting { server: self.server, registry: self.registry, config: self.config, now_ms: self.now_ms }
    }
}

impl Ctx<'_, '_> {
    /// Announces a change of a key: dirty count, WATCH, client tracking, keyspace event, wake-up of blocked clients
    /// and the record in the feed all follow from it.
    #[inline]
    pub fn changed(&mut self, key: Key<'_>, class: KeyspaceEvents, event: &'static str) {
        self.changed_by(1, key, class, event);
    }

    /// [`Ctx::changed`] that counts as `dirty` changes (INFO's rdb_changes_since_last_save).
    #[inline]
    pub fn changed_by(&mut self, dirty: usize, key: Key<'_>, class: KeyspaceEvents, event: &'static str) {
        self.db.effects.dirty += dirty as u64;
        self.db.notify(class, event, key);
        self.db.touched(key);
    }

    /// Announces that a key was deleted (event `del`).
    pub fn deleted(&mut self, key: Key<'_>) {
        self.changed(key, KeyspaceEvents::GENERIC, "del");
    }

    /// Counts changes that concern no key (FLUSHALL, FUNCTION LOAD): the command goes into the feed.
    pub fn changed_server(&mut self, dirty: u64) {
        self.db.effects.dirty += dirty;
    }

    /// What the log says instead of the command itself; may be called several times.
    pub fn propagate_as(&mut self, argv: &[&[u8]]) {
        self.say(Target::Everybody, argv);
    }

    /// Replicas hear of the command as it is, the log does not.
    pub fn propagate_to_replicas(&mut self, argv: &[&[u8]]) {
        self.say(Target::Replicas, argv);
    }

    /// The log says nothing of this command.
    pub fn propagate_nothing(&mut self) {
        self.db.effects.has_spoken = true;
    }

    fn say(&mut self, target: Target, argv: &[&[u8]]) {
        let effects = &mut *self.db.effects;
        effects.has_spoken = true;
        if effects.recording {
            effects.records.push(self.db.index, target, argv);
        }
    }

    /// Puts what the client was sent meanwhile in front of its reply: behind it, a client that has left MONITOR or its
    /// last channel would take it for the reply to its next command.
    pub fn take_mail(&mut self) {
        if self.origin != Origin::Client {
            return;
        }
        let mail = self.server.clients.take_output(&self.session.client);
        match self.session.reply_mode {
            ReplyMode::Off | ReplyMode::Skip => self.session.pushes.extend_from_slice(&mail.into_bytes()),
            ReplyMode::On | ReplyMode::SkipNext => self.reply.append(mail),
        }
    }

    /// Waits until one of `block.keys` is ready, or answers at once where waiting is not possible (MULTI, scripts).
    /// The handler returns right after; it is run again when a key is ready.
    pub fn block(&mut self, block: Block) -> CmdResult {
        match self.origin {
            Origin::Client | Origin::Waiter => self.session.block = Some(Box::new(block)),
            Origin::Exec | Origin::Script | Origin::Log => block.on_timeout.write(self.reply),
        }
        Ok(())
    }

    /// Reads a timeout in seconds, fractions allowed: when to give up (Unix ms), or None for 0, which waits for ever.
    pub fn deadline_ms(&self, seconds: &[u8]) -> CmdResult<Option<i64>> {
        // Redis reads a long double, so what is far out of a double's range is a number still, and not 0.
        let nonzero = |value: f64| if value == 0.0 { f64::MIN_POSITIVE.copysign(value) } else { value };
        let beyond = || LongDouble::parse(seconds).map(LongDouble::to_f64).map(nonzero);
        let seconds = number::parse_double(seconds).or_else(beyond).ok_or(CmdError::TimeoutNotAFloat)?;
        let timeout_ms = seconds * 1000.0;
        if timeout_ms > i64::MAX as f64 {
            return Err(CmdError::TimeoutOutOfRange);
        }
        match timeout_ms.ceil() as i64 {
            ..0 => Err(CmdError::TimeoutNegative),
            0 => Ok(None),
            timeout_ms => timeout_ms.checked_add(self.now_ms).map(Some).ok_or(CmdError::TimeoutOutOfRange),
        }
    }

    /// Whether the command may not wait.
    pub fn denies_blocking(&self) -> bool {
        !matches!(self.origin, Origin::Client | Origin::Waiter)
    }

    /// The client, as others see it.
    pub fn client(&self) -> &Arc<Client> {
        &self.session.client
    }
}

impl From<WrongType> for CmdError {
    fn from(_: WrongType) -> Self {
        CmdError::WrongType
    }
}
