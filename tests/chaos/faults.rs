//! What goes wrong, one thing after another. Each fault begins, lasts, and is taken back.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::model::{Kind as Of, Name, THEIRS, gone_is_fine, persist};
use super::random::Random;
use super::relay::Way;
use super::world::{KEYS, RSA_KEYS, SYSTEM, World};
use super::{hostile, http};
use crate::rsa::PAIRS;
use crate::{Component, Signal, eventually};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What happens.
    pub what: &'static str,
    kind: Kind,
    /// Whether other objects must go on meanwhile.
    pub harmless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    KillLeader,
    KillBoth,
    KillWhileWriting,
    KillAfterLostAnswer,
    TermLeader,
    StopLeader,
    ApiServerKilled,
    ApiServerPaused,
    EtcdKilled,
    EtcdPaused,
    ManagerKilled,
    Cut,
    CutBoth,
    Compacted,
    Deaf,
    Broken,
    Slow,
    DiskFull,
    TokenInvalid,
    KeyEmpty,
    KeyWrong,
    KeyDoubled,
    KeyOwned,
    KeyDeleted,
    Foreign,
    Terminating,
    NamespaceEnds,
    Quota,
    Policy,
    Webhook,
    OldDefinition,
    Recipients,
    LeaseDeleted,
    Hostile,
    MassDeletion,
    Flood,
}

const fn fault(what: &'static str, kind: Kind, harmless: bool) -> Fault {
    Fault { what, kind, harmless }
}

/// All of them.
pub const ALL: [Fault; 36] = [
    fault("the leader is killed", Kind::KillLeader, false),
    fault("both replicas are killed", Kind::KillBoth, false),
    fault("the leader is killed in the middle of many writes", Kind::KillWhileWriting, false),
    fault("the leader is killed between its writes and their answers", Kind::KillAfterLostAnswer, false),
    fault("the leader gets SIGTERM", Kind::TermLeader, true),
    fault("the leader is stopped past its lease, with writes under way", Kind::StopLeader, false),
    fault("the API server is killed", Kind::ApiServerKilled, false),
    fault("the API server hangs", Kind::ApiServerPaused, false),
    fault("etcd is killed and comes back with its data", Kind::EtcdKilled, false),
    fault("etcd hangs", Kind::EtcdPaused, false),
    fault("the controller manager is killed", Kind::ManagerKilled, true),
    fault("the leader's network is cut", Kind::Cut, false),
    fault("both replicas' network is cut", Kind::CutBoth, false),
    fault("watches are compacted away during a cut", Kind::Compacted, false),
    fault("answers of the API server are lost", Kind::Deaf, false),
    fault("all connections break, again and again", Kind::Broken, false),
    fault("the network is slow", Kind::Slow, true),
    fault("etcd's disk is full (quota alarm)", Kind::DiskFull, false),
    fault("the service account's tokens are invalid", Kind::TokenInvalid, false),
    fault("an empty key Secret appears", Kind::KeyEmpty, true),
    fault("a wrong key Secret appears", Kind::KeyWrong, true),
    fault("a doubled key Secret appears", Kind::KeyDoubled, true),
    fault("a key Secret with an owner appears", Kind::KeyOwned, true),
    fault("the key in use is deleted and restored", Kind::KeyDeleted, false),
    fault("Secrets of somebody else are in the way", Kind::Foreign, true),
    fault("Secrets are being deleted and do not go", Kind::Terminating, true),
    fault("a namespace ends", Kind::NamespaceEnds, true),
    fault("a quota is exceeded", Kind::Quota, true),
    fault("an admission policy refuses", Kind::Policy, true),
    fault("an admission webhook does not answer", Kind::Webhook, true),
    fault("the definition is older than the controller, then both are new", Kind::OldDefinition, false),
    fault("the published recipients are changed", Kind::Recipients, true),
    fault("the Lease is deleted", Kind::LeaseDeleted, false),
    fault("hostile objects", Kind::Hostile, true),
    fault("all Secrets of a namespace are deleted at once", Kind::MassDeletion, true),
    fault("hostile HTTP requests", Kind::Flood, true),
];

/// Objects in a burst.
const BURST: usize = 20;

impl Fault {
    /// Whether it is over only when everybody has read a file again, which happens once a minute.
    pub fn takes_minutes(&self) -> bool {
        self.kind == Kind::TokenInvalid
    }

