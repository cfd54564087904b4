//! Waiting in tests, in one place: for a condition, a text or an item, with a limit, and failing with what was last seen.
//!
//! Where a channel or a stream reports the change, wait for that: [`item`] and [`text`]. Where nothing does, ask again:
//! [`eventually`] and [`until`].

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The first pause between two questions; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// The longest one: what is asked may cost something, and the test should not be much later than the change.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The answer to a question that is asked until it is answered: an `Option`, or a `Result` whose error says what was seen.
pub trait Answer {
    /// What the test waits for.
    type Found;

    /// It, or what was seen instead.
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Answer for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Debug> Answer for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Asks until there is an answer. Fails the test after [`LIMIT`].
pub async fn eventually<A: Answer, F: Future<Output = A>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> A::Found {
    let mut waiting = Waiting::new(LIMIT);
    loop {
        match ask().await.found() {
            Ok(found) => return found,
            Err(seen) => tokio::time::sleep(waiting.pause(|| describe(what, &seen))).await,
        }
    }
}

/// Observes until what is seen fits. Fails the test after [`LIMIT`] and shows what was seen last.
pub async fn until<T: Debug, F: Future<Output = T>>(
    what: &str,
    mut observe: impl FnMut() -> F,
    fits: impl Fn(&T) -> bool,
) -> T {
    let mut waiting = Waiting::new(LIMIT);
    loop {
        let seen = observe().await;
        if fits(&seen) {
            return seen;
        }
        tokio::time::sleep(waiting.pause(|| describe(what, &format!("{seen:?}")))).await;
    }
}

/// Asks until there is an answer, from a test without a runtime. Fails the test after [`LIMIT`].
pub fn eventually_blocking<A: Answer>(what: &str, ask: impl FnMut() -> A) -> A::Found {
    within_blocking(LIMIT, |seen| describe(what, seen), ask)
}

/// Like [`eventually_blocking`] with a limit and a message of its own; the message gets what was seen last.
pub fn within_blocking<A: Answer>(
    limit: Duration,
    message: impl Fn(&str) -> String,
    mut ask: impl FnMut() -> A,
) -> A::Found {
    let mut waiting = Waiting::new(limit);
    loop {
        match ask().found() {
            Ok(found) => return found,
            Err(seen) => std::thread::sleep(waiting.pause(|| message(&seen))),
        }
    }
}

/// Reads pieces of output until they show `wanted`; all that was read. `None` is the end.
pub async fn text(wanted: &str, mut read: impl AsyncFnMut() -> Option<Vec<u8>>) -> String {
    let mut seen = Vec::new();
    loop {
        let shown = String::from_utf8_lossy(&seen);
        if shown.contains(wanted) {
            return shown.into_owned();
        }
        let more = tokio::time::timeout(LIMIT, read()).await;
        let more = more.unwrap_or_else(|_| panic!("{wanted:?} did not show in {shown:?}"));
        let more = more.unwrap_or_else(|| panic!("the end came before {wanted:?} in {shown:?}"));
        seen.extend(more);
    }
}

/// Takes items until one fits, and returns it. `None` is the end.
pub async fn item<T: Debug>(
    what: &str,
    mut next: impl AsyncFnMut() -> Option<T>,
    fits: impl Fn(&T) -> bool,
) -> T {
    let mut last = None;
    loop {
        let item = tokio::time::timeout(LIMIT, next()).await;
        let item = item.unwrap_or_else(|_| panic!("{what} did not come; last: {last:?}"));
        let item = item.unwrap_or_else(|| panic!("the end came before {what}; last: {last:?}"));
        if fits(&item) {
            return item;
        }
        last = Some(item);
    }
}

fn describe(what: &str, seen: &str) -> String {
    format!("{what}: not within {} s; last seen: {seen}", LIMIT.as_secs())
}

/// The pauses of one wait.
struct Waiting {
    begin: Instant,
    limit: Duration,
    next: Duration,
}

impl Waiting {
    fn new(limit: Duration) -> Self {
        Self { begin: Instant::now(), limit, next: FIRST_PAUSE }
    }

    /// How long to pause before the next question. Fails the test if the limit has passed.
    fn pause(&mut self, message: impl FnOnce() -> String) -> Duration {
        assert!(self.begin.elapsed() < self.limit, "{}", message());
        let pause = self.next;
        self.next = LONGEST_PAUSE.min(pause * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_fails_with_what_was_last_seen() {
        let mut n_asked = 0;
        let failed = std::panic::catch_unwind(move || {
            within_blocking(
                Duration::from_millis(5),
                |seen| format!("last: {seen}"),
                || {
                    n_asked += 1;
                    Err::<(), _>(format!("{n_asked} > 1: {}", n_asked > 1))
                },
            );
        });
        let message = failed.unwrap_err();
        let message = message.downcast_ref::<String>().unwrap();
        assert!(message.starts_with("last: ") && message.contains("> 1: true"), "{message}");
    }
}
