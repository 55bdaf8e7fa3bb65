//! A place of its own for each program of the suite: namespaces, a scratch folder, and a cgroup that looks
//! like the top of all cgroups, because the suite's cgroups have fixed names. All of it is removed again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::verdict::Output;

const MOUNT: &str = "/sys/fs/cgroup";

/// How long one program may take, in seconds; the slowest needs half a minute where nothing is emulated.
const SECONDS_MAX: &str = "240";

/// Which cgroups there are.
#[derive(Debug)]
pub(super) enum System {
    /// The names of the hierarchies' mount points, the unified one's among them where there is one.
    Split(Vec<String>),
    Unified,
}

impl System {
    pub(super) fn find() -> Result<Self, String> {
        let mounts = wharf_tests::host::cgroup_hierarchies();
        if mounts.iter().any(|mount| mount == Path::new(MOUNT)) {
            return Ok(Self::Unified);
        }
        let names: Vec<String> = mounts
            .iter()
            .filter_map(|mount| Some(mount.strip_prefix(MOUNT).ok()?.to_str()?.to_owned()))
            .collect();
        if names.is_empty() {
            return Err("there are no cgroups".to_owned());
        }
        Ok(Self::Split(names))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Split(_) => "v1",
            Self::Unified => "v2",
        }
    }

    fn tops(&self) -> Vec<PathBuf> {
        match self {
            Self::Split(names) => names
                .iter()
                .map(|name| Path::new(MOUNT).join(name))
                .collect(),
            Self::Unified => vec![PathBuf::from(MOUNT)],
        }
    }
}

/// What is removed at the end, however that comes.
struct Place {
    cgroups: Vec<PathBuf>,
    scratch: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            remove_cgroup(cgroup);
        }
        drop(std::fs::remove_dir_all(&self.scratch));
    }
}

/// Its processes ended with their PID namespace; the kernel may need a moment to notice.
fn remove_cgroup(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    for _ in 0..100 {
        match std::fs::remove_dir(cgroup) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ => break,
        }
    }
}

/// Enters the cgroups whose `cgroup.procs` files are given, makes them the top, and steps aside where a
/// cgroup with children must have no processes of its own.
const ENTER: &str = "for file in $CGROUPS; do echo 0 >$file || exit 125; done; \
    exec unshare --cgroup sh -c 'if [ -n \"$ASIDE\" ]; then echo 0 >$ASIDE || exit 125; fi; \
    exec timeout --kill-after 5 $SECONDS_MAX unshare --mount --pid --fork --kill-child=KILL --mount-proc --ipc --uts --net sh -c \"$INSIDE\"'";

/// In the namespaces: the file systems, two network interfaces, and the program. The kernel does not mount a
/// file system over itself, so the unified hierarchy is taken away before it is mounted from the new top.
const INSIDE: &str = "set -e; mount -t tmpfs tmpfs /run; \
    if [ -n \"$ASIDE\" ]; then umount --lazy /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; else \
      mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup; \
      for name in $HIERARCHIES; do mkdir /sys/fs/cgroup/$name; case $name in \
        unified) [ -n \"$HIDES_UNIFIED\" ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup/$name;; \
        systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/$name;; \
        *) mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name;; esac; done; fi; \
    ip link set lo up; ip link add eth0 type veth peer name eth1 || true; \
    cd \"$SUITE\"; exec ./$PROGRAM";

/// Runs one program of the suite with one runtime.
///
/// Debian's crun refuses to work where v1 hierarchies are in use and the unified one has a controller,
/// so it does not get to see that one.
pub(super) fn run(
    system: &System,
    suite: &Path,
    program: &str,
    runtime: &Path,
    hides_unified: bool,
) -> Output {
    let outcome = prepare(system).and_then(|place| {
        let lines = |files: Vec<PathBuf>| {
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let inside = |name: &str| {
            place
                .cgroups
                .iter()
                .map(|cgroup| cgroup.join(name))
                .collect::<Vec<_>>()
        };
        let (hierarchies, aside) = match system {
            System::Split(names) => (names.join(" "), String::new()),
            System::Unified => (String::new(), lines(inside("aside/cgroup.procs"))),
        };
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "sh", "-c", ENTER])
            .env("CGROUPS", lines(inside("cgroup.procs")))
            .env("ASIDE", aside)
            .env("HIERARCHIES", hierarchies)
            .env("HIDES_UNIFIED", if hides_unified { "yes" } else { "" })
            .env("SECONDS_MAX", SECONDS_MAX)
            .env("INSIDE", INSIDE)
            .env("SUITE", suite)
            .env("PROGRAM", program)
            .env("RUNTIME", runtime)
            .env("TMPDIR", &place.scratch)
            .stdin(Stdio::null());
        let file = std::fs::File::create(place.scratch.join("output"))?;
        // A file and not a pipe: a container that outlives the program would hold a pipe open.
        let status = command.stdout(file.try_clone()?).stderr(file).status()?;
        let text = std::fs::read(place.scratch.join("output"))?;
        Ok(Output {
            text: String::from_utf8_lossy(&text).into_owned(),
            status: status.code(),
        })
    });
    outcome.unwrap_or_else(|error| Output {
        text: format!("the program could not be run: {error}"),
        status: None,
    })
}

fn prepare(system: &System) -> std::io::Result<Place> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "wharf-conformance-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let scratch = Path::new("/var/tmp").join(&name);
    std::fs::create_dir_all(&scratch)?;
    let place = Place {
        cgroups: system.tops().iter().map(|top| top.join(&name)).collect(),
        scratch,
    };
    for cgroup in &place.cgroups {
        let parent = cgroup.parent().unwrap_or(cgroup);
        if matches!(system, System::Unified) {
            for controller in
                std::fs::read_to_string(parent.join("cgroup.controllers"))?.split_whitespace()
            {
                std::fs::write(
                    parent.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                )?;
            }
            std::fs::create_dir_all(cgroup.join("aside"))?;
            continue;
        }
        std::fs::create_dir_all(cgroup)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if cgroup.join(file).exists() {
                std::fs::write(
                    cgroup.join(file),
                    std::fs::read_to_string(parent.join(file))?,
                )?;
            }
        }
    }
    Ok(place)
}
