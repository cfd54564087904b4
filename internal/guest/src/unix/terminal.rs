//! The master side of a terminal in a container.

use std::os::fd::OwnedFd;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
    tcgetattr, tcsetattr, tcsetwinsize,
};

use crate::Error;
use crate::terminal::{ControlCharacter, Terminal, TerminalMode, WindowSize};

/// The master side of a terminal, not blocking.
#[derive(Debug)]
pub(super) struct Master(OwnedFd);

impl Master {
    /// Takes over a descriptor that is a terminal.
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&fd, true)
            .map_err(|error| Error::io("terminal")(error.into()))?;
        Ok(Self(fd))
    }

    /// Another descriptor of the same terminal.
    pub(super) fn duplicate(&self) -> Result<OwnedFd, Error> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 3)
            .map_err(|error| Error::io("terminal")(error.into()))
    }
}

impl Terminal for Master {
    fn resize(&self, size: WindowSize) {
        let size = Winsize {
            ws_col: size.cols.max(1),
            ws_row: size.rows.max(1),
            ws_xpixel: size.x_pixels,
            ws_ypixel: size.y_pixels,
        };
        // A terminal that is gone needs no size.
        tcsetwinsize(&self.0, size).ok();
    }

    fn set_modes(&self, modes: &[TerminalMode]) {
        // A terminal that is gone needs no modes.
        if let Ok(mut termios) = tcgetattr(&self.0) {
            for mode in modes {
                apply(&mut termios, *mode);
            }
            tcsetattr(&self.0, OptionalActions::Now, &termios).ok();
        }
    }
}

fn apply(termios: &mut Termios, mode: TerminalMode) {
    let (input, local, output) =
        (&mut termios.input_modes, &mut termios.local_modes, &mut termios.output_modes);
    match mode {
        TerminalMode::Character(which, to) => termios.special_codes[index(which)] = to,
        TerminalMode::Icrnl(on) => input.set(InputModes::ICRNL, on),
        TerminalMode::Ixon(on) => input.set(InputModes::IXON, on),
        TerminalMode::Ixany(on) => input.set(InputModes::IXANY, on),
        TerminalMode::Ixoff(on) => input.set(InputModes::IXOFF, on),
        TerminalMode::Isig(on) => local.set(LocalModes::ISIG, on),
        TerminalMode::Icanon(on) => local.set(LocalModes::ICANON, on),
        TerminalMode::Echo(on) => local.set(LocalModes::ECHO, on),
        TerminalMode::Opost(on) => output.set(OutputModes::OPOST, on),
        TerminalMode::Onlcr(on) => output.set(OutputModes::ONLCR, on),
    }
}

fn index(character: ControlCharacter) -> SpecialCodeIndex {
    match character {
        ControlCharacter::Interrupt => SpecialCodeIndex::VINTR,
        ControlCharacter::Quit => SpecialCodeIndex::VQUIT,
        ControlCharacter::Erase => SpecialCodeIndex::VERASE,
        ControlCharacter::Kill => SpecialCodeIndex::VKILL,
        ControlCharacter::EndOfFile => SpecialCodeIndex::VEOF,
        ControlCharacter::Suspend => SpecialCodeIndex::VSUSP,
        ControlCharacter::WordErase => SpecialCodeIndex::VWERASE,
        ControlCharacter::LiteralNext => SpecialCodeIndex::VLNEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> Master {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        Master::new(rustix::pty::openpt(flags).unwrap()).unwrap()
    }

    #[test]
    fn listed_modes_change_and_others_stay() {
        let terminal = terminal();
        let before = tcgetattr(&terminal.0).unwrap();
        terminal.set_modes(&[
            TerminalMode::Ixany(true),
            TerminalMode::Echo(false),
            TerminalMode::Character(ControlCharacter::Erase, 8),
        ]);
        let after = tcgetattr(&terminal.0).unwrap();
        assert!(after.input_modes.contains(InputModes::IXANY));
        assert!(!after.local_modes.contains(LocalModes::ECHO));
        assert_eq!(after.special_codes[SpecialCodeIndex::VERASE], 8);
        assert_eq!(before.output_modes, after.output_modes);
        assert_eq!(before.input_modes | InputModes::IXANY, after.input_modes);
    }

    #[test]
    fn a_size_is_at_least_one_cell() {
        let terminal = terminal();
        terminal.resize(WindowSize { x_pixels: 800, ..WindowSize::default() });
        let size = rustix::termios::tcgetwinsize(&terminal.0).unwrap();
        assert_eq!((size.ws_col, size.ws_row, size.ws_xpixel), (1, 1, 800));
    }
}
