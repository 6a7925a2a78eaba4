//! The `git` program, asked by its plumbing commands. No shell, every name as bytes between NULs, no revision or path that
//! git could take for an option.
//!
//! The variables `GIT_*` that a hook gets count: in one of them `git commit FILE` names the index that is going to be
//! committed, which is not the repository's own.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bulla::manifest::MAX_TEXT;
use zeroize::Zeroizing;

use crate::failure::{Failure, Result, printable, shown};

/// Variables that name a place, and may do so relative to the folder in which this program was started.
const PLACES: [&str; 5] = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"];

/// A repository, seen from a folder in it.
#[derive(Clone, Debug)]
pub struct Repo {
    /// Where git runs; `None` is this program's own folder.
    dir: Option<PathBuf>,
    root: Option<PathBuf>,
    shallow: bool,
}

/// The name of an object: 40 or 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(String);

impl Oid {
    /// Takes the digits.
    pub fn parse(text: &str) -> Option<Self> {
        (matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_null(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }
}

/// Of what kind an entry of a tree or index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A file.
    File,
    /// A symbolic link; its blob is where it points to.
    Link,
    /// A submodule.
    Submodule,
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "000000" => None,
            "120000" => Some(Self::Link),
            "160000" => Some(Self::Submodule),
            _ => Some(Self::File),
        }
    }
}

/// One side of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Relative to the root.
    pub path: PathBuf,
    /// Of what kind it is.
    pub mode: Mode,
    /// Its blob; `None` when it stands in the working tree only.
    pub oid: Option<Oid>,
}

/// A path that differs between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it was; `None` when it is new.
    pub old: Option<Side>,
    /// As it is; `None` when it is gone.
    pub new: Option<Side>,
    /// Whether the index holds several versions, because a merge is not settled.
    pub unmerged: bool,
}

impl Change {
    /// The path that it has, or had.
    pub fn path(&self) -> &Path {
        self.new.as_ref().or(self.old.as_ref()).map_or(Path::new(""), |side| &side.path)
    }
}

/// Two states to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Between {
    /// The index and the working tree.
    IndexAndWork,
    /// A tree and the working tree.
    TreeAndWork(Oid),
    /// A tree and the index; without one, nothing and the index.
    TreeAndIndex(Option<Oid>),
    /// Two trees.
    Trees(Oid, Oid),
}

/// An entry of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root.
    pub path: PathBuf,
    /// Of what kind it is.
    pub mode: Mode,
    /// Its blob.
    pub oid: Oid,
    /// 0; in a merge that is not settled 1 (base), 2 (ours), 3 (theirs).
    pub stage: u8,
}

impl Repo {
    /// The repository of a file or folder, which must be in one.
    pub fn at(path: &Path) -> Result<Self> {
        Self::find(path)?.ok_or_else(|| {
            Failure::new(format!("{} is in no Git repository", shown(path)))
                .help("run this in a clone of the repository")
        })
    }

