//! The hand-over of a live cluster, as docs/coming-from-sealed-secrets.md says it: its steps with its commands, and back from each
//! step at which there is a way back. A watcher of all Secrets of the cluster sees no deletion, no change of content, and no
//! writer but the one in charge and the garbage collector.
//!
//! The established controller is its own program, built from its module (`tests/established`), as a Pod would run it with the
//! rights of its chart. What stands for the tools that deliver a repository applies what is in it, and deletes what it
//! applied before and finds no more: first, as Argo CD does, or last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use bulla::bitnami::BitnamiSealedSecret;
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla_tests::{Component, Established, binary, delete, eventually, netns, skip};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject, ListParams, Patch};
use kube::core::{GroupVersionKind, ObjectMeta};
use kube::discovery::ApiResource;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::workflows::{Desk, Run, told};
use super::world::{SOON, World};

/// Who the established controller is in `managedFields`.
const ESTABLISHED: &str = "controller";
const BULLA: &str = "bulla-controller";
const COLLECTOR: &str = "kube-controller-manager";

/// Where sealed-secrets is, and Bulla besides.
pub const SYSTEM: &str = "kube-system";
/// The name of its Service.
pub const SERVICE: &str = "sealed-secrets-controller";
/// What the chart of sealed-secrets installs, as far as it counts for a process.
pub const CHART: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: sealed-secrets-controller, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: secrets-unsealer}
rules:
- {apiGroups: [bitnami.com], resources: [sealedsecrets], verbs: [get, list, watch]}
- {apiGroups: [bitnami.com], resources: [sealedsecrets/status], verbs: [update]}
- {apiGroups: [''], resources: [secrets], verbs: [get, list, create, update, delete, watch]}
- {apiGroups: [''], resources: [events], verbs: [create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sealed-secrets-controller}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: secrets-unsealer}
subjects: [{kind: ServiceAccount, name: sealed-secrets-controller, namespace: kube-system}]
---
apiVersion: v1
kind: Service
metadata: {name: sealed-secrets-controller, namespace: kube-system}
spec:
  selector: {app.kubernetes.io/name: sealed-secrets, app.kubernetes.io/instance: sealed-secrets}
  ports: [{name: http, port: 8080, targetPort: http}]
";

/// What there is: file, and its plain Secrets. `{ns}` is the namespace.
const FILES: [(&str, &str); 5] = [
    (
        "db.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: {ns}\n  labels: {app: db}\n  annotations: {note: kept}\n\
         stringData: {user: anna-runbook, password: hunter2-runbook}\n",
    ),
    (
        "more.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: api\n  namespace: {ns}\n  annotations: {sealedsecrets.bitnami.com/namespace-wide: 'true'}\n\
         stringData: {token: hunter2-runbook-api}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata:\n  name: everywhere\n  namespace: {ns}\n  annotations: {sealedsecrets.bitnami.com/cluster-wide: 'true'}\n\
         stringData: {token: hunter2-runbook-everywhere}\n",
    ),
    (
        "login.json",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: login\n  namespace: {ns}\ntype: kubernetes.io/basic-auth\n\
         stringData: {username: anna-runbook, password: hunter2-runbook-login}\n",
    ),
    (
        "url.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: url\n  namespace: {ns}\n\
         stringData: {user: anna-runbook, password: hunter2-runbook-url}\n",
    ),
    (
        "frozen.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: frozen\n  namespace: {ns}\nimmutable: true\n\
         stringData: {token: hunter2-runbook-frozen}\n",
    ),
];
const NAMES: [&str; 6] = ["api", "db", "everywhere", "frozen", "login", "url"];

/// What the watcher has seen of one Secret.
#[derive(Clone, Debug)]
struct Seen {
    uid: String,
    version: String,
    data: BTreeMap<String, Vec<u8>>,
    /// Manager and time of each entry of `managedFields`. Its fields say nothing: another's write takes some away.
    writes: BTreeSet<(String, String)>,
    /// How often it was written since it was made.
    count: usize,
}

/// Watches all Secrets of the cluster but Bulla's own keys, and writes down what must not be.
struct Watcher {
    charge: Arc<Mutex<BTreeSet<&'static str>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

fn is_own(secret: &Secret) -> bool {
    secret.name_any().starts_with("bulla-key-")
}

fn place(secret: &Secret) -> String {
    format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any())
}

