//! From an OCI filter to classic BPF.
//!
//! ```text
//! load arch ─ one section per architecture ─ any other architecture: killed
//! section:    load number ─ binary search over ranges of numbers treated alike
//! treatment:  a return, or argument checks one rule after the other, each ending in a return
//! ```
//!
//! Of several rules for a call the first without conditions decides, or where there is none the first that
//! matches; what no rule matches gets the default action. Rules that say what the default says anyhow are left
//! out. All of this is as libseccomp takes the rules that `runc` gives it, for which profiles are written: taken
//! in another way, a profile that refuses something there could let it pass here. Calls newer than any the filter names get `ENOSYS` where the default is a
//! refusal: to programs that is a kernel without the call, and they fall back, where any other
//! refusal would break them (as `runc` does).

use std::collections::BTreeMap;

use wharf_oci::runtime::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOp, SyscallRule};

use crate::profile::NATIVE;
use crate::program::{Instruction, Listener, Program};
use crate::tables::{self, X32_BIT, is_big_endian};

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
    #[error("SCMP_ACT_NOTIFY needs a listenerPath")]
    NoListener,
    /// Metadata without anybody who could get them.
    #[error("listenerMetadata needs a listenerPath")]
    Metadata,
    /// The call by which the runtime hands over the listener would itself wait for it; with the
    /// default action every call would.
    #[error("SCMP_ACT_NOTIFY cannot be used {0}")]
    Notify(&'static str),
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
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCH: u32 = 4;
pub(crate) const ARGUMENTS: u32 = 16;

/// Filter results (`linux/seccomp.h`).
const KILL_THREAD: u32 = 0;
const ERRNO: u32 = 0x0005_0000;
pub(crate) const NOTIFY: u32 = 0x7fc0_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// `SECCOMP_FILTER_FLAG_*` bits (`linux/seccomp.h`).
mod flag {
    pub(super) const TSYNC: u32 = 1;
    pub(super) const LOG: u32 = 2;
    pub(super) const SPEC_ALLOW: u32 = 4;
    pub(super) const NEW_LISTENER: u32 = 8;
    pub(super) const TSYNC_ESRCH: u32 = 16;
    pub(super) const WAIT_KILLABLE_RECV: u32 = 32;
}

/// Compiles `filter` for this machine.
pub fn compile(filter: &Seccomp) -> Result<Program, CompileError> {
    compile_for(filter, NATIVE)
}

/// Compiles `filter` for a machine of the architecture `native`. Architectures that such a machine
/// does not execute get no section: the kernel never asks about them.
pub fn compile_for(filter: &Seccomp, native: SeccompArch) -> Result<Program, CompileError> {
    let flags = flags(&filter.flags)?;
    check_notify(filter)?;
    let default = result(filter.default_action, filter.default_errno_ret);
    let sections = Sections::plan(filter, native, default)?;
    let mut program = vec![load(ARCH)];
    for (audit, treatments) in &sections.0 {
        let mut section = vec![load(NUMBER)];
        section.extend(search(treatments, is_big_endian(native)));
        // The section is skipped by a jump of its own: it is longer than a comparison can jump.
        program.push(jump(op::JUMP_EQUAL, *audit, 1, 0));
        program.push(jump(op::JUMP, length(&section), 0, 0));
        program.extend(section);
    }
    program.push(give(KILL_THREAD));
    if program.len() > Program::INSTRUCTIONS_MAX {
        return Err(CompileError::TooLong(program.len()));
    }
    let asks = program
        .iter()
        .any(|step| step.code == op::RETURN && step.k == NOTIFY);
    let listener = match &filter.listener_path {
        Some(path) if asks => Some(Listener {
            path: path.clone(),
            metadata: filter.listener_metadata.clone().unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(Program {
        flags: listener_flags(flags, listener.is_some()),
        instructions: program,
        listener,
    })
}

/// The flags of a filter that are understood.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

fn flags(names: &[String]) -> Result<u32, CompileError> {
    if names.is_empty() {
        // What runc does when nothing is said: no slow-down of everything else in the process.
        return Ok(flag::SPEC_ALLOW);
    }
    names.iter().try_fold(0, |flags, name| match name.as_str() {
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags | flag::TSYNC),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | flag::LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | flag::SPEC_ALLOW),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(flags | flag::WAIT_KILLABLE_RECV),
        other => Err(CompileError::Flag(other.to_owned())),
    })
}

/// The flags as the kernel takes them together.
fn listener_flags(flags: u32, has_listener: bool) -> u32 {
    if !has_listener {
        // Says how a listener waits.
        return flags & !flag::WAIT_KILLABLE_RECV;
    }
    let flags = flags | flag::NEW_LISTENER;
    if flags & flag::TSYNC == 0 {
        flags
    } else {
        // Both answers would be the result of the one call.
        flags | flag::TSYNC_ESRCH
    }
}

fn check_notify(filter: &Seccomp) -> Result<(), CompileError> {
    let has_path = filter
        .listener_path
        .as_ref()
        .is_some_and(|path| !path.is_empty());
    if !has_path && filter.listener_metadata.is_some() {
        return Err(CompileError::Metadata);
    }
    if filter.default_action == SeccompAction::Notify {
        return Err(CompileError::Notify("as the default action"));
    }
    let mut asking = filter
        .syscalls
        .iter()
        .filter(|rule| rule.action == SeccompAction::Notify)
        .peekable();
    if asking.peek().is_some() && !has_path {
        return Err(CompileError::NoListener);
    }
    if asking.any(|rule| rule.names.iter().any(|name| name == "write")) {
        return Err(CompileError::Notify("for the call write"));
    }
    Ok(())
}

/// What the filter returns for an action.
fn result(action: SeccompAction, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    match action {
        SeccompAction::Kill | SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno => ERRNO | data,
        SeccompAction::Trace => 0x7ff0_0000 | data,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
        SeccompAction::Notify => NOTIFY,
    }
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
    fn plan(filter: &Seccomp, native: SeccompArch, default: u32) -> Result<Self, CompileError> {
        let mut arches = vec![native];
        let others = filter.architectures.iter();
        arches.extend(others.filter(|arch| **arch != native && tables::executes(native, **arch)));
        let mut sections: Vec<(u32, BTreeMap<u32, Treatment>)> = Vec::new();
        for arch in &arches {
            let audit = tables::audit(*arch);
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
        let outcome = result(rule.action, rule.errno_ret);
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
            if closed.contains(&number) || outcome == default {
                continue;
            }
            if alternatives.is_empty() {
                treatment.rules.clear();
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
    // Arm's own calls lie far above all others and are old.
    let is_common = |number: u32| number - first < 0xf_0000;
    let newest = calls
        .keys()
        .rev()
        .copied()
        .find(|number| is_common(*number));
    let unnamed = |number: u32| match newest {
        Some(newest)
            if number > newest
                && is_refusal(filter.default_action)
                && filter.default_errno_ret != Some(ENOSYS) =>
        {
            plain(ERRNO | ENOSYS)
        }
        _ => plain(default),
    };
    let mut starts = BTreeMap::from([(first, unnamed(first))]);
    let mut after = first;
    for (number, treatment) in calls {
        if number > after {
            starts.insert(after, unnamed(after));
        }
        starts.insert(number, treatment);
        after = number.saturating_add(1);
    }
    starts.insert(after, unnamed(after));
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
fn search(treatments: &BTreeMap<u32, Treatment>, big_endian: bool) -> Vec<Instruction> {
    let list: Vec<(u32, &Treatment)> = treatments
        .iter()
        .map(|(number, treatment)| (*number, treatment))
        .collect();
    search_slice(&list, big_endian)
}

fn search_slice(list: &[(u32, &Treatment)], big_endian: bool) -> Vec<Instruction> {
    match list {
        [] => Vec::new(),
        [(_, treatment)] => treat(treatment, big_endian),
        _ => {
            let (lower, upper) = list.split_at(list.len() / 2);
            let (below, above) = (
                search_slice(lower, big_endian),
                search_slice(upper, big_endian),
            );
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

fn treat(treatment: &Treatment, big_endian: bool) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, outcome) in &treatment.rules {
        code.extend(rule(conditions, *outcome, big_endian));
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
fn rule(conditions: &[SeccompArg], outcome: u32, big_endian: bool) -> Vec<Instruction> {
    let checks: Vec<Vec<Step>> = conditions
        .iter()
        .map(|condition| check(condition, big_endian))
        .collect();
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
fn check(condition: &SeccompArg, big_endian: bool) -> Vec<Step> {
    let offset = ARGUMENTS + 8 * condition.index;
    let half = |second: bool| Step::Plain(load(offset + if second { 4 } else { 0 }));
    let (low, high) = (half(big_endian), half(!big_endian));
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
