//! What requests each situation costs, as the API server itself counts them: the table in docs/performance.md.
//!
//! Nobody else uses these API servers: the controller manager is stopped, and the controller is asked for its own metrics. After
//! each situation one more object goes through, so that what would come late is seen too.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bulla::recipient::{Identity, RecipientKind};
use bulla::resource::{SealingKey, SealingKeySpec};
use bulla_tests::{Component, eventually};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::world::{SOON, World, sealed_for};

type Requests = BTreeMap<(String, String), u64>;

/// Requests for one object each, of the kinds that the controller uses. Not those that time decides: renewals of the Lease, and
/// how many objects a key has to open, which its SealingKey says at most five times a second.
async fn requests(world: &World) -> Result<Requests> {
    let mut found = world.cluster.apiserver_requests().await?;
    let kinds = ["secrets", "sealedsecrets.bulla.dev", "configmaps", "events.events.k8s.io"];
    found.retain(|(verb, resource), _| {
        let kind = resource.split('/').next().unwrap_or_default();
        kinds.contains(&kind) && verb != "LIST" && verb != "WATCH"
    });
    Ok(found)
}

/// `POST secrets` and so on, of the controller's own.
fn named(cost: &[(&str, u64)]) -> Requests {
    cost.iter()
        .map(|(what, count)| {
            let (verb, resource) = what.split_once(' ').unwrap_or_default();
            ((verb.to_owned(), resource.to_owned()), *count)
        })
        .collect()
}

fn more(now: &Requests, before: &Requests) -> Requests {
    let count = |key: &(String, String)| now.get(key).copied().unwrap_or(0) - before.get(key).copied().unwrap_or(0);
    now.keys().filter(|key| count(key) > 0).map(|key| (key.clone(), count(key))).collect()
}

const SEALED: &str = "sealedsecrets.bulla.dev";
/// Of an object that is as it should be nothing is kept: it is read again when its Secret is not.
const GET: &str = "GET sealedsecrets.bulla.dev";
const STATUS: &str = "PUT sealedsecrets.bulla.dev/status";
const EVENT: &str = "POST events.events.k8s.io";

struct Meter {
    world: World,
    fences: usize,
}

