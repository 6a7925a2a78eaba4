//! Values made up: random ones, and those that take more than randomness. Nothing of them is ever shown but public halves.

use std::collections::BTreeMap;

use bulla::secret::SecretValue;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::{Generate, GenerateArgs};
use crate::failure::{Failure, Result};

mod random;
mod ssh;
mod tls;

pub use random::base64;

/// What was made.
#[derive(Default)]
pub struct Made {
    pub values: BTreeMap<String, SecretValue>,
    /// What may be shown.
    pub public: Option<Public>,
    /// The type of a new Secret that has just these keys.
    pub type_: Option<&'static str>,
}

/// The public half of what was made.
pub struct Public {
    /// For a person: `ssh public key SHA256:…`.
    pub told: String,
    pub text: String,
}

/// Keys of which each kind makes its own.
const SSH: [&str; 2] = ["ssh-privatekey", "ssh-publickey"];
const TLS: [&str; 2] = ["tls.key", "tls.crt"];
const DOCKER: &str = ".dockerconfigjson";
const HTPASSWD: &str = "auth";

/// The keys that are written, for those that were named.
pub fn keys(kind: Generate, args: &GenerateArgs, named: &[String]) -> Result<Vec<String>> {
    let one = |what: &str| match named {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => Err(Failure::usage(format!("{} keys, and {what} is made for one", several.len()))),
    };
    let mut keys = match kind {
        Generate::Password | Generate::Hex | Generate::Base64 | Generate::Uuid => named.to_vec(),
        Generate::SshEd25519 => match one("a key pair")? {
            Some(key) => vec![key.clone(), format!("{key}.pub")],
            None => SSH.map(str::to_owned).to_vec(),
        },
        Generate::Tls => {
            let mut both = match one("a certificate")? {
                Some(key) => vec![format!("{key}.key"), format!("{key}.crt")],
                None => TLS.map(str::to_owned).to_vec(),
            };
            both.truncate(if args.csr { 1 } else { 2 });
            both
        }
        Generate::Htpasswd => vec![one("a line")?.unwrap_or_else(|| HTPASSWD.to_owned())],
        Generate::Dockerconfigjson => vec![one("one set of credentials")?.unwrap_or_else(|| DOCKER.to_owned())],
    };
    keys.extend(args.password_key.clone());
    Ok(keys)
}

/// Whether somebody has to give a password.
pub const fn wants_password(kind: Generate, args: &GenerateArgs) -> bool {
    match kind {
        Generate::Htpasswd => args.password_key.is_none(),
        Generate::Dockerconfigjson => true,
        _ => false,
    }
}

/// Refuses options that have no meaning for the kind, and asks for those that it needs.
pub fn check(kind: Generate, args: &GenerateArgs) -> Result<()> {
    use Generate::{Base64, Dockerconfigjson, Hex, Htpasswd, Password, SshEd25519, Tls};
    let made_up = kind == Password || (kind == Htpasswd && args.password_key.is_some());
    let given = [
        ("--length", args.length.is_some(), made_up || matches!(kind, Hex | Base64)),
        ("--alphabet", args.alphabet.is_some(), made_up),
        ("--also", args.also.is_some(), made_up),
        ("--user", args.user.is_some(), matches!(kind, Htpasswd | Dockerconfigjson)),
        ("--password-key", args.password_key.is_some(), kind == Htpasswd),
        ("--docker-server", args.docker_server.is_some(), kind == Dockerconfigjson),
        ("--dns", !args.dns.is_empty(), kind == Tls),
        ("--days", args.days.is_some(), kind == Tls && !args.csr),
        ("--csr", args.csr, kind == Tls),
        ("--public-out", args.public_out.is_some(), matches!(kind, SshEd25519 | Tls)),
    ];
    if let Some((flag, ..)) = given.iter().find(|(_, given, fits)| *given && !fits) {
        return Err(Failure::usage(format!("{flag} has no meaning here")).help("bulla set --help says what takes it"));
    }
    let need = |flag: &str| Err(Failure::usage(format!("{flag} is needed")).help("bulla set --help"));
    match kind {
        Htpasswd | Dockerconfigjson if args.user.is_none() => need("--user"),
        Dockerconfigjson if args.docker_server.is_none() => need("--docker-server"),
        Tls if args.dns.is_empty() => need("--dns"),
        Tls if args.csr && args.public_out.is_none() => {
            need("--public-out, for the certificate request to go to (- is standard output),")
        }
        _ => Ok(()),
    }
}

