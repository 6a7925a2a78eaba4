//! What changed between two SealedSecrets, item by item, on public text alone: no key, no policy.
//!
//! Nothing here repeats a sealed text or what a template says: changes are told by the names of fields, items, recipients.

use std::collections::{BTreeMap, BTreeSet};

use crate::envelope::EnvelopeHead;
use crate::manifest::{Edit, EnvelopeMap, SealedView, Stream, TextPath};
use crate::open::{Strictness, inspect};
use crate::recipient::Fingerprint;
use crate::resource::{Envelopes, SealedItem, SealedSecret, SealedSecretSpec};
use crate::scope::Scope;

/// Somebody for whom a data key is wrapped: the line's name and the fingerprint in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// The name of the line.
    pub name: String,
    /// `None` where the line can't be read.
    pub fingerprint: Option<Fingerprint>,
}

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An item is new, gone, or has another sealed text.
    Item {
        /// Its key.
        key: String,
        /// Which of them.
        how: How,
        /// For whom it is sealed now; for one that is gone, was sealed.
        readers: Vec<Reader>,
    },
    /// An item keeps its text and takes its data key from other envelopes: its own, or the common ones.
    Resolution {
        /// Its key.
        key: String,
        /// Whether it has envelopes of its own now.
        own: bool,
    },
    /// A data key that stays is wrapped for another key under the same name, or anew for the same one.
    Rewrapped {
        /// The name of the line.
        name: String,
        /// The fingerprint that it had.
        from: Option<Fingerprint>,
        /// The fingerprint that it has.
        to: Option<Fingerprint>,
        /// The items that the data keys open.
        items: BTreeSet<String>,
    },
    /// A data key that stays is wrapped for somebody more, or less.
    Readers {
        /// Who.
        reader: Reader,
        /// Added or removed.
        how: How,
        /// The items that the data keys open.
        items: BTreeSet<String>,
    },
    /// Envelopes that no item uses came, went or changed.
    Unused,
    /// The scope.
    Scope {
        /// As it was.
        from: Scope,
        /// As it is.
        to: Scope,
    },
    /// Namespace and name.
    Place {
        /// As they were.
        from: String,
        /// As they are.
        to: String,
    },
    /// Another field, by its path.
    Field {
        /// `spec.template.data.url`.
        path: String,
        /// How it differs.
        how: How,
    },
}

/// An object in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// `namespace/name` as it is now, or was.
    pub object: String,
    /// Whether the whole object came or went; `None` when it is in both.
    pub whole: Option<How>,
    /// What is different; empty when nothing is.
    pub changes: Vec<Change>,
    /// Keys of items that are as they were.
    pub unchanged: Vec<String>,
    /// Where the object is in the new text, and each of its items: lines from 1.
    pub line: usize,
    /// The lines of items in the new text.
    pub item_lines: BTreeMap<String, usize>,
}

/// For whom a map of envelopes is.
#[must_use]
pub fn readers(lines: &Envelopes) -> Vec<Reader> {
    lines.iter().map(|(name, text)| Reader { name: name.clone(), fingerprint: fingerprint(text) }).collect()
}

/// For whom an envelope is, by its text; `None` where that can't be read.
#[must_use]
pub fn fingerprint(text: &str) -> Option<Fingerprint> {
    EnvelopeHead::parse(text).ok().map(|head| head.fingerprint)
}

/// The envelopes that an item uses (rule 2).
#[must_use]
pub fn envelopes_of<'a>(spec: &'a SealedSecretSpec, item: &'a SealedItem) -> &'a Envelopes {
    item.envelopes.as_ref().unwrap_or(&spec.envelopes)
}

/// `namespace/name`, with `-` for what is not said.
#[must_use]
pub fn called(sealed: &SealedSecret) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    format!("{}/{}", part(&sealed.metadata.namespace), part(&sealed.metadata.name))
}

