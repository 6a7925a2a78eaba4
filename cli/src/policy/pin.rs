//! Files of public keys that a policy names. They come from the repository: one that leads out of it, is no regular file, or
//! holds anything but one public key is refused.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bulla::recipient::ListedRecipient;
use zeroize::Zeroizing;

use super::{Pinned, Policy};
use crate::failure::{self, Failure, Result, shown};
use crate::files;

/// Bytes that a pin may have: a hybrid recipient has 1,959.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a file of a repository is not read.
pub enum Refused {
    Io(std::io::Error),
    /// A link leads out.
    Outside,
    NotRegular,
    TooLarge(u64),
    /// Of another user: who it is.
    Owner(u32),
}

/// Reads a file below `root`, which must be a regular one, really there, of an owner that can be trusted. A pipe is not waited
/// for.
pub fn read_below(root: &Path, path: &Path, max: u64) -> std::result::Result<Zeroizing<Vec<u8>>, Refused> {
    let real = std::fs::canonicalize(path).map_err(Refused::Io)?;
    if !real.starts_with(root) {
        return Err(Refused::Outside);
    }
    let look = |metadata: &std::fs::Metadata| -> std::result::Result<(), Refused> {
        if !metadata.is_file() {
            return Err(Refused::NotRegular);
        }
        if metadata.len() > max {
            return Err(Refused::TooLarge(metadata.len()));
        }
        Ok(())
    };
    look(&std::fs::metadata(&real).map_err(Refused::Io)?)?;
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(nonblocking).open(&real).map_err(Refused::Io)?;
    let metadata = file.metadata().map_err(Refused::Io)?;
    look(&metadata)?;
    let owner = metadata.uid();
    let own = rustix::process::geteuid().as_raw();
    let of_root = std::fs::metadata(root).map_err(Refused::Io)?.uid();
    if owner != own && owner != 0 && owner != of_root {
        return Err(Refused::Owner(owner));
    }
    let len = usize::try_from(metadata.len()).unwrap_or_default();
    files::read_all(std::io::Read::take(file, max + 1), len).map_err(Refused::Io)
}

/// A pin's file, how it is called, and its bytes.
pub fn read(policy: &Policy, pinned: &Pinned) -> Result<(String, Zeroizing<Vec<u8>>)> {
    let path = policy.root.join(&pinned.file.value);
    let (name, file) = (&pinned.name.value, &pinned.file.value);
    let fail = |message: String| policy.fail(pinned.file.span, message);
    if let Some(index) = &policy.index {
        return match index.get(file) {
            Some(bytes) if bytes.len() as u64 <= MAX_BYTES => Ok((shown(Path::new(file)), bytes.clone())),
            Some(bytes) => Err(fail(format!(
                "the recipient {name}: {file} has {} bytes; a file with one public key has at most {MAX_BYTES}",
                bytes.len()
            ))),
            None => Err(fail(format!("the recipient {name}: {file} is not staged, nor committed"))
                .help(format!("git add {file}"))),
        };
    }
    let bytes = read_below(&policy.root, &path, MAX_BYTES).map_err(|refused| match refused {
        Refused::Io(error) => {
            let io = failure::io("read", Path::new(file), &error);
            fail(format!("the recipient {name}: {}", io.message)).exit(io.exit)
        }
        Refused::Outside => fail(format!("the recipient {name}: {file} is a link that leads out of the repository")),
        Refused::NotRegular => fail(format!("the recipient {name}: {file} is no regular file")),
        Refused::TooLarge(size) => fail(format!(
            "the recipient {name}: {file} has {size} bytes; a file with one public key has at most {MAX_BYTES}"
        )),
        Refused::Owner(owner) => {
            fail(format!("the recipient {name}: {file} belongs to another user ({owner}), and is not trusted"))
        }
    })?;
    Ok((shown(Path::new(file)), bytes))
}

/// The one public key of a pin.
pub fn parse(file: &str, bytes: &[u8]) -> Result<ListedRecipient> {
    let mut listed = crate::recipients::listed(file, bytes)?;
    match (listed.pop(), listed.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Failure::new(format!("{file} holds {} recipients; a pin is one", listed.len() + 1))
            .in_file(file)
            .help("one file for each, and a name for each under recipients")),
    }
}
