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
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Error::Invalid(format!("client certificate for {host}: {error}"))
        })?,
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
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
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
                let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
                    Error::Invalid(format!("{}: {error}", key_path.display()))
                })?;
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
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
