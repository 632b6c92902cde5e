//! `seccomp(2)`: a filter of system calls.
#![allow(unsafe_code)]

use rustix::io::Errno;

use super::clone::last_errno;

/// One instruction of a filter.
pub type Instruction = libc::sock_filter;

/// Has the kernel ask this filter about every system call of this process from now on, and of all that it
/// starts.
///
/// # Errors
/// EACCES without `no_new_privs` and CAP_SYS_ADMIN; EINVAL if the kernel does not take the program, or has no
/// filters.
pub fn install(filter: &[Instruction]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        // More instructions than the kernel takes are an error of its own: it takes none at all, either.
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads the program, of the length that is passed, and changes nothing.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
