//! The starts of workers that are under way. Pure.

use std::collections::HashMap;

/// By session: the starts that its running operation has written. A start is written before its command has a spool, so a
/// list of the spools may lack it.
#[derive(Debug)]
pub(super) struct Starts<L> {
    begun: HashMap<String, Vec<Start<L>>>,
}

/// A start, and the link over which it is carried out.
#[derive(Debug)]
struct Start<L> {
    worker: String,
    epoch: u64,
    link: L,
}

impl<L> Default for Starts<L> {
    fn default() -> Self {
        Self { begun: HashMap::new() }
    }
}

impl<L: PartialEq> Starts<L> {
    /// The session's operation has written this start.
    pub(super) fn begin(&mut self, session: &str, worker: &str, epoch: u64, link: L) {
        let begun = self.begun.entry(session.to_owned()).or_default();
        begun.retain(|start| start.worker != worker);
        begun.push(Start { worker: worker.to_owned(), epoch, link });
    }

    /// Whether a start may be missing in a list of the spools because it goes on over the link of that list. What was begun
    /// over an earlier link and is missing is lost.
    pub(super) fn goes_on(&self, session: &str, worker: &str, epoch: u64, link: &L) -> bool {
        let begun = self.begun.get(session).map(Vec::as_slice).unwrap_or_default();
        begun.iter().any(|it| it.worker == worker && it.epoch == epoch && it.link == *link)
    }

    /// The session's operation has ended.
    pub(super) fn end(&mut self, session: &str) {
        self.begun.remove(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_goes_on_until_its_operation_or_its_link_ends() {
        let mut starts = Starts::default();
        starts.begin("s1", "w1", 2, 'a');
        starts.begin("s1", "w2", 1, 'a');
        assert!(starts.goes_on("s1", "w1", 2, &'a') && starts.goes_on("s1", "w2", 1, &'a'));
        assert!(!starts.goes_on("s1", "w1", 2, &'b'), "it was begun over an earlier link");
        assert!(!starts.goes_on("s1", "w1", 1, &'a'), "an earlier start");
        assert!(!starts.goes_on("s2", "w1", 2, &'a'), "another session");
        starts.begin("s1", "w1", 3, 'b');
        assert!(!starts.goes_on("s1", "w1", 2, &'a') && starts.goes_on("s1", "w1", 3, &'b'));
        starts.end("s1");
        assert!(!starts.goes_on("s1", "w1", 3, &'b'));
    }
}
