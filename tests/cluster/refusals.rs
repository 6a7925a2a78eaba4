//! What the controller does not make.

use anyhow::{Result, ensure};
use bulla::resource::TemplateMetadata;

use super::world::World;

#[tokio::test]
async fn credentials_of_the_cluster_and_keys_are_not_made() -> Result<()> {
    let args = ["--deny-template-label", "replicate/*", "--deny-type", "kubernetes.io/basic-auth"];
    let mut world = World::with("refuse", &args).await?;
    for (name, type_) in [
        ("token", "kubernetes.io/service-account-token"),
        ("bootstrap", "bootstrap.kubernetes.io/token"),
        ("key", "bulla.dev/sealing-key"),
        ("denied", "kubernetes.io/basic-auth"),
    ] {
        let sealed = world.seal_as(name, &[("a", "hunter2-refuse")], |t| t.type_ = Some(type_.to_owned())).await?;
        world.create(&sealed).await?;
        world.ready(name, "Refused").await?;
    }
    for (name, label) in [("bitnami", "sealedsecrets.bitnami.com/sealed-secrets-key"), ("replicated", "replicate/to")] {
        let sealed = world
            .seal_as(name, &[("a", "hunter2-refuse")], |t| {
                let labels = [(label.to_owned(), "active".to_owned())].into();
                t.metadata = Some(TemplateMetadata { labels, ..TemplateMetadata::default() });
            })
            .await?;
        world.create(&sealed).await?;
        world.ready(name, "Refused").await?;
    }
    let sealed = world.seal("sealed-secrets-key", &[("a", "hunter2-refuse")]).await?;
    world.create(&sealed).await?;
    world.ready("sealed-secrets-key", "Refused").await?;
    let secrets = world.secrets().list(&Default::default()).await?;
    ensure!(secrets.items.is_empty(), "{} were made", secrets.items.len());
    world.finish().await
}

/// With a list of what may be, nothing else may.
#[tokio::test]
async fn what_is_not_on_a_list_of_what_may_be_is_not_made() -> Result<()> {
    let args = [
        "--allow-type=Opaque",
        "--allow-type=bootstrap.kubernetes.io/token",
        "--allow-type=kubernetes.io/*",
        "--allow-template-label=app.kubernetes.io/*",
        "--allow-template-annotation=example.com/*",
        "--deny-template-annotation=example.com/not-*",
    ];
    let mut world = World::with("allow", &args).await?;
    let data = [("a", "hunter2-allow")];
    let metadata = |label: &str, annotation: &str| {
        let one =
            |key: &str| [(key.to_owned(), "x".to_owned())].into_iter().filter(|(key, _)| !key.is_empty()).collect();
        TemplateMetadata { labels: one(label), annotations: one(annotation) }
    };
    let cases = [
        ("plain", "Opaque", "app.kubernetes.io/name", "example.com/note", true),
        // A credential of the cluster is named in full, or it is none of those that may be.
        ("bootstrap", "bootstrap.kubernetes.io/token", "", "", true),
        ("token", "kubernetes.io/service-account-token", "", "", false),
        ("type", "example.com/other", "", "", false),
        ("label", "Opaque", "team", "", false),
        ("annotation", "Opaque", "", "note", false),
        ("denied", "Opaque", "", "example.com/not-this", false),
    ];
    for (name, type_, label, annotation, may_be) in cases {
        let sealed = world
            .seal_as(name, &data, |template| {
                template.type_ = Some(type_.to_owned());
                template.metadata = Some(metadata(label, annotation));
            })
            .await?;
        world.create(&sealed).await?;
        world.ready(name, if may_be { "Applied" } else { "Refused" }).await?;
        ensure!(world.secrets().get_opt(name).await?.is_some() == may_be, "{name}");
    }
    world.finish().await
}

#[tokio::test]
async fn the_own_namespace_is_not_served_unless_told() -> Result<()> {
    let mut world = World::bare("self").await?;
    // One namespace for both.
    world.system = world.app.clone();
    world.cluster.apply(&world_rights(&world)).await?;
    world.start().await?;
    let sealed = world.seal("db", &[("a", "hunter2-self")]).await?;
    world.create(&sealed).await?;
    world.ready("db", "Refused").await?;
    world.stop().await?;
    world.args.push("--serve-own-namespace".to_owned());
    world.start().await?;
    world.holds("db", &[("a", "hunter2-self")]).await?;
    let sealed = world.seal("bulla-key-mine", &[("identity", "hunter2-self")]).await?;
    world.create(&sealed).await?;
    world.ready("bulla-key-mine", "Refused").await?;
    world.stop().await
}

/// The shipped rights, all in one namespace.
fn world_rights(world: &World) -> String {
    let wanted = ["ServiceAccount", "Role", "RoleBinding"];
    let documents = super::world::DEPLOY
        .split("\n---\n")
        .filter(|document| wanted.iter().any(|kind| document.lines().any(|line| line == format!("kind: {kind}"))));
    let own: Vec<String> = documents.map(|document| document.replace("bulla-system", &world.app)).collect();
    let served = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: served-too, namespace: {0}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bulla}}\n\
         subjects: [{{kind: ServiceAccount, name: bulla, namespace: {0}}}]\n",
        world.app
    );
    format!("{}\n---\n{served}", own.join("\n---\n"))
}
