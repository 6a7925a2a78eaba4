//! RSA keys have no SealingKey: they are made, listed, set aside and brought back by what the established tools know, with the
//! commands of docs/keys.md.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{Certificate, KeyFingerprint, generate};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla::resource::SealingKey;
use bulla::scope::Scope;
use bulla_tests::{Signal, binary, eventually, netns, skip, write_private};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::bitnami::Pair;
use super::workflows::{Desk, Run, told};
use super::world::{SOON, World};

/// The page with the commands, which are typed here as they stand there.
const PAGE: &str = include_str!("../../docs/keys.md");
const LIST: &str = "bulla keys list --bitnami --controller-namespace kube-system";
const FETCH: &str = "bulla kubeseal --fetch-cert > new.pem";
const RESEAL: &str = "bulla reseal PATH --live --cert new.pem --controller-namespace kube-system";
const STILL: &str = "bulla reseal PATH -i old.yaml --cert new.pem --check";
const SAVE: &str = "kubectl -n kube-system get secrets -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml | \
                    age -R recovery.pub -o keys.yaml.age";
const BRING_BACK: &str = "age -d -i recovery.txt keys.yaml.age | kubectl -n kube-system create -f -";
const WHOLE: &str = "age -d -i recovery.txt keys.yaml.age | bulla unseal FILE -i -";
const MARK: &str = "kubectl -n kube-system label --overwrite secret sealed-secrets-keyold \
                    sealedsecrets.bitnami.com/sealed-secrets-key=compromised";

#[tokio::test]
async fn a_sealing_key_is_never_of_rsa() -> Result<()> {
    let world = World::bare("norsa").await?;
    let mut key = serde_json::to_value(SealingKey::new("rsa-1", Default::default()))?;
    key["spec"]["format"] = "rsa".into();
    let keys: kube::Api<kube::core::DynamicObject> = kube::Api::namespaced_with(
        world.client.clone(),
        &world.system,
        &kube::core::ApiResource::erase::<SealingKey>(&()),
    );
    let refused = keys.create(&PostParams::default(), &serde_json::from_value(key)?).await;
    let refused = refused.err().context("it was taken")?.to_string();
    let words = ["spec.format", "Unsupported value", "\"rsa\"", "\"hybrid\"", "\"classical\""];
    ensure!(words.iter().all(|word| refused.contains(word)), "{refused}");
    Ok(())
}

/// A file in Git.
const FILE: &str = "apps/db.yaml";

/// A key as it is listed: its name, its label, NEEDED-BY.
type Listed = (String, Option<String>, Option<u64>);

/// A cluster, and somebody at a shell.
struct Hand {
    world: World,
    desk: Desk,
}

/// age, where the oracles are: by its other implementation.
fn age() -> Option<String> {
    let oracles = std::env::var("BULLA_ORACLES").ok()?;
    Some(format!(
        "#!/bin/sh\nset -e\n[ \"$1\" = -d ] && exec '{oracles}' age \"$@\"\n[ \"$1 $3\" = '-R -o' ]\n\
         '{oracles}' age-encrypt \"$(grep ^age1 \"$2\")\" > \"$4\"\n"
    ))
}

/// What the tests of the commands need; `None` where something is not there.
fn tools() -> Option<String> {
    let kubectl = Command::new("kubectl").args(["version", "--client"]).output();
    let age = age().filter(|_| kubectl.is_ok_and(|run| run.status.success()));
    if age.is_none() {
        skip(
            "the commands for RSA keys are typed with kubectl and age: one is not there (cargo xtask test builds oracles)",
        );
    }
    age
}

/// A pair whose certificate is valid since so many seconds, and as long again.
fn pair(age: i64) -> Result<Pair> {
    let now = Timestamp::now().as_second();
    let made = generate(now - age, now + age, "")?;
    Ok(Pair { private_key: made.private_key.to_string(), certificate: made.certificate.clone() })
}

