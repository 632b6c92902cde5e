//! The entry of both programs, in the place of Rust's own runtime.
//!
//! That runtime opens `/dev/null` for closed standard descriptors, aborts where it cannot, and sets up a
//! report of stack overflows. vassal-init hands its descriptors and signals on to its command as it got them,
//! so it must not change them; the emperor fills the standard descriptors itself.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::signal;
use crate::error::{Context, Result};

/// Makes `fn(Vec<OsString>) -> i32` the program's entry: it gets the words of the command line, the program's
/// name first, and returns the exit status. The crate needs `#![no_main]`.
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

/// Makes this process what both programs expect, and returns the words of the command line.
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

/// Makes the part of our memory read-only that only relocation writes to (PT_GNU_RELRO, elf(5)). musl does it
/// for programs with a dynamic loader, and not for a static PIE. Where it fails, all else works.
fn protect_relocated() {
    // SAFETY: the kernel's table of our own segments, of the length that it says. The pages that become
    // read-only are ours, and the linker has put nothing on them that is written to after relocation.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        if headers.is_null() {
            return;
        }
        let headers = std::slice::from_raw_parts(headers, libc::getauxval(libc::AT_PHNUM) as usize);
        let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0);
        let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
        if let (Some(first), Some(relro)) = (first, relro) {
            // The table stands behind the file's header, with which the first segment begins.
            let file = headers.as_ptr() as u64 - size_of::<libc::Elf64_Ehdr>() as u64;
            let page_of =
                |address: u64| (file - first.p_vaddr + address) & !(libc::getauxval(libc::AT_PAGESZ) - 1);
            let (start, end) = (page_of(relro.p_vaddr), page_of(relro.p_vaddr + relro.p_memsz));
            libc::mprotect(start as *mut libc::c_void, (end - start) as usize, libc::PROT_READ);
        }
    }
}

/// The path that this program was executed by, as it was given to execve(2) (AT_EXECFN, getauxval(3)).
pub fn executed_path() -> Option<OsString> {
    // SAFETY: plain integers; 0 where the kernel has not handed it to us.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const std::ffi::c_char;
    // SAFETY: the kernel's string on our stack, which is there to the end and which nobody changes.
    (!path.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()).to_owned())
}

/// The file that this program was started from.
///
/// # Errors
/// There is no `/proc`.
pub fn this_program() -> Result<PathBuf> {
    let path = rustix::fs::readlink(c"/proc/self/exe", Vec::new()).context("read", "/proc/self/exe")?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}
