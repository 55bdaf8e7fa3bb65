//! A `wharf daemon` inside a test's host, and clients that talk to it.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::host::Host;
use crate::output::{Output, run};

/// A running daemon with data root, exec root and socket of its own.
#[derive(Debug)]
pub struct Daemon<'h> {
    /// Where it runs.
    pub host: &'h Host,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Mutex<Child>,
    /// The program used by [`Daemon::docker`].
    client: PathBuf,
}

impl<'h> Daemon<'h> {
    /// Starts a daemon; returns when it answers.
    pub fn start(host: &'h Host) -> Self {
        Self::start_with(host, &[])
    }

    /// The same with more daemon flags.
    pub fn start_with(host: &'h Host, arguments: &[&str]) -> Self {
        let folder = host.join("engine");
        std::fs::create_dir_all(&folder).expect("scratch is writable");
        let arguments: Vec<String> = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        let child = spawn(host, &folder, &arguments);
        let client = crate::docker_client().unwrap_or_else(crate::wharf_binary);
        Self {
            host,
            folder,
            arguments,
            child: Mutex::new(child),
            client,
        }
    }

    /// The socket's URL.
    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.join("wharf.sock").display())
    }

    /// The data root.
    pub fn data_root(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The exec root.
    pub fn exec_root(&self) -> PathBuf {
        self.folder.join("exec")
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("daemon.log")).unwrap_or_default()
    }

    /// A client command against this daemon with the reference `docker` where the machine has it.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        run(self.docker_command(arguments), None)
    }

    /// The same with something on standard input.
    pub fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        run(self.docker_command(arguments), Some(input))
    }

    /// The client command itself, to be started by the caller.
    pub fn docker_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&self.client);
        command.env("DOCKER_HOST", self.url()).args(arguments);
        command
    }

    /// A command of Wharf's own client against this daemon.
    pub fn wharf(&self, arguments: &[&str]) -> Output {
        run(self.wharf_command(arguments), None)
    }

    /// That command itself, to be started by the caller.
    pub fn wharf_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(crate::wharf_binary());
        command.env("DOCKER_HOST", self.url()).args(arguments);
        command
    }

    /// Loads an image archive.
    pub fn load(&self, archive: &std::path::Path) {
        self.docker(&["load", "--quiet", "--input", &archive.display().to_string()])
            .ok();
    }

    /// `kill -9` of the daemon alone; containers and shims live on.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("wharf.pid"))
            .expect("a running daemon has a pid file");
        self.host.sh(&format!("kill -9 {}", pid.trim())).ok();
        drop(self.child().wait());
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orderly stop: SIGTERM, then the exit status.
    pub fn terminate(&self) -> i32 {
        let pid = std::fs::read_to_string(self.folder.join("wharf.pid"))
            .expect("a running daemon has a pid file");
        self.host.sh(&format!("kill -TERM {}", pid.trim())).ok();
        self.child()
            .wait()
            .ok()
            .and_then(|status| status.code())
            .unwrap_or(-1)
    }

    /// Starts it again on the same roots; returns when it answers.
    pub fn restart(&self) {
        let mut child = self.child();
        drop(child.wait());
        *child = spawn(self.host, &self.folder, &self.arguments);
    }

    /// Starts it again after its end, from now on with other arguments.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        self.restart();
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- daemon log\n{}", self.log());
        }
        let mut child = self.child();
        drop(child.kill());
        drop(child.wait());
    }
}

fn spawn(host: &Host, folder: &std::path::Path, arguments: &[String]) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("daemon.log"))
        .expect("scratch is writable");
    let mut command = host.command(crate::wharf_binary());
    command
        .arg("daemon")
        .arg("--data-root")
        .arg(folder.join("data"))
        .arg("--exec-root")
        .arg(folder.join("exec"))
        .arg("--pidfile")
        .arg(folder.join("wharf.pid"))
        .arg("--host")
        .arg(format!("unix://{}", folder.join("wharf.sock").display()))
        .arg("--cgroup-parent")
        .arg(host.cgroup_parent())
        .arg("--ready-fd=1")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().expect("nsenter (util-linux) is installed");
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    let mut line = String::new();
    std::io::BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the pipe is readable");
    assert_eq!(
        line.trim_end(),
        "ready",
        "the daemon did not come up:\n{}",
        std::fs::read_to_string(folder.join("daemon.log")).unwrap_or_default()
    );
    child
}
