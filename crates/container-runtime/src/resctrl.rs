//! Cache and memory bandwidth of a container (`linux.intelRdt`): its group in the kernel's
//! `resctrl` file system.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use wharf_oci::runtime::IntelRdt;

use crate::error::{Stage, StartError};

/// What a container's group is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The group's name; `None` is the default group.
    group: Option<String>,
    /// Whether it may be made, and goes with the container.
    own: bool,
    schemata: Vec<String>,
    /// The name of its monitoring group.
    monitoring: Option<String>,
}

/// Understands the document's wishes for the container `id`.
pub(crate) fn plan(rdt: &IntelRdt, id: Option<&str>) -> Result<Plan, StartError> {
    let refuse =
        |what: String| StartError::refused(Stage::Config, format!("linux.intelRdt: {what}"));
    let wanted = rdt.clos_id.as_deref().filter(|name| !name.is_empty());
    let name = wanted
        .or(id)
        .ok_or_else(|| refuse("closID is missing".to_owned()))?;
    let is_name = |name: &str| {
        !matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data")
            && !name.contains(['/', '\n', '\0'])
    };
    if name != "/" && !is_name(name) {
        return Err(refuse(format!("{name:?} cannot be the name of a group")));
    }
    let mut schemata = rdt.schemata.clone();
    let line = |field: &str, line: &Option<String>, prefixes: &[&str]| {
        let Some(line) = line.as_deref().filter(|line| !line.is_empty()) else {
            return Ok(Vec::new());
        };
        let lines: Vec<String> = line.lines().map(str::to_owned).collect();
        for line in &lines {
            if !prefixes.iter().any(|prefix| line.starts_with(prefix)) {
                return Err(refuse(format!("{field}: {line:?} is about something else")));
            }
        }
        Ok(lines)
    };
    schemata.extend(line("l3CacheSchema", &rdt.l3_cache_schema, &["L3"])?);
    schemata.extend(line("memBwSchema", &rdt.mem_bw_schema, &["MB:"])?);
    if let Some(wrong) = schemata.iter().find(|line| parse_line(line).is_none()) {
        return Err(refuse(format!("{wrong:?} is not a line of schemata")));
    }
    let monitoring = if rdt.enable_monitoring {
        let id = id.filter(|id| is_name(id));
        Some(id.ok_or_else(|| refuse("monitoring needs the container's ID".to_owned()))?)
    } else {
        None
    };
    Ok(Plan {
        group: (name != "/").then(|| name.to_owned()),
        own: wanted.is_none(),
        schemata,
        monitoring: monitoring.map(str::to_owned),
    })
}

/// `L3:0=ff;1=0f`: the resource, and what each domain gets. Numbers may have leading zeros.
fn parse_line(line: &str) -> Option<(&str, Vec<(u32, &str)>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    let mut parsed = Vec::new();
    for domain in domains
        .split(';')
        .filter(|domain| !domain.trim().is_empty())
    {
        let (number, value) = domain.split_once('=')?;
        let value = value.trim().trim_start_matches('0');
        parsed.push((number.trim().parse().ok()?, value));
    }
    (!parsed.is_empty() && !line.contains('\n')).then_some((resource.trim(), parsed))
}

/// Whether the schemata `current` already say what `wanted` says.
fn says(current: &str, wanted: &str) -> bool {
    let Some((resource, domains)) = parse_line(wanted) else {
        return false;
    };
    current
        .lines()
        .filter_map(parse_line)
        .any(|(name, current)| {
            name == resource && domains.iter().all(|domain| current.contains(domain))
        })
}

/// Where the host has `resctrl`.
fn top() -> Result<PathBuf, StartError> {
    let path = "/proc/self/mountinfo";
    let table = std::fs::read_to_string(path)
        .map_err(|error| crate::launch::io(Stage::Resctrl, &error, path))?;
    table
        .lines()
        .find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let place = mount.split(' ').nth(4)?;
            (filesystem.split(' ').next()? == "resctrl").then(|| PathBuf::from(place))
        })
        .ok_or_else(|| {
            StartError::refused(
                Stage::Config,
                "linux.intelRdt: resctrl is not mounted on this host",
            )
        })
}

