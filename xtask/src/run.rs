//! Running other programs, and finding what they built.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder of everything that is built.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A command at the root of the workspace.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// `cargo`, as this program was started by it.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end; what it prints is seen at once.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    ensure!(status.success(), "{} failed: {status}", name(command));
    Ok(())
}

/// Runs to the end; what it prints on stdout is seen at once and returned.
pub fn tee(command: &mut Command) -> Result<(bool, String)> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", name(command)))?;
    let stdout = child.stdout.take().context("a child without stdout")?;
    let mut text = String::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(std::io::stdout(), "{line}")?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok((child.wait()?.success(), text))
}

/// What a program prints, when it succeeds.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}\n{}", name(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Builds the two programs and returns the folder in which they are.
pub fn build_programs(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "-p", "bulla-cli", "-p", "bulla-controller"]);
    if release {
        // As in the Dockerfile.
        build.arg("--release").env("BULLA_LAYOUT", "1");
    }
    succeed(&mut build)?;
    Ok(target().join(if release { "release" } else { "debug" }))
}

/// Builds the test executables of a package without running them, and returns their names and paths.
pub fn build_tests(package: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut build = cargo();
    build.args(["test", "--locked", "--no-run", "--message-format=json", "-p", package]).stderr(Stdio::inherit());
    let mut found = Vec::new();
    for line in output(&mut build)?.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message["profile"]["test"] == true
            && let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(found)
}

/// Builds the independent implementation and the other oracles, which are Go programs.
pub fn build_oracles() -> Result<PathBuf> {
    let program = target().join("oracles/oracles");
    let mut build = command("go");
    succeed(build.current_dir(root().join("tests/oracles")).args(["build", "-o"]).arg(&program).arg("."))?;
    Ok(program)
}

/// Builds what judges files that are shipped for other programs, by their own rules: a Go program too.
pub fn build_linters() -> Result<PathBuf> {
    let program = target().join("oracles/linters");
    let mut build = command("go");
    succeed(build.current_dir(root().join("tests/linters")).args(["build", "-o"]).arg(&program).arg("."))?;
    Ok(program)
}

/// The manifests in `tests/fixtures/manifests` that hold Secrets to seal: not those that are sealed already, nor the template.
pub fn fixtures() -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/fixtures/manifests"))? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let other = ["helm-template.yaml", "sealed.yaml", "bitnami-sealed.yaml"].contains(&&*text);
        if !other && (text.ends_with(".yaml") || text.ends_with(".json")) {
            names.push(name);
        }
    }
    Ok(names)
}
