//! Changing a SealedSecret of this format item by item: setting values, taking them out, sealing them anew or for another
//! place. Each item stands for itself, so nothing else of the object changes.

use std::collections::{BTreeMap, BTreeSet};

use super::key::{Certificate, KeyFingerprint, PrivateKey};
use super::resource::{BitnamiSealedSecret, BitnamiSealedSecretSpec, scope_of, set_scope};
use super::sealed::{ItemError, OpenError, check, label, open_item, seal, seal_item, wrapped_len};
use crate::manifest::{Edit, TextPath};
use crate::metadata::{SEALING_KEY_TYPE, split};
use crate::recipient::RandomnessError;
use crate::scope::{PlaceError, Scope, is_dns_label, is_dns_subdomain, is_item_key};
use crate::secret::{PlainSecret, SecretValue};

/// Why values can't be sealed.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// The file is broken already, or would become so.
    #[error(transparent)]
    Object(#[from] OpenError),
    /// Namespace, name or key.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A key against the grammar.
    #[error("{0:?} can't be a key of a Secret: 1 to 253 of a-z A-Z 0-9 - . _, not \".\" and not beginning with \"..\"")]
    Key(String),
    /// A private key of a controller.
    #[error("a Secret of type {SEALING_KEY_TYPE} holds a private key of the controller and is never sealed")]
    SealingKey,
    /// The whole Secret is one sealed text.
    #[error(
        "the file has spec.data, the older form, in which the whole Secret is one sealed text: no value can be set alone"
    )]
    Legacy,
    /// The file opens in more places than was asked for.
    #[error("the file's scope is {file}, wider than {asked}: the value could be opened in more places than you want")]
    WiderScope {
        /// The file's.
        file: Scope,
        /// The one asked for.
        asked: Scope,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// What binds the items of an object, from its own metadata and annotations: what is bound must be there. Names that only the
/// established command takes (`testSecret`) are taken in files that exist.
///
/// # Errors
/// [`PlaceError`].
pub fn place(sealed: &BitnamiSealedSecret) -> Result<(Scope, Vec<u8>), PlaceError> {
    let metadata = &sealed.metadata;
    let scope = scope_of(metadata.annotations.as_ref());
    bind(scope, metadata.namespace.as_deref(), metadata.name.as_deref())
}

fn bind(scope: Scope, namespace: Option<&str>, name: Option<&str>) -> Result<(Scope, Vec<u8>), PlaceError> {
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    if scope != Scope::ClusterWide {
        if namespace.is_empty() {
            return Err(PlaceError::NoNamespace(scope));
        }
        // With a slash in it, two places would have one label.
        if namespace.contains('/') {
            return Err(PlaceError::BadNamespace);
        }
    }
    if scope == Scope::Strict && name.is_empty() {
        return Err(PlaceError::NoName);
    }
    Ok((scope, label(scope, namespace, name)))
}

/// Seals a Secret for a repository: as [`seal`] does, and what steers Argo CD, Flux and Helm goes to the SealedSecret itself,
/// where it works. What has no place to be bound to, or can't be a key, is an error.
///
/// # Errors
/// [`SetError`]; nothing is sealed in part.
pub fn seal_for_delivery(
    secret: &PlainSecret,
    scope: Scope,
    certificate: &Certificate,
) -> Result<BitnamiSealedSecret, SetError> {
    if secret.type_.as_deref() == Some(SEALING_KEY_TYPE) {
        return Err(SetError::SealingKey);
    }
    let (namespace, name) = (secret.namespace.as_deref(), secret.name.as_deref());
    bind(scope, namespace, name)?;
    if namespace.is_some_and(|namespace| !namespace.is_empty() && !is_dns_label(namespace)) {
        return Err(PlaceError::BadNamespace.into());
    }
    if name.is_some_and(|name| !name.is_empty() && !is_dns_subdomain(name)) {
        return Err(PlaceError::BadName.into());
    }
    if let Some(key) = secret.data.keys().find(|key| !is_item_key(key)) {
        return Err(SetError::Key(key.clone()));
    }
    let (labels, own_labels) = split(&secret.labels);
    let (annotations, own_annotations) = split(&secret.annotations);
    let mut sealed = seal(&PlainSecret { labels, annotations, ..secret.clone() }, scope, certificate)?;
    if !own_labels.is_empty() {
        sealed.metadata.labels = Some(own_labels);
    }
    if !own_annotations.is_empty() {
        let all = sealed.metadata.annotations.get_or_insert_default();
        all.extend(own_annotations);
        // Whatever the Secret says of itself.
        set_scope(all, scope);
    }
    check(&sealed.spec)?;
    Ok(sealed)
}

/// Seals values into an object that exists, each bound to the object's place. What is replaced may be broken. `asked` is the
/// scope that somebody asked for, if anybody did: a file that opens in more places is refused.
///
/// # Errors
/// [`SetError`]; then `sealed` is as it was.
pub fn set_all(
    sealed: &mut BitnamiSealedSecret,
    values: &[(&str, &SecretValue)],
    certificate: &Certificate,
    asked: Option<Scope>,
) -> Result<(), SetError> {
    let mut spec = sealed.spec.clone();
    if is_legacy(&spec) && spec.encrypted_data.is_empty() {
        return Err(SetError::Legacy);
    }
    let (file, label) = place(sealed)?;
    if let Some(asked) = asked
        && file > asked
    {
        return Err(SetError::WiderScope { file, asked });
    }
    for (key, value) in values {
        if !is_item_key(key) {
            return Err(SetError::Key((*key).to_owned()));
        }
        spec.encrypted_data.insert((*key).to_owned(), seal_item(certificate, &label, value.expose())?);
    }
    check(&spec)?;
    sealed.spec = spec;
    Ok(())
}

/// Takes an item out; `false` when there is none.
pub fn unset(sealed: &mut BitnamiSealedSecret, key: &str) -> bool {
    sealed.spec.encrypted_data.remove(key).is_some()
}

/// Whether the whole Secret is one sealed text (`spec.data`).
#[must_use]
pub fn is_legacy(spec: &BitnamiSealedSecretSpec) -> bool {
    spec.data.as_ref().is_some_and(|data| !data.is_empty())
}

/// The edits that make the sealed texts of one object those of another with the same place and template.
#[must_use]
pub fn edits(index: usize, before: &BitnamiSealedSecretSpec, after: &BitnamiSealedSecretSpec) -> Vec<(usize, Edit)> {
    let mut edits = Vec::new();
    for (key, text) in &after.encrypted_data {
        if before.encrypted_data.get(key) != Some(text) {
            edits.push((index, Edit::SetEncrypted { key: key.clone(), text: text.clone() }));
        }
    }
    for key in before.encrypted_data.keys().filter(|key| !after.encrypted_data.contains_key(*key)) {
        edits.push((index, Edit::RemoveItem { key: key.clone() }));
    }
    if let Some(text) = after.data.as_ref().filter(|text| before.data.as_ref() != Some(*text)) {
        edits.push((index, Edit::ReplaceText { path: TextPath::Data, text: text.clone() }));
    }
    edits
}

/// What became of the items of an object that was to be sealed anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// New texts, by key; `data` of an old file among them.
    pub texts: BTreeMap<String, String>,
    /// Keys of items that the certificate's own key opens: they stay.
    pub current: BTreeSet<String>,
    /// Keys of items that none of the keys opens: they stay. They are sealed for the certificate already, or for a key that is
    /// not here, or for another place; nobody can tell which without the key.
    pub closed: BTreeSet<String>,
    /// The key that opened last; try it first the next time.
    pub hint: Option<KeyFingerprint>,
}