impl Watcher {
    fn start(client: Client) -> Self {
        let charge = Arc::new(Mutex::new(BTreeSet::new()));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::new(Mutex::new(BTreeMap::<String, Seen>::new()));
        let api: Api<Secret> = Api::all(client);
        let task = tokio::spawn({
            let (charge, wrong, seen) = (charge.clone(), wrong.clone(), seen.clone());
            async move {
                let mut events = std::pin::pin!(watcher(api, Config::default()));
                while let Some(event) = events.next().await {
                    let secret = match event {
                        Ok(Event::Apply(secret) | Event::InitApply(secret)) => secret,
                        Ok(Event::Delete(secret)) => {
                            wrong.lock().unwrap().push(format!("{} was deleted", place(&secret)));
                            continue;
                        }
                        _ => continue,
                    };
                    if is_own(&secret) {
                        continue;
                    }
                    let mut now = see(&secret);
                    let mut seen = seen.lock().unwrap();
                    let say = |what: String| wrong.lock().unwrap().push(format!("{}: {what}", place(&secret)));
                    let before = seen.get(&place(&secret));
                    if let Some(before) = before {
                        if before.uid != now.uid {
                            say("it is another Secret".into());
                        }
                        if before.data != now.data {
                            say("its content changed".into());
                        }
                        if secret.metadata.deletion_timestamp.is_some() {
                            say("it is being deleted".into());
                        }
                        now.count = before.count + usize::from(before.version != now.version);
                    }
                    let nobody = BTreeSet::new();
                    let known = before.map_or(&nobody, |before| &before.writes);
                    let charge = charge.lock().unwrap();
                    for (manager, at) in now.writes.difference(known) {
                        if !charge.contains(manager.as_str()) && manager != COLLECTOR {
                            say(format!("{manager} wrote at {at}, and {charge:?} is in charge"));
                        }
                    }
                    seen.insert(place(&secret), now);
                }
            }
        });
        Self { charge, wrong, seen, task }
    }

    /// From now on these may write.
    fn charge(&self, who: &[&'static str]) {
        *self.charge.lock().unwrap() = who.iter().copied().collect();
    }

    /// How often each Secret has been written since it was made.
    fn counts(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap().iter().map(|(place, seen)| (place.clone(), seen.count)).collect()
    }

    /// Nothing has gone wrong so far; waits until it has caught up with `versions`.
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
        count: 0,
    }
}

/// When what is gone from the repository is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prune {
    /// Before anything is applied.
    First,
    /// When everything that was applied is healthy.
    Last,
}

/// A live cluster, the repository that it is made from, and who watches.
struct HandOver {
    world: World,
    desk: Desk,
    watcher: Watcher,
    address: String,
    /// What was applied from the repository, each as a document that names it.
    applied: BTreeMap<String, String>,
}

impl HandOver {
    fn file(&self, name: &str) -> std::path::PathBuf {
        self.desk.path("apps").join(name)
    }

    /// kubectl, as the runbook has it.
    fn kubectl(&self, words: &[&str]) -> Result<Run> {
        let mut command = self.desk.command("kubectl".into());
        let output = command.args(["--context", "prod"]).args(words).stdin(Stdio::null()).output()?;
        told(&output).well().with_context(|| format!("kubectl {}", words.join(" ")))
    }

    /// The program, called as `kubeseal`.
    fn kubeseal(&self, words: &[&str], input: &str) -> Result<String> {
        let link = self.desk.path("kubeseal.txt");
        if !link.exists() {
            fs::create_dir(&link)?;
            std::os::unix::fs::symlink(binary("bulla")?, link.join("kubeseal"))?;
        }
        let mut command: Command = self.desk.command(link.join("kubeseal"));
        command.args(["--context", "prod"]).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
        let run = told(&child.wait_with_output()?).well();
        Ok(run.with_context(|| format!("kubeseal {}", words.join(" ")))?.out)
    }

