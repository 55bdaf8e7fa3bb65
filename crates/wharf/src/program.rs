//! The small program inside this one: the shim, and the OCI runtime's command line.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

/// The program, for whoever starts it.
pub(crate) static SMALL: &[u8] = include_bytes!(env!("WHARF_SHIM_PROGRAM"));

/// Becomes the OCI runtime, called as `name`: a sealed copy in memory of the small program, so
/// that no container ever gets hold of a file of ours (CVE-2019-5736).
pub(crate) fn become_runtime(name: &str, arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from(name)).chain(arguments);
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let result = sealed().and_then(|program| {
        let result =
            wharf_sys::exec::fexecve(program.as_fd(), &strings(words)?, &strings(environment)?);
        Ok(result?)
    });
    let Err(error): std::io::Result<Infallible> = result;
    drop(writeln!(
        std::io::stderr(),
        "cannot start the runtime: {error}"
    ));
    ExitCode::FAILURE
}

fn sealed() -> std::io::Result<std::os::fd::OwnedFd> {
    wharf_sys::memfd::sealed_part("wharf-runtime", SMALL, true)
}

fn strings(words: impl Iterator<Item = OsString>) -> std::io::Result<Vec<CString>> {
    words
        .map(|word| CString::new(word.into_vec()).map_err(std::io::Error::other))
        .collect()
}
