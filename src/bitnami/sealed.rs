//! Items and whole SealedSecrets of this format, sealed, opened and sealed anew.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize as _, Zeroizing};

use super::key::{Certificate, KeyFingerprint, PrivateKey, SESSION_KEY};
use super::resource::{
    BitnamiSealedSecret, BitnamiSealedSecretSpec, BitnamiSecretTemplate, SKIP_SET_OWNER_REFERENCES, scope_of, set_scope,
};
use crate::encoding::base64;
use crate::limits::{MAX_ITEMS, MAX_OBJECT};
use crate::manifest::Stream;
use crate::metadata::is_last_applied;
use crate::recipient::RandomnessError;
use crate::scope::{Scope, is_item_key};
use crate::secret::{PlainSecret, SecretValue};
use crate::template::{self, Budget, Dialect, TemplateError};

/// Bytes of an AES-GCM tag.
const TAG: usize = 16;
/// Like Go's: padding must be there, bits that pad the last character may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The label that binds items to a place: `ns/name`, `ns`, or nothing.
#[must_use]
pub fn label(scope: Scope, namespace: &str, name: &str) -> Vec<u8> {
    match scope {
        Scope::Strict => format!("{namespace}/{name}").into_bytes(),
        Scope::NamespaceWide => namespace.as_bytes().to_vec(),
        Scope::ClusterWide => Vec::new(),
    }
}