/// The differences between two states of an object.
#[must_use]
pub fn compare(before: &SealedSecret, after: &SealedSecret) -> Vec<Change> {
    let (old, new) = (&before.spec, &after.spec);
    let mut changes = Vec::new();
    let (from, to) = (called(before), called(after));
    if from != to {
        changes.push(Change::Place { from, to });
    }
    let (from, to) = (old.scope.unwrap_or_default(), new.scope.unwrap_or_default());
    if from != to {
        changes.push(Change::Scope { from, to });
    }
    let keys: BTreeSet<&String> = old.items.keys().chain(new.items.keys()).collect();
    let mut rewrapped: BTreeMap<(String, Option<Fingerprint>, Option<Fingerprint>), BTreeSet<String>> = BTreeMap::new();
    let mut moved: BTreeMap<(Reader, How), BTreeSet<String>> = BTreeMap::new();
    for key in keys {
        let item = |how, spec: &SealedSecretSpec, item: &SealedItem| Change::Item {
            key: key.clone(),
            how,
            readers: readers(envelopes_of(spec, item)),
        };
        match (old.items.get(key), new.items.get(key)) {
            (None, Some(now)) => changes.push(item(How::Added, new, now)),
            (Some(was), None) => changes.push(item(How::Removed, old, was)),
            (Some(was), Some(now)) if was.sealed != now.sealed => changes.push(item(How::Changed, new, now)),
            (Some(was), Some(now)) => {
                if was.envelopes.is_some() != now.envelopes.is_some() {
                    changes.push(Change::Resolution { key: key.clone(), own: now.envelopes.is_some() });
                }
                let (lines, now_lines) = (envelopes_of(old, was), envelopes_of(new, now));
                let names: BTreeSet<&String> = lines.keys().chain(now_lines.keys()).collect();
                for name in names {
                    let reader = |text: &str| Reader { name: name.clone(), fingerprint: fingerprint(text) };
                    let (of, how) = match (lines.get(name), now_lines.get(name)) {
                        (Some(a), Some(b)) if a != b => {
                            let place = (name.clone(), fingerprint(a), fingerprint(b));
                            rewrapped.entry(place).or_default().insert(key.clone());
                            continue;
                        }
                        (None, Some(b)) => (reader(b), How::Added),
                        (Some(a), None) => (reader(a), How::Removed),
                        _ => continue,
                    };
                    moved.entry((of, how)).or_default().insert(key.clone());
                }
            }
            (None, None) => {}
        }
    }
    for ((reader, how), items) in moved {
        changes.push(Change::Readers { reader, how, items });
    }
    for ((name, from, to), items) in rewrapped {
        changes.push(Change::Rewrapped { name, from, to, items });
    }
    let uses_common = |spec: &SealedSecretSpec| spec.items.values().any(|item| item.envelopes.is_none());
    if old.envelopes != new.envelopes && !uses_common(old) && !uses_common(new) {
        changes.push(Change::Unused);
    }
    let (old, new) = (fields(before), fields(after));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let how = match (old.get(path), new.get(path)) {
            (None, _) => How::Added,
            (_, None) => How::Removed,
            (a, b) if a != b => How::Changed,
            _ => continue,
        };
        changes.push(Change::Field { path: path.clone(), how });
    }
    changes
}

/// All that an object says besides place, scope, items and envelopes, by path. The values are for comparing, not for showing.
#[must_use]
pub fn fields(sealed: &SealedSecret) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut put = |path: String, value: String| _ = fields.insert(path, value);
    for (within, map) in [("labels", &sealed.metadata.labels), ("annotations", &sealed.metadata.annotations)] {
        for (key, value) in map.iter().flatten() {
            put(format!("metadata.{within}.{key}"), value.clone());
        }
    }
    let spec = &sealed.spec;
    if let Some(suspend) = spec.suspend {
        put("spec.suspend".into(), suspend.to_string());
    }
    if let Some(drift) = spec.drift {
        put("spec.drift".into(), format!("{drift:?}"));
    }
    let Some(template) = &spec.template else { return fields };
    if let Some(type_) = &template.type_ {
        put("spec.template.type".into(), type_.clone());
    }
    if let Some(immutable) = template.immutable {
        put("spec.template.immutable".into(), immutable.to_string());
    }
    for (key, value) in &template.data {
        put(format!("spec.template.data.{key}"), value.clone());
    }
    if let Some(metadata) = &template.metadata {
        for (within, map) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
            for (key, value) in map {
                put(format!("spec.template.metadata.{within}.{key}"), value.clone());
            }
        }
    }
    fields
}

/// How whoever reads an item of Bitnami's format is called, whose ciphertext names no key.
pub const SOME_RSA_KEY: &str = "an RSA key";

/// A SealedSecret of a file, read. One of Bitnami's format is told in the words of the native one: its sealed texts are items
/// without envelopes.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its index among the stream's objects.
    pub index: usize,
    /// Whether it is of Bitnami's format.
    pub bitnami: bool,
    /// Where everything is.
    pub view: SealedView,
    /// What it says.
    pub object: SealedSecret,
}

