//! The whole data set for replicas: written as of one instant by a thread of its own, which then sends it.
//!
//! All replicas that wait when it begins, and want the same, share one. The data set goes to a file without a name, so
//! that a slow replica keeps nobody but the thread; from there it goes to the replicas' outboxes.

use crate::config::Config;
use crate::keyspace::lock::{Locked, MayWait};
use crate::replication::Replication;
use crate::replication::replica::{Phase, Replica, Wishes};
use crate::snapshot::save;
use crate::snapshot::walker::Snapshot;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Starts to write the data set for the replicas that wait, unless it is being done.
pub(super) fn start(replication: &Arc<Replication>, config: &Config) {
    let replicas = {
        let mut register = replication.register.lock();
        if register.is_syncing {
            replication.core.log.notice("A data set is on its way to other replicas: the next one follows it");
            return;
        }
        if replication.core.clock.now_ms() < register.not_before_ms {
            // The periodic work comes back to it.
            return;
        }
        let is_waiting = |replica: &&Arc<Replica>| replica.phase() == Phase::Waiting;
        let waiting: Vec<_> = register.replicas.iter().filter(is_waiting).cloned().collect();
        let Some(first) = waiting.first().cloned() else { return };
        register.is_syncing = true;
        waiting.into_iter().filter(|replica| shares(&replica.wishes, &first.wishes)).collect::<Vec<_>>()
    };
    let target = if is_diskless(config, &replicas[0].wishes) { "replicas sockets" } else { "disk" };
    replication.core.log.notice(format_args!("Starting BGSAVE for SYNC with target: {target}"));
    let own = replication.clone();
    let thread = replication.core.background.spawn("full_sync", move |may_wait| run(&own, may_wait, &replicas));
    if let Err(error) = thread {
        replication.core.log.warning(format_args!("BGSAVE for replication failed: {error}"));
        replication.register.lock().is_syncing = false;
    }
}

/// Starts when replicas have waited for `repl-diskless-sync-delay`, or enough of them wait.
pub(super) fn start_when_due(replication: &Arc<Replication>, config: &Config, now_ms: i64) {
    let replicas = replication.replicas();
    let waiting: Vec<_> = replicas.iter().filter(|replica| replica.phase() == Phase::Waiting).collect();
    let delay_ms = i64::from(config.repl_diskless_sync_delay) * 1000;
    let most = config.repl_diskless_sync_max_replicas as usize;
    let is_due = waiting.iter().any(|replica| {
        let waited_ms = now_ms - replica.asked_at_ms;
        !is_diskless(config, &replica.wishes) || waited_ms >= delay_ms
    });
    if is_due || most > 0 && waiting.len() >= most {
        start(replication, config);
    }
}

fn is_diskless(config: &Config, wishes: &Wishes) -> bool {
    config.repl_diskless_sync && wishes.eof
}

/// Whether two replicas can be sent the same bytes.
fn shares(one: &Wishes, other: &Wishes) -> bool {
    (one.eof, one.without_data, one.without_functions) == (other.eof, other.without_data, other.without_functions)
}

fn run(replication: &Arc<Replication>, may_wait: MayWait, replicas: &[Arc<Replica>]) {
    let config = replication.core.config.load();
    let sent =
        write(replication, may_wait, &config, replicas).and_then(|file| send(replication, &config, replicas, file));
    let has_failed = sent.is_err() && replicas.iter().any(|replica| !replica.is_gone());
    if let Err(error) = sent {
        replication.core.log.warning(format_args!("Error writing the data set for replicas: {error}"));
        // They try again when they find the connection closed.
        for replica in replicas {
            replica.client.mailbox.put(|letters| letters.kill = true);
        }
    }
    let now_ms = replication.core.clock.now_ms();
    let mut register = replication.register.lock();
    register.is_syncing = false;
    if has_failed {
        register.not_before_ms = now_ms + RETRY_MS;
    }
    drop(register);
    replication.count_good(&config, now_ms / 1000);
    start_when_due(replication, &config, now_ms);
}

/// How long after a full sync that failed the next one may begin: replicas come again at once, and what failed, a full disk
/// perhaps, fails again.
const RETRY_MS: i64 = 1000;

