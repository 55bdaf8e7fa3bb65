//! The table of flags `run` and `create` share, and the checks of values only they have.

use std::path::Path;

use super::resources::nano_cpus;
use crate::command::Flag;
use crate::parse::{blkio, env, mount, names, network, size, ulimit};

/// Flags of both commands.
pub(in crate::container) const SHARED: &[Flag] = &[
    Flag::list("add-host", "Add a custom host-to-IP mapping (host:ip)").check(names::check_extra_host),
    Flag::map("annotation", "Add an annotation to the container (passed through to the OCI runtime)").default("map[]"),
    Flag::list("attach", "Attach to STDIN, STDOUT or STDERR").short('a').check(names::check_attach),
    Flag::uint16("blkio-weight", "Block IO (relative weight), between 10 and 1000, or 0 to disable").default("0"),
    Flag::list("blkio-weight-device", "Block IO weight (relative device weight)").default("[]").check(blkio::check_weight),
    Flag::list("cap-add", "Add Linux capabilities"),
    Flag::list("cap-drop", "Drop Linux capabilities"),
    Flag::string("cgroup-parent", "Optional parent cgroup for the container"),
    Flag::string("cgroupns", "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)"),
    Flag::string("cidfile", "Write the container ID to the file"),
    Flag::int("cpu-count", "CPU count (Windows only)"),
    Flag::int("cpu-percent", "CPU percent (Windows only)"),
    Flag::int("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag::int("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag::int("cpu-rt-period", "Limit CPU real-time period in microseconds"),
    Flag::int("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::custom("cpus", "decimal", "Number of CPUs").check(check_cpus),
    Flag::string("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::string("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::list("device", "Add a host device to the container"),
    Flag::list("device-cgroup-rule", "Add a rule to the cgroup allowed devices list").check(check_device_rule),
    Flag::list("device-read-bps", "Limit read rate (bytes per second) from a device").default("[]").check(blkio::check_bytes),
    Flag::list("device-read-iops", "Limit read rate (IO per second) from a device").default("[]").check(blkio::check_operations),
    Flag::list("device-write-bps", "Limit write rate (bytes per second) to a device").default("[]").check(blkio::check_bytes),
    Flag::list("device-write-iops", "Limit write rate (IO per second) to a device").default("[]").check(blkio::check_operations),
    Flag::bool("disable-content-trust", "Skip image verification").default("true"),
    Flag::list("dns", "Set custom DNS servers").check(names::check_ip),
    Flag::list("dns-option", "Set DNS options"),
    Flag::list("dns-search", "Set custom DNS search domains").check(names::check_dns_search),
    Flag::string("domainname", "Container NIS domain name"),
    Flag::string("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    Flag::list("env", "Set environment variables").short('e').check(env::check),
    Flag::list("env-file", "Read in a file of environment variables"),
    Flag::list("expose", "Expose a port or a range of ports"),
    Flag::list("gidmap", "Groups of the container's user namespace, CONTAINER_ID:HOST_ID:SIZE"),
    Flag::custom("gpus", "gpu-request", "GPU devices to add to the container ('all' to pass all GPUs)"),
    Flag::list("group-add", "Add additional groups to join"),
    Flag::string("health-cmd", "Command to run to check health"),
    Flag::duration("health-interval", "Time between running the check (ms|s|m|h)").default("0s"),
    Flag::int("health-retries", "Consecutive failures needed to report unhealthy"),
    Flag::duration("health-start-interval", "Time between running the check during the start period (ms|s|m|h)").default("0s"),
    Flag::duration("health-start-period", "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)").default("0s"),
    Flag::duration("health-timeout", "Maximum time to allow one check to run (ms|s|m|h)").default("0s"),
    Flag::bool("help", "Print usage"),
    Flag::string("hostname", "Container host name").short('h'),
    Flag::bool("init", "Run an init inside the container that forwards signals and reaps processes"),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::bytes("io-maxbandwidth", "Maximum IO bandwidth limit for the system drive (Windows only)"),
    Flag::uint("io-maxiops", "Maximum IOps limit for the system drive (Windows only)"),
    Flag::string("ip", "IPv4 address (e.g., 172.30.100.104)"),
    Flag::string("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    Flag::string("ipc", "IPC mode to use"),
    Flag::string("isolation", "Container isolation technology"),
    Flag::bytes("kernel-memory", "Kernel memory limit"),
    Flag::list("label", "Set meta data on a container").short('l').check(names::check_label),
    Flag::list("label-file", "Read in a line delimited file of labels"),
    Flag::list("link", "Add link to another container").check(names::check_link),
    Flag::list("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    Flag::string("log-driver", "Logging driver for the container"),
    Flag::list("log-opt", "Log driver options"),
    Flag::string("mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag::bytes("memory", "Memory limit").short('m'),
    Flag::bytes("memory-reservation", "Memory soft limit"),
    Flag::custom("memory-swap", "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap").check(check_swap),
    Flag::int("memory-swappiness", "Tune container memory swappiness (0 to 100)").default("-1"),
    Flag::many("mount", "mount", "Attach a filesystem mount to the container").check(check_mount),
    Flag::string("name", "Assign a name to the container"),
    Flag::many("network", "network", "Connect a container to a network").check(network::check),
    Flag::list("network-alias", "Add network-scoped alias for the container"),
    Flag::bool("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    Flag::bool("oom-kill-disable", "Disable OOM Killer"),
    Flag::int("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag::string("pid", "PID namespace to use"),
    Flag::int("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    Flag::string("platform", "Set platform if server is multi-platform capable"),
    Flag::bool("privileged", "Give extended privileges to this container"),
    Flag::list("publish", "Publish a container's port(s) to the host").short('p'),
    Flag::bool("publish-all", "Publish all exposed ports to random ports").short('P'),
    Flag::bool("quiet", "Suppress the pull output").short('q'),
    Flag::bool("read-only", "Mount the container's root filesystem as read only"),
    Flag::string("restart", "Restart policy to apply when a container exits").default("no"),
    Flag::bool("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag::string("runtime", "Runtime to use for this container"),
    Flag::list("security-opt", "Security Options"),
    Flag::bytes("shm-size", "Size of /dev/shm"),
    Flag::string("stop-signal", "Signal to stop the container"),
    Flag::int("stop-timeout", "Timeout (in seconds) to stop a container"),
    Flag::list("storage-opt", "Storage driver options for the container"),
    Flag::string("subgidname", "Use this user's entries of /etc/subgid for the container's groups"),
    Flag::string("subuidname", "Use this user's entries of /etc/subuid for the container's users"),
    Flag::map("sysctl", "Sysctl options").default("map[]").check(names::check_sysctl),
    Flag::list("tmpfs", "Mount a tmpfs directory"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::list("uidmap", "Users of the container's user namespace, CONTAINER_ID:HOST_ID:SIZE"),
    Flag::many("ulimit", "ulimit", "Ulimit options").default("[]").check(ulimit::check),
    Flag::bool("use-api-socket", "Bind mount Docker API socket and required auth"),
    Flag::string("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    Flag::string("userns", "User namespace to use\n'host': the Docker host's\n'auto[:...]': ids nobody else has\n'keep-id[:...]': the same, with\nyou as yourself or uid=N,gid=N\n'private:...': the ids given\n'container:X': that container's\n'': the daemon's userns-remap\nOptions: size=N,\nuidmapping=CONTAINER:HOST:SIZE,\ngidmapping=CONTAINER:HOST:SIZE,\nsubuidname=NAME,subgidname=NAME"),
    Flag::string("uts", "UTS namespace to use"),
    Flag::list("volume", "Bind mount a volume").short('v'),
    Flag::string("volume-driver", "Optional volume driver for the container"),
    Flag::list("volumes-from", "Mount volumes from the specified container(s)"),
    Flag::string("workdir", "Working directory inside the container").short('w'),
    // Older spellings.
    Flag::many("net", "network", "Connect a container to a network").check(network::check).hidden(),
    Flag::list("net-alias", "Add network-scoped alias for the container").hidden(),
    Flag::list("dns-opt", "Set DNS options").hidden(),
];

/// Puts two tables together.
pub(in crate::container) const fn join<const N: usize>(a: &[Flag], b: &[Flag]) -> [Flag; N] {
    assert!(a.len() + b.len() == N, "the tables fill the result");
    let mut out = [a[0]; N];
    let mut at = 0;
    while at < N {
        out[at] = if at < a.len() { a[at] } else { b[at - a.len()] };
        at += 1;
    }
    out
}

/// A check of `--cpus`.
pub(in crate::container) fn check_cpus(text: &str) -> Result<(), String> {
    nano_cpus(text).map(drop)
}

/// A check of `--memory-swap`.
pub(in crate::container) fn check_swap(text: &str) -> Result<(), String> {
    size::parse_swap(text).map(drop)
}

/// A check of `--mount`; the directory is irrelevant for whether it is well formed.
pub(in crate::container) fn check_mount(text: &str) -> Result<(), String> {
    mount::parse(text, Path::new("/")).map(drop)
}

/// A check of `--device-cgroup-rule`: `c 1:3 rwm`.
pub(in crate::container) fn check_device_rule(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(' ').collect();
    let number =
        |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let good = matches!(parts.as_slice(), [kind, node, mode]
        if matches!(*kind, "a" | "b" | "c")
            && node.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
            && (1..=3).contains(&mode.len()) && mode.chars().all(|c| "rwm".contains(c)));
    if good {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}
