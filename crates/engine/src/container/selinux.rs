//! SELinux labels: which one a container's processes and files have, and putting it on the host's
//! files that are bound into it (`z`, `Z`).
//!
//! A label is `user:role:type:level`. What containers have in common comes from the host's policy
//! (`contexts/lxc_contexts`); the level's two categories are a container's own, so that one cannot
//! get at another's files. They are kept in the records and nowhere else.

use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, XattrFlags, openat, setxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use wharf_fault::{Error, Result};

/// Where the kernel shows its policy.
const FILE_SYSTEM: &str = "/sys/fs/selinux";
/// Where the host keeps its policies.
const POLICIES: &str = "/etc/selinux";

/// The attribute a file's label is in.
const ATTRIBUTE: &str = "security.selinux";

/// How many categories there are: `c0` to `c1023`.
const CATEGORIES: u16 = 1024;

/// Directories deeper than this are not labelled: nobody has them but an attacker.
const DEPTH_MAX: usize = 256;

/// Labelling one of these would take the host apart.
const NEVER_LABELLED: [&str; 22] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
    "/var/log",
];

/// A label.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    user: String,
    role: String,
    kind: String,
    /// Sensitivity and categories, `s0:c1,c2`.
    level: String,
}

impl Label {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        Some(Self {
            user: parts.next()?,
            role: parts.next()?,
            kind: parts.next()?,
            level: parts.next().unwrap_or_default(),
        })
    }

    /// What comes before the categories.
    fn sensitivity(&self) -> &str {
        self.level.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.user, self.role, self.kind)?;
        if self.level.is_empty() {
            return Ok(());
        }
        write!(formatter, ":{}", self.level)
    }
}

/// What `--security-opt label=…` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LabelOptions {
    /// No confinement.
    pub disable: bool,
    user: Option<String>,
    role: Option<String>,
    kind: Option<String>,
    file_kind: Option<String>,
    level: Option<String>,
}

impl LabelOptions {
    /// Takes one option, `type:container_t` and the like.
    pub(super) fn add(&mut self, text: &str) -> Result<()> {
        if text == "disable" {
            self.disable = true;
            return Ok(());
        }
        let place = match text.split_once(':') {
            Some(("user", value)) => (&mut self.user, value),
            Some(("role", value)) => (&mut self.role, value),
            Some(("type", value)) => (&mut self.kind, value),
            Some(("filetype", value)) => (&mut self.file_kind, value),
            Some(("level", value)) => (&mut self.level, value),
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt label={text}: it is \"disable\", or one of user, role, type, filetype and level with a colon and a value"
                )));
            }
        };
        *place.0 = Some(place.1.to_owned());
        Ok(())
    }

    /// Whether there is something that only SELinux can give.
    pub(super) fn wants_labels(&self) -> bool {
        *self
            != Self {
                disable: self.disable,
                ..Self::default()
            }
    }
}

/// A container's labels; empty ones are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

impl Labels {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The host's SELinux, as far as containers are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selinux {
    process: Label,
    file: Label,
}

impl Selinux {
    /// This host's, if it has one and its policy knows containers.
    pub(super) fn of_host() -> Option<Self> {
        Self::at(Path::new(FILE_SYSTEM), Path::new(POLICIES))
    }

    fn at(file_system: &Path, policies: &Path) -> Option<Self> {
        if !file_system.join("enforce").exists() {
            return None;
        }
        let config = std::fs::read_to_string(policies.join("config")).ok()?;
        let policy = setting(&config, "SELINUXTYPE")?;
        let contexts = policies.join(policy).join("contexts/lxc_contexts");
        let contexts = std::fs::read_to_string(contexts).ok()?;
        let label = |name| Label::parse(&setting(&contexts, name)?);
        Some(Self {
            process: label("process")?,
            file: label("file")?,
        })
    }

