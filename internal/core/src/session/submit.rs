//! Submitting text to a program in a pane. Every way to give a program text comes here: the command line, the API, batches,
//! and images of viewers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shed_agents::Program;
use shed_api::ShedName;
use shed_api::session::Input;
use shed_guest::Link;
use shed_guest::tmux::Command;
use shed_model::Rejection;
use shed_tmux::input::{self, PaneState};
use tokio::time::sleep;

use crate::Error;
use crate::session::screen::without_controls;

/// The most text typed at once.
const MAX_INPUT_BYTES: usize = 256 << 10;
/// The most keys pressed at once.
const MAX_KEYS: usize = 256;

/// Held by who submits to a pane.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Who submits to which pane now: one at a time, so that no text comes between another's text and Enter. Clones are the
/// same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    /// By shed and pane.
    panes: Arc<Mutex<HashMap<(String, String), Turn>>>,
}

impl Turns {
    fn of(&self, shed: &ShedName, pane: &str) -> Turn {
        let mut panes = self.panes.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds or waits for.
        panes.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(panes.entry((shed.to_string(), pane.to_owned())).or_default())
    }
}

/// Refuses input that no pane can be given.
pub(crate) fn check(input: &Input) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    let too_large = |text: String| Err(Error::Rejected(Rejection::TooLarge(text)));
    match (&input.text, input.keys.as_slice()) {
        (Some(_), [_, ..]) => return invalid("invalid input; expected text or keys, not both"),
        (None, []) if !input.enter => {
            return invalid("invalid input; expected text, keys or enter");
        }
        (Some(text), []) if text.len() > MAX_INPUT_BYTES => {
            return too_large(format!("the text is longer than {MAX_INPUT_BYTES} bytes"));
        }
        (Some(text), []) if text.contains('\0') => {
            return invalid("the text contains a NUL byte");
        }
        (None, keys) if keys.len() > MAX_KEYS => {
            return too_large(format!("more than {MAX_KEYS} keys"));
        }
        (Some(_) | None, []) | (None, [_, ..]) => {}
    }
    match input.keys.iter().find(|key| !input::is_key_name(key)) {
        Some(bad) => {
            invalid(&format!("invalid key {bad:?}; expected a name like Enter, C-c, Up or F5"))
        }
        None => Ok(()),
    }
}

/// A pane to which input goes.
pub(crate) struct Pane<'a> {
    pub(crate) turns: &'a Turns,
    pub(crate) link: &'a Link,
    pub(crate) shed: &'a ShedName,
    /// The session's name, for errors.
    pub(crate) session: &'a str,
    /// tmux's target of a pane, or of a session or window for its active one.
    pub(crate) target: &'a str,
}

impl Pane<'_> {
    /// Pastes the text or presses the keys, and then Enter, if the input asks for it. `program` gives the program of a worker
    /// by the worker's id. The input was checked.
    pub(crate) async fn submit(
        &self,
        input: &Input,
        program: impl FnOnce(&str) -> Option<Program>,
    ) -> Result<(), Error> {
        let pane = self.state(self.target).await?;
        let turn = self.turns.of(self.shed, &pane.id);
        let _turn = turn.lock().await;
        // Who came first may have ended the command.
        if self.state(&pane.id).await?.dead {
            let (shed, session) = (self.shed.clone(), self.session.to_owned());
            let text = "the command in its active window has ended".to_owned();
            return Err(Error::SessionBusy { shed, session, text });
        }
        self.tmux(input::leave_modes(&pane.id)).await?;
        let mut pause = Duration::ZERO;
        if let Some(text) = input.text.as_deref().filter(|text| !text.is_empty()) {
            // What the program of another window needs is not known.
            let program = program(&pane.mark).unwrap_or_default();
            self.paste(&pane.id, &program.as_text(&plain(text))).await?;
            pause = program.submit_delay;
        }
        if !input.keys.is_empty() {
            self.tmux(input::press_keys(&pane.id, &input.keys)).await?;
        }
        if input.enter {
            sleep(pause).await;
            self.tmux(input::press_keys(&pane.id, &["Enter".to_owned()])).await?;
        }
        Ok(())
    }

    async fn state(&self, target: &str) -> Result<PaneState, Error> {
        let printed = self.tmux(input::pane_state(target)).await?;
        PaneState::parse(&printed).ok_or_else(|| Error::NoSession {
            shed: self.shed.clone(),
            session: self.session.to_owned(),
        })
    }

    async fn paste(&self, pane: &str, text: &str) -> Result<(), Error> {
        let buffer = format!("shed-{}", uuid::Uuid::new_v4().simple());
        for argv in input::paste(&buffer, pane, text) {
            if let Err(error) = self.tmux(argv).await {
                self.tmux(input::forget_paste(&buffer)).await.ok();
                return Err(error);
            }
        }
        Ok(())
    }

    async fn tmux(&self, argv: Vec<String>) -> Result<String, Error> {
        let ran = Command::new(argv).run(self.link).await;
        ran.map_err(|failure| Error::tmux(self.shed, self.session, failure))
    }
}

/// Text as it is pasted: no character of it can end the paste or control the terminal.
fn plain(text: &str) -> String {
    without_controls(&text.replace("\r\n", "\n").replace('\r', "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_text_or_keys() {
        let input = |text: Option<&str>, keys: &[&str], enter| Input {
            text: text.map(str::to_owned),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            enter,
        };
        for good in [
            input(Some("x"), &[], true),
            input(None, &["C-c", "Up"], false),
            input(None, &[], true),
        ] {
            assert!(check(&good).is_ok(), "{good:?}");
        }
        for bad in [
            input(None, &[], false),
            input(Some("x"), &["Up"], false),
            input(None, &["rm -rf"], false),
            input(None, &["Up"; MAX_KEYS + 1], false),
            input(Some("\0"), &[], false),
            input(Some(&"x".repeat(MAX_INPUT_BYTES + 1)), &[], false),
        ] {
            assert!(check(&bad).is_err());
        }
    }

    #[test]
    fn pasted_text_cannot_end_its_paste() {
        assert_eq!(plain("a\r\nb\rc\t\x1b[201~\r!ls\x03\u{9b}201~"), "a\nb\nc\t[201~\n!ls201~");
    }

    #[test]
    fn a_pane_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let shed: ShedName = "a".parse().unwrap();
        let turn = turns.of(&shed, "%1");
        assert!(Arc::ptr_eq(&turn, &turns.of(&shed, "%1")));
        assert!(!Arc::ptr_eq(&turn, &turns.of(&shed, "%2")));
        drop(turn);
        turns.of(&shed, "%3");
        assert_eq!(turns.panes.lock().unwrap().len(), 1, "finished turns are forgotten");
    }
}
