//! The command line: what was typed, and what it means.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bulla::policy::{Lists, OutputPolicy, Pattern};
use bulla::recipient::{is_envelope_name, parse_recipients};
use bulla::reseal::Configured;
use bulla::resource::Drift;
use bulla::scope::is_dns_label;
use clap::{Parser, ValueEnum};

use crate::bitnami::args::{BitnamiArgs, BitnamiSettings};
use crate::lease::Timing;

/// Turns SealedSecret resources into native Secrets.
#[derive(Parser, Clone, Debug)]
#[command(name = "bulla-controller", version)]
pub struct Args {
    /// The controller's own namespace: its keys, and the ConfigMap bulla-recipients.
    #[arg(long, default_value = "bulla-system", env = "BULLA_NAMESPACE")]
    pub namespace: String,
    /// Serve only this namespace (may be repeated); all when absent. Up to 16 are watched each by itself, so that no right in
    /// the whole cluster is needed; more with one watch of the cluster, if there is the right to it.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,
    /// Serve only namespaces with these labels: a label selector as kubectl takes it, as env=prod,tier!=test.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "watch_namespaces")]
    pub namespace_selector: Option<String>,
    /// Write only while holding the Lease bulla-controller in the controller's own namespace, so that several replicas can run.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// How long a leader that has gone silent is waited for, in whole seconds.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = parse_duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long a leader that cannot renew its Lease goes on writing; less than the lease duration.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub leader_elect_renew_deadline: Duration,
    /// How often the leader renews its Lease; less than the deadline.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub leader_elect_retry_period: Duration,
    /// A kubeconfig file. Without it: $KUBECONFIG, then the Pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long)]
    pub context: Option<String>,
    /// Where /v1, /healthz and /readyz are served. Port 0 takes a free one and logs it.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_addr: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub metrics_addr: SocketAddr,
    /// The cluster's name, as repositories call it.
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// A further recipient that may read all that is sealed for this cluster: a recovery key, another cluster (may be
    /// repeated). With ;namespaces=a,b it gets what is sealed for these namespaces only, and is not published.
    #[arg(long = "recipient", value_name = "NAME=FILE[;namespaces=…]")]
    pub recipients: Vec<String>,
    /// How long a new key is published before it is preferred, where its SealingKey does not say.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub prefer_after: Duration,
    /// Make another key when the newest has been published for so long; 0 never does.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = parse_duration)]
    pub renew_after: Duration,
    /// What happens when somebody changes a Secret, where its SealedSecret does not say.
    #[arg(long, value_enum, default_value_t = DriftArg::Enforce)]
    pub drift: DriftArg,
    /// Make Secrets in the controller's own namespace too.
    #[arg(long)]
    pub serve_own_namespace: bool,
    /// Open and compare everything on start, whatever the status says.
    #[arg(long)]
    pub verify_on_start: bool,
    /// Types of Secrets to make, no others (may be repeated; a final * matches anything). Credentials of the cluster, as
    /// kubernetes.io/service-account-token, are made only when named here in full.
    #[arg(long = "allow-type", value_name = "TYPE")]
    pub allow_types: Vec<String>,
    /// Types of Secrets never to make.
    #[arg(long = "deny-type", value_name = "TYPE")]
    pub deny_types: Vec<String>,
    /// Labels that templates may set, no others.
    #[arg(long = "allow-template-label", value_name = "LABEL")]
    pub allow_labels: Vec<String>,
    /// Labels that templates may not set.
    #[arg(long = "deny-template-label", value_name = "LABEL")]
    pub deny_labels: Vec<String>,
    /// Annotations that templates may set, no others.
    #[arg(long = "allow-template-annotation", value_name = "ANNOTATION")]
    pub allow_annotations: Vec<String>,
    /// Annotations that templates may not set.
    #[arg(long = "deny-template-annotation", value_name = "ANNOTATION")]
    pub deny_annotations: Vec<String>,
    /// Whether templates under spec.template.data are rendered. When off, objects that have any are Stalled.
    #[arg(long, value_enum, default_value_t = TemplatesArg::On)]
    pub templates: TemplatesArg,
    /// How much is logged. What libraries log is never shown: it can quote an API server's message.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
    /// How it is logged.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// The other format.
    #[command(flatten)]
    pub bitnami: BitnamiArgs,
}

