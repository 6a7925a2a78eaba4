//! The established controller's endpoints, and which Secrets are keys.

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{API_VERSION, BitnamiSealedSecret, CLUSTER_WIDE, Certificate, KIND, PrivateKey, open, open_item};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla::scope::Scope;
use bulla_tests::eventually;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::bitnami::{PAIRS, VECTORS, sealed_theirs};
use super::world::{SOON, World};

async fn certificate(world: &World) -> Result<Certificate> {
    let (status, body) = world.get("http", "/v1/cert.pem").await?;
    ensure!(status == 200, "{status} {body}");
    Ok(Certificate::from_pem(body.as_bytes())?)
}

fn body(sealed: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(sealed).unwrap()
}

#[tokio::test]
async fn keys_of_a_cluster_with_sealed_secrets_open_and_are_served() -> Result<()> {
    let mut world = World::bitnami("rsa", &["--bitnami", "--key-order-priority", "SecretCreationTimestamp"]).await?;
    let (system, app) = (world.system.clone(), world.app.clone());
    // An old one without the label, then one with it; one in another namespace; one that is not active any more.
    world.plant_key(&system, "sealed-secrets-key", None, &PAIRS[1]).await?;
    world.start().await?;
    ensure!(certificate(&world).await?.fingerprint() == PAIRS[1].certificate().fingerprint());
    // Times of creation are whole seconds.
    let born = world.key_secrets().get("sealed-secrets-key").await?.metadata.creation_timestamp.context("time")?;
    eventually("the next second", SOON, async || {
        let probe = world.plant_key(&app, "sealed-secrets-keyother", Some("active"), &PAIRS[0]).await;
        let at = match probe {
            Ok(secret) => secret.metadata.creation_timestamp,
            Err(_) => {
                let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &app);
                secrets.delete("sealed-secrets-keyother", &Default::default()).await?;
                None
            }
        };
        ensure!(at.is_some_and(|at| at > born));
        Ok(())
    })
    .await?;
    let sealed = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &[("a", "hunter2-rsa")]);
    let (status, answer) = world.post("/v1/verify", &body(&sealed)).await?;
    ensure!(status == 409, "a key of another namespace opens nothing: {status} {answer}");
    world.plant_key(&system, "sealed-secrets-keyabcde", Some("active"), &PAIRS[0]).await?;
    eventually("the new key", SOON, async || {
        ensure!(world.post("/v1/verify", &body(&sealed)).await?.0 == 200);
        ensure!(certificate(&world).await?.fingerprint() == PAIRS[0].certificate().fingerprint());
        Ok(())
    })
    .await?;
    // What Go sealed, new and old, in every scope.
    let known = |vector: &&Value| vector["key"].as_u64().is_some_and(|key| key < 2);
    for vector in VECTORS["vectors"].as_array().context("vectors")?.iter().filter(known) {
        let mut object = sealed_theirs(
            &PAIRS[0],
            vector["namespace"].as_str().context("ns")?,
            vector["name"].as_str().context("name")?,
            serde_json::from_value(vector["scope"].clone())?,
            &[],
        );
        object.spec.encrypted_data = serde_json::from_value(vector["items"].clone())?;
        let (status, answer) = world.post("/v1/verify", &body(&object)).await?;
        ensure!(status == 200, "{vector} {answer}");
        object.spec.encrypted_data.clear();
        object.spec.data = vector["legacy"].as_str().map(str::to_owned);
        ensure!(world.post("/v1/verify", &body(&object)).await?.0 == 200, "{vector}");
    }
    // Any other value of the label retires a key, at once.
    let patch = Patch::Merge(json!({"metadata": {"labels": { BITNAMI_KEY_LABEL: "compromised" }}}));
    world.key_secrets().patch("sealed-secrets-keyabcde", &PatchParams::default(), &patch).await?;
    eventually("the key to be out of use", SOON, async || {
        ensure!(world.post("/v1/verify", &body(&sealed)).await?.0 == 409);
        ensure!(certificate(&world).await?.fingerprint() == PAIRS[1].certificate().fingerprint());
        Ok(())
    })
    .await?;
    // One that is broken is named, and the others go on.
    let broken = json!({"data": {"tls.key": "Z2FyYmFnZQ=="}, "metadata": {"labels": { BITNAMI_KEY_LABEL: "active" }}});
    world.key_secrets().patch("sealed-secrets-keyabcde", &PatchParams::default(), &Patch::Merge(broken)).await?;
    let note = world.event(&system, "sealed-secrets-keyabcde", "KeyMalformed").await?;
    ensure!(note.contains("tls.key") && !note.contains("garbage"), "{note}");
    let other = world.seal_theirs(&PAIRS[1], "db", Scope::Strict, &[("a", "hunter2-rsa")]);
    ensure!(world.post("/v1/verify", &body(&other)).await?.0 == 200);
    world.recipients().await?;
    let (_, metrics) = world.get("metrics", "/metrics").await?;
    for line in [
        "sealed_secrets_controller_build_info{revision=\"v",
        "bulla_bitnami_malformed_sealing_keys 1",
        "sealed_secrets_controller_http_requests_total{path=\"/v1/cert.pem\",code=\"200\",method=\"get\"}",
        "bulla_sealing_keys 1",
    ] {
        ensure!(metrics.contains(line), "{line}: {}\n{metrics}", world.log());
    }
    world.finish().await
}

