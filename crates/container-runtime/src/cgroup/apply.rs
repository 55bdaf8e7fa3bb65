//! Writing limits: all of them when a cgroup is made, some of them when it is updated.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use wharf_oci::runtime::{Cpu, Memory, Resources};

use super::plan::{self, Missing, Write};
use super::{Cgroup, Layout, cgroup_error, devices, layout, persistently, write};
use crate::error::{Stage, StartError};

impl Cgroup {
    /// Changes limits of the existing cgroup (`docker update`). What `resources` does not name
    /// stays; device rules, if there are any, take the place of those in force.
    pub fn update(&self, resources: &Resources) -> Result<(), StartError> {
        let resources = match &self.layout {
            Layout::Unified { directory } => {
                let current = Current::read(|file| self.read_from("", file).ok());
                let resources = fill_in(resources, &current);
                check_usage(&resources, &current)?;
                // A controller that was not needed before is handed down now.
                let controllers = plan::controllers(&resources);
                let top = Path::new(layout::MOUNT);
                persistently(|| layout::create_unified(directory, top, &controllers))
                    .map_err(|error| cgroup_error(directory, &error))?;
                resources
            }
            Layout::Split(_) => {
                self.enter_unified_side(resources)?;
                resources.clone()
            }
        };
        self.update_unit(&resources)?;
        let mut before = Before::default();
        let rules = || match &self.layout {
            Layout::Unified { directory } => devices::replace_filter(directory, &resources.devices),
            Layout::Split(_) => match self.hierarchy("devices") {
                Some(directory) => devices::change_rules(directory, &resources.devices),
                None => Ok(()),
            },
        };
        self.apply_over(&resources, &mut before)
            .and_then(|()| rules())
            .inspect_err(|_| before.put_back())
    }

    /// Writes every limit of `resources`.
    pub(super) fn apply(&self, resources: &Resources) -> Result<(), StartError> {
        self.apply_over(resources, &mut Before(None))
    }

    /// The same; what is overwritten is noted.
    fn apply_over(&self, resources: &Resources, before: &mut Before) -> Result<(), StartError> {
        let refused = |what: String| StartError::refused(Stage::Config, what);
        let writes = match (&self.layout, &self.beside) {
            (Layout::Unified { .. }, _) => plan::unified(resources).map_err(refused)?,
            (Layout::Split(_), Some(beside)) => {
                let (theirs, resources) = beside.divide(resources);
                let writes = plan::unified(&theirs).map_err(refused)?;
                write_all(writes, before, |_| Some(&beside.directory))?;
                self.split_writes(&resources)?
            }
            (Layout::Split(_), None) => self.split_writes(resources)?,
        };
        write_all(writes, before, |controller| self.hierarchy(controller))
    }

    /// Makes the directory on the unified side if it is needed only now, and moves everybody there.
    fn enter_unified_side(&self, resources: &Resources) -> Result<(), StartError> {
        let Some(beside) = &self.beside else {
            return Ok(());
        };
        let (ours, _) = beside.divide(resources);
        let failed = |error: std::io::Error| cgroup_error(&beside.directory, &error);
        if self.unified_side().is_some() || !beside.create(&ours).map_err(failed)? {
            return Ok(());
        }
        let file = beside.directory.join("cgroup.procs");
        let mut moved = Vec::new();
        loop {
            // Whoever was born meanwhile is found by the next round.
            let mut all = self.processes().map_err(failed)?;
            all.retain(|pid| !moved.contains(pid));
            if all.is_empty() {
                return Ok(());
            }
            for pid in all {
                match write(&file, &pid.to_string()) {
                    Ok(()) | Err(Errno::SRCH) => moved.push(pid),
                    Err(errno) => return Err(failed(errno.into())),
                }
            }
        }
    }

    fn split_writes(&self, resources: &Resources) -> Result<Vec<Write>, StartError> {
        let refused = |what: String| StartError::refused(Stage::Config, what);
        let mut writes = plan::split(resources).map_err(refused)?;
        plan::order_memory(&mut writes, || {
            let current = self.read_from("memory", "memory.limit_in_bytes").ok()?;
            current.trim().parse().ok()
        });
        Ok(writes)
    }
}

