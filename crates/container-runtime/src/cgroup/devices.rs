//! Device access rules: lines for the v1 controller, an eBPF program for v2.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use wharf_oci::runtime::DeviceRule;
use wharf_sys::device_filter::{self, Instruction};

use crate::error::{Stage, StartError};

/// One rule, understood. `None` for a number means any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Character,
    Block,
}

/// Bits of an access, as the kernel's device programs get them.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;

/// What every container may do: make nodes of any kind (opening them is another matter), and use
/// the default devices and pseudo-terminals. Added after the document's rules, as every OCI
/// runtime does.
const ALWAYS: [Rule; 10] = [
    rule(Kind::Character, None, None, MKNOD),
    rule(Kind::Block, None, None, MKNOD),
    rule(Kind::Character, Some(1), Some(3), READ | WRITE | MKNOD),
    rule(Kind::Character, Some(1), Some(8), READ | WRITE | MKNOD),
    rule(Kind::Character, Some(1), Some(7), READ | WRITE | MKNOD),
    rule(Kind::Character, Some(5), Some(0), READ | WRITE | MKNOD),
    rule(Kind::Character, Some(1), Some(5), READ | WRITE | MKNOD),
    rule(Kind::Character, Some(1), Some(9), READ | WRITE | MKNOD),
    rule(Kind::Character, Some(136), None, READ | WRITE | MKNOD),
    rule(Kind::Character, Some(5), Some(2), READ | WRITE | MKNOD),
];

const fn rule(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }
}

impl Rule {
    fn parse(rule: &DeviceRule) -> Result<Self, StartError> {
        let refuse =
            |what: &str| StartError::refused(Stage::Config, format!("device rule: {what}"));
        let kind = match rule.kind.as_deref().unwrap_or("a") {
            "" | "a" => Kind::All,
            "c" => Kind::Character,
            "b" => Kind::Block,
            _ => return Err(refuse("type is none of a, b and c")),
        };
        let number = |number: Option<i64>| match number {
            None => Ok(None),
            Some(number) if number < 0 => Ok(None),
            Some(number) => u32::try_from(number)
                .map(Some)
                .map_err(|_| refuse("number out of range")),
        };
        let mut access = 0;
        for letter in rule
            .access
            .as_deref()
            .filter(|access| !access.is_empty())
            .unwrap_or("rwm")
            .bytes()
        {
            access |=
                access_bit(letter).ok_or_else(|| refuse("access is not made of r, w and m"))?;
        }
        Ok(Self {
            allow: rule.allow,
            kind,
            major: number(rule.major)?,
            minor: number(rule.minor)?,
            access,
        })
    }

    /// Whether it is about every device and every access.
    fn is_total(&self) -> bool {
        self.kind == Kind::All
            && self.major.is_none()
            && self.minor.is_none()
            && self.access == READ | WRITE | MKNOD
    }

    fn line(&self) -> String {
        line(self.kind.letter(), self.major, self.minor, self.access)
    }
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::All => 'a',
            Self::Character => 'c',
            Self::Block => 'b',
        }
    }
}

fn access_bit(letter: u8) -> Option<u8> {
    match letter {
        b'r' => Some(READ),
        b'w' => Some(WRITE),
        b'm' => Some(MKNOD),
        _ => None,
    }
}

/// A rule as the v1 controller reads and lists it.
fn line(kind: char, major: Option<u32>, minor: Option<u32>, access: u8) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    format!(
        "{kind} {}:{} {}",
        number(major),
        number(minor),
        letters(access)
    )
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .into_iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

/// The document's rules and those every container has, without what a total rule overrides.
fn understood(rules: &[DeviceRule]) -> Result<Vec<Rule>, StartError> {
    let mut all: Vec<Rule> = rules.iter().map(Rule::parse).collect::<Result<_, _>>()?;
    if let Some(last_total) = all.iter().rposition(Rule::is_total) {
        all.drain(..last_total);
    }
    all.extend(ALWAYS);
    if all
        .first()
        .is_some_and(|first| first.is_total() && first.allow)
        && all.iter().all(|rule| rule.allow)
    {
        // Everything is allowed: one rule says it all.
        all.truncate(1);
    } else {
        let mut unique: Vec<Rule> = Vec::with_capacity(all.len());
        for rule in all {
            if !repeats(&unique, &rule) {
                unique.push(rule);
            }
        }
        all = unique;
    }
    Ok(all)
}

