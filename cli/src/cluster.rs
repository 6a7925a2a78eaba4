//! The cluster: its recipients, its keys, and wrapping envelopes anew. Nothing here is built unless a command needs it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bulla::bitnami::{BitnamiSealedSecret, OBSERVED_CONFIG_MAP, OBSERVED_KEY};
use bulla::envelope::Envelope;
use bulla::metadata::{BITNAMI_KEY_LABEL, BITNAMI_KEY_PREFIX, SEALING_KEY_TYPE};
use bulla::proof::{self, CHALLENGE_HEADER, Challenger, Exchange, PROOF_HEADER, PROVE_PATH};
use bulla::recipient::{
    Fingerprint, ListedRecipient, NameSource, Recipient, RecipientKind, is_envelope_name, parse_recipients,
};
use bulla::request::{self, Problem, ResealRequest, RewrapAnswer, RewrapRequest};
use bulla::resource::{KeyState, SealedSecret, SealingKey};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{DeserializeGuard, NamespaceResourceScope, Status};
use kube::{Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize as _;

use crate::cli::ClusterArgs;
use crate::failure::{Exit, Failure, Result};
use crate::output;

mod bitnami;
pub mod proxy;

/// For how long a request is repeated that a busy or starting server refuses.
const PATIENCE: Duration = Duration::from_secs(8);

/// The ConfigMap in which a controller publishes its recipients.
const CONFIG_MAP: &str = "bulla-recipients";
/// Envelopes in one request: the controller takes 1,024, and bodies of 2 MiB.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 1_900_000;
/// Bytes of an answer: a batch, each envelope as it was and as it is.
const MAX_ANSWER: usize = 32 << 20;
/// How often what is published is read before it counts as changed by somebody else.
const PROOF_ATTEMPTS: usize = 3;
const PROOF_PAUSE: Duration = Duration::from_millis(400);

/// A connection.
pub struct Cluster {
    runtime: tokio::runtime::Runtime,
    client: Client,
    /// For messages.
    pub context: String,
    pub namespace: String,
    controller: Option<Controller>,
}

struct Controller {
    client: Client,
    path: String,
}

/// What requests run on.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("can't start: {error}")))
}

/// A client that gives up where nobody answers.
pub fn client(runtime: &tokio::runtime::Runtime, mut config: Config) -> Result<Client> {
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = config.read_timeout.or(Some(Duration::from_secs(60)));
    config.reset_reader_on_write = true;
    // kube's own retries go on for minutes: see `patiently`.
    config.default_retry = false;
    let _inside = runtime.enter();
    Client::try_from(config).map_err(|error| Failure::unavailable(format!("can't connect: {error}")))
}

/// A client without any credentials for the host of a URL, and what to ask it for.
pub fn plain_client(runtime: &tokio::runtime::Runtime, uri: &http::Uri) -> Result<(Client, String)> {
    let wrong = || Failure::new("not a URL");
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let base = http::Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("https"))
        .authority(host)
        .path_and_query("/")
        .build()
        .map_err(|_| wrong())?;
    let mut config = Config::new(base);
    proxy::set(&mut config, None)?;
    Ok((client(runtime, config)?, path))
}

fn controller(runtime: &tokio::runtime::Runtime, url: &str) -> Result<Controller> {
    let wrong = || {
        Failure::usage(format!("--controller-url {url}: not a URL"))
            .help("as in --controller-url http://127.0.0.1:8080 with kubectl port-forward")
    };
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong());
    }
    let path = uri.path().trim_end_matches('/').to_owned();
    // The path is put before that of each request by hand.
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let base = http::Uri::from_parts(parts).map_err(|_| wrong())?;
    let mut config = Config::new(base);
    proxy::set(&mut config, None)?;
    Ok(Controller { client: client(runtime, config)?, path })
}

