//! Putting the values of a Secret into a SealedSecret that is there.

use std::collections::BTreeMap;

use super::key::Certificate;
use super::resource::{BitnamiSealedSecret, CLUSTER_WIDE, NAMESPACE_WIDE, scope_of};
use super::sealed::{label, seal_item};
use crate::metadata::is_last_applied;
use crate::recipient::RandomnessError;
use crate::scope::Scope;
use crate::secret::PlainSecret;

/// Why nothing is put into it.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// An old file: a reader takes `spec.data` or `spec.encryptedData`, not both.
    #[error("it has spec.data, the form of old files, beside which there can be no encryptedData")]
    OldForm,
    /// Another scope is asked for than the object has: the item would open nowhere, or in more places than asked for.
    #[error("the scope of the SealedSecret is {object}, and {asked} is asked for")]
    Scope {
        /// The object's.
        object: Scope,
        /// What is asked for.
        asked: Scope,
    },
    /// The object has no namespace, and its scope binds to one.
    #[error("the SealedSecret has no namespace, and its scope binds to one")]
    NoNamespace,
    /// The object has no name, and its scope binds to one.
    #[error("the SealedSecret has no name, and its scope binds to one")]
    NoName,
    /// There is no randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
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
    if object.spec.data.as_ref().is_some_and(|data| !data.is_empty()) {
        return Err(MergeError::OldForm);
    }
    let metadata = &object.metadata;
    let scope = scope_of(metadata.annotations.as_ref());
    let asked = asked.or_else(|| match scope_of(Some(&secret.annotations)) {
        Scope::Strict => None,
        wider => Some(wider),
    });
    if let Some(asked) = asked.filter(|asked| *asked != scope) {
        return Err(MergeError::Scope { object: scope, asked });
    }
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    if namespace.is_empty() && scope != Scope::ClusterWide {
        return Err(MergeError::NoNamespace);
    }
    if name.is_empty() && scope == Scope::Strict {
        return Err(MergeError::NoName);
    }
    let label = label(scope, namespace, name);
    let items = secret
        .data
        .iter()
        .map(|(key, value)| Ok((key.clone(), seal_item(certificate, &label, value.expose())?)))
        .collect::<Result<_, RandomnessError>>()?;
    let mut annotations = secret.annotations.clone();
    annotations.retain(|key, _| !is_last_applied(key) && key != CLUSTER_WIDE && key != NAMESPACE_WIDE);
    Ok(Merge { items, labels: secret.labels.clone(), annotations })
}
