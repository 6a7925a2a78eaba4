//! What is staged, and what was ever committed: blobs, never the working tree.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Outcome;
use super::cx::GeneratorFile;
use super::scan::File;
use super::walk::{self, Exclude};
use super::words::Words;
use crate::failure::{Failure, Result, printable};
use crate::git::{Blob, Blobs, Mode, Oid, Repo};
use crate::policy::{NAME, Policy};

/// The index of a repository, and a process that reads it.
pub struct Staged {
    repo: Repo,
    blobs: Blobs,
}

impl Staged {
    pub fn open(at: &Path) -> Result<Self> {
        let repo = Repo::at(at)?;
        let blobs = repo.blobs()?;
        Ok(Self { repo, blobs })
    }

    /// The policy as it is staged, with the files that it names.
    pub fn policy(&mut self) -> Result<Option<Policy>> {
        let Blob::Bytes(bytes) = self.blobs.staged(NAME)? else { return Ok(None) };
        let root = self.repo.root()?;
        let mut policy = crate::policy::read(NAME, root, &bytes)?;
        let mut index = BTreeMap::new();
        for file in policy.files() {
            if let Blob::Bytes(bytes) = self.blobs.staged(file)? {
                index.insert(file.to_owned(), bytes);
            }
        }
        policy.index = Some(index);
        Ok(Some(policy))
    }
}

/// What is about to be committed.
pub fn staged(words: &Words, index: &mut Staged, paths: &[PathBuf], exclude: &Exclude<'_>) -> Result<Outcome> {
    let Staged { repo, blobs } = index;
    let mut outcome = Outcome::default();
    let mut references: Vec<(PathBuf, GeneratorFile)> = Vec::new();
    let mut staged: HashMap<PathBuf, Oid> = HashMap::new();
    for change in repo.staged(paths)? {
        let Some(side) = change.new else { continue };
        if side.mode != Mode::File {
            continue;
        }
        let Some(oid) = side.oid else { continue };
        if exclude(&side.path) {
            outcome.excluded += 1;
            continue;
        }
        let name = printable(&side.path.display().to_string());
        match blobs.get(&oid)? {
            Blob::Bytes(bytes) => {
                if let Some(report) =
                    words.scan(&File { name: &name, bytes: &bytes, generator: None, continued: false })
                {
                    references.extend(report.generated_from.iter().map(|one| (side.path.clone(), one.clone())));
                    outcome.add(&name, report);
                }
            }
            Blob::TooLarge(bytes) => outcome.add(&name, walk::refused(&name, &format!("it has {bytes} bytes"))),
            Blob::Missing => outcome.add(&name, walk::refused(&name, "its content is not in this clone")),
        }
        staged.insert(side.path, oid);
    }
    for (from, reference) in references {
        let path = walk::normal(&from.parent().unwrap_or(Path::new("")).join(&reference.path));
        let Some(oid) = staged.get(&path) else { continue };
        if let Blob::Bytes(bytes) = blobs.get(oid)? {
            walk::replace(words, &printable(&path.display().to_string()), &bytes, reference.taken, &mut outcome);
        }
    }
    Ok(outcome)
}

/// A content that was committed: where, and in which commits it came.
struct Committed {
    oid: Oid,
    path: PathBuf,
    commits: Vec<u32>,
}

/// All that was committed in a range (`A..B`, a revision), or at all.
pub fn history(words: &Words, range: Option<&str>, exclude: &Exclude<'_>) -> Result<Outcome> {
    let repo = Repo::at(Path::new("."))?;
    let (commits, contents) = contents(&repo, range)?;
    let next = AtomicUsize::new(0);
    let all = Mutex::new((Outcome::default(), None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Outcome::default();
                let done = part(words, &repo, &contents, &commits, &next, exclude, &mut own);
                let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.0.merge(own);
                if let Err(failure) = done {
                    all.1.get_or_insert(failure);
                }
            });
        }
    });
    let (mut outcome, failed) = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(failure) = failed {
        return Err(failure);
    }
    outcome.commits = Some(commits.len());
    outcome.shallow = repo.is_shallow();
    // What is the same in many versions of a file is told once, with all commits.
    outcome.allows.clear();
    outcome.plain.clear();
    outcome.sealed.clear();
    let order: HashMap<&str, usize> = commits.iter().enumerate().map(|(at, commit)| (commit.as_str(), at)).collect();
    let mut grouped: HashMap<Vec<String>, usize> = HashMap::new();
    let mut kept: Vec<super::finding::Finding> = Vec::new();
    outcome
        .findings
        .sort_by_key(|finding| finding.commits.first().and_then(|commit| order.get(commit.as_str()).copied()));
    for finding in outcome.findings.drain(..) {
        match grouped.get(&finding.fingerprints()) {
            Some(at) => {
                let commits = &mut kept[*at].commits;
                commits.extend(finding.commits);
                commits.sort_by_key(|commit| order.get(commit.as_str()));
                commits.dedup();
            }
            None => {
                grouped.insert(finding.fingerprints(), kept.len());
                kept.push(finding);
            }
        }
    }
    outcome.findings = kept;
    Ok(outcome)
}