fn label_of(sealed: &BitnamiSealedSecret) -> Vec<u8> {
    let metadata = &sealed.metadata;
    label(
        scope_of(metadata.annotations.as_ref()),
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Seals one value; base64 in one line.
///
/// # Errors
/// [`RandomnessError`].
pub fn seal_item(certificate: &Certificate, label: &[u8], value: &[u8]) -> Result<String, RandomnessError> {
    let mut session_key = Zeroizing::new([0; SESSION_KEY]);
    SystemRandom::new().fill(session_key.as_mut_slice()).map_err(|_| RandomnessError)?;
    let wrapped = certificate.wrap(&session_key, label).ok_or(RandomnessError)?;
    let length = u16::try_from(wrapped.len()).map_err(|_| RandomnessError)?;
    let mut body = Vec::with_capacity(value.len() + TAG);
    body.extend_from_slice(value);
    let sealed =
        gcm(session_key.as_slice()).and_then(|key| key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut body).ok());
    if sealed.is_none() {
        body.zeroize();
        return Err(RandomnessError);
    }
    let mut item = Vec::with_capacity(2 + wrapped.len() + body.len());
    item.extend_from_slice(&length.to_be_bytes());
    item.extend_from_slice(&wrapped);
    item.extend_from_slice(&body);
    Ok(base64(&item))
}

fn gcm(key: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

/// Twelve zero bytes: each session key encrypts once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Why an item does not open.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemError {
    /// Anybody can see that it is damaged.
    #[error("illegal base64 data")]
    Base64,
    /// Anybody can see that it is damaged.
    #[error("the ciphertext is cut off")]
    Truncated,
    /// Sealed for another key or another place, or damaged: nobody can tell which.
    #[error("no key could decrypt it: sealed for another key, name, namespace or scope, or damaged")]
    NoKey,
    /// More private operations than may be done.
    #[error("it takes more private-key operations than are allowed")]
    Operations,
}

/// How many RSA operations may still be done, when whoever asks is a stranger.
#[derive(Debug)]
pub struct Operations(usize);

impl Operations {
    /// So many.
    #[must_use]
    pub const fn at_most(number: usize) -> Self {
        Self(number)
    }

    /// As many as it takes.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(usize::MAX)
    }

    /// Takes so many off. Whether there were.
    fn take(&mut self, number: usize) -> bool {
        let left = self.0.checked_sub(number);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

struct Item {
    bytes: Vec<u8>,
    wrapped: usize,
}

impl Item {
    fn parse(text: &str) -> Result<Self, ItemError> {
        let clean;
        let text = if text.contains(['\r', '\n']) {
            clean = text.replace(['\r', '\n'], "");
            &clean
        } else {
            text
        };
        let bytes = BASE64.decode(text).map_err(|_| ItemError::Base64)?;
        let [high, low, rest @ ..] = bytes.as_slice() else { return Err(ItemError::Truncated) };
        let wrapped = usize::from(u16::from_be_bytes([*high, *low]));
        if rest.len() < wrapped.saturating_add(TAG) {
            return Err(ItemError::Truncated);
        }
        Ok(Self { bytes, wrapped })
    }

    /// The wrapped session key, and what it encrypts.
    fn parts(&self) -> Option<(&[u8], &[u8])> {
        self.bytes.get(2..)?.split_at_checked(self.wrapped)
    }

    fn open(&self, key: &PrivateKey, label: &[u8]) -> Option<SecretValue> {
        let (wrapped, body) = self.parts()?;
        let session_key = key.unwrap(wrapped, label)?;
        let mut body = body.to_vec();
        let length = gcm(&session_key)?.open_in_place(nonce(), Aad::empty(), &mut body).ok()?.len();
        body.truncate(length);
        Some(SecretValue::new(body))
    }
}

/// Whether a text can be an item: what anybody can see.
///
/// # Errors
/// [`ItemError::Base64`], [`ItemError::Truncated`].
pub fn check_item(text: &str) -> Result<(), ItemError> {
    Item::parse(text).map(drop)
}

/// Opens one item: with the key `first` when it is among `keys`, then with each in order. Which one did it.
///
/// # Errors
/// [`ItemError`].
pub fn open_item(
    text: &str,
    label: &[u8],
    keys: &[&PrivateKey],
    first: Option<KeyFingerprint>,
) -> Result<(SecretValue, KeyFingerprint), ItemError> {
    open_item_within(text, label, keys, first, &mut Operations::unlimited())
}

fn open_item_within(
    text: &str,
    label: &[u8],
    keys: &[&PrivateKey],
    first: Option<KeyFingerprint>,
    operations: &mut Operations,
) -> Result<(SecretValue, KeyFingerprint), ItemError> {
    let item = Item::parse(text)?;
    let wrapped = item.parts().map(|(wrapped, _)| wrapped).ok_or(ItemError::Truncated)?;
    let is_first = |key: &&&PrivateKey| Some(key.fingerprint()) == first;
    let order = keys.iter().filter(is_first).chain(keys.iter().filter(|key| !is_first(key)));
    for key in order.filter(|key| key.fits(wrapped)) {
        if !operations.take(1) {
            return Err(ItemError::Operations);
        }
        if let Some(value) = item.open(key, label) {
            return Ok((value, key.fingerprint()));
        }
    }
    Err(ItemError::NoKey)
}

/// Why a SealedSecret of this format does not open.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Both fields, old and new.
    #[error("both spec.data and spec.encryptedData are there: remove spec.data, which old files have")]
    BothData,
    /// Too many items.
    #[error("{0} items; at most {MAX_ITEMS}")]
    TooManyItems(usize),
    /// Larger than a cluster keeps.
    #[error("{0} bytes of sealed text; at most {MAX_OBJECT}")]
    TooLarge(usize),
    /// A key against the grammar.
    #[error("the key {0:?} can't be a key of a Secret")]
    Key(String),
    /// Items that anybody can see are damaged.
    #[error("{}: {error}", .key.as_deref().map_or_else(|| "spec.data".to_owned(), |key| format!("spec.encryptedData.{key}")))]
    Item {
        /// Its key; `None` for `spec.data`.
        key: Option<String>,
        /// What is wrong.
        error: ItemError,
    },
    /// Items that no key opens.
    #[error("no key could decrypt secret ({})", .0.join(", "))]
    NoKey(Vec<String>),
    /// The opened `spec.data` is not a Secret.
    #[error("spec.data opens, and there is no Secret in it")]
    NotASecret,
    /// It takes more RSA operations than the caller allows.
    #[error("it takes more RSA operations than one request may cost")]
    Operations,
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
    /// Whether anybody can see it, without a key.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Self::BothData | Self::TooManyItems(_) | Self::TooLarge(_) | Self::Key(_) | Self::Item { .. })
    }
}

