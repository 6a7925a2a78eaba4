//! Called as `controller`, as the established controller is: its flags and its environment, as far as they mean something
//! here, so that the Deployment that is there needs another image and nothing else.

use std::ffi::OsString;
use std::path::Path;

/// What a command line of the established controller comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// Our own command line, without the program's name.
    pub args: Vec<String>,
    /// Flags that change nothing here, and why, for the log.
    pub ignored: Vec<(&'static str, &'static str)>,
    /// Only the version is asked for.
    pub version: bool,
}

/// What becomes of a flag.
enum Flag {
    /// It is ours too.
    Same,
    /// It is ours under another name.
    As(&'static str),
    /// It is ours when it is true.
    Switch,
    /// It means nothing here: why.
    Ignored(&'static str),
    /// It is dealt with by itself.
    Special,
}

const BOOLEAN: [&str; 12] = [
    "accept-deprecated-v1-data",
    "all-namespaces",
    "old-gc-behavior",
    "update-status",
    "watch-for-secrets",
    "skip-recreate",
    "log-info-stdout",
    "logtostderr",
    "alsologtostderr",
    "metrics-omit-secret-labels",
    "leader-elect",
    "version",
];

const FLAGS: [(&str, Flag); 41] = [
    ("key-prefix", Flag::Same),
    ("key-ttl", Flag::Same),
    ("my-cn", Flag::Same),
    ("key-renew-period", Flag::Same),
    ("rotate-period", Flag::As("key-renew-period")),
    ("key-order-priority", Flag::Same),
    ("key-cutoff-time", Flag::Same),
    ("label-selector", Flag::Same),
    ("privatekey-annotations", Flag::Same),
    ("privatekey-labels", Flag::Same),
    ("leader-elect", Flag::Same),
    ("leader-elect-lease-duration", Flag::Same),
    ("leader-elect-renew-deadline", Flag::Same),
    ("leader-elect-retry-period", Flag::Same),
    ("metrics-omit-secret-labels", Flag::Switch),
    ("listen-addr", Flag::Special),
    ("listen-metrics-addr", Flag::Special),
    ("all-namespaces", Flag::Special),
    ("additional-namespaces", Flag::Special),
    ("log-level", Flag::Special),
    ("log-format", Flag::Special),
    ("version", Flag::Special),
    ("key-size", Flag::Ignored("new keys have 4096 bits")),
    ("accept-deprecated-v1-data", Flag::Ignored("spec.data is always read")),
    ("rate-limit", Flag::Ignored("requests at once are limited instead")),
    ("rate-limit-burst", Flag::Ignored("requests at once are limited instead")),
    ("old-gc-behavior", Flag::Ignored("the garbage collector deletes Secrets, by their owner references")),
    ("update-status", Flag::Ignored("the status is always written: a restart goes by it")),
    ("watch-for-secrets", Flag::Ignored("new keys are always seen")),
    ("skip-recreate", Flag::Ignored("a Secret that was deleted is always made again")),
    ("log-info-stdout", Flag::Ignored("the log goes to standard error")),
    ("max-unseal-retries", Flag::Ignored("what fails is tried again for ever, more and more rarely")),
    (
        "kubeclient-qps",
        Flag::Ignored("16 requests are under way at once, and the API server's wish to slow down is followed"),
    ),
    ("kubeclient-burst", Flag::Ignored("16 requests are under way at once")),
    ("read-timeout", Flag::Ignored("a request has 30 seconds")),
    ("write-timeout", Flag::Ignored("a request has 30 seconds")),
    ("logtostderr", Flag::Ignored("the log goes to standard error")),
    ("alsologtostderr", Flag::Ignored("the log goes to standard error")),
    ("stderrthreshold", Flag::Ignored("the log goes to standard error")),
    ("v", Flag::Ignored("there is --log-level")),
    ("vmodule", Flag::Ignored("there is --log-level")),
];

/// Whether the program is called by the established controller's name.
pub fn is_called_so(program: Option<&OsString>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name().is_some_and(|name| name == "controller"))
}

/// Translates a command line without the program's name. `env` looks a variable up; `namespace` is the Pod's own.
///
/// # Errors
/// A sentence: a flag that neither knows, or one without its value.
pub fn translate(args: &[String], env: impl Fn(&str) -> Option<String>, namespace: &str) -> Result<Translated, String> {
    let mut given: Vec<(&'static str, String)> = Vec::new();
    // The environment first: the command line wins.
    for (name, _) in &FLAGS {
        if let Some(value) = env(&format!("SEALED_SECRETS_{}", name.replace('-', "_").to_uppercase())) {
            given.push((name, value));
        }
    }
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let bare = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|bare| !bare.is_empty());
        let bare = bare.ok_or_else(|| format!("{arg:?} is no flag"))?;
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value.to_owned())));
        let known = FLAGS.iter().find(|(known, _)| *known == name);
        let (name, _) = known.ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = match value {
            Some(value) => value,
            None if BOOLEAN.contains(name) => "true".to_owned(),
            None => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
        };
        given.push((name, value));
    }
    let last = |wanted: &str| given.iter().rev().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
    let is = |wanted: &str, default: bool| match last(wanted) {
        None => Ok(default),
        Some("true" | "TRUE" | "True" | "T" | "t" | "1") => Ok(true),
        Some("false" | "FALSE" | "False" | "F" | "f" | "0") => Ok(false),
        Some(other) => Err(format!("--{wanted}: {other:?} is neither true nor false")),
    };
    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let mut args = vec![flag("bitnami", "own"), flag("namespace", namespace), flag("bitnami-namespace", namespace)];
    // As there: the one kind, and no Lease unless it is told to take one.
    args.push("--bitnami-only".to_owned());
    if last("leader-elect").is_none() {
        args.push(flag("leader-elect", "false"));
    }
    let mut ignored = Vec::new();
    if last("key-renew-period").or_else(|| last("rotate-period")).is_none() {
        args.push(flag("key-renew-period", "720h"));
    }
    for (name, meaning) in &FLAGS {
        let Some(value) = last(name) else { continue };
        match meaning {
            // What a chart leaves empty means nothing.
            Flag::Same | Flag::As(_) if value.is_empty() => {}
            Flag::Same => args.push(flag(name, value)),
            Flag::As(other) if last(other).is_none() => args.push(flag(other, value)),
            Flag::As(_) | Flag::Special => {}
            Flag::Switch => args.extend(is(name, false)?.then(|| format!("--{name}"))),
            Flag::Ignored(why) => ignored.push((*name, *why)),
        }
    }
    for (theirs, ours) in [("listen-addr", "http-addr"), ("listen-metrics-addr", "metrics-addr")] {
        if let Some(value) = last(theirs) {
            let everywhere = if value.starts_with(':') { "0.0.0.0" } else { "" };
            args.push(flag(ours, &format!("{everywhere}{value}")));
        }
    }
    let more = last("additional-namespaces").unwrap_or_default();
    let more: Vec<&str> = more.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if !is("all-namespaces", true)? || !more.is_empty() {
        args.push(flag("watch-namespace", namespace));
        args.extend(more.into_iter().filter(|name| *name != namespace).map(|name| flag("watch-namespace", name)));
    }
    for name in ["log-level", "log-format"] {
        let value = last(name).unwrap_or_default().to_lowercase();
        // Of levels that Go's logger knows with an offset, only the name counts.
        let value = value.split(['+', '-']).next().unwrap_or_default();
        if !value.is_empty() {
            args.push(flag(name, value));
        }
    }
    Ok(Translated { args, ignored, version: is("version", false)? })
}

