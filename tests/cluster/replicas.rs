//! Two replicas: one writes, both serve, and whoever is stopped in the middle of a write writes nothing wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulla_tests::{Program, Signal, binary, eventually};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::world::{SOON, World, exchange, sealed_for};

/// Short, so that a crash is over soon.
const SHORT: [&str; 3] =
    ["--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms"];
/// Longer than a test waits: who takes over was told to.
const LONG: [&str; 2] = ["--leader-elect-lease-duration", "300s"];

/// One more replica of the world's controller.
async fn replica(world: &World, args: &[&str], server: Option<&str>) -> Result<Program> {
    let path = world.cluster.service_account_kubeconfig(&world.system, "bulla", world.dir.path()).await?;
    if let Some(server) = server {
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config["clusters"][0]["cluster"]["server"] = server.into();
        bulla_tests::write_private(&path, config.to_string().as_bytes())?;
    }
    let config = world.dir.path().join(format!("replica-{}", server.map_or("direct", |_| "gated")));
    std::fs::copy(&path, &config)?;
    Program::launch(binary("bulla-controller")?)
        .args(["--namespace", &world.system, "--watch-namespace", &world.app, "--log-level", "debug"])
        .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
        .args(args)
        .env("KUBECONFIG", &config)
        .spawn()
}

async fn ask(program: &Program, what: &str, request: &str) -> Result<(u16, String)> {
    let line = program.wait_for_line(&format!("listening what=\"{what}\""), SOON).await?;
    exchange(line.split("address=").nth(1).context("no address")?.trim(), request.as_bytes())
}

async fn ready(program: &Program) -> Result<()> {
    eventually("the replica to be ready", SOON, async || {
        let (status, body) =
            ask(program, "http", "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        ensure!(status == 200, "{status} {body}\n{}", program.log());
        Ok(())
    })
    .await
}

async fn metric(program: &Program, name: &str) -> Result<String> {
    let (_, text) = ask(program, "metrics", "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in {text}"))?;
    Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
}

async fn ends(program: &Program) -> Result<()> {
    program.signal(Signal::Term)?;
    ensure!(program.wait(SOON).await?.success(), "{}", program.log());
    Ok(())
}

#[tokio::test]
async fn one_writes_both_serve_and_sigterm_hands_over() -> Result<()> {
    let mut world = World::bare("replicas").await?;
    let first = replica(&world, &LONG, None).await?;
    ready(&first).await?;
    first.wait_for_line("this replica leads", SOON).await?;
    let second = replica(&world, &LONG, None).await?;
    ready(&second).await?;
    second.wait_for_line("another replica leads", SOON).await?;
    world.make("db", &[("a", "hunter2-replicas")]).await?;
    ensure!(metric(&first, "bulla_leader").await? == "1");
    ensure!(metric(&second, "bulla_leader").await? == "0");
    ensure!(metric(&second, "bulla_secret_writes_total").await? == "0", "the other one writes");
    ensure!(metric(&second, "bulla_status_writes_total").await? == "0", "the other one writes");
    ensure!(metric(&second, "bulla_opened_total").await? == "0", "the other one works");
    // What it serves is current.
    let body = serde_json::to_string(&world.sealed().get("db").await?)?;
    let length = body.len();
    let request =
        format!("POST /v1/verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    for replica in [&first, &second] {
        let (status, text) = ask(replica, "http", &request).await?;
        ensure!(status == 200, "{status} {text}");
    }

    // Changes all the time, while the first ends.
    let mut values = Vec::new();
    for number in 0..40 {
        let (name, value) = (format!("object-{number}"), format!("hunter2-{number}-replicas"));
        let sealed = world.seal(&name, &[("a", &value)]).await?;
        world.create(&sealed).await?;
        values.push((name, value));
        if number == 20 {
            first.signal(Signal::Term)?;
        }
    }
    ensure!(first.wait(SOON).await?.success(), "{}", first.log());
    second.wait_for_line("this replica leads", SOON).await?;
    for (name, value) in &values {
        world.holds(name, &[("a", value)]).await?;
        world.ready(name, "Applied").await?;
    }
    // What was changed while nobody led, too.
    world.meddle("db", serde_json::json!({"data": {"a": "eA=="}})).await?;
    world.holds("db", &[("a", "hunter2-replicas")]).await?;
    // And the keys are in good hands.
    world.configs().delete("bulla-recipients", &DeleteParams::default()).await?;
    world.recipients().await?;
    ends(&second).await?;
    ensure!(!format!("{}{}", first.log(), second.log()).contains("hunter2"));
    world.finish().await
}

