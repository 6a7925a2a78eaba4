//! What a cluster does for Bitnami's format: sealing anew, and migrating, without anybody seeing a value.

use bulla::bitnami::{self, BitnamiSealedSecret, Certificate, Resealed, value_len, wrapped_len};
use bulla::recipient::{Recipient, Target};
use bulla::request;
use bulla::resource::SealedSecret;
use kube::core::Status;
use serde::Serialize;

use super::{Answered, Cluster, Exchanged};
use crate::failure::{Failure, Result};

/// Where a controller seals anew.
const ROTATE: &str = "/v1/rotate";
/// Where it makes native objects.
const MIGRATE: &str = "/v1/migrate";

#[derive(Serialize)]
struct MigrateRequest<'a> {
    object: &'a BitnamiSealedSecret,
}

impl Cluster {
    /// Has the values of an object sealed anew for the cluster's newest key. Nothing but sealed texts is taken from the answer,
    /// and only when they can be those of the same values for this certificate: same place, keys and lengths. That they are the
    /// same values nobody can see; with `pinned` the answer is proven to be the controller's.
    pub fn rotate(
        &self,
        object: &BitnamiSealedSecret,
        certificate: &Certificate,
        pinned: Option<&Recipient>,
    ) -> Result<Resealed> {
        let body = serde_json::to_vec(object).map_err(|error| Failure::new(format!("can't ask: {error}")))?;
        let (status, body) = match pinned {
            None => self.post(ROTATE, &body)?,
            Some(pinned) => match self.exchange(ROTATE, body, pinned, b"")? {
                Exchanged::Proven { status, body } => (status, body),
                Exchanged::NotProven(failure) => return Err(failure),
            },
        };
        if status != 200 {
            return Err(self.refusal(status, &body));
        }
        let refused = |what: String| {
            Failure::new(format!("the answer of {} is refused: {what}. Nothing was written", self.context))
        };
        let answer: BitnamiSealedSecret = request::parse(&body).map_err(|_| refused("it is no SealedSecret".into()))?;
        let resealed = bitnami::resealed_of(object, &answer).map_err(|error| refused(error.to_string()))?;
        let mut after = object.clone();
        resealed.clone().apply(&mut after);
        let before: std::collections::BTreeMap<&str, &str> = bitnami::texts_of(&object.spec).collect();
        for (key, text) in bitnami::texts_of(&after.spec) {
            let was = before.get(key).copied().unwrap_or_default();
            if value_len(text).ok() != value_len(was).ok() {
                return Err(refused(format!("the value of {key} has another length")));
            }
            if wrapped_len(text).ok() != Some(certificate.wrapped_len()) {
                return Err(refused(format!("{key} is not sealed for a key of the certificate's size")));
            }
            if text == was {
                return Err(refused(format!("{key} is not sealed anew")));
            }
        }
        Ok(resealed)
    }

    /// Has an object sealed in the native format by the holder of `pinned`, for its own key and the recipients of its
    /// configuration. Taken is only what the object itself says, for exactly these `targets`.
    pub fn migrate(
        &self,
        object: &BitnamiSealedSecret,
        pinned: &Recipient,
        targets: &[Target],
    ) -> Result<SealedSecret> {
        let mut answer: SealedSecret = self.ask(MIGRATE, &MigrateRequest { object }, pinned)?;
        bitnami::check_answer(object, &answer, targets).map_err(|refused| {
            let failure = Failure::new(format!("the answer of {} is refused: {refused}", self.context));
            match refused {
                bitnami::AnswerRefused::Reader(_) | bitnami::AnswerRefused::Lost(_) => failure.help(
                    "a cluster seals for its own key and the recipients of its configuration (--recipient NAME=FILE of \
                     the controller): name the same here, in the file's rule or with -R; or offline: -i KEY",
                ),
                _ => failure,
            }
        })?;
        bitnami::rename(&mut answer, targets);
        Ok(answer)
    }

    /// Asks without any proof.
    fn post(&self, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let Answered { status, body, .. } = self.send(path, body, None)?;
        // The API server's own refusals say so in its own words.
        if status != 200 && request::parse::<request::Problem>(&body).is_err() && matches!(status, 401 | 403 | 404) {
            return Err(self.unreached(&kube::Error::Api(Box::new(Status::failure("", "").with_code(status)))));
        }
        Ok((status, body))
    }
}
