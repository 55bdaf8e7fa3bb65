//! Controllers on either side: split hierarchies beside a unified one that has some of its own
//! (`hugetlb`, or whatever the kernel was told to keep from v1).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wharf_oci::runtime::{Cpu, Resources};

use super::layout;

/// Where systemd mounts the unified hierarchy beside the split ones.
const MOUNT: &str = "/sys/fs/cgroup/unified";

/// Controllers every container is in, for its figures.
const ALWAYS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// A cgroup's directory on the unified side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnifiedSide {
    pub(super) directory: PathBuf,
    controllers: &'static [String],
}

impl UnifiedSide {
    /// The one at `path`, if that side of this machine has controllers.
    pub(super) fn find(path: &str) -> Option<Self> {
        static CONTROLLERS: OnceLock<Vec<String>> = OnceLock::new();
        let controllers = CONTROLLERS.get_or_init(|| {
            let text = std::fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers"));
            let text = text.unwrap_or_default();
            text.split_ascii_whitespace().map(str::to_owned).collect()
        });
        (!controllers.is_empty()).then(|| Self {
            directory: Path::new(MOUNT).join(path.trim_start_matches('/')),
            controllers,
        })
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    /// The part of `resources` that is this side's, and the other sides'.
    pub(super) fn divide(&self, resources: &Resources) -> (Resources, Resources) {
        divide(resources, |controller| self.has(controller))
    }

    /// Makes the directory if anything needs it; whether that is so.
    pub(super) fn create(&self, ours: &Resources) -> std::io::Result<bool> {
        let needed = *ours != Resources::default() || ALWAYS.iter().any(|name| self.has(name));
        if needed {
            layout::create_unified(&self.directory, Path::new(MOUNT), self.controllers)?;
        }
        Ok(needed)
    }
}

/// What is for controllers of which `ours` knows, and the rest.
fn divide(resources: &Resources, ours: impl Fn(&str) -> bool) -> (Resources, Resources) {
    let (mut mine, mut rest) = (Resources::default(), resources.clone());
    if ours("memory") {
        mine.memory = rest.memory.take();
    }
    if ours("pids") {
        mine.pids = rest.pids.take();
    }
    if ours("io") {
        mine.block_io = rest.block_io.take();
    }
    if ours("hugetlb") {
        mine.hugepage_limits = std::mem::take(&mut rest.hugepage_limits);
    }
    if ours("rdma") {
        mine.rdma = std::mem::take(&mut rest.rdma);
    }
    if let Some(cpu) = &mut rest.cpu {
        let mut moved = Cpu::default();
        if ours("cpuset") {
            moved.cpus = cpu.cpus.take();
            moved.mems = cpu.mems.take();
        }
        if ours("cpu") {
            let sets = (cpu.cpus.take(), cpu.mems.take());
            let times = std::mem::take(cpu);
            (cpu.cpus, cpu.mems) = sets;
            moved = Cpu {
                cpus: moved.cpus,
                mems: moved.mems,
                ..times
            };
        }
        mine.cpu = (moved != Cpu::default()).then_some(moved);
    }
    rest.cpu = rest.cpu.take().filter(|cpu| *cpu != Cpu::default());
    let files = std::mem::take(&mut rest.unified);
    (mine.unified, rest.unified) = files
        .into_iter()
        .partition(|(file, _)| file.split('.').next().is_some_and(&ours));
    (mine, rest)
}

#[cfg(test)]
mod tests {
    use wharf_oci::runtime::{HugepageLimit, Memory, Pids};

    use super::*;

    #[test]
    fn each_side_gets_its_own() {
        let resources = Resources {
            memory: Some(Memory::default()),
            pids: Some(Pids { limit: Some(1) }),
            cpu: Some(Cpu {
                quota: Some(1),
                cpus: Some("0".into()),
                ..Cpu::default()
            }),
            hugepage_limits: vec![HugepageLimit::default()],
            unified: [
                ("hugetlb.x".into(), "1".into()),
                ("memory.high".into(), "1".into()),
            ]
            .into(),
            ..Resources::default()
        };
        let (mine, rest) = divide(&resources, |name| matches!(name, "hugetlb" | "cpuset"));
        assert_eq!(mine.hugepage_limits.len(), 1);
        assert_eq!(mine.cpu.unwrap().cpus.as_deref(), Some("0"));
        assert_eq!(mine.unified.keys().next().unwrap(), "hugetlb.x");
        let cpu = rest.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.cpus), (Some(1), None));
        assert!(rest.memory.is_some() && rest.unified.len() == 1);
        let (mine, rest) = divide(&resources, |name| name == "cpu");
        assert_eq!(mine.cpu.unwrap().quota, Some(1));
        assert_eq!(rest.cpu.unwrap().cpus.as_deref(), Some("0"));
        let (mine, rest) = divide(&resources, |_| false);
        assert_eq!((mine, rest), (Resources::default(), resources));
    }
}
