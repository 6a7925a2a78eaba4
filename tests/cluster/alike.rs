//! The same objects for the established controller and for this one: Secrets, conditions and events are compared, before and after
//! each Secret is deleted. What differs is listed here, and in docs/coming-from-sealed-secrets.md with the reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{BitnamiSealedSecret, MANAGED, PATCH, SKIP_SET_OWNER_REFERENCES};
use bulla::scope::Scope;
use bulla_tests::{Established, binary, eventually, netns, skip};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use super::bitnami::{PAIRS, sealed_theirs};
use super::runbook::{CHART, SERVICE, SYSTEM};
use super::world::{SOON, World};

const VALUES: [(&str, &str); 2] = [("password", "hunter2-alike"), ("user", "anna-alike")];

/// An object, and the Secret of its name that is there before it.
struct Case {
    sealed: BitnamiSealedSecret,
    before: Option<Value>,
}

/// All of them, in a namespace.
fn cases(namespace: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut add = |name: &str, scope: Scope, template: Value, before: Option<Value>| -> Result<()> {
        let mut sealed = sealed_theirs(&PAIRS[0], namespace, name, scope, &VALUES);
        let mut whole = serde_json::to_value(&sealed.spec.template)?;
        for (key, value) in template.as_object().into_iter().flatten() {
            for (inner, value) in value.as_object().into_iter().flatten().filter(|_| key == "metadata") {
                let place = &mut whole["metadata"][inner];
                match (place.as_object_mut(), value.as_object()) {
                    (Some(old), Some(new)) => old.extend(new.clone()),
                    _ => *place = value.clone(),
                }
            }
            if key != "metadata" {
                whole[key] = value.clone();
            }
        }
        sealed.spec.template = Some(serde_json::from_value(whole)?);
        let before = before.map(|mut secret| {
            secret["metadata"]["name"] = name.into();
            secret
        });
        cases.push(Case { sealed, before });
        Ok(())
    };
    let there = |annotations: Value| {
        Some(json!({
            "metadata": {"labels": {"theirs": "x"}, "annotations": annotations},
            "data": {"password": "eA==", "theirs": "eQ=="},
        }))
    };
    let labelled = json!({"metadata": {"labels": {"app": "db"}, "annotations": {"note": "kept"}}});
    add("strict", Scope::Strict, json!({}), None)?;
    add("namespace-wide", Scope::NamespaceWide, json!({}), None)?;
    add("cluster-wide", Scope::ClusterWide, json!({}), None)?;
    add("labelled", Scope::Strict, labelled.clone(), None)?;
    add("typed", Scope::Strict, json!({"type": "example.com/db"}), None)?;
    add("immutable", Scope::Strict, json!({"immutable": true}), None)?;
    add("templated", Scope::Strict, json!({"data": {"url": "db://{{ .user | upper }}:{{ .password }}@x"}}), None)?;
    add("no-value", Scope::Strict, json!({"data": {"url": "{{ .missing }}"}}), None)?;
    add("foreign", Scope::Strict, labelled.clone(), there(json!({})))?;
    add("managed", Scope::Strict, labelled.clone(), there(json!({ MANAGED: "true" })))?;
    add("patched", Scope::Strict, labelled.clone(), there(json!({ PATCH: "true" })))?;
    add("patched-managed", Scope::Strict, labelled.clone(), there(json!({ PATCH: "true", MANAGED: "true" })))?;
    add("not-quite", Scope::Strict, labelled, there(json!({ MANAGED: "True", PATCH: "1" })))?;
    add("failing", Scope::Strict, json!({"data": {"url": "{{ .user.x.y }}"}}), None)?;
    let moved = sealed_theirs(&PAIRS[0], namespace, "elsewhere", Scope::Strict, &VALUES);
    add("moved", Scope::Strict, json!({}), None)?;
    cases.last_mut().context("a case")?.sealed.spec.encrypted_data = moved.spec.encrypted_data;
    let mut other = sealed_theirs(&PAIRS[1], namespace, "other-key", Scope::Strict, &VALUES);
    other.spec.encrypted_data.remove("user");
    cases.push(Case { sealed: other, before: None });
    // Made without an owner.
    let skipping = json!({"metadata": {"annotations": { SKIP_SET_OWNER_REFERENCES: "true" }}});
    let mut sealed = sealed_theirs(&PAIRS[0], namespace, "without-owner", Scope::Strict, &VALUES);
    let mut whole = serde_json::to_value(&sealed.spec.template)?;
    whole["metadata"]["annotations"] = skipping["metadata"]["annotations"].clone();
    sealed.spec.template = Some(serde_json::from_value(whole)?);
    cases.push(Case { sealed, before: None });
    // The older form.
    let mut legacy = sealed_theirs(&PAIRS[0], namespace, "legacy", Scope::Strict, &[]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "legacy", "namespace": namespace, "labels": {"app": "old"}},
        "data": {"password": "aHVudGVyMi1hbGlrZQ=="}, "type": "Opaque",
    });
    let whole = sealed_theirs(&PAIRS[0], namespace, "legacy", Scope::Strict, &[("whole", &secret.to_string())]);
    legacy.spec.data = whole.spec.encrypted_data.get("whole").cloned();
    legacy.spec.template = None;
    cases.push(Case { sealed: legacy, before: None });
    Ok(cases)
}

