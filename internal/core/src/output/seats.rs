//! Who watches a worker, whose size counts, and what is done about it. Pure.
//!
//! ```text
//!   first driver enters ──▶ primary ──leaves──▶ the next driver by arrival
//!                              ▲
//!   `primary` of another ──────┘        a page that is loaded again keeps its place for a moment
//! ```

use shed_output::{MAX_COLS, MAX_ROWS};
use tokio::time::Instant;

use std::time::Duration;

/// How long a named viewer's place is kept after it left: a page that is loaded again closes before it opens, and must not
/// give its size to another tab in between.
pub(crate) const RELOAD_GRACE: Duration = Duration::from_secs(3);
/// Viewers of one worker at once. A crowd of people has a few tabs each.
pub(crate) const MAX_SEATS: usize = 256;
/// The least size: what an agent's screen can be drawn in at all.
const MIN_SIZE: Size = Size { cols: 10, rows: 3 };

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) cols: u16,
    pub(crate) rows: u16,
}

impl Size {
    /// A size within what terminals here can have.
    pub(crate) fn new(cols: u16, rows: u16) -> Self {
        let (cols, rows) =
            (cols.clamp(MIN_SIZE.cols, MAX_COLS), rows.clamp(MIN_SIZE.rows, MAX_ROWS));
        Self { cols, rows }
    }
}

/// A viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seat {
    /// Of the connection.
    id: u64,
    /// What the client calls itself, over its connections.
    name: Option<String>,
    /// Whether its size may count.
    drives: bool,
    size: Option<Size>,
    /// When its connection ended.
    left_at: Option<Instant>,
}

/// The viewers of one worker, by arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    next_id: u64,
    places: Vec<Seat>,
    primary: Option<u64>,
}

impl Seats {
    /// Takes a place; its id, or `None` if there is none left.
    pub(crate) fn enter(
        &mut self,
        name: Option<String>,
        drives: bool,
        size: Option<Size>,
    ) -> Option<u64> {
        if self.n_here() >= MAX_SEATS {
            return None;
        }
        self.next_id += 1;
        let id = self.next_id;
        let before = self.places.iter().position(|seat| seat.name.is_some() && seat.name == name);
        let mut seat = Seat { id, name, drives, size, left_at: None };
        match before {
            Some(index) => {
                // The same page again: its place is its own, whichever of its connections ends first.
                seat.size = size.or(self.places[index].size);
                let mut old = std::mem::replace(&mut self.places[index], seat);
                if self.primary == Some(old.id) {
                    self.primary = drives.then_some(id);
                }
                if old.left_at.is_none() {
                    old.name = None;
                    self.places.push(old);
                }
            }
            None => self.places.push(seat),
        }
        self.settle();
        Some(id)
    }

    /// A connection ended.
    pub(crate) fn leave(&mut self, id: u64, now: Instant) {
        let is_primary = self.primary == Some(id);
        if let Some(seat) = self.places.iter_mut().find(|seat| seat.id == id) {
            if seat.name.is_some() && is_primary {
                seat.left_at = Some(now);
            } else {
                self.places.retain(|seat| seat.id != id);
            }
        }
        self.settle();
    }

    /// Gives up the places of those who did not come back. When the next is given up.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.places.retain(|seat| seat.left_at.is_none_or(|at| now < at + RELOAD_GRACE));
        self.settle();
        self.places.iter().filter_map(|seat| seat.left_at).min().map(|at| at + RELOAD_GRACE)
    }

    /// A viewer has this size now.
    pub(crate) fn resize(&mut self, id: u64, size: Size) {
        if let Some(seat) = self.places.iter_mut().find(|seat| seat.id == id) {
            seat.size = Some(size);
        }
    }

    /// A viewer wants to be the one whose size counts. One that may only look does not become it.
    pub(crate) fn claim(&mut self, id: u64) {
        if self.places.iter().any(|seat| seat.id == id && seat.drives) {
            self.primary = Some(id);
            self.places.retain(|seat| seat.left_at.is_none());
        }
    }

    /// Whether this one's size counts.
    pub(crate) fn is_primary(&self, id: u64) -> bool {
        self.primary == Some(id)
    }

    /// The size of the one whose size counts, once it has said it.
    pub(crate) fn size(&self) -> Option<Size> {
        let primary = self.primary?;
        self.places.iter().find(|seat| seat.id == primary)?.size
    }

    /// How many are connected.
    pub(crate) fn n_here(&self) -> usize {
        self.places.iter().filter(|seat| seat.left_at.is_none()).count()
    }

    /// How many places are taken, those that are kept for somebody included.
    pub(crate) fn n_kept(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody is here or expected back.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// There is always a primary while somebody drives.
    fn settle(&mut self) {
        let is_there = self.places.iter().any(|seat| Some(seat.id) == self.primary);
        if !is_there {
            let mut drivers =
                self.places.iter().filter(|seat| seat.drives && seat.left_at.is_none());
            self.primary = drivers.next().map(|seat| seat.id);
        }
    }
}

