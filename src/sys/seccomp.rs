//! `seccomp(2)`: a filter of system calls.
#![allow(unsafe_code)]

use rustix::io::Errno;

use super::clone::last_errno;

/// One instruction of a filter.
pub type Instruction = libc::sock_filter;

/// Installs a filter, which the kernel applies to every later system call of this process and of all
/// processes that it starts.
///
/// # Errors
/// EACCES without `no_new_privs` and CAP_SYS_ADMIN; EINVAL if the kernel refuses the program, or has no
/// filters.
pub fn install(filter: &[Instruction]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        // With too many instructions the length becomes 0, which the kernel refuses as well.
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads the program, whose length is passed, and writes nothing.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
