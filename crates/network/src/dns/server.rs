//! Serving one container: its sockets, and the tasks that read them.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustix::net::{SocketType, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{Outcome, answer};
use super::directory::{Directory, Scope};
use super::forward::forward;
use crate::netlink::Socket;
use crate::nft::{RESOLVER, redirect_dns};

/// Forwarded UDP queries of one container at a time; more are dropped, and asked again by the
/// client.
const QUERIES_MAX: usize = 128;
/// TCP connections of one container at a time.
const CONNECTIONS_MAX: usize = 32;
/// A connection without a query for this long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// A container's DNS sockets, bound inside its namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Sockets {
    /// Opens them in the calling thread's network namespace and leads port 53 of the resolver's
    /// address there. Loopback must be up.
    pub(crate) fn open() -> io::Result<Self> {
        let any_port = SocketAddr::V4(SocketAddrV4::new(RESOLVER, 0));
        let udp = std::net::UdpSocket::bind(any_port)?;
        let tcp = std::net::TcpListener::bind(any_port)?;
        redirect_dns(
            &mut Socket::netfilter()?,
            udp.local_addr()?.port(),
            tcp.local_addr()?.port(),
        )?;
        Ok(Self { udp, tcp })
    }

    /// Sockets that were kept elsewhere: the first UDP and the first TCP one.
    pub(crate) fn from_kept(kept: Vec<OwnedFd>) -> io::Result<Self> {
        let (mut udp, mut tcp) = (None, None);
        for socket in kept {
            match sockopt::socket_type(&socket)? {
                SocketType::DGRAM => udp = udp.or(Some(socket)),
                SocketType::STREAM => tcp = tcp.or(Some(socket)),
                _ => {}
            }
        }
        match (udp, tcp) {
            (Some(udp), Some(tcp)) => Ok(Self {
                udp: udp.into(),
                tcp: tcp.into(),
            }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a UDP and a TCP socket are needed",
            )),
        }
    }

    /// Copies for somebody else to keep.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![
            self.udp.as_fd().try_clone_to_owned()?,
            self.tcp.as_fd().try_clone_to_owned()?,
        ])
    }
}

/// The running server of one container; dropping it ends its tasks.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    directory: Arc<Directory>,
    scope: RwLock<Arc<Scope>>,
}

impl Shared {
    fn scope(&self) -> Arc<Scope> {
        Arc::clone(&self.scope.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Server {
    /// Answers queries on `sockets`.
    pub(crate) fn start(
        runtime: &Handle,
        directory: Arc<Directory>,
        scope: Scope,
        sockets: Sockets,
    ) -> io::Result<Self> {
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        let entered = runtime.enter();
        let udp = UdpSocket::from_std(sockets.udp)?;
        let tcp = TcpListener::from_std(sockets.tcp)?;
        drop(entered);
        let shared = Arc::new(Shared {
            directory,
            scope: RwLock::new(Arc::new(scope)),
        });
        let tasks = [
            runtime.spawn(serve_udp(Arc::clone(&shared), udp)),
            runtime.spawn(serve_tcp(Arc::clone(&shared), tcp)),
        ];
        Ok(Self { shared, tasks })
    }

    /// Changes what the container can resolve.
    pub(crate) fn set_scope(&self, scope: Scope) {
        *self
            .shared
            .scope
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(scope);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut queries = JoinSet::new();
    let mut buffer = vec![0_u8; 4096];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // The client of an earlier answer was gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            // Nothing else is expected; whatever it is must not turn into a busy loop.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while queries.try_join_next().is_some() {}
        let scope = shared.scope();
        match answer(&shared.directory, &scope, &buffer[..length], true) {
            Outcome::Answer(bytes) => drop(socket.send_to(&bytes, client).await),
            Outcome::Forward(query) if queries.len() < QUERIES_MAX => {
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                queries.spawn(async move {
                    let bytes = forward(&shared.directory, &scope.servers, &query, true).await;
                    drop(socket.send_to(&bytes, client).await);
                });
            }
            Outcome::Forward(_) | Outcome::Ignore => {}
        }
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _place = place;
                    // The client is gone or broke the protocol: the connection just ends.
                    drop(serve_connection(&shared, stream).await);
                });
            }
            // Out of descriptors or the like: give the others time to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_connection(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let query = tokio::time::timeout(IDLE, async {
            let length = stream.read_u16().await?;
            let mut query = vec![0_u8; usize::from(length)];
            stream.read_exact(&mut query).await?;
            Ok::<_, io::Error>(query)
        })
        .await??;
        let scope = shared.scope();
        let bytes = match answer(&shared.directory, &scope, &query, false) {
            Outcome::Answer(bytes) => bytes,
            Outcome::Forward(query) => {
                forward(&shared.directory, &scope.servers, &query, false).await
            }
            Outcome::Ignore => return Ok(()),
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes()[..], &bytes].concat())
            .await?;
    }
}
