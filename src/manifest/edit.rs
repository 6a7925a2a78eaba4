//! Editing manifests in their text.
//!
//! An edit is planned from the exact places of the tree, as replacements of byte ranges, together with what it is meant to
//! change in the tree. The text that results is read again and compared with that: unless each document says exactly what
//! it should and every comment outside the replaced ranges is still one, the edit is refused and nothing happened.
//!
//! What goes where:
//! - A new item, or a new envelope of a map, goes to its place in byte order when those there are in byte order, else
//!   after the last one. It is laid out like its neighbours: their indentation, their line ends; `>-` in block style, a
//!   string in double quotes in flow style and JSON.
//! - An item that is there keeps its place, its comments and the style of its texts. Its envelopes keep theirs when the
//!   names stay the same, else that map is written anew.
//! - With an item go the comment lines directly above its key that are indented like it, and those below its last
//!   line that are indented deeper than its key.
//! - Of an object that is replaced as a whole, comments before its first key and after its last line stay; those within
//!   go, and are counted.

use std::collections::BTreeMap;
use std::ops::Range;

use zeroize::Zeroizing;

use super::emit::{Block, Flow, Out, Tree, is_safe_plain, write_block, write_flow, write_flow_member, write_member};
use super::emit::{write_quoted, write_scalar};
use super::error::{ManifestError, ManifestErrorKind, Span};
use super::node::{Entry, Node, NodeKind, Style, Tag};
use super::{Object, Source, Stream, list_of};
use crate::resource::SealedItem;

mod bitnami;

pub use bitnami::TemplateMap;

/// A map of envelopes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EnvelopeMap {
    /// `spec.envelopes`.
    Common,
    /// The envelopes of the item of this key.
    Item(String),
}

/// A text in a SealedSecret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TextPath {
    /// `metadata.name`.
    Name,
    /// `metadata.namespace`.
    Namespace,
    /// The sealed text of the item of this key.
    Sealed(String),
    /// `spec.data`, which old files of Bitnami's format have.
    Data,
    /// The text of an envelope.
    Envelope(EnvelopeMap, String),
}

/// One change to one object.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Adds an item, or replaces the one of this key; an item without envelopes of its own keeps none.
    SetItem {
        /// Its key.
        key: String,
        /// What it is to be.
        item: SealedItem,
    },
    /// Takes an item out, with its comments.
    RemoveItem {
        /// Its key.
        key: String,
    },
    /// Replaces one text that is there.
    ReplaceText {
        /// Which one.
        path: TextPath,
        /// The new text: printable ASCII without white space.
        text: String,
    },
    /// Adds an envelope under a name that is not there yet.
    AddEnvelope {
        /// Where.
        map: EnvelopeMap,
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// Takes an envelope out.
    RemoveEnvelope {
        /// Where.
        map: EnvelopeMap,
        /// Its name.
        name: String,
    },
    /// Gives an envelope another name; it keeps its place.
    RenameEnvelope {
        /// Where.
        map: EnvelopeMap,
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
    },
    /// In Bitnami's format: adds a sealed text under `spec.encryptedData`, or replaces the one of this key.
    SetEncrypted {
        /// Its key.
        key: String,
        /// The new text: base64 in one line.
        text: String,
    },
    /// In Bitnami's format: sets a label or an annotation of the template.
    SetTemplateText {
        /// Which of them.
        map: TemplateMap,
        /// Its key.
        key: String,
        /// Its value.
        text: String,
    },
    /// Puts another object in the place of this one, of whatever kind.
    ReplaceObject(Tree),
}

/// What edits did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether any byte changed.
    pub changed: bool,
    /// Comments that stood in what was replaced or taken out.
    pub comments_dropped: usize,
}

impl Stream {
    /// Makes edits, each to the object of that index, in their order. All or none: after an error the stream is as it was.
    /// The index of every object stays.
    ///
    /// # Errors
    /// [`ManifestErrorKind::NoTarget`] when what is to be changed is not there, [`ManifestErrorKind::Unsafe`] when it can't
    /// be changed without touching something else, and what reading the object says.
    pub fn apply(&mut self, edits: &[(usize, Edit)]) -> Result<Applied, ManifestError> {
        let mut total = Applied::default();
        let mut current: Option<Self> = None;
        let mut rest = edits;
        let retyped = self.retype_lists(edits)?;
        let mut first = true;
        while !rest.is_empty() {
            let stream = current.as_ref().unwrap_or(self);
            let mut round = Round::default();
            if first {
                retyped.iter().for_each(|plan| _ = round.take(plan.clone()));
                first = false;
            }
            let mut taken = 0;
            for (index, edit) in rest {
                let plan = stream.plan(*index, edit)?;
                if !round.take(plan) {
                    break;
                }
                taken += 1;
            }
            // Even what collides with the edits to Lists comes after them.
            rest = &rest[taken..];
            if let Some((next, dropped)) = round.carry_out(stream)? {
                total.changed = true;
                total.comments_dropped += dropped;
                current = Some(next);
            }
        }
        if let Some(current) = current {
            *self = current;
        }
        Ok(total)
    }

