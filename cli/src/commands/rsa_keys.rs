//! `bulla keys list --bitnami`: RSA keys, whose states are labels of their Secrets.

use std::cmp::Reverse;
use std::sync::Arc;

use bulla::bitnami::{Certificate, KeyNeeds, KeySecret};
use bulla::metadata::BITNAMI_KEY_PREFIX;
use serde_json::json;

use super::Done;
use crate::cli::ReportFormat;
use crate::cluster::{Cluster, word};
use crate::failure::{Exit, Result};
use crate::output;
use crate::output::plain::{count, table};
use crate::policy::Date;
use crate::rsa;

/// A key, as far as it is told.
struct Row {
    name: String,
    label: Option<String>,
    /// Whether it opens.
    active: bool,
    certificate: std::result::Result<Arc<Certificate>, String>,
    /// `None` when nobody knows.
    needed_by: Option<usize>,
}

pub fn list(cluster: &Cluster, format: ReportFormat) -> Result<Done> {
    let mut rows: Vec<Row> = cluster.rsa_key_secrets()?.into_iter().filter_map(KeySecret::take).map(row).collect();
    let mut needs = KeyNeeds::default();
    // Who may see the keys and not the SealedSecrets sees what there is.
    let needs = match cluster.each_bitnami(None, |sealed| needs.count(&sealed)) {
        Ok(_) => Some(needs),
        Err(failure) if failure.exit == Exit::Failed => {
            output::note(&format!("{}: what needs the keys is not told", failure.message));
            None
        }
        Err(failure) => return Err(failure),
    };
    for row in &mut rows {
        let needed = |certificate: &Arc<Certificate>| {
            let begin = certificate.fingerprint().begin();
            needs.as_ref().map(|needs| needs.by_key.get(&begin).copied().unwrap_or_default())
        };
        row.needed_by = row.certificate.as_ref().ok().and_then(needed);
    }
    // The newest certificate first, what can't be read last.
    let age = |row: &Row| row.certificate.as_ref().map_or(i64::MIN, |certificate| certificate.not_before());
    rows.sort_by(|a, b| (Reverse(age(a)), &a.name).cmp(&(Reverse(age(b)), &b.name)));
    if format == ReportFormat::Json {
        output::document(json!({
            "context": cluster.context,
            "namespace": cluster.namespace,
            "keys": rows.iter().map(entry).collect::<Vec<_>>(),
            "summary": needs.map(|needs| json!({ "sealedSecrets": needs.total, "unknown": needs.unknown })),
        }))?;
        return Ok(Done::Well);
    }
    if rows.is_empty() {
        output::say(&format!(
            "no RSA key in namespace {} of {}: with --bitnami=own the controller makes the first one",
            cluster.namespace, cluster.context
        ));
        return Ok(Done::Well);
    }
    let mut lines = vec![["NAME", "LABEL", "VALID-FROM", "VALID-UNTIL", "NEEDED-BY", "KEY"].map(String::from).to_vec()];
    for row in &rows {
        let of =
            |tell: fn(&Certificate) -> String| row.certificate.as_ref().map_or("-".to_owned(), |found| tell(found));
        lines.push(vec![
            row.name.clone(),
            row.label.clone().unwrap_or_else(|| "-".to_owned()),
            of(|certificate| Date::of_unix(certificate.not_before()).to_string()),
            of(|certificate| Date::of_unix(certificate.not_after()).to_string()),
            row.needed_by.map_or("-".to_owned(), |needed| needed.to_string()),
            of(|certificate| rsa::short(&certificate.fingerprint())),
        ]);
    }
    output::data(table(&lines).as_bytes())?;
    for row in &rows {
        match (&row.certificate, row.needed_by) {
            (Err(problem), _) if row.active => output::note(&format!("{}: not used: {problem}", row.name)),
            (Ok(_), Some(needed @ 1..)) if !row.active => output::note(&format!(
                "{}: set aside; without it {} can't be opened",
                row.name,
                count(needed, "SealedSecret")
            )),
            _ => {}
        }
    }
    if let Some(KeyNeeds { total, unknown: unknown @ 1.., .. }) = needs {
        output::note(&format!(
            "of {unknown} of {} it is not known which keys they need: nothing has opened them as they are now",
            count(total, "SealedSecret")
        ));
    }
    Ok(Done::Well)
}

/// A key, and why it is not used, if it says that it is one.
fn row((name, secret): (String, KeySecret)) -> Row {
    Row {
        name: word(&name),
        label: secret.label().map(word),
        active: secret.is_active(BITNAMI_KEY_PREFIX),
        certificate: secret.pair.map(|(_, certificate)| certificate).map_err(|problem| problem.to_string()),
        needed_by: None,
    }
}

fn entry(row: &Row) -> serde_json::Value {
    let certificate = row.certificate.as_ref().ok();
    json!({
        "name": row.name,
        "label": row.label,
        "active": row.active && certificate.is_some(),
        "fingerprint": certificate.map(|certificate| certificate.fingerprint().to_string()),
        "validFrom": certificate.map(|certificate| Date::of_unix(certificate.not_before()).to_string()),
        "validUntil": certificate.map(|certificate| Date::of_unix(certificate.not_after()).to_string()),
        "neededBy": row.needed_by,
        "problem": row.certificate.as_ref().err(),
    })
}
