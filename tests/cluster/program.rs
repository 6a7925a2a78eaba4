//! The command line against a real cluster: what a developer and a platform engineer do, through the API server's
//! service proxy.

#[path = "check.rs"]
mod check;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use bulla_tests::{binary, eventually};

use super::world::{SOON, World};

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
    let Some(mut world) = World::bare("program").await?.reached(&[]).await? else { return Ok(()) };
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
    let named = ["--cluster-name", "prod"];
    let Some(mut world) = World::bare("policy").await?.reached(&named).await? else { return Ok(()) };
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
    eventually("the new key to be preferred", SOON, async || {
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

/// `bulla` as the administrator of the cluster, and as one who may rotate keys and not read Secrets.
async fn hands(world: &World, dir: &Path) -> Result<(Bulla, Bulla)> {
    let operator = developer(world, dir).await?;
    let admin = Bulla {
        program: operator.program.clone(),
        dir: operator.dir.clone(),
        kubeconfig: world.cluster.kubeconfig().to_path_buf(),
        namespace: world.system.clone(),
    };
    let name = format!("rotator-{}", world.app);
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: {0}}}\nrules:\n\
         - {{apiGroups: [bulla.dev], resources: [sealingkeys], verbs: [get, list, create, patch]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: {0}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}\n\
         subjects: [{{kind: ServiceAccount, name: default, namespace: {1}}}]\n",
        world.system, world.app
    );
    world.cluster.apply(&role).await?;
    Ok((admin, operator))
}

#[tokio::test]
async fn keys_are_rolled_back_and_retired_by_who_may_and_backed_up_by_who_may_read_them() -> Result<()> {
    let mut world = World::new("ceremony").await?;
    let dir = tempfile::tempdir()?;
    let (_admin, operator) = hands(&world, dir.path()).await?;
    world.make("db", &[("a", "hunter2-ceremony")]).await?;
    let first = world.recipients().await?.swap_remove(0);
    refused(&operator.ask(&["keys", "rollback"])?, 1, &["hybrid-1 is the only Active key"])?;
    refused(&operator.ask(&["keys", "retire", "hybrid-1", "--force"])?, 1, &["it is the last Active key"])?;
    stdout(&operator.ask(&["keys", "create", "next", "--prefer-after", "0s"])?)?;
    eventually("the next to be preferred", SOON, async || {
        ensure!(world.recipients().await?[0] != first);
        Ok(())
    })
    .await?;
    stdout(&operator.ask(&["keys", "rollback"])?)?;
    eventually("the first to be preferred again", SOON, async || {
        ensure!(world.recipients().await? == std::slice::from_ref(&first));
        Ok(())
    })
    .await?;
    let patch = kube::api::Patch::Merge(serde_json::json!({"spec": {"state": "Active"}}));
    world.keys().patch("next", &Default::default(), &patch).await?;
    eventually("the count", SOON, async || {
        let status = world.keys().get("hybrid-1").await?.status.context("no status")?;
        ensure!(status.needed_by == Some(1));
        Ok(())
    })
    .await?;
    refused(
        &operator.ask(&["keys", "retire", "hybrid-1"])?,
        1,
        &["1 SealedSecrets are opened by no other key", "--force"],
    )?;
    let kept = world.keys().get("hybrid-1").await?;
    ensure!(kept.spec.state == bulla::resource::KeyState::Active, "the wish is taken back: {:?}", kept.spec);
    stdout(&operator.ask(&["keys", "retire", "hybrid-1", "--force"])?)?;
    let listed = stdout(&operator.ask(&["keys", "list"])?)?;
    ensure!(listed.contains("Retired"), "{listed}");
    // The right to rotate is not the right to read private keys.
    stdout(&operator.run(&["keygen", "-w", "recovery.txt"])?)?;
    let backup = ["keys", "backup", "-R", "recovery.txt.pub", "-w", "backup.age"];
    refused(&operator.ask(&backup)?, 1, &["no right"])?;
    ensure!(!dir.path().join("backup.age").exists());
    world.finish().await
}

