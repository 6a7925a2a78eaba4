//! `bulla git`: what Git calls, and what teaches it to.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bulla::diff::{envelopes_of, readers, sealed_in};
use bulla::manifest::Stream;
use bulla::merge::{Conflict, ConflictKind, Helpers, Outcome, Side, merge};
use zeroize::Zeroizing;

use super::Done;
use crate::cli::{GitArgs, GitCommand, GitSetupArgs, MergeArgs, ResolveArgs, SideArg};
use crate::failure::{self, Failure, Result, printable, quoted, shown};
use crate::files::{self, Original};
use crate::git::{Blob, Repo};
use crate::output;
use crate::policy::Policy;

pub fn run(args: &GitArgs) -> Result<Done> {
    match &args.command {
        GitCommand::Setup(args) => setup(args),
        GitCommand::Remove => remove(),
        GitCommand::Resolve(args) => resolve(args),
        GitCommand::Textconv(args) => textconv(&args.file),
        GitCommand::Merge(args) => driver(args),
    }
}

// --- setup

const ATTRIBUTES: [&str; 3] = [
    "*.sealed.yaml diff=bulla merge=bulla",
    "*.sealed.yml diff=bulla merge=bulla",
    "*.sealed.json diff=bulla merge=bulla",
];
const MARK: &str = "# bulla: made by bulla git setup --hook";

fn program() -> Result<String> {
    let path = std::env::current_exe()
        .map_err(|error| Failure::new(format!("this program does not know where it is: {error}")))?;
    path.into_os_string().into_string().map(|path| quoted(&path)).map_err(|_| {
        Failure::new("the path of this program is not UTF-8, and Git's configuration is").help("install it elsewhere")
    })
}

fn setup(args: &GitSetupArgs) -> Result<Done> {
    let repo = Repo::at(Path::new("."))?;
    let root = repo.root()?.to_owned();
    let program = program()?;
    let values = [
        ("diff.bulla.textconv", format!("{program} git textconv")),
        ("diff.bulla.cachetextconv", "false".into()),
        ("merge.bulla.name", "sealed files, item by item".into()),
        ("merge.bulla.driver", format!("{program} git merge %O %A %B %L %P")),
        // The common ancestor of a criss-cross merge: better an old one than one with conflict markers.
        ("merge.bulla.recursive", "binary".into()),
    ];
    for (key, value) in &values {
        repo.run(&["config", "--local", "--replace-all", key, value])?;
    }
    let path = root.join(".gitattributes");
    let wanted: Vec<&str> = ATTRIBUTES.into();
    match files::destination(&path)? {
        files::Destination::New => files::create(&path, format!("{}\n", wanted.join("\n")).as_bytes())?,
        files::Destination::There(original) => {
            let text = String::from_utf8_lossy(&original.bytes).into_owned();
            let missing: Vec<&str> =
                wanted.into_iter().filter(|line| !text.lines().any(|there| there.trim() == *line)).collect();
            if !missing.is_empty() {
                let mut bytes = original.bytes.to_vec();
                if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
                bytes.extend_from_slice(format!("{}\n", missing.join("\n")).as_bytes());
                original.replace(&bytes)?;
            }
        }
        files::Destination::Special => return Err(Failure::new(".gitattributes is no regular file")),
    }
    output::say("git diff shows and git merge merges *.sealed.yaml by bulla in this clone; commit .gitattributes");
    if args.hook {
        hook(&repo, &program)?;
    }
    Ok(Done::Well)
}

fn hook(repo: &Repo, program: &str) -> Result<()> {
    let path = repo.own_path("hooks/pre-commit")?;
    let text = format!("#!/bin/sh\n{MARK}\nexec {program} check --staged\n");
    match std::fs::read(&path) {
        Ok(there) if String::from_utf8_lossy(&there).contains(MARK) => {
            let original = Original::read(&path)?;
            if *original.bytes != *text.as_bytes() {
                original.replace(text.as_bytes())?;
            }
        }
        Ok(_) => {
            return Err(Failure::new(format!("{} is there already and is not overwritten", shown(&path)))
                .help(format!("add this line to it: {program} check --staged || exit 1")));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|error| failure::io("make", folder, &error))?;
            }
            files::create(&path, text.as_bytes())?;
        }
        Err(error) => return Err(failure::io("read", &path, &error)),
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| failure::io("make executable", &path, &error))?;
    output::say(&format!("{} runs bulla check --staged before each commit", shown(&path)));
    Ok(())
}

