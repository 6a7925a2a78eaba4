//! What came of it, for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::model::Kind;
use super::world::World;
use super::{Options, Round};

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Figures, as markdown.
pub fn text(
    options: &Options,
    world: &World,
    rounds: &[Round],
    started: Duration,
    healed: Duration,
    requests: &BTreeMap<(String, String), u64>,
) -> String {
    let mut out = String::new();
    let counts = world.model.with(|state| state.counts);
    let good = world.model.with(|state| state.good.len());
    let theirs = world.model.with(|state| state.good.keys().filter(|name| Kind::of(name) != Kind::Native).count());
    let all: Duration = rounds.iter().map(|round| round.took + round.healed).sum();
    // Into memory: it can't fail.
    let mut line = |text: String| writeln!(out, "{text}").unwrap_or_default();
    line(format!(
        "Seed `{:#x}`, {} objects at the start, kube-apiserver {}.",
        options.seed,
        options.objects,
        world.plane.version()
    ));
    line(String::new());
    line("| | |\n|---|---:|".to_owned());
    line(format!("| rounds | {} |", rounds.len()));
    line(format!("| faults | {} |", rounds.iter().map(|round| round.faults.len()).sum::<usize>()));
    line(format!("| time in which things went wrong | {} |", seconds(all)));
    line(format!("| first start, with the leader killed again and again | {} |", seconds(started)));
    line(format!(
        "| good objects created, changed, deleted | {}, {}, {} |",
        counts.created, counts.changed, counts.deleted
    ));
    line(format!("| Secrets changed or deleted by somebody else | {} |", counts.spoilt));
    line(format!("| bad objects; more that the API server did not take | {}; {} |", counts.bad, counts.refused));
    line(format!("| good objects at the end, of them of bitnami.com | {good}, {theirs} |"));
    line(format!("| from the last fault until everything was right | {} |", seconds(healed)));
    for replica in &world.replicas {
        let (starts, lost, peak) = replica.figures();
        line(format!(
            "| replica {}: starts, of them after a lost Lease; peak of memory | {starts}, {lost}; {peak:.1} MiB |",
            replica.number
        ));
    }
    line(String::new());
    line("From apply to Secret for an object that came when the fault was over, and, where nothing should have been in its way, for \
          one that came meanwhile:".to_owned());
    line(String::new());
    line(
        "| Fault | Times | Longest | After it: median | longest | Meanwhile: longest |\n|---|---:|---:|---:|---:|---:|"
            .to_owned(),
    );
    let mut by_fault: BTreeMap<&str, Vec<&Round>> = BTreeMap::new();
    for round in rounds {
        for fault in &round.faults {
            by_fault.entry(fault).or_default().push(round);
        }
    }
    for (fault, rounds) in by_fault {
        let mut after: Vec<_> = rounds.iter().map(|round| round.healed).collect();
        after.sort();
        let longest = rounds.iter().map(|round| round.took).max().unwrap_or_default();
        let meanwhile = rounds.iter().filter_map(|round| round.meanwhile).max();
        line(format!(
            "| {fault} | {} | {} | {:.2} s | {:.2} s | {} |",
            rounds.len(),
            seconds(longest),
            after.get(after.len().saturating_sub(1) / 2).copied().unwrap_or_default().as_secs_f64(),
            after.last().copied().unwrap_or_default().as_secs_f64(),
            meanwhile.map(|time| format!("{:.2} s", time.as_secs_f64())).unwrap_or_default(),
        ));
    }
    line(String::new());
    line("Requests since the API server was started last, everybody's:".to_owned());
    line(String::new());
    for ((verb, resource), count) in requests {
        let counts = [
            "secrets",
            "sealedsecrets.bulla.dev",
            "sealedsecrets.bulla.dev/status",
            "sealedsecrets.bitnami.com",
            "sealedsecrets.bitnami.com/status",
            "leases.coordination.k8s.io",
        ];
        if counts.contains(&resource.as_str()) {
            line(format!("- {count} {verb} {resource}"));
        }
    }
    out
}

/// What is wrong, if anything is.
pub fn wrongs(wrong: &[String]) -> String {
    if wrong.is_empty() {
        return "\nAt the end every good SealedSecret had its Secret, with its values and one owner; no Secret of somebody else was \
                touched and none was made of a bad object; no Secret was written that nobody had a reason to write; no plaintext \
                and no private key was in any log, status, event or metric, raw or in base64; and a restart wrote nothing.\n"
            .to_owned();
    }
    let mut out = format!("\n**{} things are wrong**:\n\n", wrong.len());
    for text in wrong {
        writeln!(out, "- {}", text.lines().next().unwrap_or_default()).unwrap_or_default();
    }
    out
}
