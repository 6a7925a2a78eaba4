//! `cargo xtask bench`: figures of one machine, side by side in one run. Medians of several runs; never part of the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bulla::open::open;
use bulla::recipient::{NameSource, Targets, parse_identities, parse_recipients};
use bulla::resource::SealedSecret;
use bulla::scope::Scope;
use bulla::seal::seal;
use bulla::secret::{PlainSecret, SecretValue};
use bulla_tests::{ControlPlane, Program, Signal, eventually, http_address};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::run::{build_programs, command, fixtures, output, root, target};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Objects in the cluster part, which is run once for each of these; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    objects: Vec<usize>,
    /// Leave out the command line
    #[arg(long)]
    controller_only: bool,
    /// Measure the programs in this folder instead of building them
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Runs of the short measurements; long ones are run a tenth as often
    #[arg(long, default_value_t = 50)]
    runs: usize,
}

const ITEMS: usize = 5;
const MANIFESTS: usize = 1000;
const SOON: Duration = Duration::from_secs(60);

/// The table, and what is written as JSON.
#[derive(Default)]
struct Table(Vec<Value>);

impl Table {
    fn row(&mut self, what: &str, value: f64, unit: &str, note: &str) {
        println!("{what:<58} {value:>10.2} {unit:<6} {note}");
        self.0.push(json!({"what": what, "value": value, "unit": unit, "note": note}));
    }

    fn peak(&mut self, what: &str, run: &Command, note: &str) {
        match peak(run) {
            Some(memory) => self.row(what, memory, "MiB", note),
            None => println!("({what}: needs GNU time on PATH)"),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Wall time in milliseconds of one run.
fn measure(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let wall = start.elapsed().as_secs_f64() * 1000.0;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?} failed: {text}", command.get_program());
    Ok(wall)
}

/// Peak memory in MiB of one run, by GNU time: what the kernel tells this process of a child includes this process's own
/// memory at the time of the fork.
fn peak(run: &Command) -> Option<f64> {
    let mut timed = Command::new("time");
    timed.args(["-f", "%M"]).arg(run.get_program()).args(run.get_args()).stdin(Stdio::null()).stdout(Stdio::null());
    let output = timed.output().ok().filter(|output| output.status.success())?;
    let kib: f64 = String::from_utf8_lossy(&output.stderr).lines().last()?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

fn median_of(runs: usize, mut once: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(median((0..runs.max(3)).map(|_| once()).collect::<Result<Vec<_>>>()?))
}

/// Measures, and prints and writes the table.
pub fn run(args: &Args) -> Result<()> {
    let programs = match &args.programs {
        Some(given) => given.clone(),
        None => build_programs(true)?,
    };
    let mut table = Table::default();
    println!("{:<58} {:>10} {:<6} note", "what", "median", "unit");
    if !args.controller_only {
        offline(args, &programs, &mut table)?;
    }
    for count in args.objects.iter().copied().filter(|count| *count > 0) {
        println!("load of this machine, the bench itself included: {}", load());
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(cluster(count, &programs, &mut table))?;
    }
    let file = target().join("bench.json");
    let report = json!({"schemaVersion": 1, "load": load(), "rows": table.0});
    fs::write(&file, serde_json::to_string_pretty(&report)?)?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

/// The load averages of the last 1, 5 and 15 minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn manifest(number: usize) -> String {
    let items: String = (0..ITEMS).map(|item| format!("  item-{item}: {:032x}\n", number * ITEMS + item)).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: bench-{number}\n  namespace: bench\nstringData:\n{}",
        items.replace(": ", ": \"").replace('\n', "\"\n")
    )
}

fn offline(args: &Args, programs: &Path, table: &mut Table) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bulla-bench-").tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let bulla = |words: &[&str]| -> Command {
        let mut command = Command::new(programs.join("bulla"));
        command.args(words).env_clear().current_dir(dir.path());
        command
    };
    for key in ["old.txt", "new.txt"] {
        measure(&mut bulla(&["keygen", "-w", &path(key)]))?;
    }
    fs::write(path("one.yaml"), manifest(0))?;
    fs::write(path("many.yaml"), (0..MANIFESTS).map(|n| format!("---\n{}", manifest(n))).collect::<String>())?;

