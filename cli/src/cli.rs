//! What can be typed: clap types only. What it means is decided in `commands`.

use std::path::PathBuf;

mod diff;
mod git;

pub use diff::*;
pub use git::*;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod edit;
mod exec;
mod generate;
mod keylife;
mod kubeseal;
mod later;
mod migrate;
mod policy;
mod program;
mod relocate;
mod status;
pub use edit::*;
pub use exec::*;
pub use generate::*;
pub use keylife::*;
pub use kubeseal::*;
pub use later::{Later, at_once};
pub use migrate::*;
pub use policy::*;
pub use program::*;
pub use relocate::*;
pub use status::*;
mod check;
pub use check::*;

/// Seals Kubernetes Secrets so that they can live in Git.
///
/// A Secret is sealed with public keys alone; the controller in the cluster, or whoever has an identity, opens it.
#[derive(Parser)]
#[command(
    name = "bulla",
    version,
    arg_required_else_help = true,
    after_long_help = "Examples:
  bulla init --context prod-eu --as prod         whom this repository seals for: .bulla.yaml
  bulla seal secret.yaml -w db.sealed.yaml       seal a manifest
  bulla set db.sealed.yaml password              change one value
  bulla rotate . --timeout 30h                   a new key for the cluster and all files

Exit codes: 0 done; 1 failed; 2 usage; 3 a named file or object is not there; 4 cluster unavailable; 10 findings;
130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Put values into a sealed file, and create it.
    Set(Later<SetArgs>),
    /// Change a sealed file in an editor.
    Edit(Later<EditArgs>),
    /// Take values out of a sealed file.
    Unset(Later<UnsetArgs>),
    /// Seal Secret manifests.
    Seal(Later<SealArgs>),
    /// Write the policy of a repository: whom it seals for.
    Init(Later<InitArgs>),
    /// Show what changed in sealed files, without opening them.
    Diff(Later<DiffArgs>),
    /// Teach Git to show and merge sealed files; settle conflicts.
    Git(Later<GitArgs>),
    /// Show, add and update whom this repository, or a cluster, seals for.
    Recipients(Later<RecipientsArgs>),
    /// Wrap sealed files anew for the newest key.
    Reseal(Later<ResealArgs>),
    /// Rotate the cluster's key: create one, wait for it, reseal.
    Rotate(Later<RotateArgs>),
    /// Bring files of Bitnami's format over to the native one.
    Migrate(Later<MigrateArgs>),
    /// Find plaintext Secrets, and sealed files that are broken, misplaced or stale.
    Check(Later<CheckArgs>),
    /// Make an identity and its recipient.
    Keygen(Later<KeygenArgs>),
    /// Open a sealed file back to Secrets.
    Unseal(Later<UnsealArgs>),
    /// Run a program with the values in its environment.
    Exec(Later<ExecArgs>),
    /// Bind the items of a moved or renamed file to its new place.
    Move(Later<MoveArgs>),
    /// Show the SealedSecrets of a cluster, and which keys they need.
    Status(Later<StatusArgs>),
    /// List and create the keys of a cluster.
    Keys(Later<KeysArgs>),
    /// Print the manifests that install the controller.
    Install(Later<InstallArgs>),
    /// Do what kubeseal does: seal for a controller of Bitnami sealed-secrets.
    Kubeseal(Later<Box<KubesealArgs>>),
    /// Print the script that completes for a shell.
    Completions(Later<CompletionsArgs>),
    /// Print the manual page, or write all of them.
    Man(Later<ManArgs>),
}

/// YAML or JSON.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, one document for each object.
    Yaml,
    /// JSON; several objects make a List.
    Json,
}

/// How results are told.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document with a schemaVersion.
    Json,
}

/// Where a sealed value may be opened.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeArg {
    /// In this namespace, under this name.
    Strict,
    /// In this namespace, under any name.
    NamespaceWide,
    /// Anywhere.
    ClusterWide,
}

