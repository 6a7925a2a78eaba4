//! Sealing keys.

use anyhow::{Context, Result, ensure};
use bulla::metadata::{KEY_STATE_ANNOTATION, PUBLISHED_AT_ANNOTATION, SEALING_KEY_TYPE};
use bulla::recipient::parse_identities;
use bulla::resource::{KeyState, SealingKey, SealingKeySpec};
use bulla_tests::eventually;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::world::{SOON, World};

fn key(name: &str, change: impl FnOnce(&mut SealingKeySpec)) -> SealingKey {
    let mut key = SealingKey::new(name, SealingKeySpec::default());
    change(&mut key.spec);
    key
}

async fn state(world: &World, name: &str, wanted: KeyState) -> Result<SealingKey> {
    eventually(&format!("{name} to be {wanted:?}"), SOON, async || {
        let key = world.keys().get(name).await?;
        let status = key.status.clone().context("no status")?;
        ensure!(status.state == Some(wanted), "it is {:?}: {:?}", status.state, status.conditions);
        ensure!(status.observed_generation == key.metadata.generation, "an old status");
        Ok(key)
    })
    .await
}

#[tokio::test]
async fn the_first_key_is_made_published_and_kept() -> Result<()> {
    let mut world = World::with("first", &["--cluster-name", "prod"]).await?;
    let recipients = world.recipients().await?;
    ensure!(recipients.len() == 1);
    let key = eventually("a published key", SOON, async || {
        let key = world.keys().get("hybrid-1").await?;
        let status = key.status.clone().context("no status")?;
        ensure!(status.published_at.is_some() && status.preferred_at.is_some(), "{status:?}");
        Ok(key)
    })
    .await?;
    let status = key.status.context("no status")?;
    ensure!(status.recipient.as_deref() == Some(recipients[0].as_str()));
    ensure!(status.fingerprint == Some(recipients[0].fingerprint().to_string()));
    let secret = world.key_secrets().get("bulla-key-hybrid-1").await?;
    ensure!(secret.type_.as_deref() == Some(SEALING_KEY_TYPE) && secret.owner_references().is_empty());
    ensure!(secret.annotations()[KEY_STATE_ANNOTATION] == "Active");
    ensure!(secret.annotations().contains_key(PUBLISHED_AT_ANNOTATION));
    let identity = parse_identities(std::str::from_utf8(&secret.data.context("data")?["identity"].0)?)?;
    ensure!(identity[0].recipient() == &recipients[0]);
    let config = world.configs().get("bulla-recipients").await?;
    ensure!(config.data.as_ref().is_some_and(|data| data["cluster"] == "prod" && data.len() == 2), "{config:?}");

    // Whoever may log in may read it.
    let client = world.cluster.client_as_service_account(&world.app, "default").await?;
    kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(client, &world.system)
        .get("bulla-recipients")
        .await?;

    // Changed or deleted, it is restored.
    let patch = Patch::Merge(json!({"data": {"recipients": "age1evil", "signature": "x"}}));
    world.configs().patch("bulla-recipients", &PatchParams::default(), &patch).await?;
    ensure!(
        eventually("the ConfigMap to be restored", SOON, async || {
            let found = world.configs().get("bulla-recipients").await?.data;
            ensure!(found == config.data, "{found:?}");
            Ok(())
        })
        .await
        .is_ok()
    );
    world.event(&world.system, "bulla-recipients", "RecipientsRestored").await?;
    world.configs().delete("bulla-recipients", &DeleteParams::default()).await?;
    ensure!(world.recipients().await? == recipients);

    // A SealingKey that is deleted comes back, and the key never went.
    world.make("db", &[("a", "hunter2-first")]).await?;
    world.keys().delete("hybrid-1", &DeleteParams::default()).await?;
    state(&world, "hybrid-1", KeyState::Active).await?;
    eventually("neededBy", SOON, async || {
        let status = world.keys().get("hybrid-1").await?.status.context("no status")?;
        ensure!(status.needed_by == Some(1), "{status:?}");
        Ok(())
    })
    .await?;
    world.make("db2", &[("a", "hunter2-first")]).await?;
    world.finish().await
}

