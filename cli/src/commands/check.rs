//! `bulla check`

use std::path::{Path, PathBuf};

use bulla::recipient::Recipient;

use super::Done;
use crate::check::excuse::{self, Baseline};
use crate::check::policy::Held;
use crate::check::registry::{ALL, by_id};
use crate::check::report::Wanted;
use crate::check::root::Root;
use crate::check::scan::File;
use crate::check::words::Words;
use crate::check::{Outcome, git, output as told, walk};
use crate::cli::{CheckArgs, ReportFormat};
use crate::failure::{Failure, Result};
use crate::output::plain::count;
use crate::policy::{Date, Policy};
use crate::{files, output};

pub fn run(args: &CheckArgs) -> Result<Done> {
    if let Some(id) = &args.explain {
        return explain(id);
    }
    let reports: Vec<Wanted> = args.report.iter().map(|text| Wanted::parse(text)).collect::<Result<_>>()?;
    let json = args.output == ReportFormat::Json;
    if reports.iter().filter(|report| report.is_stdout()).count() + usize::from(json) > 1 {
        return Err(
            Failure::usage("two documents for standard output").help("--report FORMAT=FILE, or leave -o json out")
        );
    }
    let words = Words::default();
    let today = match &args.today {
        Some(text) => Date::parse(text).ok_or_else(|| Failure::usage("--today is YYYY-MM-DD"))?,
        None => Date::today(),
    };
    let at = args.paths.first().map_or(Path::new("."), PathBuf::as_path);
    let at = if files::is_stdin(at) { Path::new(".") } else { at };
    if std::fs::symlink_metadata(at).is_err() && !args.staged {
        return Err(crate::failure::io("read", at, &std::io::ErrorKind::NotFound.into()));
    }
    if args.staged && args.paths.iter().any(|path| files::is_stdin(path)) {
        return Err(Failure::usage("standard input can't be looked at together with anything else"));
    }
    let mut index = if args.staged { Some(git::Staged::open(at)?) } else { None };
    let held = match (&mut index, &args.recipients.policy) {
        (Some(index), None) => Held::of_index(index)?,
        (_, given) => Held::find(given.as_deref(), at, args.staged || args.history.is_some()),
    };
    let exclude = |path: &Path| held.excludes(path);
    let mut outcome = match &mut index {
        Some(index) => git::staged(&words, index, &args.paths, &exclude)?,
        None => look(args, &words, &exclude)?,
    };
    if args.fix && fix(args, &outcome)? {
        let plain = |outcome: &Outcome| outcome.findings.iter().filter(|finding| finding.rule.id == "BUL001").count();
        let before = plain(&outcome);
        outcome = look(args, &words, &exclude)?;
        if plain(&outcome) < before {
            output::warn(
                "Git's history keeps what was committed: change the values, then bulla set FILE KEY… (bulla check --history lists them)",
            );
        }
    }
    words.sound()?;
    let mut excused = 0;
    if args.history.is_none() {
        held.judge(&mut outcome, today);
        outcome.finish();
        excused += excuse::comments(&mut outcome);
    }
    let mut opens = None;
    if args.live {
        let policy = Policy::above(at).ok().flatten();
        let pinned = policy.as_deref().and_then(|policy| policy.of_cluster(&args.cluster));
        let reach = pinned.map_or_else(|| args.cluster.clone(), |pinned| pinned.reach(&args.cluster));
        let cluster = crate::cluster::connect_for_rewrap(&reach, true)?;
        let key = match (policy.as_deref(), pinned) {
            (Some(policy), Some(pinned)) => Some(policy.pin(pinned)?.listed.recipient),
            _ => {
                output::note(&format!(
                    "no key of {} is pinned: nothing proves that it is the one that answers",
                    cluster.context
                ));
                None
            }
        };
        opens = Some((live(&cluster, key.as_ref(), &mut outcome)?, cluster.context.clone()));
    }
    excused += held.excuse(&mut outcome, today, is_whole(args));
    let root = if args.staged || args.history.is_some() || args.paths.iter().any(|path| files::is_stdin(path)) {
        Root::none()
    } else {
        Root::here()
    };
    root.settle(&mut outcome);
    if let Some(path) = &args.baseline_write {
        let known = Baseline::write(path, &outcome.findings)?;
        let file = crate::failure::shown(path);
        let how = match held.baseline()? {
            Some(_) => String::new(),
            None => format!("; to use it: --baseline {file}, or check.baseline in .bulla.yaml"),
        };
        output::say(&format!("wrote {} to {file}{how}", count(known, "finding")));
        return Ok(Done::Well);
    }
    let baseline = match &args.baseline {
        Some(path) => Some(Baseline::read(path)?),
        None => held.baseline()?,
    };
    if let Some(baseline) = baseline {
        excused += baseline.apply(&mut outcome, is_whole(args));
    }
    root.settle(&mut outcome);
    outcome.sort();
    for report in &reports {
        report.write(&outcome, excused)?;
    }
    let text_on_stdout = !json && !reports.iter().any(Wanted::is_stdout);
    if json {
        output::document(told::json(&outcome, excused))?;
    } else {
        let mut text = String::new();
        for (index, finding) in outcome.findings.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&told::text(finding));
        }
        if text_on_stdout {
            output::coloured(&text)?;
        } else if !text.is_empty() {
            output::say(&text);
        }
    }
    notes(&outcome);
    output::say(&told::summary(&outcome, excused, opens.as_ref().map(|(count, context)| (*count, context.as_str()))));
    Ok(if outcome.findings.is_empty() || args.exit_zero { Done::Well } else { Done::Findings })
}

