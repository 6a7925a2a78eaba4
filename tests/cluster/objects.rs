//! A SealedSecret's life: made, changed, drifting, suspended, immutable, malformed, gone.

use anyhow::{Context, Result, ensure};
use bulla::metadata::{CONTENT_ANNOTATION, SEALED_SECRET_ANNOTATION};
use bulla::resource::{Drift, TemplateMetadata};
use bulla_tests::eventually;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::json;

use super::world::{SOON, World, values};

#[tokio::test]
async fn a_secret_is_made_changed_and_collected() -> Result<()> {
    let mut world = World::new("life").await?;
    let sealed = world
        .seal_as("db", &[("password", "hunter2-life"), ("user", "admin-life")], |template| {
            template.type_ = Some("example.com/login".to_owned());
            template.metadata = Some(TemplateMetadata {
                labels: [("app".into(), "shop".into()), ("argocd.argoproj.io/instance".into(), "x".into())].into(),
                annotations: [("note".into(), "one".into()), ("bulla.dev/managed".into(), "true".into())].into(),
            });
        })
        .await?;
    let made = world.create(&sealed).await?;
    ensure!(made.status.is_some_and(|status| status.observed_generation == Some(-1)), "the default of the status");
    let ready = world.ready("db", "Applied").await?;
    ensure!(ready.status == "True");
    let secret = world.holds("db", &[("password", "hunter2-life"), ("user", "admin-life")]).await?;
    ensure!(secret.type_.as_deref() == Some("example.com/login"));
    ensure!(secret.labels().len() == 1 && secret.labels()["app"] == "shop", "{:?}", secret.labels());
    let annotations = secret.annotations();
    ensure!(annotations[SEALED_SECRET_ANNOTATION] == "db" && annotations["note"] == "one", "{annotations:?}");
    ensure!(!annotations.contains_key("bulla.dev/managed"));
    let digest = annotations[CONTENT_ANNOTATION].clone();
    let owner = secret.owner_references()[0].clone();
    ensure!(owner.controller == Some(true) && owner.uid == made.metadata.uid.clone().context("no uid")?);
    ensure!(world.events(&world.app, "db").await?.is_empty(), "no event on success");

    // What others add stays; what we set and do not set any more goes.
    world.meddle("db", json!({"metadata": {"labels": {"theirs": "x"}, "annotations": {"theirs": "y"}}})).await?;
    world.ask("db", "1").await?;
    let sealed =
        world.seal_as("db", &[("password", "other-life")], |t| t.type_ = Some("example.com/login".into())).await?;
    world.update(&sealed).await?;
    world.ready("db", "Applied").await?;
    let secret = world.holds("db", &[("password", "other-life")]).await?;
    ensure!(secret.labels().keys().eq(["theirs"]), "{:?}", secret.labels());
    let annotations = secret.annotations();
    ensure!(annotations.contains_key("theirs") && !annotations.contains_key("note"), "{annotations:?}");
    ensure!(annotations[CONTENT_ANNOTATION] != digest);
    ensure!(world.sealed().get("db").await?.spec.items.len() == 1, "a write of the status leaves the spec");

    world.sealed().delete("db", &DeleteParams::default()).await?;
    eventually("the Secret to be collected", SOON, async || {
        ensure!(world.secrets().get_opt("db").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn drift_is_put_back_and_told() -> Result<()> {
    let mut world = World::new("drift").await?;
    let data = [("password", "hunter2-drift")];
    world.make("db", &data).await?;
    world.meddle("db", json!({"data": {"password": "eA==", "more": "eA=="}})).await?;
    world.holds("db", &data).await?;
    let note = world.event(&world.app, "db", "DriftRepaired").await?;
    ensure!(note.contains("meddler"), "{note}");
    world.ready("db", "Applied").await?;

    world.delete_secret("db").await?;
    world.holds("db", &data).await?;
    eventually("two events", SOON, async || {
        let events = world.events(&world.app, "db").await?;
        ensure!(events.iter().filter(|(reason, _)| reason == "DriftRepaired").count() == 2, "{events:?}");
        Ok(())
    })
    .await?;

    // Somebody who keeps doing it is named, and left alone for a while.
    world.meddle("db", json!({"data": {"password": "eQ=="}})).await?;
    let note = world.event(&world.app, "db", "DriftContested").await?;
    ensure!(note.contains("meddler"), "{note}");
    world.holds("db", &data).await?;
    world.meddle("db", json!({"data": {"password": "eg=="}})).await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(values(&world.secrets().get("db").await?)["password"] == "z", "it was put back at once");
    // A change of the object itself is done all the same.
    world.ask("db", "now").await?;
    world.holds("db", &data).await?;
    world.finish().await
}

#[tokio::test]
async fn with_drift_warn_a_change_is_told_and_left() -> Result<()> {
    let mut world = World::new("warn").await?;
    let mut sealed = world.seal("db", &[("password", "hunter2-warn")]).await?;
    sealed.spec.drift = Some(Drift::Warn);
    world.create(&sealed).await?;
    world.ready("db", "Applied").await?;
    // A change that is none of the content is none.
    world.meddle("db", json!({"metadata": {"labels": {"theirs": "x"}}})).await?;
    world.ready("db", "Applied").await?;
    world.meddle("db", json!({"data": {"password": "eA=="}})).await?;
    let ready = world.ready("db", "Drifted").await?;
    ensure!(ready.status == "True" && ready.message.contains("meddler"), "{ready:?}");
    ensure!(values(&world.secrets().get("db").await?)["password"] == "x");
    world.ask("db", "1").await?;
    world.holds("db", &[("password", "hunter2-warn")]).await?;
    world.ready("db", "Applied").await?;
    world.delete_secret("db").await?;
    world.ready("db", "SecretDeleted").await?;
    ensure!(world.secrets().get_opt("db").await?.is_none());
    world.ask("db", "2").await?;
    world.holds("db", &[("password", "hunter2-warn")]).await?;
    world.finish().await
}

#[tokio::test]
async fn a_suspended_object_is_left_alone() -> Result<()> {
    let mut world = World::new("suspend").await?;
    let data = [("password", "hunter2-suspend")];
    world.make("db", &data).await?;
    let patch = |on: bool| Patch::Merge(json!({"spec": {"suspend": on}}));
    world.sealed().patch("db", &PatchParams::default(), &patch(true)).await?;
    let ready = world.ready("db", "Suspended").await?;
    ensure!(ready.status == "True", "it keeps its value: {ready:?}");
    world.delete_secret("db").await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(world.secrets().get_opt("db").await?.is_none(), "it was made again");
    world.sealed().patch("db", &PatchParams::default(), &patch(false)).await?;
    world.holds("db", &data).await?;
    world.ready("db", "Applied").await?;

    let mut sealed = world.seal("fresh", &data).await?;
    sealed.spec.suspend = Some(true);
    world.create(&sealed).await?;
    ensure!(world.ready("fresh", "Suspended").await?.status == "Unknown");
    world.finish().await
}

#[tokio::test]
async fn an_immutable_secret_stays_and_is_made_again_when_deleted() -> Result<()> {
    let mut world = World::new("immutable").await?;
    let sealed = world.seal_as("db", &[("password", "hunter2-imm")], |t| t.immutable = Some(true)).await?;
    world.create(&sealed).await?;
    world.ready("db", "Applied").await?;
    let first = world.holds("db", &[("password", "hunter2-imm")]).await?;
    ensure!(first.immutable == Some(true));
    // The same values sealed anew: another digest, the same content.
    let again = world.seal_as("db", &[("password", "hunter2-imm")], |t| t.immutable = Some(true)).await?;
    world.update(&again).await?;
    world.ready("db", "Applied").await?;
    let second = world.secrets().get("db").await?;
    ensure!(second.uid() == first.uid());
    ensure!(second.annotations()[CONTENT_ANNOTATION] != first.annotations()[CONTENT_ANNOTATION]);
    // Other values.
    let other = world.seal_as("db", &[("password", "other-imm")], |t| t.immutable = Some(true)).await?;
    world.update(&other).await?;
    let ready = world.ready("db", "Immutable").await?;
    ensure!(ready.status == "False");
    world.event(&world.app, "db", "Immutable").await?;
    world.delete_secret("db").await?;
    world.holds("db", &[("password", "other-imm")]).await?;
    world.ready("db", "Applied").await?;
    world.event(&world.app, "db", "Recovered").await?;
    world.finish().await
}

#[tokio::test]
async fn a_change_of_type_is_told() -> Result<()> {
    let mut world = World::new("type").await?;
    world.make("db", &[("password", "hunter2-type")]).await?;
    let other =
        world.seal_as("db", &[("password", "hunter2-type")], |t| t.type_ = Some("example.com/x".into())).await?;
    world.update(&other).await?;
    world.ready("db", "TypeImmutable").await?;
    let invalid =
        world.seal_as("tls", &[("tls.crt", "hunter2-type")], |t| t.type_ = Some("kubernetes.io/tls".into())).await?;
    world.create(&invalid).await?;
    let ready = world.ready("tls", "Invalid").await?;
    ensure!(ready.message.contains("tls.key"), "{ready:?}");
    world.finish().await
}

#[tokio::test]
async fn broken_objects_do_not_hold_up_good_ones() -> Result<()> {
    let mut world = World::new("broken").await?;
    // Damaged, moved, sealed for somebody else, with a template that fails.
    let mut damaged = world.seal("damaged", &[("a", "hunter2-broken")]).await?;
    damaged.spec.items.get_mut("a").context("a")?.sealed.truncate(60);
    let mut moved = world.seal("original", &[("a", "hunter2-broken")]).await?;
    moved.metadata.name = Some("moved".to_owned());
    let stranger = bulla::recipient::Identity::generate(bulla::recipient::RecipientKind::Hybrid)?;
    let foreign = super::world::sealed_for(stranger.recipient().clone(), &world.app, "foreign", &[("a", "hunter2")])?;
    let template = world
        .seal_as("template", &[("a", "hunter2-broken")], |t| t.data = [("b".into(), "{{ .missing }}".into())].into())
        .await?;
    let mut tampered = world.seal("tampered", &[("a", "hunter2-broken")]).await?;
    let text = &mut tampered.spec.items.get_mut("a").context("a")?.sealed;
    let at = text.len() - 20;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    text.replace_range(at..=at, other);
    for sealed in [&damaged, &moved, &foreign, &template, &tampered] {
        world.create(sealed).await?;
    }
    // One that the schema would not let in, but for its own looseness: no items at all.
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("bulla.dev", "v1alpha1", "SealedSecret"));
    let raw: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.app, &kind);
    let bare = DynamicObject::new("bare", &kind).data(json!({"spec": {}}));
    raw.create(&PostParams::default(), &bare).await?;
    world.make("good", &[("a", "hunter2-good")]).await?;
    for (name, reason, type_) in [
        ("damaged", "Malformed", "Stalled"),
        ("moved", "Misplaced", "Stalled"),
        ("foreign", "NoKey", "Reconciling"),
        ("template", "TemplateFailed", "Stalled"),
        ("tampered", "DecryptionFailed", "Stalled"),
    ] {
        let ready = world.ready(name, reason).await?;
        ensure!(ready.status == "False", "{name}");
        let status = world.sealed().get(name).await?.status.context("no status")?;
        ensure!(status.conditions.iter().any(|c| c.type_ == type_), "{name}: {status:?}");
        ensure!(world.secrets().get_opt(name).await?.is_none(), "{name}");
        world.event(&world.app, name, reason).await?;
    }
    world.ready("bare", "Applied").await?;
    // Against the schema, with the field that is wrong.
    let bad = DynamicObject::new("bad", &kind).data(json!({"spec": {"scope": "everywhere", "items": {}}}));
    ensure!(raw.create(&PostParams::default(), &bad).await.is_err());
    let bad = DynamicObject::new("bad", &kind).data(json!({"spec": {"items": {"..x": {"sealed": "x"}}}}));
    ensure!(raw.create(&PostParams::default(), &bad).await.is_err());
    world.finish().await
}

#[tokio::test]
async fn the_largest_object_is_taken() -> Result<()> {
    let mut world = World::new("large").await?;
    let keys: Vec<String> = (0..2000).map(|n| format!("item-{n}")).collect();
    let data: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "hunter2-large")).collect();
    let sealed = world.seal("many", &data).await?;
    world.create(&sealed).await?;
    world.ready("many", "Applied").await?;
    world.holds("many", &data).await?;
    let big = "x".repeat(700 * 1024);
    world.make("big", &[("big", &big)]).await?;
    world.finish().await
}

#[tokio::test]
async fn a_namespace_that_ends_is_left_to_its_end() -> Result<()> {
    let mut world = World::new("ending").await?;
    world.make("db", &[("password", "hunter2-ending")]).await?;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.app, &DeleteParams::default()).await?;
    eventually("the namespace's end", SOON, async || {
        let found = namespaces.get_opt(&world.app).await?;
        ensure!(found.is_none(), "its status is {:?}", found.and_then(|n| n.status));
        Ok(())
    })
    .await?;
    ensure!(world.get("http", "/healthz").await?.0 == 200);
    world.stop().await
}
