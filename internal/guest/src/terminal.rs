//! A terminal in a container, as the server sets it.

/// The server's hold on a process's terminal.
pub trait Terminal: Send + Sync + std::fmt::Debug {
    /// Sets the size in cells. A terminal that is gone ignores it.
    fn resize(&self, cols: u16, rows: u16);

    /// Changes these modes and leaves all others as they are. A terminal that is gone ignores it.
    fn set_modes(&self, modes: &[TerminalMode]);
}

/// A terminal mode (RFC 4254, section 8) and its new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TerminalMode {
    /// The character that erases the previous one.
    Erase(u8),
    /// Translate carriage return to newline on input.
    Icrnl(bool),
    /// Enable output flow control.
    Ixon(bool),
    /// Any character restarts output.
    Ixany(bool),
    /// Enable input flow control.
    Ixoff(bool),
    /// Characters like INTR and QUIT send signals.
    Isig(bool),
    /// Canonical mode: input line by line.
    Icanon(bool),
    /// Echo input.
    Echo(bool),
    /// Enable output processing.
    Opost(bool),
    /// Translate newline to carriage return and newline on output.
    Onlcr(bool),
}