impl Renewed {
    /// Puts the new texts in; everything else stays.
    pub fn apply(&self, spec: &mut BitnamiSealedSecretSpec) {
        let mut texts = self.texts.clone();
        if is_legacy(spec) {
            spec.data = texts.remove("data").or_else(|| spec.data.take());
        } else {
            spec.encrypted_data.extend(texts);
        }
    }
}

/// Seals items anew for `certificate` that other keys open, in the place that the object's own metadata and annotations say.
/// Nothing is rendered, and what the template claims has no say (CVE-2026-22728).
///
/// # Errors
/// [`SetError`]: what anybody can see is wrong with the object. What does not open is no error: see [`Renewed::closed`].
pub fn renew(
    sealed: &BitnamiSealedSecret,
    keys: &[&PrivateKey],
    hint: Option<KeyFingerprint>,
    certificate: &Certificate,
) -> Result<Renewed, SetError> {
    check(&sealed.spec)?;
    let (_, label) = place(sealed)?;
    let mut renewed = Renewed { hint, ..Renewed::default() };
    for (key, text) in texts_of(&sealed.spec) {
        match open_item(text, &label, keys, renewed.hint) {
            Ok((value, opener)) => {
                renewed.hint = Some(opener);
                if opener == certificate.fingerprint() {
                    renewed.current.insert(key.to_owned());
                } else {
                    renewed.texts.insert(key.to_owned(), seal_item(certificate, &label, value.expose())?);
                }
            }
            Err(ItemError::Base64 | ItemError::Truncated) => return Err(damaged(&sealed.spec, key, text)),
            Err(_) => _ = renewed.closed.insert(key.to_owned()),
        }
    }
    Ok(renewed)
}

