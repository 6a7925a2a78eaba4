//! Which key opened an object the last time: the ciphertext does not say, and each key that is tried costs a millisecond.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};

use bulla::bitnami::KeyFingerprint;

/// Objects remembered: one takes 16 bytes or so.
const MOST: usize = 1 << 17;

/// A hash of namespace and name, and the beginning of a key's fingerprint. A wrong one costs an attempt and nothing else.
#[derive(Debug, Default)]
pub struct Hints {
    state: RandomState,
    known: Mutex<HashMap<u64, u32>>,
}

impl Hints {
    fn place(&self, namespace: &str, name: &str) -> u64 {
        self.state.hash_one((namespace, name))
    }

    /// The beginning of the fingerprint of the key that opened it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<u32> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&self.place(namespace, name)).copied()
    }

    /// Remembers.
    pub fn set(&self, namespace: &str, name: &str, key: KeyFingerprint) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.place(namespace, name);
        if known.len() < MOST || known.contains_key(&place) {
            known.insert(place, key.begin());
        }
    }

    /// It is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place(namespace, name));
    }
}
