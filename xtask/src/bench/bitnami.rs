//! SealedSecrets of bitnami.com: what opening costs, and a cold start.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{
    BitnamiSealedSecret, Certificate, Operations, PrivateKey, generate, open, operations, seal, verify_within,
};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla::scope::Scope;
use bulla::secret::{PlainSecret, SecretValue};
use bulla_tests::{Component, ControlPlane, Established, Program, Signal, eventually};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::{ITEMS, Table, cpu, median, memory};
use crate::run::{command, output, root};

const SOON: Duration = Duration::from_secs(120);
/// For a cold start.
const LONG: Duration = Duration::from_secs(300);

/// Old keys beside the one that opens.
const OLD_KEYS: usize = 60;
/// Items opened in one pass.
const OPENED: usize = 1000;
/// The established controller, v0.38, on two cores with its throttle off: objects, seconds, MiB.
const REFERENCE: (usize, f64, f64) = (1000, 38.0, 62.0);

/// The namespace of the objects, and an account for the established controller: what it may do is not what is measured.
const OTHERS_RIGHTS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: bench}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: other, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: other}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: other, namespace: kube-system}]
";

/// A key as a key Secret holds it.
struct Pair {
    private_key: String,
    certificate: Certificate,
    key: PrivateKey,
}

impl Pair {
    fn new() -> Result<Self> {
        let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())?;
        let made = generate(now, now + 3_600 * 24, "")?;
        let certificate = Certificate::from_pem(made.certificate.as_bytes())?;
        let key = PrivateKey::with_certificate(made.private_key.as_bytes(), &certificate)?;
        Ok(Self { private_key: made.private_key.to_string(), certificate, key })
    }
}

fn sealed(number: usize, namespace: &str, certificate: &Certificate) -> Result<BitnamiSealedSecret> {
    let value = |item: usize| SecretValue::new(format!("value {number} {item} of some thirty bytes").into_bytes());
    let plain = PlainSecret {
        name: Some(format!("bench-{number}")),
        namespace: Some(namespace.to_owned()),
        data: (0..ITEMS).map(|item| (format!("item-{item}"), value(item))).collect(),
        ..PlainSecret::default()
    };
    Ok(seal(&plain, Scope::Strict, certificate)?)
}

/// What opening costs, in this process and on one core.
pub fn openings(table: &mut Table) -> Result<()> {
    let (pair, old) = (Pair::new()?, Pair::new()?);
    let objects =
        (0..OPENED / ITEMS).map(|number| sealed(number, "bench", &pair.certificate)).collect::<Result<Vec<_>>>()?;
    let items: usize = objects.iter().map(operations).sum();
    let alone = vec![&pair.key];
    // As many attempts as with so many keys: which they are makes no difference to what they cost.
    let many: Vec<&PrivateKey> = std::iter::repeat_n(&old.key, OLD_KEYS).chain([&pair.key]).collect();
    let known = Some(pair.key.fingerprint());
    let pass = |keys: &[&PrivateKey]| -> Result<f64> {
        let started = Instant::now();
        for object in &objects {
            ensure!(open(object, keys, known)?.key() == known);
        }
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    };
    let (mut one, mut sixty) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        one.push(pass(&alone)?);
        sixty.push(pass(&many)?);
    }
    let (one, sixty) = (median(one), median(sixty));
    // Of this program, which is not built for speed: only the ratio says something. `bitnami_files` measures the release build.
    println!("  {:.2} ms an item here", one / items as f64);
    let note = format!("{items} items after the first pass; limit 1.2");
    table.row(&format!("bitnami.com: with {OLD_KEYS} old keys against one"), sixty / one, "times", &note);
    let first = objects.first().context("an object")?;
    let started = Instant::now();
    verify_within(first, &many, None, &mut Operations::unlimited())?;
    let note = format!("{ITEMS} items; once for each object");
    table.row(
        &format!("bitnami.com: the first pass over {OLD_KEYS} keys"),
        started.elapsed().as_secs_f64() * 1000.0,
        "ms",
        &note,
    );
    Ok(())
}

/// An API server with SealedSecrets of this format and the key that opens them.
struct World {
    plane: ControlPlane,
    secrets: Api<Secret>,
    objects: Api<BitnamiSealedSecret>,
    sealed: Vec<BitnamiSealedSecret>,
}

