//! Network namespaces: a fresh one, with an address that is not loopback.
//!
//! The API server's service proxy refuses loopback addresses, and a test has no business on the machine's other ones. In
//! a namespace of its own it has both an address and nobody to meet.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The address in the namespace. Its neighbour, over which the default route goes, does not exist.
pub const ADDRESS: &str = "10.77.0.1";

/// The variable that holds [`ADDRESS`] in what [`command`] runs.
pub const VARIABLE: &str = "BULLA_TEST_NETNS_ADDR";

// A veth pair whose both ends stay inside: a link that is up, over which nothing gets anywhere.
const SETUP: &str = "set -e
ip link set lo up
ip link add bulla0 type veth peer name bulla1
ip address add \"$BULLA_TEST_NETNS_ADDR/24\" dev bulla0
ip link set bulla0 up
ip link set bulla1 up
ip route add default via 10.77.0.2 dev bulla0
exec \"$@\"";

/// A command that runs `program` in a new network namespace, with the address in `BULLA_TEST_NETNS_ADDR`. The processes
/// `unshare` and `sh` become the program: its pid is the command's. Who is not root becomes root of a user namespace.
pub fn command(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--", "sh", "-c", SETUP, "sh"]).arg(program).args(args).env(VARIABLE, ADDRESS);
    command
}

/// Whether [`command`] works on this machine, and if not, why.
///
/// # Errors
/// The reason.
pub fn available() -> Result<(), String> {
    match command("true", [""; 0]).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("no network namespace of our own: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("no network namespace of our own: unshare: {error}")),
    }
}

/// The address that is not loopback, when this process runs in what [`command`] made.
pub fn address() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|address| !address.is_empty())
}
