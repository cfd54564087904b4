//! The whole state of a tmux server, as `watch::list_argv` prints it.
//!
//! Titles and names made by hand may hold any text, so no separator is safe. Each field is printed with its length in
//! bytes before it (`5:hello,`), which tmux can do by itself (`#{n:…}`, tmux 3.2 and later).

use crate::watch::END;

/// All sessions of a tmux server, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The sessions.
    pub sessions: Vec<SessionRow>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The number in `$N`.
    pub id: u32,
    /// Its name, as it is.
    pub name: String,
    /// Seconds since 1970.
    pub created: i64,
    /// How many clients are attached.
    pub n_attached: u32,
    /// What shed has marked it with ([`SESSION_MARK`]); empty for one made by hand.
    pub mark: String,
    /// By index; never empty.
    pub windows: Vec<WindowRow>,
}

/// A window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRow {
    /// The number in `@N`.
    pub id: u32,
    /// Its place.
    pub index: u32,
    /// Its name, as it is.
    pub name: String,
    /// Whether it is the session's current one.
    pub active: bool,
    /// Seconds since 1970 of its last output.
    pub activity: i64,
    /// What shed has marked it with ([`WORKER_MARK`]); empty for one made by hand.
    pub mark: String,
    /// How its panes share its space, as `select-layout` takes it.
    pub layout: String,
    /// By index; never empty.
    pub panes: Vec<PaneRow>,
}

/// A pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaneRow {
    /// The number in `%N`.
    pub id: u32,
    /// Its title, as it is.
    pub title: String,
    /// Whether it is the window's active one.
    pub active: bool,
    /// The foreground command.
    pub command: String,
    /// The foreground command's directory.
    pub directory: String,
    /// The process tmux started in it.
    pub pid: u32,
    /// Whether that process has ended and the pane was kept.
    pub dead: bool,
}

/// The option of a session that shed made; its value is shed's id of it.
pub const SESSION_MARK: &str = "@shed_session";
/// The option of a window with a worker in it; its value is the worker's id.
pub const WORKER_MARK: &str = "@shed_worker";

/// A listing that does not parse: where and why. Nothing of it is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tmux listing, byte {at}: {why}")]
pub struct ListingError {
    at: usize,
    why: &'static str,
}

/// The fields of a session's line, after the mark `S`. A shed-init of before 0.2 does not send the last.
pub(crate) const SESSION_FIELDS: &[&str] =
    &["session_id", "session_name", "session_created", "session_attached", SESSION_MARK];

/// The fields of a pane's line, after the mark `P`. A shed-init of before 0.2 does not send the last three.
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

/// Reads the output of `watch::list_argv`. A line that does not parse is an error, and so is a listing without its end.
pub fn parse_listing(text: &str) -> Result<Listing, ListingError> {
    let mut reader = Reader { text, at: 0 };
    let mut sessions: Vec<SessionRow> = Vec::new();
    loop {
        match reader.mark()? {
            Mark::Session => sessions.push(reader.session()?),
            Mark::Pane => {
                let (session_id, window, pane) = reader.pane()?;
                // tmux prints both halves at one moment; a pane without session is no listing of its.
                let session = sessions.iter_mut().find(|row| row.id == session_id);
                let session = session.ok_or(reader.error("a pane of no session"))?;
                match session.windows.iter_mut().find(|row| row.id == window.id) {
                    Some(known) => known.panes.push(pane),
                    None => session.windows.push(WindowRow { panes: vec![pane], ..window }),
                }
            }
            Mark::End => break,
        }
    }
    for session in &mut sessions {
        session.windows.sort_by_key(|row| row.index);
    }
    sessions.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    Ok(Listing { sessions })
}

/// What begins a line.
enum Mark {
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

    fn mark(&mut self) -> Result<Mark, ListingError> {
        let rest = &self.text[self.at..];
        if rest == END {
            return Ok(Mark::End);
        }
        let mark = match rest.chars().next() {
            Some('S') => Mark::Session,
            Some('P') => Mark::Pane,
            Some(_) => return Err(self.error("expected S, P or E")),
            None => return Err(self.error("the end is missing")),
        };
        self.at += 1;
        Ok(mark)
    }

    fn field(&mut self) -> Result<String, ListingError> {
        let rest = &self.text[self.at..];
        let colon = rest.find(':').ok_or(self.error("expected a length"))?;
        let length: usize =
            rest[..colon].parse().map_err(|_| self.error("a length is no number"))?;
        let end = colon.checked_add(1).and_then(|start| start.checked_add(length));
        let field =
            end.and_then(|end| rest.get(colon + 1..end)).ok_or(self.error("a field is cut"))?;
        let after = colon + 1 + length;
        if !rest[after..].starts_with(',') {
            return Err(self.error("a field is longer than its length"));
        }
        self.at += after + 1;
        Ok(field.to_owned())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, ListingError> {
        let why = self.error("a field is no number");
        self.field()?.parse().map_err(|_| why)
    }

    fn id(&mut self, sigil: char) -> Result<u32, ListingError> {
        let why = self.error("a field is no id");
        self.field()?.strip_prefix(sigil).and_then(|digits| digits.parse().ok()).ok_or(why)
    }

    fn flag(&mut self) -> Result<bool, ListingError> {
        let why = self.error("a field is no flag");
        match self.field()?.as_str() {
            "1" => Ok(true),
            "0" => Ok(false),
            _ => Err(why),
        }
    }

    /// A field at the end of a line that older listings do not have.
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
    fn a_listing_of_an_older_shed_init_is_read() {
        let pane = ["$1", "@4", "0", "bash", "1", "1700000009", "%5", "t", "1", "vim", "/w", "77"];
        let text = line('S', &["$1", "work", "1700000000", "2"]) + &line('P', &pane) + END;
        let session = parse_listing(&text).unwrap().sessions.remove(0);
        assert_eq!((session.mark.as_str(), session.windows[0].mark.as_str()), ("", ""));
        assert!(!session.windows[0].panes[0].dead);
    }

    #[test]
    fn a_listing_becomes_rows() {
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
    fn what_does_not_parse_is_an_error() {
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
        fn no_title_or_name_breaks_it(session in "(?s).{0,20}", title in "(?s).{0,40}") {
            let listing = parse_listing(&one(&session, &title)).unwrap();
            prop_assert_eq!(&listing.sessions[0].name, &session);
            prop_assert_eq!(&listing.sessions[0].windows[0].panes[0].title, &title);
        }

        #[test]
        fn no_text_panics(text in "(?s)[SPE0-9:,$@%\nä]{0,60}") {
            drop(parse_listing(&text));
        }
    }
}
