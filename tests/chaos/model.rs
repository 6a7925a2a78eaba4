//! What must be in the cluster at the end, and how it is put there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulla::bitnami::{BitnamiSealedSecret, Certificate, MANAGED, PATCH, SKIP_SET_OWNER_REFERENCES};
use bulla::recipient::{NameSource, Recipient, Targets};
use bulla::resource::SealedSecret;
use bulla::scope::Scope;
use bulla::seal::seal;
use bulla::secret::{PlainSecret, SecretValue};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rsa::{PAIRS, sealed_theirs};

/// Namespace and name.
pub type Name = (String, String);
/// Values by key.
pub type Values = BTreeMap<String, String>;

/// Of which kind an object is. It follows from its name, so that nobody has to remember it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// bulla.dev.
    #[default]
    Native,
    /// bitnami.com, and how its Secret comes to it.
    Theirs(Manner),
}

/// How the Secret of an object of bitnami.com comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It is made.
    Owned,
    /// It was there, and is handed over.
    Managed,
    /// It was there, and gets keys.
    Patched,
    /// It was there, gets keys, and is handed over.
    PatchedAndManaged,
    /// It is made without an owner.
    Free,
}

impl Kind {
    /// Every fourth is of the other kind; where nobody touches Secrets, half of those come to theirs in another manner.
    pub fn of(name: &Name) -> Self {
        let text = name.0.bytes().chain(*b"/").chain(name.1.bytes());
        let hash =
            text.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        match (hash >> 32) % 32 {
            8.. => Self::Native,
            _ if !name.0.starts_with("calm-") => Self::Theirs(Manner::Owned),
            0 => Self::Theirs(Manner::Managed),
            1 => Self::Theirs(Manner::Patched),
            2 => Self::Theirs(Manner::PatchedAndManaged),
            3 => Self::Theirs(Manner::Free),
            _ => Self::Theirs(Manner::Owned),
        }
    }
}

impl Manner {
    /// Annotations of the Secret that is there before.
    fn annotations(self) -> Option<Value> {
        match self {
            Self::Owned | Self::Free => None,
            Self::Managed => Some(json!({ MANAGED: "true" })),
            Self::Patched => Some(json!({ PATCH: "true" })),
            Self::PatchedAndManaged => Some(json!({ PATCH: "true", MANAGED: "true" })),
        }
    }

    /// Whether what was in the Secret before stays.
    pub const fn keeps(self) -> bool {
        matches!(self, Self::Patched | Self::PatchedAndManaged)
    }

    /// Whether the SealedSecret becomes the owner.
    pub const fn owns(self) -> bool {
        !matches!(self, Self::Patched | Self::Free)
    }
}

/// The key that Secrets of somebody else have.
pub const THEIRS: &str = "theirs";

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

/// An object that must not become a Secret.
#[derive(Clone, Copy, Debug)]
pub struct Bad {
    /// What is bad about it.
    pub what: &'static str,
    /// Whether it is one of bulla.dev.
    pub is_native: bool,
}

/// Rendered by the template of objects of bitnami.com, and of which item.
const RENDERED: &str = "rendered";
const RENDERED_OF: &str = "item-1";

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
    /// What the API server did not even take.
    pub refused: usize,
}

/// All of it.
#[derive(Default)]
pub struct State {
    /// Good objects.
    pub good: BTreeMap<Name, Good>,
    /// Objects that must not become Secrets.
    pub bad: BTreeMap<Name, Bad>,
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
    certificates: Vec<Certificate>,
}

/// How long anything is tried again while the API server is away.
const PATIENCE: Duration = Duration::from_secs(600);

