//! One replica of the controller, looked after as a kubelet would: when it ends it is started again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::task::JoinHandle;

use super::relay::{Relay, Way};
use crate::{Launch, Program, Signal, eventually, netns, write_private};

/// What the log of a leader that cannot be sure any more says when it ends.
const LOST: &str = "the Lease is lost";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How replicas are made.
#[derive(Clone, Debug)]
pub struct Make {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The API server's host and port.
    pub target: String,
    /// The certificate of the API server, PEM.
    pub ca: String,
    /// No log may contain one of these.
    pub forbidden: Vec<String>,
}

/// What is kept of a replica's life.
#[derive(Default)]
struct Life {
    process: Option<Program>,
    /// The ends that nobody caused.
    wrong: Vec<String>,
    /// A log that shows what none may show.
    shown: Vec<String>,
    starts: u32,
    /// Attempts to start it since it ran last.
    failed: u32,
    lost: u32,
    /// The end of the log of the process before.
    last_log: String,
}

/// One replica.
pub struct Replica {
    /// Its number, from 1.
    pub number: usize,
    /// Its way to the API server.
    pub relay: Relay,
    make: Make,
    dir: PathBuf,
    life: Mutex<Life>,
    /// Its end was caused.
    doomed: AtomicBool,
    /// It is not started again for now.
    held: AtomicBool,
    /// Largest peak of memory so far, KiB.
    peak: AtomicU64,
}

/// In a network namespace of its own: waits for its end of the link, and becomes the program.
const LINK: &str = "ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip address add \"$0.2/24\" dev eth0 && ip link set eth0 up && ip route add default via \"$0.1\" && exec \"$@\"";

