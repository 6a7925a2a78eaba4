//! The established controller of sealed-secrets, as a process that finds what it would find in a Pod.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio::sync::{Mutex, MutexGuard};

use crate::{ControlPlane, Program, Signal, build_established, netns, write_private};

const SOON: Duration = Duration::from_secs(40);

/// It reads its credentials at a fixed place: in a mount namespace of its own nobody else sees that.
const SETUP: &str = "set -e
run=$(readlink -f /var/run)
mount -t tmpfs tmpfs \"$run\"
mkdir -p \"$run/secrets/kubernetes.io\"
cp -R \"$1\" \"$run/secrets/kubernetes.io/serviceaccount\"
shift
exec \"$@\"";

/// It runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Established {
    program: Program,
    started: Instant,
    /// What it reads when it starts.
    _credentials: tempfile::TempDir,
}

impl Established {
    /// Waits until no other test of this process needs its ports; they are the caller's until this is dropped.
    pub async fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::const_new(());
        TURN.lock().await
    }

    /// Where it serves HTTP: it takes no other port.
    pub const PORT: u16 = 8080;

    /// Starts it with the rights of a service account, whose namespace is its own, and these arguments. It listens on fixed ports, so
    /// only one runs at a time, and only in what [`netns::command`] runs.
    ///
    /// # Errors
    /// Outside of a network namespace; when it can't be built or started.
    pub async fn start(cluster: &ControlPlane, namespace: &str, account: &str, args: &[&str]) -> Result<Self> {
        let programs = tokio::task::spawn_blocking(build_established).await??;
        Self::start_program(&programs.join("controller"), cluster, namespace, account, args).await
    }

    /// The same with another program: one of another version.
    ///
    /// # Errors
    /// As there.
    pub async fn start_program(
        program: &Path,
        cluster: &ControlPlane,
        namespace: &str,
        account: &str,
        args: &[&str],
    ) -> Result<Self> {
        ensure!(netns::address().is_some(), "its ports may be somebody's outside of a network namespace of tests");
        let credentials = tempfile::tempdir()?;
        let config = cluster.client_config()?;
        let certificates = config.root_cert.unwrap_or_default();
        let pem = certificates.iter().map(|der| {
            let body = BASE64_STANDARD.encode(der);
            let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
        });
        let token = cluster.service_account_token(namespace, account).await?;
        for (name, text) in [("token", token), ("ca.crt", pem.collect()), ("namespace", namespace.to_owned())] {
            write_private(&credentials.path().join(name), text.as_bytes())?;
        }
        let (host, port) = (config.cluster_url.host().context("a host")?, config.cluster_url.port_u16().unwrap_or(443));
        let started = Instant::now();
        let program = Program::launch("unshare")
            .args(["--mount", "--", "sh", "-c", SETUP, "sh"])
            .arg(credentials.path())
            .arg(program)
            .args(args)
            .env("KUBERNETES_SERVICE_HOST", host)
            .env("KUBERNETES_SERVICE_PORT", port.to_string())
            .spawn()?;
        Ok(Self { program, started, _credentials: credentials })
    }

    /// When its process was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn wait(&self, timeout: Duration) -> Result<std::process::ExitStatus> {
        self.program.wait(timeout).await
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// SIGTERM, and waits for its end. Returns its log.
    ///
    /// # Errors
    /// When it had ended, or does not end well.
    pub async fn stop(self) -> Result<String> {
        self.program.signal(Signal::Term)?;
        let status = self.program.wait(SOON).await?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.program.log());
        Ok(self.program.log())
    }
}
