//! Whole SealedSecrets: what anybody can see of them, and opening them (format.md, "Rules").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize as _;

use crate::envelope::{Envelope, EnvelopeHead};
use crate::item::{KeyId, SealedText, TextError};
use crate::limits::{
    MANAGED_FIELDS_LINE, MAX_DATA_KEYS_READ, MAX_DATA_KEYS_WRITE, MAX_ENVELOPE_TEXT, MAX_ITEMS, MAX_OBJECT,
    MAX_RECIPIENTS,
};
use crate::recipient::{Fingerprint, Identity, is_envelope_name};
use crate::resource::{Envelopes, SealedSecret, SealedSecretSpec};
use crate::scope::{Context, Place, PlaceError};
use crate::secret::{PlainSecret, SecretValue};
use crate::template::{self, Budget, Dialect, TemplateError};

/// Where in a SealedSecret something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The object as a whole.
    Object,
    /// An item, by its key.
    Item(String),
    /// A template under `template.data`, by its key.
    Template(String),
    /// A line of the common envelopes, by its name.
    Envelope(String),
    /// A line of an item's own envelopes, by the item's key and the line's name.
    ItemEnvelope(String, String),
}

impl Site {
    fn envelope(map: Option<&str>, name: &str) -> Self {
        match map {
            None => Self::Envelope(name.to_owned()),
            Some(key) => Self::ItemEnvelope(key.to_owned(), name.to_owned()),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object => f.write_str("the SealedSecret"),
            Self::Item(key) => write!(f, "item {key:?}"),
            Self::Template(key) => write!(f, "template {key:?}"),
            Self::Envelope(name) => write!(f, "envelope {name:?}"),
            Self::ItemEnvelope(key, name) => write!(f, "envelope {name:?} of item {key:?}"),
        }
    }
}

/// What is wrong, as anybody can see it without a key.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Scope, namespace, name or an item's key.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A damaged text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// An item that was sealed for another place.
    #[error("not sealed for {0}: it was moved or renamed, and will not open here")]
    Misplaced(String),
    /// A key of both `items` and `template.data`.
    #[error("an item has the same key: the Secret can hold one of them only")]
    ItemAndTemplate,
    /// A key of `template.data` against the grammar.
    #[error("a key of template.data is [-._a-zA-Z0-9]{{1,253}}, neither \".\" nor beginning with \"..\"")]
    TemplateKey,
    /// `envelopes` under an item, and nothing in it.
    #[error("its own envelopes are empty")]
    EmptyEnvelopes,
    /// No envelope at all for an item.
    #[error("there is no envelope for its data key")]
    NoEnvelopes,
    /// Two lines for one recipient.
    #[error("two lines of one map are for the recipient {0}")]
    FingerprintTwice(Fingerprint),
    /// Lines of one map, or an item and its map, with different data keys.
    #[error("it is of another data key ({0}) than the rest of its envelopes or items")]
    IdMismatch(KeyId),
    /// A name against the grammar.
    #[error(
        "the name of an envelope is [a-z]([-a-z0-9]{{0,61}}[a-z0-9])?, and no word of YAML or another's fingerprint"
    )]
    EnvelopeName,
    /// Too many data keys.
    #[error("{found} data keys; at most {limit}. Compact them: bulla reseal --fresh")]
    TooManyDataKeys {
        /// How many.
        found: usize,
        /// How many at most.
        limit: usize,
    },
    /// Too many lines in one map.
    #[error("{0} recipients; at most {MAX_RECIPIENTS}")]
    TooManyRecipients(usize),
    /// Too many items.
    #[error("{0} items; at most {MAX_ITEMS}")]
    TooManyItems(usize),
    /// The object is larger than a cluster keeps.
    #[error(
        "{0} bytes as the cluster counts them; at most {MAX_OBJECT} (etcd's limit). Split it, or compact its data keys: \
         bulla reseal --fresh"
    )]
    TooLarge(usize),
}

/// Of what class a failure is (format.md, "Error classes"): what programs tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The structure or a text is damaged.
    Malformed,
    /// A limit is exceeded.
    Limit,
    /// A version byte that this program does not know.
    UnsupportedVersion,
    /// Sealed for another place.
    Misplaced,
    /// No line for any identity, or one for another data key.
    MissingEnvelope,
    /// It does not decrypt.
    DecryptionFailed,
    /// A template fails, or is turned off.
    TemplateFailed,
}