    /// `bulla install`, as it is applied, and the arguments of its Deployment for the process that stands for it.
    fn install(&mut self, mode: &str) -> Result<()> {
        let printed = self.desk.well(&["install", mode, "--image", "registry.test/bulla:1"])?.out;
        fs::write(self.desk.path("bulla.yaml"), &printed)?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "bulla.yaml"])?;
        let mut args = None;
        for document in serde_yaml::Deserializer::from_str(&printed) {
            let document: Value = serde::Deserialize::deserialize(document)?;
            if document["kind"] == "Deployment" {
                ensure!(document["metadata"]["namespace"] == SYSTEM, "{document}");
                args = document["spec"]["template"]["spec"]["containers"][0]["args"].as_array().cloned();
            }
        }
        let args: Vec<String> =
            args.context("arguments")?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let (namespace, rest) = args.split_first().context("arguments")?;
        ensure!(*namespace == format!("--namespace={SYSTEM}"), "{args:?}");
        self.world.args = rest.to_vec();
        Ok(())
    }

    /// The collector learns of new kinds every half minute; a new one knows them at once.
    async fn collector_knows(&self) -> Result<()> {
        self.world.cluster.restart(Component::ControllerManager)
    }

    /// The established controller, when it has looked at each of `objects`.
    async fn established(&self, objects: usize) -> Result<Established> {
        let rival = Established::start(self.world.cluster, SYSTEM, SERVICE, &[]).await?;
        eventually("the established controller to have looked at everything", SOON, async || {
            let log = rival.log();
            let looked = log.matches("'Unsealed'").count() + log.matches("'ErrUpdateFailed'").count();
            ensure!(looked >= objects, "{looked} of {objects}\n{log}");
            Ok(())
        })
        .await?;
        Ok(rival)
    }

    /// It comes back, finds nothing to change in any Secret, and goes.
    async fn returns(&self, step: &str) -> Result<()> {
        self.watcher.charge(&[ESTABLISHED]);
        let before = self.versions().await?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager", "helm", "-f", "chart.yaml"])?;
        self.established(NAMES.len()).await?.stop().await?;
        self.all(|sealed| synced(sealed) == Some("True"), "to be synced by the established controller").await?;
        let after = self.versions().await?;
        ensure!(before == after, "{step}: the established controller found something to change\n{before:?}\n{after:?}");
        self.watcher.check(step, &after).await
    }

    async fn versions(&self) -> Result<BTreeMap<String, String>> {
        let all: Api<Secret> = Api::all(self.world.client.clone());
        let all = all.list(&ListParams::default()).await?.items;
        let kept = all.iter().filter(|secret| !is_own(secret));
        Ok(kept.map(|secret| (place(secret), secret.resource_version().unwrap_or_default())).collect())
    }

    /// Brings what is in the repository to the cluster.
    async fn sync(&mut self, prune: Prune) -> Result<()> {
        let mut found = BTreeMap::new();
        let mut texts = Vec::new();
        for entry in fs::read_dir(self.desk.path("apps"))? {
            let text = fs::read_to_string(entry?.path())?;
            for document in serde_yaml::Deserializer::from_str(&text) {
                let document: Value = serde::Deserialize::deserialize(document)?;
                let reference = json!({
                    "apiVersion": document["apiVersion"],
                    "kind": document["kind"],
                    "metadata": {"name": document["metadata"]["name"], "namespace": document["metadata"]["namespace"]},
                });
                found.insert(reference.to_string(), reference.to_string());
            }
            texts.push(text);
        }
        let gone: Vec<String> = self.applied.keys().filter(|key| !found.contains_key(*key)).cloned().collect();
        let gone = gone.join("\n---\n");
        if prune == Prune::First {
            delete(&self.world.client, &gone, &[]).await?;
        }
        for text in &texts {
            self.world.cluster.apply(text).await?;
        }
        if prune == Prune::Last {
            for sealed in self.world.sealed().list(&ListParams::default()).await?.items {
                self.world.ready(&sealed.name_any(), "Applied").await?;
            }
            delete(&self.world.client, &gone, &[]).await?;
        }
        self.applied = found;
        Ok(())
    }

    async fn all(&self, fits: impl Fn(&BitnamiSealedSecret) -> bool, what: &str) -> Result<()> {
        eventually(&format!("all {what}"), SOON, async || {
            for name in NAMES {
                let sealed = self.world.theirs().get(name).await?;
                ensure!(fits(&sealed), "{name}: {:?}\n{}", sealed.status, self.world.log());
            }
            Ok(())
        })
        .await
    }

    /// What Bulla remembers of all of them, while they stay `Synced`.
    async fn all_are(&self, reason: &str) -> Result<()> {
        self.all(|sealed| memory(sealed) == Some(reason) && synced(sealed) == Some("True"), &format!("to be {reason}"))
            .await
    }

    /// `bulla status --superseded`: whether it is complete, and what it says.
    fn superseded(&self) -> Result<(bool, String)> {
        let at = ["--context", "prod", "--controller-namespace", SYSTEM];
        let run = self.desk.bulla(&[&["status", "--superseded"][..], &at].concat())?;
        match run.code {
            Some(0) => Ok((true, run.out + &run.err)),
            Some(10) => Ok((false, run.out + &run.err)),
            code => bail!("{code:?}: {}", run.err),
        }
    }

    /// Each Secret has these owners, and which of them controls.
    async fn owned(&self, expected: &[(&str, bool)]) -> Result<()> {
        let expected: BTreeMap<String, bool> = expected.iter().map(|(group, is)| ((*group).to_owned(), *is)).collect();
        eventually(&format!("the owners {expected:?}"), SOON, async || {
            for name in NAMES {
                let secret = self.world.secrets().get(name).await?;
                ensure!(owners(&secret) == expected, "{name}: {:?}", secret.metadata.owner_references);
            }
            Ok(())
        })
        .await
    }

    /// Who gets what is sent to the Service that `kubeseal` looks for.
    async fn service_is_of(&self, name: &str) -> Result<()> {
        let services: Api<Service> = Api::namespaced(self.world.client.clone(), SYSTEM);
        let selector = services.get(SERVICE).await?.spec.and_then(|spec| spec.selector).unwrap_or_default();
        ensure!(selector.get("app.kubernetes.io/name").is_some_and(|found| found == name), "{selector:?}");
        ensure!(name != "bulla" || selector.len() == 1, "something is left of the other: {selector:?}");
        Ok(())
    }

    /// `kubeseal` goes on working, whoever is in charge.
    fn kubeseal_works(&self) -> Result<()> {
        let sealed = fs::read_to_string(self.file("db.yaml"))?;
        ensure!(self.kubeseal(&["--validate"], &sealed)?.is_empty());
        let renewed = self.kubeseal(&["--re-encrypt", "-o", "yaml"], &sealed)?;
        ensure!(renewed != sealed && renewed.contains("kind: SealedSecret"), "{renewed}");
        ensure!(self.kubeseal(&["--fetch-cert"], "")?.starts_with("-----BEGIN CERTIFICATE-----"));
        Ok(())
    }

    /// The definition of the other kind, without what the API server keeps account of.
    async fn definition(&self) -> Result<(ObjectMeta, Value)> {
        let mut object = self.definitions().get("sealedsecrets.bitnami.com").await?;
        object.metadata.managed_fields = None;
        Ok((object.metadata.clone(), object.data["spec"].clone()))
    }

    fn definitions(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        Api::all_with(self.world.client.clone(), &ApiResource::from_gvk(&kind))
    }
}

