//! Plans, and carrying out those that keep clear of each other.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use zeroize::Zeroizing;

use super::super::emit::Tree;
use super::super::error::{ManifestError, ManifestErrorKind, Span};
use super::super::node::{Entry, Node, NodeKind};
use super::super::{Source, Stream};

#[derive(Clone)]
pub(super) struct Splice {
    pub range: Range<usize>,
    pub text: Zeroizing<String>,
}

#[derive(Clone, PartialEq)]
pub(super) enum Step {
    /// A member, and where among the members it is likely to be found.
    Key(String, usize),
    Index(usize),
}

/// Where new members go.
#[derive(Clone)]
pub(super) enum After {
    Nothing,
    Key(String),
}

#[derive(Clone)]
pub(super) enum Op {
    Set(Node),
    Insert(After, Vec<(String, Node)>),
    Remove(String),
    Rename(String, String),
}

/// A change of the tree.
#[derive(Clone)]
pub(super) struct Intent {
    pub path: Vec<Step>,
    pub op: Op,
}

#[derive(Clone, Default)]
pub(super) struct Plan {
    pub document: usize,
    pub at: Span,
    pub splices: Vec<Splice>,
    pub intents: Vec<Intent>,
}

impl Plan {
    fn hull(&self) -> Option<Range<usize>> {
        let start = self.splices.iter().map(|splice| splice.range.start).min()?;
        let end = self.splices.iter().map(|splice| splice.range.end).max()?;
        Some(start..end)
    }

    /// Whether it only takes one piece of text out.
    fn takes_out(&self) -> bool {
        matches!(self.splices.as_slice(), [splice] if splice.text.is_empty() && !splice.range.is_empty())
    }
}

/// Plans that don't touch each other, carried out at once.
#[derive(Default)]
pub(super) struct Round {
    plans: Vec<Plan>,
    /// The hulls of the plans by their start: the end, and whether text is only taken out.
    hulls: BTreeMap<usize, (usize, bool)>,
}

impl Round {
    pub const fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Takes a plan unless it touches one that is taken. Pieces that are only taken out may stand side by side.
    pub fn take(&mut self, plan: Plan) -> bool {
        let Some(hull) = plan.hull() else { return true };
        let out = plan.takes_out();
        let apart = |end: usize, start: usize, both_out: bool| end < start || (end == start && both_out);
        let before = self.hulls.range(..=hull.start).next_back();
        let after = self.hulls.range(hull.start + 1..).next();
        let clear = before.is_none_or(|(_, (end, other_out))| apart(*end, hull.start, out && *other_out))
            && after.is_none_or(|(start, (_, other_out))| apart(hull.end, *start, out && *other_out));
        if clear {
            self.hulls.insert(hull.start, (hull.end, out));
            self.plans.push(plan);
        }
        clear
    }

