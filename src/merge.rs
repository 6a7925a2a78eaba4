//! Merging a file of SealedSecrets three ways, on ciphertext.
//!
//! What the items and envelopes are afterwards is decided here, item by item. How the rest of the text merges (comments,
//! templates, other documents) a line-based merge decides, which the caller brings. In between stands one trick: each of
//! the three texts is first edited to hold the merged items, so that the line-based merge sees the same lines for them in
//! all three and has nothing to guess.
//!
//! Nothing merges wrongly: the result is read again, every item and field in it must be the one that was decided (and so
//! comes from a side), and it must be sound as a writer demands. Otherwise it is a conflict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::diff::{Found, called, envelopes_of, fields, sealed_in};
use crate::envelope::EnvelopeHead;
use crate::manifest::{Edit, EnvelopeMap, ManifestError, Stream, TextPath};
use crate::open::{ProblemKind, Strictness, inspect};
use crate::recipient::Fingerprint;
use crate::resource::{Envelopes, SealedItem, SealedSecret, SealedSecretSpec};

/// One of the three versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// What both come from.
    Base,
    /// The branch that one is on.
    Ours,
    /// The branch that is merged.
    Theirs,
}

/// What both sides changed, each in its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConflictKind {
    /// An item.
    Item(String),
    /// A line of the common envelopes.
    Envelope(String),
    /// A field, by its path.
    Field(String),
    /// The object came or went on one side and changed on the other.
    Object,
    /// The text around.
    Text,
    /// The result would not be sound; why.
    Unsound(String),
}

/// A conflict and the object that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conflict {
    /// `namespace/name`; `None` for the file.
    pub object: Option<String>,
    /// What it is about.
    pub kind: ConflictKind,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ConflictKind::Item(key) => write!(f, "item {key}")?,
            ConflictKind::Envelope(name) => write!(f, "envelope {name}")?,
            ConflictKind::Field(path) => f.write_str(path)?,
            ConflictKind::Object => {
                f.write_str("the object itself, changed on one side and gone or new on the other")?
            }
            ConflictKind::Text => f.write_str("text besides the items")?,
            ConflictKind::Unsound(why) => write!(f, "what comes of it is not sound: {why}")?,
        }
        match &self.object {
            Some(object) => write!(f, " of {object}"),
            None => Ok(()),
        }
    }
}

/// How a merge ended.
pub enum Outcome {
    /// The merged text.
    Merged(Stream),
    /// There are conflicts. The three texts differ only in what they are about, and in what a line-based merge can show.
    Conflicts {
        /// Never empty.
        conflicts: Vec<Conflict>,
        /// The base, ours and theirs, each with the merged items.
        texts: Box<[Stream; 3]>,
    },
}

/// Merges lines: base, ours, theirs, and the side to take where they overlap.
pub type MergeLines<'h> = dyn Fn(&str, &str, &str, Option<Side>) -> Option<String> + 'h;

/// What is decided outside of this library.
pub struct Helpers<'h> {
    /// Which side a conflict is settled for, if somebody said so.
    pub choose: &'h dyn Fn(&Conflict) -> Option<Side>,
    /// Merges lines: base, ours, theirs, and the side to take where they overlap. `None` is a conflict.
    pub lines: &'h MergeLines<'h>,
    /// The fingerprint that a policy gives a name today.
    pub current: &'h dyn Fn(&str) -> Option<Fingerprint>,
}

