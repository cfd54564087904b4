//! Which hosts a shed can reach.

use shed_api::shed::{CreateShed, Network};
use shed_model::shed::life::Request;

use crate::support::{TestDocker, docker, shed};

async fn create(test: &TestDocker, name: &str, network: Network) {
    let image = Some("shed-base:latest".to_owned());
    let network = Some(network);
    test.create(CreateShed { name: name.to_owned(), image, network, ..CreateShed::default() })
        .await
        .unwrap();
}

/// Dials a port and prints what came of it; 3 seconds are enough for a neighbour.
fn dial(host: &str) -> String {
    format!(
        "python3 -c 'import socket\ntry: socket.create_connection((\"{host}\", 4000), 3); print(\"connected\")\nexcept OSError as e: print(type(e).__name__)'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn sheds_reach_the_outside_and_not_each_other() {
    let test = TestDocker::start().await;
    create(&test, "a", Network::Filtered).await;
    create(&test, "b", Network::Filtered).await;
    create(&test, "c", Network::None).await;
    let serve = "setsid python3 -c 'import socket; s = socket.create_server((\"0.0.0.0\", 4000))\nwhile True: s.accept()' > /dev/null 2>&1 < /dev/null &";
    test.sh(
        "b",
        &format!("{serve} until {} | grep connected; do sleep 0.05; done", dial("127.0.0.1")),
    )
    .await;
    let address = test.field("b", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let gateway = test.field("b", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}");
    assert_eq!(test.sh("a", &dial(&address)).await, "TimeoutError\n");
    // The way out is there: the host answers, though only to refuse.
    assert_eq!(test.sh("a", &dial(&gateway)).await, "ConnectionRefusedError\n");
    // Loopback and nothing else.
    assert_eq!(test.sh("c", "ls /sys/class/net").await, "lo\n");
    assert_eq!(test.sh("c", &dial(&address)).await, "OSError\n");
    assert_eq!(test.sh("c", &dial("127.0.0.1")).await, "ConnectionRefusedError\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_shared_and_created_again_after_removal() {
    let test = TestDocker::start().await;
    // Both at once: the engine would make two of that name.
    tokio::join!(create(&test, "a", Network::Filtered), create(&test, "b", Network::Filtered));
    let filter = format!("label={}", test.run_label());
    let networks = || docker(&["network", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
    assert_eq!(networks(), test.options.network);
    let icc = "{{index .Options \"com.docker.network.bridge.enable_icc\"}} {{index .Labels \"shed.server\"}}";
    let told = docker(&["network", "inspect", "--format", icc, &test.options.network]);
    assert_eq!(told, format!("false {}", test.settings.server_id));
    for name in ["a", "b"] {
        test.app.sheds().request(&test.admin, &shed(name), Request::Stop).await.unwrap();
    }
    docker(&["network", "rm", &test.options.network]);
    assert_eq!(test.sh("a", "ls /sys/class/net").await, "eth0\nlo\n");
    assert_eq!(networks(), test.options.network);
}
