//! `create` and `run`: from a bundle to a container.
//!
//! What is undone when it fails: the library removes process and cgroup, we forget the container;
//! then its poststop hooks are run, if any hook may have done something they undo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::Pid;
use wharf_container_runtime::hooks::{self, HookKind};
use wharf_container_runtime::{
    Cgroup, ContainerConfig, RootFilesystem, Running, Stage, StartError, gate,
};
use wharf_logs::timestamp::{Stamp, now_ns};
use wharf_oci::runtime::{Hooks, Spec, Status};

use crate::bundle::{self, Bundle};
use crate::commands::exec::send_pidfd;
use crate::console::Console;
use crate::container::{self, Container, state_of};
use crate::error::{Error, Result};
use crate::flags::Flags;
use crate::foreground::{self, Signals};
use crate::notify;
use crate::runtime::Runtime;
use crate::store::{Directory, Lock, ProcessRecord, Record};
use crate::tolerance;

/// What is done with the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It waits for `start`.
    Created,
    /// It runs, and we go.
    Detached,
    /// It runs, and we stay until it ends.
    Foreground,
}

/// A container being made.
pub(crate) struct Start<'a> {
    runtime: &'a Runtime,
    pub(crate) directory: Directory,
    pub(crate) record: Record,
    pub(crate) config: ContainerConfig,
    /// The document as it was written.
    pub(crate) text: Vec<u8>,
}

/// Makes the container `id` as the flags say.
pub(crate) fn start(runtime: &Runtime, flags: &Flags, wanted: Wanted) -> Result<ExitCode> {
    let operation = match wanted {
        Wanted::Created => "create",
        _ => "run",
    };
    let id = &flags.words[0];
    let pid_file = flags.get("pid-file").map(bundle::absolute).transpose()?;
    let socket = flags.get("console-socket").filter(|path| !path.is_empty());
    let socket = socket.map(bundle::absolute).transpose()?;
    let pidfd_socket = flags.get("pidfd-socket").filter(|path| !path.is_empty());
    let pidfd_socket = pidfd_socket.map(bundle::absolute).transpose()?;
    let preserved = preserved_fds(runtime, flags)?;
    let bundle = Bundle::enter(flags.get("bundle"))?;
    let terminal = bundle
        .spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    let console = Console::plan(
        terminal,
        wanted != Wanted::Foreground,
        socket.as_deref().and_then(Path::to_str),
    )?;
    let cgroup = cgroup_path(runtime, &bundle, id)?;

    let (directory, lock) = Directory::create(&runtime.root, id)?;
    let mut start = Start::new(runtime, flags, directory, bundle, cgroup, preserved.count)?;
    start.complete_document(preserved.listening, &console);
    let outcome = start
        .directory
        .write_record(&start.record)
        .and_then(|()| start.directory.write_config(&start.text))
        .and_then(|()| {
            let told = (pid_file.as_deref(), pidfd_socket.as_deref());
            start.carry_out(operation, wanted, &console, told, flags)
        });
    match outcome {
        Ok(Made::Left) => {
            drop(lock);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Made::Ours(ours)) => {
            let Ours {
                running,
                signals,
                notify,
            } = *ours;
            start.stay(lock, running, &signals, notify, !flags.is("keep"))
        }
        Err(error) => {
            start.forget();
            Err(error)
        }
    }
}

/// What came out of it.
enum Made {
    /// A container that goes on without us.
    Left,
    /// One we stay with.
    Ours(Box<Ours>),
}

struct Ours {
    running: Running,
    signals: Signals,
    notify: Option<notify::Proxy>,
}

impl<'a> Start<'a> {
    /// The container of `bundle`, to be made in `cgroup`.
    pub(crate) fn new(
        runtime: &'a Runtime,
        flags: &Flags,
        directory: Directory,
        bundle: Bundle,
        cgroup: Option<CgroupPlace>,
        preserved_fds: u32,
    ) -> Result<Self> {
        let record = record(&bundle, &flags.words[0], cgroup.as_ref(), flags);
        let state = state_of(&record, Status::Creating, None);
        let mut spec = bundle.spec;
        tolerance::complete_paths(&mut spec, &bundle.path);
        tolerance::understand_maps(&mut spec)?;
        for ignored in tolerance::leave_out(&mut spec) {
            runtime.log.warning(&ignored);
        }
        let linux = spec.linux.get_or_insert_default();
        linux.cgroups_path = cgroup.map(|cgroup| cgroup.document);
        let config = ContainerConfig {
            spec,
            rootfs: RootFilesystem::Path(bundle.rootfs),
            systemd_cgroup: record.systemd,
            state: Some(state),
            preserved_fds,
            no_pivot: flags.is("no-pivot"),
            keep_keyring: flags.is("no-new-keyring"),
            any_propagation: true,
            listed_in_order: true,
            ..ContainerConfig::default()
        };
        Ok(Self {
            runtime,
            directory,
            record,
            config,
            text: bundle.text,
        })
    }