    table.row("start: bulla --version", median_of(args.runs, || measure(&mut bulla(&["--version"])))?, "ms", "");
    table.peak("start: peak memory", &bulla(&["--version"]), "");

    let (recipient, identity) = (path("old.txt.pub"), path("old.txt"));
    let seal = |input: &str, output: &str| {
        drop(fs::remove_file(path(output)));
        bulla(&["seal", &path(input), "-R", &recipient, "-w", &path(output)])
    };
    let wall = median_of(args.runs, || measure(&mut seal("one.yaml", "one.sealed.yaml")))?;
    table.row("seal one manifest of 5 items, hybrid key", wall, "ms", "limit 4");
    table.peak("seal one: peak memory", &seal("one.yaml", "one.sealed.yaml"), "limit 10");
    let size = fs::metadata(path("one.sealed.yaml"))?.len();
    table.row("sealed manifest of five 32-byte items", size as f64, "bytes", "limit 3900");
    let wall = median_of(args.runs / 5, || measure(&mut seal("many.yaml", "many.sealed.yaml")))?;
    table.row("seal 1,000 manifests of 5 items from one file", wall, "ms", "limit 300");
    table.peak("seal 1,000: peak memory", &seal("many.yaml", "many.sealed.yaml"), "");
    let unseal = || bulla(&["unseal", &path("one.sealed.yaml"), "-i", &identity]);
    table.row("unseal one manifest", median_of(args.runs, || measure(&mut unseal()))?, "ms", "");
    table.peak("unseal one: peak memory", &unseal(), "");

    // Manifests as people have them: each run seals a fresh copy.
    let wall = median_of(args.runs / 5, || {
        let copy = tempfile::tempdir_in(dir.path())?;
        for name in fixtures()? {
            fs::copy(root().join("tests/fixtures/manifests").join(&name), copy.path().join(&name))?;
        }
        measure(&mut bulla(&["seal", "--in-place", &copy.path().display().to_string(), "-R", &recipient]))
    })?;
    table.row(&format!("seal {} files of all shapes in place", fixtures()?.len()), wall, "ms", "");

    // A tree of files, one SealedSecret each.
    let tree = dir.path().join("tree");
    fs::create_dir(&tree)?;
    let old = parse_recipients(&fs::read_to_string(path("old.txt.pub"))?)?.remove(0).recipient;
    let targets = Targets::new([(old, NameSource::Policy("prod".into()))], false)?;
    for number in 0..MANIFESTS {
        let sealed = bulla::seal::seal(&secret(number), Scope::Strict, &targets)?;
        fs::write(tree.join(format!("{number}.sealed.yaml")), bulla::manifest::emit::sealed_yaml(&sealed.into()))?;
    }
    let mut keys = [path("old.txt"), path("new.txt")];
    let tree_path = tree.display().to_string();
    let reseal = |keys: &[String; 2]| bulla(&["reseal", &tree_path, "-i", &keys[0], "-R", &format!("{}.pub", keys[1])]);
    let wall = median_of(args.runs / 10, || {
        let measured = measure(&mut reseal(&keys));
        keys.swap(0, 1);
        measured
    })?;
    table.row("reseal 1,000 files, offline", wall, "ms", "");
    table.peak("reseal 1,000 files: peak memory", &reseal(&keys), "");
    keys.swap(0, 1);
    let identity = parse_identities(&fs::read_to_string(&keys[0])?)?.remove(0);
    let text = fs::read(tree.join("0.sealed.yaml"))?;
    let view = bulla::manifest::Stream::read(&text)?.object(0).context("an object")?.sealed()?;
    ensure!(open(&view.manifest.into(), &[&identity]).is_ok(), "what was resealed opens");
    beside(args, dir.path(), table)
}