    /// [`Edit::SetItem`].
    ///
    /// # Errors
    /// See [`Stream::apply`].
    pub fn set_item(&mut self, object: usize, key: &str, item: &SealedItem) -> Result<Applied, ManifestError> {
        self.apply(&[(object, Edit::SetItem { key: key.into(), item: item.clone() })])
    }

    /// [`Edit::RemoveItem`].
    ///
    /// # Errors
    /// See [`Stream::apply`].
    pub fn remove_item(&mut self, object: usize, key: &str) -> Result<Applied, ManifestError> {
        self.apply(&[(object, Edit::RemoveItem { key: key.into() })])
    }

    /// [`Edit::ReplaceText`].
    ///
    /// # Errors
    /// See [`Stream::apply`].
    pub fn replace_text(&mut self, object: usize, path: TextPath, text: &str) -> Result<Applied, ManifestError> {
        self.apply(&[(object, Edit::ReplaceText { path, text: text.into() })])
    }

    /// [`Edit::ReplaceObject`].
    ///
    /// # Errors
    /// See [`Stream::apply`].
    pub fn replace_object(&mut self, object: usize, tree: Tree) -> Result<Applied, ManifestError> {
        self.apply(&[(object, Edit::ReplaceObject(tree))])
    }

    fn plan(&self, index: usize, edit: &Edit) -> Result<Plan, ManifestError> {
        let Some(object) = self.object(index) else {
            return Err(no_target(format!("there is no object {index} in the file")));
        };
        let mut planner = Planner {
            stream: self,
            text: self.text(),
            object,
            plan: Plan { document: object.document(), at: object.span(), ..Plan::default() },
        };
        let planned = match edit {
            Edit::ReplaceObject(tree) => planner.replace_object(tree),
            edit => planner.sealed(edit),
        };
        planned.map_err(|error| error.at(object.span()).in_document(object.document()))?;
        Ok(planner.plan)
    }

    /// A typed list (SecretList) that gets an object of another kind becomes a List.
    fn retype_lists(&self, edits: &[(usize, Edit)]) -> Result<Vec<Plan>, ManifestError> {
        let mut kinds: BTreeMap<usize, &Tree> = BTreeMap::new();
        for (index, edit) in edits {
            if let Edit::ReplaceObject(tree) = edit {
                kinds.insert(*index, tree);
            }
        }
        let mut plans: BTreeMap<(usize, Vec<usize>), Plan> = BTreeMap::new();
        for (index, tree) in &kinds {
            let Some(object) = self.object(*index) else { continue };
            let Some((_, list_path)) = object.path().split_last() else { continue };
            let mut node = &self.documents()[object.document()].root;
            let mut path = Vec::new();
            for index in list_path {
                let Some(next) = node.get("items").and_then(Node::items).and_then(|items| items.get(*index)) else {
                    break;
                };
                node = next;
                path.extend([Step::Key("items".into()), Step::Index(*index)]);
            }
            let word = |key: &str| node.get(key).and_then(Node::scalar);
            let Some(Some(of)) = list_of(word("apiVersion"), word("kind")) else { continue };
            let new_kind = match tree {
                Tree::Map(members) => members.iter().find(|(key, _)| key == "kind").map(|(_, kind)| kind),
                _ => None,
            };
            if matches!(new_kind, Some(Tree::Text(kind)) if kind.as_str() == of) {
                continue;
            }
            let place = (object.document(), list_path.to_vec());
            if plans.contains_key(&place) {
                continue;
            }
            let bare = self.objects().find(|other| {
                other.document() == place.0
                    && other.path().split_last().is_some_and(|(_, path)| path == list_path)
                    && other.node().get("kind").is_none()
                    && !kinds.contains_key(&other.index())
            });
            if let Some(bare) = bare {
                return Err(refuse("another item of this typed list does not say its kind", bare.span())
                    .in_document(place.0)
                    .help("write apiVersion and kind into each item"));
            }
            let mut plan = Plan { document: place.0, at: node.span, ..Plan::default() };
            for (key, value) in [("apiVersion", "v1"), ("kind", "List")] {
                let Some(entry) = node.entry(key) else {
                    return Err(refuse("the list's kind comes through an alias", node.span).in_document(place.0));
                };
                if entry.value.scalar() != Some(value) {
                    let text = scalar_text(&entry.value, value).map_err(|error| error.in_document(place.0))?;
                    plan.splices.push(Splice { range: entry.value.span.range(), text: text.0 });
                    let mut path = path.clone();
                    path.push(Step::Key(key.into()));
                    plan.intents.push(Intent { path, op: Op::Set(Tree::text(value).to_node()) });
                }
            }
            plans.insert(place, plan);
        }
        Ok(plans.into_values().collect())
    }
}

