//! Puts the parts together, and takes them apart again on SIGTERM.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::Api;
use crate::args::{Args, LogFormat, LogLevel};
use crate::engine::Engine;
use crate::events::Events;
use crate::http::{Server, listen, metrics_routes, routes, serve};
use crate::keyring::{self, Keyring, Ring};
use crate::metrics::Metrics;
use crate::reconcile::Context;

/// The whole program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    log(&args);
    no_core_dumps();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads");
    match runtime.and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Only what this program itself logs: what libraries say of a request can quote the API server, and that a value.
fn log(args: &Args) {
    let level = match args.log_level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    let ours = Targets::new().with_target("bulla_controller", level);
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(ours);
    match args.log_format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
}

/// Private keys are in this process's memory: it is not dumped, and no other process of its user reads it.
fn no_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err() || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        tracing::warn!("core dumps could not be turned off");
    }
}

async fn client(args: &Args) -> Result<Client> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match (&args.kubeconfig, &args.context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).context("--kubeconfig")?;
            Config::from_custom_kubeconfig(file, &options).await.context("--kubeconfig")?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.context("--context")?,
        (None, None) => Config::infer().await.context("neither a kubeconfig nor a Pod's service account")?,
    };
    // A retried POST after a lost answer, or after the loss of leadership, is for us to decide.
    config.default_retry = false;
    let no_root = config.root_cert.is_none() && config.cluster_url.scheme_str() == Some("https");
    Client::try_from(config).map_err(|error| {
        if no_root {
            anyhow::anyhow!(
                "no certificate authority to trust the API server by: none is configured (certificate-authority in the \
                 kubeconfig, or the service account's ca.crt), and the system has none (/etc/ssl/certs)"
            )
        } else {
            anyhow::Error::from(error).context("cannot set up the connection to the API server")
        }
    })
}

/// Waits for the API server: one that is not there yet is no reason to end.
async fn wait_for_api_server(api: &Api) {
    let mut told = false;
    loop {
        match api.get::<serde_json::Value>("", "version").await {
            Ok(_) => return,
            Err(failure) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%failure, "waiting for the API server");
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn run(args: &Args) -> Result<()> {
    let settings = Arc::new(args.settings()?);
    let api = Api::new(client(args).await?);
    let metrics = Arc::new(Metrics::default());
    let (ring_sender, ring) = watch::channel(Arc::new(Ring::default()));
    let (needs_sender, needs) = watch::channel(None);
    let (stop_sender, stop) = watch::channel(false);
    let synced = Arc::new(AtomicBool::new(false));
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    let server = Server::new(ring.clone(), settings.clone(), synced.clone(), metrics.clone());
    let http = tokio::spawn(serve(listen(args.http_addr, "http").await?, routes(server), stop.clone()));
    let listener = listen(args.metrics_addr, "metrics").await?;
    let scraped = tokio::spawn(serve(listener, metrics_routes(metrics.registry()), stop.clone()));

    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| format!("pid-{}", std::process::id()));
    let events = Events::new(api.clone(), instance);
    let work = tokio::spawn({
        let (settings, mut stop) = (settings.clone(), stop.clone());
        async move {
            tokio::select! {
                () = wait_for_api_server(&api) => {}
                _ = stop.changed() => return,
            }
            tracing::info!(
                namespace = settings.namespace,
                version = env!("CARGO_PKG_VERSION"),
                "the controller starts"
            );
            let keys = Keyring {
                published: Default::default(),
                api: api.clone(),
                events: events.clone(),
                settings: settings.clone(),
                metrics: metrics.clone(),
                ring: ring_sender,
                needs,
            };
            let keys = tokio::spawn(keyring::run(keys));
            let context = Arc::new(Context { api, events, settings, ring, metrics });
            Engine::new(context, needs_sender, synced).run(stop).await;
            keys.abort();
        }
    });
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
        _ = interrupt.recv() => tracing::info!("SIGINT: ending"),
    }
    stop_sender.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(25), async { tokio::join!(work, http, scraped) });
    if ended.await.is_err() {
        tracing::warn!("not everything ended in time");
    }
    tracing::info!("ended");
    Ok(())
}
