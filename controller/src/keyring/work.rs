//! The key ring's task: watches, and writes what the plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulla::metadata::{KEY_SECRET_PREFIX, KEY_STATE_ANNOTATION, SEALING_KEY_TYPE, drop_copies};
use bulla::recipient::{Identity, parse_recipients};
use bulla::resource::{API_VERSION, KeyState, SealingKey};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::plan::{Action, Plan, Told, Why, plan};
use super::seen::{see_config, see_keys, see_secrets};
use super::{KeyProblem, KeySecret, Needs, Observed, RECIPIENTS, Ring, word};
use crate::api::{Api, Failure, core_path, own_path};
use crate::args::Settings;
use crate::events::{Events, Note, reference};
use crate::metrics::Metrics;
use crate::reconcile::Body;

/// What the key ring works with.
pub struct Keyring {
    /// The API server.
    pub api: Api,
    /// Events.
    pub events: Events,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What was published last, to tell one's own work from somebody else's.
    pub published: Mutex<Option<BTreeMap<String, String>>>,
    /// Where the ring goes.
    pub ring: watch::Sender<Arc<Ring>>,
    /// For whom objects are sealed.
    pub needs: watch::Receiver<Option<Arc<Needs>>>,
    /// Changes when etcd was restored from a backup: a watch from a later version than there is would tell nothing.
    pub rewound: watch::Receiver<u64>,
}

/// Watches keys and does what [`plan`] says, until it is dropped.
pub async fn run(mut keyring: Keyring) {
    let namespace = keyring.settings.namespace.clone();
    let client = keyring.api.client();
    let keys = kube::Api::<DeserializeGuard<SealingKey>>::namespaced(client.clone(), &namespace);
    let secrets = kube::Api::<DeserializeGuard<Secret>>::namespaced(client.clone(), &namespace);
    let configs = kube::Api::<ConfigMap>::namespaced(client, &namespace);
    let of_type = Config::default().fields(&format!("type={SEALING_KEY_TYPE}"));
    let of_name = Config::default().fields(&format!("metadata.name={RECIPIENTS}"));
    let open = || {
        let keys = watcher(keys.clone(), Config::default()).default_backoff().boxed();
        let secrets = watcher(secrets.clone(), of_type.clone()).default_backoff().boxed();
        (keys, secrets, watcher(configs.clone(), of_name.clone()).default_backoff().boxed())
    };
    let (mut keys, mut secrets, mut configs) = open();
    let mut observed = Observed::default();
    // Which of the three watches have seen everything.
    let mut complete = [false; 3];
    let mut next: Option<Timestamp> = None;
    let mut told = Spoken::default();
    // A write that failed for another reason than an old view is tried again after this.
    let mut again = false;
    loop {
        let mut pause = Duration::from_secs(3600);
        if let Some(at) = next {
            let left = at.duration_since(Timestamp::now());
            pause = pause.min(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(20));
        }
        if again {
            pause = pause.min(Duration::from_secs(2));
        }
        tokio::select! {
            event = keys.next() => complete[0] = see_keys(&mut observed, event, complete[0]),
            event = secrets.next() => complete[1] = see_secrets(&mut observed, event, complete[1]),
            event = configs.next() => complete[2] = see_config(&mut observed, event, complete[2]),
            Ok(()) = keyring.rewound.changed() => (keys, secrets, configs) = open(),
            Ok(()) = keyring.needs.changed() => observed.needs = keyring.needs.borrow_and_update().clone(),
            () = tokio::time::sleep(pause) => {}
        }
        if complete != [true; 3] {
            continue;
        }
        let plan = plan(&observed, &keyring.settings, Timestamp::now());
        keyring.tell(&plan, &observed, &mut told).await;
        next = plan.next;
        // While another replica leads it writes; when this one does, this is what it begins with.
        again = !keyring.api.may_write() && !plan.actions.is_empty();
        if again {
            continue;
        }
        for action in &plan.actions {
            if let Err(failure) = keyring.perform(action, &mut observed).await {
                // An old view: the watch brings the new one.
                use Failure::{AlreadyExists, Conflict, NotFound, NotLeading};
                if !matches!(failure, Conflict | AlreadyExists | NotFound | NotLeading) {
                    tracing::warn!(%failure, action = describe(action), "a write of the key ring failed");
                }
                again = true;
            }
        }
    }
}