    /// The labels of a new container. `taken` are the labels of processes of all others;
    /// `like` is that of the container whose processes or memory it shares.
    pub(super) fn labels<'a>(
        &self,
        options: &LabelOptions,
        unconfined: bool,
        like: Option<&str>,
        taken: impl Iterator<Item = &'a str> + Clone,
    ) -> Labels {
        let (mut process, mut file) = (self.process.clone(), self.file.clone());
        if options.disable || unconfined && !options.wants_labels() {
            // Whoever is not confined makes files nobody confined has to do with.
            file.level = format!("{}:c1022,c1023", file.sensitivity());
            return Labels {
                process: String::new(),
                mount: file.to_string(),
            };
        }
        if let Some(like) = like
            .and_then(Label::parse)
            .filter(|_| !options.wants_labels())
        {
            file.level.clone_from(&like.level);
            return Labels {
                process: like.to_string(),
                mount: file.to_string(),
            };
        }
        process.level = match &options.level {
            Some(level) => level.clone(),
            None => own_level(process.sensitivity(), taken),
        };
        file.level.clone_from(&process.level);
        for (wanted, place) in [
            (&options.user, &mut process.user),
            (&options.user, &mut file.user),
            (&options.role, &mut process.role),
            (&options.kind, &mut process.kind),
            (&options.file_kind, &mut file.kind),
        ] {
            if let Some(wanted) = wanted {
                place.clone_from(wanted);
            }
        }
        Labels {
            process: process.to_string(),
            mount: file.to_string(),
        }
    }
}

/// `name = "value"` or `name=value` of a text of settings.
fn setting(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split('#').next()?.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A level with two categories that no label in `taken` has.
fn own_level<'a>(sensitivity: &str, taken: impl Iterator<Item = &'a str> + Clone) -> String {
    loop {
        let random = wharf_ids::hex_id();
        let number =
            |digits: &str| u16::from_str_radix(digits, 16).unwrap_or_default() % CATEGORIES;
        let (one, two) = (number(&random[0..4]), number(&random[4..8]));
        if one == two {
            continue;
        }
        let level = format!("{sensitivity}:c{},c{}", one.min(two), one.max(two));
        let ours = |label: &str| Label::parse(label).is_some_and(|label| label.level == level);
        if !taken.clone().any(ours) {
            return level;
        }
    }
}

/// Whether a mount's mode asks for labels, and if so whether others share them.
pub(super) fn sharing(mode: &str) -> Option<bool> {
    mode.split(',').find_map(|word| match word {
        "z" => Some(true),
        "Z" => Some(false),
        _ => None,
    })
}

