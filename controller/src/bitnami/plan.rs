//! What to do about one SealedSecret of this format and the Secret of its name: pure. The established controller's rules, from
//! what it does with each annotation; where ours differ, docs/coming-from-sealed-secrets.md says so.

use std::collections::BTreeMap;

use bulla::bitnami::{API_VERSION, BitnamiSealedSecret, KIND, MANAGED, PATCH, scope_of, skips_owner};
use bulla::digest::inputs_digest;
use bulla::secret::PlainSecret;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use super::status::{Applied, Whose};
use crate::args::Settings;
use crate::reconcile::{Body, is_sealed_secret, is_twin};

/// Goes into what is hashed as inputs.
const RENDERER: &str = "bitnami/1";

/// Hash of everything that goes into the Secret, but the key ring.
pub fn inputs(sealed: &BitnamiSealedSecret, settings: &Settings) -> String {
    let metadata = &sealed.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let generation = metadata.generation.unwrap_or_default().to_be_bytes();
    let scope = scope_of(metadata.annotations.as_ref()).as_str();
    let policy = format!("{:?}", settings.policy);
    let renderer = format!("{RENDERER} {}", bulla::template::RENDERER);
    inputs_digest(&[uid.as_bytes(), &generation, scope.as_bytes(), renderer.as_bytes(), policy.as_bytes()])
}

/// What is known of the Secret before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It is for us to make, change or compare: whose it is.
    Ours(Whose),
    /// The native SealedSecret of its name is its controller, and keeps us as an owner.
    Superseded,
    /// Somebody else's.
    Unmanaged,
}

fn is_ours(owner: &OwnerReference, uid: &str, name: &str) -> bool {
    owner.uid == uid || is_twin(owner, name)
}

fn says(metadata: &ObjectMeta, annotation: &str) -> bool {
    metadata.annotations.as_ref().and_then(|all| all.get(annotation)).is_some_and(|value| value == "true")
}

/// Whose a Secret is, from its metadata. `before` is what was written last.
pub fn stand(secret: &ObjectMeta, uid: &str, name: &str, before: Option<&Applied>) -> Stand {
    let owners = secret.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    let among = owners.iter().any(|owner| is_ours(owner, uid, name));
    let native = controller.is_some_and(|owner| is_sealed_secret(owner, bulla::resource::GROUP, name));
    if native && among {
        return Stand::Superseded;
    }
    // Merged, whoever it belongs to; with `managed` it becomes ours besides.
    if says(secret, PATCH) {
        return Stand::Ours(if says(secret, MANAGED) { Whose::PatchedAndManaged } else { Whose::Patched });
    }
    match controller {
        Some(owner) if is_ours(owner, uid, name) => return Stand::Ours(Whose::Owned),
        // Its controller is gone, a native twin say, and we are the owner that is left.
        None if among => return Stand::Ours(Whose::Owned),
        _ => {}
    }
    if says(secret, MANAGED) {
        return Stand::Ours(Whose::Managed);
    }
    // Made without an owner: it is ours as long as it is the one that we made.
    let made = |before: &Applied| before.whose == Whose::Made && Some(before.uid.as_str()) == secret.uid.as_deref();
    if controller.is_none() && before.is_some_and(made) {
        return Stand::Ours(Whose::Made);
    }
    Stand::Unmanaged
}

/// How the Secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is as it should be.
    Nothing,
    /// All of it.
    Replace,
    /// Our keys into somebody else's.
    Patch,
    /// It would have to change, and is immutable.
    Immutable,
}