impl Found {
    /// What is wrong with it, as far as anybody can see.
    #[must_use]
    pub fn problems(&self, strictness: Strictness) -> Option<String> {
        #[cfg(feature = "bitnami")]
        if self.bitnami {
            return bitnami::problems(&self.object);
        }
        inspect(&self.object, strictness).err().map(|problems| problems.to_string())
    }
}

/// All SealedSecrets of a stream, of either format.
///
/// # Errors
/// What the first that can't be read says.
pub fn sealed_in(stream: &Stream) -> Result<Vec<Found>, crate::manifest::ManifestError> {
    let mut found = Vec::new();
    for object in stream.objects() {
        if object.is_sealed() {
            let view = object.sealed()?;
            let sealed: SealedSecret = view.manifest.clone().into();
            found.push(Found { index: object.index(), bitnami: false, view, object: sealed });
        }
        #[cfg(feature = "bitnami")]
        if object.is_bitnami() {
            found.push(bitnami::found(object)?);
        }
    }
    Ok(found)
}

#[cfg(feature = "bitnami")]
pub(crate) mod bitnami {
    //! Bitnami's format in the words of the native one.

    use std::collections::BTreeMap;

    use super::Found;
    use crate::bitnami::{self, CLUSTER_WIDE, NAMESPACE_WIDE, scope_of, texts_of, wrapped_len};
    use crate::manifest::emit::SealedManifest;
    use crate::manifest::{BitnamiView, Edit, ItemPlaces, ManifestError, Object, SealedView, TextPath};
    use crate::resource::{SealedItem, SealedSecret, SealedSecretSpec, SecretTemplate, TemplateMetadata};
    use crate::scope::Scope;

    /// The sealed text of an old file, which has no key; no key is written so.
    const WHOLE: &str = "(spec.data)";

    pub(super) fn found(object: Object<'_>) -> Result<Found, ManifestError> {
        let BitnamiView { sealed, mut places, data, .. } = object.bitnami()?;
        let own = sealed.metadata;
        let mut annotations = own.annotations.unwrap_or_default();
        let scope = scope_of(Some(&annotations));
        annotations.retain(|key, value| value != "true" || ![CLUSTER_WIDE, NAMESPACE_WIDE].contains(&key.as_str()));
        let item = |text: &str| SealedItem { sealed: text.to_owned(), envelopes: None };
        let mut items: BTreeMap<String, SealedItem> =
            sealed.spec.encrypted_data.iter().map(|(key, text)| (key.clone(), item(text))).collect();
        if let (Some(text), Some(span)) = (&sealed.spec.data, data) {
            items.insert(WHOLE.to_owned(), item(text));
            places.items.insert(WHOLE.to_owned(), ItemPlaces { key: span, sealed: span, ..ItemPlaces::default() });
        }
        let template = sealed.spec.template.map(|template| {
            let metadata = template.metadata.unwrap_or_default();
            SecretTemplate {
                metadata: Some(TemplateMetadata {
                    labels: metadata.labels.unwrap_or_default(),
                    annotations: metadata.annotations.unwrap_or_default(),
                }),
                type_: template.type_,
                immutable: template.immutable,
                data: template
                    .data
                    .into_iter()
                    .map(|(key, text)| (key, text.unwrap_or_else(|| "null".into())))
                    .collect(),
            }
        });
        let spec = SealedSecretSpec {
            scope: (scope != Scope::Strict).then_some(scope),
            items,
            template,
            ..SealedSecretSpec::default()
        };
        let manifest = SealedManifest {
            name: own.name,
            namespace: own.namespace,
            labels: own.labels.unwrap_or_default(),
            annotations,
            spec,
        };
        let object_said: SealedSecret = manifest.clone().into();
        Ok(Found { index: object.index(), bitnami: true, view: SealedView { manifest, places }, object: object_said })
    }

    /// What anybody can see is wrong.
    pub(super) fn problems(said: &SealedSecret) -> Option<String> {
        let mut spec = bitnami::BitnamiSealedSecretSpec::default();
        for (key, item) in &said.spec.items {
            if key == WHOLE {
                spec.data = Some(item.sealed.clone());
            } else {
                spec.encrypted_data.insert(key.clone(), item.sealed.clone());
            }
        }
        if let Err(error) = bitnami::check(&spec) {
            return Some(error.to_string());
        }
        texts_of(&spec).find_map(|(key, text)| Some(format!("{key}: {}", wrapped_len(text).err()?)))
    }

