//! What can be typed about the repository's policy.

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, ReportFormat};

/// `bulla init`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla init --context prod-eu --as prod      the cluster's public key becomes the recipient prod
  bulla init alice.txt.pub --as alice         without a cluster

Writes .bulla.yaml at the repository's root, and .bulla/NAME.pub. Nothing is overwritten.")]
pub struct InitArgs {
    /// A public key, instead of a cluster's; or a certificate, for Bitnami's format
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What the recipient is called (default: the cluster's name, the file's)
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// The files that are sealed for it: a glob as in .gitignore (default: **)
    #[arg(long, value_name = "GLOB")]
    pub rule: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla recipients add`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla recipients add dr --context dr-us --rule 'apps/*/prod/**'
  bulla recipients add alice alice.txt.pub --rule 'apps/*/dev/**'
  bulla recipients add recovery recovery.txt.pub --always
  bulla recipients add prod-rsa cert.pem --rule 'legacy/**'     Bitnami's format

Writes .bulla/NAME.pub and changes those lines of .bulla.yaml that it must; comments stay. With a glob that a rule has
already, that rule gets one recipient more; with any other there is a new rule at the end.")]
pub struct RecipientsAddArgs {
    /// What it is called
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A public key, instead of a cluster's; or a certificate, for Bitnami's format, with a rule of its own
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The files that are sealed for it too: a glob as in .gitignore
    #[arg(long, value_name = "GLOB")]
    pub rule: Option<String>,
    /// Everything is sealed for it too
    #[arg(long)]
    pub always: bool,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla recipients update`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla recipients update                                   all clusters of .bulla.yaml
  bulla recipients update prod --context prod-new --accept FULL-FINGERPRINT

Compares what is pinned with what the cluster publishes. A new key takes the old one's place by itself when the cluster
proves that it holds the old one; else after --accept with the fingerprint of the new key, all 53 characters, which somebody
who may know has told you. Exit code: 0 the same, or vouched for; 1 not vouched for.")]
pub struct RecipientsUpdateArgs {
    /// Which (default: all that have a cluster)
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Take the key of this fingerprint, which is nobody's word but yours
    #[arg(long, value_name = "FULL-FINGERPRINT")]
    pub accept: Option<String>,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
