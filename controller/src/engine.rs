//! What the watches have seen of SealedSecrets and Secrets, and who is looked at when. One task owns all of it; looks
//! ([`reconcile`]) run beside it, sixteen at most.
//!
//! Of an object that is as it should be only names, uids and versions are kept. The object itself waits in a bounded
//! buffer for its turn; a long list is read on only while there is room in it, and what does not fit all the same is fetched
//! when its turn comes. While another replica leads nothing waits: the index is kept up to date, so that this one can take
//! over at once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulla::recipient::Fingerprint;
use bulla::resource::{GROUP, KIND};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ObjectMeta;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::api::{Failure, own_path, their_path};
use crate::args::Scope;
use crate::bitnami;
use crate::bitnami::args::Mode;
use crate::bitnami::keys::RsaRing;
use crate::events::{Note, reference_of};
use crate::keyring::{Needs, Ring};
use crate::lease::Role;
use crate::metrics::{Reason, Turn};
use crate::object::Object;
use crate::queue::{Kind, ObjectKey, Priority, Queue, back_off};
use crate::reconcile::{Context, Known, Outcome, Right, SecretId, Uid, Version, reconcile};
use crate::status::{Standing, Verdict};
use crate::watch::{Event, NamespaceSeen, NativeSeen, SecretSeen, Source, TheirsSeen, list_once, watch as follow};

/// Looks at once.
const CONCURRENCY: usize = 16;
/// Bytes of objects that wait for their turn.
const BUFFER: usize = 8 << 20;
/// A list is read on while fewer bytes wait.
const ROOM: usize = 512 << 10;
/// Longest pause of what may work by itself.
const MOST: Duration = Duration::from_secs(600);
/// What somebody must change is looked at again this often.
const STALLED: Duration = Duration::from_secs(3600);
/// Whether a right that was missing has been given is asked this often.
const REVIEW: Duration = Duration::from_secs(30);
/// Rights asked about at once.
const REVIEWS: usize = 16;
/// This many repairs within a minute are a fight.
const REPAIRS: usize = 3;
/// This many changes of a Secret within a minute that needed no repair are a nuisance: from then on one in ten seconds is
/// looked at.
const TOUCHES: usize = 12;
/// The pause after that.
const NUISANCE: Duration = Duration::from_secs(10);
/// For whom objects are sealed is told to the key ring at most this often.
const NEEDS: Duration = Duration::from_millis(200);
/// For the first list of the other kind is waited so long before this replica says that it is ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same kind of failure is logged at most this often.
const LOGGED: Duration = Duration::from_secs(60);

/// Reasons of what goes on being compared with its Secret.
const FOLLOWED: [&str; 7] = ["Applied", "Superseded", "Same", "Different", "Missing", "Unowned", "Immutable"];

type Sets = Arc<BTreeSet<BTreeSet<Fingerprint>>>;

/// What is kept of one SealedSecret.
struct Entry {
    uid: Uid,
    generation: i64,
    version: Version,
    asked: Option<Box<str>>,
    /// The Secret of its name, as last seen.
    secret: Option<SecretId>,
    /// What its status says was written.
    applied: Option<SecretId>,
    /// The object, until its turn comes.
    waiting: Option<Object>,
    /// How it stood after the last look.
    standing: Option<(Standing, &'static str)>,
    needs: Sets,
    fight: Option<Box<Fight>>,
    attempts: u16,
    /// The list in which it, and its Secret, were last seen, or whose watch told of it.
    epoch: u16,
    secret_epoch: u16,
    /// The Secret changed while it was looked at.
    touched: bool,
    /// Its status counts for nothing yet: `--verify-on-start`.
    distrust: bool,
}

impl Entry {
    /// Nothing is to be done.
    fn rests(&self) -> bool {
        let ready = self.standing.is_some_and(|(standing, _)| standing == Standing::Ready);
        ready && self.secret == self.applied && !self.distrust
    }

    /// When it may be looked at again on account of its Secret.
    fn calm_until(&self, now: Instant) -> Option<Instant> {
        self.fight.as_ref()?.calm_until.filter(|at| *at > now)
    }
}

/// Who changes a Secret again and again.
#[derive(Default)]
struct Fight {
    /// Repairs of the last minute.
    repairs: Vec<Instant>,
    /// Looks of the last minute that were on account of the Secret.
    touches: Vec<Instant>,
    /// Not before then.
    calm_until: Option<Instant>,
}

/// What is known of the lists of one kind.
#[derive(Default)]
struct Lists {
    /// By watch.
    of: Vec<List>,
    /// How many watches have listed nothing to its end yet.
    pending: usize,
    /// Deleted while a list goes on that may still show them.
    deleted: HashMap<ObjectKey, Version>,
}

/// The list of one watch.
#[derive(Clone, Default)]
struct List {
    /// Its number: what was not seen since it began bears another.
    epoch: u16,
    going_on: bool,
    /// One has ended.
    done: bool,
}

impl Lists {
    fn new(watches: usize) -> Self {
        Self { of: vec![List::default(); watches], pending: watches, deleted: HashMap::new() }
    }

    fn epoch(&self, watch: usize) -> u16 {
        self.of.get(watch).map_or(0, |list| list.epoch)
    }

    fn begin(&mut self, watch: usize) {
        if let Some(list) = self.of.get_mut(watch) {
            list.epoch = list.epoch.wrapping_add(1);
            list.going_on = true;
        }
    }

    /// The number of the list that has ended.
    fn end(&mut self, watch: usize) -> Option<u16> {
        let list = self.of.get_mut(watch)?;
        if !std::mem::take(&mut list.going_on) {
            return None;
        }
        if !std::mem::replace(&mut list.done, true) {
            self.pending = self.pending.saturating_sub(1);
        }
        let epoch = list.epoch;
        if self.of.iter().all(|list| !list.going_on) {
            self.deleted = HashMap::new();
        }
        Some(epoch)
    }

