//! A control plane, two replicas, and who looks after them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bulla::recipient::parse_recipients;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::http;
use super::model::{Model, Name, persist};
use super::random::Random;
use super::replica::{Make, Replica};
use crate::rsa::PAIRS;
use crate::{Component, ControlPlane, eventually, service_account_token};

/// The controller's namespace.
pub const SYSTEM: &str = "bulla-system";
/// The Secrets of its keys.
pub const KEYS: [&str; 3] = ["bulla-key-hybrid-1", RSA_KEYS[0], RSA_KEYS[1]];
/// Of those, the ones that open objects of bitnami.com.
pub const RSA_KEYS: [&str; 2] = ["sealed-secrets-keyolder", "sealed-secrets-keynewer"];

/// How fast everything goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The lease of the leader.
    pub lease: Duration,
    /// Its renewal deadline and retry period.
    pub renewal: (Duration, Duration),
    /// The shortest and the longest of a fault.
    pub lasts: (Duration, Duration),
    /// Longer than anything that works takes to be seen.
    pub soon: Duration,
    /// Within this everything must be right again at the end.
    pub healed: Duration,
    /// Between two changes of the load.
    pub change: Duration,
    /// Hostile objects a time.
    pub hostile: usize,
}

/// All of it.
pub struct World {
    /// The control plane.
    pub plane: Arc<ControlPlane>,
    /// What must be.
    pub model: Arc<Model>,
    /// The replicas.
    pub replicas: Vec<Arc<Replica>>,
    /// How fast.
    pub pace: Pace,
    keepers: Vec<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

/// What no log may contain: plaintexts and private keys, raw and in base64.
pub fn forbidden(marker: &str) -> Vec<String> {
    let mut texts = vec![marker.to_owned(), "AGE-SECRET-KEY".to_owned(), "PRIVATE KEY-----".to_owned()];
    // The first line of a key, and what each of its begins with is the same.
    texts.extend(PAIRS.iter().filter_map(|pair| pair.private_key.lines().nth(1).map(str::to_owned)));
    let encoded: Vec<_> = texts.iter().map(|text| BASE64_STANDARD.encode(text)).collect();
    // What is behind it would be in its last character.
    texts.extend(
        encoded
            .into_iter()
            .map(|text| text.trim_end_matches('=').to_owned())
            .map(|text| text.get(..text.len() / 4 * 4).unwrap_or_default().to_owned()),
    );
    texts
}

impl World {
    /// A control plane with the shipped manifest, namespaces, and two replicas that run.
    pub async fn new(seed: u64, program: PathBuf, pace: Pace) -> Result<Self> {
        let plane = Arc::new(tokio::task::spawn_blocking(ControlPlane::start).await??);
        let model = Arc::new(Model::new(seed, plane.client()?));
        let definitions = bulla::resource::custom_resource_definitions();
        let mut definitions: Vec<String> = definitions.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        definitions.push(include_str!("../fixtures/bitnami-crd.yaml").to_owned());
        plane.install_crds(&definitions.join("\n---\n")).await?;
        for shipped in [
            include_str!("../../deploy/bulla.yaml"),
            include_str!("../../deploy/bitnami.yaml"),
            include_str!("../../deploy/bitnami-own.yaml"),
        ] {
            plane.apply(shipped).await?;
        }
        for (name, pair) in RSA_KEYS.iter().zip(PAIRS.iter()) {
            let secret = pair.secret(name, Some("active"));
            let name = (SYSTEM.to_owned(), (*name).to_owned());
            model.plant_secret(&name, &serde_json::from_value(secret)?).await?;
        }
        let dir = tempfile::tempdir()?;
        let config = plane.client_config()?;
        let ca = config.root_cert.iter().flatten().map(|der| BASE64_STANDARD.encode(der)).next().unwrap_or_default();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{ca}\n-----END CERTIFICATE-----\n");
        let url = config.cluster_url;
        let seconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let make = Make {
            program,
            args: vec![
                "--http-addr=0.0.0.0:0".to_owned(),
                "--metrics-addr=0.0.0.0:0".to_owned(),
                "--log-level=debug".to_owned(),
                "--bitnami=own".to_owned(),
                format!("--bitnami-namespace={SYSTEM}"),
                format!("--leader-elect-lease-duration={}s", pace.lease.as_secs()),
                format!("--leader-elect-renew-deadline={}", seconds(pace.renewal.0)),
                format!("--leader-elect-retry-period={}", seconds(pace.renewal.1)),
            ],
            target: format!("{}:{}", url.host().context("no host")?, url.port_u16().context("no port")?),
            ca: BASE64_STANDARD.encode(pem),
            forbidden: forbidden(&model.marker),
        };
        let (mut replicas, mut keepers) = (Vec::new(), Vec::new());
        for number in 1..=2 {
            let (replica, keeper) = Replica::start(number, make.clone(), dir.path()).await?;
            replicas.push(replica);
            keepers.push(keeper);
        }
        let world = Self { plane, model, replicas, pace, keepers, _dir: dir };
        world.give_tokens().await?;
        world.replicas.iter().for_each(|replica| replica.hold(false));
        let configs: Api<ConfigMap> = Api::namespaced(world.model.client.clone(), SYSTEM);
        let recipient = eventually("the recipients", Duration::from_secs(60), async || {
            let data = configs.get("bulla-recipients").await?.data.unwrap_or_default();
            let text = data.get("recipients").context("none")?;
            let first = parse_recipients(text)?.into_iter().next();
            Ok(first.context("an empty list")?.recipient)
        })
        .await?;
        world.model.seal_for(recipient);
        for namespace in ["foreign", "canary"] {
            world.namespace(namespace, None).await?;
        }
        for number in 0..4 {
            world.namespace(&format!("busy-{number}"), None).await?;
            world.namespace(&format!("hostile-{number}"), None).await?;
        }
        Ok(world)
    }

