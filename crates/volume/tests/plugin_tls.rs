//! Plugins behind TLS: who is verified by what a description says, and who must prove who they are.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use wharf_volume::plugin::{Patience, PluginDirs, PluginError, Plugins};

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(30),
    appearance: Duration::ZERO,
};

/// A certificate that vouches for itself, and its key.
fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                   -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost";
    let made = Command::new("openssl")
        .args(request.split_whitespace())
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}

/// Answers every handshake of a plugin; asks clients for the certificate that it knows, if any.
fn serve((certificate, key): &(PathBuf, PathBuf), client: Option<&Path>) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap()
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(chain(path));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = Arc::new(builder.with_single_cert(chain(certificate), key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket);
            let mut request = [0; 4096];
            if !stream.read(&mut request).is_ok_and(|read| read > 0) {
                continue; // who is not trusted does not trust us
            }
            let body = r#"{"Implements":["VolumeDriver"]}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

async fn activate(dir: &Path, file: &str, text: String) -> Result<(), PluginError> {
    std::fs::write(dir.join(file), text).unwrap();
    let plugins = Plugins::new(PluginDirs(vec![dir.to_owned()]));
    let name = file.split('.').next().unwrap();
    plugins.driver(name, PATIENCE).await.map(drop)
}

#[tokio::test]
async fn a_server_is_verified_by_the_authority_that_its_description_names() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (certificate(dir.path(), "own"), certificate(dir.path(), "other"));
    let address = format!("https://localhost:{}", serve(&own, None));
    let described = |tls: serde_json::Value| serde_json::json!({"Addr": address, "TLSConfig": tls}).to_string();
    let try_out = async |file: &str, text: String| activate(dir.path(), file, text).await;
    try_out("plain.spec", address.clone()).await.unwrap();
    try_out("blind.json", described(serde_json::json!({}))).await.unwrap();
    try_out("known.json", described(serde_json::json!({"CAFile": own.0})))
        .await
        .unwrap();
    let error = try_out("foreign.json", described(serde_json::json!({"CAFile": other.0}))).await;
    assert!(matches!(error, Err(PluginError::Away { .. })), "{error:?}");
    let error = try_out("missing.json", described(serde_json::json!({"CAFile": "/nowhere.pem"}))).await;
    assert!(error.unwrap_err().to_string().contains("/nowhere.pem"));
}

#[tokio::test]
async fn a_client_proves_who_it_is_where_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = (certificate(dir.path(), "server"), certificate(dir.path(), "client"));
    let address = format!("https://localhost:{}", serve(&server, Some(&client.0)));
    let described = |tls: serde_json::Value| serde_json::json!({"Addr": address, "TLSConfig": tls}).to_string();
    let with = serde_json::json!({"CAFile": server.0, "CertFile": client.0, "KeyFile": client.1});
    activate(dir.path(), "with.json", described(with)).await.unwrap();
    let without = described(serde_json::json!({"CAFile": server.0}));
    activate(dir.path(), "without.json", without)
        .await
        .expect_err("nobody vouches for it");
}