/// The same work with programs of other projects, where they are there.
fn beside(args: &Args, dir: &Path, table: &mut Table) -> Result<()> {
    let there =
        |program: &str, flag: &str| command(program).arg(flag).output().is_ok_and(|found| found.status.success());
    if !there("kubeseal", "--version") || !there("openssl", "version") {
        println!("(kubeseal and openssl are not both on PATH: not measured beside)");
        return Ok(());
    }
    let certificate = dir.join("kubeseal.crt").display().to_string();
    let key = dir.join("kubeseal.key").display().to_string();
    output(
        command("openssl")
            .args(["req", "-x509", "-newkey", "rsa:4096", "-nodes", "-days", "1", "-subj", "/CN=bench"])
            .args(["-keyout", &key, "-out", &certificate]),
    )?;
    for (file, what, runs) in [
        ("one.yaml", "kubeseal: seal one manifest of 5 items, RSA-4096", args.runs),
        ("many.yaml", "kubeseal: seal 1,000 manifests of 5 items, RSA-4096", args.runs / 10),
    ] {
        let input = dir.join(file).display().to_string();
        let seal = || {
            let mut seal = command("kubeseal");
            seal.args(["--cert", &certificate, "-o", "yaml", "-f", &input]);
            seal
        };
        table.row(what, median_of(runs, || measure(&mut seal()))?, "ms", "");
        table.peak(&format!("{what}: peak memory"), &seal(), "");
    }
    Ok(())
}

fn secret(number: usize) -> PlainSecret {
    PlainSecret {
        name: Some(format!("bench-{number}")),
        namespace: Some("bench".into()),
        data: (0..ITEMS)
            .map(|item| {
                (format!("item-{item}"), SecretValue::new(format!("{:032x}", number * ITEMS + item).into_bytes()))
            })
            .collect(),
        ..PlainSecret::default()
    }
}

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

    /// Peak memory in MiB so far.
    fn peak(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib / 1024.0)
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

async fn cluster(count: usize, programs: &Path, table: &mut Table) -> Result<()> {
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

    // While no controller runs: the same writes by a client that does nothing else.
    let bare = bare_client(&client, count, &targets).await?;

    let before = plane.apiserver_requests().await?;
    let controller = Controller::start(programs, &kubeconfig)?;
    controller.all_applied(count).await?;
    let cold = controller.started.elapsed().as_secs_f64();
    let requests = difference(&before, &plane.apiserver_requests().await?);
    table.row(&format!("{count} objects: cold start"), cold, "s", "SealedSecrets of 5 items, until all are applied");
    println!("  requests: {requests}");
    table.row(&format!("{count} objects: a bare client"), bare, "s", "the same POST and PUT for each, 16 at once");
    table.row(&format!("{count} objects: cold start against the bare client"), cold / bare, "times", "limit 1.6");
    table.row(&format!("{count} objects: cold start, each"), cold * 1000.0 / count as f64, "ms", "");
    table.row(&format!("{count} objects: peak memory"), controller.peak()?, "MiB", "limit 20 for 1,000, 40 for 10,000");
    let found = sealed.list(&ListParams::default()).await?.iter().filter(|object| is_ready(object)).count();
    ensure!(found == count, "{found} of {count} are ready");
    drift(&sealed, &secrets, &targets, count, table).await?;
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
    let requests = difference(&before, &plane.apiserver_requests().await?);
    // What it would do after all shows in the time in which another object goes through.
    apply_one(&sealed, &secrets, &targets, "bench-after-restart", count + 1).await?;
    table.row(&format!("{count} objects: restart with nothing to do, until ready"), restart, "s", "limit 2 for 10,000");
    table.row(&format!("{count} objects: restart: peak memory"), controller.peak()?, "MiB", "");
    println!("  requests of the restart: {requests}");
    let mut after = versions(&secrets).await?;
    after.remove("bench-after-restart");
    ensure!(after == known, "the restart wrote a Secret");

    hand_over(controller, programs, &kubeconfig, &client, &targets, count, table).await?;
    busy(programs, &kubeconfig, &client, &targets, count, table).await
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
        table.row(&format!("{what}, p99"), quantile(&mut times, 0.99), "ms", "");
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
