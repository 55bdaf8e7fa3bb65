//! Processor and I/O scheduling as the document words it.

use wharf_oci::runtime::{IoPriority, Scheduler, SchedulerPolicy};
use wharf_sys::process::Scheduling;

use crate::error::{Stage, StartError};

/// The kernel's numbers for `scheduler`.
pub(crate) fn scheduling(scheduler: &Scheduler) -> Result<Scheduling, StartError> {
    let refuse = |what: String| StartError::refused(Stage::Config, what);
    let policy = match scheduler.policy {
        SchedulerPolicy::SchedOther => 0,
        SchedulerPolicy::SchedFifo => 1,
        SchedulerPolicy::SchedRr => 2,
        SchedulerPolicy::SchedBatch => 3,
        SchedulerPolicy::SchedIso => {
            return Err(refuse("SCHED_ISO does not exist on Linux".to_owned()));
        }
        SchedulerPolicy::SchedIdle => 5,
        SchedulerPolicy::SchedDeadline => 6,
    };
    let mut flags = 0;
    for name in &scheduler.flags {
        flags |= match name.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            _ => return Err(refuse(format!("scheduler flag {name:?} is not known"))),
        };
    }
    Ok(Scheduling {
        policy,
        flags,
        nice: scheduler.nice.unwrap_or(0),
        priority: u32::try_from(scheduler.priority.unwrap_or(0))
            .map_err(|_| refuse("scheduler priority is negative".to_owned()))?,
        runtime: scheduler.runtime.unwrap_or(0),
        deadline: scheduler.deadline.unwrap_or(0),
        period: scheduler.period.unwrap_or(0),
    })
}

/// The kernel's class and level for `priority`.
pub(crate) fn io_priority(priority: &IoPriority) -> Result<(u8, u8), StartError> {
    let class = match priority.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => {
            return Err(StartError::refused(
                Stage::Config,
                format!("I/O priority class {other:?} is not known"),
            ));
        }
    };
    match u8::try_from(priority.priority) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => Err(StartError::refused(
            Stage::Config,
            "I/O priority must be 0 to 7",
        )),
    }
}
