//! `bulla keys`

use bulla::resource::{KeyFormat, KeyState, SealingKey, SealingKeySpec};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use super::Done;
use super::keygen::today;
use crate::cli::{KeyFormatArg, KeysCreateArgs, KeysListArgs, ReportFormat};
use crate::cluster::Cluster;
use crate::failure::{Failure, Result};
use crate::output::plain::table;
use crate::{cluster, output};

/// The longest overlap (8760h).
const MAX_PREFER_AFTER: u64 = 8760 * 3600;

impl From<KeyFormatArg> for KeyFormat {
    fn from(format: KeyFormatArg) -> Self {
        match format {
            KeyFormatArg::Hybrid => Self::Hybrid,
            KeyFormatArg::Classical => Self::Classical,
        }
    }
}

const fn format_word(format: KeyFormat) -> &'static str {
    match format {
        KeyFormat::Hybrid => "hybrid",
        KeyFormat::Classical => "classical",
    }
}

pub const fn state_word(state: Option<KeyState>) -> &'static str {
    match state {
        Some(KeyState::Active) => "Active",
        Some(KeyState::Standby) => "Standby",
        Some(KeyState::Retired) => "Retired",
        Some(KeyState::Compromised) => "Compromised",
        None => "-",
    }
}

pub fn list(args: &KeysListArgs) -> Result<Done> {
    let cluster = cluster::connect(&args.cluster)?;
    if args.bitnami {
        return super::rsa_keys::list(&cluster, args.output);
    }
    let mut keys = cluster.keys()?;
    keys.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    if args.output == ReportFormat::Json {
        let entries: Vec<_> = keys.iter().map(entry).collect();
        output::document(json!({ "context": cluster.context, "keys": entries }))?;
        return Ok(Done::Well);
    }
    let preferred = keys.iter().filter_map(|key| key.status.as_ref()?.preferred_at.as_ref()).max().cloned();
    let mut rows = vec![
        ["NAME", "FORMAT", "STATE", "PUBLISHED", "PREFERRED", "NEEDED-BY", "FINGERPRINT"].map(String::from).to_vec(),
    ];
    for key in &keys {
        let status = key.status.clone().unwrap_or_default();
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let newest = if status.preferred_at.is_some() && status.preferred_at == preferred { " *" } else { "" };
        rows.push(vec![
            key.metadata.name.clone().unwrap_or_default(),
            format_word(key.spec.format).into(),
            state_word(status.state).into(),
            dash(status.published_at),
            dash(status.preferred_at.map(|at| format!("{at}{newest}"))),
            dash(status.needed_by.map(|count| count.to_string())),
            dash(status.fingerprint),
        ]);
    }
    output::data(table(&rows).as_bytes())?;
    for key in &keys {
        let name = key.metadata.name.as_deref().unwrap_or_default();
        notes(key).into_iter().for_each(|note| output::note(&format!("{name}: {note}")));
    }
    Ok(Done::Well)
}

/// What somebody has to know of a key, besides the table.
fn notes(key: &SealingKey) -> Vec<String> {
    let status = key.status.clone().unwrap_or_default();
    let mut notes = Vec::new();
    if status.state == Some(KeyState::Compromised) {
        notes.push("compromised: change the values that it opens, and bulla reseal PATH --fresh --live".to_owned());
    }
    let Some(state) = status.state else {
        let reason = status.conditions.iter().find(|c| c.type_ == "Ready" && c.status != "True");
        notes.extend(reason.map(|condition| plain(&condition.message)));
        return notes;
    };
    if state != key.spec.state {
        notes.push(format!("{} is asked for, {} in effect", state_word(Some(key.spec.state)), state_word(Some(state))));
    }
    for condition in &status.conditions {
        let told = condition.type_ != "Ready"
            || (condition.status != "True" && condition.reason != "Retired")
            || condition.reason == "Ripening";
        if told {
            notes.push(plain(&condition.message));
        }
    }
    notes
}

