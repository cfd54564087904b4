//! What runs on a session channel: a shell, a command, sftp, a session's terminal, or the connection to the API.

use std::sync::Arc;
use std::time::Duration;

use russh::ChannelWriteHalf;
use russh::server::{Handle, Msg};
use shed_api::Problem;
use shed_api::stream::{AttachOpen, Exit};
use shed_core::{App, Attach, Error, Exec, ExecKind, Stream};
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use crate::advice;
use crate::channels::{Channels, Incoming, Pending, TerminalEvents};
use crate::login::{Login, invalid};
use crate::pump::{self, Output};
use crate::server::ApiPipe;
use crate::signals;
use crate::terminal::Terminal;
use crate::visitor::Visitor;

/// How long a program's exit status is held back for output of its children.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);
/// The status of a program that could not be started or whose exit status is unknown, as sshd reports it.
const NO_STATUS: u32 = 255;
/// Buffer between the channel and the API, in bytes for each direction.
const API_PIPE_BYTES: usize = 256 << 10;

/// A program and its channel. Runs as a task of the App; ends with the program or with the channel.
pub(crate) struct Program {
    pub(crate) app: App,
    pub(crate) api: Option<ApiPipe>,
    pub(crate) visitor: Arc<Visitor>,
    pub(crate) kind: ExecKind,
    /// Path in the shed of the socket of the user's ssh-agent, if it is forwarded.
    pub(crate) agent: Option<String>,
    pub(crate) pending: Pending,
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) events: TerminalEvents,
    pub(crate) channels: Arc<Channels>,
    pub(crate) handle: Handle,
}

/// The channel's side of a running program.
struct ChannelIo<'a> {
    write: &'a ChannelWriteHalf<Msg>,
    incoming: &'a Incoming,
    handle: &'a Handle,
}

impl Program {
    /// Runs the program. When this returns, a program that still runs gets HUP.
    pub(crate) async fn run(self) {
        let (channels, incoming, id) =
            (Arc::clone(&self.channels), Arc::clone(&self.incoming), self.pending.write.id());
        tokio::select! {
            () = self.serve() => {}
            () = incoming.closed.cancelled() => {}
        }
        channels.close(id);
    }

    async fn serve(mut self) {
        let client_env = std::mem::take(&mut self.pending.env);
        let connection = self.connection();
        let Pending { write, terminal, .. } = self.pending;
        let io = ChannelIo { write: &write, incoming: &self.incoming, handle: &self.handle };
        let started = match (&self.visitor.login, &self.kind, self.api) {
            (Ok(Login::Api), ExecKind::Shell, Some(api)) => {
                return io.connect_api(&api, &self.visitor).await;
            }
            (Ok(Login::Api), _, Some(_)) => {
                Err(invalid("_api takes no command; use it without one").problem())
            }
            (Ok(Login::Api), _, None) => {
                Err(invalid("this server does not offer its API over SSH").problem())
            }
            (Err(problem), ..) => Err((**problem).clone()),
            (Ok(login), ..) => {
                let started = start(
                    &self.app,
                    &self.visitor,
                    login,
                    self.kind,
                    terminal.as_ref(),
                    client_env,
                    connection,
                );
                started.await.map_err(|error| error.problem())
            }
        };
        match started {
            Ok(stream) => io.pass(stream, terminal.as_ref(), &mut self.events).await,
            Err(problem) => {
                let sheds = self.app.sheds().list(&self.visitor.person).sheds;
                let hint = advice::hint(&problem, &sheds);
                io.refuse(&Problem { hint, ..problem }, terminal.is_some()).await;
            }
        }
    }

    /// The variables that describe the connection.
    fn connection(&mut self) -> Vec<(String, String)> {
        let mut env = self.visitor.variables().to_vec();
        env.extend(self.agent.take().map(|path| ("SSH_AUTH_SOCK".to_owned(), path)));
        env
    }
}

