//! What repositories ask.

use anyhow::{Context, Result, ensure};
use bulla::envelope::Envelope;
use bulla::open::open;
use bulla::proof::{Challenger, Exchange, state};
use bulla::recipient::{Identity, Recipient, RecipientKind, parse_identities};
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
        (serde_json::to_string(&sealed)?.replacen("{", "{\"kind\":\"SealedSecret\",", 1).into_bytes(), 400),
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
async fn answers_are_proven_by_keys_that_are_in_use_and_by_no_other() -> Result<()> {
    let world = World::with("prove", &["--cluster-name", "prod"]).await?;
    let first = world.recipients().await?.swap_remove(0);
    let published = async |world: &World| {
        Ok::<_, anyhow::Error>(state(&world.configs().get("bulla-recipients").await?.data.unwrap_or_default()))
    };
    let prove = async |world: &World, pinned: &Recipient| -> Result<bool> {
        let challenger = Challenger::new(pinned)?;
        let (status, proof, body) = world.ask_proven("/v1/prove", b"", &challenger.challenge().to_string()).await?;
        let state = published(world).await?;
        let exchange = Exchange { path: "/v1/prove", request: b"", status, response: body.as_bytes(), state: &state };
        Ok(proof.is_some_and(|proof| challenger.verify(&exchange, &proof).is_ok()))
    };
    ensure!(prove(&world, &first).await?);
    // The state is that of the controller's own ring: what somebody else writes there is not proven, and put back.
    let challenger = Challenger::new(&first)?;
    let patch = kube::api::Patch::Merge(json!({"data": {"recovery": "age1evil"}}));
    world.configs().patch("bulla-recipients", &Default::default(), &patch).await?;
    let (status, proof, body) = world.ask_proven("/v1/prove", b"", &challenger.challenge().to_string()).await?;
    let forged =
        state(&[("cluster".to_owned(), "prod".to_owned()), ("recovery".to_owned(), "age1evil".to_owned())].into());
    let exchange = Exchange { path: "/v1/prove", request: b"", status, response: body.as_bytes(), state: &forged };
    ensure!(challenger.verify(&exchange, &proof.context("a proof")?).is_err());
    eventually("the proof to fit again", SOON, async || {
        ensure!(prove(&world, &first).await?);
        Ok(())
    })
    .await?;

    // Errors are proven too, and a proof is of its own path and body.
    for (path, body) in [("/v1/rewrap", &b"{\"envelopes\":[]}"[..]), ("/v1/rewrap", b"{"), ("/v1/reseal", b"[]")] {
        let challenger = Challenger::new(&first)?;
        let (status, proof, answer) = world.ask_proven(path, body, &challenger.challenge().to_string()).await?;
        let exchange = Exchange { path, request: body, status, response: answer.as_bytes(), state: b"" };
        let proof = proof.context("a proof")?;
        ensure!(challenger.verify(&exchange, &proof).is_ok(), "{path} {status} {answer}");
        ensure!(challenger.verify(&Exchange { path: "/v1/verify", ..exchange }, &proof).is_err());
    }

    // Whatever is wrong with a challenge is refused alike.
    let stranger = Identity::generate(RecipientKind::Hybrid)?;
    let foreign = Challenger::new(stranger.recipient())?.challenge().to_string();
    let good = Challenger::new(&first)?.challenge().to_string();
    let (_, file) = foreign.split_once(':').context("a colon")?;
    let (_, line) = sealed_for(first.clone(), "a", "b", &[("c", "d")])?.spec.envelopes.pop_first().context("a line")?;
    let (_, envelope) = line.split_once(':').context("a colon")?;
    let mut refusals = Vec::new();
    for challenge in [
        foreign.as_str(),
        &format!("{}:{file}", first.fingerprint()),
        envelope,
        "nonsense",
        "",
        &good[..good.len() - 4],
        &format!("{good}{}", "A".repeat(8192)),
        &format!("{good}\r\nBulla-Challenge: {good}"),
    ] {
        for path in ["/v1/prove", "/v1/rewrap"] {
            let (status, proof, body) = world.ask_proven(path, b"", challenge).await?;
            ensure!(status == 422 && proof.is_none(), "{status} {body}");
            refusals.push(body);
        }
    }
    refusals.push(world.post("/v1/prove", b"").await?.1.to_string());
    let parsed: Vec<Value> = refusals.iter().map(|body| serde_json::from_str(body)).collect::<Result<_, _>>()?;
    ensure!(parsed.iter().all(|body| *body == parsed[0] && body["error"] == "challenge-refused"), "{refusals:?}");

    // Standby goes on answering, Compromised and Retired do not.
    let spec = SealingKeySpec { prefer_after: Some("0s".into()), ..SealingKeySpec::default() };
    world.keys().create(&PostParams::default(), &SealingKey::new("next", spec)).await?;
    eventually("the next to be preferred, vouched for by the first", SOON, async || {
        ensure!(world.recipients().await?[0] != first && prove(&world, &first).await?);
        Ok(())
    })
    .await?;
    for (state, answers) in [("Standby", true), ("Compromised", false)] {
        let patch = kube::api::Patch::Merge(json!({"spec": {"state": state}}));
        world.keys().patch("hybrid-1", &Default::default(), &patch).await?;
        eventually(&format!("{state} to be {answers}"), SOON, async || {
            ensure!(world.recipients().await?.len() == 1);
            ensure!(prove(&world, &first).await? == answers);
            Ok(())
        })
        .await?;
    }
    world.finish().await
}

