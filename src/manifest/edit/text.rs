//! Where the bytes of an edit go, and how they are laid out.

use std::ops::Range;

use super::super::emit::{
    Block, Flow, Out, Tree, is_safe_plain, write_block, write_flow, write_flow_member, write_member,
};
use super::super::emit::{write_quoted, write_scalar, write_value};
use super::super::error::{ManifestError, ManifestErrorKind, Span};
use super::super::node::{Entry, Node, NodeKind, Style, Tag};
use super::super::source::span_at;
use super::plan::{Planner, Spot, is_clean_scalar};
use super::refuse;
use super::round::Op;

impl<'s> Planner<'s> {
    // --- lines

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    /// Where the line ends, before its line end.
    fn line_end(&self, at: usize) -> usize {
        match self.text[at..].find('\n') {
            None => self.text.len(),
            Some(found) => {
                let end = at + found;
                if end > at && self.text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
            }
        }
    }

    /// Where the next line begins.
    fn next_line(&self, line_end: usize) -> usize {
        self.text[line_end..].find('\n').map_or(self.text.len(), |at| line_end + at + 1)
    }

    /// The line end to use beside `at`: this line's, else the one before it, else `\n`.
    fn eol(&self, at: usize) -> &'s str {
        let bytes = self.text.as_bytes();
        let found = self.text[at..].find('\n').map(|found| at + found).or_else(|| self.text[..at].rfind('\n'));
        match found {
            Some(found) if found > 0 && bytes[found - 1] == b'\r' => "\r\n",
            _ => "\n",
        }
    }

    /// The indentation of a key that stands first on its line, in spaces.
    fn indent(&self, key: &Node) -> Result<usize, ManifestError> {
        let prefix = &self.text[self.line_start(key.span.start)..key.span.start];
        if prefix.bytes().all(|byte| byte == b' ') {
            Ok(prefix.len())
        } else {
            Err(refuse("the key does not stand first on its line", key.span))
        }
    }

    /// Where a comment begins that has the line for itself, if the line is one.
    fn comment_line(&self, line_start: usize) -> Option<usize> {
        let line = &self.text[line_start..];
        let indent = line.len() - line.trim_start_matches(' ').len();
        let at = line_start + indent;
        let comments = self.stream.comments();
        let found = comments.partition_point(|comment| comment.start < at);
        comments.get(found).filter(|comment| comment.start == at).map(|_| indent)
    }

    fn is_blank_line(&self, line_start: usize) -> bool {
        self.text[line_start..self.line_end(line_start)].trim().is_empty()
    }

    /// Where what belongs to an entry ends: its last line with the comment on it, and comment lines below it that are
    /// indented deeper than its key; before the line end.
    fn region_end(&self, end: usize, indent: usize) -> Result<usize, ManifestError> {
        let mut region = self.line_end(end);
        let rest = self.text[end..region].trim_start();
        if !rest.is_empty() && !rest.starts_with('#') {
            let line = self.text[..end].matches('\n').count() + 1;
            return Err(refuse("something else stands on the same line", Span { start: end, end, line, column: 1 }));
        }
        let mut line = self.next_line(region);
        while line < self.text.len() {
            match self.comment_line(line) {
                Some(depth) if depth > indent => region = self.line_end(line),
                None if self.is_blank_line(line) => {}
                _ => break,
            }
            line = self.next_line(self.line_end(line));
        }
        Ok(region)
    }

    /// Where what belongs to an entry begins: comment lines directly above its key, indented like it.
    fn region_start(&self, key: &Node, indent: usize) -> usize {
        let mut start = self.line_start(key.span.start);
        while start > 0 {
            let above = self.line_start(start - 1);
            if self.comment_line(above) != Some(indent) {
                break;
            }
            start = above;
        }
        start
    }

    /// How much deeper children stand: as those of the object do, else two spaces.
    fn step(&self) -> usize {
        let spec = self.member("spec");
        let below = |spot: &Spot<'_>| {
            let child = spot.node().entries()?.first()?;
            let indent = self.indent(&child.key).ok()?;
            indent.checked_sub(spot.entry.key.span.column - 1).filter(|step| *step > 0 && !spot.node().is_flow())
        };
        let items = |spec: &Spot<'s>| spec.child("items").or_else(|| spec.child("encryptedData"));
        spec.and_then(|spec| items(&spec).as_ref().and_then(below).or_else(|| below(&spec))).unwrap_or(2)
    }

    // --- block style

    pub fn insert_block(
        &mut self,
        map: &Spot<'_>,
        neighbour: Option<&Entry>,
        members: &[(String, Tree)],
    ) -> Result<(), ManifestError> {
        let Some(first) = map.node().entries().and_then(<[_]>::first) else { return Ok(()) };
        let indent = self.indent(&first.key)?;
        let step = self.step();
        let at = match neighbour {
            None => self.region_start(&first.key, indent),
            Some(entry) => self.region_end(entry.end(), indent)?,
        };
        let block = Block { indent, step, eol: self.eol(at), tab: false };
        let mut out = Out::default();
        for (key, value) in members {
            if neighbour.is_some() {
                out.push(block.eol);
            }
            block.pad(&mut out);
            write_member(&mut out, key, value, block);
            if neighbour.is_none() {
                out.push(block.eol);
            }
        }
        self.splice_out(at..at, out);
        Ok(())
    }

    pub fn set_value(&mut self, spot: &Spot<'_>, tree: &Tree) -> Result<(), ManifestError> {
        self.intend(spot.path.clone(), Op::Set(tree.to_node()));
        let entry = spot.entry;
        let value = &entry.value;
        let Some(colon) = entry.colon else {
            return Err(refuse("the key has no value on its line", entry.key.span));
        };
        if spot.parent.is_flow() {
            let flow = self.flow_of(spot.parent, entry);
            let mut out = Out::default();
            if value.span.start == value.span.end {
                out.push(" ");
            }
            write_flow(&mut out, tree, flow);
            self.splice_out(value.span.range(), out);
            return Ok(());
        }
        let indent = self.indent(&entry.key)?;
        let key_line_end = self.line_end(colon);
        let block = Block { indent, step: self.step(), eol: self.eol(colon), tab: false };
        let mut out = Out::default();
        write_value(&mut out, tree, block);
        let below = tree_is_below(tree);
        let is_block_scalar = matches!(value.kind, NodeKind::Scalar { style: Style::Literal | Style::Folded, .. });
        if is_block_scalar {
            // The header's comment goes with it.
            let end = self.region_end(value.span.end, indent)?;
            self.splice_out(colon + 1..end, out);
        } else if value.span.start <= key_line_end {
            // On the key's line: its comment stays there.
            let end = self.line_end(value.span.end);
            self.region_end(value.span.end, indent)?;
            if below {
                self.splice(colon + 1..value.span.end, "");
                self.splice_out(end..end, out);
            } else {
                self.splice_out(colon + 1..value.span.end, out);
            }
        } else {
            let end = self.region_end(value.span.end, indent)?;
            if below {
                self.splice_out(key_line_end..end, out);
            } else {
                self.splice_out(colon + 1..colon + 1, out);
                self.splice(key_line_end..end, "");
            }
        }
        Ok(())
    }

    /// Takes a member out; the last one leaves `{}`.
    pub fn remove(&mut self, map: &Spot<'_>, member: &Spot<'_>) -> Result<(), ManifestError> {
        let node = map.node();
        let entries = node.entries().unwrap_or_default();
        let index = member.index;
        let entry = member.entry;
        if entries.len() == 1 && !node.is_flow() {
            return self.set_value(map, &Tree::Map(Vec::new()));
        }
        let key = entry.key.scalar().unwrap_or_default().to_owned();
        self.intend(map.path.clone(), Op::Remove(key));
        if node.is_flow() {
            if entries.len() == 1 {
                self.splice(node.span.range(), "{}");
            } else if let Some(next) = entries.get(index + 1) {
                self.splice(entry.key.span.start..next.key.span.start, "");
            } else {
                self.splice(entries[index - 1].end()..entry.end(), "");
            }
            return Ok(());
        }
        let indent = self.indent(&entry.key)?;
        let start = self.region_start(&entry.key, indent);
        let end = self.region_end(entry.end(), indent)?;
        let next = self.next_line(end);
        if next > end && self.text.as_bytes()[next - 1] == b'\n' {
            self.splice(start..next, "");
        } else {
            // The last line of a text without a final line end: the one before it goes.
            let before = self.text[..start]
                .strip_suffix('\n')
                .map_or(start, |text| text.strip_suffix('\r').unwrap_or(text).len());
            self.splice(before..end, "");
        }
        Ok(())
    }

    // --- flow style

    /// How the members of a flow mapping are laid out.
    fn layout(&self, map: &Node) -> Flow<'s> {
        let entries = map.entries().unwrap_or_default();
        let Some(first) = entries.first() else { return Flow { pretty: None, spaced: true } };
        let spaced = first.colon.is_none_or(|colon| self.text[colon + 1..].starts_with(char::is_whitespace));
        let prefix = &self.text[self.line_start(first.key.span.start)..first.key.span.start];
        let own_line = self.text[map.span.start..first.key.span.start].contains('\n')
            && prefix.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
        if !own_line {
            return Flow { pretty: None, spaced };
        }
        let tab = prefix.contains('\t');
        let close = self.line_start(map.span.end.saturating_sub(1));
        let closing = self.text[close..].len() - self.text[close..].trim_start_matches([' ', '\t']).len();
        let step = prefix.len().checked_sub(closing).filter(|step| *step > 0).unwrap_or(if tab { 1 } else { 2 });
        Flow { pretty: Some(Block { indent: prefix.len(), step, eol: self.eol(map.span.start), tab }), spaced }
    }

    /// How the value of an entry is laid out when it is written anew.
    fn flow_of(&self, map: &Node, entry: &Entry) -> Flow<'s> {
        let layout = self.layout(map);
        let start = entry.key.span.start;
        let first = self.text[self.line_start(start)..start].trim().is_empty();
        if first { layout } else { Flow { pretty: None, ..layout } }
    }

    pub fn insert_flow(&mut self, map: &Node, neighbour: Option<&Entry>, members: &[(String, Tree)]) {
        let flow = self.layout(map);
        let Some(first) = map.entries().and_then(<[_]>::first) else { return };
        let mut lead = Out::default();
        match flow.pretty {
            Some(block) => {
                lead.push(block.eol);
                block.pad(&mut lead);
            }
            None if flow.spaced => lead.push(" "),
            None => {}
        }
        let mut out = Out::default();
        // What stands before and after each, and between two.
        let mut write = |before: &[&str], after: &[&str], between: &str| {
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(between);
                }
                before.iter().for_each(|text| out.push(text));
                write_flow_member(&mut out, key, value, flow);
                after.iter().for_each(|text| out.push(text));
            }
        };
        let Some(entry) = neighbour else {
            write(&[], &[",", &lead.0], "");
            let at = first.key.span.start;
            self.splice_out(at..at, out);
            return;
        };
        let end = entry.end();
        let line_end = self.line_end(end);
        let rest = self.text[end..line_end].trim_start();
        let blank = |rest: &str| rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
        if flow.pretty.is_some() && rest.strip_prefix(',').is_some_and(blank) {
            write(&[&lead.0], &[","], "");
            self.splice_out(line_end..line_end, out);
        } else if flow.pretty.is_some() && blank(rest) {
            write(&[&lead.0], &[], ",");
            self.splice(end..end, ",");
            self.splice_out(line_end..line_end, out);
        } else {
            write(&[",", &lead.0], &[], "");
            self.splice_out(end..end, out);
        }
    }

    // --- scalars

    pub fn replace_scalar(&mut self, spot: &Spot<'_>, text: &str) -> Result<(), ManifestError> {
        if spot.node().scalar() == Some(text) && is_clean_scalar(spot.node()) {
            return Ok(());
        }
        self.splice_scalar(spot.node(), text)?;
        self.intend(spot.path.clone(), Op::Set(Tree::text(text).to_node()));
        Ok(())
    }

    pub fn splice_scalar(&mut self, node: &Node, text: &str) -> Result<(), ManifestError> {
        let out = scalar_text(node, text)?;
        self.splice_out(node.span.range(), out);
        Ok(())
    }

    // --- whole objects

    pub fn replace_object(&mut self, tree: &Tree) -> Result<(), ManifestError> {
        let node = self.object.node();
        let document = &self.stream.documents()[self.object.document()];
        if let Some(alias) = self.enclosing_alias() {
            return Err(refuse("the object stands here through an alias", alias));
        }
        if node.anchor {
            return Err(refuse("the object has an anchor", node.span).help("write out what its aliases stand for"));
        }
        if node.tag != Tag::None {
            return Err(refuse("the object has a tag", node.span).help("remove the tag"));
        }
        let (range, out) = if node.is_flow() {
            (node.span.range(), self.object_in_flow(node, tree))
        } else {
            self.object_in_block(node, tree)?
        };
        let borrowed = document.aliases.iter().find(|(alias, target)| range.contains(target) && !range.contains(alias));
        if let Some((alias, _)) = borrowed {
            return Err(refuse("an alias outside of the object stands for a part of it", span_at(self.text, *alias))
                .help("write out what it stands for"));
        }
        self.splice_out(range, out);
        self.intend(self.object_path(), Op::Set(tree.to_node()));
        Ok(())
    }

    fn enclosing_alias(&self) -> Option<Span> {
        let mut node = &self.stream.documents()[self.object.document()].root;
        for index in self.object.path() {
            let entry = node.entry("items")?;
            node = entry.value.items()?.get(*index)?;
            if let Some(alias) = entry.value.alias.or(node.alias) {
                return Some(alias);
            }
        }
        node.alias
    }

    fn object_in_block(&self, node: &Node, tree: &Tree) -> Result<(Range<usize>, Out), ManifestError> {
        let start = node.span.start;
        let line_start = self.line_start(start);
        let prefix = &self.text[line_start..start];
        if !prefix.bytes().all(|byte| matches!(byte, b' ' | b'-')) {
            return Err(refuse("its first key does not stand first on its line", node.span));
        }
        let indent = prefix.len();
        let end = self.region_end(node.span.end, indent)?;
        let mut out = Out::default();
        write_block(&mut out, tree, Block { indent, step: 2, eol: self.eol(start), tab: false });
        Ok((start..end, out))
    }

    fn object_in_flow(&self, node: &Node, tree: &Tree) -> Out {
        let mut flow = self.layout(node);
        if let Some(block) = &mut flow.pretty {
            block.indent = block.indent.saturating_sub(block.step);
        }
        let mut out = Out::default();
        write_flow(&mut out, tree, flow);
        out
    }
}

