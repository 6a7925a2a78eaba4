//! The command line, offline.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bulla::open::open;
use bulla::recipient::{NameSource, Targets, parse_identities, parse_recipients};
use bulla::scope::Scope;

use super::{Args, ITEMS, Table, measure, median_of, peak, secret};
use crate::run::{command, fixtures, output, root};

const MANIFESTS: usize = 1000;

fn manifest(number: usize) -> String {
    let items: String = (0..ITEMS).map(|item| format!("  item-{item}: {:032x}\n", number * ITEMS + item)).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: bench-{number}\n  namespace: bench\nstringData:\n{}",
        items.replace(": ", ": \"").replace('\n', "\"\n")
    )
}

/// Measures what is done on files.
pub fn offline(args: &Args, programs: &Path, table: &mut Table) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bulla-bench-").tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let bulla = |words: &[&str]| -> Command {
        let mut command = Command::new(programs.join("bulla"));
        command.args(words).env_clear().current_dir(dir.path());
        command
    };
    for key in ["old.txt", "new.txt"] {
        measure(&mut bulla(&["keygen", "-w", &path(key)]))?;
    }
    fs::write(path("one.yaml"), manifest(0))?;
    fs::write(path("many.yaml"), (0..MANIFESTS).map(|n| format!("---\n{}", manifest(n))).collect::<String>())?;

    let (recipient, identity) = (path("old.txt.pub"), path("old.txt"));
    let seal = |input: &str, output: &str| {
        drop(fs::remove_file(path(output)));
        bulla(&["seal", &path(input), "-R", &recipient, "-w", &path(output)])
    };
    let wall = median_of(args.runs, || measure(&mut seal("one.yaml", "one.sealed.yaml")))?;
    table.row("seal one manifest of 5 items, hybrid key", wall, "ms", "limit 4");
    table.peak("seal one: peak memory", &seal("one.yaml", "one.sealed.yaml"), "limit 10");
    let size = fs::metadata(path("one.sealed.yaml"))?.len();
    table.row("sealed manifest of five 32-byte items", size as f64, "bytes", "limit 3900");
    let wall = median_of(args.runs / 5, || measure(&mut seal("many.yaml", "many.sealed.yaml")))?;
    table.row("seal 1,000 manifests of 5 items from one file", wall, "ms", "limit 300");
    table.peak("seal 1,000: peak memory", &seal("many.yaml", "many.sealed.yaml"), "");
    let unseal = || bulla(&["unseal", &path("one.sealed.yaml"), "-i", &identity]);
    table.row("unseal one manifest", median_of(args.runs, || measure(&mut unseal()))?, "ms", "");
    table.peak("unseal one: peak memory", &unseal(), "");

    start(args, &bulla, dir.path(), table)?;
    daily(args, &bulla, dir.path(), table)?;

    // Manifests as people have them: each run seals a fresh copy.
    let wall = median_of(args.runs / 5, || {
        let copy = tempfile::tempdir_in(dir.path())?;
        for name in fixtures()? {
            fs::copy(root().join("tests/fixtures/manifests").join(&name), copy.path().join(&name))?;
        }
        measure(&mut bulla(&["seal", "--in-place", &copy.path().display().to_string(), "-R", &recipient]))
    })?;
    table.row(&format!("seal {} files of all shapes in place", fixtures()?.len()), wall, "ms", "");

    // A tree of files, one SealedSecret each.
    let tree = dir.path().join("tree");
    fs::create_dir(&tree)?;
    let old = parse_recipients(&fs::read_to_string(path("old.txt.pub"))?)?.remove(0).recipient;
    let targets = Targets::new([(old, NameSource::Policy("prod".into()))], false)?;
    files(&tree, MANIFESTS, &targets)?;
    let mut keys = [path("old.txt"), path("new.txt")];
    let tree_path = tree.display().to_string();
    let reseal = |keys: &[String; 2]| bulla(&["reseal", &tree_path, "-i", &keys[0], "-R", &format!("{}.pub", keys[1])]);
    let wall = median_of(args.runs / 10, || {
        let measured = measure(&mut reseal(&keys));
        keys.swap(0, 1);
        measured
    })?;
    table.row("reseal 1,000 files, offline", wall, "ms", "limit 1000");
    table.peak("reseal 1,000 files: peak memory", &reseal(&keys), "");
    keys.swap(0, 1);
    let identity = parse_identities(&fs::read_to_string(&keys[0])?)?.remove(0);
    let text = fs::read(tree.join("0.sealed.yaml"))?;
    let view = bulla::manifest::Stream::read(&text)?.object(0).context("an object")?.sealed()?;
    ensure!(open(&view.manifest.into(), &[&identity]).is_ok(), "what was resealed opens");

    let many = dir.path().join("many");
    fs::create_dir(&many)?;
    files(&many, 10 * MANIFESTS, &targets)?;
    let many = many.display().to_string();
    let check = || bulla(&["reseal", &many, "--check", "-R", &recipient]);
    let wall = median_of(args.runs / 10, || measure(&mut check()))?;
    table.row("reseal --check over 10,000 files, all current", wall, "ms", "limit 1000");
    table.peak("reseal --check over 10,000 files: peak memory", &check(), "");
    updatekeys(args, &bulla, dir.path(), table)?;
    beside(args, dir.path(), table)
}