    /// New tokens for all.
    pub async fn give_tokens(&self) -> Result<()> {
        let token = eventually("a token", Duration::from_secs(120), async || {
            service_account_token(&self.model.client, SYSTEM, "bulla").await
        })
        .await?;
        self.replicas.iter().try_for_each(|replica| replica.give_token(&token))
    }

    /// A namespace, labelled.
    pub async fn namespace(&self, name: &str, label: Option<&str>) -> Result<()> {
        let all: Api<Namespace> = Api::all(self.model.client.clone());
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"chaos": label.unwrap_or("none")}}}))?;
        persist(async || match all.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            done => done.map(drop),
        })
        .await
    }

    /// The replica that leads; waits for one.
    pub async fn leader(&self) -> Result<Arc<Replica>> {
        eventually("a leader", self.pace.lease + self.pace.soon, async || {
            for replica in &self.replicas {
                if replica.leads().await {
                    return Ok(replica.clone());
                }
            }
            anyhow::bail!("{}", self.logs())
        })
        .await
    }

    /// The ends of the logs of both.
    pub fn logs(&self) -> String {
        let each = self.replicas.iter().map(|replica| format!("replica {}:\n{}\n", replica.number, replica.log()));
        each.collect()
    }

    /// Does something with the control plane, which blocks.
    pub async fn plane(&self, act: impl FnOnce(&ControlPlane) -> Result<()> + Send + 'static) -> Result<()> {
        let plane = self.plane.clone();
        tokio::task::spawn_blocking(move || act(&plane)).await?
    }

    /// Waits for the API server. The controller manager ends when it has been away for long, and is started again.
    pub async fn ready(&self) -> Result<()> {
        self.plane(|plane| {
            plane.wait_until_ready()?;
            if plane.pid(Component::ControllerManager)?.is_none() {
                plane.restart(Component::ControllerManager)?;
            }
            Ok(())
        })
        .await
    }

    /// Asks etcd through its gateway.
    async fn etcd(&self, path: &str, body: Value) -> Result<Value> {
        let url = self.plane.etcd_url().context("etcd's address is not known")?;
        let address = url.trim_start_matches("http://");
        let (status, text) = http::request(address, "POST", path, body.to_string().as_bytes()).await?;
        ensure!(status == 200, "etcd: {path}: {status} {text}");
        // It may come in pieces, with their lengths between them.
        let (start, end) = (text.find('{').unwrap_or_default(), text.rfind('}').map_or(0, |end| end + 1));
        serde_json::from_str(text.get(start..end).unwrap_or_default()).with_context(|| format!("etcd said {text:?}"))
    }

    /// Forgets all versions but the last of everything.
    pub async fn etcd_compact(&self) -> Result<()> {
        let found = self.etcd("/v3/kv/range", json!({"key": "AA=="})).await?;
        let revision = found["header"]["revision"].as_str().context("no revision")?;
        self.etcd("/v3/kv/compaction", json!({"revision": revision, "physical": true})).await.map(drop)
    }

    /// Raises or ends the alarm that etcd raises by itself when its quota is used up: then it takes no writes.
    pub async fn etcd_alarm(&self, raise: bool) -> Result<()> {
        let found = self.etcd("/v3/kv/range", json!({"key": "AA=="})).await?;
        let member = found["header"]["member_id"].as_str().context("no member")?;
        let action = if raise { "ACTIVATE" } else { "DEACTIVATE" };
        let body = json!({"action": action, "memberID": member, "alarm": "NOSPACE"});
        self.etcd("/v3/maintenance/alarm", body).await.map(drop)
    }

    /// One of the namespaces in which things change.
    #[allow(clippy::unused_self, reason = "which there are is for the world to say")]
    pub fn busy(&self, random: &mut Random) -> String {
        format!("busy-{}", random.below(4))
    }

    /// Waits for the Secret of an object.
    pub async fn until_made(&self, name: &Name) -> Result<()> {
        let secrets = self.model.secrets(&name.0);
        eventually(&format!("the Secret {}/{}", name.0, name.1), self.pace.soon, async || {
            secrets.get_metadata(&name.1).await.map(drop).map_err(Into::into)
        })
        .await
    }

    /// How long another object takes until its Secret is there.
    pub async fn canary(&self, number: usize) -> Result<Duration> {
        let name = ("canary".to_owned(), format!("c{number}"));
        self.model.make(&name).await?;
        let start = std::time::Instant::now();
        let secrets = self.model.secrets(&name.0);
        eventually("the canary's Secret", self.pace.healed, async || {
            secrets.get_metadata(&name.1).await.map(drop).map_err(Into::into)
        })
        .await
        .with_context(|| self.logs())?;
        Ok(start.elapsed())
    }

    /// Ends the replicas.
    pub async fn end(self) -> Result<()> {
        for replica in &self.replicas {
            replica.end().await?;
        }
        self.keepers.iter().for_each(JoinHandle::abort);
        Ok(())
    }
}
