//! The programs under test, as processes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::wait::eventually;

/// The path of a program that the workspace builds: in `BULLA_BIN_DIR`, or in the profile's directory in which this test's
/// executable lies too. Cargo builds it for its own package's tests only: run `cargo build` first.
///
/// # Errors
/// When there is no such file.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("BULLA_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        // target/PROFILE/deps/TEST-HASH
        None => std::env::current_exe()?.ancestors().nth(2).context("a test executable in no directory")?.to_path_buf(),
    };
    let path = dir.join(name);
    ensure!(path.is_file(), "{} is missing: `cargo build` makes it, or set BULLA_BIN_DIR", path.display());
    Ok(path)
}

/// A signal for [`Program::signal`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Cont,
    /// SIGUSR1.
    Usr1,
}

impl From<Signal> for rustix::process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Term => Self::TERM,
            Signal::Int => Self::INT,
            Signal::Kill => Self::KILL,
            Signal::Stop => Self::STOP,
            Signal::Cont => Self::CONT,
            Signal::Usr1 => Self::USR1,
        }
    }
}

/// A process to be started. It gets only the environment that it is given, and `PATH` and `TMPDIR`.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
}

impl Launch {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_os_string());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_os_string(), value.as_ref().to_os_string());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_path_buf());
        self
    }

    /// Starts it. What it writes to stdout and stderr is collected, in the order in which it wrote it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(self) -> Result<Program> {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned();
        let (mut reader, writer) = io::pipe()?;
        // `setpriv` and then `sh` become the program, so that pid and signals are the program's.
        let mut command = match setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--", "/bin/sh", "-c", UNLESS_ORPHANED]);
                command.arg(std::process::id().to_string()).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(&self.args).env_clear().stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(&self.env);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let child = spawn(command).with_context(|| format!("cannot start {}", self.program.display()))?;
        let log = Arc::new(Mutex::new(Log::default()));
        let sink = Arc::clone(&log);
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => lock(&sink).text.extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            lock(&sink).ended = true;
        });
        let pid = child.id();
        Ok(Program { name, pid, child: Mutex::new(child), log })
    }
}

#[derive(Default)]
struct Log {
    text: Vec<u8>,
    ended: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running program. Dropped, it is killed; it is also killed when the test process ends in any other way (on Linux).
#[derive(Debug)]
pub struct Program {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: Arc<Mutex<Log>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.text.len())
    }
}

impl Program {
    /// A process to be started.
    #[must_use]
    pub fn launch(program: impl Into<PathBuf>) -> Launch {
        Launch { program: program.into(), args: Vec::new(), env: BTreeMap::new(), dir: None }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// All that it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&lock(&self.log).text).into_owned()
    }

    /// How much it has written, in bytes: for [`Program::wait_for_line_since`].
    #[must_use]
    pub fn log_len(&self) -> usize {
        lock(&self.log).text.len()
    }

    /// Waits until it has written a whole line that contains `needle`, and returns the first such line.
    ///
    /// # Errors
    /// When the time is over or it has ended without one; the end of its log is in the error.
    pub async fn wait_for_line(&self, needle: &str, timeout: Duration) -> Result<String> {
        self.wait_for_line_since(0, needle, timeout).await
    }

    /// [`Program::wait_for_line`], of what it wrote after it had written `start` bytes.
    ///
    /// # Errors
    /// As there.
    pub async fn wait_for_line_since(&self, start: usize, needle: &str, timeout: Duration) -> Result<String> {
        let what = format!("{}: a line with {needle:?}", self.name);
        let found = eventually(&what, timeout, async || {
            let (text, ended) = {
                let log = lock(&self.log);
                (log.text.get(start..).unwrap_or_default().to_vec(), log.ended)
            };
            let text = String::from_utf8_lossy(&text);
            let line = text.split_inclusive('\n').find(|line| line.contains(needle) && (ended || line.ends_with('\n')));
            match line {
                Some(line) => Ok(Some(line.trim_end().to_owned())),
                None if ended => Ok(None),
                None => Err(anyhow!("the end of its log:\n{}", tail(&text))),
            }
        })
        .await?;
        match found {
            Some(line) => Ok(line),
            None => bail!("{what}: it has ended without; the end of its log:\n{}", tail(&self.log())),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = lock(&self.child);
        // The lock is held, so nobody can have waited for the process in between: its pid is still its own.
        if let Some(status) = child.try_wait()? {
            bail!("{} has ended: {status}", self.name);
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal.into()).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn status(&self) -> Result<Option<ExitStatus>> {
        Ok(lock(&self.child).try_wait()?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let status = eventually(&what, timeout, async || {
            self.status()?.with_context(|| format!("the end of its log:\n{}", tail(&self.log())))
        })
        .await?;
        // A descendant could hold the pipe open: not waited for longer than this.
        let drained = eventually("its last output", Duration::from_secs(1), async || {
            ensure!(lock(&self.log).ended, "there may be more");
            Ok(())
        });
        drained.await.ok();
        Ok(status)
    }

    /// Kills it and waits for its end. Nothing happens when it has ended.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        // Both fail only when it has ended.
        child.kill().ok();
        child.wait().ok();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("the end of the log of {}:\n{}", self.name, tail(&self.log()));
        }
    }
}

/// The last lines of a log, as much as an error can show.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(4096);
    (start..=text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}

/// The parent can have died before it was asked for a signal at its death: then its child has another parent by now.
const UNLESS_ORPHANED: &str = "test \"$PPID\" = \"$0\" || exit 1; unset PWD OLDPWD SHLVL; exec \"$@\"";

/// util-linux's `setpriv`, which can ask for a signal at the death of the parent.
fn setpriv() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).map(|dir| dir.join("setpriv")).find(|path| path.is_file())?;
        let tried = Command::new(&found).args(["--pdeathsig", "KILL", "--", "true"]).output().ok()?;
        tried.status.success().then_some(found)
    };
    FOUND.get_or_init(find).as_deref()
}

/// Starts a process from a thread that lives as long as this process: the death of the thread that started it is what
/// the kernel takes for the parent's.
fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                answer.send(command.spawn()).ok();
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    Ok(child.recv()??)
}
