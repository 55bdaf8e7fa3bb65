//! User namespaces: writing their mappings, making them for others, taking over their root.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, waitpid};
use rustix::thread::ThreadNameSpaceType;
use wharf_sys::capability::{self, Capabilities};
use wharf_sys::spawn::{Program, Spawn};
use wharf_sys::user_namespace::Holder;

use crate::config::NamespaceFd;
use crate::error::{Stage, StartError};
use crate::id_map::{IdMap, IdMaps};

/// The user namespace of a container that does not share its caller's.
#[derive(Debug)]
pub(crate) enum UserNamespace {
    /// It is made, with this mapping.
    New(IdMaps),
    /// It exists. What the document says about its mapping must be true.
    Joined(NamespaceFd, Option<IdMaps>),
}

/// The user namespace once it is there, as the parent sees it.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) maps: IdMaps,
    pub(crate) namespace: OwnedFd,
}

impl Mapped {
    /// That of the process `pid`, a child of ours not reaped yet.
    pub(crate) fn of(pid: Pid, maps: IdMaps) -> Result<Self, StartError> {
        let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        Ok(Self { maps, namespace })
    }

    /// The IDs in the namespace it is set up as.
    pub(crate) fn root(&self) -> (u32, u32) {
        (self.maps.uid.first(), self.maps.gid.first())
    }
}

fn failed(errno: Errno) -> StartError {
    StartError::new(Stage::Namespace, errno, "user")
}

/// Whom the namespace is set up as, seen from outside.
pub(crate) fn root_outside(maps: &IdMaps) -> (u32, u32) {
    let outside = |map: &IdMap| map.outside(map.first()).unwrap_or(u32::MAX);
    (outside(&maps.uid), outside(&maps.gid))
}

/// Makes a user namespace with `maps` that no process is in.
pub fn create(maps: &IdMaps) -> Result<OwnedFd, StartError> {
    let holder = Holder::new(ThreadNameSpaceType::USER).map_err(not_made)?;
    write_maps(holder.pid(), maps)?;
    holder.namespace("user").map_err(failed)
}

/// Makes a user namespace with `maps` and a network namespace that belongs to it: a container
/// that joins both has its capabilities over its network, too.
pub fn create_with_network(maps: &IdMaps) -> Result<(OwnedFd, OwnedFd), StartError> {
    let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
    let holder = Holder::new(both).map_err(not_made)?;
    write_maps(holder.pid(), maps)?;
    let network = holder.namespace("net").map_err(failed)?;
    Ok((holder.namespace("user").map_err(failed)?, network))
}

/// What the kernel means when it makes no user namespace.
pub(crate) fn not_made(errno: Errno) -> StartError {
    let why = match errno {
        Errno::NOSPC => "user.max_user_namespaces is too low",
        Errno::USERS => "they are nested too deeply",
        Errno::PERM => "the kernel's settings do not allow them to this user",
        Errno::INVAL => "the kernel has none",
        _ => return StartError::new(Stage::Clone, errno, ""),
    };
    StartError::refused(Stage::Namespace, format!("user: cannot make one, {why}"))
}

/// Gives the new user namespace of the process `pid`, a child of ours, its mapping.
pub(crate) fn write_maps(pid: Pid, maps: &IdMaps) -> Result<(), StartError> {
    let wanted = ["CAP_SETUID", "CAP_SETGID"]
        .into_iter()
        .filter_map(Capabilities::named)
        .fold(Capabilities::NONE, Capabilities::union);
    let effective = capability::effective().map_err(failed)?;
    if effective.contains(wanted) {
        write_map(pid, "uid_map", &maps.uid)
            .map_err(|errno| not_mapped(errno, "uid", &maps.uid))?;
        return write_map(pid, "gid_map", &maps.gid)
            .map_err(|errno| not_mapped(errno, "gid", &maps.gid));
    }
    // Somebody without privileges may map themselves; everything else is up to the set-user-ID
    // programs that know who may use which subordinate IDs.
    if maps.uid.is_only(rustix::process::geteuid().as_raw()) {
        write_map(pid, "uid_map", &maps.uid)
            .map_err(|errno| not_mapped(errno, "uid", &maps.uid))?;
    } else {
        map_by_program("newuidmap", pid, &maps.uid)?;
    }
    if maps.gid.is_only(rustix::process::getegid().as_raw()) {
        write_proc(pid, "setgroups", b"deny").map_err(failed)?;
        write_map(pid, "gid_map", &maps.gid).map_err(|errno| not_mapped(errno, "gid", &maps.gid))
    } else {
        map_by_program("newgidmap", pid, &maps.gid)
    }
}

fn write_map(pid: Pid, file: &str, map: &IdMap) -> Result<(), Errno> {
    write_proc(pid, file, map.text().as_bytes())
}

fn write_proc(pid: Pid, file: &str, content: &[u8]) -> Result<(), Errno> {
    let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, content).map(drop)
}

fn not_mapped(errno: Errno, kind: &str, map: &IdMap) -> StartError {
    if errno != Errno::PERM {
        return failed(errno);
    }
    let ranges = map.text().trim_end().replace('\n', ", ");
    StartError::refused(
        Stage::Config,
        format!(
            "{kind} mapping {ranges} is not allowed: the IDs outside must all exist in the runtime's own user namespace"
        ),
    )
}

