//! Runs the command lines and the parser with the installed tmux.
#![cfg(test)]

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};

use shed_tmux::argv::{self, Join, Target, WorkerWindow};
use shed_tmux::{TmuxError, input, parse_listing, watch};

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
        self.command(argv).output().unwrap()
    }

    fn command(&self, argv: &[String]) -> Command {
        let mut words = argv.to_vec();
        words.splice(1..1, ["-f".to_owned(), "/dev/null".to_owned()]);
        // Without a locale tmux replaces the most characters in its output.
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("TMUX_TMPDIR", self.dir.path())
            .env("SHELL", "/bin/sh");
        command
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
        let listing = parse_listing(&self.ok(&watch::list_argv())).unwrap();
        listing.sessions.into_iter().map(|row| row.name).collect()
    }

    fn paste(&self, session: &str, text: &str) {
        for command in input::paste("test", &named(session).pane(), text) {
            self.ok(&command);
        }
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
fn a_server_without_sessions_keeps_running_and_lists_nothing() {
    let server = Server::start();
    assert!(server.names().is_empty());
    server.ok(&argv::new_session("a", &[], &[]));
    server.ok(&argv::kill_session(&named("a")));
    assert!(server.names().is_empty());
}

#[test]
fn killing_a_session_by_a_prefix_of_its_name_fails() {
    let server = Server::start();
    server.ok(&argv::new_session("foobar", &[], &[]));
    assert_eq!(server.error(&argv::kill_session(&named("foo"))), TmuxError::NoSession);
    assert_eq!(server.error(&argv::kill_session(&named("sh"))), TmuxError::NoSession);
    assert_eq!(server.names(), ["foobar"]);
}

#[test]
fn creating_a_session_twice_is_a_duplicate() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    assert_eq!(server.error(&argv::new_session("a", &[], &[])), TmuxError::Duplicate);
}

#[test]
fn hostile_titles_and_names_are_listed_unchanged() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    let title = "t\u{1f680} 5:x, #{session_name} ;";
    server.ok(&words(&["tmux", "-u", "select-pane", "-t", "=a:", "-T", "plain"]));
    server.ok(&words(&["tmux", "-u", "rename-window", "-t", "=a:", "S2:$1,\u{1f680}"]));
    server.paste("a", &format!("printf '\\033]2;{title}\\007'"));
    server.ok(&input::press_keys(&named("a").pane(), &words(&["Enter"])));
    let listing = loop {
        let listing = parse_listing(&server.ok(&watch::list_argv())).unwrap();
        if listing.sessions[0].windows[0].panes[0].title == title {
            break listing;
        }
    };
    assert_eq!(listing.sessions[0].windows[0].name, "S2:$1,\u{1f680}");
}

#[test]
fn text_is_typed_unchanged() {
    let server = Server::start();
    let cat = words(&["cat", "-"]);
    server.ok(&argv::new_session("a", &[], &cat));
    let text = "-l 'x' \"$HOME\" #{pid} #(id) ; \\;";
    server.ok(&input::leave_modes(&named("a").pane()));
    server.paste("a", text);
    while !server.capture(&named("a")).contains(text) {}
}

#[test]
fn a_program_that_asks_for_it_is_told_where_a_paste_begins_and_ends() {
    let server = Server::start();
    let script = "stty -icrnl; printf '\\033[?2004h'; echo ready; exec cat -v";
    server.ok(&argv::new_session("a", &[], &words(&["sh", "-c", script])));
    while !server.capture(&named("a")).contains("ready") {}
    server.paste("a", "one\ntwo");
    server.ok(&input::press_keys(&named("a").pane(), &words(&["C-j"])));
    while !server.capture(&named("a")).contains("^[[200~one^Mtwo^[[201~") {}
}

#[test]
fn the_state_of_a_pane_says_whether_its_command_has_ended() {
    let server = Server::start();
    let window = WorkerWindow {
        name: "w".to_owned(),
        mark: "w1".to_owned(),
        keep: true,
        command: words(&["sh", "-c", "read line"]),
    };
    server.ok(&argv::marked_session("a", "s1", &[], &window));
    let state = || input::PaneState::parse(&server.ok(&input::pane_state(&named("a").pane())));
    let there = state().unwrap();
    assert_eq!((there.dead, there.mark.as_str()), (false, "w1"));
    server.ok(&input::press_keys(&there.id, &words(&["Enter"])));
    while !state().unwrap().dead {}
    assert_eq!(input::PaneState::parse(&server.ok(&input::pane_state("=b:"))), None);
}