impl Meter {
    /// Does something, and compares what it cost. `ours` are the requests of `act` itself.
    async fn costs(
        &mut self,
        what: &str,
        act: impl AsyncFnOnce(&World) -> Result<()>,
        ours: &[(&str, u64)],
        cost: &[(&str, u64)],
    ) -> Result<()> {
        let fence = self.world.seal(&format!("fence-{}", self.fences), &[("a", "hunter2-costs")]).await?;
        self.fences += 1;
        let before = requests(&self.world).await?;
        act(&self.world).await.with_context(|| what.to_owned())?;
        let mut wanted = named(cost);
        for (key, count) in named(ours) {
            *wanted.entry(key).or_default() += count;
        }
        eventually(&format!("{what}: {cost:?}"), SOON, async || {
            let found = more(&requests(&self.world).await?, &before);
            ensure!(found == wanted, "it cost {found:#?}\n{}", self.world.log());
            Ok(())
        })
        .await?;
        self.world.create(&fence).await?;
        for key in [("POST", SEALED), ("POST", "secrets"), ("PUT", "sealedsecrets.bulla.dev/status")] {
            *wanted.entry((key.0.to_owned(), key.1.to_owned())).or_default() += 1;
        }
        eventually(&format!("{what}, and one more object"), SOON, async || {
            let found = more(&requests(&self.world).await?, &before);
            ensure!(found == wanted, "it cost {found:#?}\n{}", self.world.log());
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn each_situation_costs_what_the_docs_say() -> Result<()> {
    let mut world = World::alone("costs").await?;
    // The key ring is at rest, and for whom is sealed is known.
    world.make("db", &[("a", "hunter2-costs")]).await?;
    world.make("gone", &[("a", "hunter2-costs")]).await?;
    eventually("the key's status to count what needs it", SOON, async || {
        let status = world.keys().get("hybrid-1").await?.status.unwrap_or_default();
        ensure!(status.needed_by == Some(2) && status.preferred_at.is_some(), "{status:?}");
        Ok(())
    })
    .await?;
    world.cluster.pause(Component::ControllerManager)?;
    let fresh = world.seal("fresh", &[("a", "hunter2-costs"), ("b", "hunter2-costs")]).await?;
    let changed = world.seal("fresh", &[("a", "hunter3-costs")]).await?;
    let stranger = Identity::generate(RecipientKind::Hybrid)?;
    let hopeless = sealed_for(stranger.recipient().clone(), &world.app, "hopeless", &[("a", "x")])?;
    let mut meter = Meter { world, fences: 0 };

    meter
        .costs(
            "a new object",
            async |world| world.create(&fresh).await.map(drop),
            &[("POST sealedsecrets.bulla.dev", 1)],
            &[("POST secrets", 1), (STATUS, 1)],
        )
        .await?;
    meter
        .costs(
            "a change of it",
            async |world| world.update(&changed).await.map(drop),
            &[("GET sealedsecrets.bulla.dev", 1), ("PUT sealedsecrets.bulla.dev", 1)],
            &[("GET secrets", 1), ("PUT secrets", 1), (STATUS, 1)],
        )
        .await?;
    meter
        .costs(
            "a change of its labels alone",
            async |world| {
                let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": "one"}}}));
                world.sealed().patch("fresh", &PatchParams::default(), &patch).await?;
                Ok(())
            },
            &[("PATCH sealedsecrets.bulla.dev", 1)],
            &[],
        )
        .await?;
    meter
        .costs(
            "its Secret is changed by somebody else",
            async |world| world.meddle("fresh", json!({"data": {"a": "eA=="}})).await.map(drop),
            &[("PATCH secrets", 1)],
            &[(GET, 1), ("GET secrets", 1), ("PUT secrets", 1), (STATUS, 1), (EVENT, 1)],
        )
        .await?;
    meter
        .costs(
            "its Secret is deleted by somebody else",
            async |world| world.delete_secret("fresh").await,
            &[("DELETE secrets", 1)],
            &[(GET, 1), ("POST secrets", 1), (STATUS, 1), (EVENT, 1)],
        )
        .await?;
    meter
        .costs(
            "a fresh look is asked for",
            async |world| {
                let patch = Patch::Merge(json!({"metadata": {"annotations": {"bulla.dev/reconcile-at": "now"}}}));
                world.sealed().patch("fresh", &PatchParams::default(), &patch).await?;
                Ok(())
            },
            &[("PATCH sealedsecrets.bulla.dev", 1)],
            &[("GET secrets", 1), ("PUT secrets", 1), (STATUS, 1)],
        )
        .await?;
    meter
        .costs(
            "it is suspended",
            async |world| {
                let patch = Patch::Merge(json!({"spec": {"suspend": true}}));
                world.sealed().patch("fresh", &PatchParams::default(), &patch).await?;
                Ok(())
            },
            &[("PATCH sealedsecrets.bulla.dev", 1)],
            &[(STATUS, 1)],
        )
        .await?;
    meter
        .costs(
            "an object is deleted",
            async |world| Ok(world.sealed().delete("gone", &DeleteParams::default()).await.map(drop)?),
            &[("DELETE sealedsecrets.bulla.dev", 1)],
            &[],
        )
        .await?;
    meter
        .costs(
            "an object that no key here opens, looked at three times",
            async |world| {
                world.create(&hopeless).await?;
                eventually("three looks", SOON, async || {
                    let metrics = world.get("metrics", "/metrics").await?.1;
                    let looks = "bulla_reconciliations_total{reason=\"NoKey\"} 3";
                    ensure!(metrics.contains(looks), "{metrics}");
                    Ok(())
                })
                .await?;
                // It has no more to say; taken away, so that it is not looked at a fourth time.
                world.sealed().delete("hopeless", &DeleteParams::default()).await?;
                Ok(())
            },
            &[("POST sealedsecrets.bulla.dev", 1), ("DELETE sealedsecrets.bulla.dev", 1)],
            &[(STATUS, 1), (EVENT, 1), (GET, 2)],
        )
        .await?;
    meter.world.cluster.resume(Component::ControllerManager)?;
    meter.world.finish().await
}

/// A new key changes nothing of any object: a rotation costs the same with ten objects and with ten thousand.
#[tokio::test]
async fn a_new_key_and_a_new_leader_cost_nothing_of_any_object() -> Result<()> {
    let mut world = World::alone("rotate").await?;
    for number in 0..30 {
        let sealed = world.seal(&format!("db-{number}"), &[("a", "hunter2-rotate")]).await?;
        world.create(&sealed).await?;
    }
    eventually("the key's status to count what needs it", SOON, async || {
        let status = world.keys().get("hybrid-1").await?.status.unwrap_or_default();
        ensure!(status.needed_by == Some(30) && status.preferred_at.is_some(), "{status:?}");
        Ok(())
    })
    .await?;
    let applied = async |world: &World| {
        eventually("all to be applied", SOON, async || {
            let metrics = world.get("metrics", "/metrics").await?.1;
            ensure!(metrics.contains("bulla_sealed_secrets{reason=\"Applied\"} 30"), "{metrics}");
            Ok(())
        })
        .await
    };
    applied(&world).await?;
    world.cluster.pause(Component::ControllerManager)?;
    let of_objects = |mut found: Requests| {
        found.retain(|(_, resource), _| resource.starts_with(SEALED));
        found
    };
    let before = requests(&world).await?;
    let first = world.recipients().await?.swap_remove(0);
    let key = SealingKey::new("next", SealingKeySpec { prefer_after: Some("0s".into()), ..SealingKeySpec::default() });
    world.keys().create(&PostParams::default(), &key).await?;
    eventually("the new key to be preferred", SOON, async || {
        let listed = world.recipients().await?;
        ensure!(listed.len() == 2 && listed[0] != first, "{listed:?}");
        Ok(())
    })
    .await?;
    let cost = more(&requests(&world).await?, &before);
    ensure!(of_objects(cost.clone()).is_empty(), "{cost:?}");
    ensure!(cost.get(&("POST".to_owned(), "secrets".to_owned())) == Some(&1), "its own Secret: {cost:?}");
    ensure!(!cost.contains_key(&("POST".to_owned(), "configmaps".to_owned())), "the recipients are there: {cost:?}");

    // Another leader: the one before gives the Lease back, and the next one does not look at anything.
    let before = requests(&world).await?;
    world.restart().await?;
    applied(&world).await?;
    let cost = more(&requests(&world).await?, &before);
    ensure!(cost.is_empty(), "{cost:?}");
    world.cluster.resume(Component::ControllerManager)?;
    world.finish().await
}