/// Merges what `ours` and `theirs` made of `base`.
///
/// # Errors
/// When one of the three can't be read: there is nothing to decide on.
pub fn merge(base: &Stream, ours: &Stream, theirs: &Stream, helpers: &Helpers<'_>) -> Result<Outcome, ManifestError> {
    let found = [sealed_in(base)?, sealed_in(ours)?, sealed_in(theirs)?];
    let mut conflicts = Vec::new();
    // By name; of several with one name nothing can be told.
    let twice = found.iter().any(|found| {
        let names: BTreeSet<String> = found.iter().map(|f| called(&f.object)).collect();
        names.len() < found.len()
    });
    if twice {
        conflicts
            .push(Conflict { object: None, kind: ConflictKind::Unsound("two SealedSecrets have one name".into()) });
        return Ok(Outcome::Conflicts { conflicts, texts: Box::new([copy(base)?, copy(ours)?, copy(theirs)?]) });
    }
    let groups = group(&found);
    let mut edits: [Vec<(usize, Edit)>; 3] = Default::default();
    let mut wanted = Vec::new();
    for group in &groups {
        let get = |side: usize| group[side].map(|index| &found[side][index]);
        let (b, o, t) = (get(0), get(1), get(2));
        let object = [o, t, b].into_iter().flatten().next().map(|f| called(&f.object));
        let (Some(o), Some(t)) = (o, t) else {
            match lone(b, o.or(t)) {
                Lone::Gone => {}
                Lone::Stays(sealed) => wanted.push(Wanted::of(&sealed)),
                Lone::Conflict => {
                    let conflict = Conflict { object: object.clone(), kind: ConflictKind::Object };
                    match (helpers.choose)(&conflict) {
                        Some(side) => wanted.extend(get(side as usize).map(|f| Wanted::of(&f.object))),
                        None => conflicts.push(conflict),
                    }
                }
            }
            continue;
        };
        if b.is_some_and(|b| b.bitnami != o.bitnami) || o.bitnami != t.bitnami {
            // The same values, if they are, have different texts: nothing can be told.
            conflicts.push(Conflict { object, kind: ConflictKind::Unsound("the formats of the sides differ".into()) });
            continue;
        }
        let decided = decide(b.map(|f| &f.object), &o.object, &t.object, object.as_deref(), helpers);
        conflicts.extend(decided.conflicts);
        for (side, found) in [b, Some(o), Some(t)].into_iter().enumerate() {
            if let Some(found) = found {
                edits[side].extend(in_format(found, edits_towards(found, &decided.targets[side])));
            }
        }
        wanted.push(Wanted { object: decided.place, items: decided.targets[1].clone(), fields: decided.fields });
    }
    let [mut base, mut ours, mut theirs] = [copy(base)?, copy(ours)?, copy(theirs)?];
    for (stream, edits) in [&mut base, &mut ours, &mut theirs].into_iter().zip(&edits) {
        stream.apply(edits)?;
    }
    let conflicted = |conflicts: Vec<Conflict>, base, ours, theirs| {
        Ok(Outcome::Conflicts { conflicts, texts: Box::new([base, ours, theirs]) })
    };
    if !conflicts.is_empty() {
        return conflicted(conflicts, base, ours, theirs);
    }
    let whole = |kind| Conflict { object: None, kind };
    let favour = (helpers.choose)(&whole(ConflictKind::Text));
    let (b, o, t) = (base.text(), ours.text(), theirs.text());
    let text = if b == t || o == t {
        Some(o.to_owned())
    } else if b == o {
        Some(t.to_owned())
    } else {
        (helpers.lines)(b, o, t, favour)
    };
    let Some(text) = text else {
        return conflicted(vec![whole(ConflictKind::Text)], base, ours, theirs);
    };
    // In the encoding of ours.
    let merged = if text == o {
        copy(&ours)
    } else if text == t && base.text() == o && ours.encoding() == theirs.encoding() {
        copy(&theirs)
    } else {
        Stream::read(text.as_bytes())
    };
    match merged.map_err(|error| error.message).and_then(|merged| verify(&merged, &wanted).map(|()| merged)) {
        Ok(merged) => Ok(Outcome::Merged(merged)),
        Err(why) => conflicted(vec![whole(ConflictKind::Unsound(why))], base, ours, theirs),
    }
}

fn copy(stream: &Stream) -> Result<Stream, ManifestError> {
    Stream::read(&stream.to_bytes())
}

/// What an object must be in the result.
struct Wanted {
    object: String,
    items: Sealed,
    fields: BTreeMap<String, String>,
}

impl Wanted {
    fn of(sealed: &SealedSecret) -> Self {
        Self { object: called(sealed), items: Sealed::of(&sealed.spec), fields: all_fields(sealed) }
    }
}

