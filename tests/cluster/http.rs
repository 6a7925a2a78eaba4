//! What repositories ask.

use anyhow::{Context, Result, ensure};
use bulla::envelope::Envelope;
use bulla::open::open;
use bulla::recipient::{Identity, RecipientKind, parse_identities};
use bulla::resource::{SealingKey, SealingKeySpec};
use bulla_tests::eventually;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::world::{SOON, World, exchange, sealed_for};

#[tokio::test]
async fn verify_tells_whether_an_object_opens() -> Result<()> {
    let mut world = World::new("verify").await?;
    let sealed = world.seal("db", &[("a", "hunter2-verify")]).await?;
    let body = |sealed: &bulla::resource::SealedSecret| serde_json::to_vec(sealed).unwrap();
    let (status, answer) = world.post("/v1/verify", &body(&sealed)).await?;
    ensure!(status == 200 && answer == json!({"opens": true}), "{status} {answer}");

    let mut templated = sealed.clone();
    templated.spec.template.get_or_insert_default().data = [("b".to_owned(), "{{".to_owned())].into();
    ensure!(world.post("/v1/verify", &body(&templated)).await?.0 == 200, "templates are not looked at");

    let mut moved = sealed.clone();
    moved.metadata.name = Some("other".to_owned());
    let (status, answer) = world.post("/v1/verify", &body(&moved)).await?;
    ensure!(status == 409 && answer["reason"] == "Misplaced", "{status} {answer}");
    let stranger = Identity::generate(RecipientKind::Hybrid)?;
    let foreign = sealed_for(stranger.recipient().clone(), &world.app, "db", &[("a", "x")])?;
    let (status, answer) = world.post("/v1/verify", &body(&foreign)).await?;
    ensure!(status == 409 && answer["reason"] == "NoKey", "{status} {answer}");

    let mut kind: Value = serde_json::to_value(&sealed)?;
    kind["apiVersion"] = "bitnami.com/v1alpha1".into();
    for (bytes, wanted) in [
        (kind.to_string().into_bytes(), 415),
        (b"{".to_vec(), 400),
        (b"[]".to_vec(), 400),
        (b"{\"kind\": 1}".to_vec(), 400),
        (vec![b'['; 100_000], 400),
        (vec![0xff; 10], 400),
        (vec![b' '; (2 << 20) + 1], 413),
    ] {
        let (status, answer) = world.post("/v1/verify", &bytes).await?;
        ensure!(status == wanted, "{status} {answer}");
        ensure!(answer["error"].is_string(), "{answer}");
    }
    let mut damaged = sealed.clone();
    damaged.spec.items.get_mut("a").context("a")?.sealed.push('!');
    ensure!(world.post("/v1/verify", &body(&damaged)).await?.0 == 400);
    world.finish().await
}