    fn deleted(&mut self, key: &ObjectKey, version: Version) {
        if self.of.iter().any(|list| list.going_on) {
            self.deleted.insert(key.clone(), version);
        }
    }

    /// Whether what a list shows was deleted since.
    fn is_deleted(&self, key: &ObjectKey, version: Version) -> bool {
        self.deleted.get(key).is_some_and(|deleted| version.is_before(*deleted))
    }
}

/// Which namespaces are served.
enum Served {
    All,
    /// These, whose watches tell of no others when there is one each.
    Some(HashSet<Arc<str>>),
}

/// All of it.
pub struct Engine {
    context: Arc<Context>,
    entries: HashMap<ObjectKey, Box<Entry>>,
    /// Secrets that say they were made from a SealedSecret which has not been seen (yet, or any more).
    orphans: HashMap<ObjectKey, (SecretId, u16)>,
    queue: Queue,
    buffered: usize,
    needs: Needs,
    needs_changed: bool,
    needs_told: Instant,
    publish_needs: watch::Sender<Option<Arc<Needs>>>,
    /// How often versions began anew.
    rewound: watch::Sender<u64>,
    /// Keys that were compromised when the ring was looked at last.
    compromised: BTreeSet<Fingerprint>,
    /// Set when the lists are in.
    synced: Arc<AtomicBool>,
    told_synced: bool,
    started: Instant,
    /// The kinds that are served.
    kinds: &'static [Kind],
    sealed: Lists,
    theirs: Lists,
    secrets: Lists,
    served: Served,
    /// One watch for each of these; one for all when empty.
    namespaces: Vec<Arc<str>>,
    /// Those that a list of the selected ones has shown so far.
    selected: HashSet<Arc<str>>,
    /// Namespaces, so that one copy of each name is kept.
    names: HashSet<Arc<str>>,
    /// Secrets that went while their SealedSecrets were looked at: what such a look saw or wrote is not there any more.
    vanished: HashMap<ObjectKey, Uid>,
    room: watch::Sender<bool>,
    leading: bool,
    /// The API server asked to be left alone until then.
    hold_until: Option<Instant>,
    /// Rights that were missing, by namespace.
    denied: BTreeSet<(Arc<str>, Right)>,
    next_review: Instant,
    logged: Option<(Failure, Instant)>,
}

/// The ends of the channels.
struct Inputs {
    sealed: mpsc::Receiver<(usize, Event<NativeSeen>)>,
    theirs: mpsc::Receiver<(usize, Event<TheirsSeen>)>,
    secrets: mpsc::Receiver<(usize, Event<SecretSeen>)>,
    namespaces: mpsc::Receiver<(usize, Event<NamespaceSeen>)>,
    sealed_sender: mpsc::Sender<(usize, Event<NativeSeen>)>,
    theirs_sender: mpsc::Sender<(usize, Event<TheirsSeen>)>,
    secrets_sender: mpsc::Sender<(usize, Event<SecretSeen>)>,
    namespaces_sender: mpsc::Sender<(usize, Event<NamespaceSeen>)>,
    /// The watches: they end with this.
    tasks: JoinSet<()>,
}

impl Inputs {
    fn new() -> Self {
        let (sealed_sender, sealed) = mpsc::channel(4);
        let (theirs_sender, theirs) = mpsc::channel(4);
        let (secrets_sender, secrets) = mpsc::channel(256);
        let (namespaces_sender, namespaces) = mpsc::channel(256);
        let tasks = JoinSet::new();
        Self {
            sealed,
            theirs,
            secrets,
            namespaces,
            sealed_sender,
            theirs_sender,
            secrets_sender,
            namespaces_sender,
            tasks,
        }
    }
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(
        context: Arc<Context>,
        publish_needs: watch::Sender<Option<Arc<Needs>>>,
        rewound: watch::Sender<u64>,
        synced: Arc<AtomicBool>,
    ) -> Self {
        let (served, namespaces) = match &context.settings.scope {
            Scope::All => (Served::All, Vec::new()),
            Scope::Each(list) => (Served::All, list.iter().map(|name| name.as_str().into()).collect()),
            Scope::Filtered(list) => (Served::Some(list.iter().map(|name| name.as_str().into()).collect()), Vec::new()),
            Scope::Selected(_) => (Served::Some(HashSet::new()), Vec::new()),
        };
        let watches = namespaces.len().max(1);
        let kinds: &'static [Kind] = match (context.bitnami.is_some(), context.settings.bitnami.only) {
            (true, false) => &[Kind::Native, Kind::Bitnami],
            (true, true) => &[Kind::Bitnami],
            (false, _) => &[Kind::Native],
        };
        let lists = |kind| Lists::new(if kinds.contains(&kind) { watches } else { 0 });
        Self {
            kinds,
            theirs: lists(Kind::Bitnami),
            context,
            entries: HashMap::new(),
            orphans: HashMap::new(),
            queue: Queue::default(),
            buffered: 0,
            needs: Needs::new(),
            needs_changed: true,
            needs_told: Instant::now(),
            publish_needs,
            rewound,
            compromised: BTreeSet::new(),
            synced,
            told_synced: false,
            started: Instant::now(),
            sealed: lists(Kind::Native),
            secrets: Lists::new(watches),
            served,
            namespaces,
            selected: HashSet::new(),
            names: HashSet::new(),
            vanished: HashMap::new(),
            room: watch::Sender::new(true),
            leading: false,
            hold_until: None,
            denied: BTreeSet::new(),
            next_review: Instant::now(),
            logged: None,
        }
    }

