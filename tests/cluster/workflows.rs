//! What people do with a cluster from one end to the other, with the commands as they type them. Those who need none are
//! tested with the command line.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use bulla_tests::{binary, eventually, write_private};
use serde_json::{Value, json};

use super::world::{SOON, World};

const FILE: &str = "apps/shop/prod/db.sealed.yaml";

/// A clone of a repository, and a kubeconfig with a context for each cluster.
pub struct Desk {
    dir: tempfile::TempDir,
}

/// How a command ended.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn well(self) -> Result<Self> {
        ensure!(self.code == Some(0), "{:?}\n{}\n{}", self.code, self.out, self.err);
        Ok(self)
    }

    pub fn ends(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "{:?}\n{}\n{}", self.code, self.out, self.err);
        Ok(self)
    }

    pub fn says(self, words: &[&str]) -> Result<Self> {
        for word in words {
            ensure!(self.err.contains(word), "{word:?} is not in\n{}", self.err);
        }
        Ok(self)
    }
}

impl Desk {
    pub fn new() -> Result<Self> {
        let desk = Self { dir: tempfile::tempdir()? };
        fs::create_dir_all(desk.path("apps/shop/prod"))?;
        fs::write(desk.path(".gitignore"), "*.txt\n*.age\nkubeconfig\nvalue\n")?;
        desk.git(&["init", "-q", "-b", "main"])?;
        Ok(desk)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| name.to_owned())
    }

    /// Contexts of these names for these clusters.
    pub fn know(&self, contexts: &[(&str, &World)]) -> Result<()> {
        let (_, first) = contexts.first().context("a context")?;
        let text = fs::read_to_string(first.cluster.kubeconfig())?;
        let mut config: Value = serde_yaml::from_str(&text)?;
        let one = config["contexts"][0]["context"].clone();
        let all: Vec<Value> = contexts.iter().map(|(name, _)| json!({"name": name, "context": one})).collect();
        // None is the current one: each command says which cluster it means.
        config["contexts"] = all.into();
        config["current-context"] = "".into();
        write_private(&self.path("kubeconfig"), config.to_string().as_bytes())
    }

    pub fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path());
        command.env("KUBECONFIG", self.path("kubeconfig"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    pub fn bulla(&self, words: &[&str]) -> Result<Run> {
        let mut command = self.command(binary("bulla")?);
        Ok(told(&command.args(words).stdin(Stdio::null()).output()?))
    }

    pub fn well(&self, words: &[&str]) -> Result<Run> {
        self.bulla(words)?.well().with_context(|| format!("bulla {}", words.join(" ")))
    }

    fn set(&self, key: &str, value: &str, more: &[&str]) -> Result<Run> {
        let mut command = self.command(binary("bulla")?);
        command.args(["set", FILE, key]).args(more).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe")?.write_all(value.as_bytes())?;
        told(&child.wait_with_output()?).well()
    }

    pub fn git(&self, words: &[&str]) -> Result<String> {
        let mut command = self.command("git".into());
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"]);
        let run = told(&command.args(words).stdin(Stdio::null()).output()?).well();
        Ok(run.with_context(|| format!("git {}", words.join(" ")))?.out)
    }

    pub fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "."])?;
        self.git(&["commit", "-qm", message]).map(drop)
    }
}

