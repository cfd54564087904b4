//! The live table: a shed's sessions as its shed-init last reported them, in the types of the API. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use shed_api::name::printable;
use shed_api::session::{Pane, Session, Window};
use shed_api::{SessionRef, ShedName};
use shed_link::{Tmux, TmuxSnapshot};
use shed_tmux::listing::{SessionRow, WindowRow};
use shed_tmux::{Listing, parse_listing};

/// A shed's tmux as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// The sessions in the order of `listing`, or why they are not known.
    pub(crate) sessions: Result<Vec<Session>, NoSessions>,
    /// The same sessions as tmux printed them, parsed.
    pub(crate) listing: Arc<Listing>,
    /// The text that `listing` was parsed from.
    pub(crate) text: Arc<str>,
    /// When shed-init read it, by the clock of the shed's host.
    pub(crate) at: DateTime<Utc>,
    /// Built once per table, so that joining it with the rows of the database takes one look-up per row.
    marks: Marks,
}

/// What shed marked, by mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Marks {
    /// Positions in the listing, by the session's id.
    sessions: HashMap<String, usize>,
    /// Numbers of tmux windows (the 5 of `@5`), by the worker's id.
    windows: HashMap<String, u32>,
}

impl Marks {
    /// Where tmux lists a mark twice, the first counts.
    fn of(listing: &Listing) -> Self {
        let mut marks = Self::default();
        for (position, row) in listing.sessions.iter().enumerate() {
            if !row.mark.is_empty() {
                marks.sessions.entry(row.mark.clone()).or_insert(position);
            }
            for window in row.windows.iter().filter(|window| !window.mark.is_empty()) {
                marks.windows.entry(window.mark.clone()).or_insert(window.id);
            }
        }
        marks
    }
}

/// Why a shed's sessions are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoSessions {
    /// There is no tmux in its image.
    NoTmux,
    /// tmux or shed-init failed; why.
    Down(String),
}

impl Table {
    /// Reads what shed-init sent. It comes from a shed, so it may be anything.
    pub(crate) fn read(shed: &ShedName, snapshot: &TmuxSnapshot) -> Self {
        let at_ms = i64::try_from(snapshot.at_ms).unwrap_or_default();
        let at = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
        let no = |why: NoSessions| Self {
            sessions: Err(why),
            listing: Arc::default(),
            text: Arc::from(""),
            at,
            marks: Marks::default(),
        };
        match &snapshot.tmux {
            Tmux::Missing => no(NoSessions::NoTmux),
            Tmux::Down(why) => no(NoSessions::Down(printable(why))),
            Tmux::Listing(text) => match parse_listing(text) {
                Ok(listing) => Self {
                    sessions: Ok(listing
                        .sessions
                        .iter()
                        .map(|row| session(shed, row, at, &snapshot.foreground))
                        .collect()),
                    marks: Marks::of(&listing),
                    listing: Arc::new(listing),
                    text: Arc::from(text.as_str()),
                    at,
                },
                Err(error) => no(NoSessions::Down(error.to_string())),
            },
        }
    }

    /// Every session with what shed marked it with; `None` for one that shed did not create.
    pub(crate) fn with_marks(&self) -> impl Iterator<Item = (&Session, Option<&str>)> {
        let rows = self.listing.sessions.iter();
        let marks = rows.map(|row| (!row.mark.is_empty()).then_some(row.mark.as_str()));
        self.rows().iter().zip(marks)
    }

    /// tmux's row of the session that shed marked so.
    pub(crate) fn marked(&self, mark: &str) -> Option<&SessionRow> {
        self.listing.sessions.get(*self.marks.sessions.get(mark)?)
    }

    /// The id of the window that has this worker in it.
    pub(crate) fn window_of(&self, worker: &str) -> Option<String> {
        self.marks.windows.get(worker).map(|id| format!("@{id}"))
    }

    /// The sessions; none if they are not known.
    pub(crate) fn rows(&self) -> &[Session] {
        self.sessions.as_deref().unwrap_or_default()
    }

    /// The session that a request names.
    pub(crate) fn find(&self, target: &SessionRef) -> Option<&Session> {
        self.find_with_mark(target).map(|(row, _)| row)
    }

    /// The same with its mark.
    pub(crate) fn find_with_mark(&self, target: &SessionRef) -> Option<(&Session, Option<&str>)> {
        let tmux_id = match target {
            SessionRef::Name(_) => String::new(),
            SessionRef::Id(id) => format!("${id}"),
        };
        self.with_marks().find(|(row, _)| match target {
            SessionRef::Name(name) => row.name == name.as_str(),
            SessionRef::Id(_) => row.tmux_id.as_ref() == Some(&tmux_id),
        })
    }
}

