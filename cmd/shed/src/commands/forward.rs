//! `shed forward`.

use clap_complete::ArgValueCandidates;
use hyper::body::Bytes;
use shed_client::{Client, Frame, ProcessStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

/// Size of one read from a local connection.
const READ_BYTES: usize = 64 << 10;

/// Forward local ports to ports in a shed
///
/// Listens on 127.0.0.1 until Ctrl-C. Connections in the shed go to its localhost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed forward web 3000                  local port 3000 to port 3000 in the shed
  shed forward web 8000:3000 5432        several ports")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Port in the shed, after the local port if that differs; LOCAL 0 takes any free port
    #[arg(required = true, value_name = "[LOCAL:]PORT", value_parser = ports)]
    ports: Vec<(u16, u16)>,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    match (local.parse(), remote.parse()) {
        (Ok(local), Ok(remote)) if remote > 0 => Ok((local, remote)),
        _ => Err("expected PORT or LOCAL:PORT".to_owned()),
    }
}

/// Runs the command; ends with Ctrl-C.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    client.shed(&args.name).await?;
    let mut listeners = Vec::new();
    for (local, remote) in &args.ports {
        let bound = TcpListener::bind(("127.0.0.1", *local)).await;
        let listener = bound.map_err(Failure::io(format!("cannot listen on port {local}")))?;
        let address = listener.local_addr().map_err(Failure::io("listening socket"))?;
        context.out.say(&format!("forwarding {address} to port {remote} of {}", args.name));
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
enum InboundEnd {
    /// The shed sends no more; the other direction stays open.
    HalfClosed,
    /// The connection is closed.
    Closed,
}

/// Copies both directions between a local connection and one in the shed.
async fn copy(stream: ProcessStream, socket: TcpStream, context: &Context) {
    let ProcessStream { mut reader, input } = stream;
    let (mut read, mut write) = socket.into_split();
    let to_shed = input.clone();
    let outbound = async move {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match read.read(&mut buffer).await {
                Ok(n_read) if n_read > 0 => {
                    if !to_shed.send(Bytes::copy_from_slice(&buffer[..n_read])).await {
                        return;
                    }
                }
                Ok(_) => {
                    to_shed.eof().await;
                    return;
                }
                Err(_) => return,
            }
        }
    };
    let inbound = async {
        while let Ok(frame) = reader.next().await {
            match frame {
                Frame::Stdout(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return InboundEnd::Closed;
                    }
                }
                Frame::Eof => {
                    write.shutdown().await.ok();
                    return InboundEnd::HalfClosed;
                }
                Frame::Problem(problem) => {
                    context.out.failure(&shed_client::ClientError::Problem(problem).into());
                    return InboundEnd::Closed;
                }
                Frame::Started | Frame::Detached(_) | Frame::Stderr(_) | Frame::Exit(_) => {}
            }
        }
        InboundEnd::Closed
    };
    tokio::pin!(outbound, inbound);
    tokio::select! {
        () = &mut outbound => {
            inbound.await;
        }
        end = &mut inbound => if end == InboundEnd::HalfClosed {
            outbound.await;
        },
    }
    input.close().await;
}
