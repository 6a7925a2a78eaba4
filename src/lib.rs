//! Bulla seals Kubernetes Secrets so that they can live in Git.

pub mod limits;
pub mod manifest;
pub mod resource;
pub mod scope;
pub mod secret;

mod encoding;
