//! A SealedSecret of either kind, as far as the queue and the index look at it.

use std::collections::BTreeSet;

use bulla::bitnami::{BitnamiSealedSecret, scope_of};
use bulla::open::readers;
use bulla::recipient::Fingerprint;
use bulla::resource::SealedSecret;
use kube::core::ObjectMeta;
use serde::Deserialize;

use crate::args::Settings;
use crate::bitnami;
use crate::queue::Kind;
use crate::reconcile::{self, Known, SecretId};

/// One object.
#[derive(Debug)]
pub enum Object {
    /// `bulla.dev`.
    Native(Box<SealedSecret>),
    /// `bitnami.com`.
    Bitnami(Box<BitnamiSealedSecret>),
    /// Not of the form that its definition demands: whoever looks at it says so.
    Unreadable(Kind, Box<ObjectMeta>),
}

/// What can be read of an object that is not of the form that its definition demands. The API server sees to the rest.
#[derive(Deserialize)]
pub struct Rough<Status> {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status.
    #[serde(default)]
    pub status: Option<Status>,
}

impl From<SealedSecret> for Object {
    fn from(sealed: SealedSecret) -> Self {
        Self::Native(Box::new(sealed))
    }
}

impl From<BitnamiSealedSecret> for Object {
    fn from(sealed: BitnamiSealedSecret) -> Self {
        Self::Bitnami(Box::new(sealed))
    }
}

impl Object {
    /// Of which kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Native(_) => Kind::Native,
            Self::Bitnami(_) => Kind::Bitnami,
            Self::Unreadable(kind, _) => *kind,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Native(sealed) => &sealed.metadata,
            Self::Bitnami(sealed) => &sealed.metadata,
            Self::Unreadable(_, metadata) => metadata,
        }
    }

    /// What of its annotations makes it be looked at again when it is another: they change no generation.
    pub fn asked(&self) -> Option<&str> {
        match self {
            Self::Native(sealed) => reconcile::asked_at(&sealed.metadata),
            Self::Bitnami(sealed) => Some(scope_of(sealed.metadata.annotations.as_ref()).as_str()),
            Self::Unreadable(..) => None,
        }
    }

    /// What its status says was written.
    pub fn applied(&self) -> Option<SecretId> {
        match self {
            Self::Native(sealed) => sealed.status.as_ref()?.applied.as_ref().map(SecretId::applied),
            Self::Bitnami(sealed) => bitnami::status::Applied::read(sealed.status.as_ref()).map(|a| a.secret()),
            Self::Unreadable(..) => None,
        }
    }

    /// For whom its data keys are wrapped.
    pub fn readers(&self) -> BTreeSet<BTreeSet<Fingerprint>> {
        match self {
            Self::Native(sealed) => readers(&sealed.spec),
            Self::Bitnami(_) | Self::Unreadable(..) => BTreeSet::new(),
        }
    }

    /// Whether there is nothing to do when its Secret is this.
    pub fn is_settled(&self, secret: &Known, settings: &Settings) -> bool {
        match self {
            Self::Native(sealed) => reconcile::is_settled(sealed, secret, settings),
            Self::Bitnami(sealed) => bitnami::reconcile::is_settled(sealed, secret, settings),
            Self::Unreadable(..) => false,
        }
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Native(sealed) => native_weight(sealed),
            Self::Bitnami(sealed) => bitnami::reconcile::weight(sealed),
            Self::Unreadable(..) => 1024,
        }
    }
}

fn native_weight(sealed: &SealedSecret) -> usize {
    let lines = |map: &bulla::resource::Envelopes| map.iter().map(|(k, v)| k.len() + v.len() + 100).sum::<usize>();
    let items = sealed
        .spec
        .items
        .iter()
        .map(|(key, item)| key.len() + item.sealed.len() + 150 + item.envelopes.as_ref().map_or(0, lines));
    let template = sealed.spec.template.as_ref().map_or(0, |template| {
        template.data.iter().map(|(key, text)| key.len() + text.len() + 100).sum::<usize>()
            + template.metadata.as_ref().map_or(0, |metadata| {
                let both = metadata.labels.iter().chain(&metadata.annotations);
                both.map(|(key, text)| key.len() + text.len() + 100).sum()
            })
    });
    let metadata = [&sealed.metadata.labels, &sealed.metadata.annotations].into_iter().flatten().flatten();
    let metadata: usize = metadata.map(|(key, text)| key.len() + text.len() + 100).sum();
    1024 + items.sum::<usize>() + lines(&sealed.spec.envelopes) + template + metadata
}