#[tokio::test]
async fn a_killed_leader_is_followed_after_its_lease() -> Result<()> {
    let mut world = World::bare("killed").await?;
    let first = replica(&world, &SHORT, None).await?;
    first.wait_for_line("this replica leads", SOON).await?;
    let second = replica(&world, &SHORT, None).await?;
    ready(&second).await?;
    world.make("db", &[("a", "hunter2-killed")]).await?;
    first.signal(Signal::Kill)?;
    let sealed = world.seal("late", &[("a", "hunter3-killed")]).await?;
    world.create(&sealed).await?;
    world.meddle("db", serde_json::json!({"data": {"a": "eA=="}})).await?;
    world.holds("late", &[("a", "hunter3-killed")]).await?;
    world.holds("db", &[("a", "hunter2-killed")]).await?;
    // One that starts anew does not take what it held before under another name.
    let third = replica(&world, &SHORT, None).await?;
    third.wait_for_line("another replica leads", SOON).await?;
    ends(&second).await?;
    third.wait_for_line("this replica leads", SOON).await?;
    ends(&third).await?;
    world.finish().await
}

/// Bytes that no request without a large body is sent in at once.
const LARGE: usize = 8 * 1024;

/// A way to the API server that can be closed: then large requests wait, each where it began to be large. What comes back,
/// and small requests, pass.
struct Gate {
    address: String,
    open: watch::Sender<bool>,
    held: Arc<AtomicUsize>,
}

impl Gate {
    async fn before(server: &str) -> Result<Self> {
        let target = server.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("https://{}", listener.local_addr()?);
        let (open, held) = (watch::Sender::new(true), Arc::new(AtomicUsize::new(0)));
        let (passes, counter) = (open.subscribe(), held.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let (mut passes, counter) = (passes.clone(), counter.clone());
                tokio::spawn(async move {
                    let (mut buffer, mut waiting) = (vec![0; 64 * 1024], Vec::new());
                    loop {
                        tokio::select! {
                            read = from_client.read(&mut buffer) => {
                                let Ok(count @ 1..) = read else { break };
                                let open = *passes.borrow_and_update();
                                if !open && (count >= LARGE || !waiting.is_empty()) {
                                    counter.fetch_add(count, Ordering::Relaxed);
                                    waiting.extend_from_slice(&buffer[..count]);
                                    continue;
                                }
                                waiting.extend_from_slice(&buffer[..count]);
                            }
                            changed = passes.changed() => {
                                if changed.is_err() {
                                    break;
                                }
                                if !*passes.borrow_and_update() {
                                    continue;
                                }
                            }
                        }
                        if to_server.write_all(&waiting).await.is_err() {
                            break;
                        }
                        waiting.clear();
                    }
                });
            }
        });
        Ok(Self { address, open, held })
    }
}

