//! OpenSSH's extensions to the protocol.

use rustix::fs::{StatVfs, StatVfsMountFlags, fstat, fstatvfs, fsync, link, rename, statvfs};

use crate::sftp::attributes::Target;
use crate::sftp::handles::MAX_HANDLES;
use crate::sftp::paths;
use crate::sftp::reply::{Replies, Status};
use crate::sftp::session::{Answer, MAX_READ_BYTES, Session, done, read_at, write_at};
use crate::sftp::wire::{CopyData, Extended, MAX_DATA_BYTES};

/// The file system flags in a reply to STATVFS.
const READ_ONLY: u64 = 0x1;
const NO_SETUID: u64 = 0x2;

impl Session {
    /// Handles a request of an extension. On failure no reply is appended.
    pub(super) fn extend(
        &mut self,
        id: u32,
        extended: Extended<'_>,
        replies: &mut Replies,
    ) -> Result<Answer, Status> {
        match extended {
            Extended::PosixRename { from, to } => done(rename(from, to)),
            Extended::Hardlink { from, to } => done(link(from, to)),
            Extended::Fsync { handle } => done(fsync(self.handles.file(handle)?)),
            Extended::Lsetstat { path, attributes } => done(attributes.apply(&Target::Link(path))),
            Extended::CopyData(copy) => done(self.copy(&copy)),
            Extended::Statvfs { path } => {
                let stat = statvfs(path)?;
                replies.extended(id, |reply| encode_statvfs(&stat, reply));
                Ok(Answer::Written)
            }
            Extended::Fstatvfs { handle } => {
                let stat = fstatvfs(self.handles.either(handle)?)?;
                replies.extended(id, |reply| encode_statvfs(&stat, reply));
                Ok(Answer::Written)
            }
            Extended::Limits => {
                replies.extended(id, encode_limits);
                Ok(Answer::Written)
            }
            Extended::ExpandPath { path } => {
                let expanded = paths::expand(path, self.accounts())?;
                Ok(Answer::Name(paths::real(&expanded)?))
            }
            Extended::HomeDirectory { user } => {
                let home = paths::home(user, self.accounts()).ok_or(Status::Failure)?;
                Ok(Answer::Name(home))
            }
            Extended::UsersGroupsById { users, groups } => {
                self.name_accounts(id, &users, &groups, replies)
            }
            Extended::Unknown => Err(Status::Unsupported),
        }
    }

    /// Copies between two open files. If the source ends before `n_bytes` are copied, the result is [`Status::Eof`].
    fn copy(&self, copy: &CopyData<'_>) -> Result<(), Status> {
        let (from, to) = (self.handles.file(copy.from)?, self.handles.file(copy.to)?);
        let (source, target) = (fstat(from)?, fstat(to)?);
        // Copied to itself, a file could grow forever.
        if (source.st_dev, source.st_ino) == (target.st_dev, target.st_ino) {
            return Err(Status::Failure);
        }
        let to_the_end = copy.n_bytes == 0;
        let mut left = if to_the_end { u64::MAX } else { copy.n_bytes };
        let (mut from_offset, mut to_offset) = (copy.from_offset, copy.to_offset);
        let mut buffer = vec![0; MAX_DATA_BYTES];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let n_read = match read_at(from, &mut buffer[..wanted], from_offset) {
                Err(Status::Eof) if to_the_end => return Ok(()),
                read => read?,
            };
            write_at(to, &buffer[..n_read], to_offset)?;
            left -= n_read as u64;
            from_offset = from_offset.saturating_add(n_read as u64);
            to_offset = to_offset.saturating_add(n_read as u64);
        }
        Ok(())
    }

    /// Replies with the names of users and groups, empty for unknown ids.
    fn name_accounts(
        &mut self,
        id: u32,
        users: &[u32],
        groups: &[u32],
        replies: &mut Replies,
    ) -> Result<Answer, Status> {
        let accounts = self.accounts();
        let mut names = Replies::new();
        names.nested(|names| {
            for user in users {
                names.string(accounts.user(*user).unwrap_or_default().as_bytes());
            }
        });
        names.nested(|names| {
            for group in groups {
                names.string(accounts.group(*group).unwrap_or_default().as_bytes());
            }
        });
        if names.bytes().len() > MAX_READ_BYTES {
            return Err(Status::Failure);
        }
        replies.extended(id, |reply| reply.append(&names));
        Ok(Answer::Written)
    }
}

fn encode_limits(reply: &mut Replies) {
    // As in OpenSSH, whose client uses them as its own limits. Slightly larger packets are accepted.
    for limit in [MAX_DATA_BYTES, MAX_READ_BYTES, MAX_READ_BYTES, MAX_HANDLES] {
        reply.u64(limit as u64);
    }
}

fn encode_statvfs(stat: &StatVfs, reply: &mut Replies) {
    let bit = |flag: StatVfsMountFlags, bit: u64| if stat.f_flag.contains(flag) { bit } else { 0 };
    for number in [
        stat.f_bsize,
        stat.f_frsize,
        stat.f_blocks,
        stat.f_bfree,
        stat.f_bavail,
        stat.f_files,
        stat.f_ffree,
        stat.f_favail,
        stat.f_fsid,
        bit(StatVfsMountFlags::RDONLY, READ_ONLY) | bit(StatVfsMountFlags::NOSUID, NO_SETUID),
        stat.f_namemax,
    ] {
        reply.u64(number);
    }
}
