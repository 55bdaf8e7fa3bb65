//! An authority, a server's and a client's certificate, made with `openssl`.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::TlsFiles;

pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    pub fn make(folder: &Path) -> Self {
        let openssl = |arguments: &str| {
            let output = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(folder)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "openssl {arguments}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        std::fs::write(
            folder.join("server.ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
        )
        .unwrap();
        std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        for authority in ["ca", "other"] {
            openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
            ));
        }
        for (name, extensions, authority) in [
            ("server", "server.ext", "ca"),
            ("client", "client.ext", "ca"),
            ("stranger", "client.ext", "other"),
        ] {
            openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ));
            openssl(&format!(
                "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 2 -extfile {extensions} -out {name}.pem"
            ));
        }
        Self {
            folder: folder.to_owned(),
        }
    }

    pub fn server(&self, verify: bool) -> TlsFiles {
        TlsFiles {
            certificate: self.folder.join("server.pem"),
            key: self.folder.join("server.key"),
            client_authorities: verify.then(|| self.folder.join("ca.pem")),
        }
    }

    /// A client that trusts the authority and shows the certificate `name`, if any.
    pub fn client(&self, name: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.folder.join("ca.pem")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = vec![
                    CertificateDer::from_pem_file(self.folder.join(format!("{name}.pem"))).unwrap(),
                ];
                let key =
                    PrivateKeyDer::from_pem_file(self.folder.join(format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}
