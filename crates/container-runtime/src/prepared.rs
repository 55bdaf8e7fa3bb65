//! A container's document, understood: everything that can be checked before a process exists.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::thread::ThreadNameSpaceType;
use wharf_oci::runtime::{Linux, NamespaceKind, Personality, Process, Resources, Spec};
use wharf_sys::mount::{Attributes, Propagation};

use crate::birth;
use crate::config::{ContainerConfig, NamespaceFd, RootFilesystem, Stdio};
use crate::dev_ahead::DevAhead;
use crate::devices::{self, PlannedDevice};
use crate::error::{Stage, StartError};
use crate::hooks::{self, PlannedHooks};
use crate::id_map::IdMaps;
use crate::label;
use crate::launch::{Extras, Launch};
use crate::memory_policy::{self, Policy};
use crate::mount_plan::{self, Kind, PlannedMount, normalise};
use crate::net_devices;
use crate::propagation;
use crate::resctrl;
use crate::sysctl::{self, PlannedSysctl};
use crate::user_namespace::{self, Mappings, UserNamespace};

/// What create and init work from.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) launch: Launch,
    /// Namespaces the first process is born into.
    pub(crate) new_namespaces: ThreadNameSpaceType,
    /// A cgroup namespace is made later, once the process is in its cgroup.
    pub(crate) new_cgroup_namespace: bool,
    /// Namespaces it joins, the user namespace excepted.
    pub(crate) joined: Vec<NamespaceFd>,
    /// The user namespace, if it does not share ours.
    pub(crate) user_namespace: Option<UserNamespace>,
    /// Whether, with a user namespace, we do what its root may not: be in the joined namespaces
    /// when it is born (it may only join what belongs to it), make its mounts.
    pub(crate) privileged: bool,
    /// The mount namespace it ends up in, if that is not one of its own: its root is made in one of
    /// its own all the same, so that nothing of it shows where others are.
    pub(crate) mount_namespace: Option<OwnedFd>,
    /// What `timens_offsets` is given.
    pub(crate) time_offsets: Option<String>,
    /// User namespaces that only serve to map the IDs of binds.
    pub(crate) id_mappings: Mappings,
    pub(crate) rootfs: RootFilesystem,
    /// What `rootfs` describes, where it is mounted already.
    pub(crate) root: Option<Arc<OwnedFd>>,
    /// What some of `mounts` describe, where it is there already.
    pub(crate) dev: Option<Arc<DevAhead>>,
    pub(crate) root_readonly: bool,
    pub(crate) root_propagation: Option<(Propagation, bool)>,
    pub(crate) mounts: Vec<PlannedMount>,
    pub(crate) devices: Vec<PlannedDevice>,
    pub(crate) masked_paths: Vec<PathBuf>,
    pub(crate) readonly_paths: Vec<PathBuf>,
    pub(crate) sysctls: Vec<PlannedSysctl>,
    /// Those of joined namespaces, where the container's root may not set them.
    pub(crate) joined_sysctls: Vec<PlannedSysctl>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) personality: Option<u32>,
    pub(crate) memory_policy: Option<Policy>,
    pub(crate) resctrl: Option<resctrl::Plan>,
    pub(crate) net_devices: Vec<net_devices::PlannedDevice>,
    /// The SELinux label of everything that is mounted newly.
    pub(crate) mount_label: Option<String>,
    pub(crate) cgroups_path: Option<String>,
    pub(crate) systemd_cgroup: bool,
    pub(crate) resources: Resources,
    pub(crate) hooks: PlannedHooks,
    pub(crate) no_pivot: bool,
    pub(crate) keep_keyring: bool,
    /// Whether binds are made when it is their turn.
    pub(crate) listed_in_order: bool,
}