/// Of what kind a key of the cluster is.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFormatArg {
    /// ML-KEM-768 with X25519.
    #[default]
    Hybrid,
    /// X25519 alone.
    Classical,
}

/// Whom to seal for.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Recipients")]
pub struct RecipientArgs {
    /// Seal for this recipient: a name of .bulla.yaml, or the key itself (age1pq… or age1…); may be repeated
    #[arg(short = 'r', long = "recipient", value_name = "NAME|RECIPIENT")]
    pub recipients: Vec<String>,
    /// Seal for the recipients in this file (.pub), or for the certificate in it; may be repeated
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE")]
    pub recipients_files: Vec<PathBuf>,
    /// Seal Bitnami's format for this certificate of a sealed-secrets controller: a file, or a URL
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Option<String>,
    /// Leave out those who are recipients of everything (always: true in .bulla.yaml)
    #[arg(long)]
    pub no_always: bool,
    /// The policy to go by, instead of the .bulla.yaml at the repository's root, whoever owns it
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Let hybrid and classical recipients stand together: what is sealed is only as safe as the classical one
    #[arg(long)]
    pub allow_mixed: bool,
}

/// Which cluster, and how to reach its controller. A namespace of the kubeconfig is never used.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The kubeconfig (else $KUBECONFIG, else ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig (else its current one)
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Where the controller runs
    #[arg(long, value_name = "NAMESPACE", default_value = USUAL_NAMESPACE)]
    pub controller_namespace: String,
    /// Reach the controller at this URL instead of through the API server
    #[arg(long, value_name = "URL")]
    pub controller_url: Option<String>,
}

/// Where a controller runs usually.
pub const USUAL_NAMESPACE: &str = "bulla-system";

impl ClusterArgs {
    /// Whether the command line says where the controller runs, rather than leaving it at the usual place.
    #[must_use]
    pub fn names_namespace(&self) -> bool {
        self.controller_namespace != USUAL_NAMESPACE
    }
}

/// `bulla keygen`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla keygen -w recovery.txt                    recovery.txt (keep it offline) and recovery.txt.pub
  bulla keygen -w alice.txt --recipient alice.pub

The files are age's: `age -d -i FILE` opens what is sealed for the recipient. Nothing is ever overwritten.")]
pub struct KeygenArgs {
    /// The identity goes here, readable by you alone (default: ~/.config/bulla/identity.txt)
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// The recipient goes here (default: FILE.pub)
    #[arg(long, value_name = "FILE")]
    pub recipient: Option<PathBuf>,
    /// X25519 alone instead of ML-KEM-768 with X25519: not safe against quantum computers
    #[arg(long)]
    pub classical: bool,
}

/// `bulla recipients`
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  bulla recipients                                whom this repository seals for
  bulla recipients --context prod > prod.pub      a cluster's, for where there is no .bulla.yaml: bulla seal … -R prod.pub

Without --context, and where there is a .bulla.yaml: the recipients that it names. Else the cluster's preferred recipient,
then its recovery recipients, as its ConfigMap bulla-recipients lists them. The right to read that one ConfigMap is all
that it takes."
)]
pub struct RecipientsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: Option<RecipientsCommand>,
    /// Of `show`.
    #[command(flatten)]
    pub show: RecipientsShowArgs,
}

/// The subcommands of `bulla recipients`.
#[derive(Subcommand)]
pub enum RecipientsCommand {
    /// Show those of this repository's policy, or of a cluster (the default).
    Show(RecipientsShowArgs),
    /// Add one to the policy.
    Add(RecipientsAddArgs),
    /// Take over a cluster's new key.
    Update(RecipientsUpdateArgs),
}

