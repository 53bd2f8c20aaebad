//! The files this crate needs, behind two traits: the real ones, and [`CrashDir`], which forgets what was not synced.
//!
//! Names are relative to the directory and have no `/`.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

mod crash;
mod fault;

pub use crash::{CrashDir, Survival};
pub use fault::{Effect, Fault, Faults, OPERATIONS, Operation, Weather};

/// A file open for appending. One thread may sync it while another one writes.
pub trait File: Send + Sync {
    /// Appends bytes; like `write(2)`, may take fewer than given.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Returns when what was written before is on disk (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to `len` bytes; writing goes on from there.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A file open for reading.
pub trait ReadFile: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadFile for T {}

/// A directory.
pub trait Dir: Send + Sync {
    /// Creates a file, or empties the one there is.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// Opens a file to go on at its end; creates it if there is none.
    fn append(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// Opens a file to read it.
    fn open(&self, name: &str) -> io::Result<Box<dyn ReadFile>>;
    /// The size of a file in bytes, or `None` if there is none.
    fn len(&self, name: &str) -> io::Result<Option<u64>>;
    /// Cuts a file to `len` bytes and syncs it.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Gives a file another name, taking the place of what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of the files in it, in no order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Returns when creations, renames and removals are on disk.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of `bytes`, trying again after a short write.
pub fn write_all(file: &dyn File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts `bytes` under `name` so that after a crash the old or the new contents are there, whole.
pub fn replace(dir: &dyn Dir, temp_name: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = dir.create(temp_name)?;
    write_all(&*file, bytes)?;
    file.sync()?;
    drop(file);
    dir.rename(temp_name, name)?;
    dir.sync()
}

/// A [`File`] as an [`io::Write`], such as an RDB writer takes.
pub struct FileWriter(pub Box<dyn File>);

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory of the file system.
#[derive(Debug, Clone)]
pub struct DiskDir {
    path: PathBuf,
    /// The most that new files permit, whatever the umask says.
    mode: u32,
    /// In tests only.
    faults: Option<Faults>,
}

impl DiskDir {
    /// The directory at `path`, which must exist.
    pub fn new(path: impl Into<PathBuf>) -> DiskDir {
        DiskDir { path: path.into(), mode: 0o666, faults: None }
    }

    /// The same directory, whose changing operations meet these faults, if any.
    #[must_use]
    pub fn with_faults(self, faults: Option<Faults>) -> DiskDir {
        DiskDir { faults, ..self }
    }

    fn operation(&self, operation: Operation, name: &str) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.operation(operation, name).map(drop))
    }

    /// The directory at `path`, made if it is missing. Nobody but its owner writes to it or to its files.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<DiskDir> {
        let dir = DiskDir { mode: 0o644, ..DiskDir::new(path) };
        match fs::DirBuilder::new().mode(0o755).create(&dir.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if !dir.path.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            _ => Ok(dir),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl File for fs::File {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// A file whose operations meet faults.
struct FaultyFile {
    name: String,
    file: fs::File,
    faults: Faults,
}

impl File for FaultyFile {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let met = self.faults.operation(Operation::Write, &self.name)?;
        let len = met.unwrap_or(bytes.len()).min(bytes.len());
        File::write(&self.file, &bytes[..len])
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.operation(Operation::Sync, &self.name)?;
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.faults.operation(Operation::Truncate, &self.name)?;
        File::truncate(&self.file, len)
    }
}

impl Dir for DiskDir {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.operation(Operation::Open, name)?;
        // Empty the old file first and append from there: a file that is cut later must go on at its new end.
        let path = self.path.join(name);
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(self.mode).open(&path)?;
        self.append(name)
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().append(true).create(true).mode(self.mode).open(self.path.join(name))?;
        Ok(match self.faults.clone() {
            None => Box::new(file),
            Some(faults) => Box::new(FaultyFile { name: name.to_owned(), file, faults }),
        })
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(fs::File::open(self.path.join(name))?))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path.join(name)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.operation(Operation::Truncate, name)?;
        let file = fs::OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operation(Operation::Rename, to)?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operation(Operation::Remove, name)?;
        fs::remove_file(self.path.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        self.operation(Operation::SyncDir, ".")?;
        fs::File::open(&self.path)?.sync_all()
    }
}
