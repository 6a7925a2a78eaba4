//! What is kept of each SealedSecret, and of the lists.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bulla::recipient::Fingerprint;

use crate::object::Object;
use crate::queue::ObjectKey;
use crate::reconcile::{SecretId, Uid, Version};
use crate::status::Standing;

pub(super) type Sets = Arc<BTreeSet<BTreeSet<Fingerprint>>>;

/// What is kept of one SealedSecret.
pub(super) struct Entry {
    pub(super) uid: Uid,
    pub(super) generation: i64,
    pub(super) version: Version,
    pub(super) asked: Option<Box<str>>,
    /// The Secret of its name, as last seen.
    pub(super) secret: Option<SecretId>,
    /// What its status says was written.
    pub(super) applied: Option<SecretId>,
    /// The object, until its turn comes.
    pub(super) waiting: Option<Object>,
    /// How it stood after the last look.
    pub(super) standing: Option<(Standing, &'static str)>,
    pub(super) needs: Sets,
    pub(super) fight: Option<Box<Fight>>,
    pub(super) attempts: u16,
    /// The list in which it, and its Secret, were last seen, or whose watch told of it.
    pub(super) epoch: u16,
    pub(super) secret_epoch: u16,
    /// The Secret changed while it was looked at.
    pub(super) touched: bool,
    /// Its status counts for nothing yet: `--verify-on-start`.
    pub(super) distrust: bool,
}

impl Entry {
    /// Nothing is to be done.
    pub(super) fn rests(&self) -> bool {
        let ready = self.standing.is_some_and(|(standing, _)| standing == Standing::Ready);
        ready && self.secret == self.applied && !self.distrust
    }

    /// When it may be looked at again on account of its Secret.
    pub(super) fn calm_until(&self, now: Instant) -> Option<Instant> {
        self.fight.as_ref()?.calm_until.filter(|at| *at > now)
    }
}

/// Who changes a Secret again and again.
#[derive(Default)]
pub(super) struct Fight {
    /// Repairs of the last minute.
    pub(super) repairs: Vec<Instant>,
    /// Looks of the last minute that were on account of the Secret.
    pub(super) touches: Vec<Instant>,
    /// Not before then.
    pub(super) calm_until: Option<Instant>,
}

/// What is known of the lists of one kind.
#[derive(Default)]
pub(super) struct Lists {
    /// By watch.
    pub(super) of: Vec<List>,
    /// How many watches have listed nothing to its end yet.
    pub(super) pending: usize,
    /// Deleted while a list goes on that may still show them.
    pub(super) deleted: HashMap<ObjectKey, Version>,
}

/// The list of one watch.
#[derive(Clone, Default)]
pub(super) struct List {
    /// Its number: what was not seen since it began bears another.
    pub(super) epoch: u16,
    pub(super) going_on: bool,
    /// One has ended.
    pub(super) done: bool,
}

impl Lists {
    pub(super) fn new(watches: usize) -> Self {
        Self { of: vec![List::default(); watches], pending: watches, deleted: HashMap::new() }
    }

    pub(super) fn epoch(&self, watch: usize) -> u16 {
        self.of.get(watch).map_or(0, |list| list.epoch)
    }

    pub(super) fn begin(&mut self, watch: usize) {
        if let Some(list) = self.of.get_mut(watch) {
            list.epoch = list.epoch.wrapping_add(1);
            list.going_on = true;
        }
    }

    /// The number of the list that has ended.
    pub(super) fn end(&mut self, watch: usize) -> Option<u16> {
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

    pub(super) fn deleted(&mut self, key: &ObjectKey, version: Version) {
        if self.of.iter().any(|list| list.going_on) {
            self.deleted.insert(key.clone(), version);
        }
    }

    /// Whether what a list shows was deleted since.
    pub(super) fn is_deleted(&self, key: &ObjectKey, version: Version) -> bool {
        self.deleted.get(key).is_some_and(|deleted| version.is_before(*deleted))
    }
}

/// Which namespaces are served.
pub(super) enum Served {
    All,
    /// These, whose watches tell of no others when there is one each.
    Some(HashSet<Arc<str>>),
}
