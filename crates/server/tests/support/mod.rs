//! A server over an engine of its own, in a network namespace of its own, and a raw client.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wharf_engine::config::DaemonConfig;
use wharf_engine::{Engine, EngineConfig, ShimProgram};
use wharf_server::{Limits, Listener};

/// How long an answer may take before a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; stops when dropped.
pub struct Server {
    pub socket: PathBuf,
    pub folder: tempfile::TempDir,
    pub engine: Engine,
    pub addresses: Vec<SocketAddr>,
    namespace: File,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(Limits::default(), |_| async { Vec::new() })
    }

    /// Also listens on what `more` makes (in the server's network namespace, given its folder).
    pub fn start_with<F, Fut>(limits: Limits, more: F) -> Self
    where
        F: FnOnce(PathBuf) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<Listener>>,
    {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let socket = root.join("api.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, readiness) = mpsc::channel();
        let thread = std::thread::spawn({
            let socket = socket.clone();
            move || {
                // Threads started from this one inherit the namespace.
                wharf_sys::namespace::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
                bring_loopback_up();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let engine = Engine::open(engine_config(&root)).await.unwrap();
                    let mut listeners = vec![Listener::unix(&socket, None).await.unwrap()];
                    listeners.extend(more(root.clone()).await);
                    let addresses = listeners.iter().filter_map(Listener::tcp_address).collect();
                    let namespace = File::open("/proc/thread-self/ns/net").unwrap();
                    ready.send((engine.clone(), addresses, namespace)).unwrap();
                    let shutdown = async { drop(stopped.await) };
                    wharf_server::serve_with_limits(engine.clone(), listeners, shutdown, limits)
                        .await;
                    engine.shutdown().await;
                });
                // Work that waits for events would hold the runtime's threads.
                runtime.shutdown_timeout(Duration::from_secs(2));
            }
        });
        let (engine, addresses, namespace) = readiness.recv().expect("the server starts");
        Self {
            socket,
            folder,
            engine,
            addresses,
            namespace,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A new connection.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A TCP connection to the server's `index`th TCP listener.
    pub fn connect_tcp(&self, index: usize) -> TcpStream {
        let connect = || TcpStream::connect(self.addresses[index]).unwrap();
        let stream =
            wharf_sys::namespace::in_network_namespace(self.namespace.as_fd(), connect).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A registry beside the server, in its network namespace.
    pub fn start_registry(&self) -> Registry {
        let address = "127.0.0.1:5000";
        let config = self.folder.path().join("registry.yml");
        let storage = self.folder.path().join("registry");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let start = || {
            let process = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("docker-registry is installed");
            let begin = Instant::now();
            while TcpStream::connect(address).is_err() {
                assert!(begin.elapsed() < PATIENCE, "the registry does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            process
        };
        let process =
            wharf_sys::namespace::in_network_namespace(self.namespace.as_fd(), start).unwrap();
        Registry {
            address: address.to_owned(),
            process,
        }
    }

    /// One request on a connection of its own; head and body.
    pub fn send(&self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    pub fn get(&self, path: &str) -> (String, String) {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
    }

    pub fn post(&self, path: &str, json: &str) -> (String, String) {
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        ))
    }

    pub fn delete(&self, path: &str) -> (String, String) {
        self.send(&format!(
            "DELETE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
    }
}

/// Debian's registry; stops when dropped.
pub struct Registry {
    pub address: String,
    process: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn engine_config(root: &Path) -> EngineConfig {
    let daemon = DaemonConfig {
        data_root: root.join("data"),
        exec_root: root.join("exec"),
        ..DaemonConfig::default()
    };
    EngineConfig {
        data_root: daemon.data_root.clone(),
        exec_root: daemon.exec_root.clone(),
        instance: format!("-{:08x}", std::process::id()),
        shim: ShimProgram::File(PathBuf::from("/bin/true")),
        daemon,
        rootless: None,
    }
}

fn bring_loopback_up() {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Reads until the other side closes; head and decoded body.
pub fn read_answer(stream: &mut impl Read) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let body = if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        dechunk(body)
    } else {
        body.to_owned()
    };
    (head.to_owned(), body)
}

fn dechunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        text.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    text
}

/// The status line's number.
pub fn status(head: &str) -> u16 {
    head.split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no status in {head:?}"))
}
