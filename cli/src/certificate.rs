//! Certificates for Bitnami's format, from a file or a URL.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulla::bitnami::Certificate;
use http::header::{AUTHORIZATION, LOCATION, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;

use crate::cluster;
use crate::failure::{Failure, Result, printable, shown};
use crate::policy::Date;
use crate::{files, output};

/// Bytes that are fetched at most; a certificate has about two thousand.
const MAX_BYTES: usize = 1 << 20;
/// Redirects that are followed at most, as Go's client does.
const MAX_REDIRECTS: usize = 10;
/// For how long a URL may take, redirects included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a certificate is.
enum Place {
    File(PathBuf),
    Url(Uri),
}

impl Place {
    fn of(location: &str) -> Result<Self> {
        let Some((scheme, rest)) = location.split_once("://") else { return Ok(Self::File(location.into())) };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => match location.parse::<Uri>() {
                Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(Self::Url(uri)),
                _ => Err(Failure::new(format!("{}: not a URL", printable(location)))),
            },
            // The host, if there is one, is this one.
            "file" => match rest.find('/').and_then(|at| unescape(&rest[at..])) {
                Some(path) => Ok(Self::File(path)),
                None => Err(Failure::new(format!("{}: no path of a file", printable(location)))),
            },
            scheme => Err(Failure::new(format!("unsupported protocol scheme \"{}\"", printable(scheme)))
                .help("a file, or a URL with file://, http:// or https://")),
        }
    }
}

/// Percent-encoded bytes as themselves.
fn unescape(path: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Gets what is at a file name or a URL (`file://`, `http://`, `https://`), whatever it is.
pub fn fetch(location: &str) -> Result<Vec<u8>> {
    match Place::of(location)? {
        Place::File(path) => Ok(files::read(&path)?.to_vec()),
        Place::Url(uri) => get(uri),
    }
}

/// Reads the certificate at a file name or a URL; one that has expired is an error.
pub fn load(location: &str) -> Result<Certificate> {
    valid(&shown(Path::new(location)), &fetch(location)?)
}

/// Reads the first certificate of a text; one that has expired is an error. `shown` is what it is called.
pub fn valid(shown: &str, bytes: &[u8]) -> Result<Certificate> {
    let certificate = parse(shown, bytes)?;
    match expired(&certificate) {
        None => Ok(certificate),
        // In the words that the established command has for it.
        Some(date) => Err(Failure::new(format!("failed to encrypt using an expired certificate on {date}"))
            .in_file(shown)
            .help("kubeseal --fetch-cert gets the newest one from the cluster")),
    }
}

/// The same, whether or not it has expired.
pub fn parse(shown: &str, bytes: &[u8]) -> Result<Certificate> {
    let certificate = Certificate::from_pem(bytes).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
    if certificate.others() > 0 {
        let others = if certificate.others() == 1 { "another one" } else { "others" };
        output::note(&format!("{shown}: the first certificate is used; there are {others} behind it"));
    }
    Ok(certificate)
}

/// The day on which it expired, if it did, as in `January 2, 2006`.
pub fn expired(certificate: &Certificate) -> Option<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let after = certificate.not_after();
    (i64::try_from(now).unwrap_or(i64::MAX) > after).then(|| Date::of_unix(after).in_words())
}

fn get(first: Uri) -> Result<Vec<u8>> {
    let runtime = cluster::runtime()?;
    let asked = printable(&without_user(&first));
    let cant = |why: &str| Failure::unavailable(format!("cannot fetch \"{asked}\": {why}"));
    let fetched = runtime.block_on(async {
        let fetching = async {
            let mut uri = first.clone();
            for _ in 0..=MAX_REDIRECTS {
                match ask(&runtime, &uri).await? {
                    Answer::Body(bytes) => return Ok(bytes),
                    Answer::Elsewhere(location) => uri = follow(&uri, &location).map_err(|why| cant(&why))?,
                    Answer::Refused(status) => return Err(cant(&status)),
                    Answer::Unreached(why) => return Err(cant(&why)),
                }
            }
            Err(cant(&format!("stopped after {MAX_REDIRECTS} redirects")))
        };
        tokio::time::timeout(PATIENCE, fetching).await
    });
    fetched.unwrap_or_else(|_| Err(cant("it takes too long")))
}

enum Answer {
    Body(Vec<u8>),
    Elsewhere(String),
    Refused(String),
    Unreached(String),
}

