//! How far something long is. Only on a terminal, only after a second, and never in the way of what is said.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const AFTER: Duration = Duration::from_secs(1);
const EVERY: u64 = 100;

/// Counts what is done, from any thread. The line goes away when this is dropped.
pub struct Progress {
    what: &'static str,
    total: usize,
    done: AtomicUsize,
    start: Instant,
    /// Milliseconds from the start at which the next line is due.
    due: AtomicU64,
    shown: bool,
}

impl Progress {
    /// `what` is done to `total` things: `resealing`.
    pub fn new(what: &'static str, total: usize) -> Self {
        Self {
            what,
            total,
            done: AtomicUsize::new(0),
            start: Instant::now(),
            due: AtomicU64::new(u64::try_from(AFTER.as_millis()).unwrap_or(u64::MAX)),
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// One more is done.
    pub fn tick(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.shown {
            return;
        }
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.due.load(Ordering::Relaxed);
        // Whoever moves the time on writes; the others go on working.
        if now >= due && self.due.compare_exchange(due, now + EVERY, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            _ = write!(std::io::stderr().lock(), "\r{} {done} of {}\u{1b}[K", self.what, self.total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.due.load(Ordering::Relaxed) > u64::try_from(AFTER.as_millis()).unwrap_or(u64::MAX) {
            _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}
