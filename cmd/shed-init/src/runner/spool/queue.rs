//! Records that wait in memory for the disk. Pure.

use std::collections::VecDeque;

use super::credit::Credit;
use crate::spool_record::{Body, HEADER_BYTES, MAX_PAYLOAD_BYTES, encode, output_header};

/// What a waiting record costs in addition to its bytes. It bounds the memory that many tiny records take.
const RECORD_COST: usize = 64;
/// Output that follows earlier output within this many milliseconds is merged into one record, with the time of the first.
const MERGE_MS: u64 = 20;
/// The most changes of size that may wait.
const MAX_WAITING_RECORDS: usize = 4 << 10;
/// The most buffers that are kept for further records. Freeing them in another thread than the one that allocated them
/// fragments the heap.
const MAX_SPARE_BUFFERS: usize = 24;

/// A record that waits for the disk.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Output: space for the header, which is filled in by [`Queue::take`], then the printed bytes.
    Output { at_ms: u64, record: Vec<u8> },
    /// A change of the terminal's size.
    Size(Vec<u8>),
    /// Any other record.
    Other(Vec<u8>),
}

impl Waiting {
    /// The encoded record.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Output { record, .. } | Self::Size(record) | Self::Other(record) => record,
        }
    }

    /// The number of bytes of output in it.
    fn n_output(&self) -> usize {
        match self {
            Self::Output { record, .. } => record.len() - HEADER_BYTES,
            Self::Size(_) | Self::Other(_) => 0,
        }
    }

    /// What it takes of the queue's limit.
    pub(super) fn cost(&self) -> usize {
        self.bytes().len() + RECORD_COST
    }
}

/// The waiting records and the state of the writing thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    records: VecDeque<Waiting>,
    /// The cost of the records, including the one that is being written.
    pub(super) cost: usize,
    /// Bytes of output that were dropped before the first record.
    lost: u64,
    /// Buffers of written records.
    pub(super) spare: Vec<Vec<u8>>,
    /// How long the runner may wait for the disk.
    pub(super) credit: Credit,
    /// The thread waits for records.
    pub(super) is_idle: bool,
    /// The last write failed.
    pub(super) is_failing: bool,
    /// No more records will come.
    pub(super) is_closed: bool,
    /// Everything is written and the thread has ended.
    pub(super) is_done: bool,
}

impl Queue {
    /// Appends output.
    pub(super) fn push_output(&mut self, at_ms: u64, mut bytes: &[u8]) {
        if let Some(Waiting::Output { at_ms: since, record }) = self.records.back_mut()
            && at_ms.saturating_sub(*since) <= MERGE_MS
        {
            let room = MAX_PAYLOAD_BYTES - (record.len() - HEADER_BYTES);
            let (fits, rest) = bytes.split_at(bytes.len().min(room));
            record.extend_from_slice(fits);
            self.cost += fits.len();
            bytes = rest;
        }
        for chunk in bytes.chunks(MAX_PAYLOAD_BYTES) {
            let mut record = self.spare.pop().unwrap_or_default();
            record.extend_from_slice(&[0; HEADER_BYTES]);
            record.extend_from_slice(chunk);
            self.push(Waiting::Output { at_ms, record });
        }
    }

    /// Appends a record.
    pub(super) fn push(&mut self, record: Waiting) {
        self.cost += record.cost();
        self.records.push_back(record);
    }

    /// Appends a change of size.
    pub(super) fn push_size(&mut self, record: Vec<u8>) {
        let newest = self.records.iter().rposition(|it| matches!(it, Waiting::Size(_)));
        match newest {
            // Replaces the last change if nothing was printed since, or if too many wait.
            Some(at)
                if at + 1 == self.records.len() || self.records.len() >= MAX_WAITING_RECORDS =>
            {
                self.records[at] = Waiting::Size(record);
            }
            _ => self.push(Waiting::Size(record)),
        }
    }