    pub fn carry_out(self, stream: &Stream) -> Result<Option<(Stream, usize)>, ManifestError> {
        let Some(place) = self.plans.first().map(|plan| (plan.document, plan.at)) else { return Ok(None) };
        let unsafe_edit = |why: String| {
            ManifestError::new(ManifestErrorKind::Unsafe, format!("this can't be edited safely: {why}"))
                .at(place.1)
                .in_document(place.0)
                .help("write this object in plain block style, then try again")
        };
        let mut intents: BTreeMap<usize, Vec<Intent>> = BTreeMap::new();
        let mut splices = Vec::new();
        for plan in self.plans {
            intents.entry(plan.document).or_default().extend(plan.intents);
            splices.extend(plan.splices);
        }
        let mut intended: BTreeMap<usize, Node> = BTreeMap::new();
        for (document, intents) in intents {
            let mut root = stream.documents()[document].root.clone();
            if !carry(&mut root, intents) {
                return Err(unsafe_edit("what is to change is not where it was".into()));
            }
            intended.insert(document, root);
        }
        splices.sort_by_key(|splice| (splice.range.start, splice.range.end));

        let text = stream.text();
        let added: usize = splices.iter().map(|splice| splice.text.len()).sum();
        let mut new = Zeroizing::new(String::with_capacity(text.len() + added));
        let mut from = 0;
        let mut dropped = 0;
        for splice in &splices {
            let Some(kept) = text.get(from..splice.range.start) else {
                return Err(unsafe_edit("two changes overlap".into()));
            };
            new.push_str(kept);
            new.push_str(&splice.text);
            dropped += comments_in(stream.comments(), &splice.range).len();
            from = splice.range.end;
        }
        new.push_str(text.get(from..).unwrap_or_default());
        if new.as_str() == text {
            return Ok(None);
        }

        let next = Stream::parse(Source::from_parts(new, stream.encoding()))
            .map_err(|error| unsafe_edit(format!("the result would not be readable, {}", error.message)))?;
        if next.documents().len() != stream.documents().len() || next.objects().len() != stream.objects().len() {
            return Err(unsafe_edit("documents or objects would come or go".into()));
        }
        for (index, document) in next.documents().iter().enumerate() {
            let wanted = intended.get(&index).unwrap_or(&stream.documents()[index].root);
            if !document.root.same(wanted) {
                return Err(unsafe_edit("something else would change with it".into()));
            }
        }
        // What a YAML reader takes may still be no JSON.
        if stream.is_flow() && is_json(text) && !is_json(next.text()) {
            return Err(unsafe_edit("the result would not be JSON any more".into()));
        }
        if next.comments().len() + dropped != stream.comments().len() {
            return Err(unsafe_edit("comments would come or go".into()));
        }
        Ok(Some((next, dropped)))
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Changes a tree as intended; false when there is no such place. First what is set, then which members there are: so each
/// member is where the plan saw it.
fn carry(root: &mut Node, intents: Vec<Intent>) -> bool {
    let mut members: Vec<(Vec<Step>, Vec<Op>)> = Vec::new();
    for Intent { path, op } in intents {
        match (op, members.last_mut()) {
            (Op::Set(value), _) => match find(root, &path) {
                Some(node) => *node = value,
                None => return false,
            },
            (op, Some((last, ops))) if *last == path => ops.push(op),
            (op, _) => members.push((path, vec![op])),
        }
    }
    members.into_iter().all(|(path, ops)| find(root, &path).is_some_and(|node| change_members(node, ops)))
}

fn find<'n>(root: &'n mut Node, path: &[Step]) -> Option<&'n mut Node> {
    let mut node = root;
    for step in path {
        node = match (&mut node.kind, step) {
            (NodeKind::Mapping { entries, .. }, Step::Key(key, likely)) => {
                let is_it = |entry: &Entry| entry.key.scalar() == Some(key);
                let index = match entries.get(*likely) {
                    Some(entry) if is_it(entry) => *likely,
                    _ => entries.iter().position(is_it)?,
                };
                entries.get_mut(index).map(|entry| &mut entry.value)?
            }
            (NodeKind::Sequence { items, .. }, Step::Index(index)) => items.get_mut(*index)?,
            _ => return None,
        };
    }
    Some(node)
}

/// Adds, removes and renames members of one mapping, in one pass over them.
fn change_members(node: &mut Node, ops: Vec<Op>) -> bool {
    let NodeKind::Mapping { entries, .. } = &mut node.kind else { return false };
    let mut new: HashMap<usize, Vec<Entry>> = HashMap::new();
    let mut changed: HashMap<usize, Option<Node>> = HashMap::new();
    {
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            if let Some(key) = entry.key.scalar() {
                // The first of a key counts, as for whoever looks for it.
                places.entry(key).or_insert(index);
            }
        }
        for op in ops {
            match op {
                Op::Insert(after, members) => {
                    let place = match &after {
                        After::Nothing => Some(0),
                        After::Key(key) => places.get(key.as_str()).map(|index| index + 1),
                    };
                    let Some(place) = place else { return false };
                    let entry =
                        |(key, value): (String, Node)| Entry { key: Tree::text(&key).to_node(), value, colon: None };
                    new.entry(place).or_default().extend(members.into_iter().map(entry));
                }
                Op::Remove(key) => match places.get(key.as_str()) {
                    Some(index) => _ = changed.insert(*index, None),
                    None => return false,
                },
                Op::Rename(from, to) => match places.get(from.as_str()) {
                    Some(index) => _ = changed.insert(*index, Some(Tree::text(&to).to_node())),
                    None => return false,
                },
                Op::Set(_) => return false,
            }
        }
    }
    let old = std::mem::take(entries);
    let end = old.len();
    for (index, mut entry) in old.into_iter().enumerate() {
        entries.extend(new.remove(&index).into_iter().flatten());
        match changed.remove(&index) {
            Some(Some(key)) => {
                entry.key = key;
                entries.push(entry);
            }
            Some(None) => {}
            None => entries.push(entry),
        }
    }
    entries.extend(new.remove(&end).into_iter().flatten());
    true
}

fn comments_in<'c>(comments: &'c [Range<usize>], range: &Range<usize>) -> &'c [Range<usize>] {
    let from = comments.partition_point(|comment| comment.start < range.start);
    let to = comments.partition_point(|comment| comment.start < range.end);
    &comments[from..to.max(from)]
}
