//! Sealing whole Secrets, and single values into a file that exists (format.md, rules 3, 5 and 10). No private key is
//! needed for any of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::envelope::{Envelope, EnvelopeHead};
use crate::item::FreshDataKey;
use crate::limits::{MAX_DATA_KEYS_WRITE, MAX_ITEMS, MAX_OBJECT};
use crate::metadata::{SEALING_KEY_TYPE, split};
use crate::open::{Problems, Strictness, inspect, object_size};
use crate::recipient::{Fingerprint, RandomnessError, Targets};
use crate::resource::{Envelopes, SealedItem, SealedSecret, SealedSecretSpec, SecretTemplate, TemplateMetadata};
use crate::scope::{Place, PlaceError, Scope};
use crate::secret::{PlainSecret, SecretValue};

/// Why something can't be sealed.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum SealError {
    /// Namespace, name or scope.
    #[error(transparent)]
    Place(PlaceError),
    /// A key against the grammar.
    #[error("the key {key:?} can't be sealed: {error}")]
    Key {
        /// The key.
        key: String,
        /// Why not.
        error: PlaceError,
    },
    /// A private key of a controller.
    #[error("a Secret of type {SEALING_KEY_TYPE} holds a private key of the controller and is never sealed")]
    SealingKey,
    /// Larger than a cluster keeps.
    #[error(
        "sealed it has {size} bytes as the cluster counts them; at most {MAX_OBJECT} (etcd's limit). Split the Secret"
    )]
    TooLarge {
        /// How many bytes.
        size: usize,
    },
    /// Too many items.
    #[error("{0} values; at most {MAX_ITEMS}")]
    TooManyItems(usize),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// Seals a Secret for `targets`: one new data key for all its values. Labels and annotations go to the template, those
/// of delivery tools to the SealedSecret itself; what the API server added is left out.
///
/// # Errors
/// [`SealError`]; nothing is sealed in part.
pub fn seal(secret: &PlainSecret, scope: Scope, targets: &Targets) -> Result<SealedSecret, SealError> {
    if secret.type_.as_deref() == Some(SEALING_KEY_TYPE) {
        return Err(SealError::SealingKey);
    }
    if secret.data.len() > MAX_ITEMS {
        return Err(SealError::TooManyItems(secret.data.len()));
    }
    let place = Place::new(scope, secret.namespace.as_deref(), secret.name.as_deref()).map_err(SealError::Place)?;
    let (items, envelopes) = seal_all(&secret.data, &place, targets)?;
    let (labels, own_labels) = split(&secret.labels);
    let (annotations, own_annotations) = split(&secret.annotations);
    let template = SecretTemplate {
        metadata: (!labels.is_empty() || !annotations.is_empty()).then_some(TemplateMetadata { labels, annotations }),
        type_: secret.type_.clone(),
        immutable: secret.immutable,
        data: BTreeMap::new(),
    };
    let sealed = SealedSecret {
        metadata: ObjectMeta {
            name: secret.name.clone(),
            namespace: secret.namespace.clone(),
            labels: (!own_labels.is_empty()).then_some(own_labels),
            annotations: (!own_annotations.is_empty()).then_some(own_annotations),
            ..ObjectMeta::default()
        },
        spec: SealedSecretSpec {
            scope: (scope != Scope::Strict).then_some(scope),
            items,
            template: (template != SecretTemplate::default()).then_some(template),
            envelopes,
            ..SealedSecretSpec::default()
        },
        status: None,
    };
    let size = object_size(&sealed);
    if size > MAX_OBJECT { Err(SealError::TooLarge { size }) } else { Ok(sealed) }
}

/// All values under one new data key, wrapped for every target. No values need no key.
pub(crate) fn seal_all(
    data: &BTreeMap<String, SecretValue>,
    place: &Place,
    targets: &Targets,
) -> Result<(BTreeMap<String, SealedItem>, Envelopes), SealError> {
    if data.is_empty() {
        return Ok(Default::default());
    }
    // What can't fit is refused before work is spent on it.
    let least: usize = data.values().map(|value| value.len() / 3 * 4).sum();
    if least > MAX_OBJECT {
        return Err(SealError::TooLarge { size: least });
    }
    let data_key = FreshDataKey::generate()?;
    let mut items = BTreeMap::new();
    for (key, value) in data {
        let context = place.context(key).map_err(|error| SealError::Key { key: key.clone(), error })?;
        let sealed = data_key.seal(&context, value)?.to_string();
        items.insert(key.clone(), SealedItem { sealed, envelopes: None });
    }
    Ok((items, wrap_for(&data_key, targets)?))
}

fn wrap_for(data_key: &FreshDataKey, targets: &Targets) -> Result<Envelopes, RandomnessError> {
    targets
        .as_slice()
        .iter()
        .map(|target| Ok((target.name.clone(), Envelope::seal(data_key, &target.recipient)?.to_string())))
        .collect()
}