#[tokio::test]
async fn rewrap_wraps_for_the_preferred_key_alone() -> Result<()> {
    let mut world = World::new("rewrap").await?;
    let mut sealed = world.seal("db", &[("a", "hunter2-rewrap")]).await?;
    let line = sealed.spec.envelopes.values().next().context("no line")?.clone();
    let ask = |lines: &[&str]| serde_json::to_vec(&json!({ "envelopes": lines })).unwrap();
    let (status, answer) = world.post("/v1/rewrap", &ask(&[&line])).await?;
    ensure!(status == 200 && answer["results"][0]["out"] == line.as_str(), "already for the preferred key: {answer}");

    let key = SealingKey::new("next", SealingKeySpec { prefer_after: Some("0s".into()), ..SealingKeySpec::default() });
    world.keys().create(&PostParams::default(), &key).await?;
    let old = line.parse::<Envelope>()?;
    let next = eventually("the new key to be preferred", SOON, async || {
        let recipient = world.recipients().await?.swap_remove(0);
        ensure!(recipient.fingerprint() != old.fingerprint());
        let (_, answer) = world.post("/v1/rewrap", &ask(&[&line])).await?;
        ensure!(answer["results"][0]["out"] != line.as_str(), "{answer}");
        Ok(recipient)
    })
    .await?;
    let stranger = Identity::generate(RecipientKind::Hybrid)?;
    let foreign = sealed_for(stranger.recipient().clone(), "x", "y", &[("a", "x")])?;
    let foreign = foreign.spec.envelopes.values().next().context("no line")?.clone();
    let classical = Identity::generate(RecipientKind::Classical)?;
    let classical = sealed_for(classical.recipient().clone(), "x", "y", &[("a", "x")])?;
    let classical = classical.spec.envelopes.values().next().context("no line")?.clone();
    let (status, answer) = world.post("/v1/rewrap", &ask(&[&line, "junk", &foreign, &classical])).await?;
    ensure!(status == 200, "{answer}");
    let results = answer["results"].as_array().context("no results")?;
    let made: Envelope = results[0]["out"].as_str().context("no line")?.parse()?;
    ensure!(made.fingerprint() == next.fingerprint() && made.id() == old.id());
    ensure!(results[0]["in"] == line.as_str());
    let errors: Vec<_> = results[1..].iter().map(|result| result["error"].as_str().unwrap_or_default()).collect();
    ensure!(errors == ["malformed", "unknown-recipient", "unknown-recipient"], "{errors:?}");

    // What came back opens with the new key.
    let secret = world.key_secrets().get("bulla-key-next").await?;
    let identity = parse_identities(std::str::from_utf8(&secret.data.context("data")?["identity"].0)?)?;
    let name = sealed.spec.envelopes.keys().next().context("no line")?.clone();
    sealed.spec.envelopes = [(name, made.to_string())].into();
    ensure!(open(&sealed, &[&identity[0]])?.data["a"].expose() == b"hunter2-rewrap");

    let many = vec!["x"; 1025];
    for (bytes, wanted) in [
        (ask(&many), 413),
        (b"{}".to_vec(), 400),
        (b"{\"envelopes\": [1]}".to_vec(), 400),
        (b"{\"envelopes\": [], \"to\": \"age1\"}".to_vec(), 400),
        (ask(&[]), 200),
    ] {
        let (status, answer) = world.post("/v1/rewrap", &bytes).await?;
        ensure!(status == wanted, "{status} {answer}");
    }
    // Compromised: the data key is to be replaced.
    let patch = kube::api::Patch::Merge(json!({"spec": {"state": "Compromised"}}));
    world.keys().patch("hybrid-1", &Default::default(), &patch).await?;
    eventually("must-reseal", SOON, async || {
        let (_, answer) = world.post("/v1/rewrap", &ask(&[&line])).await?;
        ensure!(answer["results"][0]["error"] == "must-reseal", "{answer}");
        Ok(())
    })
    .await?;
    world.finish().await
}

#[tokio::test]
async fn other_requests_are_refused_and_slow_ones_ended() -> Result<()> {
    let world = World::new("hostile").await?;
    ensure!(world.get("http", "/healthz").await?.0 == 200);
    ensure!(world.get("http", "/metrics").await?.0 == 404);
    ensure!(world.get("http", "/v1/verify").await?.0 == 405);
    ensure!(world.post("/v1/prove", b"{}").await?.0 == 404);
    world.recipients().await?;
    let (status, metrics) = world.get("metrics", "/metrics").await?;
    ensure!(status == 200 && metrics.contains("bulla_sealing_keys 1"), "{metrics}");
    let address = world.address("http").await?;
    let start = std::time::Instant::now();
    // A head that never ends.
    let slow = tokio::task::spawn_blocking(move || exchange(&address, b"GET / HTTP/1.1\r\nX-Slow: ")).await?;
    ensure!(start.elapsed() < std::time::Duration::from_secs(20), "{slow:?}");
    world.finish().await
}
