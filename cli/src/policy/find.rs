//! Which policy holds for a file: the one at the root of its repository, and no other.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::pin::{Refused, read_below};
use super::{Policy, Rule, read};
use crate::failure::{self, Failure, Result, shown};
use crate::output;

/// What the policy's file is called.
pub const NAME: &str = ".bulla.yaml";

/// Finds policies, each read once.
pub struct Finder {
    /// `--policy FILE`.
    given: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Folders, links resolved, with the root above each.
    roots: HashMap<PathBuf, Root>,
    policies: HashMap<PathBuf, Option<Arc<Policy>>>,
    /// Files called like a policy that are none, and were told.
    told: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
struct Root {
    /// The folder that a policy would be in.
    root: Option<PathBuf>,
    /// Files called like a policy below it.
    nested: Vec<PathBuf>,
}

/// A file, and the policy of its repository.
#[derive(Debug)]
pub struct Found {
    pub policy: Option<Arc<Policy>>,
    /// The file's path relative to the policy's root.
    pub relative: PathBuf,
}

impl Found {
    pub fn rule(&self) -> Option<&Rule> {
        self.policy.as_deref().and_then(|policy| policy.rule(&self.relative))
    }
}

impl Finder {
    /// `given` is the policy that holds for everything, whoever owns it.
    pub fn new(given: Option<&Path>) -> Self {
        Self { given: given.map(Path::to_owned), state: Mutex::default() }
    }

    /// The policy of a file, which need not be there yet, or of a folder.
    pub fn find(&self, path: &Path) -> Result<Found> {
        let real = real(path).map_err(|error| failure::io("look at", path, &error))?;
        let found = match &self.given {
            Some(given) => {
                let policy = self.named(given)?;
                let relative = real.strip_prefix(&policy.root).map(Path::to_owned).map_err(|_| {
                    Failure::new(format!(
                        "{} is not below {}, where {} holds",
                        shown(path),
                        policy.root.display(),
                        policy.file
                    ))
                })?;
                Found { policy: Some(policy), relative }
            }
            None => {
                let folder = if real.is_dir() { real.as_path() } else { real.parent().unwrap_or(&real) };
                let root = self.root(folder)?;
                self.tell_nested(&root);
                let policy = root.root.as_deref().map(|root| self.read(root)).transpose()?.flatten();
                let base = root.root.as_deref().unwrap_or(folder);
                Found { policy, relative: real.strip_prefix(base).unwrap_or(&real).to_owned() }
            }
        };
        if let Some(policy) = &found.policy {
            through_links(path, &real, policy, &found)?;
        }
        Ok(found)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self, folder: &Path) -> Result<Root> {
        if let Some(root) = self.state().roots.get(folder) {
            return Ok(root.clone());
        }
        let mut root = look_up(folder)?;
        // Outside a repository nothing says which of several counts.
        if let (None, [_, _, ..]) = (&root.root, root.nested.as_slice()) {
            return Err(Failure::new(format!(
                "there are several policies above {}, and no repository's root that says which one holds",
                folder.display()
            ))
            .detail(root.nested.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))
            .help("--policy FILE names one"));
        }
        if let (None, [one]) = (&root.root, root.nested.as_slice()) {
            root = Root { root: one.parent().map(Path::to_owned), nested: Vec::new() };
        }
        self.state().roots.insert(folder.to_owned(), root.clone());
        Ok(root)
    }

    /// Somebody could have put one there to have files sealed for them.
    fn tell_nested(&self, root: &Root) {
        for path in &root.nested {
            if self.state().told.insert(path.clone()) {
                output::warn(&format!(
                    "{} is not used: only the {NAME} at the repository's root holds",
                    relative_to_here(path)
                ));
            }
        }
    }

