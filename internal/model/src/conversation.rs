//! The record of an agent's conversation: which one a worker is in, and what its next start does with it. A conversation is
//! known by its id only, never by being the newest of a directory: two workers may share one.

use serde::{Deserialize, Serialize};

/// The most earlier ids that are kept.
const MAX_OLDER: usize = 32;

/// The conversation of a worker's agent. Its directory is the worker's, which never changes. New fields have defaults: rows
/// of older versions are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The id, in the agent's own form; absent until it is known.
    #[serde(default)]
    pub id: Option<String>,
    /// Where the id is from.
    #[serde(default)]
    pub origin: Origin,
    /// The number of the start that began it.
    #[serde(default)]
    pub epoch: u64,
    /// Whether the agent has recorded a prompt in it.
    #[serde(default)]
    pub had_turn: bool,
    /// Whether the worker's first prompt was recorded, in this conversation or an earlier one. Then it is not sent again.
    #[serde(default)]
    pub prompt_recorded: bool,
    /// Earlier conversations of the worker that had a turn, oldest first.
    #[serde(default)]
    pub older: Vec<String>,
}

/// Where the id of a conversation is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Shed chose it.
    #[default]
    Assigned,
    /// The running agent showed it.
    Observed,
}

/// What the container says about a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The agent has recorded a prompt in it.
    Turn,
    /// It has not, or the conversation is gone.
    Nothing,
    /// Where this agent records conversations is not known, or could not be read.
    Unknown,
}

/// What an agent's next start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Whether it resumes the recorded conversation.
    pub resumes: bool,
    /// Whether it sends the worker's first prompt.
    pub sends_prompt: bool,
}

/// What is known of an agent's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whether a new conversation has an id that shed chooses.
    pub takes_id: bool,
    /// Whether it can resume a conversation by its id.
    pub resumes_by_id: bool,
}

impl Conversation {
    /// Of a worker that has not been started. An agent that takes no id has one when it shows it.
    pub fn planned(id: String, takes_id: bool, epoch: u64) -> Self {
        Self { id: takes_id.then_some(id), epoch, ..Self::default() }
    }

    /// Of a row of an older version, which has the id alone: it was given to agents that take one, and each start of
    /// the worker sent the prompt.
    pub fn of_older_row(id: Option<&str>, takes_id: bool, epoch: u64) -> Self {
        Self {
            id: id.filter(|_| takes_id).map(str::to_owned),
            epoch: 1,
            prompt_recorded: epoch > 0,
            ..Self::default()
        }
    }

    /// What start number `epoch` does, and the record of it, which is written before. `continues` asks for the same
    /// conversation; otherwise a new one begins. `fresh` is the id of a new one.
    pub fn next(
        &self,
        continues: bool,
        found: Found,
        can: Abilities,
        epoch: u64,
        fresh: &str,
    ) -> (Self, Begin) {
        let was_used = self.epoch < epoch;
        let mut now = self.clone();
        match found {
            Found::Turn => now.had_turn = true,
            Found::Nothing => now.had_turn = false,
            // A start of an agent whose records are not known counts as one that had its prompt.
            Found::Unknown => now.had_turn |= was_used,
        }
        now.prompt_recorded |= now.had_turn;
        let resumes = continues && can.resumes_by_id && now.had_turn && now.id.is_some();
        let sends_prompt = !resumes && !now.prompt_recorded;
        if !resumes && was_used {
            let had_turn = now.had_turn || self.had_turn;
            now.older.extend(now.id.take().filter(|_| had_turn));
            let n_over = now.older.len().saturating_sub(MAX_OLDER);
            now.older.drain(..n_over);
            now.id = can.takes_id.then(|| fresh.to_owned());
            now.origin = Origin::Assigned;
            now.epoch = epoch;
            now.had_turn = false;
        }
        (now, Begin { resumes, sends_prompt })
    }

