//! Keys and objects of the other format, as clusters with sealed-secrets have them.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use bulla::bitnami::{
    API_VERSION, BitnamiSealedSecret, Certificate, KIND, PrivateKey, label, scope_of, seal_item, set_scope,
};
use bulla::metadata::BITNAMI_KEY_LABEL;
use bulla::scope::Scope;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::world::World;

/// A key as Go made it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    pub private_key: String,
    pub certificate: String,
}

impl Pair {
    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.certificate.as_bytes()).unwrap()
    }

    pub fn key(&self) -> PrivateKey {
        PrivateKey::from_pem(self.private_key.as_bytes()).unwrap()
    }
}

pub static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../vectors/bitnami.json")).unwrap());

/// PKCS#1 and PKCS#8.
pub static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| serde_json::from_value(VECTORS["keys"].clone()).unwrap());

impl World {
    /// A controller with this format on, whose keys are in its own namespace.
    pub async fn bitnami(prefix: &str, args: &[&str]) -> Result<Self> {
        let mut world = Self::bare(prefix).await?;
        let shipped = [include_str!("../../deploy/bitnami.yaml"), include_str!("../../deploy/bitnami-own.yaml")];
        world.cluster.apply(&world.rights_of(&shipped.join("\n---\n"), true)?).await?;
        world.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        world.args.extend(["--bitnami-namespace".to_owned(), world.system.clone()]);
        Ok(world)
    }

    /// A key's Secret in a namespace, as the established controller writes it.
    pub async fn plant_key(&self, namespace: &str, name: &str, label: Option<&str>, pair: &Pair) -> Result<Secret> {
        let labels = label.map(|value| json!({ BITNAMI_KEY_LABEL: value }));
        let object = json!({
            "metadata": { "name": name, "labels": labels },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.key": pair.private_key, "tls.crt": pair.certificate },
        });
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        Ok(secrets.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    pub fn theirs(&self) -> Api<BitnamiSealedSecret> {
        Api::namespaced(self.client.clone(), &self.app)
    }

    /// Seals values for a key, in this namespace.
    pub fn seal_theirs(&mut self, pair: &Pair, name: &str, scope: Scope, data: &[(&str, &str)]) -> BitnamiSealedSecret {
        data.iter().for_each(|(_, value)| self.guard(value));
        sealed_theirs(pair, &self.app, name, scope, data)
    }
}

/// The established controller's service account with the rights that its chart gives it, in both namespaces.
pub fn established_account(world: &World) -> String {
    let account = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: sealed-secrets-controller, namespace: {}}}\n",
        world.system
    );
    let role = |namespace: &str| {
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: secrets-unsealer, namespace: {namespace}}}\n\
             rules:\n\
             - {{apiGroups: [bitnami.com], resources: [sealedsecrets], verbs: [get, list, watch]}}\n\
             - {{apiGroups: [bitnami.com], resources: [sealedsecrets/status], verbs: [update]}}\n\
             - {{apiGroups: [''], resources: [secrets], verbs: [get, list, create, update, delete, watch]}}\n\
             - {{apiGroups: [''], resources: [events], verbs: [create, patch]}}\n\
             ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: sealed-secrets-controller, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: secrets-unsealer}}\n\
             subjects: [{{kind: ServiceAccount, name: sealed-secrets-controller, namespace: {}}}]\n",
            world.system
        )
    };
    format!("{account}{}{}", role(&world.system), role(&world.app))
}

/// A SealedSecret as kubeseal writes it.
pub fn sealed_theirs(
    pair: &Pair,
    namespace: &str,
    name: &str,
    scope: Scope,
    data: &[(&str, &str)],
) -> BitnamiSealedSecret {
    let mut annotations = std::collections::BTreeMap::new();
    set_scope(&mut annotations, scope);
    let label = label(scope_of(Some(&annotations)), namespace, name);
    let certificate = pair.certificate();
    let items: serde_json::Map<String, Value> = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), seal_item(&certificate, &label, value.as_bytes()).unwrap().into()))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": name, "namespace": namespace, "annotations": annotations },
        "spec": {
            "encryptedData": items,
            "template": { "metadata": { "name": name, "namespace": namespace, "annotations": annotations } },
        },
    }))
    .context("a SealedSecret")
    .unwrap()
}
