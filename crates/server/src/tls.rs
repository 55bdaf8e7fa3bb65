//! TLS for TCP listeners, as `--tlscert`, `--tlskey`, `--tlscacert` and `--tlsverify` ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use wharf_fault::{Fault, Kind};

/// Where certificates and keys are, PEM files all.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Clients must show a certificate made by one of these authorities. `None`: any client.
    pub client_authorities: Option<PathBuf>,
}

/// Why TLS can not be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or no PEM file.
    #[error("cannot read {what} from `{path}`: {why}")]
    Pem {
        /// What should be in the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The parts do not fit together.
    #[error("the TLS certificate and key cannot be used")]
    Unusable(#[source] rustls::Error),
    /// No authority of clients can be used.
    #[error("the authorities of client certificates cannot be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

impl Fault for TlsError {
    fn kind(&self) -> Kind {
        Kind::InvalidParameter
    }
}

impl TlsFiles {
    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates("a certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::Pem {
            what: "a private key",
            path: self.key.clone(),
            why: error.to_string(),
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates("a certificate authority", path)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(TlsError::Authorities)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::Pem {
        what,
        path: path.to_owned(),
        why,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(error.to_string()))?
        .collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        Err(wrong("there is none in it".to_owned()))
    } else {
        Ok(found)
    }
}
