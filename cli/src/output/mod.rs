//! What the program says: data on standard output, all else on standard error. A reader that has gone is no error.

pub mod plain;
pub mod progress;

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use serde_json::json;

use crate::failure::{Failure, Result};

/// The version of every JSON document that this program prints.
pub const SCHEMA_VERSION: u32 = 1;

/// Writes data to standard output.
pub fn data(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes text with colours to standard output, which has them when it is a terminal.
pub fn coloured(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON document; `value` is an object and gets the schemaVersion.
pub fn document(value: serde_json::Value) -> Result<()> {
    data(json_text(value).as_bytes())
}

/// A JSON document as it is printed and written.
pub fn json_text(mut value: serde_json::Value) -> String {
    if let Some(object) = value.as_object_mut() {
        object.insert("schemaVersion".into(), json!(SCHEMA_VERSION));
    }
    format!("{value:#}\n")
}

/// Says something on standard error. Where it can't be said, it isn't.
pub fn say(text: &str) {
    let mut err = anstream::stderr().lock();
    _ = err.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        _ = err.write_all(b"\n");
    }
    _ = err.flush();
}

/// Says a warning.
pub fn warn(text: &str) {
    say(&format!("\u{1b}[1;33mwarning:\u{1b}[0m {text}"));
}

/// Says a note.
pub fn note(text: &str) {
    say(&format!("\u{1b}[1mnote:\u{1b}[0m {text}"));
}

/// Says an error.
pub fn failure(failure: &Failure) {
    say(&failure.render());
}

/// Asks on the terminal; anything but yes is no.
pub fn ask(question: &str) -> bool {
    let mut err = anstream::stderr().lock();
    _ = err.write_all(question.as_bytes()).and_then(|()| err.flush());
    drop(err);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}

/// Whether somebody is there to be asked.
pub fn on_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
