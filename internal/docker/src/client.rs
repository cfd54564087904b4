//! The connection to the engine: made when it is first needed, and again after each loss.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::failure::Failure;

/// Where Docker listens by default.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The oldest API version that has every call used here: Docker 20.10.
const OLDEST_API: (u32, u32) = (1, 41);
/// How long an engine may take to report its version.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// bollard's own limit for the beginning of a response. Each call here has a shorter limit, for the whole response.
const BOLLARD_LIMIT_SECONDS: u64 = 24 * 60 * 60;
/// Upper bound for a response that is read as a whole, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection to an engine, which is made and made again as needed.
#[derive(Debug)]
pub(crate) struct Client {
    host: Host,
    /// `None` until it is first needed and after each loss. Locked for single look-ups.
    live: Mutex<Option<Arc<Live>>>,
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// Path of a unix socket.
    Unix(String),
    /// `HOST:PORT`.
    Tcp(String),
    /// A URL with a scheme that is not supported.
    Unknown(String),
}

/// An engine that answered.
#[derive(Debug)]
pub(crate) struct Live {
    /// Sends requests with a fixed API version.
    pub(crate) docker: Docker,
    /// Sends requests without an API version, for [`Self::get`].
    plain: Docker,
    /// The API version in use: major, minor.
    pub(crate) api: (u32, u32),
    /// Name and version, for people: `Docker 20.10.24 (API 1.41)`.
    pub(crate) description: String,
    /// Number of CPUs. The engine refuses limits above it.
    pub(crate) n_cpus: f64,
    /// Whether the engine is rootless: root of its containers is the user who runs it.
    pub(crate) rootless: bool,
}

impl Client {
    /// A client of the engine at `host`, in the form of `DOCKER_HOST`; this machine's default engine when absent.
    pub(crate) fn new(host: Option<&str>) -> Self {
        Self { host: Host::parse(host), live: Mutex::default() }
    }

    /// The unix socket the engine listens on, if it listens on one.
    pub(crate) fn socket(&self) -> Option<&str> {
        match &self.host {
            Host::Unix(path) => Some(path),
            Host::Tcp(_) | Host::Unknown(_) => None,
        }
    }

    /// The connected engine. Connects and queries its version if there is no connection.
    pub(crate) async fn live(&self) -> Result<Arc<Live>, Failure> {
        if let Some(live) = &*self.live.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(live));
        }
        let live = Arc::new(self.connect().await?);
        // Callers that connected at the same time found the same engine.
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Drops the connection: the engine may be another version next time.
    pub(crate) fn forget(&self) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits for a response, at most `limit`. `what` completes "docker did not …".
    pub(crate) async fn ask<T>(
        &self,
        limit: Duration,
        what: &str,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => {
                let seconds = limit.as_secs();
                Err(Failure::TimedOut(format!("docker did not {what} within {seconds} seconds")))
            }
        }
    }

    /// Classifies an error. If the engine is unreachable, the next call connects again.
    pub(crate) fn failure(&self, error: &bollard::errors::Error) -> Failure {
        let failure = Failure::of(error, self.host.as_str());
        if matches!(failure, Failure::Unreachable(_)) {
            self.forget();
        }
        failure
    }

    async fn connect(&self) -> Result<Live, Failure> {
        let limit = BOLLARD_LIMIT_SECONDS;
        let docker = match &self.host {
            Host::Unix(path) => Docker::connect_with_unix(path, limit, API_DEFAULT_VERSION),
            Host::Tcp(address) => Docker::connect_with_http(address, limit, API_DEFAULT_VERSION),
            Host::Unknown(host) => {
                let text = format!(
                    "invalid DOCKER_HOST {host:?}; expected unix://PATH or tcp://HOST:PORT"
                );
                return Err(Failure::Unreachable(text));
            }
        };
        let plain = docker.map_err(|error| self.failure(&error))?;
        let asked = timeout(CONNECT_LIMIT, async { tokio::join!(plain.version(), plain.info()) });
        let Ok((version, info)) = asked.await else {
            let (host, seconds) = (self.host.as_str(), CONNECT_LIMIT.as_secs());
            let text = format!("Docker at {host} did not answer within {seconds} seconds");
            return Err(Failure::Unreachable(text));
        };
        let version = version.map_err(|error| self.failure(&error))?;
        let info = info.map_err(|error| self.failure(&error))?;
        let (description, api) = judge(&version).map_err(Failure::Unreachable)?;
        let prefix = format!("/v{}.{}", api.0, api.1);
        let options = info.security_options.unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 CPUs")]
        let n_cpus = info.ncpu.map_or(f64::INFINITY, |n| n as f64);
        Ok(Live {
            // bollard negotiates a version and then requests paths without one, which an engine serves with its newest.
            docker: redirect(plain.clone(), move |path| format!("{prefix}{path}")),
            plain,
            api,
            description,
            n_cpus,
            rootless: options.iter().any(|option| option.contains("rootless")),
        })
    }
}

