//! Leadership: of several replicas one writes, the one that holds the Lease.
//!
//! A Lease cannot promise that there are never two writers: the conditions on every write are what protects. It sees to it
//! that there are never two for long, and that two replicas do not do the same work. [`Elector`] decides, from what it has
//! seen and a monotonic time that is given; [`run`] watches and writes. Other machines' clocks count for nothing: a record
//! is stale when it has not *changed*, as seen from here, for as long as it says it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;
use tokio::sync::{mpsc, watch};

use crate::api::{Api, Failure};
use crate::queue::back_off;
use crate::watch::{Event, Source, watch as follow};

/// The Lease's name, in the controller's own namespace.
pub const LEASE: &str = "bulla-controller";
/// The longest that somebody else's record is believed to last.
const LONGEST: Duration = Duration::from_secs(600);

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others leave a record alone that does not change. Whole seconds.
    pub lease: Duration,
    /// How long after a renewal was *begun* its holder still writes. Less than `lease`.
    pub deadline: Duration,
    /// How often the record is renewed, and how long after a failure it is tried again. Less than `deadline`.
    pub retry: Duration,
}

/// What is in the Lease, as far as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was given back.
    pub holder: String,
    /// How long it lasts without a change, as its holder says.
    pub lasts: Duration,
    /// `metadata.resourceVersion`: a write is conditional on it.
    pub version: String,
    /// How often it went from one to another.
    pub transitions: i32,
    /// Since when its holder has it.
    pub acquired: Option<Timestamp>,
}

impl Record {
    /// Of an object.
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            lasts: Duration::from_secs(seconds),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
            acquired: spec.acquire_time.map(|time| time.0),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so long; sooner when something is seen.
    Wait(Duration),
    /// Write one's own name: anew, or in place of the record of this version.
    Write {
        /// What is replaced; `None` when there is no Lease.
        replace: Option<Record>,
    },
    /// It was held, and is not any more: end.
    Lost,
}

/// One replica's view of the Lease.
#[derive(Debug)]
pub struct Elector {
    me: String,
    timing: Timing,
    /// What was seen last, and since when it has not changed.
    seen: Option<(Option<Record>, Instant)>,
    /// Until when writing is safe; `None` while it does not lead.
    until: Option<Instant>,
    /// When the next write is due: a renewal, or another attempt.
    next: Option<Instant>,
    lost: bool,
}

impl Elector {
    /// One that has seen nothing. `me` is nobody else's name, not that of an earlier process either.
    pub fn new(me: impl Into<String>, timing: Timing) -> Self {
        Self { me: me.into(), timing, seen: None, until: None, next: None, lost: false }
    }

    /// Until when it leads, if it does.
    pub fn leads_until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it has seen that somebody else leads.
    pub fn follows(&self) -> bool {
        let held = |record: &Record| !record.holder.is_empty() && record.holder != self.me;
        self.until.is_none() && self.seen.as_ref().is_some_and(|(record, _)| record.as_ref().is_some_and(held))
    }

    /// The Lease is so, or there is none. Views older than the one known must not be given.
    pub fn see(&mut self, record: Option<Record>, now: Instant) {
        if self.seen.as_ref().is_some_and(|(known, _)| *known == record) {
            return;
        }
        if self.until.is_some() && record.as_ref().is_none_or(|record| record.holder != self.me) {
            // Deleted, or taken by somebody else, who may write from now on.
            (self.until, self.lost) = (None, true);
        }
        self.seen = Some((record, now));
        if self.until.is_none() {
            self.next = None;
        }
    }

    /// A write that was begun then has succeeded.
    pub fn wrote(&mut self, begun: Instant, record: Record, now: Instant) {
        if self.lost {
            return;
        }
        let ours = record.holder == self.me;
        self.seen = Some((Some(record), now));
        if ours {
            self.until = Some(begun + self.timing.deadline);
            self.next = Some(begun + self.timing.retry);
        }
    }

    /// A write has failed, and may have been done all the same: look again before the next.
    pub fn failed(&mut self, now: Instant) {
        self.next = Some(now + self.timing.retry);
    }

