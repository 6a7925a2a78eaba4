//! Keys and objects of the other format, as clusters with sealed-secrets have them.

use anyhow::Result;
use bulla::bitnami::BitnamiSealedSecret;
use bulla::scope::Scope;
pub use bulla_tests::rsa::{PAIRS, Pair, VECTORS};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};

use super::world::World;

impl World {
    /// A controller with this format on, whose keys are in its own namespace.
    pub async fn bitnami(prefix: &str, args: &[&str]) -> Result<Self> {
        let mut world = Self::bare(prefix).await?;
        let shipped = [
            include_str!("../../deploy/bitnami.yaml"),
            include_str!("../../deploy/bitnami-observe.yaml"),
            include_str!("../../deploy/bitnami-own.yaml"),
        ];
        world.cluster.apply(&world.rights_of(&shipped.join("\n---\n"), true)?).await?;
        world.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        world.args.extend(["--bitnami-namespace".to_owned(), world.system.clone()]);
        Ok(world)
    }

    /// A key's Secret in a namespace, as the established controller writes it.
    pub async fn plant_key(&self, namespace: &str, name: &str, label: Option<&str>, pair: &Pair) -> Result<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        Ok(secrets.create(&PostParams::default(), &serde_json::from_value(pair.secret(name, label))?).await?)
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
    let data = data.iter().map(|(key, value)| (*key, value.as_bytes()));
    bulla_tests::rsa::sealed_theirs(&pair.certificate(), namespace, name, scope, data).unwrap()
}
