//! A directory in memory that remembers what was synced, for tests: it can fail at any operation and "lose power".

use super::fault::{Fault, Plan};
use super::{Dir, File, ReadFile};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that reach the disk together; small, so that tests meet many borders.
const PAGE: usize = 16;

/// A directory whose files live in memory. Clones share it.
///
/// Every operation that changes something has a number, counted from 0; see [`CrashDir::fail`].
#[derive(Clone, Default)]
pub struct CrashDir {
    state: Arc<Mutex<State>>,
}

/// What is left after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// All that was written: the process died, the kernel did not.
    Written,
    /// Only what was synced: bytes by [`File::sync`], names by [`Dir::sync`].
    Synced,
    /// What was synced, and of the rest such pages as chance (this seed) put on disk; others are zeros.
    TornPages(u64),
}

#[derive(Default, Clone)]
struct State {
    inodes: Vec<Inode>,
    /// What a running process sees.
    names: BTreeMap<String, usize>,
    /// What is on disk.
    synced_names: BTreeMap<String, usize>,
    plan: Plan,
    syncs: u64,
}

#[derive(Default, Clone)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
}

struct CrashFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

impl CrashDir {
    /// An empty directory.
    pub fn new() -> CrashDir {
        CrashDir::default()
    }

    /// Makes the operation with this number go wrong.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.lock().plan.fail(operation, fault);
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> u64 {
        self.lock().plan.operations()
    }

    /// How many syncs of files there have been.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The contents of a file as a running process sees them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|inode| state.inodes[*inode].data.clone())
    }

    /// The directory as the next process finds it. This one stays as it is.
    pub fn after_crash(&self, survival: Survival) -> CrashDir {
        let mut state = self.lock().clone();
        state.plan = Plan::default();
        if survival != Survival::Written {
            state.names = state.synced_names.clone();
        }
        for inode in &mut state.inodes {
            match survival {
                Survival::Written => {}
                Survival::Synced => inode.data = inode.synced.clone(),
                Survival::TornPages(seed) => inode.tear(seed),
            }
            inode.synced = inode.data.clone();
        }
        state.synced_names = state.names.clone();
        CrashDir { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode {
    /// Leaves each page that differs from the synced ones to chance.
    fn tear(&mut self, seed: u64) {
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut torn = self.synced.clone();
        torn.truncate(self.data.len());
        for (at, page) in self.data.chunks(PAGE).enumerate().map(|(n, page)| (n * PAGE, page)) {
            let end = at + page.len();
            if self.synced.get(at..end) == Some(page) {
                continue;
            }
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            match chance % 4 {
                0 if torn.len() >= at => break,
                1 => torn.resize(torn.len().max(end), 0),
                _ => {
                    torn.resize(torn.len().max(end), 0);
                    torn[at..end].copy_from_slice(page);
                }
            }
        }
        self.data = torn;
    }
}

impl State {
    fn operation(&mut self) -> io::Result<Option<usize>> {
        self.plan.operation()
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl File for CrashFile {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let len = state.operation()?.unwrap_or(bytes.len()).min(bytes.len());
        state.inodes[self.inode].data.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.operation()?;
        state.syncs += 1;
        let inode = &mut state.inodes[self.inode];
        inode.synced = inode.data.clone();
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.operation()?;
        state.inodes[self.inode].data.resize(len as usize, 0);
        Ok(())
    }
}

impl Dir for CrashDir {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.operation()?;
        let inode = match state.names.get(name) {
            Some(inode) => *inode,
            None => {
                state.inodes.push(Inode::default());
                state.inodes.len() - 1
            }
        };
        state.inodes[inode].data.clear();
        state.names.insert(name.to_owned(), inode);
        Ok(Box::new(CrashFile { state: Arc::clone(&self.state), inode }))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn File>> {
        let there = self.lock().names.get(name).copied();
        match there {
            Some(inode) => Ok(Box::new(CrashFile { state: Arc::clone(&self.state), inode })),
            None => self.create(name),
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadFile>> {
        let state = self.lock();
        let inode = state.inode(name)?;
        Ok(Box::new(io::Cursor::new(state.inodes[inode].data.clone())))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        let state = self.lock();
        Ok(state.names.get(name).map(|inode| state.inodes[*inode].data.len() as u64))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let file = self.append(name)?;
        file.truncate(len)?;
        file.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.operation()?;
        let inode = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.operation()?;
        state.inode(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.operation()?;
        state.synced_names = state.names.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{replace, write_all};
    use super::*;

    #[test]
    fn only_what_was_synced_survives() {
        let dir = CrashDir::new();
        let file = dir.create("a").expect("create");
        write_all(&*file, b"one").expect("write");
        file.sync().expect("sync");
        assert_eq!(dir.after_crash(Survival::Synced).contents("a"), None, "the name was not synced");
        dir.sync().expect("sync");
        write_all(&*file, b"two").expect("write");
        assert_eq!(dir.after_crash(Survival::Synced).contents("a").as_deref(), Some(&b"one"[..]));
        assert_eq!(dir.after_crash(Survival::Written).contents("a").as_deref(), Some(&b"onetwo"[..]));
    }

    #[test]
    fn replacing_is_all_or_nothing_at_every_operation() {
        for at in 0..20 {
            let dir = CrashDir::new();
            replace(&dir, "temp", "f", b"old contents").expect("no fault yet");
            dir.fail(dir.operations() + at, Fault::PowerCut);
            let done = replace(&dir, "temp", "f", b"new").is_ok();
            for survival in [Survival::Written, Survival::Synced, Survival::TornPages(at)] {
                let left = dir.after_crash(survival).contents("f").expect("one of both");
                assert!(left == b"new" || (!done && left == b"old contents"), "{at} {survival:?}");
            }
        }
    }

    #[test]
    fn torn_pages_keep_what_was_synced() {
        let dir = CrashDir::new();
        let file = dir.create("a").expect("create");
        write_all(&*file, &[1; 40]).expect("write");
        file.sync().expect("sync");
        dir.sync().expect("sync");
        write_all(&*file, &[2; 100]).expect("write");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let left = dir.after_crash(Survival::TornPages(seed)).contents("a").expect("there");
            assert_eq!(left[..40], [1; 40]);
            assert!(left.len() <= 140 && left[40..].iter().all(|b| *b == 0 || *b == 2));
            seen.insert(left);
        }
        assert!(seen.len() > 10);
    }
}
