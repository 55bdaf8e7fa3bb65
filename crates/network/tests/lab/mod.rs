//! A host of its own for each test: a fresh network namespace with a neighbour beyond a veth.
//!
//! ```text
//!   neighbour 192.0.2.2 ── outside0 │ host 192.0.2.1 ── docker0 ── containers
//! ```
//!
//! Everything lives in namespaces that end with the test's threads, so nothing is left behind
//! whatever happens. Where namespaces may not be made, tests say so and pass.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_debug_implementations,
    reason = "helpers of tests; each test file uses its part"
)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use wharf_network::{
    AttachRequest, Config, EndpointRequest, Mode, NetworkSpec, Networks, PortMapping, Protocol,
    Sandbox,
};
use wharf_state::Store;

/// How long anything may take before the test fails; nothing usually takes a hundredth of it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The test's host.
pub struct Host {
    pub runtime: tokio::runtime::Runtime,
    pub neighbour: OwnedFd,
    folder: tempfile::TempDir,
}

/// Runs `test` on a host of its own.
pub fn on_host(test: impl FnOnce(&Host) + Send) {
    let name = std::thread::current()
        .name()
        .unwrap_or("a network's test")
        .to_owned();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if wharf_sys::netns::unshare_network().is_err() {
                return wharf_tests::skip(&name, "no right to make network namespaces");
            }
            let neighbour = new_namespace();
            run("ip", &["link", "set", "lo", "up"]);
            run(
                "ip",
                &[
                    "link", "add", "outside0", "type", "veth", "peer", "name", "eth0",
                ],
            );
            // `ip` moves interfaces by process id; a thread's serves as well.
            let (ready, id) = mpsc::channel();
            let (done, wait) = mpsc::channel::<()>();
            let inner_end = neighbour.as_fd();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    enter(inner_end);
                    ready
                        .send(rustix::thread::gettid().as_raw_nonzero().get())
                        .unwrap();
                    wait.recv().ok();
                });
                run(
                    "ip",
                    &[
                        "link",
                        "set",
                        "eth0",
                        "netns",
                        &id.recv().unwrap().to_string(),
                    ],
                );
                drop(done);
            });
            run("ip", &["addr", "add", "192.0.2.1/24", "dev", "outside0"]);
            run(
                "ip",
                &["addr", "add", "2001:db8::1/64", "dev", "outside0", "nodad"],
            );
            run("ip", &["link", "set", "outside0", "up"]);
            inside(neighbour.as_fd(), || {
                run("ip", &["link", "set", "lo", "up"]);
                run("ip", &["addr", "add", "192.0.2.2/24", "dev", "eth0"]);
                run(
                    "ip",
                    &["addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad"],
                );
                run("ip", &["link", "set", "eth0", "up"]);
                // A neighbour that knows the way to the containers may still not go it.
                run("ip", &["route", "add", "172.16.0.0/12", "via", "192.0.2.1"]);
            });
            // The link is up when the neighbour is answered, with a refusal.
            inside(neighbour.as_fd(), || {
                for address in ["192.0.2.1:1", "[2001:db8::1]:1"] {
                    eventually("the neighbour reaches the host", || {
                        ask(address) == Err(std::io::ErrorKind::ConnectionRefused)
                    });
                }
            });
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            test(&Host {
                runtime,
                neighbour,
                folder: tempfile::tempdir().unwrap(),
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Host {
    /// The store of a name; an earlier daemon's threads may have it for a moment longer.
    pub fn store(&self, name: &str) -> Store {
        let path = self.folder.path().join(name);
        let mut store = None;
        eventually("the store is free", || {
            store = Store::open(&path).ok();
            store.is_some()
        });
        store.unwrap()
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn config(&self) -> Config {
        Config {
            resolv_conf: self.file("resolv.conf", "nameserver 192.0.2.2\n"),
            ..Config::default()
        }
    }

    pub fn open(&self) -> Networks {
        self.open_with("state.redb", self.config())
    }

    pub fn open_with(&self, store: &str, config: Config) -> Networks {
        let networks =
            Networks::open(self.store(store), config, self.runtime.handle().clone()).unwrap();
        let failures = networks.reconcile(Vec::new());
        assert!(failures.is_empty(), "{failures:?}");
        networks
    }

    pub fn outside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        inside(self.neighbour.as_fd(), job)
    }
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn current() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net")
        .unwrap()
        .into()
}

fn new_namespace() -> OwnedFd {
    std::thread::spawn(|| {
        wharf_sys::netns::unshare_network().unwrap();
        current()
    })
    .join()
    .unwrap()
}

fn enter(netns: BorrowedFd<'_>) {
    rustix::thread::move_into_link_name_space(
        netns,
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .unwrap();
}

/// Runs `job` in a namespace.
pub fn inside<T: Send>(netns: BorrowedFd<'_>, job: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(netns);
            job()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `job` in a container.
pub fn within<T: Send>(sandbox: &Sandbox, job: impl FnOnce() -> T + Send) -> T {
    inside(sandbox.netns.as_ref().unwrap().as_fd(), job)
}

/// A container of a name on some networks.
pub fn container(name: &str, networks: &[&str]) -> AttachRequest {
    let mut id = String::new();
    for byte in name.bytes().cycle().take(32) {
        id.push_str(&format!("{byte:02x}"));
    }
    AttachRequest {
        container_id: id,
        container_name: name.to_owned(),
        hostname: format!("{name}-host"),
        domainname: String::new(),
        mode: Mode::Endpoints,
        endpoints: networks
            .iter()
            .map(|network| EndpointRequest {
                network: (*network).to_owned(),
                ..EndpointRequest::default()
            })
            .collect(),
        ports: Vec::new(),
        dns: wharf_network::DnsSettings::default(),
        extra_hosts: Vec::new(),
        links: Vec::new(),
    }
}

pub fn port(
    protocol: Protocol,
    host: Option<&str>,
    host_port: u16,
    container_port: u16,
) -> PortMapping {
    PortMapping {
        container_port,
        protocol,
        host_ip: host.map(|host| host.parse().unwrap()),
        host_port,
        host_port_end: 0,
    }
}

pub fn spec(name: &str) -> NetworkSpec {
    NetworkSpec {
        name: name.to_owned(),
        ..NetworkSpec::default()
    }
}

pub fn ipv4(sandbox: &Sandbox) -> IpAddr {
    sandbox.endpoints[0].ipv4.unwrap().0.into()
}

/// Serves TCP and UDP on a port of a container (any address): the answer is who asked.
pub fn serve(sandbox: &Sandbox, port: u16) {
    serve_in(sandbox.netns.as_ref().unwrap().as_fd(), port);
}

pub fn serve_in(netns: BorrowedFd<'_>, port: u16) {
    let (tcp, udp) = inside(netns, || {
        let any = |port| -> Vec<SocketAddr> {
            vec![([0_u16; 8], port).into(), ([0, 0, 0, 0], port).into()]
        };
        (
            TcpListener::bind(&any(port)[..]).unwrap(),
            UdpSocket::bind(&any(port)[..]).unwrap(),
        )
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let mut stream = stream;
            let from = plain(stream.peer_addr().unwrap().ip());
            stream.write_all(from.to_string().as_bytes()).ok();
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(plain(from.ip()).to_string().as_bytes(), from)
                .ok();
        }
    });
}

fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// Asks over TCP from the calling thread's namespace: who the server sees, or why not.
pub fn ask(address: &str) -> Result<String, std::io::ErrorKind> {
    ask_within(address, PATIENCE)
}

/// The same where no answer is expected: a shorter wait.
pub fn refused(address: &str) -> bool {
    ask_within(address, Duration::from_millis(400)).is_err()
}

fn ask_within(address: &str, wait: Duration) -> Result<String, std::io::ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, wait).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|error| error.kind())?;
    if text.is_empty() {
        Err(std::io::ErrorKind::ConnectionReset)
    } else {
        Ok(text)
    }
}

/// Asks over UDP.
pub fn ask_udp(address: &str) -> Result<String, std::io::ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut buffer = [0; 64];
    // A relay may still be setting out.
    for _ in 0..PATIENCE.as_secs() {
        socket.send(b"who").ok();
        if let Ok(length) = socket.recv(&mut buffer) {
            return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    Err(std::io::ErrorKind::TimedOut)
}

/// Waits until `holds` is true; events, not time, make it so.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The names of the namespace's interfaces.
pub fn links() -> Vec<String> {
    run("ip", &["-o", "link"])
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}

/// Whether the ruleset has a table.
pub fn has_table(name: &str) -> bool {
    run("nft", &["list", "tables"])
        .lines()
        .any(|line| line == format!("table inet {name}"))
}
