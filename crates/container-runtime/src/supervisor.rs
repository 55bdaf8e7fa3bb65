//! Who decides about the system calls a filter leaves open (`SCMP_ACT_NOTIFY`): a program of the
//! host that listens on a unix socket. It gets the filter's listener with a JSON document
//! (runtime-spec, "The Container Process State").

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdGetfdFlags, pidfd_getfd};
use wharf_oci::runtime::{State, Status};
use wharf_seccomp::Listener;
use wharf_sys::scm;

use crate::channel::Report;
use crate::error::{Stage, StartError};
use crate::launch::Launch;

/// The supervisor of one process, if its filter has one.
#[derive(Debug)]
pub(crate) struct Supervisor<'a> {
    listener: Option<&'a Listener>,
    /// The container's state, as far as the caller knows it.
    state: Option<&'a State>,
    /// The container's first process, if it is that one.
    first: Option<Pid>,
}

impl<'a> Supervisor<'a> {
    /// That of the process `launch` in the container `state`.
    pub(crate) fn of(launch: &'a Launch, state: Option<&'a State>, first: Option<Pid>) -> Self {
        Self {
            listener: launch.listener(),
            state,
            first,
        }
    }

    /// Hands the listener in `report` on, of the process `pid`.
    pub(crate) fn meet(&self, report: Report, pid: Pid, pidfd: &OwnedFd) -> Result<(), StartError> {
        let Some(supervisor) = self.listener else {
            return Err(StartError::refused(Stage::Died, ""));
        };
        let path = supervisor.path.as_str();
        let failed = |errno| StartError::new(Stage::Seccomp, errno, format!("listener {path:?}"));
        let listener = match report {
            Report::Listener(listener) => listener,
            Report::ListenerNumber(number) => {
                pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).map_err(failed)?
            }
            _ => return Err(failed(Errno::BADF)),
        };
        let document = self.document(supervisor, pid).to_string();
        let socket = UnixStream::connect(path)
            .map_err(|error| crate::launch::io(Stage::Seccomp, &error, path))?;
        let bytes = document.as_bytes();
        let mut sent = 0;
        while sent < bytes.len() {
            // The descriptor goes with the first byte.
            let fds = [listener.as_fd()];
            let fds = if sent == 0 { &fds[..] } else { &[] };
            sent += scm::send(&socket, &bytes[sent..], fds).map_err(failed)?;
        }
        Ok(())
    }

    /// The container process state.
    fn document(&self, listener: &Listener, pid: Pid) -> serde_json::Value {
        let mut state = self.state.cloned().unwrap_or_else(|| State {
            oci_version: wharf_oci::runtime::VERSION.to_owned(),
            id: String::new(),
            status: Status::Running,
            pid: None,
            bundle: std::path::PathBuf::new(),
            annotations: std::collections::BTreeMap::new(),
        });
        if let Some(first) = self.first {
            state.status = Status::Creating;
            state.pid = Some(first.as_raw_nonzero().get());
        }
        let mut document = serde_json::json!({
            "ociVersion": state.oci_version,
            "fds": ["seccompFd"],
            "pid": pid.as_raw_nonzero().get(),
            "state": state,
        });
        if !listener.metadata.is_empty() {
            document["metadata"] = listener.metadata.as_str().into();
        }
        document
    }
}
