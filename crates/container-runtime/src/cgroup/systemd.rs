//! Cgroups that systemd makes and looks after: scopes.
//!
//! systemd gets every limit it has a setting for, so that it does not put its own in their place
//! when it is reloaded; all of them are then written to the files as well, which are exact and
//! know more. Devices are told to it for the same reason.

use rustix::process::Pid;
use wharf_oci::runtime::{DeviceRule, Resources};
use wharf_systemd::{Bus, Manager, Scope, SystemdError, Value};

use super::{Cgroup, Layout, devices, layout, plan};
use crate::error::{Stage, StartError};

/// A unit of systemd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    name: String,
    /// Its slice; empty where the unit exists already.
    slice: String,
    bus: Bus,
}

/// Properties of a unit.
type Properties = Vec<(&'static str, Value)>;

/// No limit.
const INFINITY: u64 = u64::MAX;

impl Cgroup {
    /// The cgroup of a unit to be made, from `cgroupsPath` in systemd's form,
    /// `slice:prefix:name`.
    pub fn of_new_unit(path: &str) -> Result<Self, StartError> {
        let bus = Bus::of_caller();
        let (default_slice, top) = match bus {
            Bus::System | Bus::At(_) => ("system.slice", String::new()),
            Bus::User => {
                let top = Manager::connect(bus).and_then(|mut it| it.property("ControlGroup"));
                ("user.slice", top.map_err(|error| failed(&error))?)
            }
        };
        let scope = Scope::parse(path, default_slice)
            .map_err(|what| StartError::refused(Stage::Config, what))?;
        if scope.is_slice() {
            return Err(StartError::refused(
                Stage::Config,
                format!("{}: a slice has no processes of its own", scope.unit),
            ));
        }
        let path = format!("{}{}", top.trim_end_matches('/'), scope.path());
        let cgroup =
            Self::at(&path).map_err(|error| crate::launch::io(Stage::Cgroup, &error, &path))?;
        Ok(Self {
            unit: Some(Unit {
                name: scope.unit,
                slice: scope.slice,
                bus,
            }),
            ..cgroup
        })
    }

    /// The cgroup at `path` of a unit that exists.
    pub fn of_unit(path: &str) -> std::io::Result<Self> {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self {
            unit: Some(Unit {
                name,
                slice: String::new(),
                bus: Bus::of_caller(),
            }),
            ..Self::at(path)?
        })
    }

    /// Whether systemd makes and looks after it.
    pub fn is_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// Makes the unit, with the process in it. Nothing happens without systemd.
    pub(crate) fn start_unit(&self, pid: Pid, resources: &Resources) -> Result<(), StartError> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let mut manager = Manager::connect(unit.bus).map_err(|error| failed(&error))?;
        let mut properties: Properties = vec![
            (
                "Description",
                Value::Text(format!("container {}", unit.name)),
            ),
            ("Slice", Value::Text(unit.slice.clone())),
            (
                "PIDs",
                Value::Numbers(vec![pid.as_raw_nonzero().get().cast_unsigned()]),
            ),
            ("Delegate", Value::Bool(true)),
            ("DefaultDependencies", Value::Bool(false)),
            ("MemoryAccounting", Value::Bool(true)),
            ("CPUAccounting", Value::Bool(true)),
            ("TasksAccounting", Value::Bool(true)),
            (
                if self.is_unified() {
                    "IOAccounting"
                } else {
                    "BlockIOAccounting"
                },
                Value::Bool(true),
            ),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ];
        properties.extend(self.properties(&mut manager, resources)?);
        if unit.bus != Bus::User {
            properties.extend(device_properties(&resources.devices)?);
        }
        manager
            .start_transient_unit(&unit.name, &properties)
            .map_err(|error| failed(&error))
    }

    /// Whether only systemd can move the caller's processes into this cgroup. An ordinary user may do so from
    /// and to what is below a directory of the user's (the kernel's `admin-guide/cgroup-v2.rst`, delegation
    /// containment), and a login session is beside that.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        let of_user = self.unit.as_ref().is_some_and(|unit| unit.bus == Bus::User);
        if !of_user || !self.is_unified() {
            return false;
        }
        let here = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let Some(here) = here.lines().find_map(|line| line.strip_prefix("0::")) else {
            return false;
        };
        let file = format!(
            "{}{}/cgroup.procs",
            layout::MOUNT,
            shared_part(here, &self.path)
        );
        let writable = rustix::fs::accessat(
            rustix::fs::CWD,
            file,
            rustix::fs::Access::WRITE_OK,
            rustix::fs::AtFlags::EACCESS,
        );
        writable == Err(rustix::io::Errno::ACCESS)
    }

    /// Has systemd move a process of the caller's into the unit.
    pub(crate) fn attach(&self, pid: Pid) -> Result<(), StartError> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let pid = pid.as_raw_nonzero().get().cast_unsigned();
        Manager::connect(unit.bus)
            .and_then(|mut manager| manager.attach_processes(&unit.name, "", &[pid]))
            .map_err(|error| failed(&error))
    }

    /// Changes the unit's settings. Nothing happens without systemd.
    pub(super) fn update_unit(&self, resources: &Resources) -> Result<(), StartError> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let mut manager = Manager::connect(unit.bus).map_err(|error| failed(&error))?;
        let mut properties = self.properties(&mut manager, resources)?;
        if unit.bus != Bus::User {
            properties.extend(device_properties(&resources.devices)?);
        }
        if properties.is_empty() {
            return Ok(());
        }
        manager
            .set_unit_properties(&unit.name, &properties)
            .map_err(|error| failed(&error))
    }

    /// Ends the unit. Fails only where systemd could still have something of it.
    pub(super) fn stop_unit(&self) -> std::io::Result<()> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        Manager::connect(unit.bus)
            .and_then(|mut manager| manager.stop_unit(&unit.name))
            .map_err(std::io::Error::other)
    }

    fn properties(
        &self,
        manager: &mut Manager,
        resources: &Resources,
    ) -> Result<Properties, StartError> {
        let refused = |what: String| StartError::refused(Stage::Config, what);
        let writes = match &self.layout {
            Layout::Unified { .. } => plan::unified(resources),
            Layout::Split(_) => plan::split(resources),
        };
        let properties = properties(&writes.map_err(refused)?);
        if !properties
            .iter()
            .any(|(name, _)| SINCE.iter().any(|(new, _)| new == name))
        {
            return Ok(properties);
        }
        let version = manager
            .property("Version")
            .map_err(|error| failed(&error))?;
        let version = version_number(&version);
        let known = |(name, _): &(&'static str, Value)| {
            let since = SINCE.iter().find(|(new, _)| new == name);
            since.is_none_or(|(_, since)| version >= *since)
        };
        Ok(properties.into_iter().filter(known).collect())
    }
}