/// `--drift`.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum DriftArg {
    /// Put it back.
    Enforce,
    /// Say so and leave it.
    Warn,
}

/// `--templates`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplatesArg {
    /// Render them.
    On,
    /// Refuse objects that have any.
    Off,
}

/// `--log-level`.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum LogLevel {
    /// What somebody must look at.
    Error,
    /// What may need somebody.
    Warn,
    /// What happened.
    Info,
    /// Every object's every step.
    Debug,
}

/// `--log-format`.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which namespaces are served, and how they are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All, with one watch.
    All,
    /// These, with a watch each.
    Each(BTreeSet<String>),
    /// These, with one watch of the whole cluster.
    Filtered(BTreeSet<String>),
    /// Those whose labels a selector selects, with one watch of the whole cluster.
    Selected(String),
}

/// More namespaces than this are better watched with one watch, where that is allowed.
pub const MOST_WATCHES: usize = 16;

/// What the command line means.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The controller's own namespace.
    pub namespace: String,
    /// The namespaces served.
    pub scope: Scope,
    /// Leadership; without it this replica is alone.
    pub election: Option<Timing>,
    /// What is refused.
    pub policy: OutputPolicy,
    /// What happens on drift where the object does not say.
    pub drift: Drift,
    /// The overlap of keys where a SealingKey does not say.
    pub prefer_after: Duration,
    /// How old the newest key becomes.
    pub renew_after: Duration,
    /// The cluster's name.
    pub cluster_name: Option<String>,
    /// Further recipients.
    pub configured: Vec<Configured>,
    /// Whether statuses are disbelieved on start.
    pub verify_on_start: bool,
    /// The other format.
    pub bitnami: BitnamiSettings,
}

impl Args {
    /// Reads the files that are named, and checks names.
    ///
    /// # Errors
    /// A name or file that can't be used.
    pub fn settings(&self) -> Result<Settings> {
        if let Some(name) = &self.cluster_name {
            ensure!(is_envelope_name(name), "--cluster-name: {name:?} is not [a-z]([-a-z0-9]{{0,61}}[a-z0-9])?");
        }
        let mut configured: Vec<Configured> = Vec::new();
        for given in &self.recipients {
            let one = recipient(given)?;
            let twice = configured.iter().any(|other| other.name == one.name || other.recipient == one.recipient);
            ensure!(!twice, "--recipient {}: the name or the recipient was given before", one.name);
            configured.push(one);
        }
        let scope = match (&self.namespace_selector, self.watch_namespaces.as_slice()) {
            (Some(selector), _) => {
                ensure!(
                    !selector.trim().is_empty(),
                    "--namespace-selector: an empty one selects everything: leave it out"
                );
                Scope::Selected(selector.clone())
            }
            (None, []) => Scope::All,
            (None, some) => Scope::Each(some.iter().cloned().collect()),
        };
        let election = Timing {
            lease: self.leader_elect_lease_duration,
            deadline: self.leader_elect_renew_deadline,
            retry: self.leader_elect_retry_period,
        };
        ensure!(
            election.lease.subsec_nanos() == 0
                && (1..=600).contains(&election.lease.as_secs())
                && election.deadline < election.lease
                && election.retry * 2 <= election.deadline
                && !election.retry.is_zero(),
            "--leader-elect-lease-duration is whole seconds up to 600s, longer than --leader-elect-renew-deadline, and that at \
             least twice --leader-elect-retry-period"
        );
        let lists = |allow: &[String], deny: &[String]| Lists {
            allow: allow.iter().map(Pattern::new).collect(),
            deny: deny.iter().map(Pattern::new).collect(),
        };
        Ok(Settings {
            namespace: self.namespace.clone(),
            scope,
            election: self.leader_elect.then_some(election),
            policy: OutputPolicy {
                own_namespace: self.namespace.clone(),
                serve_own_namespace: self.serve_own_namespace,
                types: lists(&self.allow_types, &self.deny_types),
                labels: lists(&self.allow_labels, &self.deny_labels),
                annotations: lists(&self.allow_annotations, &self.deny_annotations),
                no_templates: self.templates == TemplatesArg::Off,
            },
            drift: match self.drift {
                DriftArg::Enforce => Drift::Enforce,
                DriftArg::Warn => Drift::Warn,
            },
            prefer_after: self.prefer_after,
            renew_after: self.renew_after,
            cluster_name: self.cluster_name.clone(),
            configured,
            verify_on_start: self.verify_on_start,
            bitnami: self.bitnami.settings()?,
        })
    }
}

