//! Files of private keys, as people keep them: PEM, one key or several; a `kubernetes.io/tls` Secret; a List of those, which is
//! what `kubectl get secret -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml` prints and what a backup is.

use super::key::{PrivateKey, PrivateKeyError};
use crate::manifest::{ManifestError, Node, Object, Stream};

/// The member of a key Secret that has the private key.
pub const KEY_MEMBER: &str = "tls.key";

/// Why no key can be taken from a file. Nothing of its text is told.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum KeyFileError {
    /// A PEM text with a key that can't be used.
    #[error(transparent)]
    Pem(PrivateKeyError),
    /// Neither PEM nor a manifest.
    #[error(transparent)]
    Manifest(ManifestError),
    /// A manifest without a Secret.
    #[error("there is no private key in it: neither PEM nor a Secret")]
    NoSecret,
    /// A Secret without a key.
    #[error("the Secret {0} has no {KEY_MEMBER}")]
    NoMember(String),
    /// A Secret with a key that can't be used.
    #[error("{KEY_MEMBER} of the Secret {name}: {error}")]
    Secret {
        /// Its name.
        name: String,
        /// Why not.
        error: PrivateKeyError,
    },
}

/// Whether a text is such a file rather than one of identities of the native format: what it is, not whether it is good.
#[must_use]
pub fn is_key_file(text: &str) -> bool {
    !text.contains("AGE-SECRET-KEY-") && (text.contains("PRIVATE KEY-----") || text.contains(KEY_MEMBER))
}

/// Reads all private keys of a file, the newest first where the file says how old they are.
///
/// # Errors
/// [`KeyFileError`]: all or none. A List with a Secret that is damaged opens less than its owner thinks.
pub fn private_keys(bytes: &[u8]) -> Result<Vec<PrivateKey>, KeyFileError> {
    if is_pem(bytes) {
        return PrivateKey::all_from_pem(bytes).map_err(KeyFileError::Pem);
    }
    let stream = Stream::read(bytes).map_err(KeyFileError::Manifest)?;
    let mut found: Vec<(Option<String>, Vec<PrivateKey>)> = Vec::new();
    for object in stream.objects().filter(Object::is_secret) {
        let secret = object.secret().map_err(KeyFileError::Manifest)?;
        let name = secret.name.clone().unwrap_or_else(|| "without a name".to_owned());
        let Some(value) = secret.data.get(KEY_MEMBER) else { return Err(KeyFileError::NoMember(name)) };
        let keys = PrivateKey::all_from_pem(value.expose()).map_err(|error| KeyFileError::Secret { name, error })?;
        let created = object.node().get("metadata").and_then(|metadata| metadata.get("creationTimestamp"));
        found.push((created.filter(|created| !created.is_null()).and_then(Node::scalar).map(str::to_owned), keys));
    }
    if found.is_empty() {
        return Err(KeyFileError::NoSecret);
    }
    // Times of the API server compare as text; one without comes last.
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(found.into_iter().flat_map(|(_, keys)| keys).collect())
}

/// Whether the first line that says something begins a PEM block.
fn is_pem(bytes: &[u8]) -> bool {
    let said = |line: &&[u8]| !line.trim_ascii().is_empty() && !line.trim_ascii().starts_with(b"#");
    bytes.split(|byte| *byte == b'\n').find(said).is_some_and(|line| line.trim_ascii().starts_with(b"-----BEGIN"))
}
