//! The last steps of every process, a container's first one and an exec's alike: streams, limits,
//! identity, capabilities, filter, program.
//!
//! [`Launch::prepare`] runs in the parent and understands everything that can be understood
//! there; [`Launch::program`] runs in the child and does not return unless something fails.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use wharf_oci::runtime::{Process, Seccomp};
use wharf_seccomp::{Listener, Program};
use wharf_sys::capability::{self, Capabilities};
use wharf_sys::process::Scheduling;
use wharf_sys::rootfs::Rootfs;
use wharf_sys::seccomp::Instruction;
use wharf_sys::{exec, fd, signal};

use crate::channel::ChildEnd;
use crate::error::{Stage, StartError};
use crate::gate::Gate;
use crate::label::{self, Labels, OpenLabels};
use crate::reaper::INIT_ARGV0;
use crate::streams;
use crate::user::{Files, Identity, check_numbers};

/// A process, ready to become its program.
#[derive(Debug)]
pub(crate) struct Launch {
    arguments: Vec<CString>,
    environment: Vec<String>,
    working_directory: String,
    makes_cwd: bool,
    user: Who,
    group_add: Vec<String>,
    umask: Option<u32>,
    capabilities: CapabilitySets,
    pub(crate) rlimits: Vec<(Resource, u32, Rlimit)>,
    no_new_privileges: bool,
    seccomp: Option<Filter>,
    scheduling: Option<Scheduling>,
    io_priority: Option<(u8, u8)>,
    labels: Labels,
    /// Filled by [`Launch::open_labels`].
    open_labels: OnceLock<OpenLabels>,
    /// Our own program, to become the container's reaper.
    reaper: Option<OwnedFd>,
    /// The first descriptor the program does not get.
    fds_end: i32,
    /// Size of the terminal, columns and rows.
    pub(crate) terminal_size: Option<(u16, u16)>,
    /// Written by the parent, who has a `/proc` to trust.
    pub(crate) oom_score_adj: Option<i32>,
}

/// Whom the process runs as.
#[derive(Debug)]
enum Who {
    Numbers(Identity),
    /// Docker's `user[:group]`, to be looked up in the container.
    Named(String),
}

#[derive(Debug, Default)]
struct CapabilitySets {
    current_bounding: Capabilities,
    bounding: Capabilities,
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
    ambient: Capabilities,
}

#[derive(Debug)]
struct Filter {
    flags: u32,
    instructions: Vec<Instruction>,
    /// Who decides about what the filter leaves open.
    listener: Option<Listener>,
    /// Whether a message can be sent under it.
    lets_send: bool,
}

/// What the caller says about a process beyond the document.
pub(crate) struct Extras<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) group_add: &'a [String],
    pub(crate) seccomp: Option<&'a Program>,
    pub(crate) document_seccomp: Option<&'a Seccomp>,
    pub(crate) reaper: bool,
    /// Whether the process will be in a user namespace other than ours, where it has all
    /// capabilities.
    pub(crate) user_namespace: bool,
    /// Whether the document has no process: such a container can be created, not started.
    pub(crate) absent: bool,
    /// Whether a working directory that is missing is made: for a new container. A process that joins one must
    /// not change it by a mistyped path.
    pub(crate) makes_cwd: bool,
    pub(crate) preserved_fds: u32,
}

/// What Docker says where there is nothing to run.
pub(crate) const NO_COMMAND: &str = "no command specified";

