//! A controller with a namespace for its keys and one that it serves, and what tests ask of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bulla::metadata::RECONCILE_AT_ANNOTATION;
use bulla::recipient::{NameSource, Recipient, Targets, parse_recipients};
use bulla::resource::{Condition, SealedSecret, SealingKey, SecretTemplate};
use bulla::scope::Scope;
use bulla::seal::seal;
use bulla::secret::{PlainSecret, SecretValue};
use bulla_tests::{ControlPlane, Program, Signal, binary, cluster, eventually, netns, skip};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

/// Longer than anything takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

/// The manifest that is shipped.
pub const DEPLOY: &str = include_str!("../../deploy/bulla.yaml");

/// The definition of the other format's resource, as clusters have it.
const BITNAMI: &str = include_str!("../fixtures/bitnami-crd.yaml");

/// The definitions of the resources, as YAML (JSON is YAML).
pub fn definitions() -> String {
    let documents = bulla::resource::custom_resource_definitions();
    let own = documents.iter().map(|crd| serde_json::to_string(crd).unwrap());
    own.chain([BITNAMI.to_owned()]).collect::<Vec<_>>().join("\n---\n")
}

/// Everything a test needs.
pub struct World {
    pub cluster: &'static ControlPlane,
    pub client: Client,
    /// Where the controller keeps its keys.
    pub system: String,
    /// What it serves.
    pub app: String,
    pub dir: tempfile::TempDir,
    pub controller: Option<Program>,
    pub args: Vec<String>,
    /// Which namespaces the controller is told to serve.
    served: Vec<String>,
    /// Where the controller serves HTTP.
    pub http_addr: String,
    /// What the RoleBindings of its rights in `app` end with, where others serve that too.
    suffix: String,
    /// Logs of controllers that have ended.
    logs: Vec<String>,
    /// Plaintexts that nothing may show.
    secrets: Vec<String>,
}

impl World {
    /// Namespaces, definitions, the shipped rights: bound in the two namespaces only.
    pub async fn bare(prefix: &str) -> Result<Self> {
        static INSTALLED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        let cluster = cluster()?;
        INSTALLED.get_or_try_init(async || cluster.install_crds(&definitions()).await).await?;
        Self::on(cluster, prefix, None).await
    }

    /// Another cluster with the same namespace, as far as anybody notices who does not ask both at once: a controller with
    /// keys of its own that serves what `other` serves.
    pub async fn beside(prefix: &str, other: &Self) -> Result<Self> {
        Self::on(other.cluster, prefix, Some(&other.app)).await
    }

    /// Starts a controller with these arguments, which the API server's service proxy reaches; `None` outside of a network
    /// namespace.
    pub async fn reached(mut self, args: &[&str]) -> Result<Option<Self>> {
        let Some(address) = netns::address() else {
            skip(
                "the API server's service proxy reaches processes only in a network namespace (cargo xtask test makes \
                 one)",
            );
            return Ok(None);
        };
        self.http_addr = format!("{address}:0");
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.start().await?;
        // After a restart it is found where it was.
        self.http_addr = self.address("http").await?;
        let port: u16 = self.http_addr.rsplit(':').next().context("a port")?.parse()?;
        self.cluster.publish_service(&self.system, "bulla", "http", &address, port).await?;
        Ok(Some(self))
    }

    /// With a control plane of its own and a controller that is ready: the API server counts nobody else's requests.
    pub async fn alone(prefix: &str) -> Result<Self> {
        let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
        // As the shared one, it ends with the process.
        let plane: &'static ControlPlane = Box::leak(Box::new(plane));
        plane.install_crds(&definitions()).await?;
        let mut world = Self::on(plane, prefix, None).await?;
        world.start().await?;
        Ok(world)
    }

    async fn on(cluster: &'static ControlPlane, prefix: &str, app: Option<&str>) -> Result<Self> {
        let system = cluster.namespace(&format!("{prefix}-sys")).await?;
        let suffix = app.map_or_else(String::new, |_| format!("-{system}"));
        let app = match app {
            Some(app) => app.to_owned(),
            None => cluster.namespace(prefix).await?,
        };
        let served = vec![format!("--watch-namespace={app}")];
        let world = Self { served, suffix, ..Self::without_anything(cluster, system, app)? };
        cluster.apply(&world.rights(true)?).await?;
        Ok(world)
    }

    fn without_anything(cluster: &'static ControlPlane, system: String, app: String) -> Result<Self> {
        Ok(Self {
            cluster,
            client: cluster.client()?,
            system,
            app,
            dir: tempfile::tempdir()?,
            controller: None,
            args: Vec::new(),
            served: Vec::new(),
            http_addr: "127.0.0.1:0".to_owned(),
            suffix: String::new(),
            logs: Vec::new(),
            secrets: Vec::new(),
        })
    }

