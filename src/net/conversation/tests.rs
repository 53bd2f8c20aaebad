//! Conversations without a socket: bytes go in, and bytes come out.

use super::*;
use crate::aof::queue::{Holds, QueueReader};
use crate::clients::Origin;
use crate::command::table::Registry;
use crate::config::{Config, OutputLimit};
use crate::run::start::Options;
use crate::socket::Readiness;
use crate::util::clock::Clock;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const NOW_MS: i64 = 1_000_000;

/// A conversation, and a driver for it that has no socket.
struct Talk {
    conversation: Conversation,
    engine: Engine,
    may_wait: MayWait,
}

impl Talk {
    /// The first with a server that has no threads, and whose clock stands still.
    fn new(config: Config) -> Talk {
        let (server, registry) = Options { config, clock: Clock::stopped_at(NOW_MS), ..Options::default() }.build();
        server.clients.set_output_limits(&server.config.load());
        Talk::with(&Arc::new(server), registry)
    }

    /// Another with the same server.
    fn another(&self) -> Talk {
        Talk::with(self.server(), self.engine.registry.clone())
    }

    fn with(server: &Arc<Server>, registry: Arc<Registry>) -> Talk {
        let origin = Origin { addr: "peer:1".into(), laddr: "here:2".into(), fd: 3, unix_socket: false };
        let client = server.clients.add(origin, 0, NOW_MS, server.acl.default_account().clone());
        let may_wait = MayWait::of_thread();
        let engine = Engine::new(server.clone(), registry, 0, Some(may_wait));
        Talk { conversation: Conversation::new(Session::new(client, true)), engine, may_wait }
    }

    fn server(&self) -> &Arc<Server> {
        &self.engine.server
    }

    /// Turns until there is nothing to do but to read: the output, and until when to wait.
    fn listen(&mut self) -> Result<(String, Option<i64>), End> {
        let mut heard = Vec::new();
        loop {
            self.conversation.attend(&mut self.engine, self.may_wait)?;
            if self.conversation.is_held(&self.engine.server) {
                return Ok((String::from_utf8(heard).unwrap(), None));
            }
            while let Some(byte) = self.conversation.output().first() {
                heard.push(*byte);
                self.conversation.sent(&self.engine, 1);
            }
            self.conversation.pause_writing(&mut self.engine);
            match self.conversation.next(&mut self.engine, self.may_wait, true)? {
                Next::Again => {}
                Next::Read { until_ms } => return Ok((String::from_utf8(heard).unwrap(), until_ms)),
                Next::Write => panic!("everything is written"),
            }
        }
    }

    fn hear(&mut self) -> String {
        self.listen().unwrap().0
    }

    fn say(&mut self, text: &str) {
        self.conversation.received(&mut self.engine, text.as_bytes()).unwrap();
    }

    /// Says it and hears what there is to hear.
    fn ask(&mut self, text: &str) -> String {
        self.say(text);
        self.hear()
    }
}

const PIPELINE: &str =
    "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\nGET k\r\n*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\nPING\r\n";
const REPLIES: &str = "+OK\r\n$5\r\nvalue\r\n$2\r\n\r\n\r\n+PONG\r\n";

#[test]
fn commands_may_be_cut_anywhere() {
    let first = Talk::new(Config::default());
    for at in 0..=PIPELINE.len() {
        let mut talk = first.another();
        let (first, second) = PIPELINE.split_at(at);
        assert_eq!(talk.ask(first) + &talk.ask(second), REPLIES, "cut at {at}");
    }
    let mut talk = first.another();
    let heard: String = PIPELINE.split("").map(|byte| talk.ask(byte)).collect();
    assert_eq!(heard, REPLIES);
}