/// The Pod's own namespace, as the established controller finds it.
pub fn own_namespace() -> String {
    let given = std::env::var("POD_NAMESPACE").ok();
    let mounted = || std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok();
    let found = given.filter(|name| !name.is_empty()).or_else(mounted).map(|name| name.trim().to_owned());
    found.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser as _;

    use super::*;

    fn of(args: &[&str], env: &[(&str, &str)]) -> Result<Translated, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        translate(&args, env, "kube-system")
    }

    fn settings(translated: &Translated) -> crate::args::Settings {
        let args = std::iter::once("controller").chain(translated.args.iter().map(String::as_str));
        crate::args::Args::try_parse_from(args).unwrap().settings().unwrap()
    }

    #[test]
    fn the_charts_own_arguments_work() {
        let chart = [
            "--update-status",
            "--key-renew-period",
            "0",
            "--key-prefix",
            "sealed-secrets-key",
            "--listen-addr",
            ":8080",
            "--listen-metrics-addr",
            ":8081",
            "--additional-namespaces=",
            "--privatekey-labels=",
            "--log-level=INFO",
            "--log-format=json",
            "--rate-limit=7",
        ];
        let translated = of(&chart, &[]).unwrap();
        let made = settings(&translated);
        assert_eq!((made.namespace.as_str(), made.bitnami.namespace.as_str()), ("kube-system", "kube-system"));
        assert_eq!(made.bitnami.mode, crate::bitnami::args::Mode::Own);
        assert!(made.bitnami.renew.is_zero() && made.bitnami.only && made.election.is_none());
        assert_eq!(made.scope, crate::args::Scope::All);
        assert_eq!(
            translated.ignored.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["rate-limit", "update-status"]
        );
        assert!(translated.args.contains(&"--http-addr=0.0.0.0:8080".to_owned()));
        // Without any, as there.
        let made = settings(&of(&[], &[]).unwrap());
        assert_eq!(made.bitnami.renew.as_secs(), 720 * 3600);
        assert_eq!(made.bitnami.ttl.as_secs(), 87_600 * 3600);
    }

    #[test]
    fn namespaces_environment_and_old_names() {
        let made = settings(&of(&["--all-namespaces=false"], &[]).unwrap());
        assert_eq!(made.scope, crate::args::Scope::Each(["kube-system".to_owned()].into()));
        let made = settings(&of(&["--additional-namespaces", "b,kube-system, a"], &[]).unwrap());
        assert_eq!(made.scope, crate::args::Scope::Each(["a", "b", "kube-system"].map(str::to_owned).into()));
        let env = [("SEALED_SECRETS_KEY_RENEW_PERIOD", "1h"), ("SEALED_SECRETS_MY_CN", "x")];
        let made = settings(&of(&["-my-cn=y"], &env).unwrap());
        assert_eq!((made.bitnami.renew.as_secs(), made.bitnami.common_name.as_str()), (3600, "y"));
        let made = settings(&of(&["--rotate-period=2h0m0s"], &[]).unwrap());
        assert_eq!(made.bitnami.renew.as_secs(), 7200);
        assert!(of(&["--version"], &[]).unwrap().version);
        for wrong in [&["--nonsense"][..], &["--my-cn"], &["word"], &["--all-namespaces=perhaps"], &["--"]] {
            assert!(of(wrong, &[]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_name_is_what_counts() {
        for (program, is) in [("controller", true), ("/usr/local/bin/controller", true), ("bulla-controller", false)] {
            assert_eq!(is_called_so(Some(&program.into())), is);
        }
    }
}
