//! What is to go wrong, and when: for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write takes only so many bytes; other operations work.
    Short(usize),
    /// `ENOSPC`, once.
    NoSpace,
    /// `EIO`, once.
    Io,
    /// The machine is off: this operation and all later ones fail and change nothing.
    PowerCut,
}

/// The operations of a disk that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Of a file, new or to be appended to.
    Open,
    /// To a file.
    Write,
    /// Of a file.
    Sync,
    /// Of a file.
    Truncate,
    /// To a name.
    Rename,
    /// Of a file.
    Remove,
    /// Of the directory.
    SyncDir,
}

/// All of them.
pub const OPERATIONS: [Operation; 7] = [
    Operation::Open,
    Operation::Write,
    Operation::Sync,
    Operation::Truncate,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDir,
];

/// How a disk behaves until it is told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    /// The operation it is about.
    pub operation: Operation,
    /// And the files: those whose name contains this. A rename is about its target, and a directory is named `.`.
    pub name: String,
    /// What becomes of it.
    pub effect: Effect,
}

/// What becomes of an operation in bad weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `ENOSPC`.
    NoSpace,
    /// `EIO`.
    Io,
    /// It takes as long as the weather.
    Stall,
}

/// The operations counted from 0, and the faults they meet.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    faults: BTreeMap<u64, Fault>,
    operations: u64,
    off: bool,
}

impl Plan {
    pub(super) fn fail(&mut self, operation: u64, fault: Fault) {
        self.faults.insert(operation, fault);
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    /// Counts an operation and meets its fault; `Some(n)` is a write of `n` bytes only.
    pub(super) fn operation(&mut self) -> io::Result<Option<usize>> {
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        self.off |= fault == Some(Fault::PowerCut);
        match fault {
            _ if self.off => Err(io::Error::other("power cut")),
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Io) => Err(io::Error::other("input/output error")),
            Some(Fault::Short(len)) => Ok(Some(len)),
            Some(Fault::PowerCut) | None => Ok(None),
        }
    }
}

/// Faults of directories of the file system; clones share them. See [`super::DiskDir::with_faults`].
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    weather: Vec<Weather>,
    stalled: usize,
}

impl Faults {
    /// Makes the changing operation with this number go wrong, counted from 0 over all directories with these faults.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.state().plan.fail(operation, fault);
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> u64 {
        self.state().plan.operations()
    }

    /// How the disk behaves from now on; operations that stall go on if this lets them.
    pub fn set_weather(&self, weather: &[Weather]) {
        self.state().weather = weather.to_vec();
        self.0.changed.notify_all();
    }

    /// How many operations stall now.
    pub fn stalled(&self) -> usize {
        self.state().stalled
    }

    pub(super) fn operation(&self, operation: Operation, name: &str) -> io::Result<Option<usize>> {
        let mut state = self.state();
        let met = state.plan.operation()?;
        loop {
            let is_met = |weather: &&Weather| weather.operation == operation && name.contains(&weather.name);
            let Some(effect) = state.weather.iter().find(is_met).map(|weather| weather.effect) else { return Ok(met) };
            match effect {
                Effect::NoSpace => return Err(io::ErrorKind::StorageFull.into()),
                Effect::Io => return Err(io::Error::other("input/output error")),
                Effect::Stall => {
                    state.stalled += 1;
                    state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.stalled -= 1;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