    /// Keeps the buffer of a written record for further ones.
    pub(super) fn recycle(&mut self, record: Waiting) {
        if let Waiting::Output { mut record, .. } = record
            && self.spare.len() < MAX_SPARE_BUFFERS
        {
            record.clear();
            self.spare.push(record);
        }
    }

    /// Drops the oldest output until the cost of the records is at most `limit`.
    pub(super) fn drop_oldest(&mut self, limit: usize) {
        while self.cost > limit {
            let oldest = self.records.iter().position(|it| matches!(it, Waiting::Output { .. }));
            let Some(record) = oldest.and_then(|at| self.records.remove(at)) else {
                return;
            };
            self.cost -= record.cost();
            self.lost += record.n_output() as u64;
            self.recycle(record);
        }
    }

    /// Takes the next record to write and the number of bytes by which it advances the offset. Its cost counts until the
    /// caller has written it. `now_ms` is the time of a gap.
    pub(super) fn take(&mut self, now_ms: u64) -> Option<(Waiting, u64)> {
        if self.lost > 0 {
            let n_lost = std::mem::take(&mut self.lost);
            let gap = Waiting::Other(encode(now_ms, &Body::Gap(n_lost)));
            self.cost += gap.cost();
            return Some((gap, n_lost));
        }
        let mut record = self.records.pop_front()?;
        let n_output = record.n_output();
        if let Waiting::Output { at_ms, record } = &mut record {
            record[..HEADER_BYTES].copy_from_slice(&output_header(*at_ms, n_output));
        }
        Some((record, n_output as u64))
    }

    /// Puts back a record that could not be written.
    pub(super) fn put_back(&mut self, record: Waiting, n_output: u64, limit: usize) {
        if record.n_output() as u64 == n_output {
            self.records.push_front(record);
        } else {
            // It is a gap, which `take` makes again.
            self.cost -= record.cost();
            self.lost += n_output;
        }
        self.drop_oldest(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(queue: &mut Queue) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| queue.take(0)).map(|(record, n)| (n, record.bytes().len())).collect()
    }

    #[test]
    fn output_of_one_moment_becomes_one_record_and_a_large_write_several() {
        let mut queue = Queue::default();
        queue.push_output(0, b"ab");
        queue.push_output(MERGE_MS, b"c");
        queue.push_output(MERGE_MS + 1, &vec![b'd'; MAX_PAYLOAD_BYTES + 1]);
        let sizes: Vec<u64> = output(&mut queue).into_iter().map(|(n, _)| n).collect();
        assert_eq!(sizes, [3, MAX_PAYLOAD_BYTES as u64, 1]);
    }

    #[test]
    fn dropped_output_is_counted_by_a_gap_and_other_records_stay() {
        let mut queue = Queue::default();
        queue.push_output(0, b"lost");
        queue.push(Waiting::Other(encode(0, &Body::Started(1))));
        queue.push_output(MERGE_MS + 1, b"too");
        queue.drop_oldest(0);
        let (gap, n_lost) = queue.take(0).unwrap();
        assert_eq!((gap.bytes(), n_lost), (encode(0, &Body::Gap(7)).as_slice(), 7));
        queue.put_back(gap, n_lost, usize::MAX);
        let (gap, n_lost) = queue.take(5).unwrap();
        assert_eq!((gap.bytes(), n_lost), (encode(5, &Body::Gap(7)).as_slice(), 7));
        assert_eq!(queue.take(0).unwrap().0.bytes(), encode(0, &Body::Started(1)));
        assert!(queue.take(0).is_none());
    }

    #[test]
    fn a_size_replaces_the_one_before_it_unless_there_was_output_in_between() {
        let size = |cols| encode(0, &Body::Resize(cols, 1));
        let mut queue = Queue::default();
        queue.push_size(size(1));
        queue.push_size(size(2));
        queue.push_output(0, b"x");
        queue.push_size(size(3));
        let records: Vec<Vec<u8>> = std::iter::from_fn(|| queue.take(0))
            .map(|(record, _)| record.bytes().to_vec())
            .collect();
        assert_eq!((records.len(), &records[0], &records[2]), (3, &size(2), &size(3)));
    }
}
