//! https.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use shed_api::Scope;
use shed_http::{Options, Tls};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Door, ends, get, reply};

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
    _dir: tempfile::TempDir,
}

/// A certificate for localhost that signs itself, and its key, as files.
fn certificate() -> Files {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    set_mode(&key, 0o600);
    Files { certificate, key, der: made.cert.der().clone(), _dir: dir }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn connector(trusted: &CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn https_serves_clients_with_a_token() {
    let files = certificate();
    let tls = Tls::load(&files.certificate, &files.key).unwrap();
    let door = Door::with(Options::default(), Some(tls)).await;
    let token = door.token(Scope::Read, &[]).await;
    let connect = async |trusted: &CertificateDer<'static>| {
        let name = ServerName::try_from("localhost").unwrap();
        connector(trusted).connect(name, TcpStream::connect(door.address).await.unwrap()).await
    };
    for (request, status) in [(get("/api/info").token(&token), 200), (get("/api/info"), 401)] {
        let mut stream = connect(&files.der).await.unwrap();
        stream.write_all(&request.bytes()).await.unwrap();
        assert_eq!(reply(&mut stream).await.status, status);
    }
    let stranger = certificate();
    assert!(connect(&stranger.der).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_https_ends() {
    let files = certificate();
    let tls = Tls::load(&files.certificate, &files.key).unwrap();
    let door = Door::with(Options::default(), Some(tls)).await;
    for bytes in
        [get("/api/health/live").bytes(), vec![0x16; 20_000], b"\x16\x03\x01\xff\xff".to_vec()]
    {
        let mut socket = door.tcp().await;
        socket.write_all(&bytes).await.ok();
        socket.shutdown().await.ok();
        assert!(ends(&mut socket).await);
    }
    // A handshake that does not come does not keep the server.
    let mut half = door.tcp().await;
    half.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    let start = std::time::Instant::now();
    door.test.app.close().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    assert!(ends(&mut half).await);
}

#[test]
fn invalid_files_are_named() {
    let (files, other) = (certificate(), certificate());
    let why = |certificate: &PathBuf, key: &PathBuf| match Tls::load(certificate, key) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    let missing = files.certificate.with_file_name("missing.pem");
    assert!(why(&missing, &files.key).contains("missing.pem"));
    assert!(why(&files.certificate, &missing).contains("missing.pem"));
    assert!(why(&files.key, &files.key).contains("key.pem"));
    assert!(why(&files.certificate, &files.certificate).contains("cert.pem"));
    assert!(why(&files.certificate, &other.key).contains("together"));
    for mode in [0o604, 0o644, 0o602] {
        set_mode(&files.key, mode);
        let fix = format!("(mode {mode:o}); run: chmod o= {}", files.key.display());
        assert!(why(&files.certificate, &files.key).ends_with(&fix));
    }
    set_mode(&files.key, 0o640);
    assert!(Tls::load(&files.certificate, &files.key).is_ok());
}
