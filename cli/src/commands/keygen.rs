//! `bulla keygen`

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use bulla::recipient::{Identity, RecipientKind};
use zeroize::Zeroizing;

use super::Done;
use crate::cli::KeygenArgs;
use crate::failure::{self, Failure, Result, shown};
use crate::{files, identities, output};

pub fn run(args: &KeygenArgs) -> Result<Done> {
    let path = match &args.write {
        Some(path) if files::is_stdin(path) => {
            return Err(Failure::usage("an identity is never printed").help("bulla keygen -w FILE"));
        }
        Some(path) => path.clone(),
        None => default_path()?,
    };
    let public = args.recipient.clone().unwrap_or_else(|| {
        let mut name = path.clone().into_os_string();
        name.push(".pub");
        name.into()
    });
    // Looked at first, so that neither is written when the other is there; both are made exclusively all the same.
    for path in [&path, &public] {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Failure::new(format!("{} is there already and is not overwritten", shown(path)))
                .help("choose another name, or move it away if nothing is sealed for it any more"));
        }
    }
    let kind = if args.classical { RecipientKind::Classical } else { RecipientKind::Hybrid };
    let identity = Identity::generate(kind).map_err(|error| Failure::new(error.to_string()))?;
    let recipient = identity.recipient();
    let created = today();
    let secret = identity.expose();
    let mut text = Zeroizing::new(String::with_capacity(4096));
    text.push_str("# created: ");
    text.push_str(&created);
    text.push_str("\n# public key: ");
    text.push_str(recipient.as_str());
    text.push('\n');
    text.push_str(&secret);
    text.push('\n');
    files::create_private(&path, text.as_bytes())?;
    if let Err(error) = files::create(&public, format!("# created: {created}\n{}\n", recipient.as_str()).as_bytes()) {
        _ = std::fs::remove_file(&path);
        return Err(error);
    }
    let fingerprint = recipient.fingerprint();
    output::data(format!("{fingerprint}\n").as_bytes())?;
    output::say(&format!(
        "wrote {} (the identity: keep it secret) and {} (the recipient), {kind}",
        shown(&path),
        shown(&public)
    ));
    Ok(Done::Well)
}

/// The place where other commands look for an identity, in a folder for nobody else.
fn default_path() -> Result<PathBuf> {
    let none = || Failure::usage("there is no home folder to keep an identity in").help("bulla keygen -w FILE");
    let (folder, file) = identities::own_folder().zip(identities::own_file()).ok_or_else(none)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| failure::io("make", &folder, &error))?;
    Ok(file)
}

/// The date, in UTC.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    date(seconds / 86_400)
}

/// `YYYY-MM-DD` of a day counted from 1970-01-01. Years here begin in March, so that the leap day is the last one.
pub fn date(days: u64) -> String {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, text) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (10_956, "1999-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_780, "2026-11-23"),
        ] {
            assert_eq!(date(days), text);
        }
    }
}