impl ErrorClass {
    /// The word of the specification.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Limit => "limit",
            Self::UnsupportedVersion => "unsupported-version",
            Self::Misplaced => "misplaced",
            Self::MissingEnvelope => "missing-envelope",
            Self::DecryptionFailed => "decryption-failed",
            Self::TemplateFailed => "template-failed",
        }
    }
}

impl ProblemKind {
    /// Of what class it is.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Text(TextError::UnsupportedVersion(_)) => ErrorClass::UnsupportedVersion,
            Self::Misplaced(_) => ErrorClass::Misplaced,
            Self::NoEnvelopes | Self::IdMismatch(_) => ErrorClass::MissingEnvelope,
            Self::TooManyDataKeys { .. } | Self::TooManyRecipients(_) | Self::TooManyItems(_) | Self::TooLarge(_) => {
                ErrorClass::Limit
            }
            Self::Place(_)
            | Self::Text(_)
            | Self::ItemAndTemplate
            | Self::TemplateKey
            | Self::EmptyEnvelopes
            | Self::FingerprintTwice(_)
            | Self::EnvelopeName => ErrorClass::Malformed,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub site: Site,
    /// What.
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.site, self.kind)
    }
}

/// Everything that is wrong with a SealedSecret; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// All of them, in the order in which they stand in the object.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    pub(crate) fn one(site: Site, kind: ProblemKind) -> Self {
        Self(vec![Problem { site, kind }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("nothing is wrong"),
            [one] => one.fmt(f),
            [first, rest @ ..] => write!(f, "{first} (and {} more)", rest.len()),
        }
    }
}

impl std::error::Error for Problems {}

/// Who looks: rule 2 asks more of a writer than of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The controller, `unseal`: its own lines count.
    Reader,
    /// Whoever writes or checks: all lines of a used map hold one data key, and there are fewer of them.
    Writer,
}

/// A SealedSecret whose public part is sound.
#[derive(Clone, Debug)]
pub struct Inspected<'a> {
    /// Where its items are bound to.
    pub place: Place,
    /// Its items, in byte order of key.
    pub items: Vec<InspectedItem<'a>>,
    /// How many data keys its items use.
    pub data_keys: usize,
    spec: &'a SealedSecretSpec,
}

/// An item whose text is sound and that belongs here.
#[derive(Clone, Debug)]
pub struct InspectedItem<'a> {
    /// Its key in the Secret.
    pub key: &'a str,
    /// What binds it here.
    pub context: Context,
    /// Its text.
    pub sealed: SealedText,
    /// Whether it brings envelopes of its own.
    pub own: bool,
}

/// A map of envelopes that items refer to.
#[derive(Clone, Copy, Debug)]
pub struct UsedMap<'a> {
    /// The item that brings it, or `None` for the common one.
    pub item: Option<&'a str>,
    /// Its lines.
    pub lines: &'a Envelopes,
}

impl<'a> Inspected<'a> {
    /// The maps that items refer to: the common one first, when any does (rule 10: readers ignore the others).
    pub fn used_maps(&self) -> impl Iterator<Item = UsedMap<'a>> + '_ {
        let spec = self.spec;
        let common = self.items.iter().any(|item| !item.own).then_some(UsedMap { item: None, lines: &spec.envelopes });
        let own = self.items.iter().filter(|item| item.own).filter_map(move |item| {
            let lines = spec.items.get(item.key)?.envelopes.as_ref()?;
            Some(UsedMap { item: Some(item.key), lines })
        });
        common.into_iter().chain(own)
    }

    /// The items that a map's data key opens.
    pub fn items_of<'s>(&'s self, map: &UsedMap<'a>) -> impl Iterator<Item = &'s InspectedItem<'a>> {
        let item = map.item;
        self.items.iter().filter(move |i| match item {
            None => !i.own,
            Some(key) => i.key == key,
        })
    }

    /// Names and fingerprints of the used lines, for a person.
    #[must_use]
    pub fn sealed_for(&self) -> Vec<(String, Fingerprint)> {
        let mut found = BTreeSet::new();
        for map in self.used_maps() {
            for (name, text) in map.lines {
                if let Ok(head) = EnvelopeHead::parse(text) {
                    found.insert((name.clone(), head.fingerprint));
                }
            }
        }
        found.into_iter().collect()
    }
}