    /// The record after a look at the running agent, which shows these ids; `turn` says whether a prompt is recorded in the
    /// conversation that it is in. `None` if nothing changes.
    pub fn seen(&self, shown: &[String], turn: Option<bool>) -> Option<Self> {
        let mut now = self.clone();
        if let Some(id) = self.shown_id(shown) {
            now.older.extend(now.id.take().filter(|_| self.had_turn));
            now.had_turn = false;
            now.id = Some(id.to_owned());
            now.origin = Origin::Observed;
        }
        now.had_turn |= turn.unwrap_or(false);
        now.prompt_recorded |= now.had_turn;
        (now != *self).then_some(now)
    }

    /// The record of a conversation whose id was never seen, after a search for the worker's prompt found it in the
    /// conversations with these ids. `taken` says whether an id is another worker's. The prompt was recorded in any case.
    #[must_use]
    pub fn recovered(&self, ids: &[String], taken: impl Fn(&str) -> bool) -> Self {
        let mut now =
            Self { prompt_recorded: self.prompt_recorded || !ids.is_empty(), ..self.clone() };
        if let [one] = ids
            && !taken(one)
        {
            now.id = Some(one.clone());
            now.origin = Origin::Observed;
            now.had_turn = true;
        }
        now
    }

    /// The id that an agent shows, if it is another than the recorded one. Of several that are new none is taken: an agent
    /// may hold conversations of its helpers open.
    pub fn shown_id<'a>(&self, shown: &'a [String]) -> Option<&'a str> {
        let is_known = self.id.as_ref().is_some_and(|id| shown.contains(id));
        match shown {
            [one] if !is_known => Some(one),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Abilities = Abilities { takes_id: true, resumes_by_id: true };
    const SHOWS: Abilities = Abilities { takes_id: false, resumes_by_id: true };
    const NEITHER: Abilities = Abilities { takes_id: false, resumes_by_id: false };

    fn assigned() -> Conversation {
        Conversation::planned("c1".to_owned(), true, 1)
    }

    fn begin(resumes: bool, sends_prompt: bool) -> Begin {
        Begin { resumes, sends_prompt }
    }

    #[test]
    fn a_first_start_sends_the_prompt_with_the_planned_id() {
        let (record, first) = assigned().next(false, Found::Nothing, BOTH, 1, "c2");
        assert_eq!((first, record.id.as_deref()), (begin(false, true), Some("c1")));
        let observed = Conversation::planned("c1".to_owned(), false, 1);
        assert_eq!(observed.next(true, Found::Nothing, SHOWS, 1, "c2").0.id, None);
    }

    #[test]
    fn a_conversation_that_had_a_turn_is_resumed_and_its_prompt_is_not_sent_again() {
        let (record, again) = assigned().next(true, Found::Turn, BOTH, 2, "c2");
        assert_eq!((again, record.id.as_deref()), (begin(true, false), Some("c1")));
        let (record, again) = record.next(true, Found::Turn, BOTH, 3, "c2");
        assert_eq!((again, record.id.as_deref()), (begin(true, false), Some("c1")));
        // Its transcript was deleted.
        let (record, lost) = record.next(true, Found::Nothing, BOTH, 4, "c2");
        assert_eq!((lost, record.id.as_deref()), (begin(false, false), Some("c2")));
        assert_eq!(record.older, ["c1"]);
    }

    #[test]
    fn one_that_never_had_a_turn_begins_again_with_a_new_id() {
        let (record, again) = assigned().next(true, Found::Nothing, BOTH, 2, "c2");
        assert_eq!((again, record.id.as_deref()), (begin(false, true), Some("c2")));
        assert!(record.older.is_empty() && record.epoch == 2);
    }

    #[test]
    fn a_restart_begins_a_new_conversation_without_the_prompt_that_was_sent() {
        let (record, anew) = assigned().next(false, Found::Turn, BOTH, 2, "c2");
        assert_eq!((anew, record.id.as_deref()), (begin(false, false), Some("c2")));
        assert_eq!((record.older.as_slice(), record.had_turn), (&["c1".to_owned()][..], false));
        let (_, never_sent) = assigned().next(false, Found::Nothing, BOTH, 2, "c2");
        assert_eq!(never_sent, begin(false, true));
        let many = (3..99).fold(record, |record, epoch| {
            record.next(false, Found::Turn, BOTH, epoch, &epoch.to_string()).0
        });
        assert_eq!((many.older.len(), many.older[MAX_OLDER - 1].as_str()), (MAX_OLDER, "97"));
    }

    #[test]
    fn an_agent_whose_records_are_not_known_had_its_prompt_with_its_first_start() {
        let planned = Conversation::planned("c1".to_owned(), false, 1);
        assert_eq!(planned.next(false, Found::Unknown, NEITHER, 1, "c2").1, begin(false, true));
        assert_eq!(planned.next(true, Found::Unknown, NEITHER, 2, "c2").1, begin(false, false));
        assert_eq!(assigned().next(true, Found::Unknown, BOTH, 2, "c2").1, begin(true, false));
    }

    #[test]
    fn rows_of_older_versions_are_resumed_by_their_id() {
        let old = Conversation::of_older_row(Some("c1"), true, 3);
        assert_eq!(old.next(true, Found::Turn, BOTH, 4, "c2").1, begin(true, false));
        assert_eq!(old.next(true, Found::Nothing, BOTH, 4, "c2").1, begin(false, false));
        let codex = Conversation::of_older_row(Some("c1"), false, 3);
        assert_eq!(codex.id, None, "it was never given to the agent");
        let never = Conversation::of_older_row(Some("c1"), true, 0);
        assert_eq!(never.next(false, Found::Nothing, BOTH, 1, "c2").1, begin(false, true));
    }

    #[test]
    fn a_conversation_that_was_never_seen_is_recovered_only_if_it_is_certain() {
        let planned = Conversation::planned(String::new(), false, 1);
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let found = planned.recovered(&ids(&["t1"]), |_| false);
        let (record, again) = found.next(true, Found::Turn, SHOWS, 2, "c2");
        assert_eq!((again, record.id.as_deref()), (begin(true, false), Some("t1")));
        for unsure in [
            planned.recovered(&ids(&["t1", "t2"]), |_| false),
            planned.recovered(&ids(&["t1"]), |_| true),
        ] {
            assert_eq!(unsure.next(true, Found::Nothing, SHOWS, 2, "c2").1, begin(false, false));
        }
        assert_eq!(planned.recovered(&[], |_| false), planned);
    }

    #[test]
    fn an_agent_that_moves_to_another_conversation_is_followed() {
        let shown = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let planned = Conversation::planned(String::new(), false, 1);
        let first = planned.seen(&shown(&["t1"]), Some(false)).unwrap();
        assert_eq!((first.id.as_deref(), first.origin), (Some("t1"), Origin::Observed));
        assert!(!first.had_turn && !first.prompt_recorded);
        let turn = first.seen(&shown(&["t1"]), Some(true)).unwrap();
        assert!(turn.had_turn && turn.prompt_recorded);
        for same in [&["t1"][..], &[], &["t0", "t1"], &["t2", "t3"]] {
            assert_eq!(turn.seen(&shown(same), None), None, "{same:?}");
        }
        let cleared = turn.seen(&shown(&["t2"]), Some(false)).unwrap();
        assert_eq!(
            (cleared.id.as_deref(), cleared.older.as_slice()),
            (Some("t2"), &shown(&["t1"])[..])
        );
        assert!(!cleared.had_turn && cleared.prompt_recorded);
        let never = first.seen(&shown(&["t2"]), None).unwrap();
        assert!(never.older.is_empty(), "it had no turn");
    }
}
