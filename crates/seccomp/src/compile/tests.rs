//! The compiled filter against the meaning of the document, by way of an interpreter.

use proptest::prelude::*;

use super::*;
use crate::profile::{Machine, Profile};

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;

/// Runs a filter as the kernel does.
fn run(program: &Program, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        8 | 12 => 0,
        _ => {
            let argument = arguments[usize::try_from((offset - 16) / 8).unwrap()];
            if offset.is_multiple_of(8) {
                argument as u32
            } else {
                (argument >> 32) as u32
            }
        }
    };
    let (mut counter, mut accumulator) = (0, 0_u32);
    loop {
        let step = program.instructions[counter];
        counter += 1;
        let mut branch =
            |taken: bool| counter += usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            op::LOAD => accumulator = word(step.k),
            op::AND => accumulator &= step.k,
            op::JUMP => counter += usize::try_from(step.k).unwrap(),
            op::JUMP_EQUAL => branch(accumulator == step.k),
            op::JUMP_GREATER => branch(accumulator > step.k),
            op::JUMP_GREATER_OR_EQUAL => branch(accumulator >= step.k),
            op::RETURN => return step.k,
            code => panic!("unknown operation {code:#x}"),
        }
    }
}

fn holds(condition: &SeccompArg, arguments: [u64; 6]) -> bool {
    let argument = arguments[usize::try_from(condition.index).unwrap()];
    let value = condition.value;
    match condition.op {
        SeccompOp::NotEqual => argument != value,
        SeccompOp::Less => argument < value,
        SeccompOp::LessOrEqual => argument <= value,
        SeccompOp::Equal => argument == value,
        SeccompOp::GreaterOrEqual => argument >= value,
        SeccompOp::Greater => argument > value,
        SeccompOp::MaskedEqual => argument & value == condition.value_two,
    }
}

/// What the document says about a call, straight from its meaning.
fn meaning(filter: &Seccomp, name: &str, arguments: [u64; 6]) -> u32 {
    for rule in filter
        .syscalls
        .iter()
        .filter(|rule| rule.names.iter().any(|known| known == name))
    {
        let mut indices: Vec<u32> = rule.args.iter().map(|condition| condition.index).collect();
        indices.sort_unstable();
        let distinct = indices.windows(2).all(|pair| pair[0] != pair[1]);
        let matches = if distinct {
            rule.args
                .iter()
                .all(|condition| holds(condition, arguments))
        } else {
            rule.args
                .iter()
                .any(|condition| holds(condition, arguments))
        };
        if matches {
            return result(rule.action, rule.errno_ret).unwrap();
        }
    }
    result(filter.default_action, filter.default_errno_ret).unwrap()
}

fn docker(capabilities: &[&str]) -> Seccomp {
    Profile::docker_default()
        .resolve(
            capabilities,
            Machine {
                arch: NATIVE,
                kernel: (6, 1),
            },
        )
        .unwrap()
}

fn call(program: &Program, name: &str, arguments: [u64; 6]) -> u32 {
    run(
        program,
        X86_64,
        tables::number(SeccompArch::X86_64, name).unwrap(),
        arguments,
    )
}

#[test]
fn default_profile_blocks_what_docker_blocks() {
    let program = compile(&docker(&[])).unwrap();
    for name in ["read", "openat", "execve", "futex", "statx", "clone"] {
        assert_eq!(call(&program, name, [0; 6]), ALLOW, "{name}");
    }
    for name in [
        "unshare",
        "mount",
        "bpf",
        "kexec_load",
        "setns",
        "add_key",
        "fsopen",
        "perf_event_open",
    ] {
        assert_eq!(call(&program, name, [0; 6]), ERRNO | EPERM, "{name}");
    }
    assert_eq!(call(&program, "clone3", [0; 6]), ERRNO | ENOSYS);
    let (new_user_namespace, thread) = (0x1000_0000, 0x3d_0f00);
    assert_eq!(
        call(&program, "clone", [new_user_namespace, 0, 0, 0, 0, 0]),
        ERRNO | EPERM
    );
    assert_eq!(call(&program, "clone", [thread, 0, 0, 0, 0, 0]), ALLOW);
    for (family, allowed) in [
        (1, true),
        (2, true),
        (16, true),
        (38, false),
        (39, true),
        (40, false),
        (41, true),
    ] {
        assert_eq!(
            call(&program, "socket", [family, 0, 0, 0, 0, 0]) == ALLOW,
            allowed,
            "family {family}"
        );
    }
    assert!(
        program.instructions.len() < 1000,
        "{} instructions",
        program.instructions.len()
    );
}

#[test]
fn every_architecture_has_its_own_numbers() {
    let program = compile(&docker(&[])).unwrap();
    let number = |arch, name| tables::number(arch, name).unwrap();
    assert_eq!(
        run(
            &program,
            X86,
            number(SeccompArch::X86, "socketcall"),
            [0; 6]
        ),
        ALLOW
    );
    assert_eq!(
        run(&program, X86, number(SeccompArch::X86, "unshare"), [0; 6]),
        ERRNO | EPERM
    );
    assert_eq!(
        run(&program, X86_64, number(SeccompArch::X32, "ioctl"), [0; 6]),
        ALLOW
    );
    assert_eq!(
        run(
            &program,
            X86_64,
            number(SeccompArch::X32, "unshare"),
            [0; 6]
        ),
        ERRNO | EPERM
    );
    assert_eq!(run(&program, 0x1234, 0, [0; 6]), KILL_THREAD);
    let narrow = Seccomp {
        architectures: vec![SeccompArch::X86_64],
        ..docker(&[])
    };
    let program = compile(&narrow).unwrap();
    assert_eq!(
        run(&program, X86_64, number(SeccompArch::X32, "read"), [0; 6]),
        KILL_THREAD
    );
    assert_eq!(run(&program, X86, 3, [0; 6]), KILL_THREAD);
}

