//! Facts about the host.

use std::path::Path;

/// `uname -r`.
pub(super) fn kernel_version() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// `uname -m`.
pub(super) fn machine() -> String {
    rustix::system::uname()
        .machine()
        .to_string_lossy()
        .into_owned()
}

/// Host name.
pub(super) fn name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The processor in Go's words.
pub(super) fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Name and version of the distribution.
pub(super) fn distribution() -> (String, String) {
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default();
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let name = value("PRETTY_NAME")
        .or_else(|| value("NAME"))
        .unwrap_or_else(|| "Linux".to_owned());
    (name, value("VERSION_ID").unwrap_or_default())
}

/// Processors this process may use.
pub(super) fn cpu_count() -> i64 {
    std::thread::available_parallelism()
        .map_or(1, |count| i64::try_from(count.get()).unwrap_or(i64::MAX))
}

/// Bytes of memory.
pub(super) fn memory_total() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<i64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

/// Whether a file of `/proc/sys` says 1.
pub(super) fn sysctl_is_on(path: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc/sys").join(path)).is_ok_and(|text| text.trim() == "1")
}

/// Entries of a directory of this process in `/proc`.
pub(super) fn count_own(folder: &str) -> i64 {
    std::fs::read_dir(Path::new("/proc/self").join(folder)).map_or(0, |entries| {
        i64::try_from(entries.count()).unwrap_or(i64::MAX)
    })
}

/// What the kernel's control groups offer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cgroups {
    /// `1` or `2`.
    pub(super) version: &'static str,
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) cpu: bool,
    pub(super) cpuset: bool,
    pub(super) pids: bool,
}

/// What an ordinary user was given of it: the controllers of the cgroup `parent`, or nothing.
pub(super) fn delegated(parent: Option<&str>) -> Cgroups {
    let root = Path::new("/sys/fs/cgroup");
    let version = cgroups().version;
    let controllers = parent
        .map(|parent| {
            root.join(parent.trim_start_matches('/'))
                .join("cgroup.controllers")
        })
        .and_then(|file| std::fs::read_to_string(file).ok())
        .unwrap_or_default();
    let has = |name: &str| {
        controllers
            .split_whitespace()
            .any(|controller| controller == name)
    };
    Cgroups {
        version,
        memory: has("memory"),
        swap: has("memory") && Path::new("/proc/swaps").exists(),
        cpu: has("cpu"),
        cpuset: has("cpuset"),
        pids: has("pids"),
    }
}

/// What a warning says about the controllers that the system does not give to the user whose
/// cgroup `parent` is, and how it would.
pub(super) fn kept_back(parent: &str) -> Option<String> {
    const WORTH_HAVING: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
    let file = format!("/sys/fs/cgroup{parent}/cgroup.controllers");
    let given = std::fs::read_to_string(file).unwrap_or_default();
    let missing: Vec<&str> = WORTH_HAVING
        .into_iter()
        .filter(|name| !given.split_whitespace().any(|given| given == *name))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "WARNING: systemd keeps these cgroup controllers from ordinary users: {}. Root gives them, from the next \
             boot on, with: mkdir -p /etc/systemd/system/user@.service.d && \
             printf '[Service]\\nDelegate={}\\n' > /etc/systemd/system/user@.service.d/delegate.conf",
            missing.join(" "),
            WORTH_HAVING.join(" ")
        )
    })
}

/// Looks at `/sys/fs/cgroup`.
pub(super) fn cgroups() -> Cgroups {
    let root = Path::new("/sys/fs/cgroup");
    if let Ok(controllers) = std::fs::read_to_string(root.join("cgroup.controllers")) {
        let has = |name: &str| {
            controllers
                .split_whitespace()
                .any(|controller| controller == name)
        };
        return Cgroups {
            version: "2",
            memory: has("memory"),
            swap: has("memory") && Path::new("/proc/swaps").exists(),
            cpu: has("cpu"),
            cpuset: has("cpuset"),
            pids: has("pids"),
        };
    }
    let has = |path: &str| root.join(path).exists();
    Cgroups {
        version: "1",
        memory: has("memory/memory.limit_in_bytes"),
        swap: has("memory/memory.memsw.limit_in_bytes"),
        cpu: has("cpu/cpu.cfs_quota_us") || has("cpu,cpuacct/cpu.cfs_quota_us"),
        cpuset: has("cpuset/cpuset.cpus"),
        pids: has("pids"),
    }
}