    /// The repository of a file or folder, if it is in one. What is not there yet counts as being in the folder above.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        // Where the environment says which repository is meant, it counts for any path.
        let dir = if std::env::var_os("GIT_DIR").is_some() { None } else { Some(folder_of(path)) };
        let mut repo = Self { dir, root: None, shallow: false };
        // One question: a bare repository answers its first part, and fails at the last.
        let output = repo.raw(&["rev-parse", "--is-inside-work-tree", "--is-shallow-repository", "--show-toplevel"])?;
        let mut lines = output.stdout.splitn(3, |b| *b == b'\n');
        let inside = matches!(lines.next(), Some(b"true"));
        let known = lines.next();
        if !output.status.success() && (inside || !matches!(known, Some(b"true" | b"false"))) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return if said.contains("not a git repository") { Ok(None) } else { Err(failed("rev-parse", &said)) };
        }
        repo.shallow = matches!(known, Some(b"true"));
        if inside {
            repo.root = lines.next().map(|path| one_path(path.to_vec()));
        }
        Ok(Some(repo))
    }

    /// The root of the working tree. A bare repository has none.
    pub fn root(&self) -> Result<&Path> {
        self.root.as_deref().ok_or_else(|| {
            Failure::new("this is a bare Git repository, or the inside of one: there is no working tree")
                .help("run this in a clone or worktree")
        })
    }

    /// Whether the history was cut off.
    pub const fn is_shallow(&self) -> bool {
        self.shallow
    }

    /// A path of the repository's own folder: `hooks`, `info/attributes`; as git resolves it, worktrees and
    /// `core.hooksPath` included.
    pub fn own_path(&self, name: &str) -> Result<PathBuf> {
        let path = one_path(self.run(&["rev-parse", "--git-path", name])?);
        if path.is_absolute() {
            return Ok(path);
        }
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_dir().unwrap_or_default(),
        };
        Ok(dir.join(path))
    }

    /// Runs git with these arguments and returns what it prints.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Vec<u8>> {
        let output = self.raw(args)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let name = args.first().map(|a| a.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
        Err(failed(&name, &String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs git with these arguments; how it ended is the caller's.
    pub fn raw<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<std::process::Output> {
        self.command().args(args).stdin(Stdio::null()).output().map_err(|error| no_git(&error))
    }

    /// The git program with what makes it quiet and predictable, before its command.
    pub fn command(&self) -> Command {
        let mut command = Command::new("git");
        // A file system monitor is a program that the repository's configuration names.
        command.args(["--no-pager", "--no-optional-locks", "--literal-pathspecs", "-c", "core.fsmonitor=false"]);
        command.env("LC_ALL", "C").env("LANGUAGE", "").env("GIT_TERMINAL_PROMPT", "0");
        command.env_remove("GIT_EXTERNAL_DIFF").env_remove("GIT_GLOB_PATHSPECS").env_remove("GIT_NOGLOB_PATHSPECS");
        command.env_remove("GIT_ICASE_PATHSPECS");
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
            if let Ok(here) = std::env::current_dir() {
                for name in PLACES {
                    if let Some(value) = std::env::var_os(name)
                        && Path::new(&value).is_relative()
                        && here.join(&value).exists()
                    {
                        command.env(name, here.join(value));
                    }
                }
            }
        }
        command
    }

    /// The tree or commit that a revision names.
    pub fn resolve(&self, revision: &str) -> Result<Oid> {
        self.try_resolve(revision)?.ok_or_else(|| {
            let mut failure = Failure::missing(format!("there is no revision {} here", printable(revision)));
            if self.shallow {
                failure =
                    failure.help("this clone is shallow: git fetch --unshallow, or fetch-depth: 0 in the checkout");
            }
            failure
        })
    }

    /// The tree or commit that a revision names, if there is one.
    pub fn try_resolve(&self, revision: &str) -> Result<Option<Oid>> {
        if revision.contains(['\0', '\n']) {
            return Ok(None);
        }
        let revision = format!("{revision}^{{}}");
        let output = self.raw(&["rev-parse", "--verify", "--quiet", "--end-of-options", &revision])?;
        Ok(output.status.success().then(|| oid_of(&output.stdout)).flatten())
    }

    /// The last commit, if there is one.
    pub fn head(&self) -> Result<Option<Oid>> {
        self.try_resolve("HEAD")
    }

    /// Where two commits parted.
    pub fn merge_base(&self, a: &Oid, b: &Oid) -> Result<Oid> {
        let output = self.raw(&["merge-base", a.as_str(), b.as_str()])?;
        let found = if output.status.success() { oid_of(&output.stdout) } else { None };
        found.ok_or_else(|| {
            let failure = Failure::new("the two revisions have no common ancestor here");
            if self.shallow {
                failure.help("this clone is shallow: git fetch --unshallow, or fetch-depth: 0 in the checkout")
            } else {
                failure.help("compare them directly: A..B")
            }
        })
    }

    /// What differs between two states, renames found, in the order of paths. `paths` are files and folders as they were
    /// given, relative to the folder of this program; none means all.
    pub fn changes(&self, between: &Between, paths: &[PathBuf]) -> Result<Vec<Change>> {
        let common =
            ["--raw", "-z", "--no-abbrev", "-M", "--no-ext-diff", "--no-textconv", "--no-relative", "--no-color"];
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        match between {
            Between::IndexAndWork => push(&["diff-files"]),
            Between::TreeAndWork(_) => push(&["diff-index"]),
            Between::TreeAndIndex(_) => push(&["diff-index", "--cached"]),
            Between::Trees(..) => push(&["diff-tree", "-r"]),
        }
        push(&common);
        match between {
            Between::IndexAndWork => {}
            Between::TreeAndWork(tree) | Between::TreeAndIndex(Some(tree)) => push(&[tree.as_str()]),
            Between::TreeAndIndex(None) => push(&[self.empty_tree()?.as_str()]),
            Between::Trees(a, b) => push(&[a.as_str(), b.as_str()]),
        }
        args.push("--".into());
        for path in paths {
            args.push(self.argument(path)?);
        }
        let mut changes = parse_raw(&self.run(&args)?).ok_or_else(|| failed("diff", "its output can't be read"))?;
        // Of an unsettled merge each path is told twice.
        let unmerged: BTreeSet<PathBuf> = changes.iter().filter(|c| c.unmerged).map(|c| c.path().to_owned()).collect();
        changes.retain(|c| c.unmerged || !unmerged.contains(c.path()));
        changes.sort_by(|a, b| a.path().cmp(b.path()));
        Ok(changes)
    }

    /// What is going to be committed.
    pub fn staged(&self, paths: &[PathBuf]) -> Result<Vec<Change>> {
        self.changes(&Between::TreeAndIndex(self.head()?), paths)
    }

    /// What the index holds.
    pub fn tracked(&self, paths: &[PathBuf]) -> Result<Vec<Entry>> {
        let mut args: Vec<OsString> = ["ls-files", "--stage", "-z", "--full-name", "--"].map(OsString::from).into();
        if paths.is_empty() && self.root.is_some() {
            args.push(self.argument(self.root()?)?);
        }
        for path in paths {
            args.push(self.argument(path)?);
        }
        parse_stage(&self.run(&args)?).ok_or_else(|| failed("ls-files", "its output can't be read"))
    }

    /// The name of the tree with nothing in it.
    fn empty_tree(&self) -> Result<Oid> {
        let output = self.run(&["hash-object", "-t", "tree", "--stdin"])?;
        oid_of(&output).ok_or_else(|| failed("hash-object", "its output can't be read"))
    }

    /// A path as an argument after `--`: absolute, because git may run elsewhere than this program.
    fn argument(&self, path: &Path) -> Result<OsString> {
        let absolute = std::path::absolute(path).map_err(|error| crate::failure::io("find", path, &error))?;
        // Git compares with its own, resolved, root. The last part may be a link that is tracked itself.
        let resolved = match (absolute.parent().map(std::fs::canonicalize), absolute.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => absolute,
        };
        Ok(resolved.into_os_string())
    }

    /// Reads blobs, all through one process.
    pub fn blobs(&self) -> Result<Blobs> {
        let mut child = self
            .command()
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| no_git(&error))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Blobs { child, stdin: Some(stdin), stdout: BufReader::new(stdout) }),
            _ => Err(failed("cat-file", "it can't be talked to")),
        }
    }
}