    /// What to do.
    pub fn step(&mut self, now: Instant) -> Step {
        if self.until.is_some_and(|until| until <= now) {
            (self.until, self.lost) = (None, true);
        }
        if self.lost {
            return Step::Lost;
        }
        let Some((record, since)) = &self.seen else { return Step::Wait(self.timing.retry) };
        let free_at = match record {
            None => *since,
            Some(record) if record.holder.is_empty() || record.holder == self.me => *since,
            Some(record) if record.lasts.is_zero() || record.lasts > LONGEST => *since + self.timing.lease,
            Some(record) => *since + record.lasts.max(self.timing.lease),
        };
        let due = self.next.map_or(free_at, |next| next.max(free_at));
        if due <= now { Step::Write { replace: record.clone() } } else { Step::Wait(due - now) }
    }
}

/// Whether this process may write. Asked before every write; closed by time alone, so that a process which was stopped
/// finds it closed when it wakes.
#[derive(Clone, Debug)]
pub struct Fence(Option<Arc<(Instant, AtomicU64)>>);

impl Fence {
    /// One that is always open: there is nobody else.
    pub const fn open() -> Self {
        Self(None)
    }

    /// One that is closed until [`Fence::until`] says otherwise.
    pub fn closed() -> Self {
        Self(Some(Arc::new((Instant::now(), AtomicU64::new(0)))))
    }

    /// Open until then.
    pub fn until(&self, until: Option<Instant>) {
        if let Some(shared) = &self.0 {
            let since = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(shared.0));
            shared.1.store(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    /// Whether it is open.
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let now = u64::try_from(shared.0.elapsed().as_micros()).unwrap_or(u64::MAX);
            now < shared.1.load(Ordering::Acquire)
        })
    }
}

/// What this replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not known yet.
    Unknown,
    /// Somebody else leads: watch and be ready.
    Following,
    /// It writes.
    Leading,
    /// It led and does not any more: end at once.
    Lost,
}

/// What [`run`] works with.
pub struct Election {
    /// Without a fence: this is what opens it.
    pub api: Api,
    /// The controller's own namespace.
    pub namespace: String,
    /// This process's name, nobody else's.
    pub me: String,
    /// How long things last.
    pub timing: Timing,
    /// What is opened and closed.
    pub fence: Fence,
    /// Where it says what this replica is.
    pub role: watch::Sender<Role>,
}

