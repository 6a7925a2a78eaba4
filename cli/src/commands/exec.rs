//! `bulla exec`

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use bulla::secret::SecretValue;

use super::{Done, unseal};
use crate::cli::ExecArgs;
use crate::failure::{Failure, Result, shown};
use crate::{files, identities};

/// Names that decide what a program loads, runs or believes.
const SPECIAL: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "CLASSPATH",
    "COMSPEC",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "GEM_HOME",
    "GEM_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "GOFLAGS",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "KUBECONFIG",
    "LESSCLOSE",
    "LESSOPEN",
    "LOCALDOMAIN",
    "LOCPATH",
    "MAKEFLAGS",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PAGER",
    "PATH",
    "PATHEXT",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS4",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTC_WRAPPER",
    "SHELL",
    "SHELLOPTS",
    "SSH_ASKPASS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERMCAP",
    "TERMINFO",
    "TMPDIR",
    "TZDIR",
    "VISUAL",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

/// What such names begin with.
const SPECIAL_BEGINNINGS: &[&str] =
    &["BASH_FUNC_", "BULLA_", "DOTNET_", "DYLD_", "GIT_", "LD_", "MALLOC_", "NPM_CONFIG_", "PYTHON", "XDG_"];

pub fn run(args: &ExecArgs) -> Result<Done> {
    if args.files.iter().any(|file| files::is_stdin(file)) {
        return Err(Failure::usage("standard input is the program's, not the sealed file's").help("name the file"));
    }
    if !args.prefix.is_empty() && !is_name(&args.prefix) {
        return Err(Failure::usage(format!(
            "--prefix {:?} can't begin a name: A-Z a-z 0-9 _, no digit first",
            args.prefix
        )));
    }
    let held = identities::resolve(&args.identities, false)?;
    let mut environment = Environment { args, values: BTreeMap::new() };
    let mut wanted: BTreeSet<&str> = args.keys.iter().map(String::as_str).collect();
    for path in &args.files {
        for secret in unseal::secrets(path, args.namespace.as_deref(), args.name.as_deref(), &held)?.1 {
            for (key, value) in secret.data {
                if args.keys.is_empty() || args.keys.contains(&key) {
                    wanted.remove(key.as_str());
                    environment.put(path, &key, value)?;
                }
            }
        }
    }
    if let Some(key) = wanted.first() {
        let files: Vec<_> = args.files.iter().map(|path| shown(path)).collect();
        return Err(Failure::missing(format!("there is no item {key} in {}", files.join(", "))));
    }
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Failure::usage("no COMMAND is named").help("bulla exec FILE -- COMMAND"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, (_, value)) in &environment.values {
        command.env(name, std::ffi::OsStr::from_bytes(value.expose()));
    }
    // This program's own memory must not be dumped; the other's is its own business.
    crate::core_dumps(true);
    // The program takes this one's place, and what was opened here is gone with it. It only comes back when that fails.
    let error = command.exec();
    crate::core_dumps(false);
    let program = shown(Path::new(program));
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => Failure::missing(format!("there is no program {program}")),
        std::io::ErrorKind::PermissionDenied => Failure::new(format!("{program} can't be executed")),
        std::io::ErrorKind::ArgumentListTooLong => {
            Failure::new(format!("the values are more than the environment of {program} may have"))
                .help("only some of them: --key KEY; or: bulla unseal FILE --key KEY | COMMAND")
        }
        _ => Failure::new(format!("can't start {program}: {error}")),
    })
}

struct Environment<'a> {
    args: &'a ExecArgs,
    /// By name: where each is from, and its value.
    values: BTreeMap<String, (String, SecretValue)>,
}

impl Environment<'_> {
    fn put(&mut self, path: &Path, key: &str, value: SecretValue) -> Result<()> {
        let file = shown(path);
        let own = if self.args.upper {
            key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
        } else {
            key.to_owned()
        };
        let name = format!("{}{own}", self.args.prefix);
        if !is_name(&name) {
            let first = name.starts_with(|c: char| c.is_ascii_digit());
            let failure = Failure::new(format!("the item {key} of {file} can't be a variable: {name:?} is no name"));
            return Err(match (self.args.upper, first) {
                (_, true) => failure.help("--prefix TEXT puts something before the digit"),
                (true, false) => failure.help("only other items: --key KEY"),
                (false, false) => failure.help("--upper makes _ of - and ., as in api-token: API_TOKEN"),
            }
            .help("only some of the items: --key KEY"));
        }
        if !self.args.allow_special && is_special(&name) {
            return Err(Failure::new(format!(
                "the item {key} of {file} would set {name}, which decides what programs load or run"
            ))
            .help("call it otherwise: --prefix TEXT; or, if it is meant: --allow-special"));
        }
        if value.expose().contains(&0) {
            return Err(Failure::new(format!("the item {key} of {file} has a zero byte, which no variable can have"))
                .help("only other items: --key KEY; or: bulla unseal FILE --key KEY | COMMAND"));
        }
        let from = format!("{key} of {file}");
        if let Some((other, _)) = self.values.insert(name.clone(), (from.clone(), value)) {
            return Err(Failure::new(format!("the items {other} and {from} would both set {name}"))
                .help("only some of them: --key KEY"));
        }
        Ok(())
    }
}

/// Whether a text is a name as shells have them.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_special(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    SPECIAL.contains(&upper.as_str()) || SPECIAL_BEGINNINGS.iter().any(|beginning| upper.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::{is_name, is_special};

    #[test]
    fn names_are_those_of_shells() {
        for name in ["A", "_", "a1", "API_TOKEN"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1", "a-b", "a.b", "ä", "a b", "a=b"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_programs_obey_is_special() {
        for name in
            ["PATH", "path", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "GIT_SSH_COMMAND", "NODE_OPTIONS"]
        {
            assert!(is_special(name), "{name}");
        }
        for name in ["PASSWORD", "DB_PATH", "TOKEN", "PATHS"] {
            assert!(!is_special(name), "{name}");
        }
    }
}