impl Prepared {
    /// Understands `config`, or says what about it cannot be honoured.
    pub(crate) fn new(
        config: &ContainerConfig,
        handed_over: Vec<NamespaceFd>,
        stdio: &Stdio,
    ) -> Result<Self, StartError> {
        let spec = &config.spec;
        let linux = spec.linux.clone().unwrap_or_default();
        let none = Process::default();
        let process = spec.process.as_ref().unwrap_or(&none);
        if process.terminal != matches!(stdio, Stdio::Terminal) {
            return Err(refused(
                "`process.terminal` and the standard streams disagree",
            ));
        }
        let namespaces = Namespaces::plan(&linux, handed_over)?;
        let launch = Launch::prepare(
            process,
            &Extras {
                user: config.user.as_deref(),
                group_add: &config.group_add,
                seccomp: config.seccomp.as_ref(),
                document_seccomp: linux.seccomp.as_ref(),
                reaper: config.init,
                user_namespace: namespaces.user.is_some(),
                absent: spec.process.is_none(),
                makes_cwd: true,
                preserved_fds: config.preserved_fds,
            },
        )?;
        let mount_label = label::selinux("linux.mountLabel", linux.mount_label.as_deref())?;
        if config.root.is_some() && (namespaces.user.is_some() || mount_label.is_some()) {
            return Err(refused(
                "a root that is mounted already has neither mapping nor label",
            ));
        }
        let mut mounts: Vec<PlannedMount> = spec
            .mounts
            .iter()
            .map(mount_plan::plan)
            .collect::<Result<_, _>>()?;
        let id = config.state.as_ref().map(|state| state.id.as_str());
        let rdt = linux.intel_rdt.as_ref();
        let resctrl = rdt.map(|rdt| resctrl::plan(rdt, id)).transpose()?;
        resctrl::check(resctrl.as_ref())?;
        let has_network = namespaces.own.contains(&NamespaceKind::Network);
        let net_devices = net_devices::plan(&linux, has_network)?;
        let mut rootfs = config.rootfs.clone();
        if let Some(label) = &mount_label {
            apply_label(label, &mut mounts, &mut rootfs);
        }
        if !config.any_propagation {
            propagation::check(&mounts)?;
        }
        let id_maps = mounts.iter().filter_map(|mount| mount.id_map.as_ref());
        if namespaces.user.is_none() && id_maps.clone().any(|id_map| id_map.maps.is_none()) {
            return Err(refused(
                "mount option idmap without mappings needs a user namespace of the container",
            ));
        }
        let id_mappings = Mappings::make(id_maps.filter_map(|id_map| id_map.maps.as_ref()))?;
        let mut sysctls = sysctl::plan(&linux.sysctl, &namespaces.own)?;
        let mut joined_sysctls = Vec::new();
        let mut privileged = false;
        if namespaces.user.is_some() {
            privileged = birth::is_privileged()?;
            let is_joined = |sysctl: &PlannedSysctl| {
                privileged && !namespaces.new.contains(flag(sysctl.namespace))
            };
            (joined_sysctls, sysctls) = sysctls.into_iter().partition(is_joined);
        }
        Ok(Self {
            launch,
            new_namespaces: namespaces.new,
            new_cgroup_namespace: namespaces.new_cgroup,
            hostname: only_if(
                namespaces.own.contains(&NamespaceKind::Uts),
                spec.hostname.as_deref(),
                "hostname",
            )?,
            domainname: only_if(
                namespaces.own.contains(&NamespaceKind::Uts),
                spec.domainname.as_deref(),
                "domainname",
            )?,
            joined: namespaces.joined,
            mount_namespace: namespaces.mount,
            user_namespace: namespaces.user,
            privileged,
            time_offsets: time_offsets(&linux, namespaces.new)?,
            id_mappings,
            rootfs,
            root: config.root.clone(),
            dev: config.dev.clone(),
            root_readonly: spec.root.as_ref().is_some_and(|root| root.readonly),
            root_propagation: root_propagation(linux.rootfs_propagation.as_deref())?,
            mounts,
            devices: devices::plan(&linux.devices)?,
            masked_paths: paths(&linux.masked_paths)?,
            readonly_paths: paths(&linux.readonly_paths)?,
            sysctls,
            joined_sysctls,
            personality: linux.personality.as_ref().map(personality).transpose()?,
            net_devices,
            resctrl,
            memory_policy: linux
                .memory_policy
                .as_ref()
                .map(memory_policy::plan)
                .transpose()?,
            mount_label,
            cgroups_path: linux.cgroups_path.clone().filter(|path| !path.is_empty()),
            systemd_cgroup: config.systemd_cgroup,
            resources: linux.resources.unwrap_or_default(),
            hooks: PlannedHooks::plan(spec, config.state.as_ref())?,
            no_pivot: config.no_pivot,
            keep_keyring: config.keep_keyring,
            listed_in_order: config.listed_in_order,
        })
    }
}

