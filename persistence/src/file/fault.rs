//! What is to go wrong, and when: for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The operations of a disk that change something, counted from 0, and the faults they meet.
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
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// Makes the changing operation with this number go wrong, counted from 0 over all directories with these faults.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.plan().fail(operation, fault);
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> u64 {
        self.plan().operations()
    }

    pub(super) fn operation(&self) -> io::Result<Option<usize>> {
        self.plan().operation()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
