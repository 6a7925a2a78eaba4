//! Wrapping data keys anew for another recipient, and sealing afresh (format.md, rule 7).
//!
//! Re-wrapping does not revoke (rule 8): whoever could open before still has the values, and the history has the lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::envelope::{Envelope, EnvelopeHead};
use crate::item::SealedText;
use crate::limits::{MAX_OBJECT, MAX_RECIPIENTS};
use crate::open::{
    Identities, Inspected, OpenError, ProblemKind, Problems, Site, Strictness, UsedMap, inspect, object_size, place_of,
};
use crate::recipient::{Fingerprint, Identity, RandomnessError, Recipient, RecipientKind, Target, Targets};
use crate::resource::{Envelopes, SealedSecret};
use crate::scope::{Place, Scope};
use crate::seal::{SealError, SetError, covers, seal_all, set_all, used_lines};

/// Why a line is not wrapped anew.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewrapRefused {
    /// The data key is exposed in history: wrapping it anew would only look safe.
    #[error(
        "the data key must be replaced, not wrapped anew: its old envelope is classical or of a compromised key and \
         stays in the history (bulla reseal --fresh)"
    )]
    MustReseal,
    /// From hybrid to classical.
    #[error("a data key that is safe against a quantum computer is not wrapped for a classical recipient")]
    Downgrade,
    /// The envelope does not open.
    #[error("the envelope does not open: it was changed, or holds another data key")]
    Failed,
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
}

impl RewrapRefused {
    /// One word for programs: what `/v1/rewrap` answers.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::MustReseal => "must-reseal",
            Self::Downgrade => "downgrade",
            Self::Failed => "failed",
            Self::Randomness => "unavailable",
        }
    }
}

/// Opens one line and wraps its data key for `to`. `compromised` says that the identity's key is marked so.
///
/// # Errors
/// [`RewrapRefused`].
pub fn rewrap(
    line: &Envelope,
    identity: &Identity,
    to: &Recipient,
    compromised: bool,
) -> Result<Envelope, RewrapRefused> {
    match (line.kind(), to.kind()) {
        (RecipientKind::Hybrid, RecipientKind::Classical) => return Err(RewrapRefused::Downgrade),
        (RecipientKind::Classical, RecipientKind::Hybrid) => return Err(RewrapRefused::MustReseal),
        _ if compromised => return Err(RewrapRefused::MustReseal),
        _ => {}
    }
    let key = line.open(identity).map_err(|_| RewrapRefused::Failed)?;
    Envelope::reseal(&key, to).map_err(|RandomnessError| RewrapRefused::Randomness)
}

/// How lines find their successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// By policy name only; a line for anybody new needs `add`.
    ByName {
        /// Whether lines may be added for recipients that have none.
        add: bool,
    },
    /// There is exactly one recipient, and it takes the place of whatever line is opened (`-i OLD -R NEW`, and a
    /// cluster that wraps for its preferred key).
    ReplaceOpened,
}

/// One line that has to be made: from one of `sources`, whichever can be opened, for `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The item whose own envelopes it is among; `None` for the common ones.
    pub item: Option<String>,
    /// Name and text of the lines that the data key may come from, the preferred source first.
    pub sources: Vec<(String, String)>,
    /// For whom.
    pub target: Target,
    /// The name of the line that it replaces; `None` adds one, or (for [`Succession::ReplaceOpened`]) replaces the source.
    pub replaces: Option<String>,
    /// Whether the source that opened is the line to replace.
    pub replaces_source: bool,
}

/// One change of a line: what an editor does to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineChange {
    /// The item whose own envelopes it is among; `None` for the common ones.
    pub item: Option<String>,
    /// The name that the line has now; `None` for a new line.
    pub old_name: Option<String>,
    /// The name that it gets.
    pub name: String,
    /// Its new text.
    pub text: String,
}