#[derive(Clone)]
struct Splice {
    range: Range<usize>,
    text: Zeroizing<String>,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Where a new member goes.
#[derive(Clone)]
enum After {
    Nothing,
    Key(String),
}

#[derive(Clone)]
enum Op {
    Set(Node),
    Insert(After, String, Node),
    Remove(String),
    Rename(String, String),
}

/// A change of the tree.
#[derive(Clone)]
struct Intent {
    path: Vec<Step>,
    op: Op,
}

#[derive(Clone, Default)]
struct Plan {
    document: usize,
    at: Span,
    splices: Vec<Splice>,
    intents: Vec<Intent>,
}

impl Plan {
    fn hull(&self) -> Option<Range<usize>> {
        let start = self.splices.iter().map(|splice| splice.range.start).min()?;
        let end = self.splices.iter().map(|splice| splice.range.end).max()?;
        Some(start..end)
    }
}

/// Edits that don't touch each other, carried out at once.
#[derive(Default)]
struct Round {
    plans: Vec<Plan>,
    hulls: Vec<Range<usize>>,
}

impl Round {
    /// Takes a plan unless it touches one that is taken.
    fn take(&mut self, plan: Plan) -> bool {
        if let Some(hull) = plan.hull() {
            let touches = |other: &Range<usize>| other.start <= hull.end && hull.start <= other.end;
            // Most often edits come in the order of the text.
            if self.hulls.iter().rev().any(touches) {
                return false;
            }
            self.hulls.push(hull);
            self.plans.push(plan);
        }
        true
    }

    fn carry_out(self, stream: &Stream) -> Result<Option<(Stream, usize)>, ManifestError> {
        let Some(place) = self.plans.first().map(|plan| (plan.document, plan.at)) else { return Ok(None) };
        let unsafe_edit = |why: String| {
            ManifestError::new(ManifestErrorKind::Unsafe, format!("this can't be edited safely: {why}"))
                .at(place.1)
                .in_document(place.0)
                .help("write this object in plain block style, then try again")
        };
        let mut intended: BTreeMap<usize, Node> = BTreeMap::new();
        let mut splices = Vec::new();
        for plan in self.plans {
            let root = intended.entry(plan.document).or_insert_with(|| stream.documents()[plan.document].root.clone());
            for intent in plan.intents {
                if !carry(root, &intent.path, intent.op) {
                    return Err(unsafe_edit("what is to change is not where it was".into()));
                }
            }
            splices.extend(plan.splices);
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

/// Changes the tree as intended; false when there is no such place.
fn carry(root: &mut Node, path: &[Step], op: Op) -> bool {
    let mut node = root;
    for step in path {
        let next = match (&mut node.kind, step) {
            (NodeKind::Mapping { entries, .. }, Step::Key(key)) => {
                entries.iter_mut().find(|entry| entry.key.scalar() == Some(key)).map(|entry| &mut entry.value)
            }
            (NodeKind::Sequence { items, .. }, Step::Index(index)) => items.get_mut(*index),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => return false,
        }
    }
    if let Op::Set(value) = op {
        *node = value;
        return true;
    }
    let NodeKind::Mapping { entries, .. } = &mut node.kind else { return false };
    let index_of = |entries: &[Entry], key: &str| entries.iter().position(|entry| entry.key.scalar() == Some(key));
    match op {
        Op::Insert(after, key, value) => {
            let index = match after {
                After::Nothing => Some(0),
                After::Key(key) => index_of(entries, &key).map(|index| index + 1),
            };
            let entry = Entry { key: Tree::text(&key).to_node(), value, colon: None };
            index.map(|index| entries.insert(index, entry)).is_some()
        }
        Op::Remove(key) => index_of(entries, &key).map(|index| entries.remove(index)).is_some(),
        Op::Rename(from, to) => {
            index_of(entries, &from).map(|index| entries[index].key = Tree::text(&to).to_node()).is_some()
        }
        Op::Set(_) => true,
    }
}

fn comments_in<'c>(comments: &'c [Range<usize>], range: &Range<usize>) -> &'c [Range<usize>] {
    let from = comments.partition_point(|comment| comment.start < range.start);
    let to = comments.partition_point(|comment| comment.start < range.end);
    &comments[from..to.max(from)]
}

fn no_target(message: impl Into<String>) -> ManifestError {
    ManifestError::new(ManifestErrorKind::NoTarget, message)
}

fn refuse(why: &str, span: Span) -> ManifestError {
    ManifestError::new(ManifestErrorKind::Unsafe, format!("this can't be edited safely: {why}")).at(span)
}

/// A mapping, the entry whose value it is, and where it is.
#[derive(Clone)]
struct Spot<'n> {
    /// The mapping that holds the entry.
    parent: &'n Node,
    entry: &'n Entry,
    /// The path of the value.
    path: Vec<Step>,
    /// How errors call it.
    name: String,
}

impl<'n> Spot<'n> {
    const fn node(&self) -> &'n Node {
        &self.entry.value
    }

    fn child(&self, key: &str) -> Option<Self> {
        let entry = self.node().entry(key)?;
        let mut path = self.path.clone();
        path.push(Step::Key(key.into()));
        Some(Self { parent: self.node(), entry, path, name: format!("{}.{key}", self.name) })
    }

    fn is_empty(&self) -> bool {
        self.node().is_null() || self.node().entries().is_some_and(<[_]>::is_empty)
    }

    fn index(&self) -> usize {
        let place = self.entry.key.span.start;
        let entries = self.parent.entries().unwrap_or_default();
        entries.iter().position(|entry| entry.key.span.start == place).unwrap_or_default()
    }
}

struct Planner<'s> {
    stream: &'s Stream,
    text: &'s str,
    object: Object<'s>,
    plan: Plan,
}

