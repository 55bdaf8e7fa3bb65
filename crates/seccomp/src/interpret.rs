//! What a compiled filter says about a call: the part of the kernel's classic BPF machine that
//! filters use.

use wharf_oci::runtime::SeccompArch;

use crate::compile::{ARCH, ARGUMENTS, NOTIFY, NUMBER, op};
use crate::profile::NATIVE;
use crate::program::{Instruction, Program};
use crate::tables;

/// A system call as a filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The convention it is made by.
    pub arch: SeccompArch,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Call {
    /// The word of `struct seccomp_data` at `offset`.
    fn word(&self, offset: u32) -> Option<u32> {
        if offset == NUMBER {
            return Some(self.number);
        }
        if offset == ARCH {
            return Some(tables::audit(self.arch));
        }
        let index = usize::try_from(offset.checked_sub(ARGUMENTS)? / 8).ok()?;
        let argument = *self.arguments.get(index)?;
        let halves = (argument as u32, (argument >> 32) as u32);
        let first_is_low = !tables::is_big_endian(self.arch);
        match offset % 8 {
            0 => Some(if first_is_low { halves.0 } else { halves.1 }),
            4 => Some(if first_is_low { halves.1 } else { halves.0 }),
            _ => None,
        }
    }
}

impl Program {
    /// What the filter returns for `call` (`SECCOMP_RET_*` with its data); `None` if it is no
    /// filter the kernel would take.
    pub fn evaluate(&self, call: &Call) -> Option<u32> {
        let (mut counter, mut accumulator) = (0_usize, 0_u32);
        // Jumps only go forward: the counter grows with every step.
        loop {
            let step = self.instructions.get(counter)?;
            counter += 1;
            match step.code {
                op::LOAD => accumulator = call.word(step.k)?,
                op::AND => accumulator &= step.k,
                op::RETURN => return Some(step.k),
                _ => {
                    let taken = compare(*step, accumulator)?;
                    counter = counter.checked_add(distance(*step, taken)?)?;
                }
            }
        }
    }

    /// Whether there are arguments with which the native call `name` is answered by a supervisor.
    pub fn may_ask_about(&self, name: &str) -> bool {
        tables::number(NATIVE, name).is_some_and(|number| {
            let call = Call {
                arch: NATIVE,
                number,
                arguments: [0; 6],
            };
            let mut seen = vec![false; self.instructions.len()];
            self.reaches(&call, 0, None, NOTIFY, &mut seen)
        })
    }

    /// Whether a return of `outcome` can be reached from `counter`, whatever the arguments.
    fn reaches(
        &self,
        call: &Call,
        mut counter: usize,
        mut accumulator: Option<u32>,
        outcome: u32,
        seen: &mut [bool],
    ) -> bool {
        while let Some(step) = self.instructions.get(counter) {
            if accumulator.is_none() && std::mem::replace(&mut seen[counter], true) {
                return false;
            }
            counter += 1;
            match step.code {
                op::LOAD if step.k < ARGUMENTS => accumulator = call.word(step.k),
                op::LOAD => accumulator = None,
                op::AND => accumulator = accumulator.map(|value| value & step.k),
                op::RETURN => return step.k == outcome,
                _ => {
                    let ways = match accumulator.map(|value| compare(*step, value)) {
                        Some(Some(taken)) => [Some(taken), None],
                        _ => [Some(true), Some(false)],
                    };
                    return ways.into_iter().flatten().any(|taken| {
                        distance(*step, taken).is_some_and(|distance| {
                            self.reaches(call, counter + distance, accumulator, outcome, seen)
                        })
                    });
                }
            }
        }
        false
    }
}

/// Whether the jump `step` is taken; `None` if it is none.
fn compare(step: Instruction, accumulator: u32) -> Option<bool> {
    match step.code {
        op::JUMP => Some(true),
        op::JUMP_EQUAL => Some(accumulator == step.k),
        op::JUMP_GREATER => Some(accumulator > step.k),
        op::JUMP_GREATER_OR_EQUAL => Some(accumulator >= step.k),
        _ => None,
    }
}

/// How many instructions the jump `step` skips.
fn distance(step: Instruction, taken: bool) -> Option<usize> {
    if step.code == op::JUMP {
        return usize::try_from(step.k).ok();
    }
    Some(usize::from(if taken { step.jt } else { step.jf }))
}
