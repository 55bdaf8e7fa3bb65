//! Architectures: how the kernel names them to a filter, what else a machine of theirs executes,
//! and the numbers of their system calls.

mod numbers;

use wharf_oci::runtime::SeccompArch;

use numbers::{Column, NONE, NUMBERS};

/// Set in the numbers of x32 calls, which share their architecture with x86_64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// Calls that only 32-bit Arm has, outside the range of all others (`asm/unistd.h`).
const ARM_OWN: [(&str, u32); 6] = [
    ("breakpoint", 0x000f_0001),
    ("cacheflush", 0x000f_0002),
    ("get_tls", 0x000f_0006),
    ("set_tls", 0x000f_0005),
    ("usr26", 0x000f_0003),
    ("usr32", 0x000f_0004),
];

/// The kernel's value for an architecture (`AUDIT_ARCH_*` in `linux/audit.h`): the ELF machine with
/// bits for 64 bits, little-endian, and MIPS's third convention.
pub fn audit(arch: SeccompArch) -> u32 {
    const BITS_64: u32 = 0x8000_0000;
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    const N32: u32 = 0x2000_0000;
    match arch {
        SeccompArch::X86 => 3 | LITTLE_ENDIAN,
        SeccompArch::X86_64 | SeccompArch::X32 => 62 | BITS_64 | LITTLE_ENDIAN,
        SeccompArch::Arm => 40 | LITTLE_ENDIAN,
        SeccompArch::Aarch64 => 183 | BITS_64 | LITTLE_ENDIAN,
        SeccompArch::Loongarch64 => 258 | BITS_64 | LITTLE_ENDIAN,
        SeccompArch::M68k => 4,
        SeccompArch::Mips => 8,
        SeccompArch::Mips64 => 8 | BITS_64,
        SeccompArch::Mips64n32 => 8 | BITS_64 | N32,
        SeccompArch::Mipsel => 8 | LITTLE_ENDIAN,
        SeccompArch::Mipsel64 => 8 | BITS_64 | LITTLE_ENDIAN,
        SeccompArch::Mipsel64n32 => 8 | BITS_64 | LITTLE_ENDIAN | N32,
        SeccompArch::Ppc => 20,
        SeccompArch::Ppc64 => 21 | BITS_64,
        SeccompArch::Ppc64le => 21 | BITS_64 | LITTLE_ENDIAN,
        SeccompArch::S390 => 22,
        SeccompArch::S390x => 22 | BITS_64,
        SeccompArch::Sh => 42 | LITTLE_ENDIAN,
        SeccompArch::Sheb => 42,
        SeccompArch::Parisc => 15,
        SeccompArch::Parisc64 => 15 | BITS_64,
        SeccompArch::Riscv64 => 243 | BITS_64 | LITTLE_ENDIAN,
    }
}

/// Whether the more significant half of an argument comes first in memory.
pub(crate) fn is_big_endian(arch: SeccompArch) -> bool {
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    audit(arch) & LITTLE_ENDIAN == 0
}

/// Whether a machine of the architecture `native` executes programs of `arch`.
pub(crate) fn executes(native: SeccompArch, arch: SeccompArch) -> bool {
    use SeccompArch as A;
    native == arch
        || match native {
            A::X86_64 => matches!(arch, A::X86 | A::X32),
            A::Aarch64 => arch == A::Arm,
            A::Mips64 | A::Mips64n32 => matches!(arch, A::Mips | A::Mips64 | A::Mips64n32),
            A::Mipsel64 | A::Mipsel64n32 => {
                matches!(arch, A::Mipsel | A::Mipsel64 | A::Mipsel64n32)
            }
            A::Ppc64 => arch == A::Ppc,
            A::S390x => arch == A::S390,
            A::Parisc64 => arch == A::Parisc,
            _ => false,
        }
}

/// The number of the call `name`; `None` where the architecture has no such call.
pub fn number(arch: SeccompArch, name: &str) -> Option<u32> {
    if arch == SeccompArch::Arm
        && let Some((_, number)) = ARM_OWN.iter().find(|(own, _)| *own == name)
    {
        return Some(*number);
    }
    let index = NUMBERS
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()?;
    let number = *NUMBERS[index].1.get(column(arch) as usize)?;
    let base = if arch == SeccompArch::X32 { X32_BIT } else { 0 };
    (number != NONE).then_some(u32::from(number) | base)
}