/// Lets `program` write the map.
fn map_by_program(program: &str, pid: Pid, map: &IdMap) -> Result<(), StartError> {
    let refuse = |why: String| StartError::refused(Stage::Namespace, format!("user: {why}"));
    let fd = find_program(program)
        .ok_or_else(|| refuse(format!("{program} is not installed (package uidmap)")))?;
    let mut arguments = vec![program.to_owned(), pid.as_raw_nonzero().to_string()];
    for range in map.ranges() {
        arguments.extend(
            [range.container_id, range.host_id, range.size].map(|number| number.to_string()),
        );
    }
    let arguments: Vec<CString> = arguments
        .into_iter()
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let (mut message, writer) =
        std::io::pipe().map_err(|error| crate::launch::io(Stage::Namespace, &error, program))?;
    let spawn = Spawn {
        program: Program::File(fd.as_fd()),
        arguments: &arguments,
        environment: &[],
        fds: &[(null.as_fd(), 0), (null.as_fd(), 1), (writer.as_fd(), 2)],
        doors: &[],
        new_session: false,
        working_directory: None,
    };
    let (child, _) = spawn
        .start()
        .map_err(|errno| StartError::new(Stage::Namespace, errno, program))?;
    drop(writer);
    let mut text = String::new();
    // What it says is only needed for the message.
    let _ = (&mut message).take(4096).read_to_string(&mut text);
    drop(message);
    let status = loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            other => break other.map_err(failed)?,
        }
    };
    if status.and_then(|(_, status)| status.exit_status()) == Some(0) {
        return Ok(());
    }
    Err(refuse(format!("{program} failed: {}", text.trim())))
}

fn find_program(name: &str) -> Option<OwnedFd> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let standard = ["/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(standard)
        .filter(|directory| directory.is_absolute())
        .find_map(|directory| {
            let path = CString::new(directory.join(name).as_os_str().as_bytes()).ok()?;
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
        })
}

/// The mapping of the user namespace that the process `pid` is in.
pub(crate) fn maps_of(pid: Pid) -> Result<IdMaps, StartError> {
    let read = |file: &str| {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        let text = std::fs::read_to_string(&path)
            .map_err(|error| crate::launch::io(Stage::Namespace, &error, &path))?;
        IdMap::parse(&text)
            .ok_or_else(|| StartError::refused(Stage::Namespace, "user: it has no mapping of IDs"))
    };
    Ok(IdMaps {
        uid: read("uid_map")?,
        gid: read("gid_map")?,
    })
}

/// Whether `namespace` is the one the calling process is in.
pub(crate) fn is_our_own(namespace: &OwnedFd) -> bool {
    let own = rustix::fs::stat(c"/proc/self/ns/user");
    match (own, rustix::fs::fstat(namespace)) {
        (Ok(own), Ok(other)) => (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Becomes `uid` and `gid` of the user namespace the process has just come into; there it keeps
/// all capabilities.
pub(crate) fn become_root(uid: u32, gid: u32) -> Result<(), StartError> {
    let failed = |errno| StartError::new(Stage::Identity, errno, format!("{uid}:{gid}"));
    match rustix::thread::set_thread_groups(&[]) {
        // A namespace that denies it keeps everybody's groups.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)
}

/// Makes the container's root the owner of those `streams` that were made for it (pipes), so that
/// it can open them again by way of `/dev/stdout`.
pub(crate) fn give_streams(streams: &[OwnedFd; 3], maps: &IdMaps) -> Result<(), StartError> {
    let (uid, gid) = root_outside(maps);
    for stream in streams {
        let failed = |errno| StartError::new(Stage::Terminal, errno, "standard streams");
        let status = rustix::fs::fstat(stream).map_err(failed)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Fifo {
            continue;
        }
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match rustix::fs::fchown(stream, owner.0, owner.1) {
            // Somebody without privileges; the pipe is theirs inside and outside.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

/// Raises the hard limits of our child `pid` where the document asks for more than there is:
/// nobody inside a user namespace may do that. If we may not either, the child says so.
pub(crate) fn raise_limits(pid: Pid, limits: &[(Resource, u32, Rlimit)]) {
    for (resource, _, wanted) in limits {
        let current = rustix::process::getrlimit(*resource);
        let more = match (wanted.maximum, current.maximum) {
            (None, Some(_)) => true,
            (Some(wanted), Some(current)) => wanted > current,
            (_, None) => false,
        };
        if more {
            let raised = Rlimit {
                current: current.current,
                maximum: wanted.maximum,
            };
            let _ = rustix::process::prlimit(Some(pid), *resource, raised);
        }
    }
}

/// A user namespace for each of several mappings, made once.
#[derive(Debug, Default)]
pub(crate) struct Mappings(Vec<(IdMaps, OwnedFd)>);

impl Mappings {
    /// Makes one for each of `wanted`.
    pub(crate) fn make<'a>(wanted: impl Iterator<Item = &'a IdMaps>) -> Result<Self, StartError> {
        let mut mappings = Self::default();
        for maps in wanted {
            if mappings.get(maps).is_none() {
                mappings.0.push((maps.clone(), create(maps)?));
            }
        }
        Ok(mappings)
    }

    pub(crate) fn get(&self, maps: &IdMaps) -> Option<&OwnedFd> {
        self.0
            .iter()
            .find(|(known, _)| known == maps)
            .map(|(_, namespace)| namespace)
    }
}

/// Names a path in a message.
pub(crate) fn no_mapping(path: &Path, errno: Errno) -> StartError {
    let path = path.display();
    match errno {
        Errno::INVAL | Errno::OPNOTSUPP => StartError::refused(
            Stage::Config,
            format!("the file system of {path} cannot map IDs (idmapped mounts)"),
        ),
        Errno::NOSYS => StartError::refused(
            Stage::Config,
            format!("IDs of {path} cannot be mapped: that needs Linux 5.12 or newer"),
        ),
        Errno::PERM => StartError::refused(
            Stage::Config,
            format!(
                "IDs of {path} cannot be mapped: that needs privileges over its file system, or it is mapped already"
            ),
        ),
        errno => StartError::new(Stage::Rootfs, errno, path.to_string()),
    }
}
