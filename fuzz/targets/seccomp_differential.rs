//! Random filters, calls and arguments on every architecture: the compiled program, run as the
//! kernel runs it, says what the document says.
#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wharf_oci::runtime::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOp, SyscallRule};
use wharf_seccomp::{Call, CompileError, compile_for, number};

const NAMES: [&str; 16] = [
    "read", "write", "open", "openat", "clone", "clone3", "socket", "personality", "mseal", "set_tls", "sendmsg",
    "execve", "s390_runtime_instr", "ioctl", "unshare", "no_such_call",
];

const ARCHITECTURES: [SeccompArch; 23] = SeccompArch::ALL;

const ACTIONS: [SeccompAction; 9] = [
    SeccompAction::Kill, SeccompAction::KillProcess, SeccompAction::KillThread, SeccompAction::Trap,
    SeccompAction::Errno, SeccompAction::Trace, SeccompAction::Allow, SeccompAction::Log, SeccompAction::Notify,
];

const OPERATORS: [SeccompOp; 7] = [
    SeccompOp::NotEqual, SeccompOp::Less, SeccompOp::LessOrEqual, SeccompOp::Equal, SeccompOp::GreaterOrEqual,
    SeccompOp::Greater, SeccompOp::MaskedEqual,
];

#[derive(Debug)]
struct Case {
    filter: Seccomp,
    native: SeccompArch,
    arch: SeccompArch,
    name: &'static str,
    arguments: [u64; 6],
}

/// Values at which comparisons go wrong, and any other.
fn value(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=7)? {
        0 => 0,
        1 => 1,
        2 => 0xffff_ffff,
        3 => 0x1_0000_0000,
        4 => 0x1_0000_0001,
        5 => u64::MAX,
        6 => 0x1000_0000,
        _ => u.arbitrary()?,
    })
}

fn rule(u: &mut Unstructured<'_>) -> Result<SyscallRule> {
    let mut names = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        names.push((*u.choose(&NAMES)?).to_owned());
    }
    let mut args = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        args.push(SeccompArg {
            index: u.int_in_range(0..=6)?,
            value: value(u)?,
            value_two: value(u)?,
            op: *u.choose(&OPERATORS)?,
        });
    }
    Ok(SyscallRule { names, action: *u.choose(&ACTIONS)?, errno_ret: u.arbitrary()?, args })
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut architectures = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            architectures.push(*u.choose(&ARCHITECTURES)?);
        }
        // x32 is a way to call x86_64 kernels; there is no machine of it.
        let native = match *u.choose(&ARCHITECTURES)? {
            SeccompArch::X32 => SeccompArch::X86_64,
            other => other,
        };
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = value(u)?;
        }
        let name = u.choose(&NAMES)?;
        let mut syscalls = Vec::new();
        for _ in 0..u.int_in_range(0..=12)? {
            syscalls.push(rule(u)?);
        }
        Ok(Self {
            arch: *u.choose(&[&[native][..], &architectures].concat())?,
            filter: Seccomp {
                default_action: *u.choose(&ACTIONS)?,
                default_errno_ret: u.arbitrary()?,
                architectures,
                flags: Vec::new(),
                listener_path: Some("/run/agent".into()),
                listener_metadata: None,
                syscalls,
            },
            native,
            name,
            arguments,
        })
    }
}

fn result(action: SeccompAction, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1) & 0xffff;
    match action {
        SeccompAction::Kill | SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno => 0x0005_0000 | data,
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace => 0x7ff0_0000 | data,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

fn holds(condition: &SeccompArg, arguments: &[u64; 6]) -> bool {
    let argument = arguments[condition.index as usize];
    match condition.op {
        SeccompOp::NotEqual => argument != condition.value,
        SeccompOp::Less => argument < condition.value,
        SeccompOp::LessOrEqual => argument <= condition.value,
        SeccompOp::Equal => argument == condition.value,
        SeccompOp::GreaterOrEqual => argument >= condition.value,
        SeccompOp::Greater => argument > condition.value,
        SeccompOp::MaskedEqual => argument & condition.value == condition.value_two,
    }
}

fn matches(rule: &SyscallRule, case: &Case) -> bool {
    let mut indices: Vec<u32> = rule.args.iter().map(|condition| condition.index).collect();
    indices.sort_unstable();
    let repeated = indices.windows(2).any(|pair| pair[0] == pair[1]);
    let holds = |condition: &SeccompArg| holds(condition, &case.arguments);
    rule.names.iter().any(|name| name == case.name)
        && if repeated { rule.args.iter().any(holds) } else { rule.args.iter().all(holds) }
}

/// What the document says.
fn meaning(case: &Case, number_here: u32) -> u32 {
    let filter = &case.filter;
    let newest = filter
        .syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .filter_map(|name| number(case.arch, name))
        .filter(|number| number & 0x000f_0000 == 0)
        .max();
    let private = number_here & 0x000f_0000 != 0;
    let refuses = !matches!(
        filter.default_action,
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace | SeccompAction::Notify
    );
    let named = filter.syscalls.iter().any(|rule| rule.names.iter().any(|name| name == case.name));
    if refuses
        && filter.default_errno_ret != Some(38)
        && !(private && named)
        && newest.is_some_and(|newest| number_here > newest)
    {
        return 0x0005_0000 | 38;
    }
    let default = result(filter.default_action, filter.default_errno_ret);
    let says = |rule: &SyscallRule| result(rule.action, rule.errno_ret);
    // Without conditions it decides whatever stands before it; what says nothing new is not there.
    let telling = || filter.syscalls.iter().filter(|rule| says(rule) != default && matches(rule, case));
    let plain = telling().find(|rule| rule.args.is_empty());
    plain.or_else(|| telling().next()).map_or(default, says)
}

fuzz_target!(|case: Case| {
    let program = match compile_for(&case.filter, case.native) {
        Ok(program) => program,
        Err(CompileError::ArgumentIndex(index)) => return assert_eq!(index, 6),
        Err(CompileError::Notify(_)) => {
            let asks = |rule: &SyscallRule| {
                rule.action == SeccompAction::Notify && rule.names.iter().any(|name| name == "write")
            };
            let default = case.filter.default_action == SeccompAction::Notify;
            return assert!(default || case.filter.syscalls.iter().any(asks));
        }
        Err(error) => panic!("{error}"),
    };
    assert!(program.instructions.len() <= wharf_seccomp::Program::INSTRUCTIONS_MAX);
    let Some(number) = number(case.arch, case.name) else { return };
    let call = Call { arch: case.arch, number, arguments: case.arguments };
    let said = program.evaluate(&call).expect("the kernel takes the program");
    // The architectures of a machine share the byte order; others have no section.
    let covered = case.arch == case.native || said != 0;
    if covered {
        assert_eq!(said, meaning(&case, number));
    }
    let asks = program.instructions.iter().any(|step| step.code == 6 && step.k == 0x7fc0_0000);
    assert_eq!(program.listener.is_some(), asks);
    let bytes = program.to_bytes();
    assert_eq!(wharf_seccomp::Program::from_bytes(&bytes), Ok(program));
});
