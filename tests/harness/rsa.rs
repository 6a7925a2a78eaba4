//! RSA keys as clusters with sealed-secrets have them, and what is sealed for them.
#![allow(clippy::expect_used, reason = "the vectors are in the repository: without them nothing can be tested")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::Result;
use bulla::bitnami::{
    API_VERSION, BitnamiSealedSecret, Certificate, KIND, PrivateKey, label, scope_of, seal_item, set_scope,
};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla::scope::Scope;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A key as Go made it.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// PEM.
    pub private_key: String,
    /// PEM.
    pub certificate: String,
}

impl Pair {
    /// For whom is sealed.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.certificate.as_bytes()).expect("a certificate")
    }

    /// Who opens.
    #[must_use]
    pub fn key(&self) -> PrivateKey {
        PrivateKey::from_pem(self.private_key.as_bytes()).expect("a private key")
    }

    /// The Secret of the key, as the established controller writes it.
    #[must_use]
    pub fn secret(&self, name: &str, label: Option<&str>) -> Value {
        let labels = label.map(|value| json!({ BITNAMI_KEY_LABEL: value }));
        json!({
            "metadata": { "name": name, "labels": labels },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.key": self.private_key, "tls.crt": self.certificate },
        })
    }
}

/// The vectors of this format.
pub static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../vectors/bitnami.json")).expect("vectors"));

/// PKCS#1 and PKCS#8, of 2048 bits both, and one of 4096.
pub static PAIRS: LazyLock<Vec<Pair>> =
    LazyLock::new(|| serde_json::from_value(VECTORS["keys"].clone()).expect("keys"));

/// A SealedSecret as kubeseal writes it.
///
/// # Errors
/// When there is no randomness.
pub fn sealed_theirs<'a>(
    certificate: &Certificate,
    namespace: &str,
    name: &str,
    scope: Scope,
    data: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<BitnamiSealedSecret> {
    let mut annotations = BTreeMap::new();
    set_scope(&mut annotations, scope);
    let label = label(scope_of(Some(&annotations)), namespace, name);
    let mut items = Map::new();
    for (key, value) in data {
        items.insert(key.to_owned(), seal_item(certificate, &label, value)?.into());
    }
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": name, "namespace": namespace, "annotations": annotations },
        "spec": {
            "encryptedData": items,
            "template": { "metadata": { "name": name, "namespace": namespace, "annotations": annotations } },
        },
    });
    Ok(serde_json::from_value(object)?)
}