/// A recipient of the command line: `NAME=FILE`, and `;namespaces=` with the only namespaces that it may read.
fn recipient(given: &str) -> Result<Configured> {
    let (name, rest) = given.split_once('=').context("--recipient wants NAME=FILE")?;
    ensure!(is_envelope_name(name), "--recipient: {name:?} is not [a-z]([-a-z0-9]{{0,61}}[a-z0-9])?");
    let (file, namespaces) = match rest.split_once(';') {
        None => (rest, None),
        Some((file, option)) => {
            let list = option.strip_prefix("namespaces=");
            let list = list.with_context(|| format!("--recipient {name}: {option:?} is not namespaces=a,b"))?;
            let list: BTreeSet<String> = list.split(',').map(str::to_owned).collect();
            // An empty list would be read as all of them by one half of those who write it.
            ensure!(
                list.iter().all(|namespace| is_dns_label(namespace)),
                "--recipient {name}: namespaces= wants names of namespaces, with commas between them"
            );
            (file, Some(list))
        }
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("--recipient {name}: {file}"))?;
    let listed = parse_recipients(&text).with_context(|| format!("--recipient {name}: {file}"))?;
    let [one] = listed.as_slice() else { bail!("--recipient {name}: {file} has {} recipients", listed.len()) };
    Ok(Configured { name: name.to_owned(), recipient: one.recipient.clone(), namespaces })
}

/// At most this: a year.
const MAX_DURATION: Duration = Duration::from_secs(8760 * 3600);

/// A Go duration of whole parts in h, m, s and ms, up to 8760h: `24h`, `1h30m`, `0s`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration_up_to(text, MAX_DURATION)
}

/// The same, with another limit.
///
/// # Errors
/// What is wrong with it.
pub fn duration_up_to(text: &str, most: Duration) -> Result<Duration, String> {
    let wrong = || format!("not a duration such as 24h, 1h30m or 0s, at most {}h", most.as_secs() / 3600);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return Err(wrong()),
        };
        sum = unit.checked_mul(number).and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    if text.is_empty() || sum > most { Err(wrong()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn recipients_may_be_limited_to_namespaces() {
        let identity = bulla::recipient::Identity::generate(bulla::recipient::RecipientKind::Hybrid).unwrap();
        let dir = std::env::temp_dir().join(format!("bulla-args-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("dr.pub");
        std::fs::write(&file, identity.recipient().as_str()).unwrap();
        let file = file.display();
        assert_eq!(recipient(&format!("dr={file}")).unwrap().namespaces, None);
        let limited = recipient(&format!("dr={file};namespaces=shop,live")).unwrap();
        assert_eq!(limited.namespaces, Some(["live", "shop"].map(str::to_owned).into()));
        for wrong in ["", "namespaces=", "namespaces=a,,b", "namespaces=a, b", "namespace=a", "namespaces=*"] {
            assert!(recipient(&format!("dr={file};{wrong}")).is_err(), "{wrong}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, seconds) in [("24h", 86400), ("1h30m", 5400), ("0s", 0), ("0", 0), ("8760h", 31_536_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1", "1d", "8761h", "-1h", "1.5h", "99999999999h", "4294967295h", "1h-"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
