//! What a controller refuses to make: a SealedSecret gives whoever writes it a Secret of a name, type and metadata that
//! they choose, and some of those mean power.

use std::collections::BTreeMap;

use crate::metadata::{
    BITNAMI_KEY_LABEL, BITNAMI_KEY_PREFIX, KEY_SECRET_PREFIX, SEALING_KEY_TYPE, is_dropped_from_template,
};
use crate::resource::SecretTemplate;
use crate::secret::PlainSecret;

/// Types that make a Secret a credential of the cluster itself: made only where a list names them exactly.
pub const GUARDED_TYPES: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];

/// A text, or its beginning followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the pattern over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == text, |prefix| text.starts_with(prefix))
    }
}

/// What may be: everything that `deny` does not match and, when `allow` is not empty, that `allow` matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Nothing else may be, unless this is empty.
    pub allow: Vec<Pattern>,
    /// Never.
    pub deny: Vec<Pattern>,
}

impl Lists {
    /// Whether `text` may be.
    #[must_use]
    pub fn permit(&self, text: &str) -> bool {
        !self.deny.iter().any(|pattern| pattern.matches(text))
            && (self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(text)))
    }
}

/// The rules of one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputPolicy {
    /// Where the controller keeps its keys.
    pub own_namespace: String,
    /// Whether Secrets are made there at all.
    pub serve_own_namespace: bool,
    /// Types of Secrets.
    pub types: Lists,
    /// Labels that a template may set.
    pub labels: Lists,
    /// Whether objects with templates under `template.data` are refused.
    pub no_templates: bool,
    /// Annotations that a template may set.
    pub annotations: Lists,
}

/// Why a Secret is not made.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The controller's own namespace.
    #[error(
        "this is the controller's own namespace, where it makes no Secrets unless it is told --serve-own-namespace"
    )]
    OwnNamespace,
    /// A name that private keys have.
    #[error("a Secret of this name would be taken for a sealing key")]
    KeyName,
    /// The type of private keys.
    #[error("Secrets of type {SEALING_KEY_TYPE} are never made")]
    KeyType,
    /// A type that a list keeps out.
    #[error("this controller does not make Secrets of type {0:?} (--allow-type, --deny-type)")]
    Type(String),
    /// Templates, where they are turned off.
    #[error("this controller renders no templates (--templates=off), and spec.template.data has some")]
    Templates,
    /// A label that private keys of the established controller have.
    #[error("a Secret with the label {BITNAMI_KEY_LABEL} would be taken for a sealing key")]
    KeyLabel,
    /// A label that a list keeps out.
    #[error("this controller does not set the label {0:?} (--allow-template-label, --deny-template-label)")]
    Label(String),
    /// An annotation that a list keeps out.
    #[error(
        "this controller does not set the annotation {0:?} (--allow-template-annotation, --deny-template-annotation)"
    )]
    Annotation(String),
}

impl OutputPolicy {
    /// Whether this Secret may be made.
    ///
    /// # Errors
    /// [`Refused`], the first reason.
    pub fn check(&self, namespace: &str, name: &str, template: &SecretTemplate) -> Result<(), Refused> {
        if namespace == self.own_namespace {
            if name.starts_with(KEY_SECRET_PREFIX) {
                return Err(Refused::KeyName);
            }
            if !self.serve_own_namespace {
                return Err(Refused::OwnNamespace);
            }
        }
        if name == BITNAMI_KEY_PREFIX {
            return Err(Refused::KeyName);
        }
        if self.no_templates && !template.data.is_empty() {
            return Err(Refused::Templates);
        }
        let (labels, annotations) = output_metadata(template);
        self.check_output(template.type_.as_deref().unwrap_or("Opaque"), &labels, &annotations)
    }

    /// Whether this Secret, opened from a SealedSecret of bitnami.com, may be made. `keys` is where that format's keys are, and
    /// how their Secrets are called. It is asked of what was opened: old files have their whole Secret in the sealed text.
    ///
    /// # Errors
    /// [`Refused`], the first reason.
    pub fn check_secret(&self, secret: &PlainSecret, keys: (&str, &str)) -> Result<(), Refused> {
        let namespace = secret.namespace.as_deref().unwrap_or_default();
        let name = secret.name.as_deref().unwrap_or_default();
        let (keys_namespace, prefix) = keys;
        if namespace == self.own_namespace {
            if name.starts_with(KEY_SECRET_PREFIX) {
                return Err(Refused::KeyName);
            }
            // Where that format's keys are its SealedSecrets have always been served.
            if !self.serve_own_namespace && namespace != keys_namespace {
                return Err(Refused::OwnNamespace);
            }
        }
        if name == BITNAMI_KEY_PREFIX || (namespace == keys_namespace && name == prefix) {
            return Err(Refused::KeyName);
        }
        self.check_output(secret.type_.as_deref().unwrap_or("Opaque"), &secret.labels, &secret.annotations)
    }

