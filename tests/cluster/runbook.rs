//! The hand-over of a live cluster (docs/coming-from-sealed-secrets.md), step by step, and back from each step before the last. A
//! watcher of all Secrets sees no deletion, no change of content, and no writer but the one in charge and the garbage
//! collector. The established controller is stood in for by an actor that writes what it writes, as its service account.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{BitnamiSealedSecret, PrivateKey, open_rendered};
use bulla::scope::Scope;
use bulla_tests::{binary, eventually};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::bitnami::{PAIRS, established_account};
use super::world::{SOON, World, sealed_for};

/// Who the established controller is in `managedFields`.
const RIVAL: &str = "controller";
const BULLA: &str = "bulla-controller";
const COLLECTOR: &str = "kube-controller-manager";

/// What the watcher has seen of one Secret.
#[derive(Clone, Debug)]
struct Seen {
    uid: String,
    version: String,
    data: BTreeMap<String, Vec<u8>>,
    /// Manager and time of each entry of `managedFields`.
    writes: BTreeSet<(String, String)>,
}

/// Watches all Secrets of a namespace, and writes down what must not be.
struct Watcher {
    charge: Arc<Mutex<BTreeSet<&'static str>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    fn start(client: Client, namespace: &str) -> Self {
        let charge = Arc::new(Mutex::new(BTreeSet::new()));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::new(Mutex::new(BTreeMap::<String, Seen>::new()));
        let api: Api<Secret> = Api::namespaced(client, namespace);
        let task = tokio::spawn({
            let (charge, wrong, seen) = (charge.clone(), wrong.clone(), seen.clone());
            async move {
                let mut events = std::pin::pin!(watcher(api, Config::default()));
                while let Some(event) = events.next().await {
                    let secret = match event {
                        Ok(Event::Apply(secret) | Event::InitApply(secret)) => secret,
                        Ok(Event::Delete(secret)) => {
                            wrong.lock().unwrap().push(format!("{} was deleted", secret.name_any()));
                            continue;
                        }
                        _ => continue,
                    };
                    let now = see(&secret);
                    let mut seen = seen.lock().unwrap();
                    if let Some(before) = seen.get(&secret.name_any()) {
                        let say = |what: String| wrong.lock().unwrap().push(format!("{}: {what}", secret.name_any()));
                        if before.uid != now.uid {
                            say("it is another Secret".into());
                        }
                        if before.data != now.data {
                            say("its content changed".into());
                        }
                        if secret.metadata.deletion_timestamp.is_some() {
                            say("it is being deleted".into());
                        }
                        let charge = charge.lock().unwrap();
                        for (manager, at) in now.writes.difference(&before.writes) {
                            if !charge.contains(manager.as_str()) && manager != COLLECTOR {
                                say(format!("{manager} wrote at {at}, and {charge:?} is in charge"));
                            }
                        }
                    }
                    seen.insert(secret.name_any(), now);
                }
            }
        });
        Self { charge, wrong, seen, task }
    }

    /// From now on these may write.
    fn charge(&self, who: &[&'static str]) {
        *self.charge.lock().unwrap() = who.iter().copied().collect();
    }

    /// Nothing has gone wrong so far; returns the versions that it has seen, when it has caught up with `versions`.
    async fn check(&self, step: &str, versions: &BTreeMap<String, String>) -> Result<()> {
        eventually("the watcher to have caught up", SOON, async || {
            let seen = self.seen.lock().unwrap();
            for (name, version) in versions {
                ensure!(seen.get(name).is_some_and(|seen| seen.version == *version), "{name}");
            }
            Ok(())
        })
        .await?;
        let wrong = self.wrong.lock().unwrap().clone();
        ensure!(wrong.is_empty(), "{step}: {wrong:#?}");
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn see(secret: &Secret) -> Seen {
    let fields = secret.metadata.managed_fields.iter().flatten();
    Seen {
        uid: secret.uid().unwrap_or_default(),
        version: secret.resource_version().unwrap_or_default(),
        data: secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect(),
        writes: fields
            .map(|entry| {
                let at = entry.time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
                (entry.manager.clone().unwrap_or_default(), at)
            })
            .collect(),
    }
}

/// The established controller: on start it looks at every object and writes what differs, labels, annotations and owners
/// included; then its status, where that says something else.
struct Rival {
    client: Client,
    namespace: String,
    key: PrivateKey,
}

impl Rival {
    async fn new(world: &World) -> Result<Self> {
        world.cluster.apply(&established_account(world)).await?;
        let client = world.cluster.client_as_service_account(&world.system, "sealed-secrets-controller").await?;
        Ok(Self { client, namespace: world.app.clone(), key: PAIRS[0].key() })
    }

    /// What it does when it starts. How many Secrets it wrote.
    async fn start(&self) -> Result<usize> {
        let objects: Api<BitnamiSealedSecret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let as_rival = PostParams { field_manager: Some(RIVAL.to_owned()), ..PostParams::default() };
        let mut written = 0;
        for sealed in objects.list(&ListParams::default()).await?.items {
            let name = sealed.name_any();
            let plain = open_rendered(&sealed, &[&self.key], None)?.secret;
            let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
            let owner = OwnerReference {
                api_version: "bitnami.com/v1alpha1".into(),
                kind: "SealedSecret".into(),
                name: name.clone(),
                uid: sealed.uid().context("uid")?,
                controller: Some(true),
                block_owner_deletion: None,
            };
            let mut wanted = Secret::default();
            wanted.metadata.name = Some(name.clone());
            wanted.metadata.labels = some(plain.labels.clone());
            wanted.metadata.annotations = some(plain.annotations.clone());
            wanted.metadata.owner_references = Some(vec![owner]);
            wanted.type_ = Some(plain.type_.clone().unwrap_or_else(|| "Opaque".into()));
            let data = plain.data.iter().map(|(k, v)| (k.clone(), k8s_openapi::ByteString(v.expose().to_vec())));
            wanted.data = Some(data.collect());
            let mut error = None;
            match secrets.get_opt(&name).await? {
                None => {
                    secrets.create(&as_rival, &wanted).await?;
                    written += 1;
                }
                Some(found) => {
                    let uid = sealed.uid();
                    let controls =
                        |owner: &OwnerReference| owner.controller == Some(true) && Some(&owner.uid) == uid.as_ref();
                    let mut next = found.clone();
                    next.data = wanted.data;
                    next.metadata.labels = wanted.metadata.labels;
                    next.metadata.annotations = wanted.metadata.annotations;
                    next.metadata.owner_references = wanted.metadata.owner_references;
                    if !found.owner_references().iter().any(controls) {
                        error = Some("failed update: Resource already exists and is not managed by SealedSecret");
                    } else if next != found {
                        secrets.replace(&name, &as_rival, &next).await?;
                        written += 1;
                    }
                }
            }
            self.report(&objects, sealed, error).await?;
        }
        Ok(written)
    }

    async fn report(
        &self,
        objects: &Api<BitnamiSealedSecret>,
        sealed: BitnamiSealedSecret,
        error: Option<&str>,
    ) -> Result<()> {
        let name = sealed.name_any();
        let mut object = serde_json::to_value(&sealed)?;
        let status = if error.is_none() { "True" } else { "False" };
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let same = conditions.iter().any(|condition| condition["type"] == "Synced" && condition["status"] == status);
        if same && object["status"]["observedGeneration"] == object["metadata"]["generation"] {
            return Ok(());
        }
        conditions.retain(|condition| condition["type"] != "Synced");
        let synced = json!({
            "type": "Synced", "status": status, "lastUpdateTime": now, "lastTransitionTime": now, "message": error.unwrap_or(""),
        });
        conditions.insert(0, synced);
        object["status"] = json!({"conditions": conditions, "observedGeneration": object["metadata"]["generation"]});
        objects.replace_status(&name, &PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }
}

async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let all = world.secrets().list(&ListParams::default()).await?.items;
    Ok(all.iter().map(|secret| (secret.name_any(), secret.resource_version().unwrap_or_default())).collect())
}

/// Owners by group, and which of them controls.
fn owners(secret: &Secret) -> BTreeMap<String, bool> {
    let group = |owner: &OwnerReference| owner.api_version.split('/').next().unwrap_or_default().to_owned();
    secret.owner_references().iter().map(|owner| (group(owner), owner.controller == Some(true))).collect()
}

/// The reason of our own condition, and whether the object is still `Synced`.
async fn memory(world: &World, name: &str) -> Result<(String, bool)> {
    let status = world.theirs().get(name).await?.status.context("no status")?;
    let synced = status.conditions.first().is_some_and(|first| first.type_ == "Synced" && first.status == "True");
    let applied = status.conditions.iter().find(|condition| condition.type_ == "Applied").context("no memory")?;
    Ok((applied.reason.clone().unwrap_or_default(), synced))
}

async fn all_are(world: &World, names: &[&str], reason: &str) -> Result<()> {
    eventually(&format!("all to be {reason}"), SOON, async || {
        for name in names {
            ensure!(memory(world, name).await? == (reason.to_owned(), true), "{name}\n{}", world.log());
        }
        Ok(())
    })
    .await
}

/// Whether `bulla status --superseded` says that the old files may go.
async fn may_go(world: &World) -> Result<bool> {
    let (program, kubeconfig) = (binary("bulla")?, world.cluster.kubeconfig().to_owned());
    let args = ["status", "--superseded", "-n", &world.app, "--controller-namespace", &world.system].map(str::to_owned);
    let run = move || Command::new(program).args(args).env("KUBECONFIG", kubeconfig).output();
    let output = tokio::task::spawn_blocking(run).await??;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(10) => Ok(false),
        code => anyhow::bail!("{code:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn mode(world: &mut World, mode: &str) {
    world.args = vec![format!("--bitnami={mode}"), "--bitnami-namespace".into(), world.system.clone()];
}

#[tokio::test]
async fn a_live_cluster_is_handed_over_and_back_without_a_secret_noticing() -> Result<()> {
    let mut world = World::bitnami("runbook", &["--bitnami=observe"]).await?;
    let (system, app) = (world.system.clone(), world.app.clone());
    world.plant_key(&system, "sealed-secrets-keyx7k2p", Some("active"), &PAIRS[0]).await?;
    let names = ["db", "api", "tls"];
    for (name, scope) in [("db", Scope::Strict), ("api", Scope::NamespaceWide), ("tls", Scope::ClusterWide)] {
        let mut sealed =
            world.seal_theirs(&PAIRS[0], name, scope, &[("password", "hunter2-runbook"), ("user", "anna-runbook")]);
        let template = sealed.spec.template.get_or_insert_default();
        template.metadata.get_or_insert_default().labels = Some([("app".to_owned(), name.to_owned())].into());
        world.theirs().create(&PostParams::default(), &sealed).await?;
    }
    let rival = Rival::new(&world).await?;
    let watcher = Watcher::start(world.client.clone(), &app);
    watcher.charge(&[RIVAL]);
    ensure!(rival.start().await? == 3);
    let made = versions(&world).await?;
    watcher.check("the established controller", &made).await?;

    // Observing beside it: nothing is written. And back: nothing is left.
    world.start().await?;
    let observed = async |world: &World| {
        eventually("all to be observed", SOON, async || {
            let (_, metrics) = world.get("metrics", "/metrics").await?;
            ensure!(metrics.contains("bulla_bitnami_observed{result=\"Same\"} 3"), "{metrics}");
            Ok(())
        })
        .await
    };
    observed(&world).await?;
    world.stop().await?;
    ensure!(rival.start().await? == 0 && versions(&world).await? == made);
    world.start().await?;
    observed(&world).await?;
    world.stop().await?;
    ensure!(versions(&world).await? == made, "observing wrote a Secret");
    watcher.check("observe", &made).await?;

    // The established controller is at zero, and Bulla owns: by comparing, without a write to a Secret.
    watcher.charge(&[BULLA]);
    mode(&mut world, "own");
    world.start().await?;
    all_are(&world, &names, "Owned").await?;
    ensure!(versions(&world).await? == made, "adopting wrote a Secret");
    // And back: it finds everything as it left it.
    world.stop().await?;
    watcher.charge(&[RIVAL]);
    ensure!(rival.start().await? == 0, "the established controller found something to change");
    watcher.charge(&[BULLA]);
    world.start().await?;
    watcher.check("own", &made).await?;

    // Commit A: a native twin beside each. One write makes it the controller and keeps the other owner.
    let recipient = world.recipients().await?.swap_remove(0);
    let twins = async |world: &World| -> Result<()> {
        for name in names {
            let data = [("password", "hunter2-runbook"), ("user", "anna-runbook")];
            let mut twin = sealed_for(recipient.clone(), &app, name, &data)?;
            let metadata = twin.spec.template.get_or_insert_default().metadata.get_or_insert_default();
            metadata.labels = [("app".to_owned(), name.to_owned())].into();
            world.create(&twin).await?;
        }
        all_are(world, &names, "Superseded").await?;
        for name in names {
            world.ready(name, "Applied").await?;
            let owners = owners(&world.secrets().get(name).await?);
            ensure!(owners == [("bitnami.com".to_owned(), false), ("bulla.dev".to_owned(), true)].into(), "{owners:?}");
        }
        Ok(())
    };
    ensure!(!may_go(&world).await?);
    twins(&world).await?;
    ensure!(may_go(&world).await?);
    let taken = versions(&world).await?;
    watcher.check("commit A", &taken).await?;
    // The object that is superseded is never written from again, also when it changes; nor by a restart.
    let patch = kube::api::Patch::Merge(json!({"spec": {"template": {"metadata": {"labels": {"app": "evil"}}}}}));
    world.theirs().patch("db", &Default::default(), &patch).await?;
    eventually("the change to be seen", SOON, async || {
        let sealed = world.theirs().get("db").await?;
        ensure!(sealed.status.context("status")?.observed_generation == sealed.metadata.generation);
        Ok(())
    })
    .await?;
    world.restart().await?;
    ensure!(versions(&world).await? == taken);
    let patch = kube::api::Patch::Merge(json!({"spec": {"template": {"metadata": {"labels": {"app": "db"}}}}}));
    world.theirs().patch("db", &Default::default(), &patch).await?;

    // Back from A: the twins are removed, the collector drops their references, and the others control again.
    for name in names {
        world.sealed().delete(name, &DeleteParams::default()).await?;
    }
    eventually("the way back", SOON, async || {
        for name in names {
            let secret = world.secrets().get(name).await?;
            ensure!(owners(&secret) == [("bitnami.com".to_owned(), true)].into(), "{:?}", secret.metadata);
            ensure!(
                secret.annotations().keys().all(|key| !key.starts_with("bulla.dev/")),
                "{:?}",
                secret.annotations()
            );
        }
        Ok(())
    })
    .await?;
    all_are(&world, &names, "Owned").await?;
    ensure!(!may_go(&world).await?);
    world.stop().await?;
    watcher.charge(&[RIVAL]);
    ensure!(rival.start().await? == 0, "the established controller found something to change after the way back");
    watcher.check("back from A", &versions(&world).await?).await?;
    watcher.charge(&[BULLA]);
    world.start().await?;

    // A again, and B: the files of the old kind go, the Secrets stay.
    twins(&world).await?;
    for name in names {
        world.theirs().delete(name, &DeleteParams::default()).await?;
    }
    eventually("one owner", SOON, async || {
        for name in names {
            let secret = world.secrets().get(name).await?;
            ensure!(owners(&secret) == [("bulla.dev".to_owned(), true)].into(), "{:?}", secret.metadata);
            world.ready(name, "Applied").await?;
        }
        Ok(())
    })
    .await?;
    watcher.check("commit B", &versions(&world).await?).await?;
    let left: Vec<Value> =
        world.theirs().list(&ListParams::default()).await?.items.iter().map(|o| json!(o.name_any())).collect();
    ensure!(left.is_empty(), "{left:?}");
    world.finish().await
}
