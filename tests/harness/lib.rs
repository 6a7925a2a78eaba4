//! What tests need that run against a real Kubernetes API server: a control plane, the programs as processes, and
//! ways to wait that are not sleeps.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use anyhow::{Context, Result};
//! use bulla_tests::{Program, binary, cluster, eventually};
//! use k8s_openapi::api::core::v1::Secret;
//! use kube::Api;
//!
//! # async fn test() -> Result<()> {
//! let cluster = cluster()?; // one a test binary, started by whoever asks first
//! let client = cluster.client()?; // one a test: a client belongs to the runtime that made it
//! let namespace = cluster.namespace("drift").await?; // one a test
//! let dir = tempfile::tempdir()?;
//! let kubeconfig = cluster.service_account_kubeconfig(&namespace, "default", dir.path()).await?;
//! let controller = Program::launch(binary("bulla-controller")?).env("KUBECONFIG", &kubeconfig).spawn()?;
//! controller.wait_for_line("ready", Duration::from_secs(10)).await?;
//! let secrets: Api<Secret> = Api::namespaced(client, &namespace);
//! let made = eventually("the Secret", Duration::from_secs(10), async || {
//!     secrets.get_opt("db").await?.context("there is none")
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```
//!
//! The control plane is `tests/controlplane`, a Go program; the first use builds it, which takes minutes, into
//! `target/controlplane`. What changes it:
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KUBEBUILDER_ASSETS` | directory of `kube-apiserver`, `etcd` and perhaps `kube-controller-manager` to use instead of the built ones |
//! | `TEST_ASSET_KUBE_APISERVER`, `TEST_ASSET_ETCD` | the same, each by its path |
//! | `BULLA_TEST_CONTROLPLANE` | the built Go program, to use instead of building it |
//! | `BULLA_TEST_ESTABLISHED` | the folder with the built programs of `tests/established`, to use instead of building them |
//! | `BULLA_TEST_PEER` | the built program of `tests/peer`, to use instead of building it |
//! | `BULLA_TEST_KEEP` | keep the control plane's directory with its logs, and print where it is |
//! | `BULLA_BIN_DIR` | where [`binary`] looks for the programs under test |
//! | `BULLA_TEST_NETNS_ADDR` | set by [`netns::command`]: the address in the network namespace |
//! | `CI` | [`skip`] fails the test |

// Output of tests goes to stderr: there is no other reader of it.
#![allow(clippy::print_stderr)]

mod api;
mod build;
#[path = "../chaos/mod.rs"]
pub mod chaos;
mod established;
pub mod netns;
mod plane;
mod program;
pub mod rsa;
mod wait;

pub use api::{apply, delete, service_account_kubeconfig, service_account_token, write_private};
pub use build::{build_control_plane, build_established, build_peer};
pub use established::Established;
pub use plane::{Component, ControlPlane, cluster};
pub use program::{Launch, Program, Signal, binary};
pub use wait::eventually;

/// The address in the line in which the controller says where it listens.
#[must_use]
pub fn http_address(line: &str) -> Option<&str> {
    let rest = line.split_once("listening what=\"http\" address=")?.1;
    rest.split_whitespace().next()
}

/// Says why a test did not run, or fails it where everything has to run: when `CI` is set.
///
/// # Panics
/// When `CI` is set.
pub fn skip(reason: impl std::fmt::Display) {
    assert!(std::env::var_os("CI").is_none(), "a test may not be skipped in CI: {reason}");
    eprintln!("skipped: {reason}");
}
