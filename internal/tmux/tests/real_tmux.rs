//! The words and the parser against the tmux of this machine.
#![cfg(test)]

use std::process::{Command, Output};

use shed_tmux::argv::{self, Target};
use shed_tmux::{TmuxError, parse_listing, watch};

struct Server {
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let server = Self { dir: tempfile::tempdir().unwrap() };
        server.ok(&watch::start_argv());
        server
    }

    fn run(&self, argv: &[String]) -> Output {
        let mut words = argv.to_vec();
        words.splice(1..1, ["-f".to_owned(), "/dev/null".to_owned()]);
        // No locale at all: the worst case for what tmux prints.
        Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("TMUX_TMPDIR", self.dir.path())
            .env("SHELL", "/bin/sh")
            .output()
            .unwrap()
    }

    fn ok(&self, argv: &[String]) -> String {
        let output = self.run(argv);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{argv:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn error(&self, argv: &[String]) -> TmuxError {
        let output = self.run(argv);
        assert!(!output.status.success(), "{argv:?} succeeded");
        TmuxError::parse(&String::from_utf8_lossy(&output.stderr))
    }

    fn names(&self) -> Vec<String> {
        let listing = parse_listing(&self.ok(&watch::list_argv("test"))).unwrap();
        listing.sessions.into_iter().map(|row| row.name).collect()
    }

    fn capture(&self, target: &Target) -> String {
        self.ok(&argv::capture(target, None, false))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run(&["tmux".to_owned(), "kill-server".to_owned()]);
    }
}

fn named(name: &str) -> Target {
    Target::Name(name.to_owned())
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_server_without_sessions_lists_nothing_and_lives() {
    let server = Server::start();
    assert!(server.names().is_empty());
    server.ok(&argv::new_session("a", &[], &[]));
    server.ok(&argv::kill_session(&named("a")));
    assert!(server.names().is_empty());
}

#[test]
fn killing_a_prefix_kills_nothing_else() {
    let server = Server::start();
    server.ok(&argv::new_session("foobar", &[], &[]));
    assert_eq!(server.error(&argv::kill_session(&named("foo"))), TmuxError::NoSession);
    assert_eq!(server.error(&argv::kill_session(&named("sh"))), TmuxError::NoSession);
    assert_eq!(server.names(), ["foobar"]);
}

#[test]
fn a_second_session_of_a_name_is_a_duplicate() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    assert_eq!(server.error(&argv::new_session("a", &[], &[])), TmuxError::Duplicate);
}

#[test]
fn hostile_titles_and_names_are_data() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    let title = "t\u{1f680} 5:x, #{session_name} ;";
    server.ok(&words(&["tmux", "-u", "select-pane", "-t", "=a:", "-T", "plain"]));
    server.ok(&words(&["tmux", "-u", "rename-window", "-t", "=a:", "S2:$1,\u{1f680}"]));
    server.ok(&argv::type_text(&named("a"), &format!("printf '\\033]2;{title}\\007'"))[0]);
    server.ok(&argv::press_keys(&named("a"), &words(&["Enter"])));
    let listing = loop {
        let listing = parse_listing(&server.ok(&watch::list_argv("test"))).unwrap();
        if listing.sessions[0].windows[0].panes[0].title == title {
            break listing;
        }
    };
    assert_eq!(listing.sessions[0].windows[0].name, "S2:$1,\u{1f680}");
}

#[test]
fn text_is_typed_as_it_is() {
    let server = Server::start();
    let cat = words(&["cat", "-"]);
    server.ok(&argv::new_session("a", &[], &cat));
    let text = "-l 'x' \"$HOME\" #{pid} #(id) ; \\;";
    server.ok(&argv::leave_modes(&named("a")));
    for command in argv::type_text(&named("a"), text) {
        server.ok(&command);
    }
    while !server.capture(&named("a")).contains(text) {}
}

#[test]
fn a_background_window_takes_no_focus_and_its_words_no_shell() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    let command = words(&["sh", "-c", "echo \"$1\"; exec sleep 100", "x", "$(id);"]);
    server.ok(&argv::background_window(&named("a"), "exec", &command));
    let listing = parse_listing(&server.ok(&watch::list_argv("test"))).unwrap();
    let windows = &listing.sessions[0].windows;
    assert_eq!(windows.iter().map(|row| row.active).collect::<Vec<_>>(), [true, false]);
    let second = words(&["tmux", "-u", "capture-pane", "-p", "-t", "=a:1"]);
    while !server.ok(&second).contains("$(id);") {}
}

#[test]
fn the_waiter_ends_when_its_channel_is_signalled_by_a_hook() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    server.ok(&watch::list_argv("ch1"));
    let waiter = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| server.run(&watch::wait_argv("ch1")));
        server.ok(&words(&["tmux", "-u", "split-window", "-d", "-t", "=a:"]));
        waiter.join().unwrap()
    });
    assert!(waiter.status.success());
}