/// Connects as the kubeconfig says, or as a Pod does.
pub fn connect(args: &ClusterArgs) -> Result<Cluster> {
    let runtime = runtime()?;
    let help = "--kubeconfig FILE and --context NAME say which cluster";
    let (config, context) = runtime.block_on(async {
        let kubeconfig = match &args.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        match kubeconfig {
            Ok(kubeconfig) => {
                let context = args.context.clone().or_else(|| kubeconfig.current_context.clone());
                let Some(context) = context.filter(|c| !c.is_empty()) else {
                    return Err(Failure::unavailable("the kubeconfig has no current context").help(help));
                };
                if !kubeconfig.contexts.iter().any(|named| named.name == context) {
                    let names: Vec<_> = kubeconfig.contexts.iter().map(|named| named.name.as_str()).collect();
                    return Err(Failure::missing(format!(
                        "there is no context {context} in the kubeconfig, but {}",
                        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                    )));
                }
                let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
                let through = proxy::of_context(&kubeconfig, &context);
                let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
                    Failure::unavailable(format!("the context {context} of the kubeconfig can't be used: {error}"))
                })?;
                proxy::set(&mut config, through.as_deref())?;
                Ok((config, context))
            }
            Err(error) => {
                if args.kubeconfig.is_none()
                    && args.context.is_none()
                    && let Ok(config) = Config::incluster()
                {
                    return Ok((config, "this Pod".to_owned()));
                }
                Err(Failure::unavailable(format!("no cluster: {error}")).help(help))
            }
        }
    })?;
    let client = client(&runtime, config)?;
    let controller = args.controller_url.as_deref().map(|url| controller(&runtime, url)).transpose()?;
    Ok(Cluster { runtime, client, context, namespace: args.controller_namespace.clone(), controller })
}

/// Connects to a controller by its URL alone, with no kubeconfig.
fn connect_controller(args: &ClusterArgs, url: &str) -> Result<Cluster> {
    let runtime = runtime()?;
    let controller = controller(&runtime, url)?;
    let client = controller.client.clone();
    Ok(Cluster {
        runtime,
        client,
        context: url.to_owned(),
        namespace: args.controller_namespace.clone(),
        controller: Some(controller),
    })
}

/// For wrapping anew: through the URL alone when the recipient is known already.
pub fn connect_for_rewrap(args: &ClusterArgs, recipient_is_known: bool) -> Result<Cluster> {
    match &args.controller_url {
        Some(url) if recipient_is_known => connect_controller(args, url),
        _ => connect(args),
    }
}

/// What a cluster publishes.
pub struct Published {
    pub context: String,
    /// The cluster's name, if it has one.
    pub name: Option<String>,
    /// The preferred recipient, then those of recovery.
    pub listed: Vec<ListedRecipient>,
    /// How many of `listed` are the cluster's own: one.
    pub own: usize,
    /// Published, not preferred.
    pub overlap: Vec<ListedRecipient>,
}

impl Published {
    /// The preferred recipient.
    pub fn preferred(&self) -> Option<&ListedRecipient> {
        self.listed.first()
    }

    pub fn targets(&self) -> Vec<(Recipient, NameSource)> {
        self.listed
            .iter()
            .map(|listed| (listed.recipient.clone(), listed.name.clone().map_or(NameSource::None, NameSource::Comment)))
            .collect()
    }
}

/// What the current cluster publishes.
pub fn published(args: &ClusterArgs) -> Result<Published> {
    connect(args)?.published()
}