/// Writes one file after the other, in directories by controller.
fn write_all<'a>(
    writes: Vec<Write>,
    before: &mut Before,
    directory: impl Fn(&str) -> Option<&'a Path>,
) -> Result<(), StartError> {
    let mut waiting = Vec::new();
    let mut said_already = false;
    for write in writes {
        if std::mem::take(&mut said_already) {
            continue;
        }
        match carry_out(directory(write.controller), &write, before) {
            Ok(taken) => said_already = taken && write.missing == Missing::TryNext,
            Err(error) if write.may_wait && error.errno == Errno::INVAL.raw_os_error() => {
                waiting.push(write);
            }
            Err(error) => return Err(error),
        }
    }
    // Against the values that are in force now.
    for write in waiting {
        carry_out(directory(write.controller), &write, before)?;
    }
    Ok(())
}

/// What files said before they were written to, the last one last; nothing is noted of a new cgroup.
struct Before(Option<Vec<(PathBuf, String)>>);

impl Default for Before {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl Before {
    /// What `file` says, if that can be written again: not so where it has a line for each device.
    fn look(&self, file: &Path) -> Option<String> {
        self.0.as_ref()?;
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.trim_end();
        (!line.is_empty() && !line.contains('\n')).then(|| line.to_owned())
    }

    fn note(&mut self, file: PathBuf, said: Option<String>) {
        if let (Some(noted), Some(said)) = (&mut self.0, said) {
            noted.push((file, said));
        }
    }

    /// Puts it back. That what is there was refused is told already; what cannot be put back stays.
    fn put_back(&mut self) {
        for (file, said) in self.0.iter_mut().flat_map(|noted| noted.drain(..).rev()) {
            let _ = write(&file, &said);
        }
    }
}

/// Writes one file; whether the kernel has it.
fn carry_out(
    directory: Option<&Path>,
    planned: &Write,
    before: &mut Before,
) -> Result<bool, StartError> {
    let optional = planned.missing != Missing::Refuse;
    let Some(directory) = directory else {
        if optional {
            return Ok(false);
        }
        return Err(StartError::refused(
            Stage::Config,
            format!("the kernel has no {} cgroup controller", planned.controller),
        ));
    };
    let file = directory.join(&planned.file);
    let named = |what: &str| format!("{} = {:?}{what}", file.display(), planned.value);
    let said = before.look(&file);
    match write(&file, &planned.value) {
        Ok(()) => {
            before.note(file, said);
            Ok(true)
        }
        Err(Errno::NOENT | Errno::OPNOTSUPP) if optional => Ok(false),
        Err(Errno::NOENT) if !directory.exists() => Err(StartError::new(
            Stage::Cgroup,
            Errno::NOENT,
            directory.display().to_string(),
        )),
        Err(Errno::NOENT) => Err(StartError::refused(
            Stage::Cgroup,
            named(": this kernel does not offer it"),
        )),
        Err(errno) => Err(StartError::new(
            Stage::Cgroup,
            errno,
            named(&hint(directory, planned, errno)),
        )),
    }
}

/// What else is worth knowing about a refusal.
fn hint(directory: &Path, planned: &Write, errno: Errno) -> String {
    let number = |file: &str| std::fs::read_to_string(directory.join(file)).ok();
    match (planned.file.as_str(), errno) {
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Errno::BUSY) => {
            let usage = planned.file.replace("limit", "usage");
            number(&usage).map_or(String::new(), |usage| {
                format!(" (in use: {} bytes)", usage.trim())
            })
        }
        ("memory.memsw.limit_in_bytes", Errno::INVAL) => number("memory.limit_in_bytes")
            .map_or(String::new(), |limit| {
                format!(" (must not be below the memory limit, {})", limit.trim())
            }),
        ("memory.limit_in_bytes", Errno::INVAL) => {
            number("memory.memsw.limit_in_bytes").map_or(String::new(), |limit| {
                format!(
                    " (must not be above the memory+swap limit, {})",
                    limit.trim()
                )
            })
        }
        ("cpu.rt_runtime_us", Errno::INVAL) => {
            " (must not be above the period, nor above what the parent cgroup has left)".to_owned()
        }
        _ => String::new(),
    }
}

