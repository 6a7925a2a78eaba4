//! `bulla check --live` through the API server's service proxy: what opens, what does not, what nobody answers for, and who
//! answers in the place of the controller that was pinned.

use std::fs;

use anyhow::{Context, Result, ensure};
use bulla_tests::{netns, skip};

use super::{Bulla, World, developer, refused, stdout};

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A controller behind the service proxy.
async fn published(prefix: &str) -> Result<Option<World>> {
    let Some(address) = netns::address() else {
        skip(
            "the API server's service proxy reaches processes only in a network namespace (cargo xtask test makes one)",
        );
        return Ok(None);
    };
    let mut world = World::bare(prefix).await?;
    world.http_addr = format!("{address}:0");
    world.start().await?;
    let port: u16 = world.address("http").await?.rsplit(':').next().context("a port")?.parse()?;
    world.cluster.publish_service(&world.system, "bulla", "http", &address, port).await?;
    Ok(Some(world))
}

#[tokio::test]
async fn check_asks_the_cluster_whether_files_open() -> Result<()> {
    let Some(mut world) = published("check").await? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let asker = developer(&world, dir.path()).await?;
    let admin = Bulla {
        program: asker.program.clone(),
        dir: asker.dir.clone(),
        kubeconfig: world.cluster.kubeconfig().to_path_buf(),
        namespace: world.system.clone(),
    };
    fs::create_dir(dir.path().join(".git"))?;
    world.recipients().await?;
    fs::write(dir.path().join("prod.pub"), stdout(&admin.ask(&["recipients"])?)?)?;
    let app = world.app.clone();
    world.guard("hunter2-check");
    let secret = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {app}}}\nstringData:\n  a: hunter2-check\n"
        )
    };
    let seal = |name: &str, to: &str| -> Result<()> {
        fs::write(dir.path().join("secret.yaml"), secret(name))?;
        stdout(&admin.run(&["seal", "secret.yaml", "-R", to, "-w", &format!("{name}.sealed.yaml")])?)?;
        fs::remove_file(dir.path().join("secret.yaml"))?;
        Ok(())
    };
    seal("opens", "prod.pub")?;

    // It opens.
    let output = admin.ask(&["check", "--live", "opens.sealed.yaml"])?;
    stdout(&output)?;
    ensure!(said(&output).contains("checked 1 file, 1 SealedSecret opens in "), "{}", said(&output));

    // Sealed for somebody else; and with one character of the ciphertext changed, which only a key can tell.
    stdout(&admin.run(&["keygen", "-w", "stranger.txt", "--recipient", "stranger.pub"])?)?;
    fs::remove_file(dir.path().join("stranger.txt"))?;
    seal("theirs", "stranger.pub")?;
    fs::write(dir.path().join("secret.yaml"), secret("changed"))?;
    let made = stdout(&admin.run(&["seal", "secret.yaml", "-R", "prod.pub", "-o", "json"])?)?;
    fs::remove_file(dir.path().join("secret.yaml"))?;
    let mut object: serde_json::Value = serde_json::from_str(&made)?;
    let item = &mut object["spec"]["items"]["a"]["sealed"];
    let mut text = item.as_str().context("an item")?.to_owned();
    let at = text.len() - 20;
    text.replace_range(at..=at, if text[at..].starts_with('A') { "B" } else { "A" });
    *item = text.into();
    fs::write(dir.path().join("changed.json"), object.to_string())?;
    stdout(&admin.run(&["check", "changed.json"])?)?;
    let output = admin.ask(&["check", "--live", "opens.sealed.yaml", "theirs.sealed.yaml", "changed.json"])?;
    let text = said(&output);
    ensure!(output.status.code() == Some(10), "{text}");
    ensure!(text.matches("error[BUL112]").count() == 2, "{text}");
    ensure!(text.contains("theirs does not open in ") && text.contains("NoKey"), "{text}");
    ensure!(text.contains("changed does not open in ") && text.contains("DecryptionFailed"), "{text}");
    ensure!(text.contains("--> theirs.sealed.yaml:1:1"), "{text}");

    // With the key pinned, who answers has to prove that they hold it: this one does.
    let policy = "version: 1\nrecipients:\n  prod: {file: prod.pub, cluster: prod}\nrules:\n  - {path: '**', recipients: [prod]}\n";
    fs::write(dir.path().join(".bulla.yaml"), policy)?;
    let output = admin.ask(&["check", "--live", "opens.sealed.yaml"])?;
    stdout(&output)?;
    ensure!(!said(&output).contains("note:"), "{}", said(&output));
    // And the controller of another cluster, behind the same address, does not.
    fs::rename(dir.path().join("stranger.pub"), dir.path().join("prod.pub"))?;
    refused(&admin.ask(&["check", "--live", "theirs.sealed.yaml"])?, 1, &["does not hold the key"])?;
    fs::remove_file(dir.path().join(".bulla.yaml"))?;

    // Nobody who may not ask is told; and a controller that is away is no finding.
    refused(&asker.ask(&["check", "--live", "opens.sealed.yaml"])?, 1, &["you may not reach the controller"])?;
    world.stop().await?;
    refused(&admin.ask(&["check", "--live", "opens.sealed.yaml"])?, 4, &["error:"])?;
    world.finish().await
}
