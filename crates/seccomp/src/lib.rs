//! System call filters: from Docker's profile to the kernel's instructions, without any system
//! call of its own.
//!
//! ```text
//! profile (JSON, with conditions) ─ Profile::resolve(caps, machine) ─▶ oci Seccomp
//!                                                     ─ compile() ─▶ Program (classic BPF)
//! ```
//!
//! [`Program::evaluate`] says what a program does with a call, as the kernel would.

mod compile;
mod interpret;
mod profile;
mod program;
mod tables;

pub use compile::{CompileError, FLAGS, compile, compile_for};
pub use interpret::Call;
pub use profile::{Machine, NATIVE, Profile, ProfileError};
pub use program::{Instruction, Listener, NotAProgram, Program};
pub use tables::{audit, call_name, number};
