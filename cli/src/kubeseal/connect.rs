//! The cluster as kubectl's flags and the kubeconfig say it, and the controller behind its API server's service proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::client::Body;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use kube::{Client, Config};

use crate::cli::{KubectlArgs, KubesealArgs};
use crate::cluster;
use crate::failure::{Failure, Result, printable, shown};

/// Bytes of an answer: a cluster keeps no larger object.
const MAX_ANSWER: usize = 8 << 20;
/// The name of everything in the kubeconfig that the flags make.
const OWN: &str = "kubeseal";

/// The kubeconfig, if there is one.
fn kubeconfig(args: &KubectlArgs) -> Result<Option<Kubeconfig>> {
    let read = |path: &Path| {
        Kubeconfig::read_from(path).map_err(|error| {
            Failure::new(format!(
                "error loading config file \"{}\": {}",
                shown(path),
                cluster::word(&error.to_string())
            ))
        })
    };
    if let Some(path) = args.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        if !path.exists() {
            return Err(Failure::new(format!("stat {}: no such file or directory", shown(path))));
        }
        return read(path).map(Some);
    }
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let paths: Vec<PathBuf> = match &listed {
        Some(list) => std::env::split_paths(list).collect(),
        None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let mut merged: Option<Kubeconfig> = None;
    // Of a list, files that are not there are passed over, as kubectl does.
    for path in paths.iter().filter(|path| path.is_file()) {
        let next = read(path)?;
        merged = Some(match merged {
            None => next,
            Some(before) => before.merge(next).map_err(|error| Failure::new(error.to_string()))?,
        });
    }
    Ok(merged)
}

fn given(value: &Option<String>) -> Option<&String> {
    value.as_ref().filter(|value| !value.is_empty())
}

/// The context that counts, where there is one.
fn context<'c>(args: &KubectlArgs, kubeconfig: &'c Kubeconfig) -> Result<Option<&'c Context>> {
    let name = given(&args.context).or(kubeconfig.current_context.as_ref()).filter(|name| !name.is_empty());
    let Some(name) = name else { return Ok(None) };
    let found = kubeconfig.contexts.iter().find(|named| named.name == *name);
    match found {
        Some(named) => Ok(named.context.as_ref()),
        None => Err(Failure::new(format!("context \"{}\" does not exist", printable(name)))),
    }
}

/// The namespace that holds where a Secret names none: of the flag, else of the kubeconfig's context, else of the Pod that this
/// runs in, else `default`. `None` when there is no kubeconfig and no Pod.
pub fn namespace(args: &KubectlArgs) -> Result<Option<String>> {
    if let Some(namespace) = given(&args.namespace) {
        return Ok(Some(bare_namespace(namespace).to_owned()));
    }
    let kubeconfig = kubeconfig(args)?;
    let context = kubeconfig.as_ref().map(|kubeconfig| context(args, kubeconfig)).transpose()?.flatten();
    if let Some(namespace) = context.and_then(|context| context.namespace.clone()).filter(|name| !name.is_empty()) {
        return Ok(Some(namespace));
    }
    if let Ok(pod) = Config::incluster() {
        return Ok(Some(pod.default_namespace));
    }
    Ok(context.map(|_| "default".to_owned()))
}

fn bare_namespace(text: &str) -> &str {
    let starts = |prefix: &str| {
        text.len() > prefix.len()
            && text.is_char_boundary(prefix.len())
            && text[..prefix.len()].eq_ignore_ascii_case(prefix)
    };
    let prefix = ["namespaces/", "namespace/", "ns/"].into_iter().find(|prefix| starts(prefix));
    prefix.map_or(text, |prefix| &text[prefix.len()..])
}

