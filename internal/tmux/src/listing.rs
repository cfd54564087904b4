//! The parser of a tmux server's state, as printed by [`list_argv`](crate::watch::list_argv).
//!
//! Titles and names may contain any text, so no separator is safe. tmux prints each field with its length in bytes before it
//! (`5:hello,`), by the format `#{n:…}` of tmux 3.2 and later.

use crate::watch::END;

/// The state of a tmux server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// All sessions, sorted by name.
    pub sessions: Vec<SessionRow>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The number N in tmux's id `$N`.
    pub id: u32,
    /// The name as tmux prints it, without `:` and `.`, which tmux replaces. Chosen inside the shed: not trusted.
    pub name: String,
    /// When tmux created it, in seconds since 1970 by the container's clock.
    pub created: i64,
    /// The number of attached tmux clients; 0 if the session is detached.
    pub n_attached: u32,
    /// The value of [`SESSION_MARK`]; empty for an unmanaged session.
    pub mark: String,
    /// Its windows, sorted by index; never empty.
    pub windows: Vec<WindowRow>,
}

/// A window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRow {
    /// The number N in tmux's id `@N`.
    pub id: u32,
    /// The window's number in the status line, unique in the session. It may have gaps and changes when windows are moved.
    pub index: u32,
    /// The name as tmux prints it; with `automatic-rename` the name of the command. Not unique.
    pub name: String,
    /// Whether it is the session's current window; true of exactly one window of a session.
    pub active: bool,
    /// When a pane of it last printed something, in seconds since 1970 by the container's clock.
    pub activity: i64,
    /// The value of [`WORKER_MARK`]; empty for a window that does not belong to a worker.
    pub mark: String,
    /// The arrangement of its panes, as `select-layout` takes it: `b25d,80x24,0,0,0`. Empty from a shed-init before 0.2.
    pub layout: String,
    /// Its panes, in tmux's order; never empty.
    pub panes: Vec<PaneRow>,
}

/// A pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaneRow {
    /// The number N in tmux's id `%N`.
    pub id: u32,
    /// The title that the program set with an escape sequence; the host name if it set none.
    pub title: String,
    /// Whether input to the window goes to it; true of exactly one pane of a window.
    pub active: bool,
    /// The name of the foreground command without its path or arguments: `vim`.
    pub command: String,
    /// The absolute working directory of the foreground command; empty if tmux cannot read it.
    pub directory: String,
    /// The id, in the container, of the process that tmux started in it: a shell, or a worker's runner.
    pub pid: u32,
    /// Whether that process has ended while `remain-on-exit` keeps the pane. False from a shed-init before 0.2.
    pub dead: bool,
}

/// The tmux option that marks a managed session. Its value is the session's id.
pub const SESSION_MARK: &str = "@shed_session";
/// The tmux option that marks the window of a worker. Its value is the worker's id.
pub const WORKER_MARK: &str = "@shed_worker";

/// The session of [`companion`](crate::argv::companion). Its name is no valid name of a session of shed's. It is in no
/// [`Listing`].
pub const COMPANIONS: &str = "shed read-only";

/// A listing that does not parse. None of its content may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tmux listing at byte {at}: {why}")]
pub struct ListingError {
    at: usize,
    why: &'static str,
}

/// The fields of a session's line, which begins with `S`. A shed-init before 0.2 does not send the last one.
pub(crate) const SESSION_FIELDS: &[&str] =
    &["session_id", "session_name", "session_created", "session_attached", SESSION_MARK];

/// The fields of a pane's line, which begins with `P`. A shed-init before 0.2 does not send the last three.
pub(crate) const PANE_FIELDS: &[&str] = &[
    "session_id",
    "window_id",
    "window_index",
    "window_name",
    "window_active",
    "window_activity",
    "pane_id",
    "pane_title",
    "pane_active",
    "pane_current_command",
    "pane_current_path",
    "pane_pid",
    WORKER_MARK,
    "window_layout",
    "pane_dead",
];