#[test]
fn an_error_of_the_protocol_is_the_last_word() {
    let mut talk = Talk::new(Config::default());
    talk.say("PING\r\n*x\r\nPING\r\n");
    assert_eq!(talk.conversation.output(), b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(talk.listen(), Err(End::Now));
}

#[test]
fn a_wait_ends_with_its_time_and_then_what_came_meanwhile_is_run() {
    let mut talk = Talk::new(Config::default());
    talk.say("BLPOP list 1\r\nPING\r\n");
    assert_eq!(talk.listen(), Ok((String::new(), Some(NOW_MS + 1000))));
    assert_eq!(talk.ask("ECHO more\r\n"), "");
    talk.server().clock.advance_ms(999);
    assert_eq!(talk.hear(), "");
    talk.server().clock.advance_ms(1);
    assert_eq!(talk.hear(), "*-1\r\n+PONG\r\n$4\r\nmore\r\n");
}

#[test]
fn a_wait_ends_with_an_element_or_with_the_conversation() {
    let mut first = Talk::new(Config::default());
    let (mut second, mut giver) = (first.another(), first.another());
    let server = first.server().clone();
    let blocked = || server.waits.blocked_clients.load(Ordering::Relaxed);
    assert_eq!(first.ask("BLPOP list 0\r\n"), "");
    assert_eq!(second.ask("BLPOP list 0\r\n"), "");
    assert_eq!(blocked(), 2);
    first.conversation.close(&first.engine, first.may_wait);
    assert_eq!(giver.ask("RPUSH list a b\r\n"), ":2\r\n");
    assert_eq!(second.hear(), "*2\r\n$4\r\nlist\r\n$1\r\na\r\n");
    assert_eq!(blocked(), 0);
    assert_eq!(giver.ask("LLEN list\r\n"), ":1\r\n");
}

#[test]
fn many_commands_that_wait_cost_as_much_as_they_are_long() {
    const COUNT: usize = 5000;
    let mut talk = Talk::new(Config::default());
    let sent = "BLPOP nothing 0.01\r\n".repeat(COUNT);
    talk.say(&sent);
    for _ in 0..COUNT {
        assert_eq!(talk.hear(), "");
        talk.server().clock.advance_ms(10);
        assert_eq!(talk.hear(), "*-1\r\n");
    }
    assert!(talk.conversation.query.moved_bytes <= sent.len(), "{}", talk.conversation.query.moved_bytes);
}

#[test]
fn a_pause_holds_a_command_back() {
    let mut talk = Talk::new(Config::default());
    let mut other = talk.another();
    assert_eq!(other.ask("CLIENT PAUSE 100 WRITE\r\n"), "+OK\r\n");
    talk.say("GET k\r\nSET k v\r\nGET k\r\n");
    assert_eq!(talk.listen(), Ok(("$-1\r\n".to_owned(), Some(NOW_MS + 100))));
    talk.server().clock.advance_ms(100);
    assert_eq!(talk.hear(), "+OK\r\n$1\r\nv\r\n");
}

#[test]
fn letters_are_heard_between_replies() {
    let mut talk = Talk::new(Config::default());
    let mut other = talk.another();
    assert_eq!(talk.ask("SUBSCRIBE news\r\n"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    assert_eq!(other.ask("PUBLISH news hello\r\n"), ":1\r\n");
    assert_eq!(talk.hear(), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
    assert_eq!(other.ask(&format!("CLIENT KILL ID {}\r\n", talk.conversation.session.client.id)), ":1\r\n");
    assert_eq!(talk.listen(), Err(End::Now));
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let limit = OutputLimit { hard_bytes: 1000, soft_bytes: 0, soft_seconds: 0 };
    let mut talk = Talk::new(Config { client_output_buffer_limit: [limit; 3], ..Config::default() });
    let mut other = talk.another();
    talk.ask("SUBSCRIBE news\r\n");
    for _ in 0..30 {
        assert!(other.ask(&format!("PUBLISH news {}\r\n", "x".repeat(1000))).starts_with(':'));
    }
    assert_eq!(talk.listen(), Err(End::Now));
    other.say(&"PING\r\n".repeat(10_000));
    assert!(other.conversation.output().is_empty(), "what it is not sent any more is gone");
    assert_eq!(other.listen(), Err(End::Now));
}

#[test]
fn a_request_has_an_end() {
    let mut talk = Talk::new(Config { client_query_buffer_limit: 1000, ..Config::default() });
    assert_eq!(talk.ask("*2\r\n$4\r\nECHO\r\n$2000\r\n"), "");
    let rest = [b'x'; 1500];
    assert_eq!(talk.conversation.received(&mut talk.engine, &rest), Err(End::Now));
}

#[test]
fn a_reply_waits_for_the_log() {
    let mut talk = Talk::new(Config::default());
    let server = talk.server().clone();
    server.aof.queue.hold_replies(Holds::UntilWritten);
    server.feed.add_reader(Arc::new(QueueReader::new(&server.aof)));
    assert_eq!(talk.ask("SET k v\r\n"), "");
    assert_eq!(talk.hear(), "");
    server.aof.queue.set_progress(server.aof.queue.pushed(), 0);
    assert_eq!(talk.hear(), "+OK\r\n");
}

/// A socket whose peer is silent.
#[derive(Debug)]
struct Silent;

impl Socket for Silent {
    fn read_now(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush_now(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait_now(&self, _: Readiness, _: Duration) {}

    fn say_goodbye(&mut self) {}
}

#[test]
fn a_client_that_debugs_scripts_has_its_socket_lent() {
    let mut talk = Talk::new(Config::default());
    assert_eq!(talk.ask("SCRIPT DEBUG SYNC\r\nPING\r\n"), "+OK\r\n");
    assert!(talk.conversation.wants_socket());
    assert!(talk.conversation.run_with_socket(&mut talk.engine, Box::new(Silent)).is_some());
    assert_eq!(talk.hear(), "+PONG\r\n");
    assert!(!talk.conversation.wants_socket(), "nothing is left to run");
}
