//! What must be in the cluster at the end, and how it is put there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulla::recipient::{NameSource, Recipient, Targets};
use bulla::resource::SealedSecret;
use bulla::scope::Scope;
use bulla::seal::seal;
use bulla::secret::{PlainSecret, SecretValue};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

/// Namespace and name.
pub type Name = (String, String);
/// Values by key.
pub type Values = BTreeMap<String, String>;

/// What is known of one good object.
#[derive(Clone, Debug, Default)]
pub struct Good {
    /// What its Secret must hold.
    pub values: Values,
    /// How often it was sealed.
    pub revision: u32,
    /// How often somebody spoilt its Secret.
    pub spoilt: u32,
    /// uid and version of its Secret, when nobody has a reason to write it any more.
    pub calm: Option<(String, String)>,
}

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Objects created.
    pub created: usize,
    /// Objects changed.
    pub changed: usize,
    /// Objects deleted.
    pub deleted: usize,
    /// Secrets changed or deleted by somebody else.
    pub spoilt: usize,
    /// Objects that must not become Secrets.
    pub bad: usize,
}

/// All of it.
#[derive(Default)]
pub struct State {
    /// Good objects.
    pub good: BTreeMap<Name, Good>,
    /// Objects that must not become Secrets.
    pub bad: BTreeMap<Name, &'static str>,
    /// Secrets of somebody else: they must stay as they are.
    pub foreign: BTreeMap<Name, String>,
    /// Namespaces that must be gone.
    pub ended: Vec<String>,
    /// What was done.
    pub counts: Counts,
}

/// The model, and the hands of its administrator.
pub struct Model {
    /// Every plaintext begins with this.
    pub marker: String,
    /// An administrator's client.
    pub client: Client,
    state: Mutex<State>,
    recipient: Mutex<Option<Recipient>>,
}

/// How long anything is tried again while the API server is away.
const PATIENCE: Duration = Duration::from_secs(600);

impl Model {
    /// An empty one.
    pub fn new(seed: u64, client: Client) -> Self {
        Self { marker: format!("chaos{seed:016x}"), client, state: Mutex::default(), recipient: Mutex::default() }
    }

    /// Looks at it or changes it.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For whom is sealed from now on.
    pub fn seal_for(&self, recipient: Recipient) {
        *self.recipient.lock().unwrap_or_else(PoisonError::into_inner) = Some(recipient);
    }

    /// SealedSecrets of a namespace.
    pub fn sealed(&self, namespace: &str) -> Api<SealedSecret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Secrets of a namespace.
    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Values that no other object or revision has. Their keys and lengths vary.
    pub fn values(&self, name: &Name, revision: u32) -> Values {
        let long = if name.1.ends_with('7') { "x".repeat(8000) } else { String::new() };
        (0..5)
            .map(|item| {
                (format!("item-{item}"), format!("{}-{}-{}-{item}-{revision}{long}", self.marker, name.0, name.1))
            })
            .collect()
    }

    /// Sealed for the cluster.
    pub fn seal(&self, name: &Name, values: &Values) -> Result<SealedSecret> {
        let recipient = self.recipient.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sealed_for(recipient.context("no recipient yet")?, name, values)
    }

    /// Creates it, or changes it: the same until it is done, whatever happens in between.
    pub async fn put(&self, sealed: &SealedSecret) -> Result<()> {
        let namespace = sealed.metadata.namespace.clone().unwrap_or_default();
        let name = sealed.metadata.name.clone().unwrap_or_default();
        let api = self.sealed(&namespace);
        persist(async || {
            let params = PatchParams::apply("chaos").force();
            api.patch(&name, &params, &Patch::Apply(sealed)).await.map(drop)
        })
        .await
        .with_context(|| format!("applying {namespace}/{name}"))
    }

