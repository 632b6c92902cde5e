//! The filter of system calls that the app runs under (`seccomp`): the one that is built in, or one of a
//! file.
//!
//! The one that is built in refuses what no app of a stranger's needs, and what faults of the kernel were
//! found in again and again; whatever the user's other rights are. All else it lets pass, so that a program
//! that is new to it runs.

use std::path::Path;

use crate::config::plan::Seccomp;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::sys::seccomp::Instruction;

/// Refused with EPERM.
#[rustfmt::skip]
const REFUSED: &[libc::c_long] = &[
    // Keys of the kernel, which know no namespaces.
    libc::SYS_add_key, libc::SYS_keyctl, libc::SYS_request_key,
    // The kernel's own code and memory, and its newest and largest interfaces.
    libc::SYS_bpf, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_kexec_load, KEXEC_FILE_LOAD, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_lookup_dcookie, libc::SYS_nfsservctl,
    // The machine.
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_syslog,
    libc::SYS_quotactl, libc::SYS_quotactl_fd,
    // Mounts, other namespaces, and files that no directory leads to.
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
/// Since Linux 6.15; the same number everywhere.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// The kind of system calls that the numbers are of (AUDIT_ARCH_*, linux/audit.h).
const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
/// On x86_64, the numbers from here on are those of another kind, x32.
const X32: u32 = 0x4000_0000;
/// All namespaces that clone(2) and unshare(2) make by the same bit. A time namespace takes a capability
/// that a new user namespace would have to give first.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// The places of what is asked about in `struct seccomp_data`.
const NUMBER: u32 = 0;
const KIND: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;

/// As by a kernel that has no such call, so that a C library tries another one.
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// In front of [`REFUSED`], for which it leaves the number loaded.
const HEAD: [Instruction; 6] = [
    line(LOAD, KIND),
    jump(EQUAL, ARCHITECTURE, 0, 3),
    line(LOAD, NUMBER),
    jump(AT_LEAST, X32, 1, 0),
    // The namespaces that clone3 is to make are in memory, where a filter cannot look.
    jump(EQUAL, libc::SYS_clone3 as u32, 0, 1),
    line(ANSWER, UNKNOWN),
];

/// Behind it. Its last two lines are the answers.
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
    // An ordinary one, that of 32 bits, both with an old number for the kernel's version; or the question.
    line(LOAD, FIRST_ARGUMENT),
    jump(EQUAL, 0, 4, 0),
    jump(EQUAL, 0x8, 3, 0),
    jump(EQUAL, 0x2_0000, 2, 0),
    jump(EQUAL, 0x2_0008, 1, 0),
    jump(EQUAL, u32::MAX, 0, 1),
    line(ANSWER, libc::SECCOMP_RET_ALLOW),
    line(ANSWER, NOT_PERMITTED),
];

/// ioctl(2) of x32, and of the other kind of programs that either architecture runs, that of 32 bits.
const X32_IOCTL: u32 = X32 | 514;
const OLD_IOCTL: u32 = 54;

/// The filter of a vassal on its starter's terminal: nothing can be typed there for the shell that comes
/// after it.
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

/// Jumps over so many lines if the answer is yes or no.
const fn jump(code: u32, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code: code as u16, jt: yes, jf: no, k: value }
}

/// The filter that a plan asks for, for [`install`](crate::sys::seccomp::install); `None` for none.
///
/// # Errors
/// The file cannot be read, or is none of a filter.
pub fn filter(wanted: &Seccomp) -> Result<Option<Vec<Instruction>>> {
    match wanted {
        Seccomp::None => Ok(None),
        Seccomp::Default => Ok(Some(built_in())),
        Seccomp::File(path) => from_file(path).map(Some),
    }
}

fn built_in() -> Vec<Instruction> {
    let mut filter = HEAD.to_vec();
    // From each line to the last one.
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