impl Launch {
    /// Understands `process`.
    pub(crate) fn prepare(process: &Process, extras: &Extras<'_>) -> Result<Self, StartError> {
        let refuse = |what: &str| StartError::refused(Stage::Config, what);
        if process.args.is_empty() && !extras.absent {
            return Err(refuse(NO_COMMAND));
        }
        let arguments = process
            .args
            .iter()
            .map(|argument| CString::new(argument.as_str()))
            .collect::<Result<_, _>>()
            .map_err(|_| refuse("a command argument contains a NUL"))?;
        if process.env.iter().any(|variable| variable.contains('\0')) {
            return Err(refuse("an environment variable contains a NUL"));
        }
        let user = match extras.user {
            Some(user) => Who::Named(user.to_owned()),
            None => {
                check_numbers(&process.user)?;
                Who::Numbers(Identity {
                    uid: process.user.uid,
                    gid: process.user.gid,
                    groups: process.user.additional_gids.clone(),
                    home: None,
                })
            }
        };
        let reaper = if extras.reaper {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let own = rustix::fs::open(c"/proc/self/exe", flags, Mode::empty());
            Some(own.map_err(|errno| StartError::new(Stage::Clone, errno, "own program"))?)
        } else {
            None
        };
        Ok(Self {
            arguments,
            environment: process.env.clone(),
            working_directory: if process.cwd.is_empty() {
                "/".to_owned()
            } else {
                process.cwd.clone()
            },
            makes_cwd: extras.makes_cwd,
            user,
            group_add: extras.group_add.to_vec(),
            umask: process.user.umask,
            capabilities: CapabilitySets::prepare(process, extras.user_namespace)?,
            rlimits: crate::rlimit::prepare(&process.rlimits)?,
            no_new_privileges: process.no_new_privileges,
            seccomp: Filter::prepare(extras)?,
            scheduling: process
                .scheduler
                .as_ref()
                .map(crate::scheduler::scheduling)
                .transpose()?,
            io_priority: process
                .io_priority
                .as_ref()
                .map(crate::scheduler::io_priority)
                .transpose()?,
            labels: Labels {
                apparmor: process
                    .apparmor_profile
                    .clone()
                    .filter(|profile| !profile.is_empty()),
                selinux: label::selinux("process.selinuxLabel", process.selinux_label.as_deref())?,
            },
            open_labels: OnceLock::new(),
            reaper,
            fds_end: i32::try_from(extras.preserved_fds)
                .ok()
                .and_then(|count| count.checked_add(3))
                .ok_or_else(|| refuse("too many descriptors to preserve"))?,
            terminal_size: process
                .console_size
                .map(|size| (clamp(size.width), clamp(size.height))),
            oom_score_adj: process.oom_score_adj,
        })
    }

    /// The user and group the document names by number.
    pub(crate) fn numbers(&self) -> Option<(u32, u32)> {
        match &self.user {
            Who::Numbers(identity) => Some((identity.uid, identity.gid)),
            Who::Named(_) => None,
        }
    }

    /// Opens what security labels are written to. To be called in the child, while it sees the
    /// host's `/proc`.
    pub(crate) fn open_labels(&self) -> Result<(), StartError> {
        if self.labels.apparmor.is_some() || self.labels.selinux.is_some() {
            let _ = self.open_labels.set(self.labels.open()?);
        }
        Ok(())
    }

    /// Becomes the program, in the container's namespaces and root. `streams` become descriptors
    /// 0 to 2; with `terminal` the first one becomes the controlling terminal. `before_exec` is
    /// called when nothing can fail any more but the program itself. All descriptors are closed
    /// on the way but those that [`let_go_of_the_host`](Self::let_go_of_the_host) names.
    pub(crate) fn program(
        &self,
        streams: [OwnedFd; 3],
        terminal: bool,
        channel: &ChildEnd,
        gate: Option<&Gate>,
        before_exec: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<Infallible, StartError> {
        let root = Rootfs::at(Path::new("/")).map_err(|error| io(Stage::Rootfs, &error, "/"))?;
        let identity = self.identity(&root)?;
        let environment = self.environment_for(&identity)?;

        place_streams(streams, &identity)?;
        self.let_go_of_the_host(&root, channel, gate)?;
        if terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
                .map_err(|errno| StartError::new(Stage::Terminal, errno, "controlling terminal"))?;
        }
        for (resource, number, limit) in &self.rlimits {
            rustix::process::setrlimit(*resource, *limit)
                .map_err(|errno| StartError::new(Stage::Rlimit, errno, number.to_string()))?;
        }
        if let Some(scheduling) = self.scheduling {
            wharf_sys::process::set_scheduling(scheduling).map_err(|errno| {
                StartError::refused(Stage::Config, format!("cannot set scheduler: {errno}"))
            })?;
        }
        if let Some((class, level)) = self.io_priority {
            wharf_sys::process::set_io_priority(class, level).map_err(|errno| {
                StartError::refused(Stage::Config, format!("cannot set I/O priority: {errno}"))
            })?;
        }
        if let Some(labels) = self.open_labels.get() {
            labels.enter_at_exec()?;
        }
        let arrived = self.enter_working_directory(&root);
        if let Err(error) = &arrived
            && error.errno != Errno::ACCESS.raw_os_error()
        {
            arrived?;
            return Err(StartError::refused(Stage::Died, ""));
        }

        let failed = |errno| StartError::new(Stage::Capabilities, errno, "");
        let sets = &self.capabilities;
        capability::limit_bounding(sets.current_bounding, sets.bounding).map_err(failed)?;
        // All that is opened from here on closes itself; the document's filter may be of before this
        // system call was.
        fd::close_on_exec_from(self.fds_end)
            .map_err(|errno| StartError::new(Stage::Clone, errno, "descriptors"))?;
        if !self.no_new_privileges {
            // Installing a filter needs either CAP_SYS_ADMIN, which is about to go, or
            // no-new-privileges, which the container is not to have.
            self.install_filter(channel)?;
        }
        self.become_user(&identity)?;
        if arrived.is_err() {
            // Root without capabilities over files (a user's own network home, say) could not
            // enter; its user may.
            self.enter_working_directory(&root)?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(failed)?;
        }
        rustix::process::umask(Mode::from_raw_mode(self.umask.unwrap_or(0o022)));
        let program = match self.arguments.first() {
            Some(name) => Some(self.find_program(name, &environment)?),
            None => None,
        };
        signal::reset_all().map_err(|errno| StartError::new(Stage::Clone, errno, "signal mask"))?;
        if self.no_new_privileges && self.listener().is_some() {
            // While the parent is there to hand the listener on.
            self.install_filter(channel)?;
        }
        before_exec()?;
        if self.no_new_privileges && self.listener().is_none() {
            self.install_filter(channel)?;
        }
        let program = program.ok_or_else(|| StartError::refused(Stage::Config, NO_COMMAND))?;
        let environment: Vec<CString> = environment
            .into_iter()
            .filter_map(|variable| CString::new(variable).ok())
            .collect();
        self.execute(&program, &environment)
    }