/// A text of the cluster, fit for a line.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A key as JSON.
pub fn entry(key: &SealingKey) -> serde_json::Value {
    let status = key.status.clone().unwrap_or_default();
    json!({
        "name": key.metadata.name,
        "format": format_word(key.spec.format),
        "state": status.state.map(|state| state_word(Some(state))),
        "fingerprint": status.fingerprint,
        "publishedAt": status.published_at,
        "preferredAt": status.preferred_at,
        "neededBy": status.needed_by,
        "asked": state_word(Some(key.spec.state)),
        "notes": notes(key),
    })
}

pub fn create(args: &KeysCreateArgs) -> Result<Done> {
    check_prefer_after(args.prefer_after.as_deref())?;
    let cluster = cluster::connect(&args.cluster)?;
    let created = create_in(&cluster, args.name.as_deref(), args.format, args.prefer_after.as_deref())?;
    if args.output == ReportFormat::Json {
        output::document(json!({ "context": cluster.context, "key": entry(&created) }))?;
    } else {
        output::data(format!("{}\n", created.metadata.name.as_deref().unwrap_or_default()).as_bytes())?;
    }
    output::say(&format!(
        "created SealingKey {}/{} in {}; it is preferred {}",
        cluster.namespace,
        created.metadata.name.as_deref().unwrap_or_default(),
        cluster.context,
        match args.prefer_after.as_deref() {
            Some(after) => format!("{after} after it is published"),
            None => "24h after it is published, if it is not the first".into(),
        }
    ));
    Ok(Done::Well)
}

/// Creates a key; without a name, under one made of the date and random letters, so that asking twice makes one.
pub fn create_in(
    cluster: &Cluster,
    name: Option<&str>,
    format: KeyFormatArg,
    prefer_after: Option<&str>,
) -> Result<SealingKey> {
    if let Some(name) = name
        && !bulla::scope::is_dns_subdomain(name)
    {
        return Err(Failure::usage(format!("{name:?} can't name a SealingKey: a-z 0-9 - . only")));
    }
    let made = match name {
        Some(name) => name.to_owned(),
        None => {
            let mut bytes = [0_u8; 5];
            SystemRandom::new()
                .fill(&mut bytes)
                .map_err(|_| Failure::new("the operating system gave no randomness"))?;
            let letters: String =
                bytes.iter().map(|byte| char::from(b"bcdfghjklmnpqrstvwxz2456789"[usize::from(byte % 27)])).collect();
            format!("key-{}-{letters}", today().replace('-', ""))
        }
    };
    let spec = SealingKeySpec {
        format: format.into(),
        prefer_after: prefer_after.map(str::to_owned),
        ..SealingKeySpec::default()
    };
    let mut key = SealingKey::new(&made, spec);
    key.metadata.namespace = Some(cluster.namespace.clone());
    cluster.create_key(&made, name.is_none(), &key)
}

/// Checks an overlap and says how many seconds it is.
pub fn check_prefer_after(text: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    match seconds(text) {
        Some(seconds) if seconds <= MAX_PREFER_AFTER => Ok(Some(seconds)),
        _ => Err(Failure::usage(format!("--prefer-after {text}: not a duration up to 8760h"))
            .help("as in 0s, 90m, 24h, 1h30m")),
    }
}

/// Seconds of a duration as Go writes them (`1h30m`), without parts of a second.
pub fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'h' => 3600,
            b'm' if !rest[digits..].starts_with("ms") => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_are_those_of_go() {
        for (text, value) in
            [("0s", Some(0)), ("0", Some(0)), ("1h30m", Some(5400)), ("24h", Some(86_400)), ("90s", Some(90))]
        {
            assert_eq!(seconds(text), value);
        }
        for text in ["", "5", "h", "1d", "-1h", "1.5h", "5ms", "1h 2m"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
