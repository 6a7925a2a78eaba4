//! `bulla status`

use std::collections::BTreeMap;

use bulla::bitnami::{APPLIED, BitnamiSealedSecret, ObservedObject, ObservedReport, SYNCED};
use bulla::open::readers;
use bulla::recipient::Fingerprint;
use bulla::resource::{SealedSecret, SealingKey};
use serde_json::json;

use super::Done;
use crate::cli::{ReportFormat, StatusArgs};
use crate::cluster::{self, Cluster, word};
use crate::failure::{Exit, Failure, Result};
use crate::output;
use crate::output::plain::{count, table};

/// A SealedSecret, as far as it is told.
struct Row {
    namespace: String,
    name: String,
    /// True, False or Unknown; Unknown too when the controller has not looked at this generation.
    ready: String,
    reason: String,
    message: String,
    /// Names of the cluster's keys that open all of it.
    keys: Vec<String>,
    /// The one key without which part of it does not open.
    needs: Vec<String>,
    suspended: bool,
}

pub fn run(args: &StatusArgs) -> Result<Done> {
    let cluster = cluster::connect(&args.cluster)?;
    if args.superseded {
        return superseded(args, &cluster);
    }
    if args.observed {
        return observed(args, &cluster);
    }
    // Who may see SealedSecrets and not the keys sees what there is.
    let keys = match cluster.keys() {
        Ok(keys) => keys,
        Err(failure) if failure.exit == Exit::Failed => {
            output::note(&format!("{}: keys are not told", failure.message));
            Vec::new()
        }
        Err(failure) => return Err(failure),
    };
    let names: BTreeMap<Fingerprint, String> = keys.iter().filter_map(fingerprint).collect();
    let mut rows = Vec::new();
    cluster.each_sealed(args.namespace.as_deref(), |sealed| rows.push(row(&sealed, &names)))?;
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let waiting = rows.iter().filter(|row| row.ready != "True" && !row.suspended).count();
    let mut needed: BTreeMap<&str, usize> = names.values().map(|name| (name.as_str(), 0)).collect();
    for name in rows.iter().flat_map(|row| &row.needs) {
        *needed.entry(name).or_default() += 1;
    }
    if args.output == ReportFormat::Json {
        let entries: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "namespace": row.namespace, "name": row.name, "ready": row.ready, "reason": row.reason,
                    "message": row.message, "keys": row.keys, "needs": row.needs, "suspended": row.suspended,
                })
            })
            .collect();
        output::document(json!({
            "context": cluster.context,
            "sealedSecrets": entries,
            "summary": { "total": rows.len(), "notReady": waiting, "neededBy": needed },
        }))?;
    } else if rows.is_empty() {
        output::say(&format!("no SealedSecret in {}", cluster.context));
    } else {
        let mut lines = vec![["NAMESPACE", "NAME", "READY", "REASON", "KEYS"].map(String::from).to_vec()];
        for row in &rows {
            let ready = if row.suspended { format!("{} (suspended)", row.ready) } else { row.ready.clone() };
            let keys = if row.keys.is_empty() { "-".to_owned() } else { row.keys.join(", ") };
            lines.push(vec![row.namespace.clone(), row.name.clone(), ready, row.reason.clone(), keys]);
        }
        output::data(table(&lines).as_bytes())?;
        for row in rows.iter().filter(|row| row.ready == "False" && !row.message.is_empty()) {
            output::say(&format!("{}/{}: {}", row.namespace, row.name, row.message));
        }
        for (name, number) in &needed {
            output::say(&format!("{} that only {name} opens", count(*number, "SealedSecret")));
        }
        output::say(&format!("{} in {}, {waiting} not ready", count(rows.len(), "SealedSecret"), cluster.context));
    }
    Ok(if waiting > 0 && !args.exit_zero { Done::Findings } else { Done::Well })
}

/// A SealedSecret of bitnami.com: where it is, whether it is `Synced`, and what the controller remembers of its Secret.
fn old_kind(sealed: &BitnamiSealedSecret) -> [String; 4] {
    let status = sealed.status.clone().unwrap_or_default();
    let current = status.observed_generation == sealed.metadata.generation;
    let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let synced = condition(SYNCED).filter(|_| current).map_or("Unknown", |condition| condition.status.as_str());
    let state = condition(APPLIED).and_then(|condition| condition.reason.as_deref());
    let state = if current { state.unwrap_or("NotOwned") } else { "NotObserved" };
    let metadata = &sealed.metadata;
    [metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default(), synced, state]
        .map(word)
}