impl<'s> Planner<'s> {
    fn sealed(&mut self, edit: &Edit) -> Result<(), ManifestError> {
        let root = self.object.node();
        if !self.object.is_sealed() && !self.object.is_bitnami() {
            return Err(ManifestError::new(ManifestErrorKind::OtherKind, "this is no SealedSecret").at(root.span));
        }
        if let Some((what, span)) = root.first_alias() {
            return Err(ManifestError::new(ManifestErrorKind::Alias, format!("{what} in a sealed manifest"))
                .at(span)
                .help("write out what it stands for"));
        }
        if let Some(defect) = self.object.defect() {
            return Err(defect);
        }
        if self.object.is_bitnami() {
            return self.bitnami(edit);
        }
        match edit {
            Edit::SetItem { key, item } => self.set_item(key, item),
            Edit::RemoveItem { key } => {
                let items = self.spec()?.child("items");
                let spot = items.as_ref().and_then(|items| items.child(key));
                let (Some(items), Some(spot)) = (items, spot) else {
                    return Err(no_target(format!("there is no item \"{key}\"")));
                };
                self.remove(&items, &spot)
            }
            Edit::ReplaceText { path, text } => {
                let spot = match path {
                    TextPath::Name => self.member("metadata").and_then(|spot| spot.child("name")),
                    TextPath::Namespace => self.member("metadata").and_then(|spot| spot.child("namespace")),
                    TextPath::Sealed(key) => self.item(key).and_then(|item| item.child("sealed")),
                    TextPath::Data => None,
                    TextPath::Envelope(map, name) => self.envelopes(map).and_then(|map| map.child(name)),
                };
                let Some(spot) = spot else { return Err(no_target("the text to replace is not there")) };
                self.replace_scalar(&spot, text)
            }
            Edit::AddEnvelope { map, name, text } => match self.envelopes(map) {
                Some(spot) if spot.child(name).is_some() => {
                    Err(no_target(format!("there is an envelope \"{name}\" already")).at(spot.entry.key.span))
                }
                Some(spot) => self.add(&spot, name, &Tree::Line(text.clone())),
                None => {
                    let parent = match map {
                        EnvelopeMap::Common => self.spec()?,
                        EnvelopeMap::Item(key) => {
                            self.item(key).ok_or_else(|| no_target(format!("there is no item \"{key}\"")))?
                        }
                    };
                    let tree = Tree::Map(vec![(name.clone(), Tree::Line(text.clone()))]);
                    self.add_after(&parent, last_key(parent.node()), "envelopes", &tree)
                }
            },
            Edit::RemoveEnvelope { map, name } => {
                let envelopes = self.envelopes(map);
                let spot = envelopes.as_ref().and_then(|envelopes| envelopes.child(name));
                let (Some(envelopes), Some(spot)) = (envelopes, spot) else {
                    return Err(no_target(format!("there is no envelope \"{name}\"")));
                };
                if matches!(map, EnvelopeMap::Item(_)) && envelopes.node().entries().is_some_and(|all| all.len() == 1) {
                    return Err(ManifestError::new(
                        ManifestErrorKind::BadValue,
                        format!("\"{name}\" is the last envelope of its item: nobody could open it"),
                    )
                    .at(spot.entry.key.span)
                    .help("remove the item"));
                }
                self.remove(&envelopes, &spot)
            }
            Edit::RenameEnvelope { map, from, to } => {
                let envelopes = self.envelopes(map);
                let spot = envelopes.as_ref().and_then(|envelopes| envelopes.child(from));
                let (Some(envelopes), Some(spot)) = (envelopes, spot) else {
                    return Err(no_target(format!("there is no envelope \"{from}\"")));
                };
                if from != to && envelopes.child(to).is_some() {
                    return Err(no_target(format!("there is an envelope \"{to}\" already")).at(spot.entry.key.span));
                }
                self.splice_scalar(&spot.entry.key, to)?;
                self.intend(envelopes.path, Op::Rename(from.clone(), to.clone()));
                Ok(())
            }
            Edit::SetEncrypted { .. } | Edit::SetTemplateText { .. } => {
                Err(ManifestError::new(ManifestErrorKind::OtherKind, "this is no SealedSecret of bitnami.com/v1alpha1"))
            }
            Edit::ReplaceObject(tree) => self.replace_object(tree),
        }
    }

    // --- what there is

    fn object_path(&self) -> Vec<Step> {
        self.object.path().iter().flat_map(|index| [Step::Key("items".into()), Step::Index(*index)]).collect()
    }

