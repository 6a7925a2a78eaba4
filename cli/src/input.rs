//! Values from standard input, from a hidden prompt, and made up.

use std::io::{Read as _, Write as _};

use bulla::secret::SecretValue;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, Result};
use crate::files;

/// All of standard input.
pub fn stdin() -> Result<Zeroizing<Vec<u8>>> {
    files::read(std::path::Path::new("-"))
}

/// Without one final line end, and whether there was one.
pub fn without_line_end(bytes: &[u8]) -> (&[u8], bool) {
    match bytes {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => (rest, true),
        _ => (bytes, false),
    }
}

/// Asks on the terminal, showing nothing of what is typed.
pub fn prompt(what: &str) -> Result<SecretValue> {
    let stdin = std::io::stdin();
    let cant = |error: rustix::io::Errno| Failure::new(format!("can't ask on this terminal: {error}"));
    let before = tcgetattr(&stdin).map_err(cant)?;
    let mut hidden = before.clone();
    // Signals off too: an interrupt comes as a character, and the terminal is put back before the program ends.
    hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
    hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(cant)?;
    _ = write!(std::io::stderr().lock(), "{what} (hidden): ");
    let line = read_hidden();
    _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
    _ = writeln!(std::io::stderr().lock());
    line.map(|line| SecretValue::new(line.to_vec()))
}

/// As [`prompt`], twice: what was typed wrongly once is rarely typed wrongly the same way again.
pub fn prompt_twice(what: &str) -> Result<SecretValue> {
    let first = prompt(what)?;
    let second = prompt(&format!("{what} again"))?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::new(format!("the two values for \"{what}\" differ; nothing was written")))
    }
}

/// Asks on the terminal; what is typed but `n` means yes.
pub fn confirm(question: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    let cant = |error: rustix::io::Errno| Failure::new(format!("can't ask on this terminal: {error}"));
    let before = tcgetattr(&stdin).map_err(cant)?;
    let mut direct = before.clone();
    direct.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    direct.special_codes[SpecialCodeIndex::VMIN] = 1;
    direct.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&stdin, OptionalActions::Flush, &direct).map_err(cant)?;
    _ = write!(std::io::stderr().lock(), "{question}");
    let mut byte = [0];
    let read = std::io::stdin().lock().read_exact(&mut byte);
    _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
    _ = writeln!(std::io::stderr().lock());
    match (read, byte[0]) {
        (Ok(()), 3) => Err(Failure::new("interrupted; nothing was written").exit(Exit::Interrupted)),
        (Ok(()), 4) | (Err(_), _) => Ok(false),
        (Ok(()), byte) => Ok(!matches!(byte, b'n' | b'N')),
    }
}

fn read_hidden() -> Result<Zeroizing<Vec<u8>>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const CLEAR: u8 = 21;
    // Room from the start, so that nothing moves while it grows.
    let mut line = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let mut byte = Zeroizing::new([0]);
    loop {
        match std::io::stdin().lock().read(byte.as_mut_slice()) {
            // A terminal ends only when it goes away: what was typed until then is half a value.
            Ok(0) => return Err(Failure::new("the terminal is gone; nothing was written")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::new(format!("can't read from the terminal: {error}"))),
        }
        match byte[0] {
            b'\r' | b'\n' | END => return Ok(line),
            INTERRUPT => return Err(Failure::new("interrupted; nothing was written").exit(Exit::Interrupted)),
            CLEAR => line.clear(),
            8 | 127 => {
                // A whole character.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            _ if line.len() == line.capacity() => {
                return Err(Failure::new("more than 64 KiB were typed").help("use --from-file"));
            }
            byte => line.push(byte),
        }
    }
}