impl Model {
    /// An empty one.
    pub fn new(seed: u64, client: Client) -> Self {
        Self {
            marker: format!("chaos{seed:016x}"),
            client,
            state: Mutex::default(),
            recipient: Mutex::default(),
            certificates: PAIRS.iter().take(super::world::RSA_KEYS.len()).map(crate::rsa::Pair::certificate).collect(),
        }
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

    /// SealedSecrets of bitnami.com of a namespace.
    pub fn theirs(&self, namespace: &str) -> Api<BitnamiSealedSecret> {
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

    /// Sealed for one of the RSA keys. A label and a template come with it.
    pub fn seal_theirs(&self, name: &Name, values: &Values, manner: Manner) -> Result<BitnamiSealedSecret> {
        let certificate = self.certificates.get(name.1.len() % self.certificates.len().max(1)).context("no RSA key")?;
        let data = values.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let mut sealed = sealed_theirs(certificate, &name.0, &name.1, Scope::Strict, data)?;
        let annotations = if manner == Manner::Free {
            json!({ SKIP_SET_OWNER_REFERENCES: "true" })
        } else {
            json!({"note": "chaos"})
        };
        sealed.spec.template = Some(serde_json::from_value(json!({
            "metadata": {"labels": {"made-by": "chaos"}, "annotations": annotations},
            "data": { RENDERED: format!("{{{{ index . {RENDERED_OF:?} }}}}-rendered") },
        }))?);
        Ok(sealed)
    }

    /// Sealed as its kind demands, and what its Secret must hold then.
    pub fn sealed_as(&self, name: &Name, mut values: Values) -> Result<(Value, Values)> {
        match Kind::of(name) {
            Kind::Native => Ok((serde_json::to_value(self.seal(name, &values)?)?, values)),
            Kind::Theirs(manner) => {
                let sealed = serde_json::to_value(self.seal_theirs(name, &values, manner)?)?;
                let rendered = values.get(RENDERED_OF).map(|value| format!("{value}-rendered"));
                values.extend(rendered.map(|value| (RENDERED.to_owned(), value)));
                if manner.keeps() {
                    values.insert(THEIRS.to_owned(), THEIRS.to_owned());
                }
                Ok((sealed, values))
            }
        }
    }

    /// Creates it, or changes it: the same until it is done, whatever happens in between.
    pub async fn apply(&self, name: &Name, sealed: &Value) -> Result<()> {
        match Kind::of(name) {
            Kind::Native => self.put(&self.sealed(&name.0), name, sealed).await,
            Kind::Theirs(_) => self.put(&self.theirs(&name.0), name, sealed).await,
        }
    }

    async fn put<K>(&self, api: &Api<K>, name: &Name, sealed: &Value) -> Result<()>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        persist(async || {
            let params = PatchParams::apply("chaos").force();
            api.patch_metadata(&name.1, &params, &Patch::Apply(sealed)).await.map(drop)
        })
        .await
        .with_context(|| format!("applying {}/{}", name.0, name.1))
    }

    /// A Secret of somebody else. Returns what the API server made of it.
    pub async fn plant_secret(&self, name: &Name, secret: &Secret) -> Result<Secret> {
        let (api, params) = (self.secrets(&name.0), PostParams::default());
        persist(async || match api.create(&params, secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(&name.1).await,
            done => done,
        })
        .await
    }

    /// Makes a good object, or another revision of it.
    pub async fn make(&self, name: &Name) -> Result<()> {
        let revision = self.with(|state| state.good.get(name).map_or(0, |good| good.revision + 1));
        let (sealed, values) = self.sealed_as(name, self.values(name, revision))?;
        if let Kind::Theirs(manner) = Kind::of(name)
            && let Some(annotations) = manner.annotations().filter(|_| revision == 0)
        {
            let there = json!({
                "metadata": {"name": name.1, "annotations": annotations},
                "stringData": { THEIRS: THEIRS },
            });
            self.plant_secret(name, &serde_json::from_value(there)?).await?;
        }
        self.apply(name, &sealed).await?;
        self.with(|state| {
            let good = state.good.entry(name.clone()).or_default();
            (good.values, good.revision, good.calm) = (values, revision, None);
            if revision == 0 { state.counts.created += 1 } else { state.counts.changed += 1 }
        });
        Ok(())
    }

    /// Takes a good object away.
    pub async fn remove(&self, name: &Name) -> Result<()> {
        // From now on nobody promises anything of it.
        self.with(|state| state.good.remove(name));
        let params = DeleteParams::default();
        let (native, theirs) = (self.sealed(&name.0), self.theirs(&name.0));
        persist(async || {
            gone_is_fine(match Kind::of(name) {
                Kind::Native => native.delete(&name.1, &params).await.map(drop),
                Kind::Theirs(_) => theirs.delete(&name.1, &params).await.map(drop),
            })
        })
        .await?;
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
    pub async fn plant(&self, sealed: Value, what: &'static str) -> Result<()> {
        let text = |at: &str| sealed.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = (text("/metadata/namespace"), text("/metadata/name"));
        let is_native = text("/apiVersion") == bulla::resource::API_VERSION;
        let (native, theirs) = (self.sealed(&name.0), self.theirs(&name.0));
        let params = PatchParams::apply("chaos").force();
        let taken = persist(async || {
            let done = if is_native {
                native.patch_metadata(&name.1, &params, &Patch::Apply(&sealed)).await.map(drop)
            } else {
                theirs.patch_metadata(&name.1, &params, &Patch::Apply(&sealed)).await.map(drop)
            };
            match done {
                Ok(()) => Ok(true),
                Err(kube::Error::Api(status)) if is_no(status.code) || is_too_large(&status.message) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await?;
        self.with(|state| {
            if taken {
                state.bad.insert(name, Bad { what, is_native });
                state.counts.bad += 1;
            } else {
                state.counts.refused += 1;
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