impl Hand {
    fn new(world: World, age: &str) -> Result<Self> {
        let desk = Desk::new()?;
        desk.know(&[("prod", &world)])?;
        let mut config: Value = serde_json::from_str(&desk.read("kubeconfig")?)?;
        config["current-context"] = "prod".into();
        write_private(&desk.path("kubeconfig"), config.to_string().as_bytes())?;
        std::fs::create_dir(desk.path("bin"))?;
        std::os::unix::fs::symlink(binary("bulla")?, desk.path("bin/bulla"))?;
        std::fs::write(desk.path("bin/age"), age)?;
        std::fs::set_permissions(desk.path("bin/age"), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { world, desk })
    }

    /// Types a command of the page, in this cluster.
    fn types(&self, line: &str) -> Result<Run> {
        self.typed(line)?.well().with_context(|| line.to_owned())
    }

    fn typed(&self, line: &str) -> Result<Run> {
        ensure!(PAGE.contains(line), "docs/keys.md does not have {line}");
        let here = line.replace("kube-system", &self.world.system).replace("PATH", "apps").replace("FILE", FILE);
        let mut shell = self.desk.command("sh".into());
        shell.env("SEALED_SECRETS_CONTROLLER_NAMESPACE", &self.world.system);
        shell.args(["-c", &format!("PATH=\"$PWD/bin:$PATH\"; {here}")]);
        Ok(told(&shell.stdin(std::process::Stdio::null()).output()?))
    }

    /// What `bulla keys list --bitnami` says, the newest first.
    fn listed(&self) -> Result<Vec<Listed>> {
        let list = ["keys", "list", "--bitnami", "-o", "json", "--controller-namespace", &self.world.system];
        let found: Value = serde_json::from_str(&self.desk.well(&list)?.out)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let keys = found["keys"].as_array().context("keys")?.iter();
        Ok(keys
            .map(|key| (text(&key["name"]).unwrap_or_default(), text(&key["label"]), key["neededBy"].as_u64()))
            .collect())
    }

    async fn served(&self) -> Result<KeyFingerprint> {
        let (status, body) = self.world.get("http", "/v1/cert.pem").await?;
        ensure!(status == 200, "{status} {body}");
        Ok(Certificate::from_pem(body.as_bytes())?.fingerprint())
    }

    async fn opens(&self, sealed: &impl serde::Serialize) -> Result<bool> {
        Ok(self.world.post("/v1/verify", &serde_json::to_vec(sealed)?).await?.0 == 200)
    }

    async fn keys(&self) -> Result<Vec<String>> {
        let labelled = self.world.key_secrets().list(&ListParams::default().labels(BITNAMI_KEY_LABEL)).await?;
        Ok(labelled.items.iter().map(|secret| secret.name_any()).collect())
    }
}

