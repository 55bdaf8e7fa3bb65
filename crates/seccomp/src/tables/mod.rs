//! System call numbers per architecture.

mod aarch64;
mod arm;
mod x86;
mod x86_64;

use wharf_oci::runtime::SeccompArch;

/// `AUDIT_ARCH_*` values (`linux/audit.h`), by which the kernel tells a filter the architecture.
const AUDIT_X86: u32 = 0x4000_0003;
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_ARM: u32 = 0x4000_0028;
const AUDIT_AARCH64: u32 = 0xc000_00b7;

/// Set in the numbers of x32 calls, which share their architecture with x86_64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// x32 calls with numbers of their own; the others have those of x86_64.
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// x86_64 calls that x32 does not have.
const X32_LACKS: [&str; 11] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
];

/// The kernel's value for an architecture; `None` for those without a table here, which no
/// machine this runs on can execute.
pub(crate) fn audit(arch: SeccompArch) -> Option<u32> {
    match arch {
        SeccompArch::X86 => Some(AUDIT_X86),
        SeccompArch::X86_64 | SeccompArch::X32 => Some(AUDIT_X86_64),
        SeccompArch::Arm => Some(AUDIT_ARM),
        SeccompArch::Aarch64 => Some(AUDIT_AARCH64),
        _ => None,
    }
}

/// The number of the call `name`; `None` where the architecture has no such call.
pub(crate) fn number(arch: SeccompArch, name: &str) -> Option<u32> {
    match arch {
        SeccompArch::X86 => find(x86::NUMBERS, name),
        SeccompArch::X86_64 => find(x86_64::NUMBERS, name),
        SeccompArch::X32 => {
            if X32_LACKS.contains(&name) {
                return None;
            }
            let own = X32_OWN
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, number)| *number);
            own.or_else(|| find(x86_64::NUMBERS, name))
                .map(|number| number | X32_BIT)
        }
        SeccompArch::Arm => find(arm::NUMBERS, name),
        SeccompArch::Aarch64 => find(aarch64::NUMBERS, name),
        _ => None,
    }
}

fn find(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()
        .map(|index| table[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [
            x86::NUMBERS,
            x86_64::NUMBERS,
            arm::NUMBERS,
            aarch64::NUMBERS,
        ] {
            assert!(table.is_sorted_by(|(one, _), (other, _)| one < other));
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(number(SeccompArch::X86_64, "openat2"), Some(437));
        assert_eq!(number(SeccompArch::X86, "socketcall"), Some(102));
        assert_eq!(number(SeccompArch::X32, "ioctl"), Some(514 | X32_BIT));
        assert_eq!(number(SeccompArch::X32, "read"), Some(X32_BIT));
        assert_eq!(number(SeccompArch::X32, "uselib"), None);
        assert_eq!(number(SeccompArch::Aarch64, "open"), None);
        assert_eq!(number(SeccompArch::Arm, "set_tls"), Some(0xf0005));
    }
}
