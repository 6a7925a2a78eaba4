//! Reading and replacing files. What is read may hold values: it is cleared when dropped.
//!
//! A file is replaced by renaming a new one over it, so that on any failure the old one stays; a symbolic link stays one,
//! its target is replaced. What was changed by somebody else after it was read is not overwritten.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bulla::manifest::MAX_TEXT;
use zeroize::Zeroizing;

use crate::failure::{self, Failure, Result};

/// Whether a path stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads to the end, or to just over what a manifest may have.
pub fn read_all(mut reader: impl Read, hint: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; hint.clamp(4096, MAX_TEXT) + 1]);
    let mut len = 0;
    loop {
        if len == bytes.len() {
            if len > MAX_TEXT {
                break;
            }
            // A new buffer and a copy: growing in place would leave the old one uncleared.
            let mut larger = Zeroizing::new(vec![0; len * 2]);
            larger[..len].copy_from_slice(&bytes);
            bytes = larger;
        }
        match reader.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads a file, or standard input.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    if is_stdin(path) {
        return read_all(std::io::stdin().lock(), 0).map_err(|error| failure::io("read", path, &error));
    }
    let open = || -> std::io::Result<_> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        read_all(file, usize::try_from(metadata.len()).unwrap_or(MAX_TEXT))
    };
    open().map_err(|error| failure::io("read", path, &error))
}

/// A file as it was read, to be replaced.
pub struct Original {
    /// As it was given, for messages.
    pub path: PathBuf,
    /// Symbolic links resolved.
    target: PathBuf,
    pub bytes: Zeroizing<Vec<u8>>,
    metadata: Metadata,
}

impl Original {
    /// Reads a file to change it.
    pub fn read(path: &Path) -> Result<Self> {
        let inner = || -> std::io::Result<_> {
            let target = std::fs::canonicalize(path)?;
            let file = File::open(&target)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(ErrorKind::IsADirectory.into());
            }
            let bytes = read_all(file, usize::try_from(metadata.len()).unwrap_or(MAX_TEXT))?;
            Ok((target, bytes, metadata))
        };
        let (target, bytes, metadata) = inner().map_err(|error| failure::io("read", path, &error))?;
        if !metadata.is_file() {
            return Err(Failure::new(format!("{} is no regular file and can't be replaced", failure::shown(path))));
        }
        Ok(Self { path: path.to_owned(), target, bytes, metadata })
    }

    /// Puts other bytes in its place.
    pub fn replace(&self, bytes: &[u8]) -> Result<()> {
        let access = rustix::fs::access(&self.target, rustix::fs::Access::WRITE_OK);
        if access == Err(rustix::io::Errno::ROFS) {
            return Err(failure::io("write", &self.path, &ErrorKind::ReadOnlyFilesystem.into()));
        }
        if self.metadata.mode() & 0o222 == 0 || access.is_err() {
            return Err(Failure::new(format!("{} is read-only; it stays as it was", failure::shown(&self.path)))
                .help(format!("chmod u+w {}", failure::shown(&self.path))));
        }
        let fail = |error: std::io::Error| {
            let mut failed = failure::io("write", &self.path, &error);
            failed.message.push_str("; it stays as it was");
            failed
        };
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        let mut new = new_in(directory).map_err(fail)?;
        new.write_all(bytes).map_err(fail)?;
        new.as_file().set_permissions(self.metadata.permissions()).map_err(fail)?;
        if let Ok(now) = new.as_file().metadata()
            && (now.uid(), now.gid()) != (self.metadata.uid(), self.metadata.gid())
        {
            // Only root may; for all others a file that they replace becomes theirs.
            let uid = rustix::fs::Uid::from_raw(self.metadata.uid());
            let gid = rustix::fs::Gid::from_raw(self.metadata.gid());
            _ = rustix::fs::fchown(new.as_file(), Some(uid), Some(gid));
        }
        new.as_file().sync_all().map_err(fail)?;
        let changed = || {
            Failure::new(format!(
                "{} was changed by somebody else meanwhile; nothing was written",
                failure::shown(&self.path)
            ))
            .help("run the command again")
        };
        // Two of this program at once: the second waits here, and then finds another file.
        let now = File::open(&self.target).map_err(|_| changed())?;
        _ = now.lock();
        let same_file = std::fs::metadata(&self.target)
            .is_ok_and(|m| (m.dev(), m.ino()) == (self.metadata.dev(), self.metadata.ino()));
        let read = read_all(&now, self.bytes.len()).map_err(fail)?;
        if !same_file || *read != *self.bytes {
            return Err(changed());
        }
        new.persist(&self.target).map_err(|error| fail(error.error))?;
        sync_directory(directory);
        Ok(())
    }
}

fn new_in(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".bulla-")
        .suffix(".tmp")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
}

/// So that the rename is on the disk as well. A file system that can't do it has other ways.
fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        _ = directory.sync_all();
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file that is not there yet, whole or not at all.
pub fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let inner = || -> std::io::Result<()> {
        let mut new = new_in(directory_of(path))?;
        new.write_all(bytes)?;
        new.as_file().sync_all()?;
        new.persist_noclobber(path).map_err(|error| error.error)?;
        sync_directory(directory_of(path));
        Ok(())
    };
    inner().map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::new(format!("{} is there already and is not overwritten", failure::shown(path)))
        }
        ErrorKind::NotFound => {
            Failure::missing(format!("can't write {}: there is no such directory", failure::shown(path)))
        }
        _ => failure::io("write", path, &error),
    })
}

/// Makes a file that nobody else may read and that is not there yet.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Failure::new(format!("{} is there already and is not overwritten", failure::shown(path)))
            }
            ErrorKind::NotFound => {
                Failure::missing(format!("can't write {}: there is no such directory", failure::shown(path)))
            }
            _ => failure::io("write", path, &error),
        })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // Half of it would only be in the way.
        _ = std::fs::remove_file(path);
        failure::io("write", path, &error)
    })
}

/// What stands at a path that is to be written.
pub enum Destination {
    /// Nothing.
    New,
    /// A regular file.
    There(Box<Original>),
    /// A pipe or device.
    Special,
}

/// Looks at a path that is to be written.
pub fn destination(path: &Path) -> Result<Destination> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Destination::There(Box::new(Original::read(path)?))),
        Ok(metadata) if metadata.is_dir() => Err(failure::io("write", path, &ErrorKind::IsADirectory.into())),
        Ok(_) => Ok(Destination::Special),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Destination::New),
        Err(error) => Err(failure::io("write", path, &error)),
    }
}

/// Writes what stands at a path anew.
pub fn write(path: &Path, destination: &Destination, bytes: &[u8]) -> Result<()> {
    match destination {
        Destination::New => create(path, bytes),
        Destination::There(original) if *original.bytes == bytes => Ok(()),
        Destination::There(original) => original.replace(bytes),
        Destination::Special => {
            let inner = || OpenOptions::new().write(true).open(path)?.write_all(bytes);
            match inner() {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(failure::io("write", path, &error)),
                _ => Ok(()),
            }
        }
    }
}
