//! Many files at once.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::failure::{self, Result};

/// A file to look at.
pub struct Found {
    pub path: PathBuf,
    /// Whether somebody named it, rather than a directory above it.
    pub named: bool,
}

/// The files named, and below the directories named all `.yaml`, `.yml` and `.json`. `.git` is left out, and links are not
/// followed: what they point to is found where it is, or is outside.
pub fn files(paths: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| failure::io("read", path, &error))?;
        if metadata.is_dir() {
            walk(path, &mut found)?;
        } else {
            found.push(Found { path: path.clone(), named: true });
        }
    }
    // A file that was named twice, or that is below two of the paths, is one file.
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|file| seen.insert(std::fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone())));
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<Found>) -> Result<()> {
    let fail = |error: std::io::Error| failure::io("read", directory, &error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        entries.push(entry.map_err(fail)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(fail)?;
        let path = if directory.as_os_str() == "." { PathBuf::from(entry.file_name()) } else { entry.path() };
        if kind.is_dir() {
            if entry.file_name() != ".git" {
                walk(&path, found)?;
            }
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            found.push(Found { path, named: false });
        }
    }
    Ok(())
}

/// Whether a text occurs in bytes of any encoding that manifests have. Cheaper than reading the manifest.
pub fn mentions(bytes: &[u8], text: &str) -> bool {
    let finder = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    utf16 || finder(text.as_bytes())
}

/// Does something with each, on all cores; the results are in the order of `items`.
pub fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    spread(items, cores(), work)
}

/// The same where each is written to the disk: while one waits for it, another computes.
pub fn parallel_writing<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    spread(items, cores() * 2, work)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn spread<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads < 2 || items.len() < 8 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Vec::new();
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    own.push((index, work(item)));
                }
                done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(&mut own);
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
