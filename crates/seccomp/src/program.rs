//! A compiled filter: classic BPF instructions and the flags it is installed with.

use std::fmt;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when the comparison holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A compiled filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// `SECCOMP_FILTER_FLAG_*` bits for `seccomp(2)`.
    pub flags: u32,
    /// The instructions, at most [`Program::INSTRUCTIONS_MAX`].
    pub instructions: Vec<Instruction>,
    /// Who is asked about calls the program leaves to a supervisor.
    pub listener: Option<Listener>,
}

/// The supervisor of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The unix socket that gets the listener's descriptor.
    pub path: String,
    /// Sent along with it.
    pub metadata: String,
}

/// Bytes that are not a compiled filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a compiled seccomp filter of {length} bytes")]
pub struct NotAProgram {
    length: usize,
}

/// First bytes of a serialised program; the version is part of it.
const MAGIC: [u8; 4] = *b"sbp2";

impl Program {
    /// The kernel's limit (`BPF_MAXINSNS`).
    pub const INSTRUCTIONS_MAX: usize = 4096;

    /// A form that can be sent to another process of the same machine. All numbers are
    /// little-endian:
    ///
    /// ```text
    /// magic (4) · flags (4) · instruction count (4) · instructions (8 each)
    /// with a listener: length of its path (4) · path · metadata
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(12 + self.instructions.len() * 8);
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(length(self.instructions.len()));
        for instruction in &self.instructions {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        if let Some(listener) = &self.listener {
            bytes.extend(length(listener.path.len()));
            bytes.extend(listener.path.as_bytes());
            bytes.extend(listener.metadata.as_bytes());
        }
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes)' form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAProgram> {
        Self::read(bytes).ok_or(NotAProgram {
            length: bytes.len(),
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(&MAGIC)?;
        let (flags, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        if count == 0 || count > Self::INSTRUCTIONS_MAX {
            return None;
        }
        let (instructions, rest) = bytes.split_at_checked(count * 8)?;
        let (instructions, _) = instructions.as_chunks::<8>();
        let instructions = instructions
            .iter()
            .map(|[c0, c1, jt, jf, k @ ..]| Instruction {
                code: u16::from_le_bytes([*c0, *c1]),
                jt: *jt,
                jf: *jf,
                k: u32::from_le_bytes(*k),
            })
            .collect();
        let listener = if rest.is_empty() {
            None
        } else {
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (path, metadata) = rest.split_at_checked(length)?;
            Some(Listener {
                path: String::from_utf8(path.to_vec()).ok()?,
                metadata: String::from_utf8(metadata.to_vec()).ok()?,
            })
        };
        Some(Self {
            flags: u32::from_le_bytes(*flags),
            instructions,
            listener,
        })
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Program({} instructions, flags {:#x})",
            self.instructions.len(),
            self.flags
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back() {
        let mut program = Program {
            flags: 2,
            instructions: vec![Instruction {
                code: 6,
                jt: 1,
                jf: 2,
                k: 0x7fff_0000,
            }],
            listener: None,
        };
        assert_eq!(
            Program::from_bytes(&program.to_bytes()).as_ref(),
            Ok(&program)
        );
        program.listener = Some(Listener {
            path: "/run/agent".into(),
            metadata: "for whom".into(),
        });
        assert_eq!(Program::from_bytes(&program.to_bytes()), Ok(program));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"sbp2",
            b"sbp20000\x01\0\0\0",
            b"sbp20000\0\0\0\0",
            b"xxxx0000\x01\0\0\x0012345678",
            b"sbp20000\x01\0\0\x0012345678x",
            b"sbp20000\x01\0\0\x0012345678\x09\0\0\0abc",
        ] {
            assert!(Program::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
