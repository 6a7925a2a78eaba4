//! The command line, offline.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bulla::open::open;
use bulla::recipient::{NameSource, Targets, parse_identities, parse_recipients};
use bulla::scope::Scope;

use super::{Args, ITEMS, Table, measure, median_of, secret};
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

    table.row("start: bulla --version", median_of(args.runs, || measure(&mut bulla(&["--version"])))?, "ms", "");
    table.peak("start: peak memory", &bulla(&["--version"]), "");

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
    for number in 0..MANIFESTS {
        let sealed = bulla::seal::seal(&secret(number), Scope::Strict, &targets)?;
        fs::write(tree.join(format!("{number}.sealed.yaml")), bulla::manifest::emit::sealed_yaml(&sealed.into()))?;
    }
    let mut keys = [path("old.txt"), path("new.txt")];
    let tree_path = tree.display().to_string();
    let reseal = |keys: &[String; 2]| bulla(&["reseal", &tree_path, "-i", &keys[0], "-R", &format!("{}.pub", keys[1])]);
    let wall = median_of(args.runs / 10, || {
        let measured = measure(&mut reseal(&keys));
        keys.swap(0, 1);
        measured
    })?;
    table.row("reseal 1,000 files, offline", wall, "ms", "");
    table.peak("reseal 1,000 files: peak memory", &reseal(&keys), "");
    keys.swap(0, 1);
    let identity = parse_identities(&fs::read_to_string(&keys[0])?)?.remove(0);
    let text = fs::read(tree.join("0.sealed.yaml"))?;
    let view = bulla::manifest::Stream::read(&text)?.object(0).context("an object")?.sealed()?;
    ensure!(open(&view.manifest.into(), &[&identity]).is_ok(), "what was resealed opens");
    beside(args, dir.path(), table)
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
