//! Asking other servers, from the host's namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::Forward;
use super::directory::Directory;
use crate::files::ExtServer;

/// Servers that are asked for one query, as Docker's.
const SERVERS_MAX: usize = 3;
/// How long each may take, as Docker's.
const TIMEOUT: Duration = Duration::from_secs(4);
const PORT: u16 = 53;

/// The client's answer: the first good one of the servers, the last bad one, or SERVFAIL.
pub(super) async fn forward(
    directory: &Directory,
    servers: &[ExtServer],
    query: &Forward,
    udp: bool,
) -> Vec<u8> {
    // No place means that a thousand queries wait already: say so at once.
    let Ok(_place) = directory.in_flight.try_acquire() else {
        return query.failure(udp);
    };
    let mut bad = None;
    for server in servers.iter().take(SERVERS_MAX) {
        let id = u16::from_ne_bytes(wharf_ids::random_bytes::<2>());
        let Some(request) = query.request(id) else {
            break;
        };
        let asked = async {
            if udp {
                ask_udp(server.address, &request, query, id).await
            } else {
                ask_tcp(server.address, &request, query, id).await
            }
        };
        if let Ok(Ok(answer)) = timeout(TIMEOUT, asked).await {
            if !Forward::is_failure(&answer) {
                return answer;
            }
            bad = Some(answer);
        }
    }
    bad.unwrap_or_else(|| query.failure(udp))
}

async fn ask_udp(server: IpAddr, request: &[u8], query: &Forward, id: u16) -> io::Result<Vec<u8>> {
    let local: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect((server, PORT)).await?;
    socket.send(request).await?;
    let mut buffer = vec![0_u8; 8192];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not fit the query may be forged; the right answer may still come.
        if let Some(answer) = query.response(&buffer[..length], id, true) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: IpAddr, request: &[u8], query: &Forward, id: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((server, PORT)).await?;
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], request].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    query
        .response(&answer, id, false)
        .ok_or_else(|| io::Error::other("the server answered another query"))
}