/// Whether `rule` only says again what one of `earlier` says and none after it takes back.
fn repeats(earlier: &[Rule], rule: &Rule) -> bool {
    let Some(index) = earlier.iter().position(|known| known == rule) else {
        return false;
    };
    let differs =
        |one: Option<u32>, other: Option<u32>| one.is_some() && other.is_some() && one != other;
    earlier[index..].iter().all(|between| {
        between.allow == rule.allow
            || differs(between.major, rule.major)
            || differs(between.minor, rule.minor)
    })
}

/// Writes the rules of a cgroup v1.
pub(super) fn write_rules(directory: &Path, rules: &[DeviceRule]) -> Result<(), StartError> {
    if rules.is_empty() {
        return Ok(());
    }
    let open = |name: &str| {
        let file = directory.join(name);
        rustix::fs::open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| StartError::new(Stage::Cgroup, errno, file.display().to_string()))
    };
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in understood(rules)? {
        let line = if rule.is_total() {
            "a".to_owned()
        } else {
            rule.line()
        };
        rustix::io::write(if rule.allow { &allow } else { &deny }, line.as_bytes()).map_err(
            |errno| StartError::new(Stage::Cgroup, errno, format!("device rule {line:?}")),
        )?;
    }
    Ok(())
}

/// Attaches the rules to a cgroup v2.
pub(super) fn attach_filter(directory: &Path, rules: &[DeviceRule]) -> Result<(), StartError> {
    // In a user namespace nobody makes device nodes, and nobody may load filters either.
    if rules.is_empty() || !wharf_sys::namespace::is_initial_user() {
        return Ok(());
    }
    let rules = understood(rules)?;
    if rules.len() == 1 && rules[0].allow && rules[0].is_total() {
        return Ok(());
    }
    let failed = |errno| StartError::new(Stage::Cgroup, errno, "device filter");
    let filter = device_filter::load(&compile(&rules)).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    device_filter::attach(directory.as_fd(), filter.as_fd()).map_err(failed)
}

/// Puts the filter for `rules` in the place of the one attached to a cgroup v2. For a moment both
/// hold, so that nothing is allowed that one of them forbids.
pub(super) fn replace_filter(directory: &Path, rules: &[DeviceRule]) -> Result<(), StartError> {
    if rules.is_empty() || !wharf_sys::namespace::is_initial_user() {
        return Ok(());
    }
    let failed = |errno| StartError::new(Stage::Cgroup, errno, "device filter");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    let old = device_filter::attached(cgroup.as_fd()).map_err(failed)?;
    attach_filter(directory, rules)?;
    for filter in &old {
        device_filter::detach(cgroup.as_fd(), filter.as_fd()).map_err(failed)?;
    }
    Ok(())
}

/// What a cgroup v1 that forbids devices allows, by kind and numbers.
type Allowed = std::collections::BTreeMap<(char, Option<u32>, Option<u32>), u8>;

/// Changes the rules of a cgroup v1 to `rules`. Devices both allow stay allowed all the time.
pub(super) fn change_rules(directory: &Path, rules: &[DeviceRule]) -> Result<(), StartError> {
    if rules.is_empty() {
        return Ok(());
    }
    let list = directory.join("devices.list");
    let current = std::fs::read_to_string(&list)
        .map_err(|error| crate::launch::io(Stage::Cgroup, &error, &list.display().to_string()))?;
    let (Some(current), Some(wanted)) = (listed(&current), allowed_only(&understood(rules)?))
    else {
        // One of them allows everything but some: that has to be said anew.
        return write_rules(directory, rules);
    };
    let change = |name: &str, from: &Allowed, to: &Allowed| {
        let file = directory.join(name);
        for (device, access) in to {
            let surplus = access & !from.get(device).copied().unwrap_or(0);
            if surplus != 0 {
                let line = line(device.0, device.1, device.2, surplus);
                super::write(&file, &line).map_err(|errno| {
                    StartError::new(Stage::Cgroup, errno, format!("device rule {line:?}"))
                })?;
            }
        }
        Ok(())
    };
    change("devices.allow", &current, &wanted)?;
    change("devices.deny", &wanted, &current)
}

