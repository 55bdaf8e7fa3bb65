//! The program that stays with a container: its shim, and the init inside it.

use std::env;
use std::ffi::OsStr;
use std::process::ExitCode;

use wharf_container_runtime::{INIT_ARGV0, init_reaper};

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let name = arguments.next();
    if name.as_deref() == Some(OsStr::new(INIT_ARGV0)) {
        let status = init_reaper(arguments);
        return ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX));
    }
    wharf_shim::main()
}
