//! The session of a client: handles requests and appends replies.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, fstat, lstat, mkdir, open, readlink, rename,
    renameat_with, rmdir, stat, statat, symlink, unlink,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::clock::unix_seconds;
use crate::sftp::Ending;
use crate::sftp::accounts::Accounts;
use crate::sftp::attributes::{Attributes, Target};
use crate::sftp::handles::{Handle, Handles};
use crate::sftp::reply::{Replies, Status};
use crate::sftp::wire::{MAX_DATA_BYTES, Malformed, Packet, Request, decode};
use crate::sftp::{listing, paths};

/// The most bytes of one read. OpenSSH's client ends the session at a reply over 256 KiB, header included.
pub(super) const MAX_READ_BYTES: usize = MAX_DATA_BYTES - (1 << 10);
/// A reply to READDIR gets no further entries once it has this many bytes. With the last one it is within the 34,000 bytes
/// that all clients must accept.
const LISTING_BYTES: usize = 30_000;

/// The flags of OPEN.
const READ: u32 = 0x01;
const WRITE: u32 = 0x02;
const APPEND: u32 = 0x04;
const CREATE: u32 = 0x08;
const TRUNCATE: u32 = 0x10;
const EXCLUSIVE: u32 = 0x20;

/// The state of a session between requests.
pub(super) struct Session {
    pub(super) handles: Handles,
    /// The users and groups, read when first needed.
    accounts: Option<Accounts>,
    /// Whether the client has sent INIT.
    initialised: bool,
}

/// The answer to a successful request.
pub(super) enum Answer {
    /// Only the status.
    Done,
    Handle([u8; 8]),
    Attributes(Attributes),
    Name(Vec<u8>),
    /// The reply is already appended.
    Written,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { handles: Handles::new(), accounts: None, initialised: false }
    }

    /// Answers one packet. Fails only on a protocol violation.
    pub(super) fn answer(&mut self, packet: &[u8], replies: &mut Replies) -> Result<(), Ending> {
        match decode(packet) {
            Ok(Packet::Init) => {
                self.initialised = true;
                replies.version();
            }
            _ if !self.initialised => return Err(Ending::NoInit),
            Ok(Packet::Request { id, request }) => match self.act(id, request, replies) {
                Ok(Answer::Done) => replies.status(id, Status::Ok),
                Ok(Answer::Handle(handle)) => replies.handle(id, &handle),
                Ok(Answer::Attributes(attributes)) => replies.attributes(id, &attributes),
                Ok(Answer::Name(name)) => replies.name(id, &name),
                Ok(Answer::Written) => {}
                Err(status) => replies.status(id, status),
            },
            Err(Malformed { id }) => replies.status(id, Status::BadMessage),
        }
        Ok(())
    }

    /// Handles a request. On failure no reply is appended.
    fn act(
        &mut self,
        id: u32,
        request: Request<'_>,
        replies: &mut Replies,
    ) -> Result<Answer, Status> {
        match request {
            Request::Open { path, flags, attributes } => self.open(path, flags, &attributes),
            Request::Close { handle } => done(self.handles.close(handle)),
            Request::Read { handle, offset, n_bytes } => {
                let file = self.handles.file(handle)?;
                let n_bytes = (n_bytes as usize).min(MAX_READ_BYTES);
                replies.data(id, n_bytes, |room| read_at(file, room, offset))?;
                Ok(Answer::Written)
            }
            Request::Write { handle, offset, data } => {
                done(write_at(self.handles.file(handle)?, data, offset))
            }
            Request::Lstat { path } => Ok(Answer::Attributes((&lstat(path)?).into())),
            Request::Stat { path } => Ok(Answer::Attributes((&stat(path)?).into())),
            Request::Fstat { handle } => {
                Ok(Answer::Attributes((&fstat(self.handles.either(handle)?)?).into()))
            }
            Request::Setstat { path, attributes } => done(attributes.apply(&Target::Path(path))),
            Request::Fsetstat { handle, attributes } => {
                done(attributes.apply(&Target::Open(self.handles.either(handle)?)))
            }
            Request::Opendir { path } => self.open_directory(path),
            Request::Readdir { handle } => self.read_directory(id, handle, replies),
            Request::Remove { path } => done(unlink(path)),
            Request::Mkdir { path, attributes } => done(mkdir(path, attributes.mode_or(0o777))),
            Request::Rmdir { path } => done(rmdir(path)),
            Request::Realpath { path } => Ok(Answer::Name(paths::real(path)?)),
            Request::Rename { from, to } => done(rename_to_new(from, to)),
            Request::Readlink { path } => {
                Ok(Answer::Name(readlink(path, Vec::new())?.into_bytes()))
            }
            Request::Symlink { target, link } => done(symlink(target, link)),
            Request::Extended(extended) => self.extend(id, extended, replies),
            Request::Unknown => Err(Status::Unsupported),
        }
    }

    /// The users and groups.
    pub(super) fn accounts(&mut self) -> &Accounts {
        self.accounts.get_or_insert_with(Accounts::read)
    }

    fn open(&mut self, path: &[u8], flags: u32, attributes: &Attributes) -> Result<Answer, Status> {
        self.handles.check_room()?;
        let file = open(path, open_flags(flags), attributes.mode_or(0o666))?;
        Ok(Answer::Handle(self.handles.add(Handle::File(file))))
    }

    fn open_directory(&mut self, path: &[u8]) -> Result<Answer, Status> {
        self.handles.check_room()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Dir::new(open(path, flags, Mode::empty())?)?;
        Ok(Answer::Handle(self.handles.add(Handle::Directory(dir))))
    }

    /// Replies with the next entries. A read error is returned even if some entries were read, so that the client does not
    /// take them for all entries.
    fn read_directory(
        &mut self,
        id: u32,
        handle: &[u8],
        replies: &mut Replies,
    ) -> Result<Answer, Status> {
        let dir = self.handles.directory(handle)?;
        let accounts = self.accounts.get_or_insert_with(Accounts::read);
        let now = unix_seconds();
        let mut entries = Replies::new();
        let mut n_names = 0;
        while entries.bytes().len() < LISTING_BYTES {
            let Some(entry) = dir.read() else {
                break;
            };
            let entry = entry?;
            let name = entry.file_name();
            let (line, attributes) = match statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => (listing::line(name.to_bytes(), &stat, accounts, now), (&stat).into()),
                // Removed in between.
                Err(Errno::NOENT) => continue,
                Err(_) => (listing::unknown(name.to_bytes()), Attributes::default()),
            };
            entries.string(name.to_bytes());
            entries.string(&line);
            attributes.encode(&mut entries);
            n_names += 1;
        }
        if n_names == 0 {
            return Err(Status::Eof);
        }
        replies.names(id, n_names, &entries);
        Ok(Answer::Written)
    }
}

