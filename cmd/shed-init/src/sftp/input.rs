//! The input buffer, which splits received bytes into packets without copying them. It does not read itself.

use crate::sftp::Ending;
use crate::sftp::wire::{LENGTH_BYTES, MAX_PACKET_BYTES};

/// Three times the largest packet, so that an incomplete packet rarely has to be moved.
const BUFFER_BYTES: usize = 3 * (LENGTH_BYTES + MAX_PACKET_BYTES);

/// The buffer. The bytes between `start` and `end` are received and not consumed yet.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Consumes the next packet, without its length; `None` if it is incomplete.
    pub(super) fn packet(&mut self) -> Result<Option<&[u8]>, Ending> {
        let arrived = &self.buffer[self.start..self.end];
        let Some((length, rest)) = arrived.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let n_bytes = u32::from_be_bytes(*length) as usize;
        if n_bytes > MAX_PACKET_BYTES {
            return Err(Ending::TooLarge { n_bytes });
        }
        let Some(packet) = rest.get(..n_bytes) else {
            return Ok(None);
        };
        self.start += LENGTH_BYTES + n_bytes;
        Ok(Some(packet))
    }

    /// The free part of the buffer. It is not empty after [`Input::packet`] returned `None`, since the largest packet fits.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < LENGTH_BYTES + MAX_PACKET_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Records that the first `n_bytes` of the free part were filled.
    pub(super) fn add(&mut self, n_bytes: usize) {
        self.end += n_bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `stream` in pieces of the given sizes and returns the packets.
    fn split(mut stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, Ending> {
        let mut input = Input::new();
        let mut packets = Vec::new();
        let mut sizes = pieces.iter().cycle();
        while !stream.is_empty() {
            let room = input.room();
            let n_bytes = (*sizes.next().unwrap()).min(stream.len()).min(room.len());
            room[..n_bytes].copy_from_slice(&stream[..n_bytes]);
            input.add(n_bytes);
            stream = &stream[n_bytes..];
            while let Some(packet) = input.packet()? {
                packets.push(packet.to_vec());
            }
        }
        Ok(packets)
    }

    fn framed(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for packet in packets {
            stream.extend(u32::try_from(packet.len()).unwrap().to_be_bytes());
            stream.extend(packet);
        }
        stream
    }

    #[test]
    fn the_largest_packets_pass_and_one_more_byte_is_an_error() {
        let packets = vec![vec![7; MAX_PACKET_BYTES]; 5];
        assert_eq!(split(&framed(&packets), &[65_536]).unwrap(), packets);
        let longer = vec![vec![7; MAX_PACKET_BYTES + 1]];
        let ending = Ending::TooLarge { n_bytes: MAX_PACKET_BYTES + 1 };
        // It is refused by its length alone.
        assert_eq!(split(&framed(&longer)[..LENGTH_BYTES], &[1]), Err(ending));
    }

    proptest! {
        #[test]
        fn packets_are_complete_however_they_are_split(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            pieces in prop::collection::vec(1_usize..400, 1..8),
        ) {
            prop_assert_eq!(split(&framed(&packets), &pieces).unwrap(), packets);
        }
    }
}
