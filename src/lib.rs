//! Bulla seals Kubernetes Secrets so that they can live in Git.

pub mod digest;
pub mod envelope;
pub mod item;
pub mod limits;
pub mod manifest;
pub mod metadata;
pub mod open;
pub mod recipient;
pub mod resource;
pub mod rewrap;
pub mod scope;
pub mod seal;
pub mod secret;

mod encoding;
mod hybrid;