    /// Works until `stop`, and then ends what is going on.
    pub async fn run(mut self, mut role: watch::Receiver<Role>, mut stop: watch::Receiver<bool>) {
        // Who leads decides what a list leaves behind.
        tokio::select! {
            known = role.wait_for(|role| *role != Role::Unknown) => if known.is_err() { return },
            _ = stop.changed() => return,
        }
        self.leading = *role.borrow_and_update() == Role::Leading;
        let mut inputs = Inputs::new();
        if !self.watch_namespaces(&mut inputs) {
            self.watch_objects(&mut inputs);
        }
        let mut ring = self.context.ring.clone();
        let mut rsa = self.context.bitnami.as_ref().map(|shared| shared.ring.clone());
        let mut looks: JoinSet<(ObjectKey, Outcome)> = JoinSet::new();
        let mut reviews: JoinSet<Vec<(Arc<str>, Right)>> = JoinSet::new();
        loop {
            let now = Instant::now();
            self.hold_until = self.hold_until.filter(|at| *at > now);
            let may_work = self.may_work() && self.hold_until.is_none() && ring.borrow().complete;
            if may_work {
                while looks.len() < CONCURRENCY {
                    let Some((key, priority, waited)) = self.queue.pop(now) else { break };
                    let priority = if priority == Priority::High { "high" } else { "low" };
                    self.context.metrics.waited.get_or_create(&Turn { priority }).observe(waited.as_secs_f64());
                    self.start(key, &mut looks);
                }
            }
            self.make_room();
            self.tell_synced();
            self.context.metrics.queue.set(i64::try_from(self.queue.len()).unwrap_or_default());
            // With nobody free to look, the end of a look wakes this.
            let due = if may_work && looks.len() < CONCURRENCY { self.queue.next_due() } else { self.hold_until };
            let mut pause = due.map_or(MOST, |at| at.saturating_duration_since(now));
            if !self.told_synced && self.sealed.pending == 0 {
                pause = pause.min(PATIENCE);
            }
            if self.needs_changed && self.all_listed() {
                let left = (self.needs_told + NEEDS).saturating_duration_since(now);
                if left.is_zero() {
                    self.publish_needs();
                } else {
                    pause = pause.min(left);
                }
            }
            if self.leading && !self.denied.is_empty() && reviews.is_empty() {
                let left = self.next_review.saturating_duration_since(now);
                if left.is_zero() {
                    self.review(&mut reviews);
                } else {
                    pause = pause.min(left);
                }
            }
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                Ok(()) = role.changed() => {
                    if *role.borrow_and_update() == Role::Leading && !self.leading {
                        self.take_over();
                    }
                }
                Some((watch, event)) = inputs.sealed.recv() => {
                    self.see_sealed(Kind::Native, watch, event.map(|seen| seen.0));
                }
                Some((watch, event)) = inputs.theirs.recv() => {
                    self.see_sealed(Kind::Bitnami, watch, event.map(|seen| seen.0));
                }
                Some((watch, event)) = inputs.secrets.recv() => self.see_secret(watch, event),
                Some(done) = looks.join_next() => {
                    if let Ok((key, outcome)) = done {
                        self.finish(&key, outcome);
                    }
                }
                Some((_, event)) = inputs.namespaces.recv() => self.see_namespace(event, &mut inputs),
                Some(given) = reviews.join_next() => self.given(given.unwrap_or_default()),
                Ok(()) = ring.changed() => {
                    let now = ring.borrow_and_update().clone();
                    self.retry_failed(|key| key.kind == Kind::Native);
                    self.tell_exposed(&now);
                }
                () = changed(&mut rsa) => self.retry_failed(|key| key.kind == Kind::Bitnami),
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
            }
        }
        // Nothing new is begun; what was begun ends, so that the next leader finds it done or not begun.
        let ended = tokio::time::timeout(Duration::from_secs(10), async { while looks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("not all that was begun has ended");
        }
    }

    fn all_listed(&self) -> bool {
        self.sealed.pending == 0 && self.secrets.pending == 0
    }

    fn lists(&mut self, kind: Kind) -> &mut Lists {
        match kind {
            Kind::Native => &mut self.sealed,
            Kind::Bitnami => &mut self.theirs,
        }
    }

    /// Without knowing which Secrets there are nothing can be decided; a SealedSecret that has not been listed holds up no
    /// other.
    fn may_work(&self) -> bool {
        self.leading && self.secrets.pending == 0
    }

    /// Lets the lists of SealedSecrets be read on.
    fn make_room(&self) {
        let room = !self.leading || self.buffered < ROOM;
        self.room.send_if_modified(|before| std::mem::replace(before, room) != room);
    }

    /// It is ready to serve when it knows everything, or when only its own work holds it up.
    fn tell_synced(&mut self) {
        // Where the other kind's definition is gone, or not there yet, its list never comes.
        let theirs = self.theirs.pending == 0 || self.started.elapsed() > PATIENCE;
        let listed = (self.sealed.pending == 0 && theirs) || !*self.room.borrow();
        if !self.told_synced && self.secrets.pending == 0 && listed {
            self.told_synced = true;
            self.synced.store(true, Ordering::Release);
            tracing::info!(sealed_secrets = self.entries.len(), to_do = self.queue.len(), "the caches are in");
        }
    }

    fn list_path(&self, prefix: &str, namespace: Option<&Arc<str>>, resource: &str) -> String {
        namespace.map_or_else(
            || format!("{prefix}/{resource}"),
            |namespace| format!("{prefix}/namespaces/{namespace}/{resource}"),
        )
    }

    /// Where native SealedSecrets, those of the other format, and Secrets are listed.
    fn sources(&self, namespace: Option<&Arc<str>>) -> (Source, Option<Source>, Source) {
        let own = format!("/apis/{}", bulla::resource::API_VERSION);
        let sealed = Source { what: "sealedsecrets", ..Source::of(self.list_path(&own, namespace, "sealedsecrets")) };
        let theirs = self.context.bitnami.is_some().then(|| {
            let path = format!("/apis/{}", bulla::bitnami::API_VERSION);
            Source {
                what: "sealedsecrets of bitnami.com",
                labels: self.context.settings.bitnami.label_selector.clone(),
                ..Source::of(self.list_path(&path, namespace, "sealedsecrets"))
            }
        });
        let secrets = Source {
            what: "secrets",
            fields: Some(format!("type!={}", bulla::metadata::SEALING_KEY_TYPE)),
            streaming: true,
            ..Source::of(self.list_path("/api/v1", namespace, "secrets"))
        };
        (sealed, theirs, secrets)
    }

