//! The command line against a real cluster: what a developer and a platform engineer do, through the API server's
//! service proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use bulla_tests::{binary, netns, skip};

use super::world::World;

/// `bulla` with nothing of this machine's configuration.
struct Bulla {
    program: PathBuf,
    dir: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Bulla {
    fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(&self.dir).env_clear().env("HOME", &self.dir);
        Ok(command.output()?)
    }

    /// With the cluster's flags.
    fn ask(&self, words: &[&str]) -> Result<Output> {
        let kubeconfig = self.kubeconfig.display().to_string();
        self.run(&[words, &["--kubeconfig", &kubeconfig, "--controller-namespace", &self.namespace]].concat())
    }
}

fn stdout(output: &Output) -> Result<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{out}\n{err}", output.status);
    Ok(out.into_owned())
}

fn refused(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{}\n{text}", output.status);
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in\n{text}");
    }
    Ok(())
}

async fn developer(world: &World, dir: &Path) -> Result<Bulla> {
    let kubeconfig = world.cluster.service_account_kubeconfig(&world.app, "default", dir).await?;
    Ok(Bulla { program: binary("bulla")?, dir: dir.to_path_buf(), kubeconfig, namespace: world.system.clone() })
}

fn changed_lines(before: &str, after: &str) -> usize {
    assert_eq!(before.lines().count(), after.lines().count());
    before.lines().zip(after.lines()).filter(|(before, after)| before != after).count()
}

#[tokio::test]
async fn the_main_job_from_the_command_line_through_the_service_proxy() -> Result<()> {
    let Some(address) = netns::address() else {
        skip(
            "the API server's service proxy reaches processes only in a network namespace (cargo xtask test makes one)",
        );
        return Ok(());
    };
    let mut world = World::bare("program").await?;
    world.http_addr = format!("{address}:0");
    world.start().await?;
    let port: u16 = world.address("http").await?.rsplit(':').next().context("a port")?.parse()?;
    world.cluster.publish_service(&world.system, "bulla", "http", &address, port).await?;
    let dir = tempfile::tempdir()?;
    let developer = developer(&world, dir.path()).await?;
    let admin = Bulla {
        program: developer.program.clone(),
        dir: developer.dir.clone(),
        kubeconfig: world.cluster.kubeconfig().to_path_buf(),
        namespace: world.system.clone(),
    };
    let file = dir.path().join("db.sealed.yaml");
    let read = || fs::read_to_string(&file);

    // Whoever may log in may know for whom to seal.
    world.recipients().await?;
    fs::write(dir.path().join("prod.pub"), stdout(&developer.ask(&["recipients"])?)?)?;
    world.guard("hunter2-program");
    world.guard("hunter3-program");
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: {}}}\nstringData:\n  a: hunter2-program\n",
        world.app
    );
    fs::write(dir.path().join("secret.yaml"), secret)?;
    stdout(&developer.run(&["seal", "secret.yaml", "-R", "prod.pub", "-w", "db.sealed.yaml"])?)?;
    world.cluster.apply(&read()?).await?;
    world.ready("db", "Applied").await?;
    world.holds("db", &[("a", "hunter2-program")]).await?;

    // One value by itself, with a data key of its own.
    fs::write(dir.path().join("value"), "hunter3-program")?;
    stdout(&developer.run(&["set", "db.sealed.yaml", "b", "--from-file", "value", "-R", "prod.pub"])?)?;
    world.cluster.apply(&read()?).await?;
    world.holds("db", &[("a", "hunter2-program"), ("b", "hunter3-program")]).await?;

    // What is current is left as it is, bytes and time.
    let (before, time) = (read()?, fs::metadata(&file)?.modified()?);
    stdout(&admin.ask(&["reseal", "--live", "db.sealed.yaml"])?)?;
    ensure!(read()? == before && fs::metadata(&file)?.modified()? == time);

    // A new key: one line for each data key, by whoever may.
    refused(&developer.ask(&["keys", "create", "--prefer-after", "0s"])?, 1, &["sealingkeys", "right"])?;
    let done = stdout(&admin.ask(&["rotate", ".", "--prefer-after", "0s", "--timeout", "60s"])?);
    done?;
    let after = read()?;
    ensure!(changed_lines(&before, &after) == 2, "{before}\n{after}");
    let new = world.recipients().await?.swap_remove(0).fingerprint().to_string();
    ensure!(after.matches(&new).count() == 2, "{after}");
    world.cluster.apply(&after).await?;
    world.ready("db", "Applied").await?;
    world.holds("db", &[("a", "hunter2-program"), ("b", "hunter3-program")]).await?;
    stdout(&admin.ask(&["reseal", "--live", "--check", "db.sealed.yaml"])?)?;

    let keys = stdout(&admin.ask(&["keys", "list"])?)?;
    ensure!(keys.contains("hybrid-1") && keys.contains(&new), "{keys}");

    // A controller that is away.
    world.stop().await?;
    fs::write(&file, &before)?;
    refused(&admin.ask(&["reseal", "--live", "db.sealed.yaml"])?, 4, &["error:"])?;
    ensure!(read()? == before);
    world.finish().await
}