#[tokio::test]
async fn a_lost_cluster_comes_back_from_a_backup_or_from_the_recovery_identity() -> Result<()> {
    let mut world = World::new("disaster").await?;
    let dir = tempfile::tempdir()?;
    let (admin, _) = hands(&world, dir.path()).await?;
    let file = dir.path().join("db.sealed.yaml");
    stdout(&admin.run(&["keygen", "-w", "recovery.txt"])?)?;
    world.recipients().await?;
    fs::write(dir.path().join("prod.pub"), stdout(&admin.ask(&["recipients"])?)?)?;
    world.guard("hunter2-disaster");
    fs::write(
        dir.path().join("secret.yaml"),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: {}}}\nstringData: {{a: hunter2-disaster}}\n",
            world.app
        ),
    )?;
    let seal = ["seal", "secret.yaml", "-R", "prod.pub", "-R", "recovery.txt.pub", "-w", "db.sealed.yaml"];
    stdout(&admin.run(&seal)?)?;
    world.cluster.apply(&fs::read_to_string(&file)?).await?;
    world.holds("db", &[("a", "hunter2-disaster")]).await?;
    let lost = world.recipients().await?.swap_remove(0);
    stdout(&admin.ask(&["keys", "backup", "-R", "recovery.txt.pub", "-w", "backup.age"])?)?;
    let text = fs::read(dir.path().join("backup.age"))?;
    ensure!(text.starts_with(b"age-encryption.org/v1\n"));

    // Everything of the cluster is gone; Git and the backup are not.
    world.stop().await?;
    let all = kube::api::ListParams::default();
    for secret in world.key_secrets().list(&all).await?.items {
        if secret.metadata.name.as_deref().is_some_and(|name| name.starts_with("bulla-key-")) {
            world
                .key_secrets()
                .delete(secret.metadata.name.as_deref().unwrap_or_default(), &Default::default())
                .await?;
        }
    }
    world.keys().delete_collection(&Default::default(), &all).await?;
    world.configs().delete("bulla-recipients", &Default::default()).await?;
    world.sealed().delete("db", &Default::default()).await?;
    eventually("the Secret to go", SOON, async || {
        ensure!(world.secrets().get_opt("db").await?.is_none());
        Ok(())
    })
    .await?;
    world.start().await?;
    let fresh = world.recipients().await?.swap_remove(0);
    ensure!(fresh != lost);
    world.cluster.apply(&fs::read_to_string(&file)?).await?;
    world.ready("db", "NoKey").await?;

    // A: there is a backup. It opens, and is not sealed for.
    refused(&admin.ask(&["keys", "restore", "backup.age", "-i", "secret.yaml"])?, 1, &["secret.yaml"])?;
    let restored = admin.ask(&["keys", "restore", "backup.age", "-i", "recovery.txt"])?;
    stdout(&restored)?;
    let told = String::from_utf8_lossy(&restored.stderr).into_owned();
    ensure!(told.contains(&lost.fingerprint().to_string()) && told.contains("restored 1 key"), "{told}");
    world.ready("db", "Applied").await?;
    world.holds("db", &[("a", "hunter2-disaster")]).await?;
    ensure!(world.recipients().await? == std::slice::from_ref(&fresh), "not sealed for");
    let prove = async |world: &World| -> Result<u16> {
        let challenger = bulla::proof::Challenger::new(&lost)?;
        Ok(world.ask_proven("/v1/prove", b"", &challenger.challenge().to_string()).await?.0)
    };
    ensure!(prove(&world).await? == 422, "a restored key was not published here");
    stdout(&admin.ask(&["keys", "restore", "backup.age", "-i", "recovery.txt", "--activate"])?)?;
    eventually("the lost key to be preferred again", SOON, async || {
        ensure!(world.recipients().await?[0] == lost);
        ensure!(prove(&world).await? == 200);
        Ok(())
    })
    .await?;

    // B: there is only the recovery identity, and a cluster with another key.
    let patch = kube::api::Patch::Merge(serde_json::json!({"spec": {"state": "Standby"}}));
    for key in world.keys().list(&all).await?.items {
        let name = key.metadata.name.unwrap_or_default();
        if key.status.and_then(|status| status.recipient).as_deref() == Some(lost.as_str()) {
            world.keys().patch(&name, &Default::default(), &patch).await?;
        }
    }
    eventually("the fresh key alone", SOON, async || {
        ensure!(world.recipients().await? == std::slice::from_ref(&fresh));
        Ok(())
    })
    .await?;
    fs::create_dir_all(dir.path().join(".git"))?;
    fs::write(dir.path().join("new.pub"), fresh.as_str())?;
    fs::write(
        dir.path().join(".bulla.yaml"),
        "version: 1\nrecipients:\n  prod: {file: new.pub}\n  recovery: {file: recovery.txt.pub}\nrules:\n  - path: '**'\n    recipients: [prod, recovery]\n",
    )?;
    stdout(&admin.run(&["reseal", "db.sealed.yaml", "-i", "recovery.txt"])?)?;
    let after = fs::read_to_string(&file)?;
    ensure!(
        after.contains(&fresh.fingerprint().to_string()) && !after.contains(&lost.fingerprint().to_string()),
        "{after}"
    );
    world.cluster.apply(&after).await?;
    world.ready("db", "Applied").await?;
    world.finish().await
}