#[tokio::test]
async fn an_rsa_key_lives_by_the_label_of_its_secret() -> Result<()> {
    let Some(age) = tools() else { return Ok(()) };
    // Keys of its own: what is sealed for them is counted in the whole cluster.
    let (old, oldest) = (pair(10_000)?, pair(20_000)?);
    // Asked while it only observes it makes none, and goes on.
    let mut world = World::bitnami("rsakeys", &["--bitnami=observe"]).await?;
    let system = world.system.clone();
    world.plant_key(&system, "sealed-secrets-keyold", Some("active"), &old).await?;
    world.plant_key(&system, "sealed-secrets-key", None, &oldest).await?;
    world.start().await?;
    let controller = world.controller.as_ref().context("a controller")?;
    controller.signal(Signal::Usr1)?;
    eventually("the signal to be refused", SOON, async || {
        ensure!(world.log().contains("SIGUSR1"), "{}", world.log());
        Ok(())
    })
    .await?;
    world.args = ["--bitnami=own", "--bitnami-namespace", &system].map(str::to_owned).into();
    world.restart().await?;

    // One object for one key, one whose values were sealed for two.
    let one = world.seal_theirs(&old, "one", Scope::Strict, &[("a", "hunter2-rsakeys")]);
    let mut both = world.seal_theirs(&old, "both", Scope::Strict, &[("a", "hunter2-rsakeys")]);
    let added = world.seal_theirs(&oldest, "both", Scope::Strict, &[("b", "hunter2-rsakeys")]);
    both.spec.encrypted_data.extend(added.spec.encrypted_data);
    for sealed in [&one, &both] {
        world.theirs().create(&PostParams::default(), sealed).await?;
    }
    let hand = Hand::new(world, &age)?;
    let needed = |name: &str, keys: &[Listed]| keys.iter().find(|key| key.0 == name).map(|key| (key.1.clone(), key.2));
    let active = || Some("active".to_owned());
    eventually("what needs each key", SOON, async || {
        let keys = hand.listed()?;
        ensure!(
            needed("sealed-secrets-keyold", &keys) == Some((active(), Some(2)))
                && needed("sealed-secrets-key", &keys) == Some((None, Some(1))),
            "{keys:?}"
        );
        Ok(())
    })
    .await?;
    let listed = hand.types(LIST)?;
    let says = |listed: &Run, label: &str| {
        let words = listed.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words
            .into_iter()
            .any(|words| matches!(&words[..], ["sealed-secrets-keyold", found, _, _, "2", _] if *found == label))
    };
    ensure!(listed.out.starts_with("NAME ") && says(&listed, "active"), "{}", listed.out);

    // Another key now: by a signal, and one's own.
    let before = hand.served().await?;
    hand.world.controller.as_ref().context("a controller")?.signal(Signal::Usr1)?;
    let made = eventually("another key", SOON, async || {
        ensure!(hand.served().await? != before, "{}", hand.world.log());
        let keys = hand.listed()?;
        ensure!(keys.len() == 3 && keys[0].1 == active() && keys[0].2 == Some(0), "{keys:?}");
        Ok(keys[0].0.clone())
    })
    .await?;
    hand.world.event(&system, &made, "Renewed").await?;
    let asked = hand.served().await?;
    // Certificates tell whole seconds.
    eventually("the next second", SOON, async || {
        let secret = hand.world.key_secrets().get(&made).await?;
        let born = Certificate::from_pem(&secret.data.context("data")?["tls.crt"].0)?.not_before();
        ensure!(Timestamp::now().as_second() > born);
        Ok(())
    })
    .await?;
    hand.types("openssl req -x509 -newkey rsa:4096 -nodes -days 3650 -subj /CN=prod -keyout tls.key -out tls.crt")?;
    hand.types("kubectl -n kube-system create secret tls sealed-secrets-keyown --cert=tls.crt --key=tls.key")?;
    hand.types(
        "kubectl -n kube-system label secret sealed-secrets-keyown sealedsecrets.bitnami.com/sealed-secrets-key=active",
    )?;
    let own = Certificate::from_pem(hand.desk.read("tls.crt")?.as_bytes())?.fingerprint();
    eventually("one's own key to be the newest", SOON, async || {
        ensure!(hand.served().await? == own && own != asked);
        Ok(())
    })
    .await?;
    ensure!(hand.listed()?[0].0 == "sealed-secrets-keyown", "{:?}", hand.listed()?);

    // A backup, of which all comes back.
    hand.desk.well(&["keygen", "-w", "recovery.txt", "--recipient", "recovery.pub"])?;
    hand.types(SAVE)?;
    std::fs::write(hand.desk.path(FILE), serde_yaml::to_string(&one)?)?;
    let opened: Secret = serde_yaml::from_str(&hand.types(WHOLE)?.out)?;
    ensure!(opened.data.is_some_and(|data| data["a"].0 == b"hunter2-rsakeys"), "the backup does not open the file");

    // Marked, it opens nothing at once, and what was made of it stays.
    ensure!(hand.opens(&one).await?);
    hand.types(MARK)?;
    eventually("the key to open nothing", SOON, async || {
        ensure!(!hand.opens(&one).await?);
        Ok(())
    })
    .await?;
    hand.world.holds("one", &[("a", "hunter2-rsakeys")]).await?;
    let listed = hand.types(LIST)?;
    ensure!(says(&listed, "compromised"), "{}", listed.out);
    listed.says(&["sealed-secrets-keyold: set aside; without it 2 SealedSecrets can't be opened"])?;
    hand.types("kubectl -n kube-system label --overwrite secret sealed-secrets-keyold sealedsecrets.bitnami.com/sealed-secrets-key=active")?;
    eventually("the key to open again", SOON, async || {
        ensure!(hand.opens(&one).await?);
        Ok(())
    })
    .await?;

    // Lost, and brought back.
    hand.world.key_secrets().delete("sealed-secrets-keyold", &Default::default()).await?;
    eventually("the key to be gone", SOON, async || {
        ensure!(!hand.opens(&one).await?);
        Ok(())
    })
    .await?;
    // Those that are there are refused.
    hand.typed(BRING_BACK)?.ends(1)?.says(&["AlreadyExists"])?;
    eventually("the key to open again", SOON, async || {
        ensure!(hand.opens(&one).await?);
        Ok(())
    })
    .await?;
    let mut keys = hand.keys().await?;
    keys.sort();
    let mut all = vec![made, "sealed-secrets-keyold".to_owned(), "sealed-secrets-keyown".to_owned()];
    all.sort();
    ensure!(keys == all, "{keys:?}");
    // One that was marked since the backup stays so.
    hand.types(MARK)?;
    hand.typed(BRING_BACK)?.ends(1)?.says(&["AlreadyExists"])?;
    let annotations = hand.world.key_secrets().get("sealed-secrets-keyold").await?.metadata.annotations;
    ensure!(annotations.is_none_or(|all| all.is_empty()), "a private key may be in an annotation");
    let keys = hand.listed()?;
    ensure!(needed("sealed-secrets-keyold", &keys) == Some((Some("compromised".to_owned()), Some(2))), "{keys:?}");
    // One that can't be used is said to be so.
    let broken = json!({"data": {"tls.key": "Z2FyYmFnZQ=="}});
    let patch = kube::api::Patch::Merge(broken);
    hand.world.key_secrets().patch("sealed-secrets-keyown", &Default::default(), &patch).await?;
    hand.types(LIST)?.says(&["sealed-secrets-keyown: not used: tls.key: "])?;
    // Without the right to SealedSecrets the keys are told.
    let file = hand.world.cluster.service_account_kubeconfig(&system, "default", hand.world.dir.path()).await?;
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: keys, namespace: {system}}}\nrules:\n\
         - {{apiGroups: [''], resources: [secrets], verbs: [list]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: keys, namespace: {system}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: keys}}\n\
         subjects: [{{kind: ServiceAccount, name: default, namespace: {system}}}]\n"
    );
    hand.world.cluster.apply(&role).await?;
    let file = file.display().to_string();
    let list = ["keys", "list", "--bitnami", "--kubeconfig", &file, "--controller-namespace", &system];
    let listed = eventually("the right to be granted", SOON, async || hand.desk.well(&list)).await?;
    listed.says(&["what needs the keys is not told"])?;
    let listed = hand.desk.well(&list)?;
    let mut lines = listed.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    ensure!(
        lines.any(|words| matches!(&words[..], ["sealed-secrets-keyold", "compromised", _, _, "-", _])),
        "{}",
        listed.out
    );
    hand.world.finish().await
}

