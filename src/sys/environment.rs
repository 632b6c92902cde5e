//! The environment and the working directory of this process.
//!
//! std takes a lock around the environment because other threads may change it. This program has one thread.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::process::getcwd;

/// The entries of the environment as this process was given them.
pub fn entries() -> Vec<&'static CStr> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut entries = Vec::new();
    // SAFETY: the C library's array ends with a null pointer, and nothing in this program changes it or the
    // strings that it points to.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            entries.push(CStr::from_ptr(*next));
            next = next.add(1);
        }
    }
    entries
}

/// All variables, by name and value.
pub fn variables() -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    for (name, value) in entries().into_iter().filter_map(split) {
        variables.push((name.to_owned(), value.to_owned()));
    }
    variables
}

/// The value of a variable.
pub fn variable(wanted: impl AsRef<OsStr>) -> Option<OsString> {
    find(wanted.as_ref())
}

fn find(wanted: &OsStr) -> Option<OsString> {
    let (_, value) = entries().into_iter().filter_map(split).find(|(name, _)| *name == wanted)?;
    Some(value.to_owned())
}

/// Name and value of an entry; `None` without a `=`. A name may begin with a `=`.
fn split(entry: &'static CStr) -> Option<(&'static OsStr, &'static OsStr)> {
    let entry = entry.to_bytes();
    let equals = entry.iter().skip(1).position(|&byte| byte == b'=')? + 1;
    Some((OsStr::from_bytes(entry.get(..equals)?), OsStr::from_bytes(entry.get(equals + 1..)?)))
}

/// The working directory.
///
/// # Errors
/// ENOENT if it was removed (getcwd(2)).
pub fn working_directory() -> rustix::io::Result<PathBuf> {
    getcwd(Vec::new()).map(|path| PathBuf::from(OsString::from_vec(CString::into_bytes(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_the_one_that_std_sees() {
        assert_eq!(variables(), std::env::vars_os().collect::<Vec<_>>());
        assert_eq!(variable("PATH"), std::env::var_os("PATH"));
        assert_eq!(variable("no variable"), None);
        assert_eq!(working_directory().unwrap(), std::env::current_dir().unwrap());
    }

    #[test]
    fn a_name_ends_at_the_first_equals_sign_behind_its_first_letter() {
        let parts = |entry| split(entry).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(parts(c"A=b=c"), Some((&b"A"[..], &b"b=c"[..])));
        assert_eq!(parts(c"=A="), Some((&b"=A"[..], &b""[..])));
        assert_eq!((parts(c"A"), parts(c"="), parts(c"")), (None, None, None));
    }
}
