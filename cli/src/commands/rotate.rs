//! `bulla rotate`: each step is a command of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulla::recipient::{ListedRecipient, NameSource, Recipient, RecipientKind};
use bulla::resource::{KeyState, SealingKey};

use super::reseal::{By, Job, Keys, Mode, Rules, connect_to};
use super::{Done, keys};
use crate::cli::{RecipientArgs, ReportFormat, RotateArgs};
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Result};
use crate::policy::Policy;
use crate::recipients::Chooser;
use crate::{files, output, recipients, tree};

/// The controller's overlap where none is asked for.
const DEFAULT_PREFER_AFTER: u64 = 24 * 3600;
/// How long a controller may take over what it does at once.
const GRACE: u64 = 120;

pub fn run(args: &RotateArgs) -> Result<Done> {
    let paths = if args.paths.is_empty() { vec![PathBuf::from(".")] } else { args.paths.clone() };
    if let Some(path) = paths.iter().find(|path| files::is_stdin(path)) {
        return Err(Failure::usage(format!("rotate {}: it changes files; standard input is none", path.display())));
    }
    let after = keys::check_prefer_after(args.prefer_after.as_deref())?;
    let limit = limit(args, after)?;
    // What is misspelt is found out before there is a new key.
    tree::files(&paths)?;
    let nobody = RecipientArgs::default();
    let policy = Chooser::new(&nobody, &args.cluster).policy(paths.first().map_or(Path::new("."), PathBuf::as_path))?;
    let own = policy.as_deref().and_then(|policy| policy.of_cluster(&args.cluster));
    let cluster = connect_to(own, &args.cluster)?;
    let first = cluster.keys()?.is_empty();
    // Nor is a key made whose envelopes nobody could ask for. Who holds the key of today vouches for the next.
    let pinned = if first { None } else { cluster.published()?.preferred().map(|listed| listed.recipient.clone()) };
    if let Some(pinned) = &pinned {
        cluster.prove(pinned)?;
    }
    let created = keys::create_in(&cluster, None, args.format, args.prefer_after.as_deref())?;
    let name = created.metadata.name.clone().unwrap_or_default();
    output::say(&format!("created SealingKey {}/{name} in {}", cluster.namespace, cluster.context));
    let limit = if first { limit.or(Some(Duration::from_secs(GRACE))) } else { limit };
    let recipient = wait(&cluster, &name, limit)?;
    output::say(&format!("{} is published and preferred", recipient.fingerprint()));
    let published = match &pinned {
        Some(pinned) => cluster.prove(pinned)?,
        None => cluster.published()?,
    };
    if published.preferred().is_none_or(|listed| listed.recipient != recipient) {
        return Err(Failure::new(format!("{} is not the preferred recipient any more", recipient.fingerprint()))
            .help("bulla keys list; then bulla reseal PATH --live"));
    }
    // The pin is replaced before the files are: whoever seals meanwhile seals for the new key.
    let renewed = match (&policy, &pinned, published.preferred()) {
        (Some(policy), Some(old), Some(listed)) => renew(policy, old, listed)?,
        _ => None,
    };
    let name_of = match &renewed {
        Some(name) => NameSource::Policy(name.clone()),
        None => published.name.clone().map_or(NameSource::None, NameSource::Comment),
    };
    let targets = recipients::targets(vec![(recipient.clone(), name_of)], false)?;
    let chooser = Chooser::new(&nobody, &args.cluster);
    let rules = || renewed.as_ref().map(|_| Rules::new(&chooser, &[], true));
    let job = Job {
        targets: &targets,
        rules: rules(),
        by: By::Cluster(&cluster),
        mode: Mode::Write,
        fresh: false,
        keys: Keys::wanted(args.output == ReportFormat::Json),
    };
    let report = job.run(&paths)?;
    let done = if args.output == ReportFormat::Json {
        let key = keys::entry(&cluster.key(&name)?);
        let mut document = report.json(&job);
        if let Some(object) = document.as_object_mut() {
            object.insert("key".into(), key);
        }
        output::document(document)?;
        report.exit().map_or(Done::Well, |_| Done::Failed)
    } else {
        report.tell(&job, ReportFormat::Text)?
    };
    still_needed(&cluster, &targets, rules(), &paths)?;
    if renewed.is_none() {
        output::say("files with the cluster's recipients are of the old key now: bulla recipients > FILE.pub");
    }
    Ok(done)
}

/// Puts the new key where the policy pins the old one, which has vouched for it; the name of that recipient.
fn renew(policy: &Policy, old: &Recipient, listed: &ListedRecipient) -> Result<Option<String>> {
    for pinned in &policy.recipients {
        let pin = policy.pin(pinned)?;
        if pin.listed.recipient != *old {
            continue;
        }
        if (old.kind(), listed.recipient.kind()) == (RecipientKind::Hybrid, RecipientKind::Classical) {
            return Err(Failure::new("the new key is classical, and the pinned one hybrid: the pin stays").help(
                format!("bulla recipients update {} --accept {}", pin.name, listed.recipient.full_fingerprint()),
            ));
        }
        super::recipients::replace_pin(policy, pinned, listed)?;
        output::say(&format!("{} holds the new key of {}: commit it with the files", pinned.file.value, pin.name));
        return Ok(Some(pin.name));
    }
    output::warn(&format!("the old key is no recipient of {}, and no pin was changed", policy.file));
    Ok(None)
}