impl Live {
    /// The raw response to a GET, for responses that bollard's types cannot represent.
    pub(crate) async fn get(&self, path: &str) -> Result<Vec<u8>, bollard::errors::Error> {
        let target = format!("/v{}.{}{path}", self.api.0, self.api.1);
        // The one call of bollard that returns a body unparsed.
        let docker = redirect(self.plain.clone(), move |_| target.clone());
        let mut chunks = docker.export_container("any");
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > MAX_ANSWER_BYTES {
                let err = std::io::Error::other("the response is too long");
                return Err(bollard::errors::Error::IOError { err });
            }
        }
        Ok(bytes)
    }
}

impl Host {
    fn parse(host: Option<&str>) -> Self {
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Self::Unix(DEFAULT_SOCKET.to_owned());
        };
        if let Some(path) = host.strip_prefix("unix://").or(host.starts_with('/').then_some(host)) {
            return Self::Unix(path.to_owned());
        }
        match host.strip_prefix("tcp://").or(host.strip_prefix("http://")) {
            Some(address) => Self::Tcp(address.trim_end_matches('/').to_owned()),
            None => Self::Unknown(host.to_owned()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Unix(host) | Self::Tcp(host) | Self::Unknown(host) => host,
        }
    }
}

/// An engine's name and version and the API version to use, or why the engine cannot be used.
fn judge(version: &bollard::models::SystemVersion) -> Result<(String, (u32, u32)), String> {
    let components = version.components.as_deref().unwrap_or_default();
    let has = |name: &str| components.iter().any(|component| component.name == name);
    let name = if has("Podman Engine") { "Podman" } else { "Docker" };
    let own = version.version.as_deref().unwrap_or("of an unknown version");
    let api = version.api_version.as_deref().unwrap_or("none");
    let description = format!("{name} {own} (API {api})");
    let Some(spoken) = parse_api(api).filter(|spoken| *spoken >= OLDEST_API) else {
        return Err(format!(
            "{name} {own} has API version {api}, but shed needs {}.{} (Docker 20.10) or newer; upgrade it",
            OLDEST_API.0, OLDEST_API.1
        ));
    };
    if has("Engine") && !has("containerd") {
        // Docker starts containerd again by itself after some seconds; until then it cannot run anything.
        return Err(format!("{name} {own} answers, but its containerd does not"));
    }
    let known = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
    let known = (u32::try_from(known.0), u32::try_from(known.1));
    let newest = if let (Ok(major), Ok(minor)) = known { (major, minor) } else { OLDEST_API };
    Ok((description, spoken.min(newest)))
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A client of the same engine that requests other paths.
fn redirect(docker: Docker, path: impl Fn(&str) -> String + Send + Sync + 'static) -> Docker {
    docker.with_request_modifier(move |mut request| {
        let uri = request.uri().to_string();
        let host = uri.find("://").map_or(0, |at| at + 3);
        let split = uri[host..].find('/').map_or(uri.len(), |at| host + at);
        let (host, old) = uri.split_at(split);
        // A path that does not parse leaves the request unchanged.
        if let Ok(uri) = format!("{host}{}", path(old)).parse() {
            *request.uri_mut() = uri;
        }
        request
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::{SystemVersion, SystemVersionComponents};

    use super::*;

    fn version(api: &str, components: &[&str]) -> SystemVersion {
        let component = |name: &&str| SystemVersionComponents {
            name: (*name).to_owned(),
            ..SystemVersionComponents::default()
        };
        SystemVersion {
            version: Some("9.8".to_owned()),
            api_version: Some(api.to_owned()),
            components: Some(components.iter().map(component).collect()),
            ..SystemVersion::default()
        }
    }

    #[test]
    fn an_engine_is_described_and_used_with_an_api_version_both_support() {
        let judged = |api: &str, names: &[&str]| judge(&version(api, names));
        let docker = judged("1.41", &["Engine", "containerd", "runc"]).unwrap();
        assert_eq!(docker, ("Docker 9.8 (API 1.41)".to_owned(), (1, 41)));
        assert_eq!(judged("1.41", &["Podman Engine"]).unwrap().0, "Podman 9.8 (API 1.41)");
        let newest = judged("9.99", &["Engine", "containerd"]).unwrap().1;
        assert_eq!(newest.0, 1);
    }

    #[test]
    fn an_unsupported_engine_is_refused_with_a_reason() {
        let why = |api: &str, names: &[&str]| judge(&version(api, names)).unwrap_err();
        assert!(why("1.40", &["Engine", "containerd"]).contains("upgrade"));
        assert!(why("odd", &[]).contains("API version odd"));
        assert!(why("1.41", &["Engine"]).contains("containerd does not"));
    }

    #[test]
    fn hosts_are_parsed_as_docker_does() {
        assert_eq!(Host::parse(None), Host::Unix(DEFAULT_SOCKET.to_owned()));
        assert_eq!(Host::parse(Some("")), Host::Unix(DEFAULT_SOCKET.to_owned()));
        assert_eq!(Host::parse(Some("unix:///run/x")), Host::Unix("/run/x".to_owned()));
        assert_eq!(Host::parse(Some("tcp://h:1/")), Host::Tcp("h:1".to_owned()));
        assert_eq!(Host::parse(Some("ssh://h")), Host::Unknown("ssh://h".to_owned()));
    }
}