    fn watch_objects(&self, inputs: &mut Inputs) {
        let each: Vec<Option<Arc<str>>> = match self.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let always = watch::Sender::new(true);
        for (number, namespace) in each.iter().enumerate() {
            let (sealed, theirs, secrets) = self.sources(namespace.as_ref());
            let api = self.context.api.clone();
            if let Some(theirs) = theirs {
                let (sender, room) = (inputs.theirs_sender.clone(), self.room.subscribe());
                inputs.tasks.spawn(follow(api.clone(), theirs, number, sender, room));
            }
            if self.kinds.contains(&Kind::Native) {
                let (sender, room) = (inputs.sealed_sender.clone(), self.room.subscribe());
                inputs.tasks.spawn(follow(api.clone(), sealed, number, sender, room));
            }
            let (sender, room) = (inputs.secrets_sender.clone(), always.subscribe());
            inputs.tasks.spawn(follow(api, secrets, number, sender, room));
        }
        // Kept as long as the watches: one that is gone counts as closed.
        inputs.tasks.spawn(async move { always.closed().await });
    }

    /// Namespaces are watched where all are served, for one that comes or goes changes what can be written; and where their
    /// labels decide which are served. Whether that must be known first.
    fn watch_namespaces(&self, inputs: &mut Inputs) -> bool {
        let labels = match &self.context.settings.scope {
            Scope::All | Scope::Filtered(_) => None,
            Scope::Selected(labels) => Some(labels.clone()),
            Scope::Each(_) => return false,
        };
        let selected = labels.is_some();
        let source =
            Source { what: "namespaces", labels, streaming: true, ..Source::of("/api/v1/namespaces".to_owned()) };
        let always = watch::Sender::new(true);
        let (api, sender, room) = (self.context.api.clone(), inputs.namespaces_sender.clone(), always.subscribe());
        inputs.tasks.spawn(async move {
            let _always = always;
            follow(api, source, 0, sender, room).await;
        });
        selected
    }

    fn serves(&self, namespace: &str) -> bool {
        match &self.served {
            Served::All => true,
            Served::Some(served) => served.contains(namespace),
        }
    }

    fn served_by(&self, watch: usize, key: &ObjectKey) -> bool {
        self.namespaces.get(watch).is_none_or(|namespace| *namespace == key.namespace)
    }

    fn key(&mut self, kind: Kind, namespace: &str, name: &str) -> ObjectKey {
        let namespace = self.names.get(namespace).cloned().unwrap_or_else(|| {
            let namespace: Arc<str> = namespace.into();
            self.names.insert(namespace.clone());
            namespace
        });
        ObjectKey { kind, namespace, name: name.into() }
    }

    fn key_of(&mut self, kind: Kind, metadata: &ObjectMeta) -> Option<ObjectKey> {
        Some(self.key(kind, metadata.namespace.as_deref()?, metadata.name.as_deref()?))
    }

    fn add(&mut self, key: &ObjectKey, priority: Priority) {
        if self.leading {
            self.queue.add(key, priority, Instant::now());
        }
    }

    fn add_at(&mut self, key: &ObjectKey, at: Instant) {
        if self.leading {
            self.queue.add_at(key, at);
        }
    }

    /// From now on this replica writes: everything that is not as it should be gets its turn.
    fn take_over(&mut self) {
        self.leading = true;
        let todo: Vec<_> =
            self.entries.iter().filter(|(_, entry)| !entry.rests()).map(|(key, _)| key.clone()).collect();
        tracing::info!(sealed_secrets = self.entries.len(), to_do = todo.len(), "taking over");
        for key in todo {
            self.add(&key, Priority::Low);
        }
    }

