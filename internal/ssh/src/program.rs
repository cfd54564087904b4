//! What runs behind a session channel: a shell, a command, sftp, a session's terminal, or the pipe to the API.

use shed_model::Rejection;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use shed_api::Problem;
use shed_api::stream::{AttachOpen, Exit};
use shed_core::{App, Attach, Error, Exec, ExecKind, Running};
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use crate::channels::{Channels, Lane, Steering, Waiting};
use crate::login::Login;
use crate::pump::{self, Way};
use crate::server::ApiPipe;
use crate::terminal::Terminal;
use crate::visitor::Visitor;

/// When a program has ended, its status is not held back for output of its children longer than this.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);
/// The status of what could not run, or of what nobody knows how it ended: sshd's word for it.
const NO_STATUS: u32 = 255;
/// Between the channel and the API.
const API_PIPE_BYTES: usize = 256 << 10;

/// A program and its channel. Runs as a task of the App; ends with the program or with the channel.
pub(crate) struct Program {
    pub(crate) app: App,
    pub(crate) api: Option<ApiPipe>,
    pub(crate) visitor: Arc<Visitor>,
    pub(crate) kind: ExecKind,
    /// Where the user's ssh-agent is reached in the shed, if it is lent.
    pub(crate) agent: Option<String>,
    pub(crate) waiting: Waiting,
    pub(crate) lane: Arc<Lane>,
    pub(crate) steering: Steering,
    pub(crate) channels: Arc<Channels>,
    pub(crate) handle: Handle,
}

/// The ends a program's bytes are passed between, once it runs.
struct Line<'a> {
    write: &'a ChannelWriteHalf<Msg>,
    lane: &'a Lane,
    handle: &'a Handle,
}

impl Program {
    /// Runs it. What it holds in the shed goes when this returns: a program that still runs then gets HUP.
    pub(crate) async fn run(self) {
        let (channels, lane, id) =
            (Arc::clone(&self.channels), Arc::clone(&self.lane), self.waiting.write.id());
        tokio::select! {
            () = self.serve() => {}
            () = lane.closed.cancelled() => {}
        }
        channels.close(id);
    }

    async fn serve(mut self) {
        let words = std::mem::take(&mut self.waiting.env);
        let env = self.environment(&words);
        let Waiting { write, terminal, .. } = self.waiting;
        let line = Line { write: &write, lane: &self.lane, handle: &self.handle };
        let started = match (&self.visitor.login, &self.kind, self.api) {
            (Ok(Login::Api), ExecKind::Shell, Some(api)) => {
                return line.join_api(&api, &self.visitor).await;
            }
            (Ok(Login::Api), _, Some(_)) => {
                Err(Error::Rejected(Rejection::Invalid("the API takes no command".to_owned()))
                    .problem())
            }
            (Ok(Login::Api), _, None) => Err(Error::Rejected(Rejection::Invalid(
                "this server has no API over SSH".to_owned(),
            ))
            .problem()),
            (Err(problem), ..) => Err((**problem).clone()),
            (Ok(login), ..) => {
                let started = start(
                    &self.app,
                    &self.visitor,
                    login,
                    self.kind,
                    terminal.as_ref(),
                    words,
                    env,
                );
                started.await.map_err(|error| error.problem())
            }
        };
        match started {
            Ok(running) => line.pass(running, terminal.as_ref(), &mut self.steering).await,
            Err(problem) => line.refuse(&problem, terminal.is_some()).await,
        }
    }

    fn environment(&mut self, words: &[(String, String)]) -> Vec<(String, String)> {
        let mut env = words.to_vec();
        env.extend(self.visitor.variables());
        env.extend(self.agent.take().map(|path| ("SSH_AUTH_SOCK".to_owned(), path)));
        env
    }
}

/// `words` are the client's own variables, `env` is all that the program gets.
async fn start(
    app: &App,
    visitor: &Visitor,
    login: &Login,
    kind: ExecKind,
    terminal: Option<&Terminal>,
    words: Vec<(String, String)>,
    env: Vec<(String, String)>,
) -> Result<Running, Error> {
    let tty = terminal.map(|terminal| terminal.tty.clone());
    match (login, kind, tty) {
        (Login::Api, ..) => {
            Err(Error::Rejected(Rejection::Invalid("the API is no shed".to_owned())))
        }
        (Login::Shed(shed), kind, tty) => {
            app.exec_ssh(&visitor.person, shed, Exec { kind, env, tty }).await
        }
        (Login::Session(shed, session), ExecKind::Shell, Some(tty)) => {
            let open = AttachOpen {
                tty,
                new: false,
                existing: false,
                read_only: false,
                detach_others: false,
                env: words.into_iter().collect(),
            };
            app.attach(&visitor.person, shed, session, Attach { open, env }).await
        }
        (Login::Session(_, session), ExecKind::Shell, None) => Err(Error::Rejected(
            Rejection::Invalid(format!("session {session} needs a terminal: use ssh -t")),
        )),
        (Login::Session(shed, session), ExecKind::Line(_) | ExecKind::Sftp, _) => {
            let text = format!("session {session} takes no command: log in as {shed} alone");
            Err(Error::Rejected(Rejection::Invalid(text)))
        }
    }
}