impl Cluster {
    /// Asks again while the other side is busy or not there yet, for [`PATIENCE`] at most: a rollout is ridden out, and
    /// somebody who waits at a terminal learns soon that nobody answers.
    fn patiently<T>(&self, mut ask: impl AsyncFnMut() -> kube::Result<T>) -> kube::Result<T> {
        self.runtime.block_on(async {
            let start = std::time::Instant::now();
            let mut pause = Duration::from_millis(250);
            loop {
                match ask().await {
                    Err(kube::Error::Api(status))
                        if matches!(status.code, 429 | 503 | 504) && start.elapsed() + pause < PATIENCE =>
                    {
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    answer => return answer,
                }
            }
        })
    }

    /// What the cluster publishes, as anybody finds it there who may log in.
    pub fn published(&self) -> Result<Published> {
        self.parse_published(&self.published_data()?)
    }

    /// What the cluster publishes, proven by the holder of the key `pinned` (docs/proofs.md): nobody else can make an answer
    /// for it. Read again when it changed in between. A cluster that holds another key fails.
    pub fn prove(&self, pinned: &Recipient) -> Result<Published> {
        let mut refused = None;
        for attempt in 0..PROOF_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PROOF_PAUSE);
            }
            let data = self.published_data()?;
            match self.exchange(PROVE_PATH, Vec::new(), pinned, &proof::state(&data))? {
                Exchanged::Proven { status: 200, .. } => return self.parse_published(&data),
                Exchanged::Proven { status, body } => return Err(self.refusal(status, &body)),
                Exchanged::NotProven(failure) => refused = Some(failure),
            }
        }
        Err(refused.unwrap_or_else(|| Failure::new("there is no proof")))
    }

    fn published_data(&self) -> Result<BTreeMap<String, String>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = self
            .patiently(async || api.get(CONFIG_MAP).await)
            .map_err(|error| self.explain(&error, &format!("the ConfigMap {}/{CONFIG_MAP}", self.namespace)))?;
        Ok(map.data.unwrap_or_default())
    }

    fn parse_published(&self, data: &BTreeMap<String, String>) -> Result<Published> {
        let broken = |what: &str| {
            Failure::unavailable(format!("the ConfigMap {}/{CONFIG_MAP} {what}", self.namespace))
                .help("the controller puts it right within seconds; see its log if it doesn't")
        };
        let read = |key: &str| -> Result<Vec<ListedRecipient>> {
            match data.get(key).map(|text| text.trim()).filter(|text| !text.is_empty()) {
                None => Ok(Vec::new()),
                Some(text) => {
                    parse_recipients(text).map_err(|error| broken(&format!("is malformed in {key}: {error}")))
                }
            }
        };
        let name = data.get("cluster").map(|name| name.trim().to_owned()).filter(|name| is_envelope_name(name));
        let mut own = read("recipients")?;
        if own.is_empty() {
            return Err(broken("lists no recipient"));
        }
        let overlap = own.split_off(1);
        for listed in &mut own {
            listed.name = name.clone().or_else(|| listed.name.take());
        }
        let count = own.len();
        own.extend(read("recovery")?);
        Ok(Published { context: self.context.clone(), name, listed: own, own: count, overlap })
    }

    /// The SealingKeys, without those that can't be read, which are told: one must not hide the others.
    pub fn keys(&self) -> Result<Vec<SealingKey>> {
        let api: Api<DeserializeGuard<SealingKey>> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = self
            .patiently(async || api.list(&ListParams::default()).await)
            .map_err(|error| self.explain(&error, "the keys (sealingkeys.bulla.dev)"))?;
        let read = list.items.into_iter().filter_map(|DeserializeGuard(key)| match key {
            Ok(key) => Some(key),
            Err(invalid) => {
                let name = word(invalid.metadata.name.as_deref().unwrap_or_default());
                output::note(&format!(
                    "the SealingKey {name} is left out: it can't be read, and is perhaps of an unknown format"
                ));
                None
            }
        });
        Ok(read.collect())
    }

    /// Gives each SealedSecret of a namespace, or of all, to `take`, a page at a time: a cluster may have more of them than
    /// memory.
    pub fn each_sealed(&self, namespace: Option<&str>, take: impl FnMut(SealedSecret)) -> Result<()> {
        self.each(namespace, "the SealedSecrets (sealedsecrets.bulla.dev)", take)
    }

    /// The same of those of bitnami.com. Returns whether there is such a kind.
    pub fn each_bitnami(&self, namespace: Option<&str>, take: impl FnMut(BitnamiSealedSecret)) -> Result<bool> {
        match self.each(namespace, "the SealedSecrets of bitnami.com (sealedsecrets.bitnami.com)", take) {
            Err(failure) if failure.exit == Exit::Missing => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// What a controller that only observes SealedSecrets of bitnami.com has found.
    pub fn observed(&self) -> Result<String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("the ConfigMap {}/{OBSERVED_CONFIG_MAP}", self.namespace);
        let map = self.patiently(async || api.get(OBSERVED_CONFIG_MAP).await).map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => {
                let failure = Failure::missing(format!("nobody observes: {what} is not there in {}", self.context));
                failure.help("bulla install --bitnami=observe, and --controller-namespace: where it runs")
            }
            error => self.explain(error, &what),
        })?;
        map.data.and_then(|mut data| data.remove(OBSERVED_KEY)).ok_or_else(|| {
            let failure = Failure::unavailable(format!("{what} says nothing yet"));
            failure.help("does the controller run, with --bitnami=observe?")
        })
    }

    fn each<K>(&self, namespace: Option<&str>, what: &str, mut take: impl FnMut(K)) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        /// Objects have up to 1.5 MB.
        const PAGE: u32 = 50;
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let list = self.patiently(async || api.list(&params).await).map_err(|error| self.explain(&error, what))?;
            list.items.into_iter().for_each(&mut take);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    pub fn key(&self, name: &str) -> Result<SealingKey> {
        let api: Api<SealingKey> = Api::namespaced(self.client.clone(), &self.namespace);
        self.patiently(async || api.get(name).await)
            .map_err(|error| self.explain(&error, &format!("the SealingKey {name}")))
    }

    /// Creates a key. A name of random characters that is there already is ours: an answer was lost.
    pub fn create_key(&self, name: &str, random: bool, key: &SealingKey) -> Result<SealingKey> {
        let api: Api<SealingKey> = Api::namespaced(self.client.clone(), &self.namespace);
        match self.patiently(async || api.create(&PostParams::default(), key).await) {
            Ok(created) => Ok(created),
            Err(kube::Error::Api(status)) if status.code == 409 && random => self.key(name),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(Failure::new(format!("there is a SealingKey {name} already")).help("bulla keys list"))
            }
            Err(error) => Err(self.explain(&error, "new SealingKeys (sealingkeys.bulla.dev)")),
        }
    }

    /// Asks for another state of a key. `force` counts in the update that changes the state only, so that it is taken out in
    /// every other.
    pub fn set_key_state(&self, name: &str, state: KeyState, force: Option<bool>) -> Result<SealingKey> {
        self.patch_key(name, &serde_json::json!({ "spec": { "state": state, "force": force } }))
    }

    /// Makes a key Active, and preferred as soon as it is published.
    pub fn activate_key(&self, name: &str) -> Result<SealingKey> {
        let spec = serde_json::json!({ "state": KeyState::Active, "force": null, "preferAfter": "0s" });
        self.patch_key(name, &serde_json::json!({ "spec": spec }))
    }

    fn patch_key(&self, name: &str, patch: &serde_json::Value) -> Result<SealingKey> {
        let api: Api<SealingKey> = Api::namespaced(self.client.clone(), &self.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.patiently(async || api.patch(name, &params, &patch).await)
            .map_err(|error| self.explain(&error, &format!("changes of the SealingKey {name}")))
    }

    /// The Secrets that hold keys: whoever may read them has everything.
    pub fn key_secrets(&self) -> Result<Vec<Secret>> {
        self.secrets(&ListParams::default().fields(&format!("type={SEALING_KEY_TYPE}")))
    }

    /// The Secrets that are or were RSA keys: with the label, whatever its value, and the one that needs none.
    pub fn rsa_key_secrets(&self) -> Result<Vec<Secret>> {
        let mut secrets = self.secrets(&ListParams::default().labels(BITNAMI_KEY_LABEL))?;
        let named = ListParams::default().fields(&format!("metadata.name={BITNAMI_KEY_PREFIX}"));
        let unlabelled =
            |secret: &Secret| !secret.metadata.labels.iter().flatten().any(|(key, _)| key == BITNAMI_KEY_LABEL);
        secrets.extend(self.secrets(&named)?.into_iter().filter(unlabelled));
        Ok(secrets)
    }

    fn secrets(&self, which: &ListParams) -> Result<Vec<Secret>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = self
            .patiently(async || api.list(which).await)
            .map_err(|error| self.explain(&error, &format!("the Secrets of namespace {}", self.namespace)))?;
        Ok(list.items)
    }

    /// Creates the Secret of a key.
    pub fn create_key_secret(&self, secret: &Secret) -> Result<()> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match self.patiently(async || api.create(&PostParams::default(), secret).await) {
            Ok(mut made) => {
                made.data.iter_mut().flat_map(|data| data.values_mut()).for_each(|value| value.0.zeroize());
                Ok(())
            }
            Err(error) => Err(self.explain(&error, &format!("new Secrets in namespace {}", self.namespace))),
        }
    }

    /// Has envelopes wrapped for the cluster's preferred key. Taken from the answers is only what was asked for: lines of
    /// the same data key for the expected recipient. The result has an entry for each envelope that was answered.
    pub fn rewrap(&self, envelopes: &[Envelope], expected: &Recipient) -> Result<HashMap<String, Answer>> {
        let mut answers = HashMap::new();
        let mut batch: Vec<&Envelope> = Vec::new();
        let mut texts: Vec<String> = Vec::new();
        let mut bytes = 0;
        for envelope in envelopes {
            let text = envelope.to_string();
            if texts.len() == MAX_BATCH || (!texts.is_empty() && bytes + text.len() > MAX_BATCH_BYTES) {
                self.rewrap_batch(&batch, &texts, expected, &mut answers)?;
                batch.clear();
                texts.clear();
                bytes = 0;
            }
            bytes += text.len() + 4;
            batch.push(envelope);
            texts.push(text);
        }
        if !texts.is_empty() {
            self.rewrap_batch(&batch, &texts, expected, &mut answers)?;
        }
        Ok(answers)
    }

    fn rewrap_batch(
        &self,
        batch: &[&Envelope],
        texts: &[String],
        expected: &Recipient,
        answers: &mut HashMap<String, Answer>,
    ) -> Result<()> {
        let request = RewrapRequest { envelopes: texts.to_vec() };
        let response: RewrapAnswer = self.ask("/v1/rewrap", &request, expected)?;
        let sent: BTreeMap<&str, &Envelope> = texts.iter().map(String::as_str).zip(batch.iter().copied()).collect();
        for result in response.results {
            let Some(envelope) = sent.get(result.input.as_str()) else {
                return Err(Failure::new(
                    "the controller answered for an envelope that was not sent: nothing was written",
                ));
            };
            let answer = match (result.output, result.error) {
                (Some(text), None) => Answer::Wrapped(check(&text, envelope, expected)?),
                (None, Some(reason)) => Answer::Refused(word(&reason)),
                _ => return Err(Failure::unavailable("the controller's answer is malformed: nothing was written")),
            };
            answers.insert(result.input, answer);
        }
        Ok(())
    }

    /// Has an object sealed afresh in its own place, for those who read it and the configured recipients named.
    pub fn reseal(&self, object: &SealedSecret, add: &[String], pinned: &Recipient) -> Result<SealedSecret> {
        let request = ResealRequest { object: object.clone(), add: add.to_vec() };
        self.ask("/v1/reseal", &request, pinned)
    }

    /// Asks the controller, and takes nothing but a well-formed answer that the holder of `pinned` proves.
    fn ask<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize, pinned: &Recipient) -> Result<T> {
        let body = serde_json::to_vec(request).map_err(|error| Failure::new(format!("can't ask: {error}")))?;
        match self.exchange(path, body, pinned, b"")? {
            Exchanged::Proven { status: 200, body } => request::parse(&body).map_err(|_| {
                Failure::unavailable(format!("the controller's answer is none to {path}: nothing was written"))
                    .help("is it the controller that answers there? see --controller-namespace and --controller-url")
            }),
            Exchanged::Proven { status, body } => Err(self.refusal(status, &body)),
            Exchanged::NotProven(failure) => Err(failure),
        }
    }

    /// One POST with a challenge to the holder of `pinned`. Fails when nobody who can answer is reached.
    fn exchange(&self, path: &str, body: Vec<u8>, pinned: &Recipient, state: &[u8]) -> Result<Exchanged> {
        let challenger = Challenger::new(pinned).map_err(|error| Failure::new(error.to_string()))?;
        let Answered { status, body: answer, proof } =
            self.send(path, &body, Some(&challenger.challenge().to_string()))?;
        let fingerprint = pinned.fingerprint();
        let Some(proof) = proof else {
            let problem = request::parse::<Problem>(&answer).ok();
            let refused = problem.is_some_and(|problem| problem.error == "challenge-refused");
            if status != 200 && !refused {
                return Err(self.unreached(&kube::Error::Api(Box::new(Status::failure("", "").with_code(status)))));
            }
            let failure = if refused {
                Failure::new(format!("the controller of {} does not hold the key {fingerprint}", self.context))
                    .help("another cluster, or the key was retired, marked compromised or lost: bulla keys list")
            } else {
                Failure::new(format!(
                    "{} answers without a proof by {fingerprint}: refused, nothing was written",
                    self.context
                ))
                .help("somebody between you and the controller answers in its place, or it is an older one")
            };
            return Ok(Exchanged::NotProven(failure));
        };
        let exchange = Exchange { path, request: &body, status, response: &answer, state };
        if challenger.verify(&exchange, &proof).is_err() {
            let failure = Failure::new(format!(
                "the answer of {} is not proven by {fingerprint}: refused, nothing was written",
                self.context
            ))
            .help("somebody changes what the controller publishes or answers. Look before you try again");
            return Ok(Exchanged::NotProven(failure));
        }
        Ok(Exchanged::Proven { status, body: answer })
    }

    /// One POST to the controller, perhaps with a challenge. What is not the controller's own answer, since nobody is there or
    /// all are busy, is a failure.
    fn send(&self, path: &str, body: &[u8], challenge: Option<&str>) -> Result<Answered> {
        let (client, uri) = match &self.controller {
            Some(controller) => (&controller.client, format!("{}{path}", controller.path)),
            None => {
                (&self.client, format!("/api/v1/namespaces/{}/services/http:bulla:http/proxy{path}", self.namespace))
            }
        };
        let ask = async || {
            let mut request = http::Request::post(&uri).header(http::header::CONTENT_TYPE, "application/json");
            if let Some(challenge) = challenge {
                request = request.header(CHALLENGE_HEADER, challenge);
            }
            let request = request.body(Body::from(body.to_vec())).map_err(kube::Error::HttpError)?;
            let (head, answer) = client.send(request).await?.into_parts();
            let body = Limited::new(answer, MAX_ANSWER).collect().await.map_err(kube::Error::Service)?.to_bytes();
            let proof = head.headers.get(PROOF_HEADER).and_then(|proof| proof.to_str().ok()).map(str::to_owned);
            let status = head.status.as_u16();
            if proof.is_none() && matches!(status, 429 | 502..=504) {
                return Err(kube::Error::Api(Box::new(Status::failure("", "").with_code(status))));
            }
            Ok(Answered { status, body: body.to_vec(), proof })
        };
        self.patiently(ask).map_err(|error| self.unreached(&error))
    }

    /// Whether a SealedSecret opens: `None`, or why it doesn't. With a pinned key of this cluster nothing is taken but what its
    /// holder proves; without one the answer is as good as the way to it.
    pub fn verify(&self, object: &serde_json::Value, pinned: Option<&Recipient>) -> Result<Option<String>> {
        #[derive(serde::Deserialize)]
        struct Verdict {
            opens: Option<bool>,
            reason: Option<String>,
            error: Option<String>,
            message: Option<String>,
        }
        const PATH: &str = "/v1/verify";
        let body = serde_json::to_vec(object).map_err(|error| Failure::new(format!("can't ask: {error}")))?;
        // What a controller says is its own words; a proxy that has none says something else.
        let read = |status: u16, answer: &[u8]| {
            let verdict = serde_json::from_slice::<Verdict>(answer).ok();
            verdict.filter(|verdict| {
                matches!(status, 200 | 400 | 409 | 413) && (verdict.opens.is_some() || verdict.error.is_some())
            })
        };
        let failed = |status: u16| kube::Error::Api(Box::new(Status::failure("", "").with_code(status)));
        let verdict = match pinned {
            Some(pinned) => match self.exchange(PATH, body, pinned, b"")? {
                Exchanged::Proven { status, body } => {
                    read(status, &body).ok_or_else(|| self.unreached(&failed(status)))?
                }
                Exchanged::NotProven(failure) => return Err(failure),
            },
            None => {
                let Answered { status, body, .. } = self.send(PATH, &body, None)?;
                read(status, &body).ok_or_else(|| self.unreached(&failed(status)))?
            }
        };
        if verdict.opens == Some(true) {
            return Ok(None);
        }
        let why = verdict.reason.or(verdict.error).unwrap_or_else(|| "it was refused".into());
        let message = verdict.message.map(|message| format!(" ({})", word(&message))).unwrap_or_default();
        Ok(Some(format!("{}{message}", word(&why))))
    }

    /// What a controller said that is proven to be the right one, and that refuses.
    fn refusal(&self, status: u16, body: &[u8]) -> Box<Failure> {
        let problem: Problem = request::parse(body).unwrap_or_default();
        let failure = Failure::new(format!(
            "the controller of {} refuses: {} ({}, HTTP {status})",
            self.context,
            word(&problem.message),
            word(&problem.error)
        ));
        match problem.error.as_str() {
            "unknown-recipient" => failure
                .help("it seals for recipients of its own configuration only: --recipient NAME=FILE of the controller"),
            "no-key" => failure.help("bulla keys list"),
            _ => failure,
        }
    }

    /// Why no controller answers.
    fn unreached(&self, error: &kube::Error) -> Box<Failure> {
        match error {
            kube::Error::Api(status) if status.code == 404 || status.code == 503 => Failure::unavailable(format!(
                "no controller answers for {} in namespace {} (HTTP {})",
                self.context, self.namespace, status.code
            ))
            .help("kubectl -n NAMESPACE get pods; --controller-namespace says where it runs"),
            kube::Error::Api(status) if status.code == 403 && self.controller.is_none() => Failure::new(format!(
                "you may not reach the controller in namespace {} of {}",
                self.namespace, self.context
            ))
            .help("you need create on services/proxy of http:bulla:http; or kubectl port-forward and --controller-url"),
            kube::Error::Api(status) => {
                Failure::unavailable(format!("the controller refused: HTTP {} {}", status.code, word(&status.reason)))
            }
            _ => self.explain(error, "the controller"),
        }
    }

    /// An error of a request, with what to do.
    fn explain(&self, error: &kube::Error, what: &str) -> Box<Failure> {
        let context = &self.context;
        match error {
            kube::Error::Api(status) if status.code == 404 => {
                Failure::missing(format!("{what} is not there in {context}"))
                    .help("is Bulla installed there (bulla install), in this namespace (--controller-namespace)?")
            }
            kube::Error::Api(status) if status.code == 401 => {
                Failure::new(format!("{context} doesn't know you: the credentials of the kubeconfig are refused"))
            }
            kube::Error::Api(status) if status.code == 403 => {
                Failure::new(format!("you have no right to {what} in {context}"))
                    .help("kubectl auth can-i --list shows yours")
            }
            kube::Error::Api(status) if status.code >= 500 || status.code == 429 => {
                Failure::unavailable(format!("{context} answers with HTTP {}: {}", status.code, word(&status.message)))
            }
            kube::Error::Api(status) => {
                Failure::new(format!("{context} refuses: HTTP {}: {}", status.code, word(&status.message)))
            }
            _ => Failure::unavailable(format!("{context} can't be reached: {}", cause(error))),
        }
    }
}