    fn see_sealed(&mut self, kind: Kind, watch: usize, event: Event<Object>) {
        match event {
            Event::Restored => self.retry_failed(|key| key.kind == kind),
            Event::Rewound => {
                let of_watch = |key: &ObjectKey| self.namespaces.get(watch).is_none_or(|name| *name == key.namespace);
                for (_, entry) in self.entries.iter_mut().filter(|(key, _)| key.kind == kind && of_watch(key)) {
                    // The same generation can be another content now.
                    (entry.version, entry.generation) = (Version::FIRST, -1);
                }
                self.lists(kind).deleted.clear();
                self.rewound.send_modify(|count| *count += 1);
            }
            Event::Begin => self.lists(kind).begin(watch),
            Event::Listed(object) => self.apply(watch, object, Priority::Low),
            Event::Seen(object) => self.apply(watch, object, Priority::High),
            Event::End => {
                let Some(epoch) = self.lists(kind).end(watch) else { return };
                let gone: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|(key, entry)| key.kind == kind && entry.epoch != epoch && self.served_by(watch, key))
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    self.forget(&key);
                }
                // On start there was one for each Secret that is a SealedSecret's.
                self.orphans.shrink_to_fit();
            }
            Event::Gone(object) => {
                let Some(key) = self.key_of(kind, object.metadata()) else { return };
                let version = version_of(object.metadata());
                self.lists(kind).deleted(&key, version);
                if self.entries.get(&key).is_some_and(|entry| !version.is_before(entry.version)) {
                    self.forget(&key);
                }
            }
        }
    }

    /// Takes in an object. It is looked at when it is new or another than before, and its status does not say that all is
    /// done already.
    fn apply(&mut self, watch: usize, sealed: Object, priority: Priority) {
        let (kind, metadata) = (sealed.kind(), sealed.metadata());
        if !self.serves(metadata.namespace.as_deref().unwrap_or_default()) {
            return;
        }
        let Some(key) = self.key_of(kind, metadata) else { return };
        let version = version_of(metadata);
        if self.lists(kind).is_deleted(&key, version) {
            return;
        }
        let epoch = self.lists(kind).epoch(watch);
        let uid = Uid::new(metadata.uid.as_deref().unwrap_or_default());
        let generation = metadata.generation.unwrap_or_default();
        let deleting = metadata.deletion_timestamp.is_some();
        let asked: Option<Box<str>> = sealed.asked().map(Into::into);
        let applied = sealed.applied();
        let claim = applied.map_or(Known::Absent, Known::Seen);
        let leading = self.leading;
        let known = self.entries.get_mut(&key);
        if let Some(entry) = known {
            entry.epoch = epoch;
            if version.is_before(entry.version) {
                return;
            }
            entry.version = version;
            let same = entry.uid == uid && entry.generation == generation && entry.asked == asked;
            // What this replica wrote itself.
            if same && leading && !deleting {
                return;
            }
        }
        if deleting {
            self.forget(&key);
            return;
        }
        let settled = sealed.is_settled(&claim, &self.context.settings);
        let needs = self.intern(sealed.readers());
        let before = self.take(&key);
        let distrust = before
            .as_ref()
            .map_or_else(|| !self.told_synced && self.context.settings.verify_on_start, |before| before.distrust);
        let mut entry = before.unwrap_or_else(|| {
            let (secret, secret_epoch) = self.orphans.remove(&key).map_or((None, 0), |(id, epoch)| (Some(id), epoch));
            Box::new(Entry {
                uid,
                generation,
                version,
                asked: None,
                secret,
                applied,
                waiting: None,
                standing: None,
                needs: needs.clone(),
                fight: None,
                attempts: 0,
                epoch,
                secret_epoch,
                touched: false,
                distrust,
            })
        });
        // Another object of that name has nothing to do with what was done for the one before.
        if entry.uid != uid {
            entry.fight = None;
            self.stand(&key, &mut entry, None);
        }
        entry.uid = uid;
        entry.generation = generation;
        entry.asked = asked;
        entry.applied = applied;
        entry.needs = needs;
        entry.attempts = 0;
        if settled {
            self.stand(&key, &mut entry, Some(&Verdict::ready()));
            self.tell_stands(&key, Some(true));
        } else if !leading {
            self.stand(&key, &mut entry, None);
        }
        // What says of itself that it is done is believed when the Secret is that one. Until all are known, `all_in` decides.
        let todo = !settled || distrust || (self.secrets.pending == 0 && entry.secret != entry.applied);
        if todo && leading {
            let weight = sealed.weight();
            if self.buffered + weight <= BUFFER {
                self.buffered += weight;
                entry.waiting = Some(sealed);
            }
        }
        self.insert(key.clone(), entry);
        if todo {
            self.add(&key, priority);
        }
    }

    fn intern(&mut self, sets: BTreeSet<BTreeSet<Fingerprint>>) -> Sets {
        self.needs.get_key_value(&sets).map_or_else(|| Arc::new(sets), |(known, _)| known.clone())
    }

    fn insert(&mut self, key: ObjectKey, entry: Box<Entry>) {
        *self.needs.entry(entry.needs.clone()).or_default() += 1;
        self.needs_changed = true;
        self.entries.insert(key, entry);
    }

    /// Takes an entry out, without what waits for its turn.
    fn take(&mut self, key: &ObjectKey) -> Option<Box<Entry>> {
        let mut entry = self.entries.remove(key)?;
        if let Some(count) = self.needs.get_mut(&entry.needs) {
            *count -= 1;
            if *count == 0 {
                self.needs.remove(&entry.needs);
            }
        }
        self.needs_changed = true;
        if let Some(waiting) = entry.waiting.take() {
            self.buffered = self.buffered.saturating_sub(waiting.weight());
        }
        Some(entry)
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.queue.forget(key);
        if let Some(mut entry) = self.take(key) {
            self.stand(key, &mut entry, None);
            self.tell_stands(key, None);
            // The garbage collector may be slower than whoever makes the object anew.
            if let Some(secret) = entry.secret {
                self.orphans.insert(key.clone(), (secret, entry.secret_epoch));
            }
        }
    }

    fn see_secret(&mut self, watch: usize, event: Event<SecretSeen>) {
        match event {
            Event::Restored => self.retry_failed(|_| true),
            Event::Rewound => {
                let of_watch = |key: &ObjectKey| self.namespaces.get(watch).is_none_or(|name| *name == key.namespace);
                let entries = self.entries.iter_mut().filter(|(key, _)| of_watch(key));
                let seen = entries.filter_map(|(_, entry)| entry.secret.as_mut());
                let orphans = self.orphans.iter_mut().filter(|(key, _)| of_watch(key)).map(|(_, (id, _))| id);
                seen.chain(orphans).for_each(|id| id.version = Version::FIRST);
                self.secrets.deleted.clear();
            }
            Event::Begin => self.secrets.begin(watch),
            Event::Listed(secret) | Event::Seen(secret) => {
                if !self.serves(&secret.namespace) {
                    return;
                }
                for kind in self.kinds {
                    self.see_secret_of(*kind, watch, &secret);
                }
            }
            Event::End => {
                let first = self.secrets.pending > 0;
                let Some(epoch) = self.secrets.end(watch) else { return };
                let gone: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|(key, entry)| {
                        entry.secret_epoch != epoch && entry.secret.is_some() && self.served_by(watch, key)
                    })
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    self.secret_gone(&key);
                }
                let namespaces = std::mem::take(&mut self.orphans);
                self.orphans = namespaces
                    .into_iter()
                    .filter(|(key, (_, seen))| *seen == epoch || !self.served_by(watch, key))
                    .collect();
                if first && self.secrets.pending == 0 {
                    self.all_in();
                }
            }
            Event::Gone(secret) => {
                for kind in self.kinds {
                    let key = self.key(*kind, &secret.namespace, &secret.name);
                    self.secrets.deleted(&key, secret.id.version);
                    if self.orphans.get(&key).is_some_and(|(id, _)| id.uid == secret.id.uid) {
                        self.orphans.remove(&key);
                    }
                    if self.entries.get(&key).and_then(|e| e.secret).is_some_and(|seen| seen.uid == secret.id.uid) {
                        self.secret_gone(&key);
                    }
                }
            }
        }
    }

    /// A Secret, for the SealedSecret of this kind and its name: there may be one of each.
    fn see_secret_of(&mut self, kind: Kind, watch: usize, secret: &SecretSeen) {
        let epoch = self.secrets.epoch(watch);
        let key = self.key(kind, &secret.namespace, &secret.name);
        if self.secrets.is_deleted(&key, secret.id.version) {
            return;
        }
        match self.entries.get_mut(&key) {
            Some(entry) => {
                entry.secret_epoch = epoch;
                self.secret_seen(&key, Some(secret.id));
            }
            None if secret.marked.of(kind) => {
                let orphan = self.orphans.entry(key).or_insert((secret.id, epoch));
                let id = if secret.id.is_older(orphan.0) { orphan.0 } else { secret.id };
                *orphan = (id, epoch);
            }
            None => {
                self.orphans.remove(&key);
            }
        }
    }

    /// All Secrets are known: what says of itself that it is done can be believed, or not.
    fn all_in(&mut self) {
        let ready = |entry: &Entry| entry.standing.is_some_and(|(standing, _)| standing == Standing::Ready);
        let wrong: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| ready(entry) && entry.secret != entry.applied)
            .map(|(key, _)| key.clone())
            .collect();
        for key in wrong {
            self.add(&key, Priority::Low);
        }
    }

    /// The Secret that was seen last is there no longer. Uids do not come back.
    fn secret_gone(&mut self, key: &ObjectKey) {
        if let Some(seen) = self.entries.get(key).and_then(|entry| entry.secret)
            && self.queue.is_working(key)
        {
            self.vanished.insert(key.clone(), seen.uid);
        }
        self.secret_seen(key, None);
    }

    fn secret_seen(&mut self, key: &ObjectKey, secret: Option<SecretId>) {
        let known = self.secrets.pending == 0;
        let Some(entry) = self.entries.get_mut(key) else { return };
        // The watch lags behind our own writes.
        if let (Some(new), Some(old)) = (secret, entry.secret)
            && (new == old || new.is_older(old))
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
        if !known || unmoved || self.queue.is_working(key) {
            return;
        }
        self.touched(key);
    }

    /// Its Secret changed: it is looked at now, or when whoever keeps changing it has had time to stop.
    fn touched(&mut self, key: &ObjectKey) {
        if !self.leading {
            return;
        }
        let now = Instant::now();
        let Some(entry) = self.entries.get_mut(key) else { return };
        let mut at = entry.calm_until(now);
        if at.is_none() {
            let fight = entry.fight.get_or_insert_default();
            fight.touches.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
            if fight.touches.len() >= TOUCHES {
                at = Some(now + NUISANCE);
            }
            fight.touches.push(now);
            if fight.touches.len() > 2 * TOUCHES {
                fight.touches.remove(0);
            }
        }
        match at {
            Some(at) => self.add_at(key, at),
            None => self.add(key, Priority::High),
        }
    }

    fn see_namespace(&mut self, event: Event<NamespaceSeen>, inputs: &mut Inputs) {
        let selected = matches!(self.context.settings.scope, Scope::Selected(_));
        match event {
            Event::Restored | Event::Rewound => {}
            Event::Begin => self.selected.clear(),
            Event::Listed(NamespaceSeen(name)) if selected => {
                self.selected.insert(name.as_str().into());
                self.serve(&name, inputs);
            }
            Event::Listed(_) => {}
            Event::End if selected => {
                let listed = std::mem::take(&mut self.selected);
                if let Served::Some(served) = &self.served {
                    let gone: Vec<_> = served.difference(&listed).cloned().collect();
                    for namespace in gone {
                        self.serve_no_more(&namespace);
                    }
                }
                if inputs.tasks.len() == 1 {
                    self.watch_objects(inputs);
                }
            }
            Event::End => {}
            Event::Seen(NamespaceSeen(name)) => {
                if selected {
                    self.selected.insert(name.as_str().into());
                    self.serve(&name, inputs);
                }
                self.retry_failed(|key| *key.namespace == *name);
            }
            Event::Gone(NamespaceSeen(name)) => {
                self.retry_failed(|key| *key.namespace == *name);
                if selected {
                    self.selected.remove(name.as_str());
                    self.serve_no_more(&name);
                }
            }
        }
    }

    /// A namespace whose labels are others now: its Secrets stay as they are.
    fn serve_no_more(&mut self, name: &str) {
        if let Served::Some(served) = &mut self.served
            && served.remove(name)
        {
            let gone: Vec<_> = self.entries.keys().filter(|key| *key.namespace == *name).cloned().collect();
            tracing::info!(namespace = name, objects = gone.len(), "the namespace is not served any more");
            for key in gone {
                self.forget(&key);
            }
            self.orphans.retain(|key, _| *key.namespace != *name);
        }
    }

    /// A namespace that is selected from now on: what was there before is listed, once the watches run.
    fn serve(&mut self, name: &str, inputs: &mut Inputs) {
        let namespace: Arc<str> = name.into();
        let Served::Some(served) = &mut self.served else { return };
        if !served.insert(namespace.clone()) || inputs.tasks.len() == 1 {
            return;
        }
        tracing::info!(namespace = name, "the namespace is served from now on");
        let (sealed, theirs, secrets) = self.sources(Some(&namespace));
        let (api, room) = (self.context.api.clone(), self.room.subscribe());
        let (to_sealed, to_secrets) = (inputs.sealed_sender.clone(), inputs.secrets_sender.clone());
        let (to_theirs, native) = (inputs.theirs_sender.clone(), self.kinds.contains(&Kind::Native));
        inputs.tasks.spawn(async move {
            // Secrets first: a SealedSecret is looked at when it is seen.
            let always = watch::Sender::new(true);
            if list_once(api.clone(), secrets, 0, to_secrets, always.subscribe()).await {
                if native {
                    list_once(api.clone(), sealed, 0, to_sealed, room.clone()).await;
                }
                if let Some(theirs) = theirs {
                    list_once(api, theirs, 0, to_theirs, room).await;
                }
            }
        });
    }

    /// What does not work is tried again: something changed that may have been the cause.
    fn retry_failed(&mut self, which: impl Fn(&ObjectKey) -> bool) {
        if !self.leading {
            return;
        }
        let now = Instant::now();
        for (key, entry) in &mut self.entries {
            let failed = entry.standing.is_some_and(|(s, _)| matches!(s, Standing::Reconciling | Standing::Stalled));
            if (failed || entry.attempts > 0) && which(key) {
                entry.attempts = 0;
                self.queue.add(key, Priority::Low, now);
            }
        }
    }

    /// Objects that a compromised key opens, or opened, say so in their status.
    fn tell_exposed(&mut self, ring: &Ring) {
        let compromised = ring.compromised();
        if self.compromised == compromised {
            return;
        }
        let now = Instant::now();
        let before = std::mem::replace(&mut self.compromised, compromised);
        let changed: BTreeSet<Fingerprint> = before.symmetric_difference(&self.compromised).copied().collect();
        for (key, entry) in &self.entries {
            if entry.needs.iter().any(|set| !set.is_disjoint(&changed)) {
                self.queue.add(key, Priority::Low, now);
            }
        }
    }

    fn publish_needs(&mut self) {
        self.needs_changed = false;
        self.needs_told = Instant::now();
        self.publish_needs.send_replace(Some(Arc::new(self.needs.clone())));
    }

    /// Asks whether rights that were missing have been given.
    fn review(&mut self, reviews: &mut JoinSet<Vec<(Arc<str>, Right)>>) {
        self.next_review = Instant::now() + REVIEW;
        let api = self.context.api.clone();
        let mut asked = Vec::new();
        while asked.len() < REVIEWS
            && let Some(right) = self.denied.pop_first()
        {
            asked.push(right);
        }
        reviews.spawn(async move {
            let mut still = Vec::new();
            let mut given = Vec::new();
            for (namespace, (verb, resource)) in asked {
                let (group, plain) = match resource {
                    "secrets" => ("", resource),
                    "sealedsecrets.bitnami.com" => (bulla::bitnami::GROUP, "sealedsecrets"),
                    "sealedsecrets.bitnami.com/status" => (bulla::bitnami::GROUP, "sealedsecrets/status"),
                    _ => (GROUP, resource),
                };
                match api.allowed(&namespace, verb, group, plain).await {
                    Ok(true) => given.push((namespace, (verb, resource))),
                    _ => still.push((namespace, (verb, resource))),
                }
            }
            // What is still missing goes to the end of the line: marked by an empty right in between.
            given.push(("".into(), ("", "")));
            given.extend(still);
            given
        });
    }

    fn given(&mut self, answers: Vec<(Arc<str>, Right)>) {
        let mut answers = answers.into_iter();
        let given: HashSet<Arc<str>> = answers
            .by_ref()
            .take_while(|(namespace, _)| !namespace.is_empty())
            .map(|(namespace, _)| namespace)
            .collect();
        self.denied.extend(answers);
        if !given.is_empty() {
            self.retry_failed(|key| given.contains(&key.namespace));
        }
    }

    fn start(&mut self, key: ObjectKey, looks: &mut JoinSet<(ObjectKey, Outcome)>) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.queue.done(&key, Instant::now());
            return;
        };
        entry.touched = false;
        let trust = !entry.distrust;
        let known = entry.secret.map_or(Known::Absent, Known::Seen);
        let given = entry.waiting.take();
        if let Some(given) = &given {
            self.buffered = self.buffered.saturating_sub(given.weight());
        }
        let context = self.context.clone();
        looks.spawn(async move {
            let started = Instant::now();
            let outcome = match (given, &context.bitnami) {
                (Some(Object::Bitnami(given)), Some(shared)) => {
                    bitnami::reconcile::reconcile(&context, shared, &key, Some(given), known, trust).await
                }
                (_, Some(shared)) if key.kind == Kind::Bitnami => {
                    bitnami::reconcile::reconcile(&context, shared, &key, None, known, trust).await
                }
                (Some(Object::Native(given)), _) => reconcile(&context, &key, Some(given), known, trust).await,
                (_, _) => reconcile(&context, &key, None, known, trust).await,
            };
            let reason = Reason { reason: reason_of(&outcome).to_owned() };
            context.metrics.looks.get_or_create(&reason).observe(started.elapsed().as_secs_f64());
            (key, outcome)
        });
    }

    /// How it stands, for the metrics too.
    fn stand(&self, key: &ObjectKey, entry: &mut Entry, verdict: Option<&Verdict>) {
        let objects = &self.context.metrics.objects;
        let before = std::mem::replace(&mut entry.standing, verdict.map(|verdict| (verdict.standing, verdict.reason)));
        if let Some(shared) = self.context.bitnami.as_ref().filter(|_| key.kind == Kind::Bitnami)
            && self.context.settings.bitnami.mode == Mode::Observe
        {
            shared.observed(key, before.map(|(_, reason)| reason), verdict);
            return;
        }
        if let Some((_, before)) = before {
            objects.get_or_create(&Reason { reason: before.to_owned() }).dec();
        }
        if let Some(verdict) = verdict {
            objects.get_or_create(&Reason { reason: verdict.reason.to_owned() }).inc();
        }
    }

    /// The same under the established controller's name, and what is forgotten with an object.
    fn tell_stands(&self, key: &ObjectKey, synced: Option<bool>) {
        if let Some(shared) = self.context.bitnami.as_ref().filter(|_| key.kind == Kind::Bitnami) {
            shared.metrics.stands(&key.namespace, &key.name, synced);
            if synced.is_none() {
                shared.hints.forget(&key.namespace, &key.name);
            }
        }
    }

    /// One line for each kind of failure, not for each object and attempt.
    fn log(&mut self, key: &ObjectKey, failure: &Failure, now: Instant) {
        let again = |(before, at): &(Failure, Instant)| before == failure && now.duration_since(*at) < LOGGED;
        if !matches!(failure, Failure::NotLeading) && !self.logged.as_ref().is_some_and(again) {
            tracing::warn!(object = %key, %failure, "a SealedSecret or its status was not reached; trying again");
            self.logged = Some((failure.clone(), now));
        }
    }

    fn finish(&mut self, key: &ObjectKey, outcome: Outcome) {
        let now = Instant::now();
        let again = self.queue.done(key, now);
        let vanished = self.vanished.remove(key);
        let reason = reason_of(&outcome);
        self.context.metrics.reconciliations.get_or_create(&Reason { reason: reason.to_owned() }).inc();
        if let Some(failure) = &outcome.failure {
            self.log(key, failure, now);
        }
        if let Some(pause) = outcome.pause {
            // It was said to one request and is meant for all.
            self.hold_until = self.hold_until.max(Some(now + pause.min(Duration::from_secs(60))));
        }
        if let Some(right) = outcome.denied {
            self.denied.insert((key.namespace.clone(), right));
        }
        if outcome.gone {
            if !again {
                self.forget(key);
            }
            return;
        }
        let Some(mut entry) = self.entries.remove(key) else { return };
        if let Some(verdict) = &outcome.verdict {
            self.stand(key, &mut entry, Some(verdict));
            entry.distrust = false;
        }
        let looked_at = outcome.secret.flatten();
        match outcome.secret {
            // It was deleted since: what became of that decides `touched`.
            Some(Some(id)) if vanished == Some(id.uid) => {}
            Some(Some(id)) if entry.secret.is_none_or(|seen| seen.uid != id.uid || seen.is_older(id)) => {
                entry.secret = Some(id);
                // Seen in no list, but not gone either.
                entry.secret_epoch = self.secrets.epoch(self.watch_of(key));
            }
            Some(None) if !entry.touched => entry.secret = None,
            _ => {}
        }
        if outcome.verdict.is_some() && !outcome.again {
            entry.applied = outcome.applied;
        }
        let mut contested = None;
        if let Some(manager) = outcome.repaired {
            let fight = entry.fight.get_or_insert_default();
            fight.repairs.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
            fight.repairs.push(now);
            if fight.repairs.len() >= REPAIRS {
                fight.repairs.clear();
                fight.calm_until = Some(now + MOST);
                contested = Some(manager);
            }
        }
        let standing = outcome.verdict.as_ref().map(|verdict| (verdict.standing, verdict.reason));
        let touched = match standing {
            Some((Standing::Ready | Standing::Suspended, reason)) if !outcome.again => {
                entry.attempts = 0;
                entry.touched && entry.secret != entry.applied && FOLLOWED.contains(&reason)
            }
            Some((Standing::Stalled, _)) if !outcome.again => {
                let touched = entry.touched && entry.secret != looked_at;
                if !touched {
                    self.add_at(key, now + back_off(12, STALLED));
                }
                touched
            }
            _ => {
                let pause = back_off(entry.attempts.into(), MOST).max(outcome.pause.unwrap_or_default());
                entry.attempts = entry.attempts.saturating_add(1);
                self.add_at(key, now + pause);
                false
            }
        };
        self.entries.insert(key.clone(), entry);
        if touched {
            self.touched(key);
        }
        if let Some(manager) = contested {
            self.contested(key, manager);
        }
    }

    fn watch_of(&self, key: &ObjectKey) -> usize {
        self.namespaces.iter().position(|namespace| *namespace == key.namespace).unwrap_or_default()
    }

    fn contested(&self, key: &ObjectKey, manager: Option<String>) {
        let who = manager.map_or_else(|| "somebody".to_owned(), |manager| format!("{manager:?}"));
        let text = format!("{who} keeps changing the Secret; it is put back again in ten minutes");
        tracing::warn!(object = %key, message = text, "drift");
        let about = ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        };
        let (context, key) = (self.context.clone(), key.clone());
        tokio::spawn(async move {
            let (path, api_version) = match key.kind {
                Kind::Native => (own_path(&key.namespace, "sealedsecrets"), bulla::resource::API_VERSION),
                Kind::Bitnami => (their_path(&key.namespace), bulla::bitnami::API_VERSION),
            };
            // An event is found by the object's uid.
            let uid = context.api.get_metadata(&path, &key.name).await.ok().and_then(|metadata| metadata.uid);
            let about = ObjectReference { uid, ..reference_of(api_version, KIND, &about) };
            context.events.publish(about, &Note::warning("DriftContested", text)).await;
        });
    }
}

/// Waits for another key ring of the other format; for ever where it is off.
async fn changed(ring: &mut Option<watch::Receiver<Arc<RsaRing>>>) {
    let changed = match ring {
        Some(ring) => ring.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

fn reason_of(outcome: &Outcome) -> &'static str {
    outcome.verdict.as_ref().map_or(if outcome.gone { "Gone" } else { "Unreached" }, |verdict| verdict.reason)
}

fn version_of(metadata: &ObjectMeta) -> Version {
    Version::new(metadata.resource_version.as_deref().unwrap_or_default())
}