#[tokio::test]
async fn rotation_loses_nothing_and_takes_the_scope_from_the_object() -> Result<()> {
    let mut world = World::bitnami("rotate", &["--bitnami", "--key-order-priority", "SecretCreationTimestamp"]).await?;
    let system = world.system.clone();
    world.plant_key(&system, "sealed-secrets-keyold", Some("active"), &PAIRS[0]).await?;
    world.start().await?;
    let sealed = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &[("a", "hunter2-rotate"), ("b", "hunter2-b")]);
    let mut sent = serde_json::to_value(&sealed)?;
    // CVE-2026-22728: the template claims another scope than the object has.
    sent["spec"]["template"] = json!({
        "metadata": { "annotations": { CLUSTER_WIDE: "true", "note": "x" }, "labels": { "app": "db" }, "finalizers": ["a/b"] },
        "type": "Opaque",
        "data": { "url": "{{ .a }} {{ fail", "b": null },
    });
    sent["metadata"]["labels"] = json!({ "kept": "yes" });
    sent["status"] = json!({ "conditions": [{ "type": "Synced", "status": "True" }] });
    let (status, answer) = world.post("/v1/rotate", &body(&sent)).await?;
    ensure!(status == 200, "{status} {answer}");
    let made: BitnamiSealedSecret = serde_json::from_value(answer.clone())?;
    let (mut before, mut after) = (sent.clone(), answer);
    for object in [&mut before, &mut after] {
        object["spec"]["encryptedData"] = Value::Null;
    }
    ensure!(before == after, "nothing but the texts changes: {before} {after}");
    let key = PAIRS[0].key();
    let texts = &made.spec.encrypted_data;
    ensure!(texts.len() == 2 && texts["a"] != sealed.spec.encrypted_data["a"]);
    let label = format!("{}/db", world.app);
    ensure!(open_item(&texts["a"], label.as_bytes(), &[&key], None)?.0.expose() == b"hunter2-rotate");
    ensure!(open_item(&texts["a"], b"", &[&key], None).is_err(), "the template widened the scope");

    // As kubeseal passes a file on: YAML; and an old file stays one.
    let yaml = serde_yaml::to_string(&sent)?;
    let (status, answer) = world.post("/v1/rotate", yaml.as_bytes()).await?;
    ensure!(status == 200 && answer["metadata"]["labels"]["kept"] == "yes", "{status} {answer}");
    ensure!(world.post("/v1/verify", yaml.as_bytes()).await?.0 == 200);

    // Limits and refusals.
    let many: serde_json::Map<String, Value> =
        (0..1001).map(|i| (format!("k{i}"), sealed.spec.encrypted_data["a"].clone().into())).collect();
    let mut large = sent.clone();
    large["spec"]["encryptedData"] = many.into();
    let mut moved = sent.clone();
    moved["metadata"]["name"] = "other".into();
    let mut both = sent.clone();
    both["spec"]["data"] = "AA==".into();
    let mut damaged = sent.clone();
    damaged["spec"]["encryptedData"]["a"] = "AgA".into();
    let native = world.seal("db", &[("a", "hunter2-native")]).await?;
    let truncated = &body(&sent)[..100];
    let twice = body(&sent).strip_prefix(b"{").map(|rest| [b"{\"kind\":\"SealedSecret\",", rest].concat());
    for (what, bytes, wanted) in [
        ("too many operations", body(&large), 413),
        ("another name", body(&moved), 409),
        ("data beside encryptedData", body(&both), 409),
        ("damaged", body(&damaged), 409),
        ("the native kind", body(&native), 415),
        ("another kind", b"{\"apiVersion\": \"v1\", \"kind\": \"Secret\"}".to_vec(), 415),
        ("cut off", truncated.to_vec(), 415),
        ("a key twice", twice.context("an object")?, 400),
        ("another form", json!({"apiVersion": API_VERSION, "kind": KIND, "spec": 7}).to_string().into_bytes(), 400),
        ("too large", vec![b' '; (2 << 20) + 1], 413),
    ] {
        let (status, answer) = world.post("/v1/rotate", &bytes).await?;
        ensure!(status == wanted, "{what}: {status} {answer}");
        ensure!(answer["error"].is_string(), "{what}: {answer}");
    }
    ensure!(world.post("/v1/verify", &body(&native)).await?.0 == 200, "the native kind is still verified");
    ensure!(world.get("http", "/v1/rotate").await?.0 == 405);
    world.finish().await
}

