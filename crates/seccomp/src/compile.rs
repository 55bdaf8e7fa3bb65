//! From an OCI filter to classic BPF.
//!
//! ```text
//! load arch ─ one section per architecture ─ any other architecture: killed
//! section:    load number ─ binary search over ranges of numbers treated alike
//! treatment:  a return, or argument checks one rule after the other, each ending in a return
//! ```
//!
//! Of several rules for a call the first that matches decides; what no rule matches gets the
//! default action. Calls newer than any the filter names get `ENOSYS` where the default is a
//! refusal: to programs that is a kernel without the call, and they fall back, where any other
//! refusal would break them (as `runc` does).

use std::collections::BTreeMap;

use wharf_oci::runtime::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOp, SyscallRule};

use crate::profile::NATIVE;
use crate::program::{Instruction, Program};
use crate::tables::{self, X32_BIT};

/// Why a filter cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An argument index is not 0 to 5.
    #[error("argument index {0} is not 0 to 5")]
    ArgumentIndex(u32),
    /// A flag is not known.
    #[error("flag {0:?} is not supported")]
    Flag(String),
    /// Asking a supervisor needs somebody to ask.
    #[error("SCMP_ACT_NOTIFY is not supported yet")]
    Notify,
    /// More instructions than the kernel takes.
    #[error("the filter needs {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

impl wharf_fault::Fault for CompileError {
    fn kind(&self) -> wharf_fault::Kind {
        wharf_fault::Kind::InvalidParameter
    }
}

/// Classic BPF operations used here (`linux/bpf_common.h`).
pub(crate) mod op {
    pub(crate) const LOAD: u16 = 0x20;
    pub(crate) const AND: u16 = 0x54;
    pub(crate) const JUMP: u16 = 0x05;
    pub(crate) const JUMP_EQUAL: u16 = 0x15;
    pub(crate) const JUMP_GREATER: u16 = 0x25;
    pub(crate) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
    pub(crate) const RETURN: u16 = 0x06;
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Filter results (`linux/seccomp.h`).
const KILL_THREAD: u32 = 0;
const ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// Compiles `filter` for this machine.
pub fn compile(filter: &Seccomp) -> Result<Program, CompileError> {
    let flags = flags(&filter.flags)?;
    let default = result(filter.default_action, filter.default_errno_ret)?;
    let sections = Sections::plan(filter, default)?;
    let mut program = vec![load(ARCH)];
    for (audit, treatments) in &sections.0 {
        let mut section = vec![load(NUMBER)];
        section.extend(search(treatments));
        // The section is skipped by a jump of its own: it is longer than a comparison can jump.
        program.push(jump(op::JUMP_EQUAL, *audit, 1, 0));
        program.push(jump(op::JUMP, length(&section), 0, 0));
        program.extend(section);
    }
    program.push(give(KILL_THREAD));
    if program.len() > Program::INSTRUCTIONS_MAX {
        return Err(CompileError::TooLong(program.len()));
    }
    Ok(Program {
        flags,
        instructions: program,
    })
}

fn flags(names: &[String]) -> Result<u32, CompileError> {
    const SPEC_ALLOW: u32 = 4;
    if names.is_empty() {
        // What runc does when nothing is said: no slow-down of everything else in the process.
        return Ok(SPEC_ALLOW);
    }
    names.iter().try_fold(0, |flags, name| match name.as_str() {
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags | 1),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | 2),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | SPEC_ALLOW),
        other => Err(CompileError::Flag(other.to_owned())),
    })
}

/// What the filter returns for an action.
fn result(action: SeccompAction, errno: Option<u32>) -> Result<u32, CompileError> {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    Ok(match action {
        SeccompAction::Kill | SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno => ERRNO | data,
        SeccompAction::Trace => 0x7ff0_0000 | data,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
        SeccompAction::Notify => return Err(CompileError::Notify),
    })
}

fn is_refusal(action: SeccompAction) -> bool {
    matches!(
        action,
        SeccompAction::Kill
            | SeccompAction::KillProcess
            | SeccompAction::KillThread
            | SeccompAction::Trap
            | SeccompAction::Errno
    )
}

/// How a call is treated: rules with conditions in order, then the result when none matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Treatment {
    rules: Vec<(Vec<SeccompArg>, u32)>,
    otherwise: u32,
}

/// Per audit architecture: treatments by the first number they are for, gapless from 0.
struct Sections(Vec<(u32, BTreeMap<u32, Treatment>)>);