/// The sealed part of an object.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sealed {
    items: BTreeMap<String, SealedItem>,
    envelopes: Envelopes,
}

impl Sealed {
    fn of(spec: &SealedSecretSpec) -> Self {
        Self { items: spec.items.clone(), envelopes: spec.envelopes.clone() }
    }
}

/// The fields, with scope and place.
fn all_fields(sealed: &SealedSecret) -> BTreeMap<String, String> {
    let mut all = fields(sealed);
    let metadata = &sealed.metadata;
    for (path, value) in [("metadata.name", &metadata.name), ("metadata.namespace", &metadata.namespace)] {
        if let Some(value) = value {
            all.insert(path.into(), value.clone());
        }
    }
    all.insert("spec.scope".into(), sealed.spec.scope.unwrap_or_default().to_string());
    all
}

/// The same object in the three versions: by name; and what is left, when it is one in each.
fn group(found: &[Vec<Found>; 3]) -> Vec<[Option<usize>; 3]> {
    if found.iter().all(|found| found.len() == 1) {
        return vec![[Some(0); 3]];
    }
    let mut by_name: BTreeMap<String, [Option<usize>; 3]> = BTreeMap::new();
    for (side, found) in found.iter().enumerate() {
        for (index, found) in found.iter().enumerate() {
            by_name.entry(called(&found.object)).or_default()[side] = Some(index);
        }
    }
    by_name.into_values().collect()
}

enum Lone {
    Gone,
    Stays(Box<SealedSecret>),
    Conflict,
}

/// An object that only one side has, or none.
fn lone(base: Option<&Found>, there: Option<&Found>) -> Lone {
    match (base, there) {
        (_, None) => Lone::Gone,
        (None, Some(there)) => Lone::Stays(Box::new(there.object.clone())),
        (Some(base), Some(there)) if base.object == there.object => Lone::Gone,
        _ => Lone::Conflict,
    }
}

struct Decided {
    /// What each of the three texts is to hold: the same, except for conflicts.
    targets: [Sealed; 3],
    place: String,
    fields: BTreeMap<String, String>,
    conflicts: Vec<Conflict>,
}

/// Three ways: the side that changed wins, or neither does.
fn three<'a, T: PartialEq>(base: &'a T, ours: &'a T, theirs: &'a T) -> Option<&'a T> {
    if ours == theirs || base == theirs {
        Some(ours)
    } else if base == ours {
        Some(theirs)
    } else {
        None
    }
}