    /// Closes what the process has inherited. Marking it close-on-exec would not do: a working
    /// directory or program given as `/proc/self/fd/7/../..` is looked up before that, and would
    /// be found on the host if 7 is a directory there (CVE-2024-21626).
    fn let_go_of_the_host(
        &self,
        root: &Rootfs,
        channel: &ChildEnd,
        gate: Option<&Gate>,
    ) -> Result<(), StartError> {
        let mut kept = vec![root.as_fd(), channel.as_fd()];
        kept.extend(self.reaper.as_ref().map(AsFd::as_fd));
        if let Some(labels) = self.open_labels.get() {
            kept.extend(labels.fds());
        }
        kept.extend(gate.into_iter().flat_map(Gate::fds));
        fd::close_from_except(self.fds_end, &kept)
            .map_err(|errno| StartError::new(Stage::Clone, errno, "descriptors"))
    }

    fn identity(&self, root: &Rootfs) -> Result<Identity, StartError> {
        let has_home = self
            .environment
            .iter()
            .any(|variable| variable.starts_with("HOME="));
        match &self.user {
            Who::Named(user) => {
                let files = Files::read(root, true)?;
                files.resolve(user, &self.group_add)
            }
            Who::Numbers(identity) if has_home && self.group_add.is_empty() => Ok(identity.clone()),
            Who::Numbers(identity) => {
                let files = Files::read(root, !self.group_add.is_empty())?;
                let mut identity = identity.clone();
                files.add_groups(&mut identity, &self.group_add)?;
                identity.home = files.home_of(identity.uid);
                Ok(identity)
            }
        }
    }

    fn environment_for(&self, identity: &Identity) -> Result<Vec<String>, StartError> {
        let mut environment = self.environment.clone();
        if !environment
            .iter()
            .any(|variable| variable.starts_with("HOME="))
        {
            environment.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
        }
        Ok(environment)
    }

    /// Enters the working directory; for a new container it is made where it is missing, as Docker does.
    fn enter_working_directory(&self, root: &Rootfs) -> Result<(), StartError> {
        let path = self.working_directory.as_str();
        let failed = |errno| StartError::new(Stage::WorkingDirectory, errno, path);
        if path == "/" {
            return rustix::process::chdir("/").map_err(failed);
        }
        if !path.starts_with('/') {
            return Err(StartError::refused(
                Stage::Config,
                format!("working directory {path:?} is not absolute"),
            ));
        }
        let mut entered = rustix::process::chdir(path);
        if entered == Err(Errno::NOENT) && self.makes_cwd {
            match root.create_dir_all(Path::new(path), Mode::from_raw_mode(0o755)) {
                Ok(_) | Err(Errno::EXIST | Errno::ROFS) => {}
                Err(errno) => return Err(failed(errno)),
            }
            entered = rustix::process::chdir(path);
        }
        entered.map_err(failed)?;
        // A path through /proc/self/fd could lead out of the container by one of our own
        // descriptors (CVE-2024-21626). The kernel marks such a directory.
        let current = rustix::process::getcwd(Vec::new()).map_err(failed)?;
        if current.to_bytes().first() != Some(&b'/') {
            return Err(failed(Errno::NOENT));
        }
        Ok(())
    }