/// Starts what the login and the request ask for. `client_env` has the variables that the client set, `connection` those
/// that describe the connection.
async fn start(
    app: &App,
    visitor: &Visitor,
    login: &Login,
    kind: ExecKind,
    terminal: Option<&Terminal>,
    client_env: Vec<(String, String)>,
    connection: Vec<(String, String)>,
) -> Result<Stream, Error> {
    let tty = terminal.map(|terminal| terminal.tty.clone());
    match (login, kind, tty) {
        (Login::Api, ..) => Err(invalid("_api runs no program; log in as a shed")),
        (Login::Shed(_), ExecKind::Line(line), _) if advice::is_copy_id(&line) => {
            Err(advice::no_copy_id())
        }
        (Login::Shed(shed), kind, tty) => {
            let env = [client_env, connection].concat();
            app.streams().ssh(&visitor.person, shed, Exec { kind, env, tty }).await
        }
        (Login::Session(shed, session), ExecKind::Shell, Some(tty)) => {
            let open = AttachOpen {
                tty,
                new: false,
                existing: false,
                read_only: false,
                detach_others: false,
                env: client_env.into_iter().collect(),
            };
            app.streams().attach(&visitor.person, shed, session, Attach { open, connection }).await
        }
        (Login::Session(_, session), ExecKind::Shell, None) => {
            Err(invalid(format!("session {session} needs a terminal; use ssh -t")))
        }
        (Login::Session(shed, session), ExecKind::Line(_) | ExecKind::Sftp, _) => {
            let text = format!("session {session} takes no command; log in as {shed} to run one");
            Err(invalid(text))
        }
    }
}

impl ChannelIo<'_> {
    /// Passes on bytes, sizes and signals until the end. As with sshd, the exit status is sent when the program has ended,
    /// and the channel is closed when its output has ended.
    async fn pass(&self, stream: Stream, terminal: Option<&Terminal>, events: &mut TerminalEvents) {
        let Stream { input, output, errors, control, mut exit } = stream;
        if let Some(terminal) = terminal {
            control.set_modes(&terminal.unusual_modes());
        }
        let outputs = async {
            let errors = async {
                if let Some(errors) = errors {
                    pump::send(errors, self.write, Output::Stderr).await;
                }
            };
            tokio::join!(pump::send(output, self.write, Output::Stdout), errors);
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
            self.send_exit(exit, terminal.is_some()).await;
            if !drained {
                outputs.await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.feed(input) => {}
            () = pass_events(&control, events) => {}
        }
        self.end().await;
    }

    /// Passes on the client's input. Never returns, since a program goes on when its input has ended.
    async fn feed(&self, input: Option<impl AsyncWrite + Unpin>) {
        match input {
            Some(input) => pump::feed(&self.incoming.inbox, input).await,
            None => self.incoming.inbox.close(),
        }
        std::future::pending::<()>().await;
    }

    /// Sends how the program ended. A failure means that the connection is closed, so it is ignored.
    async fn send_exit(&self, exit: Option<Exit>, in_terminal: bool) {
        match exit {
            Some(Exit::Code(code)) => drop(self.write.exit_status(code.into()).await),
            Some(Exit::Signal(name)) => {
                let sent = self.handle.exit_signal_request(
                    self.write.id(),
                    signals::to_wire(&name),
                    false,
                    String::new(),
                    String::new(),
                );
                sent.await.ok();
            }
            None => {
                let text = "the connection to the shed was lost; exit status unknown";
                let lost = Error::Connect(text.to_owned()).problem();
                self.print(&lost, in_terminal).await;
                self.write.exit_status(NO_STATUS).await.ok();
            }
        }
    }

    /// Prints a problem to the client's standard error.
    async fn print(&self, problem: &Problem, in_terminal: bool) {
        let newline = if in_terminal { "\r\n" } else { "\n" };
        let hint = problem.hint.iter().map(|hint| format!("hint: {hint}{newline}"));
        let text: String =
            std::iter::once(format!("shed: {}{newline}", problem.detail)).chain(hint).collect();
        pump::send(text.as_bytes(), self.write, Output::Stderr).await;
    }

    async fn refuse(&self, problem: &Problem, in_terminal: bool) {
        self.print(problem, in_terminal).await;
        self.write.exit_status(NO_STATUS).await.ok();
        self.end().await;
    }

    async fn end(&self) {
        // A failure means that the channel is closed already.
        self.write.eof().await.ok();
        self.write.close().await.ok();
    }

    /// Connects the channel to the API, authenticated as this person.
    async fn connect_api(&self, api: &ApiPipe, visitor: &Visitor) {
        let (ours, theirs) = tokio::io::duplex(API_PIPE_BYTES);
        api(visitor.person.clone(), Box::new(theirs));
        let (source, sink) = tokio::io::split(ours);
        tokio::select! {
            () = pump::send(source, self.write, Output::Stdout) => {}
            () = self.feed(Some(sink)) => {}
        }
        self.write.exit_status(0).await.ok();
        self.end().await;
    }
}

/// Passes on sizes and signals. Never returns.
async fn pass_events(control: &shed_core::Control, events: &mut TerminalEvents) {
    loop {
        tokio::select! {
            Ok(()) = events.sizes.changed() => {
                let size = *events.sizes.borrow_and_update();
                control.resize(size);
            }
            Some(number) = events.signals.recv() => control.signal(number),
            // The channel is about to be closed.
            else => std::future::pending().await,
        }
    }
}