fn synced(sealed: &BitnamiSealedSecret) -> Option<&str> {
    let status = sealed.status.as_ref().filter(|status| status.observed_generation == sealed.metadata.generation)?;
    status.conditions.first().filter(|first| first.type_ == "Synced").map(|first| first.status.as_str())
}

fn memory(sealed: &BitnamiSealedSecret) -> Option<&str> {
    let conditions = &sealed.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == "Applied")?.reason.as_deref()
}

/// Owners by group, and which of them controls.
fn owners(secret: &Secret) -> BTreeMap<String, bool> {
    let group = |owner: &OwnerReference| owner.api_version.split('/').next().unwrap_or_default().to_owned();
    secret.owner_references().iter().map(|owner| (group(owner), owner.controller == Some(true))).collect()
}

/// A cluster in which the established controller has made all Secrets from a repository that `kubeseal` filled.
async fn live() -> Result<Option<(HandOver, Established)>> {
    let Some(address) = netns::address() else {
        skip("the established controller's ports are its own only in a network namespace (cargo xtask test makes one)");
        return Ok(None);
    };
    if !Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|run| run.status.success()) {
        skip("the runbook is typed with kubectl, and there is none");
        return Ok(None);
    }
    let mut world = World::untouched("runbook", SYSTEM).await?;
    let desk = Desk::new()?;
    desk.know(&[("prod", &world)])?;
    for (_, text) in FILES {
        for word in text.split([' ', ',', '}', '\n']).filter(|word| word.starts_with("hunter2-")) {
            world.guard(word);
        }
    }
    world.cluster.install_crds(include_str!("../fixtures/bitnami-crd.yaml")).await?;
    fs::write(desk.path("chart.yaml"), CHART)?;
    fs::remove_dir_all(desk.path("apps"))?;
    fs::create_dir(desk.path("apps"))?;
    let ignored = desk.read(".gitignore")?;
    fs::write(desk.path(".gitignore"), ignored + "/bulla.yaml\n/chart.yaml\n")?;
    let watcher = Watcher::start(world.client.clone());
    watcher.charge(&[ESTABLISHED]);
    let mut hand = HandOver { world, desk, watcher, address, applied: BTreeMap::new() };
    hand.kubectl(&["apply", "--server-side", "--field-manager", "helm", "-f", "chart.yaml"])?;
    let (cluster, port) = (hand.world.cluster, Established::PORT);
    cluster.publish_endpoint(SYSTEM, SERVICE, "http", &hand.address, port).await?;
    let rival = hand.established(0).await?;
    eventually("its certificate", SOON, async || hand.kubeseal(&["--fetch-cert"], "").with_context(|| rival.log()))
        .await?;

    for (file, text) in FILES {
        let format = if file.ends_with(".json") { "json" } else { "yaml" };
        let text = text.replace("{ns}", &hand.world.app);
        fs::write(hand.file(file), hand.kubeseal(&["-o", format], &text)?)?;
    }
    let change = |file: &str, edit: &dyn Fn(&str) -> String| -> Result<()> {
        let path = hand.file(file);
        let (before, after) = (fs::read_to_string(&path)?, edit(&fs::read_to_string(&path)?));
        ensure!(before != after, "{before}");
        Ok(fs::write(path, after)?)
    };
    change("url.yaml", &|text| {
        text.replace("  template:\n", "  template:\n    data: {url: 'postgres://{{ .user }}:{{ .password }}@db'}\n")
    })?;
    let config = format!("kind: ConfigMap\nmetadata: {{name: beside, namespace: {}}}\n", hand.world.app);
    change("more.yaml", &|text| format!("# ours\napiVersion: v1\n{config}{text}"))?;
    hand.desk.commit("what there is")?;
    hand.sync(Prune::First).await?;
    hand.all(|sealed| synced(sealed) == Some("True"), "to be synced").await?;
    hand.kubeseal_works()?;
    hand.watcher.check("the established controller", &hand.versions().await?).await?;
    Ok(Some((hand, rival)))
}