impl Sections {
    fn plan(filter: &Seccomp, default: u32) -> Result<Self, CompileError> {
        let mut arches = vec![NATIVE];
        arches.extend(filter.architectures.iter().filter(|arch| **arch != NATIVE));
        let mut sections: Vec<(u32, BTreeMap<u32, Treatment>)> = Vec::new();
        for arch in &arches {
            let Some(audit) = tables::audit(*arch) else {
                continue;
            };
            let calls = calls(filter, *arch, default)?;
            let first = if *arch == SeccompArch::X32 {
                X32_BIT
            } else {
                0
            };
            // A number of an architecture that is not covered kills, as for whole architectures.
            let end = match arch {
                SeccompArch::X86_64 => Some((X32_BIT, KILL_THREAD)),
                _ => None,
            };
            let ranges = ranges(filter, calls, first, default, end)?;
            match sections.iter_mut().find(|(known, _)| *known == audit) {
                // x86_64 and x32 share a section: the later one brings what is from its bit on.
                Some((_, treatments)) => {
                    if first == 0 {
                        let upper = treatments.split_off(&X32_BIT);
                        *treatments = ranges;
                        treatments.split_off(&X32_BIT);
                        treatments.extend(upper);
                    } else {
                        treatments.split_off(&X32_BIT);
                        treatments.extend(ranges);
                    }
                }
                None if first == 0 => sections.push((audit, ranges)),
                // x32 without x86_64 cannot be: the native one comes first.
                None => {}
            }
        }
        Ok(Self(sections))
    }
}

/// The treatment of every call the filter names.
fn calls(
    filter: &Seccomp,
    arch: SeccompArch,
    default: u32,
) -> Result<BTreeMap<u32, Treatment>, CompileError> {
    let mut calls: BTreeMap<u32, Treatment> = BTreeMap::new();
    let mut closed: Vec<u32> = Vec::new();
    for rule in &filter.syscalls {
        let outcome = result(rule.action, rule.errno_ret)?;
        let alternatives = alternatives(rule)?;
        for number in rule
            .names
            .iter()
            .filter_map(|name| tables::number(arch, name))
        {
            let treatment = calls.entry(number).or_insert_with(|| Treatment {
                rules: Vec::new(),
                otherwise: default,
            });
            if closed.contains(&number) {
                continue;
            }
            if alternatives.is_empty() {
                treatment.otherwise = outcome;
                closed.push(number);
            } else {
                treatment.rules.extend(
                    alternatives
                        .iter()
                        .map(|conditions| (conditions.clone(), outcome)),
                );
            }
        }
    }
    Ok(calls)
}

/// The conditions of a rule, each set of which is enough. Conditions on different arguments must
/// all hold; several on one argument are alternatives, as they have always been in Docker
/// (libseccomp could not express anything else).
fn alternatives(rule: &SyscallRule) -> Result<Vec<Vec<SeccompArg>>, CompileError> {
    let mut seen = [false; 6];
    let mut repeated = false;
    for condition in &rule.args {
        let index = usize::try_from(condition.index).ok();
        let slot = index
            .and_then(|index| seen.get_mut(index))
            .ok_or(CompileError::ArgumentIndex(condition.index))?;
        repeated |= *slot;
        *slot = true;
    }
    Ok(match rule.args.as_slice() {
        [] => Vec::new(),
        conditions if repeated => conditions
            .iter()
            .map(|condition| vec![*condition])
            .collect(),
        conditions => vec![conditions.to_vec()],
    })
}

/// Treatments by the first number of their range, from `first` to the end of all numbers.
fn ranges(
    filter: &Seccomp,
    calls: BTreeMap<u32, Treatment>,
    first: u32,
    default: u32,
    end: Option<(u32, u32)>,
) -> Result<BTreeMap<u32, Treatment>, CompileError> {
    let plain = |otherwise| Treatment {
        rules: Vec::new(),
        otherwise,
    };
    let newest = calls.keys().next_back().copied();
    let mut starts = BTreeMap::from([(first, plain(default))]);
    let mut after = first;
    for (number, treatment) in calls {
        if number > after {
            starts.insert(after, plain(default));
        }
        starts.insert(number, treatment);
        after = number.saturating_add(1);
    }
    let beyond = match newest {
        Some(_)
            if is_refusal(filter.default_action) && filter.default_errno_ret != Some(ENOSYS) =>
        {
            plain(ERRNO | ENOSYS)
        }
        _ => plain(default),
    };
    starts.insert(after, beyond);
    if let Some((limit, outcome)) = end {
        starts.split_off(&limit);
        starts.insert(limit, plain(outcome));
    }
    // Number -1 is a tracer's way to skip a call, never a call.
    starts.insert(u32::MAX, plain(default));
    // Neighbours treated alike are one range.
    let mut merged: BTreeMap<u32, Treatment> = BTreeMap::new();
    for (number, treatment) in starts {
        if merged.values().next_back() != Some(&treatment) {
            merged.insert(number, treatment);
        }
    }
    Ok(merged)
}

/// A binary search for the treatment of the loaded number.
fn search(treatments: &BTreeMap<u32, Treatment>) -> Vec<Instruction> {
    let list: Vec<(u32, &Treatment)> = treatments
        .iter()
        .map(|(number, treatment)| (*number, treatment))
        .collect();
    search_slice(&list)
}