/// For whom the data keys of an object are wrapped, one set for each used map, sound or not: without a readable line an
/// object needs nobody.
#[must_use]
pub fn readers(spec: &SealedSecretSpec) -> BTreeSet<BTreeSet<Fingerprint>> {
    let common = spec.items.values().any(|item| item.envelopes.is_none()).then_some(&spec.envelopes);
    common
        .into_iter()
        .chain(spec.items.values().filter_map(|item| item.envelopes.as_ref()))
        .map(|lines| lines.values().filter_map(|text| Some(EnvelopeHead::parse(text).ok()?.fingerprint)).collect())
        .filter(|set: &BTreeSet<_>| !set.is_empty())
        .collect()
}

/// The place that an object's own metadata and scope say (rule 3).
///
/// # Errors
/// [`PlaceError`].
pub fn place_of(sealed: &SealedSecret) -> Result<Place, PlaceError> {
    Place::new(
        sealed.spec.scope.unwrap_or_default(),
        sealed.metadata.namespace.as_deref(),
        sealed.metadata.name.as_deref(),
    )
}

/// Looks at everything that needs no key: the place, the texts, the tags, the ids, the limits.
///
/// # Errors
/// [`Problems`], all that were found.
pub fn inspect(sealed: &SealedSecret, strictness: Strictness) -> Result<Inspected<'_>, Problems> {
    let spec = &sealed.spec;
    let place = place_of(sealed).map_err(|error| Problems::one(Site::Object, error.into()))?;
    // Sizes first: what follows costs time in proportion to them.
    let templates = spec.template.as_ref().map(|template| &template.data);
    let count = spec.items.len() + templates.map_or(0, BTreeMap::len);
    if count > MAX_ITEMS {
        return Err(Problems::one(Site::Object, ProblemKind::TooManyItems(count)));
    }
    let size = object_size(sealed);
    if size > MAX_OBJECT {
        return Err(Problems::one(Site::Object, ProblemKind::TooLarge(size)));
    }
    let mut problems = Vec::new();
    let mut report = |site: Site, kind: ProblemKind| problems.push(Problem { site, kind });
    let mut items = Vec::with_capacity(spec.items.len());
    for (key, item) in &spec.items {
        let site = || Site::Item(key.clone());
        let context = match place.context(key) {
            Ok(context) => context,
            Err(error) => {
                report(site(), error.into());
                continue;
            }
        };
        match item.sealed.parse::<SealedText>() {
            Ok(text) if text.is_placed(&context) => {
                items.push(InspectedItem { key, context, sealed: text, own: item.envelopes.is_some() });
            }
            Ok(_) => report(site(), ProblemKind::Misplaced(format!("{place} (scope {})", place.scope()))),
            Err(error) => report(site(), error.into()),
        }
        if item.envelopes.as_ref().is_some_and(Envelopes::is_empty) {
            report(site(), ProblemKind::EmptyEnvelopes);
        }
    }
    for key in templates.into_iter().flat_map(BTreeMap::keys) {
        if spec.items.contains_key(key) {
            report(Site::Template(key.clone()), ProblemKind::ItemAndTemplate);
        } else if place.context(key).is_err() {
            report(Site::Template(key.clone()), ProblemKind::TemplateKey);
        }
    }
    let inspected = Inspected { place, data_keys: count_data_keys(spec), items, spec };
    let limit = if strictness == Strictness::Writer { MAX_DATA_KEYS_WRITE } else { MAX_DATA_KEYS_READ };
    if inspected.data_keys > limit {
        report(Site::Object, ProblemKind::TooManyDataKeys { found: inspected.data_keys, limit });
    }
    for map in inspected.used_maps() {
        if map.lines.is_empty() {
            if map.item.is_none() {
                for item in inspected.items_of(&map) {
                    report(Site::Item(item.key.to_owned()), ProblemKind::NoEnvelopes);
                }
            }
            continue;
        }
        inspect_map(&inspected, &map, strictness, &mut report);
    }
    if problems.is_empty() { Ok(inspected) } else { Err(Problems(problems)) }
}

