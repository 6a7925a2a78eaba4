//! `cargo xtask chaos`: the long form of the chaos tests, and its report.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulla_tests::chaos::{Options, run as let_it_go_wrong};
use bulla_tests::{build_control_plane, netns};

use crate::run::{build_programs, root};

/// Arguments of `cargo xtask chaos`.
#[derive(clap::Args)]
pub struct Args {
    /// For how long things go wrong
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Good objects at the start
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Repeat the schedule of this seed, as it was printed
    #[arg(long, value_parser = seed)]
    seed: Option<u64>,
    /// Use the programs in this folder instead of building them
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Short leases and short faults, one at a time, as in `cargo xtask test`
    #[arg(long)]
    short: bool,
    /// Where the report is written
    #[arg(long, default_value = "docs/chaos-report.md")]
    report: PathBuf,
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    parsed.map_err(|error| error.to_string())
}

/// Runs, and writes the report.
pub fn run(args: &Args) -> Result<()> {
    let programs = match &args.programs {
        Some(given) => std::path::absolute(given)?,
        None => build_programs(true)?,
    };
    // In a network namespace of its own, where links can be cut.
    if netns::address().is_none() && netns::available().is_ok() {
        let plane = build_control_plane()?;
        let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
        words.extend(["--programs".into(), programs.into_os_string()].into_iter().filter(|_| args.programs.is_none()));
        let status = netns::command(std::env::current_exe()?, words).env("BULLA_TEST_CONTROLPLANE", plane).status()?;
        ensure!(status.success(), "it ended with {status}");
        return Ok(());
    }
    use std::hash::BuildHasher as _;
    let options = Options {
        seed: args.seed.unwrap_or_else(|| std::collections::hash_map::RandomState::new().hash_one("chaos")),
        objects: args.objects,
        lasts: Duration::from_secs(args.minutes * 60),
        short: args.short,
        program: programs.join("bulla-controller"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(let_it_go_wrong(&options))?;
    println!("{}", outcome.report);
    let path = root().join(&args.report);
    let command = format!("cargo xtask chaos --minutes {} --objects {}", args.minutes, args.objects);
    let text = format!("# Chaos\n\nWhat `{command} --seed {:#x}` came to.\n\n{}", options.seed, outcome.report);
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("written to {}", path.display());
    ensure!(outcome.wrong.is_empty(), "{} things are wrong", outcome.wrong.len());
    Ok(())
}