    /// Adds to the document what the caller's environment asks for.
    fn complete_document(&mut self, listening: u32, console: &Console) {
        let spec = &mut self.config.spec;
        if let Some(process) = &mut spec.process {
            process.console_size = process.console_size.or_else(|| console.size());
            if listening > 0 {
                process.env.push(format!("LISTEN_FDS={listening}"));
                process.env.push("LISTEN_PID=1".to_owned());
            }
        }
        if notify::wanted().is_some() {
            notify::add_to(spec, &self.directory);
        }
    }

    fn carry_out(
        &mut self,
        operation: &'static str,
        wanted: Wanted,
        console: &Console,
        (pid_file, pidfd_socket): (Option<&Path>, Option<&Path>),
        flags: &Flags,
    ) -> Result<Made> {
        let manager = notify::wanted();
        if manager.is_some() {
            notify::make_directory(&self.directory)?;
        }
        let proxy = match &manager {
            Some(manager) if wanted != Wanted::Created => {
                Some(notify::Proxy::listen(&self.directory, manager)?)
            }
            _ => None,
        };
        let signals = match wanted {
            Wanted::Foreground => {
                if !flags.is("no-subreaper") {
                    foreground::become_subreaper()?;
                }
                Some(Signals::catch()?)
            }
            _ => None,
        };
        let stdio = console.stdio()?;
        let (directory, record) = (&self.directory, &mut self.record);
        let mut born = |pid: Pid| {
            record.process = Some(ProcessRecord {
                pid: pid.as_raw_nonzero().get(),
                start_time: container::start_time(pid).unwrap_or(0),
            });
            directory
                .write_record(record)
                .map_err(|error| StartError::refused(Stage::Config, error.to_string()))
        };
        let failed = Error::start(operation);
        let mut running = if wanted == Wanted::Created {
            let gate = gate::Gate::make(directory).map_err(Error::system("exec fifo"))?;
            wharf_container_runtime::create_behind(gate, &self.config, Vec::new(), stdio, &mut born)
        } else {
            wharf_container_runtime::run_telling(&self.config, Vec::new(), stdio, &mut born)
        }
        .map_err(failed)?;
        let undone = |running: &Running, error| {
            let _ = wharf_container_runtime::kill(running, rustix::process::Signal::KILL);
            if let Some(cgroup) = &running.cgroup {
                let _ = cgroup.signal_all(rustix::process::Signal::KILL);
                let _ = cgroup.remove();
            }
            error
        };
        let (id, pid) = (&self.record.id, running.pid.as_raw_nonzero());
        let log = &self.runtime.log;
        log.debug(&format!("container {id}: process {pid}"));
        self.record.creating = false;
        let handed = self
            .directory
            .write_record(&self.record)
            .and_then(|()| console.hand_over(running.terminal.take()))
            .and_then(|master| {
                if let Some(file) = pid_file {
                    write_pid_file(file, running.pid)?;
                }
                if let Some(socket) = pidfd_socket {
                    send_pidfd(socket, running.pid, &running.pidfd)?;
                }
                Ok(master)
            });
        running.terminal = handed.map_err(|error| undone(&running, error))?;
        if wanted != Wanted::Created {
            self.after_start(&running)
                .map_err(|error| undone(&running, error))?;
        }
        match signals {
            Some(signals) => Ok(Made::Ours(Box::new(Ours {
                running,
                signals,
                notify: proxy,
            }))),
            None => {
                if let Some(proxy) = proxy {
                    proxy.wait(running.pid, &running.pidfd)?;
                }
                Ok(Made::Left)
            }
        }
    }

    /// Runs the poststart hooks; after an error the container has to go.
    pub(crate) fn after_start(&self, running: &Running) -> Result<()> {
        let pid = running.pid.as_raw_nonzero().get();
        let state = state_of(&self.record, Status::Running, Some(pid));
        poststart(self.runtime, &self.config.spec, &state)
    }

