//! Bitnami's format, offline: opening and sealing anew, beside the private operations alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use bulla::bitnami::{BitnamiSealedSecret, Certificate, PrivateKey, generate, open, seal};
use bulla::manifest::emit::{Tree, yaml};
use bulla::scope::Scope;

use super::{Args, ITEMS, Table, measure, median_of, secret};
use crate::run::command;

const FILES: usize = 1000;

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

    let some = &objects[..50];
    let start = Instant::now();
    opened(some, &keys[0].0)?;
    let each = start.elapsed().as_secs_f64() * 1000.0 / (some.len() * ITEMS) as f64;
    table.row("Bitnami: open an item, RSA-4096, one core", each, "ms", "limit 1.8");

    let runs = args.runs / 10;
    let alone = median_of(runs, || {
        let start = Instant::now();
        on_all_cores(&objects, &keys[0].0)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    })?;
    table.row("Bitnami: open 5,000 items, RSA-4096, all cores, alone", alone, "ms", "");
    let mut names = ["a", "b"];
    let wall = median_of(runs, || {
        let mut command = Command::new(programs.join("bulla"));
        command.env_clear().current_dir(dir.path());
        command.args(["reseal", "tree", "-i", &format!("{}.key", names[0]), "--cert", &format!("{}.pem", names[1])]);
        names.swap(0, 1);
        measure(&mut command)
    })?;
    let note = format!("{:.2} times what the private operations need; limit 1.2", wall / alone);
    table.row("Bitnami: reseal 1,000 files of 5 items, RSA-4096", wall, "ms", &note);
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

fn opened(objects: &[BitnamiSealedSecret], key: &PrivateKey) -> Result<()> {
    objects.iter().try_for_each(|object| open(object, &[key], None).map(drop)).map_err(Into::into)
}

fn on_all_cores(objects: &[BitnamiSealedSecret], key: &PrivateKey) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let parts = objects.chunks(objects.len().div_ceil(cores));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || opened(part, key))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread failed")))
    })
}
