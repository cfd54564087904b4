//! A log told as a story: what came, when, and what changed in between. Recordings and the screen are made from it.

use std::collections::VecDeque;

use crate::marks::{Size, State};
use crate::reader::Piece;
use crate::{Error, Exit, Reader};

/// Bytes that are told at once.
const STEP_BYTES: usize = 64 << 10;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Bytes {
        offset: u64,
        bytes: Vec<u8>,
    },
    Epoch(u64),
    Resize(Size),
    Exit(Exit),
    /// So many bytes are missing here.
    Gap(u64),
}

/// Walks through a part of a log.
#[derive(Debug)]
pub(crate) struct Walk<'r> {
    reader: &'r Reader,
    at: u64,
    to: u64,
    /// Nothing followed `to`, so what was marked there belongs to the part.
    to_end: bool,
    now: State,
    at_ms: u64,
    told: VecDeque<(u64, Event)>,
    over: bool,
}

impl<'r> Walk<'r> {
    /// From `from` up to the byte before `to`, as far as they are there now: a walk does not follow what is written
    /// meanwhile.
    pub(crate) fn new(reader: &'r Reader, from: u64, to: u64) -> Result<Self, Error> {
        let (_, end) = reader.bounds()?;
        let (to, to_end) = (to.min(end), to >= end);
        let at = from.min(to);
        let first = reader.piece(at, 1)?;
        let (now, at_ms) = first.marks.at(first.start).unwrap_or_default();
        Ok(Self { reader, at, to, to_end, now, at_ms, told: VecDeque::new(), over: false })
    }

    /// How things stand at the first byte, and when it came. Valid before the first step.
    pub(crate) fn first(&self) -> (State, u64) {
        (self.now, self.at_ms)
    }

    /// The next thing, and its time in milliseconds since 1970. `None` at the end.
    pub(crate) fn step(&mut self) -> Result<Option<(u64, Event)>, Error> {
        while self.told.is_empty() && self.at < self.to && !self.over {
            let room = usize::try_from(self.to - self.at).unwrap_or(usize::MAX);
            let piece = self.reader.piece(self.at, room.min(STEP_BYTES))?;
            self.tell(piece);
        }
        Ok(self.told.pop_front())
    }

    fn tell(&mut self, mut piece: Piece) {
        let start = piece.start.min(self.to);
        if start > self.at {
            self.told.push_back((self.at_ms, Event::Gap(start - self.at)));
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
            self.told.push_back((self.at_ms, bytes));
        }
    }

    fn change(&mut self, state: State, at_ms: u64) {
        let before = std::mem::replace(&mut self.now, state);
        self.at_ms = at_ms;
        if let Some(epoch) = state.epoch.filter(|_| state.epoch != before.epoch) {
            self.told.push_back((at_ms, Event::Epoch(epoch)));
        }
        if let Some(size) = state.size.filter(|_| state.size != before.size) {
            self.told.push_back((at_ms, Event::Resize(size)));
        }
        if let Some(exit) = state.exit.filter(|_| state.exit != before.exit) {
            self.told.push_back((at_ms, Event::Exit(exit)));
        }
    }
}
