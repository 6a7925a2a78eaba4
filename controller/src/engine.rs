//! What the watches have seen of SealedSecrets and Secrets, and who is looked at when. One task owns all of it; looks
//! ([`crate::reconcile::reconcile`]) run beside it, sixteen at most.
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
use kube::core::ObjectMeta;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Failure;
use crate::args::Scope;
use crate::bitnami::keys::RsaRing;
use crate::keyring::{Needs, Ring};
use crate::lease::Role;
use crate::metrics::Turn;
use crate::queue::{Kind, ObjectKey, Priority, Queue};
use crate::reconcile::{Context, Outcome, Right, SecretId, Uid};
use crate::status::Standing;

mod entry;
mod looks;
mod seen;
mod sources;

use entry::{Entry, Lists, Served};
use sources::Inputs;

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
