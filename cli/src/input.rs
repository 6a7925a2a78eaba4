//! Values from standard input, from a hidden prompt, and made up.

use std::io::{Read as _, Write as _};

use bulla::secret::SecretValue;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::Generate;
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

fn read_hidden() -> Result<Zeroizing<Vec<u8>>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const CLEAR: u8 = 21;
    // Room from the start, so that nothing moves while it grows.
    let mut line = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let mut byte = Zeroizing::new([0]);
    loop {
        match std::io::stdin().lock().read(byte.as_mut_slice()) {
            Ok(0) => return Ok(line),
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

/// Makes a value.
pub fn generate(kind: Generate) -> Result<SecretValue> {
    let random = |bytes: &mut [u8]| {
        SystemRandom::new().fill(bytes).map_err(|_| Failure::new("the operating system gave no randomness"))
    };
    let mut bytes = Zeroizing::new([0_u8; 32]);
    random(bytes.as_mut_slice())?;
    let hex = |bytes: &[u8]| {
        let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' + half - 10 });
        let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
        for byte in bytes {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text
    };
    let text = match kind {
        Generate::Hex => hex(bytes.as_slice()),
        Generate::Base64 => {
            use base64::Engine as _;
            let mut text = Zeroizing::new(String::with_capacity(44));
            base64::engine::general_purpose::STANDARD.encode_string(bytes.as_slice(), &mut text);
            text
        }
        Generate::Uuid => {
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let digits = hex(&bytes[..16]);
            let mut text = Zeroizing::new(String::with_capacity(36));
            for (index, digit) in digits.chars().enumerate() {
                if matches!(index, 8 | 12 | 16 | 20) {
                    text.push('-');
                }
                text.push(digit);
            }
            text
        }
        Generate::Password => {
            const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
            let mut text = Zeroizing::new(String::with_capacity(32));
            while text.len() < 32 {
                random(bytes.as_mut_slice())?;
                // Bytes over the last multiple of 62 are drawn again, so that all letters are as likely.
                for byte in bytes.iter().filter(|byte| **byte < 248).take(32 - text.len()) {
                    text.push(char::from(LETTERS[usize::from(byte % 62)]));
                }
            }
            text
        }
    };
    Ok(SecretValue::new(text.as_bytes().to_vec()))
}
