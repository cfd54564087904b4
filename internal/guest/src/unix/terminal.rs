//! The master side of a terminal in a container, on the thread of its shed.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
    tcgetattr, tcsetattr, tcsetwinsize,
};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::ShedThread;
use super::relay::{inward, outward};
use crate::Error;
use crate::stream::{Input, Output};
use crate::terminal::{ControlCharacter, Terminal, TerminalMode, WindowSize};
use crate::transport::TerminalEnds;

/// The most modes that wait to be set.
const MAX_MODES: usize = 64;

/// Counts what a terminal's processes have written.
#[derive(Debug)]
pub(super) struct Meter {
    master: OwnedFd,
    /// Bytes that were read from the terminal.
    n_taken: AtomicU64,
    /// Bytes that the processes are known to have written. The server reads it.
    n_written: Arc<AtomicU64>,
}

impl Meter {
    /// Adds what was read from the terminal.
    fn take(&self, n_bytes: usize) {
        let n_taken = self.n_taken.fetch_add(n_bytes as u64, Ordering::Relaxed) + n_bytes as u64;
        self.n_written.fetch_max(n_taken, Ordering::Release);
    }

    /// Adds what can be read from the terminal now.
    pub(super) fn measure(&self) {
        let n_waiting = rustix::io::ioctl_fionread(&self.master).unwrap_or(0);
        let n_written = self.n_taken.load(Ordering::Relaxed) + n_waiting;
        self.n_written.fetch_max(n_written, Ordering::Release);
    }
}

/// What the server wants a terminal to be set to.
#[derive(Debug, Default)]
struct Wanted {
    size: Option<WindowSize>,
    modes: Vec<TerminalMode>,
}

/// The server's hold on a terminal.
#[derive(Debug)]
struct Handle {
    wanted: Arc<Mutex<Wanted>>,
    /// Signals a change; closed with the handle.
    changed: mpsc::Sender<()>,
}

impl Handle {
    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        // One signal that waits is enough.
        self.changed.try_send(()).ok();
    }
}

impl Terminal for Handle {
    fn resize(&self, size: WindowSize) {
        self.change(|wanted| wanted.size = Some(size));
    }

    fn set_modes(&self, modes: &[TerminalMode]) {
        self.change(|wanted| {
            let room = MAX_MODES.saturating_sub(wanted.modes.len());
            wanted.modes.extend(&modes[..modes.len().min(room)]);
        });
    }
}

/// Sets what is wanted and not set yet.
fn set(master: &OwnedFd, wanted: &Mutex<Wanted>) {
    let Wanted { size, modes } =
        std::mem::take(&mut *wanted.lock().unwrap_or_else(PoisonError::into_inner));
    // A terminal that is gone needs no size and no modes.
    if let Some(size) = size {
        let size = Winsize {
            ws_col: size.cols.max(1),
            ws_row: size.rows.max(1),
            ws_xpixel: size.x_pixels,
            ws_ypixel: size.y_pixels,
        };
        tcsetwinsize(master, size).ok();
    }
    if !modes.is_empty()
        && let Ok(mut termios) = tcgetattr(master)
    {
        for mode in modes {
            apply(&mut termios, mode);
        }
        tcsetattr(master, OptionalActions::Now, &termios).ok();
    }
}

/// Takes over a descriptor that is a terminal. Only on the thread of the shed.
pub(super) fn start(thread: &ShedThread, master: OwnedFd) -> Result<TerminalEnds, Error> {
    let failed = || Error::io("terminal");
    let duplicate = || rustix::io::fcntl_dupfd_cloexec(&master, 3);
    // A pipe end of tokio's is any descriptor that can be polled, read and written, which a terminal is.
    let from = duplicate().map_err(|error| failed()(error.into()))?;
    let from = pipe::Receiver::from_file_unchecked(from.into()).map_err(failed())?;
    let to = duplicate().map_err(|error| failed()(error.into()))?;
    let to = pipe::Sender::from_file_unchecked(to.into()).map_err(failed())?;
    // The flag is of the open file, and so for all three. A container that clears it blocks this thread.
    rustix::io::ioctl_fionbio(&master, true).map_err(|error| failed()(error.into()))?;
    let n_written = Arc::default();
    let (source, reader) = outward(thread, Arc::clone(&n_written)).map_err(failed())?;
    let (writer, sink) = inward(thread).map_err(failed())?;
    let meter = Arc::new(Meter { master, n_taken: AtomicU64::new(0), n_written });
    thread.add_meter(&meter);
    let wanted = Arc::new(Mutex::new(Wanted::default()));
    let (changed, mut changes) = mpsc::channel(1);
    let handle = Handle { wanted: Arc::clone(&wanted), changed };
    let taker = Arc::clone(&meter);
    thread.spawn(async move { source.fill_from(from, |n_bytes| taker.take(n_bytes)).await });
    let (setter, now) = (Arc::clone(&meter), Arc::clone(&wanted));
    // What is typed after a change of size meets the new size.
    thread.spawn(async move { sink.empty_into(to, || set(&setter.master, &now)).await });
    thread.spawn(async move {
        while changes.recv().await.is_some() {
            set(&meter.master, &wanted);
        }
    });
    Ok(TerminalEnds {
        input: Input::pipe(writer),
        output: Output::other(Box::new(reader)),
        terminal: Arc::new(handle),
    })
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

    fn terminal() -> OwnedFd {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        rustix::pty::openpt(flags).unwrap()
    }

    fn wanted(size: Option<WindowSize>, modes: &[TerminalMode]) -> Mutex<Wanted> {
        Mutex::new(Wanted { size, modes: modes.to_vec() })
    }

    #[test]
    fn listed_modes_change_and_others_stay() {
        let terminal = terminal();
        let before = tcgetattr(&terminal).unwrap();
        let modes = [
            TerminalMode::Ixany(true),
            TerminalMode::Echo(false),
            TerminalMode::Character(ControlCharacter::Erase, 8),
        ];
        set(&terminal, &wanted(None, &modes));
        let after = tcgetattr(&terminal).unwrap();
        assert!(after.input_modes.contains(InputModes::IXANY));
        assert!(!after.local_modes.contains(LocalModes::ECHO));
        assert_eq!(after.special_codes[SpecialCodeIndex::VERASE], 8);
        assert_eq!(before.output_modes, after.output_modes);
        assert_eq!(before.input_modes | InputModes::IXANY, after.input_modes);
    }

    #[test]
    fn a_size_is_at_least_one_cell() {
        let terminal = terminal();
        let size = WindowSize { x_pixels: 800, ..WindowSize::default() };
        set(&terminal, &wanted(Some(size), &[]));
        let size = rustix::termios::tcgetwinsize(&terminal).unwrap();
        assert_eq!((size.ws_col, size.ws_row, size.ws_xpixel), (1, 1, 800));
    }
}