/// An opened SealedSecret.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The Secret as its template and items say, before `template.data` is rendered. Name and namespace are the
    /// SealedSecret's own.
    pub secret: PlainSecret,
    /// The keys that opened it, the last item's first.
    pub keys: Vec<KeyFingerprint>,
}

impl Opened {
    /// The key to try first the next time.
    #[must_use]
    pub fn key(&self) -> Option<KeyFingerprint> {
        self.keys.first().copied()
    }
}

/// How many private operations at least opening costs: one for each item.
#[must_use]
pub fn operations(sealed: &BitnamiSealedSecret) -> usize {
    sealed.spec.encrypted_data.len().max(usize::from(sealed.spec.data.is_some()))
}

/// Length in bytes of an item's wrapped session key, which is that of the key's modulus.
///
/// # Errors
/// [`ItemError`]: anybody can see that it is damaged.
pub fn wrapped_len(text: &str) -> Result<usize, ItemError> {
    Item::parse(text).map(|item| item.wrapped)
}

/// Length in bytes of the value in an item, which this format does not hide.
///
/// # Errors
/// [`ItemError`]: anybody can see that it is damaged.
pub fn value_len(text: &str) -> Result<usize, ItemError> {
    Item::parse(text).map(|item| item.bytes.len() - 2 - item.wrapped - TAG)
}

/// The public structure: what is wrong with it is said before anything is decrypted.
///
/// # Errors
/// [`OpenError`]. Whether the texts are whole is not looked at.
pub fn check(spec: &BitnamiSealedSecretSpec) -> Result<(), OpenError> {
    let has_data = spec.data.as_ref().is_some_and(|data| !data.is_empty());
    if has_data && !spec.encrypted_data.is_empty() {
        return Err(OpenError::BothData);
    }
    if spec.encrypted_data.len() > MAX_ITEMS {
        return Err(OpenError::TooManyItems(spec.encrypted_data.len()));
    }
    let size = spec.encrypted_data.iter().map(|(key, text)| key.len() + text.len()).sum::<usize>()
        + spec.data.as_ref().map_or(0, String::len);
    if size > MAX_OBJECT {
        return Err(OpenError::TooLarge(size));
    }
    if let Some(key) = spec.encrypted_data.keys().find(|key| !is_item_key(key)) {
        return Err(OpenError::Key(key.clone()));
    }
    Ok(())
}

/// Opens a SealedSecret with `keys`, newest first; `hint` is the key that opened it before. `template.data` is not rendered.
///
/// # Errors
/// [`OpenError`]; all items that no key opens are named.
pub fn open(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
) -> Result<Opened, OpenError> {
    open_within(sealed, keys, hint, &mut Operations::unlimited())
}

/// The same for a stranger.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Operations`] when it costs more than that.
pub fn open_within(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    operations: &mut Operations,
) -> Result<Opened, OpenError> {
    let spec = &sealed.spec;
    let (values, opened) = open_values(sealed, keys, hint, operations)?;
    let mut secret = match values {
        Values::Items(data) => {
            let template = spec.template.clone().unwrap_or_default();
            let metadata = template.metadata.unwrap_or_default();
            PlainSecret {
                labels: metadata.labels.unwrap_or_default(),
                annotations: metadata.annotations.unwrap_or_default(),
                type_: template.type_.filter(|type_| !type_.is_empty()),
                immutable: template.immutable,
                data,
                ..PlainSecret::default()
            }
        }
        Values::Whole(json) => whole(&json)?,
    };
    secret.name.clone_from(&sealed.metadata.name);
    secret.namespace.clone_from(&sealed.metadata.namespace);
    Ok(Opened { secret, keys: opened })
}

enum Values {
    Items(BTreeMap<String, SecretValue>),
    Whole(SecretValue),
}

