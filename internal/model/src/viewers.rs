//! The viewers of a worker, and whose terminal size counts: the primary viewer's.
//!
//! ```text
//!   first driver enters ──▶ primary ──leaves──▶ the driver that arrived next
//!                              ▲
//!   `primary` of another ──────┘        a page that is reloaded stays primary for a moment
//! ```

use std::time::{Duration, Instant};

/// How long a named primary viewer stays on the list after it left: a page that is reloaded closes its connection before it
/// opens the next, and must not lose the size to another tab in between.
pub const RELOAD_GRACE: Duration = Duration::from_secs(3);
/// The most viewers of one worker at once.
pub const MAX_VIEWERS: usize = 256;
/// The smallest size: less cannot show an agent's screen.
const MIN_SIZE: Size = Size { cols: 10, rows: 3 };

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl Size {
    /// The size, brought between the smallest that shows anything and `largest`.
    pub fn clamped(cols: u16, rows: u16, largest: Self) -> Self {
        Self {
            cols: cols.clamp(MIN_SIZE.cols, largest.cols),
            rows: rows.clamp(MIN_SIZE.rows, largest.rows),
        }
    }
}

/// A connected or recently disconnected viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Viewer {
    /// Unique per connection.
    id: u64,
    /// What the client calls itself: the same over reconnects.
    name: Option<String>,
    /// Whether it may type, and so become primary.
    drives: bool,
    size: Option<Size>,
    /// When its connection ended; absent while it is connected.
    left_at: Option<Instant>,
}

/// The viewers of one worker, by arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewerList {
    next_id: u64,
    viewers: Vec<Viewer>,
    primary: Option<u64>,
}

impl ViewerList {
    /// Adds a viewer and returns its id; `None` if there are [`MAX_VIEWERS`] already.
    pub fn enter(&mut self, name: Option<String>, drives: bool, size: Option<Size>) -> Option<u64> {
        if self.n_connected() >= MAX_VIEWERS {
            return None;
        }
        self.next_id += 1;
        let id = self.next_id;
        let before =
            self.viewers.iter().position(|viewer| viewer.name.is_some() && viewer.name == name);
        let mut viewer = Viewer { id, name, drives, size, left_at: None };
        match before {
            Some(index) => {
                // The same page again: it keeps its position, whichever of its connections ends first.
                viewer.size = size.or(self.viewers[index].size);
                let mut old = std::mem::replace(&mut self.viewers[index], viewer);
                if self.primary == Some(old.id) {
                    self.primary = drives.then_some(id);
                }
                if old.left_at.is_none() {
                    old.name = None;
                    self.viewers.push(old);
                }
            }
            None => self.viewers.push(viewer),
        }
        self.settle();
        Some(id)
    }

    /// A connection ended.
    pub fn leave(&mut self, id: u64, now: Instant) {
        let is_primary = self.primary == Some(id);
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.id == id) {
            if viewer.name.is_some() && is_primary {
                viewer.left_at = Some(now);
            } else {
                self.viewers.retain(|viewer| viewer.id != id);
            }
        }
        self.settle();
    }

    /// Drops viewers that did not come back in time. Returns when to call this next.
    pub fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.viewers.retain(|viewer| viewer.left_at.is_none_or(|at| now < at + RELOAD_GRACE));
        self.settle();
        self.viewers.iter().filter_map(|viewer| viewer.left_at).min().map(|at| at + RELOAD_GRACE)
    }

    /// A viewer has this size now.
    pub fn resize(&mut self, id: u64, size: Size) {
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.id == id) {
            viewer.size = Some(size);
        }
    }

    /// Makes a viewer primary. A read-only one stays as it is.
    pub fn claim(&mut self, id: u64) {
        if self.viewers.iter().any(|viewer| viewer.id == id && viewer.drives) {
            self.primary = Some(id);
            self.viewers.retain(|viewer| viewer.left_at.is_none());
        }
    }

    /// Whether this viewer is primary.
    pub fn is_primary(&self, id: u64) -> bool {
        self.primary == Some(id)
    }

    /// The size of the primary viewer, once known.
    pub fn size(&self) -> Option<Size> {
        let primary = self.primary?;
        self.viewers.iter().find(|viewer| viewer.id == primary)?.size
    }

    /// How many are connected.
    pub fn n_connected(&self) -> usize {
        self.viewers.iter().filter(|viewer| viewer.left_at.is_none()).count()
    }

    /// How many are on the list, those that may come back included.
    pub fn len(&self) -> usize {
        self.viewers.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    /// There is always a primary while a driver is connected.
    fn settle(&mut self) {
        let is_there = self.viewers.iter().any(|viewer| Some(viewer.id) == self.primary);
        if !is_there {
            let mut drivers =
                self.viewers.iter().filter(|viewer| viewer.drives && viewer.left_at.is_none());
            self.primary = drivers.next().map(|viewer| viewer.id);
        }
    }
}