/// The error for an item that anybody can see is damaged.
fn damaged(spec: &BitnamiSealedSecretSpec, key: &str, text: &str) -> SetError {
    let error = wrapped_len(text).err().unwrap_or(ItemError::NoKey);
    OpenError::Item { key: (!is_legacy(spec)).then(|| key.to_owned()), error }.into()
}

/// All sealed texts by key; that of an old file is called `data`.
pub fn texts_of(spec: &BitnamiSealedSecretSpec) -> impl Iterator<Item = (&str, &str)> {
    let whole = spec.data.iter().filter(|data| !data.is_empty()).map(|text| ("data", text.as_str()));
    spec.encrypted_data.iter().map(|(key, text)| (key.as_str(), text.as_str())).chain(whole)
}

/// What can be told of an item's key without any key: its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Sealed for a key of another size than the certificate's.
    Other,
    /// Nobody can tell.
    Unknown,
}

/// Whether an item is certainly not sealed for `certificate`.
///
/// # Errors
/// [`ItemError`]: anybody can see that it is damaged.
pub fn sight(text: &str, certificate: &Certificate) -> Result<Sight, ItemError> {
    let other = wrapped_len(text)? != certificate.wrapped_len();
    Ok(if other { Sight::Other } else { Sight::Unknown })
}

/// Why an object's items can't be bound to its new place.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum RebindError {
    /// The object as it stands.
    #[error(transparent)]
    Set(#[from] SetError),
    /// Items that no key opens, neither here nor there.
    #[error("no key could decrypt secret ({})", .0.join(", "))]
    NoKey(Vec<String>),
}

/// What was bound anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebound {
    /// New texts, by key; `data` of an old file among them.
    pub texts: BTreeMap<String, String>,
    /// The scopes that they were sealed with.
    pub scopes: BTreeSet<Scope>,
}

impl Rebound {
    /// Puts the new texts in; everything else stays.
    pub fn apply(&self, spec: &mut BitnamiSealedSecretSpec) {
        Renewed { texts: self.texts.clone(), ..Renewed::default() }.apply(spec);
    }
}

/// Binds the items of an object that was moved or renamed to its new place. Nobody can see which are bound elsewhere: those that
/// open here stay; the others are opened as items of `from` (namespace, name), whatever the scope.
///
/// # Errors
/// [`RebindError`]; nothing is bound in part.
pub fn rebind(
    sealed: &BitnamiSealedSecret,
    from: (&str, &str),
    keys: &[&PrivateKey],
    certificate: &Certificate,
) -> Result<Rebound, RebindError> {
    check(&sealed.spec).map_err(SetError::from)?;
    let (own, here) = place(sealed).map_err(SetError::from)?;
    let others = [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide]
        .map(|scope| (scope, label(scope, from.0, from.1)))
        .into_iter()
        .filter(|(_, label)| *label != here);
    // Most often the scope stays.
    let mut others: Vec<_> = others.collect();
    others.sort_by_key(|(scope, _)| *scope != own);
    let mut rebound = Rebound::default();
    let (mut closed, mut hint) = (Vec::new(), None);
    for (key, text) in texts_of(&sealed.spec) {
        match open_item(text, &here, keys, hint) {
            Ok((_, opener)) => {
                hint = Some(opener);
                continue;
            }
            Err(ItemError::Base64 | ItemError::Truncated) => return Err(damaged(&sealed.spec, key, text).into()),
            Err(_) => {}
        }
        let opened = others.iter().find_map(|(scope, label)| Some((*scope, open_item(text, label, keys, hint).ok()?)));
        match opened {
            Some((scope, (value, opener))) => {
                hint = Some(opener);
                rebound.scopes.insert(scope);
                let text = seal_item(certificate, &here, value.expose()).map_err(SetError::from)?;
                rebound.texts.insert(key.to_owned(), text);
            }
            None => closed.push(key.to_owned()),
        }
    }
    if closed.is_empty() { Ok(rebound) } else { Err(RebindError::NoKey(closed)) }
}
