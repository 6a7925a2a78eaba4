//! Putting the values of a Secret into a SealedSecret that is there, with its labels and annotations.

use std::collections::BTreeMap;

use super::change::{SetError, set_all};
use super::key::Certificate;
use super::resource::{BitnamiSealedSecret, CLUSTER_WIDE, NAMESPACE_WIDE, scope_of};
use crate::metadata::is_last_applied;
use crate::scope::Scope;
use crate::secret::PlainSecret;

/// Why nothing is put into it.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// Another scope is asked for than the object has: the item would open nowhere, or in more places than asked for.
    #[error("the scope of the SealedSecret is {object}, and {asked} is asked for")]
    Scope {
        /// The object's.
        object: Scope,
        /// What is asked for.
        asked: Scope,
    },
    /// The values can't be set.
    #[error(transparent)]
    Set(#[from] SetError),
}

/// What changes in the object, and nothing else does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// Texts under `spec.encryptedData`, for every key of the Secret.
    pub items: BTreeMap<String, String>,
    /// Labels of the template.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the template. Those that say a scope are not among them: they would say what the items are not.
    pub annotations: BTreeMap<String, String>,
}

/// Seals the values of a Secret for the place of an object that is there, in the object's own scope. `asked` is the scope that
/// somebody insists on; where nobody does, what the Secret's annotations ask for counts as well. The Secret's own name and
/// namespace have no say.
///
/// # Errors
/// [`MergeError`].
pub fn merge(
    object: &BitnamiSealedSecret,
    secret: &PlainSecret,
    asked: Option<Scope>,
    certificate: &Certificate,
) -> Result<Merge, MergeError> {
    let scope = scope_of(object.metadata.annotations.as_ref());
    let asked = asked.or_else(|| match scope_of(Some(&secret.annotations)) {
        Scope::Strict => None,
        wider => Some(wider),
    });
    if let Some(asked) = asked.filter(|asked| *asked != scope) {
        return Err(MergeError::Scope { object: scope, asked });
    }
    let mut after = object.clone();
    let values: Vec<_> = secret.data.iter().map(|(key, value)| (key.as_str(), value)).collect();
    set_all(&mut after, &values, certificate, asked)?;
    let mut items = after.spec.encrypted_data;
    items.retain(|key, _| secret.data.contains_key(key));
    let mut annotations = secret.annotations.clone();
    annotations.retain(|key, _| !is_last_applied(key) && key != CLUSTER_WIDE && key != NAMESPACE_WIDE);
    Ok(Merge { items, labels: secret.labels.clone(), annotations })
}
