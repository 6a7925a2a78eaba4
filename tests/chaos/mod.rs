//! Chaos, on the real control plane: everything that can go wrong goes wrong while objects come, change and go, and at the
//! end every good SealedSecret has its Secret, none was lost, none is owned by two, and nothing showed a plaintext.
//!
//! The schedule comes from a seed, which is printed: the same seed is the same schedule. What the machine makes of it differs.

// What happens is printed as it happens.
#![allow(clippy::print_stderr)]

mod check;
mod faults;
mod hostile;
mod http;
mod model;
mod random;
mod relay;
mod replica;
mod report;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use faults::{ALL, Fault};
use model::{Model, Name};
use random::Random;
use world::{Pace, World};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the schedule comes from.
    pub seed: u64,
    /// Good objects at the start.
    pub objects: usize,
    /// For how long things go wrong; what is begun is ended.
    pub lasts: Duration,
    /// Short leases and short faults, one at a time.
    pub short: bool,
    /// The controller.
    pub program: PathBuf,
}

const SHORT: Pace = Pace {
    lease: Duration::from_secs(3),
    renewal: (Duration::from_secs(2), Duration::from_millis(400)),
    lasts: (Duration::from_millis(500), Duration::from_millis(2000)),
    soon: Duration::from_secs(60),
    healed: Duration::from_secs(90),
    change: Duration::from_millis(40),
    hostile: hostile::KINDS.len(),
};

/// The leases as they are shipped.
const LONG: Pace = Pace {
    lease: Duration::from_secs(15),
    renewal: (Duration::from_secs(10), Duration::from_secs(2)),
    lasts: (Duration::from_secs(3), Duration::from_secs(25)),
    soon: Duration::from_secs(180),
    healed: Duration::from_secs(420),
    change: Duration::from_millis(150),
    hostile: 3 * hostile::KINDS.len(),
};

/// One round: what went wrong, and how long it took until an object that was applied afterwards had its Secret.
#[derive(Clone, Debug)]
pub struct Round {
    /// What went wrong, at once.
    pub faults: Vec<&'static str>,
    /// For how long.
    pub took: Duration,
    /// From apply to Secret afterwards.
    pub healed: Duration,
    /// From apply to Secret meanwhile, where nothing should have been in the way.
    pub meanwhile: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// In order.
    pub rounds: Vec<Round>,
    /// What is wrong at the end.
    pub wrong: Vec<String>,
    /// For a person, as markdown.
    pub report: String,
}

/// Lets everything go wrong, and looks at what is left.
///
/// # Errors
/// When the world cannot be made, or stops answering for longer than anything takes.
pub async fn run(options: &Options) -> Result<Outcome> {
    let pace = if options.short { SHORT } else { LONG };
    eprintln!("chaos: seed {:#x}, {} objects, {:?}", options.seed, options.objects, options.lasts);
    let world = World::new(options.seed, options.program.clone(), pace).await?;
    let mut random = Random::new(options.seed);
    let begun = Instant::now();

    // The first start is disturbed already: the leader is killed again and again while it works off what is there.
    let quiet: Vec<Name> = (0..options.objects).map(|n| (format!("calm-{}", n % 20), format!("o{n}"))).collect();
    for number in 0..20.min(options.objects) {
        world.namespace(&format!("calm-{number}"), None).await?;
    }
    let mut moments = random.clone();
    let killing = async {
        loop {
            tokio::time::sleep(moments.between(pace.lasts.0, pace.lasts.1 * 2)).await;
            if let Ok(leader) = world.leader().await {
                leader.signal(crate::Signal::Kill);
            }
        }
    };
    // A bad one for every tenth good one, at least one of each kind, among them.
    let bad = (options.objects / 10).max(hostile::KINDS.len());
    let mut all: Vec<Planned> = quiet.iter().map(Planned::Good).collect();
    all.extend((0..bad).map(|number| Planned::Bad(number, Random::new(random.next()))));
    random.shuffle(&mut all);
    let making = stream::iter(all)
        .map(|planned| planned.make(&world.model, options.objects))
        .buffer_unordered(16)
        .try_collect::<Vec<()>>();
    tokio::select! {
        made = making => drop(made?),
        () = killing => {}
    }
    settle(&world).await.context("after the first start")?;
    let calm = check::calm_down(&world, "calm-").await?;
    let started = begun.elapsed();
    eprintln!("chaos: {calm} objects are there after {started:?}");

    let (stop, stopped) = watch::channel(false);
    let busy = random.clone();
    let rounds = async {
        let rounds = rounds(&world, options, &mut random).await;
        stop.send_replace(true);
        rounds
    };
    let (rounds, loaded) = tokio::join!(rounds, load(&world.model, busy, pace, stopped));
    loaded.context("the load")?;
    let rounds = rounds?;

    // Nothing goes wrong any more.
    let healing = Instant::now();
    let mut wrong = match settle(&world).await {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("{error:#}")],
    };
    let healed = healing.elapsed();
    wrong.extend(check::shown(&world).await?);
    wrong.extend(restart(&world).await?);
    let requests = world.plane.apiserver_requests().await?;
    let report = report::text(options, &world, &rounds, started, healed, &requests);
    wrong.extend(world.replicas.iter().flat_map(|replica| replica.faults()));
    let report = format!("{report}{}", report::wrongs(&wrong));
    world.end().await?;
    Ok(Outcome { rounds, wrong, report })
}

/// An object of the start.
enum Planned<'a> {
    Good(&'a Name),
    Bad(usize, Random),
}

