//! Admission: how many sessions may run at once, on the server and in each shed. The others wait in the order they were
//! created; none is rejected.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

/// The most sessions that run at once. No limit when absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// On the whole server.
    pub server: Option<u32>,
    /// In each shed.
    pub shed: Option<u32>,
}

/// Which sessions run and which wait.
#[derive(Debug, Default)]
pub struct Admission {
    limits: Concurrency,
    /// Ids of running sessions by shed.
    running: BTreeMap<String, BTreeSet<String>>,
    /// Waiting sessions as (created at, id, shed), the oldest first.
    waiting: BTreeSet<(DateTime<Utc>, String, String)>,
}

impl Admission {
    /// With these limits, and nothing running.
    pub fn new(limits: Concurrency) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Asks for a session to run. True if it may: then it counts as running. If not, it waits; ask again when another has
    /// left.
    pub fn enter(&mut self, shed: &str, id: &str, created_at: DateTime<Utc>) -> bool {
        self.waiting.insert((created_at, id.to_owned(), shed.to_owned()));
        let admitted = self.is_next(id);
        if admitted {
            self.keep(shed, id);
        }
        admitted
    }

    /// Counts a session as running whatever the limits are: it runs already.
    pub fn keep(&mut self, shed: &str, id: &str) {
        self.waiting.retain(|(_, waiting, _)| waiting != id);
        self.running.entry(shed.to_owned()).or_default().insert(id.to_owned());
    }

    /// A session neither runs nor waits any more. True if it did.
    pub fn leave(&mut self, shed: &str, id: &str) -> bool {
        let n_waiting = self.waiting.len();
        self.waiting.retain(|(_, waiting, _)| waiting != id);
        let ran = self.running.get_mut(shed).is_some_and(|running| running.remove(id));
        ran || self.waiting.len() != n_waiting
    }

    fn has_room(&self, shed: &str) -> bool {
        let fits = |n: usize, limit: Option<u32>| {
            limit.is_none_or(|limit| n < usize::try_from(limit).unwrap_or(usize::MAX))
        };
        let in_shed = self.running.get(shed).map_or(0, BTreeSet::len);
        let in_all = self.running.values().map(BTreeSet::len).sum();
        fits(in_all, self.limits.server) && fits(in_shed, self.limits.shed)
    }

    /// Whether there is room for this session and no older one could use it.
    fn is_next(&self, id: &str) -> bool {
        let first = self.waiting.iter().find(|(_, _, shed)| self.has_room(shed));
        first.is_some_and(|(_, waiting, _)| waiting == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_oldest_session_that_fits_is_next() {
        let mut line = Admission::new(Concurrency { server: Some(2), shed: Some(1) });
        assert!(line.enter("a", "1", at(1)));
        assert!(!line.enter("a", "2", at(2)), "its shed is full");
        assert!(line.enter("b", "3", at(3)), "no older session fits");
        assert!(!line.enter("b", "4", at(4)));
        assert!(!line.enter("c", "5", at(5)), "the server is full");
        assert!(line.leave("b", "3"));
        // There is room in b and c; session 4 is older than 5.
        assert!(!line.enter("c", "5", at(5)));
        assert!(line.enter("b", "4", at(4)));
        assert!(line.leave("a", "1"));
        assert!(!line.enter("c", "5", at(5)), "session 2 is older and fits now");
        assert!(line.enter("a", "2", at(2)));
    }

    #[test]
    fn a_session_that_stops_waiting_holds_up_no_other() {
        let mut line = Admission::new(Concurrency { server: Some(1), shed: None });
        line.keep("a", "0");
        line.keep("a", "1");
        assert!(!line.enter("a", "2", at(2)));
        assert!(!line.enter("a", "3", at(3)));
        assert!(line.leave("a", "2"));
        assert!(line.leave("a", "0"));
        assert!(!line.enter("a", "3", at(3)), "session 1 still runs");
        assert!(line.leave("a", "1"));
        assert!(line.enter("a", "3", at(3)));
        assert!(!line.leave("a", "unknown"));
    }

    #[test]
    fn two_sheds_may_have_sessions_of_the_same_age() {
        let mut line = Admission::new(Concurrency { server: Some(1), shed: None });
        line.keep("a", "0");
        assert!(!line.enter("b", "1", at(1)));
        assert!(!line.enter("c", "2", at(1)));
        assert!(line.leave("a", "0"));
        // Ties go by id, and asking twice changes nothing.
        assert!(!line.enter("c", "2", at(1)));
        assert!(line.enter("b", "1", at(1)));
        assert!(!line.enter("c", "2", at(1)));
    }
}
