//! `bulla completions` and `bulla man`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// A shell that completes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// source <(bulla completions bash)
    Bash,
    /// source <(bulla completions zsh)
    Zsh,
    /// bulla completions fish | source
    Fish,
    /// bulla completions powershell | Out-String | Invoke-Expression
    Powershell,
    /// eval (bulla completions elvish | slurp)
    Elvish,
}

/// `bulla completions`
#[derive(Args)]
#[command(after_long_help = "Examples:
  echo 'source <(bulla completions bash)' >> ~/.bashrc
  bulla completions fish > ~/.config/fish/completions/bulla.fish
  bulla completions bash --for kubeseal        where kubeseal is a link to this program

Completes commands, options, files, the items of the file that is named, and the recipients of .bulla.yaml. For kubectl: a link
kubectl_complete-bulla to this program beside kubectl-bulla, both in $PATH.")]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
    /// For which name of this program
    #[arg(long = "for", value_enum, value_name = "NAME", default_value_t)]
    pub program: ProgramName,
}

/// A name under which this program is called.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgramName {
    /// `bulla`
    #[default]
    Bulla,
    /// `kubeseal`, a link to this program
    Kubeseal,
}

impl ProgramName {
    /// As it is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bulla => "bulla",
            Self::Kubeseal => "kubeseal",
        }
    }
}

/// `bulla man`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla man | man -l -
  bulla man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Write a page for each command into this folder
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
