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
}

/// Bytes that are not a compiled filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a compiled seccomp filter of {length} bytes")]
pub struct NotAProgram {
    length: usize,
}

/// First bytes of a serialised program; the version is part of it.
const MAGIC: [u8; 4] = *b"sbp1";

impl Program {
    /// The kernel's limit (`BPF_MAXINSNS`).
    pub const INSTRUCTIONS_MAX: usize = 4096;

    /// A form that can be sent to another process of the same machine: a header of eight bytes
    /// (magic and flags), then the instructions as the kernel takes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.instructions.len() * 8);
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_le_bytes());
        for instruction in &self.instructions {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes)' form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAProgram> {
        let wrong = NotAProgram {
            length: bytes.len(),
        };
        let (records, rest) = bytes.as_chunks::<8>();
        let Some(([m0, m1, m2, m3, flags @ ..], records)) = records.split_first() else {
            return Err(wrong);
        };
        if !rest.is_empty()
            || [*m0, *m1, *m2, *m3] != MAGIC
            || records.is_empty()
            || records.len() > Self::INSTRUCTIONS_MAX
        {
            return Err(wrong);
        }
        let instructions = records
            .iter()
            .map(|[c0, c1, jt, jf, k @ ..]| Instruction {
                code: u16::from_le_bytes([*c0, *c1]),
                jt: *jt,
                jf: *jf,
                k: u32::from_le_bytes(*k),
            })
            .collect();
        Ok(Self {
            flags: u32::from_le_bytes(*flags),
            instructions,
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
        let program = Program {
            flags: 2,
            instructions: vec![Instruction {
                code: 6,
                jt: 1,
                jf: 2,
                k: 0x7fff_0000,
            }],
        };
        assert_eq!(Program::from_bytes(&program.to_bytes()), Ok(program));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"sbp1",
            b"sbp10000",
            b"xxxx000012345678",
            b"sbp1000012345678x",
        ] {
            assert!(Program::from_bytes(bytes).is_err());
        }
    }
}