    fn read(&self, root: &Path) -> Result<Option<Arc<Policy>>> {
        if let Some(known) = self.state().policies.get(root) {
            return Ok(known.clone());
        }
        let path = root.join(NAME);
        let policy = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            _ => Some(Arc::new(self.open(root, &path)?)),
        };
        self.state().policies.insert(root.to_owned(), policy.clone());
        Ok(policy)
    }

    fn open(&self, root: &Path, path: &Path) -> Result<Policy> {
        let file = relative_to_here(path);
        let bytes = read_below(root, path, read::MAX_BYTES).map_err(|refused| match refused {
            Refused::Io(error) => failure::io("read", Path::new(&file), &error),
            Refused::Outside => Failure::new(format!("{file} is a link that leads out of the repository")),
            Refused::NotRegular => Failure::new(format!("{file} is no regular file")),
            Refused::TooLarge(size) => {
                Failure::new(format!("{file} has {size} bytes; a policy has at most {} KiB", read::MAX_BYTES / 1024))
            }
            Refused::Owner(owner) => Failure::new(format!(
                "{file} belongs to another user ({owner}), who could have files sealed for them: it is not used"
            ))
            .help(format!("look at it, then: --policy {file}     or make it yours: chown")),
        })?;
        read(&file, root, &bytes)
    }

    /// `--policy FILE`: a person named it, so whoever owns it. What it names stays below its folder all the same.
    fn named(&self, path: &Path) -> Result<Arc<Policy>> {
        let target = std::fs::canonicalize(path).map_err(|error| failure::io("read", path, &error))?;
        if let Some(Some(known)) = self.state().policies.get(&target) {
            return Ok(known.clone());
        }
        let metadata = std::fs::metadata(&target).map_err(|error| failure::io("read", path, &error))?;
        if metadata.is_file() && metadata.len() > read::MAX_BYTES {
            return Err(Failure::new(format!("{} is too large for a policy", shown(path))));
        }
        let bytes = crate::files::read(path)?;
        let root = target.parent().unwrap_or(Path::new("/"));
        let policy = Arc::new(read(&shown(path), root, &bytes)?);
        self.state().policies.insert(target, Some(policy.clone()));
        Ok(policy)
    }
}

fn look_up(folder: &Path) -> Result<Root> {
    let mut nested = Vec::new();
    for directory in folder.ancestors() {
        let is_root = std::fs::symlink_metadata(directory.join(".git")).is_ok();
        if is_root {
            return Ok(Root { root: Some(directory.to_owned()), nested });
        }
        let policy = directory.join(NAME);
        if std::fs::symlink_metadata(&policy).is_ok() {
            nested.push(policy);
        }
    }
    Ok(Root { root: None, nested })
}

/// A path with links resolved, as far as it is there.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut rest = Vec::new();
    let mut there = absolute.as_path();
    loop {
        match std::fs::canonicalize(there) {
            Ok(mut real) => {
                for part in rest.iter().rev() {
                    match part {
                        Component::ParentDir => _ = real.pop(),
                        Component::Normal(name) => real.push(name),
                        _ => {}
                    }
                }
                return Ok(real);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A link whose target is not there would be followed when it is written.
                if let Ok(target) = std::fs::read_link(there) {
                    let folder = there.parent().unwrap_or(Path::new("/"));
                    return Err(std::io::Error::other(format!(
                        "it is a link to {}, which is not there",
                        folder.join(target).display()
                    )));
                }
                let (Some(parent), Some(last)) = (there.parent(), there.components().next_back()) else {
                    return Err(error);
                };
                rest.push(last);
                there = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A file that is reached through links may look as if another rule held for it: what a person sees and what happens would
/// be two things.
fn through_links(path: &Path, real: &Path, policy: &Policy, found: &Found) -> Result<()> {
    let Ok(absolute) = std::path::absolute(path) else { return Ok(()) };
    if absolute == real {
        return Ok(());
    }
    let mut lexical = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => _ = lexical.pop(),
            Component::CurDir => {}
            part => lexical.push(part),
        }
    }
    if lexical == real {
        return Ok(());
    }
    for folder in lexical.ancestors().skip(1) {
        if std::fs::canonicalize(folder).is_ok_and(|folder| folder == policy.root) {
            let seen = lexical.strip_prefix(folder).unwrap_or(&lexical);
            let (one, other) = (policy.rule(seen), found.rule());
            if one.map(|rule| rule.span) == other.map(|rule| rule.span) {
                return Ok(());
            }
            return Err(Failure::new(format!(
                "{} is really {}, for which another rule of {} holds",
                shown(path),
                found.relative.display(),
                policy.file
            ))
            .help("name the file itself"));
        }
        if std::fs::symlink_metadata(folder.join(".git")).is_ok() {
            return Err(Failure::new(format!("{} is a link that leads out of its repository", shown(path)))
                .help("name the file itself"));
        }
    }
    Ok(())
}

/// A path as somebody here would type it.
pub fn relative_to_here(path: &Path) -> String {
    let Ok(here) = std::env::current_dir().and_then(std::fs::canonicalize) else { return shown(path) };
    if let Ok(below) = path.strip_prefix(&here) {
        return shown(below);
    }
    let folder = path.parent().unwrap_or(path);
    match (here.strip_prefix(folder), path.file_name()) {
        (Ok(down), Some(name)) => {
            let mut up: PathBuf = down.components().map(|_| "..").collect();
            up.push(name);
            shown(&up)
        }
        _ => shown(path),
    }
}