#[tokio::test]
async fn objects_are_sealed_afresh_for_those_who_are_configured() -> Result<()> {
    let identity = Identity::generate(RecipientKind::Hybrid)?;
    let (dr, limited) = (identity, Identity::generate(RecipientKind::Hybrid)?);
    let dir = tempfile::tempdir()?;
    let file = |name: &str, identity: &Identity| -> Result<String> {
        let path = dir.path().join(format!("{name}.pub"));
        std::fs::write(&path, identity.recipient().as_str())?;
        Ok(path.display().to_string())
    };
    let arguments = [
        "--recipient".to_owned(),
        format!("dr={}", file("dr", &dr)?),
        "--recipient".to_owned(),
        format!("limited={};namespaces=elsewhere", file("limited", &limited)?),
    ];
    let mut world = World::with("reseal", &arguments.each_ref().map(String::as_str)).await?;
    let sealed = world.seal("db", &[("a", "hunter2-reseal")]).await?;
    let published = world.configs().get("bulla-recipients").await?.data.context("data")?;
    ensure!(published["recovery"].contains(dr.recipient().as_str()));
    ensure!(!published["recovery"].contains(limited.recipient().as_str()), "a limited recipient is not published");
    let ask = |sealed: &bulla::resource::SealedSecret, add: &[&str]| {
        serde_json::to_vec(&json!({ "object": sealed, "add": add })).unwrap()
    };
    let (status, answer) = world.post("/v1/reseal", &ask(&sealed, &["dr"])).await?;
    ensure!(status == 200, "{status} {answer}");
    let made: bulla::resource::SealedSecret = serde_json::from_value(answer)?;
    ensure!(open(&made, &[&dr])?.data["a"].expose() == b"hunter2-reseal");
    ensure!(made.spec.items["a"].sealed != sealed.spec.items["a"].sealed);
    world.create(&made).await?;
    world.holds("db", &[("a", "hunter2-reseal")]).await?;
    let mut moved = sealed.clone();
    moved.metadata.namespace = Some("elsewhere".to_owned());
    let mut damaged = sealed.clone();
    let other = world.seal("db", &[("a", "hunter2-other")]).await?;
    damaged.spec.envelopes = other.spec.envelopes;
    let stranger = Identity::generate(RecipientKind::Hybrid)?;
    let mut shared = sealed.clone();
    let theirs = sealed_for(stranger.recipient().clone(), &world.app, "db", &[("a", "x")])?;
    shared.spec.envelopes.insert("eve".to_owned(), theirs.spec.envelopes["here"].clone());
    for (body, code, reason) in [
        (ask(&sealed, &["eve"]), 409, "unknown-recipient"),
        (ask(&shared, &[]), 409, "unknown-recipient"),
        (ask(&theirs, &[]), 409, "unknown-recipient"),
        (ask(&sealed, &["limited"]), 409, "other-namespace"),
        (ask(&moved, &["limited"]), 400, "malformed"),
        (ask(&damaged, &[]), 400, "malformed"),
        (b"{}".to_vec(), 400, "malformed"),
        (json!({"object": {"apiVersion": "v1", "kind": "Secret"}}).to_string().into_bytes(), 415, "unknown-kind"),
        (vec![b' '; (2 << 20) + 1], 413, "too-large"),
    ] {
        let (status, answer) = world.post("/v1/reseal", &body).await?;
        ensure!(status == code && answer["error"] == reason, "{status} {answer}, not {reason}");
    }
    world.finish().await
}

#[tokio::test]
async fn other_requests_are_refused_and_slow_ones_ended() -> Result<()> {
    let world = World::new("hostile").await?;
    ensure!(world.get("http", "/healthz").await?.0 == 200);
    ensure!(world.get("http", "/metrics").await?.0 == 404);
    ensure!(world.get("http", "/v1/verify").await?.0 == 405);
    ensure!(world.post("/v1/nothing", b"{}").await?.0 == 404);
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
