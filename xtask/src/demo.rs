//! `cargo xtask demo`: the main job on a real API server, each step shown.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulla::manifest::Stream;
use bulla::secret::PlainSecret;
use bulla_tests::{ControlPlane, Program, Signal, eventually, service_account_kubeconfig};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::run::{build_programs, command, fixtures, output, root};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Show it on the cluster of this kubeconfig instead of a control plane of its own
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; without --kubeconfig of the usual one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Leave everything up to play with, until Enter or Ctrl-C
    #[arg(long)]
    keep: bool,
}

const NAMESPACE: &str = "bulla-demo";
const CONTROLLER_NAMESPACE: &str = "bulla-system";
const SOON: Duration = Duration::from_secs(60);

/// The values that are sealed. They are searched for in everything that is left behind.
fn values() -> Result<[(&'static str, Zeroizing<String>); 2]> {
    let random = |prefix: &str| -> Result<Zeroizing<String>> {
        let mut bytes = [0; 12];
        SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("no randomness"))?;
        Ok(Zeroizing::new(bytes.iter().fold(prefix.to_owned(), |text, byte| format!("{text}{byte:02x}"))))
    };
    Ok([("username", random("shop-")?), ("password", random("pw-")?)])
}

/// Shows the main job; fails when a step does not do what it says.
pub fn run(args: &Args) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(show(args))
}

fn step(number: u32, title: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}{number}. {title}{plain}");
}