#[tokio::test]
async fn keys_are_made_preferred_and_set_aside_without_a_restart() -> Result<()> {
    let mut world = World::new("rotate").await?;
    let first = world.recipients().await?.swap_remove(0);
    let old = world.seal("old", &[("a", "hunter2-rotate")]).await?;
    world.keys().create(&PostParams::default(), &key("next", |spec| spec.prefer_after = Some("3s".into()))).await?;
    let both = eventually("two recipients", SOON, async || {
        let listed = world.recipients().await?;
        ensure!(listed.len() == 2, "{listed:?}");
        Ok(listed)
    })
    .await?;
    ensure!(both[0] == first, "the new one is published before it is preferred");
    let second = both[1].clone();
    eventually("the new key to be preferred", SOON, async || {
        ensure!(world.recipients().await?[0] == second);
        Ok(())
    })
    .await?;
    // Both open; the new one is what is sealed for.
    world.create(&old).await?;
    world.holds("old", &[("a", "hunter2-rotate")]).await?;
    world.make("new", &[("a", "hunter2-rotate")]).await?;

    // What is needed is not retired.
    eventually("the new key to be needed", SOON, async || {
        let status = world.keys().get("next").await?.status.context("no status")?;
        ensure!(status.needed_by == Some(1), "{:?}", status.needed_by);
        Ok(())
    })
    .await?;
    let retired = |force: bool| Patch::Merge(json!({"spec": {"state": "Retired", "force": force}}));
    world.keys().patch("next", &PatchParams::default(), &retired(false)).await?;
    let kept = state(&world, "next", KeyState::Active).await?;
    ensure!(kept.status.context("no status")?.conditions.iter().any(|c| c.type_ == "StillNeeded"));
    // Force counts in the update that changes the state, and in no other.
    let late = world.keys().patch("next", &PatchParams::default(), &retired(true)).await;
    ensure!(late.is_err_and(|error| error.to_string().contains("force counts only")));
    let active = Patch::Merge(json!({"spec": {"state": "Active"}}));
    world.keys().patch("next", &PatchParams::default(), &active).await?;
    world.keys().patch("next", &PatchParams::default(), &retired(true)).await?;
    state(&world, "next", KeyState::Retired).await?;
    world.ask("new", "0").await?;

    // Rolled back.
    let patch = |state: &str| Patch::Merge(json!({"spec": {"state": state, "force": null}}));
    world.keys().patch("next", &PatchParams::default(), &patch("Standby")).await?;
    state(&world, "next", KeyState::Standby).await?;
    eventually("the first alone", SOON, async || {
        ensure!(world.recipients().await? == std::slice::from_ref(&first));
        Ok(())
    })
    .await?;
    world.ask("new", "1").await?;
    world.ready("new", "Applied").await?;

    // Compromised is left only by editing the Secret, and what the key opens says so.
    world.keys().patch("next", &PatchParams::default(), &patch("Compromised")).await?;
    state(&world, "next", KeyState::Compromised).await?;
    let exposed = async |name: &str| {
        let status = world.sealed().get(name).await?.status.context("no status")?;
        Ok::<_, anyhow::Error>(status.conditions.iter().any(|c| c.type_ == "KeyCompromised" && c.status == "True"))
    };
    eventually("new to say that its key is compromised", SOON, async || {
        ensure!(exposed("new").await?);
        Ok(())
    })
    .await?;
    ensure!(!exposed("old").await?, "another key opens it");
    let compromised = world.sealed().get("new").await?;
    world.restart().await?;
    let again = world.sealed().get("new").await?;
    ensure!(again.metadata.resource_version == compromised.metadata.resource_version, "a restart writes nothing");
    eventually("the Secret to keep it", SOON, async || {
        let secret = world.key_secrets().get("bulla-key-next").await?;
        ensure!(secret.annotations()[KEY_STATE_ANNOTATION] == "Compromised");
        Ok(())
    })
    .await?;
    world.keys().patch("next", &PatchParams::default(), &patch("Active")).await?;
    let refused = state(&world, "next", KeyState::Compromised).await?;
    ensure!(refused.status.context("no status")?.conditions.iter().any(|c| c.type_ == "StateRefused"));
    ensure!(world.recipients().await? == std::slice::from_ref(&first));

    // The format can't change.
    let patch = Patch::Merge(json!({"spec": {"format": "classical"}}));
    ensure!(world.keys().patch("next", &PatchParams::default(), &patch).await.is_err());

    // What waits for a key gets it when it comes.
    let stored = world.key_secrets().get("bulla-key-next").await?;
    world.key_secrets().delete("bulla-key-next", &DeleteParams::default()).await?;
    eventually("the key to be missed", SOON, async || {
        let status = world.keys().get("next").await?.status.context("no status")?;
        ensure!(status.conditions.iter().any(|c| c.reason == "KeyMissing"), "{status:?}");
        Ok(())
    })
    .await?;
    world.ask("new", "2").await?;
    world.ready("new", "NoKey").await?;
    let mut again = Secret { data: stored.data, type_: stored.type_, ..Secret::default() };
    again.metadata.name = Some("bulla-key-next".to_owned());
    again.metadata.annotations = stored.metadata.annotations;
    world.key_secrets().create(&PostParams::default(), &again).await?;
    world.ready("new", "Applied").await?;
    // Its own changes of what is published are nobody else's.
    let events = world.events(&world.system, "bulla-recipients").await?;
    ensure!(events.is_empty(), "{events:?}");
    world.finish().await
}