/// What has been told already.
#[derive(Debug, Default)]
struct Spoken {
    problems: BTreeMap<String, KeyProblem>,
    missing: BTreeSet<String>,
    keys: BTreeMap<String, Told>,
}

fn describe(action: &Action) -> &'static str {
    match action {
        Action::CreateSealingKey { .. } => "create a SealingKey",
        Action::Generate { .. } => "create the Secret of a key",
        Action::Annotate { .. } => "annotate the Secret of a key",
        Action::Publish { .. } => "write the ConfigMap bulla-recipients",
        Action::Status { .. } => "write the status of a SealingKey",
    }
}

impl Keyring {
    /// The ring to who opens, the problems to whom it concerns.
    async fn tell(&self, plan: &Plan, observed: &Observed, told: &mut Spoken) {
        self.metrics.keys.set(i64::try_from(plan.ring.keys.len()).unwrap_or_default());
        self.metrics.malformed_keys.set(i64::try_from(plan.problems.len()).unwrap_or_default());
        self.metrics.missing_keys.set(i64::try_from(plan.missing.len()).unwrap_or_default());
        self.metrics.renewal_due.set(plan.renewal.map_or(0, Timestamp::as_second));
        self.metrics.tell_keys(&told.keys, &plan.told, plan.ring.preferred().map(|key| &*key.name));
        told.keys.clone_from(&plan.told);
        let is_new = !self.ring.borrow().same(&plan.ring);
        if is_new {
            let preferred = plan.ring.preferred().map(|key| key.identity.recipient().fingerprint().to_string());
            tracing::info!(keys = plan.ring.keys.len(), preferred, "the key ring is loaded");
            self.ring.send_replace(Arc::new(plan.ring.clone()));
        }
        for (name, problem) in &plan.problems {
            if told.problems.get(name) != Some(problem)
                && let Some(secret) = observed.secrets.get(name)
            {
                tracing::error!(secret = format!("{KEY_SECRET_PREFIX}{name}"), %problem, "a key can't be used");
                let note = Note::warning("KeyMalformed", format!("this key is not used: {problem}"));
                self.events.publish(reference("Secret", &secret.metadata), &note).await;
            }
        }
        told.problems.clone_from(&plan.problems);
        for name in plan.missing.difference(&told.missing) {
            if let Some(key) = observed.sealing_keys.get(name) {
                tracing::error!(key = name, "the private key is gone");
                let note =
                    Note::warning("KeyMissing", format!("the Secret {KEY_SECRET_PREFIX}{name} is gone: restore it"));
                self.events.publish(reference("SealingKey", &key.metadata), &note).await;
            }
        }
        told.missing.clone_from(&plan.missing);
    }