impl World {
    async fn new(count: usize, programs: &Path) -> Result<Self> {
        let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
        let client = plane.client()?;
        let definition = fs::read_to_string(root().join("tests/fixtures/bitnami-crd.yaml"))?;
        let mut install = command(programs.join("bulla"));
        let install = output(install.args(["install", "--bitnami", "--image", "bench"]))?;
        plane.install_crds(&format!("{install}\n---\n{definition}")).await?;
        plane.apply(OTHERS_RIGHTS).await?;
        let pair = Pair::new()?;
        let key = json!({
            "metadata": { "name": "sealed-secrets-keybench", "labels": { BITNAMI_KEY_LABEL: "active" } },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.key": pair.private_key, "tls.crt": pair.certificate.pem() },
        });
        let keys: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
        keys.create(&PostParams::default(), &serde_json::from_value(key)?).await?;
        // It looks for the owners of what is taken away between starts.
        plane.stop(Component::ControllerManager)?;
        let sealed = (0..count).map(|number| sealed(number, "bench", &pair.certificate)).collect::<Result<_>>()?;
        let (secrets, objects) = (Api::namespaced(client.clone(), "bench"), Api::namespaced(client, "bench"));
        let world = Self { plane, secrets, objects, sealed };
        world.fill().await?;
        Ok(world)
    }

