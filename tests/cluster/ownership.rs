//! Whose a Secret is.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::world::{World, expected, values};

async fn plant(world: &World, name: &str, metadata: Value) -> Result<Secret> {
    let mut object = json!({"metadata": metadata, "data": {"theirs": "eA==", "shared": "eQ=="}});
    object["metadata"]["name"] = name.into();
    Ok(world.secrets().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone_until_it_is_handed_over() -> Result<()> {
    let mut world = World::new("own").await?;
    let data = [("password", "hunter2-own"), ("shared", "ours-own")];
    // An owner that exists, or the garbage collector takes the Secret away.
    let mut other = ServiceAccount::default();
    other.metadata.name = Some("owner".to_owned());
    let other = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.app)
        .create(&PostParams::default(), &other)
        .await?;
    let reference = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "name": "owner", "uid": other.uid(), "controller": true,
    });
    let handed = json!({"bulla.dev/managed": "true"});
    let cases = [
        ("controlled", json!({"ownerReferences": [reference], "annotations": handed})),
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
