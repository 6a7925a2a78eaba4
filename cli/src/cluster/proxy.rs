//! Through which proxy a cluster or a URL is reached: the one that is named (`proxy-url` of the kubeconfig, `--proxy-url`), else the
//! one that the environment names, as other programs read it.

use std::net::IpAddr;

use http::Uri;
use kube::Config;
use kube::config::Kubeconfig;

use crate::failure::{Failure, Result, printable};

/// The proxy that a context of the kubeconfig names.
pub fn of_context(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

/// Sets the proxy: `named`, else that of the environment unless it says that this host is reached without.
pub fn set(config: &mut Config, named: Option<&str>) -> Result<()> {
    config.proxy_url = match named {
        Some(url) => Some(parse(url).ok_or_else(|| wrong(url))?),
        None => from_environment(&config.cluster_url, |name| std::env::var(name).ok())?,
    };
    Ok(())
}

/// What is wrong, without a name and password that may be in it.
fn wrong(url: &str) -> Box<Failure> {
    let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
    Failure::new(format!("the proxy {} is no URL of a proxy", printable(shown)))
        .help("as in http://proxy.example:3128; there are http, https and socks5")
}

fn parse(text: &str) -> Option<Uri> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https" | "socks5"));
    (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

fn from_environment(target: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Uri>> {
    let either = |upper: &str| {
        let found = variable(upper).filter(|text| !text.is_empty());
        found.or_else(|| variable(&upper.to_lowercase()).filter(|text| !text.is_empty()))
    };
    let name = if target.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let Some(url) = either(name) else { return Ok(None) };
    let host = target.host().unwrap_or_default();
    if is_excepted(host, target.port_u16(), &either("NO_PROXY").unwrap_or_default()) {
        return Ok(None);
    }
    parse(&url).map(Some).ok_or_else(|| wrong(&url))
}

/// Whether a host is reached without a proxy: this machine is, and what `NO_PROXY` lists: names with all that ends in them,
/// addresses, networks, each perhaps with a port, or `*`.
fn is_excepted(host: &str, port: Option<u16>, list: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let (Some(address), Some((network, bits))) = (address, entry.split_once('/')) {
            return network.parse().is_ok_and(|network| is_within(address, network, bits));
        }
        let (name, of_port) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') => (name, digits.parse::<u16>().ok()),
            _ => (entry.as_str(), None),
        };
        if of_port.is_some() && of_port != port {
            return false;
        }
        match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
            None => host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    })
}

fn is_within(address: IpAddr, network: IpAddr, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    let same = |a: u128, b: u128, width: u32| bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_others_read_it() {
        let found = |target: &str, variables: &[(&str, &str)]| {
            let look = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            from_environment(&target.parse().unwrap(), look).unwrap().map(|uri| uri.to_string())
        };
        let https = ("HTTPS_PROXY", "http://p.test:3128");
        assert_eq!(found("https://a.test:6443", &[https]).as_deref(), Some("http://p.test:3128/"));
        assert_eq!(found("http://a.test", &[https]), None);
        assert_eq!(found("http://a.test", &[("http_proxy", "p.test:1")]).as_deref(), Some("http://p.test:1/"));
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert_eq!(found(&format!("https://{host}:6443"), &[https]), None, "{host}");
        }
        for (host, list, is) in [
            ("a.test", "b.test", false),
            ("a.test", "b.test, a.test", true),
            ("x.a.test", "a.test", true),
            ("xa.test", "a.test", false),
            ("a.test", ".a.test", false),
            ("x.a.test", ".a.test", true),
            ("x.a.test", "*.a.test", true),
            ("a.test", "*", true),
            ("a.test", "a.test:6443", true),
            ("a.test", "a.test:443", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("[fd00::1]", "fd00::/8", true),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.0.0.0/99", false),
            ("A.TEST", "a.test", true),
        ] {
            let without = found(&format!("https://{host}:6443"), &[https, ("no_proxy", list)]).is_none();
            assert_eq!(without, is, "{host} {list}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for url in ["ftp://user:hunter2@p.test", "http://", "http://user:hunter2@", "a b"] {
            let mut config = Config::new("https://a.test".parse().unwrap());
            let failure = set(&mut config, Some(url)).unwrap_err();
            assert!(!failure.message.contains("hunter2"), "{}", failure.message);
        }
    }
}
