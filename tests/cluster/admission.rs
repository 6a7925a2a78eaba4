//! The shipped ValidatingAdmissionPolicy: in the namespaces that carry its label only the controller writes Secrets.

use anyhow::{Result, ensure};
use bulla_tests::eventually;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::world::{SOON, World};

const POLICY: &str = include_str!("../../deploy/admission/only-the-controller-writes-secrets.yaml");

fn secret(name: &str) -> Secret {
    let mut secret = Secret { string_data: Some([("a".into(), "b".into())].into()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret
}

/// Whether somebody may create a Secret, and what they are told when not.
async fn refused(client: &Client, namespace: &str) -> Result<Option<String>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &secret("plain")).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Some(status.message)),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn only_the_controller_writes_secrets_where_the_label_says_so() -> Result<()> {
    let mut world = World::new("admission").await?;
    let (app, other) = (world.app.clone(), world.cluster.namespace("admission-other").await?);
    let name = format!("sealed-only-{app}");
    let shipped = POLICY
        .replace("bulla-sealed-only", &name)
        .replace("serviceaccount:bulla-system:bulla", &format!("serviceaccount:{}:bulla", world.system));
    ensure!(shipped.matches(name.as_str()).count() == 3 && shipped.contains(&world.system), "{shipped}");
    // A developer with all rights on Secrets there (what the role edit is made of), who is not the controller.
    world
        .cluster
        .apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: edit, namespace: {app}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:aggregate-to-edit'}}\n\
             subjects: [{{kind: ServiceAccount, name: default, namespace: {app}}}]\n"
        ))
        .await?;
    let developer = world.cluster.client_as_service_account(&app, "default").await?;
    eventually("the developer's right", SOON, async || {
        ensure!(refused(&developer, &app).await?.is_none());
        Ok(())
    })
    .await?;
    world.make("before", &[("a", "hunter2-before")]).await?;

    world.cluster.apply(&shipped).await?;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let label = async |value: Option<&str>| -> Result<()> {
        let patch = json!({"metadata": {"labels": {"bulla.dev/sealed-only": value}}});
        namespaces.patch(&app, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    };
    // Without the label nothing changes.
    ensure!(refused(&developer, &app).await?.is_none());
    label(Some("true")).await?;
    let told = eventually("the policy to hold", SOON, async || {
        refused(&developer, &app).await?.ok_or_else(|| anyhow::anyhow!("a Secret is let in"))
    })
    .await?;
    ensure!(told.contains("Secrets of this namespace come from SealedSecrets alone (bulla seal)"), "{told}");
    // Nor may the administrator; elsewhere everybody may.
    ensure!(refused(&world.client, &app).await?.is_some());
    ensure!(refused(&world.client, &other).await?.is_none());
    // What is there is not changed by others, whatever the verb, and not its metadata either.
    let secrets: Api<Secret> = Api::namespaced(developer.clone(), &app);
    let there = secrets.get("before").await?;
    let merge = PatchParams::default();
    let changes = [
        secrets.patch("before", &merge, &Patch::Merge(json!({"stringData": {"a": "x"}}))).await,
        secrets.patch("before", &merge, &Patch::Merge(json!({"metadata": {"labels": {"a": "x"}}}))).await,
        secrets.patch("plain", &PatchParams::apply("me").force(), &Patch::Apply(secret("plain"))).await,
        secrets.replace("before", &PostParams::default(), &there).await,
    ];
    for change in &changes[..3] {
        ensure!(matches!(change, Err(kube::Error::Api(status)) if status.code == 403), "{change:?}");
    }
    ensure!(changes[3].is_err(), "{:?}", changes[3]);

    // The controller works as ever: a new one, a change, a repair, a deletion.
    let sealed = world.seal("after", &[("a", "hunter2-after")]).await?;
    world.create(&sealed).await?;
    world.ready("after", "Applied").await?;
    let sealed = world.seal("after", &[("a", "hunter3-after")]).await?;
    world.update(&sealed).await?;
    world.holds("after", &[("a", "hunter3-after")]).await?;
    secrets.delete("after", &DeleteParams::default()).await?;
    world.holds("after", &[("a", "hunter3-after")]).await?;
    world.sealed().delete("after", &DeleteParams::default()).await?;
    eventually("the Secret to be collected", SOON, async || {
        ensure!(world.secrets().get_opt("after").await?.is_none());
        Ok(())
    })
    .await?;

    // Whoever may change the label or the binding can lift it: that is for few.
    ensure!(namespaces_are_forbidden(&developer, &app).await?);
    label(None).await?;
    eventually("the label to be gone", SOON, async || {
        ensure!(refused(&developer, &app).await?.is_none());
        Ok(())
    })
    .await?;
    label(Some("true")).await?;
    eventually("the policy to hold again", SOON, async || {
        ensure!(refused(&developer, &app).await?.is_some());
        Ok(())
    })
    .await?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    bindings.delete(&name, &DeleteParams::default()).await?;
    eventually("the binding to be gone", SOON, async || {
        ensure!(refused(&developer, &app).await?.is_none());
        Ok(())
    })
    .await?;
    ensure!(there.name_any() == "before");
    world.finish().await
}

/// Whether somebody may not change the labels of a namespace.
async fn namespaces_are_forbidden(client: &Client, name: &str) -> Result<bool> {
    let api: Api<Namespace> = Api::all(client.clone());
    let patch = json!({"metadata": {"labels": {"bulla.dev/sealed-only": null}}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) => Ok(status.code == 403),
        answer => answer.map(|_| false).map_err(Into::into),
    }
}
