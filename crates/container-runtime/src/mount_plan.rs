//! From a mount in the document to what the kernel is told. Pure.

use std::ffi::CString;
use std::path::{Component, Path, PathBuf};

use wharf_oci::runtime::Mount;
use wharf_sys::mount::{Attributes, Propagation};

use crate::error::{Stage, StartError};
use crate::id_map::IdMaps;

/// One mount, its options understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMount {
    /// Where, in the container; normalised and absolute.
    pub destination: PathBuf,
    /// What.
    pub kind: Kind,
    /// Attributes set and cleared on the mount itself.
    pub set: Attributes,
    /// See [`set`](Self::set).
    pub clear: Attributes,
    /// Attributes set and cleared on it and all mounts below.
    pub set_recursively: Attributes,
    /// See [`set_recursively`](Self::set_recursively).
    pub clear_recursively: Attributes,
    /// Propagation, and whether it goes for mounts below too.
    pub propagation: Option<(Propagation, bool)>,
    /// The SELinux label its top directory gets, where the whole cannot have one.
    pub(crate) label: Option<String>,
    /// Whether a tmpfs begins with what it covers.
    pub(crate) copy_up: bool,
    /// How the IDs of a bind are mapped.
    pub(crate) id_map: Option<BindIdMap>,
    /// The source as the document names it, for messages.
    pub source: String,
}

/// The mapping of a bind's IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindIdMap {
    /// From the file system's to the mount's; that of the container's user namespace if not given.
    pub(crate) maps: Option<IdMaps>,
    /// Whether mounts below are mapped, too.
    pub(crate) recursive: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A path of the host, with the mounts below it if `recursive`.
    Bind { source: CString, recursive: bool },
    /// A new instance of a file system.
    New {
        filesystem: String,
        parameters: Vec<(String, Option<String>)>,
    },
    /// What is there already gets other attributes.
    Remount,
    /// The container's cgroups, in whatever form the host has them.
    Cgroup,
}

impl PlannedMount {
    /// The attributes of a new file system's mount.
    pub(crate) fn new_attributes(&self) -> rustix::mount::MountAttrFlags {
        let mut set = self.set.union(self.set_recursively);
        if self.copy_up {
            // Not before it has been written to.
            set.0 &= !Attributes::READ_ONLY.0;
        }
        set.for_new_mount()
    }

    /// A failure of this mount.
    pub(crate) fn error(&self, errno: rustix::io::Errno) -> StartError {
        StartError::new(
            Stage::Mount,
            errno,
            format!("{}\0{}", self.source, self.destination.display()),
        )
    }
}

/// File systems that have no state of their own to be made read-only with the mount.
const PSEUDO: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];

/// What an option word does.
enum Meaning {
    Set(Attributes),
    Clear(Attributes),
    SetRecursively(Attributes),
    ClearRecursively(Attributes),
    AccessTime(Attributes),
    AccessTimeRecursively(Attributes),
    Propagate(Propagation, bool),
    Bind(bool),
    IdMap(bool),
    CopyUp,
    Remount,
    Nothing,
    /// A property of file systems, not of mounts, that is there or is the default anyway.
    Superblock,
    Parameter,
}