/// Checks everything of `spec` that can be checked without looking at the host: what this accepts
/// can only fail for what is found there.
pub fn check(spec: &Spec) -> Result<(), StartError> {
    let mut linux = spec.linux.clone().unwrap_or_default();
    for namespace in &mut linux.namespaces {
        // Whether there is something to join is for the host to say.
        namespace.path = None;
    }
    let none = Process::default();
    spec.hooks.as_ref().map_or(Ok(()), hooks::check_all)?;
    let namespaces = Namespaces::plan(&linux, Vec::new())?;
    Launch::prepare(
        spec.process.as_ref().unwrap_or(&none),
        &Extras {
            user: None,
            group_add: &[],
            seccomp: None,
            document_seccomp: linux.seccomp.as_ref(),
            reaper: false,
            user_namespace: namespaces.user.is_some(),
            absent: spec.process.is_none(),
            makes_cwd: true,
            preserved_fds: 0,
        },
    )?;
    time_offsets(&linux, namespaces.new)?;
    for mount in &spec.mounts {
        mount_plan::plan(mount)?;
    }
    sysctl::plan(&linux.sysctl, &namespaces.own)?;
    devices::plan(&linux.devices)?;
    paths(&linux.masked_paths)?;
    paths(&linux.readonly_paths)?;
    let persona = linux.personality.as_ref();
    persona.map_or(Ok(0), personality)?;
    label::selinux("linux.mountLabel", linux.mount_label.as_deref())?;
    let has_network = namespaces.own.contains(&NamespaceKind::Network);
    net_devices::plan(&linux, has_network)?;
    if let Some(rdt) = &linux.intel_rdt {
        resctrl::plan(rdt, Some("check"))?;
    }
    Ok(())
}

fn refused(what: impl Into<String>) -> StartError {
    StartError::refused(Stage::Config, what)
}

/// Which namespaces are made and which joined.
struct Namespaces {
    new: ThreadNameSpaceType,
    new_cgroup: bool,
    joined: Vec<NamespaceFd>,
    user: Option<UserNamespace>,
    /// A mount namespace of others.
    mount: Option<OwnedFd>,
    /// Kinds the container does not share with the host, as far as is known.
    own: Vec<NamespaceKind>,
}

impl Namespaces {
    fn plan(linux: &Linux, handed_over: Vec<NamespaceFd>) -> Result<Self, StartError> {
        let mut plan = Self {
            new: ThreadNameSpaceType::empty(),
            new_cgroup: false,
            joined: handed_over,
            user: None,
            mount: None,
            own: Vec::new(),
        };
        plan.own
            .extend(plan.joined.iter().map(|namespace| namespace.kind));
        let mut seen = Vec::new();
        for namespace in &linux.namespaces {
            let kind = namespace.kind;
            if seen.contains(&kind) {
                return Err(refused(format!("namespace {kind:?} is given twice")));
            }
            seen.push(kind);
            if plan.own.contains(&kind) {
                continue;
            }
            plan.own.push(kind);
            if let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) {
                let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
                let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
                    .map_err(|errno| StartError::new(Stage::Namespace, errno, path))?;
                plan.joined.push(NamespaceFd { kind, fd });
            } else if kind == NamespaceKind::Cgroup {
                plan.new_cgroup = true;
            } else {
                plan.new |= flag(kind);
            }
        }
        plan.plan_user(linux)?;
        plan.plan_mount()?;
        if plan.new.contains(ThreadNameSpaceType::TIME)
            && linux.time_offsets.is_empty()
            && !kernel_has_time_namespaces()
        {
            plan.new.remove(ThreadNameSpaceType::TIME);
        }
        Ok(plan)
    }

    /// Without a mount namespace of its own a container still gets its root in one.
    fn plan_mount(&mut self) -> Result<(), StartError> {
        if self.new.contains(ThreadNameSpaceType::MOUNT) {
            return Ok(());
        }
        if self.user.is_some() {
            return Err(refused(
                "a container with a user namespace needs a new mount namespace: its root may not enter one of others",
            ));
        }
        let kind = NamespaceKind::Mount;
        let joined = self.joined.iter().position(|joined| joined.kind == kind);
        self.mount = Some(match joined {
            Some(index) => self.joined.remove(index).fd,
            None => birth::own_namespace(kind)?,
        });
        self.new |= ThreadNameSpaceType::MOUNT;
        Ok(())
    }

    fn plan_user(&mut self, linux: &Linux) -> Result<(), StartError> {
        let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
        let maps = || IdMaps::new("linux", &linux.uid_mappings, &linux.gid_mappings);
        let kind = NamespaceKind::User;
        if let Some(index) = self.joined.iter().position(|joined| joined.kind == kind) {
            let joined = self.joined.remove(index);
            // Nobody can join what they are in.
            if !user_namespace::is_our_own(&joined.fd) {
                let claimed = mapped.then(maps).transpose()?;
                self.user = Some(UserNamespace::Joined(joined, claimed));
            }
        } else if self.new.contains(ThreadNameSpaceType::USER) {
            self.new.remove(ThreadNameSpaceType::USER);
            self.user = Some(UserNamespace::New(maps()?));
        } else if mapped {
            return Err(refused(
                "linux.uidMappings and linux.gidMappings need a user namespace",
            ));
        }
        Ok(())
    }
}

