//! Images that are sent to a worker: which are accepted, and their path in the shed. Pure.

/// The largest image in bytes: what agents accept.
pub(crate) const MAX_IMAGE_BYTES: usize = 10 << 20;
/// The directory for images in the shed.
pub(crate) const DIR: &str = "/tmp/shed-images";

/// The media type and file suffix of an image, by its first bytes.
pub(crate) fn kind(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(("image/png", "png"))
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some(("image/jpeg", "jpg"))
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(("image/gif", "gif"))
    } else if is_webp {
        Some(("image/webp", "webp"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_what_it_begins_with() {
        assert_eq!(kind(b"\x89PNG\r\n\x1a\n....").unwrap().1, "png");
        assert_eq!(kind(b"\xff\xd8\xff\xe0").unwrap().0, "image/jpeg");
        assert_eq!(kind(b"GIF89a").unwrap().1, "gif");
        assert_eq!(kind(b"RIFF\0\0\0\0WEBPVP8 ").unwrap().1, "webp");
        for no in [&b""[..], b"RIFF", b"RIFF\0\0\0\0WAVE", b"#!/bin/sh", b"<svg>", b"\x89PNG"] {
            assert_eq!(kind(no), None);
        }
    }
}