/// Takes the Lease and keeps it until `release`, and then gives it back. Ends when it is lost.
pub async fn run(election: Election, mut release: watch::Receiver<bool>) {
    let mut elector = Elector::new(&election.me, election.timing);
    let (sender, mut seen) = mpsc::channel(16);
    let source = Source {
        what: "leases",
        fields: Some(format!("metadata.name={LEASE}")),
        ..Source::of(format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", election.namespace))
    };
    let (_keep, room) = watch::channel(true);
    let watching = tokio::spawn(follow::<Lease>(election.api.clone(), source, 0, sender, room));
    let mut listed = None;
    let mut failures = 0;
    loop {
        let pause = match elector.step(Instant::now()) {
            Step::Lost => break,
            Step::Wait(pause) => pause,
            Step::Write { replace } => {
                let begun = Instant::now();
                // Longer than this it would not help.
                let write = election.write(replace.as_ref(), &election.me);
                let written = tokio::time::timeout(election.timing.retry.max(Duration::from_secs(1)), write).await;
                match written.unwrap_or(Err(Failure::Unavailable)) {
                    Ok(record) => {
                        failures = 0;
                        elector.wrote(begun, record, Instant::now());
                    }
                    Err(failure) => {
                        if failures == 0 && !matches!(failure, Failure::Conflict | Failure::AlreadyExists) {
                            tracing::warn!(%failure, "the Lease could not be written; trying again");
                        }
                        failures += 1;
                        elector.failed(Instant::now());
                        // The watch may be broken too: what is there now decides.
                        if let Some(record) = election.look().await {
                            elector.see(record, Instant::now());
                        }
                    }
                }
                Duration::ZERO
            }
        };
        election.tell(&elector);
        tokio::select! {
            biased;
            _ = release.changed() => {
                watching.abort();
                election.fence.until(None);
                if elector.leads_until().is_some() {
                    election.give_back(&elector).await;
                }
                return;
            }
            event = seen.recv() => {
                let now = Instant::now();
                match event {
                    Some((_, Event::Begin)) => listed = None,
                    Some((_, Event::Listed(lease))) => listed = Some(Record::of(&lease)),
                    Some((_, Event::End)) => elector.see_newer(listed.take(), now),
                    Some((_, Event::Seen(lease))) => elector.see_newer(Some(Record::of(&lease)), now),
                    Some((_, Event::Gone(lease))) => {
                        let gone = Record::of(&lease);
                        let known = elector.seen.as_ref().and_then(|(record, _)| record.as_ref());
                        if known.is_none_or(|known| !is_newer(&known.version, &gone.version)) {
                            elector.see(None, now);
                        }
                    }
                    // Of an earlier version than is known here the next write tells: it is refused, and looks.
                    Some((_, Event::Restored | Event::Rewound)) => {}
                    None => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
    watching.abort();
    election.fence.until(None);
    election.role.send_replace(Role::Lost);
}

/// Whether `this` is a later version than `than`; versions that are no numbers count as later.
fn is_newer(this: &str, than: &str) -> bool {
    match (this.parse::<u64>(), than.parse::<u64>()) {
        (Ok(this), Ok(than)) => this > than,
        _ => this != than,
    }
}

impl Elector {
    /// What the watch says, unless one's own write is newer.
    fn see_newer(&mut self, record: Option<Record>, now: Instant) {
        let known = self.seen.as_ref().and_then(|(known, _)| known.as_ref());
        let older = match (&record, known) {
            (Some(record), Some(known)) => is_newer(&known.version, &record.version),
            // An empty list says nothing against one's own write, which may have been done since.
            (None, Some(_)) => self.until.is_some(),
            _ => false,
        };
        if !older {
            self.see(record, now);
        }
    }
}

impl Election {
    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    fn tell(&self, elector: &Elector) {
        self.fence.until(elector.leads_until());
        let role = match elector.leads_until() {
            Some(_) => Role::Leading,
            None if elector.follows() => Role::Following,
            None => return,
        };
        if *self.role.borrow() != role {
            match role {
                Role::Leading => tracing::info!(identity = self.me, "this replica leads"),
                _ => tracing::info!(identity = self.me, "another replica leads"),
            }
            self.role.send_replace(role);
        }
    }

    /// The Lease as it is, or that there is none; `None` when that is not known.
    async fn look(&self) -> Option<Option<Record>> {
        let path = self.path();
        let look = self.api.get::<Lease>(&path, LEASE);
        match tokio::time::timeout(self.timing.retry.max(Duration::from_secs(1)), look).await {
            Ok(Ok(lease)) => Some(Some(Record::of(&lease))),
            Ok(Err(Failure::NotFound)) => Some(None),
            _ => None,
        }
    }

    /// Writes `holder` in place of a record, on condition that it is still that one.
    async fn write(&self, replace: Option<&Record>, holder: &str) -> Result<Record, Failure> {
        let now = Timestamp::now();
        let ours = replace.filter(|record| record.holder == holder);
        let handed = replace.is_some() && ours.is_none();
        let lasts = if holder.is_empty() { Duration::from_secs(1) } else { self.timing.lease };
        let acquired = ours.and_then(|record| record.acquired).unwrap_or(now);
        let transitions = replace.map_or(0, |record| record.transitions.saturating_add(i32::from(handed)));
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                namespace: Some(self.namespace.clone()),
                resource_version: replace.map(|record| record.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(lasts.as_secs()).ok(),
                acquire_time: Some(MicroTime(acquired)),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        };
        let body = serde_json::to_vec(&lease).map_err(|_| Failure::Refused(0))?;
        let written = match replace {
            Some(_) => self.api.replace(&self.path(), LEASE, body).await?,
            None => self.api.create(&self.path(), body).await?,
        };
        Ok(Record {
            holder: holder.to_owned(),
            lasts,
            version: written.resource_version.unwrap_or_default(),
            transitions,
            acquired: Some(acquired),
        })
    }

    /// So that the next one need not wait for it to go stale.
    async fn give_back(&self, elector: &Elector) {
        let mut record = elector.seen.clone().and_then(|(record, _)| record);
        for attempt in 0..3 {
            let Some(known) = record.clone().filter(|record| record.holder == self.me) else { return };
            let write = self.write(Some(&known), "");
            match tokio::time::timeout(Duration::from_secs(2), write).await {
                Ok(Ok(_)) => {
                    tracing::info!("the Lease is given back");
                    return;
                }
                Ok(Err(Failure::Conflict)) => record = self.look().await.flatten(),
                _ => tokio::time::sleep(back_off(attempt, Duration::from_secs(1)) / 4).await,
            }
        }
        tracing::warn!("the Lease could not be given back; the next leader waits until it is stale");
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
