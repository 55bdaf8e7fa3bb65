//! The programs that run where containers might get hold of them: the small one inside this one,
//! which is the shim, and this one itself as the OCI runtime.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use wharf_sys::{exec, memfd, unwritable};

/// The small program, for whoever starts it.
pub(crate) static SMALL: &[u8] = include_bytes!(env!("WHARF_SHIM_PROGRAM"));

/// Runs as the OCI runtime, called as `name`.
pub(crate) fn runtime(name: &str, arguments: &[OsString]) -> ExitCode {
    let hide = (!unwritable::is_unwritable()).then_some(become_unwritable as _);
    wharf_runtime_command::main(name, arguments.iter().cloned(), hide)
}

/// Becomes the OCI runtime where no container can write to its file (CVE-2019-5736): this program
/// by way of a read-only file system or, for those who may not make one, a sealed copy in memory of
/// the small program. Only returns with the reason why neither is to be had.
fn become_unwritable(words: &[OsString]) -> io::Error {
    // The kernel may also let us make a file system and then not execute what is in it.
    let Err(_) = unwritable::own_program().and_then(|program| start(&program, words));
    let copy = memfd::sealed_part("wharf-runtime", SMALL, true);
    let Err(error) = copy.and_then(|program| start(&program, words));
    error
}

fn start(program: &OwnedFd, words: &[OsString]) -> io::Result<Infallible> {
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let words = strings(words.iter().cloned())?;
    Ok(exec::fexecve(
        program.as_fd(),
        &words,
        &strings(environment)?,
    )?)
}

fn strings(words: impl Iterator<Item = OsString>) -> io::Result<Vec<CString>> {
    words
        .map(|word| CString::new(word.into_vec()).map_err(io::Error::other))
        .collect()
}
