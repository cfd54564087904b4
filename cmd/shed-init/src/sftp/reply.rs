//! The server's packets: status codes and the buffer of replies.

use rustix::io::Errno;

use crate::sftp::attributes::Attributes;
use crate::sftp::wire::{EXTENSIONS, LENGTH_BYTES};

const VERSION: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

/// The version of the protocol that we announce.
const PROTOCOL: u32 = 3;

/// The status of a request; codes and texts are those of OpenSSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }
}

impl From<Errno> for Status {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => Self::NoSuchFile,
            Errno::PERM | Errno::ACCESS | Errno::FAULT => Self::PermissionDenied,
            Errno::NAMETOOLONG | Errno::INVAL => Self::BadMessage,
            Errno::NOSYS => Self::Unsupported,
            _ => Self::Failure,
        }
    }
}

impl From<std::io::Error> for Status {
    fn from(error: std::io::Error) -> Self {
        // An error that is not from the kernel is an invalid argument, such as a path with a NUL byte.
        Errno::from_io_error(&error).map_or(Self::BadMessage, Self::from)
    }
}

/// Replies that are not written yet. The buffer only grows: bytes after `end` are old data, so that file data can be read into
/// it without clearing it first.
pub(super) struct Replies {
    buffer: Vec<u8>,
    end: usize,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), end: 0 }
    }

    /// The bytes to write.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.end]
    }

    /// Empties the buffer after everything was written.
    pub(super) fn clear(&mut self) {
        self.end = 0;
    }

    /// The answer to INIT.
    pub(super) fn version(&mut self) {
        let start = self.begin(VERSION);
        self.u32(PROTOCOL);
        for (name, version) in EXTENSIONS {
            self.string(name.as_bytes());
            self.string(version.as_bytes());
        }
        self.set_length(start);
    }

    pub(super) fn status(&mut self, id: u32, status: Status) {
        let start = self.begin(STATUS);
        self.u32(id);
        self.u32(status as u32);
        self.string(status.text().as_bytes());
        // The language of the text, which OpenSSH leaves empty too.
        self.string(b"");
        self.set_length(start);
    }

    pub(super) fn handle(&mut self, id: u32, handle: &[u8]) {
        let start = self.begin(HANDLE);
        self.u32(id);
        self.string(handle);
        self.set_length(start);
    }

    pub(super) fn attributes(&mut self, id: u32, attributes: &Attributes) {
        let start = self.begin(ATTRS);
        self.u32(id);
        attributes.encode(self);
        self.set_length(start);
    }

    /// A single name, such as the target of a symlink.
    pub(super) fn name(&mut self, id: u32, name: &[u8]) {
        let start = self.begin(NAME);
        self.u32(id);
        self.u32(1);
        self.string(name);
        self.string(name);
        Attributes::default().encode(self);
        self.set_length(start);
    }

    /// File data: up to `n_bytes`, as many as `read` returns. On failure nothing is added to the buffer.
    pub(super) fn data(
        &mut self,
        id: u32,
        n_bytes: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Status>,
    ) -> Result<(), Status> {
        let start = self.begin(DATA);
        self.u32(id);
        let length_at = self.end;
        self.u32(0);
        match read(self.room(n_bytes)) {
            Ok(n_read) => {
                self.end += n_read;
                self.set_length(length_at);
                self.set_length(start);
                Ok(())
            }
            Err(status) => {
                self.end = start;
                Err(status)
            }
        }
    }

    /// `n_names` entries, encoded in `entries`.
    pub(super) fn names(&mut self, id: u32, n_names: u32, entries: &Self) {
        let start = self.begin(NAME);
        self.u32(id);
        self.u32(n_names);
        self.append(entries);
        self.set_length(start);
    }

    /// The reply to an extension, with the content that `body` writes.
    pub(super) fn extended(&mut self, id: u32, body: impl FnOnce(&mut Self)) {
        let start = self.begin(EXTENDED_REPLY);
        self.u32(id);
        body(self);
        self.set_length(start);
    }

    /// A string with the content that `body` writes.
    pub(super) fn nested(&mut self, body: impl FnOnce(&mut Self)) {
        let start = self.end;
        self.u32(0);
        body(self);
        self.set_length(start);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    pub(super) fn string(&mut self, string: &[u8]) {
        self.u32(length(string.len()));
        self.put(string);
    }

    /// The content of another buffer.
    pub(super) fn append(&mut self, other: &Self) {
        self.put(other.bytes());
    }

    fn begin(&mut self, kind: u8) -> usize {
        let start = self.end;
        self.u32(0);
        self.put(&[kind]);
        start
    }

    /// Writes the number of bytes that follow it at `at`.
    fn set_length(&mut self, at: usize) {
        let after = at + LENGTH_BYTES;
        let n_bytes = length(self.end - after);
        self.buffer[at..after].copy_from_slice(&n_bytes.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn room(&mut self, n_bytes: usize) -> &mut [u8] {
        let end = self.end + n_bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.end..end]
    }
}

fn length(n_bytes: usize) -> u32 {
    u32::try_from(n_bytes).expect("replies are bounded far below 4 GiB")
}
