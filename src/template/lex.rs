//! Tokens of a template (Go's text/template/parse).

use super::Fault;

/// A token. Text is given by where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Between actions, after trimming.
    Text,
    Left,
    Right,
    Space,
    Assign,
    Declare,
    Pipe,
    Open,
    Close,
    /// A character with no meaning of its own, as the comma.
    Char,
    Dot,
    /// `.name`, the dot included.
    Field,
    /// `$name`, the dollar included.
    Variable,
    Identifier,
    Bool,
    Nil,
    Number,
    CharConstant,
    Str,
    Raw,
    Keyword(Keyword),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Hands out tokens one by one: what comes after an error is never looked at.
pub(super) struct Lexer<'s> {
    source: &'s str,
    pos: usize,
    inside: bool,
    parens: usize,
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

pub(super) fn is_alphanumeric(c: char) -> bool {
    // Go: letters and decimal digits. Rust counts other numbers too; those are no letters, and no marks are.
    c == '_' || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
}

impl<'s> Lexer<'s> {
    pub(super) const fn new(source: &'s str) -> Self {
        Self { source, pos: 0, inside: false, parens: 0 }
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.pos..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    const fn token(&self, kind: Kind, start: usize) -> Token {
        Token { kind, start, end: self.pos }
    }

    fn fail(start: usize, what: &'static str) -> Fault {
        Fault::syntax(start, what)
    }

    /// Whether an action ends here, and whether it trims.
    fn at_right(&self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some(false);
        }
        let mut chars = rest.chars();
        (chars.next().is_some_and(is_space) && chars.as_str().starts_with("-}}")).then_some(true)
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.pos += rest.len() - rest.trim_start_matches(is_space).len();
    }

    pub(super) fn next(&mut self) -> Result<Token, Fault> {
        if self.inside { self.inside_action() } else { self.text() }
    }

    fn text(&mut self) -> Result<Token, Fault> {
        loop {
            let start = self.pos;
            let Some(found) = self.rest().find("{{") else {
                self.pos = self.source.len();
                let kind = if self.pos > start { Kind::Text } else { Kind::End };
                return Ok(self.token(kind, start));
            };
            let left = start + found;
            let after = self.source.get(left + 2..).unwrap_or_default();
            let trims = after.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space));
            let mut end = left;
            if trims {
                let text = self.source.get(start..left).unwrap_or_default();
                end = start + text.trim_end_matches(is_space).len();
            }
            self.pos = left;
            if end > start {
                return Ok(Token { kind: Kind::Text, start, end });
            }
            let marker = if trims { 2 } else { 0 };
            if after.get(marker..).is_some_and(|rest| rest.starts_with("/*")) {
                let body = left + 2 + marker + 2;
                let Some(close) = self.source.get(body..).and_then(|rest| rest.find("*/")) else {
                    return Err(Self::fail(left, "unclosed comment"));
                };
                self.pos = body + close + 2;
                match self.at_right() {
                    None => return Err(Self::fail(left, "a comment ends before its action does")),
                    Some(false) => self.pos += 2,
                    Some(true) => {
                        self.pos += 4;
                        self.skip_space();
                    }
                }
                continue;
            }
            self.pos = left + 2;
            let token = self.token(Kind::Left, left);
            self.pos += marker;
            self.inside = true;
            self.parens = 0;
            return Ok(token);
        }
    }

    fn right(&mut self, trims: bool) -> Token {
        let start = self.pos;
        self.pos += if trims { 4 } else { 2 };
        let token = self.token(Kind::Right, start);
        if trims {
            self.skip_space();
        }
        self.inside = false;
        token
    }

    fn inside_action(&mut self) -> Result<Token, Fault> {
        let start = self.pos;
        if let Some(trims) = self.at_right() {
            if self.parens > 0 {
                return Err(Self::fail(start, "unclosed left parenthesis"));
            }
            return Ok(self.right(trims));
        }
        let Some(c) = self.bump() else { return Err(Self::fail(start, "unclosed action")) };
        let kind = match c {
            _ if is_space(c) => {
                // Stops before a space that belongs to a trim marker.
                while self.at_right() != Some(true) && self.peek().is_some_and(is_space) {
                    self.bump();
                }
                Kind::Space
            }
            '=' => Kind::Assign,
            ':' => {
                if self.bump() != Some('=') {
                    return Err(Self::fail(start, "expected :="));
                }
                Kind::Declare
            }
            '|' => Kind::Pipe,
            '"' => self.quoted('"', Kind::Str, "unterminated string")?,
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
            '`' => {
                let Some(close) = self.rest().find('`') else {
                    return Err(Self::fail(start, "unterminated raw string"));
                };
                self.pos += close + 1;
                Kind::Raw
            }
            '$' => self.name(Kind::Variable)?,
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                if self.at_terminator() {
                    Kind::Dot
                } else {
                    self.name(Kind::Field)?
                }
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos = start;
                self.number()?;
                Kind::Number
            }
            _ if is_alphanumeric(c) => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.bump();
                }
                if !self.at_terminator() {
                    return Err(Self::fail(start, "bad character in a name"));
                }
                word(self.source.get(start..self.pos).unwrap_or_default())
            }
            '(' => {
                self.parens += 1;
                Kind::Open
            }
            ')' => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    return Err(Self::fail(start, "unexpected right parenthesis"));
                };
                self.parens = parens;
                Kind::Close
            }
            ' '..='~' => Kind::Char,
            _ => return Err(Self::fail(start, "unrecognized character in an action")),
        };
        Ok(self.token(kind, start))
    }

    fn quoted(&mut self, quote: char, kind: Kind, what: &'static str) -> Result<Kind, Fault> {
        let start = self.pos.saturating_sub(1);
        loop {
            match self.bump() {
                Some('\\') if !matches!(self.peek(), None | Some('\n')) => {
                    self.bump();
                }
                None | Some('\n' | '\\') => return Err(Self::fail(start, what)),
                Some(c) if c == quote => return Ok(kind),
                Some(_) => {}
            }
        }
    }

    fn name(&mut self, kind: Kind) -> Result<Kind, Fault> {
        let start = self.pos;
        while self.peek().is_some_and(is_alphanumeric) {
            self.bump();
        }
        if self.at_terminator() { Ok(kind) } else { Err(Self::fail(start, "bad character in a name")) }
    }

    /// Whether what may follow a name follows.
    fn at_terminator(&self) -> bool {
        self.peek().is_none_or(|c| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '('))
            || self.rest().starts_with("}}")
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.bump();
        }
        found
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.pos;
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        while self.accept(digits) {}
        if self.accept(".") {
            while self.accept(digits) {}
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            while self.accept("0123456789_") {}
        }
        if self.peek().is_some_and(|c| is_alphanumeric(c) || c == '+' || c == '-') {
            return Err(Self::fail(start, "not a number (complex numbers are not supported)"));
        }
        Ok(())
    }
}

fn word(word: &str) -> Kind {
    Kind::Keyword(match word {
        "block" => Keyword::Block,
        "break" => Keyword::Break,
        "continue" => Keyword::Continue,
        "define" => Keyword::Define,
        "else" => Keyword::Else,
        "end" => Keyword::End,
        "if" => Keyword::If,
        "range" => Keyword::Range,
        "template" => Keyword::Template,
        "with" => Keyword::With,
        "nil" => return Kind::Nil,
        "true" | "false" => return Kind::Bool,
        _ => return Kind::Identifier,
    })
}