    /// Makes a good object, or another revision of it.
    pub async fn make(&self, name: &Name) -> Result<()> {
        let revision = self.with(|state| state.good.get(name).map_or(0, |good| good.revision + 1));
        let values = self.values(name, revision);
        self.put(&self.seal(name, &values)?).await?;
        self.with(|state| {
            let good = state.good.entry(name.clone()).or_default();
            (good.values, good.revision, good.calm) = (values, revision, None);
            if revision == 0 { state.counts.created += 1 } else { state.counts.changed += 1 }
        });
        Ok(())
    }

    /// Takes a good object away.
    pub async fn remove(&self, name: &Name) -> Result<()> {
        let api = self.sealed(&name.0);
        // From now on nobody promises anything of it.
        self.with(|state| state.good.remove(name));
        persist(async || gone_is_fine(api.delete(&name.1, &DeleteParams::default()).await.map(drop))).await?;
        self.with(|state| state.counts.deleted += 1);
        Ok(())
    }

    /// Somebody else changes its Secret, or deletes it.
    pub async fn spoil(&self, name: &Name, delete: bool) -> Result<()> {
        let api = self.secrets(&name.0);
        self.with(|state| {
            if let Some(good) = state.good.get_mut(name) {
                (good.spoilt, good.calm) = (good.spoilt + 1, None);
            }
            state.counts.spoilt += 1;
        });
        if delete {
            return persist(async || gone_is_fine(api.delete(&name.1, &DeleteParams::default()).await.map(drop))).await;
        }
        let params = PatchParams { field_manager: Some("meddler".to_owned()), ..PatchParams::default() };
        let patch = json!({"data": {"item-0": "c3BvaWx0", "more": "c3BvaWx0"}});
        persist(async || gone_is_fine(api.patch(&name.1, &params, &Patch::Merge(&patch)).await.map(drop))).await
    }

    /// An object that must not become a Secret. One that the API server does not take either is none.
    pub async fn plant(&self, sealed: &SealedSecret, what: &'static str) -> Result<()> {
        let name =
            (sealed.metadata.namespace.clone().unwrap_or_default(), sealed.metadata.name.clone().unwrap_or_default());
        let api = self.sealed(&name.0);
        let taken = persist(async || {
            let params = PatchParams::apply("chaos").force();
            match api.patch(&name.1, &params, &Patch::Apply(sealed)).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if is_no(status.code) || is_too_large(&status.message) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await?;
        self.with(|state| {
            if taken {
                state.bad.insert(name, what);
                state.counts.bad += 1;
            }
        });
        Ok(())
    }
}

/// Whether a refusal is final.
fn is_no(code: u16) -> bool {
    matches!(code, 400 | 413 | 422)
}

fn is_too_large(message: &str) -> bool {
    message.contains("too large") || message.contains("larger than max")
}

/// What is gone already need not be deleted.
pub fn gone_is_fine(done: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        done => done,
    }
}

/// Tries again until the API server has said yes, or no for good.
pub async fn persist<T>(mut act: impl AsyncFnMut() -> Result<T, kube::Error>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(20);
    loop {
        let tried = tokio::time::timeout(Duration::from_secs(30), act()).await;
        match tried {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(kube::Error::Api(status))) if is_no(status.code) => return Err(kube::Error::Api(status).into()),
            Ok(Err(error)) if Instant::now() > deadline => return Err(error.into()),
            Err(late) if Instant::now() > deadline => return Err(late.into()),
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Seals for a recipient.
pub fn sealed_for(recipient: Recipient, name: &Name, values: &Values) -> Result<SealedSecret> {
    let plain = PlainSecret {
        name: Some(name.1.clone()),
        namespace: Some(name.0.clone()),
        data: values.iter().map(|(k, v)| (k.clone(), SecretValue::new(v.clone().into_bytes()))).collect(),
        ..PlainSecret::default()
    };
    let targets = Targets::new([(recipient, NameSource::Comment("chaos".to_owned()))], false)?;
    Ok(seal(&plain, Scope::Strict, &targets)?)
}
