//! `load`: makes a busy machine, for `scripts/test --repeat`. Runs until it is killed.
//!
//! usage: load DIRECTORY
//!
//! As many threads as there are CPUs never wait: one renames a directory below DIRECTORY, the others compute.
//! One more mounts and unmounts there. Every mount and rename on a machine, in whatever namespace, disturbs a
//! walk over a path in the kernel that has to stay below a directory (openat2, RESOLVE_BENEATH and
//! RESOLVE_IN_ROOT). Run it in a mount namespace of its own.
//!
//! The file DIRECTORY/count tells how many mounts there have been so far.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test's tool

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::thread::{available_parallelism, spawn};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

fn main() {
    let directory = PathBuf::from(std::env::args_os().nth(1).expect("usage: load DIRECTORY"));
    for _ in 1..available_parallelism().unwrap().get() {
        spawn(compute);
    }
    let renamed = directory.clone();
    spawn(move || rename(&renamed));
    mount(&directory);
}

fn compute() {
    let mut number = 1_u64;
    loop {
        number = black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

fn rename(directory: &Path) {
    let [from, to] = ["from", "to"].map(|name| directory.join(name));
    fs::create_dir_all(&from).unwrap();
    loop {
        fs::rename(&from, &to).unwrap();
        fs::rename(&to, &from).unwrap();
    }
}

fn mount(directory: &Path) {
    let [source, place, count] = ["source", "place", "count"].map(|name| directory.join(name));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&place).unwrap();
    for mounts in 1_u64.. {
        mount_bind(&source, &place).unwrap();
        unmount(&place, UnmountFlags::empty()).unwrap();
        if mounts % 100 == 1 {
            fs::write(&count, mounts.to_string()).unwrap();
        }
    }
}