#[tokio::test]
async fn a_leader_that_is_stopped_past_its_lease_writes_nothing_wrong() -> Result<()> {
    let mut world = World::bare("stopped").await?;
    let gate = Gate::before(&world.cluster.client_config()?.cluster_url.to_string()).await?;
    let first = replica(&world, &SHORT, Some(&gate.address)).await?;
    first.wait_for_line("this replica leads", SOON).await?;
    let second = replica(&world, &SHORT, None).await?;
    ready(&second).await?;
    let value = |number: u32| format!("hunter{number}-{}", "stopped".repeat(4000));
    world.make("db", &[("a", &value(1))]).await?;

    // The first one has begun to write: the requests are on their way when it is stopped.
    let (two, three) = (value(2), value(3));
    let (changed, fresh) = (world.seal("db", &[("a", &two)]).await?, world.seal("fresh", &[("a", &two)]).await?);
    gate.open.send_replace(false);
    world.update(&changed).await?;
    world.create(&fresh).await?;
    eventually("both writes to be on their way", SOON, async || {
        let held = gate.held.load(Ordering::Relaxed);
        ensure!(held > 2 * two.len(), "{held} bytes are held: {}", first.log());
        Ok(())
    })
    .await?;
    first.signal(Signal::Stop)?;

    // The second one takes over and does the same work; then everything goes on.
    second.wait_for_line("this replica leads", SOON).await?;
    world.holds("db", &[("a", &two)]).await?;
    world.holds("fresh", &[("a", &two)]).await?;
    let changed = world.seal("db", &[("a", &three)]).await?;
    world.update(&changed).await?;
    let secret = world.holds("db", &[("a", &three)]).await?;
    world.ready("db", "Applied").await?;
    world.sealed().delete("fresh", &DeleteParams::default()).await?;
    eventually("the Secret to be collected", SOON, async || {
        ensure!(world.secrets().get_opt("fresh").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;

    // What was on its way arrives, and the first one wakes.
    gate.open.send_replace(true);
    first.signal(Signal::Cont)?;
    let status = first.wait(SOON).await?;
    ensure!(!status.success() && first.log().contains("the Lease is lost"), "{status} {}", first.log());
    let after = world.secrets().get("db").await?;
    ensure!(after.resource_version() == secret.resource_version(), "it wrote: {:?}", after.metadata);
    eventually("what was made for an object that is gone to be collected", SOON, async || {
        ensure!(world.secrets().get_opt("fresh").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    ensure!(
        world.sealed().get("db").await?.status.context("no status")?.applied.context("none")?.secret_version
            == secret.resource_version().unwrap_or_default()
    );
    ends(&second).await?;
    world.finish().await
}

/// Who watches knows the keys as well as who leads, and writes nothing of them.
#[tokio::test]
async fn the_key_ring_writes_on_the_leader_alone() -> Result<()> {
    use bulla::resource::{SealingKey, SealingKeySpec};
    let world = World::bare("ringleader").await?;
    let first = replica(&world, &LONG, None).await?;
    ready(&first).await?;
    first.wait_for_line("this replica leads", SOON).await?;
    let second = replica(&world, &LONG, None).await?;
    ready(&second).await?;
    let old = world.recipients().await?.swap_remove(0);
    let spec = SealingKeySpec { prefer_after: Some("0s".into()), ..SealingKeySpec::default() };
    world.keys().create(&PostParams::default(), &SealingKey::new("next", spec)).await?;
    eventually("the new key to be preferred", SOON, async || {
        let listed = world.recipients().await?;
        ensure!(listed.len() == 2 && listed[0] != old, "{listed:?}");
        Ok(())
    })
    .await?;
    let restored = async || {
        world.configs().delete("bulla-recipients", &DeleteParams::default()).await?;
        world.recipients().await
    };
    restored().await?;
    for replica in [&first, &second] {
        eventually("both to know the keys", SOON, async || {
            ensure!(metric(replica, "bulla_sealing_keys").await? == "2");
            Ok(())
        })
        .await?;
    }
    let (_, text) = ask(&second, "metrics", "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let written: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("bulla_api_request_seconds_count") && !line.contains("verb=\"get\""))
        .filter(|line| !line.contains("leases") && !line.contains("selfsubjectaccessreviews"))
        .collect();
    ensure!(written.is_empty(), "who does not lead has written: {written:#?}");
    // When it leads, it does.
    ends(&first).await?;
    second.wait_for_line("this replica leads", SOON).await?;
    restored().await?;
    ends(&second).await?;
    world.finish().await
}

#[tokio::test]
async fn without_election_it_writes_at_once_and_needs_no_lease() -> Result<()> {
    let mut world = World::with("alone", &["--leader-elect=false"]).await?;
    world.make("db", &[("a", "hunter2-alone")]).await?;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(world.client.clone(), &world.system);
    ensure!(leases.get_opt("bulla-controller").await?.is_none());
    world.finish().await
}

#[tokio::test]
async fn a_foreign_lease_is_respected_until_it_is_stale() -> Result<()> {
    let mut world = World::bare("foreign").await?;
    // Made by somebody whose clock is wrong by years: only that it does not change counts.
    let lease = serde_json::json!({
        "metadata": {"name": "bulla-controller"},
        "spec": {"holderIdentity": "stranger", "leaseDurationSeconds": 4, "renewTime": "2001-01-01T00:00:00.000000Z"},
    });
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(world.client.clone(), &world.system);
    leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
    let controller = replica(&world, &SHORT, None).await?;
    controller.wait_for_line("another replica leads", SOON).await?;
    controller.wait_for_line("this replica leads", SOON).await?;
    world.make("db", &[("a", "hunter2-foreign")]).await?;
    // Deleted under its feet: it cannot know what happened since, and ends.
    leases.delete("bulla-controller", &DeleteParams::default()).await?;
    ensure!(!controller.wait(SOON).await?.success(), "{}", controller.log());
    world.finish().await
}

#[tokio::test]
async fn namespaces_are_selected_by_their_labels() -> Result<()> {
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    use kube::api::{Patch, PatchParams};
    let world = World::bare("select").await?;
    let other = world.cluster.namespace("select").await?;
    for (role, kind) in [("bulla", "all"), ("bulla-namespaces", "namespaces")] {
        let binding = format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {kind}-{0}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n\
             subjects: [{{kind: ServiceAccount, name: bulla, namespace: {0}}}]\n",
            world.system
        );
        let deployed: Vec<&str> = super::world::DEPLOY
            .split("\n---\n")
            .filter(|d| d.contains("kind: ClusterRole\n") && d.contains(&format!("  name: {role}\n")))
            .collect();
        world.cluster.apply(&deployed.join("\n---\n")).await?;
        world.cluster.apply(&binding).await?;
    }
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let label = async |namespace: &str, value: Option<&str>| -> Result<()> {
        let patch = serde_json::json!({"metadata": {"labels": {"selected-by": value}}});
        namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    };
    label(&world.app, Some(&world.system)).await?;
    let kubeconfig = world.cluster.service_account_kubeconfig(&world.system, "bulla", world.dir.path()).await?;
    let controller = Program::launch(binary("bulla-controller")?)
        .args(["--namespace", &world.system, "--namespace-selector", &format!("selected-by={}", world.system)])
        .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
        .env("KUBECONFIG", &kubeconfig)
        .spawn()?;
    let recipient = world.recipients().await?.swap_remove(0);
    let create = async |namespace: &str, name: &str| -> Result<()> {
        let sealed = sealed_for(recipient.clone(), namespace, name, &[("a", "hunter2-select")])?;
        Api::namespaced(world.client.clone(), namespace).create(&PostParams::default(), &sealed).await?;
        Ok(())
    };
    create(&other, "db").await?;
    create(&world.app, "db").await?;
    world.ready("db", "Applied").await?;
    let others: Api<Secret> = Api::namespaced(world.client.clone(), &other);
    ensure!(others.get_opt("db").await?.is_none(), "it is not selected");
    // Selected from now on, with what was there before.
    label(&other, Some(&world.system)).await?;
    eventually("the other namespace's Secret", SOON, async || others.get("db").await.map_err(Into::into)).await?;
    // And not any more: what is there stays.
    label(&world.app, None).await?;
    controller.wait_for_line("is not served any more", SOON).await?;
    create(&world.app, "late").await?;
    create(&other, "late").await?;
    eventually("a later one", SOON, async || others.get("late").await.map_err(Into::into)).await?;
    ensure!(world.secrets().get_opt("late").await?.is_none(), "it is not selected any more");
    ensure!(world.secrets().get_opt("db").await?.is_some());
    ends(&controller).await?;

    // A long list is one watch of the cluster, of which only these count.
    let mut args: Vec<String> = (0..30).map(|n| format!("--watch-namespace=none-{n}")).collect();
    args.push(format!("--watch-namespace={}", world.app));
    let controller = Program::launch(binary("bulla-controller")?)
        .args(["--namespace", &world.system, "--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
        .args(&args)
        .env("KUBECONFIG", &kubeconfig)
        .spawn()?;
    eventually("the Secret", SOON, async || world.secrets().get("late").await.map_err(Into::into)).await?;
    ensure!(!controller.log().contains("a watch for each"), "{}", controller.log());
    create(&other, "last").await?;
    create(&world.app, "last").await?;
    eventually("the last one", Duration::from_secs(40), async || world.secrets().get("last").await.map_err(Into::into))
        .await?;
    ensure!(others.get_opt("last").await?.is_none(), "it is not in the list");
    ends(&controller).await
}