fn open_values(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    operations: &mut Operations,
) -> Result<(Values, Vec<KeyFingerprint>), OpenError> {
    let spec = &sealed.spec;
    check(spec)?;
    let label = label_of(sealed);
    let mut first = hint;
    if let Some(text) = spec.data.as_ref().filter(|text| !text.is_empty()) {
        return match open_item_within(text, &label, keys, first, operations) {
            Ok((value, key)) => Ok((Values::Whole(value), vec![key])),
            Err(ItemError::Operations) => Err(OpenError::Operations),
            Err(ItemError::NoKey) => Err(OpenError::NoKey(vec!["data".into()])),
            Err(error) => Err(OpenError::Item { key: None, error }),
        };
    }
    let mut data = BTreeMap::new();
    let mut opened = Vec::new();
    let mut closed = Vec::new();
    for (name, text) in &spec.encrypted_data {
        match open_item_within(text, &label, keys, first, operations) {
            Err(ItemError::Operations) => return Err(OpenError::Operations),
            Ok((value, key)) => {
                if first.replace(key) != Some(key) || opened.is_empty() {
                    opened.retain(|other| *other != key);
                    opened.insert(0, key);
                }
                data.insert(name.clone(), value);
            }
            Err(ItemError::NoKey) => closed.push(name.clone()),
            Err(error) => return Err(OpenError::Item { key: Some(name.clone()), error }),
        }
        // The rest would cost the same again, and say the same.
        if closed.len() >= 16 {
            closed.push("…".into());
            break;
        }
    }
    if closed.is_empty() { Ok((Values::Items(data), opened)) } else { Err(OpenError::NoKey(closed)) }
}

/// The Secret in an opened `spec.data`.
fn whole(json: &SecretValue) -> Result<PlainSecret, OpenError> {
    let stream = Stream::read(json.expose()).map_err(|_| OpenError::NotASecret)?;
    let mut objects = stream.objects();
    let (Some(object), None) = (objects.next(), objects.next()) else { return Err(OpenError::NotASecret) };
    object.secret().map_err(|_| OpenError::NotASecret)
}

/// Whether a SealedSecret opens. Nothing of what it holds decides but whether it authenticates; templates are not looked at.
///
/// # Errors
/// [`OpenError`].
pub fn verify(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
) -> Result<(), OpenError> {
    verify_within(sealed, keys, hint, &mut Operations::unlimited()).map(drop)
}

/// The same for a stranger. Which key it was, if there is anything to open.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Operations`] when it costs more than that.
pub fn verify_within(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    operations: &mut Operations,
) -> Result<Option<KeyFingerprint>, OpenError> {
    open_values(sealed, keys, hint, operations).map(|(_, opened)| opened.first().copied())
}

/// The whole Secret: opened, and `template.data` rendered over the opened items as the established controller does it: a
/// template takes the place of the item of its name, `null` leaves that item out, and an item that is not there prints as
/// `<no value>`. Files with `spec.data` have no templates.
///
/// # Errors
/// [`OpenError`].
pub fn open_rendered(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
) -> Result<Opened, OpenError> {
    let mut opened = open(sealed, keys, hint)?;
    let templates = sealed.spec.template.as_ref().map(|template| &template.data);
    let is_old = sealed.spec.data.as_ref().is_some_and(|data| !data.is_empty());
    let Some(templates) = templates.filter(|templates| !templates.is_empty() && !is_old) else { return Ok(opened) };
    let dialect = Dialect::bitnami();
    let context = template::Context::of_items(&opened.secret.data, &dialect);
    let mut budget = Budget::default();
    for (key, source) in templates {
        let Some(source) = source else {
            opened.secret.data.remove(key);
            continue;
        };
        if !is_item_key(key) {
            return Err(OpenError::Key(key.clone()));
        }
        let value = template::render(key, source, &context, &dialect, &mut budget)
            .map_err(|error| OpenError::Template { key: key.clone(), error })?;
        opened.secret.data.insert(key.clone(), value);
    }
    Ok(opened)
}

/// Whether the Secret gets no owner reference: what the template's annotations say.
#[must_use]
pub fn skips_owner(sealed: &BitnamiSealedSecret) -> bool {
    let metadata = sealed.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    annotations.and_then(|all| all.get(SKIP_SET_OWNER_REFERENCES)).is_some_and(|value| value == "true")
}

