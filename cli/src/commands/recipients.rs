//! `bulla recipients`

use std::fmt::Write as _;

use bulla::recipient::ListedRecipient;
use serde_json::json;

use super::Done;
use crate::cli::{RecipientsShowArgs, ReportFormat};
use crate::failure::Result;
use crate::{cluster, output};

pub fn show(args: &RecipientsShowArgs) -> Result<Done> {
    let published = cluster::published(&args.cluster)?;
    // That the file which this becomes can be used is found out here, not later.
    crate::recipients::targets(published.targets(), false)?;
    let role = |index: usize| if index < published.own { "preferred" } else { "recovery" };
    if args.output == ReportFormat::Json {
        let entry = |listed: &ListedRecipient, role: &str| {
            json!({
                "name": listed.name,
                "role": role,
                "kind": listed.recipient.kind().to_string(),
                "fingerprint": listed.recipient.fingerprint().to_string(),
                "fullFingerprint": listed.recipient.full_fingerprint(),
                "recipient": listed.recipient.as_str(),
                "created": listed.created,
            })
        };
        let mut entries: Vec<_> =
            published.listed.iter().enumerate().map(|(index, listed)| entry(listed, role(index))).collect();
        if args.all {
            entries.extend(published.overlap.iter().map(|listed| entry(listed, "overlap")));
        }
        let (context, cluster) = (&published.context, &published.name);
        output::document(json!({ "context": context, "cluster": cluster, "recipients": entries }))?;
        return Ok(Done::Well);
    }
    let mut text = String::new();
    for (index, listed) in published.listed.iter().enumerate() {
        // Writing to a String can't fail.
        _ = writeln!(text, "# {}: {} {}", role(index), listed.recipient.fingerprint(), listed.recipient.kind());
        if let Some(name) = &listed.name {
            _ = writeln!(text, "# name: {name}");
        }
        if let Some(created) = &listed.created {
            _ = writeln!(text, "# created: {created}");
        }
        _ = writeln!(text, "{}", listed.recipient.as_str());
    }
    if args.all {
        for listed in &published.overlap {
            _ = writeln!(text, "# overlap: {} {}", listed.recipient.fingerprint(), listed.recipient.kind());
            _ = writeln!(text, "# {}", listed.recipient.as_str());
        }
    }
    output::data(text.as_bytes())?;
    if published.listed.len() == published.own {
        output::warn(
            "the cluster has no recovery recipient: if it is lost, so is every secret\n         \
             bulla keygen -w recovery.txt, and give the controller recovery.txt.pub",
        );
    }
    Ok(Done::Well)
}
