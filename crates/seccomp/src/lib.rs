//! System call filters: from Docker's profile to the kernel's instructions, without any system
//! call of its own.
//!
//! ```text
//! profile (JSON, with conditions) ─ Profile::resolve(caps, machine) ─▶ oci Seccomp
//!                                                     ─ compile() ─▶ Program (classic BPF)
//! ```

mod compile;
mod profile;
mod program;
mod tables;

pub use compile::{CompileError, compile};
pub use profile::{Machine, NATIVE, Profile, ProfileError};
pub use program::{Instruction, NotAProgram, Program};
