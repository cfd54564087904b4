//! Reads the home of an image's user from the tar archive that Docker sends of `/etc/passwd`. Pure.

use shed_api::{DEFAULT_HOME, can_be_home};

/// The uid sessions run as.
const DEV_UID: u32 = 1000;
/// The largest user database that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Block size of a tar archive, in bytes.
const BLOCK: usize = 512;

/// The content of an archive of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A regular file, with its bytes.
    File(Vec<u8>),
    /// A symbolic link, with its target.
    Link(String),
    /// Any other kind, such as a directory.
    Other,
}

/// The first entry of a tar archive, past the headers that only describe it.
pub(crate) fn first_entry(archive: &[u8]) -> Option<Entry> {
    let mut rest = archive;
    loop {
        let header = rest.get(..BLOCK)?;
        let size = octal(&header[124..136])?;
        let body = rest.get(BLOCK..)?;
        match header[156] {
            0 | b'0' => return Some(Entry::File(body.get(..size)?.to_vec())),
            b'2' => return Some(Entry::Link(text(&header[157..257]))),
            b'x' | b'g' => rest = body.get(size.div_ceil(BLOCK) * BLOCK..)?,
            _ => return Some(Entry::Other),
        }
    }
}

fn octal(field: &[u8]) -> Option<usize> {
    usize::from_str_radix(text(field).trim(), 8).ok()
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// The absolute path of the target of a link in `/etc`.
pub(crate) fn follow(link: &str) -> String {
    if link.starts_with('/') { link.to_owned() } else { format!("/etc/{link}") }
}

/// The home of the user with uid 1000, or the home that shed-init will give that user. Parses as shed-init does.
pub(crate) fn home(passwd: &str) -> String {
    let of_dev = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, uid, gid, _, home, _] = fields.as_slice() else {
            return None;
        };
        let (uid, _) = (uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?);
        (uid == DEV_UID).then_some(*home)
    });
    of_dev.filter(|home| can_be_home(home)).unwrap_or(DEFAULT_HOME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u8, link: &str, bytes: &[u8]) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..6].copy_from_slice(b"passwd");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.extend(bytes);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        header
    }

    #[test]
    fn the_file_is_found_after_its_extended_header() {
        let archive = [entry(b'x', "", b"20 mtime=1\n"), entry(b'0', "", b"hello")].concat();
        assert_eq!(first_entry(&archive), Some(Entry::File(b"hello".to_vec())));
        let link = entry(b'2', "../nix/passwd", b"");
        assert_eq!(first_entry(&link), Some(Entry::Link("../nix/passwd".to_owned())));
        assert_eq!(first_entry(&entry(b'5', "", b"")), Some(Entry::Other));
        assert_eq!(first_entry(&archive[..100]), None);
        assert_eq!(first_entry(&entry(b'0', "", &[7; 600])[..BLOCK + 100]), None);
        assert_eq!(follow("../nix/passwd"), "/etc/../nix/passwd");
    }

    #[test]
    fn the_home_is_that_of_uid_1000_unless_no_volume_can_be_mounted_there() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# odd\nnode:x:1000:1000::/home/node:/bin/sh\n";
        assert_eq!(home(passwd), "/home/node");
        assert_eq!(home(""), DEFAULT_HOME);
        for bad in ["", "/", "/run", "/workspace", "relative"] {
            assert_eq!(home(&format!("node:x:1000:1000::{bad}:/bin/sh")), DEFAULT_HOME, "{bad}");
        }
    }
}
