//! `shed-server serve`: everything is bound before anything serves, and what was begun is ended in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use shed_api::server::Ready;
use shed_core::{App, Clock, MountPolicy, Settings};
use shed_docker::DockerEngine;
use shed_engine::Engine;
use shed_http::{Http, Listen, Listener, Tls};
use shed_ssh::{HostKey, SshServer};
use shed_store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Options;
use crate::config::Config;
use crate::place::{Place, absolute, write_whole};

/// Where Docker listens when nobody says otherwise.
const ENGINE_SOCKET: &str = "/run/docker.sock";
/// The name of a host that tells none.
const NAMELESS: &str = "server";

/// Serve until told to end (SIGTERM); sheds and what runs in them go on without the server
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen for HTTP here instead of where the configuration says; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// Listen for SSH here instead
    #[arg(long, value_name = "ADDR:PORT")]
    ssh: Vec<SocketAddr>,
    /// The unix socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Gets one JSON object with addresses, pid and server id when all listeners serve
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: Args, options: &Options) -> anyhow::Result<u8> {
    let (mut config, place) = options.read()?;
    if !args.http.is_empty() {
        config.http.listen = args.http;
    }
    if !args.ssh.is_empty() {
        config.ssh.listen = args.ssh;
    }
    let socket = args.socket.or(config.http.socket.take());
    let socket = std::path::absolute(socket.unwrap_or_else(|| usual_socket(&place)))?;
    crate::log::start(&config.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(&config, &place, socket, args.ready_file.as_deref()));
    // What is still running after the drain has had its time.
    runtime.shutdown_background();
    ended
}

async fn serve(
    config: &Config,
    place: &Place,
    socket: PathBuf,
    ready_file: Option<&Path>,
) -> anyhow::Result<u8> {
    place.make()?;
    let lock = place.lock()?;
    let server_id = place.server_id()?;
    let host_key = HostKey::load_or_create(&place.host_key())?;
    let store = Store::open(place.dir())?;
    let tls = check_listeners(config)?;
    check_tokens(config, &store, place).await?;
    let settings = settings(config, place, &server_id, &socket)?;
    let engine: Arc<dyn Engine> =
        Arc::new(DockerEngine::connect(engine_options(config, &server_id)));

    let mut https = Vec::new();
    for address in &config.http.listen {
        https.push(Listener::bind(Listen::Tcp(*address, tls.clone())).await?);
    }
    let local = Listener::bind(Listen::Unix(socket.clone())).await?;
    let http_address = https.first().and_then(Listener::address);

    let app = App::open(settings, store.clone(), engine, Clock::System).await?;
    import_own_keys(&app).await?;
    // The SSH door leads to the API, and the API tells the SSH door's port: one of them has to come later.
    let api = Arc::new(OnceLock::<Http>::new());
    let ssh_options = shed_ssh::Options { api: Some(pipe(&app, &api)), ..Default::default() };
    let mut ssh = SshServer::new(app.clone(), &host_key, ssh_options);
    let mut ssh_addresses = Vec::new();
    for address in &config.ssh.listen {
        ssh_addresses.push(ssh.bind(*address).await?);
    }
    let http = Http::new(
        app.clone(),
        shed_http::Options {
            hosts: config.http.hosts.clone(),
            host_key: Some(shed_api::server::HostKey {
                host_key: host_key.public_line().to_owned(),
                fingerprint: host_key.fingerprint(),
            }),
            ssh_port: ssh_addresses.first().map(SocketAddr::port),
            http_port: http_address.map(|address| address.port()),
            owner_uid: rustix::process::geteuid().as_raw(),
            timing: shed_http::Timing::default(),
        },
    );
    let http = api.get_or_init(|| http);

    let ready = Ready {
        http: http_address.map(|address| address.to_string()),
        ssh: ssh_addresses.first().map(ToString::to_string),
        socket: socket.to_string_lossy().into_owned(),
        pid: std::process::id(),
        server_id,
    };
    if let Err(error) = place.set_running(&ready) {
        // On a full disk as well: a server that runs can delete.
        let given_back = store.give_back();
        let told = if given_back { place.set_running(&ready) } else { Err(error) };
        store.keep_reserve();
        told?;
    }
    let told = Told::listen()?;
    for listener in https.into_iter().chain([local]) {
        tokio::spawn(http.clone().serve(listener));
    }
    tokio::spawn(ssh.run());
    if let Some(path) = ready_file {
        let json = serde_json::to_vec(&ready)?;
        write_whole(path, &json, 0o644).context("--ready-file")?;
    }
    tracing::info!(
        socket = %ready.socket,
        http = ready.http.as_deref().unwrap_or("none"),
        ssh = ready.ssh.as_deref().unwrap_or("none"),
        fingerprint = %host_key.fingerprint(),
        "serving"
    );
    let status = until_told(&app, told).await?;
    drop(lock);
    Ok(status)
}

