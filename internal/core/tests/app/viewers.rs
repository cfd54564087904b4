//! Viewers across restarts of server and shed.

use std::time::{Duration, Instant};

use shed_api::session::NewSession;
use shed_api::worker::{Activity, WorkerServerFrame as Frame};
use shed_core::{Viewer, WatchWorker};
use shed_testing::{TestApp, wait};

use crate::support::{session, shed, words};

async fn make(test: &TestApp, line: &str) {
    let request = NewSession {
        name: Some("work".to_owned()),
        command: words(&["sh", "-c", line]),
        keep: Some(true),
        ..NewSession::default()
    };
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
}

fn watch(test: &TestApp, from: (u64, u64), once: bool) -> (Viewer, shed_core::InputWriter) {
    let how = WatchWorker { from: Some(from), once, ..WatchWorker::default() };
    test.app.workers().watch(&test.admin, &shed("a"), &session("work"), "sh", &how).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_resumes_at_its_offset_after_a_server_restart() {
    let mut test = TestApp::start().await;
    test.shed("a").await;
    let line =
        "i=0; while [ $i -lt 250 ]; do i=$((i+1)); echo zeile-ü-$i; sleep 0.005; done; exit 3";
    make(&test, line).await;
    let lines: Vec<String> = (1..=250).map(|i| format!("zeile-ü-{i}\r\n")).collect();
    let expected = lines.concat();
    let (mut text, mut from) = (String::new(), (0, 1));
    for stop_at in [500, 1_500] {
        let (mut viewer, hands) = watch(&test, from, false);
        while text.len() < stop_at {
            match viewer.next().await.unwrap() {
                Frame::Output { data, offset, epoch } => {
                    text += &data;
                    from = (offset, epoch);
                }
                Frame::Size { .. } | Frame::Activity { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        drop((viewer, hands));
        test.restart().await;
    }
    let (mut viewer, _hands) = watch(&test, from, true);
    let mut exit = None;
    while let Some(frame) = viewer.next().await {
        match frame {
            Frame::Output { data, .. } => text += &data,
            Frame::Exit { exit_code, epoch, .. } => exit = Some((exit_code, epoch)),
            Frame::Size { .. } | Frame::Activity { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(exit, Some((Some(3), 1)));
    assert!(text == expected, "{} bytes of {}", text.len(), expected.len());
    // A place that never was is answered with everything.
    let (mut viewer, _hands) = watch(&test, (1 << 40, 1), true);
    assert!(matches!(viewer.next().await, Some(Frame::History { epoch: 1, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_output_does_not_delay_the_stop_of_the_server() {
    let test = TestApp::start().await;
    test.shed("a").await;
    make(&test, "exec cat").await;
    let (app, admin) = (test.app.clone(), test.admin.clone());
    // As a door's request does.
    let waiting = test.app.tasks().spawn(async move {
        let (name, work, limit) = (shed("a"), session("work"), Duration::from_secs(20));
        app.output().wait(&admin, &name, &work, "sh", 0, limit).await
    });
    let start = Instant::now();
    test.app.close().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_viewer_sees_the_worker_after_its_shed_restarts() {
    let test = TestApp::start().await;
    test.shed("a").await;
    make(&test, "exec cat").await;
    let (mut viewer, hands) = watch(&test, (0, 1), false);
    test.app
        .sheds()
        .request(&test.admin, &shed("a"), shed_model::shed::life::Request::Stop)
        .await
        .unwrap();
    until(&mut viewer, |frame| *frame == Frame::Activity { state: Activity::Unknown }).await;
    let typed = hands.input(b"nobody".to_vec()).await.unwrap_err();
    assert_eq!(typed.problem().code, shed_api::Code::NotRunning);
    test.app
        .sheds()
        .request(&test.admin, &shed("a"), shed_model::shed::life::Request::Start)
        .await
        .unwrap();
    until(&mut viewer, |frame| matches!(frame, Frame::Exit { epoch: 1, .. })).await;
    let restart = shed_api::worker::Restart::default();
    test.app
        .workers()
        .restart(&test.admin, &shed("a"), &session("work"), "sh", restart)
        .await
        .unwrap();
    until(&mut viewer, |frame| matches!(frame, Frame::History { epoch: 2, .. })).await;
    hands.input(b"here\r".to_vec()).await.unwrap();
    let echoed =
        |frame: &Frame| matches!(frame, Frame::Output { data, .. } if data.contains("here"));
    until(&mut viewer, echoed).await;
}

async fn until(viewer: &mut Viewer, fits: impl Fn(&Frame) -> bool) {
    let next = async || {
        let frame = viewer.next().await;
        assert!(!matches!(frame, Some(Frame::Problem { .. })), "{frame:?}");
        frame
    };
    wait::item("the frame", next, fits).await;
}
