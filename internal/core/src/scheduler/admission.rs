//! How many sessions may run at once, on the server and in a shed. Who has no place waits in line; nobody is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// The limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// On the whole server.
    pub server: Option<u32>,
    /// In each shed.
    pub shed: Option<u32>,
}

/// Places and the line for them. Decides, and knows nothing else. Pure.
#[derive(Debug, Default)]
struct Line {
    limits: Concurrency,
    /// Who has a place: session ids by shed.
    placed: BTreeMap<String, BTreeSet<String>>,
    /// Who waits, oldest first.
    waiting: BTreeSet<(DateTime<Utc>, String, String)>,
}

impl Line {
    fn n_placed(&self) -> usize {
        self.placed.values().map(BTreeSet::len).sum()
    }

    fn has_room(&self, shed: &str) -> bool {
        let fits = |n: usize, limit: Option<u32>| {
            limit.is_none_or(|limit| n < usize::try_from(limit).unwrap_or(usize::MAX))
        };
        let in_shed = self.placed.get(shed).map_or(0, BTreeSet::len);
        fits(self.n_placed(), self.limits.server) && fits(in_shed, self.limits.shed)
    }

    /// Whether it is the turn of this one: there is room, and nobody older could take it.
    fn is_turn(&self, shed: &str, id: &str) -> bool {
        let first = self.waiting.iter().find(|(_, _, shed)| self.has_room(shed));
        first.is_some_and(|(_, known, of)| known == id && of == shed)
    }

    fn place(&mut self, shed: &str, id: &str) {
        self.waiting.retain(|(_, known, _)| known != id);
        self.placed.entry(shed.to_owned()).or_default().insert(id.to_owned());
    }

    /// Whether anything changed.
    fn leave(&mut self, shed: &str, id: &str) -> bool {
        let n_waiting = self.waiting.len();
        self.waiting.retain(|(_, known, _)| known != id);
        let placed = self.placed.get_mut(shed).is_some_and(|placed| placed.remove(id));
        placed || self.waiting.len() != n_waiting
    }
}

/// The places of a server. Clones are the same. The lock is held for single looks.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    line: Arc<Mutex<Line>>,
    /// Moves whenever a place may have become free.
    bell: Arc<watch::Sender<u64>>,
}

impl Slots {
    pub(crate) fn new(limits: Concurrency) -> Self {
        let line = Line { limits, ..Line::default() };
        Self { line: Arc::new(Mutex::new(line)), bell: Arc::new(watch::Sender::new(0)) }
    }

    /// Moves whenever it may be somebody's turn.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Takes a place, or a place in the line. Whether there was a place.
    pub(crate) fn enter(&self, shed: &str, id: &str, since: DateTime<Utc>) -> bool {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.waiting.insert((since, id.to_owned(), shed.to_owned()));
        let turn = line.is_turn(shed, id);
        if turn {
            line.place(shed, id);
        }
        turn
    }

    /// Takes a place whatever the limits say: it ran before they were asked.
    pub(crate) fn keep(&self, shed: &str, id: &str) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).place(shed, id);
    }

    /// Gives up a place, or the place in the line.
    pub(crate) fn leave(&self, shed: &str, id: &str) {
        let left = self.line.lock().unwrap_or_else(PoisonError::into_inner).leave(shed, id);
        if left {
            self.bell.send_modify(|generation| *generation += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_oldest_that_fits_is_next() {
        let slots = Slots::new(Concurrency { server: Some(2), shed: Some(1) });
        assert!(slots.enter("a", "1", at(1)));
        assert!(!slots.enter("a", "2", at(2)), "its shed is full");
        assert!(slots.enter("b", "3", at(3)), "nobody older fits");
        assert!(!slots.enter("b", "4", at(4)));
        assert!(!slots.enter("c", "5", at(5)), "the server is full");
        slots.leave("b", "3");
        // There is room in b and c; the older one is 4.
        assert!(!slots.enter("c", "5", at(5)));
        assert!(slots.enter("b", "4", at(4)));
        slots.leave("a", "1");
        assert!(!slots.enter("c", "5", at(5)), "2 is older and fits now");
        assert!(slots.enter("a", "2", at(2)));
    }

    #[test]
    fn who_leaves_the_line_is_not_waited_for() {
        let slots = Slots::new(Concurrency { server: Some(1), shed: None });
        slots.keep("a", "0");
        slots.keep("a", "1");
        assert!(!slots.enter("a", "2", at(2)));
        assert!(!slots.enter("a", "3", at(3)));
        slots.leave("a", "2");
        slots.leave("a", "0");
        assert!(!slots.enter("a", "3", at(3)), "one is still there");
        let mut bell = slots.bell();
        bell.mark_unchanged();
        slots.leave("a", "1");
        assert!(bell.has_changed().unwrap());
        assert!(slots.enter("a", "3", at(3)));
        slots.leave("a", "unknown");
    }
}