fn session(
    shed: &ShedName,
    row: &SessionRow,
    at: DateTime<Utc>,
    foreground: &BTreeMap<u32, String>,
) -> Session {
    let activity = row.windows.iter().map(|window| window.activity).max();
    let windows: Vec<Window> = row.windows.iter().map(|row| window(row, foreground)).collect();
    let active = windows.iter().find(|window| window.active);
    let command = active.and_then(|window| window.panes.iter().find(|pane| pane.active));
    Session {
        id: format!("${}", row.id),
        name: printable(&row.name),
        shed_name: shed.to_string(),
        created_at: seconds(row.created),
        attached: row.n_attached > 0,
        attached_clients: row.n_attached,
        window_count: u32::try_from(row.windows.len()).unwrap_or(u32::MAX),
        command: command.map(|pane| pane.command.clone()),
        activity_at: activity.map(seconds),
        windows,
        observed_at: at,
        tmux_id: Some(format!("${}", row.id)),
        ..Session::default()
    }
}

fn window(row: &WindowRow, foreground: &BTreeMap<u32, String>) -> Window {
    let pane = |pane: &shed_tmux::listing::PaneRow| Pane {
        id: format!("%{}", pane.id),
        title: printable(&pane.title),
        active: pane.active,
        // tmux sees a worker's runner; shed-init knows the command in it.
        command: printable(foreground.get(&pane.pid).unwrap_or(&pane.command)),
        directory: printable(&pane.directory),
        pid: pane.pid,
    };
    Window {
        id: format!("@{}", row.id),
        index: row.index,
        name: printable(&row.name),
        active: row.active,
        panes: row.panes.iter().map(pane).collect(),
    }
}

fn seconds(since_1970: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(since_1970, 0).unwrap_or_default()
}

/// A difference between two tables that is recorded as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionChange {
    /// It appeared.
    Created(String),
    /// It is gone.
    Closed(String),
    /// It has a new name.
    Renamed {
        /// The name it had.
        from: String,
        /// The name it has.
        to: String,
    },
}

/// Compares by id, since names move. A restarted tmux uses its ids again, so the time of creation is compared too.
pub(crate) fn changes(before: &[Session], after: &[Session]) -> Vec<SessionChange> {
    let key = |row: &Session| (row.id.clone(), row.created_at);
    let mut old: BTreeMap<_, _> = before.iter().map(|row| (key(row), row)).collect();
    let mut changes = Vec::new();
    for row in after {
        match old.remove(&key(row)) {
            None => changes.push(SessionChange::Created(row.name.clone())),
            Some(known) if known.name != row.name => changes
                .push(SessionChange::Renamed { from: known.name.clone(), to: row.name.clone() }),
            Some(_) => {}
        }
    }
    changes.extend(old.into_values().map(|row| SessionChange::Closed(row.name.clone())));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str, created: i64) -> Session {
        Session {
            id: id.to_owned(),
            name: name.to_owned(),
            shed_name: "s".to_owned(),
            created_at: seconds(created),
            window_count: 1,
            tmux_id: Some(id.to_owned()),
            ..Session::default()
        }
    }

    #[test]
    fn sessions_are_compared_by_id() {
        let before = [row("$1", "a", 1), row("$2", "b", 1), row("$3", "c", 1)];
        let after = [row("$1", "a", 1), row("$2", "x", 1), row("$3", "c", 9)];
        let expected = [
            SessionChange::Renamed { from: "b".to_owned(), to: "x".to_owned() },
            SessionChange::Created("c".to_owned()),
            SessionChange::Closed("c".to_owned()),
        ];
        assert_eq!(changes(&before, &after), expected);
        assert!(changes(&after, &after).is_empty());
    }

    #[test]
    fn a_listing_that_does_not_parse_is_an_error_and_shows_no_session() {
        let shed: ShedName = "s".parse().unwrap();
        let snapshot = TmuxSnapshot {
            tmux: Tmux::Listing("S garbage".to_owned()),
            at_ms: 5,
            foreground: BTreeMap::new(),
        };
        let table = Table::read(&shed, &snapshot);
        assert!(matches!(table.sessions, Err(NoSessions::Down(_))));
        assert!(table.rows().is_empty());
    }
}