#[test]
fn sessions_live_on_whatever_the_configuration_says_about_unattached_ones() {
    let server = Server::start();
    let sleep = words(&["sleep", "1000"]);
    server.ok(&argv::new_session("first", &[], &sleep));
    for (scope, option) in [("-g", "destroy-unattached"), ("-s", "exit-unattached")] {
        server.ok(&words(&["tmux", "-u", "set-option", scope, option, "on"]));
    }
    server.ok(&argv::new_session("plain", &[], &sleep));
    let (name, mark) = ("w".to_owned(), "0".to_owned());
    let window = WorkerWindow { name, mark, keep: false, command: sleep };
    server.ok(&argv::marked_session("marked", "0", &[], &window));
    let attach = argv::attach(&named("attached"), Join::CreateOrAttach, false, false, &[]);
    // A tmux client needs a terminal.
    let tmux = server.command(&attach);
    let quoted: Vec<String> =
        tmux.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("exec tmux {}", quoted.join(" ")), "/dev/null"]).env_clear();
    terminal.envs(tmux.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut terminal = terminal.spawn().unwrap();
    let clients = words(&["tmux", "-u", "list-clients", "-F", "#{session_name}"]);
    while server.ok(&clients) != "attached\n" {}
    server.ok(&words(&["tmux", "-u", "detach-client", "-s", "=attached"]));
    terminal.wait().unwrap();
    assert_eq!(server.ok(&clients), "");
    assert_eq!(server.names(), ["attached", "first", "marked", "plain"]);
}

#[test]
fn a_background_window_stays_in_the_background_and_runs_no_shell() {
    let server = Server::start();
    server.ok(&argv::new_session("a", &[], &[]));
    let command = words(&["sh", "-c", "echo \"$1\"; exec sleep 100", "x", "$(id);"]);
    server.ok(&argv::background_window(&named("a"), "exec", &command));
    let listing = parse_listing(&server.ok(&watch::list_argv())).unwrap();
    let windows = &listing.sessions[0].windows;
    assert_eq!(windows.iter().map(|row| row.active).collect::<Vec<_>>(), [true, false]);
    let second = words(&["tmux", "-u", "capture-pane", "-p", "-t", "=a:1"]);
    while !server.ok(&second).contains("$(id);") {}
}

/// Starts a watch and waits until it has printed the state.
fn listed(server: &Server) -> Child {
    let mut watch =
        server.command(&watch::watch_argv("ch")).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = watch.stdout.take().unwrap();
    let mut listing = String::new();
    let mut buffer = [0; 4096];
    while parse_listing(&listing).is_err() {
        let n_read = output.read(&mut buffer).unwrap();
        assert!(n_read > 0, "the watch ended before it had printed the whole state: {listing:?}");
        listing += std::str::from_utf8(&buffer[..n_read]).unwrap();
    }
    watch
}

#[test]
fn a_watch_prints_the_state_and_ends_at_the_next_change() {
    let server = Server::start();
    // Nothing may change by itself: no shell that sets the title, no automatic window name.
    let quiet = words(&["sleep", "1000"]);
    server.ok(&argv::new_session("a", &[], &quiet));
    server.ok(&words(&["tmux", "-u", "set", "-g", "default-command", "exec sleep 1000"]));
    server.ok(&words(&["tmux", "-u", "set", "-g", "automatic-rename", "off"]));
    let changes: [&[&str]; 6] = [
        &["split-window", "-d", "-t", "=a:"],
        &["new-window", "-d", "-t", "=a:"],
        &["rename-window", "-t", "=a:", "x"],
        &["select-pane", "-t", "=a:", "-T", "title"],
        &["rename-session", "-t", "=a", "b"],
        &["kill-session", "-t", "=b"],
    ];
    for change in changes {
        // A change that raises two hooks also ends the next watch. One watch too many is harmless; an endless series is not.
        let waits = (0..4)
            .map(|_| listed(&server))
            .find_map(|mut watch| watch.try_wait().unwrap().is_none().then_some(watch));
        let mut watch =
            waits.unwrap_or_else(|| panic!("watches end without a change, before {change:?}"));
        server.ok(&words(&[&["tmux", "-u"], change].concat()));
        assert!(watch.wait().unwrap().success());
    }
}

#[test]
fn many_watches_and_sessions_at_once_do_not_crash_the_server() {
    let server = Server::start();
    server.ok(&argv::new_session("keep", &[], &[]));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let server = &server;
            scope.spawn(move || {
                for turn in 0..40 {
                    let name = format!("s{thread}-{turn}");
                    server.ok(&argv::new_session(&name, &[], &[]));
                    server.ok(&argv::kill_session(&named(&name)));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..80 {
                server.ok(&watch::watch_argv("ch"));
            }
        });
        // Changes that end the watches, more than there are watches.
        for turn in 0..200 {
            server.ok(&words(&[
                "tmux",
                "-u",
                "select-pane",
                "-t",
                "=keep:",
                "-T",
                &format!("t{turn}"),
            ]));
        }
    });
    assert!(server.names().contains(&"keep".to_owned()));
}
