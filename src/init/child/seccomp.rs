//! The filter of system calls for the app (`seccomp`): the built-in filter, or one from a file.
//!
//! The built-in filter refuses the calls that an untrusted app does not need and in which faults of the
//! kernel were found again and again, whatever rights the user has. It lets all other calls pass, so that a
//! program works that uses newer ones.

use std::path::Path;

use crate::config::plan::Seccomp;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::sys::seccomp::Instruction;

/// Refused with EPERM.
#[rustfmt::skip]
const REFUSED: &[libc::c_long] = &[
    // Keyrings of the kernel, which no namespace separates.
    libc::SYS_add_key, libc::SYS_keyctl, libc::SYS_request_key,
    // The kernel's own code and memory, and its newest and largest interfaces.
    libc::SYS_bpf, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_kexec_load, KEXEC_FILE_LOAD, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_lookup_dcookie, libc::SYS_nfsservctl,
    // The machine as a whole.
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_syslog,
    libc::SYS_quotactl, libc::SYS_quotactl_fd,
    // Mounts, other namespaces, and files that are opened without a path.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_setns, libc::SYS_fsopen,
    libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_move_mount, libc::SYS_open_tree,
    OPEN_TREE_ATTR, libc::SYS_mount_setattr, libc::SYS_open_by_handle_at,
    // The memory and the descriptors of other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    #[cfg(target_arch = "x86_64")] libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")] libc::SYS_ioperm,
];

const KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "aarch64") { 294 } else { 320 };
/// Since Linux 6.15; the number is the same on all architectures.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// The architecture whose system call numbers are meant (AUDIT_ARCH_*, linux/audit.h).
const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
/// On x86_64, numbers from here on are those of the x32 ABI.
const X32: u32 = 0x4000_0000;
/// All namespaces for which clone(2) and unshare(2) have the same bit. The time namespace is not needed: it
/// takes a capability, which only a new user namespace could give.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Offsets of fields in `struct seccomp_data`.
const NUMBER: u32 = 0;
const KIND: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;

/// The answer of a kernel without this call, after which a C library tries another one.
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// The lines before [`REFUSED`], which leave the number of the call loaded.
const HEAD: [Instruction; 6] = [
    line(LOAD, KIND),
    jump(EQUAL, ARCHITECTURE, 0, 3),
    line(LOAD, NUMBER),
    jump(AT_LEAST, X32, 1, 0),
    // clone3 takes its flags from memory, which a filter cannot read.
    jump(EQUAL, libc::SYS_clone3 as u32, 0, 1),
    line(ANSWER, UNKNOWN),
];

/// The lines after [`REFUSED`]. The last two of them are the answers.
const TAIL: [Instruction; 17] = [
    jump(EQUAL, libc::SYS_clone as u32, 3, 0),
    jump(EQUAL, libc::SYS_unshare as u32, 2, 0),
    jump(EQUAL, libc::SYS_ioctl as u32, 3, 0),
    jump(EQUAL, libc::SYS_personality as u32, 5, 11),
    line(LOAD, FIRST_ARGUMENT),
    jump(ANY_BIT, NAMESPACES, 10, 9),
    // Input for a terminal, as if it were typed there. The kernel looks at these 32 bits only.
    line(LOAD, SECOND_ARGUMENT),
    jump(EQUAL, libc::TIOCSTI as u32, 8, 0),
    jump(EQUAL, libc::TIOCLINUX as u32, 7, 6),
    // The personalities that are allowed: the ordinary one and that of 32 bits, each also with an old kernel
    // version number, and the query.
    line(LOAD, FIRST_ARGUMENT),
    jump(EQUAL, 0, 4, 0),
    jump(EQUAL, 0x8, 3, 0),
    jump(EQUAL, 0x2_0000, 2, 0),
    jump(EQUAL, 0x2_0008, 1, 0),
    jump(EQUAL, u32::MAX, 0, 1),
    line(ANSWER, libc::SECCOMP_RET_ALLOW),
    line(ANSWER, NOT_PERMITTED),
];

/// The number of ioctl(2) in x32, and in the 32-bit ABI that the kernel of either architecture also runs.
const X32_IOCTL: u32 = X32 | 514;
const OLD_IOCTL: u32 = 54;

/// The filter of a vassal on its starter's terminal. The vassal cannot push input into the terminal, which
/// the shell would execute after the vassal's end.
pub const NO_TYPING: [Instruction; 12] = [
    line(LOAD, KIND),
    jump(EQUAL, ARCHITECTURE, 0, 3),
    line(LOAD, NUMBER),
    jump(EQUAL, libc::SYS_ioctl as u32, 3, 0),
    jump(EQUAL, X32_IOCTL, 2, 5),
    line(LOAD, NUMBER),
    jump(EQUAL, OLD_IOCTL, 0, 3),
    // The kernel looks at these 32 bits only.
    line(LOAD, SECOND_ARGUMENT),
    jump(EQUAL, libc::TIOCSTI as u32, 2, 0),
    jump(EQUAL, libc::TIOCLINUX as u32, 1, 0),
    line(ANSWER, libc::SECCOMP_RET_ALLOW),
    line(ANSWER, NOT_PERMITTED),
];

const fn line(code: u32, value: u32) -> Instruction {
    jump(code, value, 0, 0)
}

/// Jumps over `yes` lines if the comparison holds, else over `no` lines.
const fn jump(code: u32, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code: code as u16, jt: yes, jf: no, k: value }
}

/// The filter that a plan asks for, in the form for [`install`](crate::sys::seccomp::install); `None` for
/// none.
///
/// # Errors
/// The file cannot be read, or does not contain a filter.
pub fn filter(wanted: &Seccomp) -> Result<Option<Vec<Instruction>>> {
    match wanted {
        Seccomp::None => Ok(None),
        Seccomp::Default => Ok(Some(built_in())),
        Seccomp::File(path) => from_file(path).map(Some),
    }
}

fn built_in() -> Vec<Instruction> {
    let mut filter = HEAD.to_vec();
    // Distances from each line to the last one.
    let ways = (0..REFUSED.len() + TAIL.len() - 1).rev();
    filter.extend(REFUSED.iter().zip(ways).map(|(&call, way)| jump(EQUAL, call as u32, way as u8, 0)));
    filter.extend(TAIL);
    filter
}

fn from_file(path: &Path) -> Result<Vec<Instruction>> {
    let read = files::open_file(path).and_then(files::read_all).context("read the filter", path.display())?;
    let (lines, rest) = read.as_chunks::<8>();
    if lines.is_empty() || !rest.is_empty() {
        let reason = "it is none: write what seccomp_export_bpf(3) does, struct sock_filter of 8 bytes each";
        return Err(Error::new("read the filter", path.display(), reason));
    }
    let instruction = |&[a, b, jt, jf, c, d, e, f]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([a, b]),
        jt,
        jf,
        k: u32::from_ne_bytes([c, d, e, f]),
    };
    Ok(lines.iter().map(instruction).collect())
}