/// Whether all of the tree was looked at.
fn is_whole(args: &CheckArgs) -> bool {
    !args.staged && args.history.is_none() && (args.paths.is_empty() || args.paths == [PathBuf::from(".")])
}

fn look(args: &CheckArgs, words: &Words, exclude: &walk::Exclude<'_>) -> Result<Outcome> {
    let stdin = args.paths.iter().filter(|path| files::is_stdin(path)).count();
    if let Some(range) = &args.history {
        if !args.paths.is_empty() {
            return Err(Failure::usage("--history looks at whole commits: no PATH goes with it")
                .help("bulla check --history A..B"));
        }
        return git::history(words, Some(range.as_str()).filter(|range| *range != "--all"), exclude);
    }
    if stdin > 0 && (args.paths.len() > 1 || args.fix) {
        return Err(Failure::usage("standard input can't be looked at together with anything else, nor be mended"));
    }
    if stdin > 0 {
        let bytes = crate::input::stdin()?;
        if bytes.len() > bulla::manifest::MAX_TEXT {
            return Err(Failure::new(format!("standard input has more than {} bytes", bulla::manifest::MAX_TEXT)));
        }
        let mut outcome = Outcome::default();
        const NAME: &str = crate::check::root::STDIN;
        if let Some(report) = words.scan(&File { name: NAME, bytes: &bytes, generator: None, continued: false }) {
            outcome.add(NAME, report);
        }
        return Ok(outcome);
    }
    let here = [PathBuf::from(".")];
    walk::paths(words, if args.paths.is_empty() { &here } else { &args.paths }, exclude)
}

fn notes(outcome: &Outcome) {
    if !outcome.templated.is_empty() {
        let shown: Vec<&str> = outcome.templated.iter().take(3).map(String::as_str).collect();
        let more = if outcome.templated.len() > 3 { ", …" } else { "" };
        output::note(&format!(
            "{} templated and read as far as that goes; helm template … | bulla check - sees all ({}{more})",
            if outcome.templated.len() == 1 {
                "1 file is".to_owned()
            } else {
                format!("{} are", count(outcome.templated.len(), "file"))
            },
            shown.join(", ")
        ));
    }
    if !outcome.submodules.is_empty() {
        output::note(&format!("not looked at, repositories of their own: {}", outcome.submodules.join(", ")));
    }
    if outcome.shallow {
        output::note("this clone is shallow: its history was cut off, and what came before is not looked at");
    }
}

fn explain(id: &str) -> Result<Done> {
    if id.is_empty() {
        let mut text = String::new();
        for rule in ALL {
            text.push_str(&format!("{}  {:7}  {}\n", rule.id, rule.severity.as_str(), rule.summary));
        }
        output::data(text.as_bytes())?;
        return Ok(Done::Well);
    }
    let rule = by_id(id).ok_or_else(|| {
        Failure::missing(format!("there is no rule {}", crate::failure::printable(id)))
            .help("bulla check --explain lists them")
    })?;
    output::data(rule.text().as_bytes())?;
    Ok(Done::Well)
}

/// Asks the cluster whether the SealedSecrets open. Returns how many do.
fn live(cluster: &crate::cluster::Cluster, key: Option<&Recipient>, outcome: &mut Outcome) -> Result<usize> {
    let mut opens = 0;
    for (called, span, file, json) in std::mem::take(&mut outcome.live) {
        match cluster.verify(&json, key)? {
            None => opens += 1,
            Some(why) => {
                let message = format!("{called} does not open in {}: {why}", cluster.context);
                let mut finding = excuse::about(&crate::check::rules::bul112::RULE, &file, span, message);
                finding.object = format!("SealedSecret/{called}");
                finding.help.push("is it sealed for that cluster? bulla recipients --context NAME".into());
                outcome.findings.push(finding);
            }
        }
    }
    Ok(opens)
}

/// Seals what can be sealed where it stands. `true` when there was something.
fn fix(args: &CheckArgs, outcome: &Outcome) -> Result<bool> {
    let mut files: Vec<PathBuf> = outcome
        .findings
        .iter()
        .filter(|finding| finding.rule.id == "BUL001")
        .map(|finding| PathBuf::from(&finding.file))
        .collect();
    files.sort();
    files.dedup();
    files.retain(|file| crate::check::scan::sort(&file.display().to_string()) == crate::check::scan::Sort::Manifest);
    if files.is_empty() {
        return Ok(false);
    }
    super::seal::fix(&files, &args.recipients, &args.cluster)?;
    Ok(true)
}