#[tokio::test]
async fn a_live_cluster_is_handed_over_and_back_without_a_secret_noticing() -> Result<()> {
    let _turn = Established::turn().await;
    let Some((mut hand, rival)) = live().await? else { return Ok(()) };
    backed_up(&hand).await?;
    let definition = hand.definition().await?;
    let rival = observed(&mut hand, rival).await?;
    to_zero(&hand, rival).await?;
    owned(&mut hand).await?;
    twins(&mut hand).await?;
    old_files_go(&mut hand).await?;
    in_one_commit(&mut hand).await?;
    ensure!(hand.definition().await? == definition, "somebody changed the definition");
    definition_goes(&mut hand).await?;
    hand.world.finish().await
}

/// 1. Keys are backed up, and what the backup opens is what runs; the definition is to be kept.
async fn backed_up(hand: &HandOver) -> Result<()> {
    let of_keys = format!("--selector={BITNAMI_KEY_LABEL}");
    let backup = hand.kubectl(&["get", "secrets", "-n", SYSTEM, &of_keys, "-o", "yaml"])?.out;
    fs::write(hand.desk.path("keys.txt"), backup)?;
    hand.kubectl(&[
        "annotate",
        "customresourcedefinition",
        "sealedsecrets.bitnami.com",
        "helm.sh/resource-policy=keep",
        "argocd.argoproj.io/sync-options=Prune=false,Delete=false",
    ])?;
    for (file, _) in FILES {
        let opened = hand.desk.well(&["unseal", &format!("apps/{file}"), "-i", "keys.txt"])?.out;
        for document in serde_yaml::Deserializer::from_str(&opened) {
            let mut document: Value = serde::Deserialize::deserialize(document)?;
            if document["kind"] != "Secret" {
                continue;
            }
            // Plain text, where it is text.
            if let Some(texts) = document["stringData"].take().as_object() {
                for (key, text) in texts {
                    use base64::Engine as _;
                    let encoded = base64::prelude::BASE64_STANDARD.encode(text.as_str().unwrap_or_default());
                    document["data"][key] = encoded.into();
                }
            }
            let opened: Secret = serde_json::from_value(document)?;
            let running = hand.world.secrets().get(&opened.name_any()).await?;
            ensure!(running.data == opened.data, "{}", opened.name_any());
        }
    }
    Ok(())
}

