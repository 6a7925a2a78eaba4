//! Files of Bitnami's format brought over by the cluster: nobody sees a value, and the native twin makes the same Secret.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{BitnamiSealedSecret, CLUSTER_WIDE, open};
use bulla::manifest::emit::{Tree, yaml};
use bulla::resource::SealedSecret;
use bulla::scope::Scope;
use bulla_tests::{binary, eventually};
use serde_json::json;

use super::bitnami::{PAIRS, sealed_theirs};
use super::world::{SOON, World};

fn bulla(dir: &Path, url: &str, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("bulla")?);
    command.args(words).args(["--controller-url", url]).current_dir(dir).env_clear().env("HOME", dir);
    Ok(command.output()?)
}

fn well(output: &Output) -> Result<String> {
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}\n{err}", output.status);
    Ok(err)
}

fn body(object: &BitnamiSealedSecret) -> Vec<u8> {
    json!({ "object": object }).to_string().into_bytes()
}

/// A controller with an old key and a new one, and a folder with the cluster's recipient in `prod.pub`.
async fn world(prefix: &str) -> Result<(World, tempfile::TempDir, String)> {
    let mut world = World::bitnami(prefix, &["--bitnami"]).await?;
    let system = world.system.clone();
    world.plant_key(&system, "sealed-secrets-keyold", Some("active"), &PAIRS[0]).await?;
    world.start().await?;
    let dir = tempfile::tempdir()?;
    let recipient = world.recipients().await?.first().context("a recipient")?.as_str().to_owned();
    std::fs::write(dir.path().join("prod.pub"), recipient + "\n")?;
    let url = format!("http://{}", world.address("http").await?);
    Ok((world, dir, url))
}

#[tokio::test]
async fn a_twin_made_by_the_cluster_makes_the_same_secret() -> Result<()> {
    let (mut world, dir, url) = world("migrate").await?;
    let theirs = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &[("a", "hunter2-migrate"), ("b", "hunter2-other")]);
    let file = dir.path().join("db.yaml");
    let before = yaml(&[Tree::bitnami(&theirs)]);
    std::fs::write(&file, before.as_bytes())?;
    let words = ["migrate", "db.yaml", "--beside", "--live", "-R", "prod.pub"];
    let told = well(&bulla(dir.path(), &url, &words)?)?;
    ensure!(told.contains("migrated 1 SealedSecret in 1 file for prod"), "{told}");
    ensure!(std::fs::read(&file)? == before.as_bytes());
    let twin = std::fs::read_to_string(dir.path().join("db.bulla.yaml"))?;
    ensure!(twin.contains("prod: >-"), "the repository's name: {twin}");
    world.cluster.apply_in(&world.app, &twin).await?;
    eventually("the Secret", SOON, async || {
        world.holds("db", &[("a", "hunter2-migrate"), ("b", "hunter2-other")]).await.map(drop)
    })
    .await?;
    let told = well(&bulla(dir.path(), &url, &words)?)?;
    ensure!(told.contains("1 had a twin"), "{told}");
    world.finish().await
}

#[tokio::test]
async fn a_stranger_learns_nothing_and_chooses_no_recipient() -> Result<()> {
    let (mut world, _dir, _) = world("migrate-bad").await?;
    let theirs = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &[("a", "hunter2-bad")]);
    // A template that claims a wider scope has no say, and nothing is rendered.
    let mut claims = theirs.clone();
    let template = claims.spec.template.as_mut().context("template")?;
    let metadata = template.metadata.get_or_insert_default();
    metadata.annotations.get_or_insert_default().insert(CLUSTER_WIDE.to_owned(), "true".to_owned());
    template.data.insert("url".to_owned(), Some("{{ .a }}{{ .missing }}".to_owned()));
    let (status, answer) = world.post("/v1/migrate", &body(&claims)).await?;
    ensure!(status == 200, "{status} {answer}");
    let native: SealedSecret = serde_json::from_value(answer)?;
    ensure!(native.spec.scope.is_none() && native.spec.envelopes.len() == 1);

    let mut moved = theirs.clone();
    moved.metadata.name = Some("other".to_owned());
    let mut old = theirs.clone();
    old.spec.data = old.spec.encrypted_data.remove("a");
    let mut finalizers = theirs.clone();
    let template = finalizers.spec.template.as_mut().context("template")?;
    template.metadata.get_or_insert_default().finalizers = Some(vec!["a/b".to_owned()]);
    let mut damaged = theirs.clone();
    damaged.spec.encrypted_data.insert("a".to_owned(), "%".to_owned());
    let other = sealed_theirs(&PAIRS[1], &world.app, "db", Scope::Strict, &[("a", "x")]);
    for (object, wanted, word) in [
        (&moved, 409, "does-not-open"),
        (&other, 409, "does-not-open"),
        (&old, 409, "not-translated"),
        (&finalizers, 409, "not-translated"),
        (&damaged, 400, "malformed"),
    ] {
        let (status, answer) = world.post("/v1/migrate", &body(object)).await?;
        ensure!((status, answer["error"].as_str()) == (wanted, Some(word)), "{status} {answer}");
    }
    for (sent, wanted) in [
        ("{}".to_owned(), 400),
        (json!({ "object": theirs, "add": ["dr"] }).to_string(), 400),
        (json!({ "object": { "apiVersion": "v1", "kind": "Secret" } }).to_string(), 415),
    ] {
        let (status, answer) = world.post("/v1/migrate", sent.as_bytes()).await?;
        ensure!(status == wanted, "{sent}: {status} {answer}");
    }
    world.finish().await
}

#[tokio::test]
async fn the_cluster_seals_files_anew_and_only_their_texts_change() -> Result<()> {
    let (mut world, dir, url) = world("reseal-theirs").await?;
    let theirs = world.seal_theirs(&PAIRS[0], "db", Scope::NamespaceWide, &[("a", "hunter2-anew")]);
    let text = format!("# kept\n{}", &*yaml(&[Tree::bitnami(&theirs)]));
    std::fs::write(dir.path().join("db.yaml"), &text)?;
    std::fs::write(dir.path().join("cert.pem"), &PAIRS[0].certificate)?;
    let told = well(&bulla(dir.path(), &url, &["reseal", "db.yaml", "--live", "--cert", "cert.pem"])?)?;
    ensure!(
        told.contains("resealed 1 of 1 file for cert (rsa:") && told.contains("nobody can prove with RSA"),
        "{told}"
    );
    let after = std::fs::read_to_string(dir.path().join("db.yaml"))?;
    let changed: Vec<_> = text.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
    ensure!(changed.len() == 1 && changed[0].0.trim_start().starts_with("a: "), "{changed:?}");
    let stream = bulla::manifest::Stream::read(after.as_bytes())?;
    let object = stream.objects().next().context("an object")?.bitnami()?.sealed;
    let opened = open(&object, &[&PAIRS[0].key()], None)?;
    ensure!(opened.secret.data["a"].expose() == b"hunter2-anew");
    // A certificate of another size than the cluster's key: the answer is refused, and the file stays.
    std::fs::write(dir.path().join("large.pem"), &PAIRS[2].certificate)?;
    let refused = bulla(dir.path(), &url, &["reseal", "db.yaml", "--live", "--cert", "large.pem"])?;
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && err.contains("is not sealed for a key of the certificate's size"),
        "{err}"
    );
    ensure!(std::fs::read_to_string(dir.path().join("db.yaml"))? == after);
    world.finish().await
}
