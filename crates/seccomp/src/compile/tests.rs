//! The compiled filter against the meaning of the document, by way of an interpreter.

use proptest::prelude::*;

use super::*;
use crate::interpret::Call;
use crate::profile::{Machine, Profile};

const ALLOW: u32 = 0x7fff_0000;

/// What `program` says about a call.
fn run(program: &Program, arch: SeccompArch, number: u32, arguments: [u64; 6]) -> u32 {
    let call = Call {
        arch,
        number,
        arguments,
    };
    program.evaluate(&call).unwrap()
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

fn matches(rule: &SyscallRule, arguments: [u64; 6]) -> bool {
    let mut indices: Vec<u32> = rule.args.iter().map(|condition| condition.index).collect();
    indices.sort_unstable();
    let distinct = indices.windows(2).all(|pair| pair[0] != pair[1]);
    let mut conditions = rule.args.iter();
    if distinct {
        conditions.all(|condition| holds(condition, arguments))
    } else {
        conditions.any(|condition| holds(condition, arguments))
    }
}

/// What the document says about a call, straight from its meaning.
fn meaning(filter: &Seccomp, name: &str, arguments: [u64; 6]) -> u32 {
    let default = result(filter.default_action, filter.default_errno_ret);
    let says = |rule: &SyscallRule| result(rule.action, rule.errno_ret);
    let telling = || {
        filter
            .syscalls
            .iter()
            .filter(|rule| rule.names.iter().any(|known| known == name))
            .filter(|rule| says(rule) != default)
    };
    let plain = telling().find(|rule| rule.args.is_empty());
    let first = || telling().find(|rule| matches(rule, arguments));
    plain.or_else(first).map_or(default, says)
}

/// As with `runc`, whose users wrote the profiles.
#[test]
fn rules_that_contradict_each_other_refuse() {
    let answer = |default: &str, rules: &str, mode: u64| {
        let text = format!(r#"{{"defaultAction":"{default}","syscalls":[{rules}]}}"#);
        let filter: Seccomp = serde_json::from_str(&text).unwrap();
        let program = compile_for(&filter, SeccompArch::X86_64).unwrap();
        call(&program, "mkdir", [0, mode, 0, 0, 0, 0])
    };
    let refuses = r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":13}"#;
    let allows = r#"{"names":["mkdir"],"action":"SCMP_ACT_ALLOW"}"#;
    let allows_one = r#"{"names":["mkdir"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":7,"op":"SCMP_CMP_EQ"}]}"#;
    let logs_one = r#"{"names":["mkdir"],"action":"SCMP_ACT_LOG","args":[{"index":1,"value":7,"op":"SCMP_CMP_EQ"}]}"#;
    for first in [allows, allows_one, logs_one] {
        let both = format!("{first},{refuses}");
        assert_eq!(answer("SCMP_ACT_ALLOW", &both, 7), ERRNO | 13, "{first}");
    }
    // Two that both have conditions are taken in order.
    let refuses_all = r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":0,"op":"SCMP_CMP_GE"}]}"#;
    let both = format!("{logs_one},{refuses_all}");
    assert_eq!(answer("SCMP_ACT_ALLOW", &both, 7), 0x7ffc_0000);
    assert_eq!(answer("SCMP_ACT_ALLOW", &both, 8), ERRNO | EPERM);
    // What the default refuses anyhow takes nothing away.
    let same = r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}"#;
    assert_eq!(
        answer("SCMP_ACT_ERRNO", &format!("{same},{allows}"), 7),
        ALLOW
    );
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
        SeccompArch::X86_64,
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
    let ask = |program: &Program, arch, name: &str| {
        run(program, arch, tables::number(arch, name).unwrap(), [0; 6])
    };
    assert_eq!(ask(&program, SeccompArch::X86, "socketcall"), ALLOW);
    assert_eq!(ask(&program, SeccompArch::X86, "unshare"), ERRNO | EPERM);
    assert_eq!(ask(&program, SeccompArch::X32, "ioctl"), ALLOW);
    assert_eq!(ask(&program, SeccompArch::X32, "unshare"), ERRNO | EPERM);
    assert_eq!(ask(&program, SeccompArch::Riscv64, "read"), KILL_THREAD);
    let narrow = Seccomp {
        architectures: vec![SeccompArch::X86_64],
        ..docker(&[])
    };
    let program = compile(&narrow).unwrap();
    assert_eq!(ask(&program, SeccompArch::X32, "read"), KILL_THREAD);
    assert_eq!(ask(&program, SeccompArch::X86, "read"), KILL_THREAD);
}

/// The machines the default profile has entries for, and some it has not.
const MACHINES: [SeccompArch; 12] = [
    SeccompArch::X86_64,
    SeccompArch::Aarch64,
    SeccompArch::Mips64,
    SeccompArch::Mips64n32,
    SeccompArch::Mipsel64,
    SeccompArch::Mipsel64n32,
    SeccompArch::S390x,
    SeccompArch::Riscv64,
    SeccompArch::Loongarch64,
    SeccompArch::Ppc64le,
    SeccompArch::Ppc64,
    SeccompArch::Parisc64,
];

#[test]
fn default_profile_works_on_every_machine() {
    for machine in MACHINES {
        let filter = Profile::docker_default()
            .resolve::<&str>(
                &[],
                Machine {
                    arch: machine,
                    kernel: (6, 1),
                },
            )
            .unwrap();
        let program = compile_for(&filter, machine).unwrap();
        let covered = filter.architectures.iter().chain([&machine]);
        for arch in covered {
            let ask = |name: &str, arguments| {
                run(
                    &program,
                    *arch,
                    tables::number(*arch, name).unwrap(),
                    arguments,
                )
            };
            assert_eq!(ask("read", [0; 6]), ALLOW, "{arch:?}");
            assert_eq!(ask("unshare", [0; 6]), ERRNO | EPERM, "{arch:?}");
            assert_eq!(ask("clone3", [0; 6]), ERRNO | ENOSYS, "{arch:?}");
            let new_user_namespace = 0x1000_0000;
            let mut arguments = [0; 6];
            let is_s390 = matches!(machine, SeccompArch::S390x);
            arguments[usize::from(is_s390)] = new_user_namespace;
            assert_eq!(ask("clone", arguments), ERRNO | EPERM, "{arch:?}");
            assert_eq!(ask("clone", [0; 6]), ALLOW, "{arch:?}");
        }
    }
}

#[test]
fn unknown_newer_calls_do_not_exist() {
    let program = compile(&docker(&[])).unwrap();
    let ask = |program: &Program, arch, number| run(program, arch, number, [0; 6]);
    assert_eq!(ask(&program, SeccompArch::X86_64, 5000), ERRNO | ENOSYS);
    // A tracer's "skip this call" is no call.
    assert_eq!(ask(&program, SeccompArch::X86_64, u32::MAX), ERRNO | EPERM);
    let machine = Machine {
        arch: SeccompArch::Aarch64,
        kernel: (6, 1),
    };
    let filter = Profile::docker_default()
        .resolve::<&str>(&[], machine)
        .unwrap();
    let program = compile_for(&filter, SeccompArch::Aarch64).unwrap();
    // Arm's calls from 0xf0001 on do not make everything below them old.
    assert_eq!(ask(&program, SeccompArch::Arm, 0xf_0005), ALLOW);
    assert_eq!(ask(&program, SeccompArch::Arm, 5000), ERRNO | ENOSYS);
}

#[test]
fn a_supervisor_is_asked() {
    let ask = |names: &[&str], args: Vec<SeccompArg>| SyscallRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: SeccompAction::Notify,
        errno_ret: None,
        args,
    };
    let filter = |rules: Vec<SyscallRule>, path: Option<&str>| Seccomp {
        default_action: SeccompAction::Allow,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: vec![
            "SECCOMP_FILTER_FLAG_TSYNC".into(),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into(),
        ],
        listener_path: path.map(str::to_owned),
        listener_metadata: path.map(|_| "meta".to_owned()),
        syscalls: rules,
    };
    let condition = SeccompArg {
        index: 1,
        value: 7,
        value_two: 0,
        op: SeccompOp::Greater,
    };
    let rules = vec![
        ask(&["mkdir", "mkdirat"], vec![]),
        ask(&["sendmsg"], vec![condition]),
    ];
    let program = compile(&filter(rules, Some("/run/agent"))).unwrap();
    assert_eq!(
        program.listener,
        Some(Listener {
            path: "/run/agent".into(),
            metadata: "meta".into()
        })
    );
    assert_eq!(program.flags, 1 | 8 | 16 | 32);
    assert_eq!(call(&program, "mkdir", [0; 6]), NOTIFY);
    assert_eq!(call(&program, "read", [0; 6]), ALLOW);
    assert!(program.may_ask_about("mkdirat") && program.may_ask_about("sendmsg"));
    assert!(!program.may_ask_about("read") && !program.may_ask_about("execve"));
    // Nobody is asked: nobody need be there, and the kernel takes no such flag.
    let silent = compile(&filter(vec![ask(&["no_such"], vec![])], Some("/run/agent"))).unwrap();
    assert_eq!((silent.listener, silent.flags), (None, 1));

    let refused = |filter: &Seccomp| compile(filter).unwrap_err();
    let by_name = |names: &[&str], path| refused(&filter(vec![ask(names, vec![])], path));
    assert_eq!(by_name(&["mkdir"], None), CompileError::NoListener);
    assert!(matches!(
        by_name(&["write"], Some("/x")),
        CompileError::Notify(_)
    ));
    let mut default = filter(Vec::new(), Some("/x"));
    default.default_action = SeccompAction::Notify;
    assert!(matches!(refused(&default), CompileError::Notify(_)));
    let mut metadata = filter(Vec::new(), None);
    metadata.listener_metadata = Some("m".into());
    assert_eq!(refused(&metadata), CompileError::Metadata);
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
        prop_oneof![8 => any_action(), 1 => Just(SeccompAction::Notify)],
        errno,
        proptest::collection::vec(any_condition(), 0..4),
    )
        .prop_map(|(names, action, errno_ret, args)| SyscallRule {
            // The one call that cannot be asked about.
            action: if names.contains(&"write") && action == SeccompAction::Notify {
                SeccompAction::Log
            } else {
                action
            },
            names: names.into_iter().map(str::to_owned).collect(),
            errno_ret,
            args,
        })
}