impl Planned<'_> {
    async fn make(self, model: &Model, objects: usize) -> Result<()> {
        match self {
            Planned::Good(name) => model.make(name).await,
            Planned::Bad(number, mut random) => {
                let kind = hostile::KINDS[number % hostile::KINDS.len()];
                let name = (format!("calm-{}", number % 20.min(objects)), format!("bad-{number}"));
                model.plant(hostile::make(model, &mut random, &name, kind)?, kind).await
            }
        }
    }
}

/// The schedule, before anything happens: which faults in which round, and for how long.
fn schedule(random: &mut Random, pace: Pace, short: bool) -> impl Iterator<Item = (Vec<Fault>, Duration)> {
    let mut deck: Vec<Fault> = Vec::new();
    std::iter::from_fn(move || {
        if deck.is_empty() {
            deck = ALL.iter().copied().filter(|fault| !short || !fault.takes_minutes()).collect();
            random.shuffle(&mut deck);
        }
        let first = deck.pop()?;
        let mut faults = vec![first];
        // Every third time something that concerns some objects comes on top.
        if !short && random.below(3) == 0 {
            let others: Vec<&Fault> = ALL.iter().filter(|fault| fault.harmless && **fault != first).collect();
            faults.extend(random.pick(&others).map(|fault| **fault));
        }
        Some((faults, random.between(pace.lasts.0, pace.lasts.1)))
    })
}

async fn rounds(world: &World, options: &Options, random: &mut Random) -> Result<Vec<Round>> {
    let (mut rounds, begun) = (Vec::new(), Instant::now());
    let mut details = random.clone();
    for (number, (faults, lasts)) in schedule(random, world.pace, options.short).enumerate() {
        if begun.elapsed() > options.lasts {
            break;
        }
        let what: Vec<_> = faults.iter().map(|fault| fault.what).collect();
        let start = Instant::now();
        let mut chances = [Random::new(details.next()), Random::new(details.next())];
        let [first, second] = &mut chances;
        let second = async {
            match faults.get(1) {
                Some(fault) => fault.happen(world, second, lasts, number * 2 + 1).await.with_context(|| fault.what),
                None => Ok(()),
            }
        };
        let meanwhile = async {
            // Not beside another fault, and not when there is no time for it.
            let alone = faults.len() == 1 && faults[0].harmless;
            if alone { world.canary(number * 2 + 1).await.map(Some) } else { Ok(None) }
        };
        let first = async {
            let fault = &faults[0];
            fault.happen(world, first, lasts, number * 2).await.with_context(|| fault.what)
        };
        let (first, second, meanwhile) = tokio::join!(first, second, meanwhile);
        first?;
        second?;
        let (took, meanwhile) = (start.elapsed(), meanwhile?);
        let healed = world.canary(number * 2).await.with_context(|| format!("after {what:?}"))?;
        eprintln!(
            "chaos: {:>5.0?} {:<60} for {took:>6.1?}, healed in {healed:>6.2?}{}",
            begun.elapsed(),
            what.join(" + "),
            meanwhile.map(|time| format!(", meanwhile {time:.2?}")).unwrap_or_default()
        );
        let broken: Vec<_> = world.replicas.iter().flat_map(|replica| replica.faults()).collect();
        ensure!(broken.is_empty(), "after {what:?}: {broken:#?}");
        rounds.push(Round { faults: what, took, healed, meanwhile });
    }
    Ok(rounds)
}

/// Waits until nothing is wrong.
async fn settle(world: &World) -> Result<()> {
    let deadline = Instant::now() + world.pace.healed;
    loop {
        let wrong = check::wrongs(world).await?;
        if wrong.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let (count, first): (usize, Vec<_>) = (wrong.len(), wrong.into_iter().take(20).collect());
            bail!("{count} wrong after {:?}, as {first:#?}\n{}", world.pace.healed, world.logs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// With nothing to do a new start does nothing, whatever was before.
async fn restart(world: &World) -> Result<Vec<String>> {
    check::calm_down(world, "").await?;
    for replica in &world.replicas {
        replica.hold(true);
        replica.signal(crate::Signal::Term);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for replica in &world.replicas {
        replica.hold(false);
    }
    world.leader().await?;
    world.canary(usize::MAX).await?;
    Ok(match settle(world).await {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("after a restart with nothing to do: {error:#}")],
    })
}

/// Objects come, change and go, and somebody spoils Secrets.
async fn load(model: &Model, mut random: Random, pace: Pace, stop: watch::Receiver<bool>) -> Result<()> {
    let mut number = 0;
    while !*stop.borrow() {
        let busy = |(namespace, name): &Name| namespace.starts_with("busy-") && name.starts_with("load-");
        // Twice each: three times in a minute is a fight, and then it waits for ten minutes.
        let names: Vec<(Name, bool)> = model.with(|state| {
            let there = state.good.iter().filter(|(name, _)| busy(name));
            there.map(|(name, good)| (name.clone(), good.spoilt < 2 && good.revision < 50)).collect()
        });
        let chosen = random.pick(&names).cloned();
        match (random.below(10), chosen) {
            (0..=2, _) | (_, None) if names.len() < 200 => {
                model.make(&(format!("busy-{}", number % 4), format!("load-{number}"))).await?;
                number += 1;
            }
            (3..=5, Some((name, _))) => model.make(&name).await?,
            (6, Some((name, _))) => model.remove(&name).await?,
            (7..=9, Some((name, true))) => model.spoil(&name, random.below(2) == 0).await?,
            _ => {}
        }
        tokio::time::sleep(random.between(pace.change / 2, pace.change * 2)).await;
    }
    Ok(())
}