fn part(
    words: &Words,
    repo: &Repo,
    contents: &[Committed],
    commits: &[String],
    next: &AtomicUsize,
    exclude: &Exclude<'_>,
    own: &mut Outcome,
) -> Result<()> {
    const AT_ONCE: usize = 64;
    let mut blobs = repo.blobs()?;
    loop {
        let start = next.fetch_add(AT_ONCE, Ordering::Relaxed);
        let Some(some) = contents.get(start..contents.len().min(start + AT_ONCE)).filter(|some| !some.is_empty())
        else {
            return Ok(());
        };
        for content in some {
            if exclude(&content.path) {
                own.excluded += 1;
                continue;
            }
            let name = printable(&content.path.display().to_string());
            let report = match blobs.get(&content.oid)? {
                Blob::Bytes(bytes) => {
                    words.scan(&File { name: &name, bytes: &bytes, generator: None, continued: false })
                }
                Blob::TooLarge(bytes) => Some(walk::refused(&name, &format!("it has {bytes} bytes"))),
                Blob::Missing => Some(walk::refused(&name, "its content is not in this clone")),
            };
            let Some(mut report) = report else { continue };
            // What a sealed file was once is not a matter of now; what it is excused by neither.
            report.findings.retain(|finding| finding.rule.id < "BUL1" && finding.rule.id != "BUL013");
            report.findings.retain(|finding| {
                !report.allows.iter().any(|allow| super::excuse::covers(allow, finding) && !allow.reason.is_empty())
            });
            for finding in &mut report.findings {
                finding.commits = content.commits.iter().filter_map(|at| commits.get(*at as usize).cloned()).collect();
            }
            own.add(&name, report);
        }
    }
}

/// The commits of a range, the oldest last, and each content that came with one of them.
fn contents(repo: &Repo, range: Option<&str>) -> Result<(Vec<String>, Vec<Committed>)> {
    let mut command = repo.command();
    command.args([
        "log",
        "--format=%x01%H",
        "-z",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "-m",
        "--root",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--no-show-signature",
        "--diff-filter=AMT",
    ]);
    match range {
        None => _ = command.arg("--all"),
        Some(range) => {
            for revision in revisions(repo, range)? {
                command.arg(revision);
            }
        }
    }
    command.arg("--").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |what: &str| Failure::new(format!("git log failed: {what}"));
    let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("it can't be talked to"))?;
    let mut reader = BufReader::with_capacity(256 * 1024, stdout);
    let mut commits: Vec<String> = Vec::new();
    let mut seen: HashMap<(Oid, Vec<u8>), usize> = HashMap::new();
    let mut found: Vec<Committed> = Vec::new();
    let mut field = Vec::new();
    let mut pending: Option<Oid> = None;
    loop {
        field.clear();
        if reader.read_until(0, &mut field).map_err(|error| failed(&error.to_string()))? == 0 {
            break;
        }
        if field.last() == Some(&0) {
            field.pop();
        }
        if let Some(oid) = pending.take() {
            let commit = u32::try_from(commits.len().saturating_sub(1)).unwrap_or(u32::MAX);
            match seen.get(&(oid.clone(), field.clone())) {
                Some(at) => {
                    let known = &mut found[*at].commits;
                    if known.last() != Some(&commit) && known.len() < 1000 {
                        known.push(commit);
                    }
                }
                None => {
                    seen.insert((oid.clone(), field.clone()), found.len());
                    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&field));
                    found.push(Committed { oid, path, commits: vec![commit] });
                }
            }
            continue;
        }
        // `\x01HASH`, an empty field, `\n:100644 100644 OLD NEW M`
        let text = String::from_utf8_lossy(&field);
        let text = text.trim_start_matches('\n');
        let mut rest = text;
        if let Some(head) = rest.strip_prefix('\u{1}') {
            let end = head.find('\n').unwrap_or(head.len());
            commits.push(head[..end].to_owned());
            rest = head[end..].trim_start_matches('\n');
        }
        if let Some(raw) = rest.strip_prefix(':') {
            let words: Vec<&str> = raw.split(' ').collect();
            if let [_, mode, _, new, _] = words.as_slice() {
                let is_file = mode.starts_with("100");
                match Oid::parse(new) {
                    Some(oid) if is_file => pending = Some(oid),
                    _ => {
                        // Its path follows.
                        field.clear();
                        reader.read_until(0, &mut field).map_err(|error| failed(&error.to_string()))?;
                    }
                }
            }
        }
    }
    let status = child.wait().map_err(|error| failed(&error.to_string()))?;
    if !status.success() && !commits.is_empty() {
        return Err(failed("it ended early"));
    }
    // The same content under several paths is judged by each: names decide what a file is.
    found.sort_by(|a, b| a.oid.cmp(&b.oid));
    Ok((commits, found))
}

/// What git is told for a range. Both ends are resolved first: nothing of it can be an option.
fn revisions(repo: &Repo, range: &str) -> Result<Vec<String>> {
    let end = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
    if let Some((a, b)) = range.split_once("...") {
        let (a, b) = (repo.resolve(&end(a))?, repo.resolve(&end(b))?);
        let base = repo.merge_base(&a, &b)?;
        return Ok(vec![format!("^{}", base.as_str()), a.as_str().to_owned(), b.as_str().to_owned()]);
    }
    if let Some((a, b)) = range.split_once("..") {
        let (a, b) = (repo.resolve(&end(a))?, repo.resolve(&end(b))?);
        return Ok(vec![format!("^{}", a.as_str()), b.as_str().to_owned()]);
    }
    Ok(vec![repo.resolve(range)?.as_str().to_owned()])
}
