//! BUL017: a literal secret in Terraform.

use std::cell::RefCell;

use bulla::manifest::Span;

use crate::check::cx::{Cx, Origin, clean};
use crate::check::hcl::{self, Frame, Literal};
use crate::check::names::{Says, holds_secrets, is_about, says, says_of_elements};
use crate::check::registry::{Rule, Severity};
use crate::check::tree::Place;
use crate::check::value::{Verdict, assess};
use crate::check::{judge, login, scan};

pub const RULE: Rule = Rule {
    id: "BUL017",
    name: "terraform-literal",
    severity: Severity::Error,
    summary: "a literal secret in Terraform",
    page: include_str!("../../../../docs/rules/BUL017.md"),
};

/// Whether a file is of Terraform or OpenTofu. Examples of variables' values are none.
pub fn is_terraform(name: &str) -> bool {
    [".tf", ".tfvars", ".tofu"].iter().any(|end| name.ends_with(end))
}

/// Looks at a file.
pub fn file(cx: &Cx<'_>, text: &str) {
    // A Secret is told once: at the first literal under a telling name, or else at the first.
    let secret: RefCell<Option<Secret>> = RefCell::new(None);
    hcl::read(
        text,
        |frames, literal| one(cx, frames, &literal, &secret),
        |frames, frame| {
            if let (Some(name), Some((value, at))) = (frame.pair.0, &frame.pair.1)
                && judge::text(name, value)
            {
                report(cx, cx.lines.span(at.clone()), name);
            }
            if frames.is_empty()
                && let Some(secret) = secret.borrow_mut().take()
            {
                secret.report(cx);
            }
        },
    );
}

fn one(cx: &Cx<'_>, frames: &[Frame<'_>], literal: &Literal<'_>, secret: &RefCell<Option<Secret>>) {
    let outer = frames.first();
    let label = outer.and_then(|frame| frame.labels.first().copied()).unwrap_or_default();
    let span = || cx.lines.span(literal.at.clone());
    let in_data = frames.iter().any(|frame| matches!(frame.name, "data" | "string_data" | "binary_data" | "data_wo"));
    if outer.is_some_and(|frame| frame.name == "resource") && label.starts_with("kubernetes_secret") && in_data {
        if !literal.interpolated
            && assess(literal.value) == Verdict::Value
            && !judge::repeats(literal.name, literal.value)
        {
            let telling = says(literal.name) != Says::Nothing;
            let mut secret = secret.borrow_mut();
            if secret.as_ref().is_none_or(|known| telling && !known.telling) {
                let name = outer.and_then(|frame| frame.labels.get(1)).copied().unwrap_or_default();
                *secret = Some(Secret { name: clean(name), at: span(), telling });
            }
        }
        return;
    }
    if literal.value.contains('\n') {
        // Values of a chart; manifests and keys in it are found as in any text.
        if literal.name == "values" {
            let start = literal.value.as_ptr() as usize - cx.outer.as_ptr() as usize;
            let origin = Origin::Part { start, line: cx.lines.line(start) };
            scan::read(&Cx { origin, place: Some(Place::Values), depth: 1, ..*cx }, literal.value);
        }
        return;
    }
    let declares = outer.is_some_and(|frame| matches!(frame.name, "variable" | "output"));
    let name = if declares && matches!(literal.name, "default" | "value") { label } else { literal.name };
    let mut said = if literal.element { says_of_elements(name) } else { says(name) };
    if said == Says::Nothing
        && !is_about(name)
        && frames
            .iter()
            .skip(1)
            .chain(frames.first().filter(|frame| frame.labels.is_empty()))
            .any(|frame| holds_secrets(frame.name))
    {
        said = Says::Perhaps;
    }
    // Of a text with expressions in it, only a whole login is beyond doubt.
    let found =
        if literal.interpolated { login::is_in(literal.value) } else { judge::text_as(said, name, literal.value) };
    if found {
        report(cx, span(), name);
    }
}

/// A Secret that Terraform makes of literals.
struct Secret {
    name: String,
    at: Span,
    telling: bool,
}

impl Secret {
    fn report(self, cx: &Cx<'_>) {
        let mut finding =
            cx.finding(&super::bul001::RULE, self.at, format!("plaintext Secret {} in Terraform", self.name));
        finding.excerpt = None;
        finding.help.push("take the value from a variable or a store, or seal the Secret: bulla seal".into());
        finding.object = format!("Secret/{}", self.name);
        cx.add(finding);
    }
}

/// Says it.
pub fn report(cx: &Cx<'_>, at: Span, name: &str) {
    let name = clean(name);
    let mut finding = cx.finding(&RULE, at, format!("a literal secret in Terraform: {name}"));
    finding.excerpt = None;
    finding
        .help
        .push("give it by the environment (TF_VAR_…) or from a secret store; Terraform's state has it too".into());
    finding.keys = vec![name];
    cx.add(finding);
}
