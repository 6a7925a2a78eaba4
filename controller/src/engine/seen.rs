//! What the watches tell of SealedSecrets and Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla::recipient::Fingerprint;
use kube::core::ObjectMeta;

use super::entry::{Entry, Sets};
use super::{BUFFER, Engine, NUISANCE, TOUCHES};
use crate::object::Object;
use crate::queue::{Kind, ObjectKey, Priority};
use crate::reconcile::{Known, SecretId, Uid, Version};
use crate::status::{Standing, Verdict};
use crate::watch::{Event, SecretSeen};

impl Engine {
    pub(super) fn see_sealed(&mut self, kind: Kind, watch: usize, event: Event<Object>) {
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
    pub(super) fn apply(&mut self, watch: usize, sealed: Object, priority: Priority) {
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

    pub(super) fn intern(&mut self, sets: BTreeSet<BTreeSet<Fingerprint>>) -> Sets {
        self.needs.get_key_value(&sets).map_or_else(|| Arc::new(sets), |(known, _)| known.clone())
    }

    pub(super) fn insert(&mut self, key: ObjectKey, entry: Box<Entry>) {
        *self.needs.entry(entry.needs.clone()).or_default() += 1;
        self.needs_changed = true;
        self.entries.insert(key, entry);
    }

    /// Takes an entry out, without what waits for its turn.
    pub(super) fn take(&mut self, key: &ObjectKey) -> Option<Box<Entry>> {
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

    pub(super) fn forget(&mut self, key: &ObjectKey) {
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

    pub(super) fn see_secret(&mut self, watch: usize, event: Event<SecretSeen>) {
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
    pub(super) fn see_secret_of(&mut self, kind: Kind, watch: usize, secret: &SecretSeen) {
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
    pub(super) fn all_in(&mut self) {
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
    pub(super) fn secret_gone(&mut self, key: &ObjectKey) {
        if let Some(seen) = self.entries.get(key).and_then(|entry| entry.secret)
            && self.queue.is_working(key)
        {
            self.vanished.insert(key.clone(), seen.uid);
        }
        self.secret_seen(key, None);
    }

    pub(super) fn secret_seen(&mut self, key: &ObjectKey, secret: Option<SecretId>) {
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
    pub(super) fn touched(&mut self, key: &ObjectKey) {
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
}

fn version_of(metadata: &ObjectMeta) -> Version {
    Version::new(metadata.resource_version.as_deref().unwrap_or_default())
}
