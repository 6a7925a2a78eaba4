//! Whose a Secret is.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::world::{World, expected, values};

async fn plant(world: &World, name: &str, metadata: Value) -> Result<Secret> {
    let mut object = json!({"metadata": metadata, "data": {"theirs": "eA==", "shared": "eQ=="}});
    object["metadata"]["name"] = name.into();
    Ok(world.secrets().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

fn owner(api_version: &str, kind: &str, name: &str, controller: bool) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": "00000000-0000-4000-8000-000000000001", "controller": controller}])
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone_until_it_is_handed_over() -> Result<()> {
    let mut world = World::new("own").await?;
    let data = [("password", "hunter2-own"), ("shared", "ours-own")];
    let other = owner("apps/v1", "Deployment", "web", true);
    // The garbage collector would take away what names an owner that is not there: these name themselves as controllers
    // of kinds it knows, so the test looks before it does.
    let cases = [
        ("unowned", json!({})),
        ("annotated-for-another", json!({"annotations": {"bulla.dev/sealed-secret": "another"}})),
        ("managed-false", json!({"annotations": {"bulla.dev/managed": "yes"}})),
    ];
    for (name, metadata) in &cases {
        plant(&world, name, metadata.clone()).await?;
        let sealed = world.seal(name, &data).await?;
        world.create(&sealed).await?;
        world.ready(name, "Unowned").await?;
        ensure!(values(&world.secrets().get(name).await?) == expected(&[("theirs", "x"), ("shared", "y")]), "{name}");
    }
    // Handed over: at once, and wholly.
    world.meddle("unowned", json!({"metadata": {"annotations": {"bulla.dev/managed": "true"}}})).await?;
    let secret = world.holds("unowned", &data).await?;
    ensure!(secret.owner_references().len() == 1);
    world.ready("unowned", "Applied").await?;
    // Deleted: the way is free.
    world.delete_secret("managed-false").await?;
    world.holds("managed-false", &data).await?;

    // Ours after a restore that lost the owner references.
    plant(&world, "restored", json!({"annotations": {"bulla.dev/sealed-secret": "restored"}, "labels": {"kept": "x"}}))
        .await?;
    let sealed = world.seal("restored", &data).await?;
    world.create(&sealed).await?;
    let secret = world.holds("restored", &data).await?;
    ensure!(secret.labels().contains_key("kept"));
    world.ready("restored", "Applied").await?;
    drop(other);
    world.finish().await
}

#[tokio::test]
async fn in_patch_mode_only_our_own_keys_are_touched() -> Result<()> {
    let mut world = World::new("patch").await?;
    plant(&world, "db", json!({"annotations": {"bulla.dev/patch": "true"}})).await?;
    let sealed = world.seal("db", &[("one", "hunter2-one"), ("two", "hunter2-two")]).await?;
    world.create(&sealed).await?;
    world.ready("db", "Applied").await?;
    let all = [("one", "hunter2-one"), ("two", "hunter2-two"), ("theirs", "x"), ("shared", "y")];
    let secret = world.holds("db", &all).await?;
    ensure!(secret.owner_references().is_empty(), "the SealedSecret's end is not the Secret's");
    let fewer = world.seal("db", &[("one", "hunter2-one")]).await?;
    world.update(&fewer).await?;
    world.ready("db", "Applied").await?;
    world.holds("db", &[("one", "hunter2-one"), ("theirs", "x"), ("shared", "y")]).await?;
    // Drift of our key is put back, a change of theirs is theirs.
    world.meddle("db", json!({"data": {"one": "eA==", "theirs": "eg=="}})).await?;
    world.holds("db", &[("one", "hunter2-one"), ("theirs", "z"), ("shared", "y")]).await?;
    world.finish().await
}
