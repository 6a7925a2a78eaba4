//! Globs as in `.gitignore`: one that has a slash before its end is anchored at the root, any other matches at every depth,
//! and what matches a folder matches all that is in it.

use std::path::Path;
use std::sync::OnceLock;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Characters that a glob may have.
const MAX: usize = 1024;

/// A glob. It is compiled when it is first asked for, and not at all where it matches everything.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    compiled: OnceLock<Option<Gitignore>>,
}

impl Glob {
    /// Takes a glob that means what it says; else says why it doesn't.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{text:?} is no glob: {why}"));
        if text.is_empty() {
            return Err("the glob is empty".into());
        }
        if text.len() > MAX {
            return Err(format!("the glob has {} characters, more than {MAX}", text.len()));
        }
        if text.starts_with(['!', '#']) {
            return wrong("a beginning ! or # means something else to Git; \\! and \\# are the characters");
        }
        if text.trim() != text {
            return wrong("it begins or ends with a space");
        }
        if text.split('/').any(|part| matches!(part, "." | "..")) {
            return wrong("\".\" and \"..\" never match");
        }
        if text.split('/').any(|part| part.contains("**") && part != "**") {
            return wrong("** counts as a whole part, as in apps/**/db.yaml; beside other characters readers differ");
        }
        if text.contains(['{', '}']) {
            return wrong("braces are characters to Git and a choice to others; write a rule for each");
        }
        let open = text.rfind('[').filter(|at| text.get(..*at).is_none_or(|before| !before.ends_with('\\')));
        if open.is_some_and(|at| text.get(at..).is_none_or(|rest| !rest.contains(']'))) {
            return wrong("a bracket is not closed");
        }
        let glob = Self { text: text.to_owned(), compiled: OnceLock::new() };
        if needs_a_look(text) && glob.compiled().is_none() {
            return wrong("a bracket is malformed, or a backslash ends it");
        }
        Ok(glob)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn compiled(&self) -> Option<&Gitignore> {
        let compile = || {
            let mut builder = GitignoreBuilder::new("");
            builder.add_line(None, &self.text).ok()?;
            let compiled = builder.build().ok()?;
            (compiled.num_ignores() == 1).then_some(compiled)
        };
        self.compiled.get_or_init(compile).as_ref()
    }

    /// Whether it matches a file, by its path relative to the root: `/` between the parts, no `.` or `..`.
    pub fn matches(&self, path: &Path) -> bool {
        if path.has_root() || path.as_os_str().is_empty() {
            return false;
        }
        if matches!(self.text.as_str(), "*" | "**") {
            return true;
        }
        // Not `matched_path_or_any_parents`: to it the root is a folder too, and `*/` then matches all files.
        let mut folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        self.compiled().is_some_and(|glob| {
            glob.matched(path, false).is_ignore() || folders.any(|folder| glob.matched(folder, true).is_ignore())
        })
    }
}

/// Whether a glob could be malformed: only these characters can make it so, and compiling takes time.
fn needs_a_look(text: &str) -> bool {
    text.contains(['[', ']', '\\'])
}
