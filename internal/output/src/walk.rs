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
    now: State,
    at_ms: u64,
    told: VecDeque<(u64, Event)>,
    over: bool,
}

impl<'r> Walk<'r> {
    /// From `from` up to the byte before `to`, as far as they are there.
    pub(crate) fn new(reader: &'r Reader, from: u64, to: u64) -> Result<Self, Error> {
        let first = reader.piece(from, 1)?;
        let (now, at_ms) = first.marks.at(first.start).unwrap_or_default();
        let at = from.min(first.end());
        Ok(Self { reader, at, to, now, at_ms, told: VecDeque::new(), over: false })
    }

    /// How things stand at the first byte, and when it came. Valid before the first step.
    pub(crate) fn first(&self) -> (State, u64) {
        (self.now, self.at_ms)
    }

    /// The next thing, and its time in milliseconds since 1970. `None` at the end.
    pub(crate) fn step(&mut self) -> Result<Option<(u64, Event)>, Error> {
        while self.told.is_empty() && !self.over {
            let room = usize::try_from(self.to.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let piece = self.reader.piece(self.at, room.clamp(1, STEP_BYTES))?;
            self.tell(piece);
        }
        Ok(self.told.pop_front())
    }

    fn tell(&mut self, mut piece: Piece) {
        let beyond = piece.start >= self.to;
        if beyond && self.at >= self.to && !piece.bytes.is_empty() {
            // What was changed behind the last byte asked for belongs to bytes not asked for.
            self.over = true;
            return;
        }
        let missing = piece.start.min(self.to).saturating_sub(self.at);
        if missing > 0 {
            self.told.push_back((self.at_ms, Event::Gap(missing)));
        }
        if beyond && !piece.bytes.is_empty() {
            self.over = true;
            return;
        }
        let room = usize::try_from(self.to.saturating_sub(piece.start)).unwrap_or(usize::MAX);
        piece.bytes.truncate(room);
        self.over = piece.bytes.is_empty();
        if let Some((state, at_ms)) = piece.marks.at(piece.start) {
            self.change(state, at_ms);
        }
        let (start, end) = (piece.start, piece.end());
        let mut done = start;
        let inside =
            piece.marks.list.iter().filter(|mark| start < mark.offset && mark.offset < end);
        for mark in inside {
            self.bytes(&piece, done, mark.offset);
            done = mark.offset;
            let mut state = self.now;
            state.apply(mark);
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
