//! Two servers that wrote the same append-only files would lose each other's data: each rewrite makes the other one's files
//! history. So a server locks the directory of its log.
//!
//! The lock is `flock(2)` on the directory itself. It leaves no file behind, needs no right to write, is gone with the
//! process however that ends, and keeps out a second server of the same process, too.

use crate::os::log::Log;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directories that one server has locked, in the order it wanted them; one may be there twice.
#[derive(Debug, Default)]
pub(super) struct DirLocks(Vec<Arc<DirLock>>);

#[derive(Debug)]
struct DirLock {
    path: PathBuf,
    /// Holds the lock while it is open. None where the file system knows no locks.
    _file: Option<File>,
}

impl DirLocks {
    /// Locks a directory. Fails if another server has; one that is not there yet is nobody's.
    pub(super) fn claim(&mut self, path: &Path, log: &Log) -> Result<(), String> {
        if let Some(known) = self.0.iter().find(|lock| lock.path == path) {
            self.0.push(known.clone());
            return Ok(());
        }
        let locked = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => Err(TryLockError::Error(error)),
            Ok(file) => file.try_lock().map(|()| file),
        };
        let file = match locked {
            Ok(file) => Some(file),
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "The append-only files in {} are in use by another server: two of them would lose each other's data",
                    path.display()
                ));
            }
            Err(TryLockError::Error(error)) => {
                log.warning(format_args!(
                    "Can't lock the append-only dir {}: {error}. Make sure that no other server uses it",
                    path.display()
                ));
                None
            }
        };
        self.0.push(Arc::new(DirLock { path: path.to_owned(), _file: file }));
        Ok(())
    }

    /// Locks a directory unless that has been done.
    pub(super) fn hold(&mut self, path: &Path, log: &Log) -> Result<(), String> {
        if self.0.iter().any(|lock| lock.path == path) { Ok(()) } else { self.claim(path, log) }
    }

    /// Takes the last claim of this directory back.
    pub(super) fn unclaim(&mut self, path: &Path) {
        if let Some(last) = self.0.iter().rposition(|lock| lock.path == path) {
            self.0.remove(last);
        }
    }

    /// Only this directory is needed any more; None: not even that.
    pub(super) fn keep(&mut self, path: Option<&Path>) {
        let needed = self.0.iter().find(|lock| Some(lock.path.as_path()) == path).cloned();
        self.0 = needed.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_server() {
        let path = std::env::temp_dir().join(format!("redstart-dir-lock-{}", std::process::id()));
        let log = Log::nowhere();
        let (mut one, mut other) = (DirLocks::default(), DirLocks::default());
        assert_eq!(one.claim(&path, &log), Ok(()), "it is not there yet");
        std::fs::create_dir(&path).unwrap();
        one.hold(&path, &log).unwrap();
        one.hold(&path, &log).unwrap();
        one.claim(&path, &log).unwrap();
        assert!(other.claim(&path, &log).unwrap_err().contains("in use by another server"));
        one.unclaim(&path);
        assert!(other.claim(&path, &log).is_err(), "it has been claimed twice");
        one.keep(Some(&path));
        assert!(other.claim(&path, &log).is_err());
        one.keep(None);
        assert_eq!(other.claim(&path, &log), Ok(()));
        std::fs::remove_dir(&path).unwrap();
    }
}