/// How long is waited; `None` for as long as it takes.
fn limit(args: &RotateArgs, after: Option<u64>) -> Result<Option<Duration>> {
    let waiting = after.unwrap_or(DEFAULT_PREFER_AFTER);
    match &args.timeout {
        Some(text) => {
            let Some(seconds) = keys::seconds(text) else {
                return Err(Failure::usage(format!("--timeout {text}: not a duration")).help("as in 90s, 5m, 30h"));
            };
            if seconds < waiting {
                return Err(Failure::usage(format!(
                    "--timeout {text} is shorter than the time until the new key is preferred ({})",
                    args.prefer_after.as_deref().unwrap_or("24h")
                ))
                .help("a longer --timeout, or --prefer-after 0s: then it is preferred at once"));
            }
            Ok(Some(Duration::from_secs(seconds.max(1))))
        }
        None if waiting == 0 => Ok(Some(Duration::from_secs(GRACE))),
        None if output::on_terminal() => Ok(None),
        None => Err(Failure::usage(format!(
            "the new key is preferred only after {}, and nobody is there to interrupt the waiting",
            args.prefer_after.as_deref().unwrap_or("24h")
        ))
        .help("--timeout T says how long; --prefer-after 0s makes it preferred at once")),
    }
}

/// Waits until a key is preferred and the ConfigMap says so too.
fn wait(cluster: &Cluster, name: &str, limit: Option<Duration>) -> Result<Recipient> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(200);
    let mut told = false;
    loop {
        let waited = begin.elapsed();
        let key = match look(cluster, name) {
            Ok(Look::Ready(recipient)) => return Ok(recipient),
            Ok(Look::NotYet(key)) => *key,
            // A cluster that is away for a while in a day of waiting has not failed.
            Err(failure) if failure.exit == Exit::Unavailable && limit.is_none_or(|limit| waited < limit) => {
                std::thread::sleep(pause);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if limit.is_some_and(|limit| waited >= limit) {
            let state = match &key.status {
                None => "the controller has not seen it: is it running?",
                Some(status) if status.published_at.is_none() => "the controller has not published it",
                Some(status) if status.preferred_at.is_none() => "it is published, and another is preferred still",
                Some(_) => "the ConfigMap bulla-recipients does not show it as the preferred one yet",
            };
            return Err(Failure::unavailable(format!(
                "after {} s the new key {name} is not in use: {state}",
                waited.as_secs()
            ))
            .help("it stays; bulla keys list shows it. When it is preferred: bulla reseal PATH --live"));
        }
        if waited > Duration::from_secs(5) && !told {
            output::say("waiting until it is preferred; when interrupted: bulla reseal PATH --live goes on from there");
            told = true;
        }
        let left = limit.map_or(pause, |limit| limit.saturating_sub(waited).max(Duration::from_millis(50)));
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

enum Look {
    Ready(Recipient),
    NotYet(Box<SealingKey>),
}

fn look(cluster: &Cluster, name: &str) -> Result<Look> {
    let key = cluster.key(name)?;
    let Some(recipient) = ready(&key)? else { return Ok(Look::NotYet(Box::new(key))) };
    match cluster.published() {
        Ok(published) if published.preferred().is_some_and(|listed| listed.recipient == recipient) => {
            Ok(Look::Ready(recipient))
        }
        Ok(_) => Ok(Look::NotYet(Box::new(key))),
        // The first key's ConfigMap comes after it.
        Err(failure) if failure.exit == Exit::Missing => Ok(Look::NotYet(Box::new(key))),
        Err(failure) => Err(failure),
    }
}

/// The recipient of a key that is published and preferred.
fn ready(key: &SealingKey) -> Result<Option<Recipient>> {
    let Some(status) = &key.status else { return Ok(None) };
    if let Some(state) = status.state
        && state != KeyState::Active
    {
        return Err(Failure::new(format!("the new key became {state:?} meanwhile")).help("bulla keys list"));
    }
    let (Some(_), Some(_), Some(text)) = (&status.published_at, &status.preferred_at, &status.recipient) else {
        return Ok(None);
    };
    let wrong = || Failure::unavailable("the new key's recipient in its status is malformed");
    let recipient: Recipient = text.trim().parse().map_err(|_| wrong())?;
    if status.fingerprint.as_ref().is_some_and(|fingerprint| *fingerprint != recipient.fingerprint().to_string()) {
        return Err(wrong());
    }
    Ok(Some(recipient))
}

/// Says which files an older key is needed for still.
fn still_needed(
    cluster: &Cluster,
    targets: &bulla::recipient::Targets,
    rules: Option<Rules<'_>>,
    paths: &[PathBuf],
) -> Result<()> {
    let check =
        Job { targets, rules, by: By::Cluster(cluster), mode: Mode::Check, fresh: false, keys: Keys::default() };
    let left = check.run(paths)?;
    let files: Vec<_> = left.pending().collect();
    if files.is_empty() && left.failures() == 0 {
        output::say(
            "nothing here needs an older key. Other branches and clusters may: see bulla keys list before retiring one",
        );
        return Ok(());
    }
    output::warn(&format!(
        "{} still needed for {}:",
        if files.len() + left.failures() == 1 { "an older key is" } else { "older keys are" },
        output::plain::count(files.len() + left.failures(), "file")
    ));
    for (file, envelopes) in files {
        output::say(&format!("  {file}: {}", output::plain::count(envelopes, "envelope")));
    }
    if left.failures() > 0 {
        output::say(&format!(
            "  and {} that can't be read, as said above",
            output::plain::count(left.failures(), "file")
        ));
    }
    Ok(())
}