fn meaning(option: &str) -> Meaning {
    use Meaning::{
        AccessTime, AccessTimeRecursively, Bind, Clear, ClearRecursively, CopyUp, IdMap, Nothing,
        Propagate, Remount, Set, SetRecursively, Superblock,
    };
    match option {
        "defaults" | "relatime" | "loud" | "silent" => Nothing,
        // File systems that count changes do so always. (mount(8)'s option is for the others.)
        "iversion" | "noiversion" => Nothing,
        "async" | "nomand" | "nolazytime" => Superblock,
        "ro" => Set(Attributes::READ_ONLY),
        "rw" => Clear(Attributes::READ_ONLY),
        "nosuid" => Set(Attributes::NO_SUID),
        "suid" => Clear(Attributes::NO_SUID),
        "nodev" => Set(Attributes::NO_DEVICES),
        "dev" => Clear(Attributes::NO_DEVICES),
        "noexec" => Set(Attributes::NO_EXEC),
        "exec" => Clear(Attributes::NO_EXEC),
        "nodiratime" => Set(Attributes::NO_DIRECTORY_ACCESS_TIME),
        "diratime" => Clear(Attributes::NO_DIRECTORY_ACCESS_TIME),
        "nosymfollow" => Set(Attributes::NO_SYMLINKS),
        "symfollow" => Clear(Attributes::NO_SYMLINKS),
        "noatime" => AccessTime(Attributes::NO_ACCESS_TIME),
        "strictatime" => AccessTime(Attributes::STRICT_ACCESS_TIME),
        "atime" | "norelatime" | "nostrictatime" => AccessTime(Attributes::default()),
        "rro" => SetRecursively(Attributes::READ_ONLY),
        "rrw" => ClearRecursively(Attributes::READ_ONLY),
        "rnosuid" => SetRecursively(Attributes::NO_SUID),
        "rsuid" => ClearRecursively(Attributes::NO_SUID),
        "rnodev" => SetRecursively(Attributes::NO_DEVICES),
        "rdev" => ClearRecursively(Attributes::NO_DEVICES),
        "rnoexec" => SetRecursively(Attributes::NO_EXEC),
        "rexec" => ClearRecursively(Attributes::NO_EXEC),
        "rnodiratime" => SetRecursively(Attributes::NO_DIRECTORY_ACCESS_TIME),
        "rdiratime" => ClearRecursively(Attributes::NO_DIRECTORY_ACCESS_TIME),
        "rnosymfollow" => SetRecursively(Attributes::NO_SYMLINKS),
        "rsymfollow" => ClearRecursively(Attributes::NO_SYMLINKS),
        "private" => Propagate(Propagation::Private, false),
        "rprivate" => Propagate(Propagation::Private, true),
        "shared" => Propagate(Propagation::Shared, false),
        "rshared" => Propagate(Propagation::Shared, true),
        "slave" => Propagate(Propagation::Slave, false),
        "rslave" => Propagate(Propagation::Slave, true),
        "unbindable" => Propagate(Propagation::Unbindable, false),
        "runbindable" => Propagate(Propagation::Unbindable, true),
        "bind" => Bind(false),
        "rbind" => Bind(true),
        "idmap" => IdMap(false),
        "ridmap" => IdMap(true),
        "rnoatime" => AccessTimeRecursively(Attributes::NO_ACCESS_TIME),
        "rstrictatime" => AccessTimeRecursively(Attributes::STRICT_ACCESS_TIME),
        "rrelatime" | "ratime" | "rnorelatime" | "rnostrictatime" => {
            AccessTimeRecursively(Attributes::default())
        }
        "tmpcopyup" => CopyUp,
        "remount" => Remount,
        _ => Meaning::Parameter,
    }
}

/// Whether `option` is one for the file system that is mounted, not for the mount.
pub fn is_for_filesystem(option: &str) -> bool {
    matches!(meaning(option), Meaning::Parameter)
}