/// The innermost cause of an error, in one line.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    word(&innermost.to_string())
}

/// A text from elsewhere, fit for a line.
pub fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// An answer to a POST.
struct Answered {
    status: u16,
    body: Vec<u8>,
    /// As it came.
    proof: Option<String>,
}

/// What the controller says to one envelope.
pub enum Answer {
    Wrapped(Envelope),
    Refused(String),
}

/// What came back.
enum Exchanged {
    /// From the holder of the key.
    Proven { status: u16, body: Vec<u8> },
    /// From somebody who answers and does not hold it, or holds it and says something else than was asked about.
    NotProven(Box<Failure>),
}

fn check(text: &str, sent: &Envelope, expected: &Recipient) -> Result<Envelope> {
    let wrong = |what: &str| {
        Failure::new(format!("the controller's answer is refused: {what}. Nothing was written"))
            .help("if the cluster has another key than you expect: bulla recipients")
    };
    let envelope: Envelope = text.parse().map_err(|_| wrong("an envelope in it is malformed"))?;
    let fingerprint: Fingerprint = expected.fingerprint();
    if envelope.id() != sent.id() {
        return Err(wrong("an envelope in it is of another data key than the one sent"));
    }
    if envelope.fingerprint() != fingerprint {
        return Err(wrong(&format!(
            "an envelope in it is for {}, not for the expected {fingerprint}",
            envelope.fingerprint()
        )));
    }
    if envelope.kind() != expected.kind()
        || (sent.kind() == RecipientKind::Hybrid && envelope.kind() == RecipientKind::Classical)
    {
        return Err(wrong("an envelope in it is of another kind than the key"));
    }
    Ok(envelope)
}
