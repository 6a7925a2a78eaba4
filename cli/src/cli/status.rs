//! `bulla status`

use clap::Args;

use super::{ClusterArgs, ReportFormat};

/// `bulla status`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla status                        all namespaces of the current context
  bulla status -n shop --context prod
  bulla status --observed             what a controller with --bitnami=observe has found
  bulla status --superseded           whether the files of sealed-secrets may go

Shows each SealedSecret with its state and the sealing keys that open it, and how many no other key opens. Exits with 10 when
one is not ready.

With --observed it tells how many SealedSecrets of bitnami.com a controller that only observes has looked at, and which of
them do not open or say something else than their Secret. Exits with 10 when there are such, or not all have been looked at.

With --superseded it tells of the SealedSecrets of bitnami.com whether a native one of the same name makes the Secret now, and exits
with 10 while one does not have that: until then the old files stay (docs/coming-from-sealed-secrets.md).")]
pub struct StatusArgs {
    /// Only this namespace
    #[arg(short = 'n', long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces (the default)
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The SealedSecrets of bitnami.com, and what observing has found of them
    #[arg(long, conflicts_with_all = ["superseded", "namespace"])]
    pub observed: bool,
    /// The SealedSecrets of bitnami.com, and whether native ones have taken their place
    #[arg(long)]
    pub superseded: bool,
    /// Exit with 0 although something is not ready
    #[arg(long)]
    pub exit_zero: bool,
    /// How to show it
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