/// Understands one mount of the document.
pub fn plan(mount: &Mount) -> Result<PlannedMount, StartError> {
    let refuse = |what: String| StartError::refused(Stage::Config, what);
    let destination = normalise(&mount.destination).ok_or_else(|| {
        refuse(format!(
            "mount destination {:?} is not an absolute path",
            mount.destination
        ))
    })?;
    let source = mount.source.clone().unwrap_or_default();
    let mut planned = PlannedMount {
        destination,
        kind: Kind::Cgroup,
        set: Attributes::default(),
        clear: Attributes::default(),
        set_recursively: Attributes::default(),
        clear_recursively: Attributes::default(),
        propagation: None,
        label: None,
        copy_up: false,
        id_map: None,
        source: source.clone(),
    };
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        let whose = format!("mount {:?}", mount.destination);
        planned.id_map = Some(BindIdMap {
            maps: Some(IdMaps::new(
                &whose,
                &mount.uid_mappings,
                &mount.gid_mappings,
            )?),
            recursive: false,
        });
    }
    let mut bind = (mount.kind.as_deref() == Some("bind")).then_some(false);
    let mut remount = false;
    let mut parameters = Vec::new();
    for option in &mount.options {
        let both = |set: &mut Attributes, clear: &mut Attributes, bits: Attributes| {
            // The last word wins.
            set.0 |= bits.0;
            clear.0 &= !bits.0;
        };
        match meaning(option) {
            Meaning::Set(bits) => both(&mut planned.set, &mut planned.clear, bits),
            Meaning::Clear(bits) => both(&mut planned.clear, &mut planned.set, bits),
            Meaning::SetRecursively(bits) => {
                both(
                    &mut planned.set_recursively,
                    &mut planned.clear_recursively,
                    bits,
                );
            }
            Meaning::ClearRecursively(bits) => {
                both(
                    &mut planned.clear_recursively,
                    &mut planned.set_recursively,
                    bits,
                );
            }
            Meaning::AccessTime(bits) => {
                planned.set.0 = planned.set.0 & !Attributes::ACCESS_TIME.0 | bits.0;
                planned.clear.0 |= Attributes::ACCESS_TIME.0;
            }
            Meaning::AccessTimeRecursively(bits) => {
                let set = &mut planned.set_recursively;
                set.0 = set.0 & !Attributes::ACCESS_TIME.0 | bits.0;
                planned.clear_recursively.0 |= Attributes::ACCESS_TIME.0;
            }
            Meaning::Propagate(propagation, recursive) => {
                planned.propagation = Some((propagation, recursive))
            }
            Meaning::Bind(recursive) => bind = Some(recursive),
            Meaning::IdMap(recursive) => {
                let maps = planned.id_map.take().and_then(|given| given.maps);
                planned.id_map = Some(BindIdMap { maps, recursive });
            }
            Meaning::CopyUp => planned.copy_up = true,
            Meaning::Remount => remount = true,
            Meaning::Nothing => {}
            Meaning::Superblock => {
                let opposite = option.strip_prefix("no").unwrap_or("sync");
                parameters.retain(|(key, _): &(String, _)| key != opposite);
            }
            Meaning::Parameter => parameters.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.clone(), None),
            }),
        }
    }
    if planned.id_map.is_some() && bind.is_none() {
        return Err(refuse(format!(
            "only bind mounts can map IDs (mount {:?})",
            mount.destination
        )));
    }
    if planned.copy_up && (bind.is_some() || mount.kind.as_deref() != Some("tmpfs")) {
        return Err(refuse(format!(
            "only a tmpfs can begin with what it covers (tmpcopyup, mount {:?})",
            mount.destination
        )));
    }
    planned.kind = match (bind, mount.kind.as_deref()) {
        _ if remount => {
            if let Some((key, _)) = parameters.first() {
                return Err(refuse(format!(
                    "mount option {key:?} cannot be changed by a remount ({:?})",
                    mount.destination
                )));
            }
            Kind::Remount
        }
        (Some(recursive), _) => {
            if let Some((key, _)) = parameters.first() {
                return Err(refuse(format!(
                    "mount option {key:?} has no meaning for a bind mount ({source:?})"
                )));
            }
            if !source.starts_with('/') {
                return Err(refuse(format!(
                    "bind source {source:?} is not an absolute path"
                )));
            }
            let source = CString::new(source)
                .map_err(|_| refuse("bind source contains a NUL".to_owned()))?;
            Kind::Bind { source, recursive }
        }
        (None, Some("cgroup" | "cgroup2")) => Kind::Cgroup,
        (None, None | Some("" | "none")) => {
            return Err(refuse(format!("mount {:?} has no type", mount.destination)));
        }
        (None, Some(filesystem)) => {
            if !PSEUDO.contains(&filesystem) && planned.set.0 & Attributes::READ_ONLY.0 != 0 {
                parameters.insert(0, ("ro".to_owned(), None));
            }
            // Docker and others write `size=65536k`; what is not a number with a unit is the
            // kernel's to refuse.
            if !source.is_empty() {
                parameters.insert(0, ("source".to_owned(), Some(source)));
            }
            Kind::New {
                filesystem: filesystem.to_owned(),
                parameters,
            }
        }
    };
    Ok(planned)
}

