//! The processors an exec'd process may use while it is on its way and afterwards.

use rustix::thread::CpuSet;
use wharf_oci::runtime::CpuAffinity;

use crate::error::{Stage, StartError};
use crate::number_list;

/// `execCPUAffinity`, understood.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    /// Before it is in the container's cgroup.
    pub(crate) initial: Option<Set>,
    /// Once it is there.
    pub(crate) last: Option<Set>,
}

/// A set of processors.
#[derive(Debug)]
pub(crate) struct Set {
    numbers: Vec<u32>,
    text: String,
}

/// Understands the document's affinity.
pub(crate) fn plan(affinity: Option<&CpuAffinity>) -> Result<Affinity, StartError> {
    let set = |list: Option<&String>| {
        let Some(text) = list.filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        let end = u32::try_from(CpuSet::MAX_CPU).unwrap_or(u32::MAX);
        match number_list::parse(text, end) {
            Some(numbers) if !numbers.is_empty() => Ok(Some(Set {
                numbers,
                text: text.clone(),
            })),
            _ => Err(StartError::refused(
                Stage::Config,
                format!("execCPUAffinity: {text:?} is not a list of processors"),
            )),
        }
    };
    let Some(affinity) = affinity else {
        return Ok(Affinity::default());
    };
    Ok(Affinity {
        initial: set(affinity.initial.as_ref())?,
        last: set(affinity.last.as_ref())?,
    })
}

impl Set {
    /// Binds the calling process to it.
    pub(crate) fn apply(&self) -> Result<(), StartError> {
        let mut set = CpuSet::new();
        for number in &self.numbers {
            set.set(usize::try_from(*number).unwrap_or(usize::MAX));
        }
        rustix::thread::sched_setaffinity(None, &set).map_err(|errno| {
            StartError::refused(
                Stage::Config,
                format!("execCPUAffinity {}: {errno}", self.text),
            )
        })
    }
}
