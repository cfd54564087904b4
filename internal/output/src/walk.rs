//! A log as a sequence of events with their times, from which recordings and screens are made.

use std::collections::VecDeque;

use crate::marks::{Size, State};
use crate::reader::Piece;
use crate::{Error, Exit, Reader};

/// Largest number of bytes in one event.
const STEP_BYTES: usize = 64 << 10;

/// An event of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Bytes {
        offset: u64,
        bytes: Vec<u8>,
    },
    Epoch(u64),
    Resize(Size),
    Exit(Exit),
    /// This many bytes are missing.
    Gap(u64),
}

/// Walks through a part of a log.
#[derive(Debug)]
pub(crate) struct Walk<'r> {
    reader: &'r Reader,
    at: u64,
    to: u64,
    /// Whether `to` is the end of the log, so that marks at this offset belong to the part.
    to_end: bool,
    now: State,
    at_ms: u64,
    queued: VecDeque<(u64, Event)>,
    over: bool,
}

impl<'r> Walk<'r> {
    /// A walk from `from` up to the byte before `to`, as far as they are stored now. Output written later is not included.
    pub(crate) fn new(reader: &'r Reader, from: u64, to: u64) -> Result<Self, Error> {
        let (_, end) = reader.bounds()?;
        let (to, to_end) = (to.min(end), to >= end);
        let at = from.min(to);
        let first = reader.piece(at, 1)?;
        let (now, at_ms) = first.marks.at(first.start).unwrap_or_default();
        Ok(Self { reader, at, to, to_end, now, at_ms, queued: VecDeque::new(), over: false })
    }

    /// The state at the first byte and the time at which it arrived. Valid before the first step.
    pub(crate) fn first(&self) -> (State, u64) {
        (self.now, self.at_ms)
    }

    /// The next event and its time in milliseconds since 1970. `None` at the end.
    pub(crate) fn step(&mut self) -> Result<Option<(u64, Event)>, Error> {
        while self.queued.is_empty() && self.at < self.to && !self.over {
            let room = usize::try_from(self.to - self.at).unwrap_or(usize::MAX);
            let piece = self.reader.piece(self.at, room.min(STEP_BYTES))?;
            self.tell(piece);
        }
        Ok(self.queued.pop_front())
    }

    fn tell(&mut self, mut piece: Piece) {
        let start = piece.start.min(self.to);
        if start > self.at {
            self.queued.push_back((self.at_ms, Event::Gap(start - self.at)));
        }
        self.at = start;
        if start == self.to && !self.to_end {
            return;
        }
        let room = usize::try_from(self.to - start).unwrap_or(usize::MAX);
        piece.bytes.truncate(room);
        self.over = piece.bytes.is_empty();
        if let Some((state, at_ms)) = piece.marks.at(start) {
            self.change(state, at_ms);
        }
        let end = piece.end();
        let belongs = |offset: u64| offset < self.to || self.to_end;
        let marks =
            piece.marks.list.iter().filter(|mark| start < mark.offset && mark.offset <= end);
        let marks: Vec<_> = marks.filter(|mark| belongs(mark.offset)).copied().collect();
        let mut done = start;
        for mark in marks {
            self.bytes(&piece, done, mark.offset);
            done = mark.offset;
            let mut state = self.now;
            state.apply(&mark);
            self.change(state, mark.at_ms);
        }
        self.bytes(&piece, done, end);
        self.at = end;
    }

    fn bytes(&mut self, piece: &Piece, from: u64, to: u64) {
        let index = |offset: u64| usize::try_from(offset - piece.start).unwrap_or(usize::MAX);
        let bytes = &piece.bytes[index(from)..index(to)];
        if !bytes.is_empty() {
            let bytes = Event::Bytes { offset: from, bytes: bytes.to_vec() };
            self.queued.push_back((self.at_ms, bytes));
        }
    }

    fn change(&mut self, state: State, at_ms: u64) {
        let before = std::mem::replace(&mut self.now, state);
        self.at_ms = at_ms;
        if let Some(epoch) = state.epoch.filter(|_| state.epoch != before.epoch) {
            self.queued.push_back((at_ms, Event::Epoch(epoch)));
        }
        if let Some(size) = state.size.filter(|_| state.size != before.size) {
            self.queued.push_back((at_ms, Event::Resize(size)));
        }
        if let Some(exit) = state.exit.filter(|_| state.exit != before.exit) {
            self.queued.push_back((at_ms, Event::Exit(exit)));
        }
    }
}
