//! Rules that keep filtered sheds from the host's listeners and from metadata addresses: real connections, with each tool.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shed_api::shed::{CreateShed, Network};
use shed_docker::{Protection, Tool};
use shed_testing::wait::eventually;

use crate::support::{Database, TestDocker, shed, try_docker};

const METADATA: &str = "169.254.169.254";

/// A listener at the metadata address, on another machine as far as routing is concerned: a network namespace.
struct Metadata {
    name: String,
    port: u16,
    child: Child,
}

impl Metadata {
    fn start(id: &str) -> Self {
        let name = format!("m{id}");
        let ip = |line: &str| {
            let line = line.replace("NS", &name);
            let output = Command::new("ip").args(line.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {line}: {output:?}");
        };
        ip("netns add NS");
        ip("link add NS type veth peer name eth0 netns NS");
        ip(&format!("addr add 169.254.169.253 peer {METADATA}/32 dev NS"));
        ip("link set NS up");
        ip(&format!("-n NS addr add {METADATA} peer 169.254.169.253/32 dev eth0"));
        ip("-n NS link set eth0 up");
        let serve = "import socket; s = socket.create_server((\"0.0.0.0\", 0)); \
                     print(s.getsockname()[1], flush=True)\nwhile True: s.accept()";
        let mut child = Command::new("ip")
            .args(["netns", "exec", &name, "python3", "-c", serve])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { name, port: line.trim().parse().unwrap(), child }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // The interface goes with the namespace.
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

async fn create(test: &TestDocker, name: &str, network: Network) {
    let image = Some("shed-base:latest".to_owned());
    let network = Some(network);
    test.create(CreateShed { name: name.to_owned(), image, network, ..CreateShed::default() })
        .await
        .unwrap();
}

/// Whether a shed can connect.
async fn reaches(test: &TestDocker, name: &str, host: &str, port: u16) -> bool {
    let line = format!(
        "python3 -c 'import socket\ntry: socket.create_connection((\"{host}\", {port}), 2); print(\"connected\")\nexcept OSError: print(\"not\")'"
    );
    test.sh(name, &line).await == "connected\n"
}

fn gateway(test: &TestDocker, name: &str) -> String {
    test.field(name, "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}")
}

/// Removes the rules behind the server's back.
fn flush(tool: Tool, network: &str) {
    let commands: &[&[&str]] = match tool {
        Tool::Nft => &[&["nft", "delete", "table", "inet", network]],
        Tool::Iptables => &[&["iptables", "-w", "5", "-t", "mangle", "-F", network]],
    };
    for words in commands {
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

/// What the tool has of this network, in both families.
fn left(network: &str) -> usize {
    let printed = [
        ["nft", "list", "tables"],
        ["iptables-save", "-t", "mangle"],
        ["ip6tables-save", "-t", "mangle"],
    ]
    .map(|words| Command::new(words[0]).args(&words[1..]).output().unwrap().stdout);
    String::from_utf8_lossy(&printed.concat()).matches(network).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn filtered_sheds_reach_neither_the_host_nor_metadata_with_each_tool() {
    for tool in [Tool::Nft, Tool::Iptables] {
        let test = TestDocker::with(|_, options| {
            options.firewall_tools = vec![tool];
            options.firewall_check = Duration::from_millis(100);
        })
        .await;
        let metadata = Metadata::start(test.run_id());
        tokio::join!(
            create(&test, "filtered", Network::Filtered),
            create(&test, "open", Network::Open)
        );
        assert_eq!(test.engine.firewall().await.unwrap(), Protection::Enforced(tool));

        let listeners = ["filtered", "open"].map(|name| {
            let host = gateway(&test, name);
            let listener = TcpListener::bind((host.as_str(), 0)).unwrap();
            (name, host, listener.local_addr().unwrap().port(), listener)
        });
        for (name, host, port, _) in &listeners {
            let open = *name == "open";
            assert_eq!(reaches(&test, name, host, *port).await, open, "{tool}: {name} and host");
            let metadata = reaches(&test, name, METADATA, metadata.port).await;
            assert_eq!(metadata, open, "{tool}: {name} and metadata");
        }
        // The engine's resolver asks a name server on the host from within the shed's network.
        let host = &listeners[0].1;
        let _dns = TcpListener::bind((host.as_str(), 53)).unwrap();
        assert!(reaches(&test, "filtered", host, 53).await, "{tool}: no DNS");
        answers_the_host(&test, tool).await;

        flush(tool, &test.options.network);
        let (test_ref, port) = (&test, listeners[0].2);
        eventually("the rules are back", || async move {
            let found = test_ref.engine.firewall().await.unwrap();
            let blocked = !reaches(test_ref, "filtered", host, port).await;
            (found == Protection::Enforced(tool) && blocked).then_some(())
        })
        .await;

        let removal = shed_core::Removal::Everything;
        test.app.sheds().delete(&test.admin, &shed("filtered"), removal).await.unwrap();
        let network = test.options.network.as_str();
        eventually("the network is gone", || async move {
            try_docker(&["network", "rm", network]).0.then_some(())
        })
        .await;
        eventually("the rules are gone", || async move { (left(network) == 0).then_some(()) })
            .await;
    }
}

/// The host connects to a listener in the shed, as the engine does for a published port, and gets an answer.
async fn answers_the_host(test: &TestDocker, tool: Tool) {
    let serve = "setsid python3 -c 'import socket; s = socket.create_server((\"0.0.0.0\", 4000))\nwhile True: s.accept()[0].sendall(b\"hello\")' > /dev/null 2>&1 < /dev/null &";
    test.sh("filtered", serve).await;
    let address =
        test.field("filtered", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let address = (address.as_str(), 4000);
    let connect = || async move { TcpStream::connect(address).ok() };
    let mut stream = eventually("the shed listens", connect).await;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"x").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok();
    assert_eq!(text, "hello", "{tool}: a connection of the host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_installs_what_was_removed() {
    let mut test = TestDocker::with(|_, options| {
        // The check at the start of the server, and none after it.
        options.firewall_check = Duration::from_secs(3600);
    })
    .await;
    create(&test, "a", Network::Filtered).await;
    let tool = Tool::Nft;
    assert_eq!(test.engine.firewall().await.unwrap(), Protection::Enforced(tool));
    flush(tool, &test.options.network);
    assert_eq!(
        test.engine.firewall().await.unwrap(),
        Protection::Missing(shed_docker::Gap::NotInstalled)
    );
    test.restart(Database::Kept).await;
    assert_eq!(test.engine.firewall().await.unwrap(), Protection::Enforced(tool));
}
