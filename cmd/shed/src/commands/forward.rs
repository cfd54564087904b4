//! `shed forward`.

use clap_complete::ArgValueCandidates;
use hyper::body::Bytes;
use shed_client::{Client, Frame, ProcessStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::completions::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

/// What is read from a local connection at once.
const READ_BYTES: usize = 64 << 10;

/// Forward local ports to ports in a shed
///
/// Listens on this machine's loopback until Ctrl-C. The connection is made in the shed, as its user.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed forward web 3000                  localhost:3000 here is localhost:3000 there
  shed forward web 8000:3000 5432        several at once")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// [LOCAL:]PORT; 0 as LOCAL takes any free port
    #[arg(required = true, value_name = "[LOCAL:]PORT", value_parser = ports)]
    ports: Vec<(u16, u16)>,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    match (local.parse(), remote.parse()) {
        (Ok(local), Ok(remote)) if remote > 0 => Ok((local, remote)),
        _ => Err("use PORT or LOCAL:PORT".to_owned()),
    }
}

/// Runs the command; ends with Ctrl-C.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    client.shed(&args.name).await?;
    let mut listeners = Vec::new();
    for (local, remote) in &args.ports {
        let bound = TcpListener::bind(("127.0.0.1", *local)).await;
        let listener = bound.map_err(Failure::io(format!("port {local}")))?;
        let address = listener.local_addr().map_err(Failure::io("a listener"))?;
        context.out.say(&format!("{address} is port {remote} of {}", args.name));
        listeners.push((listener, *remote));
    }
    let served = listeners.into_iter().map(|(listener, remote)| {
        let (client, name, context) = (client.clone(), args.name.clone(), context.clone());
        async move {
            loop {
                if let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(
                        client.clone(),
                        name.clone(),
                        remote,
                        socket,
                        context.clone(),
                    ));
                }
            }
        }
    });
    futures_util::future::join_all(served).await;
    Ok(0)
}

async fn serve(client: Client, name: String, port: u16, socket: TcpStream, context: Context) {
    match client.forward(&name, port).await {
        Ok(stream) => copy(stream, socket, &context).await,
        Err(error) => context.out.failure(&error.into()),
    }
}

/// How the direction from the shed ended.
#[derive(Debug, PartialEq, Eq)]
enum Inward {
    /// The other direction may go on.
    HalfClosed,
    /// The connection is no more.
    Over,
}

async fn copy(stream: ProcessStream, socket: TcpStream, context: &Context) {
    let ProcessStream { mut reader, input } = stream;
    let (mut read, mut write) = socket.into_split();
    let back = input.clone();
    let outward = async move {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match read.read(&mut buffer).await {
                Ok(n_read) if n_read > 0 => {
                    if !back.send(Bytes::copy_from_slice(&buffer[..n_read])).await {
                        return;
                    }
                }
                Ok(_) => {
                    back.eof().await;
                    return;
                }
                Err(_) => return,
            }
        }
    };
    let inward = async {
        while let Ok(frame) = reader.next().await {
            match frame {
                Frame::Stdout(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return Inward::Over;
                    }
                }
                Frame::Eof => {
                    write.shutdown().await.ok();
                    return Inward::HalfClosed;
                }
                Frame::Problem(problem) => {
                    context.out.failure(&shed_client::ClientError::Problem(problem).into());
                    return Inward::Over;
                }
                Frame::Started | Frame::Detached(_) | Frame::Stderr(_) | Frame::Exit(_) => {}
            }
        }
        Inward::Over
    };
    tokio::pin!(outward, inward);
    tokio::select! {
        () = &mut outward => {
            inward.await;
        }
        end = &mut inward => if end == Inward::HalfClosed {
            outward.await;
        },
    }
    input.close().await;
}