    /// Begins, lasts, ends. `number` is another one each time.
    pub async fn happen(&self, world: &World, random: &mut Random, lasts: Duration, number: usize) -> Result<()> {
        let pause = || tokio::time::sleep(lasts);
        match self.kind {
            Kind::KillLeader => world.leader().await?.signal(Signal::Kill),
            Kind::KillBoth => {
                world.replicas.iter().for_each(|replica| replica.hold(true));
                world.replicas.iter().for_each(|replica| replica.signal(Signal::Kill));
                pause().await;
                world.replicas.iter().for_each(|replica| replica.hold(false));
            }
            Kind::KillWhileWriting => {
                let leader = world.leader().await?;
                burst(world, number).await?;
                tokio::time::sleep(random.between(Duration::ZERO, Duration::from_millis(150))).await;
                leader.signal(Signal::Kill);
            }
            Kind::KillAfterLostAnswer => {
                let leader = world.leader().await?;
                leader.relay.set(Way::Deaf);
                burst(world, number).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                leader.signal(Signal::Kill);
                leader.relay.set(Way::Open);
                leader.relay.break_all();
            }
            Kind::TermLeader => {
                let leader = world.leader().await?;
                burst(world, number).await?;
                leader.signal(Signal::Term);
            }
            Kind::StopLeader => {
                let leader = world.leader().await?;
                burst(world, number).await?;
                leader.signal(Signal::Stop);
                tokio::time::sleep(world.pace.lease + lasts).await;
                leader.signal(Signal::Cont);
            }
            Kind::ApiServerKilled => {
                world.plane(|plane| plane.kill(Component::ApiServer)).await?;
                pause().await;
                world.plane(|plane| plane.restart(Component::ApiServer)).await?;
                world.ready().await?;
            }
            Kind::ApiServerPaused => {
                world.plane(|plane| plane.pause(Component::ApiServer)).await?;
                pause().await;
                world.plane(|plane| plane.resume(Component::ApiServer)).await?;
                world.ready().await?;
            }
            Kind::EtcdKilled => {
                world.plane(|plane| plane.kill(Component::Etcd)).await?;
                pause().await;
                world.plane(|plane| plane.restart(Component::Etcd)).await?;
                world.ready().await?;
            }
            Kind::EtcdPaused => {
                world.plane(|plane| plane.pause(Component::Etcd)).await?;
                pause().await;
                world.plane(|plane| plane.resume(Component::Etcd)).await?;
                world.ready().await?;
            }
            Kind::ManagerKilled => {
                world.plane(|plane| plane.kill(Component::ControllerManager)).await?;
                pause().await;
                world.plane(|plane| plane.restart(Component::ControllerManager)).await?;
            }
            Kind::Cut => {
                let leader = world.leader().await?;
                leader.cut(true)?;
                burst(world, number).await?;
                pause().await;
                leader.cut(false)?;
            }
            Kind::CutBoth => {
                for replica in &world.replicas {
                    replica.cut(true)?;
                }
                burst(world, number).await?;
                pause().await;
                for replica in &world.replicas {
                    replica.cut(false)?;
                }
            }
            Kind::Compacted => {
                for replica in &world.replicas {
                    replica.cut(true)?;
                }
                burst(world, number).await?;
                world.etcd_compact().await?;
                // Its watch cache knows nothing of the time before it was started.
                world.plane(|plane| plane.restart(Component::ApiServer)).await?;
                world.ready().await?;
                pause().await;
                for replica in &world.replicas {
                    replica.cut(false)?;
                }
            }
            Kind::Deaf => {
                let leader = world.leader().await?;
                leader.relay.set(Way::Deaf);
                burst(world, number).await?;
                pause().await;
                leader.relay.break_all();
                leader.relay.set(Way::Open);
            }
            Kind::Broken => {
                burst(world, number).await?;
                for _ in 0..10 {
                    world.replicas.iter().for_each(|replica| replica.relay.break_all());
                    tokio::time::sleep(lasts / 10).await;
                }
            }
            Kind::Slow => {
                let late = Duration::from_millis(50);
                world.replicas.iter().for_each(|replica| replica.relay.set(Way::Slow(late)));
                pause().await;
                world.replicas.iter().for_each(|replica| replica.relay.set(Way::Open));
            }
            Kind::DiskFull => {
                world.etcd_alarm(true).await?;
                pause().await;
                world.etcd_alarm(false).await?;
            }
            Kind::TokenInvalid => invalid_tokens(world, lasts).await?,
            Kind::KeyEmpty | Kind::KeyWrong | Kind::KeyDoubled | Kind::KeyOwned => {
                let native = random.below(2) == 0;
                stray_key(world, self.kind, native, lasts, number).await?;
            }
            Kind::KeyDeleted => {
                let secrets: Api<Secret> = Api::namespaced(world.model.client.clone(), SYSTEM);
                let key = KEYS[random.below(KEYS.len())];
                let mut kept = persist(async || secrets.get(key).await).await?;
                persist(async || gone_is_fine(secrets.delete(key, &DeleteParams::default()).await.map(drop))).await?;
                pause().await;
                strip(&mut kept);
                persist(async || exists_is_fine(secrets.create(&PostParams::default(), &kept).await.map(drop))).await?;
            }
            Kind::Foreign => foreign(world, lasts, number).await?,
            Kind::Terminating => terminating(world, lasts, number).await?,
            Kind::NamespaceEnds => {
                let name = format!("ends-{number}");
                world.namespace(&name, None).await?;
                for object in 0..10 {
                    world.model.make(&(name.clone(), format!("o{object}"))).await?;
                }
                world.model.with(|state| {
                    state.good.retain(|(namespace, _), _| *namespace != name);
                    state.ended.push(name.clone());
                });
                let all: Api<Namespace> = Api::all(world.model.client.clone());
                persist(async || gone_is_fine(all.delete(&name, &DeleteParams::default()).await.map(drop))).await?;
            }
            Kind::Quota => {
                let namespace = format!("quota-{number}");
                world.namespace(&namespace, None).await?;
                let quotas: Api<ResourceQuota> = Api::namespaced(world.model.client.clone(), &namespace);
                let none = json!({"count/secrets": "0"});
                let quota: ResourceQuota =
                    serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": none}}))?;
                persist(async || exists_is_fine(quotas.create(&PostParams::default(), &quota).await.map(drop))).await?;
                // There is no controller here that counts.
                let counted = json!({"status": {"hard": none, "used": none}});
                let params = PatchParams::default();
                persist(async || quotas.patch_status("none", &params, &Patch::Merge(&counted)).await.map(drop)).await?;
                let names = made_in(world, &namespace).await?;
                refused(world, &names, "QuotaExceeded", lasts).await?;
                persist(async || gone_is_fine(quotas.delete("none", &DeleteParams::default()).await.map(drop))).await?;
            }
            Kind::Policy => {
                let namespace = format!("policy-{number}");
                world.namespace(&namespace, Some("policy")).await?;
                apply(world, POLICY).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let names = made_in(world, &namespace).await?;
                refused(world, &names, "AdmissionDenied", lasts).await?;
                remove(world, POLICY).await?;
            }
            Kind::Webhook => {
                let namespace = format!("webhook-{number}");
                world.namespace(&namespace, Some("webhook")).await?;
                apply(world, WEBHOOK).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let names = made_in(world, &namespace).await?;
                refused(world, &names, "Unavailable", lasts).await?;
                remove(world, WEBHOOK).await?;
            }
            Kind::OldDefinition => old_definition(world, lasts).await?,
            Kind::Recipients => {
                let configs: Api<ConfigMap> = Api::namespaced(world.model.client.clone(), SYSTEM);
                let patch = json!({"data": {"recipients": "# nobody\n", "recovery": "age1evil"}});
                let params = PatchParams::default();
                persist(async || configs.patch("bulla-recipients", &params, &Patch::Merge(&patch)).await.map(drop))
                    .await?;
                eventually("the recipients to be put back", world.pace.soon, async || {
                    let data = configs.get("bulla-recipients").await?.data.unwrap_or_default();
                    ensure!(!data.contains_key("recovery") && data["recipients"].contains("age1"), "not yet");
                    Ok(())
                })
                .await?;
            }
            Kind::LeaseDeleted => {
                let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
                    Api::namespaced(world.model.client.clone(), SYSTEM);
                let params = DeleteParams::default();
                persist(async || gone_is_fine(leases.delete("bulla-controller", &params).await.map(drop))).await?;
            }
            Kind::Hostile => {
                for object in 0..world.pace.hostile {
                    let kind = hostile::KINDS[object % hostile::KINDS.len()];
                    let name = (format!("hostile-{}", object % 4), format!("h{number}-{object}"));
                    world.model.plant(hostile::make(&world.model, random, &name, kind)?, kind).await?;
                }
            }
            Kind::MassDeletion => {
                let busy = world.busy(random);
                let names: Vec<Name> = world.model.with(|state| {
                    let there = state.good.iter_mut().filter(|((namespace, _), _)| *namespace == busy);
                    there
                        .map(|(name, good)| {
                            good.spoilt += 1;
                            name.clone()
                        })
                        .collect()
                });
                let secrets = world.model.secrets(&busy);
                let params = DeleteParams::default();
                persist(async || secrets.delete_collection(&params, &ListParams::default()).await.map(drop)).await?;
                world.model.with(|state| state.counts.spoilt += names.len());
            }
            Kind::Flood => flood(world, random).await?,
        }
        Ok(())
    }
}