/// The name of a call, given the kernel's value for the architecture.
pub fn call_name(audit_arch: u32, call: u32) -> Option<&'static str> {
    use SeccompArch as A;
    const KNOWN: [SeccompArch; 12] = [
        A::X86_64,
        A::X32,
        A::X86,
        A::Aarch64,
        A::Arm,
        A::Riscv64,
        A::Loongarch64,
        A::Ppc64le,
        A::S390x,
        A::S390,
        A::Mipsel64,
        A::Mipsel,
    ];
    let of = |arch: SeccompArch| {
        let mut names = NUMBERS.iter().map(|(name, _)| *name);
        names.find(|name| number(arch, name) == Some(call))
    };
    KNOWN
        .into_iter()
        .filter(|arch| audit(*arch) == audit_arch)
        .find_map(of)
}

fn column(arch: SeccompArch) -> Column {
    match arch {
        SeccompArch::X86_64 => Column::X86_64,
        SeccompArch::X32 => Column::X32,
        SeccompArch::X86 => Column::X86,
        SeccompArch::Aarch64 => Column::Aarch64,
        SeccompArch::Arm => Column::Arm,
        SeccompArch::Loongarch64 => Column::Loongarch64,
        SeccompArch::M68k => Column::M68k,
        SeccompArch::Mips | SeccompArch::Mipsel => Column::MipsO32,
        SeccompArch::Mips64 | SeccompArch::Mipsel64 => Column::Mips64,
        SeccompArch::Mips64n32 | SeccompArch::Mipsel64n32 => Column::MipsN32,
        SeccompArch::Ppc => Column::Ppc,
        SeccompArch::Ppc64 | SeccompArch::Ppc64le => Column::Ppc64,
        SeccompArch::S390 => Column::S390,
        SeccompArch::S390x => Column::S390x,
        SeccompArch::Sh | SeccompArch::Sheb => Column::Sh,
        SeccompArch::Parisc | SeccompArch::Parisc64 => Column::Parisc,
        SeccompArch::Riscv64 => Column::Riscv64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(NUMBERS.is_sorted_by(|(one, _), (other, _)| one < other));
    }

    #[test]
    fn numbers_are_the_kernels() {
        let known = [
            (SeccompArch::X86_64, "openat2", Some(437)),
            (SeccompArch::X86, "socketcall", Some(102)),
            (SeccompArch::X32, "ioctl", Some(514 | X32_BIT)),
            (SeccompArch::X32, "read", Some(X32_BIT)),
            (SeccompArch::X32, "uselib", None),
            (SeccompArch::Aarch64, "open", None),
            (SeccompArch::Aarch64, "unshare", Some(97)),
            (SeccompArch::Arm, "set_tls", Some(0xf0005)),
            (SeccompArch::Mips, "read", Some(4003)),
            (SeccompArch::Mipsel64, "read", Some(5000)),
            (SeccompArch::Mips64n32, "read", Some(6000)),
            (SeccompArch::Ppc64le, "clone3", Some(435)),
            (SeccompArch::S390x, "unshare", Some(303)),
            (SeccompArch::S390, "s390_runtime_instr", Some(342)),
            (SeccompArch::Riscv64, "riscv_flush_icache", Some(259)),
            (SeccompArch::Loongarch64, "read", Some(63)),
            (SeccompArch::X86_64, "no_such_call", None),
        ];
        for (arch, name, expected) in known {
            assert_eq!(number(arch, name), expected, "{arch:?} {name}");
        }
        assert_eq!(call_name(0xc000_003e, 165), Some("mount"));
        assert_eq!(call_name(0xc000_003e, 9999), None);
        // The kernel this runs on is asked by the compiler's own constant.
        assert_eq!(audit(SeccompArch::X86_64), 0xc000_003e);
        assert_eq!(audit(SeccompArch::S390x), 0x8000_0016);
    }
}
