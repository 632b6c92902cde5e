//! The entry of a program that takes its standing as it finds it.
//!
//! Rust's own runtime opens `/dev/null` for closed standard descriptors, aborts where that cannot be had, and sets up
//! what reports stack overflows. An init that hands everything on to its command as it got it does without; an emperor
//! fills them itself.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Makes `fn(Vec<OsString>) -> i32` the program's entry: the words of the command line, the program's name first, to the
/// exit status. The crate needs `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        // The C library calls it once, with argc and argv as the kernel made them.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: the arguments are those of C's main.
            let words = unsafe { $crate::sys::start::words(argc, argv) };
            $run(words)
        }
    };
}

/// The words of the command line. From here on SIGPIPE is ignored, as in every Rust program; children get it as we got it.
///
/// # Safety
/// The arguments must be those of C's main: `argc` pointers to null-terminated strings.
pub unsafe fn words(argc: i32, argv: *const *const std::ffi::c_char) -> Vec<OsString> {
    // SAFETY: SIG_IGN is no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let word = |index| {
        // SAFETY: by the contract, for every index below argc.
        let word = unsafe { CStr::from_ptr(*argv.add(index)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    (0..usize::try_from(argc).unwrap_or(0)).map(word).collect()
}

/// The path that this program was executed by, as it was given to execve(2) (AT_EXECFN, getauxval(3)).
pub fn executed_path() -> Option<OsString> {
    // SAFETY: plain integers; 0 where the kernel has not handed it to us.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const std::ffi::c_char;
    // SAFETY: the kernel's string on our stack, which is there to the end and which nobody changes.
    (!path.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()).to_owned())
}
