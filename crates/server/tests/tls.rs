//! TLS with client certificates.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed step is a failed test"
)]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use certificates::Certificates;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use support::{Server, status};
use wharf_server::{Limits, Listener, TlsFiles};

const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn start(verify: bool) -> (Server, Certificates, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let files = certificates.server(verify);
    let server = Server::start_with(Limits::default(), move |_| async move {
        // With TLS any address may be listened on.
        Listener::tcp("0.0.0.0:0", Some(files.load().unwrap()), false)
            .await
            .unwrap()
    });
    (server, certificates, folder)
}

fn ask(stream: TcpStream, client: Arc<ClientConfig>) -> std::io::Result<String> {
    let connection = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(PING)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ if answer.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(String::from_utf8(answer).unwrap()),
    }
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_served() {
    let (server, certificates, _folder) = start(true);
    let answer = ask(server.connect_tcp(0), certificates.client(Some("client"))).unwrap();
    assert_eq!(status(&answer), 200);
    assert!(ask(server.connect_tcp(0), certificates.client(None)).is_err());
    assert!(ask(server.connect_tcp(0), certificates.client(Some("stranger"))).is_err());
    // Somebody who does not speak TLS.
    let mut plain = server.connect_tcp(0);
    plain.write_all(PING).unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.0 400 Bad Request\r\n")
            && answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"),
        "{answer}"
    );
    assert_eq!(status(&server.get("/_ping").0), 200);
}

#[test]
fn without_verification_any_client_is_served() {
    let (server, certificates, _folder) = start(false);
    let answer = ask(server.connect_tcp(0), certificates.client(None)).unwrap();
    assert_eq!(status(&answer), 200);
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let good = certificates.server(true);
    let text = folder.path().join("text");
    std::fs::write(&text, "no certificate").unwrap();
    for wrong in [
        TlsFiles {
            certificate: text.clone(),
            ..good.clone()
        },
        TlsFiles {
            key: text.clone(),
            ..good.clone()
        },
        TlsFiles {
            client_authorities: Some(text.clone()),
            ..good.clone()
        },
        TlsFiles {
            key: "/no/such/file".into(),
            ..good.clone()
        },
    ] {
        let error = wrong.load().unwrap_err().to_string();
        assert!(
            error.contains("text") || error.contains("/no/such/file"),
            "{error}"
        );
    }
    // A key that belongs to another certificate.
    let mixed = TlsFiles {
        key: folder.path().join("client.key"),
        ..good
    };
    assert!(mixed.load().is_err());
}
