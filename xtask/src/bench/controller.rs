//! The controller, on an API server of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bulla::recipient::{NameSource, Targets, parse_recipients};
use bulla::resource::SealedSecret;
use bulla::scope::Scope;
use bulla::seal::seal;
use bulla::secret::PlainSecret;
use bulla_tests::{Component, ControlPlane, Program, Signal, eventually, http_address};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{ITEMS, Table, cpu, median, memory, quantile, secret};
use crate::run::{command, output};

const SOON: Duration = Duration::from_secs(60);

/// A controller as a process of its own, with its shipped rights.
struct Controller {
    process: Program,
    started: Instant,
}

impl Controller {
    fn start(programs: &Path, kubeconfig: &Path) -> Result<Self> {
        let started = Instant::now();
        let process = Program::launch(programs.join("bulla-controller"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
            .spawn()?;
        Ok(Self { process, started })
    }

    async fn listening(&self) -> Result<String> {
        eventually("the controller's address", SOON, async || {
            self.process.log().lines().find_map(http_address).map(str::to_owned).context("not in its log")
        })
        .await
    }

    async fn stop(self) -> Result<()> {
        self.process.signal(Signal::Term)?;
        let status = self.process.wait(SOON).await?;
        ensure!(status.success(), "the controller ended with {status}");
        Ok(())
    }
}

impl Controller {
    /// Where it serves its metrics.
    async fn metrics(&self) -> Result<String> {
        let line = self.process.wait_for_line("listening what=\"metrics\"", SOON).await?;
        Ok(line.split("address=").nth(1).context("no address")?.trim().to_owned())
    }

    /// Until it says of so many objects that they are as they should be. Asked of itself, which costs the API server nothing.
    async fn all_applied(&self, count: usize) -> Result<()> {
        let address = self.metrics().await?;
        eventually("all SealedSecrets to be applied", Duration::from_secs(900), async || {
            let text = get(&address, "/metrics").await?;
            let line = text.lines().find(|line| line.starts_with("bulla_sealed_secrets{reason=\"Applied\"}"));
            let applied = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
            ensure!(applied >= count, "{applied} of {count}");
            Ok(())
        })
        .await
    }
}

fn is_ready(sealed: &SealedSecret) -> bool {
    let status = sealed.status.clone().unwrap_or_default();
    status.observed_generation == sealed.metadata.generation
        && status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

type Requests = BTreeMap<(String, String), u64>;

/// What changed of Secrets, SealedSecrets and events, for a person.
fn difference(before: &Requests, after: &Requests) -> String {
    let mut parts = Vec::new();
    for ((verb, resource), count) in after {
        let more = count - before.get(&(verb.clone(), resource.clone())).copied().unwrap_or(0);
        let ours = ["secrets", "sealedsecrets.bulla.dev", "sealedsecrets.bulla.dev/status", "events"];
        if more > 0 && ours.contains(&resource.as_str()) && verb != "WATCH" {
            parts.push(format!("{more} {verb} {resource}"));
        }
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// Another controller for the same purpose, v0.38: seconds and MiB of its cold start of so many objects, on a machine of the same
/// size in another run.
const REFERENCE: [(usize, f64, f64); 2] = [(1000, 38.0, 62.0), (10_000, 376.0, 209.0)];

/// What grows with the number of objects.
pub struct Figures {
    count: usize,
    /// Seconds of the cold start, and of the bare client.
    cold: f64,
    bare: f64,
    /// Seconds of the controller's threads in the cold start.
    cpu: f64,
    /// MiB: its peaks in the cold start and in a restart.
    peaks: [f64; 2],
    /// Seconds of a restart.
    restart: f64,
    /// MiB: the API server's memory and etcd's file, before there was an object and with all of them.
    server: [f64; 2],
    etcd: [f64; 2],
}

/// How what an object costs changes with their number.
pub fn growth(all: &[Figures], table: &mut Table) {
    let Some(first) = all.first() else { return };
    println!(
        "\n| objects | cold start | each | against bare | CPU each | peak, restart | restart | API server each | etcd each |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for figures in all {
        let each = |whole: f64| whole / figures.count as f64;
        println!(
            "| {} | {:.1} s | {:.2} ms | {:.2} | {:.2} ms | {:.1} MiB, {:.1} MiB | {:.2} s | {:.1} KiB | {:.1} KiB |",
            figures.count,
            figures.cold,
            each(figures.cold * 1000.0),
            figures.cold / figures.bare,
            each(figures.cpu * 1000.0),
            figures.peaks[0],
            figures.peaks[1],
            figures.restart,
            each((figures.server[1] - figures.server[0]) * 1024.0),
            each((figures.etcd[1] - figures.etcd[0]) * 1024.0),
        );
    }
    for figures in &all[1..] {
        let grown = |of: fn(&Figures) -> f64| of(figures) / of(first);
        let what = |what: &str| format!("{} objects against {}: {what}", figures.count, first.count);
        let limit = if figures.count == 30_000 { "limit 1.15" } else { "" };
        table.row(&what("time each"), grown(|f| f.cold / f.count as f64), "times", limit);
        table.row(&what("against the bare client"), grown(|f| f.cold / f.bare), "times", "");
        table.row(&what("CPU each"), grown(|f| f.cpu / f.count as f64), "times", limit);
    }
}

/// MiB of etcd's file.
fn stored(plane: &ControlPlane) -> Result<f64> {
    Ok(fs::metadata(plane.dir().join("etcd/member/snap/db"))?.len() as f64 / f64::from(1 << 20))
}

/// Measures with so many objects, and one more restart with so many namespaces more.
pub async fn cluster(
    count: usize,
    namespaces: usize,
    starts_only: bool,
    programs: &Path,
    table: &mut Table,
) -> Result<Figures> {
    let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
    let client = plane.client()?;
    plane.install_crds(&output(command(programs.join("bulla")).arg("install"))?).await?;
    for namespace in ["bench", "live", "bare"] {
        plane.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}")).await?;
    }
    let dir = tempfile::tempdir()?;
    let kubeconfig: PathBuf = plane.service_account_kubeconfig("bulla-system", "bulla", dir.path()).await?;

    // The first start makes the key.
    let first = Controller::start(programs, &kubeconfig)?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "bulla-system");
    let listed = eventually("the cluster's recipients", SOON, async || {
        let data = maps.get("bulla-recipients").await?.data.unwrap_or_default();
        Ok(parse_recipients(data.get("recipients").context("none yet")?)?)
    })
    .await?;
    first.stop().await?;
    let targets = Targets::new([(listed[0].recipient.clone(), NameSource::Policy("prod".into()))], false)?;
    let sealed: Api<SealedSecret> = Api::namespaced(client.clone(), "bench");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "bench");

    // The same writes by a client that does nothing else; of more than these it would only take longer.
    let sample = count.min(10_000);
    let bare = bare_client(&client, sample, &targets).await? * count as f64 / sample as f64;

    // It goes on looking for owners of what the bare client made; nothing here needs it.
    plane.pause(Component::ControllerManager)?;
    let (mut server, mut etcd) =
        ([memory(plane.pid(Component::ApiServer)?.context("it does not run")?, "VmRSS:")?; 2], [stored(&plane)?; 2]);
    stream::iter(0..count)
        .map(|number| {
            let (sealed, targets) = (sealed.clone(), &targets);
            async move {
                let object = seal(&secret(number), Scope::Strict, targets)?;
                sealed.create(&PostParams::default(), &object).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;

    let before = plane.apiserver_requests().await?;
    let controller = Controller::start(programs, &kubeconfig)?;
    controller.all_applied(count).await?;
    let cold = controller.started.elapsed().as_secs_f64();
    let (cpu, mut peaks) = (cpu(controller.process.pid())?, [memory(controller.process.pid(), "VmHWM:")?; 2]);
    (server[1], etcd[1]) =
        (memory(plane.pid(Component::ApiServer)?.context("it does not run")?, "VmRSS:")?, stored(&plane)?);
    let requests = difference(&before, &plane.apiserver_requests().await?);
    table.row(&format!("{count} objects: cold start"), cold, "s", "SealedSecrets of 5 items, until all are applied");
    println!("  requests: {requests}");
    table.row(
        &format!("{count} objects: a bare client"),
        bare,
        "s",
        "the same POST and PUT for each, 16 at once; of 10,000 at most",
    );
    table.row(&format!("{count} objects: cold start against the bare client"), cold / bare, "times", "limit 1.6");
    table.row(&format!("{count} objects: cold start, each"), cold * 1000.0 / count as f64, "ms", "");
    table.row(&format!("{count} objects: CPU of the controller, each"), cpu * 1000.0 / count as f64, "ms", "");
    let limits = "VmHWM, program included; limit 20 for 1,000, 40 for 10,000";
    table.row(&format!("{count} objects: peak memory"), peaks[0], "MiB", limits);
    if let Some((_, seconds, memory)) = REFERENCE.iter().find(|(objects, ..)| *objects == count) {
        let other = "the other controller, v0.38, for reference: not measured in this run";
        table.row(&format!("{count} objects: cold start there"), *seconds, "s", other);
        table.row(&format!("{count} objects: peak memory there"), *memory, "MiB", other);
        table.row(&format!("{count} objects: times faster than there"), seconds / cold, "times", "limit 8");
    }
    let found = sealed.list(&ListParams::default()).await?.iter().filter(|object| is_ready(object)).count();
    ensure!(found == count, "{found} of {count} are ready");
    if !starts_only {
        drift(&sealed, &secrets, &targets, count, table).await?;
    }
    controller.stop().await?;

    // A restart: nothing is to be done.
    let known = versions(&secrets).await?;
    let before = plane.apiserver_requests().await?;
    let controller = Controller::start(programs, &kubeconfig)?;
    let address = controller.listening().await?;
    eventually("readyz", SOON, async || ready(&address).await).await?;
    let restart = controller.started.elapsed().as_secs_f64();
    controller.all_applied(count).await?;
    // Until here this bench asked only the controller.
    let after = plane.apiserver_requests().await?;
    let requests = difference(&before, &after);
    peaks[1] = memory(controller.process.pid(), "VmHWM:")?;
    for (verb, resource) in after.keys() {
        let count = |of: &Requests| of.get(&(verb.clone(), resource.clone())).copied().unwrap_or(0);
        let of_objects = resource.starts_with("secrets") || resource.starts_with("sealedsecrets");
        let single = of_objects && verb != "LIST" && verb != "WATCH";
        ensure!(!single || count(&after) == count(&before), "the restart costs a {verb} of {resource}");
    }
    // What it would do after all shows in the time in which another object goes through.
    apply_one(&sealed, &secrets, &targets, "bench-after-restart", count + 1).await?;
    table.row(&format!("{count} objects: restart with nothing to do, until ready"), restart, "s", "limit 2 for 10,000");
    table.row(&format!("{count} objects: restart: peak memory"), peaks[1], "MiB", "");
    table.row(
        &format!("{count} objects: restart: writes, GETs of Secrets"),
        0.0,
        "",
        "as the API server counts; limit 0",
    );
    println!("  requests of the restart: {requests}");
    let mut after = versions(&secrets).await?;
    after.remove("bench-after-restart");
    ensure!(after == known, "the restart wrote a Secret");

    if starts_only {
        controller.stop().await?;
    } else {
        hand_over(controller, programs, &kubeconfig, &client, &targets, count, table).await?;
        busy(programs, &kubeconfig, &client, &targets, count, table).await?;
    }
    if namespaces > 0 {
        many_namespaces(namespaces, programs, &kubeconfig, &client, table).await?;
    }
    Ok(Figures { count, cold, bare, cpu, peaks, restart, server, etcd })
}

/// A restart with many more namespaces than objects are in.
async fn many_namespaces(
    namespaces: usize,
    programs: &Path,
    kubeconfig: &Path,
    client: &Client,
    table: &mut Table,
) -> Result<()> {
    let starts = async || {
        let controller = Controller::start(programs, kubeconfig)?;
        let address = controller.listening().await?;
        eventually("readyz", SOON, async || ready(&address).await).await?;
        let took = controller.started.elapsed().as_secs_f64();
        controller.stop().await?;
        anyhow::Ok(took)
    };
    let few = starts().await?;
    let all: Api<Namespace> = Api::all(client.clone());
    stream::iter(0..namespaces)
        .map(|number| {
            let all = all.clone();
            async move {
                let namespace = serde_json::from_value(json!({"metadata": {"name": format!("many-{number}")}}))?;
                all.create(&PostParams::default(), &namespace).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    table.row("restart with a handful of namespaces, until ready", few, "s", "");
    table.row(&format!("restart with {namespaces} namespaces more, until ready"), starts().await?, "s", "");
    Ok(())
}

/// From SIGTERM to the one that leads until a Secret is made for an object that was applied in that moment.
async fn hand_over(
    mut leader: Controller,
    programs: &Path,
    kubeconfig: &Path,
    client: &Client,
    targets: &Targets,
    count: usize,
    table: &mut Table,
) -> Result<()> {
    let sealed: Api<SealedSecret> = Api::namespaced(client.clone(), "live");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "live");
    let mut times = Vec::new();
    for round in 0..5 {
        let next = Controller::start(programs, kubeconfig)?;
        let address = next.listening().await?;
        eventually("readyz", SOON, async || ready(&address).await).await?;
        let name = format!("handed-{round}");
        leader.process.signal(Signal::Term)?;
        times.push(apply_in("live", &sealed, &secrets, targets, &name, count + 10 + round).await?);
        let status = leader.process.wait(SOON).await?;
        ensure!(status.success(), "the controller ended with {status}");
        leader = next;
    }
    table.row(
        &format!("{count} objects: hand-over on SIGTERM, median"),
        median(times.clone()),
        "ms",
        "apply to Secret",
    );
    table.row(
        &format!("{count} objects: hand-over on SIGTERM, longest of 5"),
        quantile(&mut times, 1.0),
        "ms",
        "limit 1000",
    );
    leader.stop().await
}

/// From apply to Secret while a cold start goes on: everything is taken away, and made again.
async fn busy(
    programs: &Path,
    kubeconfig: &Path,
    client: &Client,
    targets: &Targets,
    count: usize,
    table: &mut Table,
) -> Result<()> {
    let all: Api<Secret> = Api::namespaced(client.clone(), "bench");
    all.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let sealed: Api<SealedSecret> = Api::namespaced(client.clone(), "live");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "live");
    let objects: Vec<SealedSecret> = (0..200)
        .map(|number| {
            let name = Some(format!("busy-{number}"));
            let plain = PlainSecret { name, namespace: Some("live".into()), ..secret(count + 100 + number) };
            anyhow::Ok(seal(&plain, Scope::Strict, targets)?)
        })
        .collect::<Result<_>>()?;
    let seen: std::sync::Arc<std::sync::Mutex<BTreeMap<String, Instant>>> = Default::default();
    let version = secrets.list_metadata(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = secrets.watch_metadata(&WatchParams::default().timeout(290), &version).await?.boxed();
    let times = seen.clone();
    let watching = tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(secret) = event {
                let mut times = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                times.insert(secret.name_any(), Instant::now());
            }
        }
    });
    let controller = Controller::start(programs, kubeconfig)?;
    let metrics = controller.metrics().await?;
    eventually("the first Secrets", SOON, async || {
        let text = get(&metrics, "/metrics").await?;
        let line = text.lines().find(|line| line.starts_with("bulla_secret_writes_total"));
        let written: f64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0);
        ensure!(written > 0.0, "none yet");
        Ok(())
    })
    .await?;
    let mut begun = Vec::new();
    let pause = Duration::from_millis(if count >= 10_000 { 60 } else { 10 });
    let queued = "bulla_sealed_secrets{reason=\"Applied\"}";
    for object in &objects {
        let start = Instant::now();
        sealed.create(&PostParams::default(), object).await?;
        begun.push((object.name_any(), start));
        tokio::time::sleep(pause).await;
    }
    let text = get(&metrics, "/metrics").await?;
    let applied = text.lines().find(|line| line.starts_with(queued)).unwrap_or_default().to_owned();
    eventually("their Secrets", SOON, async || {
        let seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        ensure!(seen >= begun.len(), "{seen} of {}", begun.len());
        Ok(())
    })
    .await?;
    watching.abort();
    let seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let mut times: Vec<f64> = begun
        .iter()
        .filter_map(|(name, start)| Some(seen.get(name)?.saturating_duration_since(*start).as_secs_f64() * 1000.0))
        .collect();
    println!("  at the end of these: {applied}");
    let what = format!("{count} objects: apply to Secret during a cold start");
    table.row(&format!("{what}, p50"), quantile(&mut times, 0.5), "ms", "limit 100");
    table.row(&format!("{what}, p99"), quantile(&mut times, 0.99), "ms", "limit 1000");
    controller.stop().await
}

async fn versions(secrets: &Api<Secret>) -> Result<BTreeMap<String, Option<String>>> {
    let list = secrets.list_metadata(&ListParams::default()).await?;
    Ok(list.iter().map(|secret| (secret.name_any(), secret.resource_version())).collect())
}

/// The limit: the two writes that every object needs, by a client that does nothing else, of the same sizes and asking for the
/// same answers.
async fn bare_client(client: &Client, count: usize, targets: &Targets) -> Result<f64> {
    let sealed: Api<SealedSecret> = Api::namespaced(client.clone(), "bare");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "bare");
    let objects = stream::iter(0..count)
        .map(|number| {
            let sealed = sealed.clone();
            async move {
                let plain = PlainSecret { namespace: Some("bare".into()), ..secret(number) };
                let object = seal(&plain, Scope::Strict, targets)?;
                let made = sealed.create(&PostParams::default(), &object).await?;
                let name = made.name_any();
                let data: BTreeMap<String, String> =
                    (0..ITEMS).map(|item| (format!("item-{item}"), BASE64_STANDARD.encode([b'x'; 32]))).collect();
                let owner = json!({
                    "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": name,
                    "uid": made.metadata.uid, "controller": true,
                });
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
                    "metadata": {"name": name, "ownerReferences": [owner], "annotations": {
                        "bulla.dev/sealed-secret": name, "bulla.dev/content": "c".repeat(53),
                    }},
                });
                let status = json!({
                    "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "spec": {},
                    "metadata": {
                        "name": name, "uid": made.metadata.uid, "resourceVersion": made.metadata.resource_version,
                    },
                    "status": {
                        "observedGeneration": 1,
                        "conditions": [{
                            "type": "Ready", "status": "True", "reason": "Bench", "observedGeneration": 1,
                            "message": "the Secret is what the SealedSecret says",
                            "lastTransitionTime": "2026-01-01T00:00:00Z",
                        }],
                        "applied": {
                            "secretUID": made.metadata.uid, "secretVersion": "12345678", "inputs": "i".repeat(53),
                        },
                    },
                });
                anyhow::Ok((name, secret.to_string().into_bytes(), status.to_string().into_bytes()))
            }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let start = Instant::now();
    stream::iter(objects)
        .map(|(name, secret, status)| async move {
            let path = "/api/v1/namespaces/bare/secrets";
            metadata_only(client, kube::core::Request::new(path).create(&PostParams::default(), secret)?).await?;
            let path = "/apis/bulla.dev/v1alpha1/namespaces/bare/sealedsecrets";
            let request = kube::core::Request::new(path);
            let put = request.replace_subresource("status", &name, &PostParams::default(), status)?;
            metadata_only(client, put).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let took = start.elapsed().as_secs_f64();
    sealed.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    secrets.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    eventually("the objects to be gone", Duration::from_secs(300), async || {
        let left = secrets.list_metadata(&ListParams::default().limit(1)).await?.items.len();
        ensure!(left == 0, "there are some");
        Ok(())
    })
    .await?;
    Ok(took)
}

async fn metadata_only(client: &Client, mut request: http::Request<Vec<u8>>) -> Result<()> {
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    request.headers_mut().insert("accept", http::HeaderValue::from_static(accept));
    client.request::<Value>(request).await?;
    Ok(())
}

async fn apply_one(
    sealed: &Api<SealedSecret>,
    secrets: &Api<Secret>,
    targets: &Targets,
    name: &str,
    number: usize,
) -> Result<f64> {
    apply_in("bench", sealed, secrets, targets, name, number).await
}

async fn apply_in(
    namespace: &str,
    sealed: &Api<SealedSecret>,
    secrets: &Api<Secret>,
    targets: &Targets,
    name: &str,
    number: usize,
) -> Result<f64> {
    let plain = PlainSecret { name: Some(name.into()), namespace: Some(namespace.into()), ..secret(number) };
    let object = seal(&plain, Scope::Strict, targets)?;
    let start = Instant::now();
    sealed.create(&PostParams::default(), &object).await?;
    eventually("the Secret", SOON, async || secrets.get_metadata(name).await.map_err(Into::into)).await?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

async fn drift(
    sealed: &Api<SealedSecret>,
    secrets: &Api<Secret>,
    targets: &Targets,
    count: usize,
    table: &mut Table,
) -> Result<()> {
    let (mut applied, mut repaired) = (Vec::new(), Vec::new());
    for number in 0..50 {
        let name = format!("latency-{number}");
        applied.push(apply_one(sealed, secrets, targets, &name, count + number).await?);
    }
    for number in 0..50 {
        let name = format!("latency-{number}");
        let start = Instant::now();
        let spoilt = json!({"data": {"item-0": "c3BvaWx0"}});
        secrets.patch(&name, &PatchParams::default(), &Patch::Merge(spoilt)).await?;
        eventually("the repair", SOON, async || {
            let data = secrets.get(&name).await?.data.unwrap_or_default();
            ensure!(data.get("item-0").is_some_and(|value| value.0 != b"spoilt"), "still spoilt");
            Ok(())
        })
        .await?;
        repaired.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    for (what, mut times) in [("apply to Secret", applied), ("drift repair", repaired)] {
        let what = format!("{count} objects: {what}");
        table.row(&format!("{what}, p50"), quantile(&mut times, 0.5), "ms", "polled: to within 10 ms and more");
        table.row(&format!("{what}, p99"), quantile(&mut times, 0.99), "ms", "limit 1000");
    }
    Ok(())
}

/// Asks `/readyz`.
async fn ready(address: &str) -> Result<()> {
    get(address, "/readyz").await.map(drop)
}

/// Asks for a path, without an HTTP client of its own.
async fn get(address: &str, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{}", answer.lines().next().unwrap_or_default());
    Ok(answer)
}
