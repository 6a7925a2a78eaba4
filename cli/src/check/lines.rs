//! Where bytes of a text are, told by line and column. The text is gone through once, however many places are asked for:
//! counting from its begin for each would cost the square of its length where much is found.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use bulla::manifest::Span;

/// Places of a text.
pub struct Lines<'t> {
    text: &'t str,
    /// The bytes at which lines begin.
    starts: OnceCell<Vec<usize>>,
    /// The last place asked for, and the characters before it on its line: those that follow on the same line go on from there.
    last: Cell<(usize, usize)>,
    /// Bytes that were gone through: what the tests count.
    #[cfg(test)]
    read: Cell<usize>,
}

impl<'t> Lines<'t> {
    pub const fn new(text: &'t str) -> Self {
        Self {
            text,
            starts: OnceCell::new(),
            last: Cell::new((0, 0)),
            #[cfg(test)]
            read: Cell::new(0),
        }
    }

    /// The text itself.
    pub const fn text(&self) -> &'t str {
        self.text
    }

    fn count(&self, _bytes: usize) {
        #[cfg(test)]
        self.read.set(self.read.get() + _bytes);
    }

    fn starts(&self) -> &[usize] {
        self.starts.get_or_init(|| {
            self.count(self.text.len());
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect()
        })
    }

    /// The byte at which a line (from 0) begins; the end of the text when there is none.
    pub fn start(&self, line: usize) -> usize {
        self.starts().get(line).copied().unwrap_or(self.text.len())
    }

    /// The line (from 0) that a byte is on.
    pub fn line(&self, at: usize) -> usize {
        self.starts().partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The place of a range.
    pub fn span(&self, range: Range<usize>) -> Span {
        let start = range.start.min(self.text.len());
        let line = self.line(start);
        let begin = self.start(line);
        let (from, before) = match self.last.get() {
            (at, before) if begin <= at && at <= start => (at, before),
            _ => (begin, 0),
        };
        let column = before + self.text.get(from..start).map_or(0, |text| text.chars().count());
        self.count(start - from);
        self.last.set((start, column));
        Span { start, end: range.end.min(self.text.len()), line: line + 1, column: column + 1 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_of_counting_from_the_begin(text in "[aé\n]{0,40}", at in prop::collection::vec(0usize..60, 1..8)) {
            let lines = Lines::new(&text);
            for at in at {
                let Some(before) = text.get(..at.min(text.len())) else { continue };
                let span = lines.span(at..at + 1);
                prop_assert_eq!(span.line, before.matches('\n').count() + 1);
                prop_assert_eq!(span.column, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
                prop_assert_eq!(lines.start(span.line - 1), before.rfind('\n').map_or(0, |at| at + 1));
            }
        }
    }

    #[test]
    fn a_text_is_gone_through_once_however_much_is_found_in_it() {
        for text in ["key: value, ".repeat(20_000), "key: value\n".repeat(20_000)] {
            let lines = Lines::new(&text);
            for (at, found) in text.match_indices("value") {
                lines.span(at..at + found.len());
            }
            assert!(lines.read.get() <= 3 * text.len(), "{} of {}", lines.read.get(), text.len());
        }
    }
}
