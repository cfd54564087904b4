//! The server itself: the responses of `GET /api/info` and the health routes.

use serde::{Deserialize, Serialize};

/// `GET /api/info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Info {
    /// Name of the server from its configuration; by default its host name.
    pub name: String,
    /// Id of the server, which labels its containers and volumes.
    pub server_id: String,
    /// Version of shed-server.
    pub version: String,
    /// Port of the SSH listener; absent if there is none.
    pub ssh_port: Option<u16>,
    /// Port of the first HTTP listener; absent if there is none.
    pub http_port: Option<u16>,
    /// Name and version of the container engine, for people: `Docker 20.10.24 (API 1.41)`.
    pub engine: String,
    /// The permissions of the caller on this server.
    pub scope: crate::Scope,
    /// Names of capabilities that this server has in addition to those of the first release.
    pub features: Vec<String>,
}

/// `GET /api/ssh-host-key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostKey {
    /// The public key, one line as in `ssh_host_ed25519_key.pub`: `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// `GET /api/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Whether the server is fully operational: the container engine answers, and the server is not shutting down.
    pub ready: bool,
    /// What is missing, one sentence each; empty when ready.
    pub missing: Vec<String>,
}

/// The content of `--ready-file`, written when all listeners serve: one JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// `ADDR:PORT` of the first HTTP listener; absent if there is none.
    pub http: Option<String>,
    /// `ADDR:PORT` of the first SSH listener; absent if there is none.
    pub ssh: Option<String>,
    /// Absolute path of the unix socket.
    pub socket: String,
    /// Process id of the server.
    pub pid: u32,
    /// Id of the server, which labels its containers and volumes.
    pub server_id: String,
}
