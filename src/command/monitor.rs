//! MONITOR: clients that are shown every command.
//!
//! A line is sent once the command has run, so that it names the database the command has left the client in, and a
//! client that has left MONITOR by RESET is sent no more. Scripts and functions show themselves before their commands.
//! Not shown: administrative commands, commands that are refused before they run (but EXEC, which ends a transaction that
//! was shown), and a waiter's command when it is run again. Secrets are redacted.

use crate::clients::Client;
use crate::command::ctx::{Ctx, Origin};
use crate::command::redact;
use crate::command::spec::{ADMIN, SKIP_MONITOR};
use crate::command::table::CommandRef;
use crate::server::Server;
use crate::util::quote;
use std::sync::atomic::Ordering;

/// Shows a command that has just run.
#[inline]
pub fn show_run(ctx: &Ctx<'_, '_>, argv: &[&[u8]]) {
    let is_hidden = ctx.command.command.has(SKIP_MONITOR | ADMIN);
    if ctx.server.monitors.is_watched() && !is_hidden && !matches!(ctx.origin, Origin::Waiter | Origin::Log) {
        show(ctx, argv);
    }
}

/// Shows a script or function that is about to run.
pub fn show_script(ctx: &Ctx<'_, '_>, argv: &[&[u8]]) {
    if ctx.server.monitors.is_watched() {
        show(ctx, argv);
    }
}

/// Shows an EXEC that was refused.
pub fn show_refused(server: &Server, client: &Client, command: CommandRef, argv: &[&[u8]]) {
    if server.monitors.is_watched() {
        show_line(server, client.db.load(Ordering::Relaxed), &source(server, client), command, argv);
    }
}

#[cold]
fn show(ctx: &Ctx<'_, '_>, argv: &[&[u8]]) {
    let source = match ctx.origin {
        Origin::Script => "lua".to_owned(),
        _ => source(ctx.server, &ctx.session.client),
    };
    show_line(ctx.server, ctx.session.db, &source, ctx.command, argv);
}

fn show_line(server: &Server, db: usize, source: &str, command: CommandRef, argv: &[&[u8]]) {
    if server.loading.load(Ordering::Relaxed) {
        return;
    }
    let now_us = server.clock.now_us();
    let head = format!("+{}.{:06} [{db} {source}]", now_us / 1_000_000, now_us % 1_000_000);
    let mut line = head.into_bytes();
    for arg in redact::shown(command.command, argv).iter() {
        line.push(b' ');
        quote::push_quoted(&mut line, arg);
    }
    line.extend_from_slice(b"\r\n");
    server.monitors.send(&server.clients, &line);
}

/// Where a client comes from.
fn source(server: &Server, client: &Client) -> String {
    if !client.has(Client::UNIX_SOCKET) {
        return client.addr.clone();
    }
    format!("unix:{}", server.config.load().unixsocket.as_deref().unwrap_or_default())
}
