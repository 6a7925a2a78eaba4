//! The resource as the established controller's CRD has it, and the annotations that steer it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::CustomResource;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::scope::Scope;

/// The API group.
pub const GROUP: &str = "bitnami.com";
/// `apiVersion`.
pub const API_VERSION: &str = "bitnami.com/v1alpha1";
/// `kind`.
pub const KIND: &str = "SealedSecret";

/// Annotation of a SealedSecret: its items open under any name of the namespace.
pub const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";
/// Annotation of a SealedSecret: its items open anywhere.
pub const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
/// Annotation of a Secret that is there: the controller may take it over.
pub const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
/// Annotation of a Secret that is there: the controller may add its keys to it.
pub const PATCH: &str = "sealedsecrets.bitnami.com/patch";
/// Annotation in a template: the Secret gets no owner.
pub const SKIP_SET_OWNER_REFERENCES: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";

/// A SealedSecret of this format. Its CRD is the established controller's and is never written by us.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "bitnami.com",
    version = "v1alpha1",
    kind = "SealedSecret",
    root = "BitnamiSealedSecret",
    plural = "sealedsecrets",
    namespaced,
    schema = "disabled",
    status = "BitnamiStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct BitnamiSealedSecretSpec {
    /// The sealed values by the key they get in the Secret, each in base64. What is no text is read as an empty one, which
    /// opens nowhere: one bad item must not hide its object from whoever has to say so.
    #[serde(default, deserialize_with = "texts")]
    pub encrypted_data: BTreeMap<String, String>,
    /// Of old files: the whole Secret as one sealed JSON document, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What the Secret gets besides the opened items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<BitnamiSecretTemplate>,
}

/// What the Secret gets besides the opened items.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BitnamiSecretTemplate {
    /// Labels, annotations, and whatever else metadata may have. Name and namespace in it mean nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// The Secret's type. Absent or empty is Opaque.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Whether the Secret is immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Go templates over the opened items. `null` leaves the opened item of this key out of the Secret.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Option<String>>,
}

/// What a controller says of the object.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BitnamiStatus {
    /// The generation that was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Synced`, and our own `Applied`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<BitnamiCondition>,
}

/// A condition of this format: older than Kubernetes' own.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BitnamiCondition {
    /// Its name.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When it was written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When `status` changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Old files have `null` where nothing is.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A map of texts, or nothing.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Text(String),
        Other(IgnoredAny),
    }
    let map: Option<BTreeMap<String, Text>> = Option::deserialize(deserializer)?;
    let text = |text| if let Text::Text(text) = text { text } else { String::new() };
    Ok(map.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// The condition that everybody reads: whether the Secret is as the object says.
pub const SYNCED: &str = "Synced";
/// The condition in which the controller keeps what it has written.
pub const APPLIED: &str = "Applied";

/// The beginnings of the fingerprints of the keys that opened an object, as the controller has kept them: the last item's first.
#[must_use]
pub fn opened_by(status: &BitnamiStatus) -> Vec<u32> {
    let applied = status.conditions.iter().find(|condition| condition.type_ == APPLIED);
    let message = applied.and_then(|condition| condition.message.as_deref()).unwrap_or_default();
    let keys = message.split(' ').find_map(|word| word.strip_prefix("key=")).unwrap_or_default();
    keys.split(',').filter_map(|key| u32::from_str_radix(key, 16).ok()).collect()
}

/// Whether a status says `Synced`, of this generation.
#[must_use]
pub fn is_synced(status: Option<&BitnamiStatus>, generation: Option<i64>) -> bool {
    status.is_some_and(|status| {
        let synced = status.conditions.iter().find(|condition| condition.type_ == SYNCED);
        status.observed_generation == generation && synced.is_some_and(|condition| condition.status == "True")
    })
}

/// What the SealedSecrets of a cluster say of the keys that opened them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNeeds {
    /// How many there are.
    pub total: usize,
    /// How many of them may need other keys than they say, or say nothing: nothing has opened them as they are now.
    pub unknown: usize,
    /// How many were opened with a key, by the beginning of its fingerprint.
    pub by_key: BTreeMap<u32, usize>,
}

impl KeyNeeds {
    /// Counts one more.
    pub fn count(&mut self, sealed: &BitnamiSealedSecret) {
        let status = sealed.status.as_ref();
        let keys = status.map(opened_by).unwrap_or_default();
        self.total += 1;
        self.unknown += usize::from(keys.is_empty() || !is_synced(status, sealed.metadata.generation));
        keys.into_iter().for_each(|key| *self.by_key.entry(key).or_default() += 1);
    }
}

/// The scope that annotations say: exactly `"true"` counts, and cluster-wide wins.
#[must_use]
pub fn scope_of(annotations: Option<&BTreeMap<String, String>>) -> Scope {
    let says = |key: &str| annotations.and_then(|all| all.get(key)).is_some_and(|value| value == "true");
    if says(CLUSTER_WIDE) {
        Scope::ClusterWide
    } else if says(NAMESPACE_WIDE) {
        Scope::NamespaceWide
    } else {
        Scope::Strict
    }
}

/// Makes annotations say this scope and no other.
pub fn set_scope(annotations: &mut BTreeMap<String, String>, scope: Scope) {
    annotations.remove(CLUSTER_WIDE);
    annotations.remove(NAMESPACE_WIDE);
    let key = match scope {
        Scope::Strict => return,
        Scope::NamespaceWide => NAMESPACE_WIDE,
        Scope::ClusterWide => CLUSTER_WIDE,
    };
    annotations.insert(key.to_owned(), "true".to_owned());
}