/// Settings that older systemds refuse, and since when they are there. They are left out for
/// those: the files are written all the same.
const SINCE: [(&str, u32); 3] = [
    ("CPUQuotaPeriodUSec", 242),
    ("AllowedCPUs", 244),
    ("AllowedMemoryNodes", 244),
];

/// `252.39-1~deb12u1`, `v245`.
fn version_number(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

/// The settings that say the same as control files.
fn properties(writes: &[plan::Write]) -> Properties {
    let mut properties = Properties::new();
    let (mut quota, mut period) = (None, None);
    for write in writes {
        let value = write.value.as_str();
        let number = || match value {
            "max" | "-1" => Some(INFINITY),
            text => text.parse().ok(),
        };
        let mut add = |name: &'static str, value: Option<Value>| {
            properties.extend(value.map(|value| (name, value)));
        };
        let mut add_number = |name: &'static str| add(name, number().map(Value::U64));
        match write.file.as_str() {
            "memory.max" => add_number("MemoryMax"),
            "memory.swap.max" => add_number("MemorySwapMax"),
            "memory.low" => add_number("MemoryLow"),
            "memory.high" => add_number("MemoryHigh"),
            "memory.min" => add_number("MemoryMin"),
            "memory.limit_in_bytes" => add_number("MemoryLimit"),
            "cpu.weight" => add_number("CPUWeight"),
            "cpu.shares" => add_number("CPUShares"),
            "pids.max" => add_number("TasksMax"),
            "blkio.weight" => add_number("BlockIOWeight"),
            "io.weight" => {
                let weight = value.strip_prefix("default ").and_then(|w| w.parse().ok());
                add("IOWeight", weight.map(Value::U64));
            }
            "cpuset.cpus" => add("AllowedCPUs", bitmap(value).map(Value::Bytes)),
            "cpuset.mems" => add("AllowedMemoryNodes", bitmap(value).map(Value::Bytes)),
            "cpu.max" => {
                if let Some((q, p)) = value.split_once(' ') {
                    quota = if q == "max" {
                        Some(-1)
                    } else {
                        q.parse::<i64>().ok()
                    };
                    period = p.parse::<u64>().ok();
                }
            }
            "cpu.cfs_quota_us" => quota = value.parse::<i64>().ok(),
            "cpu.cfs_period_us" => period = value.parse::<u64>().ok(),
            _ => {}
        }
    }
    if let Some(period) = period {
        properties.push(("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    if let Some(quota) = quota {
        let per_second = match u64::try_from(quota) {
            Ok(quota) => {
                // systemd keeps whole percents of a processor; less than was asked for would be
                // a stricter limit.
                const PERCENT: u64 = 10_000;
                let exact =
                    u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(100_000).max(1));
                u64::try_from(exact)
                    .unwrap_or(INFINITY - PERCENT)
                    .next_multiple_of(PERCENT)
            }
            Err(_) => INFINITY,
        };
        properties.push(("CPUQuotaPerSecUSec", Value::U64(per_second)));
    }
    properties
}

/// `0-2,7` as bits, the lowest first.
fn bitmap(list: &str) -> Option<Vec<u8>> {
    const NUMBER_MAX: usize = 8191;
    let mut bits = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > NUMBER_MAX {
            return None;
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0_u8);
        }
        for number in first..=last {
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    Some(bits)
}

fn device_properties(rules: &[DeviceRule]) -> Result<Properties, StartError> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match devices::allowed(rules)? {
        // Everything but some: systemd has no words for that. The files say it.
        None => vec![("DevicePolicy", Value::Text("auto".to_owned()))],
        Some(allowed) => vec![
            ("DevicePolicy", Value::Text("strict".to_owned())),
            ("DeviceAllow", Value::Pairs(allowed)),
        ],
    })
}

