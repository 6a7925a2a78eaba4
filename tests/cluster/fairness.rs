//! Nobody waits for somebody else: hopeless objects, large namespaces, many namespaces.

use anyhow::{Context as _, Result, ensure};
use bulla::recipient::{Identity, RecipientKind};
use bulla::resource::SealedSecret;
use bulla_tests::{Component, eventually};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::world::{SOON, World, sealed_for};

/// A figure of the controller's own metrics; 0 where there is none.
async fn figure(world: &World, name: &str) -> Result<u64> {
    let metrics = world.get("metrics", "/metrics").await?.1;
    let line = metrics.lines().find(|line| line.rsplit_once(' ').is_some_and(|(found, _)| found == name));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default() as u64)
}

async fn create_all(world: &World, all: Vec<SealedSecret>) -> Result<()> {
    let api = world.sealed();
    stream::iter(all)
        .map(|sealed| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &sealed).await.map(drop) }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_thousand_hopeless_objects_do_not_slow_the_others() -> Result<()> {
    const HOPELESS: u64 = 1000;
    let mut world = World::alone("hopeless").await?;
    world.recipients().await?;
    let stranger = Identity::generate(RecipientKind::Hybrid)?;
    let mut all = Vec::new();
    for number in 0..HOPELESS {
        let recipient = stranger.recipient().clone();
        all.push(sealed_for(recipient, &world.app, &format!("hopeless-{number}"), &[("a", "x")])?);
    }
    create_all(&world, all).await?;
    let no_key = "bulla_sealed_secrets{reason=\"NoKey\"}";
    eventually("all to be hopeless", 2 * SOON, async || {
        let found = figure(&world, no_key).await?;
        ensure!(found == HOPELESS, "{found}");
        Ok(())
    })
    .await?;
    // The retries of a thousand go on meanwhile. A new object and a spoilt Secret do not wait for one of them: of all that
    // waited with high priority, as these do, none waited for long.
    let looks = "bulla_reconciliations_total{reason=\"NoKey\"}";
    let before = figure(&world, looks).await?;
    for number in 0..20 {
        world.make(&format!("good-{number}"), &[("a", "hunter2-hopeless")]).await?;
    }
    world.meddle("good-3", json!({"data": {"a": "eA=="}})).await?;
    world.holds("good-3", &[("a", "hunter2-hopeless")]).await?;
    let after = figure(&world, looks).await?;
    // Each object's pause doubles: whatever the time that this took, no object was looked at again and again.
    ensure!(after - before < 6 * HOPELESS, "{before} looks became {after}");
    let status_writes = figure(&world, "bulla_status_writes_total").await?;
    ensure!(status_writes < HOPELESS + 60, "an equal status is not written again: {status_writes}");

    // All of them at once become possible.
    let key = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bulla.dev/sealing-key",
        "metadata": {"name": "bulla-key-found", "namespace": world.system},
        "stringData": {"identity": stranger.expose().as_str()},
    });
    world.cluster.apply(&key.to_string()).await?;
    eventually("all to be applied", 2 * SOON, async || {
        let found = figure(&world, "bulla_sealed_secrets{reason=\"Applied\"}").await?;
        ensure!(found == HOPELESS + 20, "{found}");
        Ok(())
    })
    .await?;
    world.finish().await
}

/// A namespace with five hundred objects and one with a single one, found at the same start.
#[tokio::test]
async fn namespaces_take_turns() -> Result<()> {
    let mut world = World::bare("turns").await?;
    let (large, small) = (world.app.clone(), world.cluster.namespace("turns-small").await?);
    world.serve_too(&small).await?;
    world.start().await?;
    let recipient = world.recipients().await?.swap_remove(0);
    world.stop().await?;
    let mut all = Vec::new();
    for number in 0..500 {
        all.push(sealed_for(recipient.clone(), &large, &format!("db-{number}"), &[("a", "hunter2-turns")])?);
    }
    create_all(&world, all).await?;
    let one = sealed_for(recipient, &small, "one", &[("a", "hunter2-turns")])?;
    Api::<SealedSecret>::namespaced(world.client.clone(), &small).create(&PostParams::default(), &one).await?;
    world.start().await?;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), &small);
    let made =
        eventually("the small namespace's Secret", SOON, async || Ok(secrets.get_metadata("one").await?)).await?;
    eventually("all to be applied", SOON, async || {
        ensure!(figure(&world, "bulla_sealed_secrets{reason=\"Applied\"}").await? == 501);
        Ok(())
    })
    .await?;
    // In the order in which the API server took them.
    let version = |metadata: &kube::core::ObjectMeta| -> u64 {
        metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
    };
    let others = world.secrets().list_metadata(&ListParams::default()).await?;
    let before = others.iter().filter(|secret| version(&secret.metadata) < version(&made.metadata)).count();
    ensure!(before < 100, "{before} of the large namespace came before the only one of the small");
    world.finish().await
}

/// How many namespaces there are makes no difference to the requests of a start.
#[tokio::test]
async fn five_thousand_namespaces_start_as_five() -> Result<()> {
    const MANY: usize = 5000;
    let mut world = World::alone("many").await?;
    world.cluster_wide().await?;
    world.make("db", &[("a", "hunter2-many")]).await?;
    let starts = async |world: &mut World| -> Result<std::collections::BTreeMap<(String, String), u64>> {
        world.stop().await?;
        let before = world.cluster.apiserver_requests().await?;
        world.start().await?;
        eventually("what is there", SOON, async || {
            ensure!(figure(world, "bulla_sealed_secrets{reason=\"Applied\"}").await? == 1);
            Ok(())
        })
        .await?;
        let mut after = world.cluster.apiserver_requests().await?;
        after.retain(|(verb, resource), count| {
            *count -= before.get(&(verb.clone(), resource.clone())).copied().unwrap_or(0);
            let ours = ["secrets", "namespaces", "sealedsecrets.bulla.dev", "sealedsecrets.bulla.dev/status"];
            *count > 0 && ours.contains(&resource.as_str()) && verb != "WATCH"
        });
        Ok(after)
    };
    world.cluster.pause(Component::ControllerManager)?;
    let mut few = starts(&mut world).await?;
    // What the key ring had not yet noted of its first key when it was stopped is no cost of a start.
    let noted = ("PATCH".to_owned(), "secrets".to_owned());
    for _ in 0..3 {
        if few.contains_key(&noted) {
            few = starts(&mut world).await?;
        }
    }
    let all: Api<Namespace> = Api::all(world.client.clone());
    stream::iter(0..MANY)
        .map(|number| {
            let all = all.clone();
            async move {
                let namespace: Namespace =
                    serde_json::from_value(json!({"metadata": {"name": format!("many-{number}")}}))?;
                all.create(&PostParams::default(), &namespace).await.context("a namespace")?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(32)
        .try_collect::<Vec<()>>()
        .await?;
    let many = starts(&mut world).await?;
    ensure!(few == many, "a start cost {few:?} before, and {many:?} with {MANY} namespaces more");
    world.cluster.resume(Component::ControllerManager)?;
    world.finish().await
}