/// Makes the values of `keys`, which are those of [`keys`]. `password` is there when [`wants_password`] says so.
pub fn make(kind: Generate, args: &GenerateArgs, keys: &[String], password: Option<&SecretValue>) -> Result<Made> {
    let mut made = Made::default();
    let length = usize::from(args.length.unwrap_or(32));
    let mut put = |key: Option<&String>, value: Zeroizing<Vec<u8>>| {
        let mut value = value;
        if let Some(key) = key {
            made.values.insert(key.clone(), SecretValue::new(std::mem::take(&mut *value)));
        }
    };
    match kind {
        Generate::Password => {
            let alphabet = random::alphabet(args.alphabet.unwrap_or_default(), args.also.as_deref())?;
            for key in keys {
                put(Some(key), random::characters(&alphabet, length)?);
            }
        }
        Generate::Hex => {
            for key in keys {
                put(Some(key), random::hex(&random::bytes(length)?));
            }
        }
        Generate::Base64 => {
            for key in keys {
                put(Some(key), base64(&random::bytes(length)?));
            }
        }
        Generate::Uuid => {
            for key in keys {
                put(Some(key), random::uuid()?);
            }
        }
        Generate::SshEd25519 => {
            let pair = ssh::generate()?;
            put(keys.first(), pair.private);
            put(keys.get(1), Zeroizing::new(pair.public.clone().into_bytes()));
            made.public = Some(Public { told: format!("ssh public key {}", pair.fingerprint), text: pair.public });
            made.type_ = (keys == SSH).then_some("kubernetes.io/ssh-auth");
        }
        Generate::Tls => {
            let pair = tls::generate(&args.dns, args.days.unwrap_or(365), args.csr)?;
            put(keys.first(), pair.key);
            if !args.csr {
                put(keys.get(1), Zeroizing::new(pair.public.clone().into_bytes()));
            }
            made.public = Some(Public { told: pair.told, text: pair.public });
            made.type_ = (keys == TLS).then_some("kubernetes.io/tls");
        }
        Generate::Htpasswd => {
            let user = args.user.as_deref().unwrap_or_default();
            if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
                return Err(Failure::usage(
                    "--user: a user of an htpasswd file has no colon and no control characters",
                ));
            }
            let own;
            let password = match password {
                Some(password) => password,
                None => {
                    let alphabet = random::alphabet(args.alphabet.unwrap_or_default(), args.also.as_deref())?;
                    let mut made = random::characters(&alphabet, length)?;
                    own = SecretValue::new(std::mem::take(&mut *made));
                    &own
                }
            };
            put(keys.first(), htpasswd(user, password)?);
            if let Some(key) = &args.password_key {
                put(Some(key), Zeroizing::new(password.expose().to_vec()));
            }
        }
        Generate::Dockerconfigjson => {
            let server = args.docker_server.as_deref().unwrap_or_default();
            let user = args.user.as_deref().unwrap_or_default();
            let nothing = SecretValue::default();
            put(keys.first(), docker(server, user, password.unwrap_or(&nothing))?);
            made.type_ = (keys == [DOCKER]).then_some("kubernetes.io/dockerconfigjson");
        }
    }
    Ok(made)
}

/// `user:$2y$…`, as Apache and nginx read it.
fn htpasswd(user: &str, password: &SecretValue) -> Result<Zeroizing<Vec<u8>>> {
    const COST: u32 = 10;
    let hash = bcrypt::non_truncating_hash_with_result(password.expose(), COST)
        .map_err(|_| Failure::new("the password can't be one of an htpasswd file: bcrypt takes up to 71 bytes"))?;
    Ok(Zeroizing::new(format!("{user}:{}\n", hash.format_for_version(bcrypt::Version::TwoY)).into_bytes()))
}

#[derive(Serialize)]
struct DockerConfig<'a> {
    auths: BTreeMap<&'a str, DockerAuth<'a>>,
}

#[derive(Serialize)]
struct DockerAuth<'a> {
    username: &'a str,
    password: &'a str,
    auth: &'a str,
}

/// As `kubectl create secret docker-registry` makes it.
fn docker(server: &str, user: &str, password: &SecretValue) -> Result<Zeroizing<Vec<u8>>> {
    let server = if server == "docker.io" { "https://index.docker.io/v1/" } else { server };
    if server.is_empty() || server.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Failure::usage("--docker-server is no server").help("as in registry.example.com"));
    }
    if user.is_empty() || user.contains(':') {
        return Err(Failure::usage("--user: a user of a registry is not empty and has no colon"));
    }
    let text = std::str::from_utf8(password.expose()).map_err(|_| Failure::new("the password is not UTF-8"))?;
    let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + text.len()));
    pair.extend_from_slice(user.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(text.as_bytes());
    let auth = base64(&pair);
    let auth = std::str::from_utf8(&auth).unwrap_or_default();
    let config =
        DockerConfig { auths: BTreeMap::from([(server, DockerAuth { username: user, password: text, auth })]) };
    // Room for everything escaped, so that nothing moves while it grows.
    let mut json = Zeroizing::new(Vec::with_capacity(256 + 6 * (server.len() + user.len() + text.len()) + auth.len()));
    serde_json::to_writer(&mut *json, &config).map_err(|_| Failure::new("the credentials can't be written as JSON"))?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use bulla::secret::SecretValue;

    use super::{docker, htpasswd};

    #[test]
    fn lines_are_verified_by_their_passwords() {
        let line = htpasswd("admin", &SecretValue::new(b"hunter2".to_vec())).expect("hashes");
        let line = std::str::from_utf8(&line).expect("text").trim_end();
        let (user, hash) = line.split_once(':').expect("a colon");
        assert!(user == "admin" && hash.starts_with("$2y$10$") && bcrypt::verify("hunter2", hash).expect("a hash"));
        assert!(!bcrypt::verify("hunter3", hash).expect("a hash"));
        assert!(htpasswd("admin", &SecretValue::new(vec![b'a'; 100])).is_err());
    }

    #[test]
    fn credentials_are_escaped() {
        let json = docker("docker.io", "u", &SecretValue::new(b"a\"b\n".to_vec())).expect("writes");
        let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let entry = &value["auths"]["https://index.docker.io/v1/"];
        assert_eq!((entry["password"].as_str(), entry["auth"].as_str()), (Some("a\"b\n"), Some("dTphImIK")));
        assert!(docker("x y", "u", &SecretValue::default()).is_err());
    }
}
