//! One finding. It never holds a value: names, places, and what to do.

use std::fmt::Write as _;

use bulla::manifest::Span;

use super::registry::Rule;
use crate::failure::Excerpt;

/// Something that is wrong, and where.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static Rule,
    /// As it is shown: relative to where the program runs, or to the root of the repository.
    pub file: String,
    /// From the root of the repository, wherever the program runs: what reports and baselines call the file. Empty until
    /// [`super::root::Root`] has said it.
    pub path: String,
    pub span: Span,
    pub excerpt: Option<Excerpt>,
    pub message: String,
    /// Stands after the marks.
    pub label: String,
    pub help: Vec<String>,
    /// `Secret/shop/db`; empty where there is no object.
    pub object: String,
    /// The keys, names or fields that it is about.
    pub keys: Vec<String>,
    /// Lines on which an exception for it may stand, besides its own and the one before.
    pub also: Option<usize>,
    /// Commits that have it, of a history.
    pub commits: Vec<String>,
}

impl Finding {
    /// One for each key: what a baseline knows it by. Made of names alone, so that nothing can be guessed with it, and
    /// without lines, so that it stays when lines move.
    pub fn fingerprints(&self) -> Vec<String> {
        let own = |key: &str| {
            let mut text = format!("{}|{}", self.rule.id, part(self.path()));
            for more in [self.object.as_str(), key] {
                _ = write!(text, "|{}", part(more));
            }
            text
        };
        if self.keys.is_empty() { vec![own("")] } else { self.keys.iter().map(|key| own(key)).collect() }
    }

    /// The file as reports and baselines call it.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { &self.file } else { &self.path }
    }

    /// `path:line:column`, from the root of the repository.
    pub fn place_from_root(&self) -> String {
        if self.span.line == 0 {
            return self.path().to_owned();
        }
        format!("{}:{}:{}", self.path(), self.span.line, self.span.column)
    }
}

/// A part of a fingerprint: what separates parts can't stand in it.
fn part(text: &str) -> String {
    text.replace('%', "%25").replace('|', "%7c")
}
