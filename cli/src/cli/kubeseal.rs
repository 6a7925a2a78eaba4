//! `kubeseal`: the flags of the established command, with their meaning. Booleans are written as `--flag` or `--flag=false`, a flag
//! that is repeated counts with its last value, and every flag but those of logging has an environment variable.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::ScopeArg;

/// Seals Secrets for a controller of Bitnami sealed-secrets, or for Bulla's, which stands in for it.
#[derive(Parser)]
#[command(name = "kubeseal", disable_version_flag = true)]
pub struct Kubeseal {
    /// The flags.
    #[command(flatten)]
    pub args: KubesealArgs,
}

/// `kubeseal`, `bulla kubeseal`
#[derive(Args)]
#[command(
    args_override_self = true,
    after_long_help = "Examples:
  kubeseal -f secret.yaml -w sealed.yaml
  kubectl create secret generic db --from-literal=password=x --dry-run=client -o json | kubeseal --cert cert.pem > sealed.json
  printf %s \"$PASSWORD\" | kubeseal --raw --name db --namespace shop --cert cert.pem
  kubeseal -f new.yaml --merge-into sealed.yaml
  kubeseal --validate -f sealed.yaml
  kubeseal --re-encrypt -f sealed.yaml
  kubeseal --fetch-cert > cert.pem
  kubeseal --recovery-unseal --recovery-private-key keys.yaml -f sealed.yaml

What it does differently from the established command is on the page docs/kubeseal.md. Every flag but those of logging has an
environment variable: SEALED_SECRETS_CONTROLLER_NAME for --controller-name."
)]
pub struct KubesealArgs {
    /// Certificate to seal with: a file, or a URL (file://, http://, https://); no cluster is asked
    #[arg(long, value_name = "FILE|URL", env = "SEALED_SECRETS_CERT")]
    pub cert: Option<String>,
    /// Name of the controller's Service
    #[arg(
        long,
        value_name = "NAME",
        env = "SEALED_SECRETS_CONTROLLER_NAME",
        default_value = "sealed-secrets-controller"
    )]
    pub controller_name: String,
    /// Namespace of the controller's Service
    #[arg(long, value_name = "NAMESPACE", env = "SEALED_SECRETS_CONTROLLER_NAMESPACE", default_value = "kube-system")]
    pub controller_namespace: String,
    /// json or yaml; a file that is written and ends in .yaml or .yml gets YAML
    #[arg(short = 'o', long, value_name = "FORMAT", env = "SEALED_SECRETS_FORMAT", default_value = "json")]
    pub format: String,
    /// Write to this file instead of standard output
    #[arg(short = 'w', long, value_name = "FILE", env = "SEALED_SECRETS_SEALED_SECRET_FILE")]
    pub sealed_secret_file: Option<PathBuf>,
    /// Read this file instead of standard input
    #[arg(short = 'f', long, value_name = "FILE", env = "SEALED_SECRETS_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,
    /// Print the certificate, for --cert
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_FETCH_CERT")]
    pub fetch_cert: bool,
    /// Seal a Secret that has no data
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_ALLOW_EMPTY_DATA")]
    pub allow_empty_data: bool,
    /// Ask the controller whether a SealedSecret opens
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_VALIDATE")]
    pub validate: bool,
    /// Put the values into this SealedSecret; all else in the file keeps its bytes
    #[arg(long, value_name = "FILE", env = "SEALED_SECRETS_MERGE_INTO")]
    pub merge_into: Option<PathBuf>,
    /// Seal one value, of standard input or --from-file, and print its text alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_RAW")]
    pub raw: bool,
    /// Name of the SealedSecret; needed with --raw and scope strict
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_NAME")]
    pub name: Option<String>,
    /// With --raw: the file that has the value
    #[arg(long, value_name = "[KEY=]FILE", env = "SEALED_SECRETS_FROM_FILE", value_delimiter = ',')]
    pub from_file: Vec<String>,
    /// Where it may be opened: strict, namespace-wide, cluster-wide (default: as the Secret's annotations say, else strict)
    #[arg(long, value_name = "SCOPE", env = "SEALED_SECRETS_SCOPE", value_parser = kubeseal_scope)]
    pub scope: Option<KubesealScope>,
    /// Let the controller seal a SealedSecret anew, for its newest key; with -f alone the file is rewritten
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_RE_ENCRYPT")]
    pub re_encrypt: bool,
    /// The same as --re-encrypt
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_ROTATE", hide = true)]
    pub rotate: bool,
    /// Open a SealedSecret with the keys of --recovery-private-key, for when the cluster is lost
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_RECOVERY_UNSEAL")]
    pub recovery_unseal: bool,
    /// File with private keys: PEM, a key Secret, or a List of them; may be repeated
    #[arg(long, value_name = "FILE", env = "SEALED_SECRETS_RECOVERY_PRIVATE_KEY", value_delimiter = ',')]
    pub recovery_private_key: Vec<String>,
    /// Print the version
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_VERSION")]
    pub version: bool,
    /// The cluster.
    #[command(flatten)]
    pub cluster: KubectlArgs,
    /// Logging.
    #[command(flatten)]
    pub logging: KlogArgs,
    /// Words that mean nothing
    #[arg(hide = true)]
    pub rest: Vec<String>,
}

