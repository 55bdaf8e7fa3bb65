//! System call filters: from Docker's profile to the kernel's instructions, without any system
//! call of its own.
//!
//! ```text
//! profile (JSON, with conditions) ─ Profile::resolve(caps, arch, kernel) ─▶ oci Seccomp
//!                                                       ─ compile() ─▶ Program (classic BPF)
//! ```

mod program;

pub use program::{Instruction, NotAProgram, Program};
