//! Building the control plane, and the established controller, once for each state of their sources.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ring::digest;

/// Of `k8s.io/kubernetes`, as in `tests/controlplane/go.mod`: what the API server calls itself. Without it kubectl cannot
/// read the server's version.
const VERSION: (&str, &str, &str) = ("v1.37.2", "1", "37");

/// The control plane's program: `BULLA_TEST_CONTROLPLANE`, or the one under `target/controlplane`, which is built first
/// when its sources have changed. One process builds, others wait for it.
///
/// # Errors
/// When there is no `go`, or the build fails (it needs a module proxy unless the modules are in Go's cache).
pub fn build_control_plane() -> Result<PathBuf> {
    if let Some(program) = given("BULLA_TEST_CONTROLPLANE")? {
        return Ok(program);
    }
    let (version, major, minor) = VERSION;
    let package = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
         -X {package}.gitTreeState=clean"
    );
    let module = Module { name: "controlplane", what: "the control plane", version, flags: &flags, packages: &["."] };
    module.built("controlplane")
}

/// The folder with the established controller of sealed-secrets (`controller`) and its command line (`kubeseal`), as the module
/// that `tests/established` names has them: `BULLA_TEST_ESTABLISHED`, or the one under `target/established`, as
/// [`build_control_plane`] does it.
///
/// # Errors
/// As there.
pub fn build_established() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("BULLA_TEST_ESTABLISHED") {
        let given = PathBuf::from(given);
        return match given.join("controller").is_file() && given.join("kubeseal").is_file() {
            true => Ok(given),
            false => bail!("BULLA_TEST_ESTABLISHED: {} lacks controller or kubeseal", given.display()),
        };
    }
    let package = "github.com/bitnami-labs/sealed-secrets/cmd";
    let packages = [format!("{package}/controller"), format!("{package}/kubeseal")];
    let packages = packages.each_ref().map(String::as_str);
    let what = "the established controller";
    let module = Module { name: "established", what, version: "", flags: "-s -w", packages: &packages };
    module.built("programs/")
}

/// The established controller in the version that `tests/peer` names, whose throttle can be turned off, to be measured beside this
/// one: `BULLA_TEST_PEER`, or the one under `target/peer`, as [`build_control_plane`] does it.
///
/// # Errors
/// As there.
pub fn build_peer() -> Result<PathBuf> {
    if let Some(program) = given("BULLA_TEST_PEER")? {
        return Ok(program);
    }
    let packages = ["github.com/bitnami/sealed-secrets/cmd/controller"];
    let what = "the established controller to measure beside";
    Module { name: "peer", what, version: "", flags: "-s -w", packages: &packages }.built("controller")
}

/// The program that a variable names.
fn given(variable: &str) -> Result<Option<PathBuf>> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    match given {
        Some(path) if !path.is_file() => bail!("{variable}: {} is not a file", path.display()),
        given => Ok(given),
    }
}

/// A Go module under `tests`, and what is built of it.
struct Module<'a> {
    name: &'a str,
    /// For messages.
    what: &'a str,
    /// Goes into the name of the folder.
    version: &'a str,
    flags: &'a str,
    packages: &'a [&'a str],
}

impl Module<'_> {
    /// What is built: a program, or a folder of them when the name ends in a slash.
    fn built(&self, finished: &str) -> Result<PathBuf> {
        let Self { name, what, .. } = self;
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = here.join(name);
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => here.join("..").join(dir),
            None => here.join("../target"),
        };
        let cache = target.join(name);
        let dir = cache.join(fingerprint(&sources, self.version)?);
        let program = dir.join(finished.trim_end_matches('/'));
        if program.exists() {
            return Ok(program);
        }

        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lock =
            File::create(cache.join("lock")).with_context(|| format!("cannot make the lock of {what}'s build"))?;
        lock.lock().with_context(|| format!("cannot lock {what}'s build"))?;
        if program.exists() {
            return Ok(program);
        }
        eprintln!("building {what} into {}: minutes the first time", dir.display());
        // A folder for programs is one by its last character.
        let unfinished = if finished.ends_with('/') { "unfinished/" } else { "unfinished" };
        let output = Command::new("go")
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", self.flags, "-o"])
            .arg(fs::canonicalize(&dir)?.join(unfinished))
            .args(self.packages)
            .current_dir(&sources)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .stdin(Stdio::null())
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let variable = name.to_uppercase();
                bail!(
                    "tests against an API server need Go 1.26 or later: no `go` on PATH (or set BULLA_TEST_{variable} to \
                     what is built of tests/{name})"
                )
            }
            Err(error) => return Err(error).context("cannot run go"),
        };
        if !output.status.success() {
            bail!("go build of {} failed:\n{}", sources.display(), String::from_utf8_lossy(&output.stderr));
        }
        // Renamed when whole: what has the name can be run.
        fs::rename(dir.join("unfinished"), &program).with_context(|| format!("cannot name {what}'s program"))?;
        Ok(program)
    }
}

/// Names the state of the Go module: its sources and what they depend on.
fn fingerprint(sources: &Path, version: &str) -> Result<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources).with_context(|| format!("cannot read {}", sources.display()))? {
        let path = entry?.path();
        let wanted = path.extension().is_some_and(|end| end == "go" || end == "mod" || end == "sum");
        if wanted && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(version.as_bytes());
    for path in &files {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(&text);
    }
    Ok(hash.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}
