//! Puts the parts together, and takes them apart again on SIGTERM.

use std::ffi::OsString;
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
use tokio::sync::{Semaphore, watch};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::Api;
use crate::args::{Args, LogFormat, LogLevel, MOST_WATCHES, Scope, Settings};
use crate::bitnami;
use crate::bitnami::args::Mode;
use crate::bitnami::compat;
use crate::bitnami::keys::{Keys, RsaRing};
use crate::engine::Engine;
use crate::events::Events;
use crate::http::{Server, listen, metrics_routes, routes, serve};
use crate::keyring::{self, Keyring, Ring};
use crate::lease::{self, Election, Fence, Role};
use crate::metrics::Metrics;
use crate::reconcile::Context;

/// The whole program.
pub fn main() -> ExitCode {
    let mut ignored = Vec::new();
    let args = if compat::is_called_so(std::env::args_os().next().as_ref()) {
        match called_controller() {
            Ok(Some((args, unused))) => {
                ignored = unused;
                args
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => {
                say(std::io::stderr(), &format!("error: {error}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        Args::parse()
    };
    log(&args);
    for (flag, why) in ignored {
        tracing::warn!(flag = format!("--{flag}"), why, "this flag changes nothing here");
    }
    no_core_dumps();
    no_huge_pages();
    // Each thread has an arena of memory of its own, some MiB in a cold start. One waits for the network, which keeps it busy for
    // a fraction of the time that the API server takes; as many as there are cores decrypt, and one more for what is asked over HTTP.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(cores() + 1)
        .enable_all()
        .build()
        .context("cannot start threads");
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(run(&args));
        // What is still going on is not waited for: it may be a write of somebody who does not lead any more.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Flags that change nothing here, and why.
type Ignored = Vec<(&'static str, &'static str)>;

/// What the established controller's command line means. `None` when its version was asked for, and told.
fn called_controller() -> Result<Option<(Args, Ignored)>, String> {
    let given: Result<Vec<String>, _> = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let given = given.map_err(|_| "an argument is not UTF-8".to_owned())?;
    let env = |name: &str| std::env::var(name).ok();
    let translated = compat::translate(&given, env, &compat::own_namespace())?;
    if translated.version {
        say(std::io::stdout(), &format!("controller version: v{}", env!("CARGO_PKG_VERSION")));
        return Ok(None);
    }
    let all = std::iter::once("controller".to_owned()).chain(translated.args);
    let args = Args::try_parse_from(all).map_err(|error| error.to_string())?;
    Ok(Some((args, translated.ignored)))
}

/// One line; whoever closed the other end does not want it.
fn say(mut to: impl std::io::Write, line: &str) {
    let _ = writeln!(to, "{line}");
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

/// A page of 2 MiB for every few KiB that a thread uses is most of what this program would take. Where `always` is set in
/// `/sys/kernel/mm/transparent_hugepage/enabled` it is not enough that the allocator asks for none.
fn no_huge_pages() {
    if rustix::thread::disable_transparent_huge_pages(true).is_err() {
        tracing::debug!("huge pages could not be turned off: memory will look larger");
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

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A name that no other process has, nor an earlier one of the same Pod: what it wrote before it died is not ours.
fn identity(instance: &str) -> String {
    use std::hash::BuildHasher as _;
    let random = std::collections::hash_map::RandomState::new().hash_one(std::process::id());
    format!("{instance}_{random:016x}")
}

/// A long list of namespaces is watched as a whole, where that is allowed.
async fn narrowed(api: &Api, settings: Arc<Settings>) -> Arc<Settings> {
    let Scope::Each(list) = &settings.scope else { return settings };
    if list.len() <= MOST_WATCHES {
        return settings;
    }
    for (group, resource) in [("", "secrets"), (bulla::resource::GROUP, "sealedsecrets")] {
        for verb in ["list", "watch"] {
            if !api.allowed("", verb, group, resource).await.unwrap_or(false) {
                tracing::info!(
                    namespaces = list.len(),
                    "no right to watch the whole cluster: a watch for each namespace"
                );
                return settings;
            }
        }
    }
    let scope = Scope::Filtered(list.clone());
    Arc::new(Settings { scope, ..Settings::clone(&settings) })
}

async fn run(args: &Args) -> Result<()> {
    let settings = Arc::new(args.settings()?);
    let metrics = Arc::new(Metrics::default());
    let unfenced = Api::new(client(args).await?).measured(metrics.clone());
    let (ring_sender, ring) = watch::channel(Arc::new(Ring::default()));
    let (needs_sender, needs) = watch::channel(None);
    let (rewound_sender, rewound) = watch::channel(0);
    let (stop_sender, stop) = watch::channel(false);
    let (release_sender, release) = watch::channel(false);
    let (role_sender, mut role) = watch::channel(Role::Unknown);
    let synced = Arc::new(AtomicBool::new(false));
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    let (rsa_sender, rsa) = watch::channel(Arc::new(RsaRing::default()));
    let shared = (settings.bitnami.mode != Mode::Off).then(|| bitnami::Shared {
        ring: rsa,
        hints: Arc::default(),
        metrics: Arc::new(bitnami::metrics::Metrics::new(settings.bitnami.names_in_metrics)),
        observed: Arc::default(),
        telling: Arc::new(Semaphore::new(4)),
    });
    let mut registry = metrics.registry();
    if let Some(shared) = &shared {
        shared.metrics.register(&mut registry);
    }

    let server = Server::new(ring.clone(), settings.clone(), synced.clone(), metrics.clone(), shared.clone());
    let http = tokio::spawn(serve(listen(args.http_addr, "http").await?, routes(server), stop.clone()));
    let listener = listen(args.metrics_addr, "metrics").await?;
    let scraped = tokio::spawn(serve(listener, metrics_routes(registry), stop.clone()));

    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| format!("pid-{}", std::process::id()));
    let fence = if settings.election.is_some() { Fence::closed() } else { Fence::open() };
    let api = unfenced.clone().fenced(fence.clone());
    let events = Events::new(api.clone(), instance.clone());
    let work = tokio::spawn({
        let (mut stop, role, metrics) = (stop.clone(), role.clone(), metrics.clone());
        async move {
            tokio::select! {
                () = wait_for_api_server(&api) => {}
                _ = stop.changed() => return,
            }
            let settings = narrowed(&api, settings).await;
            tracing::info!(
                namespace = settings.namespace,
                version = env!("CARGO_PKG_VERSION"),
                "the controller starts"
            );
            let election = settings.election.map(|timing| {
                let (namespace, me) = (settings.namespace.clone(), identity(&instance));
                let election = Election { api: unfenced, namespace, me, timing, fence, role: role_sender.clone() };
                tokio::spawn(lease::run(election, release))
            });
            if election.is_none() {
                role_sender.send_replace(Role::Leading);
            }
            // Who writes decides what both begin with.
            let mut known = role.clone();
            tokio::select! {
                _ = known.wait_for(|role| *role != Role::Unknown) => {}
                _ = stop.changed() => return,
            }
            let keys = Keyring {
                published: Default::default(),
                api: api.clone(),
                events: events.clone(),
                settings: settings.clone(),
                metrics: metrics.clone(),
                ring: ring_sender,
                needs,
                rewound: rewound.clone(),
            };
            let keys = if settings.bitnami.only {
                // Nothing opens with keys of ours, and nothing waits for them.
                keys.ring.send_replace(Arc::new(Ring { complete: true, ..Ring::default() }));
                tokio::spawn(async move { keys.ring.closed().await })
            } else {
                tokio::spawn(keyring::run(keys))
            };
            let rsa_keys = shared.as_ref().map(|shared| {
                tokio::spawn(bitnami::keys::run(Keys {
                    api: api.clone(),
                    events: events.clone(),
                    settings: settings.bitnami.clone(),
                    metrics: shared.metrics.clone(),
                    ring: rsa_sender,
                    rewound,
                }))
            });
            let observing = shared.as_ref().filter(|_| settings.bitnami.mode == Mode::Observe).map(|shared| {
                let (namespace, observed) = (settings.namespace.clone(), shared.observed.clone());
                tokio::spawn(bitnami::observed::publish(api.clone(), namespace, observed, role.clone()))
            });
            let opening = Semaphore::new(cores());
            let context = Arc::new(Context { api, events, settings, ring, metrics, opening, bitnami: shared });
            Engine::new(context, needs_sender, rewound_sender, synced).run(role, stop).await;
            keys.abort();
            for task in [rsa_keys, observing].into_iter().flatten() {
                task.abort();
            }
            // Whatever was begun is done: the next one may begin.
            release_sender.send_replace(true);
            if let Some(election) = election
                && election.await.is_err()
            {
                tracing::warn!("the Lease was not given back");
            }
        }
    });
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending"),
            Ok(()) = role.changed() => {
                let now = *role.borrow_and_update();
                metrics.leader.set(i64::from(now == Role::Leading));
                if now == Role::Lost {
                    anyhow::bail!("the Lease is lost: another replica may write from now on");
                }
                continue;
            }
        }
        break;
    }
    stop_sender.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(25), async { tokio::join!(work, http, scraped) });
    if ended.await.is_err() {
        tracing::warn!("not everything ended in time");
    }
    tracing::info!("ended");
    Ok(())
}
