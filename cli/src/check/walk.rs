//! Files below folders, all cores at once. Links are not followed, sockets and pipes never opened, repositories of their own
//! passed over and said, what `.gitignore` says is not there.

use std::collections::BTreeMap;
use std::fs::File as FsFile;
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use ignore::{WalkBuilder, WalkState};
use memchr::{memchr_iter, memmem, memrchr};
use zeroize::Zeroizing;

use super::Outcome;
use super::cx::{Cx, GeneratorFile, Report, Taken};
use super::lines::Lines;
use super::rules;
use super::scan::{self, File, MAX_WHOLE, Sort};
use super::words::Words;
use crate::failure::{self, Result, shown};

/// Bytes of a large file that are looked at at once, and how far two such parts overlap.
const PART: usize = 4 * 1024 * 1024;
const OVERLAP: usize = 64 * 1024;

/// So many files that somebody named, as a hook does, are looked at before threads would have started.
const FEW: usize = 8;

/// Whether a path is left out.
pub type Exclude<'a> = dyn Fn(&Path) -> bool + Sync + 'a;

/// What one thread has found; it goes to all others' when the thread ends.
struct Local<'a> {
    own: Outcome,
    references: Vec<(PathBuf, GeneratorFile)>,
    buffer: Zeroizing<Vec<u8>>,
    all: &'a Mutex<Found>,
}

/// What was found, and what is read by generators and where they are.
type Found = (Outcome, Vec<(PathBuf, GeneratorFile)>);

impl<'a> Local<'a> {
    fn new(all: &'a Mutex<Found>) -> Self {
        Self { own: Outcome::default(), references: Vec::new(), buffer: Zeroizing::new(Vec::new()), all }
    }
}

impl Drop for Local<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.0.merge(std::mem::take(&mut self.own));
        all.1.append(&mut self.references);
    }
}

/// Looks at everything below these paths.
pub fn paths(words: &Words, paths: &[PathBuf], exclude: &Exclude<'_>) -> Result<Outcome> {
    let mut files = true;
    for path in paths {
        files &= std::fs::metadata(path).map_err(|error| failure::io("read", path, &error))?.is_file();
    }
    let all = Mutex::new((Outcome::default(), Vec::new()));
    let Some((first, others)) = paths.split_first() else { return Ok(Outcome::default()) };
    if files && paths.len() <= FEW {
        let mut local = Local::new(&all);
        paths.iter().for_each(|path| file(words, path, exclude, &mut local));
        drop(local);
        return Ok(whole(words, all, exclude));
    }
    let mut builder = WalkBuilder::new(first);
    others.iter().for_each(|path| _ = builder.add(path));
    builder
        .hidden(false)
        .ignore(false)
        .git_global(false)
        .parents(true)
        .follow_links(false)
        .threads(std::thread::available_parallelism().map_or(1, usize::from));
    builder.filter_entry(|entry| entry.file_name() != ".git");
    let roots: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    builder.build_parallel().run(|| {
        let mut local = Local::new(&all);
        let roots = &roots;
        Box::new(move |entry| {
            let Ok(entry) = entry else { return WalkState::Continue };
            let path = entry.path();
            let kind = entry.file_type();
            if kind.is_some_and(|kind| kind.is_dir()) {
                if entry.depth() > 0 && path.join(".git").symlink_metadata().is_ok() {
                    local.own.submodules.push(name_of(path));
                    return WalkState::Skip;
                }
                if entry.depth() > 0 && exclude(path) {
                    return WalkState::Skip;
                }
                return WalkState::Continue;
            }
            // A link that somebody named is meant; others' targets are found where they are, or are outside.
            let is_file = kind.is_some_and(|kind| kind.is_file())
                || (entry.depth() == 0 && roots.contains(&path) && std::fs::metadata(path).is_ok_and(|m| m.is_file()));
            if !is_file {
                return WalkState::Continue;
            }
            file(words, path, exclude, &mut local);
            WalkState::Continue
        })
    });
    Ok(whole(words, all, exclude))
}

/// What all have found, with the files that generators read.
fn whole(words: &Words, all: Mutex<Found>, exclude: &Exclude<'_>) -> Outcome {
    let (mut outcome, references) = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    generated(words, references, &mut outcome, exclude);
    outcome
}

/// How a path is shown: without the `./` that a walk from here puts before it.
pub fn name_of(path: &Path) -> String {
    failure::printable(&shown(path.strip_prefix("./").unwrap_or(path)))
}

fn file(words: &Words, path: &Path, exclude: &Exclude<'_>, local: &mut Local<'_>) {
    if exclude(path) {
        local.own.excluded += 1;
        return;
    }

    let name = name_of(path);
    match read(words, path, &name, &mut local.buffer) {
        Ok(Some(report)) => {
            for reference in &report.generated_from {
                local.references.push((path.to_owned(), reference.clone()));
            }
            local.own.add(&name, report);
        }
        // Binary.
        Ok(None) => {}
        // It went away meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => local.own.add(&name, refused(&name, &error.to_string())),
    }
}

/// A report that a file could not be read.
pub fn refused(name: &str, why: &str) -> Report {
    let report = std::cell::RefCell::new(Report::default());
    let lines = Lines::new("");
    rules::bul013::refused(&Cx::of(name, &lines, &report), why);
    report.into_inner()
}

