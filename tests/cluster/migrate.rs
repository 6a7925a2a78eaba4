//! Files of Bitnami's format brought over by the cluster: nobody sees a value, and the native twin makes the same Secret.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
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

/// Somebody between the program and the controller, who changes answers. Returns where it is asked.
fn between(controller: String, change: fn(String) -> String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Who breaks off is told by the program's own failure.
            _ = pass_on(client, &controller, change);
        }
    });
    Ok(format!("http://{address}"))
}

fn pass_on(mut client: TcpStream, controller: &str, change: fn(String) -> String) -> Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let head = String::from_utf8(request)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body)?;
    let mut server = TcpStream::connect(controller)?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(&[head.as_bytes(), &body].concat())?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    client.write_all(change(answer).as_bytes())?;
    Ok(())
}

#[tokio::test]
async fn the_pinned_native_key_proves_who_sealed_files_of_the_old_format_anew() -> Result<()> {
    let (mut world, dir, url) = world("reseal-proven").await?;
    let theirs = world.seal_theirs(&PAIRS[0], "db", Scope::Strict, &[("a", "hunter2-proven"), ("b", "hunter2-also")]);
    let native = world.seal("other", &[("a", "hunter2-native")]).await?;
    std::fs::create_dir_all(dir.path().join(".git"))?;
    std::fs::create_dir(dir.path().join(".bulla"))?;
    std::fs::rename(dir.path().join("prod.pub"), dir.path().join(".bulla/prod.pub"))?;
    std::fs::write(dir.path().join(".bulla/prod-rsa.pem"), &PAIRS[0].certificate)?;
    std::fs::write(
        dir.path().join(".bulla.yaml"),
        "version: 1\nrecipients:\n  prod: {file: .bulla/prod.pub, context: prod}\n  prod-rsa: {file: .bulla/prod-rsa.pem}\n\
         rules:\n  - {path: '*.bulla.yaml', recipients: [prod]}\n  - {path: '**', recipients: [prod-rsa]}\n",
    )?;
    let text = format!("# kept\n{}", &*yaml(&[Tree::bitnami(&theirs)]));
    std::fs::write(dir.path().join("db.yaml"), &text)?;
    let twin = serde_json::to_string_pretty(&native)?;
    std::fs::write(dir.path().join("other.bulla.yaml"), &twin)?;
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name));

    // Another text for the first item of the answer; no proof; another proof: nothing is taken.
    let address = url.trim_start_matches("http://").to_owned();
    let changes: [fn(String) -> String; 3] = [
        |answer| {
            let Some(at) = answer.find("\"a\":\"").map(|at| at + 40) else { return answer };
            let other = if answer.as_bytes()[at] == b'A' { "B" } else { "A" };
            format!("{}{other}{}", &answer[..at], &answer[at + 1..])
        },
        |answer| answer.replacen("bulla-proof: ", "bulla-other: ", 1),
        |answer| {
            let Some(at) = answer.find("bulla-proof: ").map(|at| at + 13) else { return answer };
            let other = if answer.as_bytes()[at] == b'A' { "B" } else { "A" };
            format!("{}{other}{}", &answer[..at], &answer[at + 1..])
        },
    ];
    for change in changes {
        let lying = between(address.clone(), change)?;
        let refused = bulla(dir.path(), &lying, &["reseal", "db.yaml", "--live"])?;
        let err = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success() && err.contains("error"), "{err}");
        ensure!(read("db.yaml")? == text, "{err}");
    }
    // And in the middle of it all nobody who only passes on.
    let honest = between(address, |answer| answer)?;
    let told = well(&bulla(dir.path(), &honest, &["reseal", "db.yaml", "--live"])?)?;
    ensure!(told.contains("resealed 1 of 1 file for prod-rsa (rsa:") && !told.contains("nobody can prove"), "{told}");
    let after = read("db.yaml")?;
    let changed = text.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
    ensure!(changed == 2, "{after}");
    let stream = bulla::manifest::Stream::read(after.as_bytes())?;
    let object = stream.objects().next().context("an object")?.bitnami()?.sealed;
    let opened = open(&object, &[&PAIRS[0].key()], None)?;
    ensure!(
        opened.secret.data["a"].expose() == b"hunter2-proven" && opened.secret.data["b"].expose() == b"hunter2-also"
    );
    // A tree with files of both formats: each by its own rule.
    let told = well(&bulla(dir.path(), &url, &["reseal", ".", "--live"])?)?;
    ensure!(told.contains("resealed 1 of 1 file for prod-rsa") && told.contains("1 was current"), "{told}");
    ensure!(read("other.bulla.yaml")? == twin && read("db.yaml")? != after);
    world.finish().await
}
