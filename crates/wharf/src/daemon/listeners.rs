//! Where the daemon listens: `--host`, or the default sockets.

use std::path::PathBuf;

use wharf_engine::config::DaemonConfig;
use wharf_fault::{Error, Result};
use wharf_rootless::Directories;
use wharf_server::{Address, Listener, TlsFiles};

use crate::DEFAULT_SOCKET;

/// Docker's socket, taken too when nobody else has it, so that other clients need no setting.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// What to listen on.
#[derive(Debug)]
pub(crate) struct Addresses {
    named: Vec<Address>,
    /// Docker's socket, where the addresses are our choice: no error if somebody has it.
    docker: Option<PathBuf>,
}

/// Reads and checks the addresses without touching any.
pub(crate) fn addresses(config: &DaemonConfig, user: Option<&Directories>) -> Result<Addresses> {
    if config.hosts.is_empty() {
        let (own, docker) = match user {
            Some(user) => (user.socket(), user.docker_socket()),
            None => (DEFAULT_SOCKET.into(), DOCKER_SOCKET.into()),
        };
        return Ok(Addresses {
            named: vec![Address::Unix(own)],
            docker: Some(docker),
        });
    }
    let tls = config.tls || config.tlsverify;
    let mut named = Vec::new();
    for host in &config.hosts {
        let address = Address::parse(host, tls).map_err(Error::from_fault)?;
        // Refused here already, before the engine writes anything.
        if let Address::Tcp(host_port) = &address
            && !tls
            && !config.allow_insecure_tcp
            && !is_loopback(host_port)
        {
            return Err(Error::invalid(format!(
                "tcp://{host_port} without TLS would make everybody who reaches it root on this host: \
                 use --tlsverify with --tlscacert, --tlscert and --tlskey, a loopback address, or --allow-insecure-tcp"
            )));
        }
        named.push(address);
    }
    Ok(Addresses {
        named,
        docker: None,
    })
}

/// Whether a literal address is a loopback one; names are judged when they are resolved.
fn is_loopback(host_port: &str) -> bool {
    let host = host_port
        .rsplit_once(':')
        .map_or(host_port, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<std::net::IpAddr>()
        .map_or(true, |address| address.is_loopback())
}

/// Binds them all.
pub(crate) async fn open(addresses: &Addresses, config: &DaemonConfig) -> Result<Vec<Listener>> {
    let gid =
        wharf_server::socket_group(&config.group, config.group_given).map_err(Error::from_fault)?;
    let tls = if config.tls || config.tlsverify {
        let files = TlsFiles {
            certificate: config.tlscert.clone(),
            key: config.tlskey.clone(),
            client_authorities: config.tlsverify.then(|| config.tlscacert.clone()),
        };
        Some(files.load().map_err(Error::from_fault)?)
    } else {
        None
    };
    let mut inherited = None;
    let mut listeners = Vec::new();
    for address in &addresses.named {
        match address {
            Address::Unix(path) => {
                listeners.push(Listener::unix(path, gid).await.map_err(Error::from_fault)?)
            }
            Address::Tcp(host_port) => {
                let bound = Listener::tcp(host_port, tls.clone(), config.allow_insecure_tcp).await;
                listeners.extend(bound.map_err(Error::from_fault)?);
            }
            Address::Systemd(which) => {
                if inherited.is_some() {
                    return Err(Error::invalid("only one fd:// address can be given"));
                }
                inherited = Some(());
                listeners.extend(
                    Listener::systemd(which, systemd_sockets(), tls.clone())
                        .map_err(Error::from_fault)?,
                );
            }
        }
    }
    if let Some(docker) = &addresses.docker {
        match Listener::unix(docker, gid).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::info!(%error, "{} is left to its owner", docker.display()),
        }
    }
    Ok(listeners)
}

/// The sockets a service manager passed, with their names (`sd_listen_fds_with_names(3)`).
fn systemd_sockets() -> Vec<(String, std::os::fd::OwnedFd)> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    wharf_sys::fd::listen_fds()
        .into_iter()
        .map(|fd| (names.next().unwrap_or_default().to_owned(), fd))
        .collect()
}
