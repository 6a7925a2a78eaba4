//! What of an object an edit is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use zeroize::Zeroizing;

use super::super::emit::{Out, Tree};
use super::super::error::{ManifestError, ManifestErrorKind};
use super::super::node::{Entry, Node, NodeKind, Style};
use super::super::{Object, Stream};
use super::round::{After, Intent, Op, Plan, Round, Splice, Step};
use super::{Edit, EnvelopeMap, TextPath, no_target};
use crate::resource::SealedItem;

/// A mapping, the entry whose value it is, and where it is.
#[derive(Clone)]
pub(super) struct Spot<'n> {
    /// The mapping that holds the entry.
    pub parent: &'n Node,
    pub entry: &'n Entry,
    /// Which of the mapping's entries it is.
    pub index: usize,
    /// The path of the value.
    pub path: Vec<Step>,
    /// How errors call it.
    pub name: String,
}

impl<'n> Spot<'n> {
    fn of(parent: &'n Node, key: &str, mut path: Vec<Step>, name: String) -> Option<Self> {
        let entries = parent.entries()?;
        let index = entries.iter().position(|entry| entry.key.scalar() == Some(key))?;
        path.push(Step::Key(key.into(), index));
        Some(Self { parent, entry: entries.get(index)?, index, path, name })
    }

    pub const fn node(&self) -> &'n Node {
        &self.entry.value
    }

    pub fn child(&self, key: &str) -> Option<Self> {
        Self::of(self.node(), key, self.path.clone(), format!("{}.{key}", self.name))
    }

    /// The member of this key, which is known to be there.
    fn nth(&self, key: &str, index: usize) -> Option<Self> {
        let entry = self.node().entries()?.get(index)?;
        let mut path = self.path.clone();
        path.push(Step::Key(key.into(), index));
        Some(Self { parent: self.node(), entry, index, path, name: format!("{}.{key}", self.name) })
    }

    pub fn is_empty(&self) -> bool {
        self.node().is_null() || self.node().entries().is_some_and(<[_]>::is_empty)
    }
}

pub(super) struct Planner<'s> {
    pub stream: &'s Stream,
    pub text: &'s str,
    pub object: Object<'s>,
    pub plan: Plan,
}

impl<'s> Planner<'s> {
    pub fn new(stream: &'s Stream, object: Object<'s>) -> Self {
        let mut planner = Self { stream, text: stream.text(), object, plan: Plan::default() };
        planner.plan = planner.nothing();
        planner
    }

    fn nothing(&self) -> Plan {
        Plan { document: self.object.document(), at: self.object.span(), ..Plan::default() }
    }

    /// What was planned until now.
    pub fn planned(&mut self) -> Plan {
        let nothing = self.nothing();
        std::mem::replace(&mut self.plan, nothing)
    }

    /// Whether it can be edited at all.
    pub fn look(&self) -> Result<(), ManifestError> {
        let root = self.object.node();
        if !self.object.is_sealed() && !self.object.is_bitnami() {
            return Err(ManifestError::new(ManifestErrorKind::OtherKind, "this is no SealedSecret").at(root.span));
        }
        if let Some((what, span)) = root.first_alias() {
            return Err(ManifestError::new(ManifestErrorKind::Alias, format!("{what} in a sealed manifest"))
                .at(span)
                .help("write out what it stands for"));
        }
        self.object.defect().map_or(Ok(()), Err)
    }