fn inspect_map(
    inspected: &Inspected<'_>,
    map: &UsedMap<'_>,
    strictness: Strictness,
    report: &mut impl FnMut(Site, ProblemKind),
) {
    if map.lines.len() > MAX_RECIPIENTS {
        let site = map.item.map_or(Site::Object, |key| Site::Item(key.to_owned()));
        report(site, ProblemKind::TooManyRecipients(map.lines.len()));
        return;
    }
    let mut id: Option<KeyId> = inspected.items_of(map).next().map(|item| item.sealed.id().clone());
    let mut fingerprints = BTreeSet::new();
    for (name, text) in map.lines {
        let site = || Site::envelope(map.item, name);
        if text.len() > MAX_ENVELOPE_TEXT {
            report(site(), TextError::TooLarge.into());
            continue;
        }
        let head = match EnvelopeHead::parse(text) {
            Ok(head) => head,
            Err(error) => {
                report(site(), error.into());
                continue;
            }
        };
        if !fingerprints.insert(head.fingerprint) {
            report(site(), ProblemKind::FingerprintTwice(head.fingerprint));
        }
        if strictness == Strictness::Writer {
            let foreign = name.parse::<Fingerprint>().is_ok_and(|named| named != head.fingerprint);
            if !is_envelope_name(name) || foreign {
                report(site(), ProblemKind::EnvelopeName);
            }
            if let Err(error) = text.parse::<Envelope>() {
                report(site(), error.into());
            }
            if *id.get_or_insert_with(|| head.id.clone()) != head.id {
                report(site(), ProblemKind::IdMismatch(head.id));
            }
        } else if !head.is_base64() {
            report(site(), TextError::Base64.into());
        }
    }
    // One data key for all items of the common map.
    for item in inspected.items_of(map) {
        if id.as_ref().is_some_and(|id| id != item.sealed.id()) {
            report(Site::Item(item.key.to_owned()), ProblemKind::IdMismatch(item.sealed.id().clone()));
        }
    }
}

fn count_data_keys(spec: &SealedSecretSpec) -> usize {
    let own = spec.items.values().filter(|item| item.envelopes.is_some()).count();
    own + usize::from(own < spec.items.len())
}

/// Bytes of the object as rule 5 counts them: compact JSON without status and managedFields, and twice the key and
/// [`MANAGED_FIELDS_LINE`] for each item and envelope line.
#[must_use]
pub fn object_size(sealed: &SealedSecret) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Public<'a> {
        api_version: &'a str,
        kind: &'a str,
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        spec: &'a SealedSecretSpec,
    }
    let mut metadata = sealed.metadata.clone();
    metadata.managed_fields = None;
    let public =
        Public { api_version: crate::resource::API_VERSION, kind: crate::resource::KIND, metadata, spec: &sealed.spec };
    let mut counter = Counter(0);
    // Counting has no way to fail, and a map with text keys none to be refused.
    if public.serialize(&mut serde_json::Serializer::new(&mut counter)).is_err() {
        return usize::MAX;
    }
    let lines =
        |envelopes: &Envelopes| envelopes.keys().map(|name| 2 * (name.len() + MANAGED_FIELDS_LINE)).sum::<usize>();
    counter.0
        + lines(&sealed.spec.envelopes)
        + sealed
            .spec
            .items
            .iter()
            .map(|(key, item)| 2 * (key.len() + MANAGED_FIELDS_LINE) + item.envelopes.as_ref().map_or(0, lines))
            .sum::<usize>()
}

/// Why a SealedSecret does not open.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Anybody can see that it is broken.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// No line for any of the identities.
    #[error("no identity given opens {}: it is sealed for {}", .site, list(.sealed_for))]
    NoEnvelope {
        /// The item that has none.
        site: Site,
        /// For whom it is sealed.
        sealed_for: Vec<(String, Fingerprint)>,
    },
    /// The envelope or the item does not decrypt. Which of the two is not told.
    #[error("{0} does not open: it was changed, or sealed for another place")]
    Failed(Site),
    /// A template does not render. Nothing of its text, of a value or of what it produced is told.
    #[error("spec.template.data.{key}: {error}")]
    Template {
        /// The key under `template.data`.
        key: String,
        /// Where in the template, and why.
        error: TemplateError,
    },
}

impl OpenError {
    /// Of what class it is: the first problem's, when there are several.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Problems(problems) => {
                problems.as_slice().first().map_or(ErrorClass::Malformed, |problem| problem.kind.class())
            }
            Self::NoEnvelope { .. } => ErrorClass::MissingEnvelope,
            Self::Failed(_) => ErrorClass::DecryptionFailed,
            Self::Template { .. } => ErrorClass::TemplateFailed,
        }
    }
}