/// Seals a Secret as the established command does: the scope goes into the annotations of the SealedSecret and of the
/// template, labels and annotations go to the template.
///
/// # Errors
/// [`RandomnessError`].
pub fn seal(
    secret: &PlainSecret,
    scope: Scope,
    certificate: &Certificate,
) -> Result<BitnamiSealedSecret, RandomnessError> {
    let (namespace, name) = (secret.namespace.clone().unwrap_or_default(), secret.name.clone().unwrap_or_default());
    let label = label(scope, &namespace, &name);
    let mut encrypted_data = BTreeMap::new();
    for (key, value) in &secret.data {
        encrypted_data.insert(key.clone(), seal_item(certificate, &label, value.expose())?);
    }
    let mut annotations = secret.annotations.clone();
    annotations.retain(|key, _| !is_last_applied(key));
    set_scope(&mut annotations, scope);
    let mut own = BTreeMap::new();
    set_scope(&mut own, scope);
    let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    let template = BitnamiSecretTemplate {
        metadata: Some(ObjectMeta {
            name: secret.name.clone(),
            namespace: secret.namespace.clone(),
            labels: some(secret.labels.clone()),
            annotations: some(annotations),
            ..ObjectMeta::default()
        }),
        type_: secret.type_.clone(),
        immutable: secret.immutable,
        data: BTreeMap::new(),
    };
    Ok(BitnamiSealedSecret {
        metadata: ObjectMeta {
            name: secret.name.clone(),
            namespace: secret.namespace.clone(),
            annotations: some(own),
            ..ObjectMeta::default()
        },
        spec: BitnamiSealedSecretSpec { encrypted_data, data: None, template: Some(template) },
        status: None,
    })
}

/// The same values sealed for another certificate: the texts that change, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resealed {
    /// New texts of `spec.encryptedData`, for every key of it.
    Items(BTreeMap<String, String>),
    /// A new text of `spec.data`.
    Whole(String),
}

impl Resealed {
    /// Puts the texts into the object as it was sent, whatever else it has.
    pub fn apply_to_json(self, object: &mut serde_json::Value) {
        let Some(spec) = object.get_mut("spec").and_then(serde_json::Value::as_object_mut) else { return };
        match self {
            Self::Items(texts) => {
                let texts = texts.into_iter().map(|(key, text)| (key, text.into())).collect();
                spec.insert("encryptedData".to_owned(), serde_json::Value::Object(texts));
            }
            Self::Whole(text) => {
                spec.insert("data".to_owned(), text.into());
            }
        }
    }

    /// Puts the texts in; everything else stays.
    pub fn apply(self, sealed: &mut BitnamiSealedSecret) {
        match self {
            Self::Items(texts) => sealed.spec.encrypted_data.extend(texts),
            Self::Whole(text) => sealed.spec.data = Some(text),
        }
    }
}

/// Why values can't be sealed anew.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ResealError {
    /// They don't open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// They can't be sealed.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// Seals the values of a SealedSecret for `certificate`, in the place that the object's own metadata and annotations say.
/// What its template claims has no say, and nothing is rendered (CVE-2026-22728).
///
/// # Errors
/// [`ResealError`]; all or nothing.
pub fn reseal(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    certificate: &Certificate,
) -> Result<Resealed, ResealError> {
    reseal_within(sealed, keys, hint, certificate, &mut Operations::unlimited())
}

/// The same for a stranger.
///
/// # Errors
/// [`ResealError`]; [`OpenError::Operations`] when it costs more than that, sealing included.
pub fn reseal_within(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    certificate: &Certificate,
    limit: &mut Operations,
) -> Result<Resealed, ResealError> {
    if !limit.take(operations(sealed)) {
        return Err(OpenError::Operations.into());
    }
    let (values, _) = open_values(sealed, keys, hint, limit)?;
    let label = label_of(sealed);
    Ok(match values {
        Values::Whole(value) => Resealed::Whole(seal_item(certificate, &label, value.expose())?),
        Values::Items(data) => {
            let texts =
                data.iter().map(|(key, value)| Ok((key.clone(), seal_item(certificate, &label, value.expose())?)));
            Resealed::Items(texts.collect::<Result<_, RandomnessError>>()?)
        }
    })
}
