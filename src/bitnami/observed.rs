//! What a controller that only observes SealedSecrets of `bitnami.com` keeps for people, and what a command line reads of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The ConfigMap in the controller's own namespace.
pub const OBSERVED_CONFIG_MAP: &str = "bulla-observed";
/// Its key, under which an [`ObservedReport`] stands as JSON.
pub const OBSERVED_KEY: &str = "report";

/// How many objects stand how, and which not as they should.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReport {
    /// Objects that were looked at.
    pub observed: usize,
    /// How many of them stand how, by result: `Same`, `Different`, `NoKey` and so on.
    pub results: BTreeMap<String, usize>,
    /// Those that need somebody's attention.
    pub objects: Vec<ObservedObject>,
    /// How many of these are not named.
    #[serde(default)]
    pub unnamed: usize,
}

/// An object that is not as it should be. It holds no value of its Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedObject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub result: String,
    /// Why, for people.
    pub message: String,
}
