//! A client's terminal: size, name and modes.

use russh::Pty;
use shed_api::stream::Tty;
use shed_core::TerminalMode;

/// The longest `$TERM` that is passed on, in bytes.
const MAX_TERM_BYTES: usize = 128;
/// The erase character that the kernel gives a new terminal.
const USUAL_ERASE: u32 = 0x7f;

/// A terminal that a client requested.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    /// Its size and `$TERM`.
    pub(crate) tty: Tty,
    modes: Vec<(Pty, u32)>,
}

impl Terminal {
    /// Takes the values of a `pty-req`.
    pub(crate) fn new(term: &str, cols: u32, rows: u32, modes: &[(Pty, u32)]) -> Self {
        let (cols, rows) = size(cols, rows);
        let term = if term.len() > MAX_TERM_BYTES { "" } else { term };
        Self { tty: Tty { cols, rows, term: term.to_owned() }, modes: modes.to_vec() }
    }

    /// The modes that the client requests and a new terminal does not have, usually none. Other modes are left alone: the
    /// program runs already and may have changed them.
    pub(crate) fn unusual_modes(&self) -> Vec<TerminalMode> {
        let unusual = self.modes.iter().filter(|(mode, to)| is_unusual(*mode, *to));
        unusual.filter_map(|(mode, to)| terminal_mode(*mode, *to)).collect()
    }
}

/// A size in the kernel's range: columns, rows. A zero is kept; it means that the client does not know its size.
pub(crate) fn size(cols: u32, rows: u32) -> (u16, u16) {
    let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    (fit(cols), fit(rows))
}

/// Whether a mode differs from a new terminal's. Modes that are not listed here are ignored; a shed's terminals are always
/// UTF-8.
fn is_unusual(mode: Pty, to: u32) -> bool {
    let on = to != 0;
    match mode {
        Pty::VERASE => to != USUAL_ERASE,
        Pty::ICRNL | Pty::IXON | Pty::ISIG | Pty::ICANON | Pty::ECHO | Pty::OPOST | Pty::ONLCR => {
            !on
        }
        Pty::IXANY | Pty::IXOFF => on,
        _ => false,
    }
}

/// `None` for modes that are left alone.
fn terminal_mode(mode: Pty, to: u32) -> Option<TerminalMode> {
    let on = to != 0;
    Some(match mode {
        Pty::VERASE => TerminalMode::Erase(u8::try_from(to).unwrap_or_default()),
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
        let terminal = Terminal::new(&"x".repeat(1000), 1 << 20, 0, &[]);
        assert_eq!(terminal.tty, Tty { cols: u16::MAX, rows: 0, term: String::new() });
    }

    #[test]
    fn only_modes_that_differ_from_a_new_terminal_are_set() {
        let unusual = |modes: &[(Pty, u32)]| Terminal::new("xterm", 80, 24, modes).unusual_modes();
        let usual = [
            (Pty::ECHO, 1),
            (Pty::ICRNL, 1),
            (Pty::VERASE, 0x7f),
            (Pty::IUTF8, 1),
            (Pty::TTY_OP_ISPEED, 9600),
        ];
        assert_eq!(unusual(&usual), []);
        assert_eq!(
            unusual(&[(Pty::IXANY, 1), (Pty::ECHO, 0), (Pty::VERASE, 8)]),
            [TerminalMode::Ixany(true), TerminalMode::Echo(false), TerminalMode::Erase(8)]
        );
    }
}