fn remove() -> Result<Done> {
    let repo = Repo::at(Path::new("."))?;
    for section in ["diff.bulla", "merge.bulla"] {
        // 128: there is no such section.
        repo.raw(&["config", "--local", "--remove-section", section])?;
    }
    let path = repo.root()?.join(".gitattributes");
    if path.is_file() {
        let original = Original::read(&path)?;
        let kept: Vec<u8> = original
            .bytes
            .split_inclusive(|b| *b == b'\n')
            .filter(|line| !ATTRIBUTES.iter().any(|ours| line.trim_ascii() == ours.as_bytes()))
            .flatten()
            .copied()
            .collect();
        if kept.is_empty() && !original.bytes.is_empty() {
            std::fs::remove_file(&path).map_err(|error| failure::io("remove", &path, &error))?;
        } else if kept != *original.bytes {
            original.replace(&kept)?;
        }
    }
    let hook = repo.own_path("hooks/pre-commit")?;
    if std::fs::read(&hook).is_ok_and(|text| String::from_utf8_lossy(&text).contains(MARK)) {
        std::fs::remove_file(&hook).map_err(|error| failure::io("remove", &hook, &error))?;
    }
    output::say("git shows and merges sealed files as any others in this clone");
    Ok(Done::Well)
}

// --- textconv

/// The first digits of a fingerprint of a text that anybody can see.
fn short(text: &str) -> String {
    bulla::digest::inputs_digest(&[text.as_bytes()]).chars().skip(1).take(10).collect()
}

fn textconv(path: &Path) -> Result<Done> {
    let bytes = files::read(path)?;
    match readable(&bytes) {
        Ok(text) => output::data(text.as_bytes())?,
        Err(why) => {
            // What can't be read is shown as it is: a diff must never hide it.
            output::data(format!("# bulla: this file is shown as it is: {}\n", printable(&why)).as_bytes())?;
            output::data(&bytes)?;
        }
    }
    Ok(Done::Well)
}