/// The lines of `devices.list`; `None` if the cgroup allows what it does not list.
fn listed(text: &str) -> Option<Allowed> {
    let mut allowed = Allowed::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        if kind == "a" {
            return None;
        }
        let mut bits = 0;
        for letter in access.bytes() {
            bits |= access_bit(letter)?;
        }
        // Anything but a number is `*`.
        let device = (kind.chars().next()?, major.parse().ok(), minor.parse().ok());
        *allowed.entry(device).or_default() |= bits;
    }
    Some(allowed)
}

/// What is allowed by rules of which the first forbids everything; `None` for others.
fn allowed_only(rules: &[Rule]) -> Option<Allowed> {
    let (first, rest) = rules.split_first()?;
    if !first.is_total() || first.allow {
        return None;
    }
    let mut allowed = Allowed::new();
    for rule in rest {
        let kinds: &[Kind] = match rule.kind {
            Kind::All => &[Kind::Character, Kind::Block],
            Kind::Character => &[Kind::Character],
            Kind::Block => &[Kind::Block],
        };
        for kind in kinds {
            let device = (kind.letter(), rule.major, rule.minor);
            let access = allowed.entry(device).or_default();
            *access = if rule.allow {
                *access | rule.access
            } else {
                *access & !rule.access
            };
        }
    }
    allowed.retain(|_, access| *access != 0);
    Some(allowed)
}

/// What rules allow, in systemd's words: devices and accesses. `None` for rules that allow all but
/// some, which it has no words for. What else it has none for is left out: it is stricter than the
/// files then, until they are written.
pub(super) fn allowed(rules: &[DeviceRule]) -> Result<Option<Vec<(String, String)>>, StartError> {
    let Some(allowed) = allowed_only(&understood(rules)?) else {
        return Ok(None);
    };
    let groups = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let words = allowed
        .into_iter()
        .filter_map(|((kind, major, minor), access)| {
            let kind = if kind == 'c' { "char" } else { "block" };
            let device = match (major, minor) {
                (None, None) => format!("{kind}-*"),
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{}", group(&groups, kind, major)?),
                (None, Some(_)) => return None,
            };
            Some((device, letters(access)))
        });
    Ok(Some(words.collect()))
}

/// The name of a device group in `/proc/devices`.
fn group<'a>(text: &'a str, kind: &str, major: u32) -> Option<&'a str> {
    let title = if kind == "char" {
        "Character devices:"
    } else {
        "Block devices:"
    };
    text.lines()
        .skip_while(|line| *line != title)
        .skip(1)
        .map_while(|line| line.trim().split_once(' '))
        .find_map(|(number, name)| (number.parse() == Ok(major)).then_some(name))
}

/// eBPF operations used here.
mod op {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const MOVE_IMMEDIATE: u8 = 0xb7;
    pub(super) const MOVE_REGISTER_32: u8 = 0xbc;
    pub(super) const AND_IMMEDIATE_32: u8 = 0x54;
    pub(super) const SHIFT_RIGHT_32: u8 = 0x74;
    pub(super) const JUMP_NOT_EQUAL: u8 = 0x55;
    pub(super) const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
    pub(super) const EXIT: u8 = 0x95;
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    }
}

