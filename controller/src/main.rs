//! Turns SealedSecret resources into native Secrets.

mod api;
mod args;
mod bitnami;
mod engine;
mod events;
mod http;
mod keyring;
mod lease;
mod metrics;
mod object;
mod queue;
mod reconcile;
mod run;
mod status;
mod watch;

/// musl's own allocator is several times slower with two threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    run::main()
}
