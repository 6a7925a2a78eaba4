//! SealedSecrets of bitnami.com, with their own definition and the rights that `bulla install --bitnami` gives.

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{
    BitnamiCondition, BitnamiSealedSecret, MANAGED, NAMESPACE_WIDE, PATCH, SKIP_SET_OWNER_REFERENCES,
};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla::scope::Scope;
use bulla_tests::{Program, binary, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::bitnami::{PAIRS, established_account, sealed_theirs};
use super::world::{SOON, World, values};

async fn world(prefix: &str, args: &[&str]) -> Result<World> {
    let mut world = World::bitnami(prefix, &[&["--bitnami"], args].concat()).await?;
    let system = world.system.clone();
    world.plant_key(&system, "sealed-secrets-keyabcde", Some("active"), &PAIRS[0]).await?;
    world.start().await?;
    Ok(world)
}

fn template(sealed: &mut BitnamiSealedSecret, template: Value) -> Result<()> {
    sealed.spec.template = Some(serde_json::from_value(template)?);
    Ok(())
}

/// Waits until `Synced` is this, of the current generation.
async fn synced(world: &World, name: &str, status: &str) -> Result<BitnamiCondition> {
    eventually(&format!("{name} to be Synced={status}"), SOON, async || {
        let sealed = world.theirs().get(name).await?;
        let found = sealed.status.as_ref().context("no status")?;
        ensure!(found.observed_generation == sealed.metadata.generation, "an old status: {found:?}");
        let first = found.conditions.first().context("no condition")?;
        ensure!(first.type_ == "Synced" && first.status == status, "{found:?}\n{}", world.log());
        Ok(first.clone())
    })
    .await
}

async fn plant(world: &World, name: &str, metadata: Value) -> Result<Secret> {
    let mut object = json!({"metadata": metadata, "data": {"theirs": "eA==", "shared": "eQ=="}});
    object["metadata"]["name"] = name.into();
    Ok(world.secrets().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

async fn edit(world: &World, name: &str, change: Value) -> Result<()> {
    world.theirs().patch(name, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

#[tokio::test]
async fn the_secret_is_exactly_what_the_template_says() -> Result<()> {
    let mut world = world("bss", &[]).await?;
    let data = [("password", "hunter2-bss"), ("user", "anna-bss"), ("dropped", "hunter2-dropped")];
    let mut sealed = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &data);
    template(
        &mut sealed,
        json!({
            "metadata": {"labels": {"app": "db"}, "annotations": {"note": "n"}, "name": "ignored", "finalizers": ["a/b"]},
            "type": "example.com/db",
            "data": {"url": "db://{{ .user }}:{{ .password }}@{{ .missing }}", "dropped": null},
        }),
    )?;
    world.theirs().create(&PostParams::default(), &sealed).await?;
    let url = "db://anna-bss:hunter2-bss@<no value>";
    world.guard(url);
    let secret = world.holds("db", &[("password", "hunter2-bss"), ("user", "anna-bss"), ("url", url)]).await?;
    let first = synced(&world, "db", "True").await?;
    ensure!(first.message.as_deref().unwrap_or_default().is_empty() && first.reason.is_none(), "{first:?}");
    ensure!(first.last_update_time.is_some() && first.last_update_time == first.last_transition_time, "{first:?}");
    ensure!(secret.type_.as_deref() == Some("example.com/db"));
    ensure!(secret.labels().len() == 1 && secret.labels()["app"] == "db", "{:?}", secret.labels());
    ensure!(secret.annotations().len() == 1 && secret.annotations()["note"] == "n", "{:?}", secret.annotations());
    ensure!(secret.finalizers().is_empty());
    let uid = world.theirs().get("db").await?.uid().context("uid")?;
    let owners = serde_json::to_value(secret.owner_references())?;
    let expected = json!([{
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": uid, "controller": true,
    }]);
    ensure!(owners == expected, "{owners}");
    let note = world.event(&world.app, "db", "Unsealed").await?;
    ensure!(note == "SealedSecret unsealed successfully", "{note}");

    // Another generation that flips nothing: updated later, and no transition. Times are whole seconds.
    eventually("the next second", SOON, async || {
        let born = first.last_update_time.clone().context("time")?;
        ensure!(k8s_openapi::jiff::Timestamp::now().duration_since(born.0).as_millis() > 1100);
        Ok(())
    })
    .await?;
    edit(&world, "db", json!({"spec": {"template": {"metadata": {"labels": {"app": null, "tier": "x"}}}}})).await?;
    let second = synced(&world, "db", "True").await?;
    ensure!(
        second.last_transition_time == first.last_transition_time && second.last_update_time > first.last_update_time
    );
    let secret = eventually("the label", SOON, async || {
        let secret = world.secrets().get("db").await?;
        ensure!(secret.labels().contains_key("tier"));
        Ok(secret)
    })
    .await?;
    ensure!(secret.labels().len() == 1, "what the template no longer has is gone: {:?}", secret.labels());
    let (_, metrics) = world.get("metrics", "/metrics").await?;
    let line = format!(
        "sealed_secrets_controller_condition_info{{namespace=\"{}\",name=\"db\",condition=\"Synced\"}} 1",
        world.app
    );
    ensure!(
        metrics.contains(&line) && metrics.contains("sealed_secrets_controller_unseal_requests_total"),
        "{metrics}"
    );

    // Put back after a change, made again after a deletion, gone with its owner.
    world.meddle("db", json!({"data": {"password": "eA=="}})).await?;
    world.holds("db", &[("password", "hunter2-bss"), ("user", "anna-bss"), ("url", url)]).await?;
    world.delete_secret("db").await?;
    world.holds("db", &[("password", "hunter2-bss"), ("user", "anna-bss"), ("url", url)]).await?;
    world.theirs().delete("db", &DeleteParams::default()).await?;
    eventually("the Secret to be collected", SOON, async || {
        ensure!(world.secrets().get_opt("db").await?.is_none());
        Ok(())
    })
    .await?;
    eventually("the metric to be gone", SOON, async || {
        ensure!(!world.get("metrics", "/metrics").await?.1.contains("name=\"db\",condition"));
        Ok(())
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn what_does_not_open_is_said_as_the_established_controller_says_it() -> Result<()> {
    let mut world = world("bsserr", &[]).await?;
    let app = world.app.clone();
    let values = [("a", "hunter2-err"), ("b", "hunter2-err")];
    let good = world.seal_theirs(&PAIRS[0], "good", Scope::Strict, &values);
    let mut moved = sealed_theirs(&PAIRS[0], &app, "good", Scope::Strict, &values);
    moved.metadata.name = Some("moved".into());
    let foreign = sealed_theirs(&PAIRS[1], &app, "foreign", Scope::Strict, &values);
    let named = |name: &str| sealed_theirs(&PAIRS[0], &app, name, Scope::Strict, &values);
    let mut damaged = named("damaged");
    damaged.spec.encrypted_data.insert("c".into(), "!".into());
    let mut both = named("both");
    both.spec.data = Some("AAAA".into());
    let mut failing = named("failing");
    template(&mut failing, json!({"data": {"x": "{{ .a.b.c }}"}}))?;
    let mut looping = named("looping");
    template(
        &mut looping,
        json!({"data": {"x": "{{ define \"t\" }}{{ template \"t\" . }}{{ end }}{{ template \"t\" . }}"}}),
    )?;
    let mut large = named("large");
    template(&mut large, json!({"data": {"x": "{{ repeat 100000000 .a }}"}}))?;
    let mut key = named("key");
    template(&mut key, json!({"metadata": {"labels": { BITNAMI_KEY_LABEL: "active" }}}))?;
    let prefix = named("sealed-secrets-key");
    let cases = [
        (moved, "ErrUnsealFailed", "no key could decrypt secret (a, b)"),
        (foreign, "ErrUnsealFailed", "no key could decrypt secret (a, b)"),
        (damaged, "ErrUnsealFailed", "spec.encryptedData.c: illegal base64 data"),
        (both, "ErrUnsealFailed", "both spec.data and spec.encryptedData"),
        (failing, "ErrUnsealFailed", "spec.template.data.x: line 1"),
        (looping, "ErrUnsealFailed", "spec.template.data.x: line 1"),
        (large, "ErrUnsealFailed", "spec.template.data.x: line 1"),
        (key, "ErrUpdateFailed", "would be taken for a sealing key"),
        (prefix, "ErrUpdateFailed", "would be taken for a sealing key"),
    ];
    for (sealed, reason, says) in &cases {
        let name = sealed.name_any();
        world.theirs().create(&PostParams::default(), sealed).await?;
        let condition = synced(&world, &name, "False").await?;
        let message = condition.message.unwrap_or_default();
        ensure!(message.contains(says), "{name}: {message}");
        let note = world.event(&app, &name, reason).await?;
        let expected = if *reason == "ErrUnsealFailed" { format!("Failed to unseal: {message}") } else { message };
        ensure!(note == expected, "{name}: {note}");
        ensure!(world.secrets().get_opt(&name).await?.is_none(), "{name}");
    }
    // A thousand bad ones hold no good one up.
    world.theirs().create(&PostParams::default(), &good).await?;
    world.holds("good", &values).await?;
    let (_, metrics) = world.get("metrics", "/metrics").await?;
    let line = format!("sealed_secrets_controller_unseal_errors_total{{reason=\"unseal\",namespace=\"{app}\"}}");
    ensure!(metrics.contains(&line), "{metrics}");
    // The key comes back: at once.
    let system = world.system.clone();
    world.plant_key(&system, "restored", Some("active"), &PAIRS[1]).await?;
    world.holds("foreign", &values).await?;
    synced(&world, "foreign", "True").await?;
    world.finish().await
}

#[tokio::test]
async fn annotations_touch_what_they_touch_there() -> Result<()> {
    let mut world = world("bssann", &[]).await?;
    let data = [("password", "hunter2-ann"), ("shared", "ours-ann")];
    let theirs = [("theirs", "x"), ("shared", "y")];
    // Somebody else's: left alone until it is handed over.
    plant(&world, "db", json!({"labels": {"old": "x"}})).await?;
    let mut sealed = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &data);
    template(&mut sealed, json!({"metadata": {"labels": {"app": "db"}}}))?;
    world.theirs().create(&PostParams::default(), &sealed).await?;
    let message = synced(&world, "db", "False").await?.message.unwrap_or_default();
    ensure!(message == "failed update: Resource \"db\" already exists and is not managed by SealedSecret", "{message}");
    let note = world.event(&world.app, "db", "ErrUpdateFailed").await?;
    ensure!(note == "Resource \"db\" already exists and is not managed by SealedSecret", "{note}");
    world.holds("db", &theirs).await?;
    world.meddle("db", json!({"metadata": {"annotations": { MANAGED: "true" }}})).await?;
    let secret = world.holds("db", &data).await?;
    ensure!(secret.owner_references().len() == 1 && secret.labels().len() == 1 && secret.annotations().is_empty());
    synced(&world, "db", "True").await?;
    world.delete_secret("db").await?;
    world.holds("db", &data).await?;

    // Patched: our keys among theirs, no owner; deleted, it stays so.
    plant(&world, "patched", json!({"annotations": { PATCH: "true" }, "labels": {"old": "x"}})).await?;
    let mut sealed = world.seal_theirs(&PAIRS[0], "patched", Scope::Strict, &data);
    template(&mut sealed, json!({"metadata": {"labels": {"app": "db"}}}))?;
    world.theirs().create(&PostParams::default(), &sealed).await?;
    let secret =
        world.holds("patched", &[("theirs", "x"), ("password", "hunter2-ann"), ("shared", "ours-ann")]).await?;
    ensure!(secret.owner_references().is_empty() && secret.labels().len() == 2, "{:?}", secret.metadata);
    synced(&world, "patched", "True").await?;
    world.delete_secret("patched").await?;

    // Patched and managed: ours besides.
    plant(&world, "both", json!({"annotations": { PATCH: "true", MANAGED: "true" }})).await?;
    let sealed = world.seal_theirs(&PAIRS[0], "both", Scope::Strict, &[("password", "hunter2-ann")]);
    world.theirs().create(&PostParams::default(), &sealed).await?;
    let all = [("theirs", "x"), ("shared", "y"), ("password", "hunter2-ann")];
    ensure!(world.holds("both", &all).await?.owner_references().len() == 1);

    // Without an owner: made, kept up to date, and not made again.
    let mut sealed = world.seal_theirs(&PAIRS[0], "free", Scope::Strict, &data);
    template(&mut sealed, json!({"metadata": {"annotations": { SKIP_SET_OWNER_REFERENCES: "true" }}}))?;
    world.theirs().create(&PostParams::default(), &sealed).await?;
    let secret = world.holds("free", &data).await?;
    ensure!(secret.owner_references().is_empty() && secret.annotations().len() == 1);
    synced(&world, "free", "True").await?;
    edit(&world, "free", json!({"spec": {"template": {"metadata": {"labels": {"more": "x"}}}}})).await?;
    eventually("the label", SOON, async || {
        ensure!(world.secrets().get("free").await?.labels().contains_key("more"));
        Ok(())
    })
    .await?;
    synced(&world, "free", "True").await?;
    world.delete_secret("free").await?;

    // Immutable: said as there, and the way out is to delete it.
    let mut sealed = world.seal_theirs(&PAIRS[0], "fixed", Scope::Strict, &data);
    template(&mut sealed, json!({"immutable": true}))?;
    world.theirs().create(&PostParams::default(), &sealed).await?;
    ensure!(world.holds("fixed", &data).await?.immutable == Some(true));
    synced(&world, "fixed", "True").await?;
    let other = world.seal_theirs(&PAIRS[0], "fixed", Scope::Strict, &[("password", "hunter2-other")]);
    edit(
        &world,
        "fixed",
        json!({"spec": {"encryptedData": {"shared": null, "password": other.spec.encrypted_data["password"]}}}),
    )
    .await?;
    let message = synced(&world, "fixed", "False").await?.message.unwrap_or_default();
    ensure!(
        message.contains(&format!("Error updating {}/fixed: the target Secret is immutable.", world.app)),
        "{message}"
    );
    world.holds("fixed", &data).await?;
    world.delete_secret("fixed").await?;
    world.holds("fixed", &[("password", "hunter2-other")]).await?;

    // A wider scope, by annotation alone: it changes no generation.
    let mut wide = world.seal_theirs(&PAIRS[0], "wide", Scope::NamespaceWide, &data);
    wide.metadata.annotations = None;
    world.theirs().create(&PostParams::default(), &wide).await?;
    synced(&world, "wide", "False").await?;
    edit(&world, "wide", json!({"metadata": {"annotations": { NAMESPACE_WIDE: "true" }}})).await?;
    world.holds("wide", &data).await?;

    // Still nobody made these again.
    for name in ["patched", "free"] {
        ensure!(world.secrets().get_opt(name).await?.is_none(), "{name} was made again");
    }
    world.finish().await
}

#[tokio::test]
async fn a_restart_costs_nothing_and_observing_writes_nothing() -> Result<()> {
    let mut world = world("bssrest", &[]).await?;
    let data = [("password", "hunter2-rest")];
    for name in ["one", "two"] {
        let sealed = world.seal_theirs(&PAIRS[0], name, Scope::Strict, &data);
        world.theirs().create(&PostParams::default(), &sealed).await?;
        world.holds(name, &data).await?;
        synced(&world, name, "True").await?;
    }
    let versions = async |world: &World| {
        let mut all = Vec::new();
        for name in ["one", "two"] {
            all.push(world.secrets().get(name).await?.resource_version());
            all.push(world.theirs().get(name).await?.resource_version());
        }
        Ok::<_, anyhow::Error>(all)
    };
    let before = versions(&world).await?;
    world.restart().await?;
    world.get("http", "/readyz").await?;
    // One more object, so that what came before it has been looked at.
    let sealed = world.seal_theirs(&PAIRS[0], "three", Scope::Strict, &data);
    world.theirs().create(&PostParams::default(), &sealed).await?;
    world.holds("three", &data).await?;
    ensure!(versions(&world).await? == before, "a restart wrote something");
    let opened =
        |metrics: &str| metrics.lines().find_map(|line| line.strip_prefix("bulla_opened_total ").map(str::to_owned));
    let (_, metrics) = world.get("metrics", "/metrics").await?;
    ensure!(opened(&metrics).as_deref() == Some("1"), "{metrics}");

    // Observing: the same, one that differs, one without its Secret, and one that does not open.
    world.stop().await?;
    world.secrets().delete("two", &DeleteParams::default()).await?;
    world.meddle("three", json!({"data": {"password": "eA=="}})).await?;
    let foreign = world.seal_theirs(&PAIRS[1], "four", Scope::Strict, &data);
    world.theirs().create(&PostParams::default(), &foreign).await?;
    world.args = vec!["--bitnami=observe".into(), "--bitnami-namespace".into(), world.system.clone()];
    let before = (
        world.secrets().list(&Default::default()).await?.items.iter().map(|s| s.resource_version()).collect::<Vec<_>>(),
        world.theirs().list(&Default::default()).await?.items.iter().map(|s| s.resource_version()).collect::<Vec<_>>(),
    );
    world.start().await?;
    eventually("what was observed", SOON, async || {
        let (_, metrics) = world.get("metrics", "/metrics").await?;
        for (result, count) in [("Same", 1), ("Missing", 1), ("Different", 1), ("NoKey", 1)] {
            let line = format!("bulla_bitnami_observed{{result=\"{result}\"}} {count}");
            ensure!(metrics.contains(&line), "{line}: {metrics}");
        }
        Ok(())
    })
    .await?;
    let after = (
        world.secrets().list(&Default::default()).await?.items.iter().map(|s| s.resource_version()).collect::<Vec<_>>(),
        world.theirs().list(&Default::default()).await?.items.iter().map(|s| s.resource_version()).collect::<Vec<_>>(),
    );
    ensure!(before == after, "observing wrote something");
    // And what it found, for people.
    let status = |words: &[&str]| {
        let mut command = std::process::Command::new(binary("bulla")?);
        command.args(["status", "--observed", "--controller-namespace", &world.system]).args(words);
        Ok::<_, anyhow::Error>(command.env("KUBECONFIG", world.cluster.kubeconfig()).output()?)
    };
    eventually("what was observed to be told", SOON, async || {
        let run = status(&[])?;
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        ensure!(err.contains(": 1 Different, 1 Missing, 1 NoKey, 1 Same"), "{out}{err}");
        ensure!(run.status.code() == Some(10), "{run:?}");
        for (name, found) in [("four", "NoKey"), ("three", "Different"), ("two", "Missing")] {
            let line = out.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap_or_default();
            ensure!(line.starts_with(&world.app) && line.contains(found), "{out}");
        }
        ensure!(out.lines().count() == 4, "{out}");
        Ok(())
    })
    .await?;
    let json: Value = serde_json::from_slice(&status(&["-o", "json"])?.stdout)?;
    ensure!(json["summary"]["observed"] == 4 && json["summary"]["odd"] == 3 && json["results"]["Same"] == 1, "{json}");
    ensure!(json["objects"].as_array().is_some_and(|objects| objects.len() == 3), "{json}");
    ensure!(values(&world.secrets().get("three").await?)["password"] == "x");
    ensure!(world.log().contains("three (bitnami.com)"), "{}", world.log());
    // A key that comes is tried at once.
    let system = world.system.clone();
    world.plant_key(&system, "restored", Some("active"), &PAIRS[1]).await?;
    eventually("the key to be tried", SOON, async || {
        let (_, metrics) = world.get("metrics", "/metrics").await?;
        ensure!(metrics.contains("bulla_bitnami_observed{result=\"Missing\"} 2"), "{metrics}");
        Ok(())
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn called_controller_it_runs_with_the_arguments_and_rights_that_are_there() -> Result<()> {
    let mut world = World::bare("asthere").await?;
    let (system, app) = (world.system.clone(), world.app.clone());
    world.cluster.apply(&established_account(&world)).await?;
    world.plant_key(&system, "sealed-secrets-keyabcde", Some("active"), &PAIRS[0]).await?;
    let link = world.dir.path().join("controller");
    std::os::unix::fs::symlink(binary("bulla-controller")?, &link)?;
    let version = std::process::Command::new(&link).arg("--version").output()?;
    ensure!(version.stdout.starts_with(b"controller version: v"), "{version:?}");
    let wrong = std::process::Command::new(&link).arg("--nonsense").output()?;
    ensure!(!wrong.status.success() && wrong.stderr == b"error: unknown flag: --nonsense\n", "{wrong:?}");
    let account = "sealed-secrets-controller";
    let kubeconfig = world.cluster.service_account_kubeconfig(&system, account, world.dir.path()).await?;
    let controller = Program::launch(&link)
        .args(["--update-status", "--key-renew-period", "0", "--rate-limit=7", "--additional-namespaces", &app])
        .args(["--listen-addr", "127.0.0.1:0", "--listen-metrics-addr=127.0.0.1:0"])
        .env("KUBECONFIG", &kubeconfig)
        .env("POD_NAMESPACE", &system)
        .spawn()?;
    world.controller = Some(controller);
    let data = [("password", "hunter2-asthere")];
    let sealed = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &data);
    world.theirs().create(&PostParams::default(), &sealed).await?;
    world.holds("db", &data).await?;
    synced(&world, "db", "True").await?;
    plant(&world, "patched", json!({"annotations": { PATCH: "true" }})).await?;
    let sealed = world.seal_theirs(&PAIRS[0], "patched", Scope::Strict, &data);
    world.theirs().create(&PostParams::default(), &sealed).await?;
    world.holds("patched", &[("theirs", "x"), ("shared", "y"), data[0]]).await?;
    ensure!(world.get("http", "/readyz").await?.0 == 200 && world.get("http", "/v1/cert.pem").await?.0 == 200);
    ensure!(world.log().contains("--rate-limit"), "{}", world.log());
    world.finish().await
}
