//! The custom resources: [`SealedSecret`] and [`SealingKey`], group `bulla.dev`, version `v1alpha1`.
//!
//! These types say what the API server stores. They carry text only: what the text means is parsed by [`crate::item`]
//! and [`crate::envelope`], and whether the whole of it is sound is decided by [`crate::open::inspect`].
#![allow(clippy::duplicated_attributes, reason = "each print column names its type and path")]
// Clippy takes the keys of different printcolumns for duplicates.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::{CustomResource, CustomResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::scope::Scope;

/// The API group of both resources.
pub const GROUP: &str = "bulla.dev";
/// `apiVersion` of both resources.
pub const API_VERSION: &str = "bulla.dev/v1alpha1";
/// `kind` of [`SealedSecret`].
pub const KIND: &str = "SealedSecret";

/// Envelopes by name; each value is the text of one [`crate::envelope::Envelope`].
pub type Envelopes = BTreeMap<String, String>;

/// A Kubernetes Secret, sealed item by item (format.md, "Layout").
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "bulla.dev",
    version = "v1alpha1",
    kind = "SealedSecret",
    plural = "sealedsecrets",
    singular = "sealedsecret",
    shortname = "bulla",
    namespaced,
    status = "SealedSecretStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Secret whose values are encrypted with the public key of this cluster; the controller turns it into a native Secret.",
    annotation("helm.sh/resource-policy", "keep"),
    annotation("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Scope", type_ = "string", json_path = ".spec.scope", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretSpec {
    /// Where the items may be opened: strict (this namespace and name), namespace-wide, cluster-wide. Absent is strict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The sealed values by the key they get in the Secret.
    #[serde(default)]
    #[schemars(schema_with = "items_schema")]
    pub items: BTreeMap<String, SealedItem>,
    /// What the Secret gets besides the opened items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<SecretTemplate>,
    /// Leave the Secret as it is until this is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What happens when somebody else changes the Secret: enforce (put it back) or warn. Absent is the controller's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// The data key of all items that have no envelopes of their own, wrapped once for each recipient.
    #[serde(default, skip_serializing_if = "Envelopes::is_empty")]
    #[schemars(schema_with = "envelopes_schema")]
    pub envelopes: Envelopes,
}

/// One sealed value (format.md, "Items").
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealedItem {
    /// Data key id, a colon, and the base64 of the sealed item.
    pub sealed: String,
    /// The item's own data key, when it was set by itself. Present, it is used instead of the common envelopes; present
    /// and empty is malformed.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub envelopes: Option<Envelopes>,
}

/// A map that is there: `null` is malformed, not absent (format.md, rule 2).
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Envelopes>, D::Error> {
    Envelopes::deserialize(deserializer).map(Some)
}

/// What the Secret gets besides the opened items.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// Labels and annotations of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// The Secret's type. Absent is Opaque.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Whether the Secret is immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Values rendered from the opened items, as Go text/templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

/// The metadata that a template may set: never a name or a namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What happens when somebody else changes the Secret.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// Put it back.
    Enforce,
    /// Say so and leave it.
    Warn,
}

/// What the controller saw and did.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretStatus {
    /// The generation that the rest of the status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready is always there; at most one of Reconciling and Stalled, and only when True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// What was written, so that a restart with nothing to do writes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// The last value of the annotation `bulla.dev/reconcile-at` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// The Secret as it was written last.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// uid of the Secret.
    #[serde(rename = "secretUID")]
    pub secret_uid: String,
    /// resourceVersion of the Secret after the write.
    pub secret_version: String,
    /// Hash of everything that went into it.
    pub inputs: String,
}

/// metav1.Condition. The time is RFC 3339 text, so that this library needs no clock.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Ready, Reconciling, Stalled, KeyCompromised.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// The generation that this condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` changed last.
    pub last_transition_time: String,
    /// One word for programs.
    pub reason: String,
    /// One sentence for people. Never a value, a template, or its output.
    pub message: String,
}

