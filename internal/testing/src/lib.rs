//! Test support: the process engine, a transport over TCP, servers that end with the test or are killed by it, terminals,
//! waiting, and the removal of what tests make on Docker.

mod docker;
mod engine;
mod host;
mod noise;
mod server;
mod tcp;
mod terminal;
pub mod wait;

pub use docker::{DockerRun, docker, try_docker};
pub use engine::{ProcessEngine, shed_init_path};
pub use noise::noise;
pub use server::{TestApp, Transport};
pub use tcp::TcpTransport;
pub use terminal::Terminal;
pub use wait::eventually;

/// Makes two tests of `async fn CASE(transport: Transport)`: one over the unix socket, one over TCP.
#[macro_export]
macro_rules! over_each_transport {
    ($($case:ident)*) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread")]
            async fn over_a_unix_socket() {
                super::$case($crate::Transport::Unix).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_tcp() {
                super::$case($crate::Transport::Tcp).await;
            }
        }
    )*};
}