/// What `timens_offsets` is given.
fn time_offsets(linux: &Linux, new: ThreadNameSpaceType) -> Result<Option<String>, StartError> {
    if linux.time_offsets.is_empty() {
        return Ok(None);
    }
    if !new.contains(ThreadNameSpaceType::TIME) {
        return Err(refused("linux.timeOffsets needs a new time namespace"));
    }
    let mut text = String::new();
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(refused(format!(
                "linux.timeOffsets: clock {clock:?} is neither \"monotonic\" nor \"boottime\""
            )));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(refused(format!(
                "linux.timeOffsets: {clock} has {} nanoseconds",
                offset.nanosecs
            )));
        }
        text.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    Ok(Some(text))
}

impl Prepared {
    /// Whether mounts the host makes below the container's root appear in the container.
    pub(crate) fn root_follows_host(&self) -> bool {
        matches!(self.root_propagation, Some((Propagation::Slave, _)))
    }

    /// Whether the container is to make cgroups of its own: it sees its cgroup alone, and may
    /// write there.
    pub(crate) fn manages_cgroups(&self) -> bool {
        self.new_cgroup_namespace
            && self.mounts.iter().any(|mount| {
                let read_only = mount.set.0 | mount.set_recursively.0;
                mount.kind == Kind::Cgroup && read_only & Attributes::READ_ONLY.0 == 0
            })
    }

    pub(crate) fn joins_pid_namespace(&self) -> bool {
        self.joined
            .iter()
            .any(|namespace| namespace.kind == NamespaceKind::Pid)
    }
}

/// Has everything that is mounted newly labelled.
fn apply_label(label: &str, mounts: &mut [PlannedMount], rootfs: &mut RootFilesystem) {
    for mount in mounts {
        if let Kind::New {
            filesystem,
            parameters,
        } = &mut mount.kind
        {
            if filesystem == "mqueue" {
                mount.label = Some(label.to_owned());
            } else if label::takes_context(filesystem) {
                parameters.push(("context".to_owned(), Some(label.to_owned())));
            }
        }
    }
    if let RootFilesystem::Overlay { options, .. } = rootfs {
        options.push(format!("context={label}"));
    }
}

/// The kernel's flag for a kind of namespace.
pub(crate) fn flag(kind: NamespaceKind) -> ThreadNameSpaceType {
    match kind {
        NamespaceKind::Mount => ThreadNameSpaceType::MOUNT,
        NamespaceKind::Pid => ThreadNameSpaceType::PROCESS_ID,
        NamespaceKind::Network => ThreadNameSpaceType::NETWORK,
        NamespaceKind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        NamespaceKind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        NamespaceKind::User => ThreadNameSpaceType::USER,
        NamespaceKind::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
        NamespaceKind::Time => ThreadNameSpaceType::TIME,
    }
}

pub(crate) fn kernel_has_time_namespaces() -> bool {
    rustix::fs::access(c"/proc/self/ns/time", rustix::fs::Access::EXISTS) != Err(Errno::NOENT)
}

/// `value`, unless there is one that would be set on the host.
fn only_if(own: bool, value: Option<&str>, what: &str) -> Result<Option<String>, StartError> {
    match value.filter(|value| !value.is_empty()) {
        Some(value) if own => Ok(Some(value.to_owned())),
        Some(_) => Err(refused(format!(
            "{what} cannot be set without a UTS namespace"
        ))),
        None => Ok(None),
    }
}

fn paths(paths: &[String]) -> Result<Vec<PathBuf>, StartError> {
    paths
        .iter()
        .map(|path| {
            normalise(path).ok_or_else(|| refused(format!("path {path:?} is not absolute")))
        })
        .collect()
}

fn root_propagation(name: Option<&str>) -> Result<Option<(Propagation, bool)>, StartError> {
    let Some(whole) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let (name, recursive) = whole
        .strip_prefix('r')
        .map_or((whole, false), |name| (name, true));
    let propagation = match name {
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "unbindable" => Propagation::Unbindable,
        _ => {
            return Err(refused(format!(
                "linux.rootfsPropagation {whole:?} is not known"
            )));
        }
    };
    Ok(Some((propagation, recursive)))
}

/// Sets the execution domain of the calling process.
pub(crate) fn set_personality(persona: u32) -> Result<(), StartError> {
    wharf_sys::process::set_personality(persona)
        .map_err(|errno| refused(format!("cannot set personality: {errno}")))
}

pub(crate) fn personality(personality: &Personality) -> Result<u32, StartError> {
    if let Some(flag) = personality.flags.first() {
        return Err(refused(format!("personality flag {flag:?} is not known")));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(refused(format!(
            "personality domain {other:?} is not known"
        ))),
    }
}

/// A path as the kernel takes it.
pub(crate) fn c_path(path: &std::path::Path) -> Result<CString, Errno> {
    use std::os::unix::ffi::OsStrExt as _;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}
