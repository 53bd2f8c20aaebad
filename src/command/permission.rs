//! What a client's user may run: the ACL is asked here, for every way a command comes in, and refusals are logged.

use crate::acl::log::{Cause, Entry, Place};
use crate::acl::{Asked, Denial, Needs, Reason, User};
use crate::command::client_line;
use crate::command::error::CmdError;
use crate::command::session::Session;
use crate::command::spec::{Channels, Command, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_UPDATE, NO_AUTH};
use crate::command::table::{CommandRef, key_positions};
use crate::server::Server;
use crate::util::text;
use std::ops::Range;

/// Whether the session's user may run this now. A refusal is counted and entered into the log.
#[inline]
pub fn check(
    server: &Server,
    session: &Session,
    command: CommandRef,
    argv: &[&[u8]],
    place: Place,
) -> Result<(), Denial> {
    if session.account.is_free() { Ok(()) } else { check_rights(server, session, command, argv, place) }
}

#[cold]
fn check_rights(
    server: &Server,
    session: &Session,
    command: CommandRef,
    argv: &[&[u8]],
    place: Place,
) -> Result<(), Denial> {
    let checked = check_user(&session.account.user(), command, argv);
    if let Err(denial) = checked {
        let object = match denial.reason {
            Reason::Command => command.command.name.as_bytes(),
            Reason::Key | Reason::Channel => argv[denial.position],
        };
        note(server, session, Cause::Denied(denial.reason), place, object, session.account.name());
    }
    checked
}

/// Whether a user may run this; nothing is logged.
pub fn check_user(user: &User, command: CommandRef, argv: &[&[u8]]) -> Result<(), Denial> {
    ask(command, argv, |asked| user.check(asked))
}

/// Whether the session's user may run this and may also read every key there is.
pub fn reads_all_keys(session: &Session, command: CommandRef, argv: &[&[u8]]) -> bool {
    session.account.is_free() || ask(command, argv, |asked| session.account.user().reads_all_keys_with(asked))
}

/// Enters a refusal into the log, with who asked.
pub fn note(server: &Server, session: &Session, cause: Cause, place: Place, object: &[u8], user: &[u8]) {
    let now_ms = server.clock.now_ms();
    let entry = Entry {
        count: 1,
        cause,
        place,
        object: object.to_vec(),
        user: user.to_vec(),
        updated_ms: now_ms,
        created_ms: now_ms,
        client: client_line::describe(server, &session.client),
        id: 0,
    };
    server.acl.log.add(entry, server.config.load().acllog_max_len);
}

/// The error of a command that comes from a client itself.
pub fn error(session: &Session, command: CommandRef, denial: Denial) -> CmdError {
    CmdError::quoting("NOPERM {}", &[&reason(session.account.name(), command, denial)])
}

/// Why a command is refused, in Redis's words.
pub fn reason(user: &[u8], command: CommandRef, denial: Denial) -> Vec<u8> {
    match denial.reason {
        Reason::Command => {
            let name = command.command.name.as_bytes();
            text::fill("User {} has no permissions to run the '{}' command", &[user, name])
        }
        Reason::Key => b"No permissions to access a key".to_vec(),
        Reason::Channel => b"No permissions to access a channel".to_vec(),
    }
}

fn ask<R>(command: CommandRef, argv: &[&[u8]], answer: impl FnOnce(&Asked<'_>) -> R) -> R {
    let spec = command.command;
    let keys = |each: &mut dyn FnMut(usize, Needs)| {
        // The positions that locking goes by: no key can be touched that was not asked about.
        key_positions(spec, argv, |position, flags| each(position, needs(flags)));
    };
    let (channels, channels_are_patterns) = channels(spec, argv.len());
    answer(&Asked {
        command: command.id,
        is_open: spec.has(NO_AUTH),
        argv,
        keys: &keys,
        channels,
        channels_are_patterns,
    })
}

/// What a key's flags ask of a pattern. A key that is only looked at (EXISTS, STRLEN) must match one, of any kind.
fn needs(flags: u16) -> Needs {
    let reads = if flags & KEY_ACCESS != 0 { Needs::READ } else { Needs::NOTHING };
    let writes = if flags & (KEY_INSERT | KEY_DELETE | KEY_UPDATE) != 0 { Needs::WRITE } else { Needs::NOTHING };
    reads.and(writes)
}

/// Where the channels stand that a command publishes or subscribes to, and whether they are patterns.
fn channels(command: &Command, argc: usize) -> (Range<usize>, bool) {
    match command.channels {
        Channels::None => (0..0, false),
        Channels::First => (1..argc.min(2), false),
        Channels::All => (1..argc, false),
        Channels::Patterns => (1..argc, true),
    }
}