/// A time as Go writes it: `30s`, `1m30s`, `1.5h`; a bare number is in seconds. `None` is for ever.
fn duration(text: &str) -> Option<Option<Duration>> {
    let mut seconds = 0.0;
    let mut rest = text;
    if let Ok(number) = text.parse::<u32>() {
        return Some((number > 0).then(|| Duration::from_secs(number.into())));
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    Some((!duration.is_zero()).then_some(duration))
}

/// The kubeconfig with one cluster, one user and one context: those that count, with what the flags say.
fn overridden(args: &KubectlArgs, kubeconfig: Option<Kubeconfig>) -> Result<Option<Kubeconfig>> {
    if kubeconfig.is_none() && given(&args.server).is_none() {
        return Ok(None);
    }
    let kubeconfig = kubeconfig.unwrap_or_default();
    let context = context(args, &kubeconfig)?.cloned().unwrap_or_default();
    let cluster_name = given(&args.cluster).cloned().unwrap_or(context.cluster);
    let user_name = given(&args.user).cloned().or(context.user).unwrap_or_default();
    let missing = |what: &str, name: &str| Failure::new(format!("{what} \"{}\" does not exist", printable(name)));
    let mut cluster = match kubeconfig.clusters.iter().find(|named| named.name == cluster_name) {
        Some(named) => named.cluster.clone().unwrap_or_default(),
        None if cluster_name.is_empty() || given(&args.server).is_some() => Cluster::default(),
        None => return Err(missing("cluster", &cluster_name)),
    };
    let mut user = match kubeconfig.auth_infos.iter().find(|named| named.name == user_name) {
        Some(named) => named.auth_info.clone().unwrap_or_default(),
        None if user_name.is_empty() => AuthInfo::default(),
        None => return Err(missing("auth info", &user_name)),
    };
    if let Some(server) = given(&args.server) {
        cluster.server = Some(server.clone());
    }
    if let Some(name) = given(&args.tls_server_name) {
        cluster.tls_server_name = Some(name.clone());
    }
    if let Some(file) = given(&args.certificate_authority) {
        cluster.certificate_authority = Some(file.clone());
        cluster.certificate_authority_data = None;
        cluster.insecure_skip_tls_verify = None;
    }
    if args.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(true);
        (cluster.certificate_authority, cluster.certificate_authority_data) = (None, None);
    }
    if let Some(url) = given(&args.proxy_url) {
        cluster.proxy_url = Some(url.clone());
    }
    if let Some(file) = given(&args.client_certificate) {
        user.client_certificate = Some(file.clone());
        user.client_certificate_data = None;
    }
    if let Some(file) = given(&args.client_key) {
        user.client_key = Some(file.clone());
        user.client_key_data = None;
    }
    let (token, name, password) = (given(&args.token), given(&args.username), given(&args.password));
    if token.is_some() || name.is_some() || password.is_some() {
        // What is typed counts, and nothing beside it.
        (user.token, user.token_file, user.exec, user.auth_provider) = (None, None, None, None);
        (user.username, user.password) = (name.cloned(), password.map(|password| password.clone().into()));
        user.token = token.map(|token| token.clone().into());
    }
    if let Some(name) = given(&args.as_user) {
        user.impersonate = Some(name.clone());
    }
    if let Some(uid) = given(&args.as_uid) {
        user.impersonate_uid = Some(uid.clone());
    }
    if !args.as_group.is_empty() {
        user.impersonate_groups = Some(args.as_group.clone());
    }
    if cluster.server.as_ref().is_none_or(String::is_empty) {
        return Ok(None);
    }
    Ok(Some(Kubeconfig {
        clusters: vec![NamedCluster { name: OWN.into(), cluster: Some(cluster), ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo { name: OWN.into(), auth_info: Some(user), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext {
            name: OWN.into(),
            context: Some(Context { cluster: OWN.into(), user: Some(OWN.into()), ..Context::default() }),
            ..NamedContext::default()
        }],
        current_context: Some(OWN.into()),
        ..Kubeconfig::default()
    }))
}

/// A controller, reached through the API server.
pub struct Controller {
    runtime: tokio::runtime::Runtime,
    client: Client,
    /// Where it is proxied to, up to its own path.
    base: String,
}

/// What it said.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Controller {
    /// Connects, and looks up by which name the first port of the Service goes.
    pub fn connect(args: &KubesealArgs) -> Result<Self> {
        let (namespace, name) = (&args.controller_namespace, &args.controller_name);
        for (flag, word) in [("--controller-namespace", namespace), ("--controller-name", name)] {
            let good = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
            if !good || word.starts_with('.') {
                return Err(Failure::new(format!("{flag} \"{}\" can't be a name in a cluster", printable(word))));
            }
        }
        let runtime = cluster::runtime()?;
        let kubectl = &args.cluster;
        let kubeconfig = overridden(kubectl, kubeconfig(kubectl)?)?;
        let through = kubeconfig.as_ref().and_then(|kubeconfig| cluster::proxy::of_context(kubeconfig, OWN));
        let is_pod = kubeconfig.is_none();
        let mut config = match kubeconfig {
            Some(kubeconfig) => {
                let options = KubeConfigOptions::default();
                runtime.block_on(Config::from_custom_kubeconfig(kubeconfig, &options)).map_err(|error| {
                    Failure::new(format!("invalid configuration: {}", cluster::word(&error.to_string())))
                })?
            }
            None => Config::incluster().map_err(|_| {
                Failure::new("invalid configuration: no configuration has been provided")
                    .help("--kubeconfig FILE says which cluster; --cert FILE seals without one")
            })?,
        };
        if !is_pod {
            cluster::proxy::set(&mut config, through.as_deref())?;
        }
        if let Some(text) = given(&kubectl.request_timeout) {
            config.read_timeout = duration(text)
                .ok_or_else(|| {
                    Failure::new(format!("invalid value for --request-timeout: \"{}\"", printable(text)))
                        .help("as in 30s, 2m, 1h; 0 is for ever")
                })?
                .or(Some(Duration::from_secs(86_400)));
        }
        let client = cluster::client(&runtime, config)?;
        let service: Api<Service> = Api::namespaced(client.clone(), namespace);
        let found = runtime.block_on(service.get(name)).map_err(|error| {
            Failure::new(format!("cannot get sealed secret service: {}.", said(&error))).help(
                "use the flag --controller-name and --controller-namespace to set up the name and namespace of the sealed secrets controller",
            )
        })?;
        let ports = found.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let Some(port) = ports.first() else {
            return Err(Failure::new(format!("the service {namespace}/{name} has no ports")));
        };
        let port = port.name.as_deref().unwrap_or_default();
        let base = format!("/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy");
        Ok(Self { runtime, client, base })
    }

    /// Asks for what is at a path.
    pub fn get(&self, path: &str) -> std::result::Result<Answer, String> {
        let request = http::Request::get(format!("{}{path}", self.base))
            .header(http::header::ACCEPT, "application/x-pem-file, */*")
            .body(Body::empty());
        self.send(request)
    }

    /// Sends JSON to a path.
    pub fn post(&self, path: &str, body: Vec<u8>) -> std::result::Result<Answer, String> {
        let request = http::Request::post(format!("{}{path}", self.base))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(body));
        self.send(request)
    }

    fn send(&self, request: http::Result<http::Request<Body>>) -> std::result::Result<Answer, String> {
        let request = request.map_err(|error| error.to_string())?;
        self.runtime.block_on(async {
            let (head, body) = self.client.send(request).await.map_err(|error| said(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| "the answer broke off".to_owned())?;
            Ok(Answer { status: head.status.as_u16(), body: body.to_bytes().to_vec() })
        })
    }
}

impl Answer {
    /// What is wrong, in the API server's or the controller's words.
    pub fn why(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Status {
            message: Option<String>,
        }
        let message = serde_json::from_slice::<Status>(&self.body).ok().and_then(|status| status.message);
        let status =
            http::StatusCode::from_u16(self.status).map_or_else(|_| self.status.to_string(), |s| s.to_string());
        match message.filter(|message| !message.is_empty()) {
            Some(message) => format!("{} (HTTP {status})", cluster::word(&message)),
            None => format!("HTTP {status}"),
        }
    }
}

/// An error of a request in one line.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => cluster::word(&status.message),
        kube::Error::Api(status) => format!("HTTP {}", status.code),
        error => cluster::cause(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn durations_are_gos() {
        let seconds = |text: &str| duration(text).map(|duration| duration.map(|duration| duration.as_secs_f64()));
        assert_eq!(seconds("0"), Some(None));
        assert_eq!(seconds("0s"), Some(None));
        assert_eq!(seconds("30"), Some(Some(30.0)));
        assert_eq!(seconds("1m30s"), Some(Some(90.0)));
        assert_eq!(seconds("1.5h"), Some(Some(5400.0)));
        assert_eq!(seconds("250ms"), Some(Some(0.25)));
        for wrong in ["x", "1", "1d", "-1s", "s", "1s1"].into_iter().filter(|text| *text != "1") {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_namespace_may_say_what_it_is() {
        assert_eq!(bare_namespace("shop"), "shop");
        assert_eq!(bare_namespace("ns/shop"), "shop");
        assert_eq!(bare_namespace("Namespaces/shop"), "shop");
        assert_eq!(bare_namespace("ns/"), "ns/");
        assert_eq!(bare_namespace("ünamespace"), "ünamespace");
    }

    #[test]
    fn flags_go_before_the_kubeconfig() {
        let text = "
apiVersion: v1
kind: Config
current-context: a
clusters:
- {name: one, cluster: {server: 'https://one.test', certificate-authority-data: QQ==}}
- {name: two, cluster: {server: 'https://two.test', insecure-skip-tls-verify: true}}
users:
- {name: u, user: {token: secret-one, client-certificate: /c.pem}}
- {name: v, user: {username: v, password: w}}
contexts:
- {name: a, context: {cluster: one, user: u, namespace: shop}}
- {name: b, context: {cluster: two, user: v}}
";
        let parse = || Some(Kubeconfig::from_yaml(text).unwrap());
        let made = |args: &KubectlArgs| {
            let made = overridden(args, parse()).unwrap().unwrap();
            (made.clusters[0].cluster.clone().unwrap(), made.auth_infos[0].auth_info.clone().unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        let (cluster, user) = made(&KubectlArgs::default());
        assert_eq!(cluster.server, some("https://one.test"));
        assert!(user.token.is_some() && user.impersonate.is_none());
        let (cluster, user) = made(&KubectlArgs { context: some("b"), ..KubectlArgs::default() });
        assert_eq!((cluster.server, user.username), (some("https://two.test"), some("v")));
        let (cluster, user) =
            made(&KubectlArgs { cluster: some("two"), user: some("v"), token: some("t"), ..KubectlArgs::default() });
        assert_eq!((cluster.server, user.username), (some("https://two.test"), None));
        assert!(user.token.is_some() && user.password.is_none());
        let (cluster, user) = made(&KubectlArgs {
            server: some("https://three.test"),
            insecure_skip_tls_verify: true,
            as_user: some("jane"),
            as_group: vec!["devs".into()],
            ..KubectlArgs::default()
        });
        assert_eq!((cluster.server, cluster.certificate_authority_data), (some("https://three.test"), None));
        assert_eq!((user.impersonate, user.impersonate_groups), (some("jane"), Some(vec!["devs".into()])));
        let fails = |args: &KubectlArgs| overridden(args, parse()).err().unwrap().message;
        assert_eq!(
            fails(&KubectlArgs { context: some("x"), ..KubectlArgs::default() }),
            "context \"x\" does not exist"
        );
        assert_eq!(
            fails(&KubectlArgs { cluster: some("x"), ..KubectlArgs::default() }),
            "cluster \"x\" does not exist"
        );
        assert_eq!(fails(&KubectlArgs { user: some("x"), ..KubectlArgs::default() }), "auth info \"x\" does not exist");
        assert!(overridden(&KubectlArgs::default(), None).unwrap().is_none());
        let alone = KubectlArgs { server: some("http://a.test"), ..KubectlArgs::default() };
        assert!(overridden(&alone, None).unwrap().is_some());
    }
}
