//! A daemon for one test: starts the real shim program and talks to it over its protocol.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use serde_json::json;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_logs::{LogReader, LogTarget, Progress, Query};
use wharf_oci::runtime::{Process, Spec};
use wharf_shim_protocol::{
    AttachMode, CONTROL_FD, Connection, Event, ExecStart, ExitRecord, Failure, Message, Reply,
    Request, RequestFrame, Rootfs, Start, StartFd, files,
};

/// No single step of a test takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this test can run; says why if not.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let thread = std::thread::current();
        wharf_tests::skip(
            thread.name().unwrap_or("a shim's test"),
            "containers need root",
        );
    }
    root
}

/// A running shim, and the test's connection to it.
pub(crate) struct Daemon {
    pub(crate) connection: Connection,
    pub(crate) dir: tempfile::TempDir,
    shim: Pid,
    shim_fd: OwnedFd,
    container: Option<i32>,
    events: VecDeque<Event>,
    next_id: u64,
    reaped: bool,
}

impl Daemon {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        make_rootfs(&dir.path().join("rootfs"));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let program = File::open(env!("CARGO_BIN_EXE_wharf-shim")).unwrap();
        let log = File::create(dir.path().join("shim.stderr")).unwrap();
        let fds = [
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (log.as_fd(), 2),
            (theirs.as_fd(), CONTROL_FD),
        ];
        let (shim, shim_fd) = wharf_sys::spawn::Spawn {
            program: wharf_sys::spawn::Program::File(program.as_fd()),
            arguments: &[CString::new("wharf-shim").unwrap()],
            environment: &[],
            fds: &fds,
            doors: &[],
            new_session: true,
            working_directory: None,
        }
        .start()
        .unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            connection: Connection::new(ours),
            dir,
            shim,
            shim_fd,
            container: None,
            events: VecDeque::new(),
            next_id: 1,
            reaped: false,
        }
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub(crate) fn shim_pid(&self) -> i32 {
        self.shim.as_raw_nonzero().get()
    }

    pub(crate) fn log(&self) -> LogTarget {
        wharf_logs::options::resolve(
            "json-file",
            &Default::default(),
            &Default::default(),
            self.dir.path(),
        )
        .unwrap()
    }

    /// A start message for a program in the busybox root file system.
    pub(crate) fn start_message(&self, arguments: &[&str]) -> Start {
        Start {
            id: format!("{:0>64}", self.shim_pid()),
            spec: Box::new(spec(arguments, self.shim_pid())),
            rootfs: Rootfs::Directory {
                path: self.rootfs(),
            },
            user: None,
            group_add: Vec::new(),
            seccomp_bpf: None,
            systemd_cgroup: false,
            init: false,
            open_stdin: false,
            stdin_once: false,
            log: self.log(),
            exit_path: self.exit_path(),
            durable_exit: false,
            run_dir: self.run_dir(),
            runtime: None,
            restore: None,
            fds: Vec::new(),
        }
    }

    pub(crate) fn exit_path(&self) -> PathBuf {
        self.dir.path().join("exit.json")
    }

    pub(crate) fn start(&mut self, start: Start, fds: &[BorrowedFd<'_>]) -> Result<i32, Failure> {
        match self.call(Request::Start(Box::new(start)), fds)?.0 {
            Reply::Started { pid, .. } => {
                self.container = Some(pid);
                Ok(pid)
            }
            other => panic!("unexpected reply {other:?}"),
        }
    }

    /// Starts a shell script.
    pub(crate) fn sh(&mut self, script: &str) -> i32 {
        let start = self.start_message(&["sh", "-c", script]);
        self.start(start, &[]).unwrap()
    }

    /// Starts with one client attached; returns the client's socket.
    pub(crate) fn start_attached(&mut self, mut start: Start, mode: AttachMode) -> UnixStream {
        let (client, theirs) = client();
        start.fds.push(StartFd::Attach(mode));
        self.start(start, &[theirs.as_fd()]).unwrap();
        client
    }

    pub(crate) fn exec(
        &mut self,
        id: &str,
        arguments: &[&str],
        attach: Option<AttachMode>,
    ) -> Result<UnixStream, Failure> {
        self.exec_with(id, arguments, attach, |_| {})
    }

    pub(crate) fn exec_with(
        &mut self,
        id: &str,
        arguments: &[&str],
        attach: Option<AttachMode>,
        change: impl FnOnce(&mut ExecStart),
    ) -> Result<UnixStream, Failure> {
        let (client, theirs) = client();
        let mut exec = ExecStart {
            exec_id: id.to_owned(),
            process: process(arguments),
            user: None,
            group_add: Vec::new(),
            seccomp_bpf: None,
            open_stdin: attach.as_ref().is_some_and(|mode| mode.stdin),
            attach,
        };
        change(&mut exec);
        let fds: &[BorrowedFd<'_>] = if exec.attach.is_some() {
            &[theirs.as_fd()]
        } else {
            &[]
        };
        self.call(Request::Exec(Box::new(exec)), fds)?;
        Ok(client)
    }

    pub(crate) fn call(
        &mut self,
        op: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let id = self.next_id;
        self.next_id += 1;
        self.connection
            .send(
                &RequestFrame {
                    id,
                    fds: fds.len(),
                    op,
                },
                fds,
            )
            .unwrap();
        loop {
            match self
                .connection
                .receive::<Message>()
                .unwrap()
                .expect("the shim answers")
            {
                (
                    Message::Reply {
                        id: got, result, ..
                    },
                    fds,
                ) if got == id => return result.map(|reply| (reply, fds)),
                (Message::Event(event), _) => self.events.push_back(event),
                (other, _) => panic!("unexpected message {other:?}"),
            }
        }
    }

    /// The next event; `None` when the shim has closed the connection.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match self.connection.receive::<Message>().unwrap()? {
            (Message::Event(event), _) => Some(event),
            (other, _) => panic!("unexpected message {other:?}"),
        }
    }

    /// Waits until the container has ended, and has what is left of it removed.
    pub(crate) fn exited(&mut self) -> ExitRecord {
        let record = self.end_told();
        self.call(Request::Release, &[]).unwrap();
        record
    }

    /// Waits until the container has ended.
    pub(crate) fn end_told(&mut self) -> ExitRecord {
        loop {
            if let Event::Exited(record) = self
                .next_event()
                .expect("the container ends before its shim")
            {
                self.container = None;
                return record;
            }
        }
    }

    /// Waits until the shim has ended.
    pub(crate) fn shim_ended(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while waitid(
            WaitId::PidFd(self.shim_fd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        )
        .unwrap()
        .is_none()
        {
            assert!(Instant::now() < deadline, "the shim does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.reaped = true;
    }

    /// Drops the connection, as a daemon that is killed does, and comes back as its successor.
    pub(crate) fn die_and_come_back(&mut self) {
        let socket = files::connect(&self.run_dir()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.connection = Connection::new(socket);
        self.events.clear();
    }

    pub(crate) fn logged(&self) -> String {
        let mut reader = LogReader::open(&self.log(), Query::default()).unwrap();
        let mut text = Vec::new();
        while reader
            .next_batch(|entry| entry.append_text(&mut text))
            .unwrap()
            != Progress::Finished
        {}
        String::from_utf8(text).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "shim said: {}",
                fs::read_to_string(self.dir.path().join("shim.stderr")).unwrap_or_default()
            );
        }
        if let Some(container) = self.container.and_then(Pid::from_raw)
            && let Ok(pidfd) = pidfd_open(container, PidfdFlags::empty())
        {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        if !self.reaped {
            let _ = pidfd_send_signal(&self.shim_fd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(self.shim_fd.as_fd()), WaitIdOptions::EXITED);
            if let Ok(cgroup) = Cgroup::at(&cgroup_path(self.shim_pid())) {
                let _ = cgroup.signal_all(Signal::KILL);
                for _ in 0..200 {
                    if cgroup.remove().is_ok() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "what was waited for does not come"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The two ends of an attached client's connection.
pub(crate) fn client() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours, theirs)
}

/// Everything a client still gets.
pub(crate) fn rest(mut client: UnixStream) -> String {
    let mut text = Vec::new();
    client.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until `text` has come.
pub(crate) fn read_until(client: &mut UnixStream, text: &str) -> String {
    let mut got = String::new();
    let mut bytes = [0; 4096];
    while !got.contains(text) {
        let count = client.read(&mut bytes).unwrap();
        assert!(count > 0, "the stream ended after {got:?}");
        got.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    got
}

/// All streams, for a client that types.
pub(crate) fn interactive() -> AttachMode {
    AttachMode {
        stdin: true,
        stdout: true,
        stderr: true,
        ..AttachMode::default()
    }
}

pub(crate) fn process(arguments: &[&str]) -> Process {
    serde_json::from_value(json!({
        "args": arguments,
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_DAC_OVERRIDE"],
            "effective": ["CAP_KILL", "CAP_DAC_OVERRIDE"],
            "permitted": ["CAP_KILL", "CAP_DAC_OVERRIDE"],
        },
    }))
    .unwrap()
}

fn spec(arguments: &[&str], number: i32) -> Spec {
    let mut spec: Spec = serde_json::from_value(json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "cgroupsPath": cgroup_path(number),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
        },
    }))
    .unwrap();
    spec.process = Some(process(arguments));
    spec
}

pub(crate) fn cgroup_path(number: i32) -> String {
    format!("/wharf-shim-test-{number}")
}

fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "dev", "proc", "tmp"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    fs::copy(
        busybox.expect("busybox-static is installed"),
        rootfs.join("bin/busybox"),
    )
    .unwrap();
    for applet in [
        "sh", "cat", "echo", "seq", "sleep", "stty", "tail", "head", "yes", "true", "id", "dd",
        "ps", "kill",
    ] {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
}
