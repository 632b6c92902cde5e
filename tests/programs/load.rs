//! `load`: keeps a machine busy, for `scripts/test --repeat`. Runs until it is killed.
//!
//! usage: load compute|rename|exchange|mount DIRECTORY
//!
//!   compute  only computes
//!   rename   renames a directory below DIRECTORY
//!   exchange exchanges DIRECTORY/d and DIRECTORY/l: a tenant who wants root to be led by one of them
//!   mount    mounts and unmounts below DIRECTORY; the file DIRECTORY/count tells how often so far
//!
//! Every mount and rename on a machine, in whatever namespace, disturbs a walk over a path in the kernel that
//! has to stay below a directory (openat2, RESOLVE_BENEATH and RESOLVE_IN_ROOT). Run it in a mount namespace
//! of its own, and each in a session of its own: the kernel shares the CPUs out among sessions (autogroup,
//! sched(7)).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test's tool

use std::fs;
use std::hint::black_box;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, directory] = arguments.as_slice() else { panic!("usage: load TASK DIRECTORY") };
    let directory = Path::new(directory);
    match task.as_str() {
        "compute" => compute(),
        "rename" => rename(directory),
        "exchange" => exchange(directory),
        "mount" => mount(directory),
        _ => panic!("no such task: {task}"),
    }
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

fn exchange(directory: &Path) {
    let [one, other] = ["d", "l"].map(|name| directory.join(name));
    loop {
        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
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
