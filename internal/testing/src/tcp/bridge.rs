//! The bridge: beside shed-init on its own side, it speaks the link of one kernel to shed-init and TCP to the server.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};
use std::time::Duration;

use serde_json::Value;
use shed_api::ShedName;
use shed_guest::unix::UnixTransport;
use shed_guest::{
    Backoff, Connection, Ends, Error, Helper, Input, Listener, Near, Opened, Outgoing, Output,
    Pipes, Sender, Streams, Terminal, TerminalEnds, Transport as _, Wire,
};
use shed_link::{Message, Reply, Request, Welcome};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::frames::{FarEnds, Frames, FromBridge, FromHelper, ToBridge, frame};
use super::{TOKEN_BYTES, Ticket, lock};

/// After a link that was refused: the server is not there yet, or not any more.
const PAUSE: Duration = Duration::from_millis(5);
/// What is copied at once, in bytes.
const COPY_BYTES: usize = 64 << 10;

type Tickets = watch::Receiver<HashMap<ShedName, Ticket>>;

/// Connects the shed-init of a shed to the server, again and again. Ends with its container.
pub(crate) fn bridge(
    unix: &UnixTransport,
    shed: &ShedName,
    tickets: Tickets,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let mut listener = unix.listen(shed)?;
    let shed = shed.clone();
    Ok(async move {
        let mut backoff = Backoff::constant(PAUSE);
        loop {
            // One link at a time: shed-init connects again when the last one has ended.
            serve_one(&mut *listener, &shed, tickets.clone()).await.ok();
            backoff.pause().await;
        }
    })
}

async fn serve_one(
    listener: &mut dyn Listener,
    shed: &ShedName,
    mut tickets: Tickets,
) -> Result<(), Error> {
    let Some(wire) = listener.accept().await?.admit().await? else {
        return Ok(());
    };
    let gone = || Error::Connect("the server is gone".to_owned());
    tickets.wait_for(|tickets| tickets.contains_key(shed)).await.map(drop).map_err(|_| gone())?;
    let ticket = tickets.borrow().get(shed).cloned().ok_or_else(gone)?;
    let link = dial(&ticket, &ticket.token).await.map_err(Error::io("dial"))?;
    Bridge::new(ticket, wire.streams.clone()).run(wire, link).await
}