fn read(words: &Words, path: &Path, name: &str, buffer: &mut Vec<u8>) -> std::io::Result<Option<Report>> {
    let mut file = FsFile::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > MAX_WHOLE {
        return large(words, file, name);
    }
    let mut len = 0;
    if buffer.len() < size + 1 {
        buffer.resize((size + 1).next_power_of_two().max(64 * 1024), 0);
    }
    loop {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(count) => {
                len += count;
                if len == buffer.len() {
                    if len > MAX_WHOLE {
                        return large(words, FsFile::open(path)?, name);
                    }
                    buffer.resize(len * 2, 0);
                }
                // What is binary shows at its begin.
                if len >= 8192
                    && scan::is_binary(&buffer[..len])
                    && !buffer.starts_with(b"\xff\xfe")
                    && !buffer.starts_with(b"\xfe\xff")
                {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let report = words.scan(&File { name, bytes: &buffer[..len], generator: None, continued: false });
    // No large buffer is kept for the small files that follow.
    if buffer.len() > 1024 * 1024 {
        *buffer = Vec::new();
    }
    Ok(report)
}

/// A file that is not held in memory as a whole: manifests by their documents, all else in parts that overlap.
fn large(words: &Words, mut file: FsFile, name: &str) -> std::io::Result<Option<Report>> {
    let manifests = scan::sort(name) == Sort::Manifest;
    let mut total = Report::default();
    let mut held: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::new());
    let mut part = Zeroizing::new(vec![0; PART]);
    let mut lines = 0;
    let mut first = true;
    loop {
        let count = match file.read(&mut part) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if first && scan::is_binary(&part[..count]) {
            return Ok(None);
        }
        held.extend_from_slice(&part[..count]);
        let last = count == 0;
        let continued = !first;
        first = false;
        let mut look = |bytes: &[u8], lines: usize| {
            if let Some(mut report) = words.scan(&File { name, bytes, generator: None, continued }) {
                for finding in &mut report.findings {
                    finding.span.line += lines;
                    finding.also = finding.also.map(|line| line + lines);
                }
                for allow in &mut report.allows {
                    allow.line += lines;
                }
                total.findings.append(&mut report.findings);
                total.allows.append(&mut report.allows);
                total.plain.append(&mut report.plain);
                total.sealed.append(&mut report.sealed);
                for (_, span, ..) in &mut report.live {
                    span.line += lines;
                }
                total.live.append(&mut report.live);
                for sealed in &mut report.files_sealed {
                    for (span, _) in [&mut sealed.scope_at, &mut sealed.namespace_at, &mut sealed.envelopes_at] {
                        span.line += lines;
                    }
                }
                total.files_sealed.append(&mut report.files_sealed);
                total.templated |= report.templated;
            }
        };
        if last {
            if !held.is_empty() {
                look(&held, lines);
            }
            return Ok(Some(total));
        }
        // Up to the last document that is there as a whole, or the last line.
        let cut = if manifests { memmem::rfind(&held, b"\n---\n").map(|at| at + 1) } else { None };
        let cut = cut.or_else(|| {
            (held.len() > MAX_WHOLE || !manifests).then(|| memrchr(b'\n', &held).map_or(held.len(), |at| at + 1))
        });
        let Some(cut) = cut.filter(|cut| *cut > 0) else { continue };
        look(&held[..cut], lines);
        // What may have begun before the cut is seen again, from the begin of a line if one is near.
        let keep = if manifests { cut } else { cut.saturating_sub(OVERLAP) };
        let near = keep.saturating_sub(OVERLAP);
        let keep = if keep == cut { cut } else { memrchr(b'\n', &held[near..keep]).map_or(keep, |at| near + at + 1) };
        lines += memchr_iter(b'\n', &held[..keep]).count();
        let rest = held.len() - keep;
        held.copy_within(keep.., 0);
        held.truncate(rest);
    }
}

/// `a/../b` as `b`, so that a file has one name however it was reached; what leads out keeps its `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => _ = out.pop(),
            part => out.push(part),
        }
    }
    out
}

/// Files that generators read, where they are in the repository.
fn generated(words: &Words, references: Vec<(PathBuf, GeneratorFile)>, outcome: &mut Outcome, exclude: &Exclude<'_>) {
    let mut seen: BTreeMap<PathBuf, Taken> = BTreeMap::new();
    for (from, reference) in references {
        let path = normal(&from.parent().unwrap_or(Path::new("")).join(&reference.path));
        let taken = seen.entry(path).or_insert(reference.taken);
        *taken = reference.taken.min(*taken);
    }
    for (path, taken) in seen {
        if reference_is_ignored(&path) || exclude(&path) {
            continue;
        }
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if !metadata.is_file() || metadata.len() > MAX_WHOLE as u64 {
            continue;
        }
        let Ok(bytes) = crate::files::read(&path) else { continue };
        let name = name_of(&path);
        replace(words, &name, &bytes, taken, outcome);
    }
}

/// What a generator reads is judged anew: it becomes a Secret or a ConfigMap.
pub fn replace(words: &Words, name: &str, bytes: &[u8], taken: Taken, outcome: &mut Outcome) {
    if let Some(report) = words.scan(&File { name, bytes, generator: Some(taken), continued: false }) {
        outcome.findings.retain(|finding| {
            finding.file != name || !report.findings.iter().any(|new| new.span.line == finding.span.line)
        });
        outcome.findings.extend(report.findings);
    }
}

/// Whether Git ignores a file, so that it is not in the repository.
fn reference_is_ignored(path: &Path) -> bool {
    let Some(parent) = path.parent() else { return false };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let mut walk = WalkBuilder::new(parent);
    walk.hidden(false).ignore(false).git_global(false).max_depth(Some(1));
    !walk.build().flatten().any(|entry| entry.file_name() == path.file_name().unwrap_or_default())
}
