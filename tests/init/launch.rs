//! A child that fails between its creation and its work: the key that asked for what failed is told, and no
//! other.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::common::{Sandbox, run, sandboxed};

/// A vassal whose start fails, run by `wrapper`; the line that says so ends with the place of `line` and its
/// key.
fn blames(sandbox: &Sandbox, wrapper: &[&str], lines: &[&str], line: &str, says: &str) {
    let mut command = sandbox.wrapped(wrapper, "vassal-init");
    command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", &lines.join("\n")));
    let mut vassal = sandbox.start("vassal", command);
    let status = vassal.wait();
    let told = vassal.lines("setup failed in ");
    let number = lines.iter().position(|other| *other == line).unwrap() + 2;
    let (key, value) = line.split_once(" = ").unwrap();
    let column = line.len() - value.len() + 1;
    let place = format!("(/run/scratch/vassal.ini:{number}:{column}: {key})");
    assert!(status == 71 && told.len() == 1, "{lines:?}\n{}", vassal.log());
    assert!(told[0].ends_with(&place) && told[0].contains(says), "{} has no {says} {place}", told[0]);
}

/// Without a capability, from the start.
fn without(capability: &str) -> [String; 3] {
    ["setpriv".into(), "--bounding-set".into(), format!("-{capability}")]
}

const APP: &str = "command = true";

#[test]
fn a_directory_that_is_not_there_is_the_fault_of_who_chose_it() {
    sandboxed(|sandbox| {
        let blames =
            |lines: &[&str], line| blames(sandbox, &["env"], lines, line, "chdir /none: No such file");
        blames(&["uid = user001", "chdir = /none", APP], "chdir = /none");
        // The same for a command of a hook.
        let hooks = ["uid = user001", "hook-as-user = chdir:/none", "exec-as-user = true", APP];
        blames(&hooks, hooks[1]);
        let hooks = ["uid = user001", "hook-pre-app = chdir:/", "hook-pre-app = chdir:/none", APP];
        blames(&hooks, hooks[2]);
    });
}

#[test]
fn a_directory_that_the_user_may_not_search_is_named() {
    sandboxed(|sandbox| {
        let private = sandbox.path("private");
        fs::create_dir_all(private.join("bin")).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        fs::copy("/usr/bin/true", private.join("bin/true")).unwrap();
        fs::set_permissions(&*sandbox.file("plain", "#!/bin/sh\n"), fs::Permissions::from_mode(0o644))
            .unwrap();
        // A link to a link, as a venv has it.
        symlink(private.join("bin"), sandbox.path("bin")).unwrap();
        fs::create_dir(sandbox.path("venv")).unwrap();
        symlink("../python3.11", sandbox.path("venv/python")).unwrap();
        symlink("bin/true", sandbox.path("python3.11")).unwrap();
        let script = sandbox.file("script", "#!/run/scratch/venv/python -u\n");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let uid = run("id", &["-u", "user001"]);
        let closed = format!("user {} may not search /run/scratch/private", uid.trim());
        let mode = format!("for user {}, the mode of /run/scratch/plain is 644", uid.trim());
        for (line, object, why) in [
            ("command = /run/scratch/private/bin/true", "execute /run/scratch/private/bin/true", &closed),
            ("command = /run/scratch/venv/python", "execute /run/scratch/venv/python", &closed),
            ("command = /run/scratch/script", "its interpreter /run/scratch/venv/python", &closed),
            ("chdir = /run/scratch/bin/..\ncommand = true", "chdir /run/scratch/bin/..", &closed),
            ("chdir = /run/scratch/private\ncommand = true", "chdir /run/scratch/private", &closed),
            ("command = /run/scratch/plain", "execute /run/scratch/plain", &mode),
            ("listen = /run/scratch/bin/x/y\ncommand = true", "listen on /run/scratch/bin/x/y", &closed),
        ] {
            let (_, log) = sandbox.outcome(&format!("uid = user001\n{line}"));
            let says = format!("{object}: Permission denied (EACCES): {why}");
            assert!(log.contains(&says), "{says}\n{log}");
        }
    });
}

#[test]
fn a_user_that_pid_1_may_not_become_is_the_fault_of_uid() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("groups of its own") {
            return;
        }
        let lines = ["chdir = /", "uid = user001", APP];
        for (capability, says) in [
            ("setuid", "privilege drop: setresuid "),
            ("setgid", "privilege drop: setresgid "),
            ("setpcap", "privilege drop: bounding set: "),
        ] {
            let wrapper = without(capability);
            let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
            blames(sandbox, &wrapper, &lines, lines[1], says);
            let hooks = ["chdir = /", "uid = user001", "no-new-privs = false", "exec-as-user = true", APP];
            let sockets = ["listen = /run/scratch/socket", "uid = user001", "no-new-privs = false", APP];
            if capability != "setpcap" {
                blames(sandbox, &wrapper, &sockets, sockets[1], says);
                blames(sandbox, &wrapper, &hooks, hooks[1], says);
            }
        }
    });
}

#[test]
fn a_capability_that_is_not_to_be_had_is_the_fault_of_cap() {
    sandboxed(|sandbox| {
        let wrapper = without("net_raw");
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        let lines = ["uid = user001", "chdir = /", "cap = net_raw", APP];
        blames(sandbox, &wrapper, &lines, lines[2], "privilege drop: set capabilities: ");
        let wrapper = without("setpcap");
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        let lines = ["chdir = /", "cap-drop = net_raw", "uid = user001", APP];
        blames(sandbox, &wrapper, &lines, lines[1], "privilege drop: bounding set: ");
    });
}

#[test]
fn a_nice_value_that_is_not_to_be_had_is_the_fault_of_nice() {
    sandboxed(|sandbox| {
        let wrapper = without("sys_nice");
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        let lines = ["chdir = /", "nice = -20", "uid = user001", APP];
        blames(sandbox, &wrapper, &lines, lines[1], "set the nice value to -20: Permission denied");
    });
}

#[test]
fn an_app_that_is_one_process_too_many_is_the_fault_of_the_limit() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users above 65536") {
            return;
        }
        // A user of this test's: the kernel counts the processes of one on the whole machine.
        let lines = [
            "uid = 1234568",
            "gid = 1234568",
            "limit-nproc = 1",
            "exec-as-user = sleep 1000 & sleep 1000 &",
            APP,
        ];
        blames(sandbox, &["env"], &lines, lines[2], "Resource temporarily unavailable (EAGAIN)");
    });
}

#[test]
fn a_limit_above_the_hard_limit_is_the_fault_of_its_key() {
    sandboxed(|sandbox| {
        let wrapper = ["prlimit", "--nofile=100", "--nproc=10000"];
        for (line, says) in [
            ("limit-nofile = 200", "limit open files to 200: Operation not permitted"),
            ("limit-nproc = 20000", "limit processes to 20000: Operation not permitted"),
        ] {
            let lines = ["uid = user001", "chdir = /", "limit-as = 4096", line, APP];
            blames(sandbox, &wrapper, &lines, line, says);
        }
    });
}