/// The size that shed set last, and of which window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastSet {
    /// The window's tmux id, for example `@3`.
    pub window: String,
    /// Its size; `None` while attached tmux clients decide.
    pub size: Option<Size>,
}

/// The size to set for a window now, if any. While tmux clients are attached they decide; when the last one detaches, the
/// primary viewer decides again.
pub fn size_to_set(
    wanted: Option<Size>,
    n_attached: u32,
    window: &str,
    last: &mut LastSet,
) -> Option<Size> {
    if last.window != window || n_attached > 0 {
        *last = LastSet { window: window.to_owned(), size: None };
    }
    wanted.filter(|size| n_attached == 0 && last.size != Some(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { cols: 80, rows: 24 };
    const LARGE: Size = Size { cols: 200, rows: 50 };

    #[test]
    fn the_first_driver_is_primary_and_then_the_next() {
        let mut viewers = ViewerList::default();
        let now = Instant::now();
        let reader = viewers.enter(None, false, Some(LARGE)).unwrap();
        assert_eq!(viewers.size(), None);
        let first = viewers.enter(None, true, Some(SMALL)).unwrap();
        let second = viewers.enter(None, true, Some(LARGE)).unwrap();
        assert!(viewers.is_primary(first) && !viewers.is_primary(second));
        assert_eq!(viewers.size(), Some(SMALL));
        viewers.claim(reader);
        assert!(viewers.is_primary(first));
        viewers.claim(second);
        assert_eq!(viewers.size(), Some(LARGE));
        viewers.leave(second, now);
        assert_eq!(viewers.size(), Some(SMALL));
        viewers.leave(first, now);
        assert_eq!((viewers.size(), viewers.n_connected()), (None, 1));
    }

    #[test]
    fn a_page_that_is_reloaded_stays_primary() {
        let now = Instant::now();
        let mut viewers = ViewerList::default();
        let old = viewers.enter(Some("a".to_owned()), true, Some(SMALL)).unwrap();
        let other = viewers.enter(Some("b".to_owned()), true, Some(LARGE)).unwrap();
        // The new connection before the end of the old one.
        let new = viewers.enter(Some("a".to_owned()), true, None).unwrap();
        assert!(viewers.is_primary(new));
        assert_eq!((viewers.size(), viewers.n_connected()), (Some(SMALL), 3));
        viewers.leave(old, now);
        assert!(viewers.is_primary(new));
        // The end of the old one before the new connection.
        viewers.leave(new, now);
        assert!(!viewers.is_primary(other));
        assert_eq!(viewers.size(), Some(SMALL));
        let due = viewers.expire(now + RELOAD_GRACE / 2);
        assert_eq!(due, Some(now + RELOAD_GRACE));
        let newest = viewers.enter(Some("a".to_owned()), true, None).unwrap();
        assert!(viewers.is_primary(newest));
        assert_eq!(viewers.expire(now + 2 * RELOAD_GRACE), None);
        // One that stays away does not hold its place.
        viewers.leave(newest, now);
        assert_eq!(viewers.expire(now + RELOAD_GRACE), None);
        assert!(viewers.is_primary(other));
    }

    #[test]
    fn a_driver_that_returns_read_only_is_not_primary() {
        let mut viewers = ViewerList::default();
        viewers.enter(Some("a".to_owned()), true, Some(SMALL)).unwrap();
        let again = viewers.enter(Some("a".to_owned()), false, Some(SMALL)).unwrap();
        assert!(!viewers.is_primary(again));
    }

    #[test]
    fn viewers_and_sizes_are_limited() {
        let mut viewers = ViewerList::default();
        assert!((0..MAX_VIEWERS).all(|_| viewers.enter(None, true, None).is_some()));
        assert_eq!(viewers.enter(None, true, None), None);
        assert_eq!(Size::clamped(0, 0, LARGE), MIN_SIZE);
        assert_eq!(Size::clamped(u16::MAX, u16::MAX, LARGE), LARGE);
    }

    #[test]
    fn attached_tmux_clients_decide() {
        let mut last = LastSet::default();
        assert_eq!(size_to_set(Some(SMALL), 0, "@1", &mut last), Some(SMALL));
        last.size = Some(SMALL);
        assert_eq!(size_to_set(Some(SMALL), 0, "@1", &mut last), None);
        assert_eq!(size_to_set(Some(LARGE), 1, "@1", &mut last), None);
        // The last one is gone.
        assert_eq!(size_to_set(Some(SMALL), 0, "@1", &mut last), Some(SMALL));
        last.size = Some(SMALL);
        // The worker came back in another window.
        assert_eq!(size_to_set(Some(SMALL), 0, "@2", &mut last), Some(SMALL));
        assert_eq!(size_to_set(None, 0, "@2", &mut last), None);
    }

    #[test]
    fn a_claim_ends_the_grace_of_the_viewer_that_left() {
        let now = Instant::now();
        let mut viewers = ViewerList::default();
        assert!(viewers.is_empty());
        let first = viewers.enter(Some("a".to_owned()), true, Some(SMALL)).unwrap();
        let second = viewers.enter(Some("b".to_owned()), true, Some(LARGE)).unwrap();
        viewers.leave(first, now);
        assert_eq!((viewers.len(), viewers.n_connected(), viewers.is_empty()), (2, 1, false));
        viewers.claim(second);
        assert_eq!((viewers.len(), viewers.size()), (1, Some(LARGE)));
        viewers.claim(99);
        assert!(viewers.is_primary(second), "nobody has this id");
    }

    #[test]
    fn only_a_named_primary_viewer_has_a_grace() {
        let now = Instant::now();
        let mut viewers = ViewerList::default();
        let primary = viewers.enter(None, true, Some(SMALL)).unwrap();
        let named = viewers.enter(Some("b".to_owned()), true, None).unwrap();
        viewers.leave(named, now);
        assert_eq!(viewers.len(), 1, "it was not primary");
        viewers.leave(primary, now);
        assert!(viewers.is_empty(), "it had no name");
    }

    #[test]
    fn a_new_size_counts_for_the_viewer_that_has_it() {
        let mut viewers = ViewerList::default();
        let primary = viewers.enter(None, true, Some(SMALL)).unwrap();
        let other = viewers.enter(None, true, Some(SMALL)).unwrap();
        viewers.resize(other, LARGE);
        assert_eq!(viewers.size(), Some(SMALL));
        viewers.resize(primary, LARGE);
        assert_eq!(viewers.size(), Some(LARGE));
        // A page that comes back with a size of its own.
        let mut viewers = ViewerList::default();
        viewers.enter(Some("a".to_owned()), true, Some(SMALL)).unwrap();
        viewers.enter(Some("a".to_owned()), true, Some(LARGE)).unwrap();
        assert_eq!(viewers.size(), Some(LARGE));
    }
}
