//! Between what manifests say and what the library works on.

use bulla::manifest::{Edit, EnvelopeMap, Object, SealedView, Stream, TextPath};
use bulla::resource::SealedSecret;
use bulla::rewrap::LineChange;
use bulla::scope::Scope;

use crate::cli::ScopeArg;
use crate::failure::{self, Failure, InFile, Result};

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Strict => Self::Strict,
            ScopeArg::NamespaceWide => Self::NamespaceWide,
            ScopeArg::ClusterWide => Self::ClusterWide,
        }
    }
}

/// `shop/db`, whatever the scope.
pub fn called(namespace: Option<&str>, name: Option<&str>) -> String {
    match (namespace, name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name.to_owned(),
        (Some(namespace), None) => format!("{namespace}/(no name)"),
        (None, None) => "a SealedSecret without a name".to_owned(),
    }
}

/// A SealedSecret of a file: its index, what it says and where.
pub struct Sealed {
    pub index: usize,
    pub view: SealedView,
    pub object: SealedSecret,
}

impl Sealed {
    pub fn read(file: &str, stream: &Stream, object: Object<'_>) -> Result<Self> {
        let view = object.sealed().map_err(|error| failure::manifest(file, Some(stream.text()), &error))?;
        let sealed = view.manifest.clone().into();
        Ok(Self { index: object.index(), view, object: sealed })
    }

    pub fn called(&self) -> String {
        called(self.object.metadata.namespace.as_deref(), self.object.metadata.name.as_deref())
    }

    pub fn in_file<'a>(&'a self, file: &'a str, stream: &'a Stream) -> InFile<'a> {
        InFile { file, text: stream.text(), places: &self.view.places, by_rule: false }
    }
}

/// Reads a file's text.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Stream> {
    Stream::read(bytes).map_err(|error| failure::manifest(file, None, &error))
}

/// All SealedSecrets of a file.
pub fn all_sealed(file: &str, stream: &Stream) -> Result<Vec<Sealed>> {
    stream.objects().filter(Object::is_sealed).map(|object| Sealed::read(file, stream, object)).collect()
}

/// The one object that is meant among those that `is` takes: by namespace and name, else the only one.
pub fn the_object<'s>(
    file: &str,
    stream: &'s Stream,
    namespace: Option<&str>,
    name: Option<&str>,
    is: impl Fn(&Object<'s>) -> bool,
) -> Result<Object<'s>> {
    let mut there = Vec::new();
    let mut found = Vec::new();
    for object in stream.objects().filter(is) {
        there.push(called(object.namespace(), object.name()));
        let is = |given: Option<&str>, own: Option<&str>| given.is_none_or(|given| own == Some(given));
        if is(namespace, object.namespace()) && is(name, object.name()) {
            found.push(object);
        }
    }
    match found.as_slice() {
        [object] => Ok(*object),
        [] if there.is_empty() => {
            Err(Failure::new(format!("there is no SealedSecret in {file}{}", other_kinds(stream)))
                .help(format!("seal it first: bulla seal {file}")))
        }
        [] => Err(Failure::missing(format!(
            "there is no SealedSecret {} in {file}, but {}",
            called(namespace, name),
            there.join(", ")
        ))
        .help("say which one with -n and --name, or leave them out")),
        _ => Err(Failure::usage(format!("there are {} SealedSecrets in {file}: {}", found.len(), there.join(", ")))
            .help("say which one with -n and --name")),
    }
}

/// What else a file has, for an error: `: 2 other objects (ConfigMap, Deployment)`.
pub fn other_kinds(stream: &Stream) -> String {
    let mut kinds: Vec<&str> = stream.objects().map(|object| object.kind().unwrap_or("no kind")).collect();
    let total = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.truncate(5);
    if total == 0 {
        return String::new();
    }
    format!(", but {} ({})", crate::output::plain::count(total, "other object"), kinds.join(", "))
}

/// The edits that a change of a line means.
pub fn edits(object: usize, change: &LineChange) -> Vec<(usize, Edit)> {
    let map = || change.item.as_ref().map_or(EnvelopeMap::Common, |key| EnvelopeMap::Item(key.clone()));
    let (name, text) = (change.name.clone(), change.text.clone());
    let Some(old) = &change.old_name else { return vec![(object, Edit::AddEnvelope { map: map(), name, text })] };
    let mut edits = vec![(object, Edit::ReplaceText { path: TextPath::Envelope(map(), old.clone()), text })];
    if *old != name {
        edits.push((object, Edit::RenameEnvelope { map: map(), from: old.clone(), to: name }));
    }
    edits
}

/// The edits that make one object's items and envelopes those of another with the same keys.
pub fn fresh_edits(index: usize, before: &SealedSecret, after: &SealedSecret) -> Vec<(usize, Edit)> {
    let mut edits = Vec::new();
    for (key, item) in &after.spec.items {
        edits.push((index, Edit::SetItem { key: key.clone(), item: item.clone() }));
    }
    for (name, text) in &after.spec.envelopes {
        let (name, text) = (name.clone(), text.clone());
        edits.push((
            index,
            if before.spec.envelopes.contains_key(&name) {
                Edit::ReplaceText { path: TextPath::Envelope(EnvelopeMap::Common, name), text }
            } else {
                Edit::AddEnvelope { map: EnvelopeMap::Common, name, text }
            },
        ));
    }
    for name in before.spec.envelopes.keys().filter(|name| !after.spec.envelopes.contains_key(*name)) {
        edits.push((index, Edit::RemoveEnvelope { map: EnvelopeMap::Common, name: name.clone() }));
    }
    edits
}
