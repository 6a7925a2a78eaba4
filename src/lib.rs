//! Bulla seals Kubernetes Secrets so that they can live in Git.

pub mod envelope;
pub mod item;
pub mod limits;
pub mod recipient;
pub mod resource;
pub mod scope;
pub mod secret;

mod encoding;
mod hybrid;