/// Parses the output of [`list_argv`](crate::watch::list_argv). A line that does not parse and a missing end are errors.
pub fn parse_listing(text: &str) -> Result<Listing, ListingError> {
    let mut reader = Reader { text, at: 0 };
    let mut sessions: Vec<SessionRow> = Vec::new();
    loop {
        match reader.line_kind()? {
            LineKind::Session => sessions.push(reader.session()?),
            LineKind::Pane => {
                let (session_id, window, pane) = reader.pane()?;
                // tmux prints sessions and panes atomically, so each pane has its session.
                let session = sessions.iter_mut().find(|row| row.id == session_id);
                let session = session.ok_or(reader.error("a pane belongs to no session"))?;
                match session.windows.iter_mut().find(|row| row.id == window.id) {
                    Some(known) => known.panes.push(pane),
                    None => session.windows.push(WindowRow { panes: vec![pane], ..window }),
                }
            }
            LineKind::End => break,
        }
    }
    sessions.retain(|session| session.name != COMPANIONS);
    for session in &mut sessions {
        session.windows.sort_by_key(|row| row.index);
    }
    sessions.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    Ok(Listing { sessions })
}

/// The first character of a line: the kind of the line.
enum LineKind {
    Session,
    Pane,
    End,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, why: &'static str) -> ListingError {
        ListingError { at: self.at, why }
    }

    fn line_kind(&mut self) -> Result<LineKind, ListingError> {
        let rest = &self.text[self.at..];
        if rest == END {
            return Ok(LineKind::End);
        }
        let kind = match rest.chars().next() {
            Some('S') => LineKind::Session,
            Some('P') => LineKind::Pane,
            Some(_) => return Err(self.error("expected S, P or E")),
            None => return Err(self.error("the last line is missing")),
        };
        self.at += 1;
        Ok(kind)
    }

    fn field(&mut self) -> Result<String, ListingError> {
        let rest = &self.text[self.at..];
        let colon = rest.find(':').ok_or(self.error("expected the length of a field"))?;
        let length: usize =
            rest[..colon].parse().map_err(|_| self.error("invalid length of a field"))?;
        let end = colon.checked_add(1).and_then(|start| start.checked_add(length));
        let field = end
            .and_then(|end| rest.get(colon + 1..end))
            .ok_or(self.error("a field is truncated"))?;
        let after = colon + 1 + length;
        if !rest[after..].starts_with(',') {
            return Err(self.error("a field is longer than its length"));
        }
        self.at += after + 1;
        Ok(field.to_owned())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, ListingError> {
        let why = self.error("expected a number");
        self.field()?.parse().map_err(|_| why)
    }

    fn id(&mut self, sigil: char) -> Result<u32, ListingError> {
        let why = self.error("expected an id");
        self.field()?.strip_prefix(sigil).and_then(|digits| digits.parse().ok()).ok_or(why)
    }

    fn flag(&mut self) -> Result<bool, ListingError> {
        let why = self.error("expected 0 or 1");
        match self.field()?.as_str() {
            "1" => Ok(true),
            "0" => Ok(false),
            _ => Err(why),
        }
    }

    /// A field at the end of a line; empty in the listing of an older shed-init that does not print it.
    fn newer_field(&mut self) -> Result<String, ListingError> {
        if self.text[self.at..].starts_with('\n') { Ok(String::new()) } else { self.field() }
    }

    fn end_of_line(&mut self) -> Result<(), ListingError> {
        if !self.text[self.at..].starts_with('\n') {
            return Err(self.error("a line has too many fields"));
        }
        self.at += 1;
        Ok(())
    }

    fn session(&mut self) -> Result<SessionRow, ListingError> {
        let row = SessionRow {
            id: self.id('$')?,
            name: self.field()?,
            created: self.number()?,
            n_attached: self.number()?,
            mark: self.newer_field()?,
            windows: Vec::new(),
        };
        self.end_of_line()?;
        Ok(row)
    }

    fn pane(&mut self) -> Result<(u32, WindowRow, PaneRow), ListingError> {
        let session_id = self.id('$')?;
        let mut window = WindowRow {
            id: self.id('@')?,
            index: self.number()?,
            name: self.field()?,
            active: self.flag()?,
            activity: self.number()?,
            mark: String::new(),
            layout: String::new(),
            panes: Vec::new(),
        };
        let mut pane = PaneRow {
            id: self.id('%')?,
            title: self.field()?,
            active: self.flag()?,
            command: self.field()?,
            directory: self.field()?,
            pid: self.number()?,
            dead: false,
        };
        window.mark = self.newer_field()?;
        window.layout = self.newer_field()?;
        pane.dead = self.newer_field()? == "1";
        self.end_of_line()?;
        Ok((session_id, window, pane))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(mark: char, fields: &[&str]) -> String {
        let fields: Vec<_> =
            fields.iter().map(|field| format!("{}:{field},", field.len())).collect();
        format!("{mark}{}\n", fields.concat())
    }

    fn one(session: &str, title: &str) -> String {
        rows(session, title) + END
    }

    fn rows(session: &str, title: &str) -> String {
        let mut pane =
            vec!["$1", "@4", "0", "bash", "1", "1700000009", "%5", title, "1", "vim", "/w", "77"];
        pane.extend(["w1", "b25f,80x24,0,0,0", "1"]);
        line('S', &["$1", session, "1700000000", "2", "s1"]) + &line('P', &pane)
    }

    #[test]
    fn a_listing_of_an_older_shed_init_parses() {
        let pane = ["$1", "@4", "0", "bash", "1", "1700000009", "%5", "t", "1", "vim", "/w", "77"];
        let text = line('S', &["$1", "work", "1700000000", "2"]) + &line('P', &pane) + END;
        let session = parse_listing(&text).unwrap().sessions.remove(0);
        assert_eq!((session.mark.as_str(), session.windows[0].mark.as_str()), ("", ""));
        assert!(!session.windows[0].panes[0].dead);
    }

    #[test]
    fn a_listing_parses_into_rows() {
        let listing = parse_listing(&one("work", "my title")).unwrap();
        let session = &listing.sessions[0];
        assert_eq!((session.id, session.name.as_str(), session.n_attached), (1, "work", 2));
        assert_eq!((session.mark.as_str(), session.windows[0].mark.as_str()), ("s1", "w1"));
        assert!(session.windows[0].panes[0].dead);
        let pane = &session.windows[0].panes[0];
        assert_eq!((pane.title.as_str(), pane.command.as_str(), pane.pid), ("my title", "vim", 77));
        assert_eq!(parse_listing(END), Ok(Listing::default()));
    }

    #[test]
    fn the_session_of_companions_is_left_out() {
        assert_eq!(parse_listing(&one(COMPANIONS, "t")), Ok(Listing::default()));
    }

    #[test]
    fn invalid_and_truncated_listings_are_errors() {
        for bad in [
            "X",
            "S",
            "S2:$1,",
            "S2:$1,4:work,1:x,1:0,\n",
            "S99999999999999999999:$1,",
            "S18446744073709551615:$1,",
            "S2:$1,4:work,1:1,1:0,1:0,1:0,\n",
            "S2:x1,4:work,1:1,1:0,\n",
        ] {
            assert!(parse_listing(&format!("{bad}{END}")).is_err(), "{bad:?}");
        }
        let whole = one("work", "t");
        for cut in 0..whole.len() {
            assert!(parse_listing(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let stray = rows("work", "t").replace("S2:$1", "S2:$9") + END;
        assert!(parse_listing(&stray).is_err());
    }

    proptest! {
        #[test]
        fn any_title_and_name_parses_unchanged(session in "(?s).{0,20}", title in "(?s).{0,40}") {
            let listing = parse_listing(&one(&session, &title)).unwrap();
            prop_assert_eq!(&listing.sessions[0].name, &session);
            prop_assert_eq!(&listing.sessions[0].windows[0].panes[0].title, &title);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)[SPE0-9:,$@%\nä]{0,60}") {
            drop(parse_listing(&text));
        }
    }
}
