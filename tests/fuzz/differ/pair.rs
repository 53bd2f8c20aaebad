//! Both servers, and the same steps done to both.

use crate::peer::{Link, Peer, encode};
use crate::state;
use crate::steps::{CLIENTS, Step};
use crate::value::{Leeway, Value};
use std::collections::BTreeSet;
use std::time::Duration;

/// Something that the servers do not agree on.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What it is about, the same for the same cause as far as can be told.
    pub about: String,
    pub ours: String,
    pub theirs: String,
    /// A server did not answer.
    pub is_silence: bool,
}

pub struct Pair {
    pub ours: Peer,
    pub theirs: Peer,
}

/// A fresh data set on both, and the clients of one row of steps.
pub struct Run<'p> {
    pair: &'p Pair,
    ours: Side,
    theirs: Side,
    /// Of each client: the words of its commands that are not answered, or that wait for EXEC.
    words: Vec<Vec<Vec<u8>>>,
    is_in_multi: Vec<bool>,
    /// Replies still owed.
    owed: Vec<usize>,
    /// Who waited for a reply when the step began.
    was_busy: Vec<bool>,
    steps: usize,
}

/// The connections to one server.
struct Side {
    admin: Link,
    clients: Vec<Link>,
}

/// The data sets are compared after so many steps.
const DATA_EVERY: usize = 20;

/// They choose at random, or store what has no order; SORT_RO makes a small sorted set a skiplist in Redis.
const RANDOM_WRITES: &[&str] = &["spop", "sort", "sort_ro"];

/// What may differ where one of these words is in a command.
const LEEWAY: &[(&[&str], Leeway)] = &[
    // Hash tables have an order of their own, and libraries, channels, users are in such ones too.
    (
        &[
            "hgetall",
            "hkeys",
            "hvals",
            "smembers",
            "sinter",
            "sunion",
            "sdiff",
            "sort",
            "sort_ro",
            "keys",
            "command",
            "list",
            "function",
            "channels",
            "shardchannels",
            "numsub",
            "config",
            "cat",
            "getkeys",
            "reset",
            "getuser",
            "stats",
            "hscan",
            "sscan",
            "zscan",
            "scan",
            "docs",
        ],
        Leeway::Unordered,
    ),
    // Chosen at random.
    (&["spop", "srandmember", "hrandfield", "zrandmember"], Leeway::Shape),
    // Milliseconds pass between the two.
    (&["ttl", "pttl", "expiretime", "pexpiretime", "idletime", "xinfo", "xpending"], Leeway::Near(1500)),
    // Addresses, times, versions.
    (&["hello", "object"], Leeway::Shape),
    // A hash table is saved in its own order.
    (&["dump"], Leeway::Shape),
    (&["unsubscribe", "punsubscribe", "sunsubscribe"], Leeway::Shape),
    (&["info", "log", "list"], Leeway::Shape),
    // WAIT counts as written there.
    (&["role"], Leeway::Near(i64::MAX)),
];

impl Pair {
    pub fn is_alive(&mut self) -> Result<(), Mismatch> {
        for peer in [&mut self.ours, &mut self.theirs] {
            if !peer.is_alive() {
                let mismatch = Mismatch {
                    about: format!("{} ended", peer.name),
                    ours: peer.log(),
                    theirs: String::new(),
                    is_silence: true,
                };
                return Err(mismatch);
            }
        }
        Ok(())
    }
}

/// Connects anew until the same clients have the same IDs on both.
fn level(pair: &Pair, ours: &mut [Link], theirs: &mut [Link]) -> Result<(), Mismatch> {
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        while ours.id != theirs.id {
            let (link, peer) =
                if ours.id < theirs.id { (&mut *ours, &pair.ours) } else { (&mut *theirs, &pair.theirs) };
            *link = peer.connect().map_err(|error| broken(peer.name, &error))?;
        }
    }
    Ok(())
}

fn broken(name: &str, error: &std::io::Error) -> Mismatch {
    Mismatch {
        about: format!("{name} does not answer: {error}"),
        ours: String::new(),
        theirs: String::new(),
        is_silence: true,
    }
}