/// New objects, all at once.
async fn burst(world: &World, number: usize) -> Result<()> {
    let names: Vec<Name> = (0..BURST).map(|n| (format!("busy-{}", n % 4), format!("burst-{number}-{n}"))).collect();
    try_join_all(names.iter().map(|name| world.model.make(name))).await.map(drop)
}

async fn made_in(world: &World, namespace: &str) -> Result<Vec<Name>> {
    let names: Vec<Name> = (0..5).map(|number| (namespace.to_owned(), format!("o{number}"))).collect();
    for name in &names {
        world.model.make(name).await?;
    }
    Ok(names)
}

/// Waits until they say why they are refused, and then a while. Those of bitnami.com have no word for it, but a sentence.
async fn refused(world: &World, names: &[Name], reason: &str, lasts: Duration) -> Result<()> {
    for name in names {
        let (native, theirs) = (world.model.sealed(&name.0), world.model.theirs(&name.0));
        eventually(&format!("{}/{} to be {reason}", name.0, name.1), world.pace.soon, async || {
            if Of::of(name) == Of::Native {
                let status = native.get(&name.1).await?.status.context("no status")?;
                let ready = status.conditions.iter().find(|one| one.type_ == "Ready").context("no Ready")?;
                ensure!(ready.reason == reason, "{ready:?}");
            } else {
                let status = theirs.get(&name.1).await?.status.context("no status")?;
                let synced = status.conditions.iter().find(|one| one.type_ == "Synced").context("no Synced")?;
                ensure!(synced.status == "False" && synced.message.is_some(), "{synced:?}");
            }
            Ok(())
        })
        .await?;
    }
    tokio::time::sleep(lasts).await;
    Ok(())
}