    fn member(&self, key: &str) -> Option<Spot<'s>> {
        let parent = self.object.node();
        let mut path = self.object_path();
        path.push(Step::Key(key.into()));
        Some(Spot { parent, entry: parent.entry(key)?, path, name: key.into() })
    }

    fn spec(&self) -> Result<Spot<'s>, ManifestError> {
        let spec = self
            .member("spec")
            .ok_or_else(|| ManifestError::new(ManifestErrorKind::MissingField, "the SealedSecret has no spec"))?;
        expect_map(&spec)?;
        Ok(spec)
    }

    fn item(&self, key: &str) -> Option<Spot<'s>> {
        self.member("spec")?.child("items")?.child(key)
    }

    fn envelopes(&self, map: &EnvelopeMap) -> Option<Spot<'s>> {
        match map {
            EnvelopeMap::Common => self.member("spec")?.child("envelopes"),
            EnvelopeMap::Item(key) => self.item(key)?.child("envelopes"),
        }
    }

    fn intend(&mut self, path: Vec<Step>, op: Op) {
        self.plan.intents.push(Intent { path, op });
    }

    fn splice(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.plan.splices.push(Splice { range, text: Zeroizing::new(text.into()) });
    }

    fn splice_out(&mut self, range: Range<usize>, out: Out) {
        self.plan.splices.push(Splice { range, text: out.0 });
    }

    // --- items

    fn set_item(&mut self, key: &str, item: &SealedItem) -> Result<(), ManifestError> {
        let spec = self.spec()?;
        let Some(items) = spec.child("items") else {
            // Before the template and the envelopes, after the few short fields.
            let before = ["scope", "suspend", "drift"];
            let after = spec
                .node()
                .entries()
                .unwrap_or_default()
                .iter()
                .filter_map(|entry| entry.key.scalar())
                .take_while(|key| before.contains(key))
                .last()
                .map_or(After::Nothing, |key| After::Key(key.into()));
            let tree = Tree::Map(vec![(key.into(), Tree::item(item))]);
            return self.add_after(&spec, after, "items", &tree);
        };
        expect_map(&items)?;
        let Some(spot) = items.child(key) else {
            return self.add(&items, key, &Tree::item(item));
        };
        // Text by text where the item is laid out as it should be, else the whole value.
        let entries = spot.node().entries().unwrap_or_default();
        let known = entries.iter().all(|entry| matches!(entry.key.scalar(), Some("sealed" | "envelopes")));
        let Some(sealed) = spot.child("sealed").filter(|sealed| known && is_clean_scalar(sealed.node())) else {
            return self.set_value(&spot, &Tree::item(item));
        };
        self.replace_scalar(&sealed, &item.sealed)?;
        match (spot.child("envelopes"), &item.envelopes) {
            (None, None) => Ok(()),
            (Some(old), None) => self.remove(&spot, &old),
            (None, Some(new)) => self.add_after(&spot, After::Key("sealed".into()), "envelopes", &Tree::lines(new)),
            (Some(old), Some(new)) => {
                let lines: Vec<Spot<'_>> = new.keys().filter_map(|name| old.child(name)).collect();
                let same_names = lines.len() == new.len()
                    && old.node().entries().is_some_and(|entries| entries.len() == new.len())
                    && lines.iter().all(|line| is_clean_scalar(line.node()));
                if !same_names {
                    return self.set_value(&old, &Tree::lines(new));
                }
                new.values().zip(&lines).try_for_each(|(text, line)| self.replace_scalar(line, text))
            }
        }
    }

    /// Adds a member to a mapping, in byte order where that is the order.
    fn add(&mut self, map: &Spot<'_>, key: &str, value: &Tree) -> Result<(), ManifestError> {
        expect_map(map)?;
        let keys: Vec<&str> =
            map.node().entries().unwrap_or_default().iter().map(|e| e.key.scalar().unwrap_or_default()).collect();
        let before = if keys.is_sorted() { keys.iter().rfind(|other| **other < key) } else { keys.last() };
        let after = before.map_or(After::Nothing, |key| After::Key((*key).into()));
        self.add_after(map, after, key, value)
    }

    fn add_after(&mut self, map: &Spot<'_>, after: After, key: &str, value: &Tree) -> Result<(), ManifestError> {
        if map.is_empty() {
            return self.set_value(map, &Tree::Map(vec![(key.into(), value.clone())]));
        }
        let node = map.node();
        let entries = node.entries().unwrap_or_default();
        let neighbour = match &after {
            After::Nothing => None,
            After::Key(key) => entries.iter().find(|entry| entry.key.scalar() == Some(key)),
        };
        if node.is_flow() {
            self.insert_flow(node, neighbour, key, value)?;
        } else {
            self.insert_block(map, neighbour, key, value)?;
        }
        self.intend(map.path.clone(), Op::Insert(after, key.into(), value.to_node()));
        Ok(())
    }

    // --- lines

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    /// Where the line ends, before its line end.
    fn line_end(&self, at: usize) -> usize {
        match self.text[at..].find('\n') {
            None => self.text.len(),
            Some(found) => {
                let end = at + found;
                if end > at && self.text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
            }
        }
    }

    /// Where the next line begins.
    fn next_line(&self, line_end: usize) -> usize {
        self.text[line_end..].find('\n').map_or(self.text.len(), |at| line_end + at + 1)
    }

    /// The line end to use beside `at`: this line's, else the one before it, else `\n`.
    fn eol(&self, at: usize) -> &'s str {
        let bytes = self.text.as_bytes();
        let found = self.text[at..].find('\n').map(|found| at + found).or_else(|| self.text[..at].rfind('\n'));
        match found {
            Some(found) if found > 0 && bytes[found - 1] == b'\r' => "\r\n",
            _ => "\n",
        }
    }

    /// The indentation of a key that stands first on its line, in spaces.
    fn indent(&self, key: &Node) -> Result<usize, ManifestError> {
        let prefix = &self.text[self.line_start(key.span.start)..key.span.start];
        if prefix.bytes().all(|byte| byte == b' ') {
            Ok(prefix.len())
        } else {
            Err(refuse("the key does not stand first on its line", key.span))
        }
    }

    /// Where a comment begins that has the line for itself, if the line is one.
    fn comment_line(&self, line_start: usize) -> Option<usize> {
        let line = &self.text[line_start..];
        let indent = line.len() - line.trim_start_matches(' ').len();
        let at = line_start + indent;
        let comments = self.stream.comments();
        let found = comments.partition_point(|comment| comment.start < at);
        comments.get(found).filter(|comment| comment.start == at).map(|_| indent)
    }

    fn is_blank_line(&self, line_start: usize) -> bool {
        self.text[line_start..self.line_end(line_start)].trim().is_empty()
    }

    /// Where what belongs to an entry ends: its last line with the comment on it, and comment lines below it that are
    /// indented deeper than its key; before the line end.
    fn region_end(&self, end: usize, indent: usize) -> Result<usize, ManifestError> {
        let mut region = self.line_end(end);
        let rest = self.text[end..region].trim_start();
        if !rest.is_empty() && !rest.starts_with('#') {
            let line = self.text[..end].matches('\n').count() + 1;
            return Err(refuse("something else stands on the same line", Span { start: end, end, line, column: 1 }));
        }
        let mut line = self.next_line(region);
        while line < self.text.len() {
            match self.comment_line(line) {
                Some(depth) if depth > indent => region = self.line_end(line),
                None if self.is_blank_line(line) => {}
                _ => break,
            }
            line = self.next_line(self.line_end(line));
        }
        Ok(region)
    }

    /// Where what belongs to an entry begins: comment lines directly above its key, indented like it.
    fn region_start(&self, key: &Node, indent: usize) -> usize {
        let mut start = self.line_start(key.span.start);
        while start > 0 {
            let above = self.line_start(start - 1);
            if self.comment_line(above) != Some(indent) {
                break;
            }
            start = above;
        }
        start
    }

    /// How much deeper children stand: as those of the object do, else two spaces.
    fn step(&self) -> usize {
        let spec = self.member("spec");
        let below = |spot: &Spot<'_>| {
            let child = spot.node().entries()?.first()?;
            let indent = self.indent(&child.key).ok()?;
            indent.checked_sub(spot.entry.key.span.column - 1).filter(|step| *step > 0 && !spot.node().is_flow())
        };
        let items = |spec: &Spot<'s>| spec.child("items").or_else(|| spec.child("encryptedData"));
        spec.and_then(|spec| items(&spec).as_ref().and_then(below).or_else(|| below(&spec))).unwrap_or(2)
    }

    // --- block style

    fn insert_block(
        &mut self,
        map: &Spot<'_>,
        neighbour: Option<&Entry>,
        key: &str,
        value: &Tree,
    ) -> Result<(), ManifestError> {
        let Some(first) = map.node().entries().and_then(<[_]>::first) else { return Ok(()) };
        let indent = self.indent(&first.key)?;
        let step = self.step();
        let mut out = Out::default();
        match neighbour {
            None => {
                let at = self.region_start(&first.key, indent);
                let block = Block { indent, step, eol: self.eol(at), tab: false };
                block.pad(&mut out);
                write_member(&mut out, key, value, block);
                out.push(block.eol);
                self.splice_out(at..at, out);
            }
            Some(entry) => {
                let at = self.region_end(entry.end(), indent)?;
                let block = Block { indent, step, eol: self.eol(at), tab: false };
                out.push(block.eol);
                block.pad(&mut out);
                write_member(&mut out, key, value, block);
                self.splice_out(at..at, out);
            }
        }
        Ok(())
    }

    fn set_value(&mut self, spot: &Spot<'_>, tree: &Tree) -> Result<(), ManifestError> {
        self.intend(spot.path.clone(), Op::Set(tree.to_node()));
        let entry = spot.entry;
        let value = &entry.value;
        let Some(colon) = entry.colon else {
            return Err(refuse("the key has no value on its line", entry.key.span));
        };
        if spot.parent.is_flow() {
            let flow = self.flow_of(spot.parent, entry);
            let mut out = Out::default();
            if value.span.start == value.span.end {
                out.push(" ");
            }
            write_flow(&mut out, tree, flow);
            self.splice_out(value.span.range(), out);
            return Ok(());
        }
        let indent = self.indent(&entry.key)?;
        let key_line_end = self.line_end(colon);
        let block = Block { indent, step: self.step(), eol: self.eol(colon), tab: false };
        let mut out = Out::default();
        super::emit::write_value(&mut out, tree, block);
        let below = tree_is_below(tree);
        let is_block_scalar = matches!(value.kind, NodeKind::Scalar { style: Style::Literal | Style::Folded, .. });
        if is_block_scalar {
            // The header's comment goes with it.
            let end = self.region_end(value.span.end, indent)?;
            self.splice_out(colon + 1..end, out);
        } else if value.span.start <= key_line_end {
            // On the key's line: its comment stays there.
            let end = self.line_end(value.span.end);
            self.region_end(value.span.end, indent)?;
            if below {
                self.splice(colon + 1..value.span.end, "");
                self.splice_out(end..end, out);
            } else {
                self.splice_out(colon + 1..value.span.end, out);
            }
        } else {
            let end = self.region_end(value.span.end, indent)?;
            if below {
                self.splice_out(key_line_end..end, out);
            } else {
                self.splice_out(colon + 1..colon + 1, out);
                self.splice(key_line_end..end, "");
            }
        }
        Ok(())
    }

    /// Takes a member out; the last one leaves `{}`.
    fn remove(&mut self, map: &Spot<'_>, member: &Spot<'_>) -> Result<(), ManifestError> {
        let node = map.node();
        let entries = node.entries().unwrap_or_default();
        let index = member.index();
        let entry = member.entry;
        if entries.len() == 1 && !node.is_flow() {
            return self.set_value(map, &Tree::Map(Vec::new()));
        }
        let key = entry.key.scalar().unwrap_or_default().to_owned();
        self.intend(map.path.clone(), Op::Remove(key));
        if node.is_flow() {
            if entries.len() == 1 {
                self.splice(node.span.range(), "{}");
            } else if let Some(next) = entries.get(index + 1) {
                self.splice(entry.key.span.start..next.key.span.start, "");
            } else {
                self.splice(entries[index - 1].end()..entry.end(), "");
            }
            return Ok(());
        }
        let indent = self.indent(&entry.key)?;
        let start = self.region_start(&entry.key, indent);
        let end = self.region_end(entry.end(), indent)?;
        let next = self.next_line(end);
        if next > end && self.text.as_bytes()[next - 1] == b'\n' {
            self.splice(start..next, "");
        } else {
            // The last line of a text without a final line end: the one before it goes.
            let before = self.text[..start]
                .strip_suffix('\n')
                .map_or(start, |text| text.strip_suffix('\r').unwrap_or(text).len());
            self.splice(before..end, "");
        }
        Ok(())
    }

    // --- flow style

    /// How the members of a flow mapping are laid out.
    fn layout(&self, map: &Node) -> Flow<'s> {
        let entries = map.entries().unwrap_or_default();
        let Some(first) = entries.first() else { return Flow { pretty: None, spaced: true } };
        let spaced = first.colon.is_none_or(|colon| self.text[colon + 1..].starts_with(char::is_whitespace));
        let prefix = &self.text[self.line_start(first.key.span.start)..first.key.span.start];
        let own_line = self.text[map.span.start..first.key.span.start].contains('\n')
            && prefix.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
        if !own_line {
            return Flow { pretty: None, spaced };
        }
        let tab = prefix.contains('\t');
        let close = self.line_start(map.span.end.saturating_sub(1));
        let closing = self.text[close..].len() - self.text[close..].trim_start_matches([' ', '\t']).len();
        let step = prefix.len().checked_sub(closing).filter(|step| *step > 0).unwrap_or(if tab { 1 } else { 2 });
        Flow { pretty: Some(Block { indent: prefix.len(), step, eol: self.eol(map.span.start), tab }), spaced }
    }

    /// How the value of an entry is laid out when it is written anew.
    fn flow_of(&self, map: &Node, entry: &Entry) -> Flow<'s> {
        let layout = self.layout(map);
        let start = entry.key.span.start;
        let first = self.text[self.line_start(start)..start].trim().is_empty();
        if first { layout } else { Flow { pretty: None, ..layout } }
    }

    fn insert_flow(
        &mut self,
        map: &Node,
        neighbour: Option<&Entry>,
        key: &str,
        value: &Tree,
    ) -> Result<(), ManifestError> {
        let flow = self.layout(map);
        let Some(first) = map.entries().and_then(<[_]>::first) else { return Ok(()) };
        let mut member = Out::default();
        write_flow_member(&mut member, key, value, flow);
        let mut lead = Out::default();
        match flow.pretty {
            Some(block) => {
                lead.push(block.eol);
                block.pad(&mut lead);
            }
            None if flow.spaced => lead.push(" "),
            None => {}
        }
        let Some(entry) = neighbour else {
            let at = first.key.span.start;
            member.push(",");
            member.push(&lead.0);
            self.splice_out(at..at, member);
            return Ok(());
        };
        let end = entry.end();
        let line_end = self.line_end(end);
        let rest = self.text[end..line_end].trim_start();
        let blank = |rest: &str| rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
        if flow.pretty.is_some() && rest.strip_prefix(',').is_some_and(blank) {
            lead.push(&member.0);
            lead.push(",");
            self.splice_out(line_end..line_end, lead);
        } else if flow.pretty.is_some() && blank(rest) {
            lead.push(&member.0);
            self.splice(end..end, ",");
            self.splice_out(line_end..line_end, lead);
        } else {
            let mut out = Out::default();
            out.push(",");
            out.push(&lead.0);
            out.push(&member.0);
            self.splice_out(end..end, out);
        }
        Ok(())
    }

    // --- scalars

    fn replace_scalar(&mut self, spot: &Spot<'_>, text: &str) -> Result<(), ManifestError> {
        if spot.node().scalar() == Some(text) && is_clean_scalar(spot.node()) {
            return Ok(());
        }
        self.splice_scalar(spot.node(), text)?;
        self.intend(spot.path.clone(), Op::Set(Tree::text(text).to_node()));
        Ok(())
    }

    fn splice_scalar(&mut self, node: &Node, text: &str) -> Result<(), ManifestError> {
        let out = scalar_text(node, text)?;
        self.splice_out(node.span.range(), out);
        Ok(())
    }

    // --- whole objects

    fn replace_object(&mut self, tree: &Tree) -> Result<(), ManifestError> {
        let node = self.object.node();
        let document = &self.stream.documents()[self.object.document()];
        if let Some(alias) = self.enclosing_alias() {
            return Err(refuse("the object stands here through an alias", alias));
        }
        if node.anchor {
            return Err(refuse("the object has an anchor", node.span).help("write out what its aliases stand for"));
        }
        if node.tag != Tag::None {
            return Err(refuse("the object has a tag", node.span).help("remove the tag"));
        }
        let (range, out) = if node.is_flow() {
            (node.span.range(), self.object_in_flow(node, tree))
        } else {
            self.object_in_block(node, tree)?
        };
        let borrowed = document.aliases.iter().find(|(alias, target)| range.contains(target) && !range.contains(alias));
        if let Some((alias, _)) = borrowed {
            return Err(refuse(
                "an alias outside of the object stands for a part of it",
                super::source::span_at(self.text, *alias),
            )
            .help("write out what it stands for"));
        }
        self.splice_out(range, out);
        self.intend(self.object_path(), Op::Set(tree.to_node()));
        Ok(())
    }

    fn enclosing_alias(&self) -> Option<Span> {
        let mut node = &self.stream.documents()[self.object.document()].root;
        for index in self.object.path() {
            let entry = node.entry("items")?;
            node = entry.value.items()?.get(*index)?;
            if let Some(alias) = entry.value.alias.or(node.alias) {
                return Some(alias);
            }
        }
        node.alias
    }

    fn object_in_block(&self, node: &Node, tree: &Tree) -> Result<(Range<usize>, Out), ManifestError> {
        let start = node.span.start;
        let line_start = self.line_start(start);
        let prefix = &self.text[line_start..start];
        if !prefix.bytes().all(|byte| matches!(byte, b' ' | b'-')) {
            return Err(refuse("its first key does not stand first on its line", node.span));
        }
        let indent = prefix.len();
        let end = self.region_end(node.span.end, indent)?;
        let mut out = Out::default();
        write_block(&mut out, tree, Block { indent, step: 2, eol: self.eol(start), tab: false });
        Ok((start..end, out))
    }

    fn object_in_flow(&self, node: &Node, tree: &Tree) -> Out {
        let mut flow = self.layout(node);
        if let Some(block) = &mut flow.pretty {
            block.indent = block.indent.saturating_sub(block.step);
        }
        let mut out = Out::default();
        write_flow(&mut out, tree, flow);
        out
    }
}

