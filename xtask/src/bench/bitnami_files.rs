//! Bitnami's format, offline: opening and sealing anew, beside the private operations alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{BitnamiSealedSecret, Certificate, PrivateKey, generate, open, seal};
use bulla::manifest::emit::{Tree, yaml};
use bulla::scope::Scope;

use super::{Args, ITEMS, Table, measure, median, median_of, secret};
use crate::run::command;

const FILES: usize = 1000;
/// Objects in one file.
const SOME: usize = 50;

/// Measures what is done on files of Bitnami's format with keys of 4,096 bits.
pub fn offline(args: &Args, programs: &Path, table: &mut Table) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bulla-bench-").tempdir()?;
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())?;
    let mut keys = Vec::new();
    for name in ["a", "b"] {
        let made = generate(now - 60, now + 86_400, name)?;
        fs::write(dir.path().join(format!("{name}.key")), made.private_key.as_bytes())?;
        fs::write(dir.path().join(format!("{name}.pem")), &made.certificate)?;
        keys.push((
            PrivateKey::from_pem(made.private_key.as_bytes())?,
            Certificate::from_pem(made.certificate.as_bytes())?,
        ));
    }
    let tree = dir.path().join("tree");
    fs::create_dir(&tree)?;
    let mut objects = Vec::new();
    for number in 0..FILES {
        let sealed = seal(&secret(number), Scope::Strict, &keys[0].1)?;
        fs::write(tree.join(format!("{number}.yaml")), yaml(&[Tree::bitnami(&sealed)]).as_bytes())?;
        objects.push(sealed);
    }

    // The release program opens in one thread. What it takes besides is what it takes for one item.
    let unseal = |file: &str| {
        let mut command = Command::new(programs.join("bulla"));
        command.env_clear().current_dir(dir.path()).args(["unseal", file, "-i", "a.key"]);
        command
    };
    let whole = |some: &[BitnamiSealedSecret]| yaml(&some.iter().map(Tree::bitnami).collect::<Vec<_>>());
    let runs = args.runs / 10;
    fs::write(dir.path().join("some.yaml"), whole(&objects[..SOME]).as_bytes())?;
    fs::write(dir.path().join("first.yaml"), whole(&objects[..1]).as_bytes())?;
    let some = median_of(runs, || measure(&mut unseal("some.yaml")))?;
    let first = median_of(runs, || measure(&mut unseal("first.yaml")))?;
    let each = (some - first) / ((SOME - 1) * ITEMS) as f64;
    table.row("Bitnami: open an item, RSA-4096, one core", each, "ms", "limit 1.8");

    // One such process for each core, all at once.
    let cores = std::thread::available_parallelism()?.get();
    let mut parts = Vec::new();
    for (number, part) in objects.chunks(FILES.div_ceil(cores)).enumerate() {
        fs::write(dir.path().join(format!("part-{number}.yaml")), whole(part).as_bytes())?;
        parts.push(format!("part-{number}.yaml"));
    }
    let alone = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let running: Vec<_> = parts.iter().map(|part| scope.spawn(|| measure(&mut unseal(part)))).collect();
            running.into_iter().try_for_each(|run| match run.join() {
                Ok(done) => done.map(drop),
                Err(_) => anyhow::bail!("a thread failed"),
            })
        })?;
        anyhow::Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    let reseal = |from: &str, to: &str| {
        let mut command = Command::new(programs.join("bulla"));
        command.env_clear().current_dir(dir.path());
        command.args(["reseal", "tree", "-i", &format!("{from}.key"), "--cert", &format!("{to}.pem")]);
        measure(&mut command)
    };
    // One after the other each time, and the ratio is that of the two: what else the machine does changes within seconds.
    let mut names = ["a", "b"];
    let (mut alones, mut walls, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs.max(3) {
        let (opened, wall) = (alone()?, reseal(names[0], names[1])?);
        names.swap(0, 1);
        alones.push(opened);
        walls.push(wall);
        ratios.push(wall / opened);
    }
    let note = "a process a core, nothing written";
    table.row("Bitnami: open 5,000 items, RSA-4096, all cores", median(alones), "ms", note);
    table.row("Bitnami: reseal 1,000 files of 5 items, RSA-4096", median(walls), "ms", "");
    let note = "each run with the one before it; limit 1.2";
    table.row("Bitnami: reseal against opening alone", median(ratios), "times", note);
    let text = fs::read(tree.join("0.yaml"))?;
    let view = bulla::manifest::Stream::read(&text)?.object(0).context("an object")?.bitnami()?;
    let key = if names[0] == "a" { &keys[0].0 } else { &keys[1].0 };
    ensure!(open(&view.sealed, &[key], None).is_ok(), "what was resealed opens");
    if command("kubeseal").arg("--version").output().is_ok_and(|found| found.status.success()) {
        println!("(kubeseal --re-encrypt asks a controller for each file: it is not measured offline)");
    } else {
        println!("(kubeseal is not on PATH: kubeseal --re-encrypt is not measured beside)");
    }
    Ok(())
}
