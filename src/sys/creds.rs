//! Changing the identity of the calling process for good.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{parent_process_death_signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::clone::last_errno;

/// Replaces the supplementary groups (setgroups(2)).
///
/// # Errors
/// EPERM without CAP_SETGID, or where a user namespace forbids it.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `groups`, which outlives the call; gid_t is u32 on Linux.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Sets real, effective and saved gid (setresgid(2)).
///
/// # Errors
/// EPERM without CAP_SETGID, EINVAL for an id without meaning in this user namespace.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: a system call on plain integers. The raw call changes this thread only: there is no other.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// Sets real, effective and saved uid (setresuid(2)).
///
/// # Errors
/// EPERM without CAP_SETUID, EAGAIN at the user's process limit, EINVAL as for [`set_gid`].
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: as for `set_gid`.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Replaces the session keyring by a new one (keyrings(7)). A process in the starter's keyring could use the
/// keys in it, whatever its user. Failures are ignored: a kernel without keys, a filter or a used-up quota
/// must not prevent a start.
pub fn join_new_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: an operation that takes a name, which may be null.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Runs `work` with the rights that this user and group have on files (setfsuid(2)). Supplementary groups are
/// not changed: the caller has dropped its own. The capabilities that override rights on files are switched
/// off meanwhile. A parent death signal is preserved.
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID; `work` was not run then.
pub fn with_rights_of<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> Result<T, Errno> {
    // The kernel removes these when the file system user ID changes from 0, but not under every securebit.
    let powers = capabilities(None)?;
    let past_rights = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, CapabilitySets { effective: powers.effective - past_rights, ..powers })?;
    let result = with_ids_of(uid, gid, work);
    set_capabilities(None, powers).and(result)
}

fn with_ids_of<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> Result<T, Errno> {
    let (uids, gids) = ids();
    let (own_uid, own_gid) = (uids[1], gids[1]);
    // setfsuid(2) returns the former ID, and no error. A second call with an invalid ID shows whether the
    // first has changed it.
    //
    // SAFETY: system calls on plain integers. They change this thread only, and there is no other.
    let set = |call, id: u32| unsafe {
        libc::syscall(call, id);
        if libc::syscall(call, u32::MAX) as u32 == id { Ok(()) } else { Err(Errno::PERM) }
    };
    // The kernel clears the signal at each change of IDs.
    let at_end = parent_process_death_signal().ok().flatten();
    let restore = || at_end.map(|_| set_parent_process_death_signal(at_end));
    let taken = set(libc::SYS_setfsgid, gid).and_then(|()| set(libc::SYS_setfsuid, uid));
    restore();
    let result = taken.map(|()| work());
    // A process may always return to its effective IDs.
    let back = set(libc::SYS_setfsuid, own_uid).and(set(libc::SYS_setfsgid, own_gid));
    restore();
    result.and_then(|result| back.map(|()| result))
}

/// Real, effective and saved ids, to verify a drop: (uids, gids).
pub fn ids() -> ([u32; 3], [u32; 3]) {
    let (mut uid, mut gid) = ([u32::MAX; 3], [u32::MAX; 3]);
    let ([r, e, s], [gr, ge, gs]) = (&mut uid, &mut gid);
    // SAFETY: the pointers are to live u32, which uid_t and gid_t are; the calls cannot fail otherwise.
    unsafe {
        libc::getresuid(r, e, s);
        libc::getresgid(gr, ge, gs);
    }
    (uid, gid)
}

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;

    #[test]
    fn who_ends_with_its_parent_does_so_with_the_rights_of_another_user() {
        let signal = Some(Signal::CHILD);
        set_parent_process_death_signal(signal).unwrap();
        let meanwhile = with_rights_of(1000, 1000, parent_process_death_signal).unwrap();
        let afterwards = parent_process_death_signal();
        set_parent_process_death_signal(None).unwrap();
        assert_eq!((meanwhile, afterwards), (Ok(signal), Ok(signal)));
    }
}
