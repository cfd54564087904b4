//! What every command needs: the printer, the configuration, and which server is meant.

use std::time::Duration;

use shed_client::{Address, Client};

use crate::cli::Cli;
use crate::config::{Config, Files, LOCAL, local_socket};
use crate::failure::Failure;
use crate::output::Out;

/// How long one server of many may take to answer.
pub(crate) const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The printer, the configuration, and which server is meant.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) out: Out,
    pub(crate) files: Files,
    pub(crate) config: Config,
    chosen: Option<String>,
}

/// A server by its name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Context {
    /// Reads the configuration.
    pub(crate) fn new(cli: &Cli, out: Out) -> Result<Self, Failure> {
        let files = Files::find()?;
        let config = files.read()?;
        Ok(Self { out, files, config, chosen: cli.server.clone() })
    }

    /// The server that is meant.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(self.server()?.client)
    }

    /// Whether a server was named, on the command line or in the environment.
    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    /// The server that is meant, with its name.
    pub(crate) fn server(&self) -> Result<Named, Failure> {
        let chosen = self.chosen.as_deref().or(self.config.default_server.as_deref());
        match chosen {
            None => Ok(self.local()),
            Some(name) => self.named(name),
        }
    }

    fn local(&self) -> Named {
        Named { name: LOCAL.to_owned(), client: self.client_of(local_socket(), None) }
    }

    fn client_of(&self, address: Address, token: Option<String>) -> Client {
        let token =
            token.or_else(|| std::env::var("SHED_TOKEN").ok().filter(|token| !token.is_empty()));
        Client::new(address).with_token(token).with_ssh(self.files.ssh_options())
    }

    /// A server by its name or address.
    pub(crate) fn named(&self, name: &str) -> Result<Named, Failure> {
        if let Some(server) = self.config.servers.get(name) {
            let address = server
                .address
                .parse()
                .map_err(|error| Failure::usage(format!("server {name:?}: {error}")))?;
            return Ok(Named {
                name: name.to_owned(),
                client: self.client_of(address, server.token.clone()),
            });
        }
        if name == LOCAL {
            return Ok(self.local());
        }
        if name.contains(':') {
            let address =
                name.parse::<Address>().map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(Named { name: name.to_owned(), client: self.client_of(address, None) });
        }
        Err(Failure::not_found(format!("no server {name:?} is configured"))
            .hint("shed server list"))
    }

    /// Every server: the configured ones, and this machine's own if it is there.
    pub(crate) fn all_servers(&self) -> Result<Vec<Named>, Failure> {
        let mut servers: Vec<Named> = Vec::new();
        if let (false, Address::Unix(path)) =
            (self.config.servers.contains_key(LOCAL), local_socket())
            && path.exists()
        {
            servers.push(self.local());
        }
        for name in self.config.servers.keys() {
            servers.push(self.named(name)?);
        }
        if servers.is_empty() {
            servers.push(self.server()?);
        }
        Ok(servers)
    }

    /// Asks all servers at once, each with a deadline. Answers come in the order of the servers.
    pub(crate) async fn ask_all<T: Send + 'static, F>(
        servers: &[Named],
        ask: impl Fn(Client) -> F,
    ) -> Vec<Result<T, Failure>>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let asked = servers.iter().map(async |server| {
            match tokio::time::timeout(ASK_LIMIT, ask(server.client.clone())).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure {
                    text: format!(
                        "{} did not answer in {} seconds",
                        server.name,
                        ASK_LIMIT.as_secs()
                    ),
                    hint: None,
                    status: shed_api::problem::exit::UNREACHABLE,
                }),
            }
        });
        futures_util::future::join_all(asked).await
    }
}