    fn check_output(
        &self,
        type_: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Refused> {
        if type_ == SEALING_KEY_TYPE {
            return Err(Refused::KeyType);
        }
        let named = self.types.allow.contains(&Pattern::new(type_));
        if !self.types.permit(type_) || (GUARDED_TYPES.contains(&type_) && !named) {
            return Err(Refused::Type(type_.to_owned()));
        }
        if labels.contains_key(BITNAMI_KEY_LABEL) {
            return Err(Refused::KeyLabel);
        }
        if let Some(label) = labels.keys().find(|key| !self.labels.permit(key)) {
            return Err(Refused::Label(label.clone()));
        }
        if let Some(annotation) = annotations.keys().find(|key| !self.annotations.permit(key)) {
            return Err(Refused::Annotation(annotation.clone()));
        }
        Ok(())
    }
}

/// The labels and annotations that a template sets: without those that are the controller's, or a delivery tool's.
#[must_use]
pub fn output_metadata(template: &SecretTemplate) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let kept = |map: &BTreeMap<String, String>| {
        map.iter()
            .filter(|(key, _)| !is_dropped_from_template(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    template.metadata.as_ref().map(|m| (kept(&m.labels), kept(&m.annotations))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::TemplateMetadata;

    fn policy() -> OutputPolicy {
        OutputPolicy { own_namespace: "bulla-system".into(), ..OutputPolicy::default() }
    }

    fn of_type(type_: &str) -> SecretTemplate {
        SecretTemplate { type_: Some(type_.into()), ..SecretTemplate::default() }
    }

    fn labelled(key: &str) -> SecretTemplate {
        let labels = [(key.to_owned(), "x".to_owned())].into();
        SecretTemplate {
            metadata: Some(TemplateMetadata { labels, ..TemplateMetadata::default() }),
            ..SecretTemplate::default()
        }
    }

    #[test]
    fn the_own_namespace_is_served_only_when_told_and_never_its_keys() {
        let mut policy = policy();
        let plain = SecretTemplate::default();
        assert_eq!(policy.check("bulla-system", "db", &plain), Err(Refused::OwnNamespace));
        assert_eq!(policy.check("bulla-system", "bulla-key-x", &plain), Err(Refused::KeyName));
        assert_eq!(policy.check("shop", "bulla-key-x", &plain), Ok(()));
        policy.serve_own_namespace = true;
        assert_eq!(policy.check("bulla-system", "db", &plain), Ok(()));
        assert_eq!(policy.check("bulla-system", "bulla-key-x", &plain), Err(Refused::KeyName));
        assert_eq!(policy.check("shop", "sealed-secrets-key", &plain), Err(Refused::KeyName));
    }

    #[test]
    fn guarded_types_need_their_exact_name_and_sealing_keys_are_never_made() {
        let mut policy = policy();
        for type_ in GUARDED_TYPES {
            assert!(matches!(policy.check("shop", "db", &of_type(type_)), Err(Refused::Type(_))), "{type_}");
        }
        assert_eq!(policy.check("shop", "db", &of_type("kubernetes.io/tls")), Ok(()));
        policy.types.allow = vec![Pattern::new("*"), Pattern::new(GUARDED_TYPES[0])];
        assert_eq!(policy.check("shop", "db", &of_type(GUARDED_TYPES[0])), Ok(()));
        assert!(policy.check("shop", "db", &of_type(GUARDED_TYPES[1])).is_err(), "a star names nothing");
        assert_eq!(policy.check("shop", "db", &of_type(SEALING_KEY_TYPE)), Err(Refused::KeyType));
        policy.types = Lists { allow: vec![Pattern::new("kubernetes.io/*")], deny: vec![] };
        assert!(policy.check("shop", "db", &of_type("Opaque")).is_err());
        assert!(policy.check("shop", "db", &SecretTemplate::default()).is_err(), "absent is Opaque");
    }

    #[test]
    fn metadata_is_dropped_refused_or_kept() {
        let mut policy = policy();
        assert_eq!(policy.check("shop", "db", &labelled(BITNAMI_KEY_LABEL)), Err(Refused::KeyLabel));
        assert_eq!(policy.check("shop", "db", &labelled("bulla.dev/managed")), Ok(()));
        assert!(output_metadata(&labelled("bulla.dev/managed")).0.is_empty());
        assert!(output_metadata(&labelled("argocd.argoproj.io/instance")).0.is_empty());
        assert_eq!(output_metadata(&labelled("app")).0.len(), 1);
        policy.labels.deny = vec![Pattern::new("replicate/*")];
        assert_eq!(policy.check("shop", "db", &labelled("replicate/to")), Err(Refused::Label("replicate/to".into())));
        assert_eq!(policy.check("shop", "db", &labelled("app")), Ok(()));
    }

    #[test]
    fn a_secret_of_the_other_format_is_held_to_the_same_rules() {
        let policy = policy();
        let keys = ("kube-system", "sealed-secrets-key");
        let secret = |namespace: &str, name: &str| PlainSecret {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..PlainSecret::default()
        };
        assert_eq!(policy.check_secret(&secret("kube-system", "db"), keys), Ok(()), "its own namespace is served");
        assert_eq!(policy.check_secret(&secret("bulla-system", "db"), keys), Err(Refused::OwnNamespace));
        assert_eq!(policy.check_secret(&secret("bulla-system", "db"), ("bulla-system", "k")), Ok(()));
        assert_eq!(
            policy.check_secret(&secret("bulla-system", "bulla-key-x"), ("bulla-system", "k")),
            Err(Refused::KeyName)
        );
        assert_eq!(policy.check_secret(&secret("bulla-system", "k"), ("bulla-system", "k")), Err(Refused::KeyName));
        assert_eq!(policy.check_secret(&secret("shop", "sealed-secrets-key"), keys), Err(Refused::KeyName));
        let mut labelled = secret("kube-system", "db");
        labelled.labels = [(BITNAMI_KEY_LABEL.to_owned(), "active".to_owned())].into();
        assert_eq!(policy.check_secret(&labelled, keys), Err(Refused::KeyLabel));
        let mut token = secret("shop", "db");
        token.type_ = Some(GUARDED_TYPES[0].to_owned());
        assert!(matches!(policy.check_secret(&token, keys), Err(Refused::Type(_))));
    }
}