/// A SealedSecret of five items in each of so many files.
fn files(dir: &Path, count: usize, targets: &Targets) -> Result<()> {
    for number in 0..count {
        let sealed = bulla::seal::seal(&secret(number), Scope::Strict, targets)?;
        fs::write(dir.join(format!("{number}.sealed.yaml")), bulla::manifest::emit::sealed_yaml(&sealed.into()))?;
    }
    Ok(())
}

/// From nothing to the end of commands that have hardly anything to do.
fn start(args: &Args, bulla: &dyn Fn(&[&str]) -> Command, dir: &Path, table: &mut Table) -> Result<()> {
    let repository = dir.join("repository");
    fs::create_dir(&repository)?;
    let within = |words: &[&str]| {
        let mut command = bulla(words);
        command.current_dir(&repository);
        command
    };
    fs::copy(dir.join("old.txt.pub"), repository.join("prod.pub"))?;
    measure(&mut within(&["init", "prod.pub", "--as", "prod"]))?;
    fs::copy(dir.join("one.sealed.yaml"), repository.join("one.sealed.yaml"))?;
    let file = "one.sealed.yaml";
    let commands: [&[&str]; 6] = [
        &["--version"],
        &["set", "--help"],
        &["recipients"],
        &["diff", file, file],
        &["git", "textconv", file],
        &["check", file],
    ];
    let (mut slowest, mut largest) = (0.0, Some(0.0));
    for words in commands {
        let wall = median_of(args.runs, || measure(&mut within(words)))?;
        let memory = peak(&within(words));
        println!("  bulla {}: {wall:.2} ms, {} MiB", words.join(" "), memory.map_or("?".into(), |m| format!("{m:.1}")));
        slowest = f64::max(slowest, wall);
        largest = largest.zip(memory).map(|(a, b)| f64::max(a, b));
    }
    table.row("start: the slowest of six commands that have nothing to do", slowest, "ms", "limit 3");
    match largest {
        Some(memory) => table.row("start: the largest of them", memory, "MiB", "limit 8"),
        None => println!("(start: peak memory needs GNU time on PATH)"),
    }
    Ok(())
}

/// One value in a file of a hundred.
fn daily(args: &Args, bulla: &dyn Fn(&[&str]) -> Command, dir: &Path, table: &mut Table) -> Result<()> {
    let items: String = (0..100).map(|n| format!("  item-{n:03}: \"{n:032x}\"\n")).collect();
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: large, namespace: bench}\nstringData:\n";
    fs::write(dir.join("large.yaml"), format!("{head}{items}"))?;
    fs::write(dir.join("value"), "a value of some length")?;
    measure(&mut bulla(&["seal", "large.yaml", "-R", "old.txt.pub", "-w", "large.sealed.yaml"]))?;
    let set = || bulla(&["set", "large.sealed.yaml", "item-050", "--from-file", "value", "-R", "old.txt.pub"]);
    table.row("set a value in a file of 100", median_of(args.runs, || measure(&mut set()))?, "ms", "limit 5");
    table.peak("set: peak memory", &set(), "");
    let unset = || -> Result<f64> {
        measure(&mut bulla(&["set", "large.sealed.yaml", "extra", "--from-file", "value", "-R", "old.txt.pub"]))?;
        measure(&mut bulla(&["unset", "large.sealed.yaml", "extra"]))
    };
    table.row("take one out again", median_of(args.runs, unset)?, "ms", "");
    Ok(())
}