/// The values in force that the unified hierarchy's files combine or count otherwise than the
/// document does. `None` for no limit, and for what the kernel does not have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Current {
    memory: Option<i64>,
    swap: Option<i64>,
    usage: Option<i64>,
    quota: Option<i64>,
    period: Option<u64>,
}

impl Current {
    fn read(file: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| file(name)?.trim().parse().ok();
        let cpu = file("cpu.max").unwrap_or_default();
        let (quota, period) = cpu.trim().split_once(' ').unwrap_or_default();
        Self {
            memory: number("memory.max"),
            swap: number("memory.swap.max"),
            usage: number("memory.current"),
            quota: quota.parse().ok(),
            period: period.parse().ok(),
        }
    }
}

/// The other halves of what `resources` says by halves, so that it means the same as with split
/// hierarchies, where each is a file.
fn fill_in(resources: &Resources, current: &Current) -> Resources {
    let mut resources = resources.clone();
    if let Some(Memory { limit, swap, .. }) = &mut resources.memory {
        let (new_limit, new_swap) = (limit.filter(|n| *n != 0), swap.filter(|n| *n != 0));
        match (new_limit, new_swap) {
            (None, Some(1..)) => *limit = current.memory,
            (Some(1..), None) => {
                // Memory and swap together stay what they are.
                if let (Some(memory), Some(of_swap)) = (current.memory, current.swap) {
                    *swap = memory.checked_add(of_swap);
                }
            }
            _ => {}
        }
    }
    if let Some(Cpu { quota, period, .. }) = &mut resources.cpu {
        let (new_quota, new_period) = (quota.filter(|n| *n != 0), period.filter(|n| *n != 0));
        match (new_quota, new_period) {
            (None, Some(_)) => *quota = current.quota.or(Some(-1)),
            (Some(_), None) => *period = current.period,
            _ => {}
        }
    }
    resources
}

/// `checkBeforeUpdate`: the unified hierarchy would rather kill than refuse.
fn check_usage(resources: &Resources, current: &Current) -> Result<(), StartError> {
    let Some(memory) = &resources.memory else {
        return Ok(());
    };
    match (memory.limit, current.usage) {
        (Some(limit @ 1..), Some(usage))
            if memory.check_before_update == Some(true) && limit < usage =>
        {
            let what =
                format!("memory.max = \"{limit}\" is less than what is in use: {usage} bytes");
            Err(StartError::refused(Stage::Cgroup, what))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> Current {
        Current::read(|file| {
            let text = match file {
                "memory.max" => "1000\n",
                "memory.swap.max" => "500\n",
                "memory.current" => "800\n",
                "cpu.max" => "max 50000\n",
                _ => return None,
            };
            Some(text.to_owned())
        })
    }

    fn with_memory(limit: Option<i64>, swap: Option<i64>) -> Resources {
        Resources {
            memory: Some(Memory {
                limit,
                swap,
                check_before_update: Some(true),
                ..Memory::default()
            }),
            ..Resources::default()
        }
    }

    #[test]
    fn halves_are_completed_from_what_is_in_force() {
        let memory = |limit, swap| {
            let filled = fill_in(&with_memory(limit, swap), &current())
                .memory
                .unwrap();
            (filled.limit, filled.swap)
        };
        assert_eq!(memory(Some(900), None), (Some(900), Some(1500)));
        assert_eq!(memory(None, Some(1200)), (Some(1000), Some(1200)));
        assert_eq!(memory(Some(-1), None), (Some(-1), None));
        let cpu = |quota, period| {
            let cpu = Cpu {
                quota,
                period,
                ..Cpu::default()
            };
            let resources = Resources {
                cpu: Some(cpu),
                ..Resources::default()
            };
            let filled = fill_in(&resources, &current()).cpu.unwrap();
            (filled.quota, filled.period)
        };
        assert_eq!(cpu(Some(7000), None), (Some(7000), Some(50_000)));
        assert_eq!(cpu(None, Some(9000)), (Some(-1), Some(9000)));
    }

    #[test]
    fn a_limit_below_usage_is_refused_where_the_document_wants_that() {
        assert!(check_usage(&with_memory(Some(900), None), &current()).is_ok());
        let error = check_usage(&with_memory(Some(700), None), &current()).unwrap_err();
        assert!(error.to_string().contains("in use: 800 bytes"), "{error}");
    }
}