/// 2. Bulla observes beside it, and says what it found; back, and again.
async fn observed(hand: &mut HandOver, rival: Established) -> Result<Established> {
    let objects = |hand: &HandOver| {
        let theirs = hand.world.theirs();
        async move {
            let all = theirs.list(&ListParams::default()).await?.items;
            Ok::<_, anyhow::Error>(all.iter().map(|sealed| sealed.resource_version()).collect::<Vec<_>>())
        }
    };
    let (made, before) = (hand.versions().await?, objects(hand).await?);
    for _ in 0..2 {
        hand.install("--bitnami=observe")?;
        hand.collector_knows().await?;
        hand.world.start().await?;
        let at = ["--context", "prod", "--controller-namespace", SYSTEM];
        let said = eventually("everything to be observed", SOON, async || {
            hand.desk.bulla(&[&["status", "--observed"][..], &at].concat())?.well()
        })
        .await?;
        ensure!(said.err.contains("6 of 6 SealedSecrets of bitnami.com"), "{}", said.err);
        ensure!(hand.versions().await? == made && objects(hand).await? == before, "observing wrote");
        for name in NAMES {
            let told = hand.world.events(&hand.world.app, name).await?;
            ensure!(told.iter().all(|(_, note)| note == "SealedSecret unsealed successfully"), "{told:?}");
        }
        hand.watcher.check("observe", &made).await?;
        hand.service_is_of("sealed-secrets").await?;
        hand.kubeseal_works()?;
        hand.world.stop().await?;
        hand.kubectl(&["delete", "-f", "bulla.yaml"])?;
    }
    ensure!(hand.versions().await? == made && objects(hand).await? == before);
    // It goes on making Secrets all the while; and then Bulla observes once more.
    hand.kubeseal_works()?;
    hand.install("--bitnami=observe")?;
    hand.collector_knows().await?;
    hand.world.start().await?;
    Ok(rival)
}

/// 3. The established controller goes, and the Secrets stay; back, and again.
async fn to_zero(hand: &HandOver, rival: Established) -> Result<()> {
    let made = hand.versions().await?;
    rival.stop().await?;
    hand.returns("back from zero replicas").await?;
    ensure!(hand.versions().await? == made);
    Ok(())
}

/// 4. Bulla owns, by comparing, without a write to a Secret; back, and again.
async fn owned(hand: &mut HandOver) -> Result<()> {
    let made = hand.versions().await?;
    hand.world.stop().await?;
    hand.world.http_addr = format!("{}:{}", hand.address, Established::PORT);
    for again in [false, true] {
        hand.watcher.charge(&[BULLA]);
        hand.install("--bitnami=own")?;
        hand.service_is_of("bulla").await?;
        hand.world.start().await?;
        hand.all_are("Owned").await?;
        hand.owned(&[("bitnami.com", true)]).await?;
        ensure!(hand.versions().await? == made, "adopting wrote a Secret, or made a key");
        hand.kubeseal_works()?;
        ensure!(!hand.superseded()?.0);
        if again {
            break;
        }
        hand.world.stop().await?;
        hand.returns("back from own").await?;
        hand.service_is_of("sealed-secrets").await?;
    }
    hand.watcher.check("own", &made).await
}