/// Checks that the host can do it at all, before there is a process.
pub(crate) fn check(plan: Option<&Plan>) -> Result<(), StartError> {
    plan.map_or(Ok(()), |_| top().map(drop))
}

/// Makes the group and puts the process `pid` into it.
pub(crate) fn enter(plan: &Plan, pid: Pid) -> Result<(), StartError> {
    enter_below(&top()?, plan, pid)
}

fn enter_below(top: &Path, plan: &Plan, pid: Pid) -> Result<(), StartError> {
    let group = match &plan.group {
        Some(name) => top.join(name),
        None => top.to_path_buf(),
    };
    let made = plan.group.is_some() && make(&group, plan)?;
    if let Err(error) = set_up(&group, plan, made, pid) {
        if made {
            // The failure is what the caller wants to hear about.
            let _ = rustix::fs::rmdir(&group);
        }
        return Err(error);
    }
    Ok(())
}

/// Makes the group if it is not there. One that is named by the document and gets nothing of its
/// own must be there.
fn make(group: &Path, plan: &Plan) -> Result<bool, StartError> {
    let failed = |errno| failure(group, errno);
    if !plan.own && plan.schemata.is_empty() {
        return rustix::fs::stat(group).map(|_| false).map_err(failed);
    }
    match rustix::fs::mkdir(group, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // The processor has only so many.
        Err(errno) => Err(failed(errno)),
    }
}

fn set_up(group: &Path, plan: &Plan, made: bool, pid: Pid) -> Result<(), StartError> {
    let schemata = group.join("schemata");
    if made && !plan.schemata.is_empty() {
        for line in &plan.schemata {
            write(&schemata, &format!("{}\n", line.trim()))?;
        }
    } else if !plan.schemata.is_empty() {
        let current = std::fs::read_to_string(&schemata).map_err(|error| {
            crate::launch::io(Stage::Resctrl, &error, &schemata.display().to_string())
        })?;
        if let Some(line) = plan.schemata.iter().find(|line| !says(&current, line)) {
            return Err(StartError::refused(
                Stage::Config,
                format!(
                    "linux.intelRdt: the existing group {} does not have {line:?}",
                    group.display()
                ),
            ));
        }
    }
    write(&group.join("tasks"), &pid.as_raw_nonzero().to_string())?;
    if let Some(name) = &plan.monitoring {
        let monitoring = group.join("mon_groups").join(name);
        match rustix::fs::mkdir(&monitoring, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failure(&monitoring, errno)),
        }
        write(&monitoring.join("tasks"), &pid.as_raw_nonzero().to_string())?;
    }
    Ok(())
}

fn failure(path: &Path, errno: Errno) -> StartError {
    StartError::new(Stage::Resctrl, errno, path.display().to_string())
}

fn write(file: &Path, text: &str) -> Result<(), StartError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(file, flags, Mode::empty())
        .and_then(|fd| rustix::io::write(fd, text.as_bytes()))
        .map(drop)
        .map_err(|errno| failure(file, errno))
}

/// Gives the group of the running container `id` the schemata of `rdt`.
pub fn update(rdt: &IntelRdt, id: &str) -> Result<(), StartError> {
    update_below(&top()?, &plan(rdt, Some(id))?)
}

fn update_below(top: &Path, plan: &Plan) -> Result<(), StartError> {
    let Some(name) = &plan.group else {
        return Err(StartError::refused(
            Stage::Config,
            "linux.intelRdt: the container is in the default group, which is the host's",
        ));
    };
    let schemata = top.join(name).join("schemata");
    plan.schemata
        .iter()
        .try_for_each(|line| write(&schemata, &format!("{}\n", line.trim())))
}

/// Removes what the ended container `id` had for itself. A group that the document names is
/// somebody else's, and stays.
pub fn remove(rdt: &IntelRdt, id: &str) -> io::Result<()> {
    let (Ok(plan), Ok(top)) = (plan(rdt, Some(id)), top()) else {
        // It has never started.
        return Ok(());
    };
    remove_below(&top, &plan)
}