proptest! {
    #[test]
    fn the_program_means_what_the_document_says(
        machine in proptest::sample::select(MACHINES.to_vec()),
        default_action in any_action(),
        syscalls in proptest::collection::vec(any_rule(), 0..10),
        name in proptest::sample::select(NAMES.to_vec()),
        arguments in proptest::array::uniform6(any_value()),
        architectures in proptest::sample::subsequence(
            vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32, SeccompArch::Arm, SeccompArch::Mips,
                SeccompArch::Mips64n32, SeccompArch::S390, SeccompArch::Ppc, SeccompArch::Parisc], 0..9),
    ) {
        let filter = Seccomp {
            default_action,
            default_errno_ret: None,
            architectures,
            flags: Vec::new(),
            listener_path: Some("/run/agent".into()),
            listener_metadata: None,
            syscalls,
        };
        let program = compile_for(&filter, machine).unwrap();
        let expected = meaning(&filter, name, arguments);
        let mentioned = |arch| filter.syscalls.iter().flat_map(|rule| &rule.names)
            .filter_map(move |name| tables::number(arch, name)).max();
        for arch in filter.architectures.iter().copied().filter(|arch| tables::executes(machine, *arch)).chain([machine]) {
            let Some(number) = tables::number(arch, name) else { continue };
            let newer = mentioned(arch).is_some_and(|newest| number > newest) && is_refusal(default_action);
            let expected = if newer { ERRNO | ENOSYS } else { expected };
            prop_assert_eq!(run(&program, arch, number, arguments), expected);
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