    fn become_user(&self, identity: &Identity) -> Result<(), StartError> {
        let failed = |errno| {
            StartError::new(
                Stage::Identity,
                errno,
                format!("{}:{}", identity.uid, identity.gid),
            )
        };
        rustix::thread::set_keep_capabilities(true).map_err(failed)?;
        let groups: Vec<Gid> = identity
            .groups
            .iter()
            .map(|gid| Gid::from_raw(*gid))
            .collect();
        match rustix::thread::set_thread_groups(&groups) {
            // With the capability, that means a user namespace that denies it for ever.
            Err(Errno::PERM) if may_set_ids() => {
                if identity.groups.iter().any(|gid| *gid != identity.gid) {
                    return Err(StartError::refused(
                        Stage::Config,
                        "the user namespace does not allow supplementary groups",
                    ));
                }
            }
            other => other.map_err(failed)?,
        }
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;

        let failed = |errno| StartError::new(Stage::Capabilities, errno, "");
        let sets = &self.capabilities;
        let (mut effective, mut permitted) = (sets.effective, sets.permitted);
        if identity.uid != 0 && matches!(self.user, Who::Named(_)) {
            // The document was written before the user was known. A user who is not root starts
            // with what execve would leave.
            effective = sets.ambient;
            permitted = sets.ambient;
        }
        capability::set(effective, permitted, sets.inheritable).map_err(failed)?;
        if sets.ambient != Capabilities::NONE {
            capability::set_ambient(sets.ambient).map_err(failed)?;
        }
        Ok(())
    }

    /// The supervisor of the filter, if it has one.
    pub(crate) fn listener(&self) -> Option<&Listener> {
        self.seccomp.as_ref()?.listener.as_ref()
    }

    fn install_filter(&self, channel: &ChildEnd) -> Result<(), StartError> {
        let Some(filter) = &self.seccomp else {
            return Ok(());
        };
        let listener = wharf_sys::seccomp::install(filter.flags, &filter.instructions)
            .map_err(|errno| StartError::new(Stage::Seccomp, errno, ""))?;
        if let Some(listener) = listener {
            channel.send_listener(&listener, filter.lets_send)?;
            // From here on calls may wait for the supervisor: it has to be there first.
            channel.wait()?;
        }
        Ok(())
    }

    /// The path of the program, found as a shell would: under the reaper too, so that a missing
    /// one fails the start.
    fn find_program(&self, name: &CString, environment: &[String]) -> Result<CString, StartError> {
        let text = || name.to_string_lossy().into_owned();
        if name.to_bytes().contains(&b'/') {
            return match executable(name) {
                Ok(()) => Ok(name.clone()),
                Err(errno @ (Errno::ACCESS | Errno::ISDIR)) => {
                    Err(StartError::new(Stage::ProgramNotExecutable, errno, text()))
                }
                Err(errno) => Err(StartError::new(Stage::ProgramMissing, errno, text())),
            };
        }
        let path = environment
            .iter()
            .rev()
            .find_map(|variable| variable.strip_prefix("PATH="))
            .unwrap_or_default();
        for directory in path.split(':').filter(|_| !name.is_empty()) {
            let directory = if directory.is_empty() { "." } else { directory };
            let mut candidate = directory.as_bytes().to_vec();
            candidate.push(b'/');
            candidate.extend(name.to_bytes());
            if let Ok(candidate) = CString::new(candidate)
                && executable(&candidate).is_ok()
            {
                return Ok(candidate);
            }
        }
        Err(StartError::new(
            Stage::ProgramNotInPath,
            Errno::NOENT,
            text(),
        ))
    }

    /// Executes `program`. What the kernel refuses now (a foreign format, a missing interpreter)
    /// is the program's failure, not the start's: as with Docker, a line on its standard error
    /// and exit status 255.
    fn execute(&self, program: &CStr, environment: &[CString]) -> ! {
        let result = match &self.reaper {
            Some(reaper) => {
                let name = CString::new(INIT_ARGV0).unwrap_or_default();
                let mut arguments = vec![name, c"--".to_owned()];
                arguments.extend_from_slice(&self.arguments);
                exec::fexecve(reaper.as_fd(), &arguments, environment)
            }
            None => exec::execve(program, &self.arguments, environment),
        };
        let Err(errno) = result;
        let error = StartError::new(Stage::ProgramNotExecutable, errno, "");
        let line = format!("exec {}: {}\n", program.to_string_lossy(), error.reason());
        let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        exec::exit_now(255)
    }
}