impl Replica {
    /// One that is looked after until the task ends.
    pub async fn start(number: usize, make: Make, dir: &Path) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let dir = dir.join(format!("replica-{number}"));
        std::fs::create_dir_all(&dir)?;
        let host = if netns::address().is_some() { "0.0.0.0" } else { "127.0.0.1" };
        let relay = Relay::new(host, &make.target).await?;
        let replica = Arc::new(Self {
            number,
            relay,
            make,
            dir,
            life: Mutex::default(),
            doomed: AtomicBool::new(false),
            held: AtomicBool::new(true),
            peak: AtomicU64::new(0),
        });
        replica.configure()?;
        let keeper = tokio::spawn({
            let replica = replica.clone();
            async move {
                loop {
                    replica.look();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
        Ok((replica, keeper))
    }

    /// The first three parts of the network between it and the rest.
    fn network(&self) -> Option<String> {
        netns::address().map(|_| format!("10.78.{}", self.number))
    }

    fn link(&self) -> String {
        format!("chaos{}", self.number)
    }

    fn configure(&self) -> Result<()> {
        let host = self.network().map_or_else(|| "127.0.0.1".to_owned(), |network| format!("{network}.1"));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "chaos", "cluster": {
                "server": format!("https://{host}:{}", self.relay.address.port()),
                "certificate-authority-data": self.make.ca,
                "tls-server-name": "localhost",
            }}],
            "users": [{"name": "bulla", "user": {"tokenFile": self.dir.join("token")}}],
            "contexts": [{"name": "chaos", "context": {"cluster": "chaos", "user": "bulla"}}],
            "current-context": "chaos",
        });
        write_private(&self.dir.join("kubeconfig"), config.to_string().as_bytes())
    }

    /// The token of its service account.
    pub fn give_token(&self, token: &str) -> Result<()> {
        let next = self.dir.join("token.next");
        write_private(&next, token.as_bytes())?;
        Ok(std::fs::rename(next, self.dir.join("token"))?)
    }

    fn launch(&self) -> Result<Program> {
        let launch: Launch = match self.network() {
            Some(network) => {
                Program::launch("unshare").args(["--net", "--", "sh", "-c", LINK]).arg(network).arg(&self.make.program)
            }
            None => Program::launch(&self.make.program),
        };
        let program = launch.args(&self.make.args).arg("--kubeconfig").arg(self.dir.join("kubeconfig")).spawn()?;
        if let Some(network) = self.network() {
            self.connect(program.pid(), &network)?;
        }
        Ok(program)
    }

    /// A link from here into its network namespace, once that is there.
    fn connect(&self, pid: u32, network: &str) -> Result<()> {
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{pid}/ns/net");
        let mut tries = 0;
        while std::fs::read_link(&theirs).with_context(|| format!("replica {}", self.number))? == ours {
            tries += 1;
            ensure!(tries < 1000, "no network namespace for replica {}", self.number);
            std::thread::sleep(Duration::from_millis(5));
        }
        let link = self.link();
        // Of the process before, if its namespace has not ended yet.
        ip(&["link", "delete", &link]).ok();
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid.to_string()])?;
        ip(&["address", "add", &format!("{network}.1/24"), "dev", &link])?;
        ip(&["link", "set", &link, "up"])
    }

    /// Starts it when it does not run and should, and takes down how it ended.
    fn look(&self) {
        let mut life = lock(&self.life);
        if let Some(process) = &life.process {
            self.weigh(process.pid());
            match process.status() {
                Ok(None) => return,
                Ok(Some(status)) => {
                    let log = process.log();
                    life.process = None;
                    let doomed = self.doomed.swap(false, Ordering::AcqRel);
                    if log.contains(LOST) {
                        life.lost += 1;
                    } else if !doomed {
                        life.wrong.push(format!("replica {} ended with {status}:\n{}", self.number, tail(&log)));
                    }
                    self.search(&mut life, &log);
                    life.last_log = tail(&log).to_owned();
                }
                Err(error) => {
                    life.wrong.push(format!("replica {}: {error:#}", self.number));
                    life.process = None;
                }
            }
        }
        if self.held.load(Ordering::Acquire) {
            return;
        }
        match self.launch() {
            Ok(process) => {
                life.starts += 1;
                life.failed = 0;
                life.process = Some(process);
            }
            // The network of the process before may not have been taken down yet.
            Err(_) if life.failed < 100 => life.failed += 1,
            Err(error) => life.wrong.push(format!("replica {} did not start: {error:#}", self.number)),
        }
    }

    fn search(&self, life: &mut Life, log: &str) {
        for line in log.lines() {
            if self.make.forbidden.iter().any(|text| line.contains(text.as_str())) || line.contains("panicked") {
                life.shown.push(line.to_owned());
            }
        }
    }

    fn weigh(&self, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        // Before it becomes the program it is a shell.
        let is_it = status.lines().next().is_some_and(|name| name.contains("bulla"));
        if let Some(kib) = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).filter(|_| is_it) {
            self.peak.fetch_max(kib, Ordering::Relaxed);
        }
    }

    /// Lets it run, or holds it back once it has ended.
    pub fn hold(&self, hold: bool) {
        self.held.store(hold, Ordering::Release);
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        // With the lock held: nobody takes down the end of this process, or starts another, in between.
        let life = lock(&self.life);
        let Some(process) = life.process.as_ref().filter(|process| matches!(process.status(), Ok(None))) else {
            return;
        };
        if matches!(signal, Signal::Term | Signal::Kill | Signal::Int) {
            self.doomed.store(true, Ordering::Release);
        }
        // It may have ended in this moment.
        process.signal(signal).ok();
    }

    /// Whether it says that it leads.
    pub async fn leads(&self) -> bool {
        self.metrics().await.is_ok_and(|text| text.lines().any(|line| line == "bulla_leader 1"))
    }

    /// Where it serves what.
    pub fn address(&self, what: &str) -> Result<String> {
        let log = lock(&self.life).process.as_ref().map(Program::log).context("it does not run")?;
        let needle = format!("listening what=\"{what}\" address=");
        let listening = log.lines().find_map(|line| line.split_once(&needle)).context("it does not listen yet")?.1;
        let port = listening.split_whitespace().next().and_then(|address| address.rsplit(':').next());
        let host = self.network().map_or_else(|| "127.0.0.1".to_owned(), |network| format!("{network}.2"));
        Ok(format!("{host}:{}", port.context("no port")?))
    }

    /// Its metrics.
    pub async fn metrics(&self) -> Result<String> {
        let address = self.address("metrics")?;
        let asked = super::http::request(&address, "GET", "/metrics", b"");
        let (status, text) = tokio::time::timeout(Duration::from_secs(2), asked).await.context("no answer")??;
        ensure!(status == 200, "{status}");
        Ok(text)
    }

    /// Takes its link down or up again: a cut of the network. Without a network namespace the relay holds everything back.
    pub fn cut(&self, cut: bool) -> Result<()> {
        if self.network().is_some() && lock(&self.life).process.is_some() {
            let done = ip(&["link", "set", &self.link(), if cut { "down" } else { "up" }]);
            if done.is_ok() {
                return Ok(());
            }
        }
        self.relay.set(if cut { Way::Cut } else { Way::Open });
        Ok(())
    }

    /// What is to be said of it: starts, leases lost, peak of memory in MiB.
    pub fn figures(&self) -> (u32, u32, f64) {
        let life = lock(&self.life);
        let kib = u32::try_from(self.peak.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        (life.starts, life.lost, f64::from(kib) / 1024.0)
    }

    /// What went wrong: ends that nobody caused, and lines that none may show.
    pub fn faults(&self) -> Vec<String> {
        let mut life = lock(&self.life);
        if let Some(log) = life.process.as_ref().map(Program::log) {
            self.search(&mut life, &log);
        }
        let shown = life.shown.iter().map(|line| format!("replica {} shows: {line}", self.number));
        life.wrong.iter().cloned().chain(shown).collect()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let life = lock(&self.life);
        life.process.as_ref().map_or_else(|| life.last_log.clone(), |process| tail(&process.log()).to_owned())
    }

    /// Ends it for good.
    pub async fn end(&self) -> Result<()> {
        self.hold(true);
        self.signal(Signal::Cont);
        self.signal(Signal::Term);
        eventually("the replica to end", Duration::from_secs(40), async || {
            ensure!(lock(&self.life).process.is_none(), "it runs");
            Ok(())
        })
        .await
    }
}

fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(4000);
    (start..=log.len()).find_map(|at| log.get(at..)).unwrap_or_default()
}

fn ip(args: &[&str]) -> Result<()> {
    let output = std::process::Command::new("ip").args(args).output()?;
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