/// What the Secret's labels and annotations are: exactly the template's, but for what is this controller's own.
pub fn output(map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_own = |key: &str| key.split_once('/').is_some_and(|(prefix, _)| prefix == bulla::resource::GROUP);
    map.iter().filter(|(key, _)| !is_own(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Compares the Secret that is there with the one that should be. `exact`: labels and annotations that the template does not
/// have are a difference: after a change of the template some may be left of the one before. What other tools add
/// otherwise is theirs.
pub fn compare(existing: &Secret, plain: &PlainSecret, whose: Whose, keeps_owner: bool, exact: bool) -> Write {
    let empty = BTreeMap::new();
    let data = existing.data.as_ref();
    let value = |key: &str| data.and_then(|data| data.get(key)).map(|value| value.0.as_slice());
    let all_there = plain.data.iter().all(|(key, wanted)| value(key) == Some(wanted.expose()));
    let pair = |found: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>, exact: bool| {
        let (found, wanted) = (found.unwrap_or(&empty), output(wanted));
        wanted.iter().all(|(key, value)| found.get(key) == Some(value)) && (!exact || found.len() == wanted.len())
    };
    let metadata = &existing.metadata;
    let labelled = |exact| {
        pair(metadata.labels.as_ref(), &plain.labels, exact)
            && pair(metadata.annotations.as_ref(), &plain.annotations, exact)
    };
    let is_immutable = existing.immutable == Some(true);
    if matches!(whose, Whose::Patched | Whose::PatchedAndManaged) {
        return match (all_there && labelled(false) && keeps_owner, is_immutable && !all_there) {
            (true, _) => Write::Nothing,
            (_, true) => Write::Immutable,
            _ => Write::Patch,
        };
    }
    let same_data = all_there && data.map_or(0, BTreeMap::len) == plain.data.len();
    let same_type = existing.type_.as_deref().unwrap_or("Opaque") == plain.type_.as_deref().unwrap_or("Opaque");
    if is_immutable && !same_data {
        return Write::Immutable;
    }
    if same_data && same_type && labelled(exact) && keeps_owner { Write::Nothing } else { Write::Replace }
}

/// The owner reference that a Secret of this SealedSecret has.
fn own_reference(sealed: &BitnamiSealedSecret) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: sealed.metadata.name.clone().unwrap_or_default(),
        uid: sealed.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Whether the owner references are what they should be.
pub fn keeps_owner(sealed: &BitnamiSealedSecret, existing: &ObjectMeta, whose: Whose) -> bool {
    let uid = sealed.metadata.uid.as_deref().unwrap_or_default();
    let owners = existing.owner_references.as_deref().unwrap_or_default();
    let is_controller = owners.iter().any(|owner| owner.uid == uid && owner.controller == Some(true));
    match whose {
        Whose::Patched | Whose::Made => true,
        Whose::Owned | Whose::Managed | Whose::PatchedAndManaged => is_controller || skips_owner(sealed),
        Whose::Superseded => true,
    }
}

/// What the owner references become: ours, and beside it those that control nothing.
fn owners(sealed: &BitnamiSealedSecret, existing: Option<&ObjectMeta>) -> Option<Vec<OwnerReference>> {
    let (uid, name) =
        (sealed.metadata.uid.as_deref().unwrap_or_default(), sealed.metadata.name.as_deref().unwrap_or_default());
    let others = existing.and_then(|existing| existing.owner_references.clone()).unwrap_or_default();
    let mut owners: Vec<_> =
        others.into_iter().filter(|owner| owner.controller != Some(true) && !is_ours(owner, uid, name)).collect();
    if !skips_owner(sealed) {
        owners.push(own_reference(sealed));
    }
    (!owners.is_empty()).then_some(owners)
}

/// The Secret that stands where `existing` stood.
pub fn body(sealed: &BitnamiSealedSecret, plain: &PlainSecret, existing: Option<&Secret>) -> Vec<u8> {
    let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    let mut metadata = existing.map(|existing| existing.metadata.clone()).unwrap_or_default();
    metadata.managed_fields = None;
    metadata.name = sealed.metadata.name.clone();
    metadata.namespace = sealed.metadata.namespace.clone();
    metadata.labels = some(output(&plain.labels));
    metadata.annotations = some(output(&plain.annotations));
    metadata.owner_references = owners(sealed, existing.map(|existing| &existing.metadata));
    let was = existing.and_then(|existing| existing.immutable);
    Body::bytes(metadata, plain, plain.immutable.filter(|immutable| *immutable).or(was))
}

/// A Secret that is annotated so with our keys, labels and annotations among its own, and with its owner when it is managed too.
pub fn merged(sealed: &BitnamiSealedSecret, plain: &PlainSecret, existing: &Secret, whose: Whose) -> Vec<u8> {
    let mut metadata = existing.metadata.clone();
    metadata.managed_fields = None;
    for (all, more) in [(&mut metadata.labels, &plain.labels), (&mut metadata.annotations, &plain.annotations)] {
        let more = output(more);
        if !more.is_empty() {
            all.get_or_insert_default().extend(more);
        }
    }
    if whose == Whose::PatchedAndManaged {
        metadata.owner_references = owners(sealed, Some(&existing.metadata));
    }
    let theirs = existing.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    let ours = plain.data.iter().map(|(key, value)| (key.as_str(), value.expose()));
    let type_ = existing.type_.as_deref().unwrap_or("Opaque");
    Body::of(metadata, type_, existing.immutable, theirs.chain(ours).collect())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
