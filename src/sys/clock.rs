//! The clock that systemd compares with. (The function of rustix for it would add a parser of the vDSO.)
#![allow(unsafe_code)]

/// Microseconds of CLOCK_MONOTONIC (clock_gettime(2)).
pub fn monotonic_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec, which the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}
