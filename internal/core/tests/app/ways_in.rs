//! What a command finds is the same whichever way somebody comes in: directory, tmux server, locale, terminal and
//! `PATH`.

use std::collections::BTreeMap;

use shed_api::shed::CreateShed;
use shed_api::stream::{AttachOpen, ConsoleOpen, ExecOpen, ExecRequest, ExecSpec, Tty};
use shed_core::{Attach, Exec, ExecKind, Started, Stream};
use shed_testing::TestApp;
use tokio::io::AsyncWriteExt as _;

use crate::support::{attach, open, run, session, shed, tty, until};

/// A way to run something in a shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Attach,
    Console,
    ExecInTerminal,
    ExecInPipes,
    ExecToEnd,
    SshShell,
    SshShellInTerminal,
    SshLine,
    SshLineInTerminal,
}

use Way::{
    Attach as AttachWay, Console, ExecInPipes, ExecInTerminal, ExecToEnd, SshLine,
    SshLineInTerminal, SshShell, SshShellInTerminal,
};

const WAYS: [Way; 9] = [
    AttachWay,
    Console,
    ExecInTerminal,
    ExecInPipes,
    ExecToEnd,
    SshShell,
    SshShellInTerminal,
    SshLine,
    SshLineInTerminal,
];

/// What the callers are asked to print.
const LINE: &str = "echo \"[$PWD|$TMUX_TMPDIR|$LANG|$LC_ALL|$COLORTERM|$PATH|$TERM]\"";

/// A terminal in whose lines the answer has room.
fn wide() -> Tty {
    Tty { cols: 400, ..tty() }
}

/// The environment of a caller on another machine, whose language the shed does not have.
fn of_caller() -> BTreeMap<String, String> {
    [("LANG", "xx_XX.UTF-8"), ("LC_ALL", "POSIX"), ("COLORTERM", "truecolor")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl Way {
    /// Whether it starts a login shell, for which the `/etc/profile` of this machine counts.
    fn is_login(self) -> bool {
        matches!(self, AttachWay | Console | SshShell | SshShellInTerminal)
    }

    fn has_terminal(self) -> bool {
        !matches!(self, ExecInPipes | ExecToEnd | SshShell | SshLine)
    }

    /// What [`LINE`] prints, up to what a test of it looks for.
    async fn prints(self, test: &TestApp, end: &str) -> String {
        let (streams, admin, name) = (test.app.streams(), &test.admin, shed("a"));
        let env = of_caller();
        let words = ["sh", "-c", LINE];
        let exec = |tty| ExecOpen {
            exec: ExecSpec { env: env.clone(), ..open(&words).exec },
            tty,
            ..ExecOpen::default()
        };
        let ssh = |kind, tty| Exec { kind, env: env.clone().into_iter().collect(), tty };
        let line = || ExecKind::Line(LINE.as_bytes().to_vec());
        let mut running: Stream = match self {
            AttachWay => {
                let open = AttachOpen { env, tty: wide(), ..attach().open };
                let attach = Attach { open, connection: Vec::new() };
                streams.attach(admin, &name, &session("way-in"), attach).await.unwrap()
            }
            Console => {
                let open = ConsoleOpen { tty: wide(), root: false, env };
                streams.console(admin, &name, open).await.unwrap()
            }
            ExecInTerminal | ExecInPipes => {
                let tty = self.has_terminal().then(wide);
                match streams.exec(admin, &name, exec(tty)).await.unwrap() {
                    Started::Running(running) => *running,
                    Started::Detached(_) => panic!("it is detached"),
                }
            }
            ExecToEnd => {
                let request = ExecRequest { env, ..run(&words) };
                let ran = streams.exec_to_end(admin, &name, request, Vec::new()).await;
                return ran.unwrap().stdout;
            }
            SshShell => streams.ssh(admin, &name, ssh(ExecKind::Shell, None)).await.unwrap(),
            SshShellInTerminal => {
                streams.ssh(admin, &name, ssh(ExecKind::Shell, Some(wide()))).await.unwrap()
            }
            SshLine => streams.ssh(admin, &name, ssh(line(), None)).await.unwrap(),
            SshLineInTerminal => {
                streams.ssh(admin, &name, ssh(line(), Some(wide()))).await.unwrap()
            }
        };
        if self.is_login() {
            let input = running.input.as_mut().unwrap();
            input.write_all(format!("{LINE}\n").as_bytes()).await.unwrap();
        }
        until(&mut running, end).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_locale_terminal_and_path_are_the_same_for_all_ways_in() {
    let test = TestApp::start().await;
    let path = format!("/opt/of/the/image:{}", std::env::var("PATH").unwrap());
    let env = [("PATH".to_owned(), path.clone())].into();
    let request = CreateShed { name: "a".to_owned(), env, ..CreateShed::default() };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    test.app.sheds().created(&test.admin, &shed("a")).await.unwrap();
    let workspace = test.engine.workspace("a");
    let tmux_dir = test.engine.tmux_dir("a");
    for way in WAYS {
        // What a command is given on purpose, without a terminal of the caller's, stays as it is.
        let lang = if matches!(way, ExecInPipes | ExecToEnd) { "xx_XX.UTF-8" } else { "C.UTF-8" };
        let start =
            format!("[{}|{}|{lang}|POSIX|truecolor|", workspace.display(), tmux_dir.display());
        let expected = match way {
            _ if way.is_login() => start,
            _ if way.has_terminal() => format!("{start}{path}|xterm-256color]"),
            _ => format!("{start}{path}|"),
        };
        let seen = way.prints(&test, &expected).await;
        assert!(seen.contains(&expected), "{way:?}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_gets_nothing_of_the_environment_that_the_creator_chose() {
    let test = TestApp::start().await;
    let path = format!("/of/the/creator:{}", std::env::var("PATH").unwrap());
    let chosen =
        [("PATH", path.as_str()), ("BASH_ENV", "/of/the/creator"), ("FOO", "/of/the/creator")];
    let env = chosen.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let request = CreateShed { name: "a".to_owned(), env, ..CreateShed::default() };
    test.app.sheds().create(&test.admin, request).await.unwrap();
    test.app.sheds().created(&test.admin, &shed("a")).await.unwrap();
    let env = BTreeMap::from([("GIVEN".to_owned(), "by-the-admin".to_owned())]);
    let request = ExecRequest { root: true, env, ..run(&["env"]) };
    let ran = test.app.streams().exec_to_end(&test.admin, &shed("a"), request, Vec::new()).await;
    let seen = ran.unwrap().stdout;
    assert!(!seen.contains("/of/the/creator"), "{seen}");
    assert!(seen.contains("SHED_NAME=a\n") && seen.contains("GIVEN=by-the-admin\n"), "{seen}");
}
