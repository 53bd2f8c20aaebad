//! The commands of a log, run as a client of the server's own would run them.

use crate::aof::load::Apply;
use crate::command::call::Engine;
use crate::command::session::Session;
use crate::command::table::Registry;
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::snapshot::load::Target;
use std::sync::Arc;

/// Runs the commands of a log.
#[derive(Debug)]
pub struct Replayer {
    engine: Engine,
    session: Session,
    reply: Reply,
}

impl Replayer {
    /// One that counts on the counters behind the workers'.
    pub fn new(server: &Arc<Server>, registry: Arc<Registry>) -> Self {
        let engine = Engine::new(server.clone(), registry, server.config.load().io_threads, None);
        let session = Session::new(engine.own_client.clone(), true);
        Replayer { engine, session, reply: Reply::default() }
    }
}

impl Apply for Replayer {
    fn begin_file(&mut self) {
        self.session.select(0);
    }

    fn begin_batch(&mut self) {
        self.engine.begin_batch();
    }

    fn apply(&mut self, target: &mut Target<'_, '_>, argv: &[&[u8]]) -> Result<Option<&[u8]>, String> {
        self.reply.buf.clear();
        let applied = self.engine.apply(target, &mut self.session, &mut self.reply, argv);
        applied.map_err(|unknown| unknown.to_string())?;
        Ok(self.reply.buf.strip_prefix(b"-"))
    }
}
