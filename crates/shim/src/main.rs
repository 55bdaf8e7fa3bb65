//! The small program that ships inside `wharf` and is run out of memory: a container's shim, the
//! init inside it, and the OCI runtime's command line. Which one, its name says.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use wharf_container_runtime::{INIT_ARGV0, init_reaper};

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let name = arguments.next();
    if name.as_deref() == Some(OsStr::new(INIT_ARGV0)) {
        let status = init_reaper(arguments);
        return ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX));
    }
    if let Some(name) = runtime_name(name.as_deref()) {
        // Whoever starts us under that name has seen to it that nobody can write to our file.
        return wharf_runtime_command::main(name, arguments, None);
    }
    wharf_shim::main()
}

/// The name, if it is one of the runtime's.
fn runtime_name(name: Option<&OsStr>) -> Option<&'static str> {
    let name = Path::new(name?).file_name()?;
    let names = wharf_runtime_command::NAMES;
    names.into_iter().find(|known| *known == name)
}
