//! Which files depend on which key, for who wants to retire one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bulla::diff::{envelopes_of, readers};
use bulla::recipient::Fingerprint;
use bulla::resource::SealedSecret;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};

/// The keys that a file's items are sealed for.
#[derive(Default)]
pub struct Uses(BTreeMap<Fingerprint, Use>);

#[derive(Default)]
struct Use {
    /// What the lines are called.
    names: BTreeSet<String>,
    /// Whether some item has no line for anybody else.
    alone: bool,
}

impl Uses {
    pub fn add(&mut self, sealed: &SealedSecret) {
        for item in sealed.spec.items.values() {
            let lines = readers(envelopes_of(&sealed.spec, item));
            let keys: BTreeSet<Fingerprint> = lines.iter().filter_map(|line| line.fingerprint).collect();
            for line in lines {
                let Some(fingerprint) = line.fingerprint else { continue };
                let of = self.0.entry(fingerprint).or_default();
                of.names.insert(line.name);
                of.alone |= keys.len() == 1;
            }
        }
    }
}

/// Of each file, as it is now. Nothing is kept unless somebody asks for it.
#[derive(Default)]
pub struct Keys(Option<Mutex<BTreeMap<String, Uses>>>);

impl Keys {
    pub fn wanted(wanted: bool) -> Self {
        Self(wanted.then(Mutex::default))
    }

    /// Takes down what a file holds, in the place of what it held before.
    pub fn note<'a>(&self, file: &str, objects: impl IntoIterator<Item = &'a SealedSecret>) {
        let Some(files) = &self.0 else { return };
        let mut uses = Uses::default();
        objects.into_iter().for_each(|object| uses.add(object));
        files.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), uses);
    }

    /// By key: what it is called, whether files are sealed for it today, which files are, and which of them are lost with it.
    pub fn json(&self, current: &[Fingerprint]) -> Value {
        let Some(files) = &self.0 else { return Value::Null };
        /// Names, files, and those that nobody else opens.
        type Of = (BTreeSet<String>, Vec<String>, Vec<String>);
        let mut all: BTreeMap<Fingerprint, Of> = BTreeMap::new();
        for (file, uses) in files.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (fingerprint, of) in &uses.0 {
                let (names, files, alone) = all.entry(*fingerprint).or_default();
                names.extend(of.names.iter().cloned());
                files.push(file.clone());
                if of.alone {
                    alone.push(file.clone());
                }
            }
        }
        let keys = all.into_iter().map(|(fingerprint, (names, files, alone))| {
            json!({
                "fingerprint": fingerprint.to_string(), "names": names, "current": current.contains(&fingerprint),
                "files": files, "onlyFor": alone,
            })
        });
        keys.collect()
    }
}

/// The file of `--report json=FILE`.
pub fn report_file(text: &str) -> Result<PathBuf> {
    match text.split_once('=') {
        Some(("json", path)) if !path.is_empty() => Ok(path.into()),
        _ => Err(Failure::usage(format!("--report {text}: it is json=FILE"))),
    }
}
