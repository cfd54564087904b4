//! File attributes: encoded in packets, read from the kernel, and set on files.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, chmod, chownat,
    fchmod, fchown, fstat, ftruncate, futimens, open, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::sftp::reply::{Replies, Status};
use crate::sftp::wire::{Fields, Missing};

const SIZE: u32 = 0x1;
const OWNER: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const TIMES: u32 = 0x8;
const EXTENDED: u32 = 0x8000_0000;

/// The bits of a mode that a client may set; the others are the file's type.
const SETTABLE: u32 = 0o7777;

/// Attributes of a file, or to be set on a file; each may be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// The uid and the gid.
    pub(super) owner: Option<(u32, u32)>,
    /// The mode: file type and permissions.
    pub(super) mode: Option<u32>,
    /// The times of access and modification, in seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, Missing> {
        let flags = fields.u32()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(fields.u64()?);
        }
        if flags & OWNER != 0 {
            attributes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            attributes.mode = Some(fields.u32()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & EXTENDED != 0 {
            // None are defined, but they must be complete.
            for _ in 0..fields.u32()? {
                fields.string()?;
                fields.string()?;
            }
        }
        Ok(attributes)
    }

    pub(super) fn encode(&self, replies: &mut Replies) {
        let flag = |there: bool, flag: u32| if there { flag } else { 0 };
        replies.u32(
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.mode.is_some(), PERMISSIONS)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            replies.u64(size);
        }
        if let Some((user, group)) = self.owner {
            replies.u32(user);
            replies.u32(group);
        }
        if let Some(mode) = self.mode {
            replies.u32(mode);
        }
        if let Some((accessed, modified)) = self.times {
            replies.u32(accessed);
            replies.u32(modified);
        }
    }

    /// The permissions for creating a file or directory.
    pub(super) fn mode_or(&self, default: RawMode) -> Mode {
        Mode::from_raw_mode(self.mode.unwrap_or(default) & SETTABLE)
    }

    /// Sets the attributes that are present. All are tried, as in OpenSSH; the first failure is returned.
    pub(super) fn apply(&self, target: &Target<'_>) -> Result<(), Status> {
        let tried = [
            self.size.map(|size| target.set_size(size)),
            self.mode.map(|mode| target.set_mode(Mode::from_raw_mode(mode & SETTABLE))),
            self.times.map(|(accessed, modified)| target.set_times(accessed, modified)),
            self.owner.map(|(user, group)| target.set_owner(user, group)),
        ];
        tried.into_iter().flatten().collect::<Result<(), Errno>>().map_err(Status::from)
    }
}

impl From<&Stat> for Attributes {
    fn from(stat: &Stat) -> Self {
        Self {
            size: Some(u64::try_from(stat.st_size).unwrap_or(0)),
            owner: Some((stat.st_uid, stat.st_gid)),
            mode: Some(stat.st_mode),
            times: Some((seconds(stat.st_atime), seconds(stat.st_mtime))),
        }
    }
}

/// Converts a time. The protocol only covers the years 1970 to 2106; other times become the nearest of these.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

/// The file that attributes are set on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// The file at a path; symlinks are followed.
    Path(&'a [u8]),
    /// The file at a path; a symlink is not followed.
    Link(&'a [u8]),
    /// An open file.
    Open(BorrowedFd<'a>),
}

impl Target<'_> {
    fn set_size(&self, size: u64) -> Result<(), Errno> {
        match *self {
            Self::Path(path) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                ftruncate(open(path, flags, Mode::empty())?, size)
            }
            // The size of a symlink cannot be set.
            Self::Link(_) => Err(Errno::INVAL),
            Self::Open(fd) => ftruncate(fd, size),
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        match *self {
            Self::Path(path) => chmod(path, mode),
            Self::Link(path) => {
                // Older kernels have no system call for this: the file is opened, then addressed by its descriptor.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let pinned = open(path, flags, Mode::empty())?;
                if FileType::from_raw_mode(fstat(&pinned)?.st_mode) == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                chmod(format!("/proc/self/fd/{}", pinned.as_raw_fd()), mode)
            }
            Self::Open(fd) => fchmod(fd, mode),
        }
    }

    fn set_times(&self, accessed: u32, modified: u32) -> Result<(), Errno> {
        let at = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let times = Timestamps { last_access: at(accessed), last_modification: at(modified) };
        match *self {
            Self::Path(path) => utimensat(CWD, path, &times, AtFlags::empty()),
            Self::Link(path) => utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW),
            Self::Open(fd) => futimens(fd, &times),
        }
    }

    fn set_owner(&self, user: u32, group: u32) -> Result<(), Errno> {
        // -1 means not to change it.
        let user = (user != u32::MAX).then(|| Uid::from_raw(user));
        let group = (group != u32::MAX).then(|| Gid::from_raw(group));
        match *self {
            Self::Path(path) => chownat(CWD, path, user, group, AtFlags::empty()),
            Self::Link(path) => chownat(CWD, path, user, group, AtFlags::SYMLINK_NOFOLLOW),
            Self::Open(fd) => fchown(fd, user, group),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encoded_attributes_decode_to_the_same_values(
            size in any::<Option<u64>>(),
            owner in any::<Option<(u32, u32)>>(),
            mode in any::<Option<u32>>(),
            times in any::<Option<(u32, u32)>>(),
        ) {
            let attributes = Attributes { size, owner, mode, times };
            let mut replies = Replies::new();
            attributes.encode(&mut replies);
            prop_assert_eq!(Attributes::decode(&mut Fields(replies.bytes())), Ok(attributes));
            let (_, short) = replies.bytes().split_last().unwrap();
            prop_assert_eq!(Attributes::decode(&mut Fields(short)), Err(Missing));
        }
    }

    #[test]
    fn a_time_out_of_range_becomes_the_nearest_one() {
        assert_eq!(seconds(-1), 0);
        assert_eq!(seconds(1_700_000_000), 1_700_000_000);
        assert_eq!(seconds(i64::MAX), u32::MAX);
    }

    #[test]
    fn an_excessive_number_of_extended_attributes_is_an_error() {
        let mut bytes = EXTENDED.to_be_bytes().to_vec();
        bytes.extend(u32::MAX.to_be_bytes());
        assert_eq!(Attributes::decode(&mut Fields(&bytes)), Err(Missing));
    }
}