/// Writes the data set to a file, and has the replicas follow the stream from that instant on.
fn write(
    replication: &Arc<Replication>,
    may_wait: MayWait,
    config: &Config,
    replicas: &[Arc<Replica>],
) -> io::Result<File> {
    let file = BufWriter::new(nameless_file(config)?);
    let wishes = &replicas[0].wishes;
    if wishes.without_data {
        let contents = save::Contents { data: false, functions: !wishes.without_functions, aof_base: false };
        let locked = lock_all(replication, may_wait)?;
        attach(replication, config, replicas);
        return into_file(save::write_part(&replication.core, config, &locked, file, contents)?);
    }
    let snapshot = begin_snapshot(replication, may_wait, config, replicas)?;
    let is_cancelled = || replication.core.stop.is_requested() || replicas.iter().all(|replica| replica.is_gone());
    let written = save::write_snapshot(&replication.core, config, snapshot, may_wait, file, false, is_cancelled);
    replication.saves.set_syncing(false);
    into_file(written?)
}

fn into_file(writer: BufWriter<File>) -> io::Result<File> {
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// The instant of the data set: waits until no other snapshot is under way.
fn begin_snapshot(
    replication: &Replication,
    may_wait: MayWait,
    config: &Config,
    replicas: &[Arc<Replica>],
) -> io::Result<Snapshot> {
    loop {
        let mut locked = lock_all(replication, may_wait)?;
        if let Some(mut snapshot) = Snapshot::begin(&replication.core, &replication.saves, &mut locked) {
            replication.saves.set_syncing(true);
            attach(replication, config, replicas);
            if replicas[0].wishes.without_functions {
                snapshot.functions.clear();
            }
            return Ok(snapshot);
        }
        drop(locked);
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn lock_all(replication: &Replication, may_wait: MayWait) -> io::Result<Locked<'_>> {
    replication.core.lock_all(may_wait).ok_or_else(|| io::Error::other("the server ends"))
}

/// How often it is looked whether another snapshot has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Lets the replicas follow the stream from now on; all shards are locked.
fn attach(replication: &Replication, config: &Config, replicas: &[Arc<Replica>]) {
    replication.begin_stream(config);
    for replica in replicas {
        let offset = replication.stream.attach(replica);
        if !replica.is_old {
            let id = replication.history().id;
            replica.put(format!("+FULLRESYNC {id} {offset}\r\n").into_bytes().into());
        }
        replica.enter(Phase::Saving);
        if replica.is_gone() {
            // It has left before it was entered.
            replication.stream.detach(replica);
        }
    }
}

/// A file in `dir` that is gone when it is closed. No two have one name, not even for a moment: servers of one process
/// may share a folder.
fn nameless_file(config: &Config) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = config.dir.join(format!("temp-sync-{}-{count}.rdb", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Sends the file: with its length before it, or, to replicas that know it, with a mark around it.
fn send(replication: &Replication, config: &Config, replicas: &[Arc<Replica>], mut file: File) -> io::Result<()> {
    let len = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mark = is_diskless(config, &replicas[0].wishes).then(|| replication.core.random.hex(40));
    let head = match &mark {
        Some(mark) => format!("$EOF:{mark}\r\n"),
        None => format!("${len}\r\n"),
    };
    let patience = Duration::from_secs(u64::from(config.repl_timeout));
    let mut reached: Vec<&Arc<Replica>> = replicas.iter().filter(|replica| !replica.is_gone()).collect();
    for replica in &reached {
        replica.enter(Phase::Sending);
        replica.put(head.as_bytes().into());
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let len = file.read(&mut chunk)?;
        if len == 0 || reached.is_empty() {
            break;
        }
        let bytes: Arc<[u8]> = chunk[..len].into();
        reached.retain(|replica| put(replication, replica, bytes.clone(), patience));
    }
    let now_s = replication.core.clock.now_ms() / 1000;
    for replica in reached {
        if let Some(mark) = &mark {
            replica.put(mark.as_bytes().into());
        }
        replica.put_online(mark.is_some(), now_s);
        replication.core.log.notice(format_args!("Synchronization with replica {replica} succeeded"));
    }
    Ok(())
}

fn put(replication: &Replication, replica: &Replica, bytes: Arc<[u8]>, patience: Duration) -> bool {
    let is_taken = replica.put_in_turn(bytes, patience);
    if !is_taken && !replica.is_gone() {
        replication.core.log.warning(format_args!("Disconnecting timedout replica (full sync): {replica}"));
        replica.client.mailbox.put(|letters| letters.kill = true);
    }
    is_taken
}
