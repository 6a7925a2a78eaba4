//! `cargo xtask test`: everything that has to pass.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bulla_tests::{build_control_plane, build_established, netns};

use crate::run::{
    build_linters, build_oracles, build_programs, build_tests, cargo, command, output, root, succeed, target, tee,
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these steps: format, lint, docs, manifests, oracles, unit, cluster, fuzz, dependencies
    steps: Vec<String>,
    /// For how long each fuzz target runs, in seconds
    #[arg(long, default_value_t = 15)]
    fuzz_seconds: u32,
}

/// Programs of the tests that are written in Go.
const GO_MODULES: [&str; 3] = ["tests/oracles", "tests/linters", "tests/controlplane"];

type Step = fn(&Args, &mut Summary) -> Result<()>;

const STEPS: [(&str, &str, Step); 9] = [
    ("format", "formatting", format),
    ("lint", "clippy, warnings denied", lint),
    ("docs", "documentation, warnings denied", docs),
    ("manifests", "workflows and examples, by other programs' own rules", manifests),
    ("oracles", "the independent implementation in Go", oracles),
    ("unit", "unit, property, CLI and documentation tests", unit),
    ("cluster", "tests on a real API server", cluster),
    ("fuzz", "a short fuzz run", fuzz),
    ("dependencies", "licences, sources and bans of dependencies", dependencies),
];

/// What the test runners said at their end.
#[derive(Default)]
struct Summary {
    lines: Vec<String>,
    passed: u64,
    failed: u64,
}

impl Summary {
    /// Keeps the summary lines of `cargo test` and its kind.
    fn read(&mut self, label: &str, text: &str) {
        for line in text.lines().filter(|line| line.starts_with("test result: ")) {
            let number = |word: &str| {
                let before = line.split(word).next()?.trim_end();
                before.rsplit([' ', '.']).next()?.parse::<u64>().ok()
            };
            self.passed += number(" passed").unwrap_or(0);
            self.failed += number(" failed").unwrap_or(0);
            self.lines.push(format!("{label}: {line}"));
        }
    }
}