fn list(sealed_for: &[(String, Fingerprint)]) -> String {
    sealed_for
        .iter()
        .map(|(name, fingerprint)| {
            let fingerprint = fingerprint.to_string();
            if *name == fingerprint { fingerprint } else { format!("{name} {fingerprint}") }
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// The identities that open, the most recently preferred first (a command line: in the order given).
pub type Identities<'a> = [&'a Identity];

impl Inspected<'_> {
    /// The line for the first of `identities` that has one in `map`.
    #[must_use]
    pub fn own_line<'m, 'i>(
        map: &UsedMap<'m>,
        identities: &Identities<'i>,
    ) -> Option<(&'m str, &'m str, &'i Identity)> {
        identities.iter().find_map(|identity| {
            let fingerprint = identity.recipient().fingerprint();
            map.lines.iter().find_map(|(name, text)| {
                let head = EnvelopeHead::parse(text).ok()?;
                (head.fingerprint == fingerprint).then_some((name.as_str(), text.as_str(), *identity))
            })
        })
    }

    /// Opens all items, each data key unwrapped once, in one attempt each.
    ///
    /// # Errors
    /// [`OpenError`] for the first that does not open.
    pub fn open(&self, identities: &Identities<'_>) -> Result<BTreeMap<String, SecretValue>, OpenError> {
        let mut opened = BTreeMap::new();
        for map in self.used_maps() {
            let mut key = None;
            for item in self.items_of(&map) {
                let site = || Site::Item(item.key.to_owned());
                let key = match &mut key {
                    Some(key) => key,
                    none => {
                        let Some((name, text, identity)) = Self::own_line(&map, identities) else {
                            return Err(OpenError::NoEnvelope { site: site(), sealed_for: self.sealed_for() });
                        };
                        let at = |kind: ProblemKind| {
                            OpenError::Problems(Problems::one(Site::envelope(map.item, name), kind))
                        };
                        let envelope: Envelope = text.parse().map_err(|error: TextError| at(error.into()))?;
                        if envelope.id() != item.sealed.id() {
                            return Err(at(ProblemKind::IdMismatch(envelope.id().clone())));
                        }
                        none.insert(envelope.open(identity).map_err(|_| OpenError::Failed(site()))?)
                    }
                };
                let value = key.open(&item.context, &item.sealed).map_err(|_| OpenError::Failed(site()))?;
                opened.insert(item.key.to_owned(), value);
            }
        }
        Ok(opened)
    }
}

/// What the templates make of the opened items, all within one budget. Each sees the items alone, none what another made.
fn render_all(
    templates: &BTreeMap<String, String>,
    items: &BTreeMap<String, SecretValue>,
) -> Result<BTreeMap<String, SecretValue>, OpenError> {
    if templates.is_empty() {
        return Ok(BTreeMap::new());
    }
    let dialect = Dialect::native();
    let context = template::Context::of_items(items, &dialect);
    let mut budget = Budget::default();
    templates
        .iter()
        .map(|(key, source)| {
            let value = template::render(key, source, &context, &dialect, &mut budget);
            let value = value.map_err(|error| OpenError::Template { key: key.clone(), error })?;
            Ok((key.clone(), value))
        })
        .collect()
}

/// Opens a SealedSecret to the Secret that it stands for: the opened items, what the templates under `template.data` make
/// of them, and what else the template says. Labels and annotations of the SealedSecret itself are not the Secret's.
///
/// # Errors
/// [`OpenError`].
pub fn open(sealed: &SealedSecret, identities: &Identities<'_>) -> Result<PlainSecret, OpenError> {
    let inspected = inspect(sealed, Strictness::Reader)?;
    let template = sealed.spec.template.clone().unwrap_or_default();
    let mut data = inspected.open(identities)?;
    let rendered = render_all(&template.data, &data)?;
    data.extend(rendered);
    let metadata = template.metadata.unwrap_or_default();
    Ok(PlainSecret {
        name: sealed.metadata.name.clone(),
        namespace: sealed.metadata.namespace.clone(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        type_: template.type_,
        immutable: template.immutable,
        data,
    })
}