/// What a blob holds.
#[derive(Debug)]
pub enum Blob {
    /// Its bytes, which may hold values.
    Bytes(Zeroizing<Vec<u8>>),
    /// More than a manifest may have: so many bytes.
    TooLarge(u64),
    /// It is not here: the clone is partial, or damaged.
    Missing,
}

/// A process that reads blobs, one after the other.
pub struct Blobs {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Blobs {
    /// Reads one. What is no blob is [`Blob::Missing`].
    pub fn get(&mut self, oid: &Oid) -> Result<Blob> {
        self.read(oid.as_str()).map_err(|error| failed("cat-file", &error.to_string()))
    }

    /// Reads a file of the index, by its path from the root.
    pub fn staged(&mut self, path: &str) -> Result<Blob> {
        // It would be two questions.
        if path.contains(['\n', '\0']) {
            return Ok(Blob::Missing);
        }
        self.read(&format!(":0:{path}")).map_err(|error| failed("cat-file", &error.to_string()))
    }

    fn read(&mut self, name: &str) -> std::io::Result<Blob> {
        let broken = || std::io::Error::other("its answer can't be read");
        let stdin = self.stdin.as_mut().ok_or_else(broken)?;
        stdin.write_all(format!("{name}\n").as_bytes())?;
        stdin.flush()?;
        let mut head = Vec::new();
        (&mut self.stdout).take(4096).read_until(b'\n', &mut head)?;
        let head = String::from_utf8(head).map_err(|_| broken())?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let (kind, size) = match words.as_slice() {
            [_, kind, size] => (*kind, size.parse::<u64>().map_err(|_| broken())?),
            [.., "missing" | "ambiguous"] => return Ok(Blob::Missing),
            _ => return Err(broken()),
        };
        let wanted = kind == "blob" && size <= MAX_TEXT as u64;
        let mut bytes = Zeroizing::new(Vec::new());
        if wanted {
            *bytes = vec![0; usize::try_from(size).map_err(|_| broken())?];
            self.stdout.read_exact(&mut bytes)?;
        } else {
            std::io::copy(&mut (&mut self.stdout).take(size), &mut std::io::sink())?;
        }
        let mut end = [0];
        self.stdout.read_exact(&mut end)?;
        if end != *b"\n" {
            return Err(broken());
        }
        Ok(match (wanted, kind) {
            (true, _) => Blob::Bytes(bytes),
            (false, "blob") => Blob::TooLarge(size),
            (false, _) => Blob::Missing,
        })
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.stdin = None;
        _ = self.child.wait();
    }
}

fn folder_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn one_path(mut bytes: Vec<u8>) -> PathBuf {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    OsString::from_vec(bytes).into()
}

fn oid_of(bytes: &[u8]) -> Option<Oid> {
    Oid::parse(std::str::from_utf8(bytes).ok()?.trim_end())
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

/// The fields of output that ends each with a NUL.
fn fields(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(b"\0").into_iter().flat_map(|bytes| bytes.split(|b| *b == 0))
}

/// `:100644 100644 OLD NEW M` NUL path NUL, and for renames another path NUL.
fn parse_raw(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut fields = fields(bytes);
    let mut changes = Vec::new();
    while let Some(head) = fields.next() {
        // diff-tree of a single commit says its name first.
        let head = std::str::from_utf8(head).ok()?.strip_prefix(':')?;
        let words: Vec<&str> = head.split(' ').collect();
        let [old_mode, new_mode, old, new, status] = words.as_slice() else { return None };
        let old_path = path_of(fields.next()?);
        let new_path = if status.starts_with(['R', 'C']) { path_of(fields.next()?) } else { old_path.clone() };
        let side = |mode: &str, oid: &str, path: PathBuf| {
            let oid = Oid::parse(oid)?;
            Some(Mode::parse(mode).map(|mode| Side { path, mode, oid: (!oid.is_null()).then_some(oid) }))
        };
        let new = side(new_mode, new, new_path.clone())?;
        let old = side(old_mode, old, old_path)?;
        let unmerged = status.starts_with('U');
        if unmerged && old.is_none() && new.is_none() {
            let side = Side { path: new_path, mode: Mode::File, oid: None };
            changes.push(Change { old: None, new: Some(side), unmerged });
            continue;
        }
        changes.push(Change { old, new, unmerged });
    }
    Some(changes)
}

/// `100644 OID 0` TAB path NUL.
fn parse_stage(bytes: &[u8]) -> Option<Vec<Entry>> {
    fields(bytes)
        .map(|field| {
            let tab = field.iter().position(|b| *b == b'\t')?;
            let words: Vec<&str> = std::str::from_utf8(&field[..tab]).ok()?.split(' ').collect();
            let [mode, oid, stage] = words.as_slice() else { return None };
            Some(Entry {
                path: path_of(&field[tab + 1..]),
                mode: Mode::parse(mode)?,
                oid: Oid::parse(oid)?,
                stage: stage.parse().ok()?,
            })
        })
        .collect()
}

fn no_git(error: &std::io::Error) -> Box<Failure> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Failure::new("the program git is not there").help("install git, or put it on PATH")
    } else {
        Failure::new(format!("git can't be run: {error}"))
    }
}