/// The program for `rules`. The last rule that matches decides, so they are tried from the end;
/// no match means denied.
///
/// The context is `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }`, the
/// access in its upper and the type (1 block, 2 character) in its lower sixteen bits.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(op::LOAD_WORD, 2, 1, 0, 0),
        instruction(op::MOVE_REGISTER_32, 3, 2, 0, 0),
        instruction(op::AND_IMMEDIATE_32, 2, 0, 0, 0xffff),
        instruction(op::SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(op::LOAD_WORD, 4, 1, 4, 0),
        instruction(op::LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut block = Vec::new();
        let kind = match rule.kind {
            Kind::All => None,
            Kind::Block => Some(1),
            Kind::Character => Some(2),
        };
        if let Some(kind) = kind {
            block.push(instruction(op::JUMP_NOT_EQUAL, 2, 0, 0, kind));
        }
        if rule.access != READ | WRITE | MKNOD {
            // r6 = access & rule; an allowing rule must cover all of the access, a denying one
            // matches when it touches any of it.
            block.push(instruction(op::MOVE_REGISTER_32, 6, 3, 0, 0));
            block.push(instruction(
                op::AND_IMMEDIATE_32,
                6,
                0,
                0,
                i32::from(rule.access),
            ));
            if rule.allow {
                block.push(instruction(op::JUMP_NOT_EQUAL_REGISTER, 6, 3, 0, 0));
            } else {
                // Skip the block when nothing is touched: `if r6 != 0 goto +1; goto end`.
                block.push(instruction(op::JUMP_NOT_EQUAL, 6, 0, 1, 0));
                block.push(instruction(JUMP_ALWAYS, 0, 0, 0, 0));
            }
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                block.push(instruction(
                    op::JUMP_NOT_EQUAL,
                    register,
                    0,
                    0,
                    number.cast_signed(),
                ));
            }
        }
        block.push(instruction(
            op::MOVE_IMMEDIATE,
            0,
            0,
            0,
            i32::from(rule.allow),
        ));
        block.push(instruction(op::EXIT, 0, 0, 0, 0));
        let length = block.len();
        for (index, step) in block.iter_mut().enumerate() {
            // Every jump without a distance leaves for the next rule.
            let jumps = matches!(
                step.code,
                op::JUMP_NOT_EQUAL | op::JUMP_NOT_EQUAL_REGISTER | JUMP_ALWAYS
            ) && step.offset == 0;
            if jumps {
                step.offset = i16::try_from(length - index - 1).unwrap_or(i16::MAX);
            }
        }
        program.extend(block);
        if length == 2 {
            // Without a condition it decides everything that is left, and the kernel accepts no
            // instruction that cannot be reached.
            return program;
        }
    }
    program.push(instruction(op::MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(op::EXIT, 0, 0, 0, 0));
    program
}