    /// An edit of the native format as one of this.
    pub(crate) fn edit(edit: Edit) -> Edit {
        match edit {
            Edit::SetItem { key, item } if key == WHOLE => {
                Edit::ReplaceText { path: TextPath::Data, text: item.sealed }
            }
            Edit::SetItem { key, item } => Edit::SetEncrypted { key, text: item.sealed },
            other => other,
        }
    }
}

/// Pairs the objects of two states: by namespace and name, else the one that is left on each side.
#[must_use]
pub fn pair(before: &[Found], after: &[Found]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, found) in before.iter().enumerate().rev() {
        by_name.entry(called(&found.object)).or_default().push(index);
    }
    let mut pairs: Vec<(Option<usize>, Option<usize>)> = after
        .iter()
        .enumerate()
        .map(|(index, found)| (by_name.get_mut(&called(&found.object)).and_then(Vec::pop), Some(index)))
        .collect();
    let left: BTreeSet<usize> = by_name.into_values().flatten().collect();
    let new: Vec<usize> = (0..pairs.len()).filter(|index| pairs[*index].0.is_none()).collect();
    match (left.iter().next(), new.as_slice()) {
        (Some(old), [new]) if left.len() == 1 => pairs[*new].0 = Some(*old),
        _ => pairs.extend(left.into_iter().map(|old| (Some(old), None))),
    }
    pairs
}

