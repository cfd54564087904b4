//! Decodes the client's packets. Pure. A missing field is an error. Bytes after the last field are ignored, since later
//! versions of a request add fields at the end.

use crate::sftp::attributes::Attributes;

/// The bytes of the length before each packet.
pub(super) const LENGTH_BYTES: usize = 4;
/// The most file data in one packet, in bytes; the limit of OpenSSH's client.
pub(super) const MAX_DATA_BYTES: usize = 256 << 10;
/// The largest accepted packet, in bytes: the data with its handle, offset and other fields.
pub(super) const MAX_PACKET_BYTES: usize = MAX_DATA_BYTES + (1 << 10);

/// The kind of INIT. The kinds of requests are only used in [`request`].
const INIT: u8 = 1;

/// A packet from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// INIT, the first packet. Its version is ignored, since we only support version 3.
    Init,
    /// A request, which is answered with the same id.
    Request { id: u32, request: Request<'a> },
}

/// A packet with missing fields, and the id for the answer; 0 if the id is missing too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) id: u32,
}

/// The requests of version 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
        attributes: Attributes,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        n_bytes: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    Lstat {
        path: &'a [u8],
    },
    Fstat {
        handle: &'a [u8],
    },
    Setstat {
        path: &'a [u8],
        attributes: Attributes,
    },
    Fsetstat {
        handle: &'a [u8],
        attributes: Attributes,
    },
    Opendir {
        path: &'a [u8],
    },
    Readdir {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    Mkdir {
        path: &'a [u8],
        attributes: Attributes,
    },
    Rmdir {
        path: &'a [u8],
    },
    Realpath {
        path: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Readlink {
        path: &'a [u8],
    },
    /// In OpenSSH's order, which differs from the draft: first the target, then the path of the symlink.
    Symlink {
        target: &'a [u8],
        link: &'a [u8],
    },
    Extended(Extended<'a>),
    /// A request of another version.
    Unknown,
}

/// The requests of extensions; [`EXTENSIONS`] announces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extended<'a> {
    PosixRename { from: &'a [u8], to: &'a [u8] },
    Statvfs { path: &'a [u8] },
    Fstatvfs { handle: &'a [u8] },
    Hardlink { from: &'a [u8], to: &'a [u8] },
    Fsync { handle: &'a [u8] },
    Lsetstat { path: &'a [u8], attributes: Attributes },
    Limits,
    ExpandPath { path: &'a [u8] },
    CopyData(CopyData<'a>),
    HomeDirectory { user: &'a [u8] },
    UsersGroupsById { users: Vec<u32>, groups: Vec<u32> },
    Unknown,
}

/// A request to copy between two open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyData<'a> {
    pub(super) from: &'a [u8],
    pub(super) from_offset: u64,
    /// The number of bytes; 0 copies up to the end of the file.
    pub(super) n_bytes: u64,
    pub(super) to: &'a [u8],
    pub(super) to_offset: u64,
}

/// The names and versions of the extensions, as in OpenSSH's server.
pub(super) const EXTENSIONS: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// Decodes one packet, without its length.
pub(super) fn decode(packet: &[u8]) -> Result<Packet<'_>, Malformed> {
    let mut fields = Fields(packet);
    let Ok(kind) = fields.u8() else {
        return Err(Malformed { id: 0 });
    };
    let Ok(id) = fields.u32() else {
        return Err(Malformed { id: 0 });
    };
    if kind == INIT {
        return Ok(Packet::Init);
    }
    match request(kind, &mut fields) {
        Ok(request) => Ok(Packet::Request { id, request }),
        Err(Missing) => Err(Malformed { id }),
    }
}

fn request<'a>(kind: u8, fields: &mut Fields<'a>) -> Result<Request<'a>, Missing> {
    Ok(match kind {
        3 => Request::Open {
            path: fields.string()?,
            flags: fields.u32()?,
            attributes: Attributes::decode(fields)?,
        },
        4 => Request::Close { handle: fields.string()? },
        5 => Request::Read {
            handle: fields.string()?,
            offset: fields.u64()?,
            n_bytes: fields.u32()?,
        },
        6 => Request::Write {
            handle: fields.string()?,
            offset: fields.u64()?,
            data: fields.string()?,
        },
        7 => Request::Lstat { path: fields.string()? },
        8 => Request::Fstat { handle: fields.string()? },
        9 => Request::Setstat { path: fields.string()?, attributes: Attributes::decode(fields)? },
        10 => {
            Request::Fsetstat { handle: fields.string()?, attributes: Attributes::decode(fields)? }
        }
        11 => Request::Opendir { path: fields.string()? },
        12 => Request::Readdir { handle: fields.string()? },
        13 => Request::Remove { path: fields.string()? },
        14 => Request::Mkdir { path: fields.string()?, attributes: Attributes::decode(fields)? },
        15 => Request::Rmdir { path: fields.string()? },
        16 => Request::Realpath { path: fields.string()? },
        17 => Request::Stat { path: fields.string()? },
        18 => Request::Rename { from: fields.string()?, to: fields.string()? },
        19 => Request::Readlink { path: fields.string()? },
        20 => Request::Symlink { target: fields.string()?, link: fields.string()? },
        200 => Request::Extended(extended(fields)?),
        _ => Request::Unknown,
    })
}

fn extended<'a>(fields: &mut Fields<'a>) -> Result<Extended<'a>, Missing> {
    Ok(match fields.string()? {
        b"posix-rename@openssh.com" => {
            Extended::PosixRename { from: fields.string()?, to: fields.string()? }
        }
        b"statvfs@openssh.com" => Extended::Statvfs { path: fields.string()? },
        b"fstatvfs@openssh.com" => Extended::Fstatvfs { handle: fields.string()? },
        b"hardlink@openssh.com" => {
            Extended::Hardlink { from: fields.string()?, to: fields.string()? }
        }
        b"fsync@openssh.com" => Extended::Fsync { handle: fields.string()? },
        b"lsetstat@openssh.com" => {
            Extended::Lsetstat { path: fields.string()?, attributes: Attributes::decode(fields)? }
        }
        b"limits@openssh.com" => Extended::Limits,
        b"expand-path@openssh.com" => Extended::ExpandPath { path: fields.string()? },
        b"copy-data" => Extended::CopyData(CopyData {
            from: fields.string()?,
            from_offset: fields.u64()?,
            n_bytes: fields.u64()?,
            to: fields.string()?,
            to_offset: fields.u64()?,
        }),
        b"home-directory" => Extended::HomeDirectory { user: fields.string()? },
        b"users-groups-by-id@openssh.com" => Extended::UsersGroupsById {
            users: numbers(fields.string()?)?,
            groups: numbers(fields.string()?)?,
        },
        _ => Extended::Unknown,
    })
}

fn numbers(bytes: &[u8]) -> Result<Vec<u32>, Missing> {
    let mut fields = Fields(bytes);
    let mut numbers = Vec::with_capacity(bytes.len() / 4);
    while !fields.0.is_empty() {
        numbers.push(fields.u32()?);
    }
    Ok(numbers)
}

/// A field is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing;

/// The rest of a packet, from which fields are read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Missing> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(Missing)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn u8(&mut self) -> Result<u8, Missing> {
        self.chunk().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Missing> {
        self.chunk().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Missing> {
        self.chunk().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Missing> {
        let n_bytes = self.u32()? as usize;
        let (string, rest) = self.0.split_at_checked(n_bytes).ok_or(Missing)?;
        self.0 = rest;
        Ok(string)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet whose fields are strings, as in most requests.
    fn strings(kind: u8, id: u32, strings: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![kind];
        packet.extend(id.to_be_bytes());
        for string in strings {
            packet.extend(u32::try_from(string.len()).unwrap().to_be_bytes());
            packet.extend(*string);
        }
        packet
    }

    #[test]
    fn a_string_longer_than_its_packet_is_malformed() {
        let mut packet = strings(7, 5, &[b"name"]);
        packet[5..9].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(decode(&packet), Err(Malformed { id: 5 }));
        assert_eq!(decode(&packet[..4]), Err(Malformed { id: 0 }));
        assert_eq!(decode(&[]), Err(Malformed { id: 0 }));
    }

    #[test]
    fn every_announced_extension_is_decoded() {
        for (name, _) in EXTENSIONS {
            let packet = strings(200, 1, &[name.as_bytes()]);
            let unknown = Request::Extended(Extended::Unknown);
            assert_ne!(decode(&packet), Ok(Packet::Request { id: 1, request: unknown }));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(packet in prop::collection::vec(any::<u8>(), 0..300)) {
            decode(&packet).ok();
        }

        #[test]
        fn no_fields_make_the_decoder_panic(
            kind in prop_oneof![1_u8..=21, Just(200)],
            name in prop::sample::select(EXTENSIONS.to_vec()),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut packet = if kind == 200 {
                strings(kind, 9, &[name.0.as_bytes()])
            } else {
                strings(kind, 9, &[b"x"])
            };
            packet.extend(rest);
            match decode(&packet) {
                Ok(Packet::Request { id, .. }) | Err(Malformed { id }) => prop_assert_eq!(id, 9),
                Ok(Packet::Init) => prop_assert_eq!(kind, INIT),
            }
        }

        #[test]
        fn names_may_be_any_bytes(
            from in prop::collection::vec(any::<u8>(), 0..80),
            to in prop::collection::vec(any::<u8>(), 0..80),
            id in any::<u32>(),
        ) {
            let packet = strings(18, id, &[&from, &to]);
            let request = Request::Rename { from: &from, to: &to };
            prop_assert_eq!(decode(&packet), Ok(Packet::Request { id, request }));
            prop_assert_eq!(decode(&packet[..packet.len() - 1]).is_err(), true);
        }
    }
}
