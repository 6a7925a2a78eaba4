//! Which labels and annotations belong to whom.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;
use zeroize::Zeroize as _;

/// The Secret type of sealing keys, and prefix of everything that is the controller's.
pub const SEALING_KEY_TYPE: &str = "bulla.dev/sealing-key";
/// On a Secret: the SealedSecret that it comes from.
pub const SEALED_SECRET_ANNOTATION: &str = "bulla.dev/sealed-secret";
/// On a Secret: the digest of the content it was made from.
pub const CONTENT_ANNOTATION: &str = "bulla.dev/content";
/// On a Secret that somebody else made: `"true"` lets the controller take it over.
pub const MANAGED_ANNOTATION: &str = "bulla.dev/managed";
/// On a Secret that somebody else made: `"true"` lets the controller add its keys and touch no other.
pub const PATCH_ANNOTATION: &str = "bulla.dev/patch";
/// On a SealedSecret: a new value asks for a fresh look.
pub const RECONCILE_AT_ANNOTATION: &str = "bulla.dev/reconcile-at";
/// On a Secret in patch mode: the keys that the controller put there, separated by commas.
pub const PATCHED_KEYS_ANNOTATION: &str = "bulla.dev/patched-keys";
/// On the Secret of a sealing key: its state, which outlives the SealingKey.
pub const KEY_STATE_ANNOTATION: &str = "bulla.dev/state";
/// On the Secret of a sealing key: since when its recipient is published in this cluster.
pub const PUBLISHED_AT_ANNOTATION: &str = "bulla.dev/published-at";
/// On the Secret of a sealing key: since when it is the preferred one.
pub const PREFERRED_AT_ANNOTATION: &str = "bulla.dev/preferred-at";
/// Label of the established controller's private keys.
pub const BITNAMI_KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// Name prefix of the established controller's private keys; a Secret named exactly so is loaded without a label.
pub const BITNAMI_KEY_PREFIX: &str = "sealed-secrets-key";
/// The Secret of a sealing key is named this and the key's name.
pub const KEY_SECRET_PREFIX: &str = "bulla-key-";
/// What kubectl keeps of the manifest it applied, values included.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const OWN: &str = "bulla.dev/";
/// What steers delivery tools: on the SealedSecret it works, on the Secret it would make them fight over it.
const DELIVERY: [&str; 6] = [
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "reconcile.fluxcd.io/",
    "meta.helm.sh/",
    "helm.sh/",
];
/// What the controller drops from a template: ownership of the Secret by a delivery tool, and its own marks.
const NEVER_ON_A_SECRET: [&str; 4] = [OWN, "argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/", "meta.helm.sh/"];

/// Whether a label or annotation steers Argo CD, Flux or Helm, and so belongs to the SealedSecret itself. The label
/// `helm.sh/chart` tells where an object comes from and steers nothing.
#[must_use]
pub fn is_delivery(key: &str) -> bool {
    key != "helm.sh/chart" && DELIVERY.iter().any(|prefix| key.starts_with(prefix))
}

/// Annotations in which other tools repeat a Secret, or tell a hash of its values, by which guesses can be tried: kapp,
/// Rancher's wrangler, External Secrets.
const REPEATS: [&str; 5] = [
    "kapp.k14s.io/original",
    "kapp.k14s.io/original-diff",
    "kapp.k14s.io/original-diff-md5",
    "objectset.rio.cattle.io/applied",
    "reconcile.external-secrets.io/data-hash",
];

/// Whether an annotation repeats an applied manifest, values included, or a hash of them.
#[must_use]
pub fn is_last_applied(key: &str) -> bool {
    REPEATS.contains(&key)
        || key == LAST_APPLIED
        || key.ends_with("/last-applied-configuration")
        || key.ends_with("/last-applied")
}

/// Drops from a Secret's metadata what repeats its values, cleared, and who wrote which field: for metadata that is kept.
pub fn drop_copies(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, value| {
            let repeats = is_last_applied(key);
            if repeats {
                value.zeroize();
            }
            !repeats
        });
    }
}

/// Whether a template may not set this label or annotation on a Secret; the controller drops it.
#[must_use]
pub fn is_dropped_from_template(key: &str) -> bool {
    is_last_applied(key) || NEVER_ON_A_SECRET.iter().any(|prefix| key.starts_with(prefix))
}

/// Labels or annotations of a Secret, split: (the template's, the SealedSecret's own). What is the controller's, and
/// what repeats an applied manifest, is left out.
#[must_use]
pub fn split(given: &BTreeMap<String, String>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    given
        .iter()
        .filter(|(key, _)| !is_last_applied(key) && !key.starts_with(OWN))
        .map(|(key, value)| (key.clone(), value.clone()))
        .partition(|(key, _)| !is_delivery(key))
}
