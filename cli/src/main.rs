//! `bulla`: seals Kubernetes Secrets so that they can live in Git.

use std::process::ExitCode;

mod bitnami;
mod certificate;
mod check;
mod cli;
mod cluster;
mod commands;
mod edit;
mod failure;
mod files;
mod generate;
mod git;
mod identities;
mod input;
mod kubeseal;
mod model;
mod output;
mod policy;
mod program;
mod recipients;
mod rsa;
mod tree;

fn main() -> ExitCode {
    core_dumps(false);
    match program::typed() {
        Ok(cli) => commands::run(cli),
        Err(code) => code,
    }
}

/// A core dump could hold values. Where that can't be had there is nothing better to do.
pub fn core_dumps(allowed: bool) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    use std::sync::OnceLock;
    static BEFORE: OnceLock<Option<u64>> = OnceLock::new();
    let limit = getrlimit(Resource::Core);
    let before = *BEFORE.get_or_init(|| limit.current);
    let current = if allowed { before } else { Some(0) };
    _ = setrlimit(Resource::Core, rustix::process::Rlimit { current, ..limit });
}