impl Side {
    fn connect(peer: &Peer) -> Result<Side, Mismatch> {
        let fail = |error| broken(peer.name, &error);
        let mut admin = peer.connect().map_err(fail)?;
        state::reset(&mut admin).map_err(fail)?;
        let clients = (0..CLIENTS).map(|_| peer.connect()).collect::<Result<_, _>>().map_err(fail)?;
        Ok(Side { admin, clients })
    }

    /// After this, everything that the steps so far have made the server say is there.
    fn begin_barrier(&mut self) {
        self.admin.send(b"PING\r\n");
    }

    fn end_barrier(&mut self) -> std::io::Result<()> {
        loop {
            if self.admin.next()?.text() == b"PONG" {
                return Ok(());
            }
        }
    }

    fn take_in(&mut self) {
        self.clients.iter_mut().for_each(Link::take_in);
    }

    /// The command with the IDs of this server's clients in it.
    fn filled_in(&self, argv: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let fill = |arg: &Vec<u8>| {
            let client =
                arg.strip_prefix(b"@id").and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
            client
                .and_then(|client| self.clients.get(client))
                .map_or_else(|| arg.clone(), |link| link.id.to_string().into_bytes())
        };
        argv.iter().map(fill).collect()
    }
}

impl<'p> Run<'p> {
    pub fn new(pair: &'p Pair) -> Result<Run<'p>, Mismatch> {
        let mut ours = Side::connect(&pair.ours)?;
        let mut theirs = Side::connect(&pair.theirs)?;
        level(pair, &mut ours.clients, &mut theirs.clients)?;
        Ok(Run {
            ours,
            theirs,
            pair,
            words: vec![Vec::new(); CLIENTS],
            is_in_multi: vec![false; CLIENTS],
            owed: vec![0; CLIENTS],
            was_busy: vec![false; CLIENTS],
            steps: 0,
        })
    }

    /// Who waits for a reply.
    pub fn busy(&self) -> Vec<bool> {
        self.owed.iter().map(|owed| *owed > 0).collect()
    }

    /// Who is between MULTI and EXEC.
    pub fn in_multi(&self) -> &[bool] {
        &self.is_in_multi
    }

    /// Does a step on both; gives what the real one replied to its client.
    pub fn step(&mut self, step: &Step) -> Result<Vec<Value>, Mismatch> {
        self.steps += 1;
        let client = step.client;
        self.was_busy = self.busy();
        self.note(client, &step.argvs);
        for side in [&mut self.ours, &mut self.theirs] {
            let bytes: Vec<u8> = step.argvs.iter().flat_map(|argv| encode(&side.filled_in(argv))).collect();
            side.clients[client].send(&bytes);
        }
        std::thread::sleep(Duration::from_millis(step.wait_ms));
        self.settle()?;
        let replies = self.compare_clients(client)?;
        let is_random = self.words[client].iter().any(|word| RANDOM_WRITES.iter().any(|name| name.as_bytes() == *word));
        if is_random {
            self.compare_data(true)?;
            self.settle()?;
            self.forget();
        } else if self.steps.is_multiple_of(DATA_EVERY) {
            self.compare_data(false)?;
        }
        Ok(replies)
    }

    /// What is compared when all steps are done.
    pub fn finish(&mut self) -> Result<(), Mismatch> {
        self.compare_data(false)?;
        let fail = |error| broken("a server", &error);
        let ids = |side: &Side| side.clients.iter().map(|link| link.id).collect::<Vec<_>>();
        let (our_ids, their_ids) = (ids(&self.ours), ids(&self.theirs));
        let ours = state::registers(&mut self.ours.admin, &our_ids).map_err(fail)?;
        let theirs = state::registers(&mut self.theirs.admin, &their_ids).map_err(fail)?;
        state::differing(&ours, &theirs)
    }

    /// Remembers the words of a command for as long as its reply may come.
    fn note(&mut self, client: usize, argvs: &[Vec<Vec<u8>>]) {
        if self.owed[client] == 0 && !self.is_in_multi[client] {
            self.words[client].clear();
        }
        for argv in argvs {
            self.words[client].extend(argv.iter().map(|arg| arg.to_ascii_lowercase()));
            match argv[0].to_ascii_lowercase().as_slice() {
                b"multi" => self.is_in_multi[client] = true,
                b"exec" | b"discard" | b"reset" => self.is_in_multi[client] = false,
                _ => {}
            }
        }
        self.owed[client] += argvs.len();
    }

    fn settle(&mut self) -> Result<(), Mismatch> {
        for _ in 0..2 {
            self.ours.begin_barrier();
            self.theirs.begin_barrier();
            self.ours.end_barrier().map_err(|error| broken(self.pair.ours.name, &error))?;
            self.theirs.end_barrier().map_err(|error| broken(self.pair.theirs.name, &error))?;
        }
        self.ours.take_in();
        self.theirs.take_in();
        Ok(())
    }

    /// Leaves out what came.
    fn forget(&mut self) {
        for link in self.ours.clients.iter_mut().chain(&mut self.theirs.clients) {
            link.received.clear();
        }
    }

    /// Waits a little for the slower one; true when both have said the same amount.
    fn is_level(&mut self) -> bool {
        let amount =
            |link: &Link| (Value::all(&link.received).map(|(all, rest)| (all.len(), rest)).ok(), link.is_closed);
        for wait in [0, 1, 5, 20, 100, 300] {
            std::thread::sleep(Duration::from_millis(wait));
            self.ours.take_in();
            self.theirs.take_in();
            let mut pairs = self.ours.clients.iter().zip(&self.theirs.clients);
            if pairs.all(|(ours, theirs)| {
                let (ours, theirs) = (amount(ours), amount(theirs));
                ours == theirs && ours.0.is_none_or(|(_, rest)| rest == 0)
            }) {
                return true;
            }
        }
        false
    }

    fn compare_clients(&mut self, speaker: usize) -> Result<Vec<Value>, Mismatch> {
        let is_same = |side: (&Link, &Link)| side.0.received == side.1.received && side.0.is_closed == side.1.is_closed;
        if !self.ours.clients.iter().zip(&self.theirs.clients).all(is_same) {
            self.is_level();
        }
        let mut replies = Vec::new();
        let was_busy = std::mem::take(&mut self.was_busy);
        for client in 0..CLIENTS {
            let has_waited = was_busy.contains(&true);
            let ours = std::mem::take(&mut self.ours.clients[client].received);
            let theirs = std::mem::take(&mut self.theirs.clients[client].received);
            let is_closed = (self.ours.clients[client].is_closed, self.theirs.clients[client].is_closed);
            if ours != theirs || is_closed.0 != is_closed.1 {
                let words: Vec<&[u8]> =
                    self.words[client].iter().chain(&self.words[speaker]).map(Vec::as_slice).collect();
                let is_alike =
                    is_alike(&ours, &theirs, &words) || has_waited && is_alike_but_for_broadcasts(&ours, &theirs);
                if is_closed.0 != is_closed.1 || !is_alike {
                    return Err(self.mismatch(client, speaker, &ours, &theirs));
                }
            }
            let (values, _) = Value::all(&theirs).unwrap_or_default();
            let answers = values.iter().filter(|value| !value.is_push()).count();
            self.owed[client] = self.owed[client].saturating_sub(answers);
            if client == speaker {
                replies = values;
            }
            if is_closed.0 {
                self.reconnect(client)?;
            }
        }
        Ok(replies)
    }

    fn reconnect(&mut self, client: usize) -> Result<(), Mismatch> {
        let connect = |peer: &Peer| peer.connect().map_err(|error| broken(peer.name, &error));
        self.ours.clients[client] = connect(&self.pair.ours)?;
        self.theirs.clients[client] = connect(&self.pair.theirs)?;
        level(self.pair, &mut self.ours.clients[client..=client], &mut self.theirs.clients[client..=client])?;
        self.owed[client] = 0;
        self.is_in_multi[client] = false;
        Ok(())
    }

    fn mismatch(&self, client: usize, speaker: usize, ours: &[u8], theirs: &[u8]) -> Mismatch {
        let show = |bytes: &[u8], is_closed: bool| {
            let closed = if is_closed { " (closed)" } else { "" };
            format!("{}{closed}", bytes[..bytes.len().min(6000)].escape_ascii())
        };
        let name = self.words[speaker].first().map(|word| word.escape_ascii().to_string()).unwrap_or_default();
        let role = if client == speaker { "reply" } else { "what another client gets" };
        let start = |bytes: &[u8]| bytes[..bytes.len().min(12)].escape_ascii().to_string();
        Mismatch {
            about: format!("{role} {name} {} {}", start(ours), start(theirs)),
            ours: show(ours, self.ours.clients[client].is_closed),
            theirs: show(theirs, self.theirs.clients[client].is_closed),
            is_silence: false,
        }
    }

    /// Compares all keys. `mend`: deletes those that differ instead, because the step was random.
    fn compare_data(&mut self, mend: bool) -> Result<(), Mismatch> {
        let fail = |error| broken("a server", &error);
        let ours = state::data(&mut self.ours.admin).map_err(fail)?;
        let theirs = state::data(&mut self.theirs.admin).map_err(fail)?;
        if !mend {
            return state::differing(&ours, &theirs);
        }
        for entry in state::differing_keys(&ours, &theirs) {
            state::delete(&mut self.ours.admin, &entry).map_err(fail)?;
            state::delete(&mut self.theirs.admin, &entry).map_err(fail)?;
        }
        Ok(())
    }
}

/// Whether the answers are the same, and the same keys are said to have changed. A client whose wait has ended goes on with
/// what it has sent in a turn of its own here, in Redis in that of whoever ended it, before the broadcasts.
fn is_alike_but_for_broadcasts(ours: &[u8], theirs: &[u8]) -> bool {
    let split = |bytes: &[u8]| -> Option<(Vec<Value>, BTreeSet<Vec<u8>>)> {
        let (all, _) = Value::all(bytes).ok()?;
        let is_broadcast = |value: &Value| match value.elements() {
            [kind, _] => value.is_push() && kind.text() == b"invalidate",
            [kind, channel, _] => kind.text() == b"message" && channel.text() == b"__redis__:invalidate",
            _ => false,
        };
        let (broadcasts, answers): (Vec<Value>, Vec<Value>) = all.into_iter().partition(is_broadcast);
        let keys = broadcasts.iter().filter_map(|message| message.elements().last()).flat_map(Value::elements);
        Some((answers, keys.map(|key| key.text().to_vec()).collect()))
    };
    let ours = split(ours);
    ours.is_some() && ours == split(theirs)
}

/// Whether two rows of replies are the same but for what may differ where a command has one of these words.
fn is_alike(ours: &[u8], theirs: &[u8], words: &[&[u8]]) -> bool {
    let (Ok((mut ours, our_rest)), Ok((mut theirs, their_rest))) = (Value::all(ours), Value::all(theirs)) else {
        return false;
    };
    sort_patterns(&mut ours);
    sort_patterns(&mut theirs);
    // They find keys expired in the order of a hash table, and say so.
    if words.iter().any(|word| [&b"scan"[..], b"keys"].contains(word)) {
        ours.sort_by_key(Value::sorted);
        theirs.sort_by_key(Value::sorted);
    }
    let allowed: Vec<Leeway> = LEEWAY
        .iter()
        .filter(|(about, _)| words.iter().any(|word| about.iter().any(|about| about.as_bytes() == *word)))
        .map(|(_, leeway)| *leeway)
        .collect();
    // What EXEC answers is several commands' replies, each with a leeway of its own.
    let each =
        |ours: &Value, theirs: &Value| ours == theirs || allowed.iter().any(|leeway| ours.matches(theirs, *leeway));
    let is_same = |(ours, theirs): (&Value, &Value)| {
        each(ours, theirs)
            || words.contains(&&b"exec"[..])
                && ours.elements().len() == theirs.elements().len()
                && !ours.elements().is_empty()
                && ours.elements().iter().zip(theirs.elements()).all(|(ours, theirs)| each(ours, theirs))
    };
    ours.len() == theirs.len() && our_rest == their_rest && ours.iter().zip(&theirs).all(is_same)
}

/// A message that fits several patterns of a client comes once for each, in the order of a hash table.
fn sort_patterns(values: &mut [Value]) {
    let is_same = |one: &Value, two: &Value| match (one.elements(), two.elements()) {
        ([kind, _, said @ ..], [other_kind, _, also_said @ ..]) => {
            kind.text() == b"pmessage" && kind == other_kind && said == also_said
        }
        _ => false,
    };
    values.chunk_by_mut(is_same).for_each(|messages| messages.sort());
}
