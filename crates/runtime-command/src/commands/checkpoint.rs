//! `checkpoint` and `restore`: refused, with the reason, until they are there.

use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::flags::Flags;
use crate::runtime::{Command, Runtime};

pub(super) const CHECKPOINT: Command = Command {
    name: "checkpoint",
    words: super::ID,
    count: (0, usize::MAX),
    help: "checkpoint a running container (not supported yet)",
    flags: &[],
    run: refuse,
    failure: 1,
};

pub(super) const RESTORE: Command = Command {
    name: "restore",
    words: super::ID,
    count: (0, usize::MAX),
    help: "restore a container from a checkpoint (not supported yet)",
    flags: &[],
    run: refuse,
    failure: 1,
};

fn refuse(_: &Runtime, _: &Flags) -> Result<ExitCode> {
    Err(Error::Refused(
        "checkpoint and restore are not supported yet".into(),
    ))
}