/// What a window was last given, by us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// The window.
    pub(crate) window: String,
    /// Its size; `None` while clients of tmux decide.
    pub(crate) size: Option<Size>,
}

/// The size to give to a window now, if any. While a client of tmux is attached it is theirs; when the last is gone, the
/// primary's counts again.
pub(crate) fn to_give(
    wanted: Option<Size>,
    n_attached: u32,
    window: &str,
    given: &mut Given,
) -> Option<Size> {
    if given.window != window || n_attached > 0 {
        *given = Given { window: window.to_owned(), size: None };
    }
    wanted.filter(|size| n_attached == 0 && given.size != Some(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { cols: 80, rows: 24 };
    const LARGE: Size = Size { cols: 200, rows: 50 };

    #[test]
    fn the_first_driver_counts_and_then_the_next() {
        let mut seats = Seats::default();
        let now = Instant::now();
        let reader = seats.enter(None, false, Some(LARGE)).unwrap();
        assert_eq!(seats.size(), None);
        let first = seats.enter(None, true, Some(SMALL)).unwrap();
        let second = seats.enter(None, true, Some(LARGE)).unwrap();
        assert!(seats.is_primary(first) && !seats.is_primary(second));
        assert_eq!(seats.size(), Some(SMALL));
        seats.claim(reader);
        assert!(seats.is_primary(first));
        seats.claim(second);
        assert_eq!(seats.size(), Some(LARGE));
        seats.leave(second, now);
        assert_eq!(seats.size(), Some(SMALL));
        seats.leave(first, now);
        assert_eq!((seats.size(), seats.n_here()), (None, 1));
    }

    #[test]
    fn a_page_that_is_loaded_again_keeps_its_place() {
        let now = Instant::now();
        let mut seats = Seats::default();
        let old = seats.enter(Some("a".to_owned()), true, Some(SMALL)).unwrap();
        let other = seats.enter(Some("b".to_owned()), true, Some(LARGE)).unwrap();
        // The new connection before the end of the old one.
        let new = seats.enter(Some("a".to_owned()), true, None).unwrap();
        assert!(seats.is_primary(new));
        assert_eq!((seats.size(), seats.n_here()), (Some(SMALL), 3));
        seats.leave(old, now);
        assert!(seats.is_primary(new));
        // The end of the old one before the new connection.
        seats.leave(new, now);
        assert!(!seats.is_primary(other));
        assert_eq!(seats.size(), Some(SMALL));
        let due = seats.expire(now + RELOAD_GRACE / 2);
        assert_eq!(due, Some(now + RELOAD_GRACE));
        let newest = seats.enter(Some("a".to_owned()), true, None).unwrap();
        assert!(seats.is_primary(newest));
        assert_eq!(seats.expire(now + 2 * RELOAD_GRACE), None);
        // One that stays away does not hold its place.
        seats.leave(newest, now);
        assert_eq!(seats.expire(now + RELOAD_GRACE), None);
        assert!(seats.is_primary(other));
    }

    #[test]
    fn a_driver_that_comes_back_only_to_look_is_not_primary() {
        let mut seats = Seats::default();
        seats.enter(Some("a".to_owned()), true, Some(SMALL)).unwrap();
        let again = seats.enter(Some("a".to_owned()), false, Some(SMALL)).unwrap();
        assert!(!seats.is_primary(again));
    }

    #[test]
    fn places_and_sizes_have_bounds() {
        let mut seats = Seats::default();
        assert!((0..MAX_SEATS).all(|_| seats.enter(None, true, None).is_some()));
        assert_eq!(seats.enter(None, true, None), None);
        assert_eq!(Size::new(0, 0), MIN_SIZE);
        assert_eq!(Size::new(u16::MAX, u16::MAX), Size { cols: MAX_COLS, rows: MAX_ROWS });
    }

    #[test]
    fn clients_of_tmux_decide_while_they_are_there() {
        let mut given = Given::default();
        assert_eq!(to_give(Some(SMALL), 0, "@1", &mut given), Some(SMALL));
        given.size = Some(SMALL);
        assert_eq!(to_give(Some(SMALL), 0, "@1", &mut given), None);
        assert_eq!(to_give(Some(LARGE), 1, "@1", &mut given), None);
        // The last one is gone.
        assert_eq!(to_give(Some(SMALL), 0, "@1", &mut given), Some(SMALL));
        given.size = Some(SMALL);
        // The worker came back in another window.
        assert_eq!(to_give(Some(SMALL), 0, "@2", &mut given), Some(SMALL));
        assert_eq!(to_give(None, 0, "@2", &mut given), None);
    }
}