#[tokio::test]
async fn the_first_key_is_made_by_its_owner_only_and_further_ones_when_told() -> Result<()> {
    let mut world = World::bitnami("firstrsa", &["--bitnami=observe"]).await?;
    world.start().await?;
    ensure!(world.get("http", "/v1/cert.pem").await?.0 == 503);
    let keys = async |world: &World| {
        let selected = ListParams::default().labels(&format!("{BITNAMI_KEY_LABEL}=active"));
        Ok::<_, anyhow::Error>(world.key_secrets().list(&selected).await?.items)
    };
    ensure!(keys(&world).await?.is_empty());
    world.args = ["--bitnami", "--my-cn", "prod", "--privatekey-labels", "team=a", "--bitnami-namespace"]
        .map(str::to_owned)
        .into();
    world.args.push(world.system.clone());
    world.restart().await?;
    let served = eventually("the first key", SOON, async || certificate(&world).await).await?;
    let made = keys(&world).await?;
    ensure!(made.len() == 1 && made[0].type_.as_deref() == Some("kubernetes.io/tls"));
    ensure!(made[0].metadata.labels.as_ref().is_some_and(|labels| labels["team"] == "a"));
    let name = made[0].metadata.name.clone().context("name")?;
    ensure!(name.starts_with("sealed-secrets-key") && name.len() == "sealed-secrets-key".len() + 5, "{name}");
    let data = made[0].data.as_ref().context("data")?;
    ensure!(data["tls.key"].0.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
    let key = PrivateKey::with_certificate(&data["tls.key"].0, &served)?;
    let sealed = {
        let pair = super::bitnami::Pair {
            private_key: String::from_utf8(data["tls.key"].0.clone())?,
            certificate: served.pem().to_owned(),
        };
        sealed_theirs(&pair, &world.app, "db", Scope::ClusterWide, &[("a", "hunter2-first")])
    };
    ensure!(open(&sealed, &[&key], None)?.secret.data["a"].expose() == b"hunter2-first");
    ensure!(world.post("/v1/verify", &body(&sealed)).await?.0 == 200);
    // Nothing more is made without being told; then one.
    world.restart().await?;
    ensure!(keys(&world).await?.len() == 1);
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    world.args.push(format!("--key-cutoff-time={now}"));
    world.restart().await?;
    eventually("a second key", SOON, async || {
        ensure!(certificate(&world).await?.fingerprint() != served.fingerprint());
        ensure!(world.post("/v1/verify", &body(&sealed)).await?.0 == 200, "the old one still opens");
        Ok(())
    })
    .await?;
    world.finish().await
}