    /// Plans a change of what is no whole item.
    pub fn plan(&mut self, edit: &Edit) -> Result<(), ManifestError> {
        if self.object.is_bitnami() {
            return self.bitnami(edit);
        }
        match edit {
            // See `items`.
            Edit::SetItem { .. } | Edit::RemoveItem { .. } => Ok(()),
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
                Some(spot) => self.add(&spot, name, Tree::Line(text.clone())),
                None => {
                    let parent = match map {
                        EnvelopeMap::Common => self.spec()?,
                        EnvelopeMap::Item(key) => {
                            self.item(key).ok_or_else(|| no_target(format!("there is no item \"{key}\"")))?
                        }
                    };
                    let tree = Tree::Map(vec![(name.clone(), Tree::Line(text.clone()))]);
                    self.add_after(&parent, last_key(parent.node()), vec![("envelopes".into(), tree)])
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

    pub fn object_path(&self) -> Vec<Step> {
        self.object.path().iter().flat_map(|index| [Step::Key("items".into(), 0), Step::Index(*index)]).collect()
    }

    pub fn member(&self, key: &str) -> Option<Spot<'s>> {
        Spot::of(self.object.node(), key, self.object_path(), key.into())
    }

    pub fn spec(&self) -> Result<Spot<'s>, ManifestError> {
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

    /// How many envelopes a map has.
    pub fn number_of_envelopes(&self, map: &EnvelopeMap) -> usize {
        self.envelopes(map).and_then(|spot| spot.node().entries().map(<[_]>::len)).unwrap_or_default()
    }

    pub fn intend(&mut self, path: Vec<Step>, op: Op) {
        self.plan.intents.push(Intent { path, op });
    }

    pub fn splice(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.plan.splices.push(Splice { range, text: Zeroizing::new(text.into()) });
    }

    pub fn splice_out(&mut self, range: Range<usize>, out: Out) {
        self.plan.splices.push(Splice { range, text: out.0 });
    }

    // --- items

    /// Plans what comes, what changes and what goes of the items, as if at once. Which of the edits have to wait for another
    /// round: what touches others, and what would leave nothing before something comes.
    pub fn items(&mut self, edits: &[&(usize, Edit)], round: &mut Round) -> Result<Vec<usize>, ManifestError> {
        let spec = self.spec()?;
        let items = spec.child(self.items_name());
        items.as_ref().map_or(Ok(()), expect_map)?;
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            self.first_items(&spec, edits)?;
            return Ok(if round.take(self.planned()) { Vec::new() } else { (0..edits.len()).collect() });
        };
        let entries = items.node().entries().unwrap_or_default();
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.scalar().unwrap_or_default()).collect();
        let sorted = keys.is_sorted();
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            places.entry(key).or_insert(index);
        }
        // By the entry that they come before.
        let mut new: BTreeMap<usize, Vec<(usize, &str, Tree)>> = BTreeMap::new();
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for (which, (_, edit)) in edits.iter().enumerate() {
            match edit {
                Edit::SetItem { key, .. } | Edit::SetEncrypted { key, .. } => match places.get(key.as_str()) {
                    Some(place) => changed.push((which, *place, key, edit)),
                    None => {
                        let before =
                            if sorted { keys.partition_point(|other| *other < key.as_str()) } else { keys.len() };
                        let of_gap = new.entry(before).or_default();
                        of_gap.extend(item_tree(edit).map(|tree| (which, key.as_str(), tree)));
                    }
                },
                Edit::RemoveItem { key } => match places.get(key.as_str()) {
                    Some(place) => gone.push((which, *place, key)),
                    None => return Err(no_target(format!("there is no item \"{key}\""))),
                },
                _ => {}
            }
        }
        let mut waiting = BTreeSet::new();
        // Whatever the order of the edits, the same one is the last to go.
        gone.sort_by_key(|(_, place, _)| *place);
        if gone.len() == keys.len() && gone.len() > 1 && new.is_empty() {
            waiting.extend(gone.pop().map(|(which, ..)| which));
        }
        for (before, mut members) in new {
            if sorted {
                members.sort_by_key(|(_, key, _)| *key);
            }
            let after = before.checked_sub(1).map_or(After::Nothing, |last| After::Key(keys[last].into()));
            let of_gap: Vec<usize> = members.iter().map(|(which, ..)| *which).collect();
            let trees = members.into_iter().map(|(_, key, tree)| (key.to_owned(), tree)).collect();
            self.add_after(&items, after, trees)?;
            if !round.take(self.planned()) {
                waiting.extend(of_gap);
            }
        }
        for (which, place, key, edit) in changed {
            match (items.nth(key, place), edit) {
                (Some(spot), Edit::SetItem { item, .. }) => self.change_item(&spot, item)?,
                (Some(spot), Edit::SetEncrypted { text, .. }) => self.change_text(&spot, &Tree::text(text))?,
                _ => {}
            }
            if !round.take(self.planned()) {
                waiting.insert(which);
            }
        }
        for (which, place, key) in gone {
            if let Some(spot) = items.nth(key, place) {
                self.remove(&items, &spot)?;
            }
            if !round.take(self.planned()) {
                waiting.insert(which);
            }
        }
        Ok(waiting.into_iter().collect())
    }

    /// What the map of items is called.
    fn items_name(&self) -> &'static str {
        if self.object.is_bitnami() { "encryptedData" } else { "items" }
    }

    /// Where there are none yet.
    fn first_items(&mut self, spec: &Spot<'_>, edits: &[&(usize, Edit)]) -> Result<(), ManifestError> {
        let mut new = BTreeMap::new();
        for (_, edit) in edits {
            match edit {
                Edit::SetItem { key, .. } | Edit::SetEncrypted { key, .. } => {
                    new.extend(item_tree(edit).map(|tree| (key.clone(), tree)));
                }
                Edit::RemoveItem { key } => return Err(no_target(format!("there is no item \"{key}\""))),
                _ => {}
            }
        }
        let tree = Tree::Map(new.into_iter().collect());
        if let Some(items) = spec.child(self.items_name()) {
            return self.set_value(&items, &tree);
        }
        if self.object.is_bitnami() {
            return self.add(spec, self.items_name(), tree);
        }
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
        self.add_after(spec, after, vec![("items".into(), tree)])
    }

    fn change_item(&mut self, spot: &Spot<'_>, item: &SealedItem) -> Result<(), ManifestError> {
        // Text by text where the item is laid out as it should be, else the whole value.
        let entries = spot.node().entries().unwrap_or_default();
        let known = entries.iter().all(|entry| matches!(entry.key.scalar(), Some("sealed" | "envelopes")));
        let Some(sealed) = spot.child("sealed").filter(|sealed| known && is_clean_scalar(sealed.node())) else {
            return self.set_value(spot, &Tree::item(item));
        };
        self.replace_scalar(&sealed, &item.sealed)?;
        match (spot.child("envelopes"), &item.envelopes) {
            (None, None) => Ok(()),
            (Some(old), None) => self.remove(spot, &old),
            (None, Some(new)) => {
                let lines = vec![("envelopes".into(), Tree::lines(new))];
                self.add_after(spot, After::Key("sealed".into()), lines)
            }
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
    pub fn add(&mut self, map: &Spot<'_>, key: &str, value: Tree) -> Result<(), ManifestError> {
        expect_map(map)?;
        let keys: Vec<&str> =
            map.node().entries().unwrap_or_default().iter().map(|e| e.key.scalar().unwrap_or_default()).collect();
        let before = if keys.is_sorted() { keys.iter().rfind(|other| **other < key) } else { keys.last() };
        let after = before.map_or(After::Nothing, |key| After::Key((*key).into()));
        self.add_after(map, after, vec![(key.into(), value)])
    }

    /// Adds members to a mapping, one after the other.
    pub fn add_after(
        &mut self,
        map: &Spot<'_>,
        after: After,
        members: Vec<(String, Tree)>,
    ) -> Result<(), ManifestError> {
        if map.is_empty() {
            return self.set_value(map, &Tree::Map(members));
        }
        let node = map.node();
        let entries = node.entries().unwrap_or_default();
        let neighbour = match &after {
            After::Nothing => None,
            After::Key(key) => entries.iter().find(|entry| entry.key.scalar() == Some(key)),
        };
        if node.is_flow() {
            self.insert_flow(node, neighbour, &members);
        } else {
            self.insert_block(map, neighbour, &members)?;
        }
        let nodes = members.into_iter().map(|(key, value)| (key, value.to_node())).collect();
        self.intend(map.path.clone(), Op::Insert(after, nodes));
        Ok(())
    }
}

pub(super) fn last_key(node: &Node) -> After {
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
pub(super) fn is_clean_scalar(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Scalar { style: Style::Literal | Style::Folded, strip, .. } => {
            *strip && node.span.start < node.span.end
        }
        NodeKind::Scalar { .. } => node.span.start < node.span.end,
        _ => false,
    }
}

/// The value of an item that is set.
fn item_tree(edit: &Edit) -> Option<Tree> {
    match edit {
        Edit::SetItem { item, .. } => Some(Tree::item(item)),
        Edit::SetEncrypted { text, .. } => Some(Tree::text(text)),
        _ => None,
    }
}