/// A key in a file names itself nowhere: that the cluster seals everything anew can be had, and that an old key is needed is known to
/// who has it.
#[tokio::test]
async fn what_git_needs_the_old_private_keys_tell() -> Result<()> {
    let Some(age) = tools() else { return Ok(()) };
    let Some(address) = netns::address() else {
        skip(
            "the API server's service proxy reaches processes only in a network namespace (cargo xtask test makes one)",
        );
        return Ok(());
    };
    let old = pair(10_000)?;
    let mut world = World::bitnami("rsagit", &["--bitnami=own"]).await?;
    let system = world.system.clone();
    world.http_addr = format!("{address}:0");
    let secret = world.plant_key(&system, "sealed-secrets-keyold", Some("active"), &old).await?;
    world.start().await?;
    let port: u16 = world.address("http").await?.rsplit(':').next().context("a port")?.parse()?;
    for service in ["bulla", "sealed-secrets-controller"] {
        world.cluster.publish_service(&system, service, "http", &address, port).await?;
    }
    let sealed = world.seal_theirs(&old, "db", Scope::Strict, &[("a", "hunter2-rsagit"), ("b", "hunter2-rsagit")]);
    let hand = Hand::new(world, &age)?;
    std::fs::write(hand.desk.path(FILE), serde_yaml::to_string(&sealed)?)?;
    write_private(&hand.desk.path("old.yaml"), serde_yaml::to_string(&secret)?.as_bytes())?;
    let new = pair(100)?;
    hand.world.plant_key(&system, "sealed-secrets-keynew", Some("active"), &new).await?;
    eventually("the newer certificate", SOON, async || {
        hand.types(FETCH)?;
        let fetched = Certificate::from_pem(hand.desk.read("new.pem")?.as_bytes())?.fingerprint();
        ensure!(fetched == new.certificate().fingerprint());
        Ok(())
    })
    .await?;
    // The sizes are the same, so that nobody can tell without a key, the cluster or not.
    let blind = hand.desk.well(&["reseal", "apps", "--live", "--cert", "new.pem", "--check"])?;
    blind.says(&["1 file with items that nobody can tell without a private key"])?;
    let still = hand.typed(STILL)?.ends(10)?;
    ensure!(still.out == format!("{FILE}: 2 items\n"), "{}", still.out);
    hand.types(RESEAL)?;
    let none = hand.types(STILL)?;
    ensure!(none.out.is_empty(), "{}", none.out);
    // The new one alone opens it.
    let patch = kube::api::Patch::Merge(json!({"metadata": {"labels": {BITNAMI_KEY_LABEL: "retired"}}}));
    hand.world.key_secrets().patch("sealed-secrets-keyold", &Default::default(), &patch).await?;
    eventually("the old key to open nothing", SOON, async || {
        ensure!(!hand.opens(&sealed).await?);
        Ok(())
    })
    .await?;
    let after: Value = serde_yaml::from_str(&hand.desk.read(FILE)?)?;
    ensure!(hand.opens(&after).await?);
    hand.world.finish().await
}