#[tokio::test]
async fn a_repository_with_a_policy_follows_its_cluster() -> Result<()> {
    let Some(address) = netns::address() else {
        skip(
            "the API server's service proxy reaches processes only in a network namespace (cargo xtask test makes one)",
        );
        return Ok(());
    };
    let mut world = World::bare("policy").await?;
    world.http_addr = format!("{address}:0");
    world.args = ["--cluster-name", "prod"].map(str::to_owned).to_vec();
    world.start().await?;
    let port: u16 = world.address("http").await?.rsplit(':').next().context("a port")?.parse()?;
    world.cluster.publish_service(&world.system, "bulla", "http", &address, port).await?;
    let dir = tempfile::tempdir()?;
    let developer = developer(&world, dir.path()).await?;
    let admin = Bulla {
        program: developer.program.clone(),
        dir: developer.dir.clone(),
        kubeconfig: world.cluster.kubeconfig().to_path_buf(),
        namespace: world.system.clone(),
    };
    fs::create_dir(dir.path().join(".git"))?;
    world.recipients().await?;
    stdout(&admin.ask(&["init", "--as", "prod"])?)?;
    stdout(&developer.run(&["keygen", "-w", "recovery.txt"])?)?;
    stdout(&developer.run(&["recipients", "add", "recovery", "recovery.txt.pub", "--always"])?)?;
    world.guard("hunter2-policy");
    fs::write(dir.path().join("value"), "hunter2-policy")?;
    let app = world.app.clone();
    stdout(&developer.run(&["set", "db.sealed.yaml", "a", "-n", &app, "--from-file", "value"])?)?;
    let file = dir.path().join("db.sealed.yaml");
    let before = fs::read_to_string(&file)?;
    ensure!(before.contains("    prod: ") && before.contains("    recovery: "), "{before}");
    world.cluster.apply(&before).await?;
    world.holds("db", &[("a", "hunter2-policy")]).await?;
    stdout(&admin.ask(&["recipients", "update"])?)?;

    // A new key comes by itself: the old one vouches for it.
    let old = world.recipients().await?.swap_remove(0);
    stdout(&admin.ask(&["keys", "create", "--prefer-after", "0s"])?)?;
    bulla_tests::eventually("the new key to be preferred", super::world::SOON, async || {
        ensure!(world.recipients().await?[0] != old);
        Ok(())
    })
    .await?;
    let new = world.recipients().await?.swap_remove(0);
    stdout(&admin.ask(&["recipients", "update"])?)?;
    let pin = fs::read_to_string(dir.path().join(".bulla/prod.pub"))?;
    ensure!(pin.contains(new.as_str()) && pin.contains(&old.full_fingerprint()), "{pin}");
    stdout(&admin.ask(&["reseal", "--live", "."])?)?;
    let after = fs::read_to_string(&file)?;
    ensure!(changed_lines(&before, &after) == 1 && after.contains(&new.fingerprint().to_string()), "{after}");
    world.cluster.apply(&after).await?;
    world.ready("db", "Applied").await?;
    world.holds("db", &[("a", "hunter2-policy")]).await?;

    // And with rotate, which replaces the pin itself.
    stdout(&admin.ask(&["rotate", ".", "--prefer-after", "0s", "--timeout", "60s"])?)?;
    let last = world.recipients().await?.swap_remove(0);
    ensure!(fs::read_to_string(dir.path().join(".bulla/prod.pub"))?.contains(last.as_str()));
    ensure!(fs::read_to_string(&file)?.contains(&last.fingerprint().to_string()));
    world.finish().await
}
