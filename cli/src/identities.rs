//! Which identities open: those named with `-i`, else the one of the environment, else the one in the user's configuration
//! folder.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Result, shown};
use crate::recipients::{self, Held};
use crate::{files, output};

/// The variable that names an identity file.
pub const VARIABLE: &str = "BULLA_IDENTITY_FILE";

/// Reads the identities that are meant. `stdin_is_taken` says that standard input is something else already.
pub fn resolve(named: &[PathBuf], stdin_is_taken: bool) -> Result<Held> {
    if stdin_is_taken && named.iter().any(|path| files::is_stdin(path)) {
        return Err(Failure::usage("standard input can't be both the file and the identity"));
    }
    if !named.is_empty() {
        return read(named);
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if files::is_stdin(&path) {
            return Err(Failure::usage(format!("{VARIABLE}=-: only -i takes an identity from standard input")));
        }
        return read(&[path]).map_err(|failure| failure.detail(format!("named by {VARIABLE}")));
    }
    let Some(path) = own_file() else {
        return Err(none("no home folder to look in"));
    };
    match read(std::slice::from_ref(&path)) {
        Err(failure) if failure.exit == Exit::Missing => Err(none(&format!("{} is not there", shown(&path)))),
        other => other,
    }
}

fn none(own: &str) -> Box<Failure> {
    Failure::new(format!("no identity: no -i, {VARIABLE} is not set, {own}"))
        .exit(Exit::Usage)
        .help("-i FILE names one; bulla keygen makes your own")
}

fn read(paths: &[PathBuf]) -> Result<Held> {
    let held = recipients::identities(paths)?;
    paths.iter().for_each(|path| warn_if_open(path));
    Ok(held)
}

/// A private key that others on this machine can read is said to be so. Pipes and what they hold are their owner's business.
fn warn_if_open(path: &Path) {
    if files::is_stdin(path) {
        return;
    }
    if let Ok(metadata) = std::fs::metadata(path)
        && metadata.is_file()
        && metadata.mode() & 0o044 != 0
    {
        let file = shown(path);
        output::warn(&format!(
            "{file} holds a private key and others may read it (mode {:04o}): chmod 600 {file}",
            metadata.mode() & 0o7777
        ));
    }
}

/// `$XDG_CONFIG_HOME/bulla`, else `~/.config/bulla`. A relative folder of the environment is none.
pub fn own_folder() -> Option<PathBuf> {
    folder(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"))
}

fn folder(config: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute(config).or_else(|| absolute(home).map(|home| home.join(".config")))?;
    Some(config.join("bulla"))
}

/// The identity that `bulla keygen` makes when it is told no other place.
pub fn own_file() -> Option<PathBuf> {
    own_folder().map(|folder| folder.join("identity.txt"))
}

#[cfg(test)]
mod tests {
    use super::folder;

    #[test]
    fn only_an_absolute_folder_counts() {
        let found = |config: Option<&str>, home: Option<&str>| {
            folder(config.map(Into::into), home.map(Into::into)).map(|path| path.display().to_string())
        };
        assert_eq!(found(Some("/c"), Some("/h")).as_deref(), Some("/c/bulla"));
        assert_eq!(found(Some("c"), Some("/h")).as_deref(), Some("/h/.config/bulla"));
        assert_eq!(found(Some(""), Some("/h")).as_deref(), Some("/h/.config/bulla"));
        assert_eq!(found(None, Some("h")), None);
    }
}