    /// A control plane of its own with nothing of Bulla's in it: a controller of the namespace `system`, once it is started, serves
    /// the whole cluster with the rights that somebody has given it by then.
    pub async fn untouched(prefix: &str, system: &str) -> Result<Self> {
        let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
        // As the shared one, it ends with the process.
        let plane: &'static ControlPlane = Box::leak(Box::new(plane));
        let app = plane.namespace(prefix).await?;
        Self::without_anything(plane, system.to_owned(), app)
    }

    /// The shipped RBAC for these namespaces, as for a namespaced installation.
    fn rights(&self, bind_app: bool) -> Result<String> {
        self.rights_of(DEPLOY, bind_app)
    }

    /// The same of another manifest.
    pub fn rights_of(&self, manifest: &str, bind_app: bool) -> Result<String> {
        let mut out = Vec::new();
        for document in serde_yaml::Deserializer::from_str(manifest) {
            let mut document: Value = serde::Deserialize::deserialize(document)?;
            let kind = document["kind"].as_str().unwrap_or_default().to_owned();
            let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match kind.as_str() {
                "ServiceAccount" | "Role" | "RoleBinding" => {
                    document["metadata"]["namespace"] = self.system.clone().into()
                }
                "ClusterRole" => {}
                "ClusterRoleBinding" if name != "bulla-namespaces" && bind_app => {
                    document["kind"] = "RoleBinding".into();
                    document["metadata"]["name"] = format!("{name}-served{}", self.suffix).into();
                    document["metadata"]["namespace"] = self.app.clone().into();
                }
                _ => continue,
            }
            for subject in document.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                if subject["kind"] == "ServiceAccount" {
                    subject["namespace"] = self.system.clone().into();
                }
            }
            out.push(document.to_string());
        }
        Ok(out.join("\n---\n"))
    }

    /// Gives the controller its rights in one more namespace, and serves it from the next start on.
    pub async fn serve_too(&mut self, namespace: &str) -> Result<()> {
        let binding = serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "bulla-served", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bulla"},
            "subjects": [{"kind": "ServiceAccount", "name": "bulla", "namespace": self.system}],
        });
        self.cluster.apply(&binding.to_string()).await?;
        self.served.push(format!("--watch-namespace={namespace}"));
        Ok(())
    }

    /// Gives the controller the rights in the whole cluster that are shipped, and serves all of it from the next start on. For
    /// worlds that have their control plane alone.
    pub async fn cluster_wide(&mut self) -> Result<()> {
        let mut out = Vec::new();
        for document in serde_yaml::Deserializer::from_str(DEPLOY) {
            let mut document: Value = serde::Deserialize::deserialize(document)?;
            if document["kind"] != "ClusterRole" && document["kind"] != "ClusterRoleBinding" {
                continue;
            }
            for subject in document.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                subject["namespace"] = self.system.clone().into();
            }
            out.push(document.to_string());
        }
        self.cluster.apply(&out.join("\n---\n")).await?;
        self.served.clear();
        Ok(())
    }

    /// With a controller that is ready.
    pub async fn new(prefix: &str) -> Result<Self> {
        Self::with(prefix, &[]).await
    }

    /// With a controller that has these arguments besides.
    pub async fn with(prefix: &str, args: &[&str]) -> Result<Self> {
        let mut world = Self::bare(prefix).await?;
        world.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        world.start().await?;
        Ok(world)
    }

    /// Starts the controller and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let kubeconfig = self.cluster.service_account_kubeconfig(&self.system, "bulla", self.dir.path()).await?;
        let controller = Program::launch(binary("bulla-controller")?)
            .args(["--namespace", &self.system, "--log-level", "debug"])
            .args(&self.served)
            .args(["--http-addr", &self.http_addr, "--metrics-addr", "127.0.0.1:0"])
            .args(&self.args)
            .env("KUBECONFIG", &kubeconfig)
            .spawn()?;
        self.controller = Some(controller);
        eventually("the controller to be ready", SOON, async || {
            let (status, body) = self.get("http", "/readyz").await?;
            ensure!(status == 200, "{status} {body}\n{}", self.log());
            Ok(())
        })
        .await
    }

    /// Ends it and starts another.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Ends it with SIGTERM.
    pub async fn stop(&mut self) -> Result<()> {
        let controller = self.controller.take().context("no controller")?;
        controller.signal(Signal::Term)?;
        let status = controller.wait(SOON).await?;
        self.logs.push(controller.log());
        ensure!(status.success(), "ended with {status}: {}", controller.log());
        Ok(())
    }

    pub fn log(&self) -> String {
        self.controller.as_ref().map(Program::log).unwrap_or_default()
    }

    /// Where it listens: its log says so.
    pub async fn address(&self, what: &str) -> Result<String> {
        let controller = self.controller.as_ref().context("no controller")?;
        let line = controller.wait_for_line(&format!("listening what=\"{what}\""), SOON).await?;
        Ok(line.split("address=").nth(1).context("no address")?.trim().to_owned())
    }

    /// GET.
    pub async fn get(&self, what: &str, path: &str) -> Result<(u16, String)> {
        let address = self.address(what).await?;
        exchange(&address, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &[u8]) -> Result<(u16, Value)> {
        let address = self.address("http").await?;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let (status, text) = exchange(&address, &[head.as_bytes(), body].concat())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// POST with a challenge to the holder of `pinned`: status, proof and body.
    pub async fn ask_proven(&self, path: &str, body: &[u8], challenge: &str) -> Result<(u16, Option<String>, String)> {
        let address = self.address("http").await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nBulla-Challenge: {challenge}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let (status, head, body) = exchange_all(&address, &[head.as_bytes(), body].concat())?;
        let proof = head.lines().find_map(|line| line.strip_prefix("bulla-proof: ")).map(str::to_owned);
        Ok((status, proof, body))
    }

    pub fn sealed(&self) -> Api<SealedSecret> {
        Api::namespaced(self.client.clone(), &self.app)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.app)
    }

    pub fn keys(&self) -> Api<SealingKey> {
        Api::namespaced(self.client.clone(), &self.system)
    }

    pub fn key_secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.system)
    }

    pub fn configs(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.system)
    }

    /// What is published.
    pub async fn recipients(&self) -> Result<Vec<Recipient>> {
        eventually("the recipients", SOON, async || {
            let config = self.configs().get("bulla-recipients").await?;
            let text = config.data.as_ref().and_then(|data| data.get("recipients")).context("no recipients")?;
            Ok(parse_recipients(text)?.into_iter().map(|listed| listed.recipient).collect())
        })
        .await
    }

    /// A plaintext that nothing may show.
    pub fn guard(&mut self, value: &str) {
        self.secrets.push(value.to_owned());
    }

    /// Seals for the preferred recipient.
    pub async fn seal(&mut self, name: &str, data: &[(&str, &str)]) -> Result<SealedSecret> {
        self.seal_as(name, data, |_| {}).await
    }

    /// Seals with a template.
    pub async fn seal_as(
        &mut self,
        name: &str,
        data: &[(&str, &str)],
        change: impl FnOnce(&mut SecretTemplate),
    ) -> Result<SealedSecret> {
        let recipient = self.recipients().await?.swap_remove(0);
        self.secrets.extend(data.iter().map(|(_, value)| (*value).to_owned()));
        let mut sealed = sealed_for(recipient, &self.app, name, data)?;
        let mut template = sealed.spec.template.take().unwrap_or_default();
        change(&mut template);
        sealed.spec.template = Some(template);
        Ok(sealed)
    }

    /// Creates it.
    pub async fn create(&self, sealed: &SealedSecret) -> Result<SealedSecret> {
        Ok(self.sealed().create(&PostParams::default(), sealed).await?)
    }

    /// Replaces its spec.
    pub async fn update(&self, sealed: &SealedSecret) -> Result<SealedSecret> {
        let api = self.sealed();
        let name = sealed.name_any();
        let mut current = api.get(&name).await?;
        current.spec = sealed.spec.clone();
        Ok(api.replace(&name, &PostParams::default(), &current).await?)
    }

    /// Seals, creates, and waits for the Secret.
    pub async fn make(&mut self, name: &str, data: &[(&str, &str)]) -> Result<Secret> {
        let sealed = self.seal(name, data).await?;
        self.create(&sealed).await?;
        self.ready(name, "Applied").await?;
        self.holds(name, data).await
    }

    /// Waits until Ready has this reason, of the current generation.
    pub async fn ready(&self, name: &str, reason: &str) -> Result<Condition> {
        eventually(&format!("{name} to be {reason}"), SOON, async || {
            let sealed = self.sealed().get(name).await?;
            let status = sealed.status.as_ref().context("no status")?;
            ensure!(status.observed_generation == sealed.metadata.generation, "an old status: {status:?}");
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready").context("no condition")?;
            ensure!(ready.reason == reason, "{ready:?}\n{}", self.log());
            let others: Vec<_> = status.conditions.iter().filter(|c| c.type_ != "Ready").collect();
            let others: Vec<_> = others.into_iter().filter(|c| c.type_ != "KeyCompromised").collect();
            ensure!(others.len() <= 1 && others.iter().all(|c| c.status == "True"), "{status:?}");
            Ok(ready.clone())
        })
        .await
    }

    /// Waits until the Secret holds exactly this.
    pub async fn holds(&self, name: &str, data: &[(&str, &str)]) -> Result<Secret> {
        eventually(&format!("the Secret {name}"), SOON, async || {
            let secret = self.secrets().get_opt(name).await?.context("there is none")?;
            ensure!(values(&secret) == expected(data), "it holds other values: {:?}", values(&secret).keys());
            Ok(secret)
        })
        .await
    }

    /// A merge patch of a Secret by somebody else.
    pub async fn meddle(&self, name: &str, patch: Value) -> Result<Secret> {
        let params = PatchParams { field_manager: Some("meddler".to_owned()), ..PatchParams::default() };
        Ok(self.secrets().patch(name, &params, &Patch::Merge(patch)).await?)
    }

    /// Asks for a fresh look.
    pub async fn ask(&self, name: &str, at: &str) -> Result<()> {
        let patch = serde_json::json!({"metadata": {"annotations": {RECONCILE_AT_ANNOTATION: at}}});
        self.sealed().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        eventually("the answer to reconcile-at", SOON, async || {
            let status = self.sealed().get(name).await?.status.context("no status")?;
            ensure!(status.last_handled_reconcile_at.as_deref() == Some(at), "{status:?}");
            Ok(())
        })
        .await
    }

    /// Reasons and notes of the events about objects of this name.
    pub async fn events(&self, namespace: &str, name: &str) -> Result<Vec<(String, String)>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let of = api.list(&ListParams::default()).await?.items.into_iter();
        Ok(of
            .filter(|event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some(name)))
            .map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default()))
            .collect())
    }

    /// Waits for an event.
    pub async fn event(&self, namespace: &str, name: &str, reason: &str) -> Result<String> {
        eventually(&format!("the event {reason}"), SOON, async || {
            let events = self.events(namespace, name).await?;
            let found = events.iter().find(|(found, _)| found == reason);
            found.map(|(_, note)| note.clone()).with_context(|| format!("{events:?}"))
        })
        .await
    }

    /// Deletes a Secret and waits until it is another or gone.
    pub async fn delete_secret(&self, name: &str) -> Result<()> {
        self.secrets().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Looks for every plaintext in everything that can be read without reading Secrets, and ends the controller.
    pub async fn finish(mut self) -> Result<()> {
        let mut seen = vec![serde_json::to_string(&self.sealed().list(&ListParams::default()).await?.items)?];
        for namespace in [&self.app, &self.system] {
            let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
            seen.push(serde_json::to_string(&events.list(&ListParams::default()).await?.items)?);
        }
        if self.controller.is_some() {
            seen.push(self.get("metrics", "/metrics").await?.1);
            self.stop().await?;
        }
        seen.extend(self.logs.clone());
        for key in self.key_secrets().list(&ListParams::default()).await?.items {
            for bytes in key.data.unwrap_or_default().into_iter().filter(|(key, _)| key == "identity").map(|(_, v)| v.0)
            {
                self.secrets.push(String::from_utf8_lossy(&bytes).trim().to_owned());
            }
        }
        for secret in self.secrets.iter().filter(|secret| secret.len() >= 6) {
            use base64::Engine as _;
            let encoded = base64::prelude::BASE64_STANDARD.encode(secret);
            for text in &seen {
                ensure!(!text.contains(secret.as_str()) && !text.contains(&encoded), "a plaintext is shown");
            }
        }
        Ok(())
    }
}

/// Seals for a recipient.
pub fn sealed_for(recipient: Recipient, namespace: &str, name: &str, data: &[(&str, &str)]) -> Result<SealedSecret> {
    let plain = PlainSecret {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        data: data.iter().map(|(k, v)| ((*k).to_owned(), SecretValue::new(v.as_bytes().to_vec()))).collect(),
        ..PlainSecret::default()
    };
    let targets = Targets::new([(recipient, NameSource::Comment("here".to_owned()))], false)?;
    Ok(seal(&plain, Scope::Strict, &targets)?)
}

/// The values of a Secret.
pub fn values(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()
}

/// The same, of what a test wrote down.
pub fn expected(data: &[(&str, &str)]) -> BTreeMap<String, String> {
    data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// One request on a connection of its own.
pub fn exchange(address: &str, request: &[u8]) -> Result<(u16, String)> {
    exchange_all(address, request).map(|(status, _, body)| (status, body))
}

/// The same, with the answer's head.
pub fn exchange_all(address: &str, request: &[u8]) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    // A server that refuses early may close before everything is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("no answer: {read:?} {text:?}") };
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, head.to_owned(), body.to_owned()))
}