/// The next name follows from what is seen, and what has no label any more is not: the name is taken all the same.
#[tokio::test]
async fn a_key_comes_also_when_the_last_one_loses_its_label() -> Result<()> {
    let mut world = World::bitnami("rsalabel", &["--bitnami=own"]).await?;
    world.start().await?;
    let labelled = async || {
        let keys = world.key_secrets().list(&ListParams::default().labels(BITNAMI_KEY_LABEL)).await?.items;
        let [key] = keys.as_slice() else { anyhow::bail!("{} keys\n{}", keys.len(), world.log()) };
        Ok(key.name_any())
    };
    let first = eventually("a key", SOON, &labelled).await?;
    let patch = kube::api::Patch::Merge(json!({"metadata": {"labels": {BITNAMI_KEY_LABEL: null}}}));
    world.key_secrets().patch(&first, &Default::default(), &patch).await?;
    let second = eventually("another key", SOON, &labelled).await?;
    ensure!(second != first);
    ensure!(world.log().contains("a Secret of the next RSA key's name is there"), "{}", world.log());
    eventually("it to be used", SOON, async || {
        let (status, body) = world.get("http", "/v1/cert.pem").await?;
        ensure!(status == 200, "{status} {body}");
        Ok(())
    })
    .await?;
    world.finish().await
}
