//! Between what manifests of Bitnami's format say and what the library works on; and SealedSecrets of either format.

use bulla::bitnami::{BitnamiSealedSecret, OpenError, RebindError, SetError};
use bulla::manifest::emit::Tree;
use bulla::manifest::{BitnamiView, Object, Span, Stream};
use bulla::resource::SealedSecret;
use bulla::seal::SealError;

use crate::failure::{self, Failure, Result};
use crate::model::{Sealed, called};
use crate::output::plain;

/// A SealedSecret of Bitnami's format in a file: its index, what it says and where.
#[derive(Clone)]
pub struct Bitnami {
    pub index: usize,
    pub view: BitnamiView,
    pub object: BitnamiSealedSecret,
}

impl Bitnami {
    pub fn read(file: &str, stream: &Stream, object: Object<'_>) -> Result<Self> {
        let view = object.bitnami().map_err(|error| failure::manifest(file, Some(stream.text()), &error))?;
        Ok(Self { index: object.index(), object: view.sealed.clone(), view })
    }

    pub fn called(&self) -> String {
        called(self.object.metadata.namespace.as_deref(), self.object.metadata.name.as_deref())
    }

    /// Where an item is; `data` is also the whole of an old file.
    pub fn item(&self, key: &str) -> Span {
        let item = self.view.places.items.get(key).map(|item| item.key);
        item.or(self.view.data).unwrap_or(self.view.places.object)
    }

    /// Where a field is, by its path.
    pub fn field(&self, path: &str) -> Span {
        let other = self.view.other.iter().find(|(other, _)| other == path).map(|(_, span)| *span);
        let template = path.strip_prefix("spec.template.data.");
        other
            .or_else(|| self.view.fields.get(path).copied())
            .or_else(|| self.view.places.template_data.get(template?).copied())
            .or(self.view.places.template.filter(|_| path.starts_with("spec.template")))
            .unwrap_or(self.view.places.object)
    }

    /// It does not open. `held` are the key files with their fingerprints.
    pub fn open(&self, file: &str, stream: &Stream, held: &[(String, Vec<String>)], error: &OpenError) -> Box<Failure> {
        let text = Some(stream.text());
        match error {
            OpenError::NoKey(keys) => {
                let files: Vec<_> = held.iter().map(|(file, _)| file.as_str()).collect();
                let mut failure = Failure::new(format!(
                    "no key in {} opens {}: {}",
                    files.join(", "),
                    self.called(),
                    keys.join(", ")
                ))
                .at(file, text, keys.first().map_or(self.view.places.object, |key| self.item(key)))
                .detail(
                    "sealed for another key, another namespace, name or scope, or damaged: this format does not \
                             tell which",
                );
                for (file, fingerprints) in held {
                    failure = failure.detail(format!("{file}: {}", fingerprints.join(", ")));
                }
                failure.help(format!("of a file that was moved: bulla move {file} --from NAMESPACE/NAME -i KEY"))
            }
            OpenError::Item { key, .. } => Failure::new(error.to_string())
                .at(file, text, self.item(key.as_deref().unwrap_or("data")))
                .help("take the file from Git as it was"),
            OpenError::Template { key, .. } => {
                Failure::new(error.to_string()).at(file, text, self.field(&format!("spec.template.data.{key}")))
            }
            OpenError::Key(key) => Failure::new(error.to_string()).at(file, text, self.item(key)),
            _ => Failure::new(format!("{}: {error}", self.called())).at(file, text, self.view.places.object),
        }
    }

    /// A value can't be set.
    pub fn set(&self, file: &str, stream: &Stream, error: &SetError) -> Box<Failure> {
        let text = Some(stream.text());
        let at = |failure: Box<Failure>, span: Span| failure.at(file, text, span);
        match error {
            SetError::Object(error) => self.open(file, stream, &[], error),
            SetError::WiderScope { file: own, asked } => {
                let message = format!(
                    "{file} has the scope {own}, wider than {asked}: the value could be opened in more places than you want"
                );
                at(Failure::new(message), self.view.places.object).help(format!("if that is meant: --scope {own}"))
            }
            SetError::Legacy => at(Failure::new(error.to_string()), self.view.data.unwrap_or_default())
                .help(format!(
                    "bring it over, with the private key: bulla migrate {file} --replace --prunes-last -i KEY"
                ))
                .help("or enter all values in a new file"),
            _ => at(Failure::new(format!("{}: {error}", self.called())), self.view.places.object),
        }
    }

    /// Its items can't be bound to its place.
    pub fn rebind(
        &self,
        file: &str,
        stream: &Stream,
        held: &[(String, Vec<String>)],
        error: &RebindError,
    ) -> Box<Failure> {
        match error {
            RebindError::Set(error) => self.set(file, stream, error),
            RebindError::NoKey(keys) => self.open(file, stream, held, &OpenError::NoKey(keys.clone())),
        }
    }
}

/// A Secret can't be sealed in Bitnami's format. `what` is how it is called.
pub fn seal(what: &str, error: &SetError) -> Box<Failure> {
    match error {
        SetError::Place(error) => failure::seal(what, &SealError::Place(*error)),
        SetError::Object(error) => Failure::new(format!("{what}: {error}")).help("split the Secret"),
        _ => Failure::new(format!("{what}: {error}")),
    }
}

