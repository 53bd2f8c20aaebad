//! How a command's wait ends, and a pause that held one back; then the commands that have come meanwhile are run.

use super::{Conversation, Next};
use crate::clients::Client;
use crate::command::call::Engine;
use crate::command::serve;
use crate::command::spec::BLOCKING;
use crate::keyspace::lock::MayWait;
use std::sync::atomic::Ordering;

impl Conversation {
    /// The command that waited has been answered by another thread.
    pub(super) fn was_answered(&mut self, engine: &mut Engine) {
        if let Some(waiter) = self.session.waiter.as_ref().filter(|waiter| waiter.waits_for_no_key()) {
            engine.server.note_wait(
                &engine.registry,
                self.session.worker,
                waiter,
                waiter.error.get().map(|line| &**line),
            );
        }
        self.resume(engine);
    }

    /// CLIENT UNBLOCK: the wait ends as if its time were over, or with an error.
    pub(super) fn unblock(&mut self, with_error: bool, engine: &mut Engine, may_wait: MayWait) {
        let Some(waiter) = self.session.waiter.clone() else { return };
        let can_be_unblocked =
            engine.registry.command(waiter.command).command.has(BLOCKING) || waiter.wait.acknowledgement().is_some();
        if !can_be_unblocked || !engine.server.waits.abandon(&engine.server.shards, &waiter, may_wait) {
            return;
        }
        self.reply.resp3 = self.session.resp3;
        if with_error {
            let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
            engine.server.note_wait(&engine.registry, self.session.worker, &waiter, Some(error.as_bytes()));
            if !waiter.is_muted {
                self.reply.error(error);
            }
        } else {
            engine.server.note_wait(&engine.registry, self.session.worker, &waiter, None);
            serve::time_out(&engine.server, &waiter, &mut self.reply);
        }
        self.resume(engine);
    }

    /// Ends the wait when its time is over.
    pub(super) fn check_deadline(&mut self, engine: &mut Engine, may_wait: MayWait) {
        let Some(waiter) = self.session.waiter.clone() else { return };
        let is_over = waiter.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= engine.server.clock.now_ms());
        if is_over && engine.server.waits.abandon(&engine.server.shards, &waiter, may_wait) {
            self.reply.resp3 = self.session.resp3;
            engine.server.note_wait(&engine.registry, self.session.worker, &waiter, None);
            serve::time_out(&engine.server, &waiter, &mut self.reply);
            self.resume(engine);
        }
    }

    /// Goes on with the command that a pause holds back when the pause is over.
    pub(super) fn check_pause(&mut self, engine: &mut Engine) -> Next {
        let server = &engine.server;
        let now_ms = server.clock.now_ms();
        if server.loading.load(Ordering::Relaxed) && now_ms < self.session.asks_again_at_ms {
            return Next::Read { until_ms: Some(self.session.asks_again_at_ms) };
        }
        let (client, blocked) = (&self.session.client, &server.waits.blocked_clients);
        if !client.has(Client::BLOCKED) {
            client.set(Client::BLOCKED, true);
            blocked.fetch_add(1, Ordering::Relaxed);
        }
        if self.session.held_since == Some(server.migrations.ended()) {
            // The end of a migration wakes it.
            return Next::Read { until_ms: None };
        }
        self.session.held_since = None;
        let for_memory = || server.writers_wait_until_ms(&server.config.load(), now_ms);
        let until_ms = server.pause.until_ms(now_ms).or_else(for_memory).filter(|until_ms| now_ms < *until_ms);
        if until_ms.is_some() {
            return Next::Read { until_ms };
        }
        client.set(Client::BLOCKED, false);
        blocked.fetch_sub(1, Ordering::Relaxed);
        self.session.paused_until_ms = None;
        self.resume(engine);
        Next::Again
    }

    /// Goes on after a wait with the commands that came meanwhile.
    fn resume(&mut self, engine: &mut Engine) {
        self.session.waiter = None;
        self.run_kept(engine);
        self.note_query();
    }
}