/// `bulla recipients show`
#[derive(Args)]
pub struct RecipientsShowArgs {
    /// Show those in overlap too, as comments
    #[arg(long)]
    pub all: bool,
    /// How to show them
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla seal`
#[derive(Args, Default)]
#[command(after_long_help = "Examples:
  bulla seal secret.yaml -w db.sealed.yaml                for whom .bulla.yaml says
  bulla seal secret.yaml -w db.sealed.yaml -R prod.pub    for whom that file says
  kubectl create secret generic db --from-literal=password=x --dry-run=client -o yaml | bulla seal -n shop -r prod
  bulla seal --name db -n shop --from-file tls.crt --from-file tls.key -w tls.sealed.yaml
  bulla seal --in-place manifests/                        every Secret below manifests/
  bulla seal new.yaml --merge-into db.sealed.yaml

Reads any number of documents, JSON, and Lists. Secrets become SealedSecrets; all other objects pass byte for byte. Labels
and annotations go to the Secret that the controller makes, those of Argo CD, Flux and Helm to the SealedSecret. Nothing
that is not a Secret is ever sealed, and no input at all, or one without a Secret, is an error.")]
pub struct SealArgs {
    /// The manifest; - or nothing is standard input
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    pub file_flag: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// YAML or JSON (default: as the input)
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// The namespace, where the Secret names none
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The name, where the Secret has none
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where it may be opened (default: strict)
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub scope: Option<ScopeArg>,
    /// Seal the Secrets in these files and directories where they stand
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with_all = ["file", "file_flag", "write", "merge_into", "output", "name"])]
    pub in_place: Vec<PathBuf>,
    /// Put the values into a SealedSecret that exists; the others in it keep their bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["write", "output"])]
    pub merge_into: Option<PathBuf>,
    /// Make the Secret of KEY=VALUE, as kubectl create secret does; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["file", "file_flag", "in_place"])]
    pub from_literal: Vec<String>,
    /// Make the Secret of a file's content, or of all files of a directory; may be repeated
    #[arg(long, value_name = "[KEY=]PATH", conflicts_with_all = ["file", "file_flag", "in_place"])]
    pub from_file: Vec<String>,
    /// Make the Secret of the lines KEY=VALUE of a file; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "file_flag", "in_place"])]
    pub from_env_file: Vec<PathBuf>,
    /// The Secret's type, with --from-literal, --from-file, --from-env-file
    #[arg(long = "type", value_name = "TYPE")]
    pub type_: Option<String>,
    /// Let -w replace a SealedSecret that has items which the new one has not
    #[arg(long)]
    pub replace: bool,
    /// Whom to seal for.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla set`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla set db.sealed.yaml username password -n shop    asks for both, and creates the file
  pass show shop/db | bulla set db.sealed.yaml password
  bulla set db.sealed.yaml tls.key --from-file server.key
  bulla set db.sealed.yaml password --generate password --length 24
  bulla set deploy.sealed.yaml --generate ssh-ed25519 --public-out deploy.pub -n ci
  bulla set web.sealed.yaml --generate tls --dns web.example.com --days 90 -n shop
  bulla set web.sealed.yaml --generate htpasswd --user admin --password-key password -n shop
  bulla set db.sealed.yaml password -R prod.pub         where there is no .bulla.yaml

Needs the file and a public key, nothing else. Only the lines of the keys that are set change.")]
pub struct SetArgs {
    /// The sealed file; it is created when it is not there. Then the keys
    #[arg(value_name = "FILE KEY", required = true)]
    pub args: Vec<String>,
    /// The sealed file; then all arguments are keys
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The namespace of a new file; of a file with several SealedSecrets, which one
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The name of a new SealedSecret (default: the file's name up to .sealed); of several, which one
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where it may be opened (a new file: strict)
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub scope: Option<ScopeArg>,
    /// The value is the content of this file, as it is; with several keys: KEY=PATH, repeated
    #[arg(long, value_name = "[KEY=]PATH", conflicts_with = "generate")]
    pub from_file: Vec<String>,
    /// Ask for each value twice
    #[arg(long)]
    pub confirm: bool,
    /// Keep a final line end of standard input
    #[arg(long)]
    pub exact: bool,
    /// Let a value be empty
    #[arg(long)]
    pub allow_empty: bool,
    /// Making values up.
    #[command(flatten)]
    pub make: GenerateArgs,
    /// Whom to seal for.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla unset`
#[derive(Args)]
#[command(after_long_help = "Example:
  bulla unset db.sealed.yaml old-token

Needs the file and nothing else. The value stays in Git's history: where it still counts, change it.")]
pub struct UnsetArgs {
    /// The sealed file, then the keys
    #[arg(value_name = "FILE KEY", required = true)]
    pub args: Vec<String>,
    /// The sealed file; then all arguments are keys
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Of several SealedSecrets, which one
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of several SealedSecrets, which one
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// `bulla unseal`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla unseal db.sealed.yaml -i recovery.txt
  bulla unseal db.sealed.yaml --key password | psql-wrapper
  age -d identity.age | bulla unseal db.sealed.yaml -i -

Without -i the identity is that of $BULLA_IDENTITY_FILE, else the one in the configuration folder, which bulla keygen makes
($XDG_CONFIG_HOME/bulla/identity.txt, else ~/.config/bulla/identity.txt). All or nothing: if one value does not open, none is
shown.")]
pub struct UnsealArgs {
    /// The sealed file; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "file_flag")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    pub file_flag: Option<PathBuf>,
    /// An age identity file, - for standard input; may be repeated
    #[arg(short = 'i', long = "identity", value_name = "FILE")]
    pub identities: Vec<PathBuf>,
    /// YAML (several documents) or JSON (a List of several)
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", conflicts_with = "key")]
    pub output: Option<Format>,
    /// Only the bytes of this value, as they are
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Write to this file, readable by you alone, instead of standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Of several SealedSecrets, which one
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of several SealedSecrets, which one
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// `bulla reseal`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla reseal . --live                             through the cluster, which has the keys; nothing secret leaves it
  bulla reseal . -i recovery.txt                    with an identity, for the keys that .bulla.yaml pins
  bulla reseal . -i old.txt -R new.txt.pub          without a .bulla.yaml; the line that old.txt opens is replaced
  bulla reseal . --check                            10 when something is not sealed for the pinned keys, or these are
                                                    older than maxKeyAge
  bulla reseal . --live --report json=reseal.json   what was done, and which files depend on which key
  bulla reseal . --fresh --live                     new data keys and bodies, sealed by the cluster in their own place
  bulla reseal db.sealed.yaml -i recovery.txt --fresh    the same with an identity

Only envelopes change, and only in files that need it; all others keep their bytes. Values are not changed: resealing does
not revoke. If the old key leaked, change the values.")]
pub struct ResealArgs {
    /// Files and directories
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Open the old envelopes with the keys of the cluster
    #[arg(long)]
    pub live: bool,
    /// Open the old envelopes with this age identity file; may be repeated
    #[arg(short = 'i', long = "identity", value_name = "FILE", conflicts_with = "live")]
    pub identities: Vec<PathBuf>,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Say what needs it, and exit with 10 if anything does
    #[arg(long, conflicts_with_all = ["dry_run", "fresh"])]
    pub check: bool,
    /// New data keys and bodies instead of new envelopes
    #[arg(long)]
    pub fresh: bool,
    /// Let this recipient of .bulla.yaml become a reader of files whose rule names it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub add_recipient: Vec<String>,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
    /// Write what -o json prints to a file as well: json=FILE. It says for each key which files are sealed for it still
    #[arg(long, value_name = "FORMAT=FILE")]
    pub report: Vec<String>,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// Whom to seal for.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla rotate`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla rotate . --prefer-after 0s                  at once
  bulla rotate manifests/ --timeout 30h             after the usual overlap of a day

Creates a SealingKey, waits until the controller has published it and prefers it, reseals the files below PATH through the
cluster, and says which of them still need an older key. Old keys go on opening until they are retired. Each step is a
command of its own: bulla keys create, bulla reseal --live.")]
pub struct RotateArgs {
    /// Files and directories (default: this directory)
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Of what kind the new key is
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: KeyFormatArg,
    /// How long the new key is published before it is preferred (default: the controller's, 24h)
    #[arg(long, value_name = "DURATION")]
    pub prefer_after: Option<String>,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla keys`
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct KeysArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The subcommands of `bulla keys`.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// List the cluster's keys.
    List(KeysListArgs),
    /// Create a key in the cluster.
    Create(KeysCreateArgs),
    /// Go back to the key before: the preferred one opens and is not sealed for any more.
    Rollback(KeysRollbackArgs),
    /// Take a key out of use that nothing needs.
    Retire(KeysRetireArgs),
    /// Encrypt the cluster's keys to recovery recipients.
    Backup(KeysBackupArgs),
    /// Bring keys back from a backup.
    Restore(KeysRestoreArgs),
}

/// `bulla keys list`
#[derive(Args)]
#[command(
    after_long_help = "With --bitnami: the RSA keys for SealedSecrets of bitnami.com, which have no SealingKey: what they are is said by the label
of their Secrets, in the controller's namespace. Whoever may list those may read them, private keys included. NEEDED-BY
counts the SealedSecrets that were opened with a key; it takes the right to list sealedsecrets.bitnami.com in all
namespaces, and is - without it. Not listed is a key that has no label, but for the Secret sealed-secrets-key: under
another --key-prefix the controller takes one. docs/keys.md says how these keys are made and set aside."
)]
pub struct KeysListArgs {
    /// Those for SealedSecrets of bitnami.com instead
    #[arg(long)]
    pub bitnami: bool,
    /// How to show them
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla keys create`
#[derive(Args)]
#[command(after_long_help = "Example:
  bulla keys create --prefer-after 0s

Creates a SealingKey; the controller makes the private key, which never leaves the cluster. Whether you may is up to the
cluster's RBAC (sealingkeys.bulla.dev in the controller's namespace).

RSA keys, for SealedSecrets of bitnami.com, have no SealingKey: docs/keys.md.")]
pub struct KeysCreateArgs {
    /// Its name (default: made of the date)
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Of what kind it is
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: KeyFormatArg,
    /// How long it is published before it is preferred (default: the controller's, 24h)
    #[arg(long, value_name = "DURATION")]
    pub prefer_after: Option<String>,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla install`
#[derive(Args)]
#[command(after_long_help = "Example:
  bulla install --image registry.example.com/bulla-controller:v1 | kubectl apply --server-side -f -

Nothing is contacted. --crds-only is the part that needs the rights of a cluster administrator.")]
pub struct InstallArgs {
    /// The controller's image
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// A further recipient of all that is sealed for the cluster, as a recovery key that is kept offline (may be repeated)
    #[arg(long, value_name = "NAME=FILE")]
    pub recovery: Vec<String>,
    /// Where the controller runs, when not in bulla-system: a namespace that is there already. With --bitnami it is
    /// --bitnami-namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub controller_namespace: Option<String>,
    /// Only the definitions of the custom resources
    #[arg(long, conflicts_with_all = ["image", "recovery", "controller_namespace"])]
    pub crds_only: bool,
    /// Serve the SealedSecrets of bitnami.com too: open and compare them, or make their Secrets (--bitnami alone). Everything
    /// is then installed in --bitnami-namespace
    #[arg(long, value_enum, value_name = "MODE", default_value = "off", num_args = 0..=1, require_equals = true, default_missing_value = "own", conflicts_with = "crds_only")]
    pub bitnami: BitnamiMode,
    /// Where the keys of sealed-secrets are
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system", requires = "bitnami")]
    pub bitnami_namespace: String,
}

/// `--bitnami` of `bulla install`.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BitnamiMode {
    /// Nothing of it
    #[default]
    Off,
    /// Open and compare, and write nothing
    Observe,
    /// Make their Secrets
    Own,
}
