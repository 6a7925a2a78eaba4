//! Replacing an object as a whole and keeping the comments in it: each goes above the line that took the place of the one that it
//! stood at.

use std::ops::Range;

use super::edit::{Applied, Edit};
use super::emit::Tree;
use super::error::ManifestError;
use super::node::{Node, NodeKind};
use super::{Source, Stream};

/// A key of a mapping: where it begins, and the keys on the way to it.
type Key = (usize, Vec<String>);

/// Finds the path of the new object that took the place of one of the old.
pub type Renamed<'r> = dyn Fn(&[String]) -> Vec<String> + 'r;

impl Stream {
    /// Puts another object in the place of this one, as [`Edit::ReplaceObject`] does, and the comments of the old one above the
    /// lines of the new one that `renamed` names by their path, else as near above as there is something. Where that can't be
    /// done (in JSON and braces) they go, and are counted.
    ///
    /// # Errors
    /// See [`Stream::apply`].
    pub fn replace_object_keeping(
        &mut self,
        object: usize,
        tree: Tree,
        renamed: &Renamed<'_>,
    ) -> Result<Applied, ManifestError> {
        let (Some(old), text) = (self.object(object), self.text().to_owned()) else {
            return self.apply(&[(object, Edit::ReplaceObject(tree))]);
        };
        let (start, mut keys) = (old.node().span.start, Vec::new());
        flatten(old.node(), &mut Vec::new(), &mut keys);
        let first = self.comments().partition_point(|comment| comment.start < start);
        let old_comments: Vec<Range<usize>> = self.comments()[first..].to_vec();
        let total = self.comments().len();
        let mut applied = self.apply(&[(object, Edit::ReplaceObject(tree))])?;
        let gone = old_comments.get(..applied.comments_dropped).unwrap_or_default();
        if gone.is_empty() {
            return Ok(applied);
        }
        let mut new_keys = Vec::new();
        if let Some(new) = self.object(object) {
            flatten(new.node(), &mut Vec::new(), &mut new_keys);
        }
        let mut lines: Vec<(usize, &str)> = Vec::new();
        for comment in gone {
            let path = path_at(&text, &keys, comment.start);
            let Some(at) = place_of(&new_keys, &renamed(&path)) else { continue };
            lines.push((at, text.get(comment.clone()).unwrap_or_default().trim_end()));
        }
        if let Some(kept) = self.with_lines(&lines)
            && kept.comments().len() == total
        {
            *self = kept;
            applied.comments_dropped = 0;
        }
        Ok(applied)
    }

    /// The text with lines put above those of the given offsets; `None` when it would say something else then.
    fn with_lines(&self, lines: &[(usize, &str)]) -> Option<Self> {
        let text = self.text();
        let mut sorted = lines.to_vec();
        sorted.sort_by_key(|(at, _)| *at);
        let mut new = zeroize::Zeroizing::new(String::with_capacity(
            text.len() + lines.iter().map(|(_, line)| line.len() + 80).sum::<usize>(),
        ));
        let mut from = 0;
        for (at, line) in sorted {
            let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
            let rest = text.get(start..)?;
            let indent = rest.len() - rest.trim_start_matches(' ').len();
            let eol = if rest.lines().next()?.len() < rest.find('\n').unwrap_or(rest.len()) { "\r\n" } else { "\n" };
            new.push_str(text.get(from..start)?);
            new.push_str(rest.get(..indent)?);
            new.push_str(line);
            new.push_str(eol);
            from = start;
        }
        new.push_str(text.get(from..)?);
        let next = Self::parse(Source::from_parts(new, self.encoding())).ok()?;
        let same = next.documents().len() == self.documents().len()
            && next.documents().iter().zip(self.documents()).all(|(a, b)| a.root.same(&b.root));
        same.then_some(next)
    }
}

/// All keys of block mappings in the order of the text.
fn flatten(node: &Node, path: &mut Vec<String>, keys: &mut Vec<Key>) {
    match &node.kind {
        NodeKind::Mapping { entries, .. } => {
            for entry in entries {
                path.push(entry.key.scalar().unwrap_or_default().to_owned());
                keys.push((entry.key.span.start, path.clone()));
                flatten(&entry.value, path, keys);
                path.pop();
            }
        }
        NodeKind::Sequence { items, .. } => items.iter().for_each(|item| flatten(item, path, keys)),
        NodeKind::Scalar { .. } => {}
    }
}

/// What a comment stands at: the key on its line, else the next one, else the last one.
fn path_at(text: &str, keys: &[Key], at: usize) -> Vec<String> {
    let next = keys.partition_point(|(start, _)| *start < at);
    let line = text.get(..at).and_then(|text| text.rfind('\n')).map_or(0, |end| end + 1);
    let own_line = text.get(line..at).is_some_and(|before| before.trim().is_empty());
    let chosen =
        if own_line { keys.get(next).or_else(|| keys.last()) } else { next.checked_sub(1).map(|last| &keys[last]) };
    chosen.map(|(_, path)| path.clone()).unwrap_or_default()
}

/// Where a path is, or the nearest above it.
fn place_of(keys: &[Key], path: &[String]) -> Option<usize> {
    (1..=path.len())
        .rev()
        .find_map(|length| keys.iter().find(|(_, other)| other.as_slice() == &path[..length]))
        .or_else(|| keys.first())
        .map(|(start, _)| *start)
}