/// Whether native SealedSecrets have taken the place of all those of bitnami.com.
fn superseded(args: &StatusArgs, cluster: &Cluster) -> Result<Done> {
    let mut rows = Vec::new();
    let defined = cluster.each_bitnami(args.namespace.as_deref(), |sealed| rows.push(old_kind(&sealed)))?;
    rows.sort();
    let left = rows.iter().filter(|[.., state]| state != "Superseded").count();
    if args.output == ReportFormat::Json {
        let entries: Vec<_> = rows
            .iter()
            .map(|[namespace, name, synced, state]| {
                json!({
                    "namespace": namespace, "name": name, "synced": synced, "state": state,
                    "superseded": state == "Superseded",
                })
            })
            .collect();
        output::document(json!({
            "context": cluster.context,
            "defined": defined,
            "sealedSecrets": entries,
            "summary": { "total": rows.len(), "notSuperseded": left },
        }))?;
    } else if !defined {
        output::say(&format!("sealedsecrets.bitnami.com is not defined in {}", cluster.context));
    } else if rows.is_empty() {
        let place = args.namespace.as_deref();
        let place = place.map_or_else(|| cluster.context.clone(), |name| format!("{name} in {}", cluster.context));
        let may_go = if args.namespace.is_none() { ": its definition may go" } else { "" };
        output::say(&format!("no SealedSecret of bitnami.com in {place}{may_go}"));
    } else {
        let mut lines = vec![["NAMESPACE", "NAME", "SYNCED", "STATE"].map(String::from).to_vec()];
        lines.extend(rows.iter().map(|row| row.to_vec()));
        output::data(table(&lines).as_bytes())?;
        let total = count(rows.len(), "SealedSecret");
        output::say(&format!("{total} of bitnami.com in {}, {left} not superseded", cluster.context));
        output::say(match left {
            0 => {
                "their files may go; the definition when they are gone: without it no SealedSecret of bitnami.com is left"
            }
            _ => "their files and the definition stay: a Secret goes with the last SealedSecret that owns it",
        });
    }
    Ok(if left > 0 && !args.exit_zero { Done::Findings } else { Done::Well })
}

/// What observing has found.
fn observed(args: &StatusArgs, cluster: &Cluster) -> Result<Done> {
    let text = cluster.observed()?;
    let found: ObservedReport = serde_json::from_str(&text).map_err(|_| {
        Failure::unavailable("what was observed can't be read")
            .help("is it a controller of this version that observes?")
    })?;
    let mut total = 0;
    cluster.each_bitnami(None, |_| total += 1)?;
    let odd = found.objects.len() + found.unnamed;
    if args.output == ReportFormat::Json {
        let objects: Vec<_> = found
            .objects
            .iter()
            .map(|odd| {
                json!({
                    "namespace": word(&odd.namespace), "name": word(&odd.name), "result": word(&odd.result),
                    "message": word(&odd.message),
                })
            })
            .collect();
        output::document(json!({
            "context": cluster.context,
            "results": found.results,
            "objects": objects,
            "summary": { "total": total, "observed": found.observed, "odd": odd },
        }))?;
    } else {
        if !found.objects.is_empty() {
            let mut lines = vec![["NAMESPACE", "NAME", "FOUND", "MESSAGE"].map(String::from).to_vec()];
            let row = |odd: &ObservedObject| {
                [&odd.namespace, &odd.name, &odd.result, &odd.message].map(|text| word(text)).to_vec()
            };
            lines.extend(found.objects.iter().map(row));
            output::data(table(&lines).as_bytes())?;
        }
        if found.unnamed > 0 {
            output::say(&format!("and {} more", found.unnamed));
        }
        let results: Vec<_> =
            found.results.iter().map(|(result, number)| format!("{number} {}", word(result))).collect();
        let of =
            format!("{} of {} of bitnami.com in {}", found.observed, count(total, "SealedSecret"), cluster.context);
        let results = if results.is_empty() { String::new() } else { format!(": {}", results.join(", ")) };
        output::say(&format!("observed {of}{results}"));
    }
    let complete = odd == 0 && found.observed == total;
    Ok(if complete || args.exit_zero { Done::Well } else { Done::Findings })
}

fn fingerprint(key: &SealingKey) -> Option<(Fingerprint, String)> {
    Some((key.status.as_ref()?.fingerprint.as_ref()?.parse().ok()?, key.metadata.name.clone()?))
}

fn row(sealed: &SealedSecret, names: &BTreeMap<Fingerprint, String>) -> Row {
    let status = sealed.status.clone().unwrap_or_default();
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    // What the controller said of an older generation it did not say of this one.
    let current = status.observed_generation == sealed.metadata.generation;
    let maps = readers(&sealed.spec);
    let own: Vec<Vec<&String>> =
        maps.iter().map(|map| map.iter().filter_map(|fingerprint| names.get(fingerprint)).collect()).collect();
    let mut keys: Vec<String> =
        names.values().filter(|name| !own.is_empty() && own.iter().all(|map| map.contains(name))).cloned().collect();
    keys.sort();
    let mut needs: Vec<String> =
        own.iter().filter_map(|map| if let [only] = map.as_slice() { Some((*only).clone()) } else { None }).collect();
    needs.sort();
    needs.dedup();
    Row {
        namespace: word(sealed.metadata.namespace.as_deref().unwrap_or_default()),
        name: word(sealed.metadata.name.as_deref().unwrap_or_default()),
        ready: condition.filter(|_| current).map_or_else(|| "Unknown".into(), |condition| word(&condition.status)),
        reason: match condition {
            Some(condition) if current => word(&condition.reason),
            Some(_) => "NotObserved".into(),
            None => "NoStatus".into(),
        },
        message: condition.filter(|_| current).map(|condition| word(&condition.message)).unwrap_or_default(),
        keys,
        needs,
        suspended: sealed.spec.suspend == Some(true),
    }
}