#[tokio::test]
async fn malformed_keys_are_told_and_good_ones_go_on() -> Result<()> {
    let mut world = World::new("badkeys").await?;
    let identity = |name: &str, data: &[(&str, &str)], owner: bool| -> Result<Secret> {
        let mut secret = Secret { type_: Some(SEALING_KEY_TYPE.to_owned()), ..Secret::default() };
        secret.metadata.name = Some(format!("bulla-key-{name}"));
        secret.data = Some(data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect());
        if owner {
            let config = json!([{"apiVersion": "v1", "kind": "ServiceAccount", "name": "bulla", "uid": "x"}]);
            secret.metadata.owner_references = serde_json::from_value(config)?;
        }
        Ok(secret)
    };
    let stranger = bulla::recipient::Identity::generate(bulla::recipient::RecipientKind::Hybrid)?;
    let text = stranger.expose();
    let account: k8s_openapi::api::core::v1::ServiceAccount =
        kube::Api::namespaced(world.client.clone(), &world.system).get("bulla").await?;
    let mut owned = identity("owned", &[("identity", &text)], true)?;
    if let Some(owner) = owned.metadata.owner_references.iter_mut().flatten().next() {
        owner.uid = account.uid().context("uid")?;
    }
    let first = world.recipients().await?;
    let real = world.key_secrets().get("bulla-key-hybrid-1").await?.data.context("data")?;
    let real = String::from_utf8(real["identity"].0.clone())?;
    for secret in [
        identity("doubled", &[("identity", &real)], false)?,
        identity("empty", &[], false)?,
        identity("damaged", &[("identity", "AGE-SECRET-KEY-PQ-1hunter2badkeys")], false)?,
        identity("mismatch", &[("identity", &text), ("recipient", first[0].as_str())], false)?,
        owned,
    ] {
        world.key_secrets().create(&PostParams::default(), &secret).await?;
    }
    for name in ["doubled", "empty", "damaged", "mismatch"] {
        world.event(&world.system, &format!("bulla-key-{name}"), "KeyMalformed").await?;
    }
    let metrics = world.get("metrics", "/metrics").await?.1;
    for line in [
        "bulla_malformed_sealing_keys 4",
        "bulla_key_state{key=\"hybrid-1\",state=\"Active\"} 1",
        "bulla_key_preferred{key=\"hybrid-1\"} 1",
    ] {
        ensure!(metrics.contains(line), "{line} is not in {metrics}");
    }
    ensure!(
        metrics.contains("bulla_key_renewal_due_timestamp_seconds ")
            && !metrics.contains("bulla_key_renewal_due_timestamp_seconds 0")
    );
    ensure!(world.recipients().await? == first);
    let sealed =
        super::world::sealed_for(stranger.recipient().clone(), &world.app, "theirs", &[("a", "hunter2-theirs")])?;
    world.create(&sealed).await?;
    world.ready("theirs", "NoKey").await?;

    // A key that this cluster does not know, without owner: it opens, and is not published.
    world.key_secrets().create(&PostParams::default(), &identity("found", &[("identity", &text)], false)?).await?;
    world.ready("theirs", "Applied").await?;
    state(&world, "found", KeyState::Standby).await?;
    ensure!(world.recipients().await? == first);
    world.make("good", &[("a", "hunter2-good")]).await?;
    // Without the double the key is what it was, and none is made in its place.
    world.key_secrets().delete("bulla-key-doubled", &DeleteParams::default()).await?;
    eventually("three that can't be used", SOON, async || {
        ensure!(world.get("metrics", "/metrics").await?.1.contains("bulla_malformed_sealing_keys 3"));
        Ok(())
    })
    .await?;
    world.make("better", &[("a", "hunter2-better")]).await?;
    ensure!(world.keys().get_opt("doubled").await?.is_none(), "it has a SealingKey");
    ensure!(world.recipients().await? == first);
    world.finish().await
}

/// `--renew-after` as a year would be: the next key is made, published, preferred, and what the one before sealed goes on opening.
#[tokio::test]
async fn an_old_key_is_renewed_by_itself() -> Result<()> {
    let mut world = World::with("renewal", &["--renew-after=10s", "--prefer-after=1s"]).await?;
    let first = world.recipients().await?.swap_remove(0);
    world.make("before", &[("a", "hunter2-renewal")]).await?;
    let status = state(&world, "hybrid-2", KeyState::Active).await?.status.unwrap_or_default();
    ensure!(status.recipient.as_deref() != Some(first.as_str()));
    ensure!(world.event(&world.system, "hybrid-2", "Renewed").await?.contains("reseal"));
    eventually("the new key to be preferred", SOON, async || {
        let listed = world.recipients().await?;
        ensure!(listed[0] != first && listed.contains(&first), "{listed:?}");
        Ok(())
    })
    .await?;
    // It is due again, and the metrics say when.
    let metrics = world.get("metrics", "/metrics").await?.1;
    let due =
        metrics.lines().find(|line| line.starts_with("bulla_key_renewal_due_timestamp_seconds")).context("no time")?;
    ensure!(!due.ends_with(" 0"), "{due}");
    world.meddle("before", json!({"data": {"a": "eA=="}})).await?;
    world.holds("before", &[("a", "hunter2-renewal")]).await?;
    world.make("after", &[("a", "hunter3-renewal")]).await?;
    world.finish().await
}
