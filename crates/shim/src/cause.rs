//! Gathering why the container ended, while its cgroup is still there.

use rustix::process::Signal;
use wharf_container_runtime::cgroup::Cgroup;
use wharf_container_runtime::kernel_log;
use wharf_shim_protocol::{ExitCause, ForbiddenCall, RequestedSignal};

use crate::oom::Oom;
use crate::process::Status;

/// What is known about the end of the process `pid` of the container.
pub(crate) fn gather(
    pid: i32,
    status: Status,
    init: bool,
    requested: Option<RequestedSignal>,
    cgroup: Option<&Cgroup>,
    oom: &Oom,
) -> ExitCause {
    let system_call = status.signal == Some(Signal::SYS.as_raw());
    ExitCause {
        requested,
        oom: cgroup.and_then(|cgroup| oom.record(cgroup)),
        init,
        forbidden_call: system_call
            .then(|| kernel_log::forbidden_call(pid))
            .flatten()
            .map(|call| ForbiddenCall {
                number: call.number,
                arch: call.arch,
            }),
    }
}
