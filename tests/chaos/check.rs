//! What must be true at the end.

use std::collections::BTreeMap;

use anyhow::Result;
use bulla::bitnami::{BitnamiSealedSecret, BitnamiStatus};
use bulla::resource::SealedSecret;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};

use super::model::{Good, Kind, Name};
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

/// What a SealedSecret of either kind says.
struct Said {
    uid: String,
    /// Of this very generation: whether it is as it should be; `None` when it says nothing of it yet.
    ready: Option<bool>,
    /// uid and version of the Secret that it says it wrote.
    wrote: Option<(String, String)>,
    /// All of it, for who reads what is wrong.
    status: String,
}

fn native(sealed: &SealedSecret) -> Said {
    let status = sealed.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let ready = ready.filter(|_| status.observed_generation == sealed.metadata.generation);
    Said {
        uid: sealed.uid().unwrap_or_default(),
        ready: ready.and_then(|ready| match ready.status.as_str() {
            "True" => Some(ready.reason == "Applied"),
            "False" => Some(false),
            _ => None,
        }),
        wrote: status.applied.clone().map(|applied| (applied.secret_uid, applied.secret_version)),
        status: format!("{status:?}"),
    }
}

/// All of bitnami.com, those that can't be read as what they are too.
async fn all_theirs(client: &Client) -> Result<Vec<DynamicObject>> {
    all(&Api::all_with(client.clone(), &ApiResource::erase::<BitnamiSealedSecret>(&()))).await
}

/// Of bitnami.com: `Synced`, and what it remembers of its own.
fn theirs(sealed: &DynamicObject) -> Said {
    let status = sealed.data.get("status").cloned().unwrap_or_default();
    let status: BitnamiStatus = serde_json::from_value(status).unwrap_or_default();
    let find = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let synced = find("Synced").filter(|_| status.observed_generation == sealed.metadata.generation);
    let wrote = find("Applied").and_then(|applied| {
        let mut words = applied.message.as_deref()?.split(' ');
        let (uid, version) = (words.next()?.strip_prefix("secret=")?, words.next()?.strip_prefix("version=")?);
        Some((uid.to_owned(), version.to_owned()))
    });
    Said {
        uid: sealed.uid().unwrap_or_default(),
        ready: synced.map(|synced| synced.status == "True"),
        wrote,
        status: format!("{status:?}"),
    }
}

/// What is wrong with one good object.
fn wrongs_of(name: &Name, good: &Good, said: Option<&Said>, secret: Option<&Secret>) -> Vec<String> {
    let (said, secret) = match (said, secret) {
        (None, _) => return vec!["the SealedSecret is lost".to_owned()],
        (Some(said), None) => return vec![format!("no Secret: {}", said.status)],
        (Some(said), Some(secret)) => (said, secret),
    };
    let mut wrong = Vec::new();
    let data = secret.data.clone().unwrap_or_default();
    let same = data.len() == good.values.len()
        && good.values.iter().all(|(key, value)| data.get(key).is_some_and(|d| d.0 == value.as_bytes()));
    if !same {
        wrong.push(format!("other values than revision {} has: {}", good.revision, said.status));
    }
    let owners = secret.owner_references();
    let owned = match Kind::of(name) {
        Kind::Theirs(manner) if !manner.owns() => owners.is_empty(),
        _ => owners.len() == 1 && owners[0].uid == said.uid && owners[0].controller == Some(true),
    };
    if !owned {
        wrong.push(format!("its owners are {owners:?}"));
    }
    if said.ready != Some(true) {
        wrong.push(format!("not ready: {}", said.status));
    }
    let id = (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
    if said.wrote.as_ref() != Some(&id) {
        wrong.push(format!("its status names another Secret than {id:?}: {}", said.status));
    }
    if good.calm.as_ref().is_some_and(|calm| *calm != id) {
        wrong.push(format!("nobody had a reason to write its Secret, and it was {:?} before", good.calm));
    }
    wrong
}

/// What is wrong now. What is still on its way counts too: the caller asks again.
pub async fn wrongs(world: &World) -> Result<Vec<String>> {
    let client = &world.model.client;
    let secrets: BTreeMap<Name, Secret> =
        all(&Api::<Secret>::all(client.clone())).await?.into_iter().map(|s| (key(&s), s)).collect();
    let natives: BTreeMap<Name, Said> =
        all(&Api::<SealedSecret>::all(client.clone())).await?.iter().map(|s| (key(s), native(s))).collect();
    let others: BTreeMap<Name, Said> = all_theirs(client).await?.iter().map(|s| (key(s), theirs(s))).collect();
    let namespaces: Vec<String> =
        all(&Api::<Namespace>::all(client.clone())).await?.iter().map(ResourceExt::name_any).collect();
    let mut wrong = Vec::new();
    let mut say = |name: &Name, text: String| wrong.push(format!("{}/{}: {text}", name.0, name.1));
    world.model.with(|state| {
        for (name, good) in &state.good {
            let said = if Kind::of(name) == Kind::Native { natives.get(name) } else { others.get(name) };
            wrongs_of(name, good, said, secrets.get(name)).into_iter().for_each(|text| say(name, text));
        }
        for (name, bad) in &state.bad {
            let ours = |secret: &&Secret| secret.owner_references().iter().any(|owner| owner.kind == "SealedSecret");
            if secrets.get(name).filter(ours).is_some() {
                say(name, format!("a Secret was made of {}", bad.what));
            }
            match if bad.is_native { natives.get(name) } else { others.get(name) } {
                Some(said) if said.ready != Some(false) => {
                    say(name, format!("nothing says that it is bad ({}): {}", bad.what, said.status));
                }
                Some(_) => {}
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
        let owners = secret.owner_references();
        let ours: Vec<_> = owners.iter().filter(|owner| owner.kind == "SealedSecret").collect();
        if ours.len() > 1 || owners.iter().filter(|owner| owner.controller == Some(true)).count() > 1 {
            say(name, "owned by two".to_owned());
        }
        let live = |uid: &str| [&natives, &others].iter().any(|all| all.get(name).is_some_and(|said| said.uid == uid));
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
    let forbidden = super::world::forbidden(&world.model.marker);
    let mut shown = Vec::new();
    let mut search = |what: String, text: String| {
        if forbidden.iter().any(|forbidden| text.contains(forbidden.as_str())) {
            shown.push(format!("{what} shows a plaintext or a private key"));
        }
    };
    for event in all(&Api::<Event>::all(world.model.client.clone())).await? {
        search(format!("the event {}", event.name_any()), serde_json::to_string(&event)?);
    }
    for sealed in all(&Api::<SealedSecret>::all(world.model.client.clone())).await? {
        search(format!("the SealedSecret {}", sealed.name_any()), serde_json::to_string(&sealed)?);
    }
    for sealed in all_theirs(&world.model.client).await? {
        search(format!("the SealedSecret {} of bitnami.com", sealed.name_any()), serde_json::to_string(&sealed)?);
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
