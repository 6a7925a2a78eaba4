//! The flags of this format. Those of the established controller have their names and meaning here too.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulla::metadata::BITNAMI_KEY_PREFIX;
use bulla::scope::is_dns_label;
use clap::{Args as ClapArgs, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;

/// `--bitnami`.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// SealedSecrets of bitnami.com are somebody else's.
    #[default]
    Off,
    /// They are opened and compared with their Secrets; nothing is written.
    Observe,
    /// They are made into Secrets.
    Own,
}

/// `--key-order-priority`.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// By the time from which its certificate is valid.
    #[default]
    #[value(name = "CertNotBefore")]
    CertNotBefore,
    /// By the time at which its Secret was made.
    #[value(name = "SecretCreationTimestamp")]
    SecretCreationTimestamp,
}

/// The flags.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "SealedSecrets of bitnami.com")]
pub struct BitnamiArgs {
    /// What to do with SealedSecrets of bitnami.com/v1alpha1: nothing, open and compare them without writing anything, or make
    /// their Secrets (--bitnami alone). Only one controller may make them at a time.
    #[arg(long, value_enum, value_name = "MODE", default_value = "off", num_args = 0..=1, require_equals = true, default_missing_value = "own")]
    pub bitnami: Mode,
    /// Where their RSA keys are.
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub bitnami_namespace: String,
    /// How the Secrets of RSA keys are called, or begin to be called.
    #[arg(long, value_name = "PREFIX", default_value = BITNAMI_KEY_PREFIX)]
    pub key_prefix: String,
    /// How long a new RSA key's certificate is valid.
    #[arg(long, value_name = "DURATION", default_value = "87600h", value_parser = go_duration)]
    pub key_ttl: Duration,
    /// Make another RSA key when the newest is this old; 0 never does.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = go_duration)]
    pub key_renew_period: Duration,
    /// Make another RSA key when the newest is older than this time (RFC 1123, with a numeric zone).
    #[arg(long, value_name = "TIME", value_parser = cutoff)]
    pub key_cutoff_time: Option<Timestamp>,
    /// Which RSA key is the newest, and so the one to seal for.
    #[arg(long, value_enum, value_name = "ORDER", default_value = "CertNotBefore")]
    pub key_order_priority: KeyOrder,
    /// The common name in the certificates of new RSA keys.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub my_cn: String,
    /// Annotations that new RSA keys get: a=b,c=d.
    #[arg(long, value_name = "LIST", default_value = "")]
    pub privatekey_annotations: String,
    /// Labels that new RSA keys get: a=b,c=d.
    #[arg(long, value_name = "LIST", default_value = "")]
    pub privatekey_labels: String,
    /// Serve only the SealedSecrets of bitnami.com with these labels: a label selector as kubectl takes it.
    #[arg(long, value_name = "SELECTOR")]
    pub label_selector: Option<String>,
    /// Serve nothing but the SealedSecrets of bitnami.com: Bulla's own resources need not be defined.
    #[arg(long)]
    pub bitnami_only: bool,
    /// Name no SealedSecret in the metric sealed_secrets_controller_condition_info.
    #[arg(long)]
    pub metrics_omit_secret_labels: bool,
}

/// What they mean.
#[derive(Clone, Debug)]
pub struct BitnamiSettings {
    /// What is done.
    pub mode: Mode,
    /// Where the keys are.
    pub namespace: String,
    /// How their Secrets are called.
    pub prefix: String,
    /// How long a certificate is valid.
    pub ttl: Duration,
    /// How old the newest key becomes; zero: as old as it likes.
    pub renew: Duration,
    /// How old the newest key may be at all.
    pub cutoff: Option<Timestamp>,
    /// What is newer.
    pub order: KeyOrder,
    /// In certificates.
    pub common_name: String,
    /// Of new keys.
    pub annotations: BTreeMap<String, String>,
    /// Of new keys.
    pub labels: BTreeMap<String, String>,
    /// Which objects are served.
    pub label_selector: Option<String>,
    /// Whether metrics name objects.
    pub names_in_metrics: bool,
    /// Whether no other kind is served.
    pub only: bool,
}

impl BitnamiArgs {
    /// Checks them.
    ///
    /// # Errors
    /// A name or list that can't be used.
    pub fn settings(&self) -> Result<BitnamiSettings> {
        ensure!(
            is_dns_label(&self.bitnami_namespace),
            "--bitnami-namespace: {:?} is no namespace",
            self.bitnami_namespace
        );
        // Five characters are put behind it, and it is the name of a Secret itself.
        let fits = self.key_prefix.len() <= 200 && self.key_prefix.split('.').all(is_dns_label);
        ensure!(!self.bitnami_only || self.bitnami != Mode::Off, "--bitnami-only wants --bitnami");
        ensure!(fits, "--key-prefix: {:?} can't begin the name of a Secret", self.key_prefix);
        Ok(BitnamiSettings {
            mode: self.bitnami,
            namespace: self.bitnami_namespace.clone(),
            prefix: self.key_prefix.clone(),
            ttl: self.key_ttl,
            renew: self.key_renew_period,
            cutoff: self.key_cutoff_time,
            order: self.key_order_priority,
            common_name: self.my_cn.clone(),
            annotations: pairs(&self.privatekey_annotations).context("--privatekey-annotations")?,
            labels: pairs(&self.privatekey_labels).context("--privatekey-labels")?,
            label_selector: self.label_selector.clone().filter(|selector| !selector.trim().is_empty()),
            names_in_metrics: !self.metrics_omit_secret_labels,
            only: self.bitnami_only,
        })
    }
}

/// `a=b,c=d`.
fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let pair = |part: &str| {
        let (key, value) = part.trim().split_once('=').context("wants a=b,c=d")?;
        Ok((key.to_owned(), value.to_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// A Go duration of whole parts, up to a hundred years.
fn go_duration(text: &str) -> Result<Duration, String> {
    crate::args::duration_up_to(text, Duration::from_secs(100 * 8766 * 3600))
}

/// As `Tue, 10 Nov 2009 23:00:00 +0000`.
fn cutoff(text: &str) -> Result<Timestamp, String> {
    static PARSER: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new();
    PARSER.parse_timestamp(text).map_err(|_| "not a time such as \"Tue, 10 Nov 2009 23:00:00 +0000\"".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn times_and_lists_are_read_as_go_does() {
        assert_eq!(cutoff("Tue, 10 Nov 2009 23:00:00 +0000").unwrap().as_second(), 1_257_894_000);
        assert!(cutoff("2009-11-10").is_err());
        assert_eq!(go_duration("87600h0m0s").unwrap().as_secs(), 87_600 * 3600);
        assert!(go_duration("999999999h").is_err());
        assert_eq!(
            pairs("a=b, c/d=e=f").unwrap(),
            [("a", "b"), ("c/d", "e=f")].map(|(k, v)| (k.into(), v.into())).into()
        );
        assert!(pairs("").unwrap().is_empty() && pairs("a").is_err());
    }
}