/// Which cluster and as whom: kubectl's flags.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Cluster")]
pub struct KubectlArgs {
    /// The kubeconfig (else $KUBECONFIG, else ~/.kube/config)
    #[arg(long, value_name = "FILE", env = "SEALED_SECRETS_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace, where the Secret names none (else that of the kubeconfig's context)
    #[arg(short = 'n', long, value_name = "NAMESPACE", env = "SEALED_SECRETS_NAMESPACE")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_CONTEXT")]
    pub context: Option<String>,
    /// The cluster of the kubeconfig
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_CLUSTER")]
    pub cluster: Option<String>,
    /// The user of the kubeconfig
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_USER")]
    pub user: Option<String>,
    /// The address of the API server
    #[arg(long, value_name = "URL", env = "SEALED_SECRETS_SERVER")]
    pub server: Option<String>,
    /// The name that the API server's certificate must have
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_TLS_SERVER_NAME")]
    pub tls_server_name: Option<String>,
    /// Certificates that the API server's is checked with
    #[arg(long, value_name = "FILE", env = "SEALED_SECRETS_CERTIFICATE_AUTHORITY")]
    pub certificate_authority: Option<String>,
    /// Certificate to log in with
    #[arg(long, value_name = "FILE", env = "SEALED_SECRETS_CLIENT_CERTIFICATE")]
    pub client_certificate: Option<String>,
    /// Its private key
    #[arg(long, value_name = "FILE", env = "SEALED_SECRETS_CLIENT_KEY")]
    pub client_key: Option<String>,
    /// Token to log in with
    #[arg(long, value_name = "TOKEN", env = "SEALED_SECRETS_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// User name to log in with
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_USERNAME")]
    pub username: Option<String>,
    /// Password to log in with
    #[arg(long, value_name = "PASSWORD", env = "SEALED_SECRETS_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Act as this user
    #[arg(long = "as", value_name = "NAME", env = "SEALED_SECRETS_AS")]
    pub as_user: Option<String>,
    /// Act with this UID
    #[arg(long, value_name = "UID", env = "SEALED_SECRETS_AS_UID")]
    pub as_uid: Option<String>,
    /// Connect through this proxy: http, https or socks5 (else the kubeconfig's, else $HTTPS_PROXY)
    #[arg(long, value_name = "URL", env = "SEALED_SECRETS_PROXY_URL")]
    pub proxy_url: Option<String>,
    /// For how long to wait for an answer, as in 30s; 0 is for ever
    #[arg(long, value_name = "DURATION", env = "SEALED_SECRETS_REQUEST_TIMEOUT")]
    pub request_timeout: Option<String>,
    /// Act as a member of this group; may be repeated
    #[arg(long, value_name = "NAME", env = "SEALED_SECRETS_AS_GROUP")]
    pub as_group: Vec<String>,
    /// Don't check the API server's certificate
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_INSECURE_SKIP_TLS_VERIFY")]
    pub insecure_skip_tls_verify: bool,
    /// Accepted; answers are never compressed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, env = "SEALED_SECRETS_DISABLE_COMPRESSION")]
    pub disable_compression: bool,
}

/// Flags of the logging library that the established command has. They are taken and change nothing: this program logs nothing.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Logging (taken, without effect)")]
pub struct KlogArgs {
    /// klog
    #[arg(long = "add_dir_header", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub add_dir_header: bool,
    /// klog
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub alsologtostderr: bool,
    /// klog
    #[arg(long = "legacy_stderr_threshold_behavior", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub legacy_stderr_threshold_behavior: bool,
    /// klog
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub logtostderr: bool,
    /// klog
    #[arg(long = "one_output", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub one_output: bool,
    /// klog
    #[arg(long = "skip_headers", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub skip_headers: bool,
    /// klog
    #[arg(long = "skip_log_headers", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = go_bool, action = clap::ArgAction::Set, hide_default_value = true, hide = true)]
    pub skip_log_headers: bool,
    /// klog
    #[arg(long = "log_backtrace_at", value_name = "VALUE", hide = true)]
    pub log_backtrace_at: Option<String>,
    /// klog
    #[arg(long = "log_dir", value_name = "VALUE", hide = true)]
    pub log_dir: Option<String>,
    /// klog
    #[arg(long = "log_file", value_name = "VALUE", hide = true)]
    pub log_file: Option<String>,
    /// klog
    #[arg(long = "log_file_max_size", value_name = "VALUE", hide = true)]
    pub log_file_max_size: Option<String>,
    /// klog
    #[arg(long, value_name = "VALUE", hide = true)]
    pub stderrthreshold: Option<String>,
    /// klog
    #[arg(long, value_name = "VALUE", hide = true)]
    pub vmodule: Option<String>,
    /// klog
    #[arg(short = 'v', long, value_name = "LEVEL", hide = true)]
    pub v: Option<String>,
}

/// A scope; the empty word is strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubesealScope(pub ScopeArg);

fn kubeseal_scope(text: &str) -> Result<KubesealScope, String> {
    match text {
        "" | "strict" => Ok(KubesealScope(ScopeArg::Strict)),
        "namespace-wide" => Ok(KubesealScope(ScopeArg::NamespaceWide)),
        "cluster-wide" => Ok(KubesealScope(ScopeArg::ClusterWide)),
        _ => Err("must be one of: strict, namespace-wide, cluster-wide".to_owned()),
    }
}

/// What Go takes for a boolean; a variable that is set to nothing is as one that is not set.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}