/// Why a file can't be wrapped anew.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum RewrapError {
    /// The file is broken already.
    #[error(transparent)]
    Broken(#[from] Problems),
    /// A new reader, and nobody said that it is meant.
    #[error("nothing in the file is sealed for {0}: adding a reader needs --add-recipient")]
    NewReader(String),
    /// No line of a map could be opened.
    #[error("no identity given opens {}: it is sealed for {}", .item.as_ref().map_or_else(|| "the common envelopes".to_owned(), |key| format!("item {key:?}")), .sealed_for.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NoEnvelope {
        /// The item, or `None` for the common envelopes.
        item: Option<String>,
        /// For whom its data key is wrapped.
        sealed_for: Vec<Fingerprint>,
    },
    /// A line is not wrapped anew.
    #[error(transparent)]
    Refused(#[from] RewrapRefused),
    /// Two recipients where one takes another's place.
    #[error(
        "{0} recipients; with an identity and no policy exactly one takes the place of the line that the identity opens"
    )]
    NotOne(usize),
    /// A reader whose recipient is not known, and who would be lost.
    #[error("the file is sealed for {name} ({fingerprint}) too, who is not among the recipients given")]
    NotCovered {
        /// The line's name.
        name: String,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Which lines have to be made so that every used map is wrapped for `targets`. Public text only: nothing is opened.
///
/// # Errors
/// [`RewrapError::Broken`] (also when there would be too many recipients), [`RewrapError::NewReader`],
/// [`RewrapError::NotOne`].
pub fn needs(sealed: &SealedSecret, targets: &Targets, succession: Succession) -> Result<Vec<Need>, RewrapError> {
    let inspected = inspect(sealed, Strictness::Writer)?;
    if succession == Succession::ReplaceOpened && targets.as_slice().len() != 1 {
        return Err(RewrapError::NotOne(targets.as_slice().len()));
    }
    let mut needs = Vec::new();
    for map in inspected.used_maps() {
        let lines = heads(&map);
        let mut count = lines.len();
        for target in targets.as_slice() {
            if lines.iter().any(|(_, _, fingerprint)| *fingerprint == target.recipient.fingerprint()) {
                continue;
            }
            // A line that has the name and is for another of the recipients is that one's: it stays.
            let named = lines.iter().find(|(name, _, fingerprint)| {
                target.by_policy
                    && *name == target.name
                    && !targets.as_slice().iter().any(|other| other.recipient.fingerprint() == *fingerprint)
            });
            let mut sources: Vec<_> =
                lines.iter().map(|(name, text, _)| ((*name).to_owned(), (*text).to_owned())).collect();
            let replaces = match (named, succession) {
                (Some((name, ..)), _) => {
                    sources.sort_by_key(|(source, _)| source != name);
                    Some((*name).to_owned())
                }
                (None, Succession::ReplaceOpened) => None,
                (None, Succession::ByName { add: true }) => None,
                (None, Succession::ByName { add: false }) => {
                    return Err(RewrapError::NewReader(target.name.clone()));
                }
            };
            if replaces.is_none() && succession != Succession::ReplaceOpened {
                count += 1;
            }
            if count > MAX_RECIPIENTS {
                let site = map.item.map_or(Site::Object, |key| Site::Item(key.to_owned()));
                return Err(Problems::one(site, ProblemKind::TooManyRecipients(count)).into());
            }
            needs.push(Need {
                item: map.item.map(str::to_owned),
                sources,
                target: target.clone(),
                replaces_source: replaces.is_none() && succession == Succession::ReplaceOpened,
                replaces,
            });
        }
    }
    Ok(needs)
}

fn heads<'a>(map: &UsedMap<'a>) -> Vec<(&'a str, &'a str, Fingerprint)> {
    map.lines
        .iter()
        .filter_map(|(name, text)| Some((name.as_str(), text.as_str(), EnvelopeHead::parse(text).ok()?.fingerprint)))
        .collect()
}

impl Need {
    /// Makes the line with the first of `identities` that opens a source; `compromised` says which keys are marked so.
    ///
    /// # Errors
    /// [`RewrapError::NoEnvelope`], [`RewrapError::Refused`].
    pub fn fulfil(
        &self,
        identities: &Identities<'_>,
        compromised: impl Fn(Fingerprint) -> bool,
    ) -> Result<LineChange, RewrapError> {
        let mut sealed_for = Vec::new();
        let mut lines = Vec::new();
        for (name, text) in &self.sources {
            if let Ok(envelope) = text.parse::<Envelope>() {
                sealed_for.push(envelope.fingerprint());
                lines.push((name, envelope));
            }
        }
        // Whichever line is opened: the data key is exposed by each that is of a compromised key, and by a classical one that
        // a hybrid one replaces.
        let exposed = lines.iter().any(|(name, line)| {
            let replaced = self.replaces.as_deref() == Some(name.as_str());
            let weaker =
                (line.kind(), self.target.recipient.kind()) == (RecipientKind::Classical, RecipientKind::Hybrid);
            compromised(line.fingerprint()) || (replaced && weaker)
        });
        for identity in identities {
            let fingerprint = identity.recipient().fingerprint();
            if let Some((name, line)) = lines.iter().find(|(_, line)| line.fingerprint() == fingerprint) {
                let made = rewrap(line, identity, &self.target.recipient, exposed)?;
                return Ok(self.change(name, made.to_string()));
            }
        }
        Err(RewrapError::NoEnvelope { item: self.item.clone(), sealed_for })
    }