/// Shows a command and what it prints, and fails when it fails.
fn shown(dir: &Path, program: &Path, args: &[&str]) -> Result<String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    println!("$ {name} {}", args.join(" "));
    let mut command = Command::new(program);
    command.current_dir(dir).args(args);
    scrub(&mut command);
    let result = command.output().with_context(|| format!("cannot start {name}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
    for line in stdout.lines().chain(stderr.lines()).take(40) {
        println!("  {}", shorten(line));
    }
    ensure!(result.status.success(), "{name} {} failed: {}", args.join(" "), result.status);
    Ok(stdout.into_owned())
}

fn shorten(line: &str) -> String {
    let end = line.char_indices().nth(110).map(|(at, _)| at);
    end.map_or_else(|| line.to_owned(), |end| format!("{}…", &line[..end]))
}

/// Git and bulla see nothing of the person's own configuration.
fn scrub(command: &mut Command) {
    for name in ["KUBECONFIG", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "demo")
        .env("GIT_AUTHOR_EMAIL", "demo@example.invalid")
        .env("GIT_COMMITTER_NAME", "demo")
        .env("GIT_COMMITTER_EMAIL", "demo@example.invalid")
        .env("GIT_PAGER", "cat");
}

/// The cluster that it is shown on, and what has to be taken down in the end.
struct Stage {
    plane: Option<ControlPlane>,
    config: Config,
    client: Client,
    kubeconfig: PathBuf,
    context: Option<String>,
    made: Made,
}

/// What was not there before.
#[derive(Default)]
struct Made {
    definitions: Vec<String>,
    namespaces: Vec<String>,
    installed: Option<String>,
}

impl Stage {
    async fn set(args: &Args, dir: &Path) -> Result<Self> {
        if args.kubeconfig.is_none() && args.context.is_none() {
            println!(
                "starting etcd, kube-apiserver and kube-controller-manager (the first time they are built: minutes)"
            );
            let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
            println!(
                "kube-apiserver {} at {}, up in {:.1} s",
                plane.version(),
                plane.server(),
                plane.start_time().as_secs_f64()
            );
            let (config, client) = (plane.client_config()?, plane.client()?);
            let kubeconfig = plane.kubeconfig().to_path_buf();
            return Ok(Self { plane: Some(plane), config, client, kubeconfig, context: None, made: Made::default() });
        }
        let read = match &args.kubeconfig {
            Some(path) => Kubeconfig::read_from(path)?,
            None => Kubeconfig::read()?,
        };
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(read.clone(), &options).await?;
        let client = Client::try_from(config.clone())?;
        println!("on the cluster at {}", config.cluster_url);
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in [NAMESPACE, CONTROLLER_NAMESPACE] {
            ensure!(
                namespaces.get_opt(name).await?.is_none(),
                "the namespace {name} is there already: this demo would get in its way"
            );
        }
        let kubeconfig = match &args.kubeconfig {
            Some(path) => fs::canonicalize(path)?,
            None => {
                let path = dir.join("kubeconfig");
                bulla_tests::write_private(&path, serde_json::to_string(&read)?.as_bytes())?;
                path
            }
        };
        Ok(Self { plane: None, config, client, kubeconfig, context: args.context.clone(), made: Made::default() })
    }

    /// Arguments with which `bulla` finds the cluster.
    fn connection(&self) -> Vec<String> {
        let mut args = vec!["--kubeconfig".to_owned(), self.kubeconfig.display().to_string()];
        if let Some(context) = &self.context {
            args.extend(["--context".to_owned(), context.clone()]);
        }
        args
    }

    async fn install(&mut self, manifests: &str) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for name in ["sealedsecrets.bulla.dev", "sealingkeys.bulla.dev"] {
            if definitions.get_opt(name).await?.is_none() {
                self.made.definitions.push(name.to_owned());
            }
        }
        self.made.namespaces = vec![NAMESPACE.to_owned(), CONTROLLER_NAMESPACE.to_owned()];
        self.made.installed = Some(manifests.to_owned());
        match &self.plane {
            Some(plane) => plane.install_crds(manifests).await,
            None => bulla_tests::apply(&self.client, "default", manifests).await.map(drop),
        }
    }

    /// Takes down what was not there before. A control plane of its own simply ends.
    async fn strike(self) -> Result<()> {
        if self.plane.is_some() {
            return Ok(());
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for name in &self.made.namespaces {
            if namespaces.get_opt(name).await?.is_some() {
                namespaces.delete(name, &DeleteParams::default()).await?;
            }
        }
        if let Some(manifests) = &self.made.installed {
            bulla_tests::delete(&self.client, manifests, &["Namespace", "CustomResourceDefinition"]).await?;
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for name in &self.made.definitions {
            definitions.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

async fn show(args: &Args) -> Result<()> {
    let programs = build_programs(false)?;
    let dir = tempfile::Builder::new().prefix("bulla-demo-").tempdir()?;
    let mut stage = Stage::set(args, dir.path()).await?;
    let shown = play(args, &programs, dir.path(), &mut stage).await;
    let struck = stage.strike().await.context("cleaning up");
    shown?;
    struck?;
    println!("\nEverything was cleaned up.");
    Ok(())
}

async fn play(args: &Args, programs: &Path, dir: &Path, stage: &mut Stage) -> Result<()> {
    let bulla = programs.join("bulla");
    let git = PathBuf::from("git");
    let connection = stage.connection();
    let with = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).chain(connection.iter().cloned()).collect()
    };
    let values = values()?;

    step(1, "Install: what `kubectl apply --server-side` would do with it");
    println!("$ bulla install | kubectl apply --server-side -f -");
    let manifests = output(command(&bulla).arg("install"))?;
    stage.install(&manifests).await?;
    let kinds = manifests.lines().filter_map(|line| line.strip_prefix("kind: ")).collect::<Vec<_>>();
    println!("  {} objects: {}", kinds.len(), kinds.join(", "));

    step(2, "The controller, as a process with its shipped rights and a ServiceAccount's token");
    let account = service_account_kubeconfig(&stage.config, CONTROLLER_NAMESPACE, "bulla", dir).await?;
    let controller = Program::launch(programs.join("bulla-controller"))
        .arg("--kubeconfig")
        .arg(&account)
        .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--prefer-after", "0s"])
        .spawn()?;
    let http = eventually("the controller's address", SOON, async || {
        controller_address(&controller.log()).context("not in its log yet")
    })
    .await?;
    println!("  listening on {http}");
    let live = ["--controller-url", http.as_str()];

    step(3, "The cluster's public key: the one thing that sealing needs");
    let repository = dir.join("shop");
    fs::create_dir(&repository)?;
    let recipients =
        eventually("the cluster's recipients", SOON, async || output(Command::new(&bulla).args(with(&["recipients"]))))
            .await?;
    fs::write(repository.join("prod.pub"), &recipients)?;
    println!("$ bulla recipients > prod.pub");
    recipients.lines().for_each(|line| println!("  {}", shorten(line)));

    step(4, "Seal a Secret, and commit it");
    let plain = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: {NAMESPACE}\ntype: Opaque\nstringData:\n{}",
        values.iter().map(|(key, value)| format!("  {key}: {}\n", value.as_str())).collect::<String>()
    );
    let secret = dir.join("secret.yaml"); // outside the repository
    bulla_tests::write_private(&secret, Zeroizing::new(plain).as_bytes())?;
    let secret_path = secret.display().to_string();
    shown(&repository, &git, &["init", "-q", "-b", "main"])?;
    shown(&repository, &bulla, &["seal", &secret_path, "-R", "prod.pub", "-w", "db.sealed.yaml"])?;
    fs::remove_file(&secret)?;
    shown(&repository, &git, &["add", "."])?;
    shown(&repository, &git, &["commit", "-qm", "Database credentials"])?;
    fs::read_to_string(repository.join("db.sealed.yaml"))?.lines().for_each(|line| println!("  {}", shorten(line)));

    step(5, "A folder of manifests as people have them, sealed in place; other kinds keep their bytes");
    let people = people(&repository.join("apps"))?;
    shown(&repository, &bulla, &["seal", "--in-place", "apps", "-R", "prod.pub"])?;
    shown(&repository, &git, &["add", "."])?;
    shown(&repository, &git, &["commit", "-qm", "Everything else"])?;

    step(6, "Apply it: the controller makes native Secrets");
    let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    bulla_tests::apply(&stage.client, "default", &namespace.to_string()).await?;
    apply_file(stage, &repository.join("db.sealed.yaml")).await?;
    check(stage, &values).await?;
    apply_people(stage, &repository.join("apps"), &people).await?;

    step(7, "Rotate: a new key in the cluster, one line changes in the file");
    let mut rotate = vec!["rotate", "db.sealed.yaml", "--prefer-after", "0s", "--timeout", "60s"];
    rotate.extend(live);
    let rotate = with(&rotate);
    shown(&repository, &bulla, &rotate.iter().map(String::as_str).collect::<Vec<_>>())?;
    shown(&repository, &git, &["diff", "--stat"])?;
    let changed = output(Command::new("git").current_dir(&repository).args(["diff", "--numstat"]))?;
    ensure!(changed.trim() == "1\t1\tdb.sealed.yaml", "not a diff of one line: {changed}");
    let diff = shown(&repository, &git, &["diff", "--unified=1"])?;
    ensure!(diff.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++")).count() == 1);
    println!("$ bulla recipients > prod.pub                # what is sealed from now on is for the new key");
    fs::write(repository.join("prod.pub"), output(Command::new(&bulla).args(with(&["recipients"])))?)?;
    shown(&repository, &git, &["commit", "-qam", "New cluster key"])?;
    apply_file(stage, &repository.join("db.sealed.yaml")).await?;
    check(stage, &values).await?;

    step(8, "Nothing in plaintext: not in Git, not in the controller's log, not in events or status");
    let history = output(Command::new("git").current_dir(&repository).args(["log", "-p", "--all"]))?;
    let events: Api<DynamicObject> =
        Api::all_with(stage.client.clone(), &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Event")));
    let kind = GroupVersionKind::gvk("bulla.dev", "v1alpha1", "SealedSecret");
    let sealed: Api<DynamicObject> = Api::all_with(stage.client.clone(), &ApiResource::from_gvk(&kind));
    let places = [
        ("git log -p", history),
        ("the controller's log", controller.log()),
        ("events", serde_json::to_string(&events.list(&Default::default()).await?.items)?),
        ("SealedSecrets with status", serde_json::to_string(&sealed.list(&Default::default()).await?.items)?),
    ];
    for (place, text) in &places {
        for (key, value) in &values {
            ensure!(!text.contains(value.as_str()), "the value of {key} is in {place}");
        }
        for (key, value) in people.iter().flat_map(|secret| &secret.data) {
            for form in forms(value.expose()) {
                ensure!(!text.contains(form.as_str()), "the value of {key} is in {place}");
            }
        }
        println!("  {place}: {} bytes, none of the values, plain or in base64", text.len());
    }

    if args.keep {
        println!("\nStill up. In {}:", repository.display());
        println!("  export KUBECONFIG={}", stage.kubeconfig.display());
        println!("  PATH={}:$PATH bulla set db.sealed.yaml token -R prod.pub", programs.display());
        println!("The controller is at {http}. Enter or Ctrl-C ends everything.");
        let enter = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        tokio::select! {
            _ = enter => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    controller.signal(Signal::Term)?;
    let status = controller.wait(Duration::from_secs(10)).await?;
    ensure!(status.success(), "the controller ended with {status}");
    Ok(())
}

/// Copies the manifests of the tests, and a large one, and returns the Secrets in them.
fn people(dir: &Path) -> Result<Vec<PlainSecret>> {
    fs::create_dir(dir)?;
    for name in fixtures()? {
        fs::copy(root().join("tests/fixtures/manifests").join(&name), dir.join(&name))?;
    }
    let large = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: large\n  namespace: shop\nstringData:\n  blob: {}\n",
        "large-".repeat(700 * 1024 / 6)
    );
    fs::write(dir.join("large.yaml"), large)?;
    let mut secrets: Vec<PlainSecret> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let stream = Stream::read(&fs::read(entry?.path())?)?;
        for object in stream.objects().filter(|object| object.is_secret()) {
            let secret = object.secret()?;
            // The same Secret stands in several files, in several encodings.
            if !secrets.iter().any(|other| other.name == secret.name && other.namespace == secret.namespace) {
                secrets.push(secret);
            }
        }
    }
    Ok(secrets)
}

/// A value as it could stand in a text: as it is, and in base64. Short ones stand everywhere by chance.
fn forms(value: &[u8]) -> Vec<Zeroizing<String>> {
    if value.len() < 10 {
        return vec![];
    }
    let mut forms = vec![Zeroizing::new(STANDARD.encode(value))];
    forms.extend(std::str::from_utf8(value).ok().map(|text| Zeroizing::new(text.trim().to_owned())));
    forms
}

/// Applies the SealedSecrets of the folder, waits for their Secrets, and compares them with what was sealed.
async fn apply_people(stage: &Stage, dir: &Path, secrets: &[PlainSecret]) -> Result<()> {
    if stage.plane.is_none() {
        println!("  (the folder's namespaces are not made in a cluster that is not this demo's own)");
        return Ok(());
    }
    let mut namespaces: Vec<&str> = secrets.iter().filter_map(|secret| secret.namespace.as_deref()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for name in namespaces {
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        bulla_tests::apply(&stage.client, "default", &namespace.to_string()).await?;
    }
    println!("$ kubectl apply --server-side -f apps        # the SealedSecrets in it");
    let mut files = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    for file in files {
        let stream = Stream::read(&fs::read(&file)?)?;
        for object in stream.objects().filter(|object| object.is_sealed()) {
            let manifest = object.sealed()?.manifest;
            let known = secrets.iter().any(|s| s.name == manifest.name && s.namespace == manifest.namespace);
            ensure!(known, "{}: a SealedSecret that was no Secret", file.display());
            bulla_tests::apply(&stage.client, "default", &bulla::manifest::emit::sealed_json(&manifest)).await?;
        }
    }
    for secret in secrets {
        let namespace = secret.namespace.as_deref().unwrap_or("default");
        let name = secret.name.as_deref().unwrap_or_default();
        let api: Api<Secret> = Api::namespaced(stage.client.clone(), namespace);
        eventually(&format!("the Secret {namespace}/{name}"), SOON, async || {
            let found = api.get(name).await?;
            let data = found.data.unwrap_or_default();
            let same = data.len() == secret.data.len()
                && secret.data.iter().all(|(key, value)| data.get(key).is_some_and(|found| found.0 == value.expose()));
            ensure!(same, "its data are not yet what was sealed");
            ensure!(found.type_.as_deref() == Some(secret.type_.as_deref().unwrap_or("Opaque")), "its type is another");
            Ok(())
        })
        .await?;
    }
    println!("  {} Secrets, of types and shapes as in the folder, with the values that were sealed", secrets.len());
    Ok(())
}

/// Where the controller says that it listens.
fn controller_address(log: &str) -> Option<String> {
    log.lines().find_map(|line| bulla_tests::http_address(line)).map(|address| format!("http://{address}"))
}

async fn apply_file(stage: &Stage, file: &Path) -> Result<()> {
    println!("$ kubectl apply --server-side -f {}", file.file_name().unwrap_or_default().to_string_lossy());
    bulla_tests::apply(&stage.client, "default", &fs::read_to_string(file)?).await.map(drop)
}

/// Waits until the Secret is there and ready, compares its values, and shows its keys.
async fn check(stage: &Stage, values: &[(&str, Zeroizing<String>)]) -> Result<()> {
    let kind = GroupVersionKind::gvk("bulla.dev", "v1alpha1", "SealedSecret");
    let sealed: Api<DynamicObject> =
        Api::namespaced_with(stage.client.clone(), NAMESPACE, &ApiResource::from_gvk(&kind));
    println!("$ kubectl -n {NAMESPACE} wait --for=condition=Ready sealedsecrets.bulla.dev/db");
    eventually("the SealedSecret to be ready", SOON, async || {
        let object = sealed.get("db").await?;
        let current = object.data["status"]["observedGeneration"].as_i64() == object.metadata.generation;
        let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if current && ready { Ok(()) } else { Err(anyhow!("its status is {}", object.data["status"])) }
    })
    .await?;
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let data = secrets.get("db").await?.data.unwrap_or_default();
    for (key, value) in values {
        match data.get(*key) {
            Some(found) if found.0 == value.as_bytes() => {}
            Some(_) => bail!("the Secret holds another value for {key}"),
            None => bail!("the Secret has no {key}"),
        }
    }
    println!(
        "  condition met. Secret {NAMESPACE}/db, type Opaque, keys: {}",
        data.keys().cloned().collect::<Vec<_>>().join(", ")
    );
    println!("  (the values are the ones that were sealed)");
    Ok(())
}
