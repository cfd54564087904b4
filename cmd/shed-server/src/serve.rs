//! `shed-server serve`. It binds all listeners before any of them serves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use shed_api::server::Ready;
use shed_core::{App, Clock, MountPolicy, Settings};
use shed_docker::DockerEngine;
use shed_engine::local::HostDirs;
use shed_guest::unix::UnixTransport;
use shed_http::{Http, Listen, Listener, Tls};
use shed_ssh::{HostKey, SshServer};
use shed_store::Store;

use crate::config::Config;
use crate::data_dir::{DataDir, write_whole};
use crate::globals::Globals;
use crate::paste::quote;
use crate::paths::User;
use crate::signals::StopSignals;

/// Docker's default socket.
const ENGINE_SOCKET: &str = "/run/docker.sock";
/// The server's name on a host without a name.
const NAMELESS: &str = "server";

/// Run the server in the foreground until SIGTERM or SIGINT
///
/// Sheds and the processes in them keep running without the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HTTP address (repeatable), instead of those of the configuration; port 0 selects a free port
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// SSH address (repeatable), instead of those of the configuration; port 0 selects a free port
    #[arg(long, value_name = "ADDR:PORT")]
    ssh: Vec<SocketAddr>,
    /// Unix socket [default: /run/shed/shed.sock for root, else `$XDG_RUNTIME_DIR/shed/shed.sock`]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// File to write when all listeners serve: a JSON object with addresses, pid and server id
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<u8> {
    let (mut config, data_dir) = globals.read()?;
    if !args.http.is_empty() {
        config.http.listen = args.http;
    }
    if !args.ssh.is_empty() {
        config.ssh.listen = args.ssh;
    }
    let socket = args.socket.or(config.http.socket.take());
    let socket =
        std::path::absolute(socket.unwrap_or_else(|| User::current().socket(data_dir.path())))?;
    let log = crate::log::start(&config.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(log);
    let ended = runtime.block_on(serve(&config, &data_dir, socket, args.ready_file.as_deref()));
    // Tasks that still run after the drain are dropped.
    runtime.shutdown_background();
    ended
}

async fn serve(
    config: &Config,
    data_dir: &DataDir,
    socket: PathBuf,
    ready_file: Option<&Path>,
) -> anyhow::Result<u8> {
    data_dir.create()?;
    let lock = data_dir.lock()?;
    let store = data_dir.open_store(&lock)?;
    let had_host_key = data_dir.host_key().exists();
    let host_key = HostKey::load_or_create(&data_dir.host_key())?;
    if !had_host_key && data_dir.known_server_id()?.is_some() {
        tracing::warn!(
            path = %data_dir.host_key().display(),
            "the SSH host key was missing and a new one was created; clients report a changed key until they pin it"
        );
    }
    // The last file of a first start: if that is killed, nothing has been lost.
    let server_id = data_dir.server_id(&store).await?;
    let tls = check_listeners(config)?;
    check_tokens(config, &store, data_dir).await?;
    let settings = settings(config, data_dir, &server_id, &socket)?;
    let host_dirs = HostDirs { links_dir: data_dir.links()?, program_dir: data_dir.program_dir()? };
    let engine_options = shed_docker::Options { host_dirs, ..engine_options(config, &server_id) };
    let links_dir = engine_options.host_dirs.links_dir.clone();
    let engine = Arc::new(DockerEngine::connect(engine_options));
    let transport = Arc::new(UnixTransport::new(links_dir, Arc::clone(&engine) as _));

    let mut https = Vec::new();
    for address in &config.http.listen {
        https.push(Listener::bind(Listen::Tcp(*address, tls.clone())).await?);
    }
    let local = Listener::bind(Listen::Unix(socket.clone())).await?;
    let http_address = https.first().and_then(Listener::address);

    let app = App::open(settings, store.clone(), engine, transport, Clock::System).await?;
    import_own_keys(&app).await?;
    // Each needs the other: the SSH listener passes `_api` channels to the API, and the API reports the SSH port.
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
    if let Err(error) = data_dir.set_running(&ready) {
        // The server starts on a full disk too, so that people can delete sheds.
        let written = if store.give_back() { data_dir.set_running(&ready) } else { Err(error) };
        store.keep_reserve();
        written?;
    }
    // Whoever sees the ready file may send SIGTERM in the next moment.
    let stop = StopSignals::listen()?;
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
    let status = until_stopped(&app, stop).await?;
    drop(lock);
    Ok(status)
}

/// Connects `_api` channels of SSH to the API.
fn pipe(app: &App, api: &Arc<OnceLock<Http>>) -> shed_ssh::ApiPipe {
    let (api, tasks) = (Arc::clone(api), app.tasks());
    Arc::new(move |person, stream| {
        // It is set before the SSH listener serves.
        if let Some(http) = api.get().cloned() {
            tasks.spawn(async move { http.serve_person(person, stream).await });
        }
    })
}

/// Waits for a stop signal, then drains. A second signal cuts the drain short.
async fn until_stopped(app: &App, mut stop: StopSignals) -> anyhow::Result<u8> {
    stop.recv().await;
    tracing::info!("stopping; sheds keep running");
    tokio::select! {
        () = app.close() => Ok(0),
        () = stop.recv() => Ok(130),
    }
}

fn settings(
    config: &Config,
    data_dir: &DataDir,
    server_id: &str,
    socket: &Path,
) -> anyhow::Result<Settings> {
    let engine_socket = config.engine.host.as_deref().and_then(|host| host.strip_prefix("unix://"));
    let mut never =
        vec![PathBuf::from(ENGINE_SOCKET), data_dir.path().to_owned(), socket.to_owned()];
    never.extend(engine_socket.map(PathBuf::from));
    // A symbolic link is refused with its target.
    let resolved: Vec<PathBuf> =
        never.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    never.extend(resolved);
    Ok(Settings {
        name: config.name.clone().unwrap_or_else(host_name),
        server_id: server_id.to_owned(),
        defaults: config.defaults().map_err(anyhow::Error::msg)?,
        mounts: MountPolicy { allow: config.mounts.allow.clone(), never },
        images: config.images.allow.clone(),
        pulse: shed_core::PULSE,
        sessions: config.sessions(data_dir.output()?).map_err(anyhow::Error::msg)?,
    })
}

/// Options of the container engine.
pub(crate) fn engine_options(config: &Config, server_id: &str) -> shed_docker::Options {
    let usual = shed_docker::Options::new(server_id);
    shed_docker::Options {
        prefix: config.engine.prefix.clone().unwrap_or(usual.prefix.clone()),
        host: config.engine.host.clone().or(usual.host.clone()),
        extra_labels: config.engine.labels.clone(),
        ..usual
    }
}

/// Reads the certificate. Without one, an address that other hosts can reach is an error.
pub(crate) fn check_listeners(config: &Config) -> anyhow::Result<Option<Tls>> {
    let http = &config.http;
    match (&http.certificate, &http.key) {
        (Some(certificate), Some(key)) => Ok(Some(Tls::load(certificate, key)?)),
        _ => match public(config) {
            None => Ok(None),
            Some(address) => bail!(
                "the HTTP address {address} is not loopback, and there is no certificate; set certificate and \
                 key in [http] to PEM files, or listen on 127.0.0.1 and connect over SSH (on the client: \
                 shed server add {})",
                host_name()
            ),
        },
    }
}

/// An address that other hosts can reach is an error while no token exists: nobody could authenticate.
async fn check_tokens(config: &Config, store: &Store, data_dir: &DataDir) -> anyhow::Result<()> {
    if let Some(address) = public(config)
        && store.tokens().await?.is_empty()
    {
        bail!(
            "the HTTP address {address} is not loopback, and there is no token; create one: \
             {} token add admin --scope admin --data-dir {}",
            crate::paste::program(),
            quote(&data_dir.path().to_string_lossy())
        );
    }
    Ok(())
}

/// The first HTTP address that other hosts can reach.
fn public(config: &Config) -> Option<&SocketAddr> {
    config.http.listen.iter().find(|address| !address.ip().is_loopback())
}

/// At the first start, authorizes the public keys in `~/.ssh` of the user who starts the server.
async fn import_own_keys(app: &App) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    if let Some(dir) = User::current().home().map(|home| home.join(".ssh")) {
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
    for added in app.access().import_own_keys(lines).await? {
        tracing::info!(key = %added, "first start: authorized your own public key with scope admin");
    }
    Ok(())
}

fn host_name() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_string_lossy() {
        name if name.is_empty() => NAMELESS.to_owned(),
        name => name.into_owned(),
    }
}

/// Raises the soft limit of open files to the hard limit. Each connection is a descriptor; the usual soft limit is 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