    /// The change that a line made from the source `source` means.
    #[must_use]
    pub fn change(&self, source: &str, text: String) -> LineChange {
        let old_name = if self.replaces_source { Some(source.to_owned()) } else { self.replaces.clone() };
        // A name that is the old key's fingerprint would be a lie under the new one, and one that another line has would
        // take that line's place.
        let taken =
            |name: &str| self.sources.iter().any(|(other, _)| other == name && old_name.as_deref() != Some(name));
        let name = match &old_name {
            Some(old) if old.parse::<Fingerprint>().is_err() => old.clone(),
            _ if taken(&self.target.name) => self.target.recipient.fingerprint().to_string(),
            _ => self.target.name.clone(),
        };
        LineChange { item: self.item.clone(), old_name, name, text }
    }
}

/// Lays a change into the object.
pub fn apply(sealed: &mut SealedSecret, change: &LineChange) {
    let map = match &change.item {
        None => Some(&mut sealed.spec.envelopes),
        Some(key) => sealed.spec.items.get_mut(key).and_then(|item| item.envelopes.as_mut()),
    };
    if let Some(map) = map {
        if let Some(old) = &change.old_name {
            map.remove(old);
        }
        map.insert(change.name.clone(), change.text.clone());
    }
}

/// Seals afresh, in the object's own place: all items under one new data key and new bodies, wrapped for `targets`. Used
/// when a data key is exposed, and to compact. Lines that no item refers to are dropped (rule 10).
///
/// # Errors
/// [`RewrapError`]: broken, not openable, or somebody who reads it today is not among `targets` and is not the one that
/// [`Succession::ReplaceOpened`] replaces.
pub fn reseal(
    sealed: &SealedSecret,
    identities: &Identities<'_>,
    targets: &Targets,
    succession: Succession,
) -> Result<SealedSecret, RewrapError> {
    // More data keys than a writer makes are what this is the remedy for.
    let inspected = inspect(sealed, Strictness::Reader)?;
    if succession == Succession::ReplaceOpened && targets.as_slice().len() != 1 {
        return Err(RewrapError::NotOne(targets.as_slice().len()));
    }
    let mut kept_name: Option<String> = None;
    for map in inspected.used_maps() {
        let opened = Inspected::own_line(&map, identities).map(|(name, ..)| name);
        for (name, _, fingerprint) in heads(&map) {
            let covered = targets.as_slice().iter().any(|target| {
                target.recipient.fingerprint() == fingerprint || (target.by_policy && target.name == name)
            });
            let replaced = succession == Succession::ReplaceOpened && opened == Some(name);
            if replaced && !covered && name.parse::<Fingerprint>().is_err() {
                kept_name = Some(name.to_owned());
            }
            if !covered && !replaced {
                return Err(RewrapError::NotCovered { name: name.to_owned(), fingerprint });
            }
        }
    }
    let values: BTreeMap<_, _> = inspected.open(identities)?;
    let (items, envelopes) = seal_all(&values, &inspected.place, targets)?;
    let mut fresh = sealed.clone();
    fresh.spec.items = items;
    fresh.spec.envelopes = keep_names(envelopes, targets, &inspected.sealed_for(), kept_name.as_deref());
    let size = object_size(&fresh);
    if size > MAX_OBJECT { Err(SealError::TooLarge { size }.into()) } else { Ok(fresh) }
}

/// The names that are there stay: whose fingerprint or place it is keeps its line's name.
fn keep_names(
    mut envelopes: Envelopes,
    targets: &Targets,
    before: &[(String, Fingerprint)],
    kept: Option<&str>,
) -> Envelopes {
    let mut renamed = Envelopes::new();
    for target in targets.as_slice() {
        let fingerprint = target.recipient.fingerprint();
        let existing = before.iter().find(|(_, other)| *other == fingerprint).map(|(name, _)| name.as_str());
        let name = existing.or(kept).unwrap_or(&target.name).to_owned();
        let name = if renamed.contains_key(&name) { fingerprint.to_string() } else { name };
        if let Some(text) = envelopes.remove(&target.name) {
            renamed.insert(name, text);
        }
    }
    renamed
}

