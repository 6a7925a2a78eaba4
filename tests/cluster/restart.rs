//! Restarting.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kube::api::{Api, ListParams};
use serde_json::json;

use super::world::{SOON, World};
use bulla_tests::eventually;

async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for sealed in world.sealed().list(&ListParams::default()).await? {
        found.insert(
            format!("s/{}", sealed.metadata.name.unwrap_or_default()),
            sealed.metadata.resource_version.unwrap_or_default(),
        );
    }
    for secret in world.secrets().list(&ListParams::default()).await? {
        found.insert(
            format!("x/{}", secret.metadata.name.unwrap_or_default()),
            secret.metadata.resource_version.unwrap_or_default(),
        );
    }
    for key in world.keys().list(&ListParams::default()).await? {
        found.insert(
            format!("k/{}", key.metadata.name.unwrap_or_default()),
            key.metadata.resource_version.unwrap_or_default(),
        );
    }
    let config = world.configs().get("bulla-recipients").await?;
    found.insert("c".to_owned(), config.metadata.resource_version.unwrap_or_default());
    Ok(found)
}

fn counted(metrics: &str, name: &str) -> String {
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_restart_with_nothing_to_do_does_nothing() -> Result<()> {
    let mut world = World::new("restart").await?;
    for number in 0..20 {
        world.make(&format!("db-{number}"), &[("a", "hunter2-restart")]).await?;
    }
    let bad =
        world.seal_as("bad", &[("a", "hunter2-restart")], |t| t.data = [("x".into(), "{{".into())].into()).await?;
    world.create(&bad).await?;
    world.ready("bad", "TemplateFailed").await?;
    eventually("neededBy", SOON, async || {
        let status = world.keys().get("hybrid-1").await?.status.unwrap_or_default();
        ensure!(status.needed_by == Some(21), "{status:?}");
        Ok(())
    })
    .await?;
    world.stop().await?;
    let before = versions(&world).await?;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), &world.app);
    let told = events.list(&ListParams::default()).await?.items.len();
    world.start().await?;
    eventually("the caches", SOON, async || {
        let metrics = world.get("metrics", "/metrics").await?.1;
        ensure!(counted(&metrics, "bulla_reconciliations_total{reason=\"TemplateFailed\"}") == "1", "{metrics}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let metrics = world.get("metrics", "/metrics").await?.1;
    ensure!(versions(&world).await? == before, "something was written");
    ensure!(events.list(&ListParams::default()).await?.items.len() == told);
    ensure!(counted(&metrics, "bulla_opened_total") == "1", "only the bad one is tried: {metrics}");
    ensure!(counted(&metrics, "bulla_sealed_secrets{reason=\"Applied\"}") == "20", "{metrics}");

    // What changed meanwhile is put right.
    world.stop().await?;
    world.meddle("db-3", json!({"data": {"a": "eA=="}})).await?;
    world.delete_secret("db-4").await?;
    world.start().await?;
    world.holds("db-3", &[("a", "hunter2-restart")]).await?;
    world.holds("db-4", &[("a", "hunter2-restart")]).await?;

    // Disbelieved, everything is opened, and still nothing is written.
    world.ready("db-4", "Applied").await?;
    world.stop().await?;
    let before = versions(&world).await?;
    world.args.push("--verify-on-start".to_owned());
    world.start().await?;
    eventually("everything to be opened", SOON, async || {
        let metrics = world.get("metrics", "/metrics").await?.1;
        ensure!(counted(&metrics, "bulla_opened_total") == "21", "{metrics}");
        Ok(())
    })
    .await?;
    ensure!(versions(&world).await? == before, "something was written");
    world.finish().await
}