fn remove_below(top: &Path, plan: &Plan) -> io::Result<()> {
    let group = match &plan.group {
        Some(name) => top.join(name),
        None => top.to_path_buf(),
    };
    let gone = |path: &Path| match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(io::Error::from(errno)),
    };
    if plan.own {
        // With everything below.
        return gone(&group);
    }
    match &plan.monitoring {
        Some(name) => gone(&group.join("mon_groups").join(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(clos_id: Option<&str>, schemata: &[&str]) -> IntelRdt {
        IntelRdt {
            clos_id: clos_id.map(str::to_owned),
            schemata: schemata.iter().map(|line| (*line).to_owned()).collect(),
            ..IntelRdt::default()
        }
    }

    #[test]
    fn wishes_are_understood() {
        let mut wish = rdt(None, &["L3:0=ff"]);
        wish.mem_bw_schema = Some("MB:0=20;1=70".into());
        wish.enable_monitoring = true;
        let planned = plan(&wish, Some("c1")).unwrap();
        assert_eq!(planned.schemata, ["L3:0=ff", "MB:0=20;1=70"]);
        assert_eq!((planned.group.as_deref(), planned.own), (Some("c1"), true));
        assert_eq!(planned.monitoring.as_deref(), Some("c1"));
        assert_eq!(plan(&rdt(Some("/"), &[]), None).unwrap().group, None);
        assert!(plan(&wish, None).is_err());
        assert!(plan(&rdt(Some("a/b"), &[]), None).is_err());
        assert!(plan(&rdt(Some("a"), &["L3"]), None).is_err());
        wish.mem_bw_schema = Some("L3:0=1".into());
        assert!(plan(&wish, Some("c1")).is_err());
    }

    #[test]
    fn schemata_are_compared_by_meaning() {
        let current = "    L3:0=00f;1=fff\n    MB:0= 20;1=100\n";
        assert!(says(current, "L3:1=fff;0=f") && says(current, "MB:0=20"));
        assert!(!says(current, "L3:0=ff") && !says(current, "L2:0=f"));
    }

    #[test]
    fn the_containers_own_group_is_updated() {
        let top = tempfile::tempdir().unwrap();
        files(&top.path().join("c1"), "");
        let wish = plan(&rdt(None, &["L3:0=ff"]), Some("c1")).unwrap();
        update_below(top.path(), &wish).unwrap();
        let text = std::fs::read_to_string(top.path().join("c1/schemata")).unwrap();
        assert_eq!(text, "L3:0=ff\n");
        let other = plan(&rdt(None, &["L3:0=ff"]), Some("c2")).unwrap();
        assert_eq!(
            update_below(top.path(), &other).unwrap_err().stage,
            Stage::Resctrl
        );
        let host = plan(&rdt(Some("/"), &["L3:0=ff"]), None).unwrap();
        assert_eq!(
            update_below(top.path(), &host).unwrap_err().stage,
            Stage::Config
        );
    }

    /// The files of a group, as the kernel makes them with the directory.
    fn files(group: &Path, schemata: &str) {
        std::fs::create_dir_all(group.join("mon_groups")).unwrap();
        std::fs::write(group.join("schemata"), schemata).unwrap();
        std::fs::write(group.join("tasks"), "").unwrap();
    }

    #[test]
    fn existing_groups_must_agree() {
        let top = tempfile::tempdir().unwrap();
        let pid = rustix::process::getpid();
        let wish = plan(&rdt(Some("gold"), &["L3:0=f"]), Some("c1")).unwrap();
        files(&top.path().join("gold"), "L3:0=00f\n");
        enter_below(top.path(), &wish, pid).unwrap();
        let tasks = std::fs::read_to_string(top.path().join("gold/tasks")).unwrap();
        assert_eq!(tasks, pid.as_raw_nonzero().to_string());
        remove_below(top.path(), &wish).unwrap();
        assert!(top.path().join("gold").exists());
        let other = plan(&rdt(Some("gold"), &["L3:0=ff"]), Some("c1")).unwrap();
        let text = enter_below(top.path(), &other, pid)
            .unwrap_err()
            .to_string();
        assert!(text.contains("does not have \"L3:0=ff\""), "{text}");
        let missing = plan(&rdt(Some("silver"), &[]), Some("c1")).unwrap();
        assert_eq!(
            enter_below(top.path(), &missing, pid).unwrap_err().stage,
            Stage::Resctrl
        );
    }
}