/// The text to put in the place of a scalar, in its style.
pub(super) fn scalar_text(node: &Node, text: &str) -> Result<Out, ManifestError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ManifestError::new(
            ManifestErrorKind::BadValue,
            "the new text is not printable ASCII without white space",
        )
        .at(node.span));
    }
    let NodeKind::Scalar { style, strip, .. } = &node.kind else {
        return Err(refuse("there is no text to replace", node.span));
    };
    let mut out = Out::default();
    match style {
        Style::Plain if node.span.start == node.span.end => {
            out.push(" ");
            write_scalar(&mut out, text);
        }
        Style::Plain if is_safe_plain(text) => out.push(text),
        Style::Plain | Style::Double => write_quoted(&mut out, text),
        Style::Single => {
            out.push("'");
            out.push(&text.replace('\'', "''"));
            out.push("'");
        }
        Style::Literal | Style::Folded if *strip && node.span.start < node.span.end => out.push(text),
        Style::Literal | Style::Folded => {
            return Err(refuse("the text keeps line ends at its end", node.span).help("write >- before it"));
        }
    }
    Ok(out)
}

/// Whether the tree is written on the lines below its key.
fn tree_is_below(tree: &Tree) -> bool {
    match tree {
        Tree::Map(members) => !members.is_empty(),
        Tree::Seq(items) => !items.is_empty(),
        _ => false,
    }
}