const JUMP_ALWAYS: u8 = 0x05;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `rules` say, straight from their meaning.
    fn allowed(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        for rule in rules.iter().rev() {
            let touches = if rule.allow {
                access & rule.access == access
            } else {
                access & rule.access != 0
            };
            if (rule.kind == Kind::All || rule.kind == kind)
                && rule.major.is_none_or(|number| number == major)
                && rule.minor.is_none_or(|number| number == minor)
                && touches
            {
                return rule.allow;
            }
        }
        false
    }

    /// Runs a program of the instructions used here.
    fn run(program: &[Instruction], kind: u32, major: u32, minor: u32, access: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut counter = 0;
        loop {
            let step = program[counter];
            counter += 1;
            let (to, from) = (
                usize::from(step.registers & 15),
                usize::from(step.registers >> 4),
            );
            let immediate = step.immediate as u32;
            let mut jump = |taken: bool| {
                if taken {
                    counter = counter.checked_add_signed(step.offset.into()).unwrap();
                }
            };
            match step.code {
                op::LOAD_WORD => {
                    registers[to] = context[usize::try_from(step.offset).unwrap() / 4].into()
                }
                op::MOVE_IMMEDIATE => registers[to] = step.immediate as u64,
                op::MOVE_REGISTER_32 => registers[to] = u64::from(registers[from] as u32),
                op::AND_IMMEDIATE_32 => registers[to] = u64::from(registers[to] as u32 & immediate),
                op::SHIFT_RIGHT_32 => registers[to] = u64::from(registers[to] as u32 >> immediate),
                op::JUMP_NOT_EQUAL => {
                    jump(registers[to] != i64::from(step.immediate).cast_unsigned())
                }
                op::JUMP_NOT_EQUAL_REGISTER => jump(registers[to] != registers[from]),
                JUMP_ALWAYS => jump(true),
                op::EXIT => return registers[0] == 1,
                code => panic!("unknown operation {code:#x}"),
            }
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![Just(Kind::All), Just(Kind::Character), Just(Kind::Block)];
        let number = proptest::option::of(0_u32..3);
        (any::<bool>(), kind, number.clone(), number, 1_u8..8).prop_map(
            |(allow, kind, major, minor, access)| Rule {
                allow,
                kind,
                major,
                minor,
                access,
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_rules_say(
            rules in proptest::collection::vec(any_rule(), 0..12),
            block in any::<bool>(), major in 0_u32..3, minor in 0_u32..3, access in 1_u8..8,
        ) {
            let (kind, number) = if block { (Kind::Block, 1) } else { (Kind::Character, 2) };
            let program = compile(&rules);
            prop_assert_eq!(
                run(&program, number, major, minor, access.into()),
                allowed(&rules, kind, major, minor, access)
            );
        }
    }

    #[test]
    fn default_rules_are_short() {
        let rules = understood(&wharf_oci::defaults::device_rules()).unwrap();
        let lines: Vec<String> = rules
            .iter()
            .map(|rule| format!("{} {}", rule.allow, rule.line()))
            .collect();
        assert_eq!(lines[0], "false a *:* rwm");
        assert!(lines.contains(&"true c 136:* rwm".to_owned()));
        assert!(lines.contains(&"false c 10:229 rwm".to_owned()));
    }

    #[test]
    fn everything_allowed_is_one_rule() {
        let all = DeviceRule {
            allow: true,
            access: Some("rwm".into()),
            ..DeviceRule::default()
        };
        let mut rules = wharf_oci::defaults::device_rules();
        rules.push(all);
        assert_eq!(understood(&rules).unwrap().len(), 1);
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        let rules = understood(&wharf_oci::defaults::device_rules()).unwrap();
        match device_filter::load(&compile(&rules)) {
            Ok(_) => {}
            // Not everybody who runs the tests may load programs.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {}
            Err(errno) => panic!("{errno}"),
        }
    }

    #[test]
    fn lists_and_rules_come_to_the_same() {
        let rules = understood(&wharf_oci::defaults::device_rules()).unwrap();
        let allowed = allowed_only(&rules).unwrap();
        let text: String = allowed
            .iter()
            .map(|((kind, major, minor), access)| line(*kind, *major, *minor, *access) + "\n")
            .collect();
        assert_eq!(listed(&text), Some(allowed.clone()));
        assert_eq!(allowed[&('c', Some(1), Some(3))], READ | WRITE | MKNOD);
        assert_eq!(allowed.get(&('c', Some(10), Some(229))), None);
        assert_eq!(listed("a *:* rwm\n"), None);
        let everything = rule(Kind::All, None, None, READ | WRITE | MKNOD);
        assert_eq!(allowed_only(&[everything]), None);
    }

    #[test]
    fn a_filter_takes_the_place_of_the_one_before() {
        let top = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(Path::new)
            .into_iter()
            .find(|top| top.join("cgroup.subtree_control").exists());
        let Some(top) = top else { return };
        let directory = top.join(format!("wharf-test-filter-{}", std::process::id()));
        if std::fs::create_dir(&directory).is_err() {
            // Not everybody who runs the tests may make cgroups.
            return;
        }
        let rules = wharf_oci::defaults::device_rules();
        let replaced = attach_filter(&directory, &rules).and_then(|()| {
            replace_filter(&directory, &rules[..2])?;
            Ok(())
        });
        let attached =
            std::fs::File::open(&directory).map(|cgroup| device_filter::attached(cgroup.as_fd()));
        std::fs::remove_dir(&directory).unwrap();
        replaced.unwrap();
        assert_eq!(attached.unwrap().unwrap().len(), 1);
    }
}