fn failed(command: &str, said: &str) -> Box<Failure> {
    let mut failure = Failure::new(format!("git {command} failed"));
    for line in said.lines().filter(|line| !line.trim().is_empty()).take(20) {
        failure = failure.detail(printable(line));
    }
    failure
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const O: &str = "0000000000000000000000000000000000000000";

    #[test]
    fn names_are_bytes() {
        let text = format!(
            ":100644 100644 {A} {O} M\0a\nb\t\x1b[31m\0:100644 100755 {A} {A} R090\0-old\0--new\0:000000 120000 {O} {A} A\0\u{e4}\0"
        );
        let changes = parse_raw(text.as_bytes()).unwrap();
        assert_eq!(changes.len(), 3);
        assert_eq!(changes[0].path(), Path::new("a\nb\t\x1b[31m"));
        assert_eq!(changes[0].new.as_ref().unwrap().oid, None);
        assert_eq!(changes[1].old.as_ref().unwrap().path, Path::new("-old"));
        assert_eq!(changes[1].path(), Path::new("--new"));
        assert_eq!((&changes[2].old, changes[2].new.as_ref().unwrap().mode), (&None, Mode::Link));
        assert_eq!(parse_raw(b"").unwrap(), []);
        assert_eq!(parse_raw(b"nonsense\0"), None);
        assert_eq!(parse_raw(format!(":100644 100644 {A} {O} R100\0one").as_bytes()), Some(vec![]));
        assert_eq!(parse_raw(format!(":100644 100644 {A} {O} R100\0one\0").as_bytes()), None);
    }

    #[test]
    fn stages_are_told() {
        let entries = parse_stage(format!("100644 {A} 2\tx\ty\0").as_bytes()).unwrap();
        assert_eq!((entries[0].stage, entries[0].path.as_path()), (2, Path::new("x\ty")));
        assert_eq!(parse_stage(b"100644 aa 2\tx\0"), None);
    }
}