fn exists_is_fine(done: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        done => done,
    }
}

/// Takes out of an object what only the API server sets.
fn strip(secret: &mut Secret) {
    secret.metadata.uid = None;
    secret.metadata.resource_version = None;
    secret.metadata.creation_timestamp = None;
    secret.metadata.managed_fields = None;
}

/// The account is another of the same name: nobody's token is one of it, until replicas get new ones.
async fn invalid_tokens(world: &World, lasts: Duration) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.model.client.clone(), SYSTEM);
    persist(async || gone_is_fine(accounts.delete("bulla", &DeleteParams::default()).await.map(drop))).await?;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "bulla"}}))?;
    persist(async || exists_is_fine(accounts.create(&PostParams::default(), &account).await.map(drop))).await?;
    // The API server remembers for ten seconds whom it knew.
    tokio::time::sleep(Duration::from_secs(10) + lasts).await;
    world.give_tokens().await
}

/// Something in the controller's namespace that looks like a key, of either kind.
async fn stray_key(world: &World, kind: Kind, native: bool, lasts: Duration, number: usize) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(world.model.client.clone(), SYSTEM);
    let (real, prefix, inside) = if native {
        (KEYS[0], "bulla-key-stray-", "identity")
    } else {
        (RSA_KEYS[0], "sealed-secrets-keystray", "tls.key")
    };
    let mut stray = persist(async || secrets.get(real).await).await?;
    strip(&mut stray);
    let name = format!("{prefix}{number}");
    stray.metadata.name = Some(name.clone());
    stray.metadata.annotations = None;
    match kind {
        Kind::KeyEmpty => {
            stray.data = None;
            // The API server wants something in the other type.
            stray.type_ = stray.type_.filter(|_| native);
        }
        Kind::KeyWrong => {
            let bytes = if native {
                b"AGE-SECRET-KEY-PQ-1NOTAKEY".to_vec()
            } else {
                PAIRS[RSA_KEYS.len()].private_key.clone().into_bytes()
            };
            stray.data.get_or_insert_default().insert(inside.to_owned(), k8s_openapi::ByteString(bytes));
        }
        Kind::KeyOwned => {
            let (version, kind) =
                if native { ("v1", "ConfigMap") } else { (bulla::bitnami::API_VERSION, bulla::bitnami::KIND) };
            let owner = json!([{"apiVersion": version, "kind": kind, "name": "bulla-recipients", "uid": "0"}]);
            stray.metadata.owner_references = serde_json::from_value(owner)?;
        }
        _ => {}
    }
    persist(async || exists_is_fine(secrets.create(&PostParams::default(), &stray).await.map(drop))).await?;
    tokio::time::sleep(lasts).await;
    persist(async || gone_is_fine(secrets.delete(&name, &DeleteParams::default()).await.map(drop))).await?;
    // A doubled key gets no SealingKey of its own; what was made for a stray one goes with it.
    let keys: Api<bulla::resource::SealingKey> = Api::namespaced(world.model.client.clone(), SYSTEM);
    let stray = format!("stray-{number}");
    persist(async || gone_is_fine(keys.delete(&stray, &DeleteParams::default()).await.map(drop))).await
}

