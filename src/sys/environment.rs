//! The environment and the working directory of this process.
//!
//! std takes a lock around the environment because other threads may change it. This program has one thread.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::process::getcwd;

/// The entries of the environment as this process was given them.
pub fn entries() -> impl Iterator<Item = &'static CStr> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: the C library's array ends with a null pointer, and nothing in this program changes it or the
    // strings that it points to.
    let entry = |index| unsafe {
        let entry = if environ.is_null() { environ } else { environ.add(index) };
        (!entry.is_null() && !(*entry).is_null()).then(|| CStr::from_ptr(*entry))
    };
    (0..).map_while(entry)
}

/// All variables, by name and value.
pub fn pairs() -> impl Iterator<Item = (&'static OsStr, &'static OsStr)> {
    entries().filter_map(split)
}

/// A copy of all variables.
pub fn variables() -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    for (name, value) in pairs() {
        variables.push((name.to_owned(), value.to_owned()));
    }
    variables
}

/// The value of a variable.
pub fn variable(wanted: impl AsRef<OsStr>) -> Option<OsString> {
    find(wanted.as_ref())
}

fn find(wanted: &OsStr) -> Option<OsString> {
    pairs().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
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