    /// Stays with the container; deletes it when it has ended, if `delete`.
    pub(crate) fn stay(
        self,
        lock: Lock,
        running: Running,
        signals: &Signals,
        notify: Option<notify::Proxy>,
        delete: bool,
    ) -> Result<ExitCode> {
        // Others may pause or delete it meanwhile.
        drop(lock);
        let status = foreground::stay(
            signals,
            running.pid,
            &running.pidfd,
            running.terminal,
            notify,
        )?;
        if delete {
            let again = self.directory.lock();
            match again {
                Ok(lock) => {
                    let container = Container::with(self.directory, self.record)?;
                    let spec = Some(&self.config.spec);
                    crate::commands::delete::destroy(self.runtime, container, spec, lock)?;
                }
                // Somebody was faster.
                Err(Error::NoContainer) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ExitCode::from(status))
    }

    /// Undoes what was remembered of a container that did not come to be.
    pub(crate) fn forget(&self) {
        if let Err(error) = self.directory.remove() {
            self.runtime.log.warning(&error.to_string());
        }
        let state = state_of(&self.record, Status::Stopped, None);
        warn_of_hooks(
            self.runtime,
            HookKind::Poststop,
            self.config.spec.hooks.as_ref(),
            &state,
        );
    }
}

/// Runs the hooks of a program that has been let go. Since version 1.3 of the runtime-spec the first that fails is an
/// error and the container's end ("Lifecycle", step 9); documents of older versions were promised a warning.
pub(crate) fn poststart(
    runtime: &Runtime,
    spec: &Spec,
    state: &wharf_oci::runtime::State,
) -> Result<()> {
    if tolerance::is_before_1_3(&spec.oci_version) {
        warn_of_hooks(runtime, HookKind::Poststart, spec.hooks.as_ref(), state);
        return Ok(());
    }
    let hooks = spec
        .hooks
        .as_ref()
        .map(|hooks| HookKind::Poststart.of(hooks));
    hooks::run(HookKind::Poststart, hooks.unwrap_or_default(), state).map_err(Error::start("start"))
}

/// Runs hooks whose failure changes nothing any more.
pub(crate) fn warn_of_hooks(
    runtime: &Runtime,
    kind: HookKind,
    hooks: Option<&Hooks>,
    state: &wharf_oci::runtime::State,
) {
    let hooks = hooks.map(|hooks| kind.of(hooks)).unwrap_or_default();
    for failure in hooks::run_all(kind, hooks, state) {
        runtime.log.warning(&failure.to_string());
    }
}

/// Which descriptors the program gets beside the standard streams.
pub(crate) struct Preserved {
    pub(crate) count: u32,
    /// How many of them are sockets of a service manager's.
    pub(crate) listening: u32,
}

/// Those passed by a service manager (`sd_listen_fds(3)`), then `--preserve-fds` more.
pub(crate) fn preserved_fds(runtime: &Runtime, flags: &Flags) -> Result<Preserved> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let listening = match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    };
    let extra = flags.number::<u32>("preserve-fds")?.unwrap_or(0);
    let count = listening.saturating_add(extra);
    if count > runtime.inherited_fds {
        let missing = u64::from(runtime.inherited_fds) + 3;
        return Err(Error::Refused(format!(
            "{count} descriptors are to be preserved, but descriptor {missing} is not open"
        )));
    }
    Ok(Preserved { count, listening })
}

/// Where a container's cgroup is.
pub(crate) struct CgroupPlace {
    /// As the document has it.
    document: String,
    /// From the hierarchy's root.
    path: String,
    pub(crate) systemd: bool,
}

pub(crate) fn cgroup_path(
    runtime: &Runtime,
    bundle: &Bundle,
    id: &str,
) -> Result<Option<CgroupPlace>> {
    let linux = bundle.spec.linux.as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path.as_deref());
    let path = path.filter(|path| !path.is_empty());
    if runtime.systemd_cgroup {
        let document = path.map_or_else(|| format!(":wharf:{id}"), str::to_owned);
        let cgroup = Cgroup::of_new_unit(&document).map_err(Error::Limits)?;
        return Ok(Some(CgroupPlace {
            path: cgroup.path().to_owned(),
            document,
            systemd: true,
        }));
    }
    let path = match path {
        Some(given) => {
            let path = within_the_hierarchy(given);
            if path == "/" {
                return Err(Error::Refused(format!(
                    "cgroupsPath {given:?} is every process's cgroup: name one below it"
                )));
            }
            path
        }
        None if rustix::process::geteuid().is_root() => format!("/{id}"),
        // Nobody has given us one, and none was asked for.
        None => return Ok(None),
    };
    Ok(Some(CgroupPlace {
        document: path.clone(),
        path,
        systemd: false,
    }))
}

/// A path from the hierarchy's root; `..` ends there, as with runc.
fn within_the_hierarchy(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn record(bundle: &Bundle, id: &str, cgroup: Option<&CgroupPlace>, flags: &Flags) -> Record {
    let created = Stamp::trimmed(now_ns());
    Record {
        oci_version: bundle.spec.oci_version.clone(),
        id: id.to_owned(),
        creating: true,
        creator: Some(ProcessRecord::of_self()),
        process: None,
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: String::from_utf8_lossy(created.as_bytes()).into_owned(),
        owner: owner(),
        cgroup: cgroup.map(|cgroup| cgroup.path.clone()),
        systemd: cgroup.is_some_and(|cgroup| cgroup.systemd),
        keep_keyring: flags.is("no-new-keyring"),
        annotations: bundle.spec.annotations.clone(),
    }
}

/// The name or number of whoever calls; root needs no looking up.
fn owner() -> String {
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return "root".to_owned();
    }
    let uid = uid.as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    account.unwrap_or(uid)
}

/// Writes a process ID so that no reader ever sees half of it.
pub(crate) fn write_pid_file(file: &Path, pid: Pid) -> Result<()> {
    let name = file.file_name().unwrap_or_default();
    let mut hidden = OsString::from(".");
    hidden.push(name);
    let new: PathBuf = file.with_file_name(hidden);
    std::fs::write(&new, pid.as_raw_nonzero().to_string())
        .and_then(|()| std::fs::rename(&new, file))
        .map_err(Error::file("write pid file", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_stay_within_their_hierarchy() {
        for (path, within) in [
            ("a", "/a"),
            ("/a//b/", "/a/b"),
            ("../../a", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("..", "/"),
        ] {
            assert_eq!(within_the_hierarchy(path), within, "{path}");
        }
    }
}
