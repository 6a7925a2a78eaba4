//! Backups of a cluster's sealing keys (docs/keys.md): an age file to recovery recipients, whose text is JSON. The plain
//! `age` tool opens it.

use std::fmt;
use std::io::{Read as _, Write as _};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::recipient::{Identity, Recipient};
use crate::request;
use crate::resource::KeyState;

/// The only version.
pub const VERSION: u32 = 1;
/// Bytes of a backup, and of its text.
pub const MAX_BACKUP: usize = 1 << 20;

/// The keys of a cluster.
#[derive(Serialize, Deserialize, Debug)]
pub struct Backup {
    /// [`VERSION`].
    pub version: u32,
    /// Its keys.
    pub keys: Vec<BackupKey>,
}

/// One key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupKey {
    /// The SealingKey's name, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The private key.
    #[serde(serialize_with = "expose", deserialize_with = "take")]
    pub identity: Identity,
    /// What it was used for.
    pub state: KeyState,
    /// When it became the preferred one, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_at: Option<String>,
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupKey({:?}, {:?})", self.identity, self.state)
    }
}

fn expose<S: Serializer>(identity: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&identity.expose())
}

fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    text.parse().map_err(|_| D::Error::custom("not an age identity"))
}

/// Why there is no backup, or none to be read.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupError {
    /// Nobody to encrypt to, or recipients that can't stand together.
    #[error("recipients of both kinds, or none: a backup is as safe as the weakest of them")]
    Recipients,
    /// It would be larger than is read.
    #[error("there are too many keys for one backup")]
    TooLarge,
    /// None of the identities opens it, or it was changed.
    #[error("it does not open with these identities, or was changed")]
    Closed,
    /// It opens, and is something else.
    #[error("it is no backup of sealing keys")]
    Malformed,
    /// A version of the future.
    #[error("version {0} of the backup is not known to this program; a newer one may read it")]
    Version(u32),
}

impl Backup {
    /// Encrypts it to all of `recipients`, each of whom can open it.
    ///
    /// # Errors
    /// [`BackupError::Recipients`], [`BackupError::TooLarge`].
    pub fn seal(&self, recipients: &[&Recipient]) -> Result<Vec<u8>, BackupError> {
        // One buffer that never grows: growing would leave copies of private keys behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BACKUP));
        let mut limited = Limited { into: &mut text, left: MAX_BACKUP };
        serde_json::to_writer(&mut limited, self).map_err(|_| BackupError::TooLarge)?;
        let recipients = recipients.iter().map(|recipient| recipient.as_age());
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(|_| BackupError::Recipients)?;
        let mut file = Vec::with_capacity(text.len() + 16 * 1024);
        let mut writer = encryptor.wrap_output(&mut file).map_err(|_| BackupError::Recipients)?;
        writer.write_all(&text).and_then(|()| writer.finish().map(drop)).map_err(|_| BackupError::Recipients)?;
        Ok(file)
    }

    /// Opens one with whichever of `identities` it is for.
    ///
    /// # Errors
    /// [`BackupError::Closed`], [`BackupError::Malformed`], [`BackupError::Version`].
    pub fn open(file: &[u8], identities: &[&Identity]) -> Result<Self, BackupError> {
        if file.len() > 2 * MAX_BACKUP {
            return Err(BackupError::Closed);
        }
        let decryptor = age::Decryptor::new_buffered(file).map_err(|_| BackupError::Closed)?;
        let identities = identities.iter().map(|identity| identity.as_age());
        let reader = decryptor.decrypt(identities).map_err(|_| BackupError::Closed)?;
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BACKUP + 1));
        reader.take(MAX_BACKUP as u64 + 1).read_to_end(&mut text).map_err(|_| BackupError::Closed)?;
        if text.len() > MAX_BACKUP {
            return Err(BackupError::Malformed);
        }
        let backup: Self = request::parse(&text).map_err(|_| BackupError::Malformed)?;
        if backup.version != VERSION {
            return Err(BackupError::Version(backup.version));
        }
        Ok(backup)
    }
}