/// The answer to a request whose only result is its status.
pub(super) fn done(result: Result<(), impl Into<Status>>) -> Result<Answer, Status> {
    result.map(|()| Answer::Done).map_err(Into::into)
}

/// Converts the flags of OPEN. Opening never blocks, as it would on a named pipe that no process has open.
fn open_flags(flags: u32) -> OFlags {
    let mut open_flags = match (flags & READ != 0, flags & WRITE != 0) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (true | false, false) => OFlags::RDONLY,
    };
    for (flag, open_flag) in [
        (APPEND, OFlags::APPEND),
        (CREATE, OFlags::CREATE),
        (TRUNCATE, OFlags::TRUNC),
        (EXCLUSIVE, OFlags::EXCL),
    ] {
        open_flags.set(open_flag, flags & flag != 0);
    }
    open_flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

/// Reads once. Reading no bytes into a non-empty buffer is the end of the file.
pub(super) fn read_at(file: BorrowedFd<'_>, room: &mut [u8], offset: u64) -> Result<usize, Status> {
    match retry_on_intr(|| pread(file, &mut *room, offset))? {
        0 if !room.is_empty() => Err(Status::Eof),
        n_read => Ok(n_read),
    }
}

/// Writes everything or fails. For a file opened to append the offset is ignored.
pub(super) fn write_at(
    file: BorrowedFd<'_>,
    mut data: &[u8],
    mut offset: u64,
) -> Result<(), Status> {
    while !data.is_empty() {
        let n_written = retry_on_intr(|| pwrite(file, data, offset))?;
        if n_written == 0 {
            return Err(Status::Failure);
        }
        data = &data[n_written..];
        offset = offset.saturating_add(n_written as u64);
    }
    Ok(())
}

/// Renames a file. In version 3 of the protocol RENAME never replaces a file.
fn rename_to_new(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system supports NOREPLACE.
        Err(Errno::INVAL | Errno::NOSYS) => match lstat(to) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rename(from, to),
            Err(error) => Err(error),
        },
        done => done,
    }
}