/// Passes the bytes of an `_api` channel to the API.
fn pipe(app: &App, api: &Arc<OnceLock<Http>>) -> shed_ssh::ApiPipe {
    let (api, tasks) = (Arc::clone(api), app.tasks());
    Arc::new(move |person, stream| {
        // Nobody comes in before everything is made.
        if let Some(http) = api.get().cloned() {
            tasks.spawn(async move { http.serve_person(person, stream).await });
        }
    })
}

/// Waits for the word to end, then ends; a second word ends at once.
async fn until_told(app: &App, mut told: Told) -> anyhow::Result<u8> {
    told.wait().await;
    tracing::info!("going away; sheds go on");
    tokio::select! {
        () = app.close() => Ok(0),
        () = told.wait() => Ok(130),
    }
}

/// SIGTERM or SIGINT. Heard from when it is made: whoever sees that the server serves may end it in the next moment.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn listen() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn settings(
    config: &Config,
    place: &Place,
    server_id: &str,
    socket: &Path,
) -> anyhow::Result<Settings> {
    let engine_socket = config.engine.host.as_deref().and_then(|host| host.strip_prefix("unix://"));
    let mut never = vec![PathBuf::from(ENGINE_SOCKET), place.dir().to_owned(), socket.to_owned()];
    never.extend(engine_socket.map(PathBuf::from));
    // A path that leads somewhere else is meant with where it leads.
    let resolved: Vec<PathBuf> =
        never.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    never.extend(resolved);
    Ok(Settings {
        name: config.name.clone().unwrap_or_else(host_name),
        server_id: server_id.to_owned(),
        links_dir: place.links()?,
        program_dir: place.program_dir()?,
        defaults: config.defaults().map_err(anyhow::Error::msg)?,
        mounts: MountPolicy { allow: config.mounts.allow.clone(), never },
        pulse: shed_core::PULSE,
        sessions: config.sessions(place.output()?).map_err(anyhow::Error::msg)?,
    })
}

/// What the engine is told.
pub(crate) fn engine_options(config: &Config, server_id: &str) -> shed_docker::Options {
    let usual = shed_docker::Options::new(server_id);
    shed_docker::Options {
        prefix: config.engine.prefix.clone().unwrap_or(usual.prefix.clone()),
        host: config.engine.host.clone().or(usual.host.clone()),
        extra_labels: config.engine.labels.clone(),
        ..usual
    }
}

/// Refuses addresses that others can reach without a certificate; reads the certificate.
pub(crate) fn check_listeners(config: &Config) -> anyhow::Result<Option<Tls>> {
    let http = &config.http;
    match (&http.certificate, &http.key) {
        (Some(certificate), Some(key)) => Ok(Some(Tls::load(certificate, key)?)),
        _ => match public(config) {
            None => Ok(None),
            Some(address) => bail!(
                "http {address} can be reached by others, and there is no certificate; \
                 set [http] certificate and key to PEM files, \
                 or listen at 127.0.0.1 and use: shed server add HOST (over ssh)"
            ),
        },
    }
}

/// Refuses addresses that others can reach as long as nobody could prove who they are.
async fn check_tokens(config: &Config, store: &Store, place: &Place) -> anyhow::Result<()> {
    if let Some(address) = public(config)
        && store.tokens().await?.is_empty()
    {
        bail!(
            "http {address} can be reached by others, and there is no token; make one: \
             shed-server token add NAME --scope admin --data-dir {}",
            place.dir().display()
        );
    }
    Ok(())
}

fn public(config: &Config) -> Option<&SocketAddr> {
    config.http.listen.iter().find(|address| !address.ip().is_loopback())
}

/// At the first start, lets in the keys of whoever starts the server, and nobody else's.
async fn import_own_keys(app: &App) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    if let Some(dir) = absolute("HOME").map(|home| home.join(".ssh")) {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let public = entry.path().extension().is_some_and(|extension| extension == "pub");
            if name.starts_with("id_")
                && public
                && let Ok(line) = std::fs::read_to_string(entry.path())
            {
                lines.push((name, line));
            }
        }
    }
    lines.sort();
    for added in app.credentials().import_own_keys(lines).await? {
        tracing::info!(key = %added, "first start: your own public key may come in, as admin");
    }
    Ok(())
}

/// The unix socket of this user's server.
fn usual_socket(place: &Place) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/shed/shed.sock");
    }
    let own = absolute("XDG_RUNTIME_DIR").map(|dir| dir.join("shed/shed.sock"));
    own.unwrap_or_else(|| place.dir().join("shed.sock"))
}

fn host_name() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_string_lossy() {
        name if name.is_empty() => NAMELESS.to_owned(),
        name => name.into_owned(),
    }
}

/// A connection is a descriptor, and the usual limit of 1,024 is a few hundred people's.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files was not raised");
    }
}