/// Secrets that are there already: some stay, some are handed over.
async fn foreign(world: &World, lasts: Duration, number: usize) -> Result<()> {
    let secrets = world.model.secrets("foreign");
    let mut handed_over = Vec::new();
    for object in 0..12 {
        let name = ("foreign".to_owned(), format!("f{number}-{object}"));
        let mut theirs = Secret::default();
        theirs.metadata.name = Some(name.1.clone());
        theirs.immutable = (object % 6 == 1).then_some(true);
        theirs.data = Some([(THEIRS.to_owned(), k8s_openapi::ByteString(THEIRS.into()))].into());
        if object % 6 == 2 {
            let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "controller": true,
                "uid": "00000000-0000-0000-0000-000000000000"}]);
            theirs.metadata.owner_references = serde_json::from_value(owner)?;
            // Whose owner is not there is collected: it is held.
            theirs.metadata.finalizers = Some(vec!["chaos.bulla.dev/held".to_owned()]);
        }
        let there = world.model.plant_secret(&name, &theirs).await?;
        let (sealed, values) = world.model.sealed_as(&name, world.model.values(&name, 0))?;
        if object % 6 < 3 {
            world.model.plant(sealed, "somebody else's Secret").await?;
            if object % 6 < 2 {
                let version = there.resource_version().unwrap_or_default();
                world.model.with(|state| state.foreign.insert(name.clone(), version));
            }
        } else {
            world.model.apply(&name, &sealed).await?;
            world.model.with(|state| {
                state.good.entry(name.clone()).or_default().values = values;
                state.counts.created += 1;
            });
            handed_over.push((name, object % 6 == 5));
        }
    }
    tokio::time::sleep(lasts).await;
    for (name, delete) in handed_over {
        if delete {
            persist(async || gone_is_fine(secrets.delete(&name.1, &DeleteParams::default()).await.map(drop))).await?;
            continue;
        }
        let annotation = if Of::of(&name) == Of::Native { "bulla.dev/managed" } else { bulla::bitnami::MANAGED };
        let patch = json!({"metadata": {"annotations": { annotation: "true" }}});
        persist(async || secrets.patch(&name.1, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
            .await?;
    }
    Ok(())
}

/// Our Secrets, deleted by somebody, that a finalizer keeps.
async fn terminating(world: &World, lasts: Duration, number: usize) -> Result<()> {
    let namespace = "busy-0".to_owned();
    let secrets = world.model.secrets(&namespace);
    let mut names = Vec::new();
    for object in 0..4 {
        let name = (namespace.clone(), format!("held-{number}-{object}"));
        world.model.make(&name).await?;
        world.until_made(&name).await?;
        let patch = json!({"metadata": {"finalizers": ["chaos.bulla.dev/held"]}});
        persist(async || secrets.patch(&name.1, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
            .await?;
        world.model.spoil(&name, true).await?;
        names.push(name);
    }
    tokio::time::sleep(lasts).await;
    for (_, name) in names {
        let patch = json!({"metadata": {"finalizers": null}});
        let params = PatchParams::default();
        persist(async || gone_is_fine(secrets.patch(&name, &params, &Patch::Merge(&patch)).await.map(drop))).await?;
    }
    Ok(())
}

/// A definition that knows neither what was written nor what was asked for: the API server drops both.
async fn old_definition(world: &World, lasts: Duration) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.model.client.clone());
    let name = "sealedsecrets.bulla.dev";
    let current = persist(async || definitions.get(name).await).await?;
    let mut old = serde_json::to_value(&current.spec)?;
    let status = old.pointer_mut("/versions/0/schema/openAPIV3Schema/properties/status/properties");
    let Some(Value::Object(status)) = status else { bail!("a definition without a status") };
    status.remove("applied");
    status.remove("lastHandledReconcileAt");
    for spec in [old, serde_json::to_value(&current.spec)?] {
        let mut next = persist(async || definitions.get(name).await).await?;
        next.spec = serde_json::from_value(spec)?;
        persist(async || {
            let mut now = definitions.get(name).await?;
            now.spec.clone_from(&next.spec);
            definitions.replace(name, &PostParams::default(), &now).await.map(drop)
        })
        .await?;
        tokio::time::sleep(lasts).await;
    }
    // Statuses that were cut are completed by the next start: a new definition comes with a new controller.
    for replica in &world.replicas {
        replica.signal(Signal::Term);
    }
    Ok(())
}

/// Where a replica listens for requests.
const PATHS: [&str; 7] = ["/v1/verify", "/v1/rewrap", "/v1/reseal", "/v1/prove", "/v1/rotate", "/v1/cert.pem", "/"];

/// Bodies that nobody should believe.
async fn flood(world: &World, random: &mut Random) -> Result<()> {
    for _ in 0..40 {
        let Some(replica) = random.pick(&world.replicas) else { continue };
        let Ok(address) = replica.address("http") else { continue };
        let path = *random.pick(&PATHS).unwrap_or(&"/");
        let body = match random.below(6) {
            0 => vec![b'['; 200_000],
            1 => vec![b' '; (2 << 20) + 1],
            2 => br#"{"envelopes":["x"]}"#.to_vec(),
            3 => (0..4096).map(|_| random.next().to_le_bytes()[0]).collect(),
            4 => {
                br#"{"apiVersion":"bitnami.com/v1alpha1","kind":"SealedSecret","spec":{"encryptedData":{"a":"AQA="}}}"#
                    .to_vec()
            }
            _ => br#"{"apiVersion":"bulla.dev/v1alpha1","kind":"SealedSecret","spec":{"items":{}}}"#.to_vec(),
        };
        // It may be away in this moment.
        let asked = http::request(&address, "POST", path, &body);
        if let Ok(Ok((status, text))) = tokio::time::timeout(Duration::from_secs(10), asked).await {
            ensure!(status != 500 && !text.contains(&world.model.marker), "{status} {text}");
        }
    }
    Ok(())
}

async fn apply(world: &World, yaml: &str) -> Result<()> {
    let mut last = None;
    for _ in 0..20 {
        match crate::apply(&world.model.client, "default", yaml).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(last.context("not applied")?)
}

async fn remove(world: &World, yaml: &str) -> Result<()> {
    let mut last = None;
    for _ in 0..20 {
        match crate::delete(&world.model.client, yaml, &[]).await {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(last.context("not deleted")?)
}

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: chaos}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {chaos: policy}}
    resourceRules:
      - {apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets]}
  validations:
    - {expression: 'false', message: 'no Secrets here'}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: chaos}
spec: {policyName: chaos, validationActions: [Deny]}
";

const WEBHOOK: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: chaos}
webhooks:
  - name: chaos.bulla.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    timeoutSeconds: 1
    clientConfig: {url: 'https://127.0.0.1:1/'}
    namespaceSelector: {matchLabels: {chaos: webhook}}
    rules:
      - {apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets]}
";
