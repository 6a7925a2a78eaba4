//! The harness, tested by itself: what the other tests rely on.

// Tests write to stderr what their reader, a person or another test, looks for.
#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bulla_tests::{Component, ControlPlane, Program, Signal, cluster, eventually, netns, skip};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

const SOON: Duration = Duration::from_secs(30);

/// Set for the tests that only make sense inside another: `--include-ignored` alone does not run them.
const INNER: &str = "BULLA_TEST_INNER";

fn named<T: Default + kube::Resource>(name: &str) -> T {
    let mut object = T::default();
    *object.meta_mut() = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    object
}

#[tokio::test]
async fn the_api_server_answers() -> Result<()> {
    let cluster = cluster()?;
    let version = cluster.client()?.apiserver_version().await?;
    assert_eq!(version.git_version, cluster.version());
    assert!(!version.major.is_empty(), "kubectl cannot read the version: {version:?}");
    eprintln!("{} started in {:?}", cluster.version(), cluster.start_time());
    Ok(())
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_nothing_else() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.namespace("rbac").await?;
    cluster
        .apply_in(
            &namespace,
            "apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: ServiceAccount, name: reader}
",
        )
        .await?;
    let client = cluster.client_as_service_account(&namespace, "reader").await?;
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    eventually("the role to count", SOON, async || Ok(configs.list(&ListParams::default()).await?)).await?;
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    for refused in [
        secrets.list(&ListParams::default()).await.err(),
        configs.create(&PostParams::default(), &named("x")).await.err(),
    ] {
        match refused {
            Some(kube::Error::Api(status)) if status.code == 403 => {}
            other => bail!("not refused: {other:?}"),
        }
    }

    let dir = tempfile::tempdir()?;
    let path = cluster.service_account_kubeconfig(&namespace, "reader", dir.path()).await?;
    let config = kube::config::Kubeconfig::read_from(&path)?;
    let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    assert_eq!(config.default_namespace, namespace);
    let configs: Api<ConfigMap> = Api::default_namespaced(Client::try_from(config)?);
    configs.list(&ListParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn the_garbage_collector_deletes_what_lost_its_owner_also_of_a_new_kind() -> Result<()> {
    let cluster = cluster()?;
    cluster
        .install_crds(
            "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: owners.harness.bulla.dev}
spec:
  group: harness.bulla.dev
  scope: Namespaced
  names: {kind: Owner, plural: owners, singular: owner}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
",
        )
        .await?;
    let namespace = cluster.namespace("gc").await?;
    let made = cluster
        .apply_in(&namespace, "apiVersion: harness.bulla.dev/v1\nkind: Owner\nmetadata: {name: owner}\n")
        .await?;
    let owner = made.first().context("nothing was made")?;
    let client = cluster.client()?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secret: Secret = named("owned");
    let reference = serde_json::json!([{
        "apiVersion": "harness.bulla.dev/v1", "kind": "Owner", "name": "owner", "uid": owner.uid(), "controller": true,
    }]);
    secret.metadata.owner_references = serde_json::from_value(reference)?;
    secrets.create(&PostParams::default(), &secret).await?;
    let mut free: Secret = named("free");
    free.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    secrets.create(&PostParams::default(), &free).await?;

    let kind = GroupVersionKind::gvk("harness.bulla.dev", "v1", "Owner");
    let owners: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &ApiResource::from_gvk(&kind));
    owners.delete("owner", &DeleteParams::background()).await?;
    eventually("the owned Secret to be collected", Duration::from_secs(60), async || {
        ensure!(secrets.get_opt("owned").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    secrets.get("free").await?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_namespace_ends() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.namespace("ending").await?;
    let client = cluster.client()?;
    Api::<Secret>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &named("s")).await?;
    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    eventually("the namespace's end", Duration::from_secs(60), async || {
        let found = namespaces.get_opt(&namespace).await?;
        ensure!(found.is_none(), "its status is {:?}", found.and_then(|n| n.status));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn requests_are_counted() -> Result<()> {
    let cluster = cluster()?;
    let namespace = cluster.namespace("count").await?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client()?, &namespace);
    let posts = async || -> Result<u64> {
        let requests = cluster.apiserver_requests().await?;
        Ok(requests.get(&("POST".to_owned(), "secrets".to_owned())).copied().unwrap_or_default())
    };
    let before = posts().await?;
    for name in ["a", "b", "c"] {
        secrets.create(&PostParams::default(), &named(name)).await?;
    }
    let after = posts().await?;
    assert!(after >= before + 3, "{before} and 3 more are {after}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_kind_is_an_error_that_names_it() -> Result<()> {
    let error = cluster()?.apply("apiVersion: nowhere.example/v1\nkind: Nothing\nmetadata: {name: x}\n").await;
    let error = error.err().context("it was applied")?;
    assert!(format!("{error:#}").contains("Nothing"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn components_can_be_killed_and_started_again() -> Result<()> {
    let plane = ControlPlane::start_with(&[(Component::ApiServer, "--feature-gates=WatchList=false")])?;
    let configs: Api<ConfigMap> = Api::namespaced(plane.client()?, "default");
    configs.create(&PostParams::default(), &named("kept")).await?;
    for component in [Component::ApiServer, Component::Etcd] {
        plane.kill(component)?;
        assert_eq!(plane.pid(component)?, None);
        plane.restart(component)?;
        plane.wait_until_ready()?;
        eventually("the ConfigMap", SOON, async || Ok(configs.get("kept").await?)).await?;
    }
    assert!(plane.pid(Component::ControllerManager)?.is_some(), "it has ended with the others");
    assert!(plane.kill(Component::ApiServer).is_ok());
    assert!(plane.kill(Component::ApiServer).is_err(), "killed twice");
    Ok(())
}

/// Of processes that ended, perhaps as somebody else's children who has not yet waited for them.
fn gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

async fn nothing_is_left(pids: &[u32], dir: &Path) -> Result<()> {
    eventually("everything to be gone", SOON, async || {
        let left: Vec<_> = pids.iter().filter(|pid| !gone(**pid)).collect();
        ensure!(left.is_empty(), "there are processes {left:?}");
        ensure!(!dir.exists(), "there is {}", dir.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_dropped_control_plane_leaves_nothing() -> Result<()> {
    let plane = ControlPlane::start()?;
    let (pids, dir) = (plane.first_pids(), plane.dir().to_path_buf());
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 4);
    assert!(dir.join("etcd").exists());
    drop(plane);
    nothing_is_left(&pids, &dir).await
}

/// Run by other tests, in a process of its own.
#[test]
#[ignore = "it waits to be killed"]
fn inner_start_and_wait() -> Result<()> {
    if std::env::var_os(INNER).is_none() {
        return Ok(());
    }
    let plane = cluster()?;
    let program = Program::launch("/bin/sleep").arg("1000").spawn()?;
    let pids: Vec<_> = plane.first_pids().into_iter().chain([program.pid()]).map(|pid| pid.to_string()).collect();
    eprintln!("started {} {}", plane.dir().display(), pids.join(" "));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn inner(test: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(INNER, "1");
    Ok(command)
}

#[tokio::test]
async fn a_killed_parent_leaves_nothing() -> Result<()> {
    bulla_tests::build_control_plane()?;
    let mut parent =
        inner("inner_start_and_wait")?.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = BufReader::new(parent.stderr.take().context("no pipe")?);
    let started = stderr.lines().map_while(std::io::Result::ok).find(|line| line.starts_with("started "));
    parent.kill()?;
    parent.wait()?;
    let started = started.context("it did not start")?;
    let mut words = started.split(' ').skip(1);
    let dir = words.next().context("no directory")?;
    let pids: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(pids.len(), 5);
    nothing_is_left(&pids, Path::new(dir)).await
}

#[test]
fn the_service_proxy_reaches_a_process() -> Result<()> {
    bulla_tests::build_control_plane()?; // in the namespace there is no network to get modules from
    if let Err(reason) = netns::available() {
        skip(reason);
        return Ok(());
    }
    let inner = inner("inner_service_proxy")?;
    let output = netns::command(inner.get_program(), inner.get_args()).env(INNER, "1").stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    ensure!(text.contains("1 passed"), "the inner test did not run: {text}");
    Ok(())
}

#[tokio::test]
#[ignore = "run in a network namespace by another test"]
async fn inner_service_proxy() -> Result<()> {
    if std::env::var_os(INNER).is_none() {
        return Ok(());
    }
    let address = netns::address().context("not in a network namespace")?;
    let listener = TcpListener::bind((address.as_str(), 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(std::io::Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            reader.read_line(&mut request).ok();
            // The rest of the head, so that closing the connection does not reset it.
            for line in reader.by_ref().lines().map_while(std::io::Result::ok) {
                if line.is_empty() {
                    break;
                }
            }
            let body = format!("you asked for {}", request.trim());
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            reader.get_mut().write_all(answer.as_bytes()).ok();
        }
    });
    let cluster = cluster()?;
    let namespace = cluster.namespace("proxy").await?;
    cluster.publish_service(&namespace, "echo", "http", &address, port).await?;
    let path = format!("/api/v1/namespaces/{namespace}/services/http:echo:http/proxy/v1/prove");
    let client = cluster.client()?;
    let answer = eventually("an answer through the proxy", SOON, async || {
        let request = kube::core::Request::new(&path).list(&ListParams::default())?;
        Ok(client.request_text(request).await?)
    })
    .await?;
    assert!(answer.starts_with("you asked for GET /v1/prove"), "{answer}");
    // Namespaces with such a Pod end like others.
    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    eventually("the namespace's end", Duration::from_secs(60), async || {
        ensure!(namespaces.get_opt(&namespace).await?.is_none(), "it is there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn programs_are_watched_and_signalled() -> Result<()> {
    let script = "trap 'echo bye >&2; exit 3' TERM; echo \"hello $NAME$HOME\"; while :; do sleep 0.05; done";
    let program = Program::launch("/bin/sh").args(["-c", script]).env("NAME", "you").spawn()?;
    assert_eq!(program.wait_for_line("hello", SOON).await?, "hello you");
    let mark = program.log_len();
    program.signal(Signal::Stop)?;
    program.signal(Signal::Cont)?;
    program.signal(Signal::Term)?;
    program.wait_for_line_since(mark, "bye", SOON).await?;
    assert_eq!(program.wait(SOON).await?.code(), Some(3));
    assert_eq!(program.log(), "hello you\nbye\n");
    let error = program.wait_for_line("never", SOON).await.err().context("found")?;
    assert!(format!("{error:#}").contains("it has ended without"), "{error:#}");
    assert!(program.signal(Signal::Kill).is_err());
    Ok(())
}

#[tokio::test]
async fn programs_get_no_environment_but_their_own() -> Result<()> {
    let program = Program::launch("/usr/bin/env").env("A", "b c").spawn()?;
    assert!(program.wait(SOON).await?.success());
    let names: BTreeSet<_> =
        program.log().lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
    let known = ["A", "PATH", "TMPDIR", "LLVM_PROFILE_FILE", "_"];
    assert!(names.contains("A") && names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn waiting_fails_with_what_was_seen_last() -> Result<()> {
    let mut count = 0;
    let error = eventually("a miracle", Duration::from_millis(50), async || -> Result<()> {
        count += 1;
        bail!("seen {count}")
    });
    let error = format!("{:#}", error.await.err().context("it happened")?);
    assert!(error.starts_with("a miracle: not within 50ms: seen "), "{error}");
    let hung = eventually("an answer", Duration::from_millis(50), async || -> Result<()> {
        std::future::pending::<()>().await;
        Ok(())
    });
    let error = format!("{:#}", hung.await.err().context("it came")?);
    assert_eq!(error, "an answer: not within 50ms: it never answered");
    Ok(())
}
