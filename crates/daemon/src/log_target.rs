//! What a shim leaves to this program when it sends a container's log elsewhere: names and TLS.
//!
//! ```text
//! wharf log-target resolve HOST PORT                              addresses, one a line, on standard output
//! wharf log-target tls HOST PORT [--ca F] [--cert F --key F] [--skip-verify]
//!                        one byte on standard output once connected, then standard input goes to the target
//! ```
//!
//! It is a process of its own, so that the shim stays small and never waits: here one may wait for a
//! name server, a handshake or a target that takes nothing. It needs no engine. When the shim closes
//! its end what is left is sent; when the target is gone the process ends, which the shim notices.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

/// Where distributions keep the certificates of authorities.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How long one address, and the handshake, may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a target may take nothing before it is given up.
const STALL: Duration = Duration::from_secs(60);

/// Runs with the words after `log-target`; answers the exit code.
pub fn log_target(words: &[String]) -> i32 {
    // The shim's rank is inherited otherwise; this process is not worth more than a container.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let done = match words {
        [verb, host, port] if verb == "resolve" => resolve(host, port),
        [verb, host, port, options @ ..] if verb == "tls" => relay(host, port, options),
        _ => Err("usage: wharf log-target resolve|tls HOST PORT ...".to_owned()),
    };
    match done {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("wharf log-target: {reason}");
            1
        }
    }
}

fn addresses(host: &str, port: &str) -> Result<Vec<std::net::SocketAddr>, String> {
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    let found = (host, port).to_socket_addrs();
    found
        .map(Iterator::collect)
        .map_err(|error| format!("cannot look up {host}: {error}"))
}

fn resolve(host: &str, port: &str) -> Result<(), String> {
    let lines: String = addresses(host, port)?
        .iter()
        .map(|address| format!("{address}\n"))
        .collect();
    std::io::stdout()
        .write_all(lines.as_bytes())
        .map_err(|error| format!("cannot answer: {error}"))
}

/// Connects, says so, and passes standard input on to its end.
fn relay(host: &str, port: &str, options: &[String]) -> Result<(), String> {
    let mut stream = connect(host, port, &Trust::parse(options)?)?;
    let failed = |error: std::io::Error| format!("the connection to {host} broke: {error}");
    stream.sock.set_write_timeout(Some(STALL)).map_err(failed)?;
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout();
    output.write_all(b"c").and_then(|()| output.flush()).map_err(failed)?;
    let mut chunk = vec![0u8; 64 << 10];
    loop {
        let length = match input.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        if length == 0 {
            stream.conn.send_close_notify();
            return stream.flush().map_err(failed);
        }
        stream
            .write_all(&chunk[..length])
            .and_then(|()| stream.flush())
            .map_err(failed)?;
    }
}

fn connect(host: &str, port: &str, trust: &Trust) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let config = Arc::new(trust.config()?);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no name of a server"))?;
    let mut last = format!("{host} has no address");
    for address in addresses(host, port)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => {
                let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
                let mut stream = StreamOwned::new(connection, socket);
                shake_hands(&mut stream).map_err(|error| format!("no TLS with {host}: {error}"))?;
                return Ok(stream);
            }
            Err(error) => last = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last)
}

fn shake_hands(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> std::io::Result<()> {
    stream.sock.set_read_timeout(Some(CONNECT))?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(())
}

/// Whom to trust, and who we are.
#[derive(Debug, Default)]
struct Trust {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    skip_verify: bool,
}

impl Trust {
    fn parse(options: &[String]) -> Result<Self, String> {
        let mut trust = Self::default();
        let mut words = options.iter();
        while let Some(word) = words.next() {
            let slot = match word.as_str() {
                "--ca" => &mut trust.ca,
                "--cert" => &mut trust.certificate,
                "--key" => &mut trust.key,
                "--skip-verify" => {
                    trust.skip_verify = true;
                    continue;
                }
                other => return Err(format!("unknown option {other:?}")),
            };
            *slot = Some(words.next().ok_or_else(|| format!("{word} needs a file"))?.into());
        }
        Ok(trust)
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("cannot read key {}: {error}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key)
                    .map_err(|error| error.to_string())
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let file = self.ca.as_deref().or_else(|| {
            let mut known = AUTHORITIES.iter().map(Path::new);
            known.find(|path| path.is_file())
        });
        let file = file.ok_or("there are no certificates of authorities on this host")?;
        let (added, _) = roots.add_parsable_certificates(certificates(file)?);
        match added {
            0 => Err(format!("{} holds no certificate", file.display())),
            _ => Ok(roots),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("cannot read certificates {}: {error}", path.display());
    CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// For `syslog-tls-skip-verify`: any certificate will do, but the handshake must be sound.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