/// The directory that two have in common: empty, or with a slash before each name.
fn shared_part(one: &str, other: &str) -> String {
    let names = |path: &str| -> Vec<String> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let pairs = names(one).into_iter().zip(names(other));
    let shared = pairs.take_while(|(one, other)| one == other);
    shared.map(|(name, _)| format!("/{name}")).collect()
}

fn failed(error: &SystemdError) -> StartError {
    StartError::refused(Stage::Cgroup, wharf_fault::chain(error))
}

#[cfg(test)]
mod tests {
    use wharf_oci::runtime::{Cpu, Memory, Pids};

    use super::*;

    #[test]
    fn shared_directories_are_found() {
        let manager = "/user.slice/user-1.slice/user@1.service";
        let scope = format!("{manager}/user.slice/wharf-box.scope");
        let session = "/user.slice/user-1.slice/session-1.scope";
        assert_eq!(shared_part(session, &scope), "/user.slice/user-1.slice");
        let shell = format!("{manager}/app.slice/shell.scope");
        assert_eq!(shared_part(&shell, &scope), manager);
        assert_eq!(shared_part("/", &scope), "");
        assert_eq!(shared_part("/user", &scope), "");
    }

    #[test]
    fn settings_say_what_the_files_say() {
        let resources = Resources {
            memory: Some(Memory {
                limit: Some(64 << 20),
                swap: Some(96 << 20),
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                shares: Some(1024),
                quota: Some(33_333),
                period: Some(100_000),
                cpus: Some("0-1,9".into()),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: Some(-1) }),
            ..Resources::default()
        };
        let found = properties(&plan::unified(&resources).unwrap());
        let has = |name: &'static str, value: Value| found.contains(&(name, value));
        assert!(has("MemoryMax", Value::U64(64 << 20)));
        assert!(has("MemorySwapMax", Value::U64(32 << 20)));
        assert!(has("CPUWeight", Value::U64(100)));
        assert!(has("TasksMax", Value::U64(INFINITY)));
        assert!(has("AllowedCPUs", Value::Bytes(vec![3, 2])));
        assert!(has("CPUQuotaPerSecUSec", Value::U64(340_000)));
        assert!(has("CPUQuotaPeriodUSec", Value::U64(100_000)));
        let found = properties(&plan::split(&resources).unwrap());
        assert!(found.contains(&("MemoryLimit", Value::U64(64 << 20))));
        assert!(found.contains(&("CPUShares", Value::U64(1024))));
        assert!(found.contains(&("CPUQuotaPerSecUSec", Value::U64(340_000))));
    }

    #[test]
    fn devices_are_listed_or_left_to_the_files() {
        let found = device_properties(&wharf_oci::defaults::device_rules()).unwrap();
        assert_eq!(found[0], ("DevicePolicy", Value::Text("strict".into())));
        let Value::Pairs(pairs) = &found[1].1 else {
            panic!("{found:?}");
        };
        let has =
            |device: &str, access: &str| pairs.contains(&(device.to_owned(), access.to_owned()));
        assert!(has("/dev/char/1:3", "rwm") && has("char-pts", "rwm") && has("block-*", "m"));
        let everything = DeviceRule {
            allow: true,
            ..DeviceRule::default()
        };
        let found = device_properties(&[everything]).unwrap();
        assert_eq!(found, [("DevicePolicy", Value::Text("auto".into()))]);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(
            ["252.39-1~deb12u1", "v245", "?"].map(version_number),
            [252, 245, 0]
        );
        assert_eq!(bitmap("0-3,8"), Some(vec![15, 1]));
        assert_eq!(bitmap("0-99999999"), None);
    }
}
