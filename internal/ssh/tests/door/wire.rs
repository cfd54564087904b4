//! Requests that OpenSSH's client does not send by itself: signals, invalid requests, data beyond the window.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Channel, ChannelMsg, Sig};
use shed_testing::{eventually, wait};
use tokio::time::timeout;

use crate::support::Door;

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn connect(door: &Door) -> Handle<Trusting> {
    let mut handle = client::connect(Arc::default(), door.address, Trusting).await.unwrap();
    let key = Arc::new(load_secret_key(door.path("admin"), None).unwrap());
    let key = PrivateKeyWithHashAlg::new(key, None);
    assert!(handle.authenticate_publickey("a", key).await.unwrap().success());
    handle
}

/// Reads messages of the server until one is `wanted`.
async fn until(channel: &mut Channel<Msg>, wanted: impl Fn(&ChannelMsg) -> bool) -> ChannelMsg {
    wait::item("the message", async || channel.wait().await, wanted).await
}

fn is_data(said: &ChannelMsg) -> bool {
    matches!(said, ChannelMsg::Data { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_process_group() {
    let door = Door::open().await;
    let handle = connect(&door).await;
    let mut channel = handle.channel_open_session().await.unwrap();
    let line = "trap 'echo got it; exit 3' USR1; echo go; while :; do sleep 0.01; done";
    channel.exec(true, line).await.unwrap();
    until(&mut channel, is_data).await;
    // An unknown signal is ignored.
    channel.signal(Sig::Custom("x@y".to_owned())).await.unwrap();
    channel.signal(Sig::USR1).await.unwrap();
    let ChannelMsg::Data { data } = until(&mut channel, is_data).await else { unreachable!() };
    assert_eq!(data.as_ref(), b"got it\n");
    let ended = until(&mut channel, |said| matches!(said, ChannelMsg::ExitStatus { .. })).await;
    assert!(matches!(ended, ChannelMsg::ExitStatus { exit_status: 3 }), "{ended:?}");
    until(&mut channel, |said| matches!(said, ChannelMsg::Eof)).await;
    until(&mut channel, |said| matches!(said, ChannelMsg::Close)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_ended_by_a_signal_is_reported_with_its_name() {
    let door = Door::open().await;
    let handle = connect(&door).await;
    for (name, wanted) in [("TERM", "TERM"), ("SEGV", "SEGV"), ("XCPU", "XCPU@shed")] {
        let mut channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, format!("ulimit -c 0; kill -{name} $$")).await.unwrap();
        let said = until(&mut channel, |said| matches!(said, ChannelMsg::ExitSignal { .. })).await;
        let ChannelMsg::ExitSignal { signal_name, .. } = said else { unreachable!() };
        let told = match signal_name {
            Sig::Custom(name) => name,
            known => format!("{known:?}"),
        };
        assert_eq!(told, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_refused_and_the_channel_continues() {
    let door = Door::open().await;
    let handle = connect(&door).await;
    let mut channel = handle.channel_open_session().await.unwrap();
    let answer = |said: &ChannelMsg| matches!(said, ChannelMsg::Success | ChannelMsg::Failure);
    let refused = |said: ChannelMsg| matches!(said, ChannelMsg::Failure);
    channel.request_subsystem(true, "no-such").await.unwrap();
    assert!(refused(until(&mut channel, answer).await));
    channel.request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0).await.unwrap();
    assert!(refused(until(&mut channel, answer).await));
    channel.set_env(true, "LD_PRELOAD", "x").await.unwrap();
    assert!(refused(until(&mut channel, answer).await));
    channel.exec(true, "echo first; read x; echo $x").await.unwrap();
    assert!(!refused(until(&mut channel, answer).await));
    channel.exec(true, "echo second").await.unwrap();
    assert!(refused(until(&mut channel, answer).await));
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    assert!(refused(until(&mut channel, answer).await));
    channel.window_change(10, 10, 0, 0).await.unwrap();
    channel.data_bytes("last\n").await.unwrap();
    let is_last =
        |said: &ChannelMsg| matches!(said, ChannelMsg::Data { data } if data.ends_with(b"last\n"));
    until(&mut channel, is_last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_at_once_are_limited_and_those_that_go_make_room() {
    let door = Door::open().await;
    let handle = connect(&door).await;
    let mut open = Vec::new();
    let refused = loop {
        match timeout(Duration::from_secs(20), handle.channel_open_session()).await.unwrap() {
            Ok(channel) => open.push(channel),
            Err(error) => break error,
        }
    };
    assert_eq!(open.len(), 512, "{refused}");
    let channel = open.pop().unwrap();
    channel.close().await.unwrap();
    // The server hears it in order.
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, "echo in").await.unwrap();
    until(&mut channel, is_data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_had_its_share_of_channels_is_told_to_go() {
    let door = Door::open().await;
    let handle = connect(&door).await;
    for _ in 0..10_000 {
        handle.channel_open_session().await.unwrap().close().await.unwrap();
    }
    eventually("the end", async || handle.is_closed().then_some(())).await;
    assert_eq!(door.run("echo in").await.text(), "in\n");
}
