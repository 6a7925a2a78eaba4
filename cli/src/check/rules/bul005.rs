//! BUL005: a secretGenerator with a literal value.

use bulla::manifest::Node;

use crate::check::cx::{Cx, GeneratorFile, Named, clean};
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess};

pub const RULE: Rule = Rule {
    id: "BUL005",
    name: "kustomize-literal",
    severity: Severity::Error,
    summary: "a secretGenerator with a literal value",
    page: include_str!("../../../../docs/rules/BUL005.md"),
};

/// Looks at a kustomization: its secretGenerators and its patches.
pub fn kustomization(cx: &Cx<'_>, node: &Node) {
    for generator in node.get("secretGenerator").and_then(Node::items).unwrap_or_default() {
        let name = clean(generator.get("name").and_then(Node::scalar).unwrap_or("(no name)"));
        for literal in generator.get("literals").and_then(Node::items).unwrap_or_default() {
            let Some((key, value)) = literal.scalar().and_then(|text| text.split_once('=')) else { continue };
            if assess(value.trim_matches(['"', '\''])) != Verdict::Value {
                continue;
            }
            let mut finding =
                cx.finding(&RULE, literal.span, format!("secretGenerator {name} has a literal value: {}", clean(key)));
            finding.help.push("seal it (bulla set FILE KEY), and list the file under resources".into());
            finding.object = format!("secretGenerator/{name}");
            finding.keys = vec![clean(key)];
            cx.add(finding);
        }
        let read = |field: &str, env: bool| {
            let node = generator.get(field);
            let one = node.and_then(Node::scalar).map(str::to_owned);
            let all = node
                .and_then(Node::items)
                .unwrap_or_default()
                .iter()
                .filter_map(|item| item.scalar().map(str::to_owned));
            for text in one.into_iter().chain(all) {
                let path = text.split_once('=').map_or(text.as_str(), |(_, path)| path).to_owned();
                cx.report.borrow_mut().generated_from.push(GeneratorFile { path, env });
            }
        };
        read("env", true);
        read("envs", true);
        read("files", false);
    }
    for generator in node.get("configMapGenerator").and_then(Node::items).unwrap_or_default() {
        let object = Named {
            kind: "ConfigMap".into(),
            namespace: None,
            name: generator.get("name").and_then(Node::scalar).map(clean),
        };
        for literal in generator.get("literals").and_then(Node::items).unwrap_or_default() {
            if let Some((key, value)) = literal.scalar().and_then(|text| text.split_once('='))
                && super::bul003::is_secret_text(key, value.trim_matches(['"', '\'']))
            {
                super::bul014::report(cx, literal.span, key, &object);
            }
        }
    }
    for field in ["patches", "patchesJson6902", "patchesStrategicMerge"] {
        for patch in node.get(field).and_then(Node::items).unwrap_or_default() {
            let kind = patch.get("target").and_then(|target| target.get("kind")).and_then(Node::scalar);
            let text = patch.get("patch").filter(|text| text.scalar().is_some()).unwrap_or(patch);
            let Some(value) = text.scalar() else { continue };
            if !value.contains('\n') && !value.trim_start().starts_with(['[', '{']) {
                continue;
            }
            let inner = cx.inner(text, value, None);
            let Ok(stream) = bulla::manifest::Stream::read_any(value) else { continue };
            for document in stream.documents() {
                if document.root.items().is_some() {
                    if kind == Some("Secret") {
                        super::bul001::patch(&inner, &document.root);
                    }
                } else {
                    crate::check::scan::document(&inner, &document.root);
                }
            }
        }
    }
}
