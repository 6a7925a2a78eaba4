//! The control plane as a process, and its facts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use crate::{build_control_plane, netns};

/// A program of the control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager, with the garbage collector and the controllers of namespaces and service accounts.
    ControllerManager,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::ControllerManager => "kcm",
        }
    }
}

/// What the supervisor says when the API server is ready.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    server: String,
    kubeconfig: PathBuf,
    token: String,
    ca: String,
    dir: PathBuf,
    version: String,
    started_ms: u64,
    logs: BTreeMap<String, PathBuf>,
    pids: BTreeMap<String, u32>,
    args: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    pids: BTreeMap<String, u32>,
}

/// A Kubernetes control plane of one's own: etcd, kube-apiserver and kube-controller-manager on loopback ports, RBAC on,
/// nothing that would run a Pod. Dropped, it is stopped and its directory removed; the same happens when the process
/// that started it ends in whatever way.
#[derive(Debug)]
pub struct ControlPlane {
    facts: Facts,
    supervisor: Mutex<Supervisor>,
}

#[derive(Debug)]
struct Supervisor {
    process: Child,
    // None once it is to end: what tells it so is the end of this pipe.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// The control plane that the tests of one executable share; the first call starts it. It ends with the process.
///
/// # Errors
/// When it could not be built or started: the same error for every caller.
pub fn cluster() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    let shared = CLUSTER.get_or_init(|| ControlPlane::start().map_err(|error| format!("{error:#}")));
    shared.as_ref().map_err(|error| anyhow!("{error}"))
}

impl ControlPlane {
    /// Starts one: three seconds, but for the first time, when it has to be built. Blocks meanwhile.
    ///
    /// # Errors
    /// When it cannot be built or does not become ready.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// [`ControlPlane::start`], with further arguments of its programs, after those that they get anyway: as
    /// `(Component::ApiServer, "--feature-gates=WatchList=false")`.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(arguments: &[(Component, &str)]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = build_control_plane()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bulla-plane-{}-{count}-{now:x}", std::process::id()));
        let mut command = Command::new(program);
        command.arg("supervise").arg("--dir").arg(&dir);
        for (component, argument) in arguments {
            command.arg(format!("--{}-arg={argument}", component.name()));
        }
        if let Some(address) = netns::address() {
            command.args(["--advertise-address", &address]);
        }
        if std::env::var_os("BULLA_TEST_KEEP").is_some() {
            command.arg("--keep");
            eprintln!("the control plane's directory is kept: {}", dir.display());
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the control plane's supervisor")?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the control plane's supervisor has no pipes");
        };
        let mut supervisor = Supervisor { process, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        let first = supervisor.line()?;
        match serde_json::from_str::<Facts>(&first) {
            Ok(facts) => Ok(Self { facts, supervisor: Mutex::new(supervisor) }),
            Err(_) => bail!("the control plane did not start: {}", serde_json::from_str::<Answer>(&first)?.error),
        }
    }

    /// Where the API server is: `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.facts.server
    }

    /// Where etcd serves its clients: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn etcd_url(&self) -> Option<&str> {
        let args = self.facts.args.get(Component::Etcd.name())?;
        args.iter().find_map(|arg| arg.strip_prefix("--listen-client-urls="))
    }

    /// The API server's version, as `v1.37.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.facts.version
    }

    /// The cluster administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.facts.kubeconfig
    }

    /// The directory with everything in it: etcd's data, credentials, logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.facts.dir
    }

    /// How long the start took, without the build.
    #[must_use]
    pub fn start_time(&self) -> Duration {
        Duration::from_millis(self.facts.started_ms)
    }

    /// What a component has logged.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn log(&self, component: Component) -> Result<String> {
        let path = self.facts.logs.get(component.name()).context("a component without a log")?;
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The process id of a component at the start of the control plane, and of its supervisor.
    #[must_use]
    pub fn first_pids(&self) -> Vec<u32> {
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        self.facts.pids.values().copied().chain([supervisor.process.id()]).collect()
    }

    /// The process id of a component, when it runs.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub fn pid(&self, component: Component) -> Result<Option<u32>> {
        Ok(self.command("status")?.get(component.name()).copied())
    }

    /// SIGKILL; returns when it has ended.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill(&self, component: Component) -> Result<()> {
        self.command(&format!("kill {}", component.name())).map(drop)
    }

    /// SIGTERM; returns when it has ended.
    ///
    /// # Errors
    /// When it was not running, or does not end.
    pub fn stop(&self, component: Component) -> Result<()> {
        self.command(&format!("stop {}", component.name())).map(drop)
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When it was not running.
    pub fn pause(&self, component: Component) -> Result<()> {
        self.command(&format!("pause {}", component.name())).map(drop)
    }

    /// SIGCONT, after [`ControlPlane::pause`].
    ///
    /// # Errors
    /// When it was not running.
    pub fn resume(&self, component: Component) -> Result<()> {
        self.command(&format!("resume {}", component.name())).map(drop)
    }

    /// Kills a component if it runs, and starts it with the arguments, ports and data that it had. Returns at once:
    /// [`ControlPlane::wait_until_ready`] waits. The controller manager wants an API server that is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&self, component: Component) -> Result<()> {
        self.command(&format!("restart {}", component.name())).map(drop)
    }

    /// Waits until the API server is ready.
    ///
    /// # Errors
    /// When it, or etcd, is not running, or it is not ready after two minutes.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.command("ready").map(drop)
    }

    fn command(&self, command: &str) -> Result<BTreeMap<String, u32>> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = supervisor.stdin.as_mut().context("the control plane is being stopped")?;
        writeln!(stdin, "{command}").context("the control plane's supervisor has ended")?;
        let answer: Answer = serde_json::from_str(&supervisor.line()?)?;
        match answer.ok {
            true => Ok(answer.pids),
            false => bail!("the control plane: {}", answer.error),
        }
    }

    /// How to talk to the API server with this token.
    pub(crate) fn config(&self, token: &str) -> Result<kube::Config> {
        let mut config = kube::Config::new(self.facts.server.parse()?);
        config.root_cert = Some(vec![BASE64_STANDARD.decode(&self.facts.ca)?]);
        config.auth_info.token = Some(token.to_owned().into());
        Ok(config)
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.facts.token
    }
}

impl Supervisor {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("the control plane's supervisor does not answer")?;
        match line.is_empty() {
            true => bail!("the control plane's supervisor has ended: {}", self.process.wait()?),
            false => Ok(line),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Can only fail when it was waited for already.
        self.process.wait().ok();
    }
}
