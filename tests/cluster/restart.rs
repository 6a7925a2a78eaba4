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

/// Requests for Secrets and SealedSecrets that are neither lists nor watches, as the API server counts them.
async fn singly(world: &World) -> Result<BTreeMap<(String, String), u64>> {
    let mut requests = world.cluster.apiserver_requests().await?;
    requests.retain(|(verb, resource), _| {
        let resource = resource.split('/').next().unwrap_or_default();
        matches!(resource, "secrets" | "sealedsecrets.bulla.dev") && verb != "LIST" && verb != "WATCH"
    });
    Ok(requests)
}

async fn until_applied(world: &World, count: usize) -> Result<()> {
    let count = count.to_string();
    eventually("all to be applied", SOON, async || {
        let metrics = world.get("metrics", "/metrics").await?.1;
        ensure!(counted(&metrics, "bulla_sealed_secrets{reason=\"Applied\"}") == count, "{metrics}");
        Ok(())
    })
    .await
}

/// Nobody else uses this API server, and this test looks at the controller only while it counts.
#[tokio::test]
async fn the_api_server_counts_no_get_and_no_write_for_a_restart() -> Result<()> {
    let mut world = World::alone("quiet").await?;
    for number in 0..100 {
        let sealed = world.seal(&format!("db-{number}"), &[("a", "hunter2-quiet")]).await?;
        world.create(&sealed).await?;
    }
    until_applied(&world, 100).await?;
    let last = world.seal("last", &[("a", "hunter2-quiet")]).await?;
    world.stop().await?;

    let before = singly(&world).await?;
    world.start().await?;
    until_applied(&world, 100).await?;
    // Whatever the start queued is done before an object that is applied later: changes come first only among what waits,
    // and nothing does.
    ensure!(singly(&world).await? == before, "{before:?} became {:?}", singly(&world).await?);
    world.create(&last).await?;
    until_applied(&world, 101).await?;
    let mut expected = before;
    for (verb, resource) in
        [("POST", "sealedsecrets.bulla.dev"), ("POST", "secrets"), ("PUT", "sealedsecrets.bulla.dev/status")]
    {
        *expected.entry((verb.to_owned(), resource.to_owned())).or_default() += 1;
    }
    let after = singly(&world).await?;
    ensure!(after == expected, "expected {expected:?}, not {after:?}");
    world.finish().await
}

