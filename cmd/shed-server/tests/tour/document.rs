//! The OpenAPI document against a server that runs: requests that schemathesis makes from it, and clients made from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Home, IMAGE, SMALL_IMAGE, Server, said};

/// How long schemathesis may send requests, in seconds.
const SECONDS: &str = "45";

/// Programs that `make test-tour` installs.
fn tools(name: &str) -> PathBuf {
    let tools = root().join("target/tools").join(name);
    assert!(tools.exists(), "`make test-tour` installs {}", tools.display());
    tools
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A server with what most requests ask for: a shed `web` with a repository, a session `fix` with a worker and a checkpoint.
/// A shed that a random request creates fails, since its image does not exist.
struct World {
    home: Home,
    server: Server,
    token: String,
    token_id: String,
}

impl World {
    fn new() -> Self {
        let home = Home::new();
        let config = std::fs::read_to_string(home.config()).unwrap();
        std::fs::write(home.config(), config + "image = \"shed-no-such-image\"\n").unwrap();
        let server = home.start();
        home.done(&["create", "web", "--image", IMAGE]);
        home.done(&["create", "spare", "--image", SMALL_IMAGE]);
        let commit =
            "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a";
        home.done(&["exec", "web", "--", "sh", "-c", commit]);
        let session = json!({ "name": "fix", "type": "worktree", "command": ["sleep", "1000"] });
        home.ask("POST", "/api/sheds/web/sessions", Some(&session));
        home.ask("POST", "/api/sheds/web/sessions/fix/checkpoints", Some(&json!({})));
        let token = json!({ "name": "document", "scope": "admin" });
        let issued = home.ask("POST", "/api/tokens", Some(&token));
        let text = |name: &str| issued[name].as_str().unwrap().to_owned();
        Self { token: text("token"), token_id: text("id"), home, server }
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.ready.http.as_deref().unwrap())
    }

    /// A Python program of the tools, in the home's directory.
    fn python(&self, program: &Path) -> Command {
        let tools = tools("api");
        let modules = [tools, root().join("docker/test-api")];
        let mut command = Command::new(program);
        command
            .current_dir(self.home.dir.path())
            .env("HOME", self.home.dir.path())
            .env("PYTHONPATH", std::env::join_paths(modules).unwrap())
            .env("SHED_TOKEN", &self.token)
            .env("SHED_TOKEN_ID", &self.token_id);
        command
    }
}

#[test]
fn the_server_does_what_the_document_says() {
    let world = World::new();
    let mut schemathesis = world.python(&tools("api").join("bin/st"));
    let config = root().join("docker/test-api/schemathesis.toml");
    schemathesis.arg("--config-file").arg(config).args(["run", "--max-time", SECONDS]);
    schemathesis.arg(world.url() + "/api/openapi.json");
    let (status, text) = said(&mut schemathesis);
    assert_eq!(status, Some(0), "{text}\n{}", world.home.log());
    let operations = world.home.ask("GET", "/api/openapi.json", None)["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| item.as_object().unwrap().len())
        .sum::<usize>();
    assert!(text.contains(&format!("Tested: {operations}\n")), "{text}");
    // The run had something to ask for until its end.
    let shed = world.home.ask("GET", "/api/sheds/web", None);
    assert_eq!(shed["status"], "running", "{text}");
}

#[test]
fn a_generated_client_talks_to_the_server() {
    let world = World::new();
    let out = world.home.dir.path().join("generated");
    let mut generate = world.python(&tools("api").join("bin/openapi-python-client"));
    generate.args(["generate", "--meta", "none", "--fail-on-warning", "--path"]);
    generate
        .arg(root().join("docs/openapi.json"))
        .arg("--output-path")
        .arg(out.join("shed_client"));
    generate.arg("--config").arg(root().join("docker/test-api/client.yaml"));
    let (status, text) = said(&mut generate);
    assert_eq!(status, Some(0), "{text}");
    let python = tools("api").join("bin/python");
    let python = if python.exists() { python } else { PathBuf::from("python3") };
    let mut client = world.python(&python);
    client.arg(root().join("docker/test-api/client.py")).arg(world.url()).arg(&out);
    let (status, text) = said(&mut client);
    assert_eq!(status, Some(0), "{text}");
}