/// What [`rebind`] made.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebound {
    /// The object, each of its items sealed for its own place.
    pub sealed: SealedSecret,
    /// The keys of the items that were sealed anew; empty when all belonged here already.
    pub keys: Vec<String>,
    /// The scopes that they had been sealed with.
    pub scopes: BTreeSet<Scope>,
    /// Whether that was all items: then they share one new data key. Else each of them has its own.
    pub whole: bool,
}

/// Why items can't be bound to another place.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum RebindError {
    /// An item of neither place, or one that does not open.
    #[error(transparent)]
    Rewrap(#[from] RewrapError),
    /// They can't be sealed for the new place.
    #[error(transparent)]
    Set(#[from] SetError),
}

impl From<Problems> for RebindError {
    fn from(problems: Problems) -> Self {
        Self::Rewrap(problems.into())
    }
}

/// Seals items that were sealed for `from` (namespace and name, with whatever scope) anew for the place that the object
/// itself says, with new data keys. Which items those are, the tags tell. Items of the object's own place stay as they are.
///
/// # Errors
/// [`RebindError`]: also when an item belongs to neither place, or when somebody who reads the object today is not among
/// `targets`.
pub fn rebind(
    sealed: &SealedSecret,
    from: (&str, &str),
    identities: &Identities<'_>,
    targets: &Targets,
) -> Result<Rebound, RebindError> {
    let place = place_of(sealed).map_err(|error| Problems::one(Site::Object, error.into()))?;
    let own = place.scope();
    let mut scopes = vec![own];
    scopes.extend([Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide].into_iter().filter(|scope| *scope != own));
    let mut moved: BTreeMap<Scope, BTreeSet<&str>> = BTreeMap::new();
    for (key, item) in &sealed.spec.items {
        let problem = |kind: ProblemKind| Problems::one(Site::Item(key.clone()), kind);
        let text: SealedText = item.sealed.parse().map_err(|error| problem(ProblemKind::Text(error)))?;
        if text.is_placed(&place.context(key).map_err(|error| problem(error.into()))?) {
            continue;
        }
        let was = scopes.iter().find(|scope| {
            let context = Place::new(**scope, Some(from.0), Some(from.1)).and_then(|place| place.context(key));
            context.is_ok_and(|context| text.is_placed(&context))
        });
        match was {
            Some(scope) => moved.entry(*scope).or_default().insert(key),
            None => {
                let places = format!("{}/{}, and not for {place}", from.0, from.1);
                return Err(problem(ProblemKind::Misplaced(places)).into());
            }
        };
    }
    let mut values = BTreeMap::new();
    let mut before = Vec::new();
    for (scope, keys) in &moved {
        // As it was when they were sealed, without what was not.
        let mut old = sealed.clone();
        old.metadata.namespace = Some(from.0.to_owned());
        old.metadata.name = Some(from.1.to_owned());
        old.spec.scope = Some(*scope);
        old.spec.items.retain(|key, _| keys.contains(key.as_str()));
        let inspected = inspect(&old, Strictness::Writer)?;
        before.extend(inspected.sealed_for());
        values.extend(inspected.open(identities).map_err(RewrapError::from)?);
    }
    let mut fresh = sealed.clone();
    let whole = !values.is_empty() && values.len() == sealed.spec.items.len();
    if whole {
        covers(targets, used_lines(&sealed.spec))?;
        let (items, envelopes) = seal_all(&values, &place, targets).map_err(SetError::from)?;
        fresh.spec.items = items;
        fresh.spec.envelopes = keep_names(envelopes, targets, &before, None);
        let size = object_size(&fresh);
        if size > MAX_OBJECT {
            return Err(SetError::from(SealError::TooLarge { size }).into());
        }
    } else if !values.is_empty() {
        let all: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value)).collect();
        set_all(&mut fresh, &all, targets, None)?;
    }
    Ok(Rebound { sealed: fresh, keys: values.into_keys().collect(), scopes: moved.into_keys().collect(), whole })
}