/// A message with the names in parentheses at its end in order: there they come in the order of a Go map, another one each time.
fn in_order(message: &str) -> String {
    let Some((start, names)) = message.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')) else {
        return message.to_owned();
    };
    let mut names: Vec<_> = names.split(", ").collect();
    names.sort_unstable();
    format!("{start}({})", names.join(", "))
}

/// What is said of one object, and its Secret, without what can't be the same: uids, versions, times, the namespace.
async fn outcome(world: &World, namespace: &str, name: &str) -> Result<Value> {
    let sealed: Api<BitnamiSealedSecret> = Api::namespaced(world.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
    let events: Api<Event> = Api::namespaced(world.client.clone(), namespace);
    let status = sealed.get(name).await?.status.unwrap_or_default();
    let synced = status.conditions.iter().find(|condition| condition.type_ == "Synced");
    let synced =
        synced.map(|condition| (condition.status.clone(), in_order(condition.message.as_deref().unwrap_or_default())));
    let told: BTreeSet<_> = events
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter(|event| event.involved_object.name.as_deref() == Some(name))
        .map(|event| (event.type_, event.reason, event.message.map(|text| in_order(&text.replace(namespace, "NS")))))
        .collect();
    let secret = secrets.get_opt(name).await?.map(|secret| {
        let owners: Vec<_> = secret
            .owner_references()
            .iter()
            .map(|owner| (owner.kind.clone(), owner.name.clone(), owner.controller, owner.block_owner_deletion))
            .collect();
        json!({
            "type": secret.type_, "immutable": secret.immutable, "data": secret.data, "labels": secret.metadata.labels,
            "annotations": secret.metadata.annotations, "owners": owners, "finalizers": secret.metadata.finalizers,
        })
    });
    Ok(json!({ "synced": synced, "events": told, "secret": secret }))
}

/// What the controller that runs makes of all of them: at first, and after the Secrets have been deleted.
async fn outcomes(world: &World, namespace: &str) -> Result<[BTreeMap<String, Value>; 2]> {
    let sealed: Api<BitnamiSealedSecret> = Api::namespaced(world.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
    let cases = cases(namespace)?;
    let mut names = Vec::new();
    for case in &cases {
        if let Some(before) = &case.before {
            secrets.create(&PostParams::default(), &serde_json::from_value(before.clone())?).await?;
        }
        sealed.create(&PostParams::default(), &case.sealed).await?;
        names.push(case.sealed.name_any());
    }
    let all = async || {
        let mut found = BTreeMap::new();
        for name in &names {
            found.insert(name.clone(), outcome(world, namespace, name).await?);
        }
        Ok::<_, anyhow::Error>(found)
    };
    let first = eventually("everything to be looked at", SOON, async || {
        let found = all().await?;
        for (name, outcome) in &found {
            let told = outcome["events"].as_array().is_some_and(|events| !events.is_empty());
            ensure!(told && !outcome["synced"].is_null(), "{name}: {outcome}");
        }
        Ok(found)
    })
    .await?;
    let mut born = BTreeMap::new();
    for name in &names {
        if let Some(secret) = secrets.get_opt(name).await? {
            born.insert(name.clone(), secret.uid());
            secrets.delete(name, &DeleteParams::default()).await?;
        }
    }
    // Whoever has an owner is made again. They come in any order; when one that is deleted after them all is back, whatever is
    // not there does not come any more.
    let back = async |name: &str, uid: &Option<String>| {
        eventually(&format!("{name} to be made again"), SOON, async || {
            let secret = secrets.get_opt(name).await?.context("not yet")?;
            ensure!(*uid != secret.uid());
            Ok(secret.uid())
        })
        .await
    };
    let owned = |name: &str| first[name]["secret"]["owners"].as_array().is_some_and(|owners| !owners.is_empty());
    for (name, uid) in born.iter().filter(|(name, _)| owned(name)) {
        back(name, uid).await?;
    }
    let last = "strict";
    let uid = secrets.get(last).await?.uid();
    secrets.delete(last, &DeleteParams::default()).await?;
    back(last, &uid).await?;
    let mut second = BTreeMap::new();
    for name in &names {
        let secret = outcome(world, namespace, name).await?["secret"].clone();
        second.insert(name.clone(), secret);
    }
    Ok([first, second])
}

#[tokio::test]
async fn both_controllers_make_the_same_of_the_same() -> Result<()> {
    if netns::address().is_none() {
        skip("the established controller's ports are its own only in a network namespace (cargo xtask test makes one)");
        return Ok(());
    }
    let _turn = Established::turn().await;
    let mut world = World::untouched("alike", SYSTEM).await?;
    VALUES.iter().for_each(|(_, value)| world.guard(value));
    world.guard("ANNA-ALIKE");
    world.cluster.install_crds(include_str!("../fixtures/bitnami-crd.yaml")).await?;
    world.cluster.apply(CHART).await?;
    world.plant_key(SYSTEM, "sealed-secrets-keyabcde", Some("active"), &PAIRS[0]).await?;
    let rival = Established::start(world.cluster, SYSTEM, SERVICE, &["--key-renew-period=0"]).await?;
    let there = outcomes(&world, &world.app).await;
    let there = there.with_context(|| rival.log())?;
    rival.stop().await?;

    let install =
        std::process::Command::new(binary("bulla")?).args(["install", "--bitnami=own", "--image", "x"]).output()?;
    let manifests = String::from_utf8(install.stdout)?;
    // The Service is the established controller's here.
    let manifests: Vec<_> = manifests.split("\n---\n").filter(|text| !text.contains("kind: Service\n")).collect();
    world.cluster.apply(&manifests.join("\n---\n")).await?;
    let second = world.cluster.namespace("alike-here").await?;
    world.args = ["--bitnami=own", "--bitnami-namespace", SYSTEM].map(str::to_owned).into();
    world.args.push(format!("--watch-namespace={second}"));
    world.start().await?;
    let here = outcomes(&world, &second).await?;

    // What was in the way is gone: there that is noticed only while it is still tried.
    let differs: [&[&str]; 2] = [&["failing", "without-owner"], &["failing", "without-owner", "foreign", "not-quite"]];
    let mut wrong = Vec::new();
    for ((when, differs), (there, here)) in
        ["at first", "after a deletion"].iter().zip(differs).zip(there.iter().zip(&here))
    {
        for (name, there) in there.iter().filter(|(name, _)| !differs.contains(&name.as_str())) {
            if there != &here[name] {
                wrong.push(format!("{name} {when}\n  there: {there}\n  here:  {}", here[name]));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), world.log());

    // What is not the same. A template that fails is told without Go's words: they quote values.
    let ([there, _], [here, _]) = (&there, &here);
    let says = |of: &BTreeMap<String, Value>, name: &str| of[name]["synced"].to_string();
    ensure!(says(there, "failing").contains("can't evaluate field"), "{}", says(there, "failing"));
    ensure!(says(here, "failing").contains("spec.template.data.url"), "{}", says(here, "failing"));
    ensure!(here["failing"]["secret"].is_null() && there["failing"]["secret"].is_null());
    // A Secret made without an owner is made there and called not managed; here it is synced.
    ensure!(says(there, "without-owner").contains("not managed"), "{}", says(there, "without-owner"));
    ensure!(says(here, "without-owner") == "[\"True\",\"\"]", "{}", says(here, "without-owner"));
    ensure!(here["without-owner"]["secret"] == there["without-owner"]["secret"]);
    world.finish().await
}