/// A SealedSecret of a file, of either format.
pub enum Either {
    Native(Box<Sealed>),
    Bitnami(Box<Bitnami>),
}

impl Either {
    fn read(file: &str, stream: &Stream, object: Object<'_>) -> Result<Self> {
        Ok(if object.is_bitnami() {
            Self::Bitnami(Box::new(Bitnami::read(file, stream, object)?))
        } else {
            Self::Native(Box::new(Sealed::read(file, stream, object)?))
        })
    }

    pub const fn index(&self) -> usize {
        match self {
            Self::Native(sealed) => sealed.index,
            Self::Bitnami(sealed) => sealed.index,
        }
    }

    pub fn called(&self) -> String {
        match self {
            Self::Native(sealed) => sealed.called(),
            Self::Bitnami(sealed) => sealed.called(),
        }
    }

    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Native(sealed) => sealed.object.metadata.namespace.as_deref(),
            Self::Bitnami(sealed) => sealed.object.metadata.namespace.as_deref(),
        }
    }

    /// What it says, to be written or compared.
    pub fn made(&self) -> Made {
        match self {
            Self::Native(sealed) => Made::Native(Box::new(sealed.object.clone())),
            Self::Bitnami(sealed) => Made::Bitnami(Box::new(sealed.object.clone())),
        }
    }
}

/// Whether an object is sealed, in either format.
pub fn is_sealed(object: &Object<'_>) -> bool {
    object.is_sealed() || object.is_bitnami()
}

/// All SealedSecrets of a file, of either format.
pub fn all_either(file: &str, stream: &Stream) -> Result<Vec<Either>> {
    stream.objects().filter(is_sealed).map(|object| Either::read(file, stream, object)).collect()
}

/// All SealedSecrets of Bitnami's format of a file.
pub fn all_bitnami(file: &str, stream: &Stream) -> Result<Vec<Bitnami>> {
    stream.objects().filter(Object::is_bitnami).map(|object| Bitnami::read(file, stream, object)).collect()
}

/// The one SealedSecret that is meant, of either format: by namespace and name, else the only one.
pub fn the_either(file: &str, stream: &Stream, namespace: Option<&str>, name: Option<&str>) -> Result<Either> {
    Either::read(file, stream, crate::model::the_object(file, stream, namespace, name, is_sealed)?)
}

/// A SealedSecret of either format, as it is written.
#[derive(Clone)]
pub enum Made {
    Native(Box<SealedSecret>),
    Bitnami(Box<BitnamiSealedSecret>),
}

impl Made {
    pub fn tree(&self) -> Tree {
        match self {
            Self::Native(sealed) => Tree::sealed(&(**sealed).clone().into()),
            Self::Bitnami(sealed) => Tree::bitnami(sealed),
        }
    }

    pub fn called(&self) -> String {
        let metadata = match self {
            Self::Native(sealed) => &sealed.metadata,
            Self::Bitnami(sealed) => &sealed.metadata,
        };
        called(metadata.namespace.as_deref(), metadata.name.as_deref())
    }

    /// What a writer says of an object that is near its limits.
    pub fn near_limits(&self) -> Vec<String> {
        match self {
            Self::Native(sealed) => plain::near_limits(&self.called(), sealed),
            Self::Bitnami(sealed) => {
                // Texts are nearly all of it.
                let sizes = bulla::bitnami::texts_of(&sealed.spec).map(|(key, text)| 2 * key.len() + text.len() + 40);
                plain::near_apply_limit(&self.called(), sizes.sum()).into_iter().collect()
            }
        }
    }

    /// What of it is not in `new`, for a person; everything when there is no `new`.
    pub fn lost(&self, new: Option<&Self>) -> Vec<String> {
        let mut lost = Vec::new();
        match (self, new) {
            (Self::Native(old), Some(Self::Native(new))) => lost_native(old, new, &mut lost),
            (Self::Native(old), None) => lost_native(old, &SealedSecret::default(), &mut lost),
            (Self::Bitnami(old), Some(Self::Bitnami(new))) => {
                let gone = bulla::bitnami::texts_of(&old.spec).map(|(key, _)| key);
                let gone: Vec<_> = gone.filter(|key| !new.spec.encrypted_data.contains_key(*key)).collect();
                if !gone.is_empty() {
                    lost.push(gone.join(", "));
                }
            }
            (Self::Bitnami(old), None) => {
                lost.push(bulla::bitnami::texts_of(&old.spec).map(|(key, _)| key).collect::<Vec<_>>().join(", "));
            }
            (_, Some(Self::Native(_))) => lost.push("it is of Bitnami's format, and would become native".to_owned()),
            (_, Some(Self::Bitnami(_))) => lost.push("it is native, and would become of Bitnami's format".to_owned()),
        }
        lost.into_iter().filter(|text| !text.is_empty()).map(|text| format!("{}: {text}", self.called())).collect()
    }
}

fn lost_native(old: &SealedSecret, new: &SealedSecret, lost: &mut Vec<String>) {
    let gone = bulla::seal::lost(old, new);
    lost.push(gone.items.join(", "));
    for (name, fingerprint) in &gone.recipients {
        lost.push(format!("recipient {}", failure::named(name, &fingerprint.to_string())));
    }
}
