//! Carrying bytes between a host port and a container where the kernel can not translate.
//!
//! That is IPv6 loopback (there is no route_localnet for it) and IPv6 to a container without
//! IPv6. Everything else never reaches these sockets. Where the bridges are in a network namespace
//! of their own (rootless), it is everything.
//!
//! One thread waits for all ports of all containers. It only borrows their sockets, so that a
//! port is free at the moment its container gives it back; what a connection needs runs on the
//! async runtime.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdTcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::outlet::{self, Outlet};
use super::socket::PortSocket;
use crate::attach::Protocol;
use crate::networks::lock;

/// Connections or UDP clients of one published port at a time; more are turned away.
const CLIENTS_MAX: usize = 1024;
/// A UDP client without traffic for this long is forgotten.
const CLIENT_IDLE: Duration = Duration::from_secs(90);
/// Packets of one client that wait for the container.
const QUEUE: usize = 64;
/// The thread's own wake-up.
const WAKE: u64 = 0;

/// The containers' bridges, in a network namespace that is not the daemon's.
#[derive(Debug, Clone)]
pub(crate) struct Bridges {
    pub(crate) namespace: Arc<OwnedFd>,
    /// Answers to the addresses of clients come back to the relay.
    pub(crate) client_addresses: bool,
}

/// Where a port leads a client at this moment, if it is the relay's business.
type FindTarget = Box<dyn Fn(IpAddr) -> Option<SocketAddr> + Send + Sync>;

/// A bound socket that is relayed; dropping it frees the port and ends its connections.
pub(super) struct Relayed {
    socket: PortSocket,
    target: FindTarget,
    connections: Mutex<Vec<AbortHandle>>,
    clients: Mutex<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>,
}

impl std::fmt::Debug for Relayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relayed")
            .field("socket", &self.socket)
            .finish()
    }
}

impl Relayed {
    /// Gives the port back, though a packet or connection may still be being handled.
    pub(super) fn let_go(&self) {
        self.socket.let_go();
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        for connection in lock(&self.connections).drain(..) {
            connection.abort();
        }
    }
}

/// The relay of all ports; its thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    sockets: Mutex<Sockets>,
    runtime: Handle,
    outlet: Outlet,
}

#[derive(Debug, Default)]
struct Sockets {
    last: u64,
    by_key: HashMap<u64, Weak<Relayed>>,
}

impl Relay {
    /// Starts the thread, in the bridges' network namespace if it is not the daemon's.
    pub(super) fn start(runtime: Handle, bridges: Option<&Bridges>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC)?,
            sockets: Mutex::default(),
            runtime,
            outlet: match bridges {
                Some(bridges) if bridges.client_addresses => Outlet::Client,
                _ => Outlet::Own,
            },
        });
        epoll::add(
            &shared.epoll,
            &shared.wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN,
        )?;
        std::thread::Builder::new()
            .name("port-relay".to_owned())
            .stack_size(128 * 1024)
            .spawn({
                let (shared, bridges) = (Arc::clone(&shared), bridges.cloned());
                move || {
                    if let Some(bridges) = bridges
                        && let Err(error) = crate::netns::enter(bridges.namespace.as_fd())
                    {
                        tracing::error!(error = %error, "the port relay can not enter the containers' network");
                        return;
                    }
                    wait(&shared);
                }
            })?;
        Ok(Self { shared })
    }

    /// Relays what arrives at `socket`, a listening TCP or a bound UDP one.
    pub(super) fn add(
        &self,
        socket: PortSocket,
        target: impl Fn(IpAddr) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> io::Result<Arc<Relayed>> {
        let relayed = Arc::new(Relayed {
            socket,
            target: Box::new(target),
            connections: Mutex::default(),
            clients: Mutex::default(),
        });
        let mut sockets = lock(&self.shared.sockets);
        sockets.by_key.retain(|_, old| old.strong_count() > 0);
        sockets.last += 1;
        let key = sockets.last;
        sockets.by_key.insert(key, Arc::downgrade(&relayed));
        epoll::add(
            &self.shared.epoll,
            &relayed.socket,
            epoll::EventData::new_u64(key),
            epoll::EventFlags::IN,
        )?;
        Ok(relayed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        lock(&self.shared.sockets).last = u64::MAX;
        if let Err(error) = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes()) {
            tracing::warn!(error = %error, "cannot end the port relay");
        }
    }
}