    /// Carries it out, and takes down what it came to.
    pub(super) async fn perform(&self, action: &Action, observed: &mut Observed) -> Result<(), Failure> {
        let namespace = &self.settings.namespace;
        match action {
            Action::CreateSealingKey { name, format, state, why } => {
                let mut key = SealingKey::new(name, bulla::resource::SealingKeySpec::default());
                key.spec.format = *format;
                key.spec.state = *state;
                let body = serde_json::to_vec(&key).map_err(|_| Failure::Refused(0))?;
                key.metadata = self.api.create(&own_path(namespace, "sealingkeys"), body).await?;
                tracing::info!(key = name, state = word(*state), "created a SealingKey");
                let note = match why {
                    Why::First => None,
                    Why::Deleted => {
                        Some(Note::warning("Recreated", "the SealingKey was deleted, and its private key was not"))
                    }
                    Why::Renewal => {
                        Some(Note::warning("Renewed", "the key before it is old: reseal what is sealed for it"))
                    }
                    Why::Compromised => {
                        Some(Note::warning("Replaced", "no key was left to seal for that is not compromised"))
                    }
                };
                if let Some(note) = note {
                    self.events.publish(reference("SealingKey", &key.metadata), &note).await;
                }
                observed.sealing_keys.insert(name.clone(), key);
            }
            Action::Generate { name, kind } => {
                let identity = Identity::generate(*kind).map_err(|_| Failure::Unavailable)?;
                let body = key_body(namespace, name, &identity);
                let metadata = self.api.create(&core_path(namespace, "secrets"), body).await?;
                let fingerprint = identity.recipient().fingerprint();
                tracing::info!(key = name, %fingerprint, "made a sealing key");
                observed.secrets.insert(name.clone(), KeySecret { metadata, identity: Ok(Arc::new(identity)) });
            }
            Action::Annotate { name, version, annotations } => {
                let patch =
                    serde_json::json!({ "metadata": { "resourceVersion": version, "annotations": annotations } });
                let secret = format!("{KEY_SECRET_PREFIX}{name}");
                let body = patch.to_string().into_bytes();
                let mut metadata = self.api.merge(&core_path(namespace, "secrets"), &secret, body).await?;
                drop_copies(&mut metadata);
                if let Some(secret) = observed.secrets.get_mut(name) {
                    secret.metadata = metadata;
                }
            }
            Action::Publish { data } => observed.config = Some(self.publish(data, observed.config.as_ref()).await?),
            Action::Status { name, status } => {
                let Some(key) = observed.sealing_keys.get_mut(name) else { return Ok(()) };
                let body = serde_json::json!({
                    "apiVersion": API_VERSION,
                    "kind": "SealingKey",
                    "metadata": {
                        "name": name,
                        "namespace": namespace,
                        "uid": key.metadata.uid,
                        "resourceVersion": key.metadata.resource_version,
                    },
                    "spec": key.spec,
                    "status": status,
                });
                let path = own_path(namespace, "sealingkeys");
                key.metadata = self.api.replace_status(&path, name, body.to_string().into_bytes()).await?;
                key.status = Some(status.as_ref().clone());
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        data: &BTreeMap<String, String>,
        existing: Option<&ConfigMap>,
    ) -> Result<ConfigMap, Failure> {
        let mut config = ConfigMap { data: Some(data.clone()), ..ConfigMap::default() };
        config.metadata = existing.map(|existing| existing.metadata.clone()).unwrap_or_default();
        config.metadata.name = Some(RECIPIENTS.to_owned());
        config.metadata.namespace = Some(self.settings.namespace.clone());
        let body = serde_json::to_vec(&config).map_err(|_| Failure::Refused(0))?;
        let path = core_path(&self.settings.namespace, "configmaps");
        let before = existing.and_then(|existing| existing.data.as_ref());
        config.metadata = match existing {
            Some(_) => self.api.replace(&path, RECIPIENTS, body).await?,
            None => self.api.create(&path, body).await?,
        };
        tracing::info!("published the recipients");
        let last = self.published.lock().unwrap_or_else(PoisonError::into_inner).replace(data.clone());
        // Somebody else wrote it when it held neither what was published last nor, after a restart, what some set of our
        // keys makes.
        let ours = before.is_some_and(|before| {
            if let Some(last) = &last {
                return last == before;
            }
            parse_recipients(before.get("recipients").map(String::as_str).unwrap_or_default()).is_ok_and(|listed| {
                let ring = self.ring.borrow();
                listed.iter().all(|listed| ring.find(listed.recipient.fingerprint()).is_some())
            })
        });
        if existing.is_some() && !ours {
            let note = Note::warning("RecipientsRestored", "somebody else had changed the recipients");
            self.events.publish(reference("ConfigMap", &config.metadata), &note).await;
        }
        Ok(config)
    }
}

/// The Secret of a new key. No owner: deleting the SealingKey does not delete it.
fn key_body(namespace: &str, name: &str, identity: &Identity) -> Vec<u8> {
    let line = Zeroizing::new(format!("{}\n", identity.expose().as_str()));
    let metadata = ObjectMeta {
        name: Some(format!("{KEY_SECRET_PREFIX}{name}")),
        namespace: Some(namespace.to_owned()),
        annotations: Some([(KEY_STATE_ANNOTATION.to_owned(), word(KeyState::Active).to_owned())].into()),
        ..ObjectMeta::default()
    };
    let data = [("identity", line.as_bytes()), ("recipient", identity.recipient().as_str().as_bytes())];
    Body::of(metadata, SEALING_KEY_TYPE, None, data.into())
}