async fn dial(ticket: &Ticket, token: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(ticket.address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(token.as_bytes()).await?;
    Ok(socket)
}

/// Near ends of shed-init's streams, until the request that opened them is answered.
enum Waiting {
    Pipes(Near<Pipes>, [String; 3]),
    Terminal(Near<TerminalEnds>, String),
    Connection(Near<Connection>, String),
    Helper(Near<Helper>, String),
}

/// Output of a process that is being copied.
type Counted = Arc<Mutex<Copied>>;

struct Copied {
    /// `None` once nobody reads it any more.
    output: Option<Output>,
    /// How many bytes were read of it.
    n_read: u64,
}

impl Copied {
    /// How many bytes the process has written so far.
    fn n_written(&self) -> u64 {
        self.n_read + self.output.as_ref().map_or(0, |output| output.ready_bytes() as u64)
    }
}

/// One link.
struct Bridge {
    ticket: Ticket,
    streams: Arc<dyn Streams>,
    waiting: HashMap<u64, Waiting>,
    /// By request id, with the tokens.
    outputs: HashMap<u64, Vec<(String, Counted)>>,
    terminals: HashMap<String, Arc<dyn Terminal>>,
}

impl Bridge {
    fn new(ticket: Ticket, streams: Arc<dyn Streams>) -> Self {
        Self {
            ticket,
            streams,
            waiting: HashMap::new(),
            outputs: HashMap::new(),
            terminals: HashMap::new(),
        }
    }

    async fn run(mut self, mut wire: Wire, link: TcpStream) -> Result<(), Error> {
        let (read, mut write) = link.into_split();
        let mut frames = Frames::new(read);
        loop {
            tokio::select! {
                message = wire.receiver.recv() => {
                    let Some(message) = message? else {
                        return Ok(());
                    };
                    let Ok(message) = message.parse::<Value>() else {
                        return Ok(());
                    };
                    let written = self.pass(&message).await?;
                    let bytes = frame(&FromBridge { message, written });
                    write.write_all(&bytes).await.map_err(Error::io("link"))?;
                }
                received = frames.next::<ToBridge>() => {
                    let Some(received) = received.map_err(Error::io("link"))? else {
                        return Ok(());
                    };
                    self.take(received, &mut *wire.sender).await?;
                }
            }
        }
    }

    /// Something from the server.
    async fn take(&mut self, received: ToBridge, sender: &mut dyn Sender) -> Result<(), Error> {
        let (message, ends) = match received {
            ToBridge::Message { message, ends } => (message, ends),
            ToBridge::Resize { token, size } => {
                if let Some(terminal) = self.terminals.get(&token) {
                    terminal.resize(size);
                }
                return Ok(());
            }
            ToBridge::Modes { token, modes } => {
                if let Some(terminal) = self.terminals.get(&token) {
                    terminal.set_modes(&modes);
                }
                return Ok(());
            }
        };
        if let Ok(welcome) = serde_json::from_value::<Welcome>(message.clone()) {
            return sender.send(Outgoing::Welcome(&welcome), Ends::none()).await;
        }
        let invalid = |error: serde_json::Error| Error::Invalid(error.to_string());
        let request: Request = serde_json::from_value(message).map_err(invalid)?;
        let ends = self.open(request.id, ends)?;
        sender.send(Outgoing::Request(&request), ends).await
    }

    fn open(&mut self, id: u64, ends: FarEnds) -> Result<Ends, Error> {
        let (ends, waiting) = match ends {
            FarEnds::None => return Ok(Ends::none()),
            FarEnds::Pipes(tokens) => {
                let Opened { ends, near } = self.streams.pipes()?;
                (ends, Waiting::Pipes(near, tokens))
            }
            FarEnds::Terminal(token) => {
                let Opened { ends, near } = self.streams.terminal()?;
                (ends, Waiting::Terminal(near, token))
            }
            FarEnds::Connection(token) => {
                let Opened { ends, near } = self.streams.connection()?;
                (ends, Waiting::Connection(near, token))
            }
            FarEnds::Helper(token) => {
                let Opened { ends, near } = self.streams.helper()?;
                (ends, Waiting::Helper(near, token))
            }
        };
        self.waiting.insert(id, waiting);
        Ok(ends)
    }

    /// Something from shed-init: starts the copying of streams, and counts them at their end.
    async fn pass(&mut self, message: &Value) -> Result<HashMap<String, u64>, Error> {
        match serde_json::from_value::<Message>(message.clone()) {
            Ok(Message::Reply { id, reply }) => {
                let waiting = self.waiting.remove(&id);
                if let (Some(waiting), Reply::Started { .. } | Reply::Done) = (waiting, reply) {
                    self.join(id, waiting).await?;
                }
                Ok(HashMap::new())
            }
            Ok(Message::Exited { process, .. }) => {
                let outputs = self.outputs.remove(&process).unwrap_or_default();
                let count = |(token, output): (String, Counted)| {
                    self.terminals.remove(&token);
                    (token, lock(&output).n_written())
                };
                Ok(outputs.into_iter().map(count).collect())
            }
            Ok(Message::TmuxSnapshot(_) | Message::DetachedEnded { .. }) | Err(_) => {
                Ok(HashMap::new())
            }
        }
    }

    async fn join(&mut self, id: u64, waiting: Waiting) -> Result<(), Error> {
        let ticket = self.ticket.clone();
        match waiting {
            Waiting::Pipes(near, [input_token, output_token, errors_token]) => {
                let Pipes { input, output, errors } = near.await?;
                self.send_output(id, output_token, output);
                self.send_output(id, errors_token, errors);
                tokio::spawn(async move {
                    let socket = dial(&ticket, &input_token).await?;
                    let (read, _write) = socket.into_split();
                    copy_input(read, input).await
                });
            }
            Waiting::Terminal(near, token) => {
                let TerminalEnds { input, output, terminal } = near.await?;
                self.terminals.insert(token.clone(), terminal);
                let output = self.counted(id, &token, output);
                tokio::spawn(async move {
                    let (read, write) = dial(&ticket, &token).await?.into_split();
                    let typed = copy_input(read, input);
                    // The server's hanging up ends neither: the process gets HUP by its own request.
                    tokio::join!(copy_output(&output, write), typed).1
                });
            }
            Waiting::Connection(near, token) => {
                let mut connection = near.await?;
                tokio::spawn(async move {
                    let mut socket = dial(&ticket, &token).await?;
                    copy_bidirectional(&mut socket, &mut connection).await
                });
            }
            Waiting::Helper(near, token) => {
                let helper = near.await?;
                tokio::spawn(async move { serve_helper(helper, &ticket, &token).await });
            }
        }
        Ok(())
    }

    fn counted(&mut self, id: u64, token: &str, output: Output) -> Counted {
        let output = Arc::new(Mutex::new(Copied { output: Some(output), n_read: 0 }));
        self.outputs.entry(id).or_default().push((token.to_owned(), Arc::clone(&output)));
        output
    }

    fn send_output(&mut self, id: u64, token: String, output: Output) {
        let (ticket, output) = (self.ticket.clone(), self.counted(id, &token, output));
        tokio::spawn(async move {
            let (mut read, write) = dial(&ticket, &token).await?.into_split();
            let mut nothing = [0; 1];
            let copied = tokio::select! {
                copied = copy_output(&output, write) => copied,
                // The reader went away; dropping the pipe lets the process know.
                _ = read.read(&mut nothing) => Ok(()),
            };
            lock(&output).output = None;
            copied
        });
    }
}

/// Copies until the process closes its output, counting before a byte is sent.
async fn copy_output(
    copied: &Mutex<Copied>,
    mut write: tokio::net::tcp::OwnedWriteHalf,
) -> io::Result<()> {
    let mut bytes = vec![0; COPY_BYTES];
    loop {
        let n_read = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut bytes);
            let mut copied = lock(copied);
            if let Some(output) = &mut copied.output {
                ready!(Pin::new(output).poll_read(context, &mut buffer))?;
            }
            copied.n_read += buffer.filled().len() as u64;
            Poll::Ready(io::Result::Ok(buffer.filled().len()))
        })
        .await?;
        if n_read == 0 {
            return write.shutdown().await;
        }
        write.write_all(&bytes[..n_read]).await?;
    }
}

/// Copies until the server ends the input, and ends it then.
async fn copy_input(mut read: tokio::net::tcp::OwnedReadHalf, mut input: Input) -> io::Result<()> {
    tokio::io::copy(&mut read, &mut input).await?;
    Ok(())
}

/// Passes a helper's messages on until either side has ended. Each connection is dialled with a token the server gives.
async fn serve_helper(mut helper: Helper, ticket: &Ticket, token: &str) -> io::Result<()> {
    let (mut read, mut write) = dial(ticket, token).await?.into_split();
    let mut first = [0; TOKEN_BYTES];
    loop {
        let next = tokio::select! {
            next = helper.next::<Value>() => next,
            _ = read.peek(&mut first[..1]) => return Ok(()),
        };
        let Some((message, connection)) = next else {
            return Ok(());
        };
        let bytes = frame(&FromHelper { message, connection: connection.is_some() });
        write.write_all(&bytes).await?;
        if let Some(mut connection) = connection {
            read.read_exact(&mut first).await?;
            let token = String::from_utf8_lossy(&first).into_owned();
            let mut socket = dial(ticket, &token).await?;
            tokio::spawn(async move { copy_bidirectional(&mut socket, &mut connection).await });
        }
    }
}