/// The text to put in the place of a scalar, in its style.
fn scalar_text(node: &Node, text: &str) -> Result<Out, ManifestError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ManifestError::new(
            ManifestErrorKind::BadValue,
            "the new text is not printable ASCII without white space",
        )
        .at(node.span));
    }
    let NodeKind::Scalar { style, strip, .. } = &node.kind else {
        return Err(refuse("there is no text to replace", node.span));
    };
    let mut out = Out::default();
    match style {
        Style::Plain if node.span.start == node.span.end => {
            out.push(" ");
            write_scalar(&mut out, text);
        }
        Style::Plain if is_safe_plain(text) => out.push(text),
        Style::Plain | Style::Double => write_quoted(&mut out, text),
        Style::Single => {
            out.push("'");
            out.push(&text.replace('\'', "''"));
            out.push("'");
        }
        Style::Literal | Style::Folded if *strip && node.span.start < node.span.end => out.push(text),
        Style::Literal | Style::Folded => {
            return Err(refuse("the text keeps line ends at its end", node.span).help("write >- before it"));
        }
    }
    Ok(out)
}

fn last_key(node: &Node) -> After {
    let last = node.entries().and_then(<[_]>::last).and_then(|entry| entry.key.scalar());
    last.map_or(After::Nothing, |key| After::Key(key.into()))
}

fn expect_map(spot: &Spot<'_>) -> Result<(), ManifestError> {
    if spot.is_empty() || spot.node().entries().is_some() {
        return Ok(());
    }
    Err(ManifestError::new(
        ManifestErrorKind::WrongType,
        format!("{} is {}; a mapping belongs here", spot.name, spot.node().type_name()),
    )
    .at(spot.node().span))
}

/// Whether a scalar can be replaced where it stands: written, of one line, keeping no line ends.
fn is_clean_scalar(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Scalar { style: Style::Literal | Style::Folded, strip, .. } => {
            *strip && node.span.start < node.span.end
        }
        NodeKind::Scalar { .. } => node.span.start < node.span.end,
        _ => false,
    }
}

/// Whether the tree is written on the lines below its key.
fn tree_is_below(tree: &Tree) -> bool {
    match tree {
        Tree::Map(members) => !members.is_empty(),
        Tree::Seq(items) => !items.is_empty(),
        _ => false,
    }
}