#[test]
fn unknown_newer_calls_do_not_exist() {
    let program = compile(&docker(&[])).unwrap();
    assert_eq!(run(&program, X86_64, 5000, [0; 6]), ERRNO | ENOSYS);
    // A tracer's "skip this call" is no call.
    assert_eq!(run(&program, X86_64, u32::MAX, [0; 6]), ERRNO | EPERM);
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let filter = |rule: SyscallRule| Seccomp {
        syscalls: vec![rule],
        ..docker(&[])
    };
    let rule = |action, index| SyscallRule {
        names: vec!["read".into()],
        action,
        errno_ret: None,
        args: vec![SeccompArg {
            index,
            value: 0,
            value_two: 0,
            op: SeccompOp::Equal,
        }],
    };
    assert_eq!(
        compile(&filter(rule(SeccompAction::Allow, 6))),
        Err(CompileError::ArgumentIndex(6))
    );
    assert_eq!(
        compile(&filter(rule(SeccompAction::Notify, 0))),
        Err(CompileError::Notify)
    );
    let flagged = Seccomp {
        flags: vec!["X".into()],
        ..docker(&[])
    };
    assert_eq!(compile(&flagged), Err(CompileError::Flag("X".into())));
}

const NAMES: [&str; 8] = [
    "read",
    "write",
    "open",
    "openat",
    "personality",
    "clone3",
    "socket",
    "mseal",
];

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(u64::MAX),
        any::<u64>()
    ]
}

fn any_condition() -> impl Strategy<Value = SeccompArg> {
    let op = prop_oneof![
        Just(SeccompOp::NotEqual),
        Just(SeccompOp::Less),
        Just(SeccompOp::LessOrEqual),
        Just(SeccompOp::Equal),
        Just(SeccompOp::GreaterOrEqual),
        Just(SeccompOp::Greater),
        Just(SeccompOp::MaskedEqual),
    ];
    (0_u32..6, any_value(), any_value(), op).prop_map(|(index, value, value_two, op)| SeccompArg {
        index,
        value,
        value_two,
        op,
    })
}

fn any_action() -> impl Strategy<Value = SeccompAction> {
    prop_oneof![
        Just(SeccompAction::Allow),
        Just(SeccompAction::Errno),
        Just(SeccompAction::KillProcess),
        Just(SeccompAction::Trap),
        Just(SeccompAction::Log),
        Just(SeccompAction::Trace),
    ]
}

fn any_rule() -> impl Strategy<Value = SyscallRule> {
    let names = proptest::sample::subsequence(NAMES.to_vec(), 1..4);
    let errno = proptest::option::of(0_u32..100);
    (
        names,
        any_action(),
        errno,
        proptest::collection::vec(any_condition(), 0..4),
    )
        .prop_map(|(names, action, errno_ret, args)| SyscallRule {
            names: names.into_iter().map(str::to_owned).collect(),
            action,
            errno_ret,
            args,
        })
}

proptest! {
    #[test]
    fn the_program_means_what_the_document_says(
        default_action in any_action(),
        syscalls in proptest::collection::vec(any_rule(), 0..10),
        name in proptest::sample::select(NAMES.to_vec()),
        arguments in proptest::array::uniform6(any_value()),
        architectures in proptest::sample::subsequence(
            vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32, SeccompArch::Aarch64], 0..4),
    ) {
        let filter = Seccomp {
            default_action,
            default_errno_ret: None,
            architectures,
            flags: Vec::new(),
            listener_path: None,
            listener_metadata: None,
            syscalls,
        };
        let program = compile(&filter).unwrap();
        let expected = meaning(&filter, name, arguments);
        let mentioned = |arch| filter.syscalls.iter().flat_map(|rule| &rule.names)
            .filter_map(move |name| tables::number(arch, name)).max();
        for arch in [SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32] {
            if arch != NATIVE && !filter.architectures.contains(&arch) {
                continue;
            }
            let number = tables::number(arch, name).unwrap();
            let newer = mentioned(arch).is_some_and(|newest| number > newest) && is_refusal(default_action);
            let expected = if newer { ERRNO | ENOSYS } else { expected };
            prop_assert_eq!(run(&program, tables::audit(arch).unwrap(), number, arguments), expected);
        }
    }

    #[test]
    fn docker_profile_means_what_it_says(
        name in proptest::sample::select(vec!["socket", "clone", "personality", "clone3", "ptrace", "bpf", "keyctl"]),
        arguments in proptest::array::uniform6(any_value()),
        admin in any::<bool>(),
    ) {
        let filter = docker(if admin { &["CAP_SYS_ADMIN"] } else { &[] });
        let program = compile(&filter).unwrap();
        prop_assert_eq!(call(&program, name, arguments), meaning(&filter, name, arguments));
    }
}