/// A file with a few words in the place of each sealed text, all else as it is.
fn readable(bytes: &[u8]) -> std::result::Result<Zeroizing<String>, String> {
    let stream = Stream::read(bytes).map_err(|error| error.message)?;
    let mut splices: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    for found in sealed_in(&stream).map_err(|error| error.message)? {
        let (spec, places) = (&found.object.spec, &found.view.places);
        let Some(object) = stream.object(found.index) else { continue };
        let spec_node = object.node().get("spec");
        for (key, item) in &spec.items {
            if found.bitnami {
                // The value of spec.data has no key of an item before it.
                let Some(place) = places.items.get(key) else { continue };
                let name = if place.key == place.sealed { String::new() } else { format!("{}: ", printable(key)) };
                splices.push((place.key.start..place.sealed.end, format!("{name}sealed {}", short(&item.sealed))));
                continue;
            }
            let node = spec_node.and_then(|node| node.get("items")).and_then(|node| node.get(key));
            let (Some(node), Some(place)) = (node, places.items.get(key)) else { continue };
            let lines = envelopes_of(spec, item);
            let whom: Vec<String> = readers(lines)
                .into_iter()
                .map(|r| {
                    let fingerprint = r.fingerprint.map_or_else(|| "damaged".into(), |f| f.to_string());
                    let wrapped = lines.get(&r.name).map(|text| short(text)).unwrap_or_default();
                    if item.envelopes.is_some() && !wrapped.is_empty() {
                        format!("{} {fingerprint} ({wrapped})", printable(&r.name))
                    } else {
                        printable(&r.name)
                    }
                })
                .collect();
            let text = format!("{}: sealed {}, for {}", printable(key), short(&item.sealed), whom.join(", "));
            splices.push((place.key.start..node.span.end, text));
        }
        for (name, (key, value)) in &places.envelopes.lines {
            let Some(text) = spec.envelopes.get(name) else { continue };
            let whom = bulla::diff::fingerprint(text).map_or_else(|| "damaged".to_owned(), |f| f.to_string());
            splices.push((key.start..value.end, format!("{}: {whom} ({})", printable(name), short(text))));
        }
    }
    splices.sort_by_key(|(range, _)| range.start);
    let text = stream.text();
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let mut from = 0;
    for (range, with) in &splices {
        out.push_str(text.get(from..range.start).ok_or("its parts overlap")?);
        out.push_str(with);
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    Ok(out)
}

// --- merging

/// Merges lines as git does: base, ours, theirs.
fn merge_lines(texts: [&[u8]; 3], favour: Option<Side>, marker_size: u16) -> Result<(Vec<u8>, bool)> {
    let file = |bytes: &[u8]| -> Result<tempfile::NamedTempFile> {
        let inner = || {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(bytes)?;
            file.flush()?;
            Ok(file)
        };
        inner().map_err(|error: std::io::Error| Failure::new(format!("can't write a temporary file: {error}")))
    };
    let [base, ours, theirs] = [file(texts[0])?, file(texts[1])?, file(texts[2])?];
    let mut command = Command::new("git");
    command.args(["merge-file", "-p", "-q", "-L", "ours", "-L", "base", "-L", "theirs"]);
    command.arg(format!("--marker-size={marker_size}"));
    match favour {
        Some(Side::Ours) => _ = command.arg("--ours"),
        Some(Side::Theirs) => _ = command.arg("--theirs"),
        _ => {}
    }
    command.args([ours.path(), base.path(), theirs.path()]).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(|error| Failure::new(format!("git can't be run: {error}")))?;
    match output.status.code() {
        Some(0) => Ok((output.stdout, true)),
        Some(1..=127) => Ok((output.stdout, false)),
        _ => Err(Failure::new(format!(
            "git merge-file failed: {}",
            printable(String::from_utf8_lossy(&output.stderr).trim())
        ))),
    }
}

/// What a merge of three files is.
enum Merged {
    Clean(Zeroizing<Vec<u8>>),
    Conflicts(Vec<Conflict>, Zeroizing<Vec<u8>>),
}

fn merge_three(texts: [&[u8]; 3], marker_size: u16, choose: &dyn Fn(&Conflict) -> Option<Side>) -> Result<Merged> {
    let unsound = |why: String| Conflict { object: None, kind: ConflictKind::Unsound(why) };
    let read = || -> std::result::Result<_, bulla::manifest::ManifestError> {
        Ok([Stream::read(texts[0])?, Stream::read(texts[1])?, Stream::read(texts[2])?])
    };
    let by_lines = |conflict: Conflict| -> Result<Merged> {
        let (text, _) = merge_lines(texts, None, marker_size)?;
        Ok(Merged::Conflicts(vec![conflict], text.into()))
    };
    let streams = match read() {
        Ok(streams) => streams,
        Err(error) => return by_lines(unsound(format!("it can't be read: {}", error.message))),
    };
    let lines = |base: &str, ours: &str, theirs: &str, favour: Option<Side>| -> Option<String> {
        match merge_lines([base.as_bytes(), ours.as_bytes(), theirs.as_bytes()], favour, marker_size) {
            Ok((text, true)) => String::from_utf8(text).ok(),
            _ => None,
        }
    };
    // A policy that can't be read decides nothing: then two keys under one name are a conflict.
    let pins =
        Policy::above(Path::new(".bulla")).ok().flatten().and_then(|policy| policy.pins().ok()).unwrap_or_default();
    let current = |name: &str| pins.iter().find(|pin| pin.name == name).map(|pin| pin.listed.recipient.fingerprint());
    let helpers = Helpers { choose, lines: &lines, current: &current };
    match merge(&streams[0], &streams[1], &streams[2], &helpers) {
        Ok(Outcome::Merged(stream)) => Ok(Merged::Clean(stream.into_bytes())),
        Ok(Outcome::Conflicts { conflicts, texts }) => {
            let bytes = texts.each_ref().map(Stream::to_bytes);
            let (text, clean) = merge_lines([&bytes[0], &bytes[1], &bytes[2]], None, marker_size)?;
            let text = if clean {
                // Lines that merge where the meaning does not: both, whole.
                let mark = |c: &str| c.repeat(marker_size.into());
                let end = |bytes: &[u8]| if bytes.ends_with(b"\n") { "" } else { "\n" };
                let mut whole = format!("{} ours\n", mark("<")).into_bytes();
                whole.extend_from_slice(&bytes[1]);
                whole.extend_from_slice(format!("{}{}\n", end(&bytes[1]), mark("=")).as_bytes());
                whole.extend_from_slice(&bytes[2]);
                whole.extend_from_slice(format!("{}{} theirs\n", end(&bytes[2]), mark(">")).as_bytes());
                whole
            } else {
                text
            };
            Ok(Merged::Conflicts(conflicts, text.into()))
        }
        Err(error) => by_lines(unsound(error.message)),
    }
}

fn driver(args: &MergeArgs) -> Result<Done> {
    let texts = [files::read(&args.base)?, files::read(&args.ours)?, files::read(&args.theirs)?];
    let size = args.marker_size.clamp(1, 1000);
    let merged = merge_three([&texts[0], &texts[1], &texts[2]], size, &|_| None)?;
    let (bytes, conflicts) = match merged {
        Merged::Clean(bytes) => (bytes, Vec::new()),
        Merged::Conflicts(conflicts, bytes) => (bytes, conflicts),
    };
    // The file is git's own, in a place of its own.
    Original::read(&args.ours)?.replace(&bytes)?;
    if conflicts.is_empty() {
        return Ok(Done::Well);
    }
    let path = printable(&args.path.to_string_lossy());
    for conflict in &conflicts {
        output::say(&format!("bulla: conflict in {path}: {}", printable(&conflict.to_string())));
    }
    output::say(&format!("bulla: settle it with: bulla git resolve {}", quoted(&path)));
    Ok(Done::Failed)
}

// --- settling

fn resolve(args: &ResolveArgs) -> Result<Done> {
    let repo = Repo::at(&args.file)?;
    let root = repo.root()?.to_owned();
    let file = shown(&args.file);
    let entries = repo.tracked(std::slice::from_ref(&args.file))?;
    let mut blobs = repo.blobs()?;
    let mut stages: [Option<Zeroizing<Vec<u8>>>; 3] = Default::default();
    let mut path: Option<PathBuf> = None;
    for entry in entries.iter().filter(|entry| entry.stage > 0) {
        if path.get_or_insert_with(|| entry.path.clone()) != &entry.path {
            return Err(Failure::usage(format!("{file} is a folder; name one file")));
        }
        match (blobs.get(&entry.oid)?, stages.get_mut(usize::from(entry.stage) - 1)) {
            (Blob::Bytes(bytes), Some(stage)) => *stage = Some(bytes),
            (Blob::TooLarge(size), _) => return Err(Failure::new(format!("{file} has {size} bytes: too many"))),
            _ => return Err(Failure::new(format!("a version of {file} is not in this clone")).help("git fetch")),
        }
    }
    drop(blobs);
    let Some(path) = path else {
        return Err(Failure::missing(format!("{file} has no conflict in the index")));
    };
    let [base, Some(ours), Some(theirs)] = stages else {
        return Err(Failure::new(format!("{file} is gone on one side"))
            .help("keep it: git add FILE     or let it go: git rm FILE"));
    };
    let base = base.unwrap_or_default();
    let texts: [&[u8]; 3] = [&base, &ours, &theirs];
    let named = if args.ours {
        Some(Side::Ours)
    } else if args.theirs {
        Some(Side::Theirs)
    } else {
        None
    };
    let rest = args.rest.map(|side| match side {
        SideArg::Ours => Side::Ours,
        SideArg::Theirs => Side::Theirs,
    });
    let Merged::Conflicts(conflicts, _) = merge_three(texts, 7, &|_| None)? else {
        return finish(args, &root.join(&path), &merge_three(texts, 7, &|_| None)?, &[], &repo);
    };
    for key in &args.keys {
        if !conflicts.iter().any(|c| matches!(&c.kind, ConflictKind::Item(item) if item == key)) {
            return Err(Failure::missing(format!("{} is not in conflict in {file}", printable(key)))
                .help(format!("in conflict are: {}", told(&conflicts))));
        }
    }
    if !args.keys.is_empty() && named.is_none() {
        return Err(Failure::usage("which side are the items to come from?").help("--ours or --theirs"));
    }
    let of_flags = |conflict: &Conflict| match &conflict.kind {
        ConflictKind::Item(key) if args.keys.contains(key) => named,
        _ if args.keys.is_empty() => named,
        _ => rest,
    };
    let mut answers: Vec<(Conflict, Side)> = Vec::new();
    // What overlaps in the text shows only when all else is settled.
    loop {
        let merged = merge_three(texts, 7, &|conflict| of_flags(conflict).or_else(|| answered(&answers, conflict)))?;
        let Merged::Conflicts(left, _) = &merged else {
            return finish(args, &root.join(&path), &merged, &conflicts, &repo);
        };
        let open: Vec<Conflict> = left
            .iter()
            .filter(|conflict| !matches!(conflict.kind, ConflictKind::Unsound(_)))
            .filter(|conflict| of_flags(conflict).is_none() && answered(&answers, conflict).is_none())
            .cloned()
            .collect();
        if open.is_empty() {
            return finish(args, &root.join(&path), &merged, &conflicts, &repo);
        }
        if !output::on_terminal() {
            return Err(Failure::new(format!("in conflict in {file}: {}", told(&open)))
                .help(format!("bulla git resolve {file} --ours|--theirs [KEY…] [--rest ours|theirs]")));
        }
        for conflict in open {
            let side = ask(&conflict)?;
            answers.push((conflict, side));
        }
    }
}

/// What somebody said of a conflict. The text goes with the fields, where all of them come from one side.
fn answered(answers: &[(Conflict, Side)], conflict: &Conflict) -> Option<Side> {
    if let Some((_, side)) = answers.iter().find(|(known, _)| known == conflict) {
        return Some(*side);
    }
    let mut fields = answers.iter().filter(|(known, _)| matches!(known.kind, ConflictKind::Field(_)));
    let (_, first) = fields.next().filter(|_| conflict.kind == ConflictKind::Text)?;
    fields.all(|(_, side)| side == first).then_some(*first)
}

fn told(conflicts: &[Conflict]) -> String {
    conflicts.iter().map(|c| printable(&c.to_string())).collect::<Vec<_>>().join(", ")
}

fn ask(conflict: &Conflict) -> Result<Side> {
    loop {
        output::say(&format!("{}: (o)urs or (t)heirs?", printable(&conflict.to_string())));
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line).unwrap_or(0);
        match line.trim() {
            _ if read == 0 => return Err(Failure::new("nothing was settled")),
            "o" | "ours" => return Ok(Side::Ours),
            "t" | "theirs" => return Ok(Side::Theirs),
            _ => {}
        }
    }
}

fn finish(args: &ResolveArgs, path: &Path, merged: &Merged, settled: &[Conflict], repo: &Repo) -> Result<Done> {
    let file = shown(&args.file);
    match merged {
        Merged::Conflicts(conflicts, _) => {
            Err(Failure::new(format!("still in conflict in {file}: {}", told(conflicts)))
                .help("take one side whole: bulla git resolve FILE --ours|--theirs     and set what is missing again"))
        }
        Merged::Clean(bytes) => {
            match files::destination(path)? {
                files::Destination::There(original) if *original.bytes != **bytes => original.replace(bytes)?,
                files::Destination::There(_) => {}
                files::Destination::New => files::create(path, bytes)?,
                files::Destination::Special => return Err(Failure::new(format!("{file} is no regular file"))),
            }
            let what = if settled.is_empty() { "merged".to_owned() } else { format!("settled {}", told(settled)) };
            if args.add {
                repo.run(&[std::ffi::OsStr::new("add"), std::ffi::OsStr::new("--"), path.as_os_str()])?;
                output::say(&format!("{what} in {file}, and staged it"));
            } else {
                output::say(&format!("{what} in {file}; next: git add {}", quoted(&file)));
            }
            Ok(Done::Well)
        }
    }
}