async fn ask(runtime: &tokio::runtime::Runtime, uri: &Uri) -> Result<Answer> {
    let (client, path) = cluster::plain_client(runtime, uri)?;
    let mut request = Request::get(path).header(USER_AGENT, concat!("bulla/", env!("CARGO_PKG_VERSION")));
    if let Some((user, _)) = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
        let user = unescape(user).and_then(|user| user.into_os_string().into_string().ok()).unwrap_or_default();
        request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(user)));
    }
    let Ok(request) = request.body(Body::empty()) else { return Ok(Answer::Unreached("not a URL".into())) };
    let (head, body) = match client.send(request).await {
        Ok(answer) => answer.into_parts(),
        Err(error) => return Ok(Answer::Unreached(cluster::cause(&error))),
    };
    if matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308)
        && let Some(location) = head.headers.get(LOCATION).and_then(|location| location.to_str().ok())
    {
        return Ok(Answer::Elsewhere(location.to_owned()));
    }
    if head.status != http::StatusCode::OK {
        return Ok(Answer::Refused(head.status.to_string()));
    }
    Ok(match Limited::new(body, MAX_BYTES).collect().await {
        Ok(body) => Answer::Body(body.to_bytes().to_vec()),
        Err(_) => Answer::Unreached(format!("it broke off, or is larger than {MAX_BYTES} bytes")),
    })
}

fn without_user(uri: &Uri) -> String {
    let text = uri.to_string();
    match uri.authority().map(http::uri::Authority::as_str) {
        Some(authority) => match authority.rsplit_once('@') {
            Some((_, host)) => text.replacen(authority, host, 1),
            None => text,
        },
        None => text,
    }
}

/// Where a redirect leads. Whoever asked by https is not sent on without it: the answer says whom to seal for.
fn follow(from: &Uri, location: &str) -> std::result::Result<Uri, String> {
    let scheme = from.scheme_str().unwrap_or("https");
    let host = from.authority().map_or("", |authority| authority.as_str());
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let whole = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{host}{}{location}", from.path())
    } else {
        let folder = from.path().rfind('/').map_or("/", |at| &from.path()[..=at]);
        format!("{scheme}://{host}{folder}{location}")
    };
    let whole = whole.split('#').next().unwrap_or_default();
    let uri: Uri = whole.parse().map_err(|_| "it leads to what is no URL".to_owned())?;
    match (scheme, uri.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) if uri.host().is_some() => Ok(uri),
        ("https", Some("http")) => Err("it leads from https to http".to_owned()),
        _ => Err("it leads to what is neither http nor https".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn redirects_lead_where_they_say_and_never_out_of_https() {
        let from: Uri = "https://user:word@a.test/x/y?z".parse().unwrap();
        let to = |location: &str| follow(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("https://b.test/c").unwrap(), "https://b.test/c");
        assert_eq!(to("//b.test/c#d").unwrap(), "https://b.test/c");
        assert_eq!(to("/c?d").unwrap(), "https://a.test/c?d");
        assert_eq!(to("c").unwrap(), "https://a.test/x/c");
        assert_eq!(to("?c").unwrap(), "https://a.test/x/y?c");
        assert_eq!(to("http://a.test/").unwrap_err(), "it leads from https to http");
        assert!(to("file:///etc/passwd").is_err());
        assert!(follow(&"http://a.test/".parse().unwrap(), "https://a.test/").is_ok());
    }

    #[test]
    fn places_are_files_and_urls() {
        let path = |location: &str| match Place::of(location).map_err(|failure| failure.message) {
            Ok(Place::File(path)) => path.to_str().unwrap().to_owned(),
            Ok(Place::Url(uri)) => format!("<{uri}>"),
            Err(message) => message,
        };
        assert_eq!(path("/?this/file"), "/?this/file");
        assert_eq!(path("C:\\cert.pem"), "C:\\cert.pem");
        assert_eq!(path("file:///tmp/a%20b"), "/tmp/a b");
        assert_eq!(path("FILE://localhost/tmp/c"), "/tmp/c");
        assert_eq!(path("file:///tmp/%zz"), "file:///tmp/%zz: no path of a file");
        assert_eq!(path("https://a.test:1/b"), "<https://a.test:1/b>");
        assert_eq!(path("ftp://a.test/b"), "unsupported protocol scheme \"ftp\"");
        assert_eq!(without_user(&"https://u:p@a.test/b".parse().unwrap()), "https://a.test/b");
    }
}
