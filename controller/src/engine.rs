//! What the watches have seen of SealedSecrets and Secrets, and who is looked at when. One task owns all of it; looks
//! ([`reconcile`]) run beside it, sixteen at most.
//!
//! Of an object that is as it should be only names, uids and versions are kept. The object itself waits in a bounded
//! buffer for its turn; what does not fit is fetched when its turn comes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulla::open::readers;
use bulla::recipient::Fingerprint;
use bulla::resource::{KIND, SealedSecret};
use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Secret};
use kube::core::{DeserializeGuard, ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::events::{Note, reference};
use crate::keyring::{Needs, watch_failed};
use crate::metrics::Reason;
use crate::queue::{ObjectKey, Priority, Queue, back_off};
use crate::reconcile::{Context, Known, Outcome, SecretId, asked_at, is_settled, reconcile};
use crate::status::{Standing, Verdict};

/// Looks at once.
const CONCURRENCY: usize = 16;
/// Bytes of objects that wait for their turn.
const BUFFER: usize = 8 << 20;
/// Objects in a page of a list.
const PAGE: u32 = 50;
/// Longest pause of what may work by itself.
const MOST: Duration = Duration::from_secs(600);
/// Longest pause while a right is missing: nothing tells when it is given.
const MOST_FORBIDDEN: Duration = Duration::from_secs(30);
/// What somebody must change is looked at again this often.
const STALLED: Duration = Duration::from_secs(3600);
/// This many repairs within a minute are a fight.
const REPAIRS: usize = 3;

type SealedEvent = kube::runtime::watcher::Result<Event<DeserializeGuard<SealedSecret>>>;
type SecretEvent = kube::runtime::watcher::Result<Event<PartialObjectMeta<Secret>>>;
type Sets = Arc<BTreeSet<BTreeSet<Fingerprint>>>;

/// What is kept of one SealedSecret.
struct Entry {
    uid: Arc<str>,
    generation: i64,
    asked: Option<Box<str>>,
    /// The Secret of its name, as last seen.
    secret: Option<SecretId>,
    /// What its status says was written.
    applied: Option<SecretId>,
    /// The object, until its turn comes.
    waiting: Option<Box<SealedSecret>>,
    /// How it stood after the last look.
    standing: Option<(Standing, &'static str)>,
    attempts: u32,
    needs: Sets,
    repairs: Vec<Instant>,
    /// Somebody fights over the Secret: not before then.
    calm_until: Option<Instant>,
    /// The Secret changed while it was looked at.
    touched: bool,
    /// Its status counts for nothing yet: `--verify-on-start`.
    distrust: bool,
}

/// All of it.
pub struct Engine {
    context: Arc<Context>,
    entries: HashMap<ObjectKey, Entry>,
    queue: Queue,
    buffered: usize,
    needs: Needs,
    needs_changed: bool,
    publish_needs: watch::Sender<Option<Arc<Needs>>>,
    /// Set when both lists are in.
    synced: Arc<AtomicBool>,
    /// Names seen in a list that is going on, by the watch that lists.
    listing_sealed: HashMap<usize, HashSet<ObjectKey>>,
    listing_secrets: HashMap<usize, HashSet<ObjectKey>>,
    pending_sealed: usize,
    pending_secrets: usize,
    namespaces: Vec<String>,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(
        context: Arc<Context>,
        publish_needs: watch::Sender<Option<Arc<Needs>>>,
        synced: Arc<AtomicBool>,
    ) -> Self {
        let namespaces: Vec<String> = context.settings.watch_namespaces.iter().cloned().collect();
        let watches = namespaces.len().max(1);
        Self {
            context,
            entries: HashMap::new(),
            queue: Queue::default(),
            buffered: 0,
            needs: Needs::new(),
            needs_changed: true,
            publish_needs,
            synced,
            listing_sealed: HashMap::new(),
            listing_secrets: HashMap::new(),
            pending_sealed: watches,
            pending_secrets: watches,
            namespaces,
        }
    }

    /// Works until `stop`, and then ends what is going on.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut sealed = self.sealed_streams();
        let mut secrets = self.secret_streams();
        let mut namespaces = self.namespace_stream();
        let mut ring = self.context.ring.clone();
        let mut looks: JoinSet<(ObjectKey, Outcome)> = JoinSet::new();
        loop {
            let now = Instant::now();
            if self.is_synced() && ring.borrow().complete {
                while looks.len() < CONCURRENCY {
                    let Some(key) = self.queue.pop(now) else { break };
                    self.start(key, &mut looks);
                }
            }
            self.context.metrics.queue.set(i64::try_from(self.queue.len()).unwrap_or_default());
            let mut pause = self.queue.next_due().map_or(MOST, |at| at.saturating_duration_since(now));
            if self.needs_changed && self.is_synced() {
                pause = pause.min(Duration::from_millis(500));
            }
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                Some((watch, event)) = sealed.next() => self.see_sealed(watch, event),
                Some((watch, event)) = secrets.next(), if self.pending_sealed == 0 => self.see_secret(watch, event),
                Some(done) = looks.join_next() => {
                    if let Ok((key, outcome)) = done {
                        self.finish(&key, outcome).await;
                    }
                }
                Some(event) = namespaces.next() => self.see_namespace(event),
                Ok(()) = ring.changed() => {
                    ring.mark_unchanged();
                    self.retry_failed(|_| true);
                }
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => self.publish_needs(),
            }
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), async { while looks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("not all that was begun has ended");
        }
    }

    fn is_synced(&self) -> bool {
        self.pending_sealed == 0 && self.pending_secrets == 0
    }

    fn apis<K>(&self) -> Vec<kube::Api<K>>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        let client = self.context.api.client();
        match self.namespaces.as_slice() {
            [] => vec![kube::Api::all(client)],
            some => some.iter().map(|namespace| kube::Api::namespaced(client.clone(), namespace)).collect(),
        }
    }

    fn sealed_streams(&self) -> SelectAll<BoxStream<'static, (usize, SealedEvent)>> {
        let apis = self.apis::<DeserializeGuard<SealedSecret>>();
        let config = || Config::default().page_size(PAGE);
        let streams = apis
            .into_iter()
            .enumerate()
            .map(|(number, api)| watcher(api, config()).default_backoff().map(move |event| (number, event)).boxed());
        futures::stream::select_all(streams)
    }

    fn secret_streams(&self) -> SelectAll<BoxStream<'static, (usize, SecretEvent)>> {
        let fields = format!("type!={}", bulla::metadata::SEALING_KEY_TYPE);
        let streams = self.apis::<PartialObjectMeta<Secret>>().into_iter().enumerate().map(|(number, api)| {
            let config = Config::default().fields(&fields);
            watcher(api, config).default_backoff().map(move |event| (number, event)).boxed()
        });
        futures::stream::select_all(streams)
    }

    /// Namespaces are watched where all are served: one that comes or goes changes what can be written.
    fn namespace_stream(
        &self,
    ) -> BoxStream<'static, kube::runtime::watcher::Result<Event<PartialObjectMeta<Namespace>>>> {
        if !self.namespaces.is_empty() {
            return futures::stream::pending().boxed();
        }
        let api = kube::Api::<PartialObjectMeta<Namespace>>::all(self.context.api.client());
        watcher(api, Config::default()).default_backoff().boxed()
    }

    fn served_by(&self, watch: usize, key: &ObjectKey) -> bool {
        self.namespaces.get(watch).is_none_or(|namespace| **namespace == *key.namespace)
    }

    fn see_sealed(&mut self, watch: usize, event: SealedEvent) {
        match event {
            Ok(Event::Init) => {
                self.listing_sealed.insert(watch, HashSet::new());
            }
            Ok(Event::InitApply(DeserializeGuard(object))) => {
                if let Some(key) = self.apply(object, Priority::Low)
                    && let Some(listed) = self.listing_sealed.get_mut(&watch)
                {
                    listed.insert(key);
                }
            }
            Ok(Event::InitDone) => {
                let Some(listed) = self.listing_sealed.remove(&watch) else { return };
                let gone: Vec<_> = self
                    .entries
                    .keys()
                    .filter(|key| self.served_by(watch, key) && !listed.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.forget(&key);
                }
                if self.pending_sealed > 0 {
                    self.pending_sealed -= 1;
                }
            }
            Ok(Event::Apply(DeserializeGuard(object))) => {
                self.apply(object, Priority::High);
            }
            Ok(Event::Delete(object)) => {
                if let Some(key) = key_of(kube::Resource::meta(&object)) {
                    self.forget(&key);
                }
            }
            Err(error) => {
                watch_failed("sealedsecrets", &error, false);
            }
        }
    }

    /// Takes in an object. It is looked at when it is new or another than before, and its status does not say that all is
    /// done already.
    fn apply(
        &mut self,
        object: Result<SealedSecret, kube::core::error_boundary::InvalidObject>,
        priority: Priority,
    ) -> Option<ObjectKey> {
        let mut sealed = match object {
            Ok(sealed) => sealed,
            Err(invalid) => {
                let key = key_of(&invalid.metadata)?;
                tracing::warn!(object = %key, "the SealedSecret is not of the form that its definition demands");
                return Some(key);
            }
        };
        sealed.metadata.managed_fields = None;
        let key = key_of(&sealed.metadata)?;
        if sealed.metadata.deletion_timestamp.is_some() {
            self.forget(&key);
            return Some(key);
        }
        let uid: Arc<str> = sealed.metadata.uid.as_deref().unwrap_or_default().into();
        let generation = sealed.metadata.generation.unwrap_or_default();
        let asked: Option<Box<str>> = asked_at(&sealed.metadata).map(Into::into);
        let applied = sealed.status.as_ref().and_then(|status| status.applied.as_ref()).map(SecretId::applied);
        let before = self.entries.get(&key);
        if before.is_some_and(|e| e.uid == uid && e.generation == generation && e.asked == asked) {
            return Some(key);
        }
        let distrust = before.is_none() && !self.is_synced() && self.context.settings.verify_on_start;
        let claim = applied.clone().map_or(Known::Absent, Known::Seen);
        let settled = !distrust && is_settled(&sealed, &claim, &self.context.settings);
        let needs = self.intern(readers(&sealed.spec));
        if let Some(before) = self.forget_keeping_secret(&key) {
            // Another object of that name has nothing to do with what was done for the one before.
            let same = before.uid == uid;
            self.insert(
                key.clone(),
                Entry {
                    uid,
                    generation,
                    asked,
                    applied,
                    needs,
                    attempts: 0,
                    distrust,
                    ..if same {
                        before
                    } else {
                        Entry { standing: None, repairs: Vec::new(), calm_until: None, ..before }
                    }
                },
            );
        } else {
            let entry = Entry {
                uid,
                generation,
                asked,
                secret: None,
                applied,
                waiting: None,
                standing: None,
                attempts: 0,
                needs,
                repairs: Vec::new(),
                calm_until: None,
                touched: false,
                distrust,
            };
            self.insert(key.clone(), entry);
        }
        if settled {
            self.stand(&key, &Verdict::ready());
            let fits = self.entries.get(&key).is_some_and(|entry| entry.secret == entry.applied);
            if self.is_synced() && !fits {
                self.queue.add(&key, priority);
            }
            return Some(key);
        }
        let weight = weight(&sealed);
        if self.buffered + weight <= BUFFER
            && let Some(entry) = self.entries.get_mut(&key)
        {
            self.buffered += weight;
            entry.waiting = Some(Box::new(sealed));
        }
        self.queue.add(&key, priority);
        Some(key)
    }

    fn intern(&mut self, sets: BTreeSet<BTreeSet<Fingerprint>>) -> Sets {
        self.needs.get_key_value(&sets).map_or_else(|| Arc::new(sets), |(known, _)| known.clone())
    }

    fn insert(&mut self, key: ObjectKey, entry: Entry) {
        *self.needs.entry(entry.needs.clone()).or_default() += 1;
        self.needs_changed = true;
        self.entries.insert(key, entry);
    }

    /// Takes an entry out, with what waits for its turn.
    fn forget_keeping_secret(&mut self, key: &ObjectKey) -> Option<Entry> {
        let mut entry = self.entries.remove(key)?;
        if let Some(count) = self.needs.get_mut(&entry.needs) {
            *count -= 1;
            if *count == 0 {
                self.needs.remove(&entry.needs);
            }
        }
        self.needs_changed = true;
        if let Some(waiting) = entry.waiting.take() {
            self.buffered = self.buffered.saturating_sub(weight(&waiting));
        }
        Some(entry)
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.queue.forget(key);
        if let Some(entry) = self.forget_keeping_secret(key)
            && let Some((_, reason)) = entry.standing
        {
            self.context.metrics.objects.get_or_create(&Reason { reason: reason.to_owned() }).dec();
        }
    }

    fn see_secret(&mut self, watch: usize, event: SecretEvent) {
        match event {
            Ok(Event::Init) => {
                self.listing_secrets.insert(watch, HashSet::new());
            }
            Ok(Event::InitApply(secret)) => {
                if let Some(key) = key_of(&secret.metadata)
                    && self.entries.contains_key(&key)
                {
                    if let Some(listed) = self.listing_secrets.get_mut(&watch) {
                        listed.insert(key.clone());
                    }
                    self.secret_seen(&key, Some(SecretId::of(&secret.metadata)));
                }
            }
            Ok(Event::InitDone) => {
                let Some(listed) = self.listing_secrets.remove(&watch) else { return };
                let gone: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|(key, entry)| {
                        self.served_by(watch, key) && entry.secret.is_some() && !listed.contains(*key)
                    })
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    self.secret_seen(&key, None);
                }
                if self.pending_secrets > 0 {
                    self.pending_secrets -= 1;
                    if self.is_synced() {
                        self.all_in();
                    }
                }
            }
            Ok(Event::Apply(secret)) => {
                if let Some(key) = key_of(&secret.metadata) {
                    self.secret_seen(&key, Some(SecretId::of(&secret.metadata)));
                }
            }
            Ok(Event::Delete(secret)) => {
                let uid = SecretId::of(&secret.metadata).uid;
                if let Some(key) = key_of(&secret.metadata)
                    && self.entries.get(&key).and_then(|e| e.secret.as_ref()).is_some_and(|seen| seen.uid == uid)
                {
                    self.secret_seen(&key, None);
                }
            }
            Err(error) => {
                watch_failed("secrets", &error, false);
            }
        }
    }

    /// Both lists are in: what says of itself that it is done can be believed, or not.
    fn all_in(&mut self) {
        let wrong: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.standing.is_some_and(|(standing, _)| standing == Standing::Ready) && entry.secret != entry.applied
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in wrong {
            self.queue.add(&key, Priority::Low);
        }
        self.synced.store(true, Ordering::Release);
        tracing::info!(sealed_secrets = self.entries.len(), to_do = self.queue.len(), "the caches are in");
    }

    fn secret_seen(&mut self, key: &ObjectKey, secret: Option<SecretId>) {
        let synced = self.is_synced();
        let Some(entry) = self.entries.get_mut(key) else { return };
        // The watch lags behind our own writes.
        if let (Some(new), Some(old)) = (&secret, &entry.secret)
            && (new == old || is_older(new, old))
        {
            return;
        }
        entry.secret = secret;
        entry.touched = true;
        // While it is looked at, the end of the look decides: what is seen may be its own write.
        let unmoved = match entry.standing.map(|(standing, _)| standing) {
            Some(Standing::Ready) => entry.secret == entry.applied,
            Some(Standing::Suspended) => true,
            // What does not work may work now: it may be the Secret that was in the way.
            Some(Standing::Reconciling | Standing::Stalled) | None => false,
        };
        if !synced || unmoved || self.queue.is_working(key) {
            return;
        }
        match entry.calm_until {
            Some(at) if at > Instant::now() => self.queue.add_at(key, at),
            _ => self.queue.add(key, Priority::High),
        }
    }

    fn see_namespace(&mut self, event: kube::runtime::watcher::Result<Event<PartialObjectMeta<Namespace>>>) {
        match event {
            Ok(Event::Apply(namespace) | Event::Delete(namespace)) => {
                let name = namespace.metadata.name.unwrap_or_default();
                self.retry_failed(|key| *key.namespace == *name);
            }
            Ok(_) => {}
            Err(error) => {
                watch_failed("namespaces", &error, false);
            }
        }
    }

    /// What does not work is tried again: something changed that may have been the cause.
    fn retry_failed(&mut self, which: impl Fn(&ObjectKey) -> bool) {
        for (key, entry) in &mut self.entries {
            let failed = entry.standing.is_some_and(|(s, _)| matches!(s, Standing::Reconciling | Standing::Stalled));
            if failed && which(key) {
                entry.attempts = 0;
                self.queue.add(key, Priority::Low);
            }
        }
    }

    fn publish_needs(&mut self) {
        if self.needs_changed && self.is_synced() {
            self.needs_changed = false;
            self.publish_needs.send_replace(Some(Arc::new(self.needs.clone())));
        }
    }

    fn start(&mut self, key: ObjectKey, looks: &mut JoinSet<(ObjectKey, Outcome)>) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.queue.done(&key);
            return;
        };
        entry.touched = false;
        let trust = !std::mem::take(&mut entry.distrust);
        let known = entry.secret.clone().map_or(Known::Absent, Known::Seen);
        let given = entry.waiting.take();
        if let Some(given) = &given {
            self.buffered = self.buffered.saturating_sub(weight(given));
        }
        let context = self.context.clone();
        looks.spawn(async move {
            let outcome = reconcile(&context, &key, given, known, trust).await;
            (key, outcome)
        });
    }

    /// How it stands, for the metrics.
    fn stand(&mut self, key: &ObjectKey, verdict: &Verdict) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let objects = &self.context.metrics.objects;
        if let Some((_, before)) = entry.standing.replace((verdict.standing, verdict.reason)) {
            objects.get_or_create(&Reason { reason: before.to_owned() }).dec();
        }
        objects.get_or_create(&Reason { reason: verdict.reason.to_owned() }).inc();
    }

    async fn finish(&mut self, key: &ObjectKey, outcome: Outcome) {
        let again = self.queue.done(key);
        let reason = outcome.verdict.as_ref().map_or(if outcome.gone { "Gone" } else { "Unreached" }, |v| v.reason);
        self.context.metrics.reconciliations.get_or_create(&Reason { reason: reason.to_owned() }).inc();
        if outcome.gone {
            if !again {
                self.forget(key);
            }
            return;
        }
        if let Some(verdict) = &outcome.verdict {
            self.stand(key, verdict);
        }
        let now = Instant::now();
        let Some(entry) = self.entries.get_mut(key) else { return };
        let looked_at = outcome.secret.clone().flatten();
        match outcome.secret {
            Some(Some(id)) if entry.secret.as_ref().is_none_or(|seen| seen.uid != id.uid || is_older(seen, &id)) => {
                entry.secret = Some(id);
            }
            Some(None) if !entry.touched => entry.secret = None,
            _ => {}
        }
        if outcome.verdict.is_some() && !outcome.again {
            entry.applied = outcome.applied;
        }
        let mut contested = None;
        if let Some(manager) = outcome.repaired {
            entry.repairs.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
            entry.repairs.push(now);
            if entry.repairs.len() >= REPAIRS {
                entry.repairs.clear();
                entry.calm_until = Some(now + MOST);
                contested = Some(manager);
            }
        }
        let standing = outcome.verdict.as_ref().map(|verdict| (verdict.standing, verdict.reason));
        match standing {
            Some((Standing::Ready | Standing::Suspended, reason)) if !outcome.again => {
                entry.attempts = 0;
                let changed = entry.touched && entry.secret != entry.applied && reason == Verdict::ready().reason;
                if changed {
                    match entry.calm_until {
                        Some(at) if at > now => self.queue.add_at(key, at),
                        _ => self.queue.add(key, Priority::High),
                    }
                }
            }
            Some((Standing::Stalled, _)) if !outcome.again => {
                if entry.touched && entry.secret != looked_at {
                    self.queue.add(key, Priority::High);
                } else {
                    self.queue.add_at(key, now + back_off(12, STALLED));
                }
            }
            _ => {
                let most = if reason == "Forbidden" { MOST_FORBIDDEN } else { MOST };
                let pause = back_off(entry.attempts, most).max(outcome.pause.unwrap_or_default());
                entry.attempts = entry.attempts.saturating_add(1);
                self.queue.add_at(key, now + pause);
            }
        }
        let uid = entry.uid.to_string();
        if let Some(manager) = contested {
            let who = manager.map_or_else(|| "somebody".to_owned(), |manager| format!("{manager:?}"));
            let text = format!("{who} keeps changing the Secret; it is put back again in ten minutes");
            tracing::warn!(object = %key, message = text, "drift");
            let about = ObjectReference {
                uid: Some(uid),
                ..reference(
                    KIND,
                    &ObjectMeta {
                        name: Some(key.name.to_string()),
                        namespace: Some(key.namespace.to_string()),
                        ..ObjectMeta::default()
                    },
                )
            };
            let events = self.context.events.clone();
            tokio::spawn(async move { events.publish(about, &Note::warning("DriftContested", text)).await });
        }
    }
}

fn key_of(metadata: &ObjectMeta) -> Option<ObjectKey> {
    Some(ObjectKey { namespace: metadata.namespace.as_deref()?.into(), name: metadata.name.as_deref()?.into() })
}

/// Whether `this` is an older version of the same Secret. Versions that are no numbers are never older.
fn is_older(this: &SecretId, than: &SecretId) -> bool {
    match (this.version.parse::<u64>(), than.version.parse::<u64>()) {
        (Ok(this_version), Ok(version)) => this.uid == than.uid && this_version < version,
        _ => false,
    }
}

/// About how many bytes an object takes.
fn weight(sealed: &SealedSecret) -> usize {
    let lines = |map: &bulla::resource::Envelopes| map.iter().map(|(k, v)| k.len() + v.len() + 100).sum::<usize>();
    let items = sealed
        .spec
        .items
        .iter()
        .map(|(key, item)| key.len() + item.sealed.len() + 150 + item.envelopes.as_ref().map_or(0, lines));
    1024 + items.sum::<usize>() + lines(&sealed.spec.envelopes)
}
