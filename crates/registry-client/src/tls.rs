//! TLS settings for each host: whom to believe, and who we are.
//!
//! `<certificate dir>/<host:port>/` may hold `*.crt` (more authorities to believe for this host)
//! and `<name>.cert` with `<name>.key` (what we show the host), as Docker has them.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::endpoint::Trust;
use crate::error::Error;
use crate::options::Options;

/// Largest certificate or key file, in bytes.
const FILE_LENGTH_MAX: u64 = 4 << 20;

/// The settings for connections to `host:port`. Reads files: may block.
pub(crate) fn client_config(
    options: &Options,
    host: &str,
    port: u16,
    trust: Trust,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Invalid(format!("cannot set up TLS: {error}")))?;
    let files = certificate_files(options, host, port)?;
    let builder = if trust == Trust::AnyCertificate {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // Old roots that rustls does not take are of no use to anyone.
            let _ = roots.add(certificate);
        }
        for certificate in files.authorities {
            roots.add(certificate).map_err(|error| {
                Error::Invalid(format!("certificate authority for {host}: {error}"))
            })?;
        }
        builder.with_root_certificates(roots)
    };
    let config = match files.identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| Error::Invalid(format!("client certificate for {host}: {error}")))?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

#[derive(Default)]
struct CertificateFiles {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

fn certificate_files(options: &Options, host: &str, port: u16) -> Result<CertificateFiles, Error> {
    let mut files = CertificateFiles::default();
    // The default port may be left out of the directory's name.
    let mut names = vec![format!("{host}:{port}")];
    if port == 443 {
        names.push(host.to_owned());
    }
    for dir in &options.certificate_dirs {
        for dir in names.iter().map(|name| dir.join(name)) {
            read_dir(&dir, &mut files)?;
        }
    }
    Ok(files)
}

fn read_dir(dir: &Path, files: &mut CertificateFiles) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => files.authorities.extend(certificates(&path)?),
            Some("cert") => {
                let key_path = path.with_extension("key");
                let bytes = read(&key_path).map_err(|_| {
                    Error::Invalid(format!(
                        "missing key {} for client certificate {}",
                        key_path.display(),
                        path.display()
                    ))
                })?;
                let key = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|error| Error::Invalid(format!("{}: {error}", key_path.display())))?;
                files.identity = Some((certificates(&path)?, key));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_LENGTH_MAX).read_to_end(&mut bytes))
        .map_err(|error| Error::Invalid(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
}

/// Believes every certificate: for hosts listed as insecure only.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
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
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use hyper::header::HeaderMap;
    use hyper::{Method, Response};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::client::Client;
    use crate::connection::{RequestBody, TransportFailure};
    use crate::target::Target;

    const OPENSSL: &str = "/usr/bin/openssl";

    fn openssl(dir: &Path, line: &str) {
        let output = Command::new(OPENSSL)
            .args(line.split(' '))
            .current_dir(dir)
            .output()
            .expect("openssl is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// `ca`, and signed by it `<name>` for an address.
    fn make(dir: &Path, name: &str, address: &str) {
        const NEW: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        if !dir.join("ca.crt").exists() {
            openssl(
                dir,
                &format!("req -x509 {NEW} -days 2 -subj /CN=ca -keyout ca.key -out ca.crt"),
            );
        }
        openssl(
            dir,
            &format!("req {NEW} -subj /CN={name} -keyout {name}.key -out {name}.csr"),
        );
        let extensions = format!("subjectAltName={address}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(dir.join("ext"), extensions).unwrap();
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out {name}.crt"
            ),
        );
    }

    async fn serve(dir: &Path, name: &str, wants_certificate: bool) -> u16 {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots
                .add(certificates(&dir.join("ca.crt")).unwrap().remove(0))
                .unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = certificates(&dir.join(format!("{name}.crt"))).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&read(&dir.join(format!("{name}.key"))).unwrap());
        let config = builder.with_single_cert(chain, key.unwrap()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        port
    }

    async fn get(
        certificate_dir: &Path,
        port: u16,
        trust: Trust,
    ) -> Result<Response<hyper::body::Incoming>, TransportFailure> {
        let options = Options {
            certificate_dirs: vec![certificate_dir.to_owned()],
            ..Options::default()
        };
        let client = Client::new(options).unwrap();
        let target = Target {
            tls: true,
            host: "127.0.0.1".to_owned(),
            port,
            path: "/".to_owned(),
        };
        let headers = HeaderMap::new();
        client
            .inner
            .exchange(&Method::GET, &target, trust, &headers, RequestBody::Empty)
            .await
    }

    #[tokio::test]
    async fn certificates_are_verified_against_the_hosts_own_authorities() {
        if !Path::new(OPENSSL).exists() {
            return wharf_tests::skip(
                "certificates_are_verified_against_the_hosts_own_authorities",
                "openssl is not installed",
            );
        }
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        make(dir, "right", "IP:127.0.0.1");
        make(dir, "wrong", "DNS:other.example");
        make(dir, "client", "DNS:client");
        let (right, wrong) = (
            serve(dir, "right", false).await,
            serve(dir, "wrong", false).await,
        );
        let strict = serve(dir, "right", true).await;

        let empty = dir.join("empty");
        let failure = get(&empty, right, Trust::Verified).await.unwrap_err();
        assert_eq!(
            failure.cause,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
        assert!(get(&empty, right, Trust::AnyCertificate).await.is_ok());

        let known = dir.join("certs.d");
        for port in [right, wrong, strict] {
            let own = known.join(format!("127.0.0.1:{port}"));
            std::fs::create_dir_all(&own).unwrap();
            std::fs::copy(dir.join("ca.crt"), own.join("ca.crt")).unwrap();
        }
        assert!(get(&known, right, Trust::Verified).await.is_ok());
        let failure = get(&known, wrong, Trust::Verified).await.unwrap_err();
        assert!(
            failure
                .cause
                .contains("certificate is not valid for 127.0.0.1"),
            "{failure:?}"
        );

        let failure = get(&known, strict, Trust::Verified).await.unwrap_err();
        assert!(
            failure.cause.contains("certificate required"),
            "{failure:?}"
        );
        let own = known.join(format!("127.0.0.1:{strict}"));
        std::fs::copy(dir.join("client.crt"), own.join("client.cert")).unwrap();
        let failure = get(&known, strict, Trust::Verified).await.unwrap_err();
        assert!(failure.cause.contains("missing key"), "{failure:?}");
        std::fs::copy(dir.join("client.key"), own.join("client.key")).unwrap();
        assert!(get(&known, strict, Trust::Verified).await.is_ok());
    }
}