/// `path` without `.`, `..` and repeated slashes, as the container's root sees it; `None` if it
/// is not absolute or contains a NUL.
pub fn normalise(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mount(kind: Option<&str>, source: &str, options: &[&str]) -> Mount {
        Mount {
            destination: "/a//b/../c/.".to_owned(),
            kind: kind.map(str::to_owned),
            source: Some(source.to_owned()),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn default_mounts_are_understood() {
        for mount in wharf_oci::defaults::mounts() {
            plan(&mount).unwrap();
        }
        let planned = plan(&wharf_oci::defaults::mounts()[1]).unwrap();
        assert_eq!(
            planned.set,
            Attributes::NO_SUID.union(Attributes::STRICT_ACCESS_TIME)
        );
        let Kind::New {
            filesystem,
            parameters,
        } = planned.kind
        else {
            panic!("not a new file system")
        };
        assert_eq!(filesystem, "tmpfs");
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(
            parameters,
            [
                ("source".to_owned(), text("tmpfs")),
                ("mode".to_owned(), text("755")),
                ("size".to_owned(), text("65536k"))
            ]
        );
    }

    #[test]
    fn binds_are_understood() {
        let planned = plan(&mount(
            Some("bind"),
            "/src",
            &["rbind", "rro", "rslave", "ro", "rw"],
        ))
        .unwrap();
        assert_eq!(planned.destination, Path::new("/a/c"));
        assert_eq!(
            planned.kind,
            Kind::Bind {
                source: c"/src".to_owned(),
                recursive: true
            }
        );
        assert_eq!(planned.propagation, Some((Propagation::Slave, true)));
        assert_eq!(planned.set_recursively, Attributes::READ_ONLY);
        assert_eq!(
            (planned.set, planned.clear),
            (Attributes::default(), Attributes::READ_ONLY)
        );
        assert!(matches!(
            plan(&mount(None, "/src", &["bind"])).unwrap().kind,
            Kind::Bind {
                recursive: false,
                ..
            }
        ));
    }

    proptest! {
        #[test]
        fn any_mount_is_understood_or_refused(
            destination in "[/a.]{0,12}|.*",
            kind in proptest::option::of("bind|tmpfs|proc|cgroup|.*"),
            source in proptest::option::of("/.*|.*"),
            options in proptest::collection::vec("(r)?(ro|rw|bind|shared|private|nosuid|noatime)|size=.*|.*", 0..6),
        ) {
            let mount = Mount { destination, kind, source, options, ..Mount::default() };
            if let Ok(planned) = plan(&mount) {
                prop_assert!(planned.destination.is_absolute());
                prop_assert!(!planned.destination.components().any(|part| part == Component::ParentDir));
                prop_assert_eq!(planned.set.0 & planned.clear.0 & !Attributes::ACCESS_TIME.0, 0);
            }
        }
    }

    #[test]
    fn every_option_of_the_specification_is_understood() {
        let both = "async atime defaults dev diratime exec iversion loud noatime nodev nodiratime noexec noiversion \
                    nolazytime nomand norelatime nostrictatime nosuid nosymfollow private relatime ro rprivate rshared \
                    rslave runbindable rw shared silent slave strictatime suid symfollow unbindable";
        let binds = "bind rbind ratime rdev rdiratime relatime rexec rnoatime rnodiratime rnoexec rnorelatime \
                     rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow idmap ridmap \
                     remount";
        for option in both.split_whitespace().chain(binds.split_whitespace()) {
            plan(&mount(Some("bind"), "/src", &[option])).unwrap();
        }
        let news = "dirsync lazytime mand sync tmpcopyup";
        for option in both.split_whitespace().chain(news.split_whitespace()) {
            plan(&mount(Some("tmpfs"), "tmpfs", &[option])).unwrap();
        }
        let planned = plan(&mount(Some("bind"), "/src", &["rnoatime", "ratime"])).unwrap();
        assert_eq!(planned.set_recursively, Attributes::default());
        assert_eq!(planned.clear_recursively, Attributes::ACCESS_TIME);
        let planned = plan(&mount(Some("tmpfs"), "", &["sync", "async", "mand"])).unwrap();
        let Kind::New { parameters, .. } = planned.kind else {
            panic!("not a new file system")
        };
        assert_eq!(parameters, [("mand".to_owned(), None)]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (kind, source, options) in [
            (Some("bind"), "relative", &[][..]),
            (Some("tmpfs"), "tmpfs", &["idmap"]),
            (Some("bind"), "/src", &["size=5"]),
            (None, "/src", &["ro"]),
            (Some("bind"), "/src", &["tmpcopyup"]),
            (Some("bind"), "/src", &["sync"]),
            (Some("tmpfs"), "tmpfs", &["remount", "size=1m"]),
        ] {
            assert_eq!(
                plan(&mount(kind, source, options)).unwrap_err().stage,
                Stage::Config
            );
        }
        assert!(
            plan(&Mount {
                destination: "x".into(),
                kind: Some("tmpfs".into()),
                ..Mount::default()
            })
            .is_err()
        );
    }
}
