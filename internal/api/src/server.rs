//! The server itself: what `GET /api/info` and the health routes say.

use serde::{Deserialize, Serialize};

/// `GET /api/info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Info {
    /// The server's name from its configuration; by default its host name.
    pub name: String,
    /// The id its containers and volumes are labelled with.
    pub server_id: String,
    /// The version of shed-server.
    pub version: String,
    /// The port of the SSH listener, if there is one.
    pub ssh_port: Option<u16>,
    /// The port of the first HTTP listener, if there is one.
    pub http_port: Option<u16>,
    /// The engine in words: `docker 20.10.24 (API 1.41)`.
    pub engine: String,
    /// What the caller may do here.
    pub scope: crate::Scope,
    /// What this server can do beyond the first release.
    pub features: Vec<String>,
}

/// `GET /api/ssh-host-key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostKey {
    /// One line as in `ssh_host_ed25519_key.pub`.
    pub host_key: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// `GET /api/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Whether the server can do all it is for.
    pub ready: bool,
    /// What is missing, in words; empty when ready.
    pub missing: Vec<String>,
}

/// What `--ready-file` gets when all listeners serve: one JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// `ADDR:PORT` of the first HTTP listener.
    pub http: Option<String>,
    /// `ADDR:PORT` of the first SSH listener.
    pub ssh: Option<String>,
    /// Path of the unix socket.
    pub socket: String,
    /// The server's process id.
    pub pid: u32,
    /// The id its containers and volumes are labelled with.
    pub server_id: String,
}