fn decide(
    base: Option<&SealedSecret>,
    ours: &SealedSecret,
    theirs: &SealedSecret,
    object: Option<&str>,
    helpers: &Helpers<'_>,
) -> Decided {
    let nothing = SealedSecret::default();
    let base = base.unwrap_or(&nothing);
    let all = [base, ours, theirs];
    let mut targets: [Sealed; 3] = Default::default();
    let mut conflicts = Vec::new();
    let mut settle = |kind: ConflictKind| {
        let conflict = Conflict { object: object.map(str::to_owned), kind };
        let chosen = (helpers.choose)(&conflict);
        if chosen.is_none() {
            conflicts.push(conflict);
        }
        chosen
    };

    let keys: BTreeSet<&String> = all.iter().flat_map(|s| s.spec.items.keys()).collect();
    for key in keys {
        let [b, o, t] = all.map(|s| s.spec.items.get(key));
        let told = three(&b, &o, &t).map(|item| item.cloned()).or_else(|| both_changed(b, o, t, helpers).map(Some));
        let decided = match told.filter(|item| !returns(key, all, item.as_ref())) {
            Some(item) => Ok(item),
            None => match settle(ConflictKind::Item(key.clone())) {
                Some(side) => Ok([b, o, t][side as usize].cloned()),
                None => Err([b, o, t].map(|item| item.cloned())),
            },
        };
        let decided = decided.map_or_else(|sides| sides, |item| [item.clone(), item.clone(), item]);
        for (target, item) in targets.iter_mut().zip(decided) {
            if let Some(item) = item {
                target.items.insert(key.clone(), item);
            }
        }
    }

    let used = targets.iter().any(|target| target.items.values().any(|item| item.envelopes.is_none()));
    let names: BTreeSet<&String> = all.iter().flat_map(|s| s.spec.envelopes.keys()).collect();
    for name in names {
        let [b, o, t] = all.map(|s| s.spec.envelopes.get(name));
        let decided = match three(&b, &o, &t) {
            Some(line) => Ok(line.cloned()),
            None => match either(name, o, t, helpers) {
                Some(line) => Ok(Some(line)),
                // Nobody reads it: whichever is there.
                None if !used => Ok(o.max(t).cloned()),
                None => match settle(ConflictKind::Envelope(name.clone())) {
                    Some(side) => Ok([b, o, t][side as usize].cloned()),
                    None => Err([b, o, t].map(|line| line.cloned())),
                },
            },
        };
        let decided = decided.map_or_else(|sides| sides, |line| [line.clone(), line.clone(), line]);
        for (target, line) in targets.iter_mut().zip(decided) {
            if let Some(line) = line {
                target.envelopes.insert(name.clone(), line);
            }
        }
    }

    let of = all.map(all_fields);
    let paths: BTreeSet<&String> = of.iter().flat_map(BTreeMap::keys).collect();
    let mut fields = BTreeMap::new();
    for path in paths {
        let [b, o, t] = [of[0].get(path), of[1].get(path), of[2].get(path)];
        let value = match three(&b, &o, &t) {
            Some(value) => *value,
            None => match settle(ConflictKind::Field(path.clone())) {
                Some(side) => of[side as usize].get(path),
                None => None,
            },
        };
        if let Some(value) = value {
            fields.insert(path.clone(), value.clone());
        }
    }
    let part = |path: &str| fields.get(path).map_or("-", String::as_str);
    let place = format!("{}/{}", part("metadata.namespace"), part("metadata.name"));
    Decided { targets, place, fields, conflicts }
}

/// The item that both changed, where it can be told what it becomes: its text is the same on both sides, and only lines of
/// its own envelopes differ.
fn both_changed(
    base: Option<&SealedItem>,
    ours: Option<&SealedItem>,
    theirs: Option<&SealedItem>,
    helpers: &Helpers<'_>,
) -> Option<SealedItem> {
    let (b, o, t) = (base?, ours?, theirs?);
    // A new value on one side, new lines for the old one on the other: the value carries its own.
    let same_kind =
        |a: &SealedItem, b: &SealedItem| a.sealed == b.sealed && a.envelopes.is_some() == b.envelopes.is_some();
    match (same_kind(b, o), same_kind(b, t)) {
        (true, false) => return Some(t.clone()),
        (false, true) => return Some(o.clone()),
        (false, false) if !same_kind(o, t) => return None,
        _ => {}
    }
    let nothing = Envelopes::new();
    let (o_lines, t_lines) = (o.envelopes.as_ref()?, t.envelopes.as_ref()?);
    let b_lines = b.envelopes.as_ref().filter(|_| b.sealed == o.sealed).unwrap_or(&nothing);
    let names: BTreeSet<&String> = b_lines.keys().chain(o_lines.keys()).chain(t_lines.keys()).collect();
    let mut lines = Envelopes::new();
    for name in names {
        let (b, o, t) = (b_lines.get(name), o_lines.get(name), t_lines.get(name));
        let line = match three(&b, &o, &t) {
            Some(line) => line.cloned(),
            None => Some(either(name, o, t, helpers)?),
        };
        if let Some(line) = line {
            lines.insert(name.clone(), line);
        }
    }
    Some(SealedItem { sealed: o.sealed.clone(), envelopes: Some(lines) })
}

/// Of two lines for one data key under one name either opens: the one for the key that the policy names today, else, for one
/// and the same key, the lesser text.
fn either(name: &str, ours: Option<&String>, theirs: Option<&String>, helpers: &Helpers<'_>) -> Option<String> {
    let (ours, theirs) = (ours?, theirs?);
    let (o, t) = (EnvelopeHead::parse(ours).ok()?, EnvelopeHead::parse(theirs).ok()?);
    if o.id != t.id {
        return None;
    }
    if o.fingerprint == t.fingerprint {
        return Some(ours.min(theirs).clone());
    }
    let current = (helpers.current)(name)?;
    if current == o.fingerprint { Some(ours.clone()) } else { (current == t.fingerprint).then(|| theirs.clone()) }
}

