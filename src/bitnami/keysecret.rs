//! Secrets that hold RSA keys, in the established controller's layout: which are keys, and what is in them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use zeroize::Zeroize as _;

use super::key::{Certificate, CertificateError, PrivateKey, PrivateKeyError};
use super::keyfile::KEY_MEMBER;
use crate::metadata::{BITNAMI_KEY_LABEL, SEALED_SECRET_ANNOTATION, drop_copies};

/// The label's value that makes a Secret a key.
pub const ACTIVE: &str = "active";
/// The member of a key Secret that has the certificate.
pub const CERTIFICATE_MEMBER: &str = "tls.crt";

/// Why the Secret of a key can't be used.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// No `tls.crt`, or not a usable one.
    #[error("{CERTIFICATE_MEMBER}: {0}")]
    Certificate(#[from] CertificateError),
    /// No `tls.key`, or not a usable one.
    #[error("{KEY_MEMBER}: {0}")]
    Key(#[from] PrivateKeyError),
    /// Whoever may write SealedSecrets could have made it.
    #[error("a SealedSecret made it, so that anybody may know it")]
    Made,
}

/// A Secret that may be a key, as far as it counts.
#[derive(Clone, Debug)]
pub struct KeySecret {
    /// Its metadata, without managedFields and what repeats the values.
    pub metadata: ObjectMeta,
    /// The pair in it.
    pub pair: Result<(Arc<PrivateKey>, Arc<Certificate>), KeyProblem>,
}

impl KeySecret {
    /// Takes the pair out of a Secret and clears what it was read from.
    #[must_use]
    pub fn take(mut secret: Secret) -> Option<(String, Self)> {
        let name = secret.metadata.name.clone()?;
        let mut data = secret.data.take().unwrap_or_default();
        let value = |key: &str| data.get(key).map(|value| value.0.as_slice()).unwrap_or_default();
        let pair = if is_made(&secret.metadata) {
            Err(KeyProblem::Made)
        } else {
            Self::pair(value(CERTIFICATE_MEMBER), value(KEY_MEMBER))
        };
        for value in data.values_mut() {
            value.0.zeroize();
        }
        drop_copies(&mut secret.metadata);
        Some((name, Self { metadata: secret.metadata, pair }))
    }

    /// A pair, as such a Secret has it.
    ///
    /// # Errors
    /// [`KeyProblem`].
    pub fn pair(certificate: &[u8], key: &[u8]) -> Result<(Arc<PrivateKey>, Arc<Certificate>), KeyProblem> {
        let certificate = Certificate::from_pem(certificate)?;
        let key = PrivateKey::with_certificate(key, &certificate)?;
        Ok((Arc::new(key), Arc::new(certificate)))
    }

    /// What its label says.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(BITNAMI_KEY_LABEL).map(String::as_str)
    }

    /// Whether it is to be used: labelled `active`, or without the label and named exactly as the prefix says.
    #[must_use]
    pub fn is_active(&self, prefix: &str) -> bool {
        self.label().map_or_else(|| self.metadata.name.as_deref() == Some(prefix), |label| label == ACTIVE)
    }
}

/// Whether a Secret says that a SealedSecret, of whichever format, made it.
fn is_made(metadata: &ObjectMeta) -> bool {
    let sealed = metadata.owner_references.iter().flatten().any(|owner| {
        let group = owner.api_version.split('/').next().unwrap_or_default();
        owner.kind == super::KIND && [super::GROUP, crate::resource::GROUP].contains(&group)
    });
    sealed || metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SEALED_SECRET_ANNOTATION))
}
