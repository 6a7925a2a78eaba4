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

use std::collections::{BTreeMap, BTreeSet};

use super::emit::Tree;
use super::error::{ManifestError, ManifestErrorKind, Span};
use super::node::Node;
use super::{Stream, list_of};
use crate::resource::SealedItem;

mod bitnami;
mod plan;
mod round;
mod text;

pub use bitnami::TemplateMap;
use plan::Planner;
use round::{Intent, Op, Plan, Round, Splice, Step};
use text::scalar_text;

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
    /// How often the text was written and read again: edits that touch each other wait for the next time.
    pub rounds: usize,
}

impl Stream {
    /// Makes edits, each to the object of that index. All or none: after an error the stream is as it was. The index of every
    /// object stays.
    ///
    /// The edits of one object are made in their order, and items that are set and taken out one after the other as if at
    /// once: where each new one goes is decided by those that are there before. The text is read again a few times, however
    /// many edits there are.
    ///
    /// # Errors
    /// [`ManifestErrorKind::NoTarget`] when what is to be changed is not there, [`ManifestErrorKind::Unsafe`] when it can't
    /// be changed without touching something else, and what reading the object says.
    pub fn apply(&mut self, edits: &[(usize, Edit)]) -> Result<Applied, ManifestError> {
        let mut total = Applied::default();
        let mut current: Option<Self> = None;
        let mut rest: Vec<&(usize, Edit)> = edits.iter().collect();
        let mut retyped = self.retype_lists(edits)?;
        while !rest.is_empty() {
            let stream = current.as_ref().unwrap_or(self);
            let mut round = Round::default();
            // Even what collides with the edits to Lists comes after them.
            retyped.drain(..).for_each(|plan| _ = round.take(plan));
            let left = stream.plan_round(&rest, &mut round)?;
            if left.len() == rest.len() && round.is_empty() {
                return Err(refuse("two changes overlap", Span::default()));
            }
            rest = left;
            if let Some((next, dropped)) = round.carry_out(stream)? {
                total.changed = true;
                total.rounds += 1;
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

    /// Plans what can be done at once, and returns what has to wait.
    fn plan_round<'e>(
        &self,
        edits: &[&'e (usize, Edit)],
        round: &mut Round,
    ) -> Result<Vec<&'e (usize, Edit)>, ManifestError> {
        let mut left = Vec::new();
        // Objects with something that waits, so that what follows it waits too; and those that were looked at.
        let (mut waiting, mut sound) = (BTreeSet::new(), BTreeSet::new());
        // Envelopes that go: the last one of a map leaves `{}`, which takes a round of its own.
        let mut going: Vec<(usize, &EnvelopeMap)> = Vec::new();
        let mut rest = edits;
        while let [first, after @ ..] = rest {
            let (index, edit) = *first;
            if waiting.contains(index) {
                left.push(*first);
                rest = after;
                continue;
            }
            let Some(object) = self.object(*index) else {
                return Err(no_target(format!("there is no object {index} in the file")));
            };
            let located = |error: ManifestError| error.at(object.span()).in_document(object.document());
            let mut planner = Planner::new(self, object);
            if !matches!(edit, Edit::ReplaceObject(_)) && sound.insert(*index) {
                planner.look().map_err(located)?;
            }
            let items = items_of(rest, object.is_bitnami());
            if items > 0 {
                let (all, after) = rest.split_at(items);
                rest = after;
                let wait = planner.items(all, round).map_err(located)?;
                if !wait.is_empty() {
                    waiting.insert(*index);
                }
                left.extend(wait.into_iter().map(|which| all[which]));
                continue;
            }
            planner.plan(edit).map_err(located)?;
            let mut taken = true;
            if let Edit::RemoveEnvelope { map, .. } = edit {
                let others = going.iter().filter(|other| **other == (*index, map)).count();
                taken = others == 0 || others + 1 < planner.number_of_envelopes(map);
                going.push((*index, map));
            }
            if !taken || !round.take(planner.planned()) {
                waiting.insert(*index);
                left.push(*first);
            }
            rest = after;
        }
        Ok(left)
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
                path.extend([Step::Key("items".into(), 0), Step::Index(*index)]);
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
                    path.push(Step::Key(key.into(), 0));
                    plan.intents.push(Intent { path, op: Op::Set(Tree::text(value).to_node()) });
                }
            }
            plans.insert(place, plan);
        }
        Ok(plans.into_values().collect())
    }
}

fn no_target(message: impl Into<String>) -> ManifestError {
    ManifestError::new(ManifestErrorKind::NoTarget, message)
}

fn refuse(why: &str, span: Span) -> ManifestError {
    ManifestError::new(ManifestErrorKind::Unsafe, format!("this can't be edited safely: {why}")).at(span)
}

/// How many of the first edits set and take out items of one object, each another one.
fn items_of(edits: &[&(usize, Edit)], bitnami: bool) -> usize {
    let Some((object, _)) = edits.first() else { return 0 };
    let mut keys = BTreeSet::new();
    let mut count = 0;
    for (index, edit) in edits {
        let key = match edit {
            Edit::RemoveItem { key } => key,
            Edit::SetItem { key, .. } if !bitnami => key,
            Edit::SetEncrypted { key, .. } if bitnami => key,
            _ => break,
        };
        if index != object || !keys.insert(key) {
            break;
        }
        count += 1;
    }
    count
}
