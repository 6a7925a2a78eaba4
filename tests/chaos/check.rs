//! What must be true at the end.

use std::collections::BTreeMap;

use anyhow::Result;
use bulla::resource::SealedSecret;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::model::Name;
use super::world::{SYSTEM, World};

/// Everything of a kind, in pages.
async fn all<K>(api: &Api<K>) -> Result<Vec<K>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let (mut found, mut params) = (Vec::new(), ListParams::default().limit(500));
    loop {
        let page = api.list(&params).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(500).continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn key(object: &impl ResourceExt) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn is_ready(sealed: &SealedSecret) -> bool {
    let status = sealed.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True" && c.reason == "Applied");
    ready && status.observed_generation == sealed.metadata.generation
}

/// What is wrong now. What is still on its way counts too: the caller asks again.
pub async fn wrongs(world: &World) -> Result<Vec<String>> {
    let client = &world.model.client;
    let secrets: BTreeMap<Name, Secret> =
        all(&Api::<Secret>::all(client.clone())).await?.into_iter().map(|s| (key(&s), s)).collect();
    let sealed: BTreeMap<Name, SealedSecret> =
        all(&Api::<SealedSecret>::all(client.clone())).await?.into_iter().map(|s| (key(&s), s)).collect();
    let namespaces: Vec<String> =
        all(&Api::<Namespace>::all(client.clone())).await?.iter().map(ResourceExt::name_any).collect();
    let mut wrong = Vec::new();
    let mut say = |name: &Name, text: String| wrong.push(format!("{}/{}: {text}", name.0, name.1));
    world.model.with(|state| {
        for (name, good) in &state.good {
            let Some(object) = sealed.get(name) else {
                say(name, "the SealedSecret is lost".to_owned());
                continue;
            };
            let Some(secret) = secrets.get(name) else {
                say(name, format!("no Secret: {:?}", object.status));
                continue;
            };
            let data = secret.data.clone().unwrap_or_default();
            let same = data.len() == good.values.len()
                && good.values.iter().all(|(key, value)| data.get(key).is_some_and(|d| d.0 == value.as_bytes()));
            if !same {
                say(name, format!("other values than revision {} has: {:?}", good.revision, object.status));
            }
            let owners = secret.owner_references();
            if owners.len() != 1
                || owners[0].uid != object.uid().unwrap_or_default()
                || owners[0].controller != Some(true)
            {
                say(name, format!("its owners are {owners:?}"));
            }
            if !is_ready(object) {
                say(name, format!("not ready: {:?}", object.status));
            }
            let applied = object.status.as_ref().and_then(|status| status.applied.clone()).unwrap_or_default();
            let id = (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
            if (applied.secret_uid, applied.secret_version) != id {
                say(name, "its status names another Secret".to_owned());
            }
            if good.calm.as_ref().is_some_and(|calm| *calm != id) {
                say(name, format!("nobody had a reason to write its Secret, and it was {:?} before", good.calm));
            }
        }
        for (name, kind) in &state.bad {
            let ours = |secret: &&Secret| secret.owner_references().iter().any(|owner| owner.kind == "SealedSecret");
            if secrets.get(name).filter(ours).is_some() {
                say(name, format!("a Secret was made of {kind}"));
            }
            match sealed.get(name) {
                Some(object) => {
                    let status = object.status.clone().unwrap_or_default();
                    let told = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "False");
                    if !told || status.observed_generation != object.metadata.generation {
                        say(name, format!("nothing says that it is bad ({kind}): {status:?}"));
                    }
                }
                None => say(name, "the bad SealedSecret is lost".to_owned()),
            }
        }
        for (name, version) in &state.foreign {
            let now = secrets.get(name).and_then(ResourceExt::resource_version);
            if now.as_ref() != Some(version) {
                say(name, "somebody else's Secret was touched".to_owned());
            }
        }
        for namespace in &state.ended {
            if namespaces.contains(namespace) {
                say(&(namespace.clone(), String::new()), "the namespace does not end".to_owned());
            }
        }
    });
    for (name, secret) in &secrets {
        let ours: Vec<_> = secret.owner_references().iter().filter(|owner| owner.kind == "SealedSecret").collect();
        if ours.len() > 1 {
            say(name, "owned by two".to_owned());
        }
        let live = |uid: &str| sealed.get(name).is_some_and(|object| object.uid().as_deref() == Some(uid));
        if ours.first().is_some_and(|owner| !live(&owner.uid)) {
            say(name, "its SealedSecret is gone, and it is not".to_owned());
        }
    }
    Ok(wrong)
}

/// Takes down which Secrets nobody has a reason to write any more, of those that are as they should be.
pub async fn calm_down(world: &World, namespace_prefix: &str) -> Result<usize> {
    let secrets: BTreeMap<Name, (String, String)> = all(&Api::<Secret>::all(world.model.client.clone()))
        .await?
        .into_iter()
        .map(|s| (key(&s), (s.uid().unwrap_or_default(), s.resource_version().unwrap_or_default())))
        .collect();
    Ok(world.model.with(|state| {
        let calm = state.good.iter_mut().filter(|((namespace, _), _)| namespace.starts_with(namespace_prefix));
        calm.map(|(name, good)| good.calm = secrets.get(name).cloned()).count()
    }))
}

/// Everything that can be read without reading Secrets and shows a plaintext.
pub async fn shown(world: &World) -> Result<Vec<String>> {
    use base64::Engine as _;
    let marker = &world.model.marker;
    let encoded = base64::prelude::BASE64_STANDARD.encode(marker);
    let mut shown = Vec::new();
    let mut search = |what: String, text: String| {
        if text.contains(marker.as_str()) || text.contains(&encoded) {
            shown.push(format!("{what} shows a plaintext"));
        }
    };
    for event in all(&Api::<Event>::all(world.model.client.clone())).await? {
        search(format!("the event {}", event.name_any()), serde_json::to_string(&event)?);
    }
    for sealed in all(&Api::<SealedSecret>::all(world.model.client.clone())).await? {
        search(format!("the SealedSecret {}", sealed.name_any()), serde_json::to_string(&sealed)?);
    }
    for key in all(&Api::<bulla::resource::SealingKey>::namespaced(world.model.client.clone(), SYSTEM)).await? {
        search(format!("the SealingKey {}", key.name_any()), serde_json::to_string(&key)?);
    }
    for replica in &world.replicas {
        // One of them may be starting.
        search(format!("the metrics of replica {}", replica.number), replica.metrics().await.unwrap_or_default());
    }
    Ok(shown)
}
