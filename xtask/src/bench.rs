//! `cargo xtask bench`: figures of one machine, side by side in one run. Medians of several runs; never part of the tests.

mod bitnami;
mod bitnami_files;
mod check;
mod cli;
mod controller;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bulla::secret::{PlainSecret, SecretValue};
use bulla_tests::{build_control_plane, build_peer, netns};
use serde_json::{Value, json};

use crate::run::{build_programs, target};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Objects in the cluster part, which is run once for each of these; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    objects: Vec<usize>,
    /// Namespaces beside those of the first of these, for one more restart; 0 leaves it out
    #[arg(long, default_value_t = 5000)]
    namespaces: usize,
    /// Of the cluster part only the starts of the native kind: what grows with the number of objects
    #[arg(long)]
    starts_only: bool,
    /// Leave out the command line
    #[arg(long)]
    controller_only: bool,
    /// Measure `bulla check` alone
    #[arg(long, conflicts_with = "controller_only")]
    check_only: bool,
    /// Only what concerns SealedSecrets of bitnami.com
    #[arg(long)]
    bitnami_only: bool,
    /// Measure the programs in this folder instead of building them
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Runs of the short measurements; long ones are run a tenth as often
    #[arg(long, default_value_t = 50)]
    runs: usize,
}

const ITEMS: usize = 5;

/// The table, and what is written as JSON.
#[derive(Default)]
struct Table(Vec<Value>);

impl Table {
    fn row(&mut self, what: &str, value: f64, unit: &str, note: &str) {
        println!("{what:<58} {value:>10.2} {unit:<6} {note}");
        self.0.push(json!({"what": what, "value": value, "unit": unit, "note": note}));
    }

    fn peak(&mut self, what: &str, run: &Command, note: &str) {
        match peak(run) {
            Some(memory) => self.row(what, memory, "MiB", note),
            None => println!("({what}: needs GNU time on PATH)"),
        }
    }
}

/// MiB of a process: `VmHWM:`, its peak so far, or `VmRSS:`, what it has now.
fn memory(pid: u32, which: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(which)).with_context(|| format!("no {which}"))?;
    let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kib / 1024.0)
}

/// Seconds that the threads of a process have run so far.
fn cpu(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // The 14th and 15th of all; the kernel tells it in hundredths wherever this runs.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("no time");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Wall time in milliseconds of one run.
fn measure(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let wall = start.elapsed().as_secs_f64() * 1000.0;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?} failed: {text}", command.get_program());
    Ok(wall)
}

/// Peak memory in MiB of one run, by GNU time: what the kernel tells this process of a child includes this process's own
/// memory at the time of the fork.
fn peak(run: &Command) -> Option<f64> {
    let mut timed = Command::new("time");
    timed.args(["-f", "%M"]).arg(run.get_program()).args(run.get_args()).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(folder) = run.get_current_dir() {
        timed.current_dir(folder);
    }
    let output = timed.output().ok().filter(|output| output.status.success())?;
    let kib: f64 = String::from_utf8_lossy(&output.stderr).lines().last()?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

fn median_of(runs: usize, mut once: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(median((0..runs.max(3)).map(|_| once()).collect::<Result<Vec<_>>>()?))
}

/// Measures, and prints and writes the table.
pub fn run(args: &Args) -> Result<()> {
    let programs = match &args.programs {
        Some(given) => given.clone(),
        None => build_programs(true)?,
    };
    let has_cluster = !args.check_only && args.objects.iter().any(|count| *count > 0);
    if has_cluster && netns::address().is_none() && netns::available().is_ok() {
        return inside(args, &programs);
    }
    let mut table = Table::default();
    println!("{:<58} {:>10} {:<6} note", "what", "median", "unit");
    if args.check_only {
        check::check(args, &programs, &mut table)?;
        return written(&table);
    }
    if !args.controller_only && !args.bitnami_only {
        cli::offline(args, &programs, &mut table)?;
        check::check(args, &programs, &mut table)?;
    }
    if !args.controller_only {
        bitnami_files::offline(args, &programs, &mut table)?;
    }
    bitnami::openings(&mut table)?;
    let mut namespaces = args.namespaces;
    let mut growth = Vec::new();
    for count in args.objects.iter().copied().filter(|count| *count > 0) {
        println!("load of this machine, the bench itself included: {}", load());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        if !args.starts_only {
            runtime.block_on(bitnami::cluster(count, &programs, &mut table))?;
        }
        if args.bitnami_only {
            continue;
        }
        growth.push(runtime.block_on(controller::cluster(
            count,
            namespaces,
            args.starts_only,
            &programs,
            &mut table,
        ))?);
        namespaces = 0;
    }
    controller::growth(&growth, &mut table);
    written(&table)
}

/// Does the same in a network namespace of its own, where the other controller has its ports, with everything built before: there is
/// no network there.
fn inside(args: &Args, programs: &Path) -> Result<()> {
    let plane = build_control_plane()?;
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.programs.is_none() {
        words.extend(["--programs".into(), programs.into()]);
    }
    let mut command = netns::command(std::env::current_exe()?, words);
    command.env("BULLA_TEST_CONTROLPLANE", plane);
    match build_peer() {
        Ok(peer) => {
            command.env("BULLA_TEST_PEER", peer);
        }
        Err(error) => {
            println!("(the established controller is not measured: {error:#})");
            command.env_remove("BULLA_TEST_PEER");
        }
    }
    let status = command.status()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// Writes the table for programs.
fn written(table: &Table) -> Result<()> {
    let file = target().join("bench.json");
    let report = json!({"schemaVersion": 1, "load": load(), "rows": table.0});
    fs::write(&file, serde_json::to_string_pretty(&report)?)?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

/// The load averages of the last 1, 5 and 15 minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn secret(number: usize) -> PlainSecret {
    PlainSecret {
        name: Some(format!("bench-{number}")),
        namespace: Some("bench".into()),
        data: (0..ITEMS)
            .map(|item| {
                (format!("item-{item}"), SecretValue::new(format!("{:032x}", number * ITEMS + item).into_bytes()))
            })
            .collect(),
        ..PlainSecret::default()
    }
}
