//! What requests each situation costs, as the API server itself counts them: the table in docs/performance.md.
//!
//! Nobody else uses these API servers: the controller manager is stopped, and the controller is asked for its own metrics. After
//! each situation one more object goes through, so that what would come late is seen too.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bulla::recipient::{Identity, Recipient, RecipientKind};
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
    let mut requests = Requests::new();
    for (what, count) in cost {
        let (verb, resource) = what.split_once(' ').unwrap_or_default();
        *requests.entry((verb.to_owned(), resource.to_owned())).or_default() += count;
    }
    requests
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
/// An object that is created and becomes a Secret.
const PASSED: [(&str, u64); 3] = [("POST sealedsecrets.bulla.dev", 1), ("POST secrets", 1), (STATUS, 1)];

/// Counts from one situation to the next: each begins with the counts that the one before ended with, and nobody asks anything in
/// between. So it does not matter whether the API server counts a request before it answers or after.
struct Meter {
    world: World,
    recipient: Recipient,
    known: Requests,
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
        act(&self.world).await.with_context(|| what.to_owned())?;
        let cost = named(&[ours, cost].concat());
        self.cost(what, async |_| Ok(cost.clone())).await
    }

    /// Compares what was done since the last time, before and after one more object goes through.
    async fn cost(&mut self, what: &str, cost: impl AsyncFn(&World) -> Result<Requests>) -> Result<()> {
        self.reach(what, &cost).await?;
        let name = format!("fence-{}", self.fences);
        self.fences += 1;
        self.world
            .create(&sealed_for(self.recipient.clone(), &self.world.app, &name, &[("a", "hunter2-costs")])?)
            .await?;
        let cost = async |world: &World| {
            let mut wanted = cost(world).await?;
            for key in named(&PASSED).into_keys() {
                *wanted.entry(key).or_default() += 1;
            }
            Ok(wanted)
        };
        self.known = self.reach(&format!("{what}, and one more object"), &cost).await?;
        Ok(())
    }

    /// Waits until exactly this has been asked for since the last time.
    async fn reach(&self, what: &str, wanted: &impl AsyncFn(&World) -> Result<Requests>) -> Result<Requests> {
        eventually(what, SOON, async || {
            let wanted = wanted(&self.world).await?;
            let now = requests(&self.world).await?;
            let found = more(&now, &self.known);
            ensure!(found == wanted, "it cost {found:#?} and not {wanted:#?}\n{}", self.world.log());
            Ok(now)
        })
        .await
    }
}

/// Counts that lack nothing of what was asked for before: an object goes through meanwhile, and it is counted whole.
async fn settled(world: &World, recipient: &Recipient, name: &str) -> Result<Requests> {
    let before = requests(world).await?;
    world.create(&sealed_for(recipient.clone(), &world.app, name, &[("a", "hunter2-costs")])?).await?;
    eventually("an object to go through", SOON, async || {
        let now = requests(world).await?;
        let found = more(&now, &before);
        ensure!(named(&PASSED).iter().all(|(key, count)| found.get(key) == Some(count)), "{found:?}");
        Ok(now)
    })
    .await
}

/// How many looks ended so.
async fn looks(world: &World, reason: &str) -> Result<u64> {
    let metrics = world.get("metrics", "/metrics").await?.1;
    let name = format!("bulla_reconciliations_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(Ok(0), |count| Ok(count.parse()?))
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
    world.guard("hunter2-costs");
    let recipient = world.recipients().await?.swap_remove(0);
    let known = settled(&world, &recipient, "first").await?;
    let mut meter = Meter { world, recipient, known, fences: 0 };
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
    let gone = looks(&meter.world, "Gone").await?;
    meter.world.create(&hopeless).await?;
    eventually("three looks at what no key here opens", SOON, async || {
        ensure!(looks(&meter.world, "NoKey").await? >= 3);
        Ok(())
    })
    .await?;
    // It has no more to say; taken away, so that it is not looked at any more.
    meter.world.sealed().delete("hopeless", &DeleteParams::default()).await?;
    meter
        .cost("an object that no key here opens", async |world| {
            // The first look has the object from the watch. The last one can find that it is gone.
            let again = looks(world, "NoKey").await? + looks(world, "Gone").await? - gone - 1;
            let ours = [("POST sealedsecrets.bulla.dev", 1), ("DELETE sealedsecrets.bulla.dev", 1)];
            Ok(named(&[&ours[..], &[(STATUS, 1), (EVENT, 1), (GET, again)]].concat()))
        })
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
    let applied = async |world: &World, count: u32| {
        eventually("all to be applied", SOON, async || {
            let metrics = world.get("metrics", "/metrics").await?.1;
            let line = format!("bulla_sealed_secrets{{reason=\"Applied\"}} {count}\n");
            ensure!(metrics.contains(&line), "{metrics}");
            Ok(())
        })
        .await
    };
    applied(&world, 30).await?;
    world.cluster.pause(Component::ControllerManager)?;
    let of_objects = |mut found: Requests| {
        found.retain(|(_, resource), _| resource.starts_with(SEALED));
        found
    };
    world.guard("hunter2-costs");
    let first = world.recipients().await?.swap_remove(0);
    let before = settled(&world, &first, "with-the-first").await?;
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
    let before = settled(&world, &first, "with-the-next").await?;
    world.restart().await?;
    applied(&world, 32).await?;
    let cost = more(&requests(&world).await?, &before);
    ensure!(cost.is_empty(), "{cost:?}");
    world.cluster.resume(Component::ControllerManager)?;
    world.finish().await
}
