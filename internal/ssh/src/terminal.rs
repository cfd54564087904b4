//! A client's terminal: size, name and modes.

use russh::Pty;
use shed_api::stream::Tty;
use shed_core::{ControlCharacter, TerminalMode, WindowSize};

/// The longest `$TERM` that is passed on, in bytes.
const MAX_TERM_BYTES: usize = 128;
/// The value by which SSH disables a control character.
const DISABLED: u32 = 255;

/// A terminal that a client requested.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    /// Its size and `$TERM`.
    pub(crate) tty: Tty,
    modes: Vec<(Pty, u32)>,
}

impl Terminal {
    /// Takes the values of a `pty-req`.
    pub(crate) fn new(term: &str, size: WindowSize, modes: &[(Pty, u32)]) -> Self {
        let term = if term.len() > MAX_TERM_BYTES { "" } else { term };
        let WindowSize { cols, rows, x_pixels, y_pixels } = size;
        let tty = Tty { cols, rows, x_pixels, y_pixels, term: term.to_owned() };
        Self { tty, modes: modes.to_vec() }
    }

    /// Sets a new size.
    pub(crate) fn resize(&mut self, size: WindowSize) {
        let WindowSize { cols, rows, x_pixels, y_pixels } = size;
        self.tty = Tty { cols, rows, x_pixels, y_pixels, ..std::mem::take(&mut self.tty) };
    }

    /// The modes that the client requests and a new terminal does not have, usually none. Other modes are left alone: the
    /// program runs already and may have changed them.
    pub(crate) fn unusual_modes(&self) -> Vec<TerminalMode> {
        let unusual = self.modes.iter().filter(|(mode, to)| is_unusual(*mode, *to));
        unusual.filter_map(|(mode, to)| terminal_mode(*mode, *to)).collect()
    }
}

/// A size in the kernel's range. A zero is kept; it means that the client does not know its size.
pub(crate) fn size(cols: u32, rows: u32, x_pixels: u32, y_pixels: u32) -> WindowSize {
    let [cols, rows, x_pixels, y_pixels] =
        [cols, rows, x_pixels, y_pixels].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    WindowSize { cols, rows, x_pixels, y_pixels }
}

/// Whether a mode differs from a new terminal's. Modes that are not listed here are ignored; a shed's terminals are always
/// UTF-8.
fn is_unusual(mode: Pty, to: u32) -> bool {
    if let Some((_, usual)) = control_character(mode) {
        return to != usual;
    }
    let on = to != 0;
    match mode {
        Pty::ICRNL | Pty::IXON | Pty::ISIG | Pty::ICANON | Pty::ECHO | Pty::OPOST | Pty::ONLCR => {
            !on
        }
        Pty::IXANY | Pty::IXOFF => on,
        _ => false,
    }
}

/// The control character that a mode sets, and the one that the kernel gives a new terminal.
fn control_character(mode: Pty) -> Option<(ControlCharacter, u32)> {
    Some(match mode {
        Pty::VINTR => (ControlCharacter::Interrupt, 0x03),
        Pty::VQUIT => (ControlCharacter::Quit, 0x1c),
        Pty::VERASE => (ControlCharacter::Erase, 0x7f),
        Pty::VKILL => (ControlCharacter::Kill, 0x15),
        Pty::VEOF => (ControlCharacter::EndOfFile, 0x04),
        Pty::VSUSP => (ControlCharacter::Suspend, 0x1a),
        Pty::VWERASE => (ControlCharacter::WordErase, 0x17),
        Pty::VLNEXT => (ControlCharacter::LiteralNext, 0x16),
        _ => return None,
    })
}

/// `None` for modes that are left alone.
fn terminal_mode(mode: Pty, to: u32) -> Option<TerminalMode> {
    let on = to != 0;
    if let Some((character, _)) = control_character(mode) {
        // The kernel's value for a disabled one is 0.
        let to = if to == DISABLED { 0 } else { u8::try_from(to).ok()? };
        return Some(TerminalMode::Character(character, to));
    }
    Some(match mode {
        Pty::ICRNL => TerminalMode::Icrnl(on),
        Pty::IXON => TerminalMode::Ixon(on),
        Pty::IXANY => TerminalMode::Ixany(on),
        Pty::IXOFF => TerminalMode::Ixoff(on),
        Pty::ISIG => TerminalMode::Isig(on),
        Pty::ICANON => TerminalMode::Icanon(on),
        Pty::ECHO => TerminalMode::Echo(on),
        Pty::OPOST => TerminalMode::Opost(on),
        Pty::ONLCR => TerminalMode::Onlcr(on),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_names_are_bounded() {
        let terminal = Terminal::new(&"x".repeat(1000), size(1 << 20, 0, 800, 1 << 20), &[]);
        let (cols, rows) = (u16::MAX, 0);
        let (x_pixels, y_pixels, term) = (800, u16::MAX, String::new());
        assert_eq!(terminal.tty, Tty { cols, rows, x_pixels, y_pixels, term });
    }

    #[test]
    fn only_modes_that_differ_from_a_new_terminal_are_set() {
        let unusual = |modes: &[(Pty, u32)]| {
            Terminal::new("xterm", size(80, 24, 0, 0), modes).unusual_modes()
        };
        let usual = [
            (Pty::ECHO, 1),
            (Pty::ICRNL, 1),
            (Pty::VERASE, 0x7f),
            (Pty::VINTR, 0x03),
            (Pty::VEOF, 0x04),
            (Pty::VSTATUS, 0x14),
            (Pty::IUTF8, 1),
            (Pty::TTY_OP_ISPEED, 9600),
        ];
        assert_eq!(unusual(&usual), []);
        let wanted = [(Pty::IXANY, 1), (Pty::ECHO, 0), (Pty::VERASE, 8), (Pty::VINTR, 255)];
        let set = [
            TerminalMode::Ixany(true),
            TerminalMode::Echo(false),
            TerminalMode::Character(ControlCharacter::Erase, 8),
            TerminalMode::Character(ControlCharacter::Interrupt, 0),
        ];
        assert_eq!(unusual(&wanted), set);
    }
}