/// 5. Commit A: twins, made by the cluster. One write each. Back, and again.
async fn twins(hand: &mut HandOver) -> Result<()> {
    let (address, port) = (hand.address.clone(), Established::PORT);
    hand.world.cluster.publish_endpoint(SYSTEM, "bulla", "http", &address, port).await?;
    hand.desk.well(&[
        "init",
        "--as",
        "prod",
        "--rule",
        "**/*.bulla.*",
        "--context",
        "prod",
        "--controller-namespace",
        SYSTEM,
    ])?;
    hand.desk.commit("policy")?;
    hand.desk
        .well(&["migrate", "apps", "--dry-run", "-r", "prod"])?
        .says(&["would migrate 6 SealedSecrets in 5 files for prod"])?;
    let before: Vec<_> = FILES.iter().map(|(file, _)| fs::read(hand.file(file))).collect::<Result<_, _>>()?;
    hand.desk
        .well(&["migrate", "apps", "--beside", "--live"])?
        .says(&["migrated 6 SealedSecrets in 5 files for prod"])?;
    hand.desk.well(&["migrate", "apps", "--beside", "--live"])?.says(&["6 had a twin"])?;
    let after: Vec<_> = FILES.iter().map(|(file, _)| fs::read(hand.file(file))).collect::<Result<_, _>>()?;
    ensure!(before == after, "the old files keep their bytes");
    hand.desk.commit("A")?;

    // One is handed over, the others are not: the old files stay.
    let one = fs::read_to_string(hand.file("db.bulla.yaml"))?;
    hand.world.cluster.apply(&one).await?;
    eventually("db to be superseded", SOON, async || {
        ensure!(memory(&hand.world.theirs().get("db").await?) == Some("Superseded"), "{}", hand.world.log());
        Ok(())
    })
    .await?;
    let (complete, said) = hand.superseded()?;
    ensure!(!complete && said.contains("5 not superseded"), "{said}");
    one_write_each(hand, &["db"]).await?;
    taken_over(hand).await?;
    one_write_each(hand, &NAMES).await?;

    // The established controller, were it to return now, is refused; it writes nothing, and nothing is lost.
    let taken = hand.versions().await?;
    hand.world.stop().await?;
    hand.watcher.charge(&[ESTABLISHED]);
    let log = hand.established(NAMES.len()).await?.stop().await?;
    ensure!(log.contains("is not managed by SealedSecret") && !log.contains("'Unsealed'"), "{log}");
    ensure!(hand.versions().await? == taken);
    hand.watcher.charge(&[BULLA]);
    hand.world.start().await?;
    hand.all_are("Superseded").await?;

    // The object that is superseded is never written from again, also when it changes; nor by a restart.
    let labelled = |label: &str| Patch::Merge(json!({"spec": {"template": {"metadata": {"labels": {"app": label}}}}}));
    hand.world.theirs().patch("db", &Default::default(), &labelled("evil")).await?;
    hand.all_are("Superseded").await?;
    hand.world.restart().await?;
    hand.world.theirs().patch("db", &Default::default(), &labelled("db")).await?;
    hand.all_are("Superseded").await?;
    ensure!(hand.versions().await? == taken);
    hand.watcher.check("commit A", &taken).await?;

    // Back: the twins go, the collector drops their references, and the others control again.
    hand.desk.git(&["revert", "--no-edit", "HEAD"])?;
    hand.sync(Prune::First).await?;
    hand.owned(&[("bitnami.com", true)]).await?;
    hand.all_are("Owned").await?;
    for name in NAMES {
        let secret = hand.world.secrets().get(name).await?;
        ensure!(secret.annotations().keys().all(|key| !key.starts_with("bulla.dev/")), "{:?}", secret.annotations());
    }
    ensure!(!hand.superseded()?.0);
    hand.world.stop().await?;
    hand.returns("back from A").await?;

    // Forward once more: Bulla owns, and A is there again.
    hand.watcher.charge(&[BULLA]);
    hand.install("--bitnami=own")?;
    hand.world.start().await?;
    hand.all_are("Owned").await?;
    hand.desk.git(&["revert", "--no-edit", "HEAD"])?;
    taken_over(hand).await
}

/// Each Secret of these is written once, from now back to when nobody wrote; counting begins anew.
async fn one_write_each(hand: &HandOver, names: &[&str]) -> Result<()> {
    hand.watcher.check("the twins", &hand.versions().await?).await?;
    let counts = hand.watcher.counts();
    for name in names {
        let count = counts.get(&format!("{}/{name}", hand.world.app));
        ensure!(count == Some(&1), "{name} was written {count:?} times");
    }
    Ok(())
}

/// What is in the repository is applied, and the native objects make the Secrets.
async fn taken_over(hand: &mut HandOver) -> Result<()> {
    hand.sync(Prune::First).await?;
    hand.all_are("Superseded").await?;
    hand.owned(&[("bitnami.com", false), ("bulla.dev", true)]).await?;
    for name in NAMES {
        hand.world.ready(name, "Applied").await?;
    }
    ensure!(hand.superseded()?.0);
    Ok(())
}