/// What a command said.
pub fn told(output: &Output) -> Run {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A cluster's key and the repository's recovery key, pinned and committed.
fn pinned(desk: &Desk, world: &World, context: &str) -> Result<()> {
    let cluster = ["--context", context, "--controller-namespace", &world.system];
    desk.well(&[&["init", "--as", "prod", "--rule", "apps/*/prod/**"][..], &cluster].concat())?;
    desk.well(&["keygen", "-w", "recovery.txt", "--recipient", ".bulla/recovery.pub"])?;
    desk.well(&["recipients", "add", "recovery", ".bulla/recovery.pub", "--always"])?;
    desk.well(&["git", "setup"])?;
    desk.commit("policy")
}

async fn next_key(desk: &Desk, world: &World, context: &str) -> Result<String> {
    let old = world.recipients().await?.swap_remove(0);
    let cluster = ["--context", context, "--controller-namespace", &world.system];
    desk.well(&[&["keys", "create", "--prefer-after", "0s"][..], &cluster].concat())?;
    eventually("the new key to be preferred", SOON, async || {
        let now = world.recipients().await?.swap_remove(0);
        ensure!(now != old);
        Ok(now.fingerprint().to_string())
    })
    .await
}

#[tokio::test]
async fn first_use_with_a_cluster() -> Result<()> {
    let named = ["--cluster-name", "prod-eu"];
    let Some(mut world) = World::bare("first-use").await?.reached(&named).await? else { return Ok(()) };
    let desk = Desk::new()?;
    desk.know(&[("prod-eu", &world)])?;
    // What `kubectl apply` would be given; the process that runs here stands for its Deployment.
    world.cluster.apply(&desk.well(&["install"])?.out).await?;
    world.recipients().await?;
    let at = ["--context", "prod-eu", "--controller-namespace", &world.system];
    desk.well(&[&["init", "--as", "prod"][..], &at].concat())?.says(&[
        "prod",
        "  hybrid  ",
        &format!("from prod-eu ({}/bulla)", world.system),
        "wrote .bulla.yaml and .bulla/prod.pub; commit both and protect .bulla/ with CODEOWNERS",
        "warning: no recovery recipient. If this cluster is lost, so is every secret:",
    ])?;
    desk.well(&["git", "setup", "--hook"])?;
    let app = world.app.clone();
    desk.well(&["set", FILE, "password", "-n", &app, "--generate", "password"])?
        .says(&[&format!("created {FILE}: SealedSecret {app}/db, 1 item, for prod\n")])?;
    // The hook looks at it and lets it pass.
    desk.commit("db")?;
    world.cluster.apply(&desk.read(FILE)?).await?;
    world.ready("db", "Applied").await?;
    let secret = world.secrets().get("db").await?;
    let password = secret.data.context("data")?.remove("password").context("a password")?;
    ensure!(password.0.len() >= 20, "{} characters", password.0.len());
    world.guard(&String::from_utf8(password.0)?);
    // Where the controller runs, the repository says.
    desk.well(&["check", "--live", "--context", "prod-eu", FILE])?
        .says(&["checked 1 file", "1 SealedSecret opens in prod-eu"])?;
    // What is not sealed for this cluster is told.
    desk.well(&["keygen", "-w", "other.txt"])?;
    desk.well(&["set", "apps/shop/prod/o.sealed.yaml", "a", "-n", &app, "--generate", "hex", "-R", "other.txt.pub"])?;
    let run = desk.bulla(&["check", "--live", "--context", "prod-eu", "apps"])?.ends(10)?;
    ensure!(run.out.contains("does not open in prod-eu"), "{}", run.out);
    world.finish().await
}

#[tokio::test]
async fn a_repository_is_rotated_every_night() -> Result<()> {
    let named = ["--cluster-name", "prod"];
    let Some(mut world) = World::bare("nightly").await?.reached(&named).await? else { return Ok(()) };
    let desk = Desk::new()?;
    desk.know(&[("prod", &world)])?;
    world.recipients().await?;
    pinned(&desk, &world, "prod")?;
    let app = world.app.clone();
    world.guard("hunter2-nightly");
    desk.set("password", "hunter2-nightly", &["-n", &app])?;
    desk.set("token", "hunter2-nightly", &[])?;
    // Like it, others in another place.
    let text = desk.read(FILE)?;
    for n in 0..5 {
        let file = format!("apps/shop/prod/other-{n}.sealed.yaml");
        desk.well(&["set", &file, "a", "-n", &app, "--generate", "base64"])?;
    }
    desk.commit("sealed")?;
    let old = world.recipients().await?.swap_remove(0).fingerprint().to_string();
    let update = ["recipients", "update"];
    desk.well(&update)?.says(&[&format!("prod {old} is what the cluster seals for")])?;
    desk.well(&["reseal", ".", "--live"])?.says(&["resealed 0 of 6 files for prod", "6 were current; 0 failed"])?;
    ensure!(desk.git(&["status", "--porcelain"])?.is_empty());

    let new = next_key(&desk, &world, "prod").await?;
    // The job, as a person runs it: both the pins and the files change.
    desk.well(&update)?.says(&[&format!("prod {new} (was {old}): proven by the holder of the old key")])?;
    desk.bulla(&["reseal", ".", "--check"])?.ends(10)?.says(&["6 of 6 files to be resealed for prod"])?;
    desk.well(&["reseal", ".", "--live", "--report", "json=reseal.json"])?.says(&[
        &format!("resealed 6 of 6 files for prod {new} (was {old}): 7 envelopes; 0 were current; 0 failed"),
        "values were not changed",
    ])?;
    let report: Value = serde_json::from_str(&desk.read("reseal.json")?)?;
    ensure!(report["schemaVersion"] == 1 && report["files"].as_array().is_some_and(|files| files.len() == 6));
    let keys = report["keys"].as_array().context("keys")?;
    let of = |fingerprint: &str| keys.iter().find(|key| key["fingerprint"] == fingerprint);
    ensure!(of(&old).is_none(), "no file depends on the old key: {report}");
    let now = of(&new).context("the new key")?;
    ensure!(now["current"] == true && now["files"].as_array().is_some_and(|files| files.len() == 6), "{now}");
    ensure!(now["onlyFor"] == json!([]), "recovery opens them too: {now}");
    fs::remove_file(desk.path("reseal.json"))?;
    desk.well(&["diff", "HEAD", "--only", "reseal"])?;
    let summary = desk.well(&["diff", "HEAD", "-o", "markdown"])?.out;
    ensure!(summary.starts_with("| File |") && summary.matches("reseal").count() >= 6, "{summary}");
    desk.commit("nightly")?;
    world.cluster.apply(&desk.read(FILE)?).await?;
    world.holds("db", &[("password", "hunter2-nightly"), ("token", "hunter2-nightly")]).await?;
    // The next night there is nothing to do, and a value that somebody slips in does not pass.
    desk.well(&update)?;
    desk.well(&["reseal", ".", "--live"])?.says(&["6 were current"])?;
    desk.set("token", "hunter2-nightly", &[])?;
    desk.bulla(&["diff", "HEAD", "--only", "reseal"])?.ends(10)?.says(&["item token: the item has another text"])?;
    ensure!(text != desk.read(FILE)?);
    world.finish().await
}

#[tokio::test]
async fn a_second_cluster_reads_what_the_first_does() -> Result<()> {
    let named = ["--cluster-name", "prod-eu"];
    let Some(mut prod) = World::bare("second").await?.reached(&named).await? else { return Ok(()) };
    let mut dr = World::beside("second-dr", &prod).await?;
    dr.args = ["--cluster-name", "dr-us"].map(str::to_owned).to_vec();
    dr.start().await?;
    let desk = Desk::new()?;
    desk.know(&[("prod-eu", &prod), ("dr-us", &dr)])?;
    prod.recipients().await?;
    dr.recipients().await?;
    // It has its key; what it serves comes later.
    dr.stop().await?;
    pinned(&desk, &prod, "prod-eu")?;
    let app = prod.app.clone();
    prod.guard("hunter2-second");
    desk.set("password", "hunter2-second", &["-n", &app])?;
    desk.commit("db")?;
    prod.cluster.apply(&desk.read(FILE)?).await?;
    prod.ready("db", "Applied").await?;

    let at = ["--context", "dr-us", "--controller-namespace", &dr.system];
    desk.well(&[&["recipients", "add", "dr", "--rule", "apps/*/prod/**"][..], &at].concat())?;
    desk.well(&["recipients"])?;
    // A cluster wraps for its own key only.
    let reseal = ["reseal", "apps", "--live", "--context", "prod-eu"];
    desk.well(&reseal)?.says(&["what is missing for dr was left"])?;
    // For others it seals afresh, and only for those of its own configuration.
    let add = [&reseal[..], &["--fresh", "--add-recipient", "dr"]].concat();
    let before = desk.read(FILE)?;
    desk.bulla(&add)?.ends(1)?.says(&["dr"])?;
    ensure!(desk.read(FILE)? == before);
    prod.args.extend(["--recipient".to_owned(), format!("dr={}", desk.path(".bulla/dr.pub").display())]);
    prod.args.extend(["--recipient".to_owned(), format!("recovery={}", desk.path(".bulla/recovery.pub").display())]);
    prod.restart().await?;
    desk.well(&add)?.says(&["adding dr r", "resealed 1 of 1 file"])?;
    let after = desk.read(FILE)?;
    ensure!(["prod: ", "dr: ", "recovery: "].iter().all(|line| after.contains(line)), "{after}");
    let told = desk.well(&["diff", "HEAD"])?.out;
    ensure!(told.contains("password") && told.contains("dr"), "{told}");
    prod.cluster.apply(&after).await?;
    prod.ready("db", "Applied").await?;

    // The first is away; the second has the same file.
    prod.stop().await?;
    prod.sealed().delete("db", &Default::default()).await?;
    eventually("the Secret to go", SOON, async || {
        ensure!(dr.secrets().get_opt("db").await?.is_none());
        Ok(())
    })
    .await?;
    dr.start().await?;
    dr.cluster.apply(&after).await?;
    dr.ready("db", "Applied").await?;
    dr.holds("db", &[("password", "hunter2-second")]).await?;
    dr.finish().await
}

#[tokio::test]
async fn the_cluster_is_gone() -> Result<()> {
    let named = ["--cluster-name", "prod"];
    let Some(mut lost) = World::bare("gone").await?.reached(&named).await? else { return Ok(()) };
    let desk = Desk::new()?;
    desk.know(&[("prod", &lost)])?;
    lost.recipients().await?;
    pinned(&desk, &lost, "prod")?;
    let app = lost.app.clone();
    lost.guard("hunter2-gone");
    desk.set("password", "hunter2-gone", &["-n", &app])?;
    desk.commit("db")?;
    lost.cluster.apply(&desk.read(FILE)?).await?;
    lost.ready("db", "Applied").await?;
    let old = lost.recipients().await?.swap_remove(0);
    let at = ["--context", "prod", "--controller-namespace", &lost.system];
    desk.well(&[&["keys", "backup", "-R", ".bulla/recovery.pub", "-w", "backup.age"][..], &at].concat())?;
    lost.stop().await?;
    lost.sealed().delete("db", &Default::default()).await?;
    eventually("the Secret to go", SOON, async || {
        ensure!(lost.secrets().get_opt("db").await?.is_none());
        Ok(())
    })
    .await?;

    // A new one in its place, with a key of its own.
    let new = World::beside("gone-new", &lost).await?;
    let Some(mut new) = new.reached(&named).await? else { return Ok(()) };
    new.guard("hunter2-gone");
    desk.know(&[("prod-new", &new)])?;
    let key = new.recipients().await?.swap_remove(0);
    new.cluster.apply(&desk.read(FILE)?).await?;
    new.ready("db", "NoKey").await?;

    // A: there is a backup, and nothing in Git changes.
    let at = ["--context", "prod-new", "--controller-namespace", &new.system];
    desk.well(&[&["keys", "restore", "backup.age", "-i", "recovery.txt"][..], &at].concat())?
        .says(&[&format!("restored 1 key; newest {} (pinned as prod)", old.fingerprint())])?;
    new.ready("db", "Applied").await?;
    new.holds("db", &[("password", "hunter2-gone")]).await?;
    ensure!(desk.git(&["status", "--porcelain"])?.is_empty(), "nothing in Git changes");

    // B: there is only the recovery identity. The restored key is taken away again.
    let restored = format!("bulla-key-restored-{}", old.fingerprint());
    new.key_secrets().delete(&restored, &Default::default()).await?;
    let update = [&["recipients", "update", "prod"][..], &at].concat();
    let full = key.full_fingerprint();
    desk.bulla(&update)?.ends(1)?.says(&["nobody vouches for it", &format!("--accept {full}")])?;
    desk.bulla(&[&update[..], &["--accept", &old.full_fingerprint()]].concat())?.ends(1)?;
    ensure!(desk.git(&["status", "--porcelain"])?.is_empty(), "nothing was written");
    desk.well(&[&update[..], &["--accept", &full]].concat())?.says(&["accepted"])?;
    desk.well(&["reseal", ".", "-i", "recovery.txt"])?
        .says(&[&format!("resealed 1 of 1 file for prod {}, recovery", key.fingerprint())])?;
    desk.well(&["diff", "HEAD", "--only", "reseal"])?;
    desk.commit("the new cluster")?;
    new.cluster.apply(&desk.read(FILE)?).await?;
    new.ready("db", "Applied").await?;
    new.holds("db", &[("password", "hunter2-gone")]).await?;
    new.finish().await
}

/// `status` and `keys list` of what the real API server stores.
#[tokio::test]
async fn status_and_keys_tell_what_is_there() -> Result<()> {
    let mut world = World::new("telling").await?;
    let desk = Desk::new()?;
    desk.know(&[("prod", &world)])?;
    let at = ["--context", "prod", "--controller-namespace", &world.system.clone()];
    let app = world.app.clone();
    let status = [&["status", "-n", &app][..], &at].concat();
    world.recipients().await?;
    desk.well(&status)?.says(&["no SealedSecret in prod"])?;
    world.make("db", &[("a", "hunter2-telling")]).await?;
    let run = desk
        .well(&status)?
        .says(&["1 SealedSecret that only hybrid-1 opens", "1 SealedSecret in prod, 0 not ready"])?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = run.out.lines().map(words).collect();
    ensure!(
        lines
            == [vec!["NAMESPACE", "NAME", "READY", "REASON", "KEYS"], vec![&app, "db", "True", "Applied", "hybrid-1"]],
        "{}",
        run.out
    );
    // A new key: what is there needs the old one, what comes the new.
    let new = next_key(&desk, &world, "prod").await?;
    world.make("web", &[("a", "hunter2-telling")]).await?;
    let stranger = bulla::recipient::Identity::generate(bulla::recipient::RecipientKind::Hybrid)?;
    let sealed = super::world::sealed_for(stranger.recipient().clone(), &app, "theirs", &[("a", "hunter2-telling")])?;
    world.create(&sealed).await?;
    world.ready("theirs", "NoKey").await?;
    let run = desk.bulla(&[&status[..], &["-o", "json"]].concat())?.ends(10)?;
    let document: Value = serde_json::from_str(&run.out)?;
    let name = eventually("the count", SOON, async || {
        let keys = world.keys().list(&Default::default()).await?.items;
        let key = keys.iter().find(|key| key.status.as_ref().is_some_and(|s| s.fingerprint.as_deref() == Some(&*new)));
        let key = key.context("the new key")?;
        ensure!(key.status.as_ref().is_some_and(|status| status.needed_by == Some(1)), "{key:?}");
        Ok(key.metadata.name.clone().unwrap_or_default())
    })
    .await?;
    ensure!(
        document["summary"] == json!({"total": 3, "notReady": 1, "neededBy": {"hybrid-1": 1, &name: 1}}),
        "{document}"
    );
    ensure!(document["sealedSecrets"][1]["reason"] == "NoKey" && document["sealedSecrets"][1]["keys"] == json!([]));
    let listed = desk.well(&[&["keys", "list", "-o", "json"][..], &at].concat())?;
    let listed: Value = serde_json::from_str(&listed.out)?;
    let keys = listed["keys"].as_array().context("keys")?;
    ensure!(keys.len() == 2 && keys.iter().any(|key| key["name"] == name.as_str()), "{listed}");
    let table = desk.well(&[&["keys", "list"][..], &at].concat())?.out;
    let line = table.lines().find(|line| line.starts_with(&name)).context("its line")?;
    ensure!(line.contains(" *") && line.contains(&new), "it is the preferred one: {table}");
    // Somebody without the right to the keys sees what there is; without the right to SealedSecrets, why not.
    let file = world.cluster.service_account_kubeconfig(&app, "default", desk.dir.path()).await?;
    let as_nobody =
        ["status", "-n", &app, "--kubeconfig", &file.display().to_string(), "--controller-namespace", &world.system];
    desk.bulla(&as_nobody)?.ends(1)?.says(&["no right", "sealedsecrets"])?;
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: viewer, namespace: {app}}}\nrules:\n\
         - {{apiGroups: [bulla.dev], resources: [sealedsecrets], verbs: [list]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: viewer, namespace: {app}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: viewer}}\n\
         subjects: [{{kind: ServiceAccount, name: default, namespace: {app}}}]\n"
    );
    world.cluster.apply(&role).await?;
    let run = eventually("the right to be granted", SOON, async || desk.bulla(&as_nobody)?.ends(10)).await?;
    run.says(&["keys are not told", "3 SealedSecrets in"])?;
    world.finish().await
}