/// What a status says is believed of this very object, these settings and this very Secret only.
#[tokio::test]
async fn after_a_restore_a_move_an_upgrade_or_a_changed_setting_it_ends_right() -> Result<()> {
    use bulla::resource::{Applied, SealedSecret, TemplateMetadata};
    use kube::ResourceExt as _;
    use kube::api::{Patch, PatchParams, PostParams};
    let mut world = World::new("restore").await?;
    let data = [("a", "hunter2-restore")];
    for name in ["upgraded", "moved", "restored", "older"] {
        world.make(name, &data).await?;
    }
    let labelled = world
        .seal_as("labelled", &data, |template| {
            let labels = [("tier".to_owned(), "one".to_owned())].into();
            template.metadata = Some(TemplateMetadata { labels, ..TemplateMetadata::default() });
        })
        .await?;
    world.create(&labelled).await?;
    world.ready("labelled", "Applied").await?;
    world.stop().await?;

    let say = async |name: &str, applied: Applied| -> Result<()> {
        let patch = json!({"status": {"applied": applied}});
        world.sealed().patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    };
    let status = async |name: &str| -> Result<(SealedSecret, Applied)> {
        let sealed = world.sealed().get(name).await?;
        let applied = sealed.status.clone().and_then(|status| status.applied);
        Ok((sealed, anyhow::Context::context(applied, "nothing applied")?))
    };
    // Written by another version of the controller.
    let (_, applied) = status("upgraded").await?;
    say("upgraded", Applied { inputs: "iother".to_owned(), ..applied }).await?;
    // Another object with the status of the one before it, as a backup brings it into another cluster; its Secret is not there.
    let (moved, applied) = status("moved").await?;
    let whole = moved.status.clone();
    world.sealed().delete("moved", &Default::default()).await?;
    eventually("the Secret to be collected", SOON, async || {
        ensure!(world.secrets().get_opt("moved").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    let mut again = SealedSecret::new("moved", moved.spec.clone());
    again.metadata.namespace = moved.metadata.namespace.clone();
    let mut again = world.sealed().create(&PostParams::default(), &again).await?;
    again.status = whole;
    world.sealed().replace_status("moved", &PostParams::default(), &again).await?;
    say("moved", applied).await?;
    // A Secret of an older backup: another uid, other data, without an owner.
    let secret = world.secrets().get("restored").await?;
    world.delete_secret("restored").await?;
    let mut old = secret.clone();
    old.metadata = Default::default();
    old.metadata.name = Some("restored".to_owned());
    old.metadata.annotations = Some(secret.annotations().clone());
    old.data = Some([("a".to_owned(), k8s_openapi::ByteString(b"old".to_vec()))].into());
    world.secrets().create(&PostParams::default(), &old).await?;
    // The same Secret at another version than was written.
    world.meddle("older", json!({"data": {"a": "eA==", "b": "eA=="}})).await?;

    world.args.push("--deny-template-label=tier".to_owned());
    world.start().await?;
    for name in ["upgraded", "moved", "restored", "older"] {
        world.holds(name, &data).await?;
        world.ready(name, "Applied").await?;
        let secret = world.secrets().get(name).await?;
        eventually("the status to name the Secret", SOON, async || {
            let applied = world.sealed().get(name).await?.status.unwrap_or_default().applied.unwrap_or_default();
            ensure!(applied.secret_uid == secret.uid().unwrap_or_default(), "{name}: {applied:?}");
            ensure!(applied.inputs != "iother");
            Ok(())
        })
        .await?;
    }
    world.ready("labelled", "Refused").await?;
    world.finish().await
}

/// etcd comes back from a backup, while the controller runs: versions begin anew, and a watch from a later one than there is
/// would wait without an error until there is one.
#[tokio::test]
async fn an_etcd_that_was_restored_from_a_backup_is_noticed() -> Result<()> {
    use bulla_tests::Component::{ApiServer, ControllerManager, Etcd};
    let mut world = World::alone("rewound").await?;
    // A leader without etcd loses its Lease and ends; who follows, or is alone without a Lease, goes on.
    world.args.push("--leader-elect=false".to_owned());
    world.restart().await?;
    world.make("kept", &[("a", "hunter2-rewound")]).await?;
    world.make("changed", &[("a", "hunter2-rewound")]).await?;
    let (plane, dir) = (world.cluster, world.cluster.dir().join("etcd"));
    let backup = world.dir.path().join("backup");
    plane.stop(Etcd)?;
    ensure!(std::process::Command::new("cp").arg("-r").args([&dir, &backup]).status()?.success());
    plane.restart(Etcd)?;
    plane.wait_until_ready()?;

    // What happens after the backup will not have happened.
    let changed = world.seal("changed", &[("a", "hunter3-rewound")]).await?;
    eventually("the API server to take it", SOON, async || world.update(&changed).await.map(drop)).await?;
    world.holds("changed", &[("a", "hunter3-rewound")]).await?;
    for number in 0..30 {
        world.make(&format!("lost-{number}"), &[("a", "hunter2-rewound")]).await?;
    }
    let late = world.seal("late", &[("a", "hunter4-rewound")]).await?;
    plane.kill(ApiServer)?;
    plane.kill(Etcd)?;
    std::fs::remove_dir_all(&dir)?;
    std::fs::rename(&backup, &dir).or_else(|_| {
        // Another file system.
        std::process::Command::new("cp").arg("-r").args([&backup, &dir]).status().map(drop)
    })?;
    plane.restart(Etcd)?;
    plane.restart(ApiServer)?;
    plane.wait_until_ready()?;
    plane.restart(ControllerManager)?;

    // Of the second generation, as one was before that the controller has seen.
    let again = world.seal("changed", &[("a", "hunter5-rewound")]).await?;
    eventually("the API server to take it", SOON, async || world.update(&again).await.map(drop)).await?;
    world.create(&late).await?;
    world.holds("late", &[("a", "hunter4-rewound")]).await?;
    world.holds("changed", &[("a", "hunter5-rewound")]).await?;
    world.ready("changed", "Applied").await?;
    world.holds("kept", &[("a", "hunter2-rewound")]).await?;
    world.meddle("kept", json!({"data": {"a": "eA=="}})).await?;
    world.holds("kept", &[("a", "hunter2-rewound")]).await?;
    // The key ring watches too.
    world.configs().delete("bulla-recipients", &Default::default()).await?;
    eventually("the recipients to be published again", SOON, async || {
        Ok(world.configs().get("bulla-recipients").await?)
    })
    .await?;
    ensure!(world.sealed().get_opt("lost-3").await?.is_none());
    world.finish().await
}

/// The API server drops what its definition does not know. Then a status says less than was written: that costs a look at each
/// start, and nothing in between.
#[tokio::test]
async fn a_definition_older_than_the_controller_is_no_reason_to_write_for_ever() -> Result<()> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::PostParams;
    let mut world = World::alone("older").await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let name = "sealedsecrets.bulla.dev";
    let current = definitions.get(name).await?.spec;
    let replace = async |change: &dyn Fn(&mut serde_json::Value)| -> Result<()> {
        let mut spec = serde_json::to_value(&current)?;
        change(&mut spec);
        let mut definition = definitions.get(name).await?;
        definition.spec = serde_json::from_value(spec)?;
        definitions.replace(name, &PostParams::default(), &definition).await?;
        Ok(())
    };
    replace(&|spec| {
        let status = spec.pointer_mut("/versions/0/schema/openAPIV3Schema/properties/status/properties").unwrap();
        for field in ["applied", "lastHandledReconcileAt"] {
            status.as_object_mut().unwrap().remove(field);
        }
    })
    .await?;
    // The API server takes a moment to go by it.
    let mut number = 0;
    eventually("a status that is cut", SOON, async || {
        number += 1;
        let name = format!("try-{number}");
        world.make(&name, &[("a", "hunter2-older")]).await?;
        let status = world.sealed().get(&name).await?.status.unwrap_or_default();
        ensure!(status.applied.is_none(), "it is not");
        Ok(())
    })
    .await?;
    let before = singly(&world).await?;
    world.make("fence", &[("a", "hunter2-older")]).await?;
    let written = async || {
        let after = singly(&world).await?;
        let key = ("PUT".to_owned(), "sealedsecrets.bulla.dev/status".to_owned());
        anyhow::Ok(after.get(&key).copied().unwrap_or(0) - before.get(&key).copied().unwrap_or(0))
    };
    ensure!(written().await? == 1, "one status for one object: {}", written().await?);
    // A Secret that is changed is put back all the same.
    world.meddle("fence", json!({"data": {"a": "eA=="}})).await?;
    world.holds("fence", &[("a", "hunter2-older")]).await?;

    // With the definition and the controller of one version all is as it should be, and the next start does nothing.
    replace(&|_| {}).await?;
    eventually("the statuses to be whole", SOON, async || {
        world.restart().await?;
        for sealed in world.sealed().list(&ListParams::default()).await? {
            ensure!(sealed.status.unwrap_or_default().applied.is_some(), "{:?}", sealed.metadata.name);
        }
        Ok(())
    })
    .await?;
    let before = versions(&world).await?;
    world.restart().await?;
    until_applied(&world, number + 1).await?;
    ensure!(versions(&world).await? == before, "something was written");
    world.finish().await
}
