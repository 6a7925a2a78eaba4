//! Order: what is changed goes before what was found on start, namespaces take turns, and each object has its own
//! back-off. Pure: the time is given.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of which kind a SealedSecret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `bulla.dev`.
    Native,
    /// `bitnami.com`.
    Bitnami,
}

/// Kind, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if self.kind == Kind::Bitnami { f.write_str(" (bitnami.com)") } else { Ok(()) }
    }
}

/// Before or after the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Something changed.
    High,
    /// Found on start, or due again.
    Low,
}

/// Names by namespace, which take turns.
#[derive(Debug, Default)]
struct Turns {
    order: VecDeque<Arc<str>>,
    names: HashMap<Arc<str>, VecDeque<(Kind, Arc<str>)>>,
}

impl Turns {
    fn push(&mut self, key: ObjectKey) {
        let names = self.names.entry(key.namespace.clone()).or_default();
        if names.is_empty() {
            self.order.push_back(key.namespace);
        }
        names.push_back((key.kind, key.name));
    }

    fn pop(&mut self) -> Option<ObjectKey> {
        let namespace = self.order.pop_front()?;
        let names = self.names.get_mut(&namespace)?;
        let (kind, name) = names.pop_front()?;
        if names.is_empty() {
            self.names.remove(&namespace);
        } else {
            self.order.push_back(namespace.clone());
        }
        Some(ObjectKey { kind, namespace, name })
    }
}

/// The queue. A key is in it at most once, and never while it is worked on: then it waits for [`Queue::done`].
#[derive(Debug, Default)]
pub struct Queue {
    ready: BTreeMap<Priority, Turns>,
    /// How they wait, and since when.
    waiting: HashMap<ObjectKey, (Priority, Instant)>,
    due: BTreeSet<(Instant, ObjectKey)>,
    due_at: HashMap<ObjectKey, Instant>,
    working: HashMap<ObjectKey, Option<Priority>>,
}

impl Queue {
    /// To be looked at as soon as possible.
    pub fn add(&mut self, key: &ObjectKey, priority: Priority, now: Instant) {
        self.forget_due(key);
        if let Some(again) = self.working.get_mut(key) {
            *again = Some(again.map_or(priority, |before| before.min(priority)));
            return;
        }
        match self.waiting.get_mut(key) {
            Some((before, _)) if *before <= priority => return,
            // The entry of lower priority stays where it is and is skipped when its turn comes.
            Some((before, _)) => *before = priority,
            None => {
                self.waiting.insert(key.clone(), (priority, now));
            }
        }
        self.ready.entry(priority).or_default().push(key.clone());
    }

    /// To be looked at then, unless it is sooner.
    pub fn add_at(&mut self, key: &ObjectKey, at: Instant) {
        if self.waiting.contains_key(key) || self.due_at.get(key).is_some_and(|before| *before <= at) {
            return;
        }
        self.forget_due(key);
        self.due.insert((at, key.clone()));
        self.due_at.insert(key.clone(), at);
    }

    fn forget_due(&mut self, key: &ObjectKey) {
        if let Some(at) = self.due_at.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    /// The next one to work on, how it waited, and for how long.
    pub fn pop(&mut self, now: Instant) -> Option<(ObjectKey, Priority, Duration)> {
        while let Some((at, _)) = self.due.first() {
            if *at > now {
                break;
            }
            if let Some((_, key)) = self.due.pop_first() {
                self.due_at.remove(&key);
                self.add(&key, Priority::Low, now);
            }
        }
        for (priority, turns) in &mut self.ready {
            while let Some(key) = turns.pop() {
                if let Some((waits, since)) = self.waiting.get(&key).copied()
                    && waits == *priority
                {
                    self.waiting.remove(&key);
                    self.working.insert(key.clone(), None);
                    return Some((key, waits, now.saturating_duration_since(since)));
                }
            }
        }
        None
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Work on it has ended; what was added meanwhile is next. Whether there was such.
    pub fn done(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let again = self.working.remove(key).flatten();
        if let Some(priority) = again {
            self.add(key, priority, now);
        }
        again.is_some()
    }

    /// Whether it is worked on.
    pub fn is_working(&self, key: &ObjectKey) -> bool {
        self.working.contains_key(key)
    }

    /// It is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.forget_due(key);
        self.waiting.remove(key);
        if let Some(again) = self.working.get_mut(key) {
            *again = None;
        }
    }

    /// How many wait for their turn.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The n-th pause (from 0): from one second, twice as long each time, at most `most`, less up to a third at random.
pub fn back_off(attempt: u32, most: Duration) -> Duration {
    let pause = Duration::from_secs(1 << attempt.min(16)).min(most);
    let random = RandomState::new().hash_one(attempt);
    let third = u32::try_from(random % 1024).unwrap_or_default();
    pause - pause * third / 3072
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        ObjectKey { kind: Kind::Native, namespace: namespace.into(), name: name.into() }
    }

    fn drain(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|(key, ..)| key.to_string()).collect()
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<ObjectKey> {
        queue.pop(now).map(|(key, ..)| key)
    }

    #[test]
    fn changes_go_first_and_namespaces_take_turns() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for name in ["a/1", "a/2", "a/3", "b/1", "c/1"] {
            queue.add(&key(name), Priority::Low, now);
        }
        queue.add(&key("a/3"), Priority::High, now);
        queue.add(&key("c/9"), Priority::High, now);
        assert_eq!(queue.len(), 6);
        assert_eq!(drain(&mut queue, now), ["a/3", "c/9", "a/1", "b/1", "c/1", "a/2"]);
    }

    #[test]
    fn nothing_is_worked_on_twice_at_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(&key("a/1"), Priority::Low, now);
        assert_eq!(next(&mut queue, now), Some(key("a/1")));
        queue.add(&key("a/1"), Priority::High, now);
        assert_eq!(next(&mut queue, now), None);
        assert!(queue.done(&key("a/1"), now));
        assert_eq!(next(&mut queue, now), Some(key("a/1")));
        queue.add(&key("a/1"), Priority::High, now);
        queue.forget(&key("a/1"));
        assert!(!queue.done(&key("a/1"), now));
        assert_eq!(next(&mut queue, now), None);
    }

    #[test]
    fn what_is_due_comes_then_or_sooner() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(10);
        queue.add_at(&key("a/1"), later);
        queue.add_at(&key("a/2"), later + Duration::from_secs(1));
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(queue.next_due(), Some(later));
        queue.add(&key("a/2"), Priority::High, now);
        assert_eq!(next(&mut queue, now), Some(key("a/2")));
        assert_eq!(next(&mut queue, later), Some(key("a/1")));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn pauses_grow_up_to_the_most() {
        let most = Duration::from_secs(600);
        for attempt in 0..40 {
            let whole = Duration::from_secs(1 << attempt.min(16)).min(most);
            let pause = back_off(attempt, most);
            assert!(pause <= whole && pause >= whole * 2 / 3, "{attempt}: {pause:?}");
        }
    }
}
