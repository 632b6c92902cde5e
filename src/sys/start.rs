//! The entry of both programs, instead of Rust's own runtime.
//!
//! That runtime opens `/dev/null` for closed standard descriptors, aborts if it cannot, and sets up a report
//! of stack overflows. vassal-init passes its descriptors and signals on to its command unchanged, so the
//! runtime must not change them. The emperor opens the standard descriptors itself.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::signal;
use crate::error::{Context, Result};

/// Makes `fn(Vec<OsString>) -> i32` the entry of the program. The function gets the words of the command
/// line, beginning with the program's name, and returns the exit status. The crate needs `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        // The C library calls it once, with the argc and argv from the kernel.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: the arguments are those of C's main.
            let words = unsafe { $crate::sys::start::words(argc, argv) };
            $run(words)
        }
    };
}

/// Sets up this process as both programs expect it, and returns the words of the command line.
///
/// # Safety
/// The arguments must be those of C's main: `argc` pointers to null-terminated strings.
pub unsafe fn words(argc: i32, argv: *const *const std::ffi::c_char) -> Vec<OsString> {
    protect_relocated();
    signal::ignore_pipe();
    let word = |index| {
        // SAFETY: by the contract, for every index below argc.
        let word = unsafe { CStr::from_ptr(*argv.add(index)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    (0..usize::try_from(argc).unwrap_or(0)).map(word).collect()
}

/// Makes the memory that only relocation writes to read-only (PT_GNU_RELRO, elf(5)). musl does that for
/// programs with a dynamic loader, but not for a static PIE. A failure is ignored.
fn protect_relocated() {
    // SAFETY: the table is the kernel's, of this program's own segments, with its length. The pages that
    // become read-only belong to this program, and the linker puts nothing on them that is written to after
    // relocation.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        if headers.is_null() {
            return;
        }
        let headers = std::slice::from_raw_parts(headers, libc::getauxval(libc::AT_PHNUM) as usize);
        let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0);
        let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
        if let (Some(first), Some(relro)) = (first, relro) {
            // The table follows the header of the file, with which the first segment begins.
            let file = headers.as_ptr() as u64 - size_of::<libc::Elf64_Ehdr>() as u64;
            let page_of =
                |address: u64| (file - first.p_vaddr + address) & !(libc::getauxval(libc::AT_PAGESZ) - 1);
            let (start, end) = (page_of(relro.p_vaddr), page_of(relro.p_vaddr + relro.p_memsz));
            libc::mprotect(start as *mut libc::c_void, (end - start) as usize, libc::PROT_READ);
        }
    }
}

/// The path with which this program was executed, as passed to execve(2) (AT_EXECFN, getauxval(3)).
pub fn executed_path() -> Option<OsString> {
    // SAFETY: plain integers; the result is 0 if the kernel has not passed it.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const std::ffi::c_char;
    // SAFETY: the string is on the stack, where the kernel put it. It stays there to the end, and nothing
    // changes it.
    (!path.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()).to_owned())
}

/// The program file of this process.
///
/// # Errors
/// There is no `/proc`.
pub fn this_program() -> Result<PathBuf> {
    let path = rustix::fs::readlink(c"/proc/self/exe", Vec::new()).context("read", "/proc/self/exe")?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}