/// `sops updatekeys` for what `reseal` does: wrapping data keys of files for another key. It takes one file each time.
fn updatekeys(args: &Args, bulla: &dyn Fn(&[&str]) -> Command, dir: &Path, table: &mut Table) -> Result<()> {
    const FILES: usize = 20;
    if command("sops").arg("--version").output().is_err() {
        println!("(sops is not on PATH: sops updatekeys is not measured beside reseal)");
        return Ok(());
    }
    let folder = dir.join("sops");
    fs::create_dir(&folder)?;
    let mut recipients = Vec::new();
    for name in ["sops-old.txt", "sops-new.txt"] {
        measure(&mut bulla(&["keygen", "--classical", "-w", name]))?;
        let text = fs::read_to_string(dir.join(format!("{name}.pub")))?;
        recipients.push(text.lines().last().context("a recipient")?.to_owned());
    }
    let sops = |words: &[&str]| {
        let mut command = Command::new("sops");
        command.args(words).current_dir(&folder).env("SOPS_AGE_KEY_FILE", dir.join("sops-all.txt"));
        command
    };
    let keys = [fs::read(dir.join("sops-old.txt"))?, fs::read(dir.join("sops-new.txt"))?].concat();
    fs::write(dir.join("sops-all.txt"), keys)?;
    let rules =
        |recipient: &str| fs::write(folder.join(".sops.yaml"), format!("creation_rules: [{{age: {recipient}}}]\n"));
    rules(&recipients[0])?;
    for number in 0..FILES {
        let name = format!("{number}.yaml");
        fs::write(folder.join(&name), manifest(number))?;
        output(&mut sops(&["--encrypt", "--encrypted-regex", "^stringData$", "--in-place", &name]))?;
    }
    let wall = median_of(args.runs / 10, || {
        recipients.swap(0, 1);
        rules(&recipients[0])?;
        (0..FILES).map(|number| measure(&mut sops(&["updatekeys", "--yes", &format!("{number}.yaml")]))).sum()
    })?;
    table.row("sops updatekeys, each file", wall / FILES as f64, "ms", "X25519; one process a file");
    Ok(())
}

/// The same work with programs of other projects, where they are there.
fn beside(args: &Args, dir: &Path, table: &mut Table) -> Result<()> {
    let there =
        |program: &str, flag: &str| command(program).arg(flag).output().is_ok_and(|found| found.status.success());
    if !there("kubeseal", "--version") || !there("openssl", "version") {
        println!("(kubeseal and openssl are not both on PATH: not measured beside)");
        return Ok(());
    }
    let certificate = dir.join("kubeseal.crt").display().to_string();
    let key = dir.join("kubeseal.key").display().to_string();
    output(
        command("openssl")
            .args(["req", "-x509", "-newkey", "rsa:4096", "-nodes", "-days", "1", "-subj", "/CN=bench"])
            .args(["-keyout", &key, "-out", &certificate]),
    )?;
    for (file, what, runs) in [
        ("one.yaml", "kubeseal: seal one manifest of 5 items, RSA-4096", args.runs),
        ("many.yaml", "kubeseal: seal 1,000 manifests of 5 items, RSA-4096", args.runs / 10),
    ] {
        let input = dir.join(file).display().to_string();
        let seal = || {
            let mut seal = command("kubeseal");
            seal.args(["--cert", &certificate, "-o", "yaml", "-f", &input]);
            seal
        };
        table.row(what, median_of(runs, || measure(&mut seal()))?, "ms", "");
        table.peak(&format!("{what}: peak memory"), &seal(), "");
    }
    Ok(())
}