/// Whether the item, as one side sealed it anew, would bring back a reader that the other side removed.
fn returns(key: &str, all: [&SealedSecret; 3], item: Option<&SealedItem>) -> bool {
    let (Some(item), Some(base)) = (item, all[0].spec.items.get(key)) else { return false };
    if *item == *base {
        return false;
    }
    let was = envelopes_of(&all[0].spec, base);
    let [ours, theirs] =
        [all[1], all[2]].map(|side| side.spec.items.get(key).map(|i| (i, envelopes_of(&side.spec, i))));
    let (Some((ours, our_lines)), Some((theirs, their_lines))) = (ours, theirs) else { return false };
    let (lines, other) = if item == ours && item != theirs {
        (our_lines, their_lines)
    } else if item == theirs && item != ours {
        (their_lines, our_lines)
    } else {
        return false;
    };
    was.keys().any(|name| !other.contains_key(name) && lines.contains_key(name))
}

/// The edits that make an object's sealed part another.
fn edits_towards(found: &Found, target: &Sealed) -> Vec<(usize, Edit)> {
    let now = &found.object.spec;
    let mut edits = Vec::new();
    for (key, item) in &target.items {
        if now.items.get(key) != Some(item) {
            edits.push(Edit::SetItem { key: key.clone(), item: item.clone() });
        }
    }
    for key in now.items.keys().filter(|key| !target.items.contains_key(*key)) {
        edits.push(Edit::RemoveItem { key: key.clone() });
    }
    for (name, text) in &target.envelopes {
        let (map, name, text) = (EnvelopeMap::Common, name.clone(), text.clone());
        match now.envelopes.get(&name) {
            Some(was) if *was == text => {}
            Some(_) => edits.push(Edit::ReplaceText { path: TextPath::Envelope(map, name), text }),
            None => edits.push(Edit::AddEnvelope { map, name, text }),
        }
    }
    for name in now.envelopes.keys().filter(|name| !target.envelopes.contains_key(*name)) {
        edits.push(Edit::RemoveEnvelope { map: EnvelopeMap::Common, name: name.clone() });
    }
    edits.into_iter().map(|edit| (found.index, edit)).collect()
}

/// The edits of an object in its own format.
fn in_format(found: &Found, edits: Vec<(usize, Edit)>) -> Vec<(usize, Edit)> {
    #[cfg(feature = "bitnami")]
    if found.bitnami {
        return edits.into_iter().map(|(index, edit)| (index, crate::diff::bitnami::edit(edit))).collect();
    }
    edits
}

/// Whether a text holds what was decided, and nothing else.
fn verify(merged: &Stream, wanted: &[Wanted]) -> Result<(), String> {
    let found = sealed_in(merged).map_err(|error| error.message)?;
    if found.len() != wanted.len() {
        return Err(format!("it has {} SealedSecrets and should have {}", found.len(), wanted.len()));
    }
    let mut found: BTreeMap<String, Found> = found.into_iter().map(|f| (called(&f.object), f)).collect();
    for wanted in wanted {
        let Some(found) = found.remove(&wanted.object) else { return Err(format!("{} is not in it", wanted.object)) };
        if Sealed::of(&found.object.spec) != wanted.items {
            return Err(format!("the items of {} are others than decided", wanted.object));
        }
        if all_fields(&found.object) != wanted.fields {
            return Err(format!("{} has other fields than decided", wanted.object));
        }
        if found.bitnami {
            if let Some(problems) = found.problems(Strictness::Writer) {
                return Err(problems);
            }
        } else if let Err(problems) = inspect(&found.object, Strictness::Writer) {
            // Two branches can merge to more data keys than a writer makes; readers take them.
            let only_many =
                problems.as_slice().iter().all(|problem| matches!(problem.kind, ProblemKind::TooManyDataKeys { .. }));
            if !only_many || inspect(&found.object, Strictness::Reader).is_err() {
                return Err(problems.to_string());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
