#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

const TIMING: Timing =
    Timing { lease: Duration::from_secs(15), deadline: Duration::from_secs(10), retry: Duration::from_secs(2) };

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn held(by: &str, version: &str) -> Record {
    Record { holder: by.into(), lasts: seconds(15), version: version.into(), transitions: 0, acquired: None }
}

#[test]
fn an_absent_or_released_lease_is_taken_at_once() {
    let now = Instant::now();
    let mut elector = Elector::new("a", TIMING);
    assert_eq!(elector.step(now), Step::Wait(TIMING.retry), "nothing has been seen");
    elector.see(None, now);
    assert_eq!(elector.step(now), Step::Write { replace: None });
    let mut elector = Elector::new("a", TIMING);
    elector.see(Some(held("", "3")), now);
    assert_eq!(elector.step(now), Step::Write { replace: Some(held("", "3")) });
    assert!(!elector.follows());
    elector.wrote(now, held("a", "4"), now + seconds(1));
    assert_eq!(elector.leads_until(), Some(now + TIMING.deadline), "counted from when the write was begun");
    assert_eq!(elector.step(now + seconds(1)), Step::Wait(seconds(1)));
    assert_eq!(elector.step(now + seconds(2)), Step::Write { replace: Some(held("a", "4")) });
}

#[test]
fn somebody_elses_is_stale_when_it_has_not_changed_as_seen_from_here() {
    let now = Instant::now();
    let mut elector = Elector::new("a", TIMING);
    elector.see(Some(held("b", "3")), now);
    assert!(elector.follows());
    assert_eq!(elector.step(now + seconds(14)), Step::Wait(seconds(1)));
    // The same again is no change, another version is one.
    elector.see(Some(held("b", "3")), now + seconds(14));
    assert_eq!(elector.step(now + seconds(14)), Step::Wait(seconds(1)));
    elector.see(Some(held("b", "4")), now + seconds(14));
    assert_eq!(elector.step(now + seconds(15)), Step::Wait(seconds(14)));
    assert_eq!(elector.step(now + seconds(29)), Step::Write { replace: Some(held("b", "4")) });
    // One that says that it lasts longer is given that time, one that says nonsense is not.
    elector.see(Some(Record { lasts: seconds(60), ..held("b", "5") }), now + seconds(29));
    assert_eq!(elector.step(now + seconds(44)), Step::Wait(seconds(45)));
    elector.see(Some(Record { lasts: seconds(86400), ..held("b", "6") }), now + seconds(44));
    assert_eq!(
        elector.step(now + seconds(59)),
        Step::Write { replace: Some(Record { lasts: seconds(86400), ..held("b", "6") }) }
    );
}

#[test]
fn it_is_lost_by_time_by_another_holder_and_by_deletion() {
    let now = Instant::now();
    let leader = || {
        let mut elector = Elector::new("a", TIMING);
        elector.see(None, now);
        elector.wrote(now, held("a", "1"), now);
        elector
    };
    let mut elector = leader();
    assert_ne!(elector.step(now + seconds(10) - Duration::from_millis(1)), Step::Lost);
    assert_eq!(elector.step(now + seconds(10)), Step::Lost);
    elector.wrote(now, held("a", "2"), now + seconds(11));
    assert_eq!(elector.step(now + seconds(11)), Step::Lost, "lost is lost");
    for other in [Some(held("b", "2")), Some(held("", "2")), None] {
        let mut elector = leader();
        elector.see(other.clone(), now + seconds(1));
        assert_eq!(elector.leads_until(), None, "{other:?}");
        assert_eq!(elector.step(now + seconds(1)), Step::Lost);
    }
}

#[test]
fn a_write_whose_answer_was_lost_is_ones_own() {
    let now = Instant::now();
    let mut elector = Elector::new("a", TIMING);
    elector.see(None, now);
    elector.failed(now);
    assert_eq!(elector.step(now + seconds(1)), Step::Wait(seconds(1)));
    elector.see(Some(held("a", "1")), now + seconds(1));
    assert_eq!(elector.leads_until(), None, "not before a write whose beginning is known");
    assert_eq!(elector.step(now + seconds(1)), Step::Write { replace: Some(held("a", "1")) });
}

#[test]
fn an_old_view_says_nothing_against_ones_own_write() {
    let now = Instant::now();
    let mut elector = Elector::new("a", TIMING);
    elector.see(Some(held("", "7")), now);
    elector.wrote(now, held("a", "8"), now);
    elector.see_newer(Some(held("", "7")), now);
    elector.see_newer(None, now);
    assert_ne!(elector.step(now), Step::Lost);
    elector.see_newer(Some(held("b", "9")), now);
    assert_eq!(elector.step(now), Step::Lost);
}

#[test]
fn a_fence_is_closed_by_time_alone() {
    assert!(Fence::open().holds());
    let fence = Fence::closed();
    assert!(!fence.holds());
    fence.until(Some(Instant::now() + seconds(60)));
    assert!(fence.holds());
    fence.until(Some(Instant::now()));
    assert!(!fence.holds());
    fence.until(Some(Instant::now() + seconds(60)));
    fence.until(None);
    assert!(!fence.holds());
}

