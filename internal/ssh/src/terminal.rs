//! A client's terminal: size, name and modes.

use russh::Pty;
use rustix::fd::AsFd;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcsetattr,
};
use shed_api::stream::Tty;

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

    /// Sets the modes that the client requests and a new terminal does not have, usually none. Other modes are left alone:
    /// the program runs already and may have changed them.
    pub(crate) fn set_modes(&self, terminal: impl AsFd) {
        let unusual: Vec<_> =
            self.modes.iter().filter(|(mode, to)| is_unusual(*mode, *to)).collect();
        if unusual.is_empty() {
            return;
        }
        // Fails if the terminal was closed already.
        if let Ok(mut termios) = tcgetattr(&terminal) {
            for (mode, to) in unusual {
                apply(&mut termios, *mode, *to);
            }
            tcsetattr(&terminal, OptionalActions::Now, &termios).ok();
        }
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

fn apply(termios: &mut Termios, mode: Pty, to: u32) {
    let on = to != 0;
    match mode {
        Pty::VERASE => {
            termios.special_codes[SpecialCodeIndex::VERASE] = u8::try_from(to).unwrap_or_default();
        }
        Pty::ICRNL => termios.input_modes.set(InputModes::ICRNL, on),
        Pty::IXON => termios.input_modes.set(InputModes::IXON, on),
        Pty::IXANY => termios.input_modes.set(InputModes::IXANY, on),
        Pty::IXOFF => termios.input_modes.set(InputModes::IXOFF, on),
        Pty::ISIG => termios.local_modes.set(LocalModes::ISIG, on),
        Pty::ICANON => termios.local_modes.set(LocalModes::ICANON, on),
        Pty::ECHO => termios.local_modes.set(LocalModes::ECHO, on),
        Pty::OPOST => termios.output_modes.set(OutputModes::OPOST, on),
        Pty::ONLCR => termios.output_modes.set(OutputModes::ONLCR, on),
        _ => {}
    }
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
    fn only_what_differs_from_a_new_terminal_is_set() {
        let pty = |modes: &[(Pty, u32)]| {
            let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
            let master = rustix::pty::openpt(flags).unwrap();
            let before = tcgetattr(&master).unwrap();
            Terminal::new("xterm", 80, 24, modes).set_modes(&master);
            (before, tcgetattr(&master).unwrap())
        };
        let usual = [
            (Pty::ECHO, 1),
            (Pty::ICRNL, 1),
            (Pty::VERASE, 0x7f),
            (Pty::IUTF8, 1),
            (Pty::TTY_OP_ISPEED, 9600),
        ];
        let (before, after) = pty(&usual);
        assert_eq!(
            (before.input_modes, before.local_modes),
            (after.input_modes, after.local_modes)
        );
        let (_, after) = pty(&[(Pty::IXANY, 1), (Pty::ECHO, 0), (Pty::VERASE, 8)]);
        assert!(after.input_modes.contains(InputModes::IXANY));
        assert!(!after.local_modes.contains(LocalModes::ECHO));
        assert_eq!(after.special_codes[SpecialCodeIndex::VERASE], 8);
    }
}