fn wait(shared: &Shared) {
    let mut events = Vec::with_capacity(64);
    let mut packet = vec![0_u8; 65_536];
    loop {
        events.clear();
        match epoll::wait(&shared.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(error = %error, "the port relay ends");
                return;
            }
        }
        for event in &events {
            let key = event.data.u64();
            if key == WAKE {
                return;
            }
            // The last reference may be ours by now; the port is free when this one goes.
            let Some(relayed) = lock(&shared.sockets)
                .by_key
                .get(&key)
                .and_then(Weak::upgrade)
            else {
                continue;
            };
            if relayed.socket.protocol() == Protocol::Tcp {
                accept(shared, &relayed);
            } else {
                receive(shared, &relayed, &mut packet);
            }
        }
    }
}

fn accept(shared: &Shared, relayed: &Arc<Relayed>) {
    // Not NONBLOCK's absence: tokio asks for it.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(client) = rustix::net::accept_with(&relayed.socket, flags) else {
        return;
    };
    let mut connections = lock(&relayed.connections);
    connections.retain(|connection| !connection.is_finished());
    if connections.len() >= CLIENTS_MAX {
        return;
    }
    let client = StdTcpStream::from(client);
    let Ok(from) = client.peer_addr() else { return };
    let Some(target) = (relayed.target)(from.ip()) else {
        return;
    };
    let Ok(container) = outlet::tcp(shared.outlet, from, target) else {
        return;
    };
    let task = shared.runtime.spawn(async move {
        // A side that fails ends the connection; there is nobody to tell.
        drop(carry(client, container).await);
    });
    connections.push(task.abort_handle());
}

async fn carry(client: StdTcpStream, container: StdTcpStream) -> io::Result<()> {
    let mut client = TcpStream::from_std(client)?;
    let mut container = TcpStream::from_std(container)?;
    container.writable().await?;
    if let Some(error) = container.take_error()? {
        return Err(error);
    }
    client.set_nodelay(true)?;
    container.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut container).await?;
    Ok(())
}

fn receive(shared: &Shared, relayed: &Arc<Relayed>, buffer: &mut [u8]) {
    let Ok((_, length, from)) =
        rustix::net::recvfrom(relayed.socket.as_fd(), &mut *buffer, RecvFlags::DONTWAIT)
    else {
        return;
    };
    let Some(client) = from.and_then(|from| SocketAddr::try_from(from).ok()) else {
        return;
    };
    let packet = buffer[..length.min(buffer.len())].to_vec();
    let mut clients = lock(&relayed.clients);
    if !clients.contains_key(&client) {
        clients.retain(|_, sender| !sender.is_closed());
        let Some(target) = (relayed.target)(client.ip()) else {
            return;
        };
        if clients.len() >= CLIENTS_MAX {
            return;
        }
        let Ok(container) = outlet::udp(shared.outlet, client, target) else {
            return;
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let port = Arc::downgrade(relayed);
        let task = shared.runtime.spawn(async move {
            drop(serve_client(port, client, container, receiver).await);
        });
        let mut connections = lock(&relayed.connections);
        connections.retain(|connection| !connection.is_finished());
        connections.push(task.abort_handle());
        clients.insert(client, sender);
    }
    // A full queue drops the packet, as a network would; a client whose task has just gone idle
    // gets a new one with its next packet.
    if let Some(sender) = clients.get(&client)
        && let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(packet)
    {
        clients.remove(&client);
    }
}

async fn serve_client(
    port: Weak<Relayed>,
    client: SocketAddr,
    container: StdUdpSocket,
    mut packets: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let container = UdpSocket::from_std(container)?;
    let mut buffer = vec![0_u8; 65_536];
    loop {
        tokio::select! {
            packet = packets.recv() => match packet {
                // A container that does not listen yet refuses this packet, not the client.
                Some(packet) => drop(container.send(&packet).await),
                None => return Ok(()),
            },
            answer = container.recv(&mut buffer) => {
                let Some(port) = port.upgrade() else { return Ok(()) };
                // A client that can not be reached now is like one whose packet was lost.
                if let Ok(length) = answer
                    && let Err(error) = rustix::net::sendto(&port.socket, &buffer[..length], SendFlags::DONTWAIT, &client)
                {
                    tracing::debug!(error = %error, "cannot send to the client of a relayed UDP port");
                }
            },
            () = tokio::time::sleep(CLIENT_IDLE) => return Ok(()),
        }
    }
}