/// Compares all SealedSecrets of two states of a file.
#[must_use]
pub fn compare_all(before: &[Found], after: &[Found]) -> Vec<Compared> {
    let empty = SealedSecret::default();
    pair(before, after)
        .into_iter()
        .map(|(old, new)| {
            let (old, new) = (old.map(|i| &before[i]), new.map(|i| &after[i]));
            let (was, is) = (old.map_or(&empty, |f| &f.object), new.map_or(&empty, |f| &f.object));
            let whole = match (old, new) {
                (None, _) => Some(How::Added),
                (_, None) => Some(How::Removed),
                _ => None,
            };
            let mut changes = compare(was, is);
            let formats = (old.is_some_and(|found| found.bitnami), new.is_some_and(|found| found.bitnami));
            for change in &mut changes {
                if let Change::Item { how, readers, .. } = change
                    && (if *how == How::Removed { formats.0 } else { formats.1 })
                {
                    *readers = vec![Reader { name: SOME_RSA_KEY.to_owned(), fingerprint: None }];
                }
            }
            if whole.is_none() && formats.0 != formats.1 {
                changes.push(Change::Field { path: "apiVersion".to_owned(), how: How::Changed });
            }
            if whole.is_some() {
                changes.retain(|change| !matches!(change, Change::Place { .. }));
            }
            let same = |key: &&String| {
                is.spec
                    .items
                    .get(*key)
                    .is_some_and(|item| was.spec.items.get(*key).is_some_and(|w| w.sealed == item.sealed))
            };
            let places = new.map(|found| &found.view.places);
            Compared {
                object: called(if new.is_some() { is } else { was }),
                whole,
                changes,
                unchanged: is.spec.items.keys().filter(same).cloned().collect(),
                line: places.map_or(1, |places| places.object.line),
                item_lines: places
                    .map(|p| p.items.iter().map(|(k, i)| (k.clone(), i.key.line)).collect())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

/// Why a change is more than a reseal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Line of the new text, from 1, where it is known.
    pub line: Option<usize>,
    /// The object.
    pub object: Option<String>,
    /// The item.
    pub item: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Whether nothing happened but that data keys were wrapped for recipients that the policy names: each item keeps its text and
/// its resolution, lines come only under names that may join, changed lines carry the policy's current fingerprint under their
/// name, and all else is the same, byte for byte. `current` tells a name's fingerprint of today, `joins` whether the policy lets
/// it read this file. Empty when all is well.
#[must_use]
pub fn more_than_reseal(
    before: &Stream,
    after: &Stream,
    current: &dyn Fn(&str) -> Option<Fingerprint>,
    joins: &dyn Fn(&str) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let whole = |message: String| vec![Violation { line: None, object: None, item: None, message }];
    let (old, new) = match (sealed_in(before), sealed_in(after)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) => return whole(format!("the old text can't be read: {}", error.message)),
        (_, Err(error)) => return whole(format!("the new text can't be read: {}", error.message)),
    };
    if old.len() != new.len() {
        return whole(format!("there were {} SealedSecrets, and there are {}", old.len(), new.len()));
    }
    let mut edits = Vec::new();
    for (was, is) in old.iter().zip(&new) {
        let object = called(&is.object);
        let mut report = |line: Option<usize>, item: Option<&str>, message: String| {
            violations.push(Violation { line, object: Some(object.clone()), item: item.map(str::to_owned), message });
        };
        let places = &is.view.places;
        let (a, b) = (&was.object.spec, &is.object.spec);
        let line_of = |key: &str| places.items.get(key).map(|item| item.key.line);
        for key in a.items.keys().filter(|key| !b.items.contains_key(*key)) {
            report(Some(places.object.line), Some(key), "the item is gone".into());
        }
        for (key, now) in &b.items {
            match a.items.get(key) {
                None => report(line_of(key), Some(key), "the item is new".into()),
                Some(was) if was.sealed != now.sealed => {
                    report(line_of(key), Some(key), "the item has another text".into())
                }
                Some(was) if was.envelopes.is_some() != now.envelopes.is_some() => {
                    report(
                        line_of(key),
                        Some(key),
                        "the item uses other envelopes: its own, or the common ones".into(),
                    );
                }
                Some(_) => {}
            }
        }
        for change in compare(&was.object, &is.object) {
            match change {
                Change::Place { from, to } => {
                    report(Some(places.object.line), None, format!("it was {from} and is {to}"))
                }
                Change::Scope { from, to } => {
                    report(places.scope.map(|s| s.line), None, format!("the scope was {from} and is {to}"));
                }
                Change::Field { path, .. } => report(Some(places.object.line), None, format!("{path} changed")),
                _ => {}
            }
        }
        let no_lines = Envelopes::new();
        let maps = std::iter::once((None, &a.envelopes, &b.envelopes, &places.envelopes)).chain(
            b.items.iter().filter_map(|(key, item)| {
                let now = item.envelopes.as_ref()?;
                let was = a.items.get(key).and_then(|item| item.envelopes.as_ref()).unwrap_or(&no_lines);
                Some((Some(key), was, now, &places.items.get(key)?.envelopes))
            }),
        );
        for (item, was_lines, now_lines, at) in maps {
            let map = || item.map_or(EnvelopeMap::Common, |key| EnvelopeMap::Item(key.clone()));
            let item = item.map(String::as_str);
            for (name, text) in now_lines {
                let line = at.lines.get(name).map(|(key, _)| key.line);
                if was_lines.get(name) == Some(text) {
                    continue;
                }
                let Some(head) = EnvelopeHead::parse(text).ok() else {
                    report(line, item, format!("envelope {name} is damaged"));
                    continue;
                };
                match current(name) {
                    None => {
                        report(line, item, format!("envelope {name} changed, and the policy names no such recipient"))
                    }
                    Some(wanted) if wanted != head.fingerprint => report(
                        line,
                        item,
                        format!("envelope {name} is for {}, and the policy's {name} is {wanted}", head.fingerprint),
                    ),
                    Some(_) if !was_lines.contains_key(name) && !joins(name) => {
                        report(line, item, format!("envelope {name} is new, and the file's rule does not name it"));
                    }
                    Some(_) => {}
                }
                let edit = match was_lines.get(name) {
                    Some(_) => Edit::ReplaceText { path: TextPath::Envelope(map(), name.clone()), text: text.clone() },
                    None => Edit::AddEnvelope { map: map(), name: name.clone(), text: text.clone() },
                };
                edits.push((was.index, edit));
            }
            let unused = item.is_none() && b.items.values().all(|item| item.envelopes.is_some());
            for name in was_lines.keys().filter(|name| !now_lines.contains_key(*name)) {
                if unused {
                    edits.push((was.index, Edit::RemoveEnvelope { map: map(), name: name.clone() }));
                    continue;
                }
                report(at.key.map(|key| key.line), item, format!("envelope {name} is gone"));
            }
        }
        if was.bitnami != is.bitnami {
            report(Some(places.object.line), None, "its format changed".to_owned());
        }
        if let Some(problems) = is.problems(Strictness::Writer) {
            report(Some(places.object.line), None, problems);
        }
    }
    if violations.is_empty() {
        let again = Stream::read(&before.to_bytes()).and_then(|mut again| again.apply(&edits).map(|_| again));
        match again {
            Ok(again) if *again.to_bytes() == *after.to_bytes() => {}
            Ok(again) => {
                let same = again.text().lines().zip(after.text().lines()).take_while(|(a, b)| a == b).count();
                let message = "something changed besides envelopes".to_owned();
                violations.push(Violation { line: Some(same + 1), object: None, item: None, message });
            }
            Err(error) => return whole(format!("the change can't be followed: {}", error.message)),
        }
    }
    violations
}
