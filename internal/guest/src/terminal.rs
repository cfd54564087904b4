//! A terminal in a container, as the server sets it.

/// The server's hold on a process's terminal.
pub trait Terminal: Send + Sync + std::fmt::Debug {
    /// Sets the size. A terminal that is gone ignores it.
    fn resize(&self, size: WindowSize);

    /// Changes these modes and leaves all others as they are. A terminal that is gone ignores it.
    fn set_modes(&self, modes: &[TerminalMode]);
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WindowSize {
    /// Number of columns.
    pub cols: u16,
    /// Number of rows.
    pub rows: u16,
    /// Width in pixels; 0 if unknown.
    pub x_pixels: u16,
    /// Height in pixels; 0 if unknown.
    pub y_pixels: u16,
}

/// A terminal mode (RFC 4254, section 8) and its new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TerminalMode {
    /// A control character; 0 disables it.
    Character(ControlCharacter, u8),
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

/// What a control character of a terminal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlCharacter {
    /// Sends SIGINT.
    Interrupt,
    /// Sends SIGQUIT.
    Quit,
    /// Erases the previous character.
    Erase,
    /// Erases the line.
    Kill,
    /// Ends the input.
    EndOfFile,
    /// Sends SIGTSTP.
    Suspend,
    /// Erases the previous word.
    WordErase,
    /// Takes the next character literally.
    LiteralNext,
}