/// What happens to one replica next.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// It sees the Lease as it is.
    Sees,
    /// It does what is to be done, and its write arrives so much later, if it arrives, and is answered, or not.
    Acts { arrives_after: u64, arrives: bool, answered: bool },
    /// It gives the Lease back and ends; another one starts in its place.
    Ends,
    /// It is killed; another one starts in its place.
    Dies,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => Just(Happens::Sees),
        8 => (prop_oneof![8 => 0..500_u64, 1 => 0..30_000_u64], prop::bool::weighted(0.9), prop::bool::weighted(0.9))
            .prop_map(|(arrives_after, arrives, answered)| Happens::Acts { arrives_after, arrives, answered }),
        1 => Just(Happens::Ends),
        1 => Just(Happens::Dies),
    ]
}

/// A write on its way.
struct Sent {
    by: usize,
    me: String,
    replace: Option<Record>,
    begun: Instant,
    at: Instant,
    answered: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is delayed, lost, stopped or killed: never two that lead; and the Lease is free again in the end.
    #[test]
    fn never_two_lead(script in prop::collection::vec((0..3_usize, 0..4000_u64, happens()), 1..200)) {
        let mut now = Instant::now();
        let mut lease: Option<Record> = None;
        let mut version = 0_u64;
        let mut born = 3;
        let mut electors: Vec<Elector> = (0..3).map(|n| Elector::new(format!("r{n}"), TIMING)).collect();
        let mut sent: Vec<Sent> = Vec::new();
        for (who, later, what) in script {
            let until = now + Duration::from_millis(later);
            // What is on its way arrives.
            sent.sort_by_key(|write| std::cmp::Reverse(write.at));
            while sent.last().is_some_and(|write| write.at <= until) {
                let write = sent.pop().unwrap();
                now = now.max(write.at);
                let matches = lease.as_ref().map(|l| &l.version) == write.replace.as_ref().map(|l| &l.version);
                if matches {
                    version += 1;
                    let record = held(&write.me, &version.to_string());
                    lease = Some(record.clone());
                    if write.answered && electors[write.by].me == write.me {
                        electors[write.by].wrote(write.begun, record, now);
                    }
                } else if write.answered && electors[write.by].me == write.me {
                    electors[write.by].failed(now);
                }
                check(&electors, now)?;
            }
            now = until;
            let elector = &mut electors[who];
            let busy = sent.iter().any(|write| write.by == who && write.me == elector.me);
            match what {
                Happens::Sees => elector.see_newer(lease.clone(), now),
                Happens::Acts { .. } if busy => {}
                Happens::Acts { arrives_after, arrives, answered } => match elector.step(now) {
                    Step::Write { replace } => {
                        let at = now + Duration::from_millis(arrives_after);
                        let me = elector.me.clone();
                        if arrives {
                            sent.push(Sent { by: who, me, replace, begun: now, at, answered });
                        }
                        if !arrives || !answered {
                            elector.failed(now);
                        }
                    }
                    Step::Wait(_) => {}
                    Step::Lost => {
                        *elector = Elector::new(format!("r{born}"), TIMING);
                        born += 1;
                    }
                },
                Happens::Ends | Happens::Dies => {
                    let ours = lease.as_ref().is_some_and(|record| record.holder == elector.me);
                    if matches!(what, Happens::Ends) && elector.until.is_some() && ours {
                        version += 1;
                        lease = Some(Record { lasts: seconds(1), ..held("", &version.to_string()) });
                    }
                    *elector = Elector::new(format!("r{born}"), TIMING);
                    born += 1;
                }
            }
            check(&electors, now)?;
        }
        // Left alone, somebody leads within two lease times.
        let end = now + seconds(60);
        while now < end && !electors.iter().any(|elector| elector.until.is_some_and(|until| until > now)) {
            now += Duration::from_millis(500);
            for elector in &mut electors {
                elector.see_newer(lease.clone(), now);
                match elector.step(now) {
                    Step::Write { replace } => {
                        if lease.as_ref().map(|l| &l.version) == replace.as_ref().map(|l| &l.version) {
                            version += 1;
                            let record = held(&elector.me, &version.to_string());
                            lease = Some(record.clone());
                            elector.wrote(now, record, now);
                        }
                    }
                    Step::Wait(_) => {}
                    Step::Lost => {
                        *elector = Elector::new(format!("r{born}"), TIMING);
                        born += 1;
                    }
                }
            }
        }
        prop_assert!(now < end, "nobody leads");
    }
}

fn check(electors: &[Elector], now: Instant) -> Result<(), TestCaseError> {
    let leading: Vec<_> = electors.iter().filter(|e| e.until.is_some_and(|until| until > now)).map(|e| &e.me).collect();
    prop_assert!(leading.len() <= 1, "{leading:?}");
    Ok(())
}