    async fn fill(&self) -> Result<()> {
        stream::iter(&self.sealed)
            .map(|object| async move {
                self.objects.create(&PostParams::default(), object).await?;
                anyhow::Ok(())
            })
            .buffer_unordered(16)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// The same objects anew, of which nobody has made anything.
    async fn renew(&self) -> Result<()> {
        self.objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        self.secrets.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        eventually("the objects to be gone", SOON, async || {
            let some = ListParams::default().limit(1);
            let left = self.objects.list_metadata(&some).await?.items.len();
            ensure!(left + self.secrets.list_metadata(&some).await?.items.len() == 0, "there are some");
            Ok(())
        })
        .await?;
        self.fill().await
    }

    /// From now on: when the last Secret is there.
    async fn last_secret(&self) -> Result<impl Future<Output = Result<Instant>> + use<>> {
        let list = self.secrets.list_metadata(&ListParams::default()).await?;
        ensure!(list.items.is_empty(), "there are Secrets already");
        let (version, all) = (list.metadata.resource_version.unwrap_or_default(), self.sealed.len());
        let secrets = self.secrets.clone();
        let watching = tokio::spawn(async move {
            let (mut made, mut version) = (0, version);
            loop {
                let params = WatchParams::default().timeout(290);
                let mut events = secrets.watch_metadata(&params, &version).await?.boxed();
                while let Some(event) = events.next().await {
                    match event? {
                        WatchEvent::Added(secret) => {
                            version = secret.resource_version().unwrap_or(version);
                            made += 1;
                        }
                        WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                        WatchEvent::Modified(_) => {}
                        other => anyhow::bail!("of a Secret: {other:?}"),
                    }
                    if made == all {
                        return anyhow::Ok(Instant::now());
                    }
                }
            }
        });
        Ok(async move { tokio::time::timeout(LONG, watching).await.context("too slow")?? })
    }

    /// A cold start of the established controller: seconds and MiB.
    async fn theirs(&self, program: &Path) -> Result<(f64, f64)> {
        let last = self.last_secret().await?;
        // A negative rate is none.
        let args = ["--kubeclient-qps=-1", "--key-renew-period=0"];
        let other = Established::start_program(program, &self.plane, "kube-system", "other", &args).await?;
        let cold = tokio::select! {
            made = last => made?.duration_since(other.started()).as_secs_f64(),
            ended = other.wait(LONG) => anyhow::bail!("the established controller: {ended:?}: {}", other.log()),
        };
        let figures = (cold, memory(other.pid(), "VmHWM:")?);
        other.stop().await?;
        Ok(figures)
    }
}

/// A cold start of so many objects, and a restart.
pub async fn cluster(count: usize, programs: &Path, table: &mut Table) -> Result<()> {
    let world = World::new(count, programs).await?;
    let plane = &world.plane;
    let dir = tempfile::tempdir()?;
    let kubeconfig = plane.service_account_kubeconfig("kube-system", "bulla", dir.path()).await?;
    let start = || {
        Program::launch(programs.join("bulla-controller"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--namespace", "kube-system", "--bitnami", "--bitnami-namespace", "kube-system"])
            .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
            .spawn()
    };
    let peer = std::env::var_os("BULLA_TEST_PEER").map(PathBuf::from).filter(|_| count <= REFERENCE.0);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..if count <= REFERENCE.0 { 3 } else { 1 } {
        if round > 0 {
            world.renew().await?;
        }
        if let Some(peer) = &peer {
            theirs.push(world.theirs(peer).await?);
            world.renew().await?;
        }
        let last = world.last_secret().await?;
        let begun = Instant::now();
        let controller = start()?;
        let made = tokio::select! {
            made = last => made?.duration_since(begun).as_secs_f64(),
            ended = controller.wait(LONG) => anyhow::bail!("the controller: {ended:?}: {}", controller.log()),
        };
        wait_for(&controller, "bulla_status_writes_total", &format!("{count}")).await?;
        let synced = begun.elapsed().as_secs_f64();
        ours.push((made, synced, memory(controller.pid(), "VmHWM:")?, cpu(controller.pid())?));
        end(controller).await?;
    }
    let cold = median(ours.iter().map(|(made, ..)| *made).collect());
    let peak = median(ours.iter().map(|(_, _, peak, _)| *peak).collect());
    let name = |what: &str| format!("bitnami.com: {count} objects: {what}");
    table.row(&name("cold start"), cold, "s", "SealedSecrets of 5 items, RSA-4096, until the last Secret is there");
    table.row(&name("until all are Synced"), median(ours.iter().map(|(_, synced, ..)| *synced).collect()), "s", "");
    table.row(&name("CPU of the controller"), median(ours.iter().map(|(.., cpu)| *cpu).collect()), "s", "");
    table.row(&name("peak memory"), peak, "MiB", "VmHWM, program included");
    if count == REFERENCE.0 || !theirs.is_empty() {
        let (note, seconds, memory) = if theirs.is_empty() {
            let note = "the established controller, v0.38, for reference: not measured in this run";
            (note, REFERENCE.1, REFERENCE.2)
        } else {
            let note = "the established controller, v0.40.0, its throttle off, in this run";
            (
                note,
                median(theirs.iter().map(|(cold, _)| *cold).collect()),
                median(theirs.iter().map(|(_, m)| *m).collect()),
            )
        };
        table.row(&name("cold start there"), seconds, "s", note);
        table.row(&name("peak memory there"), memory, "MiB", note);
        table.row(&name("times faster than there"), seconds / cold, "times", "limit 4");
        table.row(&name("memory against there"), peak / memory, "times", "limit 0.5");
    }
    let before = plane.apiserver_requests().await?;
    let begun = Instant::now();
    let controller = start()?;
    controller.wait_for_line("the caches are in", SOON).await?;
    table.row(&name("restart with nothing to do, until ready"), begun.elapsed().as_secs_f64(), "s", "");
    wait_for(&controller, "bulla_queue_length", "0").await?;
    let after = plane.apiserver_requests().await?;
    let of = |all: &BTreeMap<(String, String), u64>, verb: &str, resource: &str| {
        all.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or(0)
    };
    let mut more = 0;
    for (verb, resource) in [
        ("POST", "secrets"),
        ("PUT", "secrets"),
        ("GET", "secrets"),
        ("PUT", "sealedsecrets.bitnami.com/status"),
        ("POST", "events.events.k8s.io"),
    ] {
        more += of(&after, verb, resource) - of(&before, verb, resource);
    }
    table.row(&name("restart: writes, GETs of Secrets"), more as f64, "", "as the API server counts; limit 0");
    end(controller).await
}

/// Waits until a metric has this value.
async fn wait_for(controller: &Program, metric: &str, value: &str) -> Result<()> {
    let line = controller.wait_for_line("listening what=\"metrics\"", SOON).await?;
    let address = line.split("address=").nth(1).context("no address")?.trim().to_owned();
    let wanted = format!("{metric} {value}\n");
    eventually(&wanted, SOON, async || {
        let text = get(&address).await?;
        ensure!(text.contains(&wanted));
        Ok(())
    })
    .await
}

async fn get(address: &str) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let address = address.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
    .await?
}

async fn end(controller: Program) -> Result<()> {
    controller.signal(Signal::Term)?;
    let status = controller.wait(SOON).await?;
    ensure!(status.success(), "the controller ended with {status}: {}", controller.log());
    Ok(())
}