/// A writer that refuses what does not fit.
struct Limited<'a> {
    into: &'a mut Vec<u8>,
    left: usize,
}

impl std::io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::FileTooLarge)?;
        self.into.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipient::RecipientKind;

    fn identity(kind: RecipientKind) -> Identity {
        Identity::generate(kind).expect("randomness")
    }

    fn backup() -> Backup {
        let key = |name: Option<&str>, kind, state, at: Option<&str>| BackupKey {
            name: name.map(str::to_owned),
            identity: identity(kind),
            state,
            preferred_at: at.map(str::to_owned),
        };
        let keys = vec![
            key(Some("hybrid-1"), RecipientKind::Hybrid, KeyState::Active, Some("2026-11-24T00:00:00.000Z")),
            key(None, RecipientKind::Classical, KeyState::Compromised, None),
        ];
        Backup { version: VERSION, keys }
    }

    #[test]
    fn each_recipient_opens_what_was_backed_up_and_nobody_else() {
        let made = backup();
        let [one, two, other] = [(); 3].map(|()| identity(RecipientKind::Hybrid));
        let file = made.seal(&[one.recipient(), two.recipient()]).expect("seals");
        for holder in [&one, &two] {
            let read = Backup::open(&file, &[&other, holder]).expect("opens");
            for (was, is) in made.keys.iter().zip(&read.keys) {
                assert_eq!(was.identity.expose(), is.identity.expose());
                assert_eq!((&was.name, was.state, &was.preferred_at), (&is.name, is.state, &is.preferred_at));
            }
        }
        assert_eq!(Backup::open(&file, &[&other]).err(), Some(BackupError::Closed));
        let mut changed = file.clone();
        *changed.last_mut().expect("bytes") ^= 1;
        assert_eq!(Backup::open(&changed, &[&one]).err(), Some(BackupError::Closed));
        assert_eq!(Backup::open(&file[..file.len() - 1], &[&one]).err(), Some(BackupError::Closed));
        assert_eq!(Backup::open(b"", &[&one]).err(), Some(BackupError::Closed));
        assert!(!format!("{made:?}").contains("SECRET"));
    }

    #[test]
    fn a_backup_is_not_weaker_than_its_strongest_recipient() {
        let (hybrid, classical) = (identity(RecipientKind::Hybrid), identity(RecipientKind::Classical));
        let mixed = backup().seal(&[hybrid.recipient(), classical.recipient()]);
        assert_eq!(mixed.err(), Some(BackupError::Recipients));
        assert_eq!(backup().seal(&[]).err(), Some(BackupError::Recipients));
    }

    #[test]
    fn what_opens_and_is_no_backup_is_refused() {
        let holder = identity(RecipientKind::Classical);
        let open = |text: &str| {
            let file = crate::envelope::encrypt(holder.recipient(), text.as_bytes()).expect("randomness");
            Backup::open(&file, &[&holder]).err()
        };
        let key = holder.expose();
        assert_eq!(open(r#"{"version": 2, "keys": []}"#), Some(BackupError::Version(2)));
        for text in [
            "{}".to_owned(),
            "no JSON".to_owned(),
            r#"{"version": 1, "keys": [{"identity": "x", "state": "Active"}]}"#.to_owned(),
            format!(r#"{{"version": 1, "keys": [{{"identity": "{}", "state": "Other"}}]}}"#, key.as_str()),
            r#"{"version": 1, "keys": [], "keys": []}"#.to_owned(),
            " ".repeat(MAX_BACKUP + 1),
        ] {
            assert_eq!(open(&text), Some(BackupError::Malformed));
        }
        let good = format!(r#"{{"version": 1, "keys": [{{"identity": "{}", "state": "Active"}}]}}"#, key.as_str());
        assert_eq!(open(&good), None);
    }
}