fn may_set_ids() -> bool {
    let wanted = Capabilities::named("CAP_SETGID").unwrap_or_default();
    capability::effective().is_ok_and(|effective| effective.contains(wanted))
}

/// Whether the calling process may execute `path`, as Go's `exec.LookPath` sees it.
fn executable(path: &CStr) -> Result<(), Errno> {
    let status = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    match rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) if status.st_mode & 0o111 != 0 => Ok(()),
        // A filter may know faccessat2 only as something to refuse; the mode is all there is then.
        Err(Errno::PERM | Errno::NOSYS) if status.st_mode & 0o111 != 0 => Ok(()),
        Ok(()) | Err(Errno::PERM | Errno::NOSYS) => Err(Errno::ACCESS),
        Err(errno) => Err(errno),
    }
}

/// Makes `streams` descriptors 0 to 2, owned by the program's user so that it can open them again
/// by way of `/dev/stdout`.
fn place_streams(streams: [OwnedFd; 3], identity: &Identity) -> Result<(), StartError> {
    let failed = |errno| StartError::new(Stage::Terminal, errno, "standard streams");
    if identity.uid != 0 {
        for stream in &streams {
            streams::give(stream.as_fd(), Some(identity.uid), None).map_err(failed)?;
        }
    }
    for (number, stream) in (0..).zip(streams) {
        fd::place(stream, number).map_err(failed)?;
    }
    Ok(())
}

impl CapabilitySets {
    /// The sets of the document, without what we do not have ourselves: nobody can pass that on,
    /// and a machine whose root lacks a capability still runs `--privileged`.
    fn prepare(process: &Process, user_namespace: bool) -> Result<Self, StartError> {
        let failed = |errno| StartError::new(Stage::Capabilities, errno, "");
        let (current_bounding, available) = if user_namespace {
            (capability::known(), capability::known())
        } else {
            let bounding = capability::bounding();
            let permitted = capability::permitted().map_err(failed)?;
            (bounding, bounding.intersection(permitted))
        };
        let Some(wanted) = &process.capabilities else {
            return Ok(Self {
                current_bounding,
                ..Self::default()
            });
        };
        let set = |names: &[String]| -> Result<Capabilities, StartError> {
            let mut set = Capabilities::NONE;
            for name in names {
                let member = Capabilities::named(name).ok_or_else(|| {
                    StartError::refused(Stage::Config, format!("unknown capability {name:?}"))
                })?;
                set = set.union(member);
            }
            Ok(set.intersection(available))
        };
        let permitted = set(&wanted.permitted)?;
        let inheritable = set(&wanted.inheritable)?;
        Ok(Self {
            current_bounding,
            bounding: set(&wanted.bounding)?,
            effective: set(&wanted.effective)?.intersection(permitted),
            permitted,
            inheritable,
            // The kernel's condition for an ambient capability.
            ambient: set(&wanted.ambient)?
                .intersection(permitted)
                .intersection(inheritable),
        })
    }
}

impl Filter {
    fn prepare(extras: &Extras<'_>) -> Result<Option<Self>, StartError> {
        let compiled;
        let program = match (extras.seccomp, extras.document_seccomp) {
            (Some(program), _) => program,
            (None, Some(document)) => {
                compiled = wharf_seccomp::compile(document).map_err(|error| {
                    StartError::refused(Stage::Config, format!("seccomp: {error}"))
                })?;
                &compiled
            }
            (None, None) => return Ok(None),
        };
        let instructions = program
            .instructions
            .iter()
            .map(|from| Instruction {
                code: from.code,
                jt: from.jt,
                jf: from.jf,
                k: from.k,
            })
            .collect();
        Ok(Some(Self {
            flags: program.flags,
            instructions,
            listener: program.listener.clone(),
            lets_send: program.listener.is_some() && !program.may_ask_about("sendmsg"),
        }))
    }
}

fn clamp(size: u64) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

pub(crate) fn io(stage: Stage, error: &std::io::Error, subject: &str) -> StartError {
    let errno = error
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error);
    StartError::new(stage, errno, subject)
}