/// Why a value can't be set in a SealedSecret that exists.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// The file is broken already.
    #[error(transparent)]
    Broken(#[from] Problems),
    /// The value can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file opens in more places than was asked for.
    #[error("the file's scope is {file}, wider than {asked}: the value could be opened in more places than you want")]
    WiderScope {
        /// The file's.
        file: Scope,
        /// The one asked for.
        asked: Scope,
    },
    /// Somebody who reads the file today could not read the new value.
    #[error(
        "the file is sealed for {name} ({fingerprint}) too, who is not among the recipients given: the new value would \
         be lost to them"
    )]
    NotCovered {
        /// The line's name.
        name: String,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// One data key too many.
    #[error(
        "the file has {MAX_DATA_KEYS_WRITE} data keys already, one for each value that was set by itself. Compact them: \
         bulla reseal --fresh"
    )]
    TooManyDataKeys,
}

/// Seals one value for a place in a SealedSecret that exists; see [`set_all`].
///
/// # Errors
/// [`SetError`]; then `sealed` is as it was.
pub fn set(
    sealed: &mut SealedSecret,
    key: &str,
    value: &SecretValue,
    targets: &Targets,
    asked: Option<Scope>,
) -> Result<(), SetError> {
    set_all(sealed, &[(key, value)], targets, asked)
}

/// Seals values for a place in a SealedSecret that exists, each with a data key and envelopes of its own, and lays them in.
/// Nothing else of `sealed` changes. What is replaced may be broken or belong elsewhere: after a move everything can be set
/// anew. `asked` is the scope that somebody asked for, if anybody did.
///
/// # Errors
/// [`SetError`]; then `sealed` is as it was.
pub fn set_all(
    sealed: &mut SealedSecret,
    values: &[(&str, &SecretValue)],
    targets: &Targets,
    asked: Option<Scope>,
) -> Result<(), SetError> {
    let mut after = sealed.clone();
    for (key, _) in values {
        after.spec.items.remove(*key);
    }
    let inspected = inspect(&after, Strictness::Writer)?;
    let place = inspected.place.clone();
    let file = place.scope();
    if let Some(asked) = asked
        && file > asked
    {
        return Err(SetError::WiderScope { file, asked });
    }
    // Of the file as it is: who reads it today reads it afterwards, also when everything is replaced.
    covers(targets, used_lines(&sealed.spec))?;
    for (key, value) in values {
        let context = place.context(key).map_err(|error| SealError::Key { key: (*key).to_owned(), error })?;
        let data_key = FreshDataKey::generate().map_err(SealError::from)?;
        let text = data_key.seal(&context, value).map_err(SealError::from)?.to_string();
        let envelopes = wrap_for(&data_key, targets).map_err(SealError::from)?;
        after.spec.items.insert((*key).to_owned(), SealedItem { sealed: text, envelopes: Some(envelopes) });
    }
    let own = after.spec.items.values().filter(|item| item.envelopes.is_some()).count();
    if own + usize::from(own < after.spec.items.len()) > MAX_DATA_KEYS_WRITE {
        return Err(SetError::TooManyDataKeys);
    }
    let size = object_size(&after);
    if size > MAX_OBJECT {
        return Err(SealError::TooLarge { size }.into());
    }
    *sealed = after;
    Ok(())
}

/// Names and texts of the envelopes that items refer to, whatever else is wrong with them.
pub(crate) fn used_lines(spec: &SealedSecretSpec) -> impl Iterator<Item = (&String, &String)> {
    let common = spec.items.values().any(|item| item.envelopes.is_none());
    let own = spec.items.values().filter_map(|item| item.envelopes.as_ref()).flatten();
    spec.envelopes.iter().filter(move |_| common).chain(own)
}

/// What is gone when one SealedSecret takes another's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Keys of items.
    pub items: Vec<String>,
    /// Names and fingerprints of recipients. A name alone does not make a recipient the same (rule 10).
    pub recipients: Vec<(String, Fingerprint)>,
}

/// What of `old` is not in `new`: items by key, recipients by the fingerprint of the envelopes in use.
#[must_use]
pub fn lost(old: &SealedSecret, new: &SealedSecret) -> Lost {
    let readers = |sealed: &SealedSecret| -> BTreeMap<Fingerprint, String> {
        let heads = used_lines(&sealed.spec)
            .filter_map(|(name, text)| Some((EnvelopeHead::parse(text).ok()?.fingerprint, name.clone())));
        heads.collect()
    };
    let kept = readers(new);
    Lost {
        items: old.spec.items.keys().filter(|key| !new.spec.items.contains_key(*key)).cloned().collect(),
        recipients: readers(old)
            .into_iter()
            .filter(|(fingerprint, _)| !kept.contains_key(fingerprint))
            .map(|(fingerprint, name)| (name, fingerprint))
            .collect(),
    }
}

/// Whether everybody whom these lines are for is among the targets, by fingerprint or policy name (rule 10).
pub(crate) fn covers<'a>(
    targets: &Targets,
    lines: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), SetError> {
    for (name, text) in lines {
        let Ok(head) = EnvelopeHead::parse(text) else { continue };
        let covered = targets.as_slice().iter().any(|target| {
            target.recipient.fingerprint() == head.fingerprint || (target.by_policy && target.name == *name)
        });
        if !covered {
            return Err(SetError::NotCovered { name: name.clone(), fingerprint: head.fingerprint });
        }
    }
    Ok(())
}

/// Takes an item out; `false` when there is none. The envelopes stay (rule 10).
pub fn unset(sealed: &mut SealedSecret, key: &str) -> bool {
    sealed.spec.items.remove(key).is_some()
}
