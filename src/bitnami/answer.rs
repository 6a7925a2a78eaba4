//! What a controller answers when it is asked to seal anew, checked against what it was asked about.

use super::resource::{BitnamiSealedSecret, scope_of};
use super::sealed::{ItemError, Resealed, check_item};

/// Why an answer is not taken. Nothing of it is told.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// It is about another object, or binds to another place.
    #[error("it is about another name, namespace or scope than was asked about")]
    Place,
    /// Items came or went.
    #[error("its items are not those that were sent")]
    Items,
    /// An item is none.
    #[error("{0} in it is no sealed text: {1}")]
    Item(String, ItemError),
    /// The controller brought an old file into the new form, which loses what only the Secret within knows.
    #[error("it has encryptedData where spec.data was sent")]
    Form,
}

/// The new texts of an answer. Only they are ever taken from it: metadata, template and all else stay what was sent.
///
/// # Errors
/// [`AnswerError`].
pub fn resealed_of(sent: &BitnamiSealedSecret, answer: &BitnamiSealedSecret) -> Result<Resealed, AnswerError> {
    let place = |object: &BitnamiSealedSecret| {
        let metadata = &object.metadata;
        (
            metadata.name.clone().unwrap_or_default(),
            metadata.namespace.clone().unwrap_or_default(),
            scope_of(metadata.annotations.as_ref()),
        )
    };
    if place(sent) != place(answer) {
        return Err(AnswerError::Place);
    }
    let whole = |object: &BitnamiSealedSecret| object.spec.data.clone().filter(|data| !data.is_empty());
    match (whole(sent), whole(answer)) {
        (Some(_), Some(text)) => {
            check_item(&text).map_err(|error| AnswerError::Item("spec.data".into(), error))?;
            Ok(Resealed::Whole(text))
        }
        (Some(_), None) => Err(AnswerError::Form),
        (None, Some(_)) => Err(AnswerError::Items),
        (None, None) => {
            let texts = &answer.spec.encrypted_data;
            if !sent.spec.encrypted_data.keys().eq(texts.keys()) {
                return Err(AnswerError::Items);
            }
            for (key, text) in texts {
                check_item(text).map_err(|error| AnswerError::Item(format!("spec.encryptedData.{key}"), error))?;
            }
            Ok(Resealed::Items(texts.clone()))
        }
    }
}
