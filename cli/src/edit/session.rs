//! A folder for plaintext while an editor works on it, that is gone at the end whatever the end is.
//!
//! It lies on a file system in memory where there is one. A thread waits for signals: while the editor runs, what a terminal
//! sends (Ctrl-C) is the editor's; to end this program ends the editor first. In between, any of them clears up and ends it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zeroize::Zeroizing;

use crate::failure::{self, Exit, Failure, Result, shown};
use crate::{files, output};

/// How long an editor may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

pub struct Session {
    shared: Arc<Shared>,
    file: PathBuf,
    /// Asks the thread to answer when it has seen all signals that have come until now.
    settle: UnboundedSender<mpsc::Sender<()>>,
}

struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// A signal asked for the end while the editor ran.
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Between,
    Editing(Pid),
    /// The editor is at its end; signals that came before it are still to be seen.
    Ended,
    Gone,
}

impl Session {
    /// Makes the folder, and a file in it with this text.
    pub fn start(text: &str) -> Result<Self> {
        let folder = folder()?;
        let shared = Arc::new(Shared { folder, state: Mutex::new(State { phase: Phase::Between, ended: false }) });
        let (settle, asked) = unbounded_channel();
        let session = Self { file: shared.folder.join("items.yaml"), shared, settle };
        // Nothing is written before somebody listens.
        session.listen(asked)?;
        let write = || {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&session.file)?.write_all(text.as_bytes())
        };
        write().map_err(|error| failure::io("write", &session.file, &error))?;
        Ok(session)
    }

    /// Runs the editor to its end. Only an editor that says that all is well comes back without an error.
    pub fn edit(&self, editor: &OsStr) -> Result<()> {
        let terminal = tcgetattr(std::io::stdin()).ok();
        let status = self.run(super::editor::command(editor, &self.file), editor);
        if let Some(terminal) = terminal {
            // An editor that was killed may have left it in a state of its own.
            _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &terminal);
        }
        if self.shared.state().ended {
            return Err(Failure::new("interrupted; nothing was written").exit(Exit::Interrupted));
        }
        let status = status?;
        let name = editor.to_string_lossy();
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(127), _) => Err(no_editor(&name)),
            (Some(code), _) => Err(Failure::new(format!("the editor {name} ended with {code}; nothing was written"))),
            (None, Some(2)) => Err(Failure::new("interrupted; nothing was written").exit(Exit::Interrupted)),
            (None, signal) => Err(Failure::new(format!(
                "the editor {name} was killed by signal {}; nothing was written",
                signal.unwrap_or_default()
            ))),
        }
    }

    fn run(&self, mut command: Command, editor: &OsStr) -> Result<ExitStatus> {
        let name = editor.to_string_lossy();
        // A signal that comes now waits until there is something to pass it on to.
        let mut state = self.shared.state();
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => no_editor(&name),
            _ => Failure::new(format!("can't start the editor {name}: {error}")),
        })?;
        let pid = Pid::from_child(&child);
        state.phase = Phase::Editing(pid);
        drop(state);
        // Looked at first and reaped later, so that its number is nobody else's as long as it may be signalled.
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {
        }
        self.shared.state().phase = Phase::Ended;
        // A Ctrl-C that was the editor's must not end this program because it is noticed late.
        let (tell, told) = mpsc::channel();
        if self.settle.send(tell).is_ok() {
            _ = told.recv();
        }
        self.shared.state().phase = Phase::Between;
        child.wait().map_err(|error| Failure::new(format!("can't wait for the editor {name}: {error}")))
    }

    /// The text as it is now.
    pub fn text(&self) -> Result<Zeroizing<Vec<u8>>> {
        files::read(&self.file).map_err(|failure| match failure.exit {
            Exit::Missing => Failure::new("the editor left no file; nothing was written"),
            _ => failure,
        })
    }

    fn listen(&self, mut asked: UnboundedReceiver<mpsc::Sender<()>>) -> Result<()> {
        let fail = |error: std::io::Error| Failure::new(format!("can't listen for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let shared = Arc::clone(&self.shared);
        let (tell, told) = mpsc::channel();
        let work = async move {
            let kinds = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate(), SignalKind::hangup()];
            let mut signals = Vec::new();
            for kind in kinds {
                match signal(kind) {
                    Ok(signal) => signals.push(signal),
                    Err(error) => {
                        _ = tell.send(Err(error));
                        return;
                    }
                }
            }
            _ = tell.send(Ok(()));
            let [interrupt, quit, terminate, hangup] = signals.as_mut_slice() else { return };
            let mut settling = None;
            loop {
                let of_terminal = tokio::select! {
                    biased;
                    _ = interrupt.recv() => true,
                    _ = quit.recv() => true,
                    _ = terminate.recv() => false,
                    _ = hangup.recv() => false,
                    Some(tell) = asked.recv(), if settling.is_none() => {
                        settling = Some(tell);
                        continue;
                    }
                    // Signals are looked for when this thread goes to sleep, however shortly.
                    () = tokio::time::sleep(Duration::from_millis(1)), if settling.is_some() => {
                        if let Some(tell) = settling.take() {
                            _ = tell.send(());
                        }
                        continue;
                    }
                };
                shared.signalled(of_terminal).await;
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(work)).map_err(fail)?;
        told.recv().map_err(|_| Failure::new("can't listen for signals"))?.map_err(fail)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn signalled(&self, of_terminal: bool) {
        let phase = {
            let mut state = self.state();
            match state.phase {
                // From the keyboard it has gone to the editor as well, which knows better.
                Phase::Editing(_) | Phase::Ended if of_terminal => return,
                Phase::Editing(_) | Phase::Ended => state.ended = true,
                Phase::Between | Phase::Gone => {
                    wipe(&self.folder);
                    std::process::exit(130);
                }
            }
            state.phase
        };
        let Phase::Editing(pid) = phase else { return };
        _ = kill_process(pid, Signal::TERM);
        let start = tokio::time::Instant::now();
        while start.elapsed() < GRACE {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.state().phase != phase {
                return;
            }
        }
        let state = self.state();
        if state.phase == phase {
            _ = kill_process(pid, Signal::KILL);
        }
    }

    fn clear(&self) {
        let mut state = self.state();
        wipe(&self.folder);
        state.phase = Phase::Gone;
    }
}

fn no_editor(name: &str) -> Box<Failure> {
    Failure::new(format!("there is no editor {name}")).help("VISUAL or EDITOR names one: EDITOR=nano bulla edit FILE")
}

/// A new folder for nobody else: below `$XDG_RUNTIME_DIR` or `/dev/shm`, which are in memory, else in the usual place for
/// temporary files, with a warning.
fn folder() -> Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    for place in runtime.into_iter().chain([PathBuf::from("/dev/shm")]) {
        if is_in_memory(&place)
            && let Ok(folder) = make(&place)
        {
            return Ok(folder);
        }
    }
    let place = std::env::temp_dir();
    let folder = make(&place).map_err(|error| failure::io("make a folder in", &place, &error))?;
    output::warn(&format!("no file system in memory is there: the text lies in {} while it is edited", shown(&place)));
    Ok(folder)
}

fn make(place: &Path) -> std::io::Result<PathBuf> {
    let permissions = std::fs::Permissions::from_mode(0o700);
    Ok(tempfile::Builder::new().prefix("bulla-edit-").permissions(permissions).tempdir_in(place)?.keep())
}

#[cfg(target_os = "linux")]
fn is_in_memory(place: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::statfs(place).is_ok_and(|found| matches!(found.f_type as u64 & 0xffff_ffff, TMPFS | RAMFS))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

/// Overwrites and removes everything. What can't be removed, a program that is gone can't mend.
fn wipe(folder: &Path) {
    overwrite(folder);
    _ = std::fs::remove_dir_all(folder);
}

fn overwrite(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            overwrite(&entry.path());
        } else if kind.is_file()
            && let Ok(mut file) = OpenOptions::new().write(true).open(entry.path())
            && let Ok(metadata) = file.metadata()
            && metadata.nlink() == 1
        {
            _ = std::io::copy(&mut std::io::repeat(0).take(metadata.len()), &mut file);
            _ = file.sync_data();
        }
    }
}