/// A key of the cluster: how it is made, whether it is used. It holds no key material.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "bulla.dev",
    version = "v1alpha1",
    kind = "SealingKey",
    plural = "sealingkeys",
    singular = "sealingkey",
    namespaced,
    status = "SealingKeyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A sealing key of this cluster. The private key is in the Secret bulla-key-NAME; deleting this resource does not delete it.",
    annotation("helm.sh/resource-policy", "keep"),
    annotation("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    printcolumn(name = "Format", type_ = "string", json_path = ".spec.format"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Preferred", type_ = "date", json_path = ".status.preferredAt"),
    printcolumn(name = "NeededBy", type_ = "integer", json_path = ".status.neededBy"),
    printcolumn(name = "Fingerprint", type_ = "string", json_path = ".status.fingerprint"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SealingKeySpec {
    /// Of what kind the key is: hybrid (ML-KEM-768 with X25519), classical (X25519). Immutable.
    #[serde(default)]
    #[schemars(schema_with = "key_format_schema")]
    pub format: KeyFormat,
    /// What the key is used for.
    #[serde(default)]
    pub state: KeyState,
    /// How long the key is published before it becomes the preferred one, as a Go duration up to 8760h. 24h when absent,
    /// 0s for the first key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    pub prefer_after: Option<String>,
    /// Change the state although something still needs the key; counts in the update that changes the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// Of what kind a sealing key is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFormat {
    /// ML-KEM-768 with X25519: what is sealed today stays closed to a quantum computer.
    #[default]
    Hybrid,
    /// X25519 alone.
    Classical,
}

/// What a sealing key is used for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum KeyState {
    /// Opens, and is published for sealing.
    #[default]
    Active,
    /// Opens, is not published.
    Standby,
    /// Kept, opens nothing.
    Retired,
    /// Opens, is never published or chosen; what it sealed is marked.
    Compromised,
}

/// What the controller knows of a sealing key.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealingKeyStatus {
    /// The generation that the rest of the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in effect: the stricter of the one asked for and the one kept with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyState>,
    /// The recipient's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The whole public recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// When the recipient was published in this cluster, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// When the recipient became the preferred one, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_at: Option<String>,
    /// How many objects no other loaded key opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_by: Option<i64>,
    /// Ready and, when a change of state is refused, StillNeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

fn items_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut item = generator.subschema_for::<SealedItem>();
    item.insert("type".into(), "object".into());
    json_schema!({
        "type": "object",
        "description": "The sealed values by the key they get in the Secret.",
        "maxProperties": crate::limits::MAX_ITEMS,
        "additionalProperties": item,
        "x-kubernetes-validations": [{
            "rule": "self.all(k, size(k) <= 253 && k.matches('^[-._a-zA-Z0-9]+$') && k != '.' && !k.startsWith('..'))",
            "message": "keys are 1 to 253 of a-z A-Z 0-9 - . _, not \".\" and not beginning with \"..\"",
        }],
    })
}

fn envelopes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "A data key, wrapped once for each recipient: data key id, fingerprint of the recipient, base64 of an age file.",
        "maxProperties": crate::limits::MAX_RECIPIENTS,
        "additionalProperties": { "type": "string", "maxLength": crate::limits::MAX_ENVELOPE_TEXT },
    })
}

fn key_format_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "description": "Of what kind the key is: hybrid (ML-KEM-768 with X25519), classical (X25519). Immutable.",
        "enum": ["hybrid", "classical"],
        "x-kubernetes-validations": [{ "rule": "self == oldSelf", "message": "format is immutable: create another SealingKey" }],
    })
}

fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "nullable": true,
        "description": "How long the key is published before it becomes the preferred one, as a Go duration up to 8760h: 24h, 1h30m, 0s. The controller's --prefer-after when absent; the first key waits for nothing.",
        "maxLength": 32,
        "pattern": "^(0|([0-9]{1,10}(h|m|s|ms))+)$",
    })
}

/// `force` counts in the update that changes the state and is not left behind for the next: unchanged, or not set, or set by
/// this very change.
const FORCE_RULE: &str = "self == oldSelf || !(has(self.force) && self.force) || \
     ((has(self.state) ? self.state : 'Active') != (has(oldSelf.state) ? oldSelf.state : 'Active') && \
     !(has(oldSelf.force) && oldSelf.force))";

fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    let condition = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// The definitions of both resources, as the API server takes them.
///
/// `status` of a SealedSecret defaults to `{observedGeneration: -1}`: tools that read health from a status would call an
/// object without one current.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut sealed = SealedSecret::crd();
    let mut key = SealingKey::crd();
    for definition in [&mut sealed, &mut key] {
        for version in &mut definition.spec.versions {
            if let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                drop_defaults(root);
            }
        }
    }
    for version in &mut key.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = root.and_then(|root| root.properties.as_mut());
        if let Some(spec) = properties.and_then(|properties| properties.get_mut("spec")) {
            spec.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
                rule: FORCE_RULE.to_owned(),
                message: Some(
                    "force counts only in the update that changes state: take it out, or change state with it"
                        .to_owned(),
                ),
                ..ValidationRule::default()
            });
        }
    }
    for version in &mut sealed.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = root.and_then(|root| root.properties.as_mut());
        if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    vec![sealed, key]
}

/// Takes out the defaults that the derive writes for optional fields: what a file says and what the API server stores
/// must be the same text (format.md, "Computation").
fn drop_defaults(schema: &mut JSONSchemaProps) {
    schema.default = None;
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        drop_defaults(property);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_defaults(values);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_defaults(items);
    }
}
