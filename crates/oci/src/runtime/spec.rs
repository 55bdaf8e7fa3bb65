//! `config.json`: the parts that are not specific to Linux.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{IdMapping, Linux, SchedulerPolicy, is_false};

/// The whole of `config.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification the document follows.
    pub oci_version: String,
    /// The user's program and how it is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Host name set in the container's UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name set in the container's UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts in the order they are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the life cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free-form metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything specific to Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The user's program.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether the program's standard streams are a pseudo-terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// Size of that terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Numeric identity.
    pub user: User,
    /// The program and its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `NAME=value` strings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// Capability sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits (`setrlimit(2)`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// AppArmor profile entered at exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// Written to `/proc/self/oom_score_adj`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy (`sched_setattr(2)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// SELinux label entered at exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// I/O priority (`ioprio_set(2)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// Processor affinity of an exec'd process.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

/// Numeric identity of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User ID in the container.
    pub uid: u32,
    /// Group ID in the container.
    pub gid: u32,
    /// File mode creation mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Only meaningful on Windows; kept for round trips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// Capability sets by name (`CAP_CHOWN`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The bounding set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// The effective set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// The inheritable set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// The permitted set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// The ambient set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ceiling of the soft limit.
    pub hard: u64,
    /// The limit in force.
    pub soft: u64,
}

/// Scheduling policy and attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// Nice value for `SCHED_OTHER` and `SCHED_BATCH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Static priority for `SCHED_FIFO` and `SCHED_RR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// `SCHED_FLAG_*` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// `SCHED_DEADLINE` runtime in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    /// `SCHED_DEADLINE` deadline in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// `SCHED_DEADLINE` period in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

/// I/O scheduling class and priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `_BE` or `_IDLE`.
    pub class: String,
    /// 0 (highest) to 7.
    #[serde(default)]
    pub priority: i32,
}

/// Processors an exec'd process may use, as `0-3,7` lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// Before the process joins the container's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// After it joined.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Directory on the host, absolute or relative to the bundle.
    pub path: PathBuf,
    /// Whether the root is mounted read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// File system type; absent or `none` for binds.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Device, path or dummy name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options in `mount(8)`'s words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User ID mapping of an idmapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ID mapping of an idmapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// Programs run at points of the life cycle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Deprecated: after the namespaces exist, in the runtime's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// After the namespaces exist, in the runtime's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// Before `pivot_root`, in the container's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Before the user's program, in the container's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// After the user's program was started, in the runtime's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// After the container was deleted, in the runtime's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether there is no hook of any kind.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One hook program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments, the first being its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{NamespaceKind, SeccompAction, SeccompOp};

    const DOCUMENT: &str = r#"{
        "ociVersion": "1.3.0",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [5, 6]},
            "args": ["sh"], "env": ["A=b"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 1024, "soft": 1024}],
            "apparmorProfile": "p", "noNewPrivileges": true, "oomScoreAdj": 100,
            "scheduler": {"policy": "SCHED_BATCH", "nice": 3},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "execCPUAffinity": {"initial": "0", "final": "1-2"}
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h", "domainname": "d",
        "mounts": [{"destination": "/p", "type": "proc", "source": "proc", "options": ["ro"]}],
        "hooks": {"createRuntime": [{"path": "/bin/x", "args": ["x"], "timeout": 5}]},
        "annotations": {"a": "b"},
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "devices": [{"path": "/dev/f", "type": "c", "major": 10, "minor": 229, "fileMode": 438}],
            "cgroupsPath": "/c", "rootfsPropagation": "slave", "sysctl": {"net.core.somaxconn": "1"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 5, "disableOOMKiller": true, "kernelTCP": 7},
                "cpu": {"shares": 2, "realtimeRuntime": 3}, "pids": {"limit": 9},
                "blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 6}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 2}]},
                "rdma": {"mlx": {"hcaHandles": 3}}, "unified": {"io.max": "x"}
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_KILL_PROCESS", "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2,
                    "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}]
            },
            "intelRdt": {"closID": "c"}, "timeOffsets": {"boottime": {"secs": -1, "nanosecs": 2}},
            "maskedPaths": ["/m"], "readonlyPaths": ["/r"], "personality": {"domain": "LINUX32"},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}
        }
    }"#;

    #[test]
    fn every_field_is_read_and_written_again() {
        let spec: Spec = serde_json::from_str(DOCUMENT).unwrap();
        let linux = spec.linux.as_ref().unwrap();
        assert_eq!(linux.namespaces[1].kind, NamespaceKind::Network);
        let resources = linux.resources.as_ref().unwrap();
        assert_eq!(
            resources.memory.as_ref().unwrap().disable_oom_killer,
            Some(true)
        );
        let seccomp = linux.seccomp.as_ref().unwrap();
        assert_eq!(seccomp.default_action, SeccompAction::KillProcess);
        assert_eq!(seccomp.syscalls[0].args[0].op, SeccompOp::MaskedEqual);
        let (read, written): (serde_json::Value, _) = (
            serde_json::from_str(DOCUMENT).unwrap(),
            serde_json::to_value(&spec).unwrap(),
        );
        assert_eq!(written, read);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let spec: Spec =
            serde_json::from_str(r#"{"ociVersion": "9.9", "later": {"x": 1}}"#).unwrap();
        assert_eq!(spec.oci_version, "9.9");
    }
}
