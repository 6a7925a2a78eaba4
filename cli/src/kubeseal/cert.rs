//! The certificate: a file's, a URL's, or the controller's.

use std::path::Path;

use bulla::bitnami::Certificate;

use super::connect::Controller;
use super::output;
use crate::certificate;
use crate::cli::KubesealArgs;
use crate::failure::{Failure, Result, shown};
use crate::output as say;

/// The place of `--cert`, if there is one.
fn given(args: &KubesealArgs) -> Option<&str> {
    args.cert.as_deref().filter(|location| !location.is_empty())
}

/// The controller's.
fn controllers(args: &KubesealArgs) -> Result<Vec<u8>> {
    let cant = |why: &str| Failure::new(format!("cannot fetch certificate: {why}"));
    let answer = Controller::connect(args)?.get("/v1/cert.pem").map_err(|why| cant(&why))?;
    if answer.status == 200 { Ok(answer.body) } else { Err(cant(&answer.why())) }
}

/// What the controller's is called.
const CONTROLLERS: &str = "the controller's certificate";

/// Whom to seal for: a certificate that is valid.
pub fn valid(args: &KubesealArgs) -> Result<Certificate> {
    match given(args) {
        Some(location) => certificate::load(location).map_err(|failure| super::as_go(Path::new(location), failure)),
        None => certificate::valid(CONTROLLERS, &controllers(args)?),
    }
}

/// `--fetch-cert`: what came, as it came, as long as it is a certificate.
pub fn print(args: &KubesealArgs) -> Result<()> {
    let (shown, bytes) = match given(args) {
        Some(location) => {
            let path = Path::new(location);
            (shown(path), certificate::fetch(location).map_err(|failure| super::as_go(path, failure))?)
        }
        None => (CONTROLLERS.to_owned(), controllers(args)?),
    };
    let certificate = Certificate::from_pem(&bytes).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
    if let Some(date) = certificate::expired(&certificate) {
        say::warn(&format!("the certificate expired on {date}: nothing can be sealed with it"));
    }
    output::write(args, &bytes, false)
}
