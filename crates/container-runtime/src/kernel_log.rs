//! What the kernel's log says about processes it ended: for want of memory, or because of a
//! system call. It may be unreadable (its reader needs CAP_SYSLOG) and forgets: what is not found
//! there is not known.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The longest record (`PRINTK_MESSAGE_MAX` and its prefix).
const RECORD_MAX: usize = 8192;

/// Records looked at; more than any log of usual size holds.
const RECORDS_MAX: usize = 100_000;

/// The kernel killed a process for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// The process id, in the first PID namespace.
    pub pid: i32,
    /// The process's name.
    pub name: String,
    /// Whose memory had run out.
    pub shortage: Shortage,
    /// Bytes of its own memory.
    pub rss: Option<u64>,
}

/// Whose memory had run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortage {
    /// The whole machine's.
    Machine,
    /// That of the cgroup with this path.
    Cgroup(String),
}

/// The kernel ended a process for a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForbiddenCall {
    /// The process id, in the first PID namespace.
    pub pid: i32,
    /// The call's number.
    pub number: u32,
    /// The architecture (`AUDIT_ARCH_…`).
    pub arch: u32,
}

/// Processes of the cgroup `path` and its children that were killed for want of memory, oldest
/// first. Empty if the log cannot be read.
pub fn oom_kills(path: &str) -> Vec<OomKill> {
    let mut kills: Vec<OomKill> = Vec::new();
    read(|message| {
        if let Some(kill) = parse_oom(message, path) {
            kills.push(kill);
        } else if let Some((pid, rss)) = parse_killed(message)
            && let Some(kill) = kills.iter_mut().rev().find(|kill| kill.pid == pid)
        {
            kill.rss = Some(rss);
        }
    });
    kills
}

/// The last system call for which the process was ended.
pub fn forbidden_call(pid: i32) -> Option<ForbiddenCall> {
    let mut found = None;
    read(|message| {
        if let Some(call) = parse_forbidden(message).filter(|call| call.pid == pid) {
            found = Some(call);
        }
    });
    found
}

/// Passes every record's message to `each`.
fn read(mut each: impl FnMut(&str)) {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(log) = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()) else {
        return;
    };
    let mut record = vec![0; RECORD_MAX];
    for _ in 0..RECORDS_MAX {
        match rustix::io::read(&log, record.as_mut_slice()) {
            Ok(0) => return,
            Ok(count) => {
                // `priority,number,time,flags;message`
                let text = String::from_utf8_lossy(&record[..count]);
                if let Some((_, message)) = text.split_once(';') {
                    each(message.lines().next().unwrap_or_default());
                }
            }
            // Overwritten while we read: goes on with the oldest there is.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// `oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/a,task_memcg=/a/b,task=dd,pid=7,uid=0`, or
/// `…,global_oom,task_memcg=…`.
fn parse_oom(message: &str, path: &str) -> Option<OomKill> {
    let fields = message.strip_prefix("oom-kill:")?;
    // Names may have commas in them; everything after the last of ours does not.
    let (fields, rest) = fields.split_once(",task_memcg=")?;
    let (rest, _uid) = rest.rsplit_once(",uid=")?;
    let (rest, pid) = rest.rsplit_once(",pid=")?;
    let (task_cgroup, name) = rest.split_once(",task=")?;
    if !is_within(task_cgroup, path) {
        return None;
    }
    let shortage = match fields.split_once(",oom_memcg=") {
        Some((_, cgroup)) => Shortage::Cgroup(cgroup.to_owned()),
        None => Shortage::Machine,
    };
    Some(OomKill {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        shortage,
        rss: None,
    })
}

/// Whether a cgroup the log names is `path` or below it. The log counts from the first cgroup
/// namespace's root, `path` from ours.
pub(crate) fn is_within(logged: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    match logged.find(path) {
        Some(at) if path.len() > 1 => {
            let rest = &logged[at + path.len()..];
            rest.is_empty() || rest.starts_with('/')
        }
        _ => false,
    }
}

/// `Memory cgroup out of memory: Killed process 7 (dd) total-vm:1kB, anon-rss:2kB, file-rss:3kB,
/// shmem-rss:4kB, …`: the process and its resident bytes.
fn parse_killed(message: &str) -> Option<(i32, u64)> {
    let (_, rest) = message.split_once("Killed process ")?;
    let pid = rest.split_once(' ')?.0.parse().ok()?;
    let rss: Option<u64> = ["anon-rss:", "file-rss:", "shmem-rss:"]
        .into_iter()
        .map(|key| {
            let (_, value) = rest.rsplit_once(key)?;
            value.split_once("kB")?.0.parse::<u64>().ok()
        })
        .sum();
    Some((pid, rss?.checked_mul(1024)?))
}

/// `audit: type=1326 audit(…): … pid=7 comm="x" exe="y" sig=31 arch=c000003e syscall=1 …`
fn parse_forbidden(message: &str) -> Option<ForbiddenCall> {
    let (_, rest) = message.split_once("type=1326 ")?;
    let (rest, call) = rest.rsplit_once(" sig=31 arch=")?;
    let (arch, call) = call.split_once(" syscall=")?;
    let (_, pid) = rest.split_once(" pid=")?;
    Some(ForbiddenCall {
        pid: pid.split(' ').next()?.parse().ok()?,
        number: call.split(' ').next()?.parse().ok()?,
        arch: u32::from_str_radix(arch, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_for_memory_are_read() {
        let line = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/wharf/abc,task_memcg=/wharf/abc/inner,task=d,d=,pid=17,uid=0";
        let kill = parse_oom(line, "/wharf/abc").unwrap();
        assert_eq!((kill.pid, kill.name.as_str()), (17, "d,d="));
        assert_eq!(kill.shortage, Shortage::Cgroup("/wharf/abc".into()));
        assert_eq!(parse_oom(line, "/wharf/ab"), None);
        assert_eq!(parse_oom(line, "/"), None);
        let line = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/x/wharf/abc,task=dd,pid=17,uid=0";
        assert_eq!(
            parse_oom(line, "/wharf/abc").unwrap().shortage,
            Shortage::Machine
        );
        let line = "Memory cgroup out of memory: Killed process 17 (dd) total-vm:67000kB, anon-rss:23000kB, file-rss:8kB, shmem-rss:0kB, UID:0 pgtables:100kB oom_score_adj:0";
        assert_eq!(parse_killed(line), Some((17, 23_008 * 1024)));
    }

    #[test]
    fn forbidden_calls_are_read() {
        let line = "audit: type=1326 audit(1.2:3): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=99 comm=\"x\" exe=\"/bin/x\" sig=31 arch=c000003e syscall=165 compat=0 ip=0x1 code=0x0";
        let call = parse_forbidden(line).unwrap();
        assert_eq!((call.pid, call.number, call.arch), (99, 165, 0xc000_003e));
        assert_eq!(parse_forbidden("audit: type=1326 sig=0"), None);
    }
}