impl Line<'_> {
    /// Passes bytes, sizes and signals until the end. Like sshd: the status goes out when the program has ended, the
    /// channel ends when its output has.
    async fn pass(&self, running: Running, terminal: Option<&Terminal>, steering: &mut Steering) {
        let Running { input, output, errors, control, mut exit } = running;
        if let (Some(terminal), Some(fd)) = (terminal, control.terminal()) {
            terminal.set_modes(fd);
        }
        let outputs = async {
            let errors = async {
                if let Some(errors) = errors {
                    pump::send(errors, self.write, Way::Errors).await;
                }
            };
            tokio::join!(pump::send(output, self.write, Way::Output), errors);
        };
        let ended = async {
            tokio::pin!(outputs);
            let mut drained = false;
            let exit = exit.wait();
            tokio::pin!(exit);
            let exit = loop {
                tokio::select! {
                    exit = &mut exit => break exit,
                    () = &mut outputs, if !drained => drained = true,
                }
            };
            if !drained {
                drained = timeout(DRAIN_LIMIT, &mut outputs).await.is_ok();
            }
            self.tell(exit, terminal.is_some()).await;
            if !drained {
                outputs.await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.feed(input) => {}
            () = steer(&control, steering) => {}
        }
        self.end().await;
    }

    /// Never returns: a program lives on when its input has ended.
    async fn feed(&self, input: Option<impl AsyncWrite + Unpin>) {
        match input {
            Some(input) => pump::feed(&self.lane.inbox, input).await,
            None => self.lane.inbox.close(),
        }
        std::future::pending::<()>().await;
    }

    /// How a program ended. If that fails, the connection is gone and nobody is left to tell.
    async fn tell(&self, exit: Option<Exit>, in_terminal: bool) {
        match exit {
            Some(Exit::Code(code)) => drop(self.write.exit_status(code.into()).await),
            Some(Exit::Signal(name)) => {
                let told = self.handle.exit_signal_request(
                    self.write.id(),
                    Sig::Custom(wire_name(name)),
                    false,
                    String::new(),
                    String::new(),
                );
                told.await.ok();
            }
            None => {
                let lost = Error::Connect("the shed went away".to_owned()).problem();
                self.say(&lost, in_terminal).await;
                self.write.exit_status(NO_STATUS).await.ok();
            }
        }
    }

    async fn say(&self, problem: &Problem, in_terminal: bool) {
        let newline = if in_terminal { "\r\n" } else { "\n" };
        let hint = problem.hint.iter().map(|hint| format!("hint: {hint}{newline}"));
        let text: String =
            std::iter::once(format!("shed: {}{newline}", problem.detail)).chain(hint).collect();
        pump::send(text.as_bytes(), self.write, Way::Errors).await;
    }

    async fn refuse(&self, problem: &Problem, in_terminal: bool) {
        self.say(problem, in_terminal).await;
        self.write.exit_status(NO_STATUS).await.ok();
        self.end().await;
    }

    async fn end(&self) {
        // Nobody is left to tell when these fail.
        self.write.eof().await.ok();
        self.write.close().await.ok();
    }

    /// Hands the channel to the API as this person.
    async fn join_api(&self, api: &ApiPipe, visitor: &Visitor) {
        let (ours, theirs) = tokio::io::duplex(API_PIPE_BYTES);
        api(visitor.person.clone(), Box::new(theirs));
        let (source, sink) = tokio::io::split(ours);
        tokio::select! {
            () = pump::send(source, self.write, Way::Output) => {}
            () = self.feed(Some(sink)) => {}
        }
        self.write.exit_status(0).await.ok();
        self.end().await;
    }
}

/// Never returns.
async fn steer(control: &shed_core::Control, steering: &mut Steering) {
    loop {
        tokio::select! {
            Ok(()) = steering.sizes.changed() => {
                let (cols, rows) = *steering.sizes.borrow_and_update();
                control.resize(cols, rows);
            }
            Some(number) = steering.signals.recv() => control.signal(number),
            // The channel is about to be closed.
            else => std::future::pending().await,
        }
    }
}

/// RFC 4254, section 6.10: other signals than these have a name with an `@`.
fn wire_name(name: String) -> String {
    const KNOWN: &[&str] = &[
        "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1",
        "USR2",
    ];
    if KNOWN.contains(&name.as_str()) { name } else { format!("{name}@shed") }
}