/// Runs the steps, and ends with the test runners' own summary lines.
fn run_steps(args: &Args, summary: &mut Summary) -> Result<()> {
    for (name, title, step) in STEPS {
        if !args.steps.is_empty() && !args.steps.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n== {name}: {title}");
        let start = Instant::now();
        step(args, summary).with_context(|| format!("{name} ({title})"))?;
        println!("== {name}: passed in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Runs the steps that were asked for, or all.
pub fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.steps.iter().find(|step| !STEPS.iter().any(|(name, ..)| name == step)) {
        bail!("there is no step {unknown}; there are {}", STEPS.map(|(name, ..)| name).join(", "));
    }
    let mut summary = Summary::default();
    let done = run_steps(args, &mut summary);
    println!();
    for line in &summary.lines {
        println!("{line}");
    }
    println!("{} passed, {} failed", summary.passed, summary.failed);
    done
}

fn format(_: &Args, _: &mut Summary) -> Result<()> {
    succeed(cargo().args(["fmt", "--all", "--check"]))?;
    for module in GO_MODULES {
        let unformatted = output(command("gofmt").arg("-l").arg(module))?;
        ensure!(unformatted.is_empty(), "gofmt would change:\n{unformatted}");
    }
    Ok(())
}

fn lint(_: &Args, _: &mut Summary) -> Result<()> {
    succeed(cargo().args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    for module in GO_MODULES {
        succeed(command("go").current_dir(root().join(module)).args(["vet", "./..."]))?;
    }
    Ok(())
}

fn docs(_: &Args, _: &mut Summary) -> Result<()> {
    succeed(cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--quiet", "--locked", "--workspace", "--no-deps"]))
}

fn manifests(_: &Args, _: &mut Summary) -> Result<()> {
    let linters = build_linters()?;
    // The action is composite: its steps are linted as those of a workflow with its inputs.
    succeed(command(&linters).args(["workflows", "deploy/ci/github-workflow.yaml", "action.yml"]))?;
    let mut policies = Vec::new();
    for entry in std::fs::read_dir(root().join("deploy/examples"))? {
        let policy = entry?.path().join(".bulla.yaml");
        if policy.is_file() {
            policies.push(policy);
        }
    }
    ensure!(!policies.is_empty(), "no example has a policy");
    succeed(command(&linters).args(["schema", "docs/policy.schema.json"]).args(policies))
}

fn oracles(_: &Args, summary: &mut Summary) -> Result<()> {
    let mut test = command("go");
    let (passed, text) = tee(test.current_dir(root().join("tests/oracles")).args(["test", "-count=1", "./..."]))?;
    summary.lines.extend(text.lines().filter(|line| line.starts_with("ok ")).map(|line| format!("oracles: {line}")));
    ensure!(passed, "go test failed");
    Ok(())
}

/// The Go oracle and age's vectors, where the tests look for them.
fn prepare_oracles() -> Result<(PathBuf, PathBuf)> {
    let oracles = build_oracles()?;
    let vectors = target().join("cctv");
    output(command(&oracles).arg("cctv").arg(&vectors))?;
    Ok((oracles, vectors))
}

fn unit(_: &Args, summary: &mut Summary) -> Result<()> {
    let (oracles, vectors) = prepare_oracles()?;
    let linters = build_linters()?;
    let mut test = cargo();
    test.args(["test", "--locked", "--workspace", "--exclude", "bulla-tests"])
        .env("BULLA_LINTERS", linters)
        .env("BULLA_CCTV", vectors)
        .env("BULLA_ORACLES", oracles);
    match pre_commit() {
        Ok(program) => _ = test.env("BULLA_PRE_COMMIT", program),
        Err(error) => bulla_tests::skip(format!("the hook in pre-commit: {error:#}")),
    }
    let (passed, text) = tee(&mut test)?;
    summary.read("unit", &text);
    ensure!(passed, "a test failed");
    Ok(())
}

fn cluster(_: &Args, summary: &mut Summary) -> Result<()> {
    let programs = build_programs(false)?;
    let (oracles, _) = prepare_oracles()?;
    let linters = build_linters()?;
    let plane = build_control_plane()?;
    let established = build_established()?;
    let isolated = netns::available();
    if let Err(reason) = &isolated {
        bulla_tests::skip(format!("the tests through the API server's service proxy: {reason}"));
    }
    for (name, test) in build_tests("bulla-tests")? {
        let mut command = if isolated.is_ok() { netns::command(&test, [""; 0]) } else { command(&test) };
        command
            .current_dir(root().join("tests"))
            .env("BULLA_BIN_DIR", &programs)
            .env("BULLA_ORACLES", &oracles)
            .env("BULLA_LINTERS", &linters)
            .env("BULLA_TEST_CONTROLPLANE", &plane)
            .env("BULLA_TEST_ESTABLISHED", &established);
        println!("-- {name}");
        let (passed, text) = tee(&mut command)?;
        summary.read(&format!("cluster/{name}"), &text);
        ensure!(passed, "a test of {name} failed");
    }
    Ok(())
}

/// A tool that is a cargo subcommand: from PATH, else from the user's cache, else installed there from the registry.
fn tool(name: &str) -> Result<PathBuf> {
    let cache = tools()?;
    let cached = cache.join("bin").join(name);
    if command(name).arg("--version").output().is_ok_and(|found| found.status.success()) {
        return Ok(name.into());
    }
    if !cached.is_file() {
        println!("installing {name} (minutes, once)");
        succeed(cargo().args(["install", "--quiet", "--locked", "--root"]).arg(&cache).arg(name))?;
    }
    Ok(cached)
}

/// The `cache` of [`tool`].
fn tools() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("bulla/tools"))
}

/// pre-commit: from PATH, else from the user's cache, else installed there from the registry of Python's packages.
fn pre_commit() -> Result<PathBuf> {
    const VERSION: &str = "4.3.0";
    if command("pre-commit").arg("--version").output().is_ok_and(|found| found.status.success()) {
        return Ok("pre-commit".into());
    }
    let folder = tools()?.join(format!("pre-commit-{VERSION}"));
    let program = folder.join("bin/pre-commit");
    if !program.is_file() {
        println!("installing pre-commit (once)");
        output(command("python3").args(["-m", "venv"]).arg(&folder))?;
        let package = format!("pre-commit=={VERSION}");
        output(command(folder.join("bin/pip")).args(["install", "--quiet", &package]))?;
    }
    Ok(program)
}

fn fuzz(args: &Args, _: &mut Summary) -> Result<()> {
    if output(command("rustup").args(["run", "nightly", "rustc", "--version"])).is_err() {
        bulla_tests::skip("the fuzz targets need a nightly toolchain: rustup toolchain install nightly");
        return Ok(());
    }
    let fuzzer = tool("cargo-fuzz")?;
    let targets = output(command(&fuzzer).env("RUSTUP_TOOLCHAIN", "nightly").args(["fuzz", "list"]))?;
    for name in targets.lines() {
        println!("-- {name}");
        // What is found grows outside the checkout's seeds.
        let corpus = target().join("fuzz-corpus").join(name);
        std::fs::create_dir_all(&corpus)?;
        succeed(
            command(&fuzzer)
                .env("RUSTUP_TOOLCHAIN", "nightly")
                .args(["fuzz", "run", "--sanitizer", "none", name])
                .arg(corpus)
                .arg(format!("fuzz/seeds/{name}"))
                .arg("--")
                .arg(format!("-max_total_time={}", args.fuzz_seconds))
                .args(["-verbosity=0", "-max_len=65536", "-timeout=10"]),
        )?;
    }
    Ok(())
}

fn dependencies(_: &Args, _: &mut Summary) -> Result<()> {
    let deny = tool("cargo-deny")?;
    // Licences are in the packages: those for other platforms too.
    succeed(cargo().args(["fetch", "--quiet", "--locked"]))?;
    succeed(command(deny).args([
        "--offline",
        "--workspace",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}
