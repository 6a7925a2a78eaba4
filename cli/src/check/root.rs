//! What reports and baselines call a file: its path from the root of the repository, so that they mean the same wherever the
//! program was run. People are shown paths from where they are.

use std::path::{Component, Path, PathBuf};

use super::Outcome;

/// The root of the repository, and where in it the program runs.
pub struct Root {
    /// `None` outside of a repository, and where files are called by their path from the root already.
    at: Option<(PathBuf, PathBuf)>,
}

impl Root {
    /// Names stay as they are.
    pub const fn none() -> Self {
        Self { at: None }
    }

    /// Of the repository that the program runs in.
    pub fn here() -> Self {
        let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
        let root = here.ancestors().find(|folder| folder.join(".git").symlink_metadata().is_ok());
        Self { at: root.map(|root| (root.to_owned(), here.strip_prefix(root).map(Path::to_owned).unwrap_or_default())) }
    }

    /// The root's folder.
    pub fn folder(&self) -> Option<&Path> {
        self.at.as_ref().map(|(root, _)| root.as_path())
    }

    /// `../b/c.yaml` in `a` as `b/c.yaml`; what is outside of the repository keeps its name.
    pub fn path(&self, file: &str) -> String {
        let Some((root, here)) = &self.at else { return file.to_owned() };
        let path = Path::new(file);
        let (mut out, path) = match path.strip_prefix(root) {
            Ok(inside) => (PathBuf::new(), inside),
            Err(_) if path.is_absolute() => return file.to_owned(),
            Err(_) => (here.clone(), path),
        };
        for part in path.components() {
            match part {
                Component::ParentDir if !out.pop() => return file.to_owned(),
                Component::Normal(name) => out.push(name),
                _ => {}
            }
        }
        out.display().to_string()
    }

    /// Says it of all findings.
    pub fn settle(&self, outcome: &mut Outcome) {
        for finding in outcome.findings.iter_mut().filter(|finding| finding.path.is_empty()) {
            finding.path = self.path(&finding.file);
            // What is pasted from a help text into a shell must be a name there too.
            let word = word(&finding.file);
            if word != finding.file && finding.file != STDIN {
                for help in &mut finding.help {
                    *help = help.replace(&finding.file, &word);
                }
            }
        }
    }
}

/// What standard input is called.
pub const STDIN: &str = "standard input";

/// A file's name as a shell takes it for one, and a program for no option.
fn word(file: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_./@%+=:,-".contains(c);
    let dash = if file.starts_with('-') { "./" } else { "" };
    if file.chars().all(plain) { format!("{dash}{file}") } else { crate::failure::quoted(&format!("{dash}{file}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_a_shell() {
        for (file, expected) in [
            ("apps/ü/db-1.yaml", "apps/ü/db-1.yaml"),
            ("-x.yaml", "./-x.yaml"),
            ("a b.yaml", "'a b.yaml'"),
            ("a;rm -rf $HOME;'.yaml", r"'a;rm -rf $HOME;'\''.yaml'"),
        ] {
            assert_eq!(word(file), expected);
        }
    }

    #[test]
    fn paths_count_from_the_root() {
        let root = Root { at: Some(("/repo".into(), "apps/shop".into())) };
        for (file, path) in [
            ("db.yaml", "apps/shop/db.yaml"),
            ("../db.yaml", "apps/db.yaml"),
            ("./x/../db.yaml", "apps/shop/db.yaml"),
            ("/repo/apps/db.yaml", "apps/db.yaml"),
            ("/elsewhere/db.yaml", "/elsewhere/db.yaml"),
            ("../../../db.yaml", "../../../db.yaml"),
        ] {
            assert_eq!(root.path(file), path, "{file}");
        }
        assert_eq!(Root::none().path("a/../b.yaml"), "a/../b.yaml");
    }
}