/// 6. Commit B: complete, so the old files go. What is gone is deleted first.
async fn old_files_go(hand: &mut HandOver) -> Result<()> {
    let (complete, said) = hand.superseded()?;
    ensure!(complete && said.contains("6 SealedSecrets of bitnami.com in prod, 0 not superseded"), "{said}");
    for (file, _) in FILES {
        if file == "more.yaml" {
            // Something else is in it.
            let text = fs::read_to_string(hand.file(file))?;
            let first = text.split("\n---\n").next().context("a document")?;
            fs::write(hand.file(file), format!("{first}\n"))?;
        } else {
            fs::remove_file(hand.file(file))?;
        }
    }
    hand.desk.commit("B")?;
    hand.sync(Prune::First).await?;
    hand.owned(&[("bulla.dev", true)]).await?;
    for name in NAMES {
        hand.world.ready(name, "Applied").await?;
    }
    hand.watcher.check("commit B", &hand.versions().await?).await?;
    let (complete, said) = hand.superseded()?;
    ensure!(complete && said.contains("no SealedSecret of bitnami.com"), "{said}");

    // An old file that is applied once more says that the Secret is not its own, and changes nothing; nor does its end.
    let before = hand.versions().await?;
    let old = hand.desk.git(&["show", "HEAD~1:apps/db.yaml"])?;
    hand.world.cluster.apply(&old).await?;
    eventually("the old object to be looked at", SOON, async || {
        let sealed = hand.world.theirs().get("db").await?;
        ensure!(synced(&sealed) == Some("False"), "{:?}", sealed.status);
        let message = sealed.status.and_then(|status| status.conditions.first()?.message.clone()).unwrap_or_default();
        ensure!(message.contains("already exists and is not managed by SealedSecret"), "{message}");
        Ok(())
    })
    .await?;
    ensure!(!hand.superseded()?.0 && hand.versions().await? == before);
    delete(&hand.world.client, &old, &[]).await?;
    eventually("its end", SOON, async || {
        ensure!(hand.world.theirs().get_opt("db").await?.is_none());
        Ok(())
    })
    .await?;
    hand.world.ready("db", "Applied").await?;
    hand.watcher.check("an old file once more", &before).await?;
    ensure!(hand.versions().await? == before && hand.superseded()?.0);
    Ok(())
}

/// The other way: native objects in the place of the old ones, in one commit, where pruning comes last. Refused unless that is said.
async fn in_one_commit(hand: &mut HandOver) -> Result<()> {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: late, namespace: {}}}\nstringData: {{a: hunter2-runbook-late}}\n",
        hand.world.app
    );
    hand.world.guard("hunter2-runbook-late");
    fs::write(hand.file("late.yaml"), format!("# late\n{}", hand.kubeseal(&["-o", "yaml"], &secret)?))?;
    hand.sync(Prune::First).await?;
    let made = hand.world.holds("late", &[("a", "hunter2-runbook-late")]).await?;
    ensure!(!hand.superseded()?.0);
    let refused = hand.desk.bulla(&["migrate", "apps/late.yaml", "--replace", "--live", "-r", "prod"])?.ends(2)?;
    ensure!(refused.err.contains("--prunes-last"), "{}", refused.err);
    hand.desk.well(&["migrate", "apps/late.yaml", "--replace", "--prunes-last", "--live", "-r", "prod"])?;
    hand.sync(Prune::Last).await?;
    eventually("one owner", SOON, async || {
        let secret = hand.world.secrets().get("late").await?;
        ensure!(secret.uid() == made.uid() && owners(&secret) == [("bulla.dev".to_owned(), true)].into());
        Ok(())
    })
    .await?;
    hand.watcher.check("one commit", &hand.versions().await?).await
}

/// 8. No object is left: the definition goes, and Bulla goes on.
async fn definition_goes(hand: &mut HandOver) -> Result<()> {
    let (complete, said) = hand.superseded()?;
    ensure!(complete && said.contains("its definition may go"), "{said}");
    let before = hand.versions().await?;
    hand.kubectl(&["delete", "customresourcedefinition", "sealedsecrets.bitnami.com"])?;
    eventually("the definition to be gone", SOON, async || {
        ensure!(hand.definitions().get_opt("sealedsecrets.bitnami.com").await?.is_none());
        Ok(())
    })
    .await?;
    let (complete, said) = hand.superseded()?;
    ensure!(complete && said.contains("is not defined"), "{said}");
    hand.world.restart().await?;
    for name in NAMES {
        hand.world.ready(name, "Applied").await?;
    }
    ensure!(hand.versions().await? == before);
    // Without the other format, in the same place.
    hand.world.stop().await?;
    let printed =
        hand.desk.well(&["install", "--controller-namespace", SYSTEM, "--image", "registry.test/bulla:1"])?.out;
    ensure!(!printed.contains("bitnami") && !printed.contains("bulla-system"), "{printed}");
    hand.world.args.clear();
    hand.world.start().await?;
    hand.world.make("new", &[("a", "hunter2-runbook-new")]).await?;
    let mut after = hand.versions().await?;
    after.remove(&format!("{}/new", hand.world.app));
    ensure!(after == before);
    hand.watcher.check("the definition", &after).await
}
