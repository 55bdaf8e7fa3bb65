//! `state`: what a container is and does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use wharf_oci::runtime::Status;

use crate::container::Container;
use crate::error::Result;
use crate::flags::Flags;
use crate::runtime::{Command, Runtime};

pub(super) const COMMAND: Command = Command {
    name: "state",
    words: super::ID,
    count: (1, 1),
    help: "print the state of a container",
    flags: &[],
    run,
    failure: 1,
    enters: false,
};

/// The specification's state with what runc adds to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    oci_version: String,
    pub(super) id: String,
    /// 0 when there is no process.
    pub(super) pid: i32,
    pub(super) status: Status,
    pub(super) bundle: PathBuf,
    rootfs: PathBuf,
    pub(super) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    pub(super) owner: String,
}

impl Shown {
    pub(super) fn of(container: Container) -> Result<Self> {
        let status = container.status()?;
        let pid = match (status, container.process()) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some((pid, _))) => pid.as_raw_nonzero().get(),
        };
        let record = container.record;
        Ok(Self {
            oci_version: record.oci_version,
            id: record.id,
            pid,
            status,
            bundle: record.bundle,
            rootfs: record.rootfs,
            created: record.created,
            annotations: record.annotations,
            owner: record.owner,
        })
    }
}

fn run(runtime: &Runtime, flags: &Flags) -> Result<ExitCode> {
    let container = Container::open(runtime, &flags.words[0])?;
    crate::print_json(&Shown::of(container)?)?;
    Ok(ExitCode::SUCCESS)
}