/// Gives everything at and below `path` the label of a container's files, with its categories or,
/// `shared`, without.
pub(super) fn relabel(path: &Path, mount_label: &str, shared: bool) -> Result<()> {
    let failed =
        |why: String| Error::system(format!("SELinux relabeling of {}: {why}", path.display()));
    let mut label =
        Label::parse(mount_label).ok_or_else(|| failed(format!("{mount_label:?} is no label")))?;
    if shared {
        label.level = label.sensitivity().to_owned();
    }
    let real = std::fs::canonicalize(path).map_err(|error| failed(error.to_string()))?;
    let is_real = |never: &&str| std::fs::canonicalize(never).is_ok_and(|never| never == real);
    if NEVER_LABELLED.iter().any(is_real) {
        return Err(Error::invalid(format!(
            "SELinux relabeling of {} is not allowed",
            real.display()
        )));
    }
    let top = open(CWD, real.as_os_str().as_encoded_bytes())
        .map_err(|errno| failed(errno.to_string()))?;
    match label_tree(top, label.to_string().as_bytes(), 0) {
        // A file system without labels has those it is mounted with.
        Ok(()) | Err(Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(failed(errno.to_string())),
    }
}

fn open(directory: BorrowedFd<'_>, name: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Through descriptors, links not followed: the tree may be somebody's who exchanges its parts.
fn label_tree(entry: OwnedFd, label: &[u8], depth: usize) -> std::result::Result<(), Errno> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", entry.as_raw_fd()));
    setxattr(&path, ATTRIBUTE, label, XattrFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(&entry, c".", flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    drop(entry);
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for child in Dir::read_from(&directory)? {
        let name = child?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match open(directory.as_fd(), name.to_bytes()) {
            Ok(child) => label_tree(child, label, depth + 1)?,
            // Gone meanwhile.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host() -> (tempfile::TempDir, Option<Selinux>) {
        let top = tempfile::tempdir().unwrap();
        let (kernel, policies) = (top.path().join("kernel"), top.path().join("policies"));
        fs::create_dir_all(policies.join("targeted/contexts")).unwrap();
        fs::create_dir(&kernel).unwrap();
        fs::write(kernel.join("enforce"), "1").unwrap();
        fs::write(
            policies.join("config"),
            "# policy\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
        )
        .unwrap();
        let contexts = "process = \"system_u:system_r:container_t:s0\"\n\
                        content = \"system_u:object_r:virt_var_lib_t:s0\"\n\
                        file = \"system_u:object_r:container_file_t:s0\"\n";
        fs::write(policies.join("targeted/contexts/lxc_contexts"), contexts).unwrap();
        let found = Selinux::at(&kernel, &policies);
        (top, found)
    }

    fn options(list: &[&str]) -> LabelOptions {
        let mut options = LabelOptions::default();
        for text in list {
            options.add(text).unwrap();
        }
        options
    }

    fn none() -> std::iter::Empty<&'static str> {
        std::iter::empty()
    }

    #[test]
    fn hosts_without_it_have_none() {
        let (top, found) = host();
        assert!(found.is_some());
        let at = |kernel: &str, policies: &str| {
            Selinux::at(&top.path().join(kernel), &top.path().join(policies))
        };
        assert_eq!(at("none", "policies"), None);
        assert_eq!(at("kernel", "none"), None);
    }

    #[test]
    fn each_container_has_categories_of_its_own() {
        let selinux = host().1.unwrap();
        let mut all: Vec<String> = Vec::new();
        for _ in 0..200 {
            let taken = all.iter().map(String::as_str);
            let labels = selinux.labels(&LabelOptions::default(), false, None, taken);
            let level = labels
                .process
                .strip_prefix("system_u:system_r:container_t:")
                .unwrap();
            assert!(level.starts_with("s0:c"), "{level}");
            assert_eq!(
                labels.mount,
                format!("system_u:object_r:container_file_t:{level}")
            );
            let (one, two) = level["s0:c".len()..].split_once(",c").unwrap();
            let (one, two): (u16, u16) = (one.parse().unwrap(), two.parse().unwrap());
            assert!(one < two && two < CATEGORIES, "{level}");
            assert!(!all.contains(&labels.process));
            all.push(labels.process);
        }
    }

    #[test]
    fn options_are_dockers() {
        let selinux = host().1.unwrap();
        let asked = options(&["user:u", "role:r", "type:t", "filetype:f", "level:s0:c5,c7"]);
        assert_eq!(
            selinux.labels(&asked, false, None, none()),
            Labels {
                process: "u:r:t:s0:c5,c7".into(),
                mount: "u:object_r:f:s0:c5,c7".into()
            }
        );
        let open = Labels {
            process: String::new(),
            mount: "system_u:object_r:container_file_t:s0:c1022,c1023".into(),
        };
        assert_eq!(
            selinux.labels(&options(&["disable"]), false, None, none()),
            open
        );
        assert_eq!(selinux.labels(&options(&[]), true, None, none()), open);
        assert!(
            !selinux
                .labels(&asked, true, None, none())
                .process
                .is_empty()
        );
        let like = "system_u:system_r:container_t:s0:c1,c2";
        let shared = selinux.labels(&options(&[]), false, Some(like), none());
        assert_eq!(shared.process, like);
        assert!(shared.mount.ends_with("container_file_t:s0:c1,c2"));
        for wrong in ["nothing", "colour:red", ""] {
            assert!(LabelOptions::default().add(wrong).is_err(), "{wrong}");
        }
    }

    /// The attribute can be set on any kernel; only what it means is another's.
    #[test]
    fn files_get_labels() {
        let top = tempfile::tempdir().unwrap();
        let (tree, outside) = (top.path().join("tree"), top.path().join("outside"));
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), "").unwrap();
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("sub/link")).unwrap();
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        if setxattr(&outside, ATTRIBUTE, b"x:y:z", XattrFlags::empty()).is_err() {
            return wharf_tests::skip("files_get_labels", "labels cannot be set here");
        }
        let of = |path: &Path| {
            let mut text = [0; 256];
            let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut text[..]).unwrap();
            String::from_utf8(text[..length].to_vec()).unwrap()
        };
        relabel(&tree, label, false).unwrap();
        for path in ["", "sub", "sub/file", "sub/link"] {
            assert_eq!(of(&tree.join(path)), label, "{path}");
        }
        assert_eq!(of(&outside), "x:y:z");
        relabel(&tree.join("sub/file"), label, true).unwrap();
        assert_eq!(
            of(&tree.join("sub/file")),
            "system_u:object_r:container_file_t:s0"
        );
        for never in ["/", "/usr", "/etc/", "/var/../etc"] {
            let error = relabel(Path::new(never), label, true).unwrap_err();
            assert!(error.to_string().contains("is not allowed"), "{error}");
        }
    }

    #[test]
    fn modes_say_whether_labels_are_shared() {
        assert_eq!(sharing("ro,z"), Some(true));
        assert_eq!(sharing("Z"), Some(false));
        assert_eq!(sharing("ro"), None);
        assert_eq!(sharing(""), None);
    }
}
