//! What `bulla set --generate` makes up.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is made up.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generate {
    /// Random characters (--length, --alphabet, --also)
    Password,
    /// Random bytes in hexadecimal (--length)
    Hex,
    /// Random bytes in base64 (--length)
    Base64,
    /// A random UUID (version 4)
    Uuid,
    /// A key pair of OpenSSH: ssh-privatekey and ssh-publickey; of KEY: KEY and KEY.pub
    SshEd25519,
    /// A P-256 key and a self-signed certificate: tls.key and tls.crt; of KEY: KEY.key and KEY.crt (--dns, --days). With
    /// --csr the key, and a certificate request to --public-out
    Tls,
    /// A line of an htpasswd file, bcrypt: auth, or KEY (--user; the password from prompt, stdin or --password-key)
    Htpasswd,
    /// Credentials of a registry: .dockerconfigjson, or KEY (--docker-server, --user; the password from prompt or stdin)
    Dockerconfigjson,
}

/// What passwords are made of.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alphabet {
    /// A-Z a-z 0-9
    #[default]
    Alphanumeric,
    /// A-Z a-z
    Letters,
    /// a-z 0-9
    Lowercase,
    /// 0-9
    Digits,
    /// A-Z a-z 0-9 - _
    Url,
    /// A-Z a-z 0-9, without those that look alike (0 O 1 I l)
    Readable,
    /// All that a keyboard has, without space, quotes and backslash
    Symbols,
}

/// Options of `--generate`.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Making values up")]
pub struct GenerateArgs {
    /// Make a random value for each key; never shown
    #[arg(long, value_enum, value_name = "KIND")]
    pub generate: Option<Generate>,
    /// Characters of a password, bytes of hex and base64 (default: 32)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub length: Option<u16>,
    /// What a password is made of (default: alphanumeric)
    #[arg(long, value_enum, value_name = "NAME")]
    pub alphabet: Option<Alphabet>,
    /// Further characters that a password is made of
    #[arg(long, value_name = "CHARACTERS")]
    pub also: Option<String>,
    /// The user, of htpasswd and dockerconfigjson
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Make the password of htpasswd up too, and seal it under this key
    #[arg(long, value_name = "KEY")]
    pub password_key: Option<String>,
    /// The registry, as in registry.example.com or docker.io
    #[arg(long, value_name = "SERVER")]
    pub docker_server: Option<String>,
    /// A host name or IP address of the certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// For how many days the certificate is valid (default: 365)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: Option<u32>,
    /// A certificate request instead of a certificate
    #[arg(long)]
    pub csr: bool,
    /// Write the public half (public key, certificate, request) to this new file, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub public_out: Option<PathBuf>,
}