fn search_slice(list: &[(u32, &Treatment)]) -> Vec<Instruction> {
    match list {
        [] => Vec::new(),
        [(_, treatment)] => treat(treatment),
        _ => {
            let (lower, upper) = list.split_at(list.len() / 2);
            let (below, above) = (search_slice(lower), search_slice(upper));
            let mut code = Vec::with_capacity(below.len() + above.len() + 2);
            match u8::try_from(below.len()) {
                Ok(distance) => code.push(jump(op::JUMP_GREATER_OR_EQUAL, upper[0].0, distance, 0)),
                Err(_) => {
                    code.push(jump(op::JUMP_GREATER_OR_EQUAL, upper[0].0, 0, 1));
                    code.push(jump(op::JUMP, length(&below), 0, 0));
                }
            }
            code.extend(below);
            code.extend(above);
            code
        }
    }
}

fn treat(treatment: &Treatment) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, outcome) in &treatment.rules {
        code.extend(rule(conditions, *outcome));
    }
    code.push(give(treatment.otherwise));
    code
}

/// Where a check goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The condition holds: on to the next condition.
    Holds,
    /// It does not: on to the next rule.
    Fails,
}

/// One step of a check: a comparison of the accumulator, or something else.
enum Step {
    Plain(Instruction),
    Compare {
        code: u16,
        value: u32,
        yes: To,
        no: To,
    },
}

/// Checks `conditions` and returns `outcome` if all hold; falls through otherwise.
fn rule(conditions: &[SeccompArg], outcome: u32) -> Vec<Instruction> {
    let checks: Vec<Vec<Step>> = conditions.iter().map(check).collect();
    let total: usize = checks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    let mut end_of_check = 0;
    for steps in checks {
        end_of_check += steps.len();
        for step in steps {
            let next = code.len() + 1;
            // At most six checks of six steps each: every distance fits.
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => u8::try_from(end_of_check - next).unwrap_or(u8::MAX),
                To::Fails => u8::try_from(total - next).unwrap_or(u8::MAX),
            };
            code.push(match step {
                Step::Plain(instruction) => instruction,
                Step::Compare {
                    code,
                    value,
                    yes,
                    no,
                } => jump(code, value, distance(yes), distance(no)),
            });
        }
    }
    code.push(give(outcome));
    code
}

/// The check of one condition. Arguments have 64 bits, the accumulator has 32: the high half
/// decides unless it is equal.
fn check(condition: &SeccompArg) -> Vec<Step> {
    let offset = ARGUMENTS + 8 * condition.index;
    let (low, high) = (Step::Plain(load(offset)), Step::Plain(load(offset + 4)));
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(condition.value);
    let compare = |code, value, yes, no| Step::Compare {
        code,
        value,
        yes,
        no,
    };
    let equal_high = |no| compare(op::JUMP_EQUAL, value_high, To::Next, no);
    match condition.op {
        SeccompOp::Equal => vec![
            high,
            equal_high(To::Fails),
            low,
            compare(op::JUMP_EQUAL, value_low, To::Holds, To::Fails),
        ],
        SeccompOp::NotEqual => vec![
            high,
            equal_high(To::Holds),
            low,
            compare(op::JUMP_EQUAL, value_low, To::Fails, To::Holds),
        ],
        SeccompOp::Greater | SeccompOp::GreaterOrEqual => {
            let last = if condition.op == SeccompOp::Greater {
                op::JUMP_GREATER
            } else {
                op::JUMP_GREATER_OR_EQUAL
            };
            vec![
                high,
                compare(op::JUMP_GREATER, value_high, To::Holds, To::Next),
                equal_high(To::Fails),
                low,
                compare(last, value_low, To::Holds, To::Fails),
            ]
        }
        SeccompOp::Less | SeccompOp::LessOrEqual => {
            let last = if condition.op == SeccompOp::Less {
                op::JUMP_GREATER_OR_EQUAL
            } else {
                op::JUMP_GREATER
            };
            vec![
                high,
                compare(op::JUMP_GREATER, value_high, To::Fails, To::Next),
                equal_high(To::Holds),
                low,
                compare(last, value_low, To::Fails, To::Holds),
            ]
        }
        SeccompOp::MaskedEqual => {
            let (wanted_high, wanted_low) = halves(condition.value_two);
            let mask = |k| {
                Step::Plain(Instruction {
                    code: op::AND,
                    jt: 0,
                    jf: 0,
                    k,
                })
            };
            vec![
                high,
                mask(value_high),
                compare(op::JUMP_EQUAL, wanted_high, To::Next, To::Fails),
                low,
                mask(value_low),
                compare(op::JUMP_EQUAL, wanted_low, To::Holds, To::Fails),
            ]
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: op::LOAD,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

fn give(result: u32) -> Instruction {
    Instruction {
        code: op::RETURN,
        jt: 0,
        jf: 0,
        k: result,
    }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn length(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
